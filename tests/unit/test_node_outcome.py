from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from typing import Any

import msgspec
import pytest

from schedule_zero.errors import InvalidParams
from schedule_zero.model import AttemptOutcome, ErrorCategory
from schedule_zero.node.context import GiveUp, Retry
from schedule_zero.node.outcome import MAX_MESSAGE, MAX_TRACEBACK, completed, failed, timed_out

LIMIT = 1000


@dataclasses.dataclass
class Pair:
    a: int
    b: list[int]


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), b'"2026-01-02T00:00:00Z"'),
        (Pair(1, [2]), b'{"a":1,"b":[2]}'),
        (uuid.UUID(int=5), b'"00000000-0000-0000-0000-000000000005"'),
        ({1: "a"}, b'{"1":"a"}'),
        ("null", b'"null"'),
    ],
)
def test_results_with_a_json_form_are_completed(value: Any, encoded: bytes) -> None:
    outcome = completed(value, LIMIT)
    assert (outcome.kind, outcome.result) == (AttemptOutcome.COMPLETED, encoded)


class Holder(msgspec.Struct):
    value: float


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {"a": {"b": (1, float("-inf"))}}, Holder(float("nan")), [None, float("nan")]],
)
def test_nan_and_infinity_fail_rather_than_turn_into_null(value: Any) -> None:
    outcome = completed(value, LIMIT)
    assert outcome.kind is AttemptOutcome.FAILED
    assert outcome.error is not None
    assert "NaN or Infinity" in outcome.error.message


def test_results_without_a_json_form_fail_with_the_reason() -> None:
    circular: list[Any] = []
    circular.append(circular)
    cases = [(object(), "object"), (circular, "holds itself"), ("\ud800", "surrogates"), (range(3), "range")]
    for value, said in cases:
        outcome = completed(value, LIMIT)
        assert outcome.kind is AttemptOutcome.FAILED
        assert outcome.error is not None
        assert outcome.error.type == "InvalidResult"
        assert said in outcome.error.message


def test_a_coroutine_as_result_fails_and_is_closed() -> None:
    async def forgotten() -> None: ...

    outcome = completed(forgotten(), LIMIT)
    assert outcome.error is not None
    assert "coroutine" in outcome.error.message


def test_a_result_over_the_limit_names_both_sizes() -> None:
    outcome = completed("x" * 2000, LIMIT)
    assert outcome.kind is AttemptOutcome.FAILED
    assert outcome.error is not None
    assert "2002" in outcome.error.message
    assert "1000" in outcome.error.message


def raise_it(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_carries_type_message_and_traceback() -> None:
    outcome = failed(raise_it(ValueError("not like this")))
    assert outcome.kind is AttemptOutcome.FAILED
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "not like this")
    assert "raise_it" in outcome.error.traceback
    assert outcome.error.traceback.endswith("ValueError: not like this\n")


def test_long_and_strange_errors_are_bounded_text() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise RuntimeError("é" * 100_000 + "\ud800")

    try:
        deep(200)
    except RuntimeError as error:
        outcome = failed(error)
    assert outcome.error is not None
    assert len(outcome.error.message.encode()) <= MAX_MESSAGE
    assert len(outcome.error.traceback.encode()) <= MAX_TRACEBACK
    assert "left out" in outcome.error.message

    class Nasty(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    nasty = failed(raise_it(Nasty()))
    assert nasty.error is not None
    assert "could not be read: ZeroDivisionError" in nasty.error.message


def test_retry_and_give_up_say_so() -> None:
    assert failed(raise_it(Retry(7.5))).retry_after_s == 7.5
    assert failed(raise_it(GiveUp("no"))).give_up is True
    invalid = failed(raise_it(InvalidParams("no such field")))
    assert invalid.give_up is True
    assert invalid.error is not None
    assert invalid.error.type == "InvalidParams"


def test_exit_and_interrupt_of_a_job_are_failures_of_that_job() -> None:
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
        outcome = failed(raise_it(error))
        assert outcome.kind is AttemptOutcome.FAILED
        assert outcome.error is not None
        assert outcome.error.type == type(error).__name__


# --- what kind of failure ------------------------------------------------------------------------------


class Upstream(ConnectionError):
    """Somebody's own."""


class ReadTimeout(Exception):
    """Of a library that has no common base with Python's own."""


class Said(ValueError):
    error_category = "transient"


class Hostile(Exception):
    @property
    def error_category(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (Retry(1), ErrorCategory.TRANSIENT),
        (BlockingIOError(), ErrorCategory.TRANSIENT),
        (Said(), ErrorCategory.TRANSIENT),
        (TimeoutError(), ErrorCategory.TIMEOUT),
        (ReadTimeout(), ErrorCategory.TIMEOUT),
        (Upstream(), ErrorCategory.DEPENDENCY),
        (FileNotFoundError(), ErrorCategory.DEPENDENCY),
        (GiveUp(), ErrorCategory.CRITICAL),
        (ModuleNotFoundError(), ErrorCategory.CRITICAL),
        (PermissionError(), ErrorCategory.CRITICAL),
        (InvalidParams("a"), ErrorCategory.CRITICAL),
        (ValueError(), None),
        (Hostile(), None),
    ],
)
def test_an_error_has_the_category_that_its_class_or_itself_says(error: Exception, category: ErrorCategory) -> None:
    told = failed(error).error
    assert told is not None
    assert told.category is category


def test_an_attempt_that_took_too_long_is_a_timeout() -> None:
    told = timed_out(3).error
    assert told is not None
    assert told.category is ErrorCategory.TIMEOUT


def test_an_error_tells_the_bases_of_its_class_but_not_those_that_all_have() -> None:
    told = failed(Upstream("gone")).error
    assert told is not None
    assert (told.type, told.bases) == (f"{__name__}.Upstream", ("ConnectionError", "OSError"))

    deep: type[Exception] = Exception
    for n in range(50):
        deep = type(f"E{n}" * 200, (deep,), {})
    bounded = failed(deep()).error
    assert bounded is not None
    assert len(bounded.bases) == 10
    assert max(map(len, bounded.bases)) <= 256
