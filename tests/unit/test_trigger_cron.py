"""What cron expressions mean: sentence by sentence after crontab(5), and beside croniter.

cronsim parses for us; croniter is another author's reading of the same rules, and only used here. Where the two
readings differ, the difference stands in a table, with the reason.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterError, croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import parse_trigger, preview
from tests.unit.trigger_bed import forward

# A Friday.
NOW = datetime(2026, 11, 20, 13, 24, 51, tzinfo=UTC)


def ours(expression: str, n: int = 4, after: datetime = NOW, zone: str = "UTC") -> list[datetime] | str:
    """The next fires, or why it is refused."""
    try:
        trigger = parse_trigger({"type": "cron", "expression": expression, "timezone": zone, "seed": "x"})
    except InvalidTrigger as refusal:
        return str(refusal)
    return [from_us(us) for us in preview(trigger, to_us(after), n)]


def theirs(expression: str, n: int = 4, after: datetime = NOW, zone: str = "UTC") -> list[datetime] | str:
    try:
        walk = croniter(expression, after.astimezone(ZoneInfo(zone)), datetime, second_at_beginning=True)
        return [walk.get_next().astimezone(UTC) for _ in range(n)]
    except CroniterError as refusal:
        return str(refusal)


# --- crontab(5) ------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A sentence of crontab(5) with an expression, and the same said in sets of minutes and hours, and of days."""

    says: str
    expression: str
    minutes: set[int]
    hours: set[int]
    # Python, about ``day`` (a datetime) and ``dow`` (0 is Sunday).
    days: str = "True"


ALL_MINUTES, ALL_HOURS = set(range(60)), set(range(24))
CRONTAB_5 = [
    Case("A field may be an asterisk (*), which always stands for first-last.", "* * * * *", ALL_MINUTES, ALL_HOURS),
    Case("Ranges are two numbers separated with a hyphen, inclusive: 8-11", "0 8-11 * * *", {0}, {8, 9, 10, 11}),
    Case("A list is a set of numbers (or ranges) separated by commas: 1,2,5,9", "0 1,2,5,9 * * *", {0}, {1, 2, 5, 9}),
    Case("… 0-4,8-12", "0 0-4,8-12 * * *", {0}, {0, 1, 2, 3, 4, 8, 9, 10, 11, 12}),
    Case("Step values with ranges: 0-23/2 is every other hour", "0 0-23/2 * * *", {0}, set(range(0, 24, 2))),
    Case("… the alternative in the V7 standard", "0 0,2,4,6,8,10,12,14,16,18,20,22 * * *", {0}, set(range(0, 24, 2))),
    Case("Steps are also permitted after an asterisk: every two hours, */2", "0 */2 * * *", {0}, set(range(0, 24, 2))),
    Case("Names can be used for the month; case does not matter", "0 0 1 jAn *", {0}, {0}, "day.month == 1 == day.day"),
    Case("… and day of week fields", "0 0 * * Sun", {0}, {0}, "dow == 0"),
    Case("day of week 0-7 (0 or 7 is Sunday, or use names)", "0 0 * * 7", {0}, {0}, "dow == 0"),
    Case("… 0", "0 0 * * 0", {0}, {0}, "dow == 0"),
    Case(
        "If both day fields are restricted, the command will be run when either field matches: 4:30 am on the 1st and "
        "15th of each month, plus every Friday.",
        "30 4 1,15 * 5",
        {30},
        {4},
        "day.day in (1, 15) or dow == 5",
    ),
    Case("… one that begins with * is not restricted", "0 12 */2 * 1", {0}, {12}, "day.day % 2 == 1 and dow == 1"),
    Case("@yearly: run once a year, 0 0 1 1 *", "@yearly", {0}, {0}, "day.day == 1 == day.month"),
    Case("@annually: (same as @yearly)", "@annually", {0}, {0}, "day.day == 1 == day.month"),
    Case("@monthly: 0 0 1 * *", "@monthly", {0}, {0}, "day.day == 1"),
    Case("@weekly: 0 0 * * 0", "@weekly", {0}, {0}, "dow == 0"),
    Case("@daily: 0 0 * * *", "@daily", {0}, {0}),
    Case("@midnight: (same as @daily)", "@midnight", {0}, {0}),
    Case("@hourly: 0 * * * *", "@hourly", {0}, ALL_HOURS),
    Case("run five minutes after midnight, every day", "5 0 * * *", {5}, {0}),
    Case("run at 2:15pm on the first of every month", "15 14 1 * *", {15}, {14}, "day.day == 1"),
    Case("run at 10 pm on weekdays", "0 22 * * 1-5", {0}, {22}, "dow in (1, 2, 3, 4, 5)"),
    Case("run 23 minutes after midn, 2am, 4am …, everyday", "23 0-23/2 * * *", {23}, set(range(0, 24, 2))),
    Case("run at 5 after 4 every sunday", "5 4 * * sun", {5}, {4}, "dow == 0"),
    Case(
        "run every 4th hour on the 1st (and each Monday)",
        "0 */4 1 * mon",
        {0},
        set(range(0, 24, 4)),
        "day.day == 1 or dow == 1",
    ),
    Case("run at 4am on the 8th to the 14th", "0 4 8-14 * *", {0}, {4}, "8 <= day.day <= 14"),
    Case("Blank is any run of spaces and tabs", " 5\t0  * * * ", {5}, {0}),
    Case("a step over a range", "10-30/10 3 * * *", {10, 20, 30}, {3}),
    Case("a single number is itself", "59 23 31 12 *", {59}, {23}, "day.month == 12 and day.day == 31"),
]


@pytest.mark.parametrize("case", CRONTAB_5, ids=lambda case: case.expression)
def test_an_expression_means_what_crontab_5_says(case: Case) -> None:
    trigger = parse_trigger({"type": "cron", "expression": case.expression})
    start, end = datetime(2026, 12, 20, tzinfo=UTC), datetime(2027, 3, 10, tzinfo=UTC)
    expected = []
    for number in range((end - start).days):
        day = start + timedelta(days=number)
        if eval(case.days, {"day": day, "dow": day.isoweekday() % 7}):
            expected += [day.replace(hour=hour, minute=minute) for hour in case.hours for minute in case.minutes]

    fires = forward(trigger, to_us(start) - 1, to_us(end) - 1, 10**6)

    assert fires == [to_us(moment) for moment in sorted(expected)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 12 L * *", ["2026-11-30", "2026-12-31", "2027-01-31", "2027-02-28"]),
        ("0 12 LW * *", ["2026-11-30", "2026-12-31", "2027-01-29", "2027-02-26"]),
        ("0 12 * * 5L", ["2026-11-27", "2026-12-25", "2027-01-29", "2027-02-26"]),
        ("0 12 * * 0L", ["2026-11-29", "2026-12-27", "2027-01-31", "2027-02-28"]),
        ("0 12 * * FRI#2", ["2026-12-11", "2027-01-08", "2027-02-12", "2027-03-12"]),
        ("0 12 * * 1#5", ["2026-11-30", "2027-03-29", "2027-05-31", "2027-08-30"]),
        ("0 12 L 2 *", ["2027-02-28", "2028-02-29", "2029-02-28", "2030-02-28"]),
        ("0 12 L,15 * *", ["2026-11-30", "2026-12-15", "2026-12-31", "2027-01-15"]),
        ("0 12 * * FRI-SUN", ["2026-11-21", "2026-11-22", "2026-11-27", "2026-11-28"]),
    ],
)
def test_beyond_crontab_5_the_last_and_the_nth_day_work(expression: str, expected: list[str]) -> None:
    assert [f"{fire:%Y-%m-%d}" for fire in ours(expression)] == expected


@pytest.mark.parametrize("expression", [f"0 0 {days}" for days in ("L/2 * *", "LW/3 * *", "1,L/2 * *", "* * 5L/2")])
def test_what_is_one_day_takes_no_step(expression: str) -> None:
    with pytest.raises(InvalidTrigger, match="day"):
        parse_trigger({"type": "cron", "expression": expression})


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 12 */2 * MON", "every 2 days, only on Monday"),
        ("0 12 13 * */2", "on day 13 of the month, only every 2 days of the week"),
        ("0 12 13 * MON-FRI", "on day 13 of the month, or Monday through Friday"),
        ("0 12 *,13 * MON", "only on Monday"),
        ("0 12 LW * MON#1", "on the last weekday of the month, or on the first Monday of the month"),
        ("0 12 29 2 MON#1", "on day 29 of the month, or on the first Monday of the month, only in February"),
        ("0 12 L,1 * *", "on the last day and day 1 of the month"),
        ("0 12 1-10/3,L * *", "on every 3 days from day 1 to 10 and the last day of the month"),
        ("0 12 * * MON#1,5L,sun", "on the first Monday, the last Friday and every Sunday of the month"),
        ("0 12 * * MON,*/3", "on every Monday and every 3 days of the week"),
        ("0 12 * * MON-FRI", "Monday through Friday"),
        ("0 12 * * 1/2", "every 2 days from Monday"),
    ],
)
def test_words_say_which_days_match(expression: str, words: str) -> None:
    assert parse_trigger({"type": "cron", "expression": expression}).words() == f"At 12:00, {words} (UTC)"


def test_words_of_a_list_with_steps_name_each_minute() -> None:
    words = parse_trigger({"type": "cron", "expression": "10/20,50 12 * * *"}).words()

    assert words == "At 10, 30, and 50 minutes past the hour, at 12:00 (UTC)"


def test_words_of_a_star_among_alternatives_are_those_of_every_day() -> None:
    assert parse_trigger({"type": "cron", "expression": "0 12 13,* * MON"}).words() == "At 12:00 (UTC)"


def test_a_sixth_field_in_front_is_the_second() -> None:
    assert [f"{fire:%H:%M:%S}" for fire in ours("*/20 25 * * * *")] == ["13:25:00", "13:25:20", "13:25:40", "14:25:00"]


# --- croniter --------------------------------------------------------------------------------------


def a_field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Numbers, names, ranges, steps and lists, nothing in which the two are known to differ."""
    number = st.integers(low, high).map(str)
    value = number | st.sampled_from(names) if names else number
    pair = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    span = pair.map(lambda ends: f"{ends[0]}-{ends[1]}")
    step = st.builds("{}/{}".format, span, st.integers(1, max(1, (high - low) // 3)))
    stepped_star = st.integers(1, (high - low) // 2).map("*/{}".format)
    term = st.one_of(value, span, step)
    return st.one_of(st.just("*"), stepped_star, st.lists(term, min_size=1, max_size=3).map(",".join))


MONTHS = ("JAN", "feb", "Mar", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "mon", "Tue", "WED", "THU", "FRI", "SAT")


@st.composite
def expressions(draw: st.DrawFn) -> str:
    minute, hour = draw(a_field(0, 59)), draw(a_field(0, 23))
    day = draw(a_field(1, 31) | st.sampled_from(["L", "L", "*"]))
    month = draw(a_field(1, 12, MONTHS) | st.just("*"))
    weekday = draw(a_field(0, 6, WEEKDAYS) | st.sampled_from(["*", "*", "1-5", "7", "SUN#1", "FRI#3", "2#5"]))
    if day != "*" and weekday != "*" and (day.startswith("*") or weekday.startswith("*") or "#" in weekday):
        # Known differences, see below.
        weekday = "*"
    second = draw(st.none() | a_field(0, 59))
    return " ".join([*([] if second is None else [second]), minute, hour, day, month, weekday])


@settings(max_examples=150)
@given(
    expression=expressions(),
    after=st.datetimes(datetime(1971, 1, 1), datetime(2080, 1, 1)),
    # Zones without daylight saving: croniter has other rules for it, and the definition is tested elsewhere.
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Asia/Tokyo", "America/Bogota"]),
)
def test_croniter_reads_it_in_the_same_way(expression: str, after: datetime, zone: str) -> None:
    if zone != "UTC":
        after = after.replace(year=2000 + after.year % 60)
    after = after.replace(microsecond=0, tzinfo=UTC)

    mine, other = ours(expression, 5, after, zone), theirs(expression, 5, after, zone)

    if isinstance(mine, str) or isinstance(other, str):
        # 30 February: refused by us at once, by croniter when it is asked.
        assert "never fires" in mine
        assert "failed to find" in other
    else:
        assert mine == other, expression


class Difference(NamedTuple):
    expression: str
    reason: str
    # Days of the next fires, or a part of the refusal.
    ours: list[int] | str
    theirs: list[int] | str


KNOWN_DIFFERENCES = [
    Difference(
        "0 12 */2 * MON",
        "a day field that begins with * does not restrict, in Debian's reading: both have to match",
        [23, 7, 21, 11],
        [21, 23, 25, 27],
    ),
    Difference("0 12 1 * */2", "the same the other way round", [1, 1, 1, 1], [21, 22, 24, 26]),
    Difference(
        "0 12 1 * SUN#1", "an nth weekday is an alternative to a day, as any weekday is", [1, 6, 1, 3], [6, 3, 7, 7]
    ),
    Difference("0 12 LW * *", "there is no last weekday in croniter", [30, 31, 29, 26], "not acceptable"),
    Difference("0 12 * * 5L", "the last Friday is 5L as in Quartz, L5 there", [27, 25, 29, 26], "not acceptable"),
    Difference("0 12 * * L5", "and the other way round", "day_of_week: expected", [27, 25, 29, 26]),
    Difference("0 12 15W * *", "there is no nearest weekday here", "day: expected", [15, 15, 15, 15]),
    Difference(
        "0 12 * * FRI-MON", "a range that goes round is refused, except to Sunday", "day_of_week:", [21, 22, 23, 27]
    ),
    Difference("10-5 0 * * *", "the same in other fields", "minute: expected", [21, 21, 21, 21]),
    Difference("0 12 * * MON#1,FRI", "nth days may stand in a list", [27, 4, 7, 11], "does not support mixing"),
    Difference("0 0 * * 1/2", "N/step goes to the end of the field, which is 7", [22, 23, 25, 27], [23, 25, 27, 30]),
    Difference("*/100 * * * *", "a step that selects only one value is refused", "a step of 100", [20, 20, 20, 20]),
    Difference("0 0 ? * MON", "* says it, there is no ?", "day: expected", [23, 30, 7, 14]),
    Difference("0 0 31 2 *", "what never comes is refused when it is read", "this never fires", "failed to find"),
    Difference("@reboot", "a trigger of its own", 'expected {"type": "startup"}', "columns has to be specified"),
]


@pytest.mark.parametrize("difference", KNOWN_DIFFERENCES, ids=lambda difference: difference.expression)
def test_the_known_differences_to_croniter_are_these(difference: Difference) -> None:
    for found, expected in (
        (ours(difference.expression), difference.ours),
        (theirs(difference.expression), difference.theirs),
    ):
        if isinstance(expected, str):
            assert expected in found
        else:
            assert [fire.day for fire in found] == expected


def test_aliases_stay_on_the_hour_here_and_are_spread_there() -> None:
    spread = croniter("@daily", NOW, datetime, hash_id="x")

    assert [fire.hour * 60 + fire.minute for fire in ours("@daily")] == [0, 0, 0, 0]
    assert all(fire.minute for fire in itertools.islice(spread, 4))
    assert ours("@daily") == theirs("@daily")
