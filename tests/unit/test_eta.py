"""How long something takes that tells its progress."""

from __future__ import annotations

import pytest

from schedule_zero.rules.eta import Trail, advance, eta_s

S = 1_000_000


def trail(*reports: tuple[float, float | None]) -> Trail:
    made = None
    for at_s, percent in reports:
        made = advance(made, percent, "", round(at_s * S))
    assert made is not None
    return made


def test_at_an_even_pace_the_rest_takes_its_share():
    assert eta_s(trail((0, 0), (10, 25)), 10 * S) == 30.0


def test_time_that_passes_shortens_what_is_left():
    assert eta_s(trail((0, 0), (10, 25)), 20 * S) == 20.0


def test_a_stalled_job_is_reckoned_anew_and_never_negative():
    stalled = trail((0, 0), (10, 50))
    assert eta_s(stalled, 20 * S) == 0.0
    assert eta_s(stalled, 40 * S) == 40.0


@pytest.mark.parametrize("reports", [[(0, 10)], [(0, None)], [(0, 10), (5, 10)], [(0, 10), (5, None)]])
def test_without_two_reports_that_came_forward_nothing_is_said(reports):
    assert eta_s(trail(*reports), 6 * S) is None


def test_done_is_done():
    assert eta_s(trail((0, 10), (5, 100)), 6 * S) == 0.0
    assert eta_s(trail((0, 100)), 6 * S) == 0.0


def test_a_job_that_begins_anew_is_measured_anew():
    assert eta_s(trail((0, 0), (10, 90), (11, 0), (21, 50)), 21 * S) == 10.0


def test_a_slow_start_is_forgotten():
    slow_then_fast = trail((0, 0), (1000, 1), *((1000 + step, 1 + step) for step in range(1, 31)))
    assert eta_s(slow_then_fast, 1030 * S) == pytest.approx(69.0)


def test_a_burst_of_reports_is_no_pace():
    burst = trail(*((n / 1000, n / 10) for n in range(100)))
    assert len(burst.samples) == 1
    assert burst.percent == 9.9
