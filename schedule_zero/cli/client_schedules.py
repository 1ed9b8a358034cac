"""``schedule-zero schedule``, ``schedules``, ``delete``, ``fires`` and ``preview``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from schedule_zero.cli.api import Caller, main, schedule_path, segment, with_caller
from schedule_zero.cli.arguments import Duration, LocalMoment, Moment, job_params, job_target, trigger_document
from schedule_zero.cli.client_executions import each
from schedule_zero.cli.client_jobs import PARAMS, TARGET
from schedule_zero.cli.client_policies import policy_options, take_policies
from schedule_zero.cli.job_options import job_options, split_options
from schedule_zero.cli.output import (
    Column,
    exact,
    exact_moment,
    moment,
    short_moment,
    show_fields,
    show_json,
    show_table,
    trigger_words,
)
from schedule_zero.cli.terminal import say

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("JOB", lambda record: f"{record['handler_id']}.{record['job_method']}"),
    ("TRIGGER", lambda record: trigger_words(record["trigger"])),
    ("NEXT", moment("next_fire_time")),
    ("LAST", moment("last_fire_time")),
    ("NOTE", lambda record: record.get("note") or ""),
]
FIELDS = (
    "id", "state", "note", "paused_until", "handler_id", "job_method", "job_params", "trigger", "options", "policies",
    "misfire_grace_s", "next_fire_time", "waits_for", "skips", "last_fire_time", "runs", "generation", "version",
    "created_at", "updated_at", "updated_by",
)  # fmt: skip
FIRES: list[Column] = [
    ("NOMINAL", exact("nominal_time")),
    ("OUTCOME", "outcome"),
    ("REASON", lambda record: " ".join(filter(None, (record["reason"], record["detail"]))) or None),
    ("COUNT", "count"),
    ("EXECUTION", lambda record: record["execution_id"] or record["group_id"]),
]


def trigger_options(command: F) -> F:
    """When: the same options for making a schedule and for previewing one."""
    options = (
        click.option(
            "--cron", metavar="EXPRESSION", help="By cron: '*/5 * * * *', with seconds '*/10 * * * * *', @daily."
        ),
        click.option("--every", type=Duration(), metavar="DURATION", help="At an interval: 10s, 250ms, 1h30m."),
        click.option(
            "--at", type=LocalMoment(), metavar="MOMENT", help="Once: 2030-01-01T00:00:00Z, unix seconds, +10m."
        ),
        click.option(
            "--trigger", metavar="JSON", help='Any trigger: {"type": "calendar", …}, or a list; @FILE, - for stdin.'
        ),
        click.option("--timezone", metavar="ZONE", help="Of the trigger, if it names none: Europe/Berlin. [UTC]"),
        click.option("--start", type=LocalMoment(), metavar="MOMENT", help="Not before this moment."),
        click.option("--end", type=LocalMoment(), metavar="MOMENT", help="Not after this moment."),
    )
    # The decorator next to the function comes last: the help shows them in the order above.
    for option in reversed(options):
        command = option(command)
    return command


def _take_trigger(given: dict[str, Any], zone_around: str | None = None) -> dict[str, Any]:
    names = ("cron", "every", "at", "trigger", "timezone", "start", "end")
    return trigger_document(**{name: given.pop(name) for name in names}, zone_around=zone_around)


@main.command()
@TARGET
@PARAMS
@trigger_options
@click.option("--id", "schedule_id", help="Its name; one is made if you don't give one.")
@click.option("--replace", is_flag=True, help="Replace the schedule of that --id, if there is one.")
@click.option("--paused", is_flag=True, help="Create it paused.")
@click.option("--note", help="Why, for the people who will read it.")
@click.option(
    "--misfire-grace",
    "misfire_grace_s",
    type=Duration(),
    help="A fire that is at most so late simply runs; what is later, --catch-up decides.",
)
@policy_options
@job_options
@with_caller
def schedule(
    caller: Caller,
    words: tuple[str, ...],
    params: str | None,
    schedule_id: str | None,
    replace: bool,
    **given: Any,
) -> None:
    """Create a schedule: a JOB (HANDLER.METHOD) with its parameters, and when.

    \b
    Examples:
      schedule-zero schedule demo.hello name=World --every 10s
      schedule-zero schedule demo.hello name=World --cron '0 9 * * mon-fri' --timezone Europe/Berlin --id morning
      schedule-zero schedule demo.add a=1 b=2 --at +10m
    """
    handler_id, method, pairs = job_target(words)
    arguments = job_params(pairs, params)
    options = split_options(given)
    policies = take_policies(given)
    # Of the schedule: a trigger that names a zone of its own keeps it.
    timezone, given["timezone"] = given["timezone"], None
    trigger = _take_trigger(given, timezone)
    if replace and schedule_id is None:
        raise click.UsageError("--replace needs an --id")
    body = {"handler_id": handler_id, "job_method": method, "job_params": arguments, "trigger": trigger}
    body |= {"options": options} if options else {}
    body |= {"policies": policies} if policies else {}
    body |= {} if timezone is None else {"timezone": timezone}
    body |= {name: value for name, value in given.items() if value not in (None, False)}
    with caller.client() as client:
        if replace:
            made = client.request("PUT", f"/api/schedules/{segment(schedule_id or '')}", body=body)
        else:
            body |= {} if schedule_id is None else {"id": schedule_id}
            made = client.request("POST", "/api/schedules", body=body, repeatable=True)["schedules"][0]
    if caller.json:
        show_json(made)
    else:
        due = made.get("next_fire_time")
        say(f"{made['id']}: " + (f"next at {short_moment(due)}" if due else "never due"))


@main.command()
@click.argument("id", required=False)
@click.option("--handler", "handler_id", help="Only of this handler.")
@click.option("--state", type=click.Choice(["active", "paused", "finished", "quarantined"]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, help="At most so many. [100]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def schedules(caller: Caller, id: str | None, **filters: Any) -> None:
    """List schedules, or show one."""
    with caller.client() as client:
        if id is not None:
            record = client.request("GET", f"/api/schedules/{segment(id)}")
            show_json(record) if caller.json else show_fields(record, FIELDS)
            return
        page = client.request("GET", "/api/schedules", query=filters)
    if caller.json:
        show_json(page)
        return
    show_table(page["schedules"], COLUMNS, none="no schedules")
    if page.get("next_cursor"):
        say(f"{len(page['schedules'])} of {page['count']}; more: --cursor {page['next_cursor']}", err=True)


@main.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Don't ask, however many they are.")
@with_caller
def delete(caller: Caller, ids: tuple[str, ...], yes: bool) -> None:
    """Delete schedules. Their ledger and their executions stay."""
    if len(ids) > 1 and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {len(ids)} schedules?", abort=True, err=True)
    each(
        caller,
        ids,
        lambda client, which: client.request("DELETE", f"/api/schedules/{segment(which)}"),
        lambda _: "deleted",
    )


@main.command()
@click.argument("id", required=False)
@click.option(
    "--outcome", type=click.Choice(["executed", "caught_up", "skipped", "missed"]), help="Only with this outcome."
)
@click.option("--since", type=Moment(), help="With a nominal time at this moment or later.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def fires(caller: Caller, id: str | None, **filters: Any) -> None:
    """Show the ledger of a schedule, or of all: what became of each nominal time, newest first."""
    path = "/api/fires" if id is None else schedule_path(id, "fires")
    with caller.client() as client:
        page = client.request("GET", path, query=filters)
    if caller.json:
        show_json(page)
        return
    columns = FIRES if id is not None else [("SCHEDULE", "schedule_id"), *FIRES]
    show_table(page["records"], columns, none="no fires")
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


def _waits(trigger: dict[str, Any]) -> bool:
    """Whether something else than the time makes it fire."""
    return trigger["type"] in ("startup", "manual") or any(map(_waits, trigger.get("triggers", ())))


@main.command()
@trigger_options
@click.option("-n", "n", type=click.IntRange(1, 1000), default=5, help="How many fires. [5]")
@click.option("--after", type=Moment(), help="From this moment on. [now]")
@with_caller
def preview(caller: Caller, n: int, after: float | None, **given: Any) -> None:
    """Say a trigger in words, and when it would fire next.

    \b
    Example:
      schedule-zero preview --cron '0 9 * * mon-fri' --timezone Europe/Berlin
    """
    body = {"trigger": _take_trigger(given), "n": n} | ({} if after is None else {"after": after})
    with caller.client() as client:
        seen = client.request("POST", "/api/triggers/preview", body=body, repeatable=True)
    if caller.json:
        show_json(seen)
        return
    say(seen["words"])
    for fire in seen["fires"]:
        time = exact_moment(fire["time"])
        notes = [*fire["marks"], *([fire["detail"]] if fire["detail"] else [])]
        local = "" if seen["zone"] == "UTC" else f"  {fire['local']}"
        say(f"  {time}{local}" + (f"  ({', '.join(notes)})" if notes else ""))
    if not seen["fires"]:
        say("  no time is known beforehand" if _waits(seen["trigger"]) else "  never")
    for left_out in seen["left_out"]:
        say(f"  left out: {left_out['local']} {seen['zone']}, which the clock jumps over")
    for warning in seen["warnings"]:
        say(f"warning: {warning}", err=True)
