"""Why an execution is in the state that it is in, in one line. Pure.

What it says of errors is a job's own text: hostile, and cut to what fits into a line.
"""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.model import Execution, JobError, State
from schedule_zero.rules.options import EffectiveOptions, options_of
from schedule_zero.rules.phrases import length
from schedule_zero.rules.story import error_of

# As much of an error as fits into the line.
ERROR = 300


class Standing(Struct, frozen=True, kw_only=True):
    """``words``, the moment that they are about (``until_us``), a colon, and ``because`` of what."""

    words: str
    until_us: int | None = None
    because: str = ""


def standing(
    execution: Execution, *, now_us: int, waits_for: str | None = None, node_is_gone: bool = False
) -> Standing:
    """``waits_for`` is what is in the way of a pending one; ``node_is_gone``: of the node that has a running one."""
    options = options_of(execution.options)
    match execution.state:
        case State.SCHEDULED:
            return Standing(words="It starts", until_us=execution.not_before_us)
        case State.BLOCKED:
            return Standing(words="It waits until an earlier run is over", because="its schedule's overlap policy")
        case State.PENDING:
            return _pending(execution, waits_for)
        case State.RETRY_SCHEDULED:
            return Standing(
                words=f"Attempt {execution.attempt + 1}{_of(execution, options)} follows",
                until_us=execution.not_before_us,
                because=said(error_of(execution)),
            )
        case State.RUNNING:
            return _running(execution, options, now_us, node_is_gone=node_is_gone)
        case _:
            return _over(execution, options)


def _pending(execution: Execution, waits_for: str | None) -> Standing:
    again = f"Attempt {execution.attempt + 1} waits" if execution.attempt else "It waits"
    lost = f" (its node was lost {_times(execution.lost_count)})" if execution.lost_count else ""
    return Standing(words=again + lost, because=waits_for or f"a node that serves {execution.handler_id} takes it next")


def _running(execution: Execution, options: EffectiveOptions, now_us: int, *, node_is_gone: bool) -> Standing:
    where = f" on {execution.node_id}" if execution.node_id else ""
    if execution.cancel_requested:
        return Standing(words=f"It was asked to end, and still runs{where}")
    if node_is_gone:
        return Standing(
            words=f"Its node {execution.node_id} is gone",
            because=f"it comes back with a result, or its job says what happens then (on_lost: {options.on_lost})",
        )
    if execution.started_us is None:
        return Standing(words=f"It was given to {execution.node_id}, which has not begun it yet")
    nth = f"Attempt {execution.attempt} runs" if execution.attempt > 1 else "It runs"
    return Standing(words=f"{nth}{where}, for {length(max(0, now_us - execution.started_us))} by now")


def _over(execution: Execution, options: EffectiveOptions) -> Standing:
    started_us, finished_us = execution.started_us, execution.finished_us
    ran = "" if started_us is None or finished_us is None else f" after {length(finished_us - started_us)}"
    where = f" on {execution.node_id}" if execution.node_id else ""
    because = said(error_of(execution))
    match execution.state:
        case State.COMPLETED:
            nth = f", at attempt {execution.attempt}" if execution.attempt > 1 else ""
            return Standing(words=f"It completed{where}{ran}{nth}")
        case State.FAILED:
            failures = execution.attempt - execution.lost_count
            last = _of(execution, options)
            if options.max_attempts > 1 and failures < options.max_attempts:
                last += ", and was not to be retried"
            return Standing(words=f"It failed{where}{ran}, at attempt {execution.attempt}{last}", because=because)
        case State.TIMEOUT:
            limit = "" if options.timeout_s is None else f" of {options.timeout_s:g} s"
            return Standing(words=f"Its timeout{limit} stopped it{where}{ran}", because=because)
        case State.CANCELLED:
            return Standing(words=f"It was cancelled{where}{ran}" if started_us else "It was cancelled before it began")
        case State.MISFIRED:
            return Standing(words="It was not started in time", until_us=execution.start_by_us, because=because)
        case _:
            lost = _times(execution.lost_count)
            return Standing(words=f"Its node was lost {lost} while it ran: it is not tried again", because=because)


def said(error: JobError | None) -> str:
    """An error in a line: ``ConnectTimeout: no route to 10.0.0.7``."""
    if error is None:
        return ""
    text = " ".join(f"{error.type}: {error.message}".split() if error.type else error.message.split())
    return text if len(text) <= ERROR else f"{text[: ERROR - 1]}…"


def _of(execution: Execution, options: EffectiveOptions) -> str:
    """`` of 5``: attempts that were lost with their nodes are not counted against it."""
    return f" of {options.max_attempts + execution.lost_count}" if options.max_attempts > 1 else ""


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
