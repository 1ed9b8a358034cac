"""Verbs on the logs of executions, and what a stream of them is asked for and gives."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from schedule_zero.client.asking import Asking, as_query, segment
from schedule_zero.client.events import Event
from schedule_zero.client.flow import Flow
from schedule_zero.client.records import LogLine, LogPage
from schedule_zero.client.verb import verb


class LogVerbs(Asking):
    """A part of ``Verbs``."""

    @verb
    def logs(
        self,
        execution_id: str,
        *,
        attempt: int | None = None,
        first: int | None = None,
        limit: int = 1000,
        tail: int | None = None,
        grep: str | None = None,
        ignore_case: bool = False,
    ) -> Flow[LogPage]:
        """Lines of the log of one attempt (the newest): from line ``first`` on, or the last ``tail``.

        ``grep``: only lines with this text in them.
        """
        query = {
            "attempt": attempt,
            "from": first,
            "limit": None if limit == 1000 else limit,
            "tail": tail,
            "grep": grep,
            "ignore_case": "true" if ignore_case else None,
        }
        return (yield from self.ask("GET", f"/api/executions/{segment(execution_id)}/logs", LogPage, query=query))


class Follow(TypedDict, total=False):
    """What ``follow`` takes: see ``Client.follow_logs``."""

    attempt: int | None
    first: int | None
    tail: int | None
    grep: str | None
    ignore_case: bool


def following(execution_id: str, wanted: Follow) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Path and query of the stream."""
    query = {
        "attempt": wanted.get("attempt"),
        "from": wanted.get("first"),
        "tail": wanted.get("tail"),
        "grep": wanted.get("grep"),
        "ignore_case": "true" if wanted.get("ignore_case") else None,
    }
    return f"/api/executions/{segment(execution_id)}/logs/follow", as_query(query)


def log_lines(event: Event) -> list[LogLine]:
    """The lines of an event of the stream; none but ``log`` has any."""
    if event.kind != "log":
        return []
    attempt = event.data.get("attempt", 0)
    lines = msgspec.convert(event.data.get("lines", []), list[LogLine])
    return [msgspec.structs.replace(line, attempt=attempt) for line in lines]
