"""Triggers whose nominal times are made by something that happens: a start of the server, the end of a run, a person.

By themselves they have none, or only the first one: ``bound`` and ``after_run`` give the others, and ``endless``
says that a schedule is not finished because ``next_after`` has no answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from schedule_zero.clock import rfc3339
from schedule_zero.timing.instants import amount_of
from schedule_zero.timing.trigger import LATEST_US, Span, Trigger
from schedule_zero.timing.walltime import Days


class Occasion(Trigger):
    """A trigger of which only few nominal times are known, or none."""

    __slots__ = ()

    @property
    def _known_us(self) -> tuple[int, ...]:
        """Those, in order."""
        return ()

    def next_after(self, us: int) -> int | None:
        known_us = self._known_us
        at = bisect_right(known_us, us)
        return known_us[at] if at < len(known_us) else None

    def last_before(self, us: int) -> int | None:
        known_us = self._known_us
        at = bisect_left(known_us, us)
        return known_us[at - 1] if at else None

    def count(self, after_us: int, upto_us: int) -> int:
        known_us = self._known_us
        return max(0, bisect_right(known_us, upto_us) - bisect_right(known_us, after_us))

    @property
    def endless(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class StartupTrigger(Occasion):
    """Once at each start of the server; ``bound`` says when those were that may not be decided yet."""

    type: ClassVar[str] = "startup"

    starts_us: tuple[int, ...] = ()

    @property
    def _known_us(self) -> tuple[int, ...]:
        return self.starts_us

    @property
    def has_startup(self) -> bool:
        return True

    def bound(self, *starts_us: int) -> StartupTrigger:
        return StartupTrigger(starts_us)

    def with_days(self, change: Callable[[Days], Days]) -> StartupTrigger:  # noqa: ARG002
        # A start is no plan that could be moved to another day.
        return self

    def document(self) -> dict[str, Any]:
        return {"type": self.type}

    def words(self) -> str:
        return "at each start of the server"


@dataclass(frozen=True, slots=True)
class ManualTrigger(Occasion):
    """Never by itself."""

    type: ClassVar[str] = "manual"

    def with_days(self, change: Callable[[Days], Days]) -> ManualTrigger:  # noqa: ARG002
        return self

    def document(self) -> dict[str, Any]:
        return {"type": self.type}

    def words(self) -> str:
        return "only when somebody runs it"


@dataclass(frozen=True, slots=True)
class DelayTrigger(Occasion):
    """``delay_us`` after the end of the last run; the first time at the start of ``span``."""

    type: ClassVar[str] = "interval"

    delay_us: int
    span: Span

    @property
    def _known_us(self) -> tuple[int, ...]:
        return () if self.span.start_us is None else (self.span.start_us,)

    def after_run(self, ended_us: int) -> int | None:
        return self._in_force(ended_us + self.delay_us)

    def first_fire(self, now_us: int) -> int | None:
        """Where it begins: at its start, or now if that has passed, because only a run is followed by another one."""
        return self._in_force(max(now_us, self.span.start_us or 0))

    def _in_force(self, us: int) -> int | None:
        return us if us <= (LATEST_US if self.span.end_us is None else self.span.end_us) else None

    def document(self) -> dict[str, Any]:
        unit, amount = amount_of(self.delay_us)
        return {"type": self.type, unit: amount, "anchor": "end", **self.span.document()}

    def words(self) -> str:
        unit, amount = amount_of(self.delay_us)
        delay = f"{amount} {unit[:-1]}" if amount == 1 else f"{amount} {unit}"
        end = Span(end_us=self.span.end_us).words()
        return f"{delay} after each run's end, first at {rfc3339(self.span.start_us)}{end}"
