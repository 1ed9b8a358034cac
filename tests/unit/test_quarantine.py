"""The rule by which the server takes a node out of service by itself."""

from __future__ import annotations

import pytest

from schedule_zero.model import AttemptOutcome
from schedule_zero.rules import quarantine as rules


@pytest.mark.parametrize("outcome", AttemptOutcome)
def test_only_what_failed_or_timed_out_may_be_the_nodes_fault(outcome):
    expected = outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMEOUT)
    assert rules.is_failure(outcome, give_up=False, retry_after_s=None) is expected


@pytest.mark.parametrize(("give_up", "retry_after_s"), [(True, None), (False, 0.0), (False, 5.0)])
def test_what_a_job_decided_itself_says_nothing_about_its_node(give_up, retry_after_s):
    assert not rules.is_failure(AttemptOutcome.FAILED, give_up=give_up, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("completed_s", "failed_s", "now_s", "expected"),
    [
        (None, None, 1000.0, False),
        (None, 900.0, 1000.0, False),
        (900.0, None, 1000.0, True),
        (900.0, 899.0, 1000.0, True),
        (900.0, 900.0, 1000.0, False),
        (900.0, 901.0, 1000.0, False),
        (400.0, None, 1000.0, True),
        (399.9, None, 1000.0, False),
    ],
)
def test_a_method_does_well_where_its_last_end_was_a_completion_not_long_ago(completed_s, failed_s, now_s, expected):
    assert rules.does_well(completed_s, failed_s, now_s) is expected


@pytest.mark.parametrize(
    ("others_open", "connected", "expected"),
    [(0, 1, False), (0, 2, False), (1, 2, True), (1, 3, False), (2, 3, True), (1, 4, False), (2, 4, True)],
)
def test_at_least_half_of_the_connected_nodes_stay_and_never_none(others_open, connected, expected):
    assert rules.enough_left(others_open, connected) is expected


def test_each_quarantine_in_a_row_is_twice_as_long_up_to_an_hour():
    lengths = [rules.probation_after_s(60.0, times) for times in (1, 2, 3, 6, 7, 8, 1000)]
    assert lengths == [60.0, 120.0, 240.0, 1920.0, 3600.0, 3600.0, 3600.0]
    assert rules.probation_after_s(7200.0, 1) == rules.probation_after_s(7200.0, 3) == 7200.0


def test_a_relapse_goes_on_where_it_was_and_an_old_story_is_forgotten():
    assert rules.times_in_a_row(3, 60.0) == 4
    assert rules.times_in_a_row(3, 3600.0) == 1
    assert rules.times_in_a_row(0, float("inf")) == 1
