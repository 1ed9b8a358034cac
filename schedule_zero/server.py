"""The composition root: builds every part once, runs their loops under one task group, and stops them in order.

Reading order of the whole: DESIGN in ``docs/explanation/architecture.md``; the way of a job starts in
``web/api`` → ``service`` → ``store`` → ``dispatch`` → ``wire`` → ``node``.

Stop order, and why:

1. *not ready*: load balancers look elsewhere; new writes are refused with 503.
2. *timer*: no fire is decided any more; what is due is decided by the next start (catch-up). This is the end of the
   life that the ledger's explanations speak of, so it is put on record here.
3. *HTTP*: the listening socket closes; requests in flight finish. Nobody waits for the end of a job any longer: a
   run-now answers that it goes on, a long poll that the server stops.
4. *dispatch*: nothing new is sent; results that came are recorded and acknowledged; nodes get GOAWAY.
   Jobs that run go on: their nodes keep the results, and the next server re-attaches them (C11).
   What was counted for the charts up to here is written down.
5. *store*: the writer drains its queue, checkpoints and closes the file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.config import ServerConfig
from schedule_zero.dispatch.curve import CurveKeys
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import ConfigError, StoreUnavailable
from schedule_zero.model import ServerRun
from schedule_zero.ops.events import EventHub
from schedule_zero.ops.hints import Hints
from schedule_zero.ops.registry_file import RegistryEntry, RegistryFile
from schedule_zero.ops.retention import EVERY_S as RETENTION_S
from schedule_zero.ops.retention import Retention
from schedule_zero.ops.series import FLUSH_S
from schedule_zero.ops.supervise import Supervisor
from schedule_zero.ops.upkeep import Chore, repeat, until_done
from schedule_zero.service import Service
from schedule_zero.service.access import AccessService
from schedule_zero.service.audit import AuditService
from schedule_zero.service.audit_rounds import AuditRounds
from schedule_zero.service.backfills import BackfillService
from schedule_zero.service.batches import BatchService
from schedule_zero.service.bed_runs import BedRunService
from schedule_zero.service.calendars import CalendarService
from schedule_zero.service.changes import ChangeService
from schedule_zero.service.dead_letters import DeadLetterService
from schedule_zero.service.executions import ExecutionService
from schedule_zero.service.explain import ExplainService
from schedule_zero.service.finding import FindingService
from schedule_zero.service.foreseen import ForeseenService
from schedule_zero.service.foresight import ForesightService
from schedule_zero.service.freezes import FreezeService
from schedule_zero.service.groups import GroupService
from schedule_zero.service.installation import InstallationService
from schedule_zero.service.jobs import JobService
from schedule_zero.service.ledger import LedgerService
from schedule_zero.service.logs import LogService
from schedule_zero.service.metrics import server_metrics
from schedule_zero.service.overview import OverviewService
from schedule_zero.service.schedule_bulk import ScheduleBulk
from schedule_zero.service.schedule_views import ScheduleViews
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.service.search import SearchService
from schedule_zero.service.series import SeriesService
from schedule_zero.service.sessions import SessionService
from schedule_zero.service.system import SystemService
from schedule_zero.service.versions import VersionService
from schedule_zero.service.views import ViewService
from schedule_zero.settings import Said
from schedule_zero.state_dir import REGISTRY, SERVER_JSON, write_private
from schedule_zero.store import Store
from schedule_zero.store import calendars as store_calendars
from schedule_zero.store import changes as store_changes
from schedule_zero.store import events as store_events
from schedule_zero.store import idempotency as store_idempotency
from schedule_zero.store import rate_buckets as store_rate_buckets
from schedule_zero.store import server_runs as store_server_runs
from schedule_zero.timing import Timer
from schedule_zero.timing.calendar_book import CalendarBook
from schedule_zero.web.app import HttpServer

log = structlog.get_logger(__name__)

# How exactly the end of a server that was killed is known.
LIFE_S = 10.0
# How often, and from which age on, parts of results that belong to none are deleted.
SWEEP_S = 3600.0
# How often it is seen to whether an audit of all schedules is due.
AUDIT_LOOK_S = 60.0
# How often browsers' sessions that are over are forgotten.
SESSIONS_S = 600.0
# How old the number of dead letters in the metrics may be.
LETTERS_S = 5.0


class Addresses(Struct, frozen=True, kw_only=True):
    """Where a running server is reached; also written to ``<state-dir>/server.json`` for local clients."""

    http: str
    zmq: str
    # Whether nodes have to encrypt.
    curve: bool
    state_dir: str
    pid: int


class Server:
    """All parts of one server, built but not started."""

    def __init__(
        self,
        config: ServerConfig,
        state_dir: Path,
        *,
        clock: Clock | None = None,
        origins: Mapping[str, Said] | None = None,
    ) -> None:
        """``origins``: who said each of the settings, for those who look at them."""
        clock = clock or SystemClock()
        self.config = config
        self.state_dir = state_dir
        self.clock = clock
        self.registry_file = RegistryFile(state_dir / REGISTRY, Path(config.handler_registry))
        declarations = self.registry_file.read()
        self.store = Store.open(config.store, state_dir, clock=clock)
        self.hub = EventHub()
        self.store.on_commit(self.hub.publish)
        self.hints = Hints(lambda: self.dispatcher.stats.dispatched)
        self.store.on_commit(self.hints.publish)
        self.supervisor = Supervisor(clock)
        self.curve = CurveKeys(store=self.store, state_dir=state_dir, config=config.zmq, clock=clock)
        self.dispatcher = Dispatcher(
            store=self.store, config=config, curve=self.curve, declarations=declarations, clock=clock
        )
        self.calendars = CalendarBook(self.store, clock)
        self.timer = Timer(
            store=self.store,
            dispatcher=self.dispatcher,
            clock=clock,
            config=config.timing,
            book=self.calendars,
        )
        executions = ExecutionService(
            store=self.store, dispatcher=self.dispatcher, hub=self.hub, clock=clock, limits=config.limits
        )
        dead_letters = DeadLetterService(
            store=self.store, dispatcher=self.dispatcher, clock=clock, limits=config.limits
        )
        search = SearchService(store=self.store, dispatcher=self.dispatcher, clock=clock)
        audits = AuditService(store=self.store, timer=self.timer, clock=clock)
        self.audit_rounds = AuditRounds(
            store=self.store, timer=self.timer, audits=audits, clock=clock, every_s=config.audit.every_s
        )
        access = AccessService(store=self.store, curve=self.curve, clock=clock)
        groups = GroupService(
            store=self.store,
            dispatcher=self.dispatcher,
            executions=executions,
            hub=self.hub,
            clock=clock,
            limits=config.limits,
            max_bytes=config.http.max_body_bytes,
        )
        schedules = ScheduleService(
            store=self.store,
            dispatcher=self.dispatcher,
            timer=self.timer,
            executions=executions,
            groups=groups,
            clock=clock,
            limits=config.limits,
            timing=config.timing,
        )
        series = SeriesService(store=self.store, series=self.dispatcher.series, clock=clock)
        foresight = ForesightService(store=self.store, timer=self.timer, clock=clock)
        freezes = FreezeService(store=self.store, timer=self.timer, clock=clock)
        system = SystemService(
            store=self.store,
            dispatcher=self.dispatcher,
            hub=self.hub,
            hints=self.hints,
            supervisor=self.supervisor,
            clock=clock,
            config=config,
            render_metrics=self._render_metrics,
        )
        self.service = Service(
            executions=executions,
            search=search,
            batches=BatchService(
                store=self.store,
                dispatcher=self.dispatcher,
                clock=clock,
                search=search,
                requeues=dead_letters.requeues,
            ),
            views=ViewService(store=self.store, clock=clock),
            logs=LogService(store=self.store, dispatcher=self.dispatcher),
            groups=groups,
            dead_letters=dead_letters,
            jobs=JobService(
                store=self.store, dispatcher=self.dispatcher, clock=clock, config=config.dispatch, access=access
            ),
            schedules=schedules,
            schedule_views=ScheduleViews(store=self.store, dispatcher=self.dispatcher, timer=self.timer, clock=clock),
            schedule_bulk=ScheduleBulk(store=self.store, schedules=schedules),
            ledger=LedgerService(store=self.store),
            audits=audits,
            explain=ExplainService(store=self.store, timer=self.timer, clock=clock, timing=config.timing),
            versions=VersionService(store=self.store, schedules=schedules),
            freezes=freezes,
            backfills=BackfillService(store=self.store, timer=self.timer, clock=clock),
            finding=FindingService(store=self.store, dispatcher=self.dispatcher),
            foresight=foresight,
            foreseen=ForeseenService(foresight=foresight, store=self.store, clock=clock),
            series=series,
            overview=OverviewService(
                store=self.store,
                dispatcher=self.dispatcher,
                system=system,
                series=series,
                foresight=foresight,
                freezes=freezes,
                dead_letters=dead_letters,
                audit=self.audit_rounds.stats,
                clock=clock,
            ),
            calendars=CalendarService(
                store=self.store,
                book=self.calendars,
                clock=clock,
                users=self._users_of_calendar,
                changed=self._calendar_changed,
            ),
            access=access,
            sessions=SessionService(store=self.store, access=access, clock=clock, lifetime_s=config.http.session_s),
            changes=ChangeService(store=self.store),
            system=system,
            installation=InstallationService(
                config=config,
                origins=origins,
                state_dir=state_dir,
                store=self.store,
                supervisor=self.supervisor,
                clock=clock,
            ),
            bed_runs=BedRunService(Path(config.testbed.reports)),
        )
        self.retention = Retention(store=self.store, clock=clock, config=config.retention)
        self.http = HttpServer(self.service, config)
        self._metrics = server_metrics(
            store=self.store,
            dispatcher=self.dispatcher,
            timer=self.timer,
            hub=self.hub,
            supervisor=self.supervisor,
            audit=self.audit_rounds.stats,
            retention=self.retention.stats,
            letters=lambda: dead_letters.waiting,
            requests=lambda: self.http.stats.requests,
        )
        self.addresses = Addresses(http="", zmq="", curve=False, state_dir=str(state_dir), pid=os.getpid())
        self._loops: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> Addresses:
        """Bind, load, and start every loop; returns once the server answers."""
        # Where the journal stands: an event stream that comes back after a restart is measured by it.
        self.hub.last_seq = self.hints.last_seq = await self.store.read(store_events.latest_seq)
        await self.service.access.start(self.state_dir)
        await self.service.sessions.start()
        # Before anything is counted anew.
        await self.dispatcher.series.load()
        await self.dispatcher.start()
        # Before the loops: a port that is taken is said at once, and nothing was begun.
        port = self.http.listen()
        # The timer must know them before it decides anything.
        await self.calendars.load()
        await self.service.schedules.calendars_loaded()
        # A server that says that it is ready has started. (If the disk is full, the timer goes on to try.)
        with suppress(StoreUnavailable):
            await self.timer.begin()
        self._keep("dispatch", self.dispatcher.run)
        self._keep("calendars", self.calendars.run)
        self._keep("timer", self.timer.run)
        self._keep("backfills", self.timer.backfills.run)
        self._keep("requeues", self.service.dead_letters.requeues.run)
        self._keep("batches", self.service.batches.run)
        for chore in self._chores():
            self._keep(f"upkeep.{chore.name}", partial(repeat, chore))
        self.addresses = addresses = Addresses(
            http=f"http://{self.config.http.host}:{port}",
            zmq=self.dispatcher.address,
            curve=self.curve.enabled,
            state_dir=str(self.state_dir),
            pid=os.getpid(),
        )
        write_private(self.state_dir / SERVER_JSON, msgspec.json.encode(addresses))
        log.info("server_started", http=addresses.http, zmq=addresses.zmq, state_dir=addresses.state_dir)
        return addresses

    def reload(self) -> None:
        """Read handler_registry.yaml again (SIGHUP). What is wrong in it is logged, and changes nothing."""
        try:
            rules = self.registry_file.read()
        except ConfigError as error:
            log.error("registry_not_reloaded", problems=error.data.get("problems", [error.message]))
            return
        self.service.changes.registry_reloaded(self.dispatcher.registry.rules, rules)
        self.dispatcher.set_rules(rules)
        log.info("registry_reloaded", handlers=sorted(rules))

    async def stop(self, deadline_s: float) -> None:
        """Stop in the order above, within ``deadline_s``."""
        self.service.system.draining = True
        log.info("server_stopping", deadline_s=deadline_s)
        for name in [name for name in self._loops if name != "dispatch"]:
            await self._end(name)
        await self._seen(stopped=True)
        # Right before: whoever waited is told that the server stops.
        self.hub.close()
        await self.http.stop(deadline_s / 2)
        await self.dispatcher.stop(deadline_s / 2)
        await self._end("dispatch")
        await self._write_series()
        (self.state_dir / SERVER_JSON).unlink(missing_ok=True)
        await self.store.close()
        log.info("server_stopped")

    async def abandon(self) -> None:
        """Let go of a server whose start failed."""
        await self._seen(stopped=True)
        await self.store.close()

    async def _seen(self, *, stopped: bool = False) -> None:
        """Put on record that this server is there, or that it ends."""
        now_us = self.clock.wall_us()
        run = ServerRun(
            epoch=self.store.epoch,
            started_us=self.timer.started_us,
            alive_us=now_us,
            stopped_us=now_us if stopped else None,
        )
        try:
            await self.store.write(store_server_runs.seen, run)
        except StoreUnavailable as error:
            # A stop goes on without it; the next start then knows only when the server was last seen.
            log.warning("server_life_not_recorded", reason=error.message)

    async def _write_series(self) -> None:
        """What the charts have shown, the next server shows as well."""
        try:
            await self.dispatcher.series.flush(ends=True)
        except StoreUnavailable as error:
            log.warning("series_not_recorded", reason=error.message)

    def _render_metrics(self) -> tuple[str, bytes]:
        return self._metrics.render()

    async def _users_of_calendar(self, name: str) -> list[str]:
        return await self.store.read(partial(store_calendars.users, name=name))

    async def _calendar_changed(self, name: str) -> None:
        await self.service.schedules.calendar_changed(name)

    def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        self._loops[name] = asyncio.create_task(self.supervisor.keep(name, run), name=name)

    async def _end(self, name: str) -> None:
        task = self._loops.pop(name)
        task.cancel()
        await asyncio.wait([task])

    def _chores(self) -> list[Chore]:
        retention = self.config.retention

        async def prune_events() -> int:
            oldest_us = self.clock.wall_us() - round(retention.events_s * 1e6)
            return await self.store.write(
                store_events.prune, store_events.Prune(before_us=oldest_us, keep_rows=retention.events_rows)
            )

        async def prune_changes() -> int:
            oldest_us = self.clock.wall_us() - round(retention.changes_s * 1e6) if retention.changes_s else None
            prune = store_changes.Prune(before_us=oldest_us, keep_rows=retention.changes_rows or None)
            return await self.store.write(store_changes.prune, prune)

        async def mirror_registry() -> None:
            await asyncio.to_thread(self.registry_file.write, self._registry_entries())

        async def prune_idempotency() -> int:
            return await self.store.write(
                store_idempotency.prune,
                store_idempotency.Prune(before_us=self.clock.wall_us() - round(retention.idempotency_s * 1e6)),
            )

        async def sweep_results() -> int:
            return await self.service.executions.sweep_results(SWEEP_S)

        async def prune_series() -> int:
            return await self.dispatcher.series.prune(retention.series_s)

        async def forget_full_buckets() -> None:
            await self.store.write(store_rate_buckets.forget_full, self.clock.wall_us())

        return [
            Chore(name="rate_buckets", every_s=3600.0, run_once=forget_full_buckets),
            Chore(name="events", every_s=60.0, run_once=partial(until_done, prune_events)),
            Chore(name="changes", every_s=60.0, run_once=partial(until_done, prune_changes)),
            Chore(name="idempotency", every_s=60.0, run_once=partial(until_done, prune_idempotency)),
            Chore(
                name="audit",
                every_s=min(AUDIT_LOOK_S, self.config.audit.every_s),
                run_once=self.audit_rounds.run_if_due,
            ),
            Chore(name="sessions", every_s=SESSIONS_S, run_once=self.service.sessions.prune),
            Chore(name="results", every_s=SWEEP_S, run_once=partial(until_done, sweep_results)),
            Chore(name="series", every_s=FLUSH_S, run_once=self.dispatcher.series.flush),
            Chore(name="series_age", every_s=3600.0, run_once=prune_series),
            Chore(name="life", every_s=LIFE_S, run_once=self._seen),
            Chore(name="retention", every_s=RETENTION_S, run_once=self.retention.run_once),
            Chore(name="dead_letters", every_s=LETTERS_S, run_once=self.service.dead_letters.refresh),
            Chore(name="snooze", every_s=1.0, run_once=self.service.schedules.wake),
            Chore(name="groups", every_s=600.0, run_once=self.service.groups.prune),
            Chore(name="calendars", every_s=3600.0, run_once=self.calendars.warm),
            Chore(name="registry_file", every_s=1.0, run_once=mirror_registry),
        ]

    def _registry_entries(self) -> list[RegistryEntry]:
        return [
            RegistryEntry(
                handler_id=handler.handler_id,
                methods=[method.name for method in handler.methods],
                nodes=handler.node_ids,
                registered_us=handler.registered_us,
                updated_us=handler.updated_us,
                status="Connected" if handler.node_ids else "Disconnected",
            )
            for handler in self.service.system.handlers()
        ]


async def serve(
    config: ServerConfig,
    state_dir: Path,
    *,
    stop: asyncio.Event,
    ready: Callable[[Addresses, Server], Awaitable[object]] | None = None,
    origins: Mapping[str, Said] | None = None,
) -> None:
    """Run a server until ``stop`` is set. Start-up errors are raised; nothing is left running."""
    server = Server(config, state_dir, origins=origins)
    try:
        addresses = await server.start()
    except BaseException as error:
        await server.abandon()
        damage = server.store.damage(error)
        if damage is not None:
            raise damage from error
        raise
    if ready is not None:
        await ready(addresses, server)
    await stop.wait()
    await server.stop(config.drain_s)
