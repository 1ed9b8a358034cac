"""Triggers that count in absolute time: ``date`` (once) and ``interval`` (fixed rate). No DST."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing.trigger import DAY_US, OPEN, SECOND_US, Span, SpannedTrigger, Trigger
from schedule_zero.timing.walltime import DST_FOLD, DST_GAP, Days, day_number, from_day_number, resolve

# Largest first: a period is shown in the largest unit that it is a whole number of.
UNITS_US: dict[str, int] = {
    "weeks": 604_800_000_000,
    "days": 86_400_000_000,
    "hours": 3_600_000_000,
    "minutes": 60_000_000,
    "seconds": 1_000_000,
    "milliseconds": 1_000,
}
# 8,000 years. A longer period would never come again.
LONGEST_PERIOD_US = 8000 * 366 * DAY_US

UTC_ZONE = ZoneInfo("UTC")
# Farther than any business-day rule moves a date.
MOVED_DAYS = 60


@dataclass(frozen=True, slots=True)
class DateTrigger(Trigger):
    """Once, at one moment. The zone only says on whose wall it was chosen."""

    type: ClassVar[str] = "date"

    run_us: int
    zone: ZoneInfo = UTC_ZONE
    # On the wall of the zone, where it was written without an offset; not stored, for those who look at it before.
    wall: datetime | None = field(default=None, compare=False)

    def next_after(self, us: int) -> int | None:
        return self.run_us if us < self.run_us else None

    def last_before(self, us: int) -> int | None:
        return self.run_us if us > self.run_us else None

    def count(self, after_us: int, upto_us: int) -> int:
        return int(after_us < self.run_us <= upto_us)

    def with_days(self, change: Callable[[Days], Days]) -> DateTrigger:
        seconds, micro = divmod(self.run_us, SECOND_US)
        local = datetime.fromtimestamp(seconds, self.zone).replace(tzinfo=None, fold=0)
        day = day_number(local.date())
        moved = change(_OneDay(day)).next(day - MOVED_DAYS, day + MOVED_DAYS)
        if moved is None:
            raise InvalidTrigger(f"run_date: no business day is left for {local.date()}")
        if moved == day:
            return self
        local += timedelta(days=moved - day)
        return DateTrigger(resolve(local, self.zone) * SECOND_US + micro, self.zone, local)

    def marks(self, us: int) -> tuple[str, ...]:
        local = from_us(us).astimezone(self.zone)
        if self.wall is not None and self.wall.replace(microsecond=0) != local.replace(tzinfo=None, microsecond=0):
            return (DST_GAP,)
        return (DST_FOLD,) if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset() else ()

    def document(self) -> dict[str, Any]:
        zone = {} if self.zone == UTC_ZONE else {"timezone": self.zone.key}
        return {"type": self.type, "run_date": rfc3339(self.run_us), **zone}

    def words(self) -> str:
        local = from_us(self.run_us).astimezone(self.zone).isoformat(sep=" ", timespec="auto")
        # Elsewhere the offset says which of an hour's two is meant.
        return f"once at {local.removesuffix('+00:00') if self.zone == UTC_ZONE else local} ({self.zone.key})"

    @property
    def zone_key(self) -> str:
        return self.zone.key


class _OneDay(Days):
    """The day of a date."""

    __slots__ = ("day",)

    def __init__(self, day: int) -> None:
        self.day = day

    def of_year(self, year: int) -> Sequence[int]:
        return [self.day] if from_day_number(self.day).year == year else []


@dataclass(frozen=True, slots=True)
class IntervalTrigger(SpannedTrigger):
    """Every ``period_us`` at a fixed rate from its start; in UTC, so a change of the local clock leaves no hole."""

    type: ClassVar[str] = "interval"

    period_us: int
    span: Span = OPEN

    @property
    def anchor_us(self) -> int:
        return self.span.start_us or 0

    def _next_after(self, us: int, upto_us: int) -> int | None:
        anchor_us = self.anchor_us
        nominal_us = anchor_us if us < anchor_us else us + self.period_us - (us - anchor_us) % self.period_us
        return nominal_us if nominal_us <= upto_us else None

    def _last_before(self, us: int, from_us: int) -> int | None:
        # ``from_us`` is the anchor.
        if us <= from_us:
            return None
        return us - 1 - (us - 1 - from_us) % self.period_us

    def _count(self, after_us: int, upto_us: int) -> int:
        anchor_us = self.anchor_us
        return (upto_us - anchor_us) // self.period_us - (after_us - anchor_us) // self.period_us

    @property
    def per_day(self) -> float:
        return DAY_US / self.period_us

    def grid_us(self, after_us: int, upto_us: int) -> int:  # noqa: ARG002  # it never changes
        return self.period_us

    def document(self) -> dict[str, Any]:
        unit, amount = amount_of(self.period_us)
        return {"type": self.type, unit: amount, **self.span.document()}

    def words(self) -> str:
        return f"every {length_words(self.period_us)}{self.span.words()}"


def amount_of(period_us: int) -> tuple[str, int | float]:
    """A length in the largest unit that it is a whole number of: ``("minutes", 5)``."""
    for unit, unit_us in UNITS_US.items():
        if period_us % unit_us == 0:
            return unit, period_us // unit_us
    return "milliseconds", period_us / 1000


def length_words(period_us: int) -> str:
    """What comes after "every": ``5 minutes``, ``minute``."""
    unit, amount = amount_of(period_us)
    return unit[:-1] if amount == 1 else f"{amount} {unit}"
