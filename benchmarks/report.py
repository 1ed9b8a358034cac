"""The result of a run: as a table for people, as JSON for whoever compares two of them.

The JSON document (``format`` = ``schedule-zero-benchmark/1``; seconds, megabytes of 10⁶ bytes, things per second):

* ``format``, ``started_at`` (UTC), ``quick``, ``seconds``, ``passed`` (every ``must`` met)
* ``machine``, ``versions``: what it ran on; ``machine.neighbours`` is the share of all cores that others used meanwhile
* ``reference``: ``floor_jobs_s`` and ``fsync_s``, the units of the relative bounds
* ``budget``: one object per line of the budget: ``key, work, what, unit``, ``median, low, high, spread, rounds``,
  ``must, must_met, aim, aim_met`` (bounds as numbers on this machine), ``must_text, aim_text`` (as in the design)
* ``figures``: every measured figure by name → ``median, low, high, spread, rounds`` and ``values`` (in round order);
  a ``…_share`` is of one core (``neighbours_share``: of all of them), ``…_us_…`` are microseconds
* ``cpu_s_per_1000``: work → process → median CPU seconds per 1,000 jobs (schedules, fires)
* ``notes``: what a reader has to know (a work left out, fires that were skipped …)
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from benchmarks.budget import BUDGET, Line, Reference, Verdict, judge
from benchmarks.stats import Summary, summarise

FORMAT = "schedule-zero-benchmark/1"
# A figure's name ends with its unit; the first that fits counts.
_UNITS = {"per_s": "/s", "_s": "s", "_mb": "MB", "_share": "share"}


class Judged(Struct, frozen=True, kw_only=True):
    """One budget line with its figure; ``summary`` is None where the run left the work out."""

    line: Line
    summary: Summary | None
    verdict: Verdict | None


class Measured:
    """Everything one run measured: figures by name in round order, CPU by work and process, notes."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {}
        self.cpu: dict[str, dict[str, list[float]]] = {}
        self.notes: list[str] = []

    def add(self, key: str, value: float) -> None:
        self.figures.setdefault(key, []).append(value)

    def add_cpu(self, work: str, per_thousand: dict[str, float]) -> None:
        processes = self.cpu.setdefault(work, {})
        for name, seconds in per_thousand.items():
            processes.setdefault(name, []).append(seconds)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def median(self, key: str) -> float:
        return summarise(self.figures[key]).median


def judge_all(measured: Measured, reference: Reference) -> list[Judged]:
    """Every line of the budget, in its order."""
    judged = []
    for line in BUDGET:
        values = measured.figures.get(line.key)
        if not values:
            judged.append(Judged(line=line, summary=None, verdict=None))
            continue
        summary = summarise(values)
        judged.append(Judged(line=line, summary=summary, verdict=judge(line, summary.median, reference)))
    return judged


def missed(judged: list[Judged]) -> list[str]:
    """The keys of the lines whose ``must`` was measured and missed."""
    return [each.line.key for each in judged if each.verdict is not None and not each.verdict.must_met]


def show(value: float, unit: str) -> str:
    """A figure as people read it."""
    if unit == "/s":
        return f"{value:,.0f}/s"
    if unit == "s":
        return f"{value * 1000:,.2f} ms" if value < 0.1 else f"{value:,.2f} s"
    if unit == "MB":
        return f"{value:,.1f} MB"
    if unit == "share":
        return f"{value:.1%}"
    return f"{value:,.0f}"


def document(measured: Measured, judged: list[Judged], reference: Reference, head: dict[str, Any]) -> dict[str, Any]:
    """The JSON document described above; ``head`` holds its scalar fields and the machine's."""
    budget = []
    for each in judged:
        line: dict[str, Any] = {
            "key": each.line.key,
            "work": each.line.work,
            "what": each.line.what,
            "unit": each.line.unit,
        }
        if each.summary is not None and each.verdict is not None:
            line |= _fields(each.summary) | _fields(each.verdict)
        budget.append(line | {"must_text": each.line.must.text, "aim_text": each.line.aim.text})
    return {
        "format": FORMAT,
        **head,
        "passed": not missed(judged),
        "reference": _fields(reference),
        "budget": budget,
        "figures": {key: {**_fields(summarise(values)), "values": values} for key, values in measured.figures.items()},
        "cpu_s_per_1000": {
            work: {name: summarise(values).median for name, values in processes.items()}
            for work, processes in measured.cpu.items()
        },
        "notes": measured.notes,
    }


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def print_report(console: Console, measured: Measured, judged: list[Judged], reference: Reference) -> None:
    """The tables: budget, ratio to the floor, CPU, everything else."""
    console.print(_budget_table(judged, reference))
    console.print(_ratio_line(measured, reference))
    if measured.cpu:
        console.print(_cpu_table(measured))
    console.print(_figures_table(measured, {line.key for line in BUDGET}))
    for note in measured.notes:
        console.print(f"[dim]· {note}[/dim]", highlight=False)


def _budget_table(judged: list[Judged], reference: Reference) -> Table:
    table = Table(title="The performance budget: medians, low … high over the rounds", title_justify="left")
    for heading in ("", "what", "median", "low … high", "must", "", "aim", ""):
        table.add_column(heading, justify="right" if heading in ("median", "low … high", "must", "aim") else "left")
    for each in judged:
        line = each.line
        must = _bound(line.must.text, line.must.value(reference), line.unit)
        aim = _bound(line.aim.text, line.aim.value(reference), line.unit)
        if each.summary is None or each.verdict is None:
            table.add_row(line.work, line.what, "–", "", must, "not run", aim, "", style="dim")
            continue
        table.add_row(
            line.work,
            line.what,
            show(each.summary.median, line.unit),
            f"{show(each.summary.low, line.unit)} … {show(each.summary.high, line.unit)}",
            must,
            "[green]met[/green]" if each.verdict.must_met else "[bold red]NOT MET[/bold red]",
            aim,
            "[green]met[/green]" if each.verdict.aim_met else "not met",
        )
    return table


def _bound(text: str, value: float, unit: str) -> str:
    relative = "floor" in text or "fsync" in text
    return f"{text} = {show(value, unit)}" if relative else text


def _ratio_line(measured: Measured, reference: Reference) -> str:
    parts = [f"floor {reference.floor_jobs_s:,.0f} jobs/s", f"one fsync {reference.fsync_s * 1000:.3f} ms"]
    for key, text in (("w1_ratio", "of the floor"), ("w1_ratio_pipelined", "of the pipelined floor")):
        if key in measured.figures:
            parts.append(f"W1 is {measured.median(key):.2f} {text}")
    return " · ".join(parts)


def _cpu_table(measured: Measured) -> Table:
    names = list(dict.fromkeys(name for processes in measured.cpu.values() for name in processes))
    table = Table(title="CPU seconds per 1,000 jobs (medians)", title_justify="left")
    table.add_column("work")
    for name in names:
        table.add_column(name, justify="right")
    for work, processes in measured.cpu.items():
        cells = [f"{summarise(processes[name]).median:.4f}" if name in processes else "" for name in names]
        table.add_row(work, *cells)
    return table


def _figures_table(measured: Measured, known: set[str]) -> Table:
    table = Table(title="Everything else that was measured", title_justify="left")
    table.add_column("figure")
    for heading in ("median", "low", "high"):
        table.add_column(heading, justify="right")
    for key, values in measured.figures.items():
        if key in known:
            continue
        summary = summarise(values)
        unit = next((unit for ending, unit in _UNITS.items() if key.endswith(ending)), "")
        cells = [
            show(value, unit) if unit else f"{value:,.2f}" for value in (summary.median, summary.low, summary.high)
        ]
        table.add_row(key, *cells)
    return table
