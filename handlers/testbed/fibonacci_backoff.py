"""A job that mostly fails, and comes back after Fibonacci numbers of minutes."""

from __future__ import annotations

from itertools import pairwise

from schedule_zero.clock import rfc3339
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.judging import begun_early, steps_of
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, client, gone_or_quiet, now_us

SCHEDULE = "fibonacci_backoff.job"
# What one step takes at most, in seconds of the machine, its delay included.
STEP_S = 10.0
# Where no step has begun for so many of the longest delays, none will.
QUIET_CAPS = 20


class NotToday(Exception):
    """What the dice said."""


def delay_s(failures: int, unit_s: float, cap_s: float) -> float:
    """What follows so many failures in a row: 1, 1, 2, 3, 5, 8 … units; a success is followed by one."""
    now, following = 1, 1
    for _ in range(failures - 1):
        now, following = following, now + following
    return min(cap_s, now * unit_s)


class FibonacciBackoff(Scenario):
    """Does a job that fails and reschedules itself come back exactly when it said, up to its longest delay?"""

    handler_id = "fibonacci_backoff"

    class Params(ScenarioParams, frozen=True):
        steps: int = 60
        failing: float = 0.7
        unit_s: float = 60.0
        cap_s: float = 3600.0
        # The run begins with so many failures in a row: enough to reach the cap.
        streak: int = 12

    quick = {"steps": 16, "cap_s": 900.0, "streak": 8}
    holds = {
        "each_step_once": "each step ran once, after the one before it, and there is no other",
        "along_fibonacci": "each step was due its Fibonacci number of units, at most the cap, after the one before it",
        "reset": "after a success the next step was due one unit later",
        "never_early": "no step began before it was due",
        "outcomes_on_record": "each step that failed is on record as failed, each other one as completed",
        "nothing_left": "the schedule that its last run deleted is gone",
    }
    measures = {
        "steps": "runs",
        "failed": "runs that failed",
        "longest_streak": "failures in a row, at most",
        "capped": "delays that were the longest one",
        "waited_s": "simulated seconds; all delays together",
        "late_max_s": "simulated seconds; the longest time from due to begun",
    }
    worse = {"more": ("late_max_s",)}
    for_bare = True
    fast_clock = True

    async def attempt(self, step: int, plan: list[bool], failures: int, unit_s: float, cap_s: float) -> None:
        """Fail if the plan says so. Come back after the delay, or, where the plan is at its end, never."""
        fails = plan[0]
        failures = failures + 1 if fails else 0
        with entered(f"fibonacci_backoff.attempt.{step}"):
            if len(plan) == 1:
                await client().delete_schedule(SCHEDULE)
            else:
                at_us = now_us() + round(delay_s(failures, unit_s, cap_s) * 1e6)
                again = {"step": step + 1, "plan": plan[1:], "failures": failures, "unit_s": unit_s, "cap_s": cap_s}
                await client().put_schedule(
                    SCHEDULE, self.handler_id, "attempt", again, trigger={"type": "date", "run_date": rfc3339(at_us)}
                )
            if fails:
                raise NotToday(f"{failures} in a row")

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: FibonacciBackoff.Params = ground.params
        began_us = ground.now_us()
        plan = [True] * params.streak
        # (It ends with a success, so that nobody expects it back.)
        plan += [ground.random.random() < params.failing for _ in range(params.steps - params.streak - 1)]
        plan.append(False)
        await ground.client.schedule(
            cls.handler_id,
            "attempt",
            {"step": 1, "plan": plan, "failures": 0, "unit_s": params.unit_s, "cap_s": params.cap_s},
            trigger={"type": "date", "run_date": rfc3339(began_us + round(params.unit_s * 1e6))},
            id=SCHEDULE,
        )

        async def over() -> bool:
            done = len(ground.runs())
            ground.tell(done / len(plan), f"step {done} of {len(plan)}")
            return await gone_or_quiet(ground, cls, since_us=began_us, quiet_s=QUIET_CAPS * params.cap_s)

        await ground.until(over, len(plan) * STEP_S)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params: FibonacciBackoff.Params = ground.params
        runs = seen.runs
        steps = steps_of(seen, params.steps)
        failures, streaks, delays_s = 0, [0], []
        for step, (run, after) in zip(steps[1:], pairwise(runs), strict=True):
            failures = failures + 1 if run.outcome == "error" else 0
            streaks.append(failures)
            delay = delay_s(failures, params.unit_s, params.cap_s)
            delays_s.append(delay)
            # It said so while it ran, and to the microsecond.
            said_us = (after.nominal_us or 0) - round(delay * 1e6)
            seen.hold(
                "along_fibonacci" if failures else "reset",
                run.end_us is not None and run.start_us <= said_us <= run.end_us,
                f"step {step} was due at {after.nominal_us}; {delay:g} s after {failures} failures, said between "
                f"{run.start_us} and {run.end_us}, are right",
            )
        seen.hold_each("never_early", begun_early(runs), of=len(runs))
        for run in runs:
            told = seen.executions.get(run.execution_id)
            right = "failed" if run.outcome == "error" else "completed"
            status = "not on record" if told is None else str(told.status)
            seen.hold("outcomes_on_record", status == right, f"{run.action} ({run.execution_id}) is {status}")
        seen.hold("nothing_left", not seen.left, f"there is still {', '.join(seen.left)}")
        late_s = [(run.start_us - run.nominal_us) / 1e6 for run in runs if run.nominal_us is not None]
        seen.measure("steps", len(runs))
        seen.measure("failed", sum(run.outcome == "error" for run in runs))
        seen.measure("longest_streak", max(streaks))
        seen.measure("capped", delays_s.count(params.cap_s))
        seen.measure("waited_s", sum(delays_s))
        seen.measure("late_max_s", max(late_s, default=0.0))
        seen.draw("delay that was set", enumerate(delays_s), x="step", y="simulated s")
