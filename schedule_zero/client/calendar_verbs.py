"""What one can ask about named calendars. Documents are those of the HTTP API (docs/how-to/calendars.md)."""

from __future__ import annotations

from typing import Any

from schedule_zero.client import records
from schedule_zero.client.asking import ANYTHING, Asking, Json, Moment, match, segment
from schedule_zero.client.flow import Flow
from schedule_zero.client.records import CalendarRecord, Page
from schedule_zero.client.verb import verb


class CalendarVerbs(Asking):
    """Part of ``Verbs``."""

    @verb
    def put_calendar(
        self, name: str, document: Json, *, if_match: str | None = None, create_only: bool = False
    ) -> Flow[CalendarRecord]:
        """Replace or create a named calendar. The same document again is no new version.

        Raises PreconditionFailed where it isn't (any more) the one whose ``etag`` is ``if_match``, or where
        ``create_only`` and there is one.
        """
        headers = match(if_match) + ((("If-None-Match", "*"),) if create_only else ())
        path = f"/api/calendars/{segment(name)}"
        return (yield from self.ask("PUT", path, CalendarRecord, body=document, headers=headers))

    @verb
    def import_calendar(
        self, name: str, ical: str, *, add: bool = False, if_match: str | None = None
    ) -> Flow[CalendarRecord]:
        """Put the text of an iCalendar file into a calendar, in the place of the one before, or beside it (``add``)."""
        path = f"/api/calendars/{segment(name)}/import"
        body = {"ical": ical, "add": add}
        return (yield from self.ask("POST", path, CalendarRecord, body=body, headers=match(if_match)))

    @verb
    def calendar(self, name: str) -> Flow[CalendarRecord]:
        """One calendar. Raises NotFound."""
        return (yield from self.ask("GET", f"/api/calendars/{segment(name)}", CalendarRecord))

    @verb
    def calendars(self, *, limit: int = 100, cursor: str | None = None) -> Flow[records.CalendarPage]:
        """Calendars by name, without their documents."""
        query = {"limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", "/api/calendars", records.CalendarPage, query=query))

    @verb
    def delete_calendar(self, name: str, *, if_match: str | None = None) -> Flow[None]:
        """Forget a calendar; its versions stay. Raises NotFound, and InUse where schedules name it."""
        yield from self.ask("DELETE", f"/api/calendars/{segment(name)}", ANYTHING, headers=match(if_match))

    @verb
    def calendar_windows(
        self,
        name: str,
        from_: Moment | None = None,
        to: Moment | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[Page[records.CalendarWindow]]:
        """What a calendar covers, by start; from now, and for a year, if not said."""
        query: dict[str, Any] = {"from": from_, "to": to, "limit": limit, "cursor": cursor}
        path = f"/api/calendars/{segment(name)}/windows"
        return (yield from self.ask("GET", path, Page[records.CalendarWindow], query=query))

    @verb
    def check_calendar(self, name: str, at: Moment | None = None) -> Flow[records.CalendarCheck]:
        """Whether a calendar covers a moment (now), and by what; whether its day is a business day."""
        path = f"/api/calendars/{segment(name)}/check"
        return (yield from self.ask("GET", path, records.CalendarCheck, query={"at": at}))

    @verb
    def calendar_versions(
        self, name: str, *, version: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Flow[Page[records.CalendarVersion]]:
        """Every version of a calendar, newest first; with ``version`` that one, with its document."""
        query = {"version": version, "limit": limit, "cursor": cursor}
        path = f"/api/calendars/{segment(name)}/versions"
        return (yield from self.ask("GET", path, Page[records.CalendarVersion], query=query))
