"""A job that reschedules itself by how long its last runs took."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from statistics import fmean

from schedule_zero.clock import to_us
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.judging import begun_early, steps_of
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, client, gone_or_quiet, now_us

SCHEDULE = "adaptive_interval.job"
# The interval is so many times the mean of so many run times.
TIMES, LAST = 2.0, 10
# Where nothing says when a job was over, it has set the interval within:
REQUEST_S = 10.0
# What the job measures of itself and what its ledger says may differ by so much: two writes to the disk.
WRITES_S = 0.1
# Nothing takes so long: where no run has begun for that time, none will.
QUIET_S = 20.0


def interval_s(times_s: list[float], least_s: float) -> float:
    """What follows runs that took so long."""
    return max(least_s, TIMES * fmean(times_s[-LAST:]))


class AdaptiveInterval(Scenario):
    """Does a job that sets its own interval get what it asked for, and never run beside itself?"""

    handler_id = "adaptive_interval"

    class Params(ScenarioParams, frozen=True):
        steps: int = 30
        least_s: float = 0.5
        # Run times: most are short, and every third is longer than the interval.
        short_s: float = 0.2
        long_s: float = 0.75

    quick = {"steps": 7, "least_s": 0.25, "short_s": 0.1, "long_s": 0.5}
    holds = {
        "never_overlaps": "no run began before the one before it had ended",
        "each_step_once": "each step ran once, after the one before it, and there is no other",
        "interval_followed": "each run was due after twice the mean of the last ten run times, not under the least",
        "never_early": "no run began before it was due",
        "nothing_left": "the schedule that its last run deleted is gone",
    }
    measures = {
        "steps": "runs",
        "interval_mean_s": "seconds; the mean of the intervals that it set",
        "interval_max_s": "seconds; the longest of them",
        "skipped": "fires that came while it ran, and were skipped",
        "replace_max_s": "seconds; the longest time from the end of a run to its new interval",
    }
    worse = {"more": ("replace_max_s",)}
    for_bare = True

    async def adapt(self, step: int, plan_s: list[float], times_s: list[float], least_s: float) -> None:
        """Take as long as the plan says, and set the next interval; delete the schedule after the last step."""
        began_us = now_us()
        with entered(f"adaptive_interval.adapt.{step}"):
            await asyncio.sleep(plan_s[0])
        times_s = [*times_s, (now_us() - began_us) / 1e6][-LAST:]
        if len(plan_s) == 1:
            await client().delete_schedule(SCHEDULE)
            return
        await client().put_schedule(
            SCHEDULE,
            self.handler_id,
            "adapt",
            {"step": step + 1, "plan_s": plan_s[1:], "times_s": times_s, "least_s": least_s},
            trigger={"type": "interval", "seconds": interval_s(times_s, least_s)},
            policies={"overlap": "skip"},
        )

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: AdaptiveInterval.Params = ground.params
        began_us = ground.now_us()
        plan_s = [
            (params.long_s if step % 3 == 2 else params.short_s) * ground.random.uniform(0.8, 1.2)
            for step in range(params.steps)
        ]
        await ground.client.schedule(
            cls.handler_id,
            "adapt",
            {"step": 1, "plan_s": plan_s, "times_s": [], "least_s": params.least_s},
            trigger={"type": "interval", "seconds": params.least_s},
            id=SCHEDULE,
            policies={"overlap": "skip"},
        )
        ground.keep("follow", [SCHEDULE])

        async def over() -> bool:
            done = len(ground.runs())
            ground.tell(done / params.steps, f"step {done} of {params.steps}")
            return await gone_or_quiet(ground, cls, since_us=began_us, quiet_s=QUIET_S)

        await ground.until(over, params.steps * QUIET_S)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params: AdaptiveInterval.Params = ground.params
        runs = seen.runs
        steps = steps_of(seen, params.steps)
        seen.hold_each(
            "never_overlaps",
            (
                f"step {step} began at {after.start_us}, before {before.execution_id} had ended ({before.end_us})"
                for step, (before, after) in zip(steps[1:], pairwise(runs), strict=True)
                if before.end_ns is None or after.start_ns < before.end_ns
            ),
            of=len(runs) - 1,
        )
        times_s: list[float] = []
        intervals_s, waited_s = [], []
        for step, (before, after) in zip(steps[1:], pairwise(runs), strict=True):
            if before.end_us is None or before.end_ns is None or after.nominal_us is None:
                continue
            times_s.append((before.end_ns - before.start_ns) / 1e9)
            wanted_s = interval_s(times_s, params.least_s)
            more_s = (after.nominal_us - before.end_us) / 1e6 - wanted_s
            intervals_s.append(wanted_s)
            waited_s.append(more_s)
            # It was set between the end of the run and that of the job.
            over = getattr(seen.executions.get(before.execution_id), "finished_at", None)
            request_s = REQUEST_S if over is None else (to_us(over) - before.end_us) / 1e6
            seen.hold(
                "interval_followed",
                -WRITES_S <= more_s <= request_s + WRITES_S,
                f"step {step} was due {wanted_s + more_s:.3f} s after the run before; {wanted_s:.3f} s are right",
            )
        seen.hold_each("never_early", begun_early(runs), of=len(runs))
        seen.hold("nothing_left", not seen.left, f"there is still {', '.join(seen.left)}")
        seen.measure("steps", len(runs))
        seen.measure("interval_mean_s", fmean(intervals_s or [0.0]))
        seen.measure("interval_max_s", max(intervals_s, default=0.0))
        seen.measure("skipped", sum(row.count for row in seen.fires.get(SCHEDULE, ()) if row.outcome == "skipped"))
        seen.measure("replace_max_s", max(waited_s, default=0.0))
        seen.draw("run time", enumerate(times_s), x="step", y="s")
        seen.draw("interval that was set", enumerate(intervals_s), x="step", y="s")
