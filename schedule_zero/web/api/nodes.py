"""Endpoints on nodes."""

from __future__ import annotations

from schedule_zero.web.api import system_records as records
from schedule_zero.web.api.request import ApiRequest, Response


async def search(request: ApiRequest) -> Response:
    """All nodes that are known, connected or not."""
    nodes = [records.node_record(node) for node in request.service.system.nodes()]
    return Response(records.Nodes(nodes=nodes, count=len(nodes)))


async def drain(request: ApiRequest) -> Response:
    """Give this node no new work; what runs on it may finish."""
    return Response(records.node_record(await request.service.system.drain(request.principal, request.id)))


async def resume(request: ApiRequest) -> Response:
    """Give this node work again."""
    return Response(records.node_record(await request.service.system.resume(request.principal, request.id)))
