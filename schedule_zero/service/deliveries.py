"""The attempts of an execution in one list: those that are archived, and the one that is part of the execution."""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.dispatch.views import ProgressView, reached
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.service.specs import ExecutionView


class Delivery(Struct, frozen=True, kw_only=True):
    """One delivery to a node; ``outcome`` is None while it runs. ``error`` is JSON (``JobError``)."""

    attempt: int
    token: int
    node_id: str | None
    outcome: AttemptOutcome | None
    dispatched_us: int | None
    started_us: int | None
    finished_us: int | None
    cpu_us: int | None
    peak_rss_bytes: int | None
    progress: ProgressView | None
    error: bytes | None


# What the state of an execution says about its last attempt.
_OUTCOMES = {
    State.COMPLETED: AttemptOutcome.COMPLETED,
    State.FAILED: AttemptOutcome.FAILED,
    State.TIMEOUT: AttemptOutcome.TIMEOUT,
    State.CANCELLED: AttemptOutcome.CANCELLED,
}


def deliveries(view: ExecutionView) -> list[Delivery]:
    """Oldest first; the last one may still run."""
    found = [
        Delivery(
            attempt=one.attempt,
            token=one.token,
            node_id=one.node_id,
            outcome=one.outcome,
            dispatched_us=one.dispatched_us,
            started_us=one.started_us,
            finished_us=one.finished_us,
            cpu_us=one.cpu_us,
            peak_rss_bytes=one.peak_rss_bytes,
            progress=reached(one.progress),
            error=one.error,
        )
        for one in view.attempts
    ]
    current = view.execution
    if current.token and not any(one.token == current.token for one in found):
        outcome = _OUTCOMES.get(current.state)
        found.append(
            Delivery(
                attempt=current.attempt,
                token=current.token,
                node_id=current.node_id,
                outcome=outcome,
                dispatched_us=current.dispatched_us,
                started_us=current.started_us,
                finished_us=current.finished_us,
                cpu_us=current.cpu_us,
                peak_rss_bytes=current.peak_rss_bytes,
                progress=view.progress,
                # While it runs, the execution still shows the error of the attempt before.
                error=None if outcome is None else current.error,
            )
        )
    return found
