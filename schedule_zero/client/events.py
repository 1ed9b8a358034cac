"""Server-sent events (WHATWG HTML, 9.2) without I/O: bytes in, events out, and when to connect again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.client.flow import Failure, Patience, Reply, Request, delay_s, error_after, worth_another_try
from schedule_zero.clock import Clock


class Event(Struct, frozen=True, kw_only=True):
    """A fact that the server committed. After ``resync`` some were missed: read again what you need to know."""

    # ``noun.verb``, such as ``execution.finished``.
    kind: str
    # Its subject's: of the execution, the schedule, the node.
    id: str = ""
    data: dict[str, Any] = {}
    # Where it stands in the journal: what ``events(since=…)`` takes.
    event_id: str = ""


class EventStream:
    """A stream over as many connections as it takes: whoever carries it out connects, feeds, and pauses as told."""

    def __init__(
        self,
        topics: Sequence[str],
        kinds: Sequence[str],
        since: str | None,
        patience: Patience,
        clock: Clock,
        random: Callable[[], float],
        *,
        path: str = "/api/events",
        query: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._path = path
        names = {"topics": topics, "kinds": kinds}
        self._query = query + tuple((name, ",".join(values)) for name, values in names.items() if values)
        self._parser = EventParser(since)
        self._patience = patience
        self._clock = clock
        self._random = random
        self._give_up_s: float | None = None
        self._tries = 0
        self._was_connected = False

    def request(self) -> Request:
        """The request of the next connection: it continues after the last event."""
        last = self._parser.last_id
        headers = (("accept", "text/event-stream"), *((("last-event-id", last),) if last else ()))
        return Request("GET", self._path, self._query, headers=headers)

    def connected(self) -> None:
        self._parser.restart()
        self._was_connected = True
        self._tries = 0

    def feed(self, chunk: bytes) -> list[Event]:
        return self._parser.feed(chunk)

    def pause_s(self, outcome: Reply | Failure) -> float:
        """How long to wait before the next connection; raises the typed error where there should be none."""
        request = self.request()
        now_s = self._clock.mono_s()
        if self._give_up_s is None:
            self._give_up_s = now_s + self._patience.retry_s
        pause_s = max(delay_s(outcome, self._tries, self._random()), self._parser.retry_s or 0.0)
        # A server that was there comes back; one that never answered may not exist.
        too_long = not self._was_connected and now_s + pause_s >= self._give_up_s
        if too_long or not worth_another_try(outcome, request):
            raise error_after(outcome, request)
        self._tries += 1
        return pause_s


class EventParser:
    """The lines of one connection. ``last_id`` and ``retry_s`` outlive it: they say how to connect again."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        # What the server asked for between connections.
        self.retry_s: float | None = None
        self._buffer = b""
        self._fields: dict[str, str] = {}
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with ``chunk``."""
        self._buffer += chunk
        found: list[Event] = []
        # CR LF, LF and CR end a line; a CR at the very end may be half of a CR LF, and waits.
        *lines, self._buffer = _lines(self._buffer)
        for line in lines:
            event = self._line(line.decode("utf-8", errors="replace"))
            if event is not None:
                found.append(event)
        return found

    def restart(self) -> None:
        """A new connection begins: what was half there is forgotten."""
        self._buffer = b""
        self._fields, self._data = {}, []

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value) / 1000
        elif name in ("id", "event"):
            self._fields[name] = value
        return None

    def _dispatch(self) -> Event | None:
        fields, data = self._fields, "\n".join(self._data)
        self._fields, self._data = {}, []
        if fields.get("id"):
            self.last_id = fields["id"]
        if not data:
            return None
        kind = fields.get("event", "message")
        try:
            record = msgspec.json.decode(data, type=_Data)
        except msgspec.DecodeError:  # not JSON, or not in the server's form
            record = _Data(data={"text": data})
        return Event(kind=kind, id=record.id, data=record.data, event_id=self.last_id or "")


class _Data(Struct):
    """The ``data:`` of the server's events."""

    id: str = ""
    data: dict[str, Any] = {}
    # Of a resync.
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and not self.data:
            self.data = {"reason": self.reason}


def _lines(buffer: bytes) -> list[bytes]:
    held = b""
    if buffer.endswith(b"\r"):
        buffer, held = buffer[:-1], b"\r"
    lines = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines[-1] += held
    return lines
