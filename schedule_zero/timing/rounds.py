"""One round of the timer: take what is due, decide it, write it in one transaction, pass it on.

Knows the window, the rules and the store; nothing of APScheduler's loop, which calls ``take``, ``write`` and
``wait_us`` in turn (``datastore``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from schedule_zero.clock import Clock
from schedule_zero.config import TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import Execution, Policies, ScheduleState
from schedule_zero.rules.catchup import ORDINARY, Circumstances, Plan, Policy, decide
from schedule_zero.store import schedules
from schedule_zero.store.schedules import ReleaseItem, ReleaseRefusal
from schedule_zero.timing.alarm import Alarm
from schedule_zero.timing.freezes import FreezeBook
from schedule_zero.timing.items import ItemMaker
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.turns import Turns
from schedule_zero.timing.window import Window

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store
    from schedule_zero.timing.timer import TimerStats

log = structlog.get_logger(__name__)

# A round: large enough to share a commit between many, small enough to keep the event loop only for some 25 ms.
# (Measured: with 250 the loop and the writer's thread get in each other's way, and a fire costs 1.5 times the CPU.)
ROUND_SCHEDULES = 1000
ROUND_ROWS = 2000
# Rounds that may wait for their commit while the next one is decided.
IN_FLIGHT = 2
# How often it is asked whether the nodes are back.
HELD_US = 100_000
# After the store refused: the first pause, doubled up to the last.
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0


class Rounds:
    """Decides and writes; what could not be written is decided again."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        config: TimingConfig,
        stats: TimerStats,
        resolver: Resolver,
        freezes: FreezeBook,
        window: Window,
        turns: Turns,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._stats = stats
        self._max_sleep_us = round(config.max_sleep_s * 1e6)
        self._window_us = round(config.catch_up_window_s * 1e6)
        self._max_rows = config.catch_up_rows
        self._resolver = resolver
        self._freezes = freezes
        self._policies: dict[tuple[float, Policies], Policy] = {}
        # The commits on their way, the oldest first; what one died of, if it wasn't the store's being away.
        self._in_flight: deque[asyncio.Future[None]] = deque()
        self._failure: Exception | None = None
        self._pause_s = 0.0
        self._paused_until_s = 0.0
        # id → (generation, nominal time) that turned out to be in the ledger: stepped over, never repeated (C12).
        self._decided: dict[str, tuple[int, int]] = {}
        # Broadcasts that are due while nodes may be on their way back.
        self._held: list[Alarm] = []
        self.window = window
        self.turns = turns
        self._backlog = dispatcher.backlog
        self._maker = ItemMaker(dispatcher, self.turns)

    async def take(self) -> list[Alarm]:
        """The alarms of one round, each with its plan (none: it can't be fired). To be given to ``write``."""
        if self._paused_us() > 0 or not await self._refresh():
            return []
        now_us = self._clock.wall_us()
        if self._freezes.at(now_us) is not None:
            return []
        for alarm in self._held:
            self.window.put(alarm)
        self._held = []
        taken: list[Alarm] = []
        rows = 0
        for due_us, alarm in self.window.take_due(now_us):
            if alarm.policies.broadcast and self._dispatcher.awaits_nodes():
                self._held.append(alarm)
                continue
            alarm.plan = self._decide(alarm, due_us, now_us)
            taken.append(alarm)
            rows += 1 if alarm.plan is None else len(alarm.plan.decisions) * (alarm.policies.shards or 1)
            if len(taken) >= ROUND_SCHEDULES or rows >= ROUND_ROWS:
                break
        return taken

    async def write(self, alarms: Sequence[Alarm]) -> None:
        """Write the plans of a round, all in one transaction. Returns before the commit, if few are on their way."""
        await self._in_flight_below(IN_FLIGHT)
        now_us = self._clock.wall_us()
        items = [self._maker.item(alarm, now_us) for alarm in alarms]
        executions = [execution for item in items for execution in item.executions]
        self._dispatcher.place(executions)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.append(written)

        def done(outcome: dict[str, ReleaseRefusal | ReleaseItem] | Exception) -> None:
            # Called even if nobody waits any more (the timer was stopped): the dispatcher must hear of it.
            self._backlog.settled(executions)
            try:
                self._written(alarms, items, executions, outcome)
            except Exception as error:  # noqa: BLE001  # the loop raises it; here it would leave the loop waiting
                self._failure = error
            if not written.done():
                written.set_result(None)

        self._store.submit(schedules.release, items, done)

    async def wait_us(self) -> int:
        """How long until the next round: to the next due time, but short enough to notice a step of the clock.

        Waits for the commits on their way first: what comes back from them may be due again.
        """
        await self.settled()
        if not await self._refresh():
            return self._paused_us()
        now_us = self._clock.wall_us()
        wait_us = self._max_sleep_us
        freeze = self._freezes.at(now_us)
        if freeze is not None:
            # What is due stays due until somebody, or the clock, thaws it.
            return wait_us if freeze.to_us is None else min(wait_us, freeze.to_us - now_us)
        if self._held:
            wait_us = min(wait_us, HELD_US)
        next_us = self.window.next_us()
        if next_us is not None:
            wait_us = min(wait_us, next_us - now_us)
        if self.window.horizon_us > now_us:
            wait_us = min(wait_us, self.window.horizon_us - now_us)
        return max(wait_us, self._paused_us(), 0)

    async def settled(self) -> None:
        """Wait for the commits on their way. Raises what one of them died of."""
        await self._in_flight_below(1)

    async def _in_flight_below(self, limit: int) -> None:
        while len(self._in_flight) >= limit:
            await self._in_flight[0]
            del self._in_flight[0]
        if self._failure is not None:
            raise self._failure

    # --- deciding ----------------------------------------------------------------------------------

    def _decide(self, alarm: Alarm, due_us: int, now_us: int) -> Plan | None:
        row = alarm.row
        if alarm.trigger is None or alarm.broken is not None:
            return None
        try:
            if self._decided and self._decided.pop(row.id, None) == (row.generation, due_us):
                return Plan([], due_us, alarm.trigger.next_after(due_us))
            around = ORDINARY
            if not alarm.plain or self._freezes.any_since(due_us):
                around = self._circumstances(alarm, due_us, now_us)
            return decide(alarm.trigger, due_us, now_us, alarm.policy or self._policy(alarm), around)
        except Exception as error:  # a trigger's own failure: its schedule is quarantined, the others go on
            log.exception("trigger_failed", schedule_id=row.id)
            alarm.broken = f"the trigger failed: {type(error).__name__}: {error}"[:500]
            return None

    def _circumstances(self, alarm: Alarm, due_us: int, now_us: int) -> Circumstances:
        row, policies = alarm.row, alarm.policies
        assert alarm.trigger is not None
        return Circumstances(
            paused=row.state is ScheduleState.PAUSED,
            resume_us=row.resume_us,
            skips=alarm.skips,
            exclusions=self._resolver.exclusions(policies, alarm.trigger),
            freezes=self._freezes.since(due_us, now_us),
            runs_left=None if policies.max_fires is None else max(0, policies.max_fires - row.runs),
        )

    def _policy(self, alarm: Alarm) -> Policy:
        grace_s, policies = alarm.row.misfire_grace_s, alarm.policies
        policy = self._policies.get((grace_s, policies))
        if policy is None:
            window_s = policies.catch_up_window_s
            policy = self._policies[grace_s, policies] = Policy(
                grace_us=round(grace_s * 1e6),
                window_us=self._window_us if window_s is None else round(window_s * 1e6),
                catch_up=policies.catch_up,
                catch_up_max=policies.catch_up_max,
                coalesce=policies.coalesce,
                max_rows=self._max_rows,
            )
        alarm.policy = policy
        return policy

    # --- after the commit --------------------------------------------------------------------------

    def _written(
        self,
        alarms: Sequence[Alarm],
        items: Sequence[ReleaseItem],
        executions: Sequence[Execution],
        outcome: dict[str, ReleaseRefusal | ReleaseItem] | Exception,
    ) -> None:
        """Tell the dispatcher, and put the alarms back into the window."""
        if isinstance(outcome, Exception):
            self._dispatcher.abandoned(executions)
            for alarm in alarms:
                self.window.drop(alarm)
            if isinstance(outcome, StoreUnavailable):
                self._pause(outcome)
            else:
                self._failure = outcome
            return
        self._pause_s = 0.0
        if outcome:
            less = {one.id for item in outcome.values() if isinstance(item, ReleaseItem) for one in item.executions}
            gone = [one for one in executions if one.schedule_id in outcome and one.id not in less]
            self._dispatcher.abandoned(gone)
            born = {one.id for one in executions} - {one.id for one in gone}
            executions = [execution for execution in executions if execution.id in born]
        self._dispatcher.series.fired(executions)
        self._dispatcher.committed(executions)
        fires = 0
        for alarm, asked in zip(alarms, items, strict=True):
            answer = outcome.get(asked.id) if outcome else None
            if isinstance(answer, ReleaseRefusal):
                self._refused(alarm, asked, answer)
                continue
            item = asked
            if answer is not None:
                item = answer
                self.turns.skipped(item.id)
            fires += len(item.fires)
            alarm.released(item)
            self.window.put(alarm)
            if item.state is ScheduleState.QUARANTINED:
                self._stats.quarantined += 1
                log.error("schedule_quarantined", schedule_id=item.id, reason=item.note)
        self._stats.rounds += 1
        self._stats.fires += fires
        self._stats.executions += len(executions)
        self._stats.last_lateness_s = (self._clock.wall_us() - items[0].due_us) / 1e6

    def _refused(self, alarm: Alarm, item: ReleaseItem, refusal: ReleaseRefusal) -> None:
        """It is not what it was when it was read: read it again."""
        self._stats.refused += 1
        self.window.drop(alarm)
        if refusal is ReleaseRefusal.DUPLICATE:
            self._decided[item.id] = (item.generation, item.due_us)
            log.warning("nominal_time_already_decided", schedule_id=item.id, nominal_us=item.due_us)

    # --- when the store is away --------------------------------------------------------------------

    async def _refresh(self) -> bool:
        try:
            await self.window.refresh(self._clock.wall_us())
            await self.turns.refresh()
        except StoreUnavailable as error:
            self._pause(error)
            return False
        return True

    def _pause(self, error: StoreUnavailable) -> None:
        """Try again later: what was due stays due, and the window reads again."""
        self._stats.store_failures += 1
        if self._paused_us():
            # Another commit that was on its way when the first one failed.
            return
        self._pause_s = min(LAST_PAUSE_S, self._pause_s * 2 or FIRST_PAUSE_S)
        self._paused_until_s = self._clock.mono_s() + self._pause_s
        log.warning("timer_store_unavailable", error=str(error), retry_s=self._pause_s)

    def _paused_us(self) -> int:
        return max(0, round((self._paused_until_s - self._clock.mono_s()) * 1e6))
