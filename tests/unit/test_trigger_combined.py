"""``or``, ``and`` and ``except`` are exact sets; what they can't count by arithmetic they count in bounded steps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import Trigger, load_trigger, parse_trigger, preview
from schedule_zero.timing.combination import REACH_STEPS, SEARCH_STEPS, Combination
from schedule_zero.timing.combined import AndTrigger, ExceptTrigger, OrTrigger
from schedule_zero.timing.trigger import LATEST_US
from tests.unit.trigger_bed import (
    DAY,
    HOUR,
    MINUTE,
    PLACES,
    SECOND,
    Document,
    backward,
    combinations,
    forward,
    middle_us,
)

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000


def cron(expression: str, zone: str = "UTC", **more: Any) -> Document:
    return {"type": "cron", "expression": expression, "timezone": zone, **more}


def every(seconds: float, start: int = 0) -> Document:
    return {"type": "interval", "seconds": seconds, "start": start}


def either(*triggers: Document, **more: Any) -> Document:
    return {"type": "or", "triggers": list(triggers), **more}


def both(*triggers: Document, **more: Any) -> Document:
    return {"type": "and", "triggers": list(triggers), **more}


def without(trigger: Document, removed: Document, **more: Any) -> Document:
    return {"type": "except", "trigger": trigger, "except": removed, **more}


# --- exact sets ------------------------------------------------------------------------------------


def by_definition(trigger: Trigger, after_us: int, upto_us: int) -> set[int]:
    """The set that a combination is, from the lists of its members."""
    if not isinstance(trigger, Combination):
        return set(forward(trigger, after_us, upto_us))
    parts = [by_definition(part, after_us, upto_us) for part in trigger.parts]
    if isinstance(trigger, OrTrigger):
        found = set.union(*parts)
    elif isinstance(trigger, AndTrigger):
        found = set.intersection(*parts)
    else:
        assert isinstance(trigger, ExceptTrigger)
        found = parts[0] - parts[1]
    start_us, end_us = trigger.span.start_us, trigger.span.end_us
    return {us for us in found if (start_us is None or us >= start_us) and (end_us is None or us <= end_us)}


def check(trigger: Trigger, low_us: int, high_us: int, at_us: int) -> None:
    expected = sorted(by_definition(trigger, low_us, high_us))
    assert forward(trigger, low_us, high_us) == expected
    assert backward(trigger, low_us, high_us) == expected
    assert trigger.count(low_us, high_us) == len(expected)
    assert trigger.count(low_us, at_us) == sum(us <= at_us for us in expected)
    assert trigger.count(at_us, high_us) == sum(us > at_us for us in expected)


@settings(max_examples=150)
@given(st.data())
def test_a_combination_is_the_union_intersection_or_difference_of_its_members(data: st.DataObject) -> None:
    zone, day = data.draw(st.sampled_from(PLACES))
    try:
        trigger = parse_trigger(data.draw(combinations(zone, day)))
    except InvalidTrigger:
        # 31 February, intervals that never meet.
        assume(False)
    # One each second for two days is more than a test should list.
    assume(sum(leaf.per_day for leaf in trigger.leaves) < 2000)
    low_us, high_us = middle_us(day) - DAY, middle_us(day) + DAY

    check(trigger, low_us, high_us, data.draw(st.integers(low_us, high_us)))


DENSE = [
    both(cron("* * * * *"), cron("* 1-3 * * *", "{zone}")),
    both(every(20), cron("*/10 * 1-3,22,23 * * *", "{zone}")),
    both(cron("*/10 * * * *", "{zone}"), cron("*/5 1-3 * * *", "{zone}", dst_fold="first", dst_gap="shift")),
    without(cron("* * * * *", "{zone}"), cron("* 0-2,23 * * *", "{zone}")),
    without(every(30, 30), cron("*/30 * 0-2 * * *", "{zone}", dst_fold="second")),
    without(cron("*/2 * * * *"), either(cron("*/2 0-1 * * *", "{zone}"), every(120, 60), cron("* 2 * * *", "{zone}"))),
    without(every(600), every(300)),
    both(cron("0 * * * *", "{zone}"), either(every(3600), every(3600, 1800))),
]


def in_zone(document: Any, zone: str) -> Any:
    if isinstance(document, dict):
        return {key: in_zone(value, zone) for key, value in document.items()}
    if isinstance(document, list):
        return [in_zone(value, zone) for value in document]
    return zone if document == "{zone}" else document


@pytest.mark.parametrize(("zone", "day"), PLACES)
@pytest.mark.parametrize("document", DENSE)
def test_whole_runs_of_equal_times_are_stepped_over_without_losing_one_at_a_clock_change(
    document: Document, zone: str, day: str
) -> None:
    trigger = parse_trigger(in_zone(document, zone))
    low_us, high_us = middle_us(day) - DAY, middle_us(day) + DAY

    check(trigger, low_us, high_us, middle_us(day) + 2 * HOUR)


@given(
    st.lists(st.tuples(st.integers(1, 24), st.integers(0, 60)), min_size=2, max_size=4),
    st.integers(0, 5000),
)
def test_intervals_meet_where_arithmetic_says_or_are_refused(intervals: list[tuple[int, int]], at: int) -> None:
    starts = max(start for _, start in intervals)
    expected = [
        second for second in range(starts, 20_000) if all((second - start) % period == 0 for period, start in intervals)
    ]
    document = both(*(every(period, start) for period, start in intervals))
    # Within the least common multiple of the periods, or never.
    if not any(
        all((second - start) % period == 0 for period, start in intervals)
        for second in range(starts, starts + math.lcm(*(period for period, _ in intervals)))
    ):
        with pytest.raises(InvalidTrigger, match="intervals in it never meet"):
            parse_trigger(document)
        return

    trigger = parse_trigger(document)

    assert forward(trigger, -1, 19_999 * SECOND) == [second * SECOND for second in expected]
    assert trigger.count(at * SECOND, 19_999 * SECOND) == sum(second > at for second in expected)
    assert trigger.last_before(20_000 * SECOND) == (expected[-1] * SECOND if expected else None)


def test_a_moment_that_several_members_share_is_one_nominal_time() -> None:
    trigger = parse_trigger(either(every(60), every(90), cron("* * * * *")))

    assert preview(trigger, 0, 4) == [60 * SECOND, 90 * SECOND, 120 * SECOND, 180 * SECOND]
    assert trigger.count(0, 180 * SECOND) == 4


def test_start_and_end_of_a_combination_are_included() -> None:
    trigger = parse_trigger(either(every(60), cron("30 0 * * *"), start=120, end=240))

    assert preview(trigger, 0, 9) == [120 * SECOND, 180 * SECOND, 240 * SECOND]
    assert trigger.last_before(LATEST_US) == 240 * SECOND
    assert trigger.last_before(120 * SECOND) is None


# --- long runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "first"),
    [
        # Half a year of minutes left out; a night of seconds; the working hours of an interval.
        (without(cron("* * * * *"), cron("* * * 1-6,11,12 *")), "2027-07-01T00:00:00Z"),
        (without(cron("* * * * * *"), cron("* * 0-4,13-23 * * *")), "2026-11-21T05:00:00Z"),
        (without(every(10), [cron("* * 6-22 * * *"), cron("* * 4-5 * * *")]), "2026-11-20T23:00:00Z"),
        (without(cron("0 * * * *"), cron("0 * * 11 *")), "2026-12-01T00:00:00Z"),
        (both(cron("* * * * * *"), cron("* * 8-17 * * MON-FRI", "Europe/Berlin")), "2026-11-20T13:24:52Z"),
        (both(cron("0 0 29 2 *"), cron("0 0 * * MON")), "2044-02-29T00:00:00Z"),
    ],
)
def test_a_long_run_is_no_end(document: Document, first: str) -> None:
    trigger = parse_trigger(document, now_us=NOW_US)
    expected = parse_trigger({"type": "date", "run_date": first}).next_after(0)

    assert trigger.next_after(NOW_US) == expected


# --- bounds ----------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions were put to single triggers."""
    count = [0]
    for kind in {type(parse_trigger(document)) for document in (every(1), cron("* * * * *"))}:
        for name in ("next_after", "last_before", "count"):
            monkeypatch.setattr(kind, name, counting(getattr(kind, name), count))
    return count


def counting(method: Any, count: list[int]) -> Any:
    def counted(*args: Any) -> Any:
        count[0] += 1
        return method(*args)

    return counted


@pytest.mark.parametrize(
    "document",
    [
        both(cron("*/2 * * * * *"), cron("1-59/2 * * * * *")),
        without(cron("*/2 * * * * *"), [cron("*/4 * * * * *"), cron("2-59/4 * * * * *")]),
        both(either(cron("*/2 * * * * *"), every(6)), both(cron("1-59/2 * * * * *"), every(3))),
    ],
)
def test_what_never_fires_is_refused_after_bounded_steps(document: Document, asked: list[int]) -> None:
    with pytest.raises(InvalidTrigger, match="this never fires") as caught:
        parse_trigger(document, now_us=NOW_US)

    assert "in 4,000 steps and 50 years after 2026-11-20T13:24:51" in str(caught.value)
    assert caught.value.pointer == "/trigger"
    assert asked[0] < 3 * SEARCH_STEPS


def test_a_stored_trigger_that_never_meets_any_more_is_loaded_and_has_no_time() -> None:
    encoded = msgspec.json.encode(both(cron("0 3 * * *"), cron("1 3 * * *")))

    assert load_trigger(encoded).next_after(NOW_US) is None


COUNTED = [
    either(cron("* * * * *"), every(60, 30)),
    either(every(0.01), cron("0 9 * * *"), cron("0 17 * * *", "Europe/Berlin")),
    both(cron("* * * * * *"), cron("* * 8-17 * * MON-FRI", "Europe/Berlin")),
    both(cron("*/7 * * * *"), every(61)),
    without(every(10), cron("* 0-5 * * *")),
    without(cron("* * * * * *"), cron("* * 0-5 * * *")),
    without(either(every(10), every(15)), both(every(30), cron("* 0-5 * * *"))),
    either(*(cron(f"*/{step} * * * * *") for step in range(1, 21))),
]


@pytest.mark.parametrize("document", COUNTED)
def test_counting_within_reach_takes_bounded_steps_and_gets_on(document: Document, asked: list[int]) -> None:
    trigger = parse_trigger(document, now_us=NOW_US)
    at_us, far_us = NOW_US, NOW_US + 3650 * DAY
    for _ in range(3):
        asked[0] = 0
        reached_us = trigger.reach(at_us, far_us)
        assert asked[0] < 3 * REACH_STEPS
        assert reached_us is not None
        assert reached_us >= at_us + MINUTE, "a round that decides next to nothing"
        asked[0] = 0
        trigger.count(at_us, reached_us)
        assert asked[0] < 3 * REACH_STEPS
        at_us = reached_us


@pytest.mark.parametrize("document", COUNTED)
def test_a_short_way_is_known_to_be_cheap_without_a_look(document: Document, asked: list[int]) -> None:
    trigger = parse_trigger(document, now_us=NOW_US)
    asked[0] = 0

    assert trigger.reach(NOW_US, NOW_US + 2 * SECOND) is None
    assert asked[0] == 0


@pytest.mark.parametrize("document", [*COUNTED, without(cron("* * * * *"), cron("*/2 * * * *", "Europe/Berlin"))])
def test_what_is_said_to_be_cheap_is_cheap(document: Document, asked: list[int]) -> None:
    trigger = parse_trigger(document, now_us=NOW_US)
    length_us = DAY * 1000
    while trigger.reach(NOW_US, NOW_US + length_us) is not None:
        length_us = length_us * 9 // 10
    asked[0] = 0

    trigger.count(NOW_US, NOW_US + length_us)

    assert asked[0] < 3 * REACH_STEPS


@pytest.mark.parametrize("document", COUNTED)
def test_counting_in_parts_adds_up(document: Document) -> None:
    trigger = parse_trigger(document, now_us=NOW_US)
    cuts = [NOW_US, NOW_US + 7 * MINUTE, NOW_US + HOUR, NOW_US + HOUR + 1]

    parts = [trigger.count(low, high) for low, high in itertools.pairwise(cuts)]

    assert sum(parts) == trigger.count(cuts[0], cuts[-1])


def test_single_triggers_count_by_arithmetic_and_set_no_limit() -> None:
    for document in (
        every(0.001),
        cron("* * * * * *"),
        {"type": "calendar", "days": 1},
        {"type": "date", "run_date": 0},
    ):
        assert parse_trigger(document).reach(0) is None


# --- documents -------------------------------------------------------------------------------------


def test_a_list_of_triggers_means_that_each_of_them_fires() -> None:
    trigger = parse_trigger([cron("0 9 * * *"), cron("0 17 * * *")])

    assert trigger.document() == either(cron("0 9 * * *"), cron("0 17 * * *"))
    assert trigger == parse_trigger(trigger.document())
    assert parse_trigger([cron("0 9 * * *")]) == parse_trigger(cron("0 9 * * *"))


def test_the_zone_of_a_combination_is_meant_by_members_that_name_none() -> None:
    document = {"type": "or", "timezone": "Asia/Tokyo", "triggers": [{"type": "cron", "hour": 9}, cron("0 9 * * *")]}

    trigger = parse_trigger(document, zone="Europe/Berlin")

    assert trigger.document() == either(cron("0 9 * * *", "Asia/Tokyo"), cron("0 9 * * *"))
    assert trigger.zone_key == "Asia/Tokyo"


def nested(depth: int) -> Document:
    document = every(60)
    for _ in range(depth):
        document = either(document, every(60))
    return document


@pytest.mark.parametrize(
    ("document", "pointer", "message"),
    [
        ({"type": "or"}, "/trigger/triggers", "a list of two or more, got null"),
        (either(every(60)), "/trigger/triggers", "two or more, got 1 of them"),
        ({"type": "and", "triggers": {}}, "/trigger/triggers", "two or more, got an object"),
        (both(every(60), {"type": "cron"}), "/trigger/triggers/1", "expected expression"),
        ([every(60), {"type": "cron", "hour": 99}], "/trigger/1/hour", "hour: expected 0–23"),
        ([{"type": "moon"}], "/trigger/0/type", "expected a trigger type"),
        (either(every(60), 5), "/trigger/triggers/1", "expected an object with a type, got a number"),
        ({"type": "except", "trigger": every(60)}, "/trigger/except", "expected a trigger, got null"),
        ({"type": "except", "except": every(60)}, "/trigger/trigger", "expected a trigger, got null"),
        (either(every(60), every(90), start=10, end=5), "/trigger/end", "before the start"),
        ({**either(every(60), every(90)), "trigger": {}}, "/trigger/trigger", "unknown key trigger"),
        (nested(6), "/trigger" + "/triggers/0" * 5, "at most 5 combinations in one another"),
        ([every(60)] * 21, "/trigger/20", "at most 20 triggers in a combination"),
        (either(either(*[every(60)] * 11), either(*[every(60)] * 11)), "/trigger/triggers/1/triggers/9", "at most 20"),
        (both(every(2), every(4, 1)), "/trigger", "intervals in it never meet"),
    ],
)
def test_a_wrong_combination_is_refused_with_a_pointer(document: object, pointer: str, message: str) -> None:
    with pytest.raises(InvalidTrigger, match=message) as caught:
        parse_trigger(document, now_us=NOW_US)

    assert caught.value.pointer == pointer


def test_a_list_of_lists_cannot_go_deeper_than_its_document() -> None:
    document: Any = every(60)
    for _ in range(5):
        document = [document, every(90)]
    assert load_trigger(parse_trigger(document).encoded()) == parse_trigger(document)

    with pytest.raises(InvalidTrigger, match="at most 5 combinations"):
        parse_trigger([document, every(90)])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            [cron("0 9 * * *", "Europe/Berlin"), every(3600)],
            "At 09:00 (Europe/Berlin); or every hour, from 1970-01-01T00:00:00.000000Z",
        ),
        (
            both(cron("0 12 13 * *"), cron("0 12 * * FRI")),
            "when these coincide: At 12:00, on day 13 of the month (UTC); and At 12:00, only on Friday (UTC)",
        ),
        (
            without(either(cron("0 9 * * *"), cron("0 17 * * *")), cron("0 9 * * SUN")),
            "(At 09:00 (UTC); or At 17:00 (UTC)); except At 09:00, only on Sunday (UTC)",
        ),
    ],
)
def test_a_combination_is_told_in_words(document: object, words: str) -> None:
    assert parse_trigger(document, now_us=NOW_US).words() == words
