from __future__ import annotations

from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.cli.job_options import JOB_OPTIONS
from schedule_zero.job_options import Backoff, JobOptions, OnLost, Options
from schedule_zero.model import AttemptOutcome, ErrorCategory, JobError, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.ending import after_report
from schedule_zero.rules.options import DEFAULTS, EffectiveOptions, Source, effective, options_of
from schedule_zero.rules.retry import GROWN_S, delay_s, is_wanted

RESET = JobError(
    type="ConnectionResetError",
    message="peer",
    category=ErrorCategory.DEPENDENCY,
    bases=("ConnectionError", "OSError"),
)
READ_TIMEOUT = JobError(
    type="httpx.ReadTimeout", message="", category=ErrorCategory.TIMEOUT, bases=("httpx.TimeoutException",)
)


def delays(n: int = 6, **options: object) -> list[float]:
    chosen = EffectiveOptions(**options)
    return [delay_s(chosen, failure, "e1") for failure in range(1, n + 1)]


# --- how long -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (Backoff.FIXED, [2, 2, 2, 2, 2, 2]),
        (Backoff.LINEAR, [2, 4, 6, 8, 10, 12]),
        (Backoff.EXPONENTIAL, [2, 4, 8, 16, 32, 64]),
        (Backoff.FIBONACCI, [2, 2, 4, 6, 10, 16]),
    ],
)
def test_the_delay_grows_as_the_backoff_says(backoff, expected):
    assert delays(backoff=backoff, retry_delay_s=2.0) == expected


def test_a_list_of_delays_is_followed_one_by_one_and_its_last_one_repeated():
    assert delays(4, backoff=Backoff.LIST, retry_delays_s=(1.0, 30.0)) == [1, 30, 30, 30]
    assert delays(2, backoff=Backoff.LIST, retry_delay_s=7.0) == [7, 7]


def test_delays_grow_up_to_their_maximum_and_an_hour_is_the_default():
    assert delays(4, backoff=Backoff.EXPONENTIAL, retry_delay_s=10.0, retry_max_delay_s=25.0) == [10, 20, 25, 25]
    assert delays(1000, backoff=Backoff.EXPONENTIAL, retry_delay_s=1.0)[-1] == GROWN_S
    # What was asked for from the beginning is not cut without being asked to.
    assert delays(3, backoff=Backoff.LINEAR, retry_delay_s=2 * GROWN_S) == [2 * GROWN_S] * 3
    assert delays(2, retry_delay_s=2 * GROWN_S) == [2 * GROWN_S] * 2
    assert delays(2, retry_delay_s=10.0, retry_max_delay_s=3.0) == [3, 3]


growing = st.builds(
    EffectiveOptions,
    backoff=st.sampled_from(Backoff),
    retry_delay_s=st.floats(0, 2_592_000),
    retry_delays_s=st.none() | st.lists(st.floats(0, 2_592_000), min_size=1, max_size=5).map(tuple),
    retry_max_delay_s=st.none() | st.floats(0, 2_592_000),
    retry_jitter=st.booleans(),
)


@given(growing, st.integers(1, 1000), st.text(min_size=1, max_size=5))
def test_no_delay_is_negative_endless_or_beyond_its_maximum(options, n, execution_id):
    delay = delay_s(options, n, execution_id)

    assert 0 <= delay <= 2_592_000
    assert options.retry_max_delay_s is None or delay <= options.retry_max_delay_s
    assert delay == delay_s(options, n, execution_id)


def test_full_jitter_spreads_evenly_from_nothing_to_the_delay():
    options = EffectiveOptions(retry_delay_s=10.0, retry_jitter=True)
    drawn = [delay_s(options, 1, f"e{n}") for n in range(2000)]

    assert 0 <= min(drawn) < 0.1
    assert 9.9 < max(drawn) < 10
    assert 4.7 < sum(drawn) / len(drawn) < 5.3
    assert delay_s(options, 1, "e1") != delay_s(options, 2, "e1")


# --- whether at all -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RESET, "ConnectionResetError"),
        (RESET, "ConnectionError"),
        (RESET, "OSError"),
        (RESET, "dependency"),
        (READ_TIMEOUT, "httpx.ReadTimeout"),
        (READ_TIMEOUT, "ReadTimeout"),
        (READ_TIMEOUT, "TimeoutException"),
        (READ_TIMEOUT, "timeout"),
    ],
)
def test_an_error_is_meant_by_its_class_its_bases_and_its_category(error, name):
    assert is_wanted(EffectiveOptions(retry_on=(name,)), error)
    assert not is_wanted(EffectiveOptions(give_up_on=(name,)), error)
    assert not is_wanted(EffectiveOptions(retry_on=("ValueError", "x.ConnectionError", "transient")), error)
    assert is_wanted(EffectiveOptions(give_up_on=("ValueError", "Reset", "transient")), error)


def test_giving_up_goes_before_retrying_and_without_either_all_are_retried():
    both = EffectiveOptions(retry_on=("OSError",), give_up_on=("ConnectionResetError",))

    assert not is_wanted(both, RESET)
    assert is_wanted(DEFAULTS, RESET)
    assert is_wanted(DEFAULTS, None)
    assert not is_wanted(both, None)


def ending(error: JobError, **changes: object):
    options = EffectiveOptions(max_attempts=3, backoff=Backoff.EXPONENTIAL, retry_delay_s=2.0, retry_on=("timeout",))
    arguments = {"attempt": 2, "lost_count": 0, "options": options, "execution_id": "e1", "error": error, **changes}
    return after_report(AttemptOutcome.FAILED, **arguments)


def test_what_is_not_to_be_retried_ends_at_its_first_failure():
    assert (ending(READ_TIMEOUT).state, ending(READ_TIMEOUT).delay_s) == (State.RETRY_SCHEDULED, 4.0)
    assert ending(RESET).state is State.FAILED


def test_lost_attempts_make_no_delay_longer():
    assert ending(READ_TIMEOUT, attempt=4, lost_count=2).delay_s == 4.0


def test_a_job_that_asks_for_a_retry_gets_it_whatever_its_error_is_called():
    assert ending(RESET, retry_after_s=0.5).delay_s == 0.5


# --- who said it ----------------------------------------------------------------------------------------


def test_the_narrower_wins_and_what_an_execution_keeps_says_who_said_what():
    method = JobOptions(max_attempts=9, retry_delay_s=3.0, backoff=Backoff.LINEAR, idempotent=False)
    wear = outfit(JobOptions(max_attempts=2, priority=8), method, Source.SCHEDULE)
    stored = wear.options

    kept = msgspec.json.decode(stored)
    assert (wear.priority, kept["max_attempts"], kept["backoff"], kept["on_lost"]) == (8, 2, "linear", "fail")
    assert kept["sources"] == {
        "priority": "schedule",
        "max_attempts": "schedule",
        "retry_delay_s": "method",
        "backoff": "method",
        "on_lost": "method",
    }
    assert options_of(stored).retry_delay_s == 3.0


def test_delays_that_are_said_mean_a_list_unless_the_same_place_says_otherwise():
    listed = JobOptions(retry_delays_s=(1.0, 2.0))
    growing = JobOptions(backoff=Backoff.EXPONENTIAL)

    assert effective({Source.SUBMISSION: listed, Source.METHOD: growing}).backoff is Backoff.LIST
    assert effective({Source.SUBMISSION: growing, Source.METHOD: listed}).backoff is Backoff.EXPONENTIAL


@pytest.mark.parametrize(
    ("narrow", "method", "expected"),
    [
        (JobOptions(), JobOptions(idempotent=False), OnLost.FAIL),
        (JobOptions(idempotent=True), JobOptions(idempotent=False), OnLost.RERUN),
        (JobOptions(idempotent=False), JobOptions(on_lost=OnLost.WAIT), OnLost.WAIT),
    ],
)
def test_what_is_not_idempotent_is_not_rerun_unless_somebody_says_so(narrow, method, expected):
    assert effective({Source.SUBMISSION: narrow, Source.METHOD: method}).on_lost is expected


def test_the_command_line_and_the_client_know_every_option():
    assert set(JOB_OPTIONS) == set(JobOptions.__struct_fields__) == set(get_type_hints(Options))
