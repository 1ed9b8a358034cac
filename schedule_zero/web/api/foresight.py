"""Endpoints on what will happen."""

from __future__ import annotations

from msgspec import UnsetType

from schedule_zero.web.api import foresight_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import FeedQuery, ForecastQuery, bounded_us

DAY_S = 86_400.0


async def feed(request: ApiRequest) -> Response:
    """The fires to come as an iCalendar feed (RFC 5545), for a diary."""
    from schedule_zero.web.api.ical import calendar_of

    query: FeedQuery = request.query
    now_us = request.service.schedules.now_us()
    to_us = now_us + round(query.days * DAY_S * 1e6)
    schedule_id = None if isinstance(query.schedule_id, UnsetType) else query.schedule_id
    coming = await request.service.foresight.coming(now_us, to_us, schedule_id)
    return Response(
        calendar_of(request.config.instance_name, coming, now_us), content_type="text/calendar; charset=utf-8"
    )


async def forecast(request: ApiRequest) -> Response:
    """The fires to come, in buckets: where they collide, and when it is quiet."""
    query: ForecastQuery = request.query
    now_us = request.service.schedules.now_us()
    from_us = bounded_us(query.from_, parameter="from")
    from_us = now_us if from_us is None else from_us
    to_us = bounded_us(query.to, parameter="to")
    to_us = from_us + round(DAY_S * 1e6) if to_us is None else to_us
    bucket_us = round(query.bucket_s * 1e6)
    quiet_us = None if isinstance(query.quiet_s, UnsetType) else round(query.quiet_s * 1e6)
    found = await request.service.foresight.forecast(from_us, to_us, bucket_us, quiet_us)
    return Response(records.forecast_record(found, from_us, to_us))
