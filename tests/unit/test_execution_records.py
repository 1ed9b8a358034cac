from __future__ import annotations

import msgspec

from schedule_zero.model import Attempt, AttemptOutcome, Execution, JobError, State
from schedule_zero.service.specs import ExecutionView
from schedule_zero.web.api.execution_records import execution_detail

LOST = msgspec.json.encode(JobError(type="NodeLost", message="node 'n1' was lost while it held this attempt"))


def detail(state):
    execution = Execution(
        id="e1", handler_id="demo", job_method="noop", state=state, attempt=2, token=8, node_id="n2", error=LOST
    )
    first = Attempt(execution_id="e1", attempt=1, token=7, node_id="n1", outcome=AttemptOutcome.LOST, error=LOST)
    shown = execution_detail(ExecutionView(execution=execution, attempts=[first], progress=None))
    return msgspec.json.decode(msgspec.json.encode(shown))


def test_an_attempt_that_runs_does_not_show_the_error_of_the_one_before():
    shown = detail(State.RUNNING)
    assert [(one["outcome"], one["error"] is None) for one in shown["attempts"]] == [("lost", False), (None, True)]
    assert shown["error"]["type"] == "NodeLost"


def test_an_attempt_that_is_over_shows_its_own_error():
    assert detail(State.FAILED)["attempts"][1]["error"]["type"] == "NodeLost"
