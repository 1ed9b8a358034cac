"""The audit and the explanation of schedules that other things than a clock decide about: starts of the server, ends of
runs, named calendars, several triggers at once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schedule_zero.clock import to_us
from schedule_zero.config import TimingConfig
from schedule_zero.model import FireOutcome, ScheduleState, SkipReason
from schedule_zero.rules.facts import Answer
from schedule_zero.service.audit_rounds import AuditRounds
from schedule_zero.service.explain import ExplainService, Explanation
from tests.integration.ledger_bed import BOB, Life, counts, life, tamper
from tests.integration.timing_bed import MINUTE, S
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

STARTUP = {"type": "startup"}
DELAY = {"type": "interval", "minutes": 1, "anchor": "end"}
MINUTELY = {"type": "interval", "minutes": 1}


async def in_order(server: Life, expected: int, id_: str = "a") -> None:
    """By request, and by the audit of all."""
    report = await server.audit(id_)
    assert (counts(report), report.undecided_us) == ({}, None)
    assert report.tally.expected == report.tally.recorded == expected
    rounds = AuditRounds(store=server.store, timer=server.timer, audits=server.audits, clock=server.clock, every_s=3600)
    await rounds.run_once(0, server.clock.wall_us())
    assert rounds.stats.found == {}


async def why(server: Life, at: int | datetime | None, id_: str = "a") -> Explanation:
    service = ExplainService(store=server.store, timer=server.timer, clock=server.clock, timing=TimingConfig())
    return await service.explain(id_, at)


# --- a delay that is changed ------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [0, -300])
async def test_a_changed_delay_follows_the_run_that_the_old_one_followed(
    tmp_path: Path, clock: ManualClock, step_s: int
) -> None:
    """Whether that runs yet or is over, and whatever the clock says."""
    async with life(tmp_path, clock) as server:
        for id_ in ("a", "b"):
            await server.put(id_, DELAY)
        await server.go(60)
        await server.finish("b")
        ended_us = clock.wall_us()
        clock.advance(10)
        clock.step_wall(step_s)

        for id_ in ("a", "b"):
            await server.schedules.patch(BOB, id_, {"trigger": {"minutes": 3}})
        running, waiting = await server.bed.get("a"), await server.bed.get("b")

        assert (running.waits_for, running.next_fire_us) == ((await server.bed.executions("a"))[0].id, None)
        assert waiting.next_fire_us == ended_us + 3 * MINUTE
        clock.step_wall(-step_s)
        await server.finish("a")
        assert (await server.bed.get("a")).next_fire_us == clock.wall_us() + 3 * MINUTE
        await server.go(600, every_s=10)
        for id_ in ("a", "b"):
            await in_order(server, 2, id_)


async def test_a_finished_date_that_is_changed_to_what_is_decided_already_is_not_missed(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {"type": "date", "run_date": "+5s"})
        await server.go(6)
        clock.step_wall(-300)
        await server.schedules.patch(BOB, "a", {"trigger": {"run_date": "+5s"}})
        await server.go(400)

        assert (await server.bed.get("a")).state is ScheduleState.FINISHED
        await in_order(server, 1)


# --- starts of the server ---------------------------------------------------------------------------


async def test_a_start_that_was_killed_before_its_fires_were_decided_owes_them_still(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Also several of them in a row, as in a crash loop."""
    starts = []
    async with life(tmp_path, clock) as server:
        await server.put("a", STARTUP, policies={"catch_up": "all"})
        await server.put("b", [STARTUP, {"type": "interval", "seconds": 5}])
        await server.put("c", STARTUP, paused=True)
    for _ in range(3):
        clock.advance(7)
        async with life(tmp_path, clock, killed=True) as server:
            starts.append(server.timer.started_us)
    clock.advance(7)
    async with life(tmp_path, clock) as server:
        starts.append(server.timer.started_us)
        await server.decide()

        assert await server.bed.nominal_times("a") == starts
        assert await server.bed.nominal_times("c") == starts
        await in_order(server, 4)
        await in_order(server, 4, "c")
        # Every 5 s of 28, and the starts.
        assert counts(await server.audit("b")) == {}
        assert len(await server.bed.nominal_times("b")) == 5 + 4
        assert (await why(server, starts[1])).said.answer is Answer.CAUGHT_UP


async def test_what_fires_at_a_start_too_repeats_nothing_after_the_clock_was_put_right(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The clock was an hour ahead for a moment; all of that hour is decided."""
    async with life(tmp_path, clock) as server:
        await server.put("a", [STARTUP, {"type": "cron", "expression": "*/2 * * * * *"}])
        await server.go(6, every_s=2)
        clock.step_wall(3600)
        await server.go(4, every_s=2)
        decided = {fire.nominal_us for fire in await server.ledger()}
    clock.step_wall(-3600.5)
    async with life(tmp_path, clock) as server:
        await server.go(20, every_s=2)
        since = [fire.nominal_us for fire in await server.ledger() if fire.nominal_us not in decided]
        assert since == [server.timer.started_us]
        # And when the clock gets there again, it goes on.
        await server.go(3600, every_s=60)
        report = await server.audit("a")
        assert (counts(report), report.undecided_us) == ({}, None)
        assert report.tally.recorded > 1800


async def test_starts_while_the_clock_is_set_back_are_in_order(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", STARTUP)
    clock.advance(3600)
    async with life(tmp_path, clock, killed=True) as server:
        await server.decide()
    clock.step_wall(-1800)
    async with life(tmp_path, clock, killed=True) as server:
        await server.decide()
    clock.step_wall(1860)
    async with life(tmp_path, clock) as server:
        await server.decide()

        await in_order(server, 3)


async def test_each_start_of_the_server_is_expected_once(tmp_path: Path, clock: ManualClock) -> None:
    starts = []
    for number in range(4):
        async with life(tmp_path, clock) as server:
            if not number:
                await server.put("a", STARTUP)
                await server.put("b", [STARTUP, MINUTELY])
            else:
                starts.append(server.timer.started_us)
            await server.decide()
            await server.go(300, every_s=60)
        clock.advance(630)
    async with life(tmp_path, clock) as server:
        await server.decide()
        starts.append(server.timer.started_us)
        since = (clock.wall_us() - starts[0]) // MINUTE

        await in_order(server, 4)
        assert await server.bed.nominal_times("a") == starts
        report = await server.audit("b")
        assert counts(report) == {}
        assert report.tally.expected > since
        assert (await why(server, starts[1])).said.answer is Answer.EXECUTED
        beside = await why(server, starts[1] + 5 * S)
        assert (beside.said.answer, beside.facts.trigger_words) == (Answer.NOT_DUE, "at each start of the server")
        assert (beside.facts.before_us, beside.facts.after_us) == (starts[1], starts[2])

        tamper(server, f"DELETE FROM fires WHERE schedule_id = 'a' AND nominal_us = {starts[1]}")
        assert counts(await server.audit()) == {"missed": 1}


async def test_a_start_in_a_pause_is_on_record_and_one_before_its_time_is_not_expected(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock):
        clock.advance(100)
    clock.advance(100)
    async with life(tmp_path, clock) as server:
        await server.put("a", STARTUP)
        await server.schedules.pause(BOB, "a")
        clock.advance(100)
    clock.advance(100)
    async with life(tmp_path, clock) as server:
        await server.decide()
        await in_order(server, 1)
        clock.advance(100)
        await server.schedules.delete(BOB, "a")
    clock.advance(100)
    async with life(tmp_path, clock) as server:
        clock.advance(100)
        await in_order(server, 1)
        assert [fire.reason for fire in await server.ledger()] == [SkipReason.PAUSED]


async def test_what_never_fires_by_itself_expects_nothing(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {"type": "manual"})
        await server.go(3600)

        await in_order(server, 0)
        told = await why(server, None)
        assert (told.said.answer, told.facts.trigger_words) == (Answer.NOT_DUE, "only when somebody runs it")


# --- ends of runs -----------------------------------------------------------------------------------


async def ran(server: Life, *lengths_s: float) -> None:
    """As many runs of a fixed delay, each of that length."""
    for length_s in lengths_s:
        await server.go(60, every_s=10)
        await server.decide()
        clock = server.clock
        clock.advance(length_s)
        await server.finish()


async def test_each_fire_of_a_fixed_delay_has_to_follow_the_end_of_the_run_before(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", DELAY)
        await ran(server, 0, 3, 200, 0.5, 40)
        nominal = await server.bed.nominal_times("a")
        await in_order(server, 5)
        middle = await server.audit(since_us=nominal[2])
        assert (counts(middle), middle.tally.expected) == ({}, 3)
        coming = await why(server, (await server.bed.get("a")).next_fire_us)
        assert coming.said.answer is Answer.UPCOMING

        tamper(server, f"DELETE FROM fires WHERE nominal_us = {nominal[2]}")
        report = await server.audit()
        assert counts(report) == {"missed": 1}
        assert report.details[0].finding.from_us == nominal[2]
        assert counts(await server.audit(since_us=nominal[1] + 1)) == {"missed": 1}


async def test_a_fixed_delay_that_is_paused_changed_or_away_is_in_order(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", DELAY)
        await ran(server, 0, 5, 5)
        await server.schedules.pause(BOB, "a")
        await server.go(600, every_s=30)
        await server.schedules.resume(BOB, "a")
        await server.go(60, every_s=10)
        await server.finish()
        await ran(server, 5)
        await server.put("a", {**DELAY, "minutes": 2}, BOB)
        await server.go(120, every_s=30)
        assert (await server.bed.get("a")).waits_for is not None
        report = await server.audit()
        assert (counts(report), report.undecided_us) == ({}, None)
        clock.advance(5)
        await server.finish()
    clock.advance(1000)
    async with life(tmp_path, clock) as server:
        await server.decide()
        await server.finish()
        await ran(server, 5)

        report = await server.audit()
        assert counts(report) == {}
        assert report.tally.expected == len(await server.ledger())
        assert {fire.outcome for fire in await server.ledger()} == {
            FireOutcome.EXECUTED, FireOutcome.SKIPPED, FireOutcome.CAUGHT_UP,
        }  # fmt: skip


async def test_a_fixed_delay_that_stands_still_although_nothing_keeps_it_is_missed(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", DELAY)
        await ran(server, 0, 5)
        tamper(server, "UPDATE schedules SET next_fire_us = NULL")
        clock.advance(30)
        assert counts(await server.audit()) == {}
        clock.advance(60)
        assert counts(await server.audit()) == {"missed": 1}

        # Nobody noticed that its run was over.
        x = (await server.bed.executions("a"))[-1]
        tamper(server, f"UPDATE schedules SET waits_for = '{x.id}'")
        report = await server.audit()
        assert (counts(report), report.undecided_us) == ({}, (x.finished_us or 0) + MINUTE)


async def test_a_fixed_delay_that_ends_before_its_second_fire_is_in_order(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {**DELAY, "end": clock.wall_us() / 1e6 + 90})
        await ran(server, 0)
        await server.go(300)

        assert (await server.bed.get("a")).state is ScheduleState.FINISHED
        await in_order(server, 1)


# --- several triggers, and calendars ----------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        [{"type": "interval", "seconds": 90}, {"type": "interval", "seconds": 60}],
        {"type": "except", "trigger": MINUTELY, "except": {"type": "cron", "expression": "*/5 * * * *"}},
        {"type": "and", "triggers": [{"type": "interval", "seconds": 60}, {"type": "interval", "seconds": 90}]},
    ],
)
@pytest.mark.parametrize("every_s", [30, 7200])
async def test_combined_triggers_are_in_order(tmp_path: Path, clock: ManualClock, trigger: Any, every_s: float) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", trigger)
        await server.go(14_400, every_s=every_s)

        report = await server.audit()
        assert counts(report) == {}
        assert report.tally.expected == report.tally.recorded > 50


WORKDAYS = {"weekly": [{"days": ["sat", "sun"], "label": "weekend"}]}


async def test_a_calendar_skips_and_the_ledger_stays_complete(tmp_path: Path) -> None:
    clock = ManualClock(wall_us=to_us(datetime(2026, 11, 20, 12, tzinfo=UTC)))
    async with life(tmp_path, clock) as server:
        await server.calendar("work", **WORKDAYS, timezone="UTC")
        hourly = {"type": "cron", "expression": "0 * * * *"}
        await server.put("a", hourly, policies={"exclude": ["work"]})
        ahead = await why(server, datetime(2026, 11, 21, 9, tzinfo=UTC))
        await server.go(3 * 86_400, every_s=3600)

        await in_order(server, 72)
        told = await why(server, datetime(2026, 11, 21, 9, tzinfo=UTC))
        assert told.said.answer is Answer.SKIPPED
        assert "a named calendar forbids it (work: weekend)" in told.said.sentence
        assert ahead.said.answer is Answer.UPCOMING
        assert "but a named calendar forbids it (work: weekend)" in ahead.said.sentence


async def test_business_days_are_those_of_the_calendar_of_then(tmp_path: Path) -> None:
    clock = ManualClock(wall_us=to_us(datetime(2026, 11, 16, tzinfo=UTC)))
    async with life(tmp_path, clock) as server:
        await server.calendar("work", **WORKDAYS, timezone="UTC")
        daily = {"type": "cron", "expression": "0 9 * * sat"}
        await server.put("a", daily, policies={"business_days": {"calendar": "work", "rule": "next"}})
        await server.go(10 * 86_400, every_s=3600)
        # From now on Mondays are free as well.
        await server.calendar("work", weekly=[{"days": ["sat", "sun", "mon"], "label": "long weekend"}], timezone="UTC")
        await server.go(10 * 86_400, every_s=3600)
    async with life(tmp_path, clock) as server:
        days = [datetime.fromtimestamp(us / 1e6, UTC).strftime("%a %d") for us in await server.bed.nominal_times("a")]

        assert days == ["Mon 16", "Mon 23", "Tue 01"]
        await in_order(server, 3)
        told = await why(server, datetime(2026, 11, 23, 9, tzinfo=UTC))
        assert told.said.answer is Answer.EXECUTED
        assert (await why(server, datetime(2026, 11, 30, 9, tzinfo=UTC))).said.answer is Answer.NOT_DUE
