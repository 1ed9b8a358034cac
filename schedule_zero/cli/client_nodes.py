"""``schedule-zero handlers`` and ``nodes``: who does the work."""

from __future__ import annotations

from typing import Any

import click

from schedule_zero.cli.api import ApiGroup, Caller, main, segment, with_caller
from schedule_zero.cli.client_executions import each
from schedule_zero.cli.output import Column, moment, show_json, show_table

HANDLERS: list[Column] = [
    ("ID", "id"),
    ("STATUS", "status"),
    ("NODES", "nodes"),
    ("METHODS", "methods"),
    ("UPDATED", moment("last_updated")),
]
NODES: list[Column] = [
    ("ID", "node_id"),
    ("STATE", lambda record: f"{record['state']}, draining" if record.get("draining") else record["state"]),
    ("HANDLERS", "handlers"),
    ("RUNNING", lambda record: f"{record.get('running', 0)}/{record.get('slots', 0)}"),
    ("HEARD", lambda record: _age(record.get("heartbeat_age_s"))),
    ("HOST", "host"),
    ("PID", "pid"),
    ("VERSION", "version"),
    ("SINCE", moment("connected_at")),
    ("LABELS", lambda record: _labels(record.get("labels") or {})),
]


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
    """List nodes; or drain one, or take it back into service."""
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


@nodes.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@with_caller
def drain(caller: Caller, ids: tuple[str, ...]) -> None:
    """Give nodes no new work; what they run, they finish."""
    each(caller, ids, lambda client, which: _act(client, which, "drain"), lambda _: "draining")


@nodes.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@with_caller
def resume(caller: Caller, ids: tuple[str, ...]) -> None:
    """Give nodes work again."""
    each(caller, ids, lambda client, which: _act(client, which, "resume"), lambda _: "takes work again")


def _act(client: Any, id: str, verb: str) -> Any:
    return client.request("POST", f"/api/nodes/{segment(id)}/{verb}", repeatable=True)
