"""How a run goes on, for whoever looks on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schedule_zero.cli.terminal import Styled, clean, say
from schedule_zero.reports.record import Finding, Outcome, ScenarioReport, Verdict
from schedule_zero.testbed.answers import first_line, number
from schedule_zero.testbed.runner import Planned, Watcher

_COLOURS = {Outcome.KEPT: "green", Outcome.SKIPPED: "yellow", Outcome.BROKEN: "red", Outcome.FAILED: "red"}
_VERDICTS = {Verdict.CONFIRMED: "yellow", Verdict.REFUTED: "green", Verdict.FAILED: "red"}
NAME = 20


@contextmanager
def progress() -> Iterator[Watcher]:
    """The watcher for this stdout."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    bars = Bars()
    try:
        yield bars
    finally:
        bars.close()


class Lines(Watcher):
    """A line when a scenario begins, and one when it is over."""

    def step(self, text: str) -> None:
        say(f"        {text}")
        sys.stdout.flush()

    def begins(self, planned: Planned) -> None:
        say(f"runs    {planned.scenario.handler_id}")
        sys.stdout.flush()

    def ends(self, report: ScenarioReport) -> None:
        say(*outcome_line(report))
        sys.stdout.flush()

    def finds(self, finding: Finding) -> None:
        say(*finding_line(finding))
        sys.stdout.flush()


class Bars(Watcher):
    """A bar with its text while a scenario runs, above it a line for each that is over."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[said]}", markup=False), transient=True)
        self._task: Any = None
        self._progress.start()

    def step(self, text: str) -> None:
        self._clear()
        self._task = self._progress.add_task(clean(text), total=None, said="")

    def begins(self, planned: Planned) -> None:
        self._clear()
        self._task = self._progress.add_task(planned.scenario.handler_id.ljust(NAME), total=None, said="")

    def goes_on(self, _: Planned, fraction: float, text: str, /) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=min(1.0, max(0.0, fraction)), total=1, said=clean(text))

    def ends(self, report: ScenarioReport) -> None:
        self._clear()
        self._print(outcome_line(report))

    def finds(self, finding: Finding) -> None:
        self._print(finding_line(finding))

    def _print(self, parts: list[str | Styled]) -> None:
        from rich.text import Text

        line = Text()
        for part in parts:
            if isinstance(part, Styled):
                line.append(clean(part.text), style=f"bold {part.fg}")
            else:
                line.append(clean(part))
        self._progress.console.print(line, soft_wrap=True)

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def close(self) -> None:
        self._progress.stop()


def outcome_line(report: ScenarioReport) -> list[str | Styled]:
    """Its outcome, how long it took, and the figure that matters, or why it is not kept."""
    outcome = report.outcome
    said = first_line(report.why) if outcome is not Outcome.KEPT else figure(report)
    took = f"{report.seconds:6.1f} s" if report.seconds else " " * 8
    return [
        Styled(outcome.value.ljust(7), fg=_COLOURS[outcome], bold=True),
        f" {report.scenario:{NAME}} {took}  {said}",
    ]


def finding_line(finding: Finding) -> list[str | Styled]:
    """What became of it, its name, what was seen."""
    return [Styled(finding.verdict.value.ljust(9), fg=_VERDICTS[finding.verdict], bold=True),
            f" {finding.name}: {first_line(finding.seen)}"]  # fmt: skip


def figure(report: ScenarioReport) -> str:
    """The first of its own measures; where it has none, how late the 99th of a hundred was."""
    for measure in report.measures:
        return f"{measure.name} {number(measure.value)}"
    if report.figures.lateness_p99_s is not None:
        return f"lateness p99 {number(report.figures.lateness_p99_s)} s"
    return f"{number(report.figures.executions)} executions"
