"""The verb on the audit log: who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schedule_zero.client.asking import Asking, Moment
from schedule_zero.client.flow import Flow
from schedule_zero.client.records import Page, Record
from schedule_zero.client.verb import verb


class ChangeRecord(Record, frozen=True):
    """``by`` did ``verb`` to ``count`` things. ``token_id`` None and ``by`` ``server``: the server itself."""

    seq: int
    at: datetime
    by: str
    verb: str
    noun: str
    # Of one thing its id; of many that of the deed.
    subject: str
    count: int = 1
    token_id: str | None = None
    address: str | None = None
    note: str | None = None
    request_id: str | None = None
    # ``omitted`` in them names what is too large to be kept.
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class ChangeVerbs(Asking):
    """A part of ``Verbs``."""

    @verb
    def changes(
        self,
        *,
        noun: str | None = None,
        verb: str | None = None,
        subject: str | None = None,
        by: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[Page[ChangeRecord]]:
        """The audit log, newest first. A page may be short and still have a ``next_cursor``."""
        query = {
            "noun": noun,
            "verb": verb,
            "subject": subject,
            "by": by,
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
        }
        return (yield from self.ask("GET", "/api/changes", Page[ChangeRecord], query=query))
