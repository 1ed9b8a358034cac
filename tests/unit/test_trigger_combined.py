"""``or``, ``and`` and ``except`` are exact sets; what they can't count by arithmetic they count in bounded steps."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import Trigger, parse_trigger
from schedule_zero.timing.combined import AndTrigger, Combination, ExceptTrigger, OrTrigger
from tests.unit.trigger_bed import (
    DAY,
    PLACES,
    backward,
    combinations,
    forward,
    middle_us,
)

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000


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


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_a_combination_is_the_union_intersection_or_difference_of_its_members(data: st.DataObject) -> None:
    zone, day = data.draw(st.sampled_from(PLACES))
    try:
        trigger = parse_trigger(data.draw(combinations(zone, day)))
    except InvalidTrigger:
        assume(False)
    low, high = middle_us(day) - 2 * DAY, middle_us(day) + 2 * DAY
    # One each second for four days is more than a test should list.
    assume(sum(leaf.per_day for leaf in trigger.leaves) < 3_000)

    expected = sorted(by_definition(trigger, low, high))

    assert forward(trigger, low, high) == expected
    assert backward(trigger, low, high) == expected
    at = data.draw(st.integers(low, high))
    assert trigger.count(low, high) == len(expected)
    assert trigger.count(low, at) == sum(us <= at for us in expected)
    assert trigger.count(at, high) == sum(us > at for us in expected)
