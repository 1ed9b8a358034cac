"""Verbs on what a search finds: a page, how many, when, all of it one by one, and what might be typed next."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import tzinfo
from functools import partial
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import InvalidField
from schedule_zero.model import Execution
from schedule_zero.rules.buckets import buckets
from schedule_zero.rules.search import ORIGIN_WORDS, STATE_WORDS, Q, Search, bounds_us, said, said_step
from schedule_zero.rules.search_parse import parse
from schedule_zero.rules.search_slot import Slot, slot_at
from schedule_zero.store import Store, execution_counting, schedules
from schedule_zero.store import executions as store_executions
from schedule_zero.store.execution_counting import Histogram
from schedule_zero.store.execution_lists import Filter, FoundPage
from schedule_zero.timing.zones import iana_zone

UTC = ZoneInfo("UTC")
# A count goes on up to so many, and through so many steps of rows that are looked at; then it says "or more".
MOST_COUNTED = 10_000
MOST_STEPS = 10
# Of a page of an export: few, because each may be large.
EXPORTED_ROWS = 200
MAX_SUGGESTIONS = 20
MOMENTS = ("15m", "1h", "2h", "1d", "7d", "today", "yesterday")
LENGTHS = (">1s", ">10s", ">1m", ">10m", ">1h")
# What qualifiers are for, and how they are used.
HINTS = {
    Q.STATE: "failed, running … · open · over · failed-like",
    Q.JOB: "handler.method; * stands for any text",
    Q.HANDLER: "the handler's id",
    Q.SCHEDULE: "the schedule's id",
    Q.NODE: "the node that has or had it last",
    Q.GROUP: "a group, backfill, requeue or batch",
    Q.KEY: "any of its keys",
    Q.ORIGIN: "where it came from",
    Q.ATTEMPT: "attempt:>1",
    Q.TOOK: "took:>10s",
    Q.SINCE: "2h, today, 2030-01-31, 2030-01-31T09:00",
    Q.UNTIL: "2h, yesterday, 2030-01-31",
    Q.ERROR: 'error:"no route"',
    Q.ID: "how its id begins",
    Q.ARG: "a parameter: arg.customer:42",
}


class Counted(Struct, frozen=True):
    """How many there are; not ``exact``: at least so many."""

    matched: int
    exact: bool


class Suggestion(Struct, frozen=True, kw_only=True):
    """``text`` takes the place of the slot; ``hint`` says what it is."""

    text: str
    hint: str = ""


class Suggestions(Struct, frozen=True, kw_only=True):
    """What may stand from character ``start`` up to ``end`` of the search."""

    start: int
    end: int
    items: Sequence[Suggestion]


class Asked(Struct, frozen=True, kw_only=True):
    """A search that was understood, and the filter that it comes to, together with what else was asked for."""

    search: Search
    wanted: Filter

    @property
    def said(self) -> str:
        """In the one way in which it is written."""
        return said(self.search)


class SearchService:
    """Reads only."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher, clock: Clock) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock

    def ask(self, text: str, timezone: str | None = None, also: Filter | None = None) -> Asked:
        """What is meant by ``text``, with days and local times of that zone, of what ``also`` finds.

        InvalidSearch; InvalidField: no such zone.
        """
        now_us = self._clock.wall_us()
        search = parse(text)
        since_us, until_us = bounds_us(search, now_us, zone_of(timezone))
        also = also or Filter()
        since = [us for us in (since_us, also.since_us) if us is not None]
        until = [us for us in (until_us, also.until_us) if us is not None]
        wanted = replace(
            also,
            terms=also.terms + search.terms,
            since_us=max(since, default=None),
            until_us=min(until, default=None),
            now_us=now_us,
        )
        return Asked(search=search, wanted=wanted)

    async def find(self, asked: Asked) -> FoundPage:
        """A page, newest first; it may be short, even empty, and say back to when it has looked."""
        return await self._store.read(lambda conn: store_executions.find(conn, asked.wanted))

    async def count(self, wanted: Filter) -> Counted:
        """How many there are: all of them, unless there are too many, or too much is to be looked at."""
        matched, step = 0, replace(wanted, cursor=None)
        for _ in range(MOST_STEPS):
            n, reached = await self._store.read(partial(execution_counting.count, wanted=step))
            matched += n
            if not reached:
                return Counted(matched, exact=True)
            if matched >= MOST_COUNTED:
                break
            step = replace(step, cursor=str(reached))
        return Counted(matched, exact=False)

    async def histogram(self, asked: Asked, timezone: str | None = None) -> Histogram:
        """When what is found was created, in parts of the time that was asked for, or that there is."""
        divide = partial(buckets, zone=zone_of(timezone))
        wanted = replace(asked.wanted, cursor=None)
        return await self._store.read(lambda conn: execution_counting.histogram(conn, wanted, divide))

    async def export(self, wanted: Filter) -> AsyncGenerator[list[Execution], None]:
        """All that is found, page by page, the newest first; pages may be empty. What comes later is not among them."""
        step = replace(wanted, limit=EXPORTED_ROWS)
        while True:
            page = await self._store.read(partial(store_executions.find, wanted=step))
            yield page.rows
            if page.next_cursor is None:
                return
            step = replace(step, cursor=page.next_cursor)

    # --- suggestions --------------------------------------------------------------------------------

    async def suggest(self, text: str, caret: int) -> Suggestions:
        """What may be typed at a place in a search: of what this server knows, what begins like that, or has it."""
        slot = slot_at(text, caret)
        candidates = [*await self._candidates(slot)]
        typed = slot.typed.lower()
        begins = [one for one in candidates if one.text.lower().startswith(typed)]
        contains = [one for one in candidates if typed in one.text.lower() and one not in begins]
        found = [one for one in begins + contains if one.text.lower() != typed]
        return Suggestions(start=slot.start, end=slot.end, items=found[:MAX_SUGGESTIONS])

    async def _candidates(self, slot: Slot) -> Iterable[Suggestion]:
        qualifier = slot.qualifier
        if qualifier is None:
            return [
                Suggestion(text="arg." if name is Q.ARG else f"{name.value}:", hint=hint)
                for name, hint in HINTS.items()
            ]
        if qualifier is Q.ARG:
            return [Suggestion(text=f"{name}:", hint=job) for name, job in self._parameters()] if slot.path else ()
        if "\0" in slot.typed:
            return ()
        if qualifier is Q.SCHEDULE:
            found = await self._store.read(lambda conn: schedules.ids_from(conn, slot.typed, limit=MAX_SUGGESTIONS + 1))
            return map(_plain, found)
        handlers = self._dispatcher.registry.handlers()
        words: dict[Q, Iterable[str]] = {
            Q.STATE: STATE_WORDS,
            Q.ORIGIN: ORIGIN_WORDS,
            Q.SINCE: MOMENTS,
            Q.UNTIL: MOMENTS,
            Q.TOOK: LENGTHS,
            Q.ATTEMPT: (">1", ">2"),
            Q.HANDLER: (handler.handler_id for handler in handlers),
            Q.JOB: (f"{one.handler_id}.{name}" for one in handlers for name in ("*", *(m.name for m in one.methods))),
            Q.NODE: (node.node_id for node in self._dispatcher.nodes()),
        }
        return map(_plain, words.get(qualifier, ()))

    def _parameters(self) -> Iterable[tuple[str, str]]:
        """The names of parameters that job methods declare, each with a job that has it."""
        found: dict[str, str] = {}
        for handler in self._dispatcher.registry.handlers():
            for method in handler.methods:
                for name in _declared(method.schema):
                    found.setdefault(said_step(name)[1:], f"{handler.handler_id}.{method.name}")
        return sorted(found.items())


class _Schema(Struct):
    properties: dict[str, msgspec.Raw] = {}


_decode_schema = msgspec.json.Decoder(_Schema).decode


def _declared(schema: bytes) -> Iterable[str]:
    try:
        return _decode_schema(schema).properties
    except msgspec.ValidationError:
        # It says it in another way.
        return ()


def _plain(text: str) -> Suggestion:
    return Suggestion(text=text)


def zone_of(key: str | None) -> tzinfo:
    """The viewer's zone; UTC unless one is named. InvalidField."""
    if key is None:
        return UTC
    zone = iana_zone(key)
    if zone is None:
        raise InvalidField(f"expected an IANA time zone such as Europe/Berlin, got {key[:64]!r}", pointer="/timezone")
    return zone
