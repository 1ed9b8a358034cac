"""``schedule-zero changes``: the audit log, who changed what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from schedule_zero.cli.api import Caller, main, with_caller
from schedule_zero.cli.arguments import Moment
from schedule_zero.cli.output import Column, moment, show_json, show_table
from schedule_zero.cli.terminal import json_text, say

# Of an export, asked for at once.
EXPORT_ROWS = 500


def _what(record: Mapping[str, Any]) -> str:
    """``paused_until: null → "2026-…"; state: "active" → "paused"``."""
    before, after = record["before"] or {}, record["after"] or {}
    return "; ".join(
        f"{name}: {json_text(after[name])}"
        if name not in before
        else f"{name}: {json_text(before[name])} → {json_text(after[name]) if name in after else 'nothing'}"
        for name in {**before, **after}
    )


CHANGES: list[Column] = [
    ("AT", moment("at")),
    ("BY", "by"),
    ("WHAT", "verb"),
    ("SUBJECT", "subject"),
    ("COUNT", "count"),
    ("NOTE", "note"),
    ("FROM", "address"),
    ("CHANGED", _what),
]


@main.command()
@click.option("--noun", help="Of one kind of thing: schedule, node, token …")
@click.option("--verb", help="One kind of change: schedule.paused, node.drained …")
@click.option("--subject", metavar="ID", help="Of this schedule, node, execution …")
@click.option("--by", metavar="NAME", help="By this token; server: by itself.")
@click.option("--since", type=Moment(), metavar="MOMENT", help="From then on.")
@click.option("--until", type=Moment(), metavar="MOMENT", help="Up to then.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@click.option("--export", type=click.Choice(["csv", "jsonl"]), help="All of them, as CSV or as JSON lines.")
@with_caller
def changes(caller: Caller, export: str | None, **query: Any) -> None:
    r"""List who changed what, newest first: the audit log. Needs the role operator.

    \b
    Examples:
      schedule-zero changes --noun node --since -1d
      schedule-zero changes --subject nightly
      schedule-zero changes --by ci --export csv > audit-log.csv
    """
    if export is not None:
        _export(caller, export, query)
        return
    with caller.client() as client:
        page = client.request("GET", "/api/changes", query=query)
        while not page["records"] and page["next_cursor"] is not None:
            # What is looked for is rare, and the server looks at so many rows at a time.
            page = client.request("GET", "/api/changes", query={**query, "cursor": page["next_cursor"]})
    if caller.json:
        show_json(page)
        return
    show_table(page["records"], CHANGES, none="no changes")
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


def _export(caller: Caller, form: str, query: dict[str, Any]) -> None:
    from schedule_zero.rules.change_csv import csv_line, head

    if form == "csv":
        say(head().rstrip())
    for record in _all(caller, query):
        if form == "jsonl":
            say(json_text(record))
            continue
        documents = {name: record[name] and json_text(record[name]) for name in ("before", "after")}
        say(csv_line({**record, **documents}).removesuffix("\r\n"))


def _all(caller: Caller, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    query = {**query, "limit": EXPORT_ROWS}
    with caller.client() as client:
        while True:
            page = client.request("GET", "/api/changes", query=query)
            yield from page["records"]
            query["cursor"] = page["next_cursor"]
            if query["cursor"] is None:
                return
