"""Ids grow within a process, whatever the clock does, and never repeat."""

from __future__ import annotations

from schedule_zero.model import IdSource, new_id
from tests.support import ManualClock


def test_ids_of_one_process_grow_and_never_repeat() -> None:
    ids = [new_id() for _ in range(20_000)]

    assert ids == sorted(set(ids))
    assert {len(id_) for id_ in ids} == {26}


def test_ids_grow_over_every_carry_within_one_millisecond(clock: ManualClock) -> None:
    source = IdSource(clock, lambda count: b"\x00" * (count - 2) + b"\xff\xfa")
    ids = [source.new() for _ in range(3_000)]

    assert ids == sorted(set(ids))


def test_a_clock_that_steps_back_does_not_make_ids_shrink(clock: ManualClock) -> None:
    source = IdSource(clock)
    before = source.new()
    clock.step_wall(-3600)
    after = source.new()

    assert after > before


def test_the_first_characters_are_the_time(clock: ManualClock) -> None:
    early = IdSource(clock).new()
    clock.advance(0.001)
    late = IdSource(clock).new()

    assert late[:10] > early[:10]
