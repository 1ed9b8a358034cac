"""One verb for many schedules: those that were ticked, or all that a filter finds, each on its own and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import structlog
from msgspec import Struct

from schedule_zero.errors import Conflict, NotFound, ScheduleZeroError, TooLarge, WrongState
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store, schedule_lists
from schedule_zero.store.schedule_lists import Wanted

log = structlog.get_logger(__name__)

# Read at once, and done at once: the writer makes one transaction of them, and what fires has its turn in between.
STEP = 1_000
AT_ONCE = 50
# In one request.
MOST = 100_000
# Refusals that are told one by one.
MOST_TOLD = 5


class BulkVerb(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    RUN = "run"
    SKIP = "skip"
    DELETE = "delete"


class BulkDone(Struct, kw_only=True):
    """How many there were, and what became of them."""

    matched: int
    done: int = 0
    # Their state does not allow it, or they are gone.
    left: int = 0
    refused: int = 0
    # Of those that were left or refused, the first few: id and why.
    told: list[tuple[str, str]] = []


class ScheduleBulk:
    """Not one transaction: each of the schedules is changed or not, as if it had been asked for alone."""

    def __init__(self, *, store: Store, schedules: ScheduleService) -> None:
        self._store = store
        self._schedules = schedules

    async def matching(self, wanted: Wanted) -> list[str]:
        """The ids of all that a filter finds. TooLarge."""
        found: list[str] = []
        while True:
            after = found[-1] if found else ""
            step = await self._store.read(
                lambda conn, after=after: schedule_lists.ids(conn, wanted, after=after, limit=STEP)  # type: ignore[misc]
            )
            found += step
            if len(found) > MOST:
                raise TooLarge(f"the filter finds more than {MOST} schedules; make it narrower")
            if len(step) < STEP:
                return found

    async def do_all(self, principal: Principal, verb: BulkVerb, wanted: Wanted, expected: int | None) -> BulkDone:
        """For all that a filter finds now. Conflict: these are not as many as was agreed to (``expected``)."""
        ids = await self.matching(wanted)
        if expected is not None and len(ids) != expected:
            raise Conflict(
                f"expected {expected} schedules, the filter finds {len(ids)} now: nothing was done", count=len(ids)
            )
        return await self.do(principal, verb, ids)

    async def do(self, principal: Principal, verb: BulkVerb, ids: Sequence[str]) -> BulkDone:
        """For these."""
        done = BulkDone(matched=len(ids))
        one = self._verb(principal, verb)
        for at in range(0, len(ids), AT_ONCE):
            part = ids[at : at + AT_ONCE]
            answers = await asyncio.gather(*(one(id_) for id_ in part), return_exceptions=True)
            for id_, answer in zip(part, answers, strict=True):
                _count(done, id_, answer)
        log.info("schedules_changed", verb=verb.value, matched=done.matched, done=done.done, by=principal.name)
        return done

    def _verb(self, principal: Principal, verb: BulkVerb) -> Callable[[str], Awaitable[object]]:
        schedules = self._schedules
        if verb is BulkVerb.PAUSE:
            return lambda id_: schedules.pause(principal, id_)
        if verb is BulkVerb.RESUME:
            return lambda id_: schedules.resume(principal, id_)
        if verb is BulkVerb.SKIP:
            return lambda id_: schedules.skip(principal, id_)
        if verb is BulkVerb.DELETE:
            return lambda id_: schedules.delete(principal, id_)
        return lambda id_: schedules.run(principal, id_)


def _count(done: BulkDone, id_: str, answer: object) -> None:
    if isinstance(answer, ScheduleZeroError):
        if isinstance(answer, WrongState | NotFound):
            done.left += 1
        else:
            done.refused += 1
        if len(done.told) < MOST_TOLD:
            done.told.append((id_, answer.message))
    elif isinstance(answer, BaseException):
        raise answer
    else:
        done.done += 1
