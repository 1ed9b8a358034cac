"""The schedules that come due within the next seconds, in memory, so that a fire waits for no read.

Every schedule whose next fire is not later than ``horizon_us`` is here. The horizon is moved ahead in time by one
indexed query, and what a user changes is read again by its id (``changed``); so 100,000 schedules that are due
tomorrow cost nothing, and no poll looks at what did not change. What is here may still be stale: the fence of
``schedules.release`` decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.store import schedules
from schedule_zero.timing.alarm import Alarm

if TYPE_CHECKING:
    from schedule_zero.store import Store
    from schedule_zero.timing.trigger import Trigger

SPAN_US = 10_000_000
# With less than this ahead, the horizon is moved: well before anything is due behind it.
AHEAD_US = 5_000_000
ROWS = 10_000
# Above this many changes, and more than there is in memory, everything is read again instead.
MANY_CHANGES = 100
# While there is always something due, the horizon is still moved this often, so that nobody starves behind it.
PATIENCE_US = 1_000_000

FIRING = frozenset({ScheduleState.ACTIVE, ScheduleState.PAUSED})


class Source(Protocol):
    """Where alarms come from."""

    async def changed(self, ids: Iterable[str]) -> list[Alarm]:
        """Those of these schedules that can fire at all."""
        ...

    async def due(self, after_us: int, upto_us: int) -> list[Alarm]:
        """Those due in ``(after_us, upto_us]``, the earliest first, ``ROWS`` at most."""
        ...


class Window:
    """Alarms by id, and a queue of them by due time."""

    def __init__(self, source: Source, *, span_us: int = SPAN_US) -> None:
        self._source = source
        # How far ahead it looks.
        self._span_us = span_us
        self._alarms: dict[str, Alarm] = {}
        # (due, id); an entry that is not its alarm's ``queued_us`` any more is stale and skipped.
        self._queue: list[tuple[int, str]] = []
        self._changed: set[str] = set()
        # A read is under way, and may or may not see what is committed meanwhile.
        self._reading = False
        self.horizon_us = -1
        self._extended_us = 0

    def __len__(self) -> int:
        return len(self._alarms)

    def concerns(self, schedule_id: str, next_fire_us: int | None) -> bool:
        """Whether a committed change has to be read: not if it is due behind the horizon, and was before, too."""
        if self._reading or schedule_id in self._alarms:
            return True
        return next_fire_us is not None and next_fire_us <= self.horizon_us

    def changed(self, ids: Iterable[str]) -> None:
        """These were created, changed or deleted: what is known of them is stale from now on."""
        self._changed.update(ids)

    async def refresh(self, now_us: int) -> None:
        """Read what changed, and move the horizon if it is near. Cheap if there is neither."""
        await self._read_changed()
        if now_us + AHEAD_US > self.horizon_us and self._may_extend(now_us):
            await self._extend(now_us)
            # What was given back meanwhile.
            await self._read_changed()

    async def _read_changed(self) -> None:
        while self._changed:
            ids, self._changed = self._changed, set()
            if len(ids) > max(MANY_CHANGES, len(self._alarms)):
                self._alarms.clear()
                self._queue.clear()
                self.horizon_us = -1
                break
            try:
                alarms = await self._read(self._source.changed(ids))
            except BaseException:
                self._changed |= ids
                raise
            for id_ in ids:
                self._alarms.pop(id_, None)
            for alarm in alarms:
                if alarm.row.next_fire_us is not None and alarm.row.next_fire_us <= self.horizon_us:
                    self._keep(alarm)

    def _may_extend(self, now_us: int) -> bool:
        # What is due already goes first: moving the horizon reads up to ROWS rows. A step of the clock backwards
        # must not stop it either.
        next_us = self.next_us()
        return next_us is None or next_us > now_us or abs(now_us - self._extended_us) > PATIENCE_US

    async def _extend(self, now_us: int) -> None:
        upto_us, after_us = now_us + self._span_us, self.horizon_us
        alarms = await self._read(self._source.due(after_us, upto_us))
        for alarm in alarms:
            # One that is known already waits in the queue or is being written; a change comes with its own event.
            if alarm.row.id not in self._alarms:
                self._keep(alarm)
        # A full read may have cut a group of equal due times in two: the horizon stays before it.
        last_us = alarms[-1].row.next_fire_us if len(alarms) == ROWS else None
        self.horizon_us = upto_us if last_us is None else max(self.horizon_us, last_us - 1)
        self._extended_us = now_us

    async def _read(self, alarms: Awaitable[list[Alarm]]) -> list[Alarm]:
        self._reading = True
        try:
            return await alarms
        finally:
            self._reading = False

    def add(self, alarm: Alarm) -> None:
        """Take one in that was not here, or was forgotten."""
        self._keep(alarm)

    def _keep(self, alarm: Alarm) -> None:
        self._alarms[alarm.row.id] = alarm
        self._enqueue(alarm)

    def _enqueue(self, alarm: Alarm) -> None:
        due_us = alarm.row.next_fire_us
        if due_us is not None:
            alarm.queued_us = due_us
            heappush(self._queue, (due_us, alarm.row.id))

    def next_us(self) -> int | None:
        """When the earliest one here is due."""
        queue, alarms = self._queue, self._alarms
        while queue:
            due_us, id_ = queue[0]
            alarm = alarms.get(id_)
            if alarm is not None and alarm.queued_us == due_us:
                return due_us
            heappop(queue)
        return None

    def take_due(self, now_us: int) -> Iterator[tuple[int, Alarm]]:
        """The alarms that are due, the earliest first; each is to be given back by ``put`` or forgotten by ``drop``."""
        queue, alarms = self._queue, self._alarms
        while queue and queue[0][0] <= now_us:
            due_us, id_ = heappop(queue)
            alarm = alarms.get(id_)
            if alarm is not None and alarm.queued_us == due_us:
                alarm.queued_us = None
                yield due_us, alarm

    def put(self, alarm: Alarm) -> None:
        """Give back an alarm with its next due time in its row. Beyond the horizon it is forgotten until it is near."""
        if self._alarms.get(alarm.row.id) is not alarm:
            return
        due_us = alarm.row.next_fire_us
        if alarm.row.state not in FIRING or due_us is None or due_us > self.horizon_us:
            del self._alarms[alarm.row.id]
            if self._reading:
                # The horizon moves, by a read that saw it as it was before: it stands in neither's answer.
                self._changed.add(alarm.row.id)
        else:
            self._enqueue(alarm)

    def drop(self, alarm: Alarm) -> None:
        """Forget an alarm that turned out to be stale, and read it again."""
        self._alarms.pop(alarm.row.id, None)
        self._changed.add(alarm.row.id)


class StoredAlarms:
    """The source of a server: its store. On a reader thread: parsing 10,000 triggers must not keep the loop."""

    def __init__(self, store: Store, trigger_of: Callable[[Schedule], Trigger]) -> None:
        self._store = store
        self._trigger_of = trigger_of

    async def changed(self, ids: Iterable[str]) -> list[Alarm]:
        return await self._store.read(lambda conn: self._alarms(schedules.get_many(conn, list(ids))))

    async def due(self, after_us: int, upto_us: int) -> list[Alarm]:
        return await self._store.read(lambda conn: self._alarms(schedules.due(conn, upto_us, ROWS, after_us=after_us)))

    def _alarms(self, rows: list[Schedule]) -> list[Alarm]:
        return [Alarm(row, self._trigger_of) for row in rows if row.state in FIRING]
