"""Endpoints that ask the ledger: is it complete, and why?"""

from __future__ import annotations

from schedule_zero.web.api import ledger_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import AuditQuery, ExplainQuery, at_of, moment_us


async def audit(request: ApiRequest) -> Response:
    """Compare the ledger of a schedule with what its versions had to decide. Without a range: the last day."""
    query: AuditQuery = request.query
    report = await request.service.audits.audit(request.id, moment_us(query.since), moment_us(query.until))
    return Response(records.audit_record(report))


async def explain(request: ApiRequest) -> Response:
    """Say why a schedule ran, or did not run, at a moment: now, unless `at` names one."""
    query: ExplainQuery = request.query
    explanation = await request.service.explain.explain(request.id, at_of(query.at))
    return Response(records.explain_record(explanation))
