"""Nodes: who is there, how well, and taking one out of service."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.model import OperationKind
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.render import done, page, url

TOPICS = ["node", "execution"]
OPERATION_WORDS = {
    OperationKind.CORDON: "cordoned",
    OperationKind.DRAIN: "draining",
    OperationKind.QUARANTINE: "quarantined",
}


class NoteForm(Struct, frozen=True, forbid_unknown_fields=True):
    note: Annotated[str, Meta(max_length=1000)] | None = None


async def index(request: ApiRequest) -> Response:
    """All nodes that are known."""
    nodes = sorted(request.service.system.nodes(), key=lambda node: node.node_id)
    return page(request, "nodes.html", title="Nodes", nodes=nodes, topics=TOPICS, operation_words=OPERATION_WORDS)


async def show(request: ApiRequest) -> Response:
    """One node. Raises NotFound."""
    node = request.service.system.node(request.id)
    return page(request, "node.html", title=node.node_id, node=node, topics=TOPICS, operation_words=OPERATION_WORDS)


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
    return done(request, f"{request.id} gets work again", to="/nodes")
