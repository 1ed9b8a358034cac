"""Endpoints on handlers (of jobs: the classes with job methods that nodes host)."""

from __future__ import annotations

from schedule_zero.web.api import system_records as records
from schedule_zero.web.api.request import ApiRequest, Response


async def search(request: ApiRequest) -> Response:
    """All handlers that are known, connected or not."""
    handlers = [records.handler_record(handler) for handler in request.service.system.handlers()]
    return Response(records.Handlers(handlers=handlers, count=len(handlers)))
