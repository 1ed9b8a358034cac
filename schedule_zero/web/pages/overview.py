"""The overview: first a sentence with the verdict, then what it rests on."""

from __future__ import annotations

from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.render import page

TOPICS = ["execution", "node", "schedule", "schedules"]


async def index(request: ApiRequest) -> Response:
    """How everything is."""
    return page(request, "overview.html", title="Overview", topics=TOPICS)
