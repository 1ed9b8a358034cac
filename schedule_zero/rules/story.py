"""What became of an execution, in a sentence. Pure."""

from __future__ import annotations

import msgspec

from schedule_zero.model import Execution, Fire, Group, GroupState, JobError, State
from schedule_zero.rules.facts import Ruling
from schedule_zero.rules.phrases import length

# As much of an error's message as fits into a sentence.
MESSAGE = 120

_decode_error = msgspec.json.Decoder(JobError).decode


def error_of(execution: Execution) -> JobError | None:
    """Why it did not complete."""
    return None if execution.error is None else _decode_error(execution.error)


def run_of(execution: Execution | None, fire: Fire, decider: Ruling | None, now_us: int) -> str:
    """What the execution of a fire did, or is doing."""
    if execution is None:
        return f"Its execution {fire.execution_id} is not stored any more."
    spread = _spread(execution, decider)
    match execution.state:
        case State.SCHEDULED:
            return f"Its execution is to start{spread or ' later'}."
        case State.BLOCKED:
            overlap = "" if decider is None else f" (overlap: {decider.policies.overlap})"
            return f"Its execution waits until an earlier one is over{overlap}."
        case State.PENDING:
            return f"Its execution waits for a node that serves {execution.handler_id} and has room."
        case State.RETRY_SCHEDULED:
            return f"Attempt {execution.attempt} failed{_why(execution)}, and another one follows."
        case State.RUNNING:
            since_us = execution.started_us or execution.dispatched_us or now_us
            return f"Its execution{spread} has been running{_where(execution)} for {length(now_us - since_us)}."
        case _:
            return f"Its execution {_ended(execution, spread)}."


def run_of_group(group: Group | None, fire: Fire) -> str:
    """What the executions of a fire that is a group did, or are doing."""
    if group is None:
        return f"Its group {fire.execution_id} ({fire.detail}) is not stored any more."
    over = group.completed + group.failed + group.cancelled
    numbers = f"{group.completed} completed, {group.failed} failed, {group.cancelled} cancelled"
    if group.state is GroupState.RUNNING:
        return f"Its group {group.id} ({fire.detail}) is not over: of {group.total} executions {over} are ({numbers})."
    return f"Its group {group.id} ({fire.detail}) is over, as {group.state}: of {group.total} executions {numbers}."


def _ended(execution: Execution, spread: str) -> str:
    started_us, finished_us = execution.started_us, execution.finished_us or execution.stored_us
    if started_us is None:
        if execution.state is State.MISFIRED:
            return f"came too late to be started{_why(execution)}"
        how = "was cancelled" if execution.state is State.CANCELLED else f"ended as {execution.state}"
        return f"{how} before it started{_why(execution)}"
    nominal_us = execution.nominal_us
    after = "" if nominal_us is None else f" {length(started_us - nominal_us)} after it was due"
    words = {
        State.COMPLETED: "completed",
        State.FAILED: "failed",
        State.TIMEOUT: "was stopped by its timeout",
        State.CANCELLED: "was cancelled",
        State.DEAD: "was given up as one that kills its nodes",
    }
    ran = "" if finished_us is None else f" after {length(finished_us - started_us)}"
    attempts = f" (attempt {execution.attempt})" if execution.attempt > 1 else ""
    how = words.get(execution.state, f"ended as {execution.state}")
    return f"started{after}{spread}{_where(execution)}, and {how}{ran}{attempts}{_why(execution)}"


def _spread(execution: Execution, decider: Ruling | None) -> str:
    if execution.not_before_us is None or execution.nominal_us is None:
        return ""
    later = length(execution.not_before_us - execution.nominal_us)
    most = "" if decider is None or not decider.policies.jitter_s else f" of up to {decider.policies.jitter_s:g} s"
    return f" (put off by {later}: jitter{most})"


def _where(execution: Execution) -> str:
    return f" on node {execution.node_id}" if execution.node_id else ""


def _why(execution: Execution) -> str:
    error = error_of(execution)
    if error is None:
        return ""
    message = error.message if len(error.message) <= MESSAGE else f"{error.message[: MESSAGE - 1]}…"
    return f": {error.type}: {message}" if error.type else f": {message}"
