"""What happens to fires: the policies of ``schedule``, and ``pause``, ``resume``, ``skip``, ``freeze``, ``thaw``,
``backfill``, ``backfills`` and ``backfill-cancel``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from schedule_zero.cli.api import Caller, main, schedule_path, segment, with_caller
from schedule_zero.cli.arguments import Duration, Moment, Number
from schedule_zero.cli.client_executions import each
from schedule_zero.cli.output import Column, exact_moment, moment, short_moment, show_json, show_table
from schedule_zero.cli.terminal import say

F = TypeVar("F", bound=Callable[..., Any])

OVERLAPS = ("allow", "skip", "buffer_one", "buffer_all", "cancel_running", "replace_pending")
CATCH_UPS = ("none", "latest", "all")
SPREADS = ("uniform", "hash")
DAY_RULES = ("skip", "previous", "next")
# What a thaw can do about the fires of the frozen time, in the words of somebody who is asked.
THAWS = {
    "none": "they stay skipped",
    "latest": "the newest of each schedule runs",
    "all": "all of them run, up to each schedule's catch_up_max",
    "policy": "what each schedule's own catch_up says",
}
BACKFILLS: list[Column] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("FROM", moment("from")),
    ("TO", moment("to")),
    ("CREATED", lambda record: f"{record['created']}/{record['count']}"),
    ("RATE", lambda record: f"{record['rate_per_s']:g}/s"),
    ("BY", "by"),
]


class DayRule(click.ParamType[dict[str, str]]):
    """``next:works``: what becomes of a fire on a day that is no business day of a named calendar."""

    name = "rule:calendar"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        rule, _, calendar = value.partition(":")
        if rule not in DAY_RULES or not calendar:
            self.fail(f"expected RULE:CALENDAR, with skip, previous or next as the rule, got {value!r}", param, ctx)
        return {"calendar": calendar, "rule": rule}


# --- the policies of a schedule -----------------------------------------------------------------------


def policy_options(command: F) -> F:
    """What happens to its fires: for the command that makes a schedule."""
    options = (
        click.option("--overlap", type=click.Choice(OVERLAPS), help="What a fire does while an earlier run goes on."),
        click.option("--catch-up", type=click.Choice(CATCH_UPS), help="Which missed fires run late. [latest]"),
        click.option("--catch-up-max", type=click.IntRange(1), help="With --catch-up all: the newest so many. [100]"),
        click.option(
            "--catch-up-window", "catch_up_window_s", type=Duration(), metavar="DURATION", help="No further back."
        ),
        click.option("--coalesce", is_flag=True, help="Of several due at once, run the latest only."),
        click.option("--max-fires", type=click.IntRange(1), help="Finished after so many runs."),
        click.option("--max-failures", type=click.IntRange(1), help="Paused after so many failed runs in a row."),
        click.option("--keep", "keep_s", type=Duration(), metavar="DURATION", help="Its runs are kept for this long."),
        click.option("--keep-last", type=click.IntRange(1), help="Only the newest so many of its runs are kept."),
        click.option("--jitter", "jitter_s", type=Duration(), metavar="DURATION", help="Start up to so much later."),
        click.option("--jitter-spread", "jitter", type=click.Choice(SPREADS), help="hash: always as much. [uniform]"),
        click.option("--exclude", multiple=True, metavar="CALENDAR", help="No fire in it (may be repeated)."),
        click.option("--require", multiple=True, metavar="CALENDAR", help="No fire outside it (may be repeated)."),
        click.option(
            "--business-days", type=DayRule(), metavar="RULE:CALENDAR", help="On other days: skip, previous or next."
        ),
        click.option("--broadcast", is_flag=True, help="Each run is on every node that matches then."),
        click.option("--shards", type=click.IntRange(1, 1000), help="Each run is in so many parts."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def take_policies(given: dict[str, Any]) -> dict[str, Any]:
    """Take what ``policy_options`` gave out of ``given``: the ``policies`` of the API, what wasn't said left out."""
    names = (
        "overlap", "catch_up", "catch_up_max", "coalesce", "max_fires", "max_failures", "jitter_s", "exclude",
        "require", "catch_up_window_s", "jitter", "business_days", "keep_s", "keep_last",
        "broadcast", "shards",
    )  # fmt: skip
    taken = {name: given.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value not in (None, False, ())}


# --- one schedule -------------------------------------------------------------------------------------


@main.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--note", help="Why, for the people who will read it.")
@click.option("--until", type=Moment(), metavar="MOMENT", help="Snooze: resume by itself at this moment.")
@with_caller
def pause(caller: Caller, ids: tuple[str, ...], note: str | None, until: float | None) -> None:
    r"""Pause schedules: their fires go on being recorded, as skipped.

    \b
    Example:
      schedule-zero pause nightly report --until +2h --note 'the database moves'
    """
    body = {name: value for name, value in (("note", note), ("until", until)) if value is not None}

    def words(record: Any) -> str:
        return f"paused until {short_moment(record['paused_until'])}" if record["paused_until"] else "paused"

    each(caller, ids, lambda client, which: _act(client, which, "pause", body or None), words)


@main.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@with_caller
def resume(caller: Caller, ids: tuple[str, ...]) -> None:
    """Resume schedules, from their next nominal time on."""
    each(caller, ids, lambda client, which: _act(client, which, "resume", None), lambda _: "resumed")


@main.command()
@click.argument("id")
@click.option("--count", type=click.IntRange(1, 100), help="So many of the next fires. [1]")
@click.option("--none", "none", is_flag=True, help="Skip none of those to come any more.")
@with_caller
def skip(caller: Caller, id: str, count: int | None, none: bool) -> None:
    """Skip the next fire of a schedule, or several; once more, the ones after those."""
    if none and count is not None:
        raise click.UsageError("expected one of --count and --none, got both")
    with caller.client() as client:
        if none:
            record = client.request("DELETE", schedule_path(id, "skip"))
        else:
            # Twice is twice as many: not repeated where an answer was lost.
            record = client.request("POST", schedule_path(id, "skip"), body={"count": count or 1})
    if caller.json:
        show_json(record)
        return
    times = ", ".join(map(exact_moment, record["skips"]))
    say(f"{id}: skips {times}" if times else f"{id}: skips none")


def _act(client: Any, id: str, verb: str, body: Any) -> Any:
    return client.request("POST", schedule_path(id, verb), body=body, repeatable=True)


# --- all schedules ------------------------------------------------------------------------------------


@main.command()
@click.option("--until", type=Moment(), metavar="MOMENT", help="Thaw by itself at this moment.")
@click.option("--note", help="Why, for the people who will read it.")
@click.option(
    "--catch-up",
    type=click.Choice(tuple(THAWS)),
    help="With --until: what is made up for then. [policy: what each schedule says]",
)
@with_caller
def freeze(caller: Caller, until: float | None, note: str | None, catch_up: str | None) -> None:
    """Let no schedule fire, until `thaw` (or --until). Jobs that were created already go on."""
    if catch_up is not None and until is None:
        raise click.UsageError("--catch-up needs --until: without an end, `thaw` asks for it")
    given = {"until": until, "note": note, "catch_up": catch_up}
    with caller.client() as client:
        body = {name: value for name, value in given.items() if value is not None}
        frozen = client.request("POST", "/api/freeze", body=body)
    if caller.json:
        show_json(frozen)
    elif frozen["to"]:
        say(f"all schedules are frozen until {short_moment(frozen['to'])}")
    else:
        say("all schedules are frozen; schedule-zero thaw lets them go on")


@main.command()
@click.option(
    "--catch-up",
    type=click.Choice(tuple(THAWS)),
    help="Which fires of the frozen time run now: none, the latest or all; policy: as each schedule says.",
)
@with_caller
def thaw(caller: Caller, catch_up: str | None) -> None:
    """Let schedules fire again. Asks what to make up for, unless --catch-up says it."""
    catch_up = catch_up or _asked_how_to_thaw()
    with caller.client() as client:
        thawed = client.request("POST", "/api/thaw", body={"catch_up": catch_up})
    if caller.json:
        show_json(thawed)
    else:
        say(f"frozen from {short_moment(thawed['from'])} to {short_moment(thawed['to'])}: {THAWS[catch_up]}")


def _somebody_there() -> bool:
    return sys.stdin.isatty()


def _asked_how_to_thaw() -> str:
    if not _somebody_there():
        raise click.UsageError(f"expected --catch-up with one of {', '.join(THAWS)}: there is nobody to ask")
    say("What becomes of the fires that were due meanwhile?", err=True)
    for word, meaning in THAWS.items():
        say(f"  {word:<7} {meaning}", err=True)
    answer: str = click.prompt("Catch up", type=click.Choice(tuple(THAWS)), err=True)
    return answer


# --- backfills ----------------------------------------------------------------------------------------


@main.command()
@click.argument("id")
@click.option("--from", "from_", type=Moment(), metavar="MOMENT", required=True, help="The first moment, included.")
@click.option("--to", type=Moment(), metavar="MOMENT", required=True, help="The last moment, included; not after now.")
@click.option("--rate", type=Number(0, 1000, min_open=True), help="Executions created per second. [10]")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_caller
def backfill(caller: Caller, id: str, from_: float, to: float, rate: float | None, yes: bool) -> None:
    r"""Run the nominal times of a past range afterwards. Says how many they are first, and asks.

    \b
    Example:
      schedule-zero backfill nightly --from 2030-01-01T00:00:00Z --to 2030-01-31T23:59:59Z --rate 1
    """
    body = {"from": from_, "to": to} | ({} if rate is None else {"rate_per_s": rate})
    with caller.client() as client:
        counted = client.request("POST", schedule_path(id, "backfill"), body={**body, "dry_run": True}, repeatable=True)
        if counted["count"]:
            say(_count_words(id, counted), err=True)
            if not yes:
                _confirm()
        # What was agreed to is what is run; and of none at all, the server says why that is wrong.
        agreed = {"count": counted["count"]} if counted["count"] else {}
        begun = client.request("POST", schedule_path(id, "backfill"), body=body | agreed)
    if caller.json:
        show_json(begun)
    else:
        say(begun["id"])


def _count_words(schedule_id: str, counted: dict[str, Any]) -> str:
    first, last = short_moment(counted["first_time"]), short_moment(counted["last_time"])
    return f"{counted['count']} executions of {schedule_id}, {first} to {last}, in {counted['takes_s']:.0f} s"


def _confirm() -> None:
    if not _somebody_there():
        raise click.UsageError("expected --yes: there is nobody to ask")
    click.confirm("Run them?", abort=True, err=True)


@main.command()
@click.argument("id")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="At most so many. [50]")
@click.option("--cursor", help="Continue after the page that gave this cursor.")
@with_caller
def backfills(caller: Caller, id: str, **query: Any) -> None:
    """List the backfills of a schedule, newest first."""
    with caller.client() as client:
        page = client.request("GET", schedule_path(id, "backfills"), query=query)
    if caller.json:
        show_json(page)
        return
    show_table(page["backfills"], BACKFILLS, none="no backfills")
    if page.get("next_cursor"):
        say(f"more: --cursor {page['next_cursor']}", err=True)


@main.command()
@click.argument("id")
@with_caller
def backfill_cancel(caller: Caller, id: str) -> None:
    """Create no more executions of a backfill; those that were created stay."""
    with caller.client() as client:
        cancelled = client.request("POST", f"/api/backfills/{segment(id)}/cancel")
    if caller.json:
        show_json(cancelled)
    else:
        say(f"{id}: cancelled after {cancelled['created']} of {cancelled['count']}")
