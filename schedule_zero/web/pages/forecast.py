"""The forecast: when how much will run, where schedules collide, when it is quiet, and what comes first."""

from __future__ import annotations

from datetime import date, timedelta, tzinfo
from typing import Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidField
from schedule_zero.service.foreseen import LISTED, Answer, Question
from schedule_zero.service.foresight import Only
from schedule_zero.timing.zones import iana_zone
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import forecast_view as shown
from schedule_zero.web.pages.days import day_of
from schedule_zero.web.pages.forecast_view import DAYS, Measure, Span
from schedule_zero.web.pages.preferences import TimeIn, preferences
from schedule_zero.web.pages.render import page, url
from schedule_zero.web.pages.words import moment, zone_for

TOPICS = ["schedule", "schedules", "calendar"]
# A page is not kept waiting for longer; what takes more is shown when it is known.
PATIENCE_S = 0.05
# Names of calendars in the list to choose from.
CALENDARS = 200

# The days that can be looked at; from each of them there is a way back and on.
FIRST, LAST = date(1971, 1, 1), date(9990, 12, 31)

Text = Annotated[str, Meta(max_length=200)]


class ForecastQuery(Struct, frozen=True, forbid_unknown_fields=True):
    span: Span = Span.WEEK
    # The first day, as 2030-01-31; today unless given.
    from_: Annotated[str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = field(name="from", default="")
    zone: Text = ""
    schedule: Text = ""
    calendar: Text = ""
    show: Measure = Measure.FIRES


async def index(request: ApiRequest) -> Response:
    """What is known of it now; where it takes longer, the page asks again."""
    query: ForecastQuery = request.query
    now_us = request.service.schedules.now_us()
    default = str(zone_for(preferences(request.headers), None))
    facts: dict[str, Any] = {"problem": None, "heat": None, "answer": None, "earlier": "", "later": ""}
    status = 200
    try:
        zone = _zone(query.zone, default)
        first = _first(query.from_, now_us, zone)
        asked = _question(query, first, zone)
        answer = await request.service.foreseen.ask(asked, PATIENCE_S)
        facts |= {"answer": answer, **_steps(query, first)}
        if answer is not None:
            facts |= _facts(query, answer, first, zone, now_us)
            if asked.from_us <= now_us < asked.to_us:
                # What comes next is shown as it is by now.
                facts["coming"] = await request.service.foresight.next_runs(asked.to_us, LISTED, asked.only)
            # All times of this page are in its own zone, whatever the viewer wants elsewhere.
            wanted = replace(preferences(request.headers), time=TimeIn.SCHEDULE)
            facts["when"] = lambda us: moment(us, now_us, wanted, zone)
    except InvalidField as error:
        facts["problem"], status = error, 400
    return page(
        request,
        "forecast.html",
        title="Forecast",
        status=status,
        topics=TOPICS,
        query=query,
        page_url=_here(query),
        zone=query.zone or default,
        calendars=request.service.calendars.names()[:CALENDARS],
        spans=[(span, _here(query, span=span)) for span in Span],
        measures=[(measure, _here(query, show=measure)) for measure in Measure],
        frozen=request.service.freezes.current() is not None,
        feed=url("/api/fires.ics", days=30, schedule_id=query.schedule if "*" not in query.schedule else ""),
        **facts,
    )


def _question(query: ForecastQuery, first: date, zone: tzinfo) -> Question:
    from_us_, to_us, bucket_us = shown.bounds(query.span, first, zone)
    only = Only(schedule=query.schedule.strip(), calendar=query.calendar)
    return Question(from_us=from_us_, to_us=to_us, bucket_us=bucket_us, only=only)


def _facts(query: ForecastQuery, answer: Answer, first: date, zone: tzinfo, now_us: int) -> dict[str, Any]:
    forecast = answer.foreseen.forecast
    busiest = max(forecast.buckets, key=lambda bucket: (bucket.fires, bucket.busy_s), default=None)
    return {
        "heat": shown.heat(forecast, query.span, query.show, first, zone, now_us),
        "forecast": forecast,
        "busiest": busiest if busiest is not None and busiest.fires else None,
        "bucket_s": forecast.bucket_us / 1e6,
        "quiet": shown.quiet_windows(forecast, now_us),
        "coming": answer.foreseen.first,
        "day_url": lambda day: _here(query, span=Span.DAY, from_=day.isoformat()),
    }


def _zone(said: str, default: str) -> tzinfo:
    zone = iana_zone(said or default)
    if zone is None:
        raise InvalidField(f"expected an IANA zone such as Europe/Berlin, got {said[:100]!r}", parameter="zone")
    return zone


def _first(said: str, now_us: int, zone: tzinfo) -> date:
    if not said:
        return from_us(now_us).astimezone(zone).date()
    return day_of(said, parameter="from", first=FIRST, last=LAST)


def _steps(query: ForecastQuery, first: date) -> dict[str, str]:
    """To the stretch before, and to the one after."""
    by = timedelta(days=DAYS[query.span])
    return {
        "earlier": _here(query, from_=(first - by).isoformat()),
        "later": _here(query, from_=(first + by).isoformat()),
    }


def _here(query: ForecastQuery, **other: str) -> str:
    """The address of this page, with something else in it."""
    said = {
        "span": query.span.value if query.span is not Span.WEEK else "",
        "from_": query.from_,
        "zone": query.zone,
        "schedule": query.schedule,
        "calendar": query.calendar,
        "show": query.show.value if query.show is not Measure.FIRES else "",
    }
    said |= other
    said["from"] = said.pop("from_")
    return url("/forecast", **said)
