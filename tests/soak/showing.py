"""The table at the end of a soak."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.soak.judging import WARM_UP_H, Life
from tests.soak.run import Outcome


def show(outcome: Outcome, console: Console) -> None:
    """Processes, figures against their bounds, the checker's word."""
    console.print(
        f"{outcome.minutes:g} minutes, {outcome.hours:g} hours at {outcome.speedup:g} ×, seed {outcome.seed}; "
        f"ended: {len(outcome.ends)} processes"
    )
    console.print(_processes(outcome.lives))
    console.print(_figures(outcome))
    for what, count in outcome.complaints.items():
        console.print(f"{count:>6} × {what}", markup=False, highlight=False)
    console.print(outcome.report.text(), markup=False, highlight=False)
    console.print("[green]well[/]" if outcome.ok else "[red]NOT WELL[/]")


def _processes(lives: list[Life]) -> Table:
    table = Table("process", "hours", "USS MiB: first", "after 1 h", "last", "largest", "RSS", "descriptors", "threads")
    for column in table.columns[1:]:
        column.justify = "right"
    for life in lives:
        samples, warm = life.samples, life.warm
        if not samples:
            continue
        fds = [sample.fds for sample in warm or samples]
        threads = [sample.threads for sample in warm or samples]
        table.add_row(
            life.name,
            f"{samples[-1].age_h:.2f}",
            f"{samples[0].uss_mib:.1f}",
            f"{warm[0].uss_mib:.1f}" if warm else "",
            f"{samples[-1].uss_mib:.1f}",
            f"{max(sample.uss_mib for sample in samples):.1f}",
            f"{samples[-1].rss_mib:.1f}",
            f"{min(fds)}…{max(fds)}",
            f"{min(threads)}…{max(threads)}",
        )
    table.caption = f"descriptors and threads: after the first {WARM_UP_H:g} h where there is more"
    return table


def _figures(outcome: Outcome) -> Table:
    table = Table("figure", "of", "over h", "is", "may be", "per real hour", "")
    for column in table.columns[2:6]:
        column.justify = "right"
    for finding in outcome.findings:
        per_hour = f"{finding.value * outcome.speedup:.1f}" if finding.unit == "MiB/h" else ""
        table.add_row(
            finding.what,
            finding.subject,
            f"{finding.hours:.2f}",
            f"{finding.value:.3f} {finding.unit}".strip(),
            f"{finding.bound:g}",
            per_hour,
            "ok" if finding.ok else "[red]NO[/]",
        )
    sizes = [row[2] for row in outcome.store]
    table.caption = f"the database file: {sizes[0]:.1f} MiB at first, {sizes[-1]:.1f} at the end"
    return table
