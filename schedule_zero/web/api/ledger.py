"""Endpoints that ask the ledger: is it complete, and why? And what a schedule was before."""

from __future__ import annotations

from msgspec import UnsetType

from schedule_zero.errors import InvalidField
from schedule_zero.web.api import ledger_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import AuditQuery, DiffQuery, ExplainQuery, VersionsQuery, at_of, given, moment_us


async def audit(request: ApiRequest) -> Response:
    """Compare the ledger of a schedule with what its versions had to decide. Without a range: the last day."""
    query: AuditQuery = request.query
    report = await request.service.audits.audit(request.id, moment_us(query.since), moment_us(query.until))
    return Response(records.audit_record(report))


async def explain(request: ApiRequest) -> Response:
    """Say why a schedule ran, or did not run, at a moment: its last due time, unless `at` names one."""
    query: ExplainQuery = request.query
    explanation = await request.service.explain.explain(request.id, at_of(query.at))
    return Response(records.explain_record(explanation))


async def versions(request: ApiRequest) -> Response:
    """Every version that a schedule had, newest first; they outlive it."""
    query: VersionsQuery = request.query
    if not isinstance(query.version, UnsetType):
        one = await request.service.versions.get(request.id, query.version, given(query.generation))
        return Response(
            records.VersionPage(records=[records.version_record(one, whole=True)], limit=query.limit, next_cursor=None)
        )
    if not isinstance(query.generation, UnsetType):
        raise InvalidField("generation goes with version", parameter="generation")
    page = await request.service.versions.find(request.id, cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.VersionPage(
            records=[records.version_record(view) for view in page.rows],
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


async def diff(request: ApiRequest) -> Response:
    """What differs between two versions: without them, between the newest one and the one before it."""
    query: DiffQuery = request.query
    found = await request.service.versions.diff(
        request.id, given(query.from_), given(query.to), given(query.generation)
    )
    return Response(records.diff_record(request.id, found))
