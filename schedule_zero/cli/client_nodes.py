"""``schedule-zero handlers`` and ``nodes``: who does the work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from schedule_zero.cli.api import ApiGroup, Caller, main, segment, with_caller
from schedule_zero.cli.arguments import Duration
from schedule_zero.cli.client_executions import each
from schedule_zero.cli.output import Column, moment, short_moment, show_json, show_table

HANDLERS: list[Column] = [
    ("ID", "id"),
    ("STATUS", "status"),
    ("NODES", "nodes"),
    ("METHODS", "methods"),
    ("UPDATED", moment("last_updated")),
]
WORDS = {"cordon": "cordoned", "drain": "drained", "quarantine": "quarantined"}
POLL_S = 0.5


def _state(record: Mapping[str, Any]) -> str:
    """``online``, and what keeps it from taking work: ``online, draining (3 left)``."""
    operation = record.get("operation")
    if operation is None:
        return f"{record['state']}, leaving" if record.get("draining") else str(record["state"])
    word = "on probation" if operation["probation"] else WORDS[operation["kind"]]
    if operation["kind"] == "drain" and record.get("running"):
        word = f"draining ({record['running']} left)"
    return f"{record['state']}, {word}"


NODES: list[Column] = [
    ("ID", "node_id"),
    ("STATE", _state),
    ("HANDLERS", "handlers"),
    ("RUNNING", lambda record: f"{record.get('running', 0)}/{record.get('slots', 0)}"),
    ("HEARD", lambda record: _age(record.get("heartbeat_age_s"))),
    ("TRIP", lambda record: _milliseconds(record.get("round_trip_s"))),
    ("SKEW", lambda record: _skew(record.get("clock_skew_s"))),
    ("HOST", "host"),
    ("PID", "pid"),
    ("VERSION", "version"),
    ("SINCE", moment("connected_at")),
    ("LABELS", lambda record: _labels(record.get("labels") or {})),
    ("WHY", lambda record: _why(record.get("operation"))),
]


def _why(operation: dict[str, Any] | None) -> str | None:
    """``since 12:30 by admin, until 12:35: new disk``."""
    if operation is None:
        return None
    text = f"since {short_moment(operation['since'])}"
    if operation["by"]:
        text += f" by {operation['by']}"
    if operation["until"]:
        text += f", until {short_moment(operation['until'])}"
    return f"{text}: {operation['note']}" if operation["note"] else text


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1e3:.1f} ms"


def _skew(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:+.3f} s"


def _labels(labels: dict[str, str]) -> str:
    return " ".join(name if value == "true" else f"{name}={value}" for name, value in sorted(labels.items()))


def _age(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s ago"


@main.command()
@with_caller
def handlers(caller: Caller) -> None:
    """List handlers, connected or not. A disconnected one still takes jobs; they wait."""
    with caller.client() as client:
        found = client.request("GET", "/api/handlers")
    if caller.json:
        show_json(found)
    else:
        show_table(found["handlers"], HANDLERS, none="no handlers; start one: schedule-zero-handler FILE")


@main.group(cls=ApiGroup, invoke_without_command=True)
@click.pass_context
def nodes(ctx: click.Context) -> None:
    """List nodes; or take some out of service, and back."""
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(Caller))


@nodes.command("list")
@with_caller
def list_nodes(caller: Caller) -> None:
    """List nodes, connected or not."""
    _list(caller)


def _list(caller: Caller) -> None:
    with caller.client() as client:
        found = client.request("GET", "/api/nodes")
    if caller.json:
        show_json(found)
    else:
        show_table(found["nodes"], NODES, none="no nodes; start one: schedule-zero-handler FILE")


ids_argument = click.argument("ids", metavar="ID...", nargs=-1, required=True)
note_option = click.option("--note", help="Why, for the people who will read it.")


@nodes.command()
@ids_argument
@note_option
@with_caller
def cordon(caller: Caller, ids: tuple[str, ...], note: str | None) -> None:
    """Give nodes no new work; what they hold, running or queued there, they run."""
    each(caller, ids, lambda client, which: _act(client, which, "cordon", {"note": note}), _state)


@nodes.command()
@ids_argument
@click.option("--deadline", type=Duration(), help="After so long what still runs is handed back too. [never]")
@note_option
@click.option("--wait", is_flag=True, help="Return when nothing is left on them.")
@with_caller
def drain(caller: Caller, ids: tuple[str, ...], deadline: float | None, note: str | None, wait: bool) -> None:
    """Empty nodes: no new work, what has not started goes to others, what runs may finish (until --deadline)."""
    body = {"note": note, "deadline_s": deadline}

    def empty(client: Any, which: str) -> Any:
        record = _act(client, which, "drain", body)
        while wait and record["running"] and record["state"] in ("online", "suspect"):
            time.sleep(POLL_S)
            record = client.request("GET", f"/api/nodes/{segment(which)}")
        return record

    each(caller, ids, empty, _state)


@nodes.command()
@ids_argument
@note_option
@with_caller
def quarantine(caller: Caller, ids: tuple[str, ...], note: str | None) -> None:
    """Give nodes no new work for a while, then one job at a time, until one of them completes."""
    each(caller, ids, lambda client, which: _act(client, which, "quarantine", {"note": note}), _state)


@nodes.command()
@ids_argument
@note_option
@with_caller
def release(caller: Caller, ids: tuple[str, ...], note: str | None) -> None:
    """Give nodes work again: the end of a cordon, a drain or a quarantine."""
    each(caller, ids, lambda client, which: _act(client, which, "release", {"note": note}), _takes_work)


@nodes.command(hidden=True)
@ids_argument
@with_caller
def resume(caller: Caller, ids: tuple[str, ...]) -> None:
    """The same as release, by its earlier name."""
    each(caller, ids, lambda client, which: _act(client, which, "release", {}), _takes_work)


def _takes_work(_: Any) -> str:
    return "takes work again"


def _act(client: Any, id: str, verb: str, body: dict[str, Any]) -> Any:
    given = {name: value for name, value in body.items() if value is not None}
    return client.request("POST", f"/api/nodes/{segment(id)}/{verb}", body=given, repeatable=True)
