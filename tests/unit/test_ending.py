from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.job_options import OnLost
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules import ending
from schedule_zero.rules.options import DEFAULTS, EffectiveOptions
from schedule_zero.rules.states import TERMINAL, may_become

THREE = EffectiveOptions(max_attempts=3, retry_delay_s=7.0)
REPORTED = [outcome for outcome in AttemptOutcome if outcome is not AttemptOutcome.LOST]


def report(outcome, **changes):
    arguments = {"attempt": 1, "lost_count": 0, "options": DEFAULTS, **changes}
    return ending.after_report(outcome, **arguments)


def test_a_completed_attempt_completes_its_execution():
    assert report(AttemptOutcome.COMPLETED).state is State.COMPLETED


def test_a_failure_is_retried_after_the_delay_until_the_attempts_are_spent():
    first = report(AttemptOutcome.FAILED, options=THREE)
    assert (first.state, first.delay_s, first.burn) == (State.RETRY_SCHEDULED, 7.0, True)
    assert report(AttemptOutcome.FAILED, options=THREE, attempt=2).state is State.RETRY_SCHEDULED
    assert report(AttemptOutcome.FAILED, options=THREE, attempt=3).state is State.FAILED


def test_a_timeout_is_retried_like_a_failure_and_ends_as_timeout():
    assert report(AttemptOutcome.TIMEOUT, options=THREE).state is State.RETRY_SCHEDULED
    assert report(AttemptOutcome.TIMEOUT, options=THREE, attempt=3).state is State.TIMEOUT


def test_lost_attempts_do_not_use_up_retries():
    assert report(AttemptOutcome.FAILED, options=THREE, attempt=4, lost_count=2).state is State.RETRY_SCHEDULED
    assert report(AttemptOutcome.FAILED, options=THREE, attempt=5, lost_count=2).state is State.FAILED


def test_the_job_may_choose_the_delay_or_give_up_but_not_get_more_attempts():
    assert report(AttemptOutcome.FAILED, options=THREE, retry_after_s=0.5).delay_s == 0.5
    assert report(AttemptOutcome.FAILED, options=THREE, give_up=True).state is State.FAILED
    assert report(AttemptOutcome.FAILED, retry_after_s=0.5).state is State.FAILED


def test_a_requested_cancel_takes_away_the_retry():
    assert report(AttemptOutcome.FAILED, options=THREE, cancel_requested=True).state is State.CANCELLED


def test_an_attempt_that_ended_before_the_cancel_reached_it_keeps_its_end():
    assert report(AttemptOutcome.COMPLETED, cancel_requested=True).state is State.COMPLETED
    assert report(AttemptOutcome.FAILED, cancel_requested=True).state is State.FAILED
    assert report(AttemptOutcome.CANCELLED, cancel_requested=True).state is State.CANCELLED


def test_handing_back_burns_nothing():
    given_back = report(AttemptOutcome.HANDED_BACK)
    assert (given_back.state, given_back.burn, given_back.lost) == (State.PENDING, False, False)
    paused = ending.after_hand_back(cancel_requested=False, pause=True)
    assert (paused.state, paused.burn) == (State.RETRY_SCHEDULED, False)
    assert paused.delay_s == ending.REJECT_PAUSE_S
    assert ending.after_hand_back(cancel_requested=True).state is State.CANCELLED


def test_a_started_attempt_that_is_handed_back_asks_the_policy_of_its_job():
    def interrupted(on_lost, **changes):
        return report(AttemptOutcome.HANDED_BACK, options=EffectiveOptions(on_lost=on_lost), **changes)

    assert interrupted(OnLost.RERUN) == ending.HANDED_BACK
    assert interrupted(OnLost.FAIL).state is State.FAILED
    assert interrupted(OnLost.WAIT) is None
    assert {interrupted(policy, cancel_requested=True).state for policy in OnLost} == {State.CANCELLED}


def loss(lost_count=0, on_lost=OnLost.RERUN, **changes):
    options = EffectiveOptions(on_lost=on_lost)
    return ending.after_loss(lost_count=lost_count, options=options, max_lost=3, **changes)


def test_the_third_lost_attempt_makes_the_execution_dead():
    assert [loss(n).state for n in range(3)] == [State.PENDING, State.PENDING, State.DEAD]
    assert all(loss(n).lost for n in range(3))


def test_on_lost_decides_what_becomes_of_a_lost_attempt():
    assert loss(on_lost=OnLost.RERUN).state is State.PENDING
    assert loss(on_lost=OnLost.FAIL).state is State.FAILED
    assert loss(on_lost=OnLost.WAIT) is None


@pytest.mark.parametrize("on_lost", OnLost)
def test_a_cancelled_execution_is_never_rerun(on_lost):
    assert loss(on_lost=on_lost, cancel_requested=True).state is State.CANCELLED


def test_a_node_cannot_report_its_own_loss():
    with pytest.raises(ValueError, match="own loss"):
        report(AttemptOutcome.LOST)


options = st.builds(
    EffectiveOptions,
    max_attempts=st.integers(1, 5),
    retry_delay_s=st.floats(0, 10),
    on_lost=st.sampled_from(OnLost),
)


@given(st.sampled_from(REPORTED), st.integers(1, 9), st.integers(0, 3), options, st.booleans(), st.booleans())
def test_every_ending_is_a_transition_of_the_table(outcome, attempt, lost_count, chosen, cancel, give_up):
    result = ending.after_report(
        outcome,
        attempt=attempt,
        lost_count=lost_count,
        options=chosen,
        cancel_requested=cancel,
        give_up=give_up,
    )
    if result is None:
        assert (outcome, chosen.on_lost) == (AttemptOutcome.HANDED_BACK, OnLost.WAIT)
        return
    assert may_become(State.RUNNING, result.state)
    assert result.goes_on == (result.state not in TERMINAL)
    assert not (cancel and result.goes_on)
    assert (result.delay_s is not None) == (result.state is State.RETRY_SCHEDULED)


@given(st.integers(0, 5), options, st.booleans())
def test_every_ending_after_a_loss_is_a_transition_of_the_table(lost_count, chosen, cancel):
    result = ending.after_loss(lost_count=lost_count, options=chosen, max_lost=3, cancel_requested=cancel)
    if result is not None:
        assert may_become(State.RUNNING, result.state)
        assert not (cancel and result.goes_on)
