"""Deletes executions that have been kept long enough, each minute, without anybody having to wait for it.

A round walks along the executions of each schedule that says how long, and of each terminal state, the oldest first,
from where the last round stopped: what lies before was kept for a reason, and is looked at again once an hour, and
after a start. Looking is done on a reader thread. The writer gets a few hundred rows at a time, and is then left alone
for several times as long as that took: waiting for its turn is part of it, so that a busy writer is left alone for
longer. Each step is a transaction: a server that is killed between two of them has lost nothing but its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.config import RetentionConfig
from schedule_zero.model import State
from schedule_zero.rules.retention import Bounds, Keep
from schedule_zero.store import Store, pruning
from schedule_zero.store.pruning import MAX_SEQ, Keepers, Prune, Step, Walk

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

log = structlog.get_logger(__name__)

# How often a round begins; and how often one begins at the oldest execution.
EVERY_S = 60.0
FULL_S = 3600.0
# Executions deleted in one transaction: fewer where one took longer than this, more again where it was quicker.
STEP_ROWS = 200
LEAST_ROWS = 25
# Of logs and large results deleted in one transaction (some 7 ms), unless one execution has more.
STEP_BYTES = 16 << 20
SLOW_S = 0.02
QUICK_S = 0.01
# Schedules looked at in one step.
SCHEDULES = 100
# After each step it pauses: so many times as long as the step took, within these bounds. A round that goes on for long
# pauses less: as much has to go as comes.
PAUSE_RATIO = 9.0
HURRY_RATIO = 3.0
HURRY_AFTER_S = 600.0
LEAST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 2.0


class RetentionStats(Struct):
    """What was deleted in this life of the server."""

    deleted: int = 0
    steps: int = 0
    # How long the last round took that deleted anything.
    last_s: float = 0.0


class Retention:
    """One server's; ``run_once`` is one round."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        config: RetentionConfig,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.stats = RetentionStats()
        self._store = store
        self._clock = clock
        self._keep_letters = config.keep_dead_letters
        # state → (how long, how many); 0: no limit.
        self._limits: dict[State, tuple[float, int]] = {
            State.COMPLETED: (config.completed_s, config.completed_rows),
            State.FAILED: (config.failed_s, config.failed_rows),
            State.TIMEOUT: (config.timeout_s, config.timeout_rows),
            State.DEAD: (config.dead_s, config.dead_rows),
            State.CANCELLED: (config.cancelled_s, config.cancelled_rows),
            State.MISFIRED: (config.misfired_s, config.misfired_rows),
        }
        self._sleep = sleep
        # State or schedule → where its walk goes on.
        self._after: dict[str, int] = {}
        self._full_s = 0.0
        self._step_rows = STEP_ROWS
        # When the round began, and how long its last step took.
        self._began_s = 0.0
        self._took_s = 0.0

    async def run_once(self) -> int:
        """One round; how many executions it deleted."""
        began_s = self._began_s = self._clock.mono_s()
        if not self._full_s or began_s - self._full_s >= FULL_S:
            self._full_s = began_s
            self._after.clear()
        before = self.stats.deleted
        keeping = Keepers(await self._store.read(pruning.keepers))
        await self._schedules(keeping)
        for state, (age_s, rows) in self._limits.items():
            below_seq = await self._boundary(state, rows) if rows else 0
            now_us = self._clock.wall_us()
            before_us = now_us - round(age_s * 1e6) if age_s else None
            if before_us is not None or below_seq:
                bounds = Bounds(now_us=now_us, before_us=before_us, below_seq=below_seq)
                key = f"state {state.value}"
                await self._walk(key, Walk(state=state, bounds=bounds, after=self._after.get(key, 0)), keeping)
        deleted = self.stats.deleted - before
        if deleted:
            self.stats.last_s = self._clock.mono_s() - began_s
            log.info("executions_pruned", count=deleted, took_s=round(self.stats.last_s, 3))
        return deleted

    # --- states -------------------------------------------------------------------------------------

    async def _boundary(self, state: State, rows: int) -> int:
        """The ``seq`` of the oldest of the newest ``rows`` in a state; 0: there are no more than that."""
        if (await self._store.read(pruning.stored)).get(state.value, 0) <= rows:
            return 0
        below, left = MAX_SEQ, rows
        while left:
            back = await self._paced(self._store.read(partial(pruning.back, state=state, below=below, count=left)))
            if back.seq is None:
                return 0
            below = back.seq
            left -= back.count
        return below

    async def _walk(self, key: str, walk: Walk, keeping: Keepers) -> None:
        more = True
        while more:
            found = await self._paced(self._store.read(partial(self._step, walk=walk, keeping=keeping)))
            await self._delete(found)
            # After the delete: what could not be deleted is found again.
            self._after[key] = walk.after = found.after
            more = found.more

    def _step(self, conn: Connection, walk: Walk, keeping: Keepers) -> Step:
        return pruning.step(conn, walk, keeping, keep_letters=self._keep_letters)

    # --- schedules ----------------------------------------------------------------------------------

    async def _schedules(self, keeping: Keepers) -> None:
        """Those with an age or a number of their own, many to a step: most have nothing to delete."""
        todo = [(id_, keep) for id_, keep in keeping.keeps.items() if keep.keep_us or keep.keep_last]
        for at in range(0, len(todo), SCHEDULES):
            some = todo[at : at + SCHEDULES]
            found = await self._paced(self._store.read(partial(self._step_of_each, some=some, keeping=keeping)))
            for key, walk, step in found:
                await self._delete(step)
                self._after[key] = walk.after = step.after
                if step.more:
                    await self._walk(key, walk, keeping)

    def _step_of_each(
        self, conn: Connection, some: list[tuple[str, Keep]], keeping: Keepers
    ) -> list[tuple[str, Walk, Step]]:
        now_us = self._clock.wall_us()
        steps = []
        for schedule_id, keep in some:
            bounds = Bounds(
                now_us=now_us,
                before_us=None if keep.keep_us is None else now_us - keep.keep_us,
                below_seq=pruning.newest_of_schedule(conn, schedule_id, keep.keep_last) if keep.keep_last else 0,
            )
            key = f"schedule {schedule_id}"
            walk = Walk(schedule_id=schedule_id, bounds=bounds, after=self._after.get(key, 0))
            steps.append((key, walk, self._step(conn, walk, keeping)))
        return steps

    # --- pace ---------------------------------------------------------------------------------------

    async def _delete(self, found: Step) -> None:
        at = 0
        while at < len(found.seqs):
            some = Prune(found.seqs[at : at + self._so_many(found.sizes, at)], self._keep_letters)
            at += len(some)
            self.stats.deleted += await self._paced(self._store.write(pruning.prune, some))
            self.stats.steps += 1
            if self._took_s > SLOW_S:
                self._step_rows = max(LEAST_ROWS, self._step_rows // 2)
            elif self._took_s < QUICK_S:
                self._step_rows = min(STEP_ROWS, self._step_rows * 2)

    def _so_many(self, sizes: list[int], at: int) -> int:
        """From ``at`` on: up to the rows of a step, or the bytes, but one at least."""
        size = count = 0
        for size_of_one in sizes[at : at + self._step_rows]:
            size += size_of_one
            if count and size > STEP_BYTES:
                break
            count += 1
        return count

    async def _paced(self, work: Awaitable[T]) -> T:
        began_s = self._clock.mono_s()
        result = await work
        now_s = self._clock.mono_s()
        self._took_s = now_s - began_s
        ratio = PAUSE_RATIO if now_s - self._began_s < HURRY_AFTER_S else HURRY_RATIO
        await self._sleep(min(LONGEST_PAUSE_S, max(LEAST_PAUSE_S, self._took_s * ratio)))
        return result
