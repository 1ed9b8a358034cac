"""Nodes: who is there, how well, and taking one out of service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schedule_zero.dispatch.views import NodeView
from schedule_zero.store.executions import Filter
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import node_view
from schedule_zero.web.pages.execution_lines import lines
from schedule_zero.web.pages.render import done, page, part, url

TOPICS = ["node"]
# Of one node's page.
HELD = 100
RECENT = 20
HISTORY = 50
STATES = {
    "online": "online",
    "suspect": "silent",
    "lost": "lost",
    "offline": "offline",
    "out": "out of service",
}
Note = Annotated[str, Meta(max_length=1000)]
Text = Annotated[str, Meta(max_length=200)]


class NodesQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    q: Text = ""
    state: Literal["", "online", "suspect", "lost", "offline", "out"] = ""
    handler: Text = ""
    # The last node of the page before.
    after: Text = ""


class NoteForm(Struct, frozen=True, forbid_unknown_fields=True):
    note: Note | None = None


class OperateForm(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    what: Literal["cordon", "drain", "quarantine"]
    note: Note | None = None
    # Of a drain: after so long what still runs is handed back.
    deadline_min: Annotated[float, Meta(ge=0, le=525_600)] | None = None


async def index(request: ApiRequest) -> Response:
    """All nodes that are known, or those that are meant."""
    query: NodesQuery = request.query
    nodes = request.service.system.nodes()
    found = node_view.matching(nodes, query.q, query.state, query.handler)
    after = [node for node in found if node.node_id > query.after]
    shown = after[: node_view.PER_PAGE]
    filters = {"q": query.q, "state": query.state, "handler": query.handler}
    more = len(after) > len(shown)
    return page(
        request,
        "nodes.html",
        title="Nodes",
        topics=TOPICS,
        sums=node_view.sums(nodes),
        rows=[node_view.row(node) for node in shown],
        found=len(found),
        query=query,
        states=STATES,
        handler_ids=[view.handler_id for view in request.service.system.handlers()][:200],
        here=url("/nodes", **filters, after=query.after),
        first_url=url("/nodes", **filters) if query.after else "",
        next_url=url("/nodes", **filters, after=shown[-1].node_id) if more else "",
    )


async def show(request: ApiRequest) -> Response:
    """One node. Raises NotFound."""
    system, asked = request.service.system, part(request)
    node = system.node(request.id)
    facts: dict[str, Any] = {}
    if asked in (None, "held"):
        held = system.held(node.node_id, HELD)
        facts["held"] = [(one, system.progress(one.execution_id)) for one in held]
    if asked in (None, "serves"):
        facts["serves"] = _served(request, node)
    if asked in (None, "recent"):
        recent = await request.service.executions.find(Filter(node_id=node.node_id, limit=RECENT))
        facts["recent"] = lines(recent.rows)
    if asked in (None, "history"):
        facts["history"] = node_view.happened(await system.node_history(node.node_id, HISTORY))
    return page(
        request,
        "node.html",
        title=node.node_id,
        topics=["node", "handler"],
        node=node,
        row=node_view.row(node),
        # What it tells of itself, but for what is shown anyway.
        told=sorted((name, value) for name, value in node.facts.items() if name not in ("host", "version")),
        **facts,
    )


def _served(request: ApiRequest, node: NodeView) -> list[tuple[str, list[Any]]]:
    """Handler → the methods that the node serves; those that are only remembered have none."""
    methods: dict[str, list[Any]] = {handler_id: [] for handler_id in node.handlers}
    for one in request.service.system.served_by(node.node_id):
        methods.setdefault(one.handler_id, []).append(one)
    return sorted(methods.items())


async def operate(request: ApiRequest) -> Response:
    """Take this node out of service, in one of three ways."""
    body: OperateForm = request.body
    system, who, node_id = request.service.system, request.principal, request.id
    if body.what == "drain":
        await system.drain(who, node_id, body.note, None if body.deadline_min is None else body.deadline_min * 60)
        said = f"{node_id} is being emptied"
    elif body.what == "quarantine":
        await system.quarantine(who, node_id, body.note)
        said = f"{node_id} is quarantined"
    else:
        await system.cordon(who, node_id, body.note)
        said = f"{node_id} gets no new work"
    return done(request, said, to=url("/nodes", node_id), undo=url("/nodes", node_id, "release"))


async def cordon(request: ApiRequest) -> Response:
    """Give this node no new work; what it holds, it runs."""
    body: NoteForm = request.body
    await request.service.system.cordon(request.principal, request.id, body.note)
    return done(request, f"{request.id} gets no new work", to="/nodes", undo=url("/nodes", request.id, "release"))


async def drain(request: ApiRequest) -> Response:
    """Give this node no new work; it hands back what it has not started."""
    body: NoteForm = request.body
    await request.service.system.drain(request.principal, request.id, body.note)
    return done(request, f"{request.id} is being emptied", to="/nodes", undo=url("/nodes", request.id, "release"))


async def release(request: ApiRequest) -> Response:
    """Give this node work again."""
    body: NoteForm = request.body
    await request.service.system.release(request.principal, request.id, body.note)
    return done(request, f"{request.id} gets work again", to=url("/nodes", request.id))
