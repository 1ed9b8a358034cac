"""Machines that go from state to state by replacing their own schedules."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from statistics import fmean
from typing import Any

import msgspec

from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, client, gone_or_quiet

IDLE, WORKING, COOLDOWN = STATES = ("idle", "working", "cooldown")
# Where no state has begun for so long (by the machine's clock), none will.
QUIET_S = 30.0


class StateMachine(Scenario):
    """Do machines that replace their own schedules make only legal transitions, and lose and double none?"""

    handler_id = "state_machine"

    class Params(ScenarioParams, frozen=True):
        machines: int = 3
        rounds: int = 3
        idle_s: float = 5.0
        working_s: float = 1.0
        tasks: int = 10
        cooldown_s: float = 2.0

    quick = {"machines": 2, "rounds": 2, "idle_s": 0.4, "working_s": 0.1, "cooldown_s": 0.2}
    holds = {
        "legal": "each state followed the one before it, as the machine's table says",
        "none_lost": "each state of each round ran, and each of its tasks",
        "none_doubled": "no state and no task ran twice",
        "one_at_a_time": "no state of a machine began before the one before it had ended",
        "none_cut_short": "no state was left before its time was over",
        "nothing_left": "the schedules that the last states deleted are gone",
    }
    measures = {
        "replacements": "schedules that were replaced by their own jobs",
        "round_s": "seconds; the mean time of a round",
        "replace_max_s": "seconds; the longest time from the begin of a run to the count of the schedule that it made",
    }
    worse = {"more": ("round_s", "replace_max_s")}
    for_bare = True
    either_clock = True

    async def idle(self, machine: str, round_: int, task: int, plan: dict[str, Any]) -> None:  # noqa: ARG002
        """Idling is over: begin to work."""
        with entered(f"state_machine.idle.{round_}"):
            await _enter(WORKING, machine, round_, 1, plan)

    async def working(self, machine: str, round_: int, task: int, plan: dict[str, Any]) -> None:
        """Do a task; after the last one cool down."""
        with entered(f"state_machine.working.{round_}.{task}"):
            if task < plan["tasks"]:
                await _enter(WORKING, machine, round_, task + 1, plan)
            else:
                await _enter(COOLDOWN, machine, round_, 0, plan)

    async def cooldown(self, machine: str, round_: int, task: int, plan: dict[str, Any]) -> None:  # noqa: ARG002
        """Be idle again; after the last round the machine is taken away."""
        with entered(f"state_machine.cooldown.{round_}"):
            if round_ == plan["rounds"]:
                await client().delete_schedule(machine)
            else:
                await _enter(IDLE, machine, round_ + 1, 0, plan)

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: StateMachine.Params = ground.params
        began_us = ground.now_us()
        plan = msgspec.to_builtins(params)
        machines = [f"state_machine.{number}" for number in range(params.machines)]
        for machine in machines:
            await ground.client.schedule(**_schedule(IDLE, machine, 1, 0, plan), id=machine)
        ground.keep("follow", machines)

        async def over() -> bool:
            done = len(ground.runs())
            ground.tell(done / len(expected(params)) / len(machines), f"{done} states and tasks")
            quiet_s = QUIET_S * ground.speedup + params.idle_s
            return await gone_or_quiet(ground, cls, since_us=began_us, quiet_s=quiet_s)

        await ground.until(over, QUIET_S * len(expected(params)))

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params: StateMachine.Params = ground.params
        wanted = expected(params)
        follows = dict(pairwise(["", *wanted]))
        rounds_s: list[float] = []
        more: list[float] = []
        for machine in seen.kept["follow"]:
            runs = [run for run in seen.runs if run.schedule_id == machine]
            states = [run.action.partition(".")[2] for run in runs]
            kinds = [state.partition(".")[0] for state in states]
            count = Counter(states)
            seen.hold_each("none_lost", (f"{machine}: {one}" for one in wanted if not count[one]), of=len(wanted))
            twice = (f"{machine}: {one} ran {n} times" for one, n in count.items() if n > 1)
            seen.hold_each("none_doubled", twice, of=len(wanted))
            for last, state in pairwise(["", *states]):
                seen.hold("legal", state == follows.get(last), f"{machine}: {state} after {last or 'nothing'}")
            for kind, (before, after) in zip(kinds[1:], pairwise(runs), strict=True):
                name = f"{machine}: {after.action} ({after.execution_id})"
                free = before.end_ns is not None and before.end_ns <= after.start_ns
                seen.hold("one_at_a_time", free, f"{name} began before {before.action} had ended")
                if after.nominal_us is not None:
                    more_s = (after.nominal_us - before.start_us) / 1e6 - getattr(params, f"{kind}_s")
                    more.append(more_s)
                    kept = more_s >= 0 and after.start_us >= after.nominal_us
                    seen.hold("none_cut_short", kept, f"{name}: {-more_s:.3f} s too soon, begun at {after.start_us}")
            begins = [run.start_us for run, kind in zip(runs, kinds, strict=True) if kind == IDLE]
            rounds_s += [(after - before) / 1e6 for before, after in pairwise(begins)]
            places = [seen.at_s(run.start_us) for run in runs]
            seen.draw(f"states of {machine}", zip(places, map(STATES.index, kinds), strict=True), y=", ".join(STATES))
        seen.hold("nothing_left", not seen.left, f"there is still {', '.join(seen.left)}")
        seen.measure("replacements", len(more))
        seen.measure("round_s", fmean(rounds_s or [0.0]))
        seen.measure("replace_max_s", max(more, default=0.0))


def expected(params: StateMachine.Params) -> list[str]:
    """What one machine does, in order."""
    tasks = range(1, params.tasks + 1)
    rounds = ([f"{IDLE}.{n}", *(f"{WORKING}.{n}.{task}" for task in tasks), f"{COOLDOWN}.{n}"]
              for n in range(1, params.rounds + 1))  # fmt: skip
    return list(chain.from_iterable(rounds))


def _schedule(state: str, machine: str, round_: int, task: int, plan: dict[str, Any]) -> dict[str, Any]:
    """What a machine is that enters this state (or begins its next task) now."""
    return {
        "handler_id": StateMachine.handler_id,
        "job_method": state,
        "job_params": {"machine": machine, "round_": round_, "task": task, "plan": plan},
        "trigger": {"type": "interval", "seconds": plan[f"{state}_s"]},
        # One that is still in a state does not enter it again.
        "policies": {"overlap": "skip"},
    }


async def _enter(state: str, machine: str, round_: int, task: int, plan: dict[str, Any]) -> None:
    await client().put_schedule(machine, **_schedule(state, machine, round_, task, plan))
