"""``schedule-zero group`` and ``groups``: jobs on every matching node, or in parts, and what became of them."""

from __future__ import annotations

from typing import Any

import click

from schedule_zero.cli.api import Caller, main, segment, with_caller
from schedule_zero.cli.app import EXIT_FAILURE
from schedule_zero.cli.arguments import Duration
from schedule_zero.cli.client_executions import each
from schedule_zero.cli.output import Column, moment, show_fields, show_json, show_table
from schedule_zero.cli.terminal import say

GROUPS: list[Column] = [
    ("ID", "id"),
    ("KIND", "kind"),
    ("STATUS", "status"),
    ("JOB", lambda record: f"{record['handler_id']}.{record['job_method']}"),
    ("COMPLETED", lambda record: f"{record['completed']}/{record['total']}"),
    ("FAILED", "failed"),
    ("CANCELLED", "cancelled"),
    ("CREATED", moment("created_at")),
    ("FINISHED", moment("finished_at")),
]
FIELDS = (
    "id", "kind", "status", "handler_id", "job_method", "schedule_id", "total", "completed", "failed", "cancelled",
    "created_at", "finished_at", "created_by",
)  # fmt: skip


@main.command()
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def groups(caller: Caller, **query: Any) -> None:
    """List groups of executions, newest first."""
    with caller.client() as client:
        page = client.request("GET", "/api/groups", query=query)
    if caller.json:
        show_json(page)
        return
    show_table(page["records"], GROUPS, none="no groups; make one: schedule-zero submit JOB --broadcast")
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


@main.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--cancel", is_flag=True, help="Cancel all members that are not over.")
@click.option("--wait", is_flag=True, help="Wait until all members are over.")
@click.option("--wait-for", "wait_s", type=Duration(), help="Give up waiting after this long (implies --wait).")
@with_caller
def group(caller: Caller, ids: tuple[str, ...], cancel: bool, wait: bool, wait_s: float | None) -> None:
    """Show a group; wait for it, or cancel it. Its members: schedule-zero executions --group ID.

    With --wait it ends with 1 unless all members completed.
    """
    if cancel:
        each(
            caller,
            ids,
            lambda client, which: client.request("POST", f"/api/groups/{segment(which)}/cancel", repeatable=True),
            lambda answer: answer["status"] if answer["status"] != "running" else "cancelled as its nodes confirm",
        )
        return
    if len(ids) > 1:
        raise click.UsageError("expected one ID, but with --cancel")
    show_group(caller, ids[0], wait=wait, wait_s=wait_s)


def show_group(caller: Caller, group_id: str, *, wait: bool, wait_s: float | None) -> None:
    """A group as it is; or, where it is to be waited for, as it ended."""
    waits = wait or wait_s is not None
    with caller.client() as client:
        if waits:
            client.wait_group(group_id, wait_s)
        record = client.request("GET", f"/api/groups/{segment(group_id)}")
    if caller.json:
        show_json(record)
    else:
        show_fields(record, FIELDS)
    if waits and record["status"] != "completed":
        raise SystemExit(EXIT_FAILURE)
