"""``or``, ``and``, ``except``: exact sets of nominal times, equal to the microsecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle
from typing import Any, ClassVar

from schedule_zero.timing.combination import (
    AGREE_STEPS,
    SEARCH_STEPS,
    SEARCH_US,
    Combination,
    Steps,
    ask_last,
    ask_next,
    density,
    earliest_of,
    has_time,
)
from schedule_zero.timing.instants import IntervalTrigger
from schedule_zero.timing.overlap import agree_since, agree_until, common_interval
from schedule_zero.timing.trigger import OPEN, Span, Trigger
from schedule_zero.timing.walltime import Days


def _alternatives(trigger: Trigger) -> tuple[Trigger, ...]:
    """Single triggers, or combinations, whose union a trigger is."""
    if isinstance(trigger, OrTrigger) and trigger.span == OPEN:
        return tuple(part for member in trigger.members for part in _alternatives(member))
    return (trigger,)


@dataclass(frozen=True)
class OrTrigger(Combination):
    """Whenever one of its members fires; at a moment that several have in common, once."""

    type: ClassVar[str] = "or"

    members: tuple[Trigger, ...]
    span: Span = OPEN

    @property
    def parts(self) -> tuple[Trigger, ...]:
        return self.members

    @cached_property
    def _by_density(self) -> tuple[Trigger, ...]:
        return tuple(sorted(self.members, key=density, reverse=True))

    def _next(self, us: int, upto_us: int, steps: Steps) -> int | None:
        return earliest_of(self._by_density, us, upto_us, steps)

    def _last(self, us: int, from_us: int, steps: Steps) -> int | None:
        latest: int | None = None
        for member in self._by_density:
            found = ask_last(member, us, from_us, steps)
            if found is not None:
                latest, from_us = found, found + 1
        return latest

    @cached_property
    def _densest(self) -> Trigger | None:
        """The member that is counted by arithmetic; only what the others add to it is counted one by one."""
        return next((member for member in self._by_density if not isinstance(member, Combination)), None)

    @cached_property
    def _others(self) -> tuple[Trigger, ...]:
        return tuple(member for member in self._by_density if member is not self._densest)

    def _walk(self, after_us: int, upto_us: int, limit: int | None) -> tuple[int, int]:
        densest, steps, at_us, more = self._densest, Steps(), after_us, 0
        while True:
            found = earliest_of(self._others, at_us, upto_us, steps)
            if found is None:
                at_us = upto_us
                break
            at_us = found
            if densest is None or not has_time(densest, found, steps):
                more += 1
            if limit is not None and steps.taken >= limit:
                break
        return more + (0 if densest is None else densest.count(after_us, at_us)), at_us

    @property
    def per_day(self) -> float:
        return sum(member.per_day for member in self.members)

    @property
    def endless(self) -> bool:
        return any(member.endless for member in self.members)

    @property
    def has_startup(self) -> bool:
        return any(member.has_startup for member in self.members)

    def bound(self, *starts_us: int) -> OrTrigger:
        if not self.has_startup:
            return self
        return replace(self, members=tuple(member.bound(*starts_us) for member in self.members))

    def with_days(self, change: Callable[[Days], Days]) -> OrTrigger:
        return replace(self, members=tuple(member.with_days(change) for member in self.members))

    def document(self) -> dict[str, Any]:
        triggers = [member.document() for member in self.members]
        return {"type": self.type, "triggers": triggers, **self.span.document()}

    def words(self) -> str:
        return f"{'; or '.join(self._words_of_parts())}{self.span.words()}"


@dataclass(frozen=True)
class AndTrigger(Combination):
    """Whenever all of its members fire at the same moment."""

    type: ClassVar[str] = "and"

    members: tuple[Trigger, ...]
    span: Span = OPEN

    @property
    def parts(self) -> tuple[Trigger, ...]:
        return self.members

    @cached_property
    def _meeting(self) -> tuple[Trigger, ...] | None:
        """What has to meet, the rarest first, intervals made into one; ``None``: they never do."""
        members = list(self._flat())
        intervals = [member for member in members if isinstance(member, IntervalTrigger)]
        if intervals:
            together = common_interval(intervals)
            if together is None:
                return None
            members = [together, *(member for member in members if not isinstance(member, IntervalTrigger))]
        return tuple(sorted(members, key=density))

    def _flat(self) -> Iterator[Trigger]:
        for member in self.members:
            if isinstance(member, AndTrigger) and member.span == OPEN:
                yield from member._flat()  # noqa: SLF001  # of the same class
            else:
                yield member

    @property
    def never(self) -> bool:
        """Whether arithmetic alone says that its intervals don't meet."""
        return self._meeting is None

    def _next(self, us: int, upto_us: int, steps: Steps) -> int | None:
        most, upto_us = steps.taken + SEARCH_STEPS, min(upto_us, us + SEARCH_US)
        target_us, agreeing = us + 1, 0
        # Leapfrog: whoever is asked says where it fires next, and the others have to come up to that.
        for member in cycle(self._meeting or ()):
            found = ask_next(member, target_us - 1, upto_us, steps)
            if found is None:
                break
            agreeing = agreeing + 1 if found == target_us else 1
            target_us = found
            if agreeing == len(self._meeting or ()):
                return found
            if steps.taken >= most:
                break
        return None

    def _last(self, us: int, from_us: int, steps: Steps) -> int | None:
        most, from_us = steps.taken + SEARCH_STEPS, max(from_us, us - SEARCH_US)
        target_us, agreeing = us - 1, 0
        for member in cycle(self._meeting or ()):
            found = ask_last(member, target_us + 1, from_us, steps)
            if found is None:
                break
            agreeing = agreeing + 1 if found == target_us else 1
            target_us = found
            if agreeing == len(self._meeting or ()):
                return found
            if steps.taken >= most:
                break
        return None

    def _walk(self, after_us: int, upto_us: int, limit: int | None) -> tuple[int, int]:
        steps, at_us, count = Steps(), after_us, 0
        members = self._meeting or ()
        if len(members) == 1 and not isinstance(members[0], Combination):
            return members[0].count(after_us, upto_us), upto_us
        while True:
            found = self._next(at_us, upto_us, steps)
            if found is None:
                return count, upto_us
            count += 1
            at_us = found
            rarest, *others = members
            until_us = min(upto_us, *(_agreed_until(rarest, other, found, steps) for other in others))
            if until_us > found:
                count += rarest.count(found, until_us)
                at_us = until_us
            if limit is not None and steps.taken >= limit:
                return count, at_us

    @property
    def per_day(self) -> float:
        return min(member.per_day for member in self.members)

    def with_days(self, change: Callable[[Days], Days]) -> AndTrigger:
        return replace(self, members=tuple(member.with_days(change) for member in self.members))

    def document(self) -> dict[str, Any]:
        triggers = [member.document() for member in self.members]
        return {"type": self.type, "triggers": triggers, **self.span.document()}

    def words(self) -> str:
        return f"when these coincide: {'; and '.join(self._words_of_parts())}{self.span.words()}"


@dataclass(frozen=True)
class ExceptTrigger(Combination):
    """Whenever one trigger fires and another one doesn't at the same moment."""

    type: ClassVar[str] = "except"

    trigger: Trigger
    removed: Trigger
    span: Span = OPEN

    @property
    def parts(self) -> tuple[Trigger, ...]:
        return self.trigger, self.removed

    @cached_property
    def _removing(self) -> tuple[Trigger, ...]:
        return _alternatives(self.removed)

    @cached_property
    def left_out(self) -> AndTrigger:
        """The times that are left out."""
        return AndTrigger((self.trigger, self.removed))

    def _next(self, us: int, upto_us: int, steps: Steps) -> int | None:
        most, upto_us = steps.taken + SEARCH_STEPS, min(upto_us, us + SEARCH_US)
        while steps.taken < most:
            found = ask_next(self.trigger, us, upto_us, steps)
            if found is None:
                break
            removing = next((part for part in self._removing if has_time(part, found, steps)), None)
            if removing is None:
                return found
            us = _agree(agree_until, self.trigger, removing, found, steps)
        return None

    def _last(self, us: int, from_us: int, steps: Steps) -> int | None:
        most, from_us = steps.taken + SEARCH_STEPS, max(from_us, us - SEARCH_US)
        while steps.taken < most:
            found = ask_last(self.trigger, us, from_us, steps)
            if found is None:
                break
            removing = next((part for part in self._removing if has_time(part, found, steps)), None)
            if removing is None:
                return found
            us = _agree(agree_since, self.trigger, removing, found, steps)
        return None

    def _walk(self, after_us: int, upto_us: int, limit: int | None) -> tuple[int, int]:
        if not isinstance(self.trigger, Combination):
            left_out, at_us = self.left_out._walk(after_us, upto_us, limit)  # noqa: SLF001  # its own part
            return self.trigger.count(after_us, at_us) - left_out, at_us
        steps, at_us, count = Steps(), after_us, 0
        while True:
            found = self._next(at_us, upto_us, steps)
            if found is None:
                return count, upto_us
            count += 1
            at_us = found
            if limit is not None and steps.taken >= limit:
                return count, at_us

    @property
    def per_day(self) -> float:
        return self.trigger.per_day

    def marks(self, us: int) -> tuple[str, ...]:
        return self.trigger.marks(us)

    def with_days(self, change: Callable[[Days], Days]) -> ExceptTrigger:
        return replace(self, trigger=self.trigger.with_days(change), removed=self.removed.with_days(change))

    def document(self) -> dict[str, Any]:
        parts = {"trigger": self.trigger.document(), "except": self.removed.document()}
        return {"type": self.type, **parts, **self.span.document()}

    def words(self) -> str:
        trigger, removed = self._words_of_parts()
        return f"{trigger}; except {removed}{self.span.words()}"


def _agree(far: Callable[[Trigger, Trigger, int], int], base: Trigger, other: Trigger, us: int, steps: Steps) -> int:
    """``agree_until`` or ``agree_since``; a combination has no grid."""
    if isinstance(base, Combination) or isinstance(other, Combination):
        return us
    steps.taken += AGREE_STEPS
    return far(base, other, us)


def _agreed_until(base: Trigger, other: Trigger, us: int, steps: Steps) -> int:
    """The furthest that ``base`` agrees with any of the alternatives that ``other`` is."""
    parts = (part for part in _alternatives(other) if has_time(part, us, steps))
    return max((_agree(agree_until, base, part, us, steps) for part in parts), default=us)
