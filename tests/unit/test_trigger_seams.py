"""Every change of the clock from 1990 to 2037 in every zone, against the definition of the policies.

The oracle is naive on purpose: it finds the changes by looking at the offset every few hours, then walks minute by
minute (and second by second) around each of them, asks ``zoneinfo`` what the clock on the wall shows, and applies what
the policies say to that. It shares nothing with the engine. Here a sample is taken; ``make test-long`` takes all.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from schedule_zero.timing import Trigger, parse_trigger
from schedule_zero.timing.walltime import stretches
from tests.unit.trigger_bed import SECOND, backward, forward

ZONES = sorted(available_timezones())
FROM, UPTO = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1990, 2038))
LOOK_S = 6 * 3600
# The same zones and changes in every run, some more that have been trouble: half an hour, a whole day, midnight,
# negative daylight saving, an hour and a half, changes within a month.
SAMPLE = sorted(
    {
        *random.Random(19902037).sample(ZONES, 14),
        *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Europe/Dublin"),
        *("Africa/Casablanca", "America/Sao_Paulo", "Asia/Pyongyang", "Antarctica/Troll", "Pacific/Kwajalein"),
    }
)
CHANGES_OF_A_ZONE = 4


class Change(NamedTuple):
    """The clock shows ``before`` more than UTC until ``at``, ``after`` from then on (all in seconds)."""

    at: int
    before: int
    after: int


def offset(zone: ZoneInfo, utc: int) -> int:
    seconds = datetime.fromtimestamp(utc, zone).utcoffset()
    assert seconds is not None
    return int(seconds.total_seconds())


def changes(key: str) -> list[Change]:
    zone = ZoneInfo(key)
    found, known = [], offset(zone, FROM)
    for utc in range(FROM + LOOK_S, UPTO, LOOK_S):
        now = offset(zone, utc)
        if now != known:
            low, high = utc - LOOK_S, utc
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle) == known else (low, middle)
            found.append(Change(high, known, now))
            known = now
    return found


# --- the definition --------------------------------------------------------------------------------


class Tick(NamedTuple):
    """One look at the clock on the wall: what it shows, whether it showed the same before, and will again."""

    utc: int
    local: datetime
    again: bool
    will_be_again: bool


Matches = Callable[[datetime], bool]


def look(key: str, change: Change, moments: Iterable[int]) -> list[Tick]:
    zone, size = ZoneInfo(key), abs(change.after - change.before)

    def wall(utc: int) -> datetime:
        return datetime.fromtimestamp(utc, zone).replace(tzinfo=None, fold=0)

    return [Tick(utc, wall(utc), wall(utc - size) == wall(utc), wall(utc + size) == wall(utc)) for utc in moments]


def missing(change: Change, step: int) -> Iterator[datetime]:
    """The local times that the clock never showed."""
    for local in range(change.at + change.before, change.at + change.after, step):
        yield datetime.fromtimestamp(local, UTC).replace(tzinfo=None)


def by_definition(
    ticks: list[Tick], left_out: list[datetime], change: Change, matches: Matches, gap: str, fold: str
) -> list[int]:
    fires = set()
    for tick in ticks:
        if not matches(tick.local):
            continue
        if fold == "both" or (fold == "first" and not tick.again) or (fold == "second" and not tick.will_be_again):
            fires.add(tick.utc)
    if gap == "shift" and any(map(matches, left_out)):
        fires.add(change.at)
    return sorted(fires)


# --- rules that meet the change --------------------------------------------------------------------


def times_around(change: Change) -> list[datetime]:
    """Local times at the beginning, within, at the end of, and after the gap or the fold."""
    low, high = sorted((change.at + change.before, change.at + change.after))
    return [
        datetime.fromtimestamp(local // 60 * 60, UTC).replace(tzinfo=None)
        for local in (low, (low + high) // 2, high - 60, high, high + 1800)
    ]


def rules(change: Change) -> Iterator[tuple[dict[str, object], Matches]]:
    begin, inside, last, end, after = times_around(change)
    for local in (begin, inside, last, end, after):
        yield (
            {"type": "cron", "expression": f"{local.minute} {local.hour} * * *"},
            lambda at, local=local: (at.hour, at.minute) == (local.hour, local.minute),
        )
    yield {"type": "cron", "expression": "*/20 * * * *"}, lambda at: at.minute % 20 == 0
    hours = sorted({begin.hour, inside.hour, end.hour})
    yield (
        {"type": "cron", "expression": f"{inside.minute} {','.join(map(str, hours))} * * *"},
        lambda at: at.hour in hours and at.minute == inside.minute,
    )
    yield (
        {"type": "cron", "expression": f"* {inside.hour} {inside.day} {inside.month} *"},
        lambda at: (at.month, at.day, at.hour) == (inside.month, inside.day, inside.hour),
    )
    yield (
        {
            "type": "calendar",
            "days": 1,
            "at": f"{inside:%H:%M}",
            "start_date": f"{inside - timedelta(days=9):%Y-%m-%d}",
        },
        lambda at: (at.hour, at.minute) == (inside.hour, inside.minute),
    )


def rules_in_seconds(change: Change) -> Iterator[tuple[dict[str, object], Matches]]:
    begin, inside, _, end, _ = times_around(change)
    yield {"type": "cron", "expression": "*/20 * * * * *"}, lambda at: at.second % 20 == 0
    for local in (begin, inside, end):
        yield (
            {"type": "cron", "expression": f"0,59 {local.minute} {local.hour} * * *"},
            lambda at, local=local: at.second in (0, 59) and (at.hour, at.minute) == (local.hour, local.minute),
        )


def check(trigger: Trigger, ticks: list[Tick], expected: list[int], where: object) -> None:
    low_us, high_us = ticks[0].utc * SECOND, ticks[-1].utc * SECOND
    expected_us = [utc * SECOND for utc in expected]
    assert forward(trigger, low_us - 1, high_us) == expected_us, where
    assert backward(trigger, low_us - 1, high_us) == expected_us, where
    assert trigger.count(low_us - 1, high_us) == len(expected), where
    # The middle is the change itself, or where its hour begins or ends: once excluded, once included.
    middle_us = ticks[len(ticks) // 2].utc * SECOND
    assert trigger.has(middle_us) == (middle_us in expected_us), where
    assert trigger.count(middle_us - 1, middle_us) == (middle_us in expected_us), where
    assert (trigger.last_before(middle_us + 1) == middle_us) == (middle_us in expected_us), where
    for at_us in (middle_us - 1, middle_us):
        assert trigger.count(low_us - 1, at_us) == sum(us <= at_us for us in expected_us), where
        assert trigger.count(at_us, high_us) == sum(us > at_us for us in expected_us), where


def check_change(key: str, change: Change) -> None:
    size = abs(change.after - change.before)
    assert change.at % 60 == change.before % 60 == change.after % 60 == 0
    reach = size + 5400
    minutes = look(key, change, range(change.at - reach, change.at + reach, 60))
    check_rules(key, change, minutes, list(missing(change, 60)), rules(change))
    for at in (change.at - size, change.at, change.at + size):
        seconds = look(key, change, range(at - 90, at + 90))
        # The change itself has to be seen, for what it left out.
        left_out = list(missing(change, 1)) if at == change.at and size <= 7200 else []
        if at == change.at and not left_out and change.after > change.before:
            continue
        check_rules(key, change, seconds, left_out, rules_in_seconds(change))


def check_rules(
    key: str,
    change: Change,
    ticks: list[Tick],
    left_out: list[datetime],
    documents: Iterator[tuple[dict[str, object], Matches]],
) -> None:
    for document, matches in documents:
        for gap in ("shift", "skip"):
            for fold in ("first", "second", "both"):
                policy = {"timezone": key, "dst_gap": gap, "dst_fold": fold}
                expected = by_definition(ticks, left_out, change, matches, gap, fold)
                check(parse_trigger(document | policy), ticks, expected, (document, policy, change))
        # Without a policy of its own: cron goes by Vixie's rule, a calendar trigger by that of fixed times.
        by_real_time = document.get("expression") in {"*/20 * * * *", "*/20 * * * * *"} or (
            str(document.get("expression")).startswith("* ")
        )
        usual = ("skip", "both") if by_real_time else ("shift", "first")
        expected = by_definition(ticks, left_out, change, matches, *usual)
        check(parse_trigger(document | {"timezone": key}), ticks, expected, (document, usual, change))


def check_stretches(key: str, found: list[Change]) -> None:
    """What the engine cuts a zone into is what the naive look finds, and nothing comes within a week."""
    cuts = [
        Change(stretch.start, stretch.before, stretch.offset)
        for year in range(1990, 2038)
        for stretch in stretches(ZoneInfo(key), year)
        if stretch.before != stretch.offset
    ]
    assert [cut for cut in cuts if FROM < cut.at < UPTO] == found
    assert all(later.at - earlier.at >= 6 * 86_400 for earlier, later in itertools.pairwise(found))


@pytest.mark.parametrize("key", SAMPLE)
def test_a_sample_of_changes_of_the_clock_is_what_the_policies_say(key: str) -> None:
    found = changes(key)
    check_stretches(key, found)
    for change in random.Random(key).sample(found, min(len(found), CHANGES_OF_A_ZONE)):
        check_change(key, change)


# What this process has checked already: many names stand for the same zone.
CHECKED: set[tuple[Change, ...]] = set()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("key", ZONES)
def test_every_change_of_the_clock_is_what_the_policies_say(key: str) -> None:
    found = changes(key)
    check_stretches(key, found)
    if tuple(found) in CHECKED:
        return
    for change in found:
        check_change(key, change)
    CHECKED.add(tuple(found))
