"""A state machine: whatever operators, clocks, disks and crashes do, and in whatever order, each nominal time gets one
fate, and the right one (C1, C2, C3, C12).

The rounds, the services and the store are the real ones; ``fires_model`` reckons what the ledger has to say.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from schedule_zero.config import TimingConfig
from schedule_zero.errors import InvalidTrigger, WrongState
from schedule_zero.model import CatchUp, Fire, FireOutcome
from schedule_zero.timing.alarm import Alarm
from tests.integration.fires_model import BLACKOUT, GRACE_S, ModelFreeze, ModelSchedule, Rhythm, Rules, S, compare
from tests.integration.ledger_bed import ADA, Life, counts, life
from tests.integration.timing_bed import one_round, write
from tests.support import ManualClock

T = TypeVar("T")
IDS = ["a", "b"]
# Few rows of detail, so that an outage of minutes has rows that stand for several times.
CONFIG = TimingConfig(misfire_grace_s=GRACE_S, catch_up_rows=4)
# After a refused write the rounds pause; not longer than this.
PAUSE_S = 6

ids = st.sampled_from(IDS)
rhythms = st.builds(
    Rhythm,
    every_s=st.sampled_from([1, 3, 7, 10, 60]),
    start_s=st.integers(-30, 30),
    end_s=st.none() | st.integers(40, 900),
)
rules = st.builds(
    Rules,
    catch_up=st.sampled_from(CatchUp),
    coalesce=st.booleans(),
    max_fires=st.none() | st.integers(1, 12),
    blackout=st.booleans(),
)
maybe_catch_up = st.none() | st.sampled_from(CatchUp)
moments_ahead_s = st.none() | st.integers(1, 120)


class FireMachine(RuleBasedStateMachine):
    """Two schedules, one life of the server after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.begin_us = self.clock.wall_us()
        self.directory = tempfile.TemporaryDirectory(prefix="szfires", dir="/tmp")
        self.stack = AsyncExitStack()
        self.server: Life
        # id → its generations, the oldest first.
        self.model: dict[str, list[ModelSchedule]] = {id_: [] for id_ in IDS}
        self.freezes: list[ModelFreeze] = []

    # --- what is there -----------------------------------------------------------------------------

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.loop.run_until_complete(awaited())

    @property
    def now_us(self) -> int:
        return self.clock.wall_us()

    @property
    def frozen(self) -> bool:
        return any(freeze.in_force(self.now_us) for freeze in self.freezes)

    def there(self, id_: str) -> ModelSchedule | None:
        of_id = self.model[id_]
        return of_id[-1] if of_id and not of_id[-1].deleted else None

    def due(self) -> bool:
        return not self.frozen and any(model.due(self.now_us) for id_ in IDS if (model := self.there(id_)) is not None)

    def decide(self) -> None:
        """The timer decides all that is due; snoozes that are over end."""
        self.run(self.server.decide())
        self.run(self.server.schedules.wake())
        self.model_decides()

    def model_decides(self) -> None:
        for id_ in IDS:
            model = self.there(id_)
            if model is not None and self.frozen:
                model.wake(self.now_us)
            elif model is not None:
                model.decide(self.now_us, self.freezes)

    # --- lives of the server -----------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.start()
        self.run(self.server.calendar("works", **BLACKOUT))

    def start(self) -> None:
        self.stack = AsyncExitStack()
        self.server = self.run(
            self.stack.enter_async_context(life(Path(self.directory.name), self.clock, killed=True, config=CONFIG))
        )

    @rule(outage_s=st.sampled_from([0, 1, 40, 1000]), in_order=st.booleans())
    def restart(self, outage_s: int, in_order: bool) -> None:
        if in_order:
            self.run(self.server.seen(stopped=True))
        self.run(self.stack.aclose())
        self.clock.advance(outage_s)
        self.start()

    # --- time --------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 1, 3, 9.5, 10, 11, 60, 400]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.decide()

    @rule(seconds=st.sampled_from([1, 5, 30, 200]))
    def time_passes_in_small_steps(self, seconds: int) -> None:
        for _ in range(5):
            self.clock.advance(seconds / 5)
            self.decide()

    @rule(seconds=st.sampled_from([0.5, 8, 70]))
    def time_passes_and_nobody_looks(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-200, -20, -3, 3, 20, 3600]))
    def the_clock_is_set(self, seconds: int) -> None:
        self.clock.step_wall(seconds)

    # --- disks -------------------------------------------------------------------------------------

    @precondition(due)
    @rule(written=st.booleans())
    def the_disk_fails_in_a_round(self, written: bool) -> None:
        """Refused; or written, but nobody is told."""
        faults = self.server.bed.faults
        if written:
            faults.lying_writes = 1
        else:
            faults.failing_writes = 1
        self.run(one_round(self.server.rounds))
        assert (faults.failing_writes, faults.lying_writes) == (0, 0)
        if written:
            self.model_decides()
        self.clock.advance(PAUSE_S)
        self.decide()

    # --- what operators do -------------------------------------------------------------------------

    @rule(id_=ids, rhythm=rhythms, rules=rules, paused=st.booleans(), in_round=st.booleans())
    def put(self, id_: str, rhythm: Rhythm, rules: Rules, paused: bool, in_round: bool) -> None:
        now_us, model = self.now_us, self.there(id_)
        if rhythm.next_after(self.begin_us, now_us) is None:
            with pytest.raises(InvalidTrigger):
                self.put_now(id_, rhythm, rules, paused)
            return
        with self.meanwhile(in_round):
            self.put_now(id_, rhythm, rules, paused)
            if model is None:
                state = "paused" if paused else "active"
                self.model[id_].append(ModelSchedule(self.begin_us, rhythm, rules, now_us, now_us, state))
            else:
                model.change(now_us, rhythm, rules, paused=paused)

    def put_now(self, id_: str, rhythm: Rhythm, rules: Rules, paused: bool) -> None:
        trigger = rhythm.trigger(self.begin_us)
        self.run(self.server.put(id_, trigger, policies=rules.document(), paused=paused))

    @rule(id_=ids, rules=rules, in_round=st.booleans())
    def change_its_policies(self, id_: str, rules: Rules, in_round: bool) -> None:
        model = self.there(id_)
        if model is not None:
            self.put(id_, model.rhythm, rules, model.state == "paused", in_round)

    @rule(id_=ids, ahead_s=moments_ahead_s, in_round=st.booleans())
    def pause(self, id_: str, ahead_s: int | None, in_round: bool) -> None:
        model = self.there(id_)
        if model is not None:
            until_us = None if ahead_s is None else self.now_us + ahead_s * S
            self.asked(
                in_round,
                lambda: self.server.schedules.pause(ADA, id_, until_us=until_us),
                lambda: model.pause(self.now_us, until_us),
            )

    @rule(id_=ids, in_round=st.booleans())
    def resume(self, id_: str, in_round: bool) -> None:
        model = self.there(id_)
        if model is not None:
            self.asked(in_round, lambda: self.server.schedules.resume(ADA, id_), lambda: model.resume(self.now_us))

    @rule(id_=ids, count=st.integers(0, 4), in_round=st.booleans())
    def skip(self, id_: str, count: int, in_round: bool) -> None:
        model = self.there(id_)
        if model is not None:
            self.asked(
                in_round, lambda: self.server.schedules.skip(ADA, id_, count), lambda: model.skip(self.now_us, count)
            )

    @rule(id_=ids, in_round=st.booleans())
    def delete(self, id_: str, in_round: bool) -> None:
        model = self.there(id_)
        if model is not None:
            with self.meanwhile(in_round):
                self.run(self.server.schedules.delete(ADA, id_))
                model.delete(self.now_us)

    @rule(ahead_s=moments_ahead_s, catch_up=maybe_catch_up)
    def freeze(self, ahead_s: int | None, catch_up: CatchUp | None) -> None:
        until_us = None if ahead_s is None else self.now_us + ahead_s * S
        work = self.server.freezes.freeze(ADA, until_us=until_us, catch_up=catch_up)
        if self.frozen:
            with pytest.raises(WrongState):
                self.run(work)
            return
        self.run(work)
        self.freezes.append(ModelFreeze(self.now_us, until_us, catch_up))

    @rule(catch_up=maybe_catch_up)
    def thaw(self, catch_up: CatchUp | None) -> None:
        work = self.server.freezes.thaw(ADA, catch_up)
        if not self.frozen:
            with pytest.raises(WrongState):
                self.run(work)
            return
        self.run(work)
        for freeze in self.freezes:
            if freeze.in_force(self.now_us):
                freeze.to_us, freeze.catch_up = max(self.now_us, freeze.from_us), catch_up
                freeze.thawed = True

    def asked(self, in_round: bool, work: Callable[[], Awaitable[Any]], model: Callable[[], bool]) -> None:
        """Something that may be refused for the state in which the schedule is."""
        with self.meanwhile(in_round):
            if model():
                self.run(work())
            else:
                with pytest.raises((WrongState, InvalidTrigger)):
                    self.run(work())

    def meanwhile(self, in_round: bool) -> Meanwhile:
        return Meanwhile(self, in_round)

    # --- what has to be true -----------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        for id_ in IDS:
            ledger = self.run(self.server.ledger(id_))
            by_generation: dict[int, list[Fire]] = {}
            for fire in ledger:
                by_generation.setdefault(fire.generation, []).append(fire)
            # In one that was deleted before anything was due there is nothing to look at.
            models = [model for model in self.model[id_] if model.fates]
            assert len(by_generation) == len(models)
            for (_, rows), model in zip(sorted(by_generation.items()), models, strict=True):
                compare(model.fates, rows)
            self.look_at(id_)

    def look_at(self, id_: str) -> None:
        """The schedule's own state and totals, and what its executions say."""
        model = self.there(id_)
        if model is None:
            return
        row = self.run(self.server.bed.get(id_))
        assert (row.state.value, row.next_fire_us) == (model.state, model.next_us())
        assert row.resume_us == model.resume_us
        totals = self.run(self.server.bed.counts(id_))
        told = [fate[0] for fate in model.fates.values()]
        assert {o.value: getattr(totals, o.value) for o in FireOutcome} == {o.value: told.count(o) for o in FireOutcome}

    def teardown(self) -> None:
        if not hasattr(self, "server"):
            return
        try:
            if self.frozen:
                self.thaw(None)
            # The audit ends now: not in the midst of what is decided, if the clock was set back.
            known = [us for models in self.model.values() for model in models for us in model.fates]
            self.clock.step_wall(max(0, max(known, default=0) - self.now_us) / S)
            self.clock.advance(PAUSE_S)
            self.decide()
            self.look()
            for id_ in IDS:
                if self.model[id_]:
                    report = self.run(self.server.audit(id_))
                    assert (counts(report), report.undecided_us) == ({}, None)
                    assert report.tally.expected == sum(len(model.fates) for model in self.model[id_])
        finally:
            self.run(self.stack.aclose())
            self.loop.close()
            self.directory.cleanup()


class Meanwhile:
    """What is done in it comes between the taking of a round and its writing, if ``in_round``."""

    def __init__(self, machine: FireMachine, in_round: bool) -> None:
        self._machine = machine
        self._in_round = in_round
        self._taken: list[Alarm] = []

    def __enter__(self) -> None:
        if self._in_round:
            self._taken = self._machine.run(self._machine.server.rounds.take())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._in_round:
            if self._taken:
                self._machine.run(write(self._machine.server.rounds, self._taken))
            self._machine.decide()


COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck))


def test_each_nominal_time_has_one_fate_and_the_right_one_whatever_happens() -> None:
    run_state_machine_as_test(
        FireMachine, settings=settings(COMMON, max_examples=40, stateful_step_count=30, derandomize=True)
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_each_nominal_time_has_one_fate_in_a_thousand_other_lives() -> None:
    run_state_machine_as_test(FireMachine, settings=settings(COMMON, max_examples=1000, stateful_step_count=60))
