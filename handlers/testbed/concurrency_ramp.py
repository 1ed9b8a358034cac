"""More and more schedules, each due once a second: from which rate on are they late?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from schedule_zero.clock import to_us
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, quantile

INTERVAL_S = 1.0
# A rate is kept where so many of its fires ran …
KEPT_SHARE = 0.99
# Of each rate so many schedules are held against the ledger.
SAMPLE = 3


class ConcurrencyRamp(Scenario):
    """How many fires a second are kept before they begin to be late?"""

    handler_id = "concurrency_ramp"

    class Params(ScenarioParams, frozen=True):
        # Fires per second, each for so many seconds; the ramp ends with the first that is not kept.
        rates: tuple[int, ...] = (25, 50, 100, 200, 300, 400, 600, 800, 1200, 1600)
        step_s: float = 5.0
        # … and the 99th of a hundred was no later than this. Then lateness has begun to bend.
        bend_ms: float = 500.0
        patience_s: float = 10.0

    quick = {"rates": (20, 40), "step_s": 2.0, "patience_s": 3.0}
    holds = {
        "each_fire_once": "no nominal time ran twice",
        "in_order": "no fire began before it was due",
        "accounted": "each nominal time of a sample of schedules is on record, once",
        "lowest_kept": "the lowest rate was kept",
    }
    measures = {
        "kept_per_s": "fires per second; the highest rate before lateness bends",
        "kept_lateness_p99_ms": "milliseconds; 99th of a hundred at that rate",
        "bent_per_s": "fires per second; the lowest rate that was not kept (absent: all were)",
    }
    worse = {"less": ("kept_per_s",)}
    for_bare = True

    def tick(self) -> None:
        """Be run."""
        with entered("concurrency_ramp.tick", sync=False):
            pass

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: ConcurrencyRamp.Params = ground.params
        steps: list[dict[str, Any]] = []
        follow: list[str] = []
        ground.keep("steps", steps)
        ground.keep("follow", follow)
        there = 0
        for rate in sorted(params.rates):
            ground.tell(len(steps) / len(params.rates), f"{rate} fires per second")
            new = [f"concurrency_ramp.{number}" for number in range(there, max(rate, there))]
            # Time to create them, and then each at a moment of its own.
            from_us = ground.now_us() + 1_000_000
            await ground.client.schedule_many([_schedule(id_, from_us / 1e6 + ground.random.random()) for id_ in new])
            there += len(new)
            follow += ground.random.sample(new, min(SAMPLE, len(new)))
            step = {"rate": there, "from_us": from_us, "to_us": from_us + round(params.step_s * 1e6)}
            steps.append(step)
            await ground.sleep((step["to_us"] - ground.now_us()) / 1e6)
            await ground.until(partial(_over, ground, step), params.patience_s + 5)
            if not _kept(ground.runs(), step, params.bend_ms):
                break
        await ground.client.delete_schedules([f"concurrency_ramp.{number}" for number in range(there)])

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params: ConcurrencyRamp.Params = ground.params
        times = Counter((run.schedule_id, run.nominal_us) for run in seen.runs if run.nominal_us is not None)
        twice = (f"{id_} at {at_us}: {n} times" for (id_, at_us), n in times.items() if n > 1)
        seen.hold_each("each_fire_once", twice, of=len(times))
        early = (run for run in seen.runs if run.nominal_us is not None and run.start_us < run.nominal_us)
        seen.hold_each("in_order", (f"{run.schedule_id} at {run.nominal_us}" for run in early), of=len(seen.runs))
        told = any(seen.fires.values())
        for id_ in seen.kept["follow"]:
            # Where there is no ledger to tell, what ran has to be without a gap.
            rows = seen.fires.get(id_, ())
            nominal = [to_us(row.nominal_time) for row in rows] if told else [at for by, at in times if by == id_]
            many = sum(row.count for row in rows) if told else len(nominal)
            unknown = sorted({at for by, at in times if by == id_ and at is not None} - set(nominal))
            last_us = max((to_us(row.last_nominal_time or row.nominal_time) for row in rows), default=0)
            first_us, last_us = min(nominal, default=0), max([last_us, *nominal])
            due = round((last_us - first_us) / 1e6 / INTERVAL_S) + 1
            seen.hold("accounted", many == due and not unknown, f"{id_}: {many} of {due} on record, not {unknown[:3]}")
        points: list[tuple[float, float]] = []
        for step in seen.kept["steps"]:
            _, p99_ms = _ran(seen.runs, step)
            kept = _kept(seen.runs, step, params.bend_ms)
            points.append((step["rate"], p99_ms))
            if step is seen.kept["steps"][0]:
                seen.hold("lowest_kept", kept, f"{step['rate']} per second: p99 {p99_ms:.1f} ms")
            if not kept:
                seen.measure("bent_per_s", step["rate"])
                break
            seen.measure("kept_per_s", step["rate"])
            seen.measure("kept_lateness_p99_ms", p99_ms)
        seen.draw("lateness by rate", points, x="fires per second", y="ms, p99")


def _schedule(id_: str, start_s: float) -> dict[str, Any]:
    trigger = {"type": "interval", "seconds": INTERVAL_S, "start": start_s}
    return {"handler_id": "concurrency_ramp", "job_method": "tick", "trigger": trigger, "id": id_,
            "policies": {"overlap": "allow", "catch_up": "all"}}  # fmt: skip


def _over(ground: Ground, step: dict[str, Any]) -> bool:
    """All of it has run, or that took too long."""
    late_us = ground.now_us() - step["to_us"]
    return late_us > ground.params.patience_s * 1e6 or _ran(ground.runs(), step)[0] >= 1


def _ran(runs: Sequence[Run], step: dict[str, Any]) -> tuple[float, float]:
    """Of what was due in a step: the share that ran, and the 99th of a hundred latenesses in milliseconds."""
    late: dict[tuple[str | None, int], float] = {}
    for run in runs:
        if run.nominal_us is not None and step["from_us"] <= run.nominal_us < step["to_us"]:
            late[run.schedule_id, run.nominal_us] = (run.start_us - run.nominal_us) / 1000
    due = step["rate"] * (step["to_us"] - step["from_us"]) / 1e6 / INTERVAL_S
    return len(late) / due, quantile(sorted(late.values()), 0.99) or 0.0


def _kept(runs: Sequence[Run], step: dict[str, Any], bend_ms: float) -> bool:
    share, p99_ms = _ran(runs, step)
    return share >= KEPT_SHARE and p99_ms <= bend_ms
