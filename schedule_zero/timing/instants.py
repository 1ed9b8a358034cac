"""Triggers that count in absolute time: ``date`` (once) and ``interval`` (fixed rate). No zone, no DST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from schedule_zero.clock import rfc3339
from schedule_zero.timing.trigger import LATEST_US, OPEN, Span, SpannedTrigger, Trigger

# Largest first: a period is shown in the largest unit that it is a whole number of.
UNITS_US: dict[str, int] = {
    "weeks": 604_800_000_000,
    "days": 86_400_000_000,
    "hours": 3_600_000_000,
    "minutes": 60_000_000,
    "seconds": 1_000_000,
    "milliseconds": 1_000,
}


@dataclass(frozen=True, slots=True)
class DateTrigger(Trigger):
    """Once, at one moment."""

    type: ClassVar[str] = "date"

    run_us: int

    def next_after(self, us: int) -> int | None:
        return self.run_us if us < self.run_us else None

    def last_before(self, us: int) -> int | None:
        return self.run_us if us > self.run_us else None

    def count(self, after_us: int, upto_us: int) -> int:
        return int(after_us < self.run_us <= upto_us)

    def document(self) -> dict[str, Any]:
        return {"type": self.type, "run_date": rfc3339(self.run_us)}

    def words(self) -> str:
        return f"once at {rfc3339(self.run_us)}"


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

    def document(self) -> dict[str, Any]:
        unit, amount = self._amount()
        return {"type": self.type, unit: amount, **self.span.document()}

    def words(self) -> str:
        unit, amount = self._amount()
        every = f"every {unit[:-1]}" if amount == 1 else f"every {amount} {unit}"
        return every + self.span.words()

    def _amount(self) -> tuple[str, int | float]:
        for unit, unit_us in UNITS_US.items():
            if self.period_us % unit_us == 0:
                return unit, self.period_us // unit_us
        return "milliseconds", self.period_us / 1000


# Longer than any span: a period beyond it would never come again.
LONGEST_PERIOD_US = LATEST_US
