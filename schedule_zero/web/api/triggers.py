"""Endpoints on triggers."""

from __future__ import annotations

from schedule_zero.service.specs import PreviewSpec
from schedule_zero.web.api import schedule_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import PreviewBody, bounded_us


async def preview(request: ApiRequest) -> Response:
    """What a trigger means, in words, and when it fires next. Nothing is stored."""
    body: PreviewBody = request.body
    spec = PreviewSpec(
        trigger=body.trigger,
        timezone=body.timezone,
        policies=body.policies,
        id=body.id,
        count=body.n,
        after_us=bounded_us(body.after, pointer="/after"),
    )
    return Response(records.preview_record(await request.service.schedules.preview(spec)))
