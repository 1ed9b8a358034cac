"""``schedule-zero executions``, ``cancel``, ``retry`` and ``events``: what became of the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from schedule_zero.cli.api import Caller, main, segment, with_caller
from schedule_zero.cli.app import EXIT_FAILURE
from schedule_zero.cli.arguments import Duration, Moment
from schedule_zero.cli.client_logs import progress_words
from schedule_zero.cli.output import Column, moment, show_fields, show_json, show_table, show_value
from schedule_zero.cli.terminal import json_text, say
from schedule_zero.cli.waiting import wait_for
from schedule_zero.errors import ScheduleZeroError

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("STATUS", "status"),
    ("JOB", lambda record: f"{record['handler_id']}.{record['job_method']}"),
    ("SCHEDULE", "schedule_id"),
    ("NODE", "node_id"),
    ("TRY", "attempt"),
    ("CREATED", moment("created_at")),
    ("TOOK", lambda record: _took(record.get("duration_ms"))),
    ("ERROR", lambda record: _error_words(record.get("error"))),
]


def _reached(record: Mapping[str, Any]) -> str | None:
    """How far it is; or came, if it is over."""
    progress = record.get("progress")
    words = progress_words(progress) if progress else None
    return f"reached {words}" if words and record.get("finished_at") else words


FIELDS = (
    "id", "status", "cancel_requested", "handler_id", "job_method", "job_params", "schedule_id", "origin", "parent_id",
    "group_id", "shard",
    "priority",
    "attempt", "node_id", "nominal_time", "not_before", "created_at", "dispatched_at", "started_at", "finished_at",
    "stored_at", "duration_ms", "cpu_ms", "peak_rss_bytes", "lost_count", "idempotency_key", "progress", "waiting_for",
)  # fmt: skip
ATTEMPTS: list[Column] = [
    ("TRY", "attempt"),
    ("OUTCOME", "outcome"),
    ("NODE", "node_id"),
    ("DISPATCHED", moment("dispatched_at")),
    ("FINISHED", moment("finished_at")),
    ("CPU", lambda attempt: _took(attempt.get("cpu_ms"))),
    ("MEMORY", lambda attempt: _mib(attempt.get("peak_rss_bytes"))),
    ("PROGRESS", _reached),
    ("ERROR", lambda attempt: _error_words(attempt.get("error"))),
]


# What isn't among them is the default.
OPTIONS: list[Column] = [("OPTION", "name"), ("VALUE", "value"), ("SAID BY", "source")]


def _error_words(error: dict[str, Any] | None) -> str:
    """With its type: the message of a KeyError is nothing but the key."""
    return f"{error.get('type', '')}: {error.get('message', '')}" if error else ""


def _took(milliseconds: float | None) -> str | None:
    if milliseconds is None:
        return None
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _mib(size: int | None) -> str | None:
    return None if size is None else f"{size / (1 << 20):.1f} MiB"


@main.command()
@click.argument("id", required=False)
@click.option("--search", "q", metavar="TEXT", help="Only what fits: 'state:failed job:etl.* arg.customer:42'.")
@click.option("--zone", "timezone", help="Whose days and local times --search means, such as Europe/Berlin. [UTC]")
@click.option("--handler", "handler_id", help="Only of this handler.")
@click.option("--method", "job_method", help="Only of this method.")
@click.option("--schedule", "schedule_id", help="Only of this schedule.")
@click.option("--node", "node_id", help="Only those that this node has or had last.")
@click.option("--group", "group_id", help="Only of this group or backfill.")
@click.option("--status", multiple=True, help="Only in this state (may be repeated, or separated by commas).")
@click.option("--since", type=Moment(), help="Created at this moment or later (-1h, 2030-01-01T00:00:00Z).")
@click.option("--until", type=Moment(), help="Created before this moment.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@click.option("--wait", is_flag=True, help="With an ID: wait until it is over.")
@click.option("--wait-for", "wait_s", type=Duration(), help="Give up waiting after this long (implies --wait).")
@with_caller
def executions(caller: Caller, id: str | None, wait: bool, wait_s: float | None, **filters: Any) -> None:
    """List executions, newest first, or show one with its attempts, result and error.

    \b
    Examples:
      schedule-zero executions --status failed,dead --since -1h
      schedule-zero executions --search 'state:failed job:etl.* error:"no route"'
      schedule-zero executions 01k8…           # one
      schedule-zero executions 01k8… --wait    # ends with 1 unless it completed
    """
    waits = wait or wait_s is not None
    if id is None:
        if waits:
            raise click.UsageError("--wait needs an ID")
        _list(caller, filters)
        return
    with caller.client() as client:
        if waits:
            wait_for(client, [id], timeout_s=wait_s)
        record = client.request("GET", f"/api/executions/{segment(id)}")
    _show(caller, record)
    if waits and record["status"] != "completed":
        raise SystemExit(EXIT_FAILURE)


def _list(caller: Caller, filters: dict[str, Any]) -> None:
    query = filters | {"status": ",".join(filters["status"]) or None}
    with caller.client() as client:
        page = client.request("GET", "/api/executions", query=query)
    if caller.json:
        show_json(page)
        return
    show_table(page["records"], COLUMNS, none="no executions")
    if page.get("searched_back_to"):
        say(f"searched back to {page['searched_back_to']}", err=True)
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


def _show(caller: Caller, record: dict[str, Any]) -> None:
    if caller.json:
        show_json(record)
        return
    progress = _reached(record)
    # Only where it says something: the node has not confirmed yet, or the job's own end came first.
    asked = {"cancel_requested": record.get("cancel_requested") or None}
    show_fields(record | asked | ({"progress": progress} if progress else {}), FIELDS)
    options = record["options"]
    if options["sources"]:
        say("\noptions")
        said = [{"name": name, "value": options[name], "source": who} for name, who in options["sources"].items()]
        show_table(said, OPTIONS, none="")
    if len(record.get("attempts", ())) > 1:
        say("\nattempts")
        show_table(record["attempts"], ATTEMPTS, none="")
    if record["status"] == "completed" and record.get("result_bytes"):
        say(f"\nresult  {record['result_bytes']} bytes: schedule-zero result {record['id']}")
    elif record["status"] == "completed":
        say("\nresult")
        show_value(record.get("result"))
    elif error := record.get("error"):
        say(f"\nerror  {error.get('type', '')}: {error.get('message', '')}\n{error.get('traceback', '')}".rstrip())


@main.command()
@click.argument("id")
@with_caller
def result(caller: Caller, id: str) -> None:
    """Print what a completed execution returned, however large: text as it is, anything else as JSON."""
    with caller.client() as client:
        value = client.result(id)
    if caller.json:
        show_json(value)
    else:
        show_value(value)


@main.command()
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--handler", "handler_id", help="All of this handler.")
@click.option("--method", "job_method", help="… of this method.")
@click.option("--schedule", "schedule_id", help="… of this schedule.")
@click.option("--group", "group_id", help="… of this group or backfill.")
@click.option("--node", "node_id", help="… that this node has.")
@click.option("--status", multiple=True, help="… in this state (may be repeated, or separated by commas).")
@click.option("--since", type=Moment(), help="… created at this moment or later (-1h, 2030-01-01T00:00:00Z).")
@click.option("--until", type=Moment(), help="… created at this moment or earlier.")
@click.option("--dry-run", is_flag=True, help="Only count what these find.")
@with_caller
def cancel(caller: Caller, ids: tuple[str, ...], dry_run: bool, **filters: Any) -> None:
    """Cancel executions: those that wait at once; of those that run, the node is told, and confirms.

    An async method is interrupted. A plain one can't be: it has to look at ctx.cancelled. If it takes no notice, the
    execution counts as cancelled after 30 s, but the method goes on and holds its node's slot until it returns. An
    isolated one gets SIGTERM, and SIGKILL after 5 s, with all that it has started.

    \b
    Examples:
      schedule-zero cancel 01k8… 01k9…
      schedule-zero cancel --handler mailer --status pending,scheduled --dry-run
      schedule-zero cancel --schedule nightly
    """
    filters["status"] = [state for said in filters["status"] for state in said.split(",") if state] or None
    named = {name: value for name, value in filters.items() if value is not None}
    if bool(ids) == bool(named):
        raise click.UsageError("give IDs, or options that say which, and not both")
    if named:
        _cancel_found(caller, named, dry_run=dry_run)
        return
    if dry_run:
        raise click.UsageError("--dry-run counts what the options find")
    said = {
        "cancelled": "cancelled",
        "requested": "its node is told; it ends when the node confirms",
        "terminal": "was over already",
    }
    each(
        caller,
        ids,
        lambda client, which: client.request("POST", f"/api/executions/{segment(which)}/cancel", repeatable=True),
        lambda answer: said.get(answer["outcome"], answer["outcome"]),
    )


def _cancel_found(caller: Caller, named: dict[str, Any], *, dry_run: bool) -> None:
    with caller.client() as client:
        done = client.cancel_many(**named, dry_run=dry_run)
    if caller.json:
        show_json({name: getattr(done, name) for name in ("matched", "cancelled", "requested", "left")})
    elif dry_run:
        say(f"{done.matched} found, none touched")
    else:
        say(f"{done.cancelled} cancelled, {done.requested} end when their nodes confirm, {done.left} left alone")


@main.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@with_caller
def retry(caller: Caller, ids: tuple[str, ...]) -> None:
    """Run the same work again, as new executions; prints their ids."""
    each(
        caller, ids, lambda client, which: {"id": client.retry(which)}, lambda answer: f"is run again as {answer['id']}"
    )


def each(caller: Caller, ids: tuple[str, ...], do: Any, words: Any) -> None:
    """Do one thing to each id; go on after an error, and end with the exit code of the first."""
    answers: list[Any] = []
    first: ScheduleZeroError | None = None
    with caller.client() as client:
        for which in ids:
            try:
                answer = do(client, which)
            except ScheduleZeroError as error:
                if len(ids) == 1:
                    raise
                first = first or error
                say(f"{which}: {error.message}", err=True)
                answers.append({"id": which, "error": {"code": error.code, "message": error.message}})
                continue
            answers.append(answer)
            if not caller.json:
                say(f"{which}: {words(answer)}")
    if caller.json:
        show_json(answers)
    if first is not None:
        raise SystemExit(first.exit_code)


@main.command()
@click.option("--kind", "kinds", multiple=True, help="Only this kind, such as execution.finished (may be repeated).")
@click.option(
    "--topic", "topics", multiple=True, help="Only of this noun: execution, schedule, node (may be repeated)."
)
@click.option("--since", metavar="EVENT_ID", help="Replay what came after this event.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many.")
@with_caller
def events(
    caller: Caller, kinds: tuple[str, ...], topics: tuple[str, ...], since: str | None, count: int | None
) -> None:
    """Follow what the server commits, as it is committed, until Ctrl-C. With -o json: one object per line."""
    seen = 0
    with caller.client() as client:
        for event in client.events(kinds=kinds, topics=topics, since=since):
            if caller.json:
                record = {"event_id": event.event_id, "kind": event.kind, "id": event.id, "data": event.data}
                say(json_text(record))
            else:
                data = " ".join(f"{name}={value}" for name, value in event.data.items() if value is not None)
                say(f"{event.event_id:<10} {event.kind:<28} {event.id} {data}".rstrip())
            seen += 1
            if seen == count:
                return
