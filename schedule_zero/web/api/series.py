"""The endpoint behind the charts of what was."""

from __future__ import annotations

from schedule_zero.web.api import series_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import SeriesQuery, bounded_us, given


async def read(request: ApiRequest) -> Response:
    """What was counted, in buckets: ends by state, fires by outcome, three kinds of times, how much was open."""
    query: SeriesQuery = request.query
    from_us = bounded_us(query.since, parameter="since")
    to_us = bounded_us(query.until, parameter="until")
    view = await request.service.series.read(from_us, to_us, given(query.step_s))
    return Response(records.series_record(view))
