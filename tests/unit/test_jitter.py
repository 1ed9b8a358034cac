"""Jitter is drawn, not diced: bounded, spread out, and the same when a fire is decided again."""

from __future__ import annotations

from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import Spread
from schedule_zero.rules.jitter import jitter_us

S = 1_000_000


@given(
    spread=st.sampled_from(Spread),
    most_s=st.floats(0, 86_400),
    schedule_id=st.text(min_size=1),
    nominal_us=st.integers(0, 2**53),
)
def test_it_lies_between_nothing_and_the_most_that_is_allowed(
    spread: Spread, most_s: float, schedule_id: str, nominal_us: int
) -> None:
    drawn = jitter_us(spread, most_s, schedule_id, nominal_us)

    assert 0 <= drawn <= round(most_s * S)
    assert drawn == jitter_us(spread, most_s, schedule_id, nominal_us)


def test_hash_is_the_same_for_every_fire_of_a_schedule_and_another_for_another() -> None:
    assert len({jitter_us(Spread.HASH, 60, "a", n * 60 * S) for n in range(100)}) == 1
    assert len({jitter_us(Spread.HASH, 60, f"s{n}", 0) for n in range(100)}) == 100


def test_uniform_is_another_for_every_fire() -> None:
    assert len({jitter_us(Spread.UNIFORM, 60, "a", n * 60 * S) for n in range(100)}) == 100


def test_many_are_spread_over_the_whole_of_it() -> None:
    for spread in Spread:
        drawn = [jitter_us(spread, 60, f"s{n}", 7 * S) / S for n in range(2000)]
        assert 28 < fmean(drawn) < 32
        # A tenth of them in each tenth, give or take a third.
        tenths = [sum(6 * n <= us < 6 * (n + 1) for us in drawn) for n in range(10)]
        assert all(130 < size < 270 for size in tenths)


def test_a_known_draw_stays_what_it_is_in_every_version() -> None:
    """Executions that are stored with their moment, and fires that are decided again after an upgrade, agree."""
    assert jitter_us(Spread.HASH, 60, "nightly", 0) == 57_594_034
    assert jitter_us(Spread.UNIFORM, 60, "nightly", 1_700_000_000 * S) == 17_691_443
