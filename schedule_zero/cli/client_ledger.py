"""``schedule-zero explain``, ``audit``, ``versions``, ``diff`` and ``restore``: what became of it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from schedule_zero.cli.api import Caller, main, schedule_path, with_caller
from schedule_zero.cli.arguments import LocalMoment, Moment
from schedule_zero.cli.output import Column, exact_moment, moment, short_moment, show_fields, show_json, show_table
from schedule_zero.cli.terminal import Styled, json_text, say

EXPLAINED = (
    "outcome", "reason", "nominal_time", "execution", "version", "policy", "calendar", "outage", "freeze", "before",
    "after",
)  # fmt: skip
DETAILS: list[Column] = [
    ("FOUND", "kind"),
    ("COUNT", "count"),
    ("FROM", moment("from")),
    ("TO", moment("to")),
    ("GENERATION", "generation"),
]


def _changed(record: Mapping[str, Any]) -> str:
    changed = "created" if record["version"] == 1 else ",".join(record["changed"] or []) or "-"
    gone = f"; deleted by {record['ended_by'] or 'nobody knows whom'}" if record["deleted"] else ""
    return changed + gone


VERSIONS: list[Column] = [
    ("VERSION", "version"),
    ("GENERATION", "generation"),
    ("FROM", moment("from")),
    ("TO", moment("to")),
    ("BY", "by"),
    ("CHANGED", _changed),
]


@main.command()
@click.argument("id")
@click.option(
    "--at",
    type=LocalMoment(),
    metavar="MOMENT",
    help="Then; without an offset in the schedule's zone. [when it was last due]",
)
@with_caller
def explain(caller: Caller, id: str, at: Any) -> None:
    r"""Say why a schedule ran, or did not run, at a moment.

    \b
    Examples:
      schedule-zero explain nightly --at 2026-11-20T02:30
      schedule-zero explain nightly --at -10m
    """
    with caller.client() as client:
        said = client.request("GET", schedule_path(id, "explain"), query={"at": at})
    if caller.json:
        show_json(said)
        return
    say(said["sentence"])
    say()
    show_fields(_short(said), EXPLAINED)


def _short(said: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in a line each."""
    shown = dict(said)
    for name in ("nominal_time", "before", "after"):
        shown[name] = None if said[name] is None else exact_moment(said[name])
    execution, version = said["execution"], said["version"]
    if execution is not None:
        shown["execution"] = f"{execution['id']} ({execution['status']})"
    if version is not None:
        made = f" by {version['by']}" if version["by"] else ""
        shown["version"] = f"{version['version']}, from {short_moment(version['from'])}{made}"
    shown["policy"] = ", ".join(f"{name}: {_value(value)}" for name, value in said["policy"].items())
    for name in ("outage", "freeze"):
        span = said[name]
        if span is not None:
            until = "" if span["to"] is None else f" to {short_moment(span['to'])}"
            shown[name] = f"{short_moment(span['from'])}{until}"
    return shown


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


@main.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--since", type=Moment(), metavar="MOMENT", help="Nominal times from here on. [a day before --until]")
@click.option("--until", type=Moment(), metavar="MOMENT", help="Nominal times up to here. [now]")
@with_caller
def audit(caller: Caller, ids: tuple[str, ...], **query: float | None) -> None:
    """Compare the ledger of schedules with what their triggers expect; 1 if something is missed or too much."""
    with caller.client() as client:
        audits = [client.request("GET", schedule_path(which, "audit"), query=query) for which in ids]
    if caller.json:
        show_json(audits if len(audits) > 1 else audits[0])
    else:
        for found in audits:
            _show_audit(found)
    if not all(found["ok"] for found in audits):
        raise SystemExit(1)


def _show_audit(found: Mapping[str, Any]) -> None:
    span = f"{short_moment(found['since'])} to {short_moment(found['until'])}"
    wrong = ", ".join(f"{found[name]:,} {name}" for name in ("missed", "duplicate", "extra") if found[name])
    how = "" if found["exact"] else ", by number"
    say(f"{found['schedule_id']}: {wrong or 'in order'}; {found['expected']:,} expected, {span}{how}")
    if found["undecided_since"] is not None:
        say(f"  not decided yet since {short_moment(found['undecided_since'])}")
    if found["details"]:
        show_table(found["details"], DETAILS, none="")


@main.command()
@click.argument("id")
@click.option("--version", type=click.IntRange(1), help="Show this one.")
@click.option("--generation", type=click.IntRange(1), help="Of that version. [the newest]")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def versions(caller: Caller, id: str, version: int | None, generation: int | None, **page: Any) -> None:
    """List the versions of a schedule, newest first, or show one. They outlive it."""
    if generation is not None and version is None:
        raise click.UsageError("--generation needs a --version")
    query = page if version is None else {"version": version, "generation": generation}
    with caller.client() as client:
        found = client.request("GET", schedule_path(id, "versions"), query=query)
    if caller.json:
        show_json(found if version is None else found["records"][0])
    elif version is not None:
        from schedule_zero.cli.client_schedules import FIELDS

        show_fields(found["records"][0]["schedule"], FIELDS)
    else:
        show_table(found["records"], VERSIONS, none="no versions")
        if found.get("next_cursor"):
            say(f"more: --cursor {found['next_cursor']}", err=True)


@main.command()
@click.argument("id")
@click.argument("from_", metavar="[FROM]", type=click.IntRange(1), required=False)
@click.argument("to", metavar="[TO]", type=click.IntRange(1), required=False)
@click.option("--generation", type=click.IntRange(1), help="Of both versions. [the newest]")
@with_caller
def diff(caller: Caller, id: str, from_: int | None, **query: int | None) -> None:
    """Show what differs between two versions of a schedule: by default what the newest one changed."""
    with caller.client() as client:
        found = client.request("GET", schedule_path(id, "diff"), query={"from": from_, **query})
    if caller.json:
        show_json(found)
        return
    if not found["changes"]:
        say(f"versions {found['from']} and {found['to']} are equal", err=True)
    for change in found["changes"]:
        if change["op"] != "added":
            say(Styled(f"- {change['pointer']}  {json_text(change['before'])}", fg="red"))
        if change["op"] != "removed":
            say(Styled(f"+ {change['pointer']}  {json_text(change['after'])}", fg="green"))


@main.command()
@click.argument("id")
@click.argument("version", type=click.IntRange(1))
@click.option("--generation", type=click.IntRange(1), help="Of that version. [the newest]")
@with_caller
def restore(caller: Caller, id: str, version: int, generation: int | None) -> None:
    """Bring an old version of a schedule back, as a new one; a schedule that was deleted is made again."""
    body = {"version": version} | ({} if generation is None else {"generation": generation})
    with caller.client() as client:
        record = client.request("POST", schedule_path(id, "restore"), body=body)
    if caller.json:
        show_json(record)
    elif record["version"] == 1:
        # It had been deleted: its next generation begins.
        say(f"{record['id']}: is there again, as it was in version {version}")
    else:
        say(f"{record['id']}: version {record['version']} is version {version} again")
