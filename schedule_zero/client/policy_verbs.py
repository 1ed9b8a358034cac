"""The verbs on what happens to fires: skip, freeze and thaw, backfill, and the ledger of all schedules.

A part of ``verbs``, which says how times go in and come out.
"""

from __future__ import annotations

from typing import Literal

from schedule_zero.client import records
from schedule_zero.client.asking import Asking, Moment, segment
from schedule_zero.client.flow import Flow
from schedule_zero.client.records import Page, ScheduleRecord
from schedule_zero.client.verb import verb
from schedule_zero.model import new_id

CatchUp = Literal["none", "latest", "all", "policy"]


class PolicyVerbs(Asking):
    """Mixed into ``Verbs``."""

    @verb
    def skip_fires(self, id: str, count: int = 1) -> Flow[ScheduleRecord]:
        """Leave out the next ``count`` fires of a schedule that are not left out already; ``skips`` has them all."""
        path = f"/api/schedules/{segment(id)}/skip"
        # Twice is twice as many: not repeated after an answer that was lost.
        return (yield from self.ask("POST", path, ScheduleRecord, body={"count": count}, repeatable=False))

    @verb
    def skip_none(self, id: str) -> Flow[ScheduleRecord]:
        """Leave out none of a schedule's fires to come any more."""
        return (yield from self.ask("DELETE", f"/api/schedules/{segment(id)}/skip", ScheduleRecord))

    @verb
    def all_fires(
        self,
        *,
        outcome: str | None = None,
        since: Moment | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[Page[records.FireRecord]]:
        """The ledger of all schedules, the newest decision first."""
        query = {"outcome": outcome, "since": since, "limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", "/api/fires", Page[records.FireRecord], query=query))

    @verb
    def freeze(
        self, note: str | None = None, *, until: Moment | None = None, catch_up: CatchUp | None = None
    ) -> Flow[records.FreezeRecord]:
        """Let no schedule fire until ``until`` (``catch_up``, only with it, says what is made up for then), or until a
        ``thaw``.

        Raises WrongState where all are frozen already.
        """
        body = {"note": note, "until": until, "catch_up": catch_up}
        return (yield from self.ask("POST", "/api/freeze", records.FreezeRecord, body=body, repeatable=False))

    @verb
    def thaw(self, catch_up: CatchUp) -> Flow[records.FreezeRecord]:
        """Let schedules fire again. ``catch_up``: which of the fires that were due meanwhile are made up for.

        Raises WrongState where nothing is frozen.
        """
        body = {"catch_up": catch_up}
        return (yield from self.ask("POST", "/api/thaw", records.FreezeRecord, body=body, repeatable=False))

    @verb
    def freezes(self) -> Flow[records.Freezes]:
        """The freeze in force, and all that there were, the newest first."""
        return (yield from self.ask("GET", "/api/freezes", records.Freezes))

    @verb
    def count_backfill(
        self, schedule_id: str, start: Moment, end: Moment, *, rate_per_s: float = 10.0
    ) -> Flow[records.BackfillCount]:
        """What a backfill of this range would run; nothing is stored."""
        body = {"from": start, "to": end, "rate_per_s": rate_per_s, "dry_run": True}
        path = f"/api/schedules/{segment(schedule_id)}/backfill"
        return (yield from self.ask("POST", path, records.BackfillCount, body=body))

    @verb
    def backfill(
        self, schedule_id: str, start: Moment, end: Moment, *, rate_per_s: float = 10.0, count: int | None = None
    ) -> Flow[records.BackfillRecord]:
        """Run the nominal times of a past range, both ends included; ``rate_per_s`` executions are created per second.

        Raises Conflict where there are not ``count`` of them (None: however many).
        """
        body = {"from": start, "to": end, "rate_per_s": rate_per_s, "count": count}
        path = f"/api/schedules/{segment(schedule_id)}/backfill"
        return (yield from self.ask("POST", path, records.BackfillRecord, body=body, key=new_id()))

    @verb
    def backfills(self, schedule_id: str, *, limit: int = 100, cursor: str | None = None) -> Flow[records.BackfillPage]:
        """The backfills of a schedule, the newest first."""
        path = f"/api/schedules/{segment(schedule_id)}/backfills"
        query = {"limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", path, records.BackfillPage, query=query))

    @verb
    def cancel_backfill(self, backfill_id: str) -> Flow[records.BackfillRecord]:
        """Create no more executions; those that were created stay. Raises WrongState where it is over."""
        path = f"/api/backfills/{segment(backfill_id)}/cancel"
        return (yield from self.ask("POST", path, records.BackfillRecord, repeatable=False))
