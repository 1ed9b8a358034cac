"""What comes, for pages: worked out beside them, kept while it holds, and told at once even where that takes seconds.

Going through 10,000 schedules takes two of them. So nobody waits for it: who asks gets what is known, and asks again.
While nobody has asked for a while, nothing is kept, and nobody looks whether it still holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.model import Event
from schedule_zero.service.foresight import Foreseen, ForesightService, Only
from schedule_zero.store import Store

# Different questions that are kept, and for how long after they were asked last.
MOST = 16
KEPT_S = 300.0
# It holds for so long, unless a schedule or a calendar is changed; then it is worked out anew.
HOLDS_S = 60.0
# Schedules that run first.
LISTED = 15
# After these it does not hold any more. (What fires as foreseen changes nothing.)
CHANGES = frozenset(
    {
        "schedule.created", "schedule.updated", "schedule.deleted", "schedule.paused", "schedule.resumed",
        "schedule.finished", "schedule.quarantined",
        "calendar.created", "calendar.updated", "calendar.deleted",
    }
)  # fmt: skip


class Question(Struct, frozen=True, kw_only=True):
    from_us: int
    to_us: int
    bucket_us: int
    only: Only


class Answer(Struct, frozen=True):
    """``renewed``: it does not hold any more, or not for certain, and a new one is being worked out."""

    foreseen: Foreseen
    renewed: bool


class _Kept(Struct):
    asked_s: float
    foreseen: Foreseen | None = None
    # When it was worked out, and how many changes there had been by then.
    made_s: float = 0.0
    made_after: int = -1
    work: asyncio.Task[None] | None = None
    # What went wrong: told to whoever asks next.
    error: Exception | None = None


class ForeseenService:
    """Reads only. One forecast is worked out at a time: it takes a processor to itself."""

    def __init__(self, *, foresight: ForesightService, store: Store, clock: Clock) -> None:
        self._foresight = foresight
        self._clock = clock
        self._kept: dict[Question, _Kept] = {}
        self._changes = 0
        self._turn = asyncio.Lock()
        store.on_commit(self._heard)

    async def ask(self, question: Question, patience_s: float) -> Answer | None:
        """What comes, as far as it is known within ``patience_s``; None: ask again. InvalidField; StoreUnavailable."""
        self._foresight.check_range(question.from_us, question.to_us, question.bucket_us)
        kept = self._entry(question)
        if not self._holds(kept):
            if kept.work is None:
                kept.work = asyncio.create_task(self._work(question, kept), name="foreseen")
            # (It goes on, also if who asked goes away.)
            await asyncio.wait([kept.work], timeout=patience_s)
        if kept.error is not None:
            error, kept.error = kept.error, None
            raise error
        return None if kept.foreseen is None else Answer(kept.foreseen, renewed=not self._holds(kept))

    def _entry(self, question: Question) -> _Kept:
        """Its place, as the newest; those that nobody asks for are forgotten."""
        now_s = self._clock.mono_s()
        kept = self._kept.pop(question, None) or _Kept(now_s)
        kept.asked_s = now_s
        self._kept[question] = kept
        for other in list(self._kept):
            if len(self._kept) > MOST or self._kept[other].asked_s < now_s - KEPT_S:
                self._drop(other)
        return kept

    def _drop(self, question: Question) -> None:
        work = self._kept.pop(question).work
        if work is not None:
            work.cancel()

    def _holds(self, kept: _Kept) -> bool:
        return (
            kept.foreseen is not None
            and kept.made_after == self._changes
            and self._clock.mono_s() - kept.made_s < HOLDS_S
        )

    async def _work(self, question: Question, kept: _Kept) -> None:
        try:
            async with self._turn:
                began_s, began_after = self._clock.mono_s(), self._changes
                kept.foreseen = await self._foresight.foresee(
                    question.from_us, question.to_us, question.bucket_us, question.only, LISTED
                )
                kept.made_s, kept.made_after = began_s, began_after
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits to hear of it
            kept.error = error
        finally:
            kept.work = None

    def _heard(self, events: Sequence[tuple[int, Event]]) -> None:
        """Of each commit: nothing is looked at while nothing is kept."""
        if self._kept and any(event.kind in CHANGES for _, event in events):
            self._changes += 1
