"""``schedule-zero calendars``: named calendars, what is in them, and what they say about a moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from schedule_zero.cli.api import ApiGroup, Caller, main, segment, with_caller
from schedule_zero.cli.arguments import Moment, json_document
from schedule_zero.cli.client_executions import each
from schedule_zero.cli.output import Column, moment, short_moment, show_fields, show_json, show_table
from schedule_zero.cli.terminal import say

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("ZONE", "timezone"),
    ("ENTRIES", lambda record: ", ".join(f"{n} {kind}" for kind, n in record["entries"].items()) or None),
    ("VERSION", "version"),
    ("UPDATED", moment("updated_at")),
    ("DESCRIPTION", "description"),
]
WINDOWS: list[Column] = [
    ("START", moment("start")),
    ("END", moment("end")),
    ("REASON", "reason"),
    ("LABEL", "label"),
]
VERSIONS: list[Column] = [
    ("VERSION", "version"),
    ("FROM", moment("from_time")),
    ("", lambda record: "deleted" if record["deleted"] else ""),
]
FIELDS = ("name", "version", "created_at", "updated_at")
FILE = click.argument("file", type=click.Path(allow_dash=True, path_type=Path))


@main.group(cls=ApiGroup, invoke_without_command=True)
@click.pass_context
def calendars(ctx: click.Context) -> None:
    """Named calendars: holidays, own dates, blackout windows, iCalendar files. Lists them without a subcommand.

    \b
    Examples:
      schedule-zero calendars set works works.yaml
      schedule-zero calendars import works closures.ics
      schedule-zero calendars check works --at 2026-12-24T12:00:00Z
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(Caller), limit=100, cursor=None)


@calendars.command("list")
@click.option("--limit", type=click.IntRange(1, 500), default=100, help="At most so many. [100]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def list_calendars(caller: Caller, limit: int, cursor: str | None) -> None:
    """List named calendars."""
    _list(caller, limit=limit, cursor=cursor)


def _list(caller: Caller, **query: Any) -> None:
    with caller.client() as client:
        page = client.request("GET", "/api/calendars", query=query)
    if caller.json:
        show_json(page)
        return
    show_table(page["calendars"], COLUMNS, none="no calendars; make one: schedule-zero calendars set NAME FILE")
    if page.get("next_cursor"):
        say(f"{len(page['calendars'])} of {page['count']}; more: --cursor {page['next_cursor']}", err=True)


@calendars.command()
@click.argument("name")
@click.option("--document", is_flag=True, help="Only the document, as `set` takes it.")
@click.option("--version", type=click.IntRange(1), help="As it was in this version.")
@with_caller
def show(caller: Caller, name: str, document: bool, version: int | None) -> None:
    """Show a calendar and what is in it."""
    with caller.client() as client:
        if version is None:
            record = client.request("GET", _path(name))
        else:
            page = client.request("GET", _path(name, "versions"), query={"version": version})
            record = page["records"][0]
    if document or caller.json:
        show_json(record["document"] if document else record)
        return
    show_fields(record, (*FIELDS, "from_time", "deleted"))
    show_json(record["document"])


@calendars.command("set")
@click.argument("name")
@FILE
@click.option("--new", is_flag=True, help="Only if there is none of this name yet.")
@with_caller
def set_calendar(caller: Caller, name: str, file: Path, new: bool) -> None:
    """Create a calendar, or replace it, by a FILE in YAML or JSON (- for standard input)."""
    document = _document(file)
    with caller.client() as client:
        record = client.put_calendar(name, document, create_only=new)
    _written(caller, record)


@calendars.command("import")
@click.argument("name")
@FILE
@click.option("--add", is_flag=True, help="Keep the events that are there, but those that the file has, too.")
@with_caller
def import_ical(caller: Caller, name: str, file: Path, add: bool) -> None:
    """Put an iCalendar FILE (.ics) into a calendar, in the place of the one before; creates it where there is none."""
    with caller.client() as client:
        record = client.import_calendar(name, _text(file), add=add)
    _written(caller, record)


def _written(caller: Caller, record: Any) -> None:
    if caller.json:
        show_json({"name": record.name, "version": record.version, "document": record.document})
    else:
        say(f"{record.name}: version {record.version}")
    for warning in record.warnings:
        say(f"warning: {warning}", err=True)


@calendars.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Don't ask, however many they are.")
@with_caller
def delete(caller: Caller, names: tuple[str, ...], yes: bool) -> None:
    """Delete calendars that no schedule uses. Their versions stay."""
    if len(names) > 1 and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {len(names)} calendars?", abort=True, err=True)
    each(caller, names, lambda client, which: client.request("DELETE", _path(which)), lambda _: "deleted")


@calendars.command()
@click.argument("name")
@click.option("--at", type=Moment(), help="The moment. [now]")
@with_caller
def check(caller: Caller, name: str, at: float | None) -> None:
    """Say whether a calendar covers a moment, and whether its day is a business day."""
    with caller.client() as client:
        found = client.request("GET", _path(name, "check"), query={"at": at})
    if caller.json:
        show_json(found)
        return
    window = found["window"]
    if window is None:
        say(f"{short_moment(found['at'])} is not covered")
    else:
        span = f"{short_moment(window['start'])} to {short_moment(window['end'])}"
        say(f"{short_moment(found['at'])} is covered: {window['label']} ({window['reason']}), {span}")
    if found["business_day"]:
        say(f"{found['day']} is a business day")
    else:
        following = found["next_business_day"]
        ahead = f"the next one is {following}" if following else "there is none within a year"
        say(f"{found['day']} is no business day ({found['why']}); {ahead}")


@calendars.command()
@click.argument("name")
@click.option("--from", "from_", type=Moment(), help="From this moment on. [now]")
@click.option("--to", type=Moment(), help="Until this moment, at most five years later. [a year later]")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def windows(caller: Caller, name: str, from_: float | None, **query: Any) -> None:
    """List what a calendar covers, by start."""
    with caller.client() as client:
        page = client.request("GET", _path(name, "windows"), query={"from": from_, **query})
    _page(caller, page, WINDOWS, none="nothing")


@calendars.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def versions(caller: Caller, name: str, **query: Any) -> None:
    """List the versions of a calendar, newest first."""
    with caller.client() as client:
        page = client.request("GET", _path(name, "versions"), query=query)
    _page(caller, page, VERSIONS, none="no versions")


def _page(caller: Caller, page: Any, columns: list[Column], *, none: str) -> None:
    if caller.json:
        show_json(page)
        return
    show_table(page["records"], columns, none=none)
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


def _path(name: str, *more: str) -> str:
    return "/".join(["/api/calendars", segment(name), *more])


# --- files -----------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return raw.decode()
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file}: not UTF-8 (byte {error.start})") from None


def _document(file: Path) -> dict[str, Any]:
    text = _text(file)
    document = json_document(text, str(file)) if text.lstrip().startswith("{") else _yaml(text, str(file))
    if not isinstance(document, dict):
        raise click.UsageError(f"{file}: expected an object with keys such as holidays, dates, weekly")
    return document


def _yaml(text: str, name: str) -> Any:
    from schedule_zero import yaml_document
    from schedule_zero.errors import BadRequest

    try:
        return yaml_document.parse(text).value
    except BadRequest as error:
        line = error.data.get("line")
        raise click.UsageError(f"{name}: {error.message}{f' (line {line})' if line else ''}") from None
