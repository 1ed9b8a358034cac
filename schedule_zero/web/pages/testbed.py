"""Runs of the test bed: their verdicts, figures and reports, and two of them side by side."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.clock import to_us
from schedule_zero.errors import InvalidField
from schedule_zero.reports.compare import Comparison, Row, Trend
from schedule_zero.reports.record import OURS, Outcome, RunReport, ScenarioReport
from schedule_zero.service.bed_runs import BedRun, verdict
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.render import HTML, page

Name = Annotated[str, Meta(max_length=200)]
# Somebody else's page: no script, no form, no request to anywhere, and none of our origin.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
ORDER = (Outcome.BROKEN, Outcome.FAILED, Outcome.KEPT, Outcome.SKIPPED)


class RunsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # Two runs to be compared.
    old: Name = ""
    new: Name = ""
    # Figures that are alike as well.
    all: bool = False


class RunRow(Struct, frozen=True):
    """A run as the list shows it."""

    name: str
    began_us: int | None
    report: RunReport
    verdict: str
    # Outcome → how many scenarios of ours, worst first.
    outcomes: dict[str, int]
    has_page: bool


async def index(request: ApiRequest) -> Response:
    """All runs, and if two are named, these side by side."""
    query: RunsQuery = request.query
    if bool(query.old) != bool(query.new):
        raise InvalidField("expected two runs to compare: old and new", parameter="old" if query.new else "new")
    found = await request.service.bed_runs.find()
    comparison = None
    if query.old:
        comparison = await request.service.bed_runs.compare(query.old, query.new)
    return page(
        request,
        "testbed.html",
        title=f"{query.old} → {query.new}" if comparison else "Test bed",
        found=found,
        rows=[_row(run) for run in found.runs],
        query=query,
        comparison=comparison,
        figures=_figures(comparison, everything=query.all),
        number=number,
    )


async def show(request: ApiRequest) -> Response:
    """One run. NotFound; BadRequest if its report can't be read."""
    run = await request.service.bed_runs.get(request.id)
    scenarios = sorted(run.report.scenarios, key=lambda one: (ORDER.index(one.outcome), one.subject != OURS))
    return page(
        request,
        "testbed_run.html",
        title=run.name,
        run=_row(run),
        report=run.report,
        scenarios=scenarios,
        number=number,
        figure_rows=figure_rows,
    )


async def report(request: ApiRequest) -> Response:
    """The page that the test bed made, as it is, in a sandbox. NotFound."""
    body = await request.service.bed_runs.page(request.id)
    headers = (("Content-Security-Policy", REPORT_POLICY),)
    return Response(body, headers=headers, content_type=HTML, compress=True)


def _row(run: BedRun) -> RunRow:
    outcomes = [one.outcome for one in run.report.judged]
    try:
        began_us = to_us(datetime.fromisoformat(run.report.began))
    except ValueError:
        began_us = None
    return RunRow(
        name=run.name,
        began_us=began_us,
        report=run.report,
        verdict=verdict(run.report),
        outcomes={outcome.value: outcomes.count(outcome) for outcome in ORDER if outcome in outcomes},
        has_page=run.has_page,
    )


def _figures(comparison: Comparison | None, *, everything: bool) -> list[Row]:
    """The figures that moved, or all; what became worse first."""
    if comparison is None:
        return []
    order = [Trend.WORSE, Trend.BETTER, Trend.ALIKE]
    rows = [row for row in comparison.rows if everything or row.trend is not Trend.ALIKE]
    return sorted(rows, key=lambda row: order.index(row.trend))


def figure_rows(one: ScenarioReport) -> list[tuple[str, str]]:
    """A scenario's figures, the ones that tell most first: name and value."""
    own = one.figures
    rows = [(measure.name, number(measure.value)) for measure in one.measures]
    rows += [("executions", f"{own.executions:,}"), ("failed", f"{own.failed:,}")]
    names = ("lateness_p50_s", "lateness_p99_s", "lateness_max_s", "latency_p50_s", "latency_p99_s", "executions_per_s")
    rows += [(name, number(value)) for name in names if (value := getattr(own, name)) is not None]
    if own.processes:
        rows.append(("memory_peak_mib", number(sum(process.memory_peak_mib for process in own.processes))))
    return rows


def number(value: float | None) -> str:
    """A figure as people read it: three digits that count."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
