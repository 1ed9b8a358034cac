"""One month of a schedule as a calendar: what became of each day's times, and what is to come. Pure."""

from __future__ import annotations

from calendar import month_name
from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.service.schedule_views import MonthDay
from schedule_zero.web.pages import words
from schedule_zero.web.pages.days import Month


class Mark(Struct, frozen=True):
    """A count with its kind: ``kind`` colours it, ``sign`` and ``word`` say it without colour."""

    kind: str
    sign: str
    count: str
    word: str


class Cell(Struct, frozen=True):
    day: date
    today: bool
    # All of it is over: the ledger knows more.
    past: bool
    marks: list[Mark]
    # More of it than is counted.
    more: bool

    @property
    def words(self) -> str:
        """The cell as a sentence."""
        told = ", ".join(f"{mark.count} {mark.word}" for mark in self.marks) or "nothing"
        return f"{self.day.day} {month_name[self.day.month]}: {told}{' and more' if self.more else ''}"


def weeks(month: Month, found: Sequence[MonthDay], now_us: int) -> list[list[Cell | None]]:
    """Rows of seven cells, from Monday on; None is a day of another month. ``found`` are the month's days."""
    today = from_us(now_us).astimezone(month.zone).date()
    by_day = {
        day: Cell(day, day == today, day <= today, _marks(one), one.past.more)
        for day, one in zip(month.days, found, strict=True)
    }
    return [[by_day.get(day) for day in week] for week in month.grid]


def _marks(one: MonthDay) -> list[Mark]:
    past = one.past
    good = max(0, past.executed - past.failed)
    found = [
        Mark("failed", "✕", words.count(past.failed), "failed"),
        Mark("missed", "!", words.count(past.missed), "missed"),
        Mark("completed", "✓", words.count(good), "ran"),
        Mark("caught-up", "↻", words.count(past.caught_up), "caught up"),
        Mark("skipped", "–", words.count(past.skipped), "skipped"),
        Mark("to-come", "○", words.count(one.to_come), "to come"),
        Mark("left-out", "⊘", words.count(one.left_out), "to come, left out"),
    ]
    return [mark for mark in found if mark.count != "0"]


LEGEND = [
    Mark("completed", "✓", "", "ran"),
    Mark("failed", "✕", "", "failed"),
    Mark("caught-up", "↻", "", "caught up"),
    Mark("skipped", "–", "", "skipped"),
    Mark("missed", "!", "", "missed"),
    Mark("to-come", "○", "", "to come"),
    Mark("left-out", "⊘", "", "left out"),
]
