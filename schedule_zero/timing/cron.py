"""``cron``: Vixie's rules, parsed by cronsim, with a seconds field in front if there are six.

Day of month and day of week are alternatives if both are restricted; a field that begins with ``*`` doesn't
restrict (Debian's reading). ``L``, ``LW``, ``5L`` (last Friday), ``MON#2`` and ``H`` (``hashed``) work.

Daylight saving, also after Vixie: an expression that names its hour and its minute runs at these local times,
once a day, also on the days of the change (gap ``shift``, fold ``first``). One with ``*`` in the hour or the
minute means "all the time" and goes by real time: nothing to make up for in the gap, nothing left out in the
repeated hour (gap ``skip``, fold ``both``). ``dst_gap`` and ``dst_fold`` say otherwise.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from cronsim import CronSim

from schedule_zero.timing.cron_words import cron_words
from schedule_zero.timing.hashed import NAMES, SOME_DAY, chosen, is_hashed
from schedule_zero.timing.trigger import OPEN, Span
from schedule_zero.timing.wallclock import WallClockTrigger
from schedule_zero.timing.walltime import (
    CachedDays,
    Days,
    Fold,
    Gap,
    Pattern,
    TimesOfDay,
    WallTimes,
    day_number,
)

# Second, minute, hour, day, month, day of week.
Fields = tuple[str, str, str, str, str, str]


class CronDays(CachedDays):
    """The days that the day of month, month and day of week fields select. Shared by all triggers that say the same."""

    __slots__ = ("every_day", "rule")

    def __init__(self, day: str, month: str, day_of_week: str) -> None:
        super().__init__()
        self.rule = CronSim(f"0 0 {day} {month} {day_of_week}", SOME_DAY)
        self.every_day = (day, month, day_of_week) == ("*", "*", "*")

    def select(self, year: int) -> Sequence[int]:
        if self.every_day:
            return range(day_number(date(year, 1, 1)), day_number(date(year, 12, 31)) + 1)
        matches, from_ordinal = self.rule.match_day, date.fromordinal
        days: list[int] = []
        for month in sorted(self.rule.months):
            start = date(year, month, 1)
            first = start.toordinal()
            shift = first - day_number(start)
            after = first + monthrange(year, month)[1]
            days += [ordinal - shift for ordinal in range(first, after) if matches(from_ordinal(ordinal))]
        return days


@lru_cache(maxsize=512)
def cron_days(day: str, month: str, day_of_week: str) -> CronDays:
    return CronDays(day, month, day_of_week)


@dataclass(frozen=True)
class CronTrigger(WallClockTrigger):
    """The local times of a cron expression: ``expression`` as the user wrote it, ``fields`` parsed, always six."""

    type: ClassVar[str] = "cron"

    expression: str
    fields: Fields
    zone: ZoneInfo
    # ``None``: Vixie's rule, see above.
    dst_gap: Gap | None = None
    dst_fold: Fold | None = None
    span: Span = OPEN
    # What ``H`` depends on; ``None`` where there is none.
    seed: str | None = None
    # In place of those that the fields select.
    days: Days | None = None

    @cached_property
    def chosen(self) -> Fields:
        """The fields without any ``H``."""
        if self.seed is None:
            return self.fields
        second, minute, hour, day, month, day_of_week = (
            chosen(name, field, self.seed) if is_hashed(field) else field
            for name, field in zip(NAMES, self.fields, strict=True)
        )
        return second, minute, hour, day, month, day_of_week

    @property
    def by_real_time(self) -> bool:
        """Whether it runs all the time, rather than at certain hours: ``H/15`` is ``*/15`` with another beginning."""
        _, minute, hour, *_ = self.fields
        return minute.startswith(("*", "H/")) or hour.startswith(("*", "H/"))

    @cached_property
    def times(self) -> WallTimes:
        second, minute, hour, day, month, day_of_week = self.chosen
        # The three first fields parsed by cronsim, the others don't matter here.
        parsed = CronSim(f"{second} {minute} {hour} * * *", SOME_DAY)
        pattern = Pattern(
            self.days or cron_days(day, month, day_of_week),
            TimesOfDay(list(parsed.hours), list(parsed.minutes), list(parsed.seconds)),
        )
        return WallTimes(
            pattern,
            self.zone,
            self.dst_gap or (Gap.SKIP if self.by_real_time else Gap.SHIFT),
            self.dst_fold or (Fold.BOTH if self.by_real_time else Fold.FIRST),
        )

    def with_days(self, change: Callable[[Days], Days]) -> CronTrigger:
        return replace(self, days=change(self.times.pattern.days))

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"type": self.type, "expression": self.expression, "timezone": self.zone.key}
        if self.seed is not None:
            document["seed"] = self.seed
        if self.dst_gap is not None:
            document["dst_gap"] = self.dst_gap.value
        if self.dst_fold is not None:
            document["dst_fold"] = self.dst_fold.value
        return document | self.span.document()

    def words(self) -> str:
        described = cron_words(self.chosen) or f"Cron {self.expression}"
        spread = "" if self.seed is None else f", H chosen by {self.seed!r}"
        return f"{described} ({self.zone.key}){spread}{self.span.words()}"
