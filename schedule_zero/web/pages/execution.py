"""One execution: why it is in its state, its times and attempts, what it got and gave; and what can be done."""

from __future__ import annotations

from typing import Any

from schedule_zero.errors import NotFound
from schedule_zero.model import Execution, NodeState, State
from schedule_zero.rules.standing import standing
from schedule_zero.rules.states import TERMINAL
from schedule_zero.service.dead_letters import Edit
from schedule_zero.service.specs import ExecutionView
from schedule_zero.store.executions import CancelOutcome, Family
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import execution_log, execution_view
from schedule_zero.web.pages.execution_log import LogQuery
from schedule_zero.web.pages.render import CLOCK, done, page, part, url

TOPICS = ["execution"]
PATH = "/executions"
_GONE = frozenset({NodeState.LOST, NodeState.SUSPECT})


async def show(request: ApiRequest) -> Response:
    """All that is known of it, or its log."""
    query: LogQuery = request.query
    if query.error:
        return await execution_log.to_first_error(request, query)
    try:
        known = await request.service.executions.get(request.id)
    except NotFound:
        return await _gone(request)
    it = known.execution
    facts: dict[str, Any] = _facts(request, known)
    if query.tab == "log" and part(request) is None:
        log = await execution_log.read(request, query)
        log.attempts = [one.it.attempt for one in reversed(facts["tries"])]
        facts["log"] = log
    elif query.tab != "log":
        facts |= await _overview(request, it)
    return page(request, "execution.html", title=execution_log.title_of(it), topics=TOPICS, tab=query.tab, **facts)


def _facts(request: ApiRequest, known: ExecutionView) -> dict[str, Any]:
    it, now_us = known.execution, CLOCK.wall_us()
    waiting = known.waiting_for
    return {
        "it": it,
        "open": it.state not in TERMINAL,
        "address": url(PATH, it.id, tab=request.query.tab),
        "standing": standing(
            it,
            now_us=now_us,
            waits_for=None if waiting is None else waiting.detail,
            node_is_gone=it.state is State.RUNNING and _is_gone(request, it.node_id),
        ),
        "progress": known.progress if it.state is State.RUNNING else None,
        "tries": execution_view.tries(known),
        "log": None,
    }


async def _overview(request: ApiRequest, it: Execution) -> dict[str, Any]:
    family: Family = await request.service.executions.family(it)
    said, defaults = execution_view.options(it)
    return {
        "moments": execution_view.times(it, CLOCK.wall_us()),
        "params": execution_view.payload(it.params),
        "result": None if it.result_bytes else execution_view.payload(it.result),
        "error": execution_view.error_of(it.error),
        "said": said,
        "defaults": defaults,
        "family": family,
        "curl": f'curl -H "Authorization: Bearer $SCHEDULE_ZERO_TOKEN" http://{request.headers.get("Host", "")}/api'
        f"/executions/{it.id}",
    }


def _is_gone(request: ApiRequest, node_id: str | None) -> bool:
    if node_id is None:
        return False
    try:
        return request.service.system.node(node_id).state in _GONE
    except NotFound:
        return True


async def _gone(request: ApiRequest) -> Response:
    """There is none of this id: it may have been cleared, or never have been."""
    oldest_us = await request.service.executions.oldest_us()
    made_us = execution_view.made_us(request.id)
    return page(
        request,
        "execution_gone.html",
        status=404,
        title="No such execution",
        execution_id=request.id,
        made_us=made_us,
        oldest_us=oldest_us,
        cleared=made_us is not None and oldest_us is not None and made_us <= oldest_us,
    )


# --- what can be done -------------------------------------------------------------------------------


async def cancel(request: ApiRequest) -> Response:
    """End it: at once where it waits; where it runs its node is told, and confirms."""
    answer = await request.service.executions.cancel(request.principal, request.id)
    words = {
        CancelOutcome.CANCELLED: "Cancelled",
        CancelOutcome.REQUESTED: "Its node is told to end it",
        CancelOutcome.TERMINAL: f"It was over already: {answer.state}",
    }
    return done(request, words.get(answer.outcome, str(answer.outcome)), to=url(PATH, request.id))


async def retry(request: ApiRequest) -> Response:
    """The same work as a new execution."""
    made = await request.service.executions.retry(request.principal, request.id)
    return _went(request, made.ids[0], "It runs again, as this execution")


async def requeue(request: ApiRequest) -> Response:
    """A dead letter: the same work as a new execution that takes its place."""
    made = await request.service.dead_letters.requeue(request.principal, [request.id], Edit())
    # (One that waits no more was refused.)
    [new] = made.ids
    return _went(request, new or request.id, "Requeued, as this execution")


def _went(request: ApiRequest, new: str, text: str) -> Response:
    return done(request, text, to=url(PATH, new), undo=url(PATH, new, "cancel"), go=True)
