"""The audit over what the real rounds wrote: nothing is found, whatever happened, but what was tampered with is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schedule_zero.config import TimingConfig
from schedule_zero.errors import InvalidField, NotFound
from schedule_zero.model import CatchUp, FireOutcome, ScheduleState, SkipReason
from schedule_zero.rules.audit import FindingKind
from schedule_zero.service import audit as module
from tests.integration.ledger_bed import BOB, Life, counts, life, outcomes, tamper
from tests.integration.timing_bed import DAY, HOUR, MINUTE, S
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

MINUTELY = {"type": "interval", "minutes": 1}
BERLIN = {"type": "cron", "expression": "*/30 * * * *", "timezone": "Europe/Berlin"}


async def in_order(server: Life, expected: int | None = None, id_: str = "a", **fields: Any) -> None:
    report = await server.audit(id_, **fields)
    assert (counts(report), report.undecided_us) == ({}, None)
    assert report.tally.expected == report.tally.recorded
    if expected is not None:
        assert report.tally.expected == expected


# --- what the rounds write --------------------------------------------------------------------------


@pytest.mark.parametrize("every_s", [0.5, 7, 3600])
async def test_whatever_was_decided_late_or_on_time_is_in_order(
    tmp_path: Path, clock: ManualClock, every_s: float
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(3600 if every_s < 10 else 86_400, every_s=every_s)

        await in_order(server, 60 if every_s < 10 else 1440)


async def test_an_outage_and_all_its_summarising_rows_are_in_order(tmp_path: Path, clock: ManualClock) -> None:
    config = TimingConfig(catch_up_rows=5)
    async with life(tmp_path, clock, config=config) as server:
        await server.put("a", MINUTELY, policies={"catch_up": "all", "catch_up_max": 7})
        await server.schedules.skip(BOB, "a", 3)
        await server.go(300, every_s=60)
    clock.advance(5 * 86_400)
    async with life(tmp_path, clock, config=config) as server:
        await server.decide()

        await in_order(server, 5 * 1440 + 5)
        # From the middle of what one row stands for.
        report = await server.audit(since_us=clock.wall_us() - 2 * DAY)
        assert counts(report) == {}
        assert report.tally.expected > 2 * 1440
        assert {fire.reason for fire in await server.ledger()} >= {SkipReason.REQUESTED, SkipReason.CATCH_UP_LIMIT}


async def test_pause_snooze_change_skip_and_resume_are_in_order(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(200, every_s=13)
        await server.schedules.pause(BOB, "a", "why")
        await server.go(200)
        await server.schedules.resume(BOB, "a")
        await server.go(100, every_s=7)
        await server.put("a", BERLIN, BOB)
        await server.go(7200, every_s=600)
        await server.schedules.pause(BOB, "a", until_us=clock.wall_us() + HOUR)
        await server.go(7200)
        await server.put("a", {"type": "interval", "seconds": 7}, note="again")
        await server.go(100, every_s=3)

        # 8 minutes, half hours of 4 hours, and every 7 s of 100.
        await in_order(server, 8 + 8 + 14)


async def test_a_change_while_times_are_due_is_in_order(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {"type": "interval", "seconds": 10})
        clock.advance(95)
        # Neither has been decided when the next version comes.
        await server.put("a", {"type": "interval", "seconds": 7}, BOB)
        clock.advance(20)
        await server.schedules.pause(BOB, "a")
        clock.advance(20)
        await server.put("a", {"type": "interval", "seconds": 7, "start": clock.wall_us() / 1e6})
        await server.go(21)

        await in_order(server)
        reasons = [fire.reason for fire in await server.ledger()]
        assert SkipReason.CHANGED in reasons
        assert SkipReason.PAUSED in reasons


async def test_a_schedule_that_was_deleted_and_made_again_is_in_order_in_each_generation(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        for _ in range(3):
            await server.put("a", MINUTELY)
            await server.go(200, every_s=20)
            clock.advance(61)
            await server.schedules.delete(BOB, "a")
            clock.advance(500)

        # The newest generation is over as well.
        await in_order(server, 3 * 4)
        assert len({fire.generation for fire in await server.ledger()}) == 3


async def test_a_freeze_is_undecided_and_in_order_when_it_is_over(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(120, every_s=60)
        due_us = clock.wall_us() + MINUTE
        await server.freezes.freeze(BOB)
        await server.go(1200, every_s=60)

        report = await server.audit()
        assert (counts(report), report.undecided_us, report.tally.expected) == ({}, due_us, 2)
        await server.schedules.pause(BOB, "a")
        report = await server.audit()
        assert (counts(report), report.undecided_us, report.tally.expected) == ({}, due_us, 2)

        await server.freezes.thaw(BOB, CatchUp.NONE)
        await server.decide()
        await in_order(server, 22)


async def test_a_change_in_a_freeze_is_in_order(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.freezes.freeze(BOB)
        clock.advance(200)
        await server.put("a", MINUTELY, BOB, policies={"max_fires": 1, "coalesce": True})
        clock.advance(200)
        await server.put("a", BERLIN, BOB)
        clock.advance(7200)
        await server.freezes.thaw(BOB, CatchUp.ALL)
        await server.decide()

        await in_order(server, 6 + 4)


# --- how a schedule ends ----------------------------------------------------------------------------


async def test_a_date_is_expected_once_even_if_it_had_passed_when_it_was_asked_for(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {"type": "date", "run_date": clock.wall_us() / 1e6 - 20})
        await server.put("b", {"type": "date", "run_date": clock.wall_us() / 1e6 + 20})
        await server.put("c", {"type": "date", "run_date": clock.wall_us() / 1e6 + 90})
        await server.go(60)
        await server.put("c", MINUTELY)
        await server.go(60)

        await in_order(server, 1, "a")
        await in_order(server, 1, "b")
        await in_order(server, 1, "c")
        assert outcomes(await server.ledger("a")) == [FireOutcome.CAUGHT_UP]


async def test_a_second_date_that_had_passed_when_it_was_asked_for_is_expected_as_well(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        first = {"type": "date", "run_date": clock.wall_us() / 1e6 + 20}
        await server.put("a", first)
        await server.go(60)
        await server.put("a", {"type": "date", "run_date": clock.wall_us() / 1e6 - 0.25})
        await server.go(60)
        await in_order(server, 2)

        # What is decided is not asked for again: neither the same date, nor one before it.
        await server.put("a", {"type": "date", "run_date": clock.wall_us() / 1e6 - 60.25})
        await server.go(60)
        await server.put("a", first)
        await server.go(60)
        await in_order(server, 2)


async def test_after_its_last_run_nothing_is_expected(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, policies={"max_fires": 3})
        await server.go(600, every_s=30)
        await in_order(server, 3)
        await server.go(600, every_s=60)
        await in_order(server, 3)
        await server.put("a", MINUTELY, BOB, policies={"max_fires": 5})
        await server.go(600, every_s=60)

        await in_order(server, 5)
        assert (await server.bed.get("a")).state is ScheduleState.FINISHED


async def test_a_maximum_that_is_reached_by_a_change_leaves_nothing_undecided(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(180, every_s=60)
        await server.freezes.freeze(BOB)
        clock.advance(120)
        await server.put("a", MINUTELY, BOB, policies={"max_fires": 2})

        await in_order(server, 5)
        assert [fire.reason for fire in await server.ledger()][-2:] == [SkipReason.CHANGED] * 2


async def test_after_a_quarantine_nothing_is_expected_until_it_is_resumed(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(120, every_s=60)
        clock.advance(60)
        [alarm] = await server.rounds.take()
        alarm.broken, alarm.plan = "its trigger raised", None
        await server.rounds.write([alarm])
        await server.rounds.settled()
        await server.go(600)
        await in_order(server, 3)
        await server.go(60)
        await in_order(server, 3)
        await server.schedules.resume(BOB, "a")
        await server.go(180, every_s=60)

        await in_order(server, 6)


async def test_a_trigger_that_cant_be_read_any_more_is_not_known_rather_than_wrong(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(120, every_s=60)
        tamper(server, 'UPDATE schedules SET trigger = \'{"type":"sundial"}\'')

        report = await server.audit()

        assert counts(report) == {}
        assert report.since_us == clock.wall_us() + 1


async def test_a_trigger_that_raises_is_not_known_rather_than_the_end_of_the_audit(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(120, every_s=60)

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(module, "owed", broken)
        report = await server.audit()

        assert counts(report) == {}
        assert (report.tally.exact, report.since_us) == (False, clock.wall_us() + 1)


async def test_a_clock_that_was_set_back_does_not_make_anything_missed_or_extra(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.put("b", MINUTELY)
        await server.go(600, every_s=20)
        clock.step_wall(-300)
        await server.schedules.pause(BOB, "a")
        await server.put("b", BERLIN)
        await server.go(30)
        await server.schedules.resume(BOB, "a")
        await server.schedules.delete(BOB, "b")
        await server.go(900, every_s=20)

        await in_order(server, id_="a")
        await in_order(server, id_="b", until_us=clock.wall_us())


# --- what is not known ------------------------------------------------------------------------------


async def test_the_audit_says_from_when_on_the_versions_are_known(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", {"type": "interval", "seconds": 30})
        for _ in range(3):
            await server.go(120, every_s=30)
            await server.put("a", {"type": "interval", "seconds": 30, "start": clock.wall_us() / 1e6})
        await server.go(120, every_s=30)
        await in_order(server, 16)

        tamper(server, "DELETE FROM schedule_versions WHERE version = 2")
        report = await server.audit()

        assert counts(report) == {}
        assert report.since_us == start_us + 240 * S + 1
        assert report.tally.expected == 8


async def test_rows_of_a_generation_from_before_versions_were_kept_are_not_extra(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(300, every_s=60)
        await server.schedules.delete(BOB, "a")
        await server.put("a", MINUTELY)
        await server.go(300, every_s=60)
        tamper(server, "DELETE FROM schedule_versions")

        report = await server.audit()

        assert counts(report) == {}
        assert report.since_us == clock.wall_us() - 300 * S + 1
        assert report.tally.expected == 5


async def test_only_what_never_was_is_not_found(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", BERLIN)
        await server.schedules.delete(BOB, "a")

        await in_order(server, 0)
        with pytest.raises(NotFound):
            await server.audit("b")
        with pytest.raises(InvalidField):
            await server.audit(since_us=clock.wall_us() + S)


async def test_without_a_range_it_is_the_last_day(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(3 * 86_400, every_s=3600)

        report = await server.audit(since_us=None)

        assert (report.since_us, report.until_us) == (clock.wall_us() - DAY, clock.wall_us())
        # Both ends are included.
        assert (counts(report), report.tally.expected) == ({}, 1441)


# --- what was tampered with -------------------------------------------------------------------------

DROP_UNIQUE = """
CREATE TABLE f AS SELECT * FROM fires;
DROP TABLE fires;
ALTER TABLE f RENAME TO fires;
CREATE INDEX ix_fires_summed ON fires (schedule_id, generation, last_nominal_us) WHERE last_nominal_us IS NOT NULL;
"""
SINGLE = "(SELECT nominal_us FROM fires WHERE count = 1 ORDER BY nominal_us DESC LIMIT 1 OFFSET 3)"
SUMMED = "(SELECT nominal_us FROM fires WHERE count > 1 ORDER BY nominal_us LIMIT 1)"


@pytest.fixture(params=["walked through", "counted"])
def much(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The same with the bound on what is walked through so low that nearly everything is counted."""
    if request.param == "counted":
        monkeypatch.setattr(module, "EXACT", 20)
    return request.param == "counted"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (f"DELETE FROM fires WHERE nominal_us = {SINGLE}", {"missed": 1}),
        (f"UPDATE fires SET nominal_us = nominal_us + 1 WHERE nominal_us = {SINGLE}", {"missed": 1, "extra": 1}),
        (
            f"""INSERT INTO fires (schedule_id, generation, nominal_us, outcome, count, decided_us)
            SELECT schedule_id, generation, nominal_us - 5, outcome, 1, 0 FROM fires WHERE nominal_us = {SINGLE}""",
            {"extra": 1},
        ),
        (f"UPDATE fires SET count = 4 WHERE nominal_us = {SINGLE}", {"extra": 3}),
        (f"UPDATE fires SET count = count - 2 WHERE nominal_us = {SUMMED}", {"missed": 2}),
        (f"UPDATE fires SET count = count + 3 WHERE nominal_us = {SUMMED}", {"extra": 3}),
    ],
)
async def test_what_was_tampered_with_is_found(
    tmp_path: Path, clock: ManualClock, statement: str, found: dict[str, int], much: bool
) -> None:
    async with life(tmp_path, clock, config=TimingConfig(catch_up_rows=10)) as server:
        await server.put("a", MINUTELY)
        await server.go(3600, every_s=60)
        await server.go(7200)
        await server.go(3600, every_s=60)
        before = await server.audit()
        assert (counts(before), before.tally.exact, before.tally.expected) == ({}, not much, 240)

        tamper(server, statement)
        report = await server.audit()

        if much and found == {"missed": 1, "extra": 1}:
            # One too few and one too many: a sum can't see it. The report says that it is one.
            assert (counts(report), report.tally.exact) == ({}, False)
            return
        assert counts(report) == found
        assert sum(detail.finding.count for detail in report.details) == sum(found.values())
        # It is traced to where it is.
        assert all(detail.finding.to_us - detail.finding.from_us < 3 * HOUR for detail in report.details)


async def test_two_rows_for_one_time_are_a_duplicate(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(600, every_s=60)
        for statement in DROP_UNIQUE.strip().split(";\n"):
            tamper(server, statement)
        tamper(server, f"INSERT INTO fires SELECT * FROM fires WHERE nominal_us = {SINGLE}")

        report = await server.audit()

        assert counts(report) == {"duplicate": 1}
        assert [detail.finding.kind for detail in report.details] == [FindingKind.DUPLICATE]


async def test_rows_of_a_time_when_it_was_not_there_are_extra(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.go(600)
        await server.put("a", MINUTELY)
        await server.go(600, every_s=60)
        await server.schedules.delete(BOB, "a")
        await server.go(600)
        generation = (await server.ledger())[0].generation
        for us, of in ((start_us + MINUTE, generation), (start_us + 25 * MINUTE, generation), (start_us, 999)):
            tamper(
                server,
                "INSERT INTO fires (schedule_id, generation, nominal_us, outcome, count, decided_us)"
                f" VALUES ('a', {of}, {us}, 'executed', 1, 0)",
            )

        assert counts(await server.audit()) == {"extra": 3}


async def test_a_next_fire_that_was_pushed_ahead_leaves_what_it_left_out_missed(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(300, every_s=60)
        tamper(server, f"UPDATE schedules SET next_fire_us = next_fire_us + {3 * MINUTE}")
        await server.go(30)
        report = await server.audit()
        assert counts(report) == {}
        clock.advance(120)

        assert counts(await server.audit()) == {"missed": 2}
        tamper(server, "UPDATE schedules SET next_fire_us = NULL")
        assert counts(await server.audit()) == {"missed": 2}
