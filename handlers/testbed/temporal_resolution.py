"""Interval schedules from a second down to a millisecond: which is the smallest interval that is kept?"""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev

from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen

# An interval is kept where so many of its fires ran, and the 99th of a hundred was no later than so many intervals.
KEPT_SHARE, KEPT_INTERVALS = 0.99, 1.0
LEAST_GRACE_S = 0.05


class TemporalResolution(Scenario):
    """What is the smallest interval between two fires that is kept?"""

    handler_id = "temporal_resolution"

    class Params(ScenarioParams, frozen=True):
        intervals_ms: tuple[int, ...] = (1000, 100, 10, 1)
        seconds: float = 10.0

    quick = {"intervals_ms": (500, 100, 10), "seconds": 2.0}
    holds = {
        "each_fire_once": "no nominal time ran twice",
        "every_fire_accounted": "each nominal time is executed, caught up, skipped or missed",
        "in_order": "no fire began before it was due",
    }
    measures = {
        "smallest_interval_ms": "milliseconds; the smallest interval that was kept",
        "expected": "fires that were due",
        "executed": "fires that ran",
        "skipped": "fires that were skipped or missed on record",
        "jitter_ms": "milliseconds; standard deviation of the time between two runs at that interval",
    }
    for_bare = True

    def tick(self) -> None:
        """Be run."""
        with entered("temporal_resolution.tick", sync=False):
            pass

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: TemporalResolution.Params = ground.params
        for number, interval_ms in enumerate(params.intervals_ms):
            ground.tell(number / len(params.intervals_ms), f"{interval_ms} ms")
            name = f"temporal_resolution.{interval_ms}ms"
            await ground.client.schedule(
                cls.handler_id,
                "tick",
                trigger={"type": "interval", "milliseconds": interval_ms},
                id=name,
                policies={"overlap": "allow", "catch_up": "all"},
            )
            await ground.sleep(params.seconds)
            await ground.client.delete_schedule(name)
        ground.keep("follow", [f"temporal_resolution.{interval_ms}ms" for interval_ms in params.intervals_ms])

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        smallest: int | None = None
        expected = executed = skipped = 0
        for interval_ms in sorted(ground.params.intervals_ms, reverse=True):
            name = f"temporal_resolution.{interval_ms}ms"
            rows = seen.fires.get(name, [])
            runs = [run for run in seen.runs if run.schedule_id == name]
            nominal = [run.nominal_us for run in runs if run.nominal_us is not None]
            seen.hold(
                "each_fire_once", len(set(nominal)) == len(nominal), f"{name}: {len(nominal) - len(set(nominal))}"
            )
            early = [run for run in runs if run.nominal_us is not None and run.start_us < run.nominal_us]
            seen.hold_each("in_order", (f"{name} at {run.nominal_us}" for run in early), of=len(runs))
            due = (
                round((rows[-1].nominal_time - rows[0].nominal_time).total_seconds() * 1000 / interval_ms) + 1
                if rows
                else 0
            )
            told = sum(row.count for row in rows)
            seen.hold("every_fire_accounted", told == due, f"{name}: {due} were due, {told} are on record")
            ran = sum(row.count for row in rows if row.outcome in ("executed", "caught_up"))
            expected, executed, skipped = expected + due, executed + ran, skipped + told - ran
            late = sorted((run.start_us - run.nominal_us) / 1000 for run in runs if run.nominal_us is not None)
            gaps = [(after.start_us - before.start_us) / 1000 for before, after in pairwise(runs)]
            grace_ms = max(interval_ms * KEPT_INTERVALS, LEAST_GRACE_S * 1000)
            if late and ran >= KEPT_SHARE * due and late[int(0.99 * len(late))] <= grace_ms:
                smallest = interval_ms
                seen.measure("jitter_ms", pstdev(gaps) if len(gaps) > 1 else 0.0)
            seen.draw(
                f"time between runs at {interval_ms} ms (mean {fmean(gaps or [0]):.2f} ms)",
                enumerate(gaps),
                x="run",
                y="ms",
            )
        seen.measure("smallest_interval_ms", smallest if smallest is not None else float("inf"))
        seen.measure("expected", expected)
        seen.measure("executed", executed)
        seen.measure("skipped", skipped)
