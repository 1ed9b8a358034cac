"""Schedules come and go, a hundred a second, while others have to keep their time: does anything leak or suffer?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from statistics import median

from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, quantile, schedule_ids

Lives = dict[str, list[int]]
AT_A_TIME = 20  # requests


class Churn(Scenario):
    """Do schedules that are created and deleted all the time leave anything behind, or harm others?"""

    handler_id = "churn"

    class Params(ScenarioParams, frozen=True):
        per_s: float = 100.0
        seconds: float = 60.0
        longest_life_s: float = 3.0
        interval_s: float = 1.0
        grace_s: float = 1.5
        # Schedules that stay: first alone, for so long, then beside the churn.
        others: int = 5
        others_interval_s: float = 0.2
        calm_s: float = 5.0
        # So much later their fires may be in the churn than before (p99), and so much the processes may grow in it.
        harm_ms: float = 250.0
        leak_mib: float = 32.0

    quick = {"per_s": 30.0, "seconds": 3.0, "longest_life_s": 2.0, "interval_s": 0.3, "grace_s": 1.0, "calm_s": 1.0,
             "harm_ms": 1000.0}  # fmt: skip
    holds = {
        "none_left": "once deleted, no schedule is there any more",
        "silent_when_deleted": "no schedule fired for a time after its deletion",
        "ran_while_there": "each schedule that lived grace_s longer than its interval ran",
        "each_fire_once": "no nominal time ran twice",
        "others_complete": "each nominal time of the schedules that stay ran",
        "others_on_time": "the schedules that stay are as punctual in the churn as before, but for harm_ms",
        "no_leak": "the processes do not grow by more than leak_mib from the third quarter of the churn to its last",
    }
    measures = {
        "churned_per_s": "schedules created and deleted per second",
        "calm_lateness_p99_ms": "milliseconds; of the schedules that stay, before the churn",
        "churn_lateness_p99_ms": "milliseconds; of the schedules that stay, in the churn",
        "growth_mib": "MiB; by which the processes grew from the third quarter of the churn to its last",
    }
    worse = {"less": ("churned_per_s",), "more": ("calm_lateness_p99_ms", "churn_lateness_p99_ms", "growth_mib")}
    for_bare = True

    def tick(self) -> None:
        with entered("churn.tick", sync=False):
            pass

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: Churn.Params = ground.params
        others = [f"churn.other-{number}" for number in range(params.others)]
        ground.keep("follow", others)
        lives: Lives = {}
        ground.keep("lives", lives)
        for id_ in others:
            often = {"type": "interval", "seconds": params.others_interval_s}
            await ground.client.schedule(cls.handler_id, "tick", trigger=often, id=id_)
        began_us = ground.now_us()
        await ground.sleep(params.calm_s)
        churn_us = ground.now_us()
        room = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            for number in range(round(params.per_s * params.seconds)):
                life_s = ground.random.uniform(0, params.longest_life_s)
                await ground.sleep(max(0.0, number / params.per_s - (ground.now_us() - churn_us) / 1e6))
                await room.acquire()
                # A scheduler that can't keep up makes the churn slower, not longer.
                if ground.now_us() > churn_us + params.seconds * 1e6:
                    break
                group.create_task(cls._live(ground, f"churn.{number}", life_s, room, lives))
        ended_us = ground.now_us()
        ground.keep("spans_us", [began_us, churn_us, ended_us])
        # Whatever goes on after its deletion has time to.
        await ground.sleep(2 * params.interval_s)
        ground.keep("remaining", await schedule_ids(ground.client, cls.handler_id))
        await ground.client.delete_schedules(others)

    @classmethod
    async def _live(cls, ground: Ground, id_: str, life_s: float, room: asyncio.Semaphore, lives: Lives) -> None:
        """One schedule; keeps when it was there, was to go, and was gone."""
        trigger = {"type": "interval", "seconds": ground.params.interval_s}
        await ground.client.schedule(cls.handler_id, "tick", trigger=trigger, id=id_)
        room.release()
        there_us = ground.now_us()
        await ground.sleep(life_s)
        to_go_us = ground.now_us()
        async with room:
            await ground.client.delete_schedule(id_)
        lives[id_] = [there_us, to_go_us, ground.now_us()]

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params: Churn.Params = ground.params
        lives, others = seen.kept["lives"], seen.kept["follow"]
        began_us, churn_us, ended_us = seen.kept["spans_us"]
        nominal: dict[str, list[int]] = {id_: [] for id_ in (*lives, *others)}
        for run in seen.runs:
            if run.schedule_id is not None and run.nominal_us is not None:
                nominal.setdefault(run.schedule_id, []).append(run.nominal_us)
        seen.hold_each("none_left", [*(set(seen.kept["remaining"]) - set(others)), *seen.left], of=len(lives))
        for id_, (there_us, to_go_us, gone_us) in lives.items():
            after = [at_us for at_us in nominal[id_] if at_us > gone_us]
            seen.hold("silent_when_deleted", not after, f"{id_}, deleted by {gone_us}, fired for {after[:3]}")
            if to_go_us - there_us > (params.interval_s + params.grace_s) * 1e6:
                seen.hold("ran_while_there", bool(nominal[id_]), f"{id_}, there from {there_us} to {to_go_us}")
        twice = (f"{id_} at {at_us}" for id_, all_ in nominal.items() for at_us, n in Counter(all_).items() if n > 1)
        seen.hold_each("each_fire_once", twice, of=sum(map(len, nominal.values())))
        for id_ in others:
            holes = _holes([began_us, *nominal[id_], ended_us], params.others_interval_s * 1e6)
            seen.hold_each("others_complete", (f"{id_}: {hole}" for hole in holes), of=len(nominal[id_]) + 1)
        late = [(run.nominal_us, (run.start_us - run.nominal_us) / 1000) for run in seen.runs
                if run.schedule_id in others and run.nominal_us is not None]  # fmt: skip
        calm = quantile(sorted(ms for at_us, ms in late if at_us < churn_us), 0.99) or 0.0
        busy = quantile(sorted(ms for at_us, ms in late if churn_us <= at_us < ended_us), 0.99) or 0.0
        seen.hold("others_on_time", busy <= calm + params.harm_ms, f"{calm:.1f} ms, then {busy:.1f}", of=len(late))
        if seen.memory:
            growth = _growth(seen.memory, ((churn_us + ended_us) / 2 - began_us) / 1e6, (ended_us - began_us) / 1e6)
            seen.hold("no_leak", growth <= params.leak_mib, f"{growth:.1f} MiB", of=len(seen.memory))
            seen.measure("growth_mib", growth)
        last_us = max((there_us for there_us, *_ in lives.values()), default=ended_us)
        seen.measure("churned_per_s", len(lives) / ((last_us - churn_us) / 1e6))
        seen.measure("calm_lateness_p99_ms", calm)
        seen.measure("churn_lateness_p99_ms", busy)
        seen.draw("lateness of those that stay", [(seen.at_s(at_us), ms) for at_us, ms in late], y="ms")


def _holes(times: list[int], interval_us: float) -> Iterator[str]:
    for before, after in pairwise(sorted(set(times))):
        if (many := round((after - before) / interval_us) - 1) > 0:
            yield f"{many} between {before} and {after}"


def _growth(memory: Iterable[tuple[float, float]], from_s: float, to_s: float) -> float:
    """MiB from the first half of a time to its second, by their medians."""
    read = [mib for at_s, mib in memory if from_s <= at_s < to_s]
    half = len(read) // 2
    return median(read[half:]) - median(read[:half]) if half else 0.0
