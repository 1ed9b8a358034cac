"""The catalogue of handlers: what can be run, with what, on which nodes; and what waits for them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.errors import NotFound
from schedule_zero.model import JobMethod
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import handler_view as view
from schedule_zero.web.pages.render import page, part, url

# What "lately" is: so many whole hours, the one that isn't over among them.
HOURS = 24
# Lanes of one handler that are shown waiting.
QUEUES = 50
Text = Annotated[str, Meta(max_length=200)]


class HandlersQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    q: Text = ""
    # The last handler of the page before.
    after: Text = ""


class HandlerQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    method: Text = ""


async def index(request: ApiRequest) -> Response:
    """All handlers that were ever declared."""
    query: HandlersQuery = request.query
    service = request.service
    known = service.system.handlers()
    found = [one for one in known if view.matches(one, query.q)]
    after = [one for one in found if one.handler_id > query.after]
    shown = after[: view.PER_PAGE]
    ends = await service.system.ends_by_handler(HOURS) if shown else {}
    cards = [
        view.card(
            one,
            ends.get(one.handler_id, {}),
            open=service.system.open(one.handler_id),
            letters=service.dead_letters.waiting.get(one.handler_id, 0),
            rule=service.system.rule(one.handler_id),
        )
        for one in shown
    ]
    return page(
        request,
        "handlers.html",
        title="Handlers",
        topics=["handler", "node", "dead_letters"],
        known=len(known),
        found=len(found),
        cards=cards,
        query=query,
        hours=HOURS,
        here=url("/handlers", q=query.q, after=query.after),
        first_url=url("/handlers", q=query.q) if query.after else "",
        next_url=url("/handlers", q=query.q, after=shown[-1].handler_id) if len(after) > len(shown) else "",
    )


async def show(request: ApiRequest) -> Response:
    """One handler. Raises NotFound."""
    query: HandlerQuery = request.query
    system, asked = request.service.system, part(request)
    handler = system.handler(request.id)
    method = _chosen(handler.methods, query.method, request.id)
    facts: dict[str, Any] = {}
    if asked in (None, "numbers"):
        counts = await system.ends_by_handler(HOURS)
        facts["ends"] = view.ends(counts.get(handler.handler_id, {}))
        facts["open"] = system.open(handler.handler_id)
        facts["letters"] = request.service.dead_letters.waiting.get(handler.handler_id, 0)
    if asked in (None, "waiting"):
        queues = await system.queues(handler.handler_id)
        facts["queues"], facts["more_queues"] = queues[:QUEUES], max(0, len(queues) - QUEUES)
    rule = system.rule(handler.handler_id)
    return page(
        request,
        "handler.html",
        title=handler.handler_id,
        topics=["handler", "node", "dead_letters"],
        handler=handler,
        lines=[view.line(one) for one in handler.methods],
        chosen=None if method is None else view.method_view(method),
        allowed=rule.allowed_methods,
        limits=view.limits(rule),
        hours=HOURS,
        here=url("/handlers", handler.handler_id, method=query.method),
        **facts,
    )


def _chosen(methods: list[JobMethod], name: str, handler_id: str) -> JobMethod | None:
    if not name:
        return methods[0] if methods else None
    found = next((method for method in methods if method.name == name), None)
    if found is None:
        raise NotFound(f"handler {handler_id!r} has no method {name!r}", hint="it may have had one before")
    return found
