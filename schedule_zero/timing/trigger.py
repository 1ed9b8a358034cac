"""What every trigger is: an immutable value that answers, for any moment, which nominal time comes next.

One family serves firing, previews, lint and the explanation in words. A trigger holds no position and reads no
clock, so equal documents may share one object. APScheduler's own ``Trigger`` moves with every ``next()``;
``alarm.Alarm`` is the one class of that kind, and it asks the triggers here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidTrigger

if TYPE_CHECKING:
    from schedule_zero.timing.pattern import Days

# The last moment before the year 9999, the end of the last year that every zone has as a whole.
LATEST_US = 253_370_764_800_000_000 - 1
LATEST_WORDS = "a moment before the year 9999"
SECOND_US = 1_000_000
DAY_US = 86_400_000_000

_encoder = msgspec.json.Encoder(order="sorted")


class Trigger(ABC):
    """A set of nominal times, in microseconds since the epoch, each once and in order."""

    __slots__ = ()

    # --- the three questions of firing ---------------------------------------------------------------

    @abstractmethod
    def next_after(self, us: int) -> int | None:
        """The first nominal time strictly after ``us``; ``None`` if there is none any more."""

    @abstractmethod
    def last_before(self, us: int) -> int | None:
        """The last nominal time strictly before ``us``; ``None`` if there is none."""

    @abstractmethod
    def count(self, after_us: int, upto_us: int) -> int:
        """How many nominal times lie in ``(after_us, upto_us]``: arithmetic, unless ``reach`` sets a limit."""

    def reach(self, after_us: int, upto_us: int = LATEST_US) -> int | None:  # noqa: ARG002  # for those that count
        """How far ``count`` from ``after_us`` on is cheap (some 10 ms); ``None``: as far as ``upto_us``.

        Give ``upto_us`` if it is known: a short way is mostly known to be cheap without a look.
        """
        return None

    def has(self, us: int) -> bool:
        """Whether ``us`` is a nominal time."""
        return self.next_after(us - 1) == us

    # --- where its times come from -------------------------------------------------------------------

    @property
    def endless(self) -> bool:
        """Whether nominal times may still come although ``next_after`` says ``None``."""
        return False

    def after_run(self, ended_us: int) -> int | None:  # noqa: ARG002  # for those that follow the last run
        """The nominal time that follows the end of a run, for a trigger that waits for it."""
        return None

    @property
    def has_startup(self) -> bool:
        """Whether starts of the server are among its nominal times."""
        return False

    def bound(self, *starts_us: int) -> Trigger:  # noqa: ARG002  # for those that fire at a start
        """The same trigger in a server that was started at these moments, in order."""
        return self

    def with_days(self, change: Callable[[Days], Days]) -> Trigger:  # noqa: ARG002  # for those that name days
        """The same trigger on other local days, at the same times of the day. Its document doesn't say so."""
        raise InvalidTrigger("business_days previous and next need a trigger that names days: date, cron or calendar")

    # --- for those who look at it --------------------------------------------------------------------

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The trigger as canonical data: everything is said, ``parse_trigger`` makes an equal trigger of it."""

    @abstractmethod
    def words(self) -> str:
        """The trigger in a short English phrase that names its zone."""

    @property
    def zone_key(self) -> str:
        """The zone in which its owner thinks of it."""
        return "UTC"

    def marks(self, us: int) -> tuple[str, ...]:  # noqa: ARG002  # for those on the wall of a zone
        """Of a nominal time: ``dst_gap`` (its local time doesn't exist), ``dst_fold`` (its local time comes twice)."""
        return ()

    def encoded(self) -> bytes:
        """``document`` as the JSON that the store keeps; equal triggers give equal bytes."""
        return _encoder.encode(self.document())

    # --- for combinations ----------------------------------------------------------------------------

    @property
    def per_day(self) -> float:
        """How many nominal times a day has at most, roughly; 0: a few in all."""
        return 0.0

    def grid_us(self, after_us: int, upto_us: int) -> int | None:  # noqa: ARG002  # for those that have one
        """The distance of any two nominal times in ``[after_us, upto_us]`` is a multiple of this; ``None``: of nothing.

        ``after_us`` is one of them.
        """
        return None


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a trigger is in force, both included; ``None`` is open."""

    start_us: int | None = None
    end_us: int | None = None

    def document(self) -> dict[str, Any]:
        bounds = {"start": rfc3339(self.start_us), "end": rfc3339(self.end_us)}
        return {name: moment for name, moment in bounds.items() if moment is not None}

    def words(self) -> str:
        start = f", from {rfc3339(self.start_us)}" if self.start_us is not None else ""
        end = f", until {rfc3339(self.end_us)}" if self.end_us is not None else ""
        return start + end


OPEN = Span()


class SpannedTrigger(Trigger):
    """A trigger whose endless rule is cut to a span. Subclasses give the rule, in terms of ``span`` alone open."""

    __slots__ = ()

    span: Span

    @abstractmethod
    def _next_after(self, us: int, upto_us: int) -> int | None:
        """The rule's first nominal time in ``(us, upto_us]``."""

    @abstractmethod
    def _last_before(self, us: int, from_us: int) -> int | None:
        """The rule's last nominal time in ``[from_us, us)``."""

    @abstractmethod
    def _count(self, after_us: int, upto_us: int) -> int:
        """The rule's nominal times in ``(after_us, upto_us]``."""

    def next_after(self, us: int) -> int | None:
        start_us, end_us = self.span.start_us, self.span.end_us
        if start_us is not None and us < start_us:
            us = start_us - 1
        return self._next_after(us, LATEST_US if end_us is None else end_us)

    def last_before(self, us: int) -> int | None:
        start_us, end_us = self.span.start_us, self.span.end_us
        if end_us is not None and us > end_us:
            us = end_us + 1
        return self._last_before(us, 0 if start_us is None else start_us)

    def count(self, after_us: int, upto_us: int) -> int:
        start_us, end_us = self.span.start_us, self.span.end_us
        if start_us is not None and after_us < start_us:
            after_us = start_us - 1
        if end_us is not None and upto_us > end_us:
            upto_us = end_us
        return self._count(after_us, upto_us) if upto_us > after_us else 0
