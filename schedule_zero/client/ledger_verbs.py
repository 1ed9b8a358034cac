"""What one can ask the ledger: audits, explanations, and what schedules were before. A part of ``verbs``."""

from __future__ import annotations

from schedule_zero.client import ledger_records as records
from schedule_zero.client.asking import Asking, Moment, match, segment
from schedule_zero.client.flow import Flow
from schedule_zero.client.records import Page, ScheduleRecord
from schedule_zero.client.verb import verb


class LedgerVerbs(Asking):
    """Mixed into ``Verbs``."""

    @verb
    def audit(
        self, schedule_id: str, *, since: Moment | None = None, until: Moment | None = None
    ) -> Flow[records.AuditRecord]:
        """Whether the ledger has exactly one row for each nominal time; of the last day, if not said."""
        path = f"/api/schedules/{segment(schedule_id)}/audit"
        return (yield from self.ask("GET", path, records.AuditRecord, query={"since": since, "until": until}))

    @verb
    def explain(self, schedule_id: str, at: Moment | None = None) -> Flow[records.Explanation]:
        """Why it ran, or did not run, at a moment; when it was last due, if none is named.

        A datetime without a zone is meant in the schedule's own.
        """
        path = f"/api/schedules/{segment(schedule_id)}/explain"
        return (yield from self.ask("GET", path, records.Explanation, query={"at": at}))

    @verb
    def schedule_versions(
        self,
        schedule_id: str,
        *,
        version: int | None = None,
        generation: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[Page[records.VersionRecord]]:
        """Every version of a schedule, newest first; with ``version`` that one, with its content."""
        query = {"version": version, "generation": generation, "limit": limit, "cursor": cursor}
        path = f"/api/schedules/{segment(schedule_id)}/versions"
        return (yield from self.ask("GET", path, Page[records.VersionRecord], query=query))

    @verb
    def diff_schedule(
        self,
        schedule_id: str,
        from_version: int | None = None,
        to_version: int | None = None,
        *,
        generation: int | None = None,
    ) -> Flow[records.Diff]:
        """What differs between two versions; between the newest and the one before it, if not said."""
        query = {"from": from_version, "to": to_version, "generation": generation}
        path = f"/api/schedules/{segment(schedule_id)}/diff"
        return (yield from self.ask("GET", path, records.Diff, query=query))

    @verb
    def restore_schedule(
        self, schedule_id: str, version: int, *, generation: int | None = None, if_match: str | None = None
    ) -> Flow[ScheduleRecord]:
        """A new version with the content of an old one; a schedule that was deleted is made again.

        Raises WrongState where it is the version in force, PreconditionFailed as ``put_schedule`` does.
        """
        body = {"version": version} | ({} if generation is None else {"generation": generation})
        path = f"/api/schedules/{segment(schedule_id)}/restore"
        # Once more would be one more version.
        return (yield from self.ask("POST", path, ScheduleRecord, body=body, headers=match(if_match), repeatable=False))
