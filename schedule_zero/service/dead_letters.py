"""Verbs on dead letters: look at them by group, run them again (edited, or many at a rate), or put them aside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from msgspec import Raw, Struct, structs

from schedule_zero.clock import Clock
from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import BadRequest, NotFound, ScheduleZeroError, TooLarge
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Execution, Requeue, new_id
from schedule_zero.rules.change_log import Actor, ChangeVerb, Deed
from schedule_zero.rules.options import NO_OPTIONS
from schedule_zero.service.idempotency import idempotency_record, known
from schedule_zero.service.placed import write_placed
from schedule_zero.service.requeues import Requeues
from schedule_zero.service.specs import IdemKey, Principal
from schedule_zero.store import Store
from schedule_zero.store import dead_letters as letters
from schedule_zero.store import executions as store_executions
from schedule_zero.store import requeues as store_requeues
from schedule_zero.store.dead_letters import Which
from schedule_zero.store.idempotency import IdempotentReplay
from schedule_zero.store.tx import Page

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = structlog.get_logger(__name__)

# Discarded in one transaction.
STEP = 1_000
# What was discarded can be taken back for as long as it is remembered: the newest deeds, of so many letters each.
REMEMBERED = 20
MOST_REMEMBERED = 10_000
# Letters that a preview tries an edit on.
TRIED = 20


class Requeued(Struct, kw_only=True):
    """What a few letters became: ``ids`` in their order, None for one that was dealt with already."""

    id: str
    ids: list[str | None]
    replayed: bool = False


class Edit(Struct, frozen=True, kw_only=True):
    """What is to be other than before. ``job_params`` takes the place of all parameters, ``patch`` of some."""

    job_params: Raw | None = None
    patch: dict[str, Any] | None = None
    options: JobOptions = NO_OPTIONS


class Tried(Struct, kw_only=True):
    """What a requeue would do to the oldest letters that it is about."""

    # How many there are in all.
    count: int
    # The oldest one, and its parameters as they would be (None: they can't be made).
    letter: Execution | None = None
    params: bytes | None = None
    # How many were tried, how many of those their job would not take, and why the first of them.
    tried: int = 0
    refused: int = 0
    problem: str = ""


class Discarded(Struct, kw_only=True):
    """How many were put aside; ``undo`` is the deed by which ``restore`` takes it back (None: they were too many)."""

    count: int
    undo: str | None


class DeadLetterService:
    """``requeues`` is the loop that carries out what goes at a rate."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher, clock: Clock, limits: LimitsConfig) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self.requeues = Requeues(store=store, dispatcher=dispatcher, clock=clock, limits=limits)
        # By handler, as ``refresh`` last found it: for the metrics.
        self.waiting: dict[str, int] = {}
        # Deed → what was discarded by it, with its groups; the oldest deed first.
        self._discarded: OrderedDict[str, dict[str, str]] = OrderedDict()

    async def refresh(self) -> None:
        """Read anew how many wait."""
        self.waiting = await self._store.read(letters.waiting)

    # --- look -------------------------------------------------------------------------------------

    async def groups(self, which: Which, *, cursor: str | None = None, limit: int = 50) -> Page[letters.Group]:
        """What failed alike, by job."""
        return await self._store.read(lambda conn: letters.groups(conn, which, cursor=cursor, limit=limit))

    async def executions(self, group: str, *, cursor: str | None = None, limit: int = 50) -> Page[Execution]:
        """The executions of one group, newest first."""
        return await self._store.read(lambda conn: letters.find(conn, group, cursor=cursor, limit=limit))

    async def count(self, which: Which | Sequence[str]) -> int:
        """How many there are now."""
        if isinstance(which, Which):
            return (await self._store.read(lambda conn: _size(conn, which)))[1]
        found = await self._store.read(lambda conn: [store_executions.get(conn, id_) for id_ in which])
        return sum(detail is not None and detail.execution.dead_letter is not None for detail in found)

    async def group(self, group_id: str) -> letters.Group | None:
        """One group; None if nothing waits in it (any more)."""
        found = await self.groups(Which(dead_letter=group_id), limit=1)
        return found.rows[0] if found.rows else None

    async def attempt(self, which: Which, edit: Edit) -> Tried:
        """What ``begin`` would do, tried on a few; nothing is changed."""

        def read(conn: Connection) -> tuple[int, Any]:
            up_to_seq, total = _size(conn, which)
            return total, letters.onward(conn, which, ("", 0), up_to_seq, TRIED)

        count, found = await self._store.read(read)
        said = Tried(count=count, tried=len(found))
        patch = None if edit.patch is None else msgspec.json.encode(edit.patch)
        for place, (_, letter) in enumerate(found):
            try:
                row = self.requeues.replacement(letter, patch=patch, options=edit.options)
                made = row.params
            except (BadRequest, NotFound, TooLarge) as error:
                said.refused += 1
                said.problem = said.problem or error.message
                made = None
            if not place:
                said.letter, said.params = letter, made
        return said

    # --- requeue a few ----------------------------------------------------------------------------

    async def requeue(
        self,
        principal: Principal,
        ids: Sequence[str],
        edit: Edit,
        rate_per_s: float | None = None,
        idem: IdemKey | None = None,
    ) -> Requeued:
        """Run these again, in one transaction; with a rate, one after the other.

        NotFound and what is wrong with parameters point at the letter; WrongState: none of them waits any more.
        """
        found = await self._store.read(lambda conn: [store_executions.get(conn, id_) for id_ in ids])
        deed = new_id()
        now_us = self._clock.wall_us()
        patch = None if edit.patch is None else msgspec.json.encode(edit.patch)
        rows = []
        for index, detail in enumerate(found):
            if detail is None:
                raise NotFound(f"there is no execution {ids[index]!r}", pointer=f"/ids/{index}")
            later = None if not rate_per_s or not index else now_us + round(index / rate_per_s * 1e6)
            try:
                row = self.requeues.replacement(
                    detail.execution,
                    params=None if edit.job_params is None else bytes(edit.job_params),
                    patch=patch,
                    options=edit.options,
                    group_id=deed if len(ids) > 1 else None,
                    not_before_us=later,
                )
            except (BadRequest, NotFound, TooLarge) as error:
                if edit.job_params is None:
                    # Not what was sent is wrong, but what is stored, or what it became.
                    error.pointer = f"/ids/{index}"
                raise
            rows.append(row)
        record = idempotency_record(principal, idem, [], self._clock)
        backlog = self._dispatcher.backlog
        refusal = backlog.why_not(rows)
        if refusal is not None and not await known(self._store, record):
            backlog.refused += len(rows)
            raise refusal
        arg = store_requeues.Again(id=deed, rows=rows, by=principal.name, idem=record)
        edited = [name for name in ("job_params", "patch") if getattr(edit, name) is not None]
        edited += ["options"] if edit.options != NO_OPTIONS else []
        requeued = Deed(
            verb=ChangeVerb.DEAD_LETTERS_REQUEUED,
            subject=ids[0] if len(ids) == 1 else deed,
            # What may be in them is the job's business.
            asked={"edited": edited, "rate_per_s": rate_per_s},
        )
        by = principal.doing(requeued)
        answer = await write_placed(self._store, self._dispatcher, store_requeues.again, arg, rows, by=by)
        if isinstance(answer, IdempotentReplay):
            return msgspec.structs.replace(msgspec.json.decode(answer.response, type=Requeued), replayed=True)
        log.info("dead_letters_requeued", count=len(answer), by=principal.name)
        return Requeued(id=deed, ids=[row.id if row.id in answer else None for row in rows])

    # --- requeue many -----------------------------------------------------------------------------

    async def begin(
        self, principal: Principal, which: Which, edit: Edit, rate_per_s: float, idem: IdemKey | None = None
    ) -> tuple[Requeue, bool]:
        """Run all of these again, ``rate_per_s`` a second; what fails from now on is not among them.

        Answers the requeue as it is now, and whether it was begun by an earlier request of the same key. NotFound:
        there are none.
        """
        up_to_seq, total = await self._store.read(lambda conn: _size(conn, which))
        row = Requeue(
            id=new_id(),
            dead_letter=which.dead_letter,
            handler_id=which.handler_id,
            job_method=which.job_method,
            up_to_seq=up_to_seq,
            rate_per_s=rate_per_s,
            patch=None if edit.patch is None else msgspec.json.encode(edit.patch),
            options=None if edit.options == NO_OPTIONS else msgspec.json.encode(edit.options),
            total=total,
            created_us=self._clock.wall_us(),
            by=principal.name,
        )
        record = idempotency_record(principal, idem, [row.id], self._clock)
        begun: Requeue | IdempotentReplay = await self._store.write(
            store_requeues.create, store_requeues.Create(row=row, idem=record), by=principal.actor
        )
        if isinstance(begun, IdempotentReplay):
            [requeue_id] = msgspec.json.decode(begun.response, type=list[str])
            return await self.show(requeue_id), True
        self.requeues.changed()
        log.info("requeue_begun", requeue_id=row.id, count=row.total, rate_per_s=rate_per_s, by=principal.name)
        return begun, False

    async def cancel(self, principal: Principal, requeue_id: str) -> Requeue:
        """Requeue no more; what was created stays, the rest stays dead letters. NotFound, WrongState."""
        cancelled: Requeue = await self._store.write(store_requeues.cancel, requeue_id, by=principal.actor)
        log.info("requeue_cancelled", requeue_id=requeue_id, created=cancelled.created, by=principal.name)
        return cancelled

    async def show(self, requeue_id: str) -> Requeue:
        """How far one is. NotFound."""
        found = await self._store.read(lambda conn: store_requeues.get(conn, requeue_id))
        if found is None:
            raise NotFound(f"there is no requeue {requeue_id!r}")
        return found

    async def running(self) -> list[Requeue]:
        """Those that are under way, oldest first."""
        return await self._store.read(store_requeues.running)

    async def find(self, *, cursor: str | None = None, limit: int = 50) -> Page[Requeue]:
        """The newest first."""
        return await self._store.read(lambda conn: store_requeues.find(conn, cursor=cursor, limit=limit))

    # --- discard ----------------------------------------------------------------------------------

    async def discard(self, principal: Principal, which: Which | Sequence[str], note: str = "") -> Discarded:
        """Nobody waits for these any more; they stay in the history. In steps of a thousand; ``note`` says why."""
        deed = new_id()
        taken: dict[str, str] = {}
        count = 0
        asked = structs.asdict(which) if isinstance(which, Which) else {}
        discard = Deed(
            verb=ChangeVerb.DEAD_LETTERS_DISCARDED,
            subject=which[0] if not isinstance(which, Which) and len(which) == 1 else deed,
            in_steps=isinstance(which, Which),
            asked={name: value for name, value in asked.items() if value is not None},
        )
        by = structs.replace(principal.doing(discard), note=note)
        try:
            if isinstance(which, Which):
                at = ("", 0)
                up_to_seq = await self._store.read(letters.newest_seq)
                while step := await self._store.read(partial(_ids_after, which=which, at=at, up_to_seq=up_to_seq)):
                    at = step[-1][0]
                    found = await self._discard(deed, [id_ for _, id_ in step], by)
                    count += len(found)
                    if count <= MOST_REMEMBERED:
                        taken.update(found)
            else:
                taken = await self._discard(deed, list(which), by)
                count = len(taken)
        finally:
            log.info("dead_letters_discarded", count=count, by=principal.name, note=note)
        if not 0 < count <= MOST_REMEMBERED:
            return Discarded(count=count, undo=None)
        self._discarded[deed] = taken
        while len(self._discarded) > REMEMBERED:
            self._discarded.popitem(last=False)
        return Discarded(count=count, undo=deed)

    async def _discard(self, deed: str, ids: list[str], by: Actor) -> dict[str, str]:
        taken: dict[str, str] | ScheduleZeroError = await self._store.write(
            letters.discard, letters.Discard(id=deed, ids=ids, by=by.name, note=by.note), by=by
        )
        assert isinstance(taken, dict)
        return taken

    async def restore(self, principal: Principal, deed: str) -> int:
        """Take a discard back, once; how many wait again. NotFound: it was too long ago, or is taken back already."""
        taken = self._discarded.pop(deed, None)
        if taken is None:
            raise NotFound(
                "this discard can't be taken back any more",
                hint=f"the newest {REMEMBERED} since the server's start can; a single execution can be retried",
            )
        try:
            by = principal.doing(Deed(verb=ChangeVerb.DEAD_LETTERS_RESTORED, subject=deed))
            count: int = await self._store.write(
                letters.restore, letters.Restore(id=deed, letters=taken, by=by.name), by=by
            )
        except ScheduleZeroError:
            self._discarded[deed] = taken
            raise
        log.info("dead_letters_restored", count=count, by=principal.name)
        return count


def _ids_after(conn: Connection, *, which: Which, at: tuple[str, int], up_to_seq: int) -> Any:
    return letters.onward_ids(conn, which, at, up_to_seq, STEP)


def _size(conn: Connection, which: Which) -> tuple[int, int]:
    up_to_seq = letters.newest_seq(conn)
    return up_to_seq, letters.count(conn, which, up_to_seq)
