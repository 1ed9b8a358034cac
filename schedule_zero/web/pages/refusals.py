"""Errors as people meet them: sent to sign in, told in a corner of the page they are on, or on a page of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from schedule_zero.errors import ScheduleZeroError, Unauthenticated
from schedule_zero.web.api.request import Response
from schedule_zero.web.pages.render import HTML, message_of, render_bare

LOGIN = "/login"


def refusal(
    error: ScheduleZeroError, request_id: str, method: str, target: str, headers: Mapping[str, str]
) -> Response:
    """``target`` is the path and query that were asked for."""
    by_htmx = headers.get("HX-Request") == "true"
    if isinstance(error, Unauthenticated) and not target.startswith(LOGIN):
        here = urlsplit(headers.get("HX-Current-URL", "")) if by_htmx else None
        back = target if here is None else f"{here.path}?{here.query}" if here.query else here.path
        to = f"{LOGIN}?next={quote(back or '/', safe='')}"
        if by_htmx:
            return Response(status=401, headers=(("HX-Redirect", to),), content_type=HTML)
        if method == "GET":
            return Response(status=303, headers=(("Location", to),), content_type=HTML)
    if by_htmx:
        said = json.dumps({"sz:problem": {"text": message_of(error), "code": error.code}})
        shown = (("HX-Trigger", said), ("HX-Reswap", "none"))
        return Response(status=error.http_status, headers=shown, content_type=HTML)
    body = render_bare("error.html", headers, error=error, request_id=request_id)
    return Response(body, status=error.http_status, content_type=HTML)
