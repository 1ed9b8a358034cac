"""What concerns the server as a whole: its nodes and handlers, health, settings and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version as package_version
from typing import Any

import msgspec

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.config import HandlerRule, ServerConfig
from schedule_zero.dispatch.dispatcher import Dispatcher, NodeView, ProgressView
from schedule_zero.dispatch.on_nodes import HeldView, QueueView
from schedule_zero.dispatch.registry import HandlerView, ServedView
from schedule_zero.errors import NotFound
from schedule_zero.model import Event, JobMethod, NodeOperation, NodeState, OperationKind
from schedule_zero.ops.events import EventHub
from schedule_zero.ops.hints import Hints
from schedule_zero.ops.supervise import Supervisor
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store, handler_counts, node_history
from schedule_zero.store import events as store_events
from schedule_zero.store.node_history import NodeEvent

SERVICE_NAME = "ScheduleZero"
# Of a handler's executions that wait in the store.
MOST_COUNTED = 10_000


class SystemService:
    """Reads that need no transaction of their own, and the operations on nodes."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        hub: EventHub,
        hints: Hints,
        supervisor: Supervisor,
        clock: Clock,
        config: ServerConfig,
        render_metrics: Callable[[], tuple[str, bytes]],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._clock = clock
        self._config = config
        self._started_us = clock.wall_us()
        self._started_s = clock.mono_s()
        self.hub = hub
        self.hints = hints
        self.metrics = render_metrics
        # Set while the server stops: not ready any more, although it still answers.
        self.draining = False

    def handlers(self) -> list[HandlerView]:
        """Every handler that was ever declared, connected or not."""
        return self._dispatcher.registry.handlers()

    def handler(self, handler_id: str) -> HandlerView:
        """One of them. Raises NotFound."""
        found = next((view for view in self.handlers() if view.handler_id == handler_id), None)
        if found is None:
            raise NotFound(f"no handler {handler_id!r} is known", hint="a node that serves it makes it known")
        return found

    def rule(self, handler_id: str) -> HandlerRule:
        """What an operator declared about a handler (handler_registry.yaml)."""
        return self._dispatcher.registry.rule(handler_id)

    async def queues(self, handler_id: str) -> list[QueueView]:
        """What waits for the nodes of a handler, and why; counted in the store, too, where that is not too much."""
        queues = self._dispatcher.queues(handler_id)
        if not any(queue.more for queue in queues):
            return queues
        counts = await self._store.read(lambda conn: handler_counts.pending(conn, handler_id, MOST_COUNTED))
        if counts is not None:
            for queue in queues:
                queue.count, queue.more = counts.get(queue.key, 0), False
        return [queue for queue in queues if queue.count or queue.more]

    def open(self, handler_id: str) -> int:
        """How many executions of a handler are not over."""
        return self._store.tally.open.get(handler_id, 0)

    async def ends_by_handler(self, hours: int) -> dict[str, Mapping[str, int]]:
        """Handler → terminal state, or ``created`` → how many, in the newest ``hours`` whole hours."""
        since_us = handler_counts.first_hour_us(self._clock.wall_us(), hours)
        return await self._store.read(lambda conn: handler_counts.by_handler(conn, since_us))

    def method(self, handler_id: str, job_method: str) -> JobMethod | None:
        """One job method that may be used; None: there is none of that name."""
        return self._dispatcher.registry.usable(handler_id, job_method)

    def nodes(self) -> list[NodeView]:
        return self._dispatcher.nodes()

    def node_states(self) -> Counter[NodeState]:
        """How many nodes are in each state."""
        return self._dispatcher.node_states()

    def node(self, node_id: str) -> NodeView:
        """One node. Raises NotFound."""
        return self._dispatcher.node(node_id)

    def held(self, node_id: str, most: int) -> list[HeldView]:
        """What a node holds now, at most so many, what was sent first before the rest. Raises NotFound."""
        return self._dispatcher.held(node_id, most)

    def served_by(self, node_id: str) -> list[ServedView]:
        """The methods that a node serves now."""
        return self._dispatcher.registry.served_by(node_id)

    def progress(self, execution_id: str) -> ProgressView | None:
        """What a running execution last said of its progress."""
        return self._dispatcher.progress(execution_id)

    async def node_history(self, node_id: str, limit: int) -> list[NodeEvent]:
        """What happened to a node, the newest first."""
        return await self._store.read(lambda conn: node_history.newest(conn, node_id, limit))

    async def cordon(self, principal: Principal, node_id: str, note: str | None = None) -> NodeView:
        """Give this node no new work; what it holds, running or queued there, goes on. Raises NotFound."""
        return await self._take_out(principal, node_id, OperationKind.CORDON, note)

    async def drain(
        self, principal: Principal, node_id: str, note: str | None = None, deadline_s: float | None = None
    ) -> NodeView:
        """Give this node no new work; what waits on it unstarted goes to others, and so does, at the deadline (None:
        there is none), what still runs. Raises NotFound.
        """
        return await self._take_out(principal, node_id, OperationKind.DRAIN, note, deadline_s)

    async def quarantine(self, principal: Principal, node_id: str, note: str | None = None) -> NodeView:
        """As the server does it to a node that fails: no new work, then one job at a time until one completes. Raises
        NotFound.
        """
        probation_after_s = self._config.dispatch.quarantine_s
        return await self._take_out(principal, node_id, OperationKind.QUARANTINE, note, probation_after_s)

    async def release(self, principal: Principal, node_id: str, note: str | None = None) -> NodeView:
        """Give this node work again, whatever it was taken out of service for. Raises NotFound."""
        return await self._dispatcher.operate(node_id, None, by=principal.actor, note=note or "")

    async def _take_out(
        self,
        principal: Principal,
        node_id: str,
        kind: OperationKind,
        note: str | None,
        until_s: float | None = None,
    ) -> NodeView:
        now_us = self._clock.wall_us()
        operation = NodeOperation(
            kind=kind,
            since_us=now_us,
            until_us=None if until_s is None else now_us + round(until_s * 1e6),
            note=note or "",
            by=principal.name,
            times=int(kind is OperationKind.QUARANTINE),
        )
        return await self._dispatcher.operate(node_id, operation, by=principal.actor, note=operation.note)

    def health(self) -> dict[str, Any]:
        """``status`` is ``ok`` or ``degraded``; never a reason to restart the process."""
        ready, checks = self.ready()
        backlog = self._dispatcher.backlog
        return {
            "status": "ok" if ready else "degraded",
            "service": SERVICE_NAME,
            "instance_name": self._config.instance_name,
            "version": package_version("schedule-zero"),
            "started_at": rfc3339(self._started_us),
            "now": rfc3339(self._clock.wall_us()),
            "uptime_s": round(self._clock.mono_s() - self._started_s, 1),
            "backlog": {"open": backlog.open, "limit": backlog.limit, "full": backlog.full},
            "checks": {name: "ok" if message is None else "failed" for name, message in checks.items()},
        }

    def ready(self) -> tuple[bool, dict[str, str | None]]:
        """Whether the server can do its work; each check's message where it fails."""
        unwell = self._supervisor.unwell()
        checks: dict[str, str | None] = {
            "store": None if self._store.healthy else self._store.last_error or "not writable",
            "draining": "the server is stopping" if self.draining else None,
        }
        for name in sorted(self._supervisor.loops):
            checks[f"loop.{name}"] = unwell.get(name)
        return all(message is None for message in checks.values()), checks

    def config(self) -> dict[str, Any]:
        """The settings in force; a password in the store's URL is masked."""
        document: dict[str, Any] = msgspec.to_builtins(self._config)
        document["store"]["url"] = mask_password(self._config.store.url)
        document["version"] = package_version("schedule-zero")
        return document

    def version(self) -> dict[str, str]:
        return {"service": SERVICE_NAME, "version": package_version("schedule-zero")}

    async def events_after(self, seq: int, limit: int) -> list[tuple[int, list[Event]]]:
        """Committed events of the journal after ``seq``, oldest first, by transaction."""
        return await self._store.read(lambda conn: store_events.read_after(conn, seq, limit))


def mask_password(url: str) -> str:
    """``postgresql://user:secret@host/db`` → ``postgresql://user:***@host/db``."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not (separator and at and ":" in credentials):
        return url
    return f"{scheme}://{credentials.partition(':')[0]}:***@{host}"
