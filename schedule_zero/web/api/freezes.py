"""Endpoints on the switch that stops all schedules."""

from __future__ import annotations

from schedule_zero.errors import InvalidField
from schedule_zero.web.api import schedule_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import FreezeBody, ThawBody, bounded_us, catch_up_of


async def search(request: ApiRequest) -> Response:
    """The freeze in force, and all that there were."""
    current, freezes = await request.service.freezes.all()
    return Response(
        records.Freezes(
            current=None if current is None else records.freeze_record(current),
            freezes=[records.freeze_record(freeze) for freeze in freezes],
        )
    )


async def freeze(request: ApiRequest) -> Response:
    """Nothing fires and nothing is decided, until the thaw."""
    body: FreezeBody = request.body or FreezeBody()
    if body.catch_up is not None and body.until is None:
        raise InvalidField("expected it together with until: otherwise whoever thaws says it", pointer="/catch_up")
    until_us = bounded_us(body.until, pointer="/until")
    frozen = await request.service.freezes.freeze(
        request.principal, body.note, until_us, catch_up_of(body.catch_up or "policy")
    )
    return Response(records.freeze_record(frozen))


async def thaw(request: ApiRequest) -> Response:
    """Go on; what was due meanwhile is made up for as the body says."""
    body: ThawBody = request.body
    thawed = await request.service.freezes.thaw(request.principal, catch_up_of(body.catch_up))
    return Response(records.freeze_record(thawed))
