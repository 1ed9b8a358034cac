"""The six questions of the test bed, answered from a report. Pure: figures of the report, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schedule_zero.reports.record import OURS, Answer, Outcome, RunReport, ScenarioReport, Series
from schedule_zero.testbed.runner import MEMORY

NOT_MEASURED = "not measured"
NONE_KEPT = "none of those that were tried"
# It has that measure if it kept any.
RESOLUTION, SMALLEST_INTERVAL = "temporal_resolution", "smallest_interval_ms"
# It adds load until lateness bends; its first measure is the answer.
RAMP = "concurrency_ramp"
# It is first where there is none before it, which is what it kept.
BENT = "bent_per_s"
CHURN = ("churn", "creation_storm")
SELF_MODIFYING = ("adaptive_interval", "fibonacci_backoff", "state_machine")
PLAYED = (Outcome.KEPT, Outcome.BROKEN)


def answers(report: RunReport) -> list[Answer]:
    """Six for each subject of the report, in the order of the questions."""
    found: list[Answer] = []
    for subject in dict.fromkeys(one.subject for one in report.scenarios):
        mine = [one for one in report.scenarios if one.subject == subject]
        asked = (
            ("What is the smallest interval that is kept?", _smallest(mine)),
            ("How many schedules can come and go?", _told(mine, CHURN)),
            ("Do schedules that change themselves stay sound?", _told(mine, SELF_MODIFYING)),
            ("What does it need of memory under stress?", _memory(mine)),
            ("How much can run at once before it gets late?", _ramp(mine)),
            ("What breaks?", _breaks(mine, report)),
        )
        found += [Answer(question, answer, source, subject) for question, (answer, source) in asked]
    return found


def number(value: float | None) -> str:
    """A figure as people read it: three digits that count, thousands apart."""
    if value is None:
        return "–"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """A length of time in the unit that fits it."""
    if seconds is None:
        return "–"
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if abs(seconds) * scale >= 1 or seconds == 0:
            return f"{number(float(f'{seconds * scale:.3g}') if seconds * scale < 1000 else seconds * scale)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def _smallest(reports: Sequence[ScenarioReport]) -> tuple[str, str]:
    for one in reports:
        for measure in one.measures:
            if measure.name == SMALLEST_INTERVAL:
                return NONE_KEPT if measure.value is None else f"{number(measure.value)} ms", one.scenario
        if one.scenario == RESOLUTION and one.outcome in PLAYED:
            return NONE_KEPT, one.scenario
    return NOT_MEASURED, ""


def _told(reports: Sequence[ScenarioReport], names: Sequence[str]) -> tuple[str, str]:
    """Outcome and the measure that matters of these scenarios, as far as they were run; the rest stands with them."""
    told = [one for one in reports if one.scenario in names and one.outcome is not Outcome.SKIPPED]
    if not told:
        return NOT_MEASURED, ""
    parts = []
    for one in told:
        figures = [f"{number(measure.value)} {measure.means}" for measure in one.measures[:1]]
        if one.outcome in PLAYED and one.scenario in CHURN:
            figures.append(f"{number(one.figures.schedules_created)} schedules created")
        parts.append(f"{one.scenario} {one.outcome.value}" + (f" ({', '.join(figures)})" if figures else ""))
    return "; ".join(parts), ", ".join(one.scenario for one in told)


def _memory(reports: Sequence[ScenarioReport]) -> tuple[str, str]:
    peaks = [(max(y for _, y in series.points), one.scenario) for one, series in _memories(reports)]
    if not peaks:
        return NOT_MEASURED, ""
    peak, where = max(peaks)
    whose = "server and nodes together" if reports[0].subject == OURS else "the scheduler's process"
    said = f"at most {number(round(peak, 1))} MiB by {whose} (in {where})"
    grown = [
        (process.memory_delta_mib, process.target, one.scenario) for one in reports for process in one.figures.processes
    ]
    if grown:
        delta, target, scenario = max(grown)
        said += f"; one process grew by {number(delta)} MiB at most ({target} in {scenario})"
    return said, where


def _memories(reports: Iterable[ScenarioReport]) -> Iterable[tuple[ScenarioReport, Series]]:
    return ((one, series) for one in reports for series in one.series if series.name == MEMORY and series.points)


def _ramp(reports: Sequence[ScenarioReport]) -> tuple[str, str]:
    for one in reports:
        if one.scenario == RAMP and one.measures:
            first = one.measures[0]
            if first.name == BENT:
                return (
                    f"not even the lowest rate that was tried was kept: {number(first.value)} per second",
                    one.scenario,
                )
            return f"{number(first.value)} {first.means}", one.scenario
    return NOT_MEASURED, ""


def _breaks(reports: Sequence[ScenarioReport], report: RunReport) -> tuple[str, str]:
    bad = [one for one in reports if one.outcome in (Outcome.BROKEN, Outcome.FAILED)]
    said = [f"{one.scenario} {one.outcome.value}: {first_line(one.why)}" for one in bad]
    # The checker judges our own store only.
    if reports[0].subject == OURS:
        said += [f"the checker found {name} × {times}" for name, times in sorted(report.breaches.items())]
    if not said:
        played = sum(one.outcome is Outcome.KEPT for one in reports)
        said = ["nothing of what was tried" if played else NOT_MEASURED]
    return "; ".join(said), ", ".join(one.scenario for one in bad)


def first_line(text: str) -> str:
    return text.partition("\n")[0]
