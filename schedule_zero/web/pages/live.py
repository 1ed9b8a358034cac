"""The stream that an open page listens to: hints by topic, at most four a second; the page then asks for its parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from schedule_zero.ops.hints import Hints
from schedule_zero.service.sessions import SessionService
from schedule_zero.web.api.request import ApiRequest, EventStream

KEEPALIVE_S = 15.0
# After a lost connection the browser's extension waits so long at first.
RETRY_MS = 500
HINT = "sz-hint"
SIGNED_OUT = "sz-signed-out"

_encode = msgspec.json.Encoder().encode


class LiveQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # Words before the dot of events' kinds: execution, schedule, node …
    topics: Annotated[list[str], Meta(max_length=20)] = []
    # The last event before the page was made.
    since: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


async def stream(request: ApiRequest) -> EventStream:
    """Hints until the page, the session, or the server ends."""
    query: LiveQuery = request.query
    seen = request.headers.get("Last-Event-ID") or ("" if query.since is None else str(query.since))
    sessions, live = request.service.sessions, request.live
    return EventStream(
        hints(request.service.system.hints, frozenset(query.topics), seen, sessions, live.session.id if live else None)
    )


async def hints(
    source: Hints, topics: frozenset[str], seen: str, sessions: SessionService, session_id: str | None
) -> AsyncGenerator[bytes, None]:
    """The chunks of one stream. ``seen``: up to which event the page knows what there is."""
    watcher = source.watch(topics)
    try:
        # An id alone makes no event. A page that may have missed something is told that anything may have changed.
        yield b"retry: %d\nid: %d\n\n" % (RETRY_MS, source.last_seq)
        if seen and seen != str(source.last_seq):
            yield _hint(source, dict.fromkeys(topics, 0))
        while True:
            changed = await watcher.changes(KEEPALIVE_S)
            if session_id is not None and not sessions.is_living(session_id):
                yield b"event: %s\ndata: {}\n\n" % SIGNED_OUT.encode()
                return
            if changed:
                yield _hint(source, changed)
                await watcher.pause()
            else:
                yield b": still here\n\n"
    finally:
        watcher.close()


def _hint(source: Hints, changed: object) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (source.last_seq, HINT.encode(), _encode(changed))
