"""From what is stored of a schedule to what decides its fires: its trigger with everything that it stands on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from schedule_zero.errors import InvalidCalendar
from schedule_zero.model import DayRule
from schedule_zero.rules.policies import policies_of
from schedule_zero.timing.combination import leaves_of
from schedule_zero.timing.combined import OrTrigger
from schedule_zero.timing.instants import IntervalTrigger
from schedule_zero.timing.occasions import Occasion, StartupTrigger
from schedule_zero.timing.parse import load_trigger
from schedule_zero.timing.trigger import Span

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from schedule_zero.model import Policies, Schedule
    from schedule_zero.timing.calendars import Exclusions, NamedCalendar
    from schedule_zero.timing.trigger import Trigger


class Calendars(Protocol):
    """Where named calendars come from: a server's ``CalendarBook``, or a copy of it."""

    def get(self, name: str) -> NamedCalendar | None:
        """The calendar in force; ``None``: there is none of that name."""
        ...

    def current_version(self, name: str) -> int | None:
        """Its version."""
        ...

    def known_version(self, name: str, version: int) -> NamedCalendar | None:
        """It as it was in that version, if that is at hand."""
        ...


def day_zone(trigger: Trigger) -> ZoneInfo | None:
    """On whose wall the days of a trigger are read: of several, the first that names days. ``None``: none does."""
    for leaf in leaves_of(trigger):
        if not isinstance(leaf, IntervalTrigger | Occasion):
            return ZoneInfo(leaf.zone_key)
    return None


class Resolver:
    """Triggers and calendars as this server has them: a ``startup`` fires at the moment at which it was started."""

    def __init__(self, started_us: int, book: Calendars | None = None) -> None:
        self._starts_us = [started_us]
        # id → (generation, newest nominal time in the ledger), of those that lay ahead when the server was started.
        self._ahead: dict[str, tuple[int, int]] = {}
        # None: where no schedule may use a calendar.
        self._book = book

    def started_before(self, starts_us: Iterable[int]) -> None:
        """There were earlier starts, the fires of which may not be decided yet: a server was killed, or frozen."""
        self._starts_us = sorted({*self._starts_us, *starts_us})

    def trigger(self, row: Schedule) -> Trigger:
        """The trigger in force. InvalidTrigger or InvalidCalendar if what is stored can't be used."""
        return self.bind(load_trigger(row.trigger), policies_of(row.policies))

    def decided_ahead(self, ahead: dict[str, tuple[int, int]]) -> None:
        """Schedules that fire at a start, and of which later times are decided already: the clock was set back."""
        self._ahead = ahead

    def coming(self, row: Schedule) -> Trigger:
        """The trigger as far as it is to be decided: of what lies before such times, the starts alone."""
        trigger = self.trigger(row)
        generation, decided_us = self._ahead.get(row.id, (0, 0))
        if generation != row.generation or not trigger.has_startup:
            return trigger
        behind = OrTrigger((trigger,), Span(start_us=decided_us + 1))
        return OrTrigger((StartupTrigger(tuple(self._starts_us)), behind))

    def bind(self, trigger: Trigger, policies: Policies) -> Trigger:
        """A trigger by itself with what else it stands on: the server's start, and the business days of a calendar."""
        trigger = trigger.bound(*self._starts_us)
        business = policies.business_days
        if business is None or business.rule is DayRule.SKIP:
            return trigger
        calendar = self.calendar(business.calendar)
        if self._book is not None and business.version is not None:
            # Its calendar may have changed a moment ago: its times are those of the old one until it is bound anew.
            calendar = self._book.known_version(business.calendar, business.version) or calendar
        return self.moved(trigger, calendar, business.rule)

    def trigger_then(self, conn: Connection, row: Schedule) -> Trigger:
        """The trigger of a version that may be over, on the business days of the calendar's version that it had."""
        business = policies_of(row.policies).business_days
        if business is None or business.rule is DayRule.SKIP or business.version is None:
            return self.trigger(row)
        if business.version == self.calendar_version(business.calendar):
            return self.trigger(row)
        from schedule_zero.store import calendars
        from schedule_zero.timing.calendar_parse import load_calendar

        then = calendars.get_version(conn, business.calendar, business.version)
        if then is None or then.document is None:
            raise InvalidCalendar(f"version {business.version} of calendar {business.calendar!r} is not kept")
        calendar = load_calendar(then.document, business.calendar)
        return self.moved(load_trigger(row.trigger).bound(*self._starts_us), calendar, business.rule)

    @staticmethod
    def moved(trigger: Trigger, calendar: NamedCalendar, rule: DayRule) -> Trigger:
        """The trigger with its days moved to business days."""
        from schedule_zero.timing.business import moved

        return moved(trigger, calendar, "next" if rule is DayRule.NEXT else "previous")

    def exclusions(self, policies: Policies, trigger: Trigger) -> Exclusions | None:
        """The named calendars that bear on the fires, as they are now; ``None``: none does. InvalidCalendar."""
        business = policies.business_days
        skips = business is not None and business.rule is DayRule.SKIP
        if not (policies.exclude or policies.require or skips):
            return None
        from schedule_zero.timing.calendars import Exclusions

        skipped = None
        if business is not None and skips:
            calendar = self.calendar(business.calendar)
            skipped = (calendar, day_zone(trigger) or calendar.zone)
        return Exclusions(
            [self.calendar(name) for name in policies.exclude],
            [self.calendar(name) for name in policies.require],
            skipped,
        )

    def calendar(self, name: str) -> NamedCalendar:
        """A named calendar as it is now. InvalidCalendar if there is none, or it can't be used any more."""
        found = None if self._book is None else self._book.get(name)
        if found is None:
            raise InvalidCalendar(f"there is no calendar {name!r}")
        return found

    def calendar_version(self, name: str) -> int | None:
        """The version in force of a named calendar."""
        return None if self._book is None else self._book.current_version(name)
