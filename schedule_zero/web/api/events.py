"""Server-sent events: what was committed, as it is committed, with replay from the journal.

The id of an event is ``<journal seq>-<index>``. Who reconnects with it misses nothing that the journal still has;
who has to re-read its state (the journal was pruned, or it read too slowly) is told so by an ``event: resync``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

import msgspec
from msgspec import UnsetType

from schedule_zero.errors import InvalidField
from schedule_zero.model import Event
from schedule_zero.ops.events import Subscription
from schedule_zero.service.system import SystemService
from schedule_zero.web.api.request import ApiRequest, EventStream
from schedule_zero.web.api.schemas import EventsQuery
from schedule_zero.web.api.system_records import EventRecord, Resync

RETRY_MS = 2000
KEEPALIVE_S = 15.0
QUEUE = 2_000
# Transactions read from the journal at a time, and events put into one chunk.
REPLAY_ROWS = 200
CHUNK = 200

# Journal seq and index of the event that was sent last …
Position = tuple[int, int]
# … and the index that stands for "all of that transaction".
ALL = 1 << 31

Wanted = Callable[[Event], bool]
_encode = msgspec.json.Encoder().encode


async def stream(request: ApiRequest) -> EventStream:
    """Events from now on, or from ``Last-Event-ID`` (or ``since``) on."""
    query: EventsQuery = request.query
    since: Position | None = None
    # A browser that reconnects sends the header, while its URL still has the older ``since``.
    if last := request.headers.get("Last-Event-ID"):
        since = position(last, header="Last-Event-ID")
    elif not isinstance(query.since, UnsetType):
        since = position(query.since, parameter="since")
    topics = frozenset(() if isinstance(query.topics, UnsetType) else query.topics)
    kinds = frozenset(() if isinstance(query.kinds, UnsetType) else query.kinds)

    def wanted(event: Event) -> bool:
        return not (topics or kinds) or event.kind in kinds or event.kind.partition(".")[0] in topics

    return EventStream(frames(request.service.system, since, wanted))


def position(text: str, **where: str) -> Position:
    """``12-3`` → (12, 3); ``12`` stands for all of transaction 12."""
    seq, dash, index = text[:40].partition("-")
    if not _is_number(seq) or (dash and not _is_number(index)):
        raise InvalidField("expected the id of an event, such as 12-0", **where)
    return int(seq), int(index) if dash else ALL


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


async def frames(
    system: SystemService,
    since: Position | None,
    wanted: Wanted,
    *,
    keepalive_s: float = KEEPALIVE_S,
    queue: int = QUEUE,
) -> AsyncGenerator[bytes, None]:
    """The chunks of one stream; it never ends by itself."""
    feed = _Feed(system, wanted, since)
    # An id without data: who is cut off before the first event can still ask for what it missed.
    yield b"retry: %d\n%s\n" % (RETRY_MS, b"id: %d\n" % feed.last[0] if since is None else b"")
    if since is not None:
        if gap := await feed.gap():
            yield feed.resync(gap, min(since[0], system.hub.last_seq))
        # Most of the journal without a subscription, so that a long replay can't overflow one.
        async for chunk in feed.replay():
            yield chunk
    subscription = system.hub.subscribe(queue)
    try:
        # What was committed between the last page and the subscription.
        async for chunk in feed.replay():
            yield chunk
        while True:
            if subscription.overflowed:
                subscription.close()
                subscription = system.hub.subscribe(queue)
                yield feed.resync("events came faster than they were read", system.hub.last_seq)
            try:
                async with asyncio.timeout(keepalive_s):
                    chunk = await feed.live(subscription)
            except TimeoutError:
                chunk = b": keep-alive\n\n"
            if chunk:
                yield chunk
    finally:
        subscription.close()


class _Feed:
    """What one client is sent: from the journal, then from a subscription, each event once."""

    def __init__(self, system: SystemService, wanted: Wanted, since: Position | None) -> None:
        self._system = system
        self._wanted = wanted
        self.last: Position = (system.hub.last_seq, ALL) if since is None else since

    async def gap(self) -> str | None:
        """Why the journal can't go on after ``last``; None if it can."""
        if self.last[0] > self._system.hub.last_seq:
            return "that id is from another journal"
        rows = await self._system.events_after(self.last[0], 1)
        # Journal numbers have no holes.
        if rows and rows[0][0] > self.last[0] + 1:
            return "the journal no longer has what came next"
        return None

    async def replay(self) -> AsyncGenerator[bytes, None]:
        """What the journal has after ``last``, page by page."""
        full = True
        while full:
            seq, index = self.last
            # The transaction of ``last`` again, unless all of it was sent.
            rows = await self._system.events_after(seq if index == ALL else seq - 1, REPLAY_ROWS)
            full = len(rows) == REPLAY_ROWS
            chunk = self._take((seq, index, event) for seq, events in rows for index, event in enumerate(events))
            if rows:
                self.last = (rows[-1][0], ALL)
            if chunk:
                yield chunk

    async def live(self, subscription: Subscription) -> bytes:
        """The next events of a subscription, as many as are there."""
        items = [await subscription.get()]
        while len(items) < CHUNK and not subscription.empty():
            items.append(await subscription.get())
        return self._take((*position(id_), event) for id_, event in items)

    def resync(self, reason: str, seq: int) -> bytes:
        """Tell the client to read its state again; the stream goes on after ``seq``."""
        self.last = (seq, ALL)
        return b"id: %d\nevent: resync\ndata: %s\n\n" % (seq, _encode(Resync(reason=reason)))

    def _take(self, events: Iterable[tuple[int, int, Event]]) -> bytes:
        parts = []
        for seq, index, event in events:
            if (seq, index) <= self.last:
                continue
            self.last = (seq, index)
            if self._wanted(event):
                data = _encode(EventRecord(kind=event.kind, id=event.id, data=event.data))
                parts.append(b"id: %d-%d\nevent: %s\ndata: %s\n\n" % (seq, index, event.kind.encode(), data))
        return b"".join(parts)
