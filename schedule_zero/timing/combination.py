"""What ``or``, ``and`` and ``except`` have in common: questions to their parts, counted so that they can be bounded.

Firing asks single triggers and takes the earliest, the common one, or the next one that isn't left out. Where that
could take forever, it is bounded: a question takes at most ``SEARCH_STEPS`` questions to single triggers, and looks
at most ``SEARCH_US`` ahead or back; what it hasn't found by then, it says isn't there. What has to be counted one by
one says how far that is cheap (``reach``). See decision record 0012.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property

from schedule_zero.timing.trigger import DAY_US, LATEST_US, Span, Trigger

# A question to a single trigger takes some 5 µs.
SEARCH_STEPS = 4000
REACH_STEPS = 2000
# What ``overlap.agree_until`` takes.
AGREE_STEPS = 4
SEARCH_YEARS = 50
SEARCH_US = SEARCH_YEARS * 366 * DAY_US
MAX_LEAVES = 20
MAX_DEPTH = 5


class Steps:
    """How many questions to single triggers an answer has taken so far."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = 0


class Combination(Trigger):
    """A set made of other sets, cut to a span."""

    span: Span

    @property
    @abstractmethod
    def parts(self) -> tuple[Trigger, ...]:
        """What it is made of, in the order of the document."""

    @abstractmethod
    def _next(self, us: int, upto_us: int, steps: Steps) -> int | None:
        """The first time in ``(us, upto_us]``, the span open."""

    @abstractmethod
    def _last(self, us: int, from_us: int, steps: Steps) -> int | None:
        """The last time in ``[from_us, us)``, the span open."""

    @abstractmethod
    def _walk(self, after_us: int, upto_us: int, limit: int | None) -> tuple[int, int]:
        """Count ``(after_us, upto_us]``, the span open; with a limit, only so far as it takes that many steps."""

    def search_next(self, us: int, upto_us: int, steps: Steps) -> int | None:
        us, upto_us = self._cut(us, upto_us)
        return self._next(us, upto_us, steps) if us < upto_us else None

    def search_last(self, us: int, from_us: int, steps: Steps) -> int | None:
        # The same cut, seen from the other side: what lies in ``(from_us - 1, us - 1]``.
        after_us, upto_us = self._cut(from_us - 1, us - 1)
        return self._last(upto_us + 1, after_us + 1, steps) if after_us < upto_us else None

    def next_after(self, us: int) -> int | None:
        return self.search_next(us, LATEST_US, Steps())

    def last_before(self, us: int) -> int | None:
        return self.search_last(us, 0, Steps())

    def count(self, after_us: int, upto_us: int) -> int:
        after_us, upto_us = self._cut(after_us, upto_us)
        return self._walk(after_us, upto_us, None)[0] if upto_us > after_us else 0

    def reach(self, after_us: int, upto_us: int = LATEST_US) -> int | None:
        low_us, high_us = self._cut(after_us, upto_us)
        if high_us - low_us <= self._cheap_us:
            return None
        far_us = min(high_us, low_us + SEARCH_US)
        reached_us = self._walk(low_us, far_us, REACH_STEPS)[1]
        return None if reached_us >= high_us else reached_us

    def _cut(self, after_us: int, upto_us: int) -> tuple[int, int]:
        """``(after_us, upto_us]`` within the span."""
        start_us, end_us = self.span.start_us, self.span.end_us
        if start_us is not None and after_us < start_us:
            after_us = start_us - 1
        if end_us is not None and upto_us > end_us:
            upto_us = end_us
        return after_us, upto_us

    @cached_property
    def leaves(self) -> tuple[Trigger, ...]:
        """The single triggers in it."""
        return tuple(leaf for part in self.parts for leaf in leaves_of(part))

    @cached_property
    def _cheap_us(self) -> int:
        """A length that can be counted in some ``REACH_STEPS`` steps wherever it lies."""
        rates = sorted(leaf.per_day for leaf in self.leaves)
        # The densest of them is counted by arithmetic, or stepped over by the others.
        steps_per_day = (len(rates) + AGREE_STEPS) * sum(rates[:-1])
        return int(REACH_STEPS / steps_per_day * DAY_US) if steps_per_day else LATEST_US

    @property
    def zone_key(self) -> str:
        return self.parts[0].zone_key

    def marks(self, us: int) -> tuple[str, ...]:
        found = (mark for part in self.parts if part.has(us) for mark in part.marks(us))
        return tuple(dict.fromkeys(found))

    def _words_of_parts(self) -> list[str]:
        return [f"({part.words()})" if isinstance(part, Combination) else part.words() for part in self.parts]


def leaves_of(trigger: Trigger) -> tuple[Trigger, ...]:
    """The single triggers in one that may be a combination."""
    return trigger.leaves if isinstance(trigger, Combination) else (trigger,)


def ask_next(trigger: Trigger, us: int, upto_us: int, steps: Steps) -> int | None:
    if isinstance(trigger, Combination):
        return trigger.search_next(us, upto_us, steps)
    steps.taken += 1
    found = trigger.next_after(us)
    return found if found is not None and found <= upto_us else None


def ask_last(trigger: Trigger, us: int, from_us: int, steps: Steps) -> int | None:
    if isinstance(trigger, Combination):
        return trigger.search_last(us, from_us, steps)
    steps.taken += 1
    found = trigger.last_before(us)
    return found if found is not None and found >= from_us else None


def has_time(trigger: Trigger, us: int, steps: Steps) -> bool:
    return ask_next(trigger, us - 1, us, steps) is not None


def earliest_of(triggers: Iterable[Trigger], us: int, upto_us: int, steps: Steps) -> int | None:
    """The first time of any of them. Give the densest first: nobody searches behind what is found already."""
    earliest: int | None = None
    for trigger in triggers:
        found = ask_next(trigger, us, upto_us, steps)
        if found is not None:
            earliest, upto_us = found, found - 1
    return earliest


def density(trigger: Trigger) -> float:
    """To sort by."""
    return trigger.per_day
