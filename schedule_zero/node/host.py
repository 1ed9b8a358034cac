"""The node process: puts handlers, runner, outbox and link together, and takes them apart in the right order.

``run_node`` returns after an orderly stop and raises where the node can't go on; signals and exit codes belong to
the command line.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from typing import Any

import structlog
import zmq

import schedule_zero
from schedule_zero.clock import Clock, SystemClock
from schedule_zero.node import capture
from schedule_zero.node.attempt import Phase
from schedule_zero.node.context import CLIENT
from schedule_zero.node.drain import GRACE_S
from schedule_zero.node.facts import gather
from schedule_zero.node.handler import BaseHandler
from schedule_zero.node.http_link import HttpLink
from schedule_zero.node.identity import Identity
from schedule_zero.node.isolation import WorkerPool
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.node.life import set_up, tear_down
from schedule_zero.node.link import Link
from schedule_zero.node.methods import BoundMethod, describe
from schedule_zero.node.settings import NodeSettings
from schedule_zero.node.targets import load_targets
from schedule_zero.node.work import About, Work
from schedule_zero.state_dir import unusable

log = structlog.get_logger(__name__)

TICK_S = 1.0
# The loop came so much too late to a tick: something on it does not yield.
LAG_S = 0.5
# After a drain: for the server to record the last results.
FLUSH_S = 5.0


async def run_node(
    settings: NodeSettings,
    *,
    stop: asyncio.Event,
    clock: Clock | None = None,
    handlers: Sequence[BaseHandler] | None = None,
) -> None:
    """Run a node until ``stop`` is set and it has drained.

    ``handlers`` instead of ``settings.targets`` are for embedding and tests. Raises InvalidHandler (a target can't
    be used), NodeLocked (the state directory is in use), ConfigError (it can't be used), Denied (the server
    refused this node).
    """
    node = Node(settings, clock=clock or SystemClock(), handlers=handlers)
    await node.run(stop)


class Node:
    """One node process. ``work`` and ``link`` are there once it runs."""

    work: Work
    link: Link | HttpLink

    def __init__(self, settings: NodeSettings, *, clock: Clock, handlers: Sequence[BaseHandler] | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._isolation: WorkerPool | None = None
        self.handlers = list(handlers) if handlers is not None else load_targets(settings.targets)
        self.methods: list[BoundMethod] = [method for handler in self.handlers for method in describe(handler)]

    async def run(self, stop: asyncio.Event) -> None:
        """Start, serve until ``stop``, drain, stop.

        The stop order: no new work; running jobs end; their results are recorded; BYE (all that is ``drain``). Then
        link and housekeeping; the worker processes, then the threads; the outbox, once what it has taken is written;
        the handlers' ``teardown``, last first; the sockets' context; and last the node folder, free for a successor.
        """
        settings = self._settings
        identity = Identity.take(settings.state_dir, settings.node_id)
        ready: list[BaseHandler] = []
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            for handler in self.handlers:
                await set_up(handler)
                ready.append(handler)
            self._assemble(identity, context)
            capture.install()
            try:
                await self._serve(stop)
            finally:
                capture.uninstall()
                if self._isolation is not None:
                    await self._isolation.close()
                self.work.close()
        finally:
            for handler in reversed(ready):
                await tear_down(handler)
            context.destroy()
            identity.release()

    async def drain(self, deadline_s: float) -> None:
        """Take no more work, finish what runs (or hand it back after ``deadline_s``), and say goodbye."""
        log.info("node_draining", running=len(self.work.runner.attempts), deadline_s=deadline_s)
        await self.work.drain(deadline_s, GRACE_S, FLUSH_S)
        await self.link.say_goodbye()

    def _assemble(self, identity: Identity, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        settings = self._settings
        CLIENT.state_dir = settings.state_dir
        lease, time = Lease(), ServerTime()
        host = platform.node()[:256]
        about = About(
            slots=settings.slots,
            version=schedule_zero.__version__,
            host=host,
            pid=os.getpid(),
            labels=settings.labels,
            facts=gather(schedule_zero.__version__, host),
        )
        # Handlers that were given as objects can't be loaded a second time.
        if settings.targets:
            self._isolation = WorkerPool(
                settings.targets,
                node_id=identity.node_id,
                state_dir=settings.state_dir,
                result_limit=settings.result_bytes,
            )
        self.work = Work(
            identity=identity,
            methods=self.methods,
            about=about,
            result_limit=settings.result_bytes,
            clock=self._clock,
            lease=lease,
            time=time,
            isolation=self._isolation,
        )
        if settings.http is not None:
            self.link = HttpLink(access=settings.http, clock=self._clock, lease=lease, time=time, owner=self.work)
        else:
            self.link = Link(
                address=settings.server,
                curve=settings.curve,
                max_message_bytes=settings.max_message_bytes,
                clock=self._clock,
                lease=lease,
                time=time,
                owner=self.work,
                context=context,
            )
        try:
            self.work.open(self.link)
        except OSError as error:
            raise unusable("the outbox of this node", error) from error
        log.info(
            "node_started",
            node_id=identity.node_id,
            handlers=[handler.handler_id for handler in self.handlers],
            slots=settings.slots,
            server=settings.server if settings.http is None else settings.http.url,
            epoch=identity.epoch,
        )

    async def _serve(self, stop: asyncio.Event) -> None:
        """Until ``stop``, or until one of the loops ends, which none should."""
        link = asyncio.create_task(self.link.run(), name="link")
        ticks = asyncio.create_task(self._tick(), name="ticks")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        tasks: list[asyncio.Task[Any]] = [link, ticks, stopping]
        try:
            await asyncio.wait([*tasks, self.work.broken], return_when=asyncio.FIRST_COMPLETED)
            for vital in (link, ticks, self.work.broken):
                if vital.done():
                    vital.result()
            await self.drain(self._settings.drain_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.info("node_stopped")

    async def _tick(self) -> None:
        """Housekeeping, and the proof that the loop is alive: a job that blocks it delays everything here."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            late_s = loop.time() - due_s
            if late_s > LAG_S:
                suspects = {
                    f"{attempt.item.handler_id}.{attempt.item.job_method}"
                    for attempt in self.work.runner.attempts.values()
                    if attempt.phase is Phase.RUNNING and attempt.method.is_async
                }
                log.warning("loop_blocked", for_s=round(late_s, 2), async_jobs_running=sorted(suspects)[:5])
            self.work.tick()
            self.link.tick()
