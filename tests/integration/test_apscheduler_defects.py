"""The defects of APScheduler 4.0.0a6 that were found by trying it, and how ours comes through each of them.

The letters are those of the notes from which this list comes (``B4`` …); each with a script that shows it is in
``docs/explanation/apscheduler-findings.md``. Where a test can show the defect of the
original in a line, it does, so that one notices when a newer release no longer has it.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger as TheirCron
from apscheduler.triggers.interval import IntervalTrigger as TheirInterval

from schedule_zero.clock import SystemClock, from_us, to_us
from schedule_zero.config import TimingConfig
from schedule_zero.errors import InvalidTrigger
from schedule_zero.model import FireOutcome, ScheduleState, SkipReason
from schedule_zero.store import schedules
from schedule_zero.timing import parse_trigger, preview
from schedule_zero.timing.instants import IntervalTrigger
from tests.integration.timing_bed import HOUR, MINUTE, Bed, S, bed_in, one_round, running, write
from tests.support import ManualClock, eventually, nothing_owed

pytestmark = pytest.mark.anyio

SLEEPY = TimingConfig(max_sleep_s=60)
# A wake-up that was lost would be made up for only when the window moves on, after 5 s at the earliest. Without load
# "at once" is a few milliseconds.
AT_ONCE_S = 2.5
HOURLY = {"type": "interval", "hours": 1}


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", SystemClock()) as made:
        yield made


@pytest.fixture
async def still(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


# --- the loop --------------------------------------------------------------------------------------


async def test_b4_a_raising_trigger_neither_kills_the_loop_nor_touches_its_neighbour(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs: UnboundLocalError kills the scheduler, or the row gets its neighbour's next time."""
    original = IntervalTrigger.next_after

    def raising(self: IntervalTrigger, us: int) -> int | None:
        if self.period_us == 7 * HOUR:
            raise ZeroDivisionError("in a trigger")
        return original(self, us)

    now_us = bed.clock.wall_us()
    good = bed.row("good", HOURLY, due_us=now_us)
    bad = bed.row("bad", {"type": "interval", "hours": 7}, due_us=now_us)
    await bed.create(good, bad, bed.row("zgood", HOURLY, due_us=now_us))
    monkeypatch.setattr(IntervalTrigger, "next_after", raising)

    async with running(bed.timer(SLEEPY)) as task:
        await eventually(lambda: len(bed.dispatcher.told("committed")) == 2)
        assert not task.done()

    quarantined = await bed.get("bad")
    assert (quarantined.state, quarantined.next_fire_us) == (ScheduleState.QUARANTINED, None)
    assert "ZeroDivisionError: in a trigger" in (quarantined.note or "")
    assert [fire.reason for fire in await bed.ledger("bad")] == [SkipReason.QUARANTINED]
    for id_ in ("good", "zgood"):
        assert (await bed.get(id_)).next_fire_us == now_us + HOUR


async def test_b5_a_fire_taken_up_by_a_process_that_died_is_taken_up_by_the_next(
    still: Bed, clock: ManualClock
) -> None:
    """Theirs: the orphaned lease is ignored by the survivor's alarm. Ours: there is no lease to be orphaned."""
    await still.create(still.row("a", HOURLY))
    clock.advance(3600)
    assert len(await still.rounds().take()) == 1

    assert await one_round(still.rounds()) == ["a"]

    assert len(await still.executions("a")) == 1


async def test_b6_no_wake_up_is_lost_between_reading_the_next_time_and_sleeping(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs: an event that comes in between is compared with the wake-up planned before, and dropped."""
    from schedule_zero.timing.datastore import TimerDataStore

    original = TimerDataStore.get_next_schedule_run_time
    arrived = False

    async def and_then_one_arrives(self: TimerDataStore) -> datetime | None:
        nonlocal arrived
        answer = await original(self)
        if not arrived:
            arrived = True
            await bed.create(bed.row("new", HOURLY, due_us=bed.clock.wall_us() + 5000))
        return answer

    # The loop's earlier plan was to wake up before the new one is due.
    await bed.create(bed.row("old", HOURLY, due_us=bed.clock.wall_us()))
    monkeypatch.setattr(TimerDataStore, "get_next_schedule_run_time", and_then_one_arrives)
    async with running(bed.timer(SLEEPY)):
        await eventually(lambda: len(bed.dispatcher.told("committed")) == 2)

    (fire,) = await bed.ledger("new")
    assert fire.decided_us - fire.nominal_us < AT_ONCE_S * S


async def test_b7_a_replacement_during_processing_is_not_overwritten_by_the_release(
    still: Bed, clock: ManualClock
) -> None:
    await still.create(still.row("a", HOURLY))
    rounds = still.rounds()
    clock.advance(3600)
    alarms = await rounds.take()
    replacement = still.row("a", {"type": "interval", "minutes": 10}, params=b'{"new":true}')
    await still.store.write(schedules.put, schedules.Put(row=replacement, handover=nothing_owed))

    await write(rounds, alarms)

    row = await still.get("a")
    assert (row.next_fire_us, row.params, row.trigger) == (
        replacement.next_fire_us,
        b'{"new":true}',
        replacement.trigger,
    )
    assert await still.ledger("a") == []


async def test_b8_pausing_during_processing_does_not_set_the_next_fire_back(still: Bed, clock: ManualClock) -> None:
    """Theirs: pause rewrites the row that it read before, and the same fire time comes twice after unpausing."""
    await still.create(still.row("a", HOURLY))
    start_us = clock.wall_us()
    rounds = still.rounds()
    clock.advance(3600)
    alarms = await rounds.take()
    await asyncio.gather(write(rounds, alarms), still.set_state("a", ScheduleState.PAUSED))
    await still.set_state("a", ScheduleState.ACTIVE)
    rounds.window.changed(["a"])
    await one_round(rounds)

    assert await still.nominal_times("a") == [start_us + HOUR]
    assert (await still.get("a")).next_fire_us == start_us + 2 * HOUR


async def test_b9_a_crash_between_the_job_and_the_release_fires_nothing_twice(still: Bed, clock: ManualClock) -> None:
    """Theirs: the job is inserted in a transaction of its own, before the schedule moves on."""
    await still.create(still.row("a", HOURLY))
    clock.advance(3600)
    first, second = still.rounds(), still.rounds()
    alarms, the_same = await first.take(), await second.take()

    await write(first, alarms)
    await write(second, the_same)

    assert len(await still.executions("a")) == len(await still.ledger("a")) == 1


async def test_b10_a_poisoned_row_is_quarantined_and_does_not_crash_the_loop(bed: Bed) -> None:
    now_us = bed.clock.wall_us()
    await bed.create(
        bed.row("poison", b"gASVDAAAAAAAAACMBXBvc2l4", due_us=now_us), bed.row("good", HOURLY, due_us=now_us)
    )

    async with running(bed.timer(SLEEPY)) as task:
        await eventually(lambda: len(bed.dispatcher.told("committed")) == 1)
        assert not task.done()

    assert (await bed.get("poison")).state is ScheduleState.QUARANTINED


async def test_b11_a_locked_database_is_waited_for(bed: Bed, tmp_path: Path) -> None:
    """Theirs: "database is locked" kills the scheduler, and its crash cancels the host's own code."""
    await bed.create(bed.row("a", {"type": "interval", "milliseconds": 50}))
    (database,) = (tmp_path / "state").glob("*.db")
    intruder = sqlite3.connect(database, isolation_level=None)
    async with running(bed.timer(SLEEPY)) as task:
        await eventually(lambda: bed.dispatcher.told("committed"))
        intruder.execute("BEGIN IMMEDIATE")
        placed = len(bed.dispatcher.told("place"))
        await eventually(lambda: len(bed.dispatcher.told("place")) > placed)
        intruder.execute("ROLLBACK")
        committed = len(bed.dispatcher.told("committed"))
        await eventually(lambda: len(bed.dispatcher.told("committed")) > committed + 2)
        assert not task.done()
    intruder.close()

    nominal_times = await bed.nominal_times("a")
    assert nominal_times == list(range(nominal_times[0], nominal_times[-1] + 1, 50_000))


async def test_b15_fires_of_one_job_do_not_wait_for_each_other(bed: Bed) -> None:
    """Theirs: max_running_jobs is 1 by default, so that all jobs of a server queue up behind one."""
    now_us = bed.clock.wall_us()
    await bed.create(*(bed.row(f"s{i}", HOURLY, due_us=now_us) for i in range(150)))

    async with running(bed.timer(SLEEPY)):
        await eventually(lambda: len(bed.dispatcher.told("committed")) == 150)

    assert len([name for name, _ in bed.dispatcher.calls if name == "place"]) <= 2


async def test_b17_an_overdue_paused_schedule_is_no_busy_loop(bed: Bed) -> None:
    await bed.create(bed.row("p", HOURLY, due_us=bed.clock.wall_us() - S, state=ScheduleState.PAUSED))
    timer = bed.timer(SLEEPY)
    async with running(timer):

        async def skipped() -> bool:
            return [fire.reason for fire in await bed.ledger("p")] == [SkipReason.PAUSED]

        await eventually(skipped)
        rounds = timer.stats.rounds
        await asyncio.gather(*(bed.ledger("p") for _ in range(20)))

    assert timer.stats.rounds == rounds == 1


async def test_catch_up_of_a_fast_interval_does_not_walk_through_the_outage(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs: a 10 ms interval after ten minutes is 60,002 calls of next() on the event loop."""
    calls = 0
    original = IntervalTrigger.next_after

    def counting(self: IntervalTrigger, us: int) -> int | None:
        nonlocal calls
        calls += 1
        return original(self, us)

    start_us = bed.clock.wall_us() - 10 * MINUTE
    trigger = {"type": "interval", "milliseconds": 10, "start": start_us / 1e6, "end": start_us / 1e6 + 595}
    await bed.create(bed.row("a", trigger, due_us=start_us))
    monkeypatch.setattr(IntervalTrigger, "next_after", counting)

    async with running(bed.timer(SLEEPY)):

        async def finished() -> bool:
            return (await bed.get("a")).state is ScheduleState.FINISHED

        await eventually(finished)

    ledger = await bed.ledger("a")
    assert sum(fire.count for fire in ledger) == 59_501
    assert calls < 1200


async def test_the_loop_never_sleeps_longer_than_told(still: Bed, clock: ManualClock) -> None:
    """Theirs: no upper bound, so that a step of the wall clock or a resumed laptop goes unnoticed."""
    rounds = still.rounds(TimingConfig(max_sleep_s=2))
    assert await rounds.wait_us() == 2 * S

    await still.create(still.row("a", HOURLY))
    rounds.window.changed(["a"])
    assert await rounds.wait_us() == 2 * S


async def test_b2_parameters_that_look_like_apschedulers_own_markers_stay_data(still: Bed, clock: ManualClock) -> None:
    """Theirs (CVE-2026-31072): a key "_apscheduler_json" in a user's data names a class to be revived."""
    params = b'{"_apscheduler_json":["os:system",["touch /tmp/pwned"]]}'
    await still.create(still.row("a", HOURLY, params=params))
    clock.advance(3600)

    await one_round(still.rounds())

    (execution,) = await still.executions("a")
    assert execution.params == params


def test_b1_its_undeclared_dependency_is_there() -> None:
    """apscheduler imports sniffio without asking for it."""
    import sniffio

    assert sys.modules["sniffio"] is sniffio


# --- its triggers, which we do not use --------------------------------------------------------------


def cron(expression: str, zone: str, after: datetime, n: int) -> list[datetime]:
    trigger = parse_trigger({"type": "cron", "expression": expression, "timezone": zone})
    return [from_us(us).astimezone(ZoneInfo(zone)) for us in preview(trigger, to_us(after), n)]


NEW_YORK = ZoneInfo("America/New_York")


def test_b19_an_ordinal_weekday_means_that_weekday_only() -> None:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    theirs = TheirCron(day_of_week="MON#1", start_time=start, timezone="UTC")
    assert [theirs.next().day for _ in range(2)] == [23, 30]  # type: ignore[union-attr]  # any Monday

    assert [fire.day for fire in cron("0 0 * * MON#1", "UTC", start, 2)] == [7, 4]


def test_b19_day_of_month_and_day_of_week_are_alternatives() -> None:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    theirs = TheirCron.from_crontab("0 0 1 * MON", timezone="UTC")
    theirs.start_time = start
    assert theirs.next() == datetime(2027, 2, 1, tzinfo=UTC)

    assert [fire.day for fire in cron("0 0 1 * MON", "UTC", start, 3)] == [23, 30, 1]


def test_b19_a_job_in_the_repeated_hour_fires_once() -> None:
    start = datetime(2026, 10, 31, 12, tzinfo=NEW_YORK)
    theirs = TheirCron(hour=1, minute=30, start_time=start, timezone=NEW_YORK)
    assert [theirs.next().day for _ in range(2)] == [1, 1]  # type: ignore[union-attr]

    assert [fire.day for fire in cron("30 1 * * *", "America/New_York", start, 2)] == [1, 2]


def test_b19_the_first_fire_is_right_in_a_zone_that_is_not_the_machines() -> None:
    start = datetime(2026, 11, 20, 8, tzinfo=NEW_YORK)

    assert cron("0 9 * * *", "America/New_York", start, 1) == [datetime(2026, 11, 20, 9, tzinfo=NEW_YORK)]


def test_b19_aliases_last_days_and_impossible_dates() -> None:
    start = datetime(2026, 11, 20, tzinfo=UTC)

    assert cron("@daily", "UTC", start, 1) == [datetime(2026, 11, 21, tzinfo=UTC)]
    assert cron("0 0 L * *", "UTC", start, 1) == [datetime(2026, 11, 30, tzinfo=UTC)]
    with pytest.raises(InvalidTrigger, match="day 30 does not exist in month 2"):
        parse_trigger({"type": "cron", "expression": "0 0 30 2 *"})


def test_b19_microseconds_of_the_start_do_not_leak_into_the_fires() -> None:
    trigger = parse_trigger({"type": "cron", "second": "*", "start": "2026-11-20T12:00:00.123456Z"})

    assert [us % S for us in preview(trigger, 0, 3)] == [0, 0, 0]


def test_b20_an_interval_keeps_its_rate_through_a_change_of_the_clock() -> None:
    """Theirs: a 1 h interval has a hole of 2 h at fall-back."""
    start = datetime(2026, 10, 31, 22, tzinfo=NEW_YORK)
    theirs = TheirInterval(hours=1, start_time=start)
    fires = [theirs.next().astimezone(UTC) for _ in range(8)]  # type: ignore[union-attr]
    assert timedelta(hours=2) in {later - earlier for earlier, later in itertools.pairwise(fires)}

    ours = preview(parse_trigger({"type": "interval", "hours": 1, "start": start.isoformat()}), to_us(start), 8)
    assert [us - to_us(start) for us in ours] == [n * HOUR for n in range(1, 9)]


def test_b20_an_interval_has_milliseconds_and_a_minimum() -> None:
    with pytest.raises(TypeError):
        TheirInterval(milliseconds=10)  # type: ignore[call-arg]

    assert preview(parse_trigger({"type": "interval", "milliseconds": 10}), 0, 2) == [10_000, 20_000]
    with pytest.raises(InvalidTrigger, match="at least 1 ms"):
        parse_trigger({"type": "interval", "seconds": 0.000_001})


def test_b21_a_calendar_interval_does_not_skip_a_day_after_a_gap_at_midnight() -> None:
    """Theirs leaves out the day itself, and where the gap reaches midnight (Nuuk, 23:00 to 0:00) the day after, too."""
    trigger = parse_trigger(
        {"type": "calendar", "days": 1, "at": "00:00", "timezone": "Asia/Beirut", "start_date": "2027-03-01"}
    )
    fires = [
        from_us(us).astimezone(ZoneInfo("Asia/Beirut"))
        for us in preview(trigger, to_us(datetime(2027, 3, 26, 12, tzinfo=UTC)), 4)
    ]

    assert [(fire.day, fire.hour) for fire in fires] == [(27, 0), (28, 1), (29, 0), (30, 0)]


async def test_b23_a_finished_schedule_stays_visible(still: Bed, clock: ManualClock) -> None:
    await still.create(still.row("once", {"type": "date", "run_date": clock.wall_us() / 1e6 + 1}))
    clock.advance(1)
    await one_round(still.rounds())

    assert (await still.get("once")).state is ScheduleState.FINISHED
    assert [fire.outcome for fire in await still.ledger("once")] == [FireOutcome.EXECUTED]
