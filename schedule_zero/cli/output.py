"""What people and scripts read: tables in plain columns, or the server's own JSON with ``-o json``.

Columns are aligned, without borders and without wrapping, so that grep, awk and a double click work on them.
Moments are shown in UTC, and say so.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schedule_zero.cli.terminal import Styled, clean, json_text, pass_on, say

# A column: its heading, and the record's key or what to make of the record.
Column = tuple[str, str | Callable[[Mapping[str, Any]], Any]]

GAP = "  "
NARROWEST = 40

_COLOURS = {
    "completed": "green",
    "online": "green",
    "Connected": "green",
    "active": "green",
    "executed": "green",
    "running": "blue",
    "caught_up": "yellow",
    "skipped": "yellow",
    "paused": "yellow",
    "suspect": "yellow",
    "retry_scheduled": "yellow",
    "failed": "red",
    "timeout": "red",
    "dead": "red",
    "lost": "red",
    "missed": "red",
    "misfired": "red",
    "quarantined": "red",
}


def show_json(document: Any) -> None:
    """Indented JSON on stdout."""
    say(json_text(document, indent=2))


def show_table(records: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, none: str) -> None:
    """One line per record under headings; ``none`` (on stderr) where there are no records."""
    if not records:
        say(none, err=True)
        return
    rows = [[_cell(_value(record, what)) for _, what in columns] for record in records]
    headings = [heading for heading, _ in columns]
    widths = [max(len(row[at]) for row in [headings, *rows]) for at in range(len(columns))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in [headings, *rows]:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        line = GAP.join(cells).rstrip()
        if room is not None and len(line) > max(room, NARROWEST):
            line = line[: max(room, NARROWEST) - 1] + "…"
        say(*([Styled(line, bold=True)] if row is headings else _painted(line, row)))


def show_fields(record: Mapping[str, Any], names: Iterable[str]) -> None:
    """One line per field; those without a value are left out."""
    shown = [(name, _cell(record.get(name))) for name in names if record.get(name) not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        say(f"{name.ljust(width)}  ", *_painted(text, [text]))


def show_value(value: Any) -> None:
    """A job's result: text as it is, anything else as JSON."""
    if isinstance(value, str):
        pass_on(value)
    else:
        show_json(value)


def _value(record: Mapping[str, Any], what: str | Callable[[Mapping[str, Any]], Any]) -> Any:
    return record.get(what) if isinstance(what, str) else what(record)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ",".join(value) or "-"
    elif isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    else:
        text = str(value)
    # A line break would end the row.
    return clean(text).replace("\n", " ").replace("\t", " ")


def _painted(line: str, cells: Sequence[str]) -> list[str | Styled]:
    """A line with its first cell that has a colour in that colour."""
    for cell in cells:
        if cell in _COLOURS and cell in line:
            before, _, after = line.partition(cell)
            return [before, Styled(cell, fg=_COLOURS[cell]), after]
    return [line]


def moment(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """A column's value: the moment ``name``, to the second, in UTC."""

    def shown(record: Mapping[str, Any]) -> Any:
        text = record.get(name)
        return None if text is None else short_moment(text)

    return shown


def exact(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """A column's value: the nominal time ``name``, as exactly as it is."""

    def shown(record: Mapping[str, Any]) -> Any:
        text = record.get(name)
        return None if text is None else exact_moment(text)

    return shown


def exact_moment(text: str) -> str:
    """As ``short_moment``, with milliseconds or microseconds where there are any: ``2026-11-20 13:24:51.500Z``."""
    micro = datetime.fromisoformat(text).microsecond
    if not micro:
        return short_moment(text)
    fraction = f"{micro:06}" if micro % 1000 else f"{micro // 1000:03}"
    return f"{short_moment(text)[:-1]}.{fraction}Z"


def short_moment(text: str) -> str:
    """``2026-11-20T13:24:51.123456Z`` → ``2026-11-20 13:24:51Z``."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def trigger_words(trigger: Mapping[str, Any]) -> str:
    """A trigger in one short cell; ``schedule-zero preview`` says it in words."""
    # Where an interval counts from, and what happens twice a year, is for ``schedules ID`` to say.
    left_out = ("type", "start", "start_time", "start_date", "dst_gap", "dst_fold")
    rest = {name: value for name, value in trigger.items() if name not in left_out}
    kind = str(trigger.get("type", "?"))
    if kind == "cron" and isinstance(rest.get("expression"), str):
        zone = rest.get("timezone", "UTC")
        return f"cron {rest['expression']}" + ("" if zone == "UTC" else f" ({zone})")
    if kind == "date":
        return f"at {rest.get('run_date')}"
    if kind in {"or", "and"} and isinstance(rest.get("triggers"), list):
        return f" {kind} ".join(map(trigger_words, rest["triggers"]))
    if kind == "except" and isinstance(rest.get("trigger"), dict) and isinstance(rest.get("except"), dict):
        return f"{trigger_words(rest['trigger'])} except {trigger_words(rest['except'])}"
    plain = " ".join(f"{name}={_cell(value)}" for name, value in rest.items() if (name, value) != ("timezone", "UTC"))
    return f"{kind} {plain}".rstrip()
