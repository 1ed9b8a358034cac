"""Ctrl-K: schedules, executions, nodes, handlers and jobs, by a part of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.store import Store, finding

# Of each kind.
MOST = 6
# Fewer letters of an execution's id are those of half the history.
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{6,26}")


class Found(Struct, frozen=True):
    """One thing: of which kind (``schedule``, ``execution``, ``node``, ``handler``, ``job``), its id, and a note.

    A job's id is its handler's, its note the method.
    """

    kind: str
    id: str
    note: str = ""


class FindingService:
    """Looks in memory for what is there, and in the store with two bounded reads."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    async def find(self, text: str) -> list[Found]:
        """What has ``text`` in its name, at most six of each kind."""
        text = text.strip()
        if not text:
            return []
        schedules = await self._store.read(lambda conn: finding.schedules_like(conn, text, limit=MOST))
        found = [Found("schedule", id_) for id_ in schedules]
        prefix = text.lower()
        if _ID.fullmatch(prefix):
            rows = await self._store.read(lambda conn: finding.executions_from(conn, prefix, limit=MOST))
            found += [Found("execution", id_, f"{handler}.{method} {state}") for id_, handler, method, state in rows]
        return [*found, *self._in_memory(prefix)]

    def _in_memory(self, text: str) -> Iterator[Found]:
        nodes = [node for node in self._dispatcher.nodes() if text in node.node_id.lower()]
        for node in nodes[:MOST]:
            yield Found("node", node.node_id, node.state)
        handlers = self._dispatcher.registry.handlers()
        for handler in [one for one in handlers if text in one.handler_id.lower()][:MOST]:
            yield Found("handler", handler.handler_id)
        jobs = [(one.handler_id, method.name) for one in handlers for method in one.methods]
        for handler_id, name in [job for job in jobs if text in ".".join(job).lower()][:MOST]:
            yield Found("job", handler_id, name)
