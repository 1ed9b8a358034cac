"""Why an execution is in its state, in one line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schedule_zero.model import Execution, JobError, State
from schedule_zero.rules.standing import ERROR, Standing, standing

NOW = 1_700_000_000_000_000
S = 1_000_000
ERR = msgspec.json.encode(JobError(type="ConnectTimeout", message="no route\nto 10.0.0.7"))


def execution(state: State, **fields: Any) -> Execution:
    return Execution(id="x", handler_id="etl", job_method="load", state=state, created_us=NOW - 60 * S, **fields)


def line(state: State, *, waits_for: str | None = None, node_is_gone: bool = False, **fields: Any) -> str:
    said = standing(execution(state, **fields), now_us=NOW, waits_for=waits_for, node_is_gone=node_is_gone)
    return f"{said.words}{': ' + said.because if said.because else ''}"


RAN = {"node_id": "n1", "attempt": 1, "started_us": NOW - 5 * S, "finished_us": NOW - 2 * S}


@pytest.mark.parametrize(
    ("said", "state", "fields"),
    [
        ("It starts", State.SCHEDULED, {}),
        ("It waits until an earlier run is over: its schedule's overlap policy", State.BLOCKED, {}),
        ("It waits: no node has the label gpu", State.PENDING, {"waits_for": "no node has the label gpu"}),
        ("It waits: a node that serves etl takes it next", State.PENDING, {}),
        ("Attempt 2 waits (its node was lost once): x", State.PENDING,
         {"attempt": 1, "lost_count": 1, "waits_for": "x"}),
        ("Attempt 3 of 5 follows: ConnectTimeout: no route to 10.0.0.7", State.RETRY_SCHEDULED,
         {"attempt": 2, "options": b'{"max_attempts":5}', "error": ERR}),
        # One that was lost with its node is not counted against the limit.
        ("Attempt 3 of 6 follows: ConnectTimeout: no route to 10.0.0.7", State.RETRY_SCHEDULED,
         {"attempt": 2, "lost_count": 1, "options": b'{"max_attempts":5}', "error": ERR}),
        ("It was given to n1, which has not begun it yet", State.RUNNING, {"node_id": "n1", "attempt": 1}),
        ("It runs on n1, for 5 s by now", State.RUNNING, RAN),
        ("Attempt 2 runs on n1, for 5 s by now", State.RUNNING, RAN | {"attempt": 2}),
        ("It was asked to end, and still runs on n1", State.RUNNING, RAN | {"cancel_requested": True}),
        ("Its node n1 is gone: it comes back with a result, or its job says what happens then (on_lost: rerun)",
         State.RUNNING, RAN | {"node_is_gone": True}),
        ("It completed on n1 after 3 s", State.COMPLETED, RAN),
        ("It completed on n1 after 3 s, at attempt 2", State.COMPLETED, RAN | {"attempt": 2}),
        ("It failed on n1 after 3 s, at attempt 1: ConnectTimeout: no route to 10.0.0.7", State.FAILED,
         RAN | {"error": ERR}),
        ("It failed on n1 after 3 s, at attempt 3 of 3: ConnectTimeout: no route to 10.0.0.7", State.FAILED,
         RAN | {"error": ERR, "attempt": 3, "options": b'{"max_attempts":3}'}),
        ("It failed on n1 after 3 s, at attempt 1 of 3, and was not to be retried: ValueError: no", State.FAILED,
         RAN | {"error": b'{"type":"ValueError","message":"no"}', "options": b'{"max_attempts":3}'}),
        ("Its timeout of 3 s stopped it on n1 after 3 s", State.TIMEOUT, RAN | {"options": b'{"timeout_s":3}'}),
        ("It was cancelled before it began", State.CANCELLED, {}),
        ("It was cancelled on n1 after 3 s", State.CANCELLED, RAN),
        ("It was not started in time", State.MISFIRED, {}),
        ("Its node was lost 3 times while it ran: it is not tried again", State.DEAD, {"lost_count": 3}),
    ],
)  # fmt: skip
def test_each_state_says_why(said, state, fields):
    assert line(state, **fields) == said


def test_what_is_waited_for_has_its_moment():
    later = NOW + 42 * S
    assert standing(execution(State.SCHEDULED, not_before_us=later), now_us=NOW).until_us == later
    assert standing(execution(State.RETRY_SCHEDULED, not_before_us=later), now_us=NOW).until_us == later


def test_a_long_error_is_cut():
    error = msgspec.json.encode(JobError(type="E", message="x" * 10_000))
    found = standing(execution(State.FAILED, error=error), now_us=NOW)
    assert len(found.because) == ERROR
    assert found.because.endswith("…")


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_spoken_of(state):
    assert isinstance(standing(execution(state), now_us=NOW), Standing)
