"""Local times and daylight saving, against a brute-force oracle that looks at every single minute."""

from __future__ import annotations

import itertools
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import Trigger, parse_trigger, preview
from schedule_zero.timing.cron import CronTrigger
from schedule_zero.timing.walltime import DAY_S, Fold, Gap, TimesOfDay, _offset_at, stretches

MINUTE = timedelta(minutes=1)

# A zone, and a day near one of its seams: one hour, half an hour, at midnight, backwards over midnight, a whole
# day left out, a change of standard time, southern hemisphere, none at all.
SEAMS = [
    ("Europe/Berlin", "2027-03-28"),
    ("Europe/Berlin", "2027-10-31"),
    ("America/New_York", "2026-11-01"),
    ("America/New_York", "2027-03-14"),
    ("Australia/Lord_Howe", "2027-04-04"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("Asia/Beirut", "2027-03-28"),
    ("Pacific/Apia", "2011-12-30"),
    ("Africa/Casablanca", "2027-02-07"),
    ("Africa/Sao_Tome", "2019-01-01"),
    ("Asia/Kathmandu", "1985-12-31"),
    ("Europe/Dublin", "2040-10-28"),
    ("UTC", "2027-01-01"),
]

Fields = tuple[set[int], set[int], set[int], set[int], set[int]]


@lru_cache
def minutes_around(key: str, day: str) -> tuple[list[tuple[int, datetime, bool]], list[tuple[datetime, int]]]:
    """Every minute near a seam: as (moment, local time, repeated), and the local times that don't exist.

    The latter with the first moment after their gap.
    """
    zone = zoneinfo.ZoneInfo(key)
    start, end = window(day)
    existing, missing = [], []
    moment = start
    while moment < end:
        local = moment.astimezone(zone)
        repeated = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        existing.append((to_us(moment), local, repeated))
        moment += MINUTE
    for (_, before, _), (first_after_us, after, _) in itertools.pairwise(existing):
        local = before.replace(tzinfo=None, fold=0) + MINUTE
        while local < after.replace(tzinfo=None):
            missing.append((local, first_after_us))
            local += MINUTE
    return existing, missing


def window(day: str) -> tuple[datetime, datetime]:
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return middle - timedelta(hours=30), middle + timedelta(hours=40)


def oracle(fields: Fields, key: str, day: str, gap: Gap, fold: Fold) -> list[int]:
    """The nominal times around a seam by definition: look at every minute, absolute and local."""
    minutes, hours, days, months, weekdays = fields
    any_day = len(days) == 31 or len(weekdays) == 7

    def matches(local: datetime) -> bool:
        if local.minute not in minutes or local.hour not in hours or local.month not in months:
            return False
        on_day, on_weekday = local.day in days, local.isoweekday() % 7 in weekdays
        return on_day and on_weekday if any_day else on_day or on_weekday

    existing, missing = minutes_around(key, day)
    found = set()
    for us, local, repeated in existing:
        counts = not repeated or fold is Fold.BOTH or (local.fold == 0) == (fold is Fold.FIRST)
        if counts and matches(local):
            found.add(us)
    if gap is Gap.SHIFT:
        found.update(first_after_us for local, first_after_us in missing if matches(local))
    return sorted(found)


def some(values: range) -> st.SearchStrategy[set[int]]:
    return st.just(set(values)) | st.sets(st.sampled_from(values), min_size=1, max_size=3)


@st.composite
def cron_fields(draw: st.DrawFn) -> Fields:
    return (
        draw(st.sampled_from([{0}, {30}, {0, 30}, set(range(60)), {15, 59}])),
        draw(some(range(5)) | st.just(set(range(24))) | st.just({0, 23})),
        draw(some(range(1, 32))),
        draw(st.just(set(range(1, 13))) | some(range(1, 13))),
        draw(st.just(set(range(7))) | some(range(7))),
    )


def expression_of(fields: Fields) -> str:
    full = (60, 24, 31, 12, 7)
    return " ".join(
        "*" if len(values) == size else ",".join(map(str, sorted(values)))
        for values, size in zip(fields, full, strict=True)
    )


@pytest.mark.parametrize(("key", "day"), SEAMS)
@settings(max_examples=50)
@given(data=st.data())
def test_every_nominal_time_around_a_seam_is_what_the_definition_says(key: str, day: str, data: st.DataObject) -> None:
    fields = data.draw(cron_fields())
    gap, fold = data.draw(st.sampled_from(Gap)), data.draw(st.sampled_from(Fold))
    document = {"type": "cron", "expression": expression_of(fields), "timezone": key, "dst_gap": gap, "dst_fold": fold}
    try:
        trigger = parse_trigger(document)
    except InvalidTrigger:
        return

    expected = oracle(fields, key, day, gap, fold)

    low, high = map(to_us, window(day))
    assert between(trigger, low, high) == expected
    assert list(reversed(expected)) == between_backwards(trigger, low, high)
    at = data.draw(st.integers(low, high - 1))
    assert trigger.count(low - 1, at) == sum(us <= at for us in expected)
    assert trigger.count(at, high - 1) == sum(us > at for us in expected)


def between(trigger: Trigger, low_us: int, high_us: int) -> list[int]:
    found = []
    us = trigger.next_after(low_us - 1)
    while us is not None and us < high_us:
        found.append(us)
        us = trigger.next_after(us)
    return found


def between_backwards(trigger: Trigger, low_us: int, high_us: int) -> list[int]:
    found = []
    us = trigger.last_before(high_us)
    while us is not None and us >= low_us:
        found.append(us)
        us = trigger.last_before(us)
    return found


def berlin(expression: str, day: str, **policy: str) -> list[str]:
    """The fires of one local day in Berlin, in UTC."""
    trigger = parse_trigger({"type": "cron", "expression": expression, "timezone": "Europe/Berlin", **policy})
    start = to_us(datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))
    end = to_us((datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))
    return [from_us(us).strftime("%H:%M") for us in between(trigger, start, end)]


SPRING, AUTUMN = "2027-03-28", "2027-10-31"


def test_a_job_at_a_local_time_runs_once_on_the_days_of_the_change() -> None:
    assert berlin("30 2 * * *", SPRING) == ["01:00"]
    assert berlin("30 2 * * *", AUTUMN) == ["00:30"]
    # The same with a seconds field.
    assert berlin("0 30 2 * * *", SPRING) == ["01:00"]
    assert berlin("0 30 2 * * *", AUTUMN) == ["00:30"]


def test_a_job_at_every_so_often_goes_by_real_time_through_the_change() -> None:
    spring, autumn = berlin("0 * * * *", SPRING), berlin("0 * * * *", AUTUMN)

    assert len(spring) == 23
    assert len(autumn) == 25
    assert autumn[:5] == ["22:00", "23:00", "00:00", "01:00", "02:00"]


def test_the_policies_for_gap_and_fold() -> None:
    assert berlin("30 2 * * *", SPRING, dst_gap="skip") == []
    assert berlin("0,30 2 * * *", SPRING) == ["01:00"]
    assert berlin("30 2,3 * * *", SPRING) == ["01:00", "01:30"]
    assert berlin("0 2,3 * * *", SPRING) == ["01:00"]
    assert berlin("30 2 * * *", AUTUMN, dst_fold="second") == ["01:30"]
    assert berlin("30 2 * * *", AUTUMN, dst_fold="both") == ["00:30", "01:30"]
    assert berlin("0 * * * *", AUTUMN, dst_fold="first")[:5] == ["22:00", "23:00", "00:00", "02:00", "03:00"]


def test_a_trigger_that_begins_at_the_very_end_of_a_gap_begins_with_what_is_made_up_for() -> None:
    document = {
        "type": "cron",
        "expression": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "start": "2027-03-28T01:00:00Z",
    }
    trigger = parse_trigger(document)
    seam_us = to_us(datetime(2027, 3, 28, 1, tzinfo=UTC))

    assert trigger.next_after(0) == seam_us
    assert trigger.last_before(seam_us + 1) == seam_us
    assert trigger.count(0, seam_us) == 1


def test_a_calendar_trigger_follows_the_same_policies() -> None:
    def days(at: str, **policy: str) -> list[str]:
        document = {"type": "calendar", "days": 1, "at": at, "timezone": "Europe/Berlin", "start_date": "2027-01-01"}
        trigger = parse_trigger(document | policy)
        return [
            from_us(us).strftime("%d %H:%M") for us in preview(trigger, to_us(datetime(2027, 3, 27, tzinfo=UTC)), 3)
        ]

    assert days("02:30") == ["27 01:30", "28 01:00", "29 00:30"]
    assert days("02:30", dst_gap="skip") == ["27 01:30", "29 00:30", "30 00:30"]


@given(
    expression=st.builds(
        " ".join,
        st.tuples(
            st.sampled_from(["*", "0", "*/7", "5,40", "10-20/3"]),
            st.sampled_from(["*", "0", "*/6", "2", "8-18"]),
            st.sampled_from(["*", "1", "L", "LW", "15-20", "*/10", "31"]),
            st.sampled_from(["*", "2", "JAN,JUL", "*/3"]),
            st.sampled_from(["*", "MON", "1-5", "5L", "TUE#2", "7"]),
        ),
    ),
    after=st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1)),
    key=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)
def test_cron_agrees_with_cronsim(expression: str, after: datetime, key: str) -> None:
    try:
        trigger = parse_trigger({"type": "cron", "expression": expression, "timezone": key})
    except InvalidTrigger:
        return
    zone = zoneinfo.ZoneInfo(key)
    after = after.replace(microsecond=0, tzinfo=UTC)
    simulated = itertools.islice(CronSim(expression, after.astimezone(zone)), 5)
    # cronsim gives the same moment twice if several local times fall into a gap.
    expected = list(dict.fromkeys(to_us(moment.astimezone(UTC)) for moment in simulated))

    assert preview(trigger, to_us(after), len(expected)) == expected


# --- the engine's own assumptions ------------------------------------------------------------------


@given(
    hours=st.sets(st.integers(0, 23), min_size=1),
    minutes=st.sets(st.integers(0, 59), min_size=1),
    seconds=st.sets(st.integers(0, 59), min_size=1),
    second=st.integers(0, DAY_S - 1),
)
def test_the_rank_of_a_time_of_day_is_the_number_of_matches_before_it(
    hours: set[int], minutes: set[int], seconds: set[int], second: int
) -> None:
    times = TimesOfDay(sorted(hours), sorted(minutes), sorted(seconds))

    rank = times.rank(second)

    assert rank == times.total or times.at(rank) >= second
    assert rank == 0 or times.at(rank - 1) < second


def test_no_zone_has_a_seam_whose_fold_spans_the_end_of_a_utc_year() -> None:
    """The stretches are cut there; a fold cut in two would be half forgotten."""
    for key in sorted(zoneinfo.available_timezones()):
        zone = zoneinfo.ZoneInfo(key)
        for year in range(1971, 2038):
            midnight = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
            if _offset_at(zone, midnight - DAY_S) == _offset_at(zone, midnight + DAY_S):
                continue
            for before, after in itertools.pairwise([*stretches(zone, year - 1)[-2:], *stretches(zone, year)[:2]]):
                if after.offset < before.offset:
                    fold = before.offset - after.offset
                    assert abs(after.start - midnight) >= fold or after.start == midnight, (key, year)


@pytest.mark.parametrize("key", ["Europe/Berlin", "Pacific/Apia", "Africa/Casablanca", "America/Caracas", "UTC"])
def test_the_stretches_of_a_zone_join_without_a_hole(key: str) -> None:
    zone = zoneinfo.ZoneInfo(key)
    joined = [stretch for year in range(1970, 2045) for stretch in stretches(zone, year)]

    for before, after in itertools.pairwise(joined):
        assert before.end == after.start
        assert (before.after, after.before) == (after.offset, before.offset)
        assert _offset_at(zone, after.start - 1) == before.offset
        assert _offset_at(zone, after.start) == after.offset


def test_equal_days_are_shared_between_triggers() -> None:
    first, second = (parse_trigger({"type": "cron", "expression": f"{minute} 3 * * MON"}) for minute in (1, 2))

    assert isinstance(first, CronTrigger)
    assert isinstance(second, CronTrigger)
    assert first.times.pattern.days is second.times.pattern.days
