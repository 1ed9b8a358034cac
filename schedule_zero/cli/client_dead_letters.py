"""``schedule-zero dead-letters``: failures that nobody has dealt with, in groups; run again, or put aside."""

from __future__ import annotations

import sys
from typing import Any

import click

from schedule_zero.cli.api import ApiGroup, Caller, main, segment, with_caller
from schedule_zero.cli.arguments import Number, json_document
from schedule_zero.cli.client_executions import COLUMNS as EXECUTIONS
from schedule_zero.cli.job_options import job_options, split_options
from schedule_zero.cli.output import Column, moment, show_fields, show_json, show_table
from schedule_zero.cli.terminal import say

GROUPS: list[Column] = [
    ("GROUP", "id"),
    ("COUNT", "count"),
    ("LAST", moment("last_seen")),
    ("FIRST", moment("first_seen")),
    ("ERROR", lambda group: f"{group['error_type'] or ''}: {group['message'] or ''}"),
]
REQUEUES: list[Column] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("WHAT", lambda row: row["group"] or ".".join(filter(None, (row["handler_id"], row["job_method"]))) or "all"),
    ("CREATED", lambda row: f"{row['created']}/{row['count']}"),
    ("REFUSED", "refused"),
    ("RATE", lambda row: f"{row['rate_per_s']:g}/s"),
    ("BY", "by"),
]
FIELDS = (
    "id", "state", "group", "handler_id", "job_method", "rate_per_s", "count", "created", "refused", "note",
    "created_at", "by",
)  # fmt: skip
WHICH = (
    click.argument("targets", metavar="GROUP|ID...", nargs=-1),
    click.option("--handler", "handler_id", help="All of this handler."),
    click.option("--method", "job_method", help="With --handler: only of this method."),
    click.option("--all", "every", is_flag=True, help="All of them."),
)


def _which_options(command: Any) -> Any:
    for option in reversed(WHICH):
        command = option(command)
    return command


@main.group(cls=ApiGroup, invoke_without_command=True, name="dead-letters")
@click.pass_context
def dead_letters(ctx: click.Context) -> None:
    """Executions that failed for good, until somebody deals with them. Lists them by group without a subcommand.

    \b
    Examples:
      schedule-zero dead-letters
      schedule-zero dead-letters show reports.fetch:4c1d3e8a90b2f617
      schedule-zero dead-letters requeue reports.fetch:4c1d3e8a90b2f617 --rate 2
      schedule-zero dead-letters requeue 01k8… --params '{"url": "https://…"}'
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(Caller), {})


@dead_letters.command("list")
@click.option("--handler", "handler_id", help="Only of this handler.")
@click.option("--method", "job_method", help="With --handler: only of this method.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, help="At most so many groups. [100]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def list_groups(caller: Caller, **query: Any) -> None:
    """List the groups, by job: what failed alike, how often, since when."""
    _list(caller, query)


def _list(caller: Caller, query: dict[str, Any]) -> None:
    with caller.client() as client:
        page = client.request("GET", "/api/dead-letters", query=query)
    _page(caller, page, "groups", GROUPS, "no dead letters")


def _page(caller: Caller, page: dict[str, Any], name: str, columns: list[Column], none: str) -> None:
    if caller.json:
        show_json(page)
        return
    show_table(page[name], columns, none=none)
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


@dead_letters.command()
@click.argument("group")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def show(caller: Caller, **query: Any) -> None:
    """List the executions of a group, newest first; `executions ID` shows one with its error."""
    with caller.client() as client:
        page = client.request("GET", "/api/dead-letters/executions", query=query)
    _page(caller, page, "records", EXECUTIONS, "no dead letters in this group")


@dead_letters.command()
@_which_options
@click.option("--params", help="One ID: all its parameters anew, as JSON, @file or - (standard input).")
@click.option("--patch", help="Merged into the parameters of each of them (RFC 7386): JSON, @file or -.")
@click.option("--rate", type=Number(0, 1000, min_open=True), help="Executions per second. [a group: 10]")
@click.option("--yes", is_flag=True, help="Don't ask.")
@job_options
@with_caller
def requeue(
    caller: Caller,
    targets: tuple[str, ...],
    handler_id: str | None,
    job_method: str | None,
    every: bool,
    params: str | None,
    patch: str | None,
    rate: float | None,
    yes: bool,
    **options: Any,
) -> None:
    r"""Run dead letters again: executions by ID, a group, or those of a handler. Job options given here are others.

    A group goes at a rate, and says how many they are first; `requeue-cancel` stops it.

    \b
    Examples:
      schedule-zero dead-letters requeue reports.fetch:4c1d3e8a90b2f617 --rate 2 --max-attempts 5
      schedule-zero dead-letters requeue 01k8… --params @fixed.json
      schedule-zero dead-letters requeue --handler reports --patch '{"tenant": "b"}'
    """
    which = _which(targets, handler_id, job_method, every)
    said = {
        "job_params": None if params is None else _object(params, "--params"),
        "job_params_patch": None if patch is None else _object(patch, "--patch"),
        "rate_per_s": rate,
        "options": split_options(options) or None,
    }
    body = which | {name: value for name, value in said.items() if value is not None}
    with caller.client() as client:
        if "ids" not in which and not yes:
            _ask(client, which, "requeue", "Run them again?")
        # Twice would be refused, not done twice: what is dealt with is no dead letter any more.
        answer = client.request("POST", "/api/dead-letters/requeue", body=body)
    if caller.json:
        show_json(answer)
    elif "ids" in which:
        for old, new in zip(which["ids"], answer["ids"], strict=True):
            say(f"{old}: is run again as {new}" if new else f"{old}: was dealt with already")
    else:
        say(answer["id"])


@dead_letters.command()
@_which_options
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_caller
def discard(
    caller: Caller, targets: tuple[str, ...], handler_id: str | None, job_method: str | None, every: bool, yes: bool
) -> None:
    """Put dead letters aside: they stay in the history, and nobody waits for them any more."""
    which = _which(targets, handler_id, job_method, every)
    with caller.client() as client:
        if "ids" not in which and not yes:
            _ask(client, which, "discard", "Discard them?")
        answer = client.request("POST", "/api/dead-letters/discard", body=which, repeatable=True)
    if caller.json:
        show_json(answer)
    else:
        say(f"discarded {answer['discarded']}")


@dead_letters.command("requeues")
@click.argument("id", required=False)
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def requeues(caller: Caller, id: str | None, **query: Any) -> None:
    """List the requeues that go at a rate, newest first, or show how far one is."""
    with caller.client() as client:
        if id is None:
            _page(caller, client.request("GET", "/api/requeues", query=query), "requeues", REQUEUES, "no requeues")
            return
        row = client.request("GET", f"/api/requeues/{segment(id)}")
    if caller.json:
        show_json(row)
    else:
        show_fields(row, FIELDS)


@dead_letters.command("requeue-cancel")
@click.argument("id")
@with_caller
def requeue_cancel(caller: Caller, id: str) -> None:
    """Requeue no more of them: what was created stays, the rest stays dead letters."""
    with caller.client() as client:
        row = client.request("POST", f"/api/requeues/{segment(id)}/cancel")
    if caller.json:
        show_json(row)
    else:
        say(f"{id}: cancelled after {row['created']} of {row['count']}")


def _which(targets: tuple[str, ...], handler_id: str | None, job_method: str | None, every: bool) -> dict[str, Any]:
    """What the request names. An id has no colon in it, a group has."""
    if job_method is not None and handler_id is None:
        raise click.UsageError("--method needs --handler")
    if (len(targets) > 0) + (handler_id is not None) + every != 1:
        raise click.UsageError("expected one of a GROUP, IDs, --handler and --all")
    if handler_id is not None:
        return {"handler_id": handler_id} | ({} if job_method is None else {"job_method": job_method})
    if every:
        return {"all": True}
    groups = [target for target in targets if ":" in target]
    if groups and len(targets) > 1:
        raise click.UsageError("expected one GROUP, or any number of IDs")
    return {"group": groups[0]} if groups else {"ids": list(targets)}


def _object(text: str, what: str) -> dict[str, Any]:
    document = json_document(text, what)
    if not isinstance(document, dict):
        raise click.UsageError(f"{what}: expected a JSON object")
    return document


def _somebody_there() -> bool:
    return sys.stdin.isatty()


def _ask(client: Any, which: dict[str, Any], verb: str, question: str) -> None:
    path = f"/api/dead-letters/{verb}"
    counted = client.request("POST", path, body={**which, "dry_run": True}, repeatable=True)
    say(f"{counted['count']} dead letters", err=True)
    if not counted["count"]:
        return
    if not _somebody_there():
        raise click.UsageError("expected --yes: there is nobody to ask")
    click.confirm(question, abort=True, err=True)
