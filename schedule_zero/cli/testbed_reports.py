"""``schedule-zero-testbed list``, ``report`` and ``compare``: what there is, and what was found; nothing is run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedule_zero.cli.app import EXIT_FAILURE
from schedule_zero.cli.output import show_json, show_table
from schedule_zero.cli.terminal import Styled, say
from schedule_zero.cli.testbed_root import FOLDER, as_json, main

if TYPE_CHECKING:
    from schedule_zero.reports.compare import Comparison, Row, Threshold
    from schedule_zero.reports.record import RunReport

# What is shown of a parameter; -o json has all of it.
LONGEST = 60


# --- list -----------------------------------------------------------------------------------------------


@main.command("list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json
def list_(names: tuple[str, ...], output: str) -> None:
    """List the scenarios: what each asks, its parameters, what must hold."""
    from schedule_zero.testbed.catalogue import chosen, described

    documents = [described(scenario) for scenario in chosen(names)]
    if output == "json":
        show_json(documents)
        return
    for number, document in enumerate(documents):
        if number:
            say()
        _show_scenario(document)


def _show_scenario(document: dict[str, Any]) -> None:
    say(Styled(document["name"], bold=True), f"  {document['asks']}")
    for param in document["params"]:
        quick = "" if param["quick"] is None else f"  (quick: {_short(param['quick'])})"
        say(f"  {param['name']} = {_short(param['default'])}{quick}")
    for text in document["holds"].values():
        say(f"  must hold: {text}")
    if traits := document["traits"]:
        say(f"  {', '.join(traits)}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


# --- report ---------------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
def report(folder: Path) -> None:
    """Make the pages of a run anew from its report.json: report.html and junit.xml."""
    from schedule_zero.errors import BadRequest
    from schedule_zero.reports import record
    from schedule_zero.testbed.pages import verdict, write_pages

    found = record.read(folder)
    into = folder if folder.is_dir() else folder.parent
    try:
        written = write_pages(found, into)
    except OSError as error:
        raise BadRequest(f"{into}: expected a folder to write to: {error.strerror}") from None
    say(verdict(found))
    for path in written:
        say(str(path))


# --- compare --------------------------------------------------------------------------------------------


class NamedFactor(click.ParamType[tuple[str, float]]):
    """``FIGURE=FACTOR``."""

    name = "threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        try:
            factor = float(text)
        except ValueError:
            factor = math.nan
        if not name or not equals or not math.isfinite(factor) or factor <= 0:
            self.fail(
                f'expected FIGURE=FACTOR with a factor above 0, such as lateness_p99_s=1.5; got "{value}"', param, ctx
            )
        return name, factor


@main.command()
@click.argument("old", type=FOLDER, metavar="OLD")
@click.argument("new", type=FOLDER, metavar="NEW")
@click.argument("only", nargs=-1, metavar="[NAME]...")
@click.option(
    "--threshold",
    "factors",
    type=NamedFactor(),
    multiple=True,
    metavar="FIGURE=FACTOR",
    help="How many times as much of a figure is still alike; below 1: how little of it. Several times.",
)
@click.option("--all", "everything", is_flag=True, help="Show what is alike as well.")
@as_json
def compare(
    old: Path,
    new: Path,
    only: tuple[str, ...],
    factors: tuple[tuple[str, float], ...],
    everything: bool,
    output: str,
) -> int:
    """Compare two runs: DIR or report.json of each; of the scenarios all, or those that are named.

    Ends with 1 if something became worse, or is broken now. A scenario that was kept in OLD and is not in NEW is gone,
    and counts: name those that NEW has run, if it has not run all.

    \\b
    A threshold is for a figure (lateness_p99_s, executions_per_s, memory_peak_mib, …), a scenario's own measure, or
    either for one scenario only: churn.lateness_p99_s=3.
    """
    from schedule_zero.reports import compare as comparing
    from schedule_zero.reports import record

    before, now = record.read(old), record.read(new)
    found = comparing.compare(before, now, _thresholds(factors, before, now), only=only)
    if output == "json":
        import msgspec

        show_json({**msgspec.to_builtins(found), "ok": found.ok})
    else:
        _show(found, everything=everything)
    return 0 if found.ok else EXIT_FAILURE


def _thresholds(factors: tuple[tuple[str, float], ...], *reports: RunReport) -> dict[str, Threshold]:
    from schedule_zero.reports.compare import names, threshold_of

    known = names(*reports)
    return {name: threshold_of(name, factor, known) for name, factor in factors}


def _show(found: Comparison, *, everything: bool) -> None:
    for note in found.notes:
        say(f"note: {note}", err=True)
    _show_rows([row for row in found.rows if everything or row.trend.value != "alike"], found)
    for turn in found.turns:
        if turn.bad or everything or turn.old != turn.new:
            was, is_ = (outcome.value if outcome else "not in the report" for outcome in (turn.old, turn.new))
            why = f": {turn.why}" if turn.why else ""
            say(f"{turn.scenario} ({turn.subject})  {was} → {is_}{why}")
    for line in found.broken:
        say(line)
    bad = len(found.bad) + len(found.broken)
    count = f"{len(found.rows)} figures compared, {len(found.worse)} worse; broken or gone: {bad}"
    say(Styled("alike: " if found.ok else "worse: ", fg="green" if found.ok else "red", bold=True), count)


def _show_rows(rows: list[Row], found: Comparison) -> None:
    from schedule_zero.testbed.answers import number

    documents = [
        {
            "scenario": row.scenario,
            "subject": row.subject,
            "figure": row.figure,
            "old": number(row.old),
            "new": number(row.new),
            "limit": number(row.limit),
            "trend": row.trend.value,
        }
        for row in rows
    ]
    none = "no figure moved beyond its threshold" if found.rows else "no figure can be compared"
    show_table(
        documents,
        [(name, name) for name in ("scenario", "subject", "figure", "old", "new", "limit", "trend")],
        none=none,
    )
