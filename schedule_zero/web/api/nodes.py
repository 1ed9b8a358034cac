"""Endpoints on nodes."""

from __future__ import annotations

from schedule_zero.web.api import system_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import DrainBody, NodeBody


async def search(request: ApiRequest) -> Response:
    """All nodes that are known, connected or not."""
    nodes = [records.node_record(node) for node in request.service.system.nodes()]
    return Response(records.Nodes(nodes=nodes, count=len(nodes)))


async def show(request: ApiRequest) -> Response:
    """One node; what is left of a drain is its ``running``."""
    return Response(records.node_record(request.service.system.node(request.id)))


async def cordon(request: ApiRequest) -> Response:
    """Give this node no new work; what it holds, it runs."""
    body: NodeBody = request.body or NodeBody()
    return Response(records.node_record(await request.service.system.cordon(request.principal, request.id, body.note)))


async def drain(request: ApiRequest) -> Response:
    """Give this node no new work; it hands back what it has not started, and at the deadline what still runs."""
    body: DrainBody = request.body or DrainBody()
    node = await request.service.system.drain(request.principal, request.id, body.note, body.deadline_s)
    return Response(records.node_record(node))


async def quarantine(request: ApiRequest) -> Response:
    """As the server does it to a node that fails: no new work, later one job at a time, until one completes."""
    body: NodeBody = request.body or NodeBody()
    node = await request.service.system.quarantine(request.principal, request.id, body.note)
    return Response(records.node_record(node))


async def release(request: ApiRequest) -> Response:
    """Give this node work again: the end of a cordon, a drain or a quarantine."""
    body: NodeBody = request.body or NodeBody()
    return Response(records.node_record(await request.service.system.release(request.principal, request.id, body.note)))


async def resume(request: ApiRequest) -> Response:
    """The same as ``release``, by its earlier name."""
    return await release(request)
