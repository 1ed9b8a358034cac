"""The switch that stops all schedules at once, and asks what to make up for when it is taken back."""

from __future__ import annotations

import structlog

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import InvalidField
from schedule_zero.model import CatchUp, Freeze, new_id
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store
from schedule_zero.store import freezes as store_freezes
from schedule_zero.timing import Timer
from schedule_zero.timing.freezes import in_force

log = structlog.get_logger(__name__)


class FreezeService:
    """Freeze, thaw, and look. While all is frozen nothing is decided: the ledger is written when it is thawed."""

    def __init__(self, *, store: Store, timer: Timer, clock: Clock) -> None:
        self._store = store
        self._timer = timer
        self._clock = clock

    async def freeze(
        self,
        principal: Principal,
        note: str | None = None,
        until_us: int | None = None,
        catch_up: CatchUp | None = None,
    ) -> Freeze:
        """No schedule fires from now on, until ``until_us`` (then ``catch_up`` says what to make up for) or a thaw.

        WrongState: all is frozen already.
        """
        now_us = self._clock.wall_us()
        if until_us is not None and until_us <= now_us:
            raise InvalidField(f"expected a moment to come, got {rfc3339(until_us)}", pointer="/until")
        row = Freeze(id=new_id(), from_us=now_us, to_us=until_us, note=note, by=principal.name, catch_up=catch_up)
        frozen: Freeze = await self._store.write(store_freezes.freeze, row, by=principal.actor)
        await self._timer.freezes.load()
        log.warning("schedules_frozen", by=principal.name, until_us=until_us)
        return frozen

    async def thaw(self, principal: Principal, catch_up: CatchUp | None) -> Freeze:
        """Go on. ``None``: each schedule's own policy decides about what was due. WrongState: nothing is frozen."""
        thaw = store_freezes.Thaw(now_us=self._clock.wall_us(), catch_up=catch_up, by=principal.name)
        thawed: Freeze = await self._store.write(store_freezes.thaw, thaw, by=principal.actor)
        await self._timer.freezes.load()
        self._timer.changed()
        log.warning("schedules_thawed", by=principal.name, catch_up=catch_up)
        return thawed

    def current(self) -> Freeze | None:
        """The one in force, from memory."""
        return self._timer.freezes.at(self._clock.wall_us())

    async def all(self) -> tuple[Freeze | None, list[Freeze]]:
        """The one in force, and all that there were, the newest first."""
        freezes = await self._store.read(store_freezes.all_freezes)
        return in_force(freezes, self._clock.wall_us()), freezes[::-1]
