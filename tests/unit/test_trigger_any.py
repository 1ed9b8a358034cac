"""What holds for triggers of every type: their order, their three questions, their documents, and that a preview is
what fires."""

from __future__ import annotations

import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.model import FireOutcome
from schedule_zero.rules.catchup import Policy, decide
from schedule_zero.timing import Trigger, load_trigger, parse_trigger, preview
from schedule_zero.timing.combination import leaves_of
from schedule_zero.timing.wallclock import WallClockTrigger
from tests.unit.trigger_bed import DAY, HOUR, PLACES, SECOND, any_document, middle_us

FAR: list[dict[str, Any]] = [
    {"type": "date", "run_date": 1_800_000_000},
    {"type": "interval", "milliseconds": 1500, "start": 1_700_000_000.5, "end": 1_900_000_000},
    {"type": "interval", "weeks": 3},
    {"type": "interval", "minutes": 5, "anchor": "end", "start": 1_800_000_000.25},
    {"type": "cron", "expression": "*/7 3,4 * * *", "timezone": "America/New_York", "start": 1_750_000_000.25},
    {"type": "cron", "expression": "0 0 29 2 MON#5", "end": "2070-01-01"},
    {"type": "cron", "expression": "*/13 * * * * *", "timezone": "Europe/Berlin", "end": 1_950_000_000},
    {"type": "cron", "expression": "H H(0-7) H * *", "timezone": "Europe/Berlin", "seed": "nightly"},
    {"type": "calendar", "months": 5, "at": "02:30", "start_date": "2020-08-31", "timezone": "Europe/Berlin"},
    {"type": "calendar", "days": 3, "at": "23:59:59", "start_date": "2020-01-01", "end_date": "2060-01-01"},
    {"type": "calendar", "weeks": 9, "on": ["SUN", "WED"], "start_date": "2020-01-01", "timezone": "Asia/Kolkata"},
    {"type": "calendar", "years": 3, "month": 2, "on": ["5th monday", "29th day"], "start_date": "1972-01-01"},
    {"type": "calendar", "years": 100, "start_date": "1972-02-29"},
    {"type": "startup"},
    {"type": "manual"},
    {"type": "or", "triggers": [{"type": "interval", "days": 40}, {"type": "cron", "expression": "0 0 1 * *"}]},
    {"type": "and", "triggers": [{"type": "interval", "days": 40}, {"type": "cron", "expression": "0 0 * * MON"}]},
    {
        "type": "except",
        "trigger": {"type": "cron", "expression": "0 * * * *", "timezone": "Europe/Berlin"},
        "except": {"type": "cron", "expression": "0 * * 4-9 *", "timezone": "Europe/Berlin"},
        "start": 1_000_000_000,
    },
]


@given(st.sampled_from(FAR), st.integers(0, 3_000_000_000_000_000), st.integers(0, 3_000_000_000_000_000))
def test_next_last_and_count_agree_at_any_time(document: dict[str, Any], us: int, other_us: int) -> None:
    check_agreement(parse_trigger(document).bound(2_000_000_000 * SECOND), us, other_us)


@given(st.data())
def test_next_last_and_count_agree_around_changes_of_the_clock(data: st.DataObject) -> None:
    zone, day = data.draw(st.sampled_from(PLACES))
    trigger = drawn(data, zone, day)
    middle = middle_us(day)
    moments = st.integers(middle - 2 * DAY, middle + 2 * DAY) | st.integers(-60, 60).map(
        lambda m: middle + m * 60 * SECOND
    )
    check_agreement(trigger, data.draw(moments), data.draw(moments))


def check_agreement(trigger: Trigger, us: int, other_us: int) -> None:
    nominal_us = trigger.next_after(us)
    if nominal_us is None:
        assert trigger.count(us, us + 5 * DAY) == 0
        return
    assert nominal_us > us
    assert trigger.has(nominal_us)
    assert trigger.count(us, nominal_us) == 1
    assert trigger.count(us, nominal_us - 1) == 0
    assert trigger.last_before(nominal_us + 1) == nominal_us
    before_us = trigger.last_before(nominal_us)
    assert before_us is None or (before_us <= us and trigger.next_after(before_us) == nominal_us)
    low_us, high_us = sorted((us, other_us))
    high_us = min(high_us, low_us + 100 * DAY)
    middle_us_ = (low_us + high_us) // 2
    assert trigger.count(low_us, middle_us_) + trigger.count(middle_us_, high_us) == trigger.count(low_us, high_us)


def drawn(data: st.DataObject, zone: str, day: str) -> Trigger:
    try:
        return parse_trigger(data.draw(any_document(zone, day)))
    except InvalidTrigger:
        # 31 February, intervals that never meet: refused, and tested elsewhere.
        assume(False)
        raise AssertionError from None


@given(st.sampled_from(FAR), st.integers(0, 2_000_000_000_000_000))
def test_nominal_times_are_strictly_increasing(document: dict[str, Any], after_us: int) -> None:
    nominal_times = preview(parse_trigger(document), after_us, 30)

    assert all(earlier < later for earlier, later in itertools.pairwise([after_us, *nominal_times]))


@given(st.data())
def test_every_nominal_time_is_one_that_the_rule_names_in_its_zone(data: st.DataObject) -> None:
    """In the zone, by the calendar of Python alone; those made up for after a gap are marked, and are not."""
    zone, day = data.draw(st.sampled_from(PLACES))
    trigger = drawn(data, zone, day)
    single = [leaf for leaf in leaves_of(trigger) if isinstance(leaf, WallClockTrigger)]
    assume(single)
    leaf = data.draw(st.sampled_from(single))

    for us in preview(leaf, middle_us(day) - 2 * DAY, 20):
        local = from_us(us).astimezone(ZoneInfo(zone))
        second_of_day = (local.hour * 60 + local.minute) * 60 + local.second
        pattern = leaf.times.pattern
        named = pattern.times.at(pattern.times.rank(second_of_day) % pattern.times.total) == second_of_day
        named = named and pattern.days.has((local.date() - from_us(0).date()).days)
        assert named == ("dst_gap" not in leaf.marks(us)), local
        assert us % SECOND == 0
        repeated = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        assert ("dst_fold" in leaf.marks(us)) == (repeated and named)


@given(st.data())
def test_the_stored_document_makes_an_equal_trigger_of_equal_bytes(data: st.DataObject) -> None:
    trigger = drawn(data, *data.draw(st.sampled_from(PLACES)))

    stored = load_trigger(trigger.encoded())

    assert stored == trigger
    assert hash(stored) == hash(trigger)
    assert stored.encoded() == trigger.encoded()
    assert stored.words() == trigger.words()


ON_TIME = Policy(grace_us=365 * DAY, window_us=0)


@given(st.data())
def test_a_preview_shows_exactly_what_is_fired(data: st.DataObject) -> None:
    """Both ask one object, which is made of the stored document: the preview at once, the timer's rule round by round,
    as late as it happens to come."""
    zone, day = data.draw(st.sampled_from(PLACES))
    stored = load_trigger(drawn(data, zone, day).encoded())
    start_us = data.draw(st.integers(middle_us(day) - 2 * DAY, middle_us(day)))

    foreseen = preview(stored, start_us, 40)

    fired: list[int] = []
    due_us = stored.next_after(start_us)
    while due_us is not None and len(fired) < len(foreseen):
        late_us = data.draw(st.sampled_from([0, 0, SECOND, 2 * HOUR]))
        plan = decide(stored, due_us, due_us + late_us, ON_TIME)
        assert all(decision.outcome is FireOutcome.EXECUTED for decision in plan.decisions)
        fired += [decision.nominal_us for decision in plan.decisions]
        due_us = plan.next_us
    assert fired[: len(foreseen)] == foreseen
    assert len(foreseen) == 40 or due_us is None


@pytest.mark.parametrize("document", FAR, ids=lambda document: document["type"])
def test_every_type_has_words_a_zone_and_marks(document: dict[str, Any]) -> None:
    trigger = parse_trigger(document)

    assert trigger.words()
    assert ZoneInfo(trigger.zone_key)
    for us in preview(trigger, 0, 3):
        assert set(trigger.marks(us)) <= {"dst_gap", "dst_fold"}
