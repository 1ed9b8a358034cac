"""Interval schedules from a second down to a millisecond: which is the smallest interval that is kept?"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import fmean, pstdev

from schedule_zero.clock import rfc3339
from schedule_zero.testbed.accounts import account, nominal_times
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen

# An interval is kept where so many of its fires ran, and the 99th of a hundred was no later than so many intervals.
KEPT_SHARE, KEPT_INTERVALS = 0.99, 1.0
LEAST_GRACE_S = 0.05
# The first fire of an interval is so long after its schedule is asked for.
LEAD_S = 0.2
# What cannot keep up may take so long to decide what was due.
REST_S = 60.0


class TemporalResolution(Scenario):
    """What is the smallest interval between two fires that is kept?"""

    handler_id = "temporal_resolution"

    class Params(ScenarioParams, frozen=True):
        intervals_ms: tuple[int, ...] = (1000, 100, 10, 1)
        seconds: float = 10.0

    quick = {"intervals_ms": (500, 100, 10, 1), "seconds": 1.0}
    holds = {
        "each_fire_once": "no nominal time ran twice",
        "every_fire_accounted": "each nominal time ran, or is on record as skipped or missed",
        "no_other": "nothing ran and nothing is on record at what is no nominal time",
        "never_early": "no fire began before it was due",
    }
    measures = {
        "smallest_interval_ms": "milliseconds; the smallest interval that was kept (not there: none was)",
        "mean_ms": "milliseconds; the mean time between two runs at that interval",
        "min_ms": "milliseconds; the shortest",
        "max_ms": "milliseconds; the longest",
        "jitter_ms": "milliseconds; their standard deviation",
        "late_p50_ms": "milliseconds; the median time from due to begun, at that interval",
        "late_p99_ms": "milliseconds; the 99th of a hundred",
        "expected": "fires that were due, at all intervals",
        "executed": "fires that ran",
        "missed": "fires that were missed, on record",
        "skipped": "fires that were skipped, on record",
        "backpressure": "of them those for which too much was open",
    }
    worse = {"less": ("executed",), "more": ("smallest_interval_ms", "jitter_ms", "late_p50_ms", "late_p99_ms")}
    for_bare = True

    def tick(self) -> None:
        """Be run."""
        with entered("temporal_resolution.tick", sync=False):
            pass

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: TemporalResolution.Params = ground.params
        triggers, there_us = {}, {}
        for number, interval_ms in enumerate(params.intervals_ms):
            ground.tell(number / len(params.intervals_ms), f"{interval_ms} ms")
            name = f"temporal_resolution.{interval_ms}ms"
            start_us = ground.now_us() + round(LEAD_S * 1e6)
            end_us = start_us + round(params.seconds * 1e6)
            span = {"start": rfc3339(start_us), "end": rfc3339(end_us)}
            triggers[name] = {"type": "interval", "milliseconds": interval_ms, **span}
            policies = {"overlap": "allow", "catch_up": "all"}
            await ground.client.schedule(cls.handler_id, "tick", trigger=triggers[name], id=name, policies=policies)
            there_us[name] = ground.now_us()
            await ground.sleep(LEAD_S + params.seconds)

            async def all_over() -> bool:
                rows = (await ground.client.schedules(handler_id=cls.handler_id)).schedules
                return all(row.state != "active" for row in rows)

            await ground.until(all_over, REST_S)
        ground.keep("triggers", triggers)
        ground.keep("there_us", there_us)
        ground.keep("follow", list(triggers))

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        excused: Counter[str] = Counter()
        expected = executed = 0
        by_interval: dict[str, list[tuple[float, float]]] = {}
        for interval_ms in sorted(ground.params.intervals_ms, reverse=True):
            name = f"temporal_resolution.{interval_ms}ms"
            trigger = seen.kept["triggers"][name]
            runs = [run for run in seen.runs if run.schedule_id == name]
            found = account(
                nominal_times(trigger), runs, seen.fires.get(name, ()), there_us=seen.kept["there_us"][name]
            )
            of = len(found.due)
            seen.hold_each("each_fire_once", (f"{name}: {rfc3339(us)}" for us in found.twice), of=of)
            seen.hold_each("every_fire_accounted", (f"{name}: {rfc3339(us)}" for us in found.lost), of=of)
            seen.hold_each("no_other", (f"{name}: {rfc3339(us)}" for us in found.other), of=of)
            late_ms = [(run.start_us - run.nominal_us) / 1000 for run in runs if run.nominal_us is not None]
            early = (f"{name}: {-late:.3f} ms too soon" for late in late_ms if late < 0)
            seen.hold_each("never_early", early, of=len(late_ms))
            expected, executed = expected + of, executed + found.ran
            excused += found.excused
            gaps_ms = [(after.start_ns - before.start_ns) / 1e6 for before, after in pairwise(runs)]
            if not gaps_ms:
                continue
            late_ms.sort()
            figures = {
                "mean_ms": fmean(gaps_ms),
                "min_ms": min(gaps_ms),
                "max_ms": max(gaps_ms),
                "jitter_ms": pstdev(gaps_ms),
                "late_p50_ms": late_ms[len(late_ms) // 2],
                "late_p99_ms": late_ms[int(0.99 * len(late_ms))],
            }
            for figure, value in figures.items():
                by_interval.setdefault(figure, []).append((interval_ms, value))
            grace_ms = max(interval_ms * KEPT_INTERVALS, LEAST_GRACE_S * 1000)
            if found.ran >= KEPT_SHARE * of and figures["late_p99_ms"] <= grace_ms:
                seen.measure("smallest_interval_ms", interval_ms)
                for figure, value in figures.items():
                    seen.measure(figure, value)
            seen.draw(f"time between runs at {interval_ms} ms", enumerate(gaps_ms), x="run", y="ms")
        for figure, points in by_interval.items():
            seen.draw(f"{figure} by interval", points, x="ms", y="ms")
        seen.measure("expected", expected)
        seen.measure("executed", executed)
        seen.measure("missed", excused["missed"])
        seen.measure("skipped", excused["skipped"])
        seen.measure("backpressure", excused["skipped:backpressure"])
