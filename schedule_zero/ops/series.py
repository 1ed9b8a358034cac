"""Counts by the minute what the charts of the last days show, in memory, and writes it down every few seconds.

Counts come from the transactions themselves, once they are committed (``Store.on_counted``), so none is left out or
counted twice; times from the parts that see them. A minute is what the clock said when they came.

What was counted since the last flush is all that a killed server loses of its charts; the records themselves it keeps.
(Where a connection to PostgreSQL is lost in a flush's COMMIT, nobody knows what became of it: it is written again.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from schedule_zero.clock import Clock
from schedule_zero.model import Execution, State
from schedule_zero.rules.series import HOUR_US, MINUTE_US, Stats, place_of, total
from schedule_zero.store import Store
from schedule_zero.store import series as store_series

if TYPE_CHECKING:
    from schedule_zero.store.executions import EndItem
    from schedule_zero.store.writer import Counted

log = structlog.get_logger(__name__)

# How often it is written down.
FLUSH_S = 5.0
# While the store can't be written, so many minutes wait for it, the newest.
MOST_WAITING = 1_440
RUNNING = State.RUNNING


class Series:
    """One server's. Only the loop's thread may call it."""

    def __init__(self, *, store: Store, clock: Clock, running: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        # How many executions run now.
        self._running = running
        # By the beginning of a minute: counted since the last flush; being written; written.
        self._fresh: dict[int, Stats] = {}
        self._writing: dict[int, Stats] = {}
        self._kept: dict[int, Stats] = {}
        # The current minute, of ``_fresh``.
        self._start_us = -1
        self._stats = Stats()
        # No flush is on its way.
        self._idle = asyncio.Event()
        self._idle.set()
        # What began at this moment or later is all in memory; it is the beginning of an hour.
        self.complete_from_us = _hour_of(clock.wall_us()) + HOUR_US
        store.on_counted(self._counted)

    async def load(self) -> None:
        """Know the hour before, whatever server counted it. StoreUnavailable."""
        from_us = _hour_of(self._clock.wall_us()) - HOUR_US
        rows = await self._store.read(lambda conn: store_series.between(conn, MINUTE_US, from_us, 1 << 62))
        self._kept = dict(rows)
        self.complete_from_us = from_us

    # --- counting -----------------------------------------------------------------------------------

    def _counted(self, transactions: Sequence[Counted]) -> None:
        stats = self._now()
        for counts, fires in transactions:
            for (bucket_us, handler_id, state), (n, _) in counts.items():
                # (The same is counted by the hour and in all, from which is taken what is deleted.)
                if bucket_us <= 0:
                    continue
                if state == "created":
                    stats.created += n
                else:
                    stats.end(handler_id, state, n)
            for outcome, n in fires.items():
                name = str(outcome)
                stats.fires[name] = stats.fires.get(name, 0) + n

    def fired(self, rows: Iterable[Execution]) -> None:
        """These were created by fires: how late they were decided."""
        times = self._now().lateness
        for row in rows:
            if row.nominal_us is not None:
                place = place_of(row.created_us - row.nominal_us)
                times[place] = times.get(place, 0) + 1

    def sent(self, rows: Iterable[Execution]) -> None:
        """The start of these is committed: how long they have waited for it. Others among them still wait.

        It begins anew with a retry's delay, but after a loss nobody knows when they came back: those are left out.
        """
        now_us = self._clock.wall_us()
        times = self._now().queue_wait
        since_us = place = -1
        for row in rows:
            if row.state is not RUNNING or row.lost_count:
                continue
            due_us = row.created_us
            if row.not_before_us is not None and row.not_before_us > due_us:
                due_us = row.not_before_us
            # Most have come together.
            if due_us != since_us:
                since_us, place = due_us, place_of(now_us - due_us)
            times[place] = times.get(place, 0) + 1

    def ran(self, items: Iterable[EndItem]) -> None:
        """The end of these attempts is committed."""
        times = self._now().run_time
        for item in items:
            if item.started_us is not None and item.finished_us is not None:
                place = place_of(item.finished_us - item.started_us)
                times[place] = times.get(place, 0) + 1

    def look(self) -> None:
        """See how much is open and running now."""
        stats = self._now()
        stats.open, stats.running = self._store.tally.total, self._running()

    def _now(self) -> Stats:
        us = self._clock.wall_us()
        start_us = us - us % MINUTE_US
        if start_us != self._start_us:
            self._start_us = start_us
            self._stats = self._fresh.setdefault(start_us, Stats())
        return self._stats

    # --- reading ------------------------------------------------------------------------------------

    def recent(self, from_us: int, to_us: int) -> list[tuple[int, Stats]]:
        """The minutes that begin in ``[from_us, to_us)``, as of now, in order: all from ``complete_from_us`` on."""
        self.look()
        parts = (self._kept, self._writing, self._fresh)
        starts = sorted({start_us for part in parts for start_us in part if from_us <= start_us < to_us})
        return [(start_us, total(part.get(start_us) for part in parts)) for start_us in starts]

    # --- writing ------------------------------------------------------------------------------------

    async def flush(self, *, ends: bool = False) -> None:
        """Write down what is new. A minute in which nothing happens is written when it is over, or the server ``ends``.

        StoreUnavailable: it will be with the next one.
        """
        await self._idle.wait()
        self.look()
        minutes = {
            start_us: stats
            for start_us, stats in self._fresh.items()
            if ends or stats.eventful or start_us != self._start_us
        }
        if not minutes:
            return
        written: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def done(outcome: Exception | None) -> None:
            # Called even if nobody waits any more (the chore was stopped): nothing may be counted twice, or lost.
            self._written(outcome)
            if not written.done():
                written.set_result(outcome)

        self._store.submit(store_series.add, minutes, done)
        self._idle.clear()
        self._writing = minutes
        self._fresh = {start_us: stats for start_us, stats in self._fresh.items() if start_us not in minutes}
        self._start_us = -1
        outcome = await written
        if outcome is not None:
            raise outcome

    def _written(self, outcome: Exception | None) -> None:
        into, more = self._kept, self._writing
        if outcome is not None:
            # To be written with what was counted meanwhile.
            into, more = self._writing, self._fresh
            self._fresh, self._start_us = into, -1
        self._writing = {}
        for start_us, stats in more.items():
            into.setdefault(start_us, Stats()).add(stats)
        self._forget()
        self._idle.set()

    def _forget(self) -> None:
        """What lies further back than the hour before this one is read from the store."""
        from_us = _hour_of(self._clock.wall_us()) - HOUR_US
        # (It does not come back when the clock is set back.)
        self.complete_from_us = max(self.complete_from_us, from_us)
        for start_us in [start_us for start_us in self._kept if start_us < self.complete_from_us]:
            del self._kept[start_us]
        if len(self._fresh) > MOST_WAITING:
            too_old = sorted(self._fresh)[:-MOST_WAITING]
            log.warning("series_minutes_dropped", minutes=len(too_old))
            for start_us in too_old:
                del self._fresh[start_us]
            self._start_us = -1

    async def prune(self, keep_s: float) -> int:
        """Delete what lies further back than that, by whole hours; how many rows. StoreUnavailable."""
        return await self._store.write(store_series.prune, _hour_of(self._clock.wall_us() - round(keep_s * 1e6)))


def _hour_of(us: int) -> int:
    return us - us % HOUR_US
