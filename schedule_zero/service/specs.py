"""What a user can ask for, after the request was decoded and before anything is looked up."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from schedule_zero.dispatch.views import ProgressView
from schedule_zero.dispatch.waiting import WaitingFor
from schedule_zero.job_options import JobOptions
from schedule_zero.model import NO_POLICIES, Attempt, Execution, Policies, Role, Schedule
from schedule_zero.rules.change_log import Actor, Deed
from schedule_zero.store.node_keys import ANY

EMPTY_PARAMS = Raw(b"{}")


class Principal(Struct, frozen=True, kw_only=True):
    """Who asks: the token's name and role; and from where, and with which request, as far as that is known."""

    name: str
    role: Role
    token_id: str
    # From this moment on the token is refused.
    expires_us: int | None = None
    # As a worker it is this bot, and runs jobs of these handlers. ``*``: any.
    bot_id: str = ANY
    handlers: tuple[str, ...] = (ANY,)
    address: str = ""
    request_id: str = ""

    @property
    def actor(self) -> Actor:
        """For the change log."""
        return self.doing(None)

    def doing(self, deed: Deed | None, *, note: str = "") -> Actor:
        """For the change log: ``deed`` is what a verb of the store that serves several ends is recorded as."""
        return Actor(
            name=self.name,
            token_id=self.token_id,
            address=self.address,
            request_id=self.request_id,
            note=note,
            deed=deed,
        )


class IdemKey(Struct, frozen=True, kw_only=True):
    """The Idempotency-Key of a write and the fingerprint (SHA-256) of its method, path and body."""

    key: str
    fingerprint: str


class SubmitItem(Struct, kw_only=True):
    """One execution to be created."""

    handler_id: str
    job_method: str
    # The JSON object of the parameters, as it came.
    job_params: Raw = EMPTY_PARAMS
    options: JobOptions = JobOptions()
    # Not before this moment; None: at once.
    not_before_us: int | None = None
    # What the job may use to make its side effect idempotent; None: the execution's id.
    idempotency_key: str | None = None


class ScheduleSpec(Struct, kw_only=True):
    """A schedule to be created or replaced. ``id`` None: one is made."""

    id: str | None = None
    handler_id: str
    job_method: str
    job_params: Raw = EMPTY_PARAMS
    # One, or several as a list.
    trigger: dict[str, Any] | list[Any]
    # Of triggers that name none.
    timezone: str | None = None
    options: JobOptions = JobOptions()
    policies: Policies = NO_POLICIES
    misfire_grace_s: float | None = None
    paused: bool = False
    note: str | None = None


class Submitted(Struct, kw_only=True):
    ids: list[str]
    replayed: bool = False
    # Of the ids, those that were there before: they have the unique keys of what was submitted.
    existing: list[str] = []


class RunNow(Struct, kw_only=True):
    """``execution`` is None where it had not finished in time."""

    execution_id: str
    execution: Execution | None
    replayed: bool = False


class ExecutionView(Struct, kw_only=True):
    """One execution with the attempts that are over (oldest first), how far its last attempt is or came, and why it
    has not started while it is pending.
    """

    execution: Execution
    attempts: list[Attempt]
    progress: ProgressView | None = None
    waiting_for: WaitingFor | None = None


class SchedulesWritten(Struct, kw_only=True):
    schedules: list[Schedule]
    replayed: bool = False


class PreviewSpec(Struct, kw_only=True):
    """A trigger to be looked at, as a schedule would have it."""

    trigger: dict[str, Any] | list[Any]
    timezone: str | None = None
    policies: Policies = NO_POLICIES
    # What ``H`` in cron depends on.
    id: str | None = None
    count: int = 10
    after_us: int | None = None


class BackfillCount(Struct, kw_only=True):
    """What a backfill would run."""

    total: int
    first_us: int | None
    last_us: int | None
    # How long it takes to create them all at the rate that was asked for.
    takes_s: float
