"""Endpoints on the server itself: health, probes, metrics, settings, and this API's own description."""

from __future__ import annotations

from msgspec import UnsetType

from schedule_zero.web.api import system_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import ReadyQuery

TEXT = "text/plain; charset=utf-8"


async def health(request: ApiRequest) -> Response:
    """Whether the server works, for people and for clients of the earlier ScheduleZero."""
    return Response(request.service.system.health())


async def livez(request: ApiRequest) -> Response:  # noqa: ARG001 - the signature of every endpoint
    """The process answers: no reason to restart it."""
    return Response(records.Live(status="ok"))


async def readyz(request: ApiRequest) -> Response:
    """Whether to send work here; ``?verbose`` names every check, otherwise only those that fail are named."""
    query: ReadyQuery = request.query
    verbose = not isinstance(query.verbose, UnsetType) and query.verbose in ("", "1", "true")
    ready, checks = request.service.system.ready()
    return Response(
        records.Ready(
            status="ready" if ready else "not ready",
            checks={name: message or "ok" for name, message in checks.items() if verbose or message is not None},
        ),
        status=200 if ready else 503,
    )


async def metrics(request: ApiRequest) -> Response:
    """Everything that is counted, for Prometheus."""
    content_type, body = request.service.system.metrics()
    return Response(body, content_type=content_type)


async def version(request: ApiRequest) -> Response:
    """Which software this is."""
    return Response(request.service.system.version())


async def config(request: ApiRequest) -> Response:
    """The settings in force; secrets are masked."""
    return Response(request.service.system.config())


async def openapi(request: ApiRequest) -> Response:  # noqa: ARG001 - the signature of every endpoint
    """This API as OpenAPI 3.1, made from the table that routes its requests."""
    from schedule_zero.web.api.openapi import document

    return Response(document())
