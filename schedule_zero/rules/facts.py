"""What an explanation is made of: the facts about one moment of one schedule, and the answers that there are."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from schedule_zero.model import Execution, Fire, Freeze, Group, Policies, Schedule, ScheduleVersion, SkipReason
from schedule_zero.rules.policies import policies_of


class Answer(StrEnum):
    """What became, or becomes, of a moment."""

    EXECUTED = "executed"
    CAUGHT_UP = "caught_up"
    SKIPPED = "skipped"
    MISSED = "missed"
    # Due, and the server has not got that far.
    UNDECIDED = "undecided"
    # Due later.
    UPCOMING = "upcoming"
    # No nominal time of its trigger.
    NOT_DUE = "not_due"
    # It had finished, or was quarantined.
    ENDED = "ended"
    # The schedule did not exist yet, or not any more.
    NOT_CREATED = "not_created"
    DELETED = "deleted"
    # Versions of that time are not known.
    UNKNOWN = "unknown"
    # It was due, and has no row: that must not be.
    UNACCOUNTED = "unaccounted"


class Ruling(Struct, kw_only=True):
    """A version of a schedule, and the time in which it was in force."""

    schedule: Schedule
    from_us: int
    # None: it still is.
    to_us: int | None = None
    deleted: bool = False
    ended_by: str | None = None

    @classmethod
    def of(cls, version: ScheduleVersion) -> Ruling:
        """One that is over."""
        return cls(
            schedule=version.schedule,
            from_us=version.from_us,
            to_us=version.to_us,
            deleted=version.deleted,
            ended_by=version.ended_by,
        )

    @property
    def policies(self) -> Policies:
        return policies_of(self.schedule.policies)


class Outage(Struct, kw_only=True):
    """A time in which the server was not there. ``about``: it was killed, and when is known to a few seconds."""

    from_us: int
    to_us: int
    about: bool = False


class Change(Struct, kw_only=True):
    """A schedule was created or deleted."""

    us: int
    who: str | None = None


class Facts(Struct, kw_only=True):
    """What was found out about one moment of one schedule."""

    at_us: int
    now_us: int
    zone: str | None = None
    # About the local time that was asked for: it did not exist, or came twice.
    clock_note: str | None = None
    # In force then; None: none was, or it is not known.
    ruling: Ruling | None = None
    # In force when it was decided.
    decider: Ruling | None = None
    # The deletion before that moment, the creation after it.
    deleted: Change | None = None
    created: Change | None = None
    # Before this, versions are not known.
    known_since_us: int | None = None
    trigger_words: str = ""
    nominal_us: int | None = None
    # Nominal times within the second that was asked about.
    in_second: int = 1
    before_us: int | None = None
    # The row of ``before_us``, if it has one of its own.
    before: Fire | None = None
    after_us: int | None = None
    fire: Fire | None = None
    # Rows with a count that may be the one instead: which of them stands for the moment can't be told.
    perhaps: list[Fire] = []
    execution: Execution | None = None
    # Where the run was several executions.
    group: Group | None = None
    outage: Outage | None = None
    # When the server had started, if shortly before it was due.
    just_started_us: int | None = None
    freeze: Freeze | None = None
    window_us: int = 0
    # What ran instead of those before it that were decided with it, and the execution that was in the way.
    latest_us: int | None = None
    in_the_way: Execution | None = None
    asked_by: str | None = None
    ended: bool = False
    due: bool = False
    # Of what is to come: asked to be skipped, forbidden by a calendar, beyond the last run.
    to_skip: bool = False
    forbidden: str | None = None
    runs_out: bool = False


class Explained(Struct, kw_only=True):
    answer: Answer
    sentence: str
    reason: SkipReason | None = None
    # The policies that decided.
    policy: dict[str, Any] = {}
