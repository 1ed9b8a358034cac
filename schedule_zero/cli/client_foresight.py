"""``schedule-zero forecast`` and ``simulate``: what will happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from schedule_zero.cli.api import Caller, main, with_caller
from schedule_zero.cli.arguments import Duration, Moment
from schedule_zero.cli.output import Column, exact, moment, short_moment, show_json, show_table
from schedule_zero.cli.terminal import say
from schedule_zero.clock import rfc3339

if TYPE_CHECKING:
    from schedule_zero.client import Client
    from schedule_zero.model import Fire, Schedule
    from schedule_zero.timing.calendars import NamedCalendar

BUCKETS: list[Column] = [
    ("FROM", moment("time")),
    ("FIRES", "fires"),
    ("EXPECTED RUN TIME", lambda record: f"{record['busy_s']:g} s"),
]
PEAKS: list[Column] = [("AT", moment("time")), ("FIRES", "fires"), ("SCHEDULES", "schedule_ids")]
SUMS: list[Column] = [
    ("SCHEDULE", "schedule_id"),
    ("RUNS", "runs"),
    ("SKIPPED", "skipped"),
    ("FIRST", moment("first")),
    ("LAST", moment("last")),
]
FIRES: list[Column] = [
    ("NOMINAL", exact("nominal_time")),
    ("SCHEDULE", "schedule_id"),
    ("OUTCOME", "outcome"),
    ("REASON", lambda record: " ".join(filter(None, (record["reason"], record["detail"])))),
]


@main.command()
@click.option("--from", "from_", type=Moment(), help="From this moment on. [now]")
@click.option("--to", type=Moment(), help="Until this moment. [a day later]")
@click.option("--bucket", "bucket_s", type=Duration(), default="1h", help="Length of a line. [1h]")
@click.option("--quiet", "quiet_s", type=Duration(), help="Look for the quietest stretch of this length.")
@with_caller
def forecast(caller: Caller, from_: float | None, **query: Any) -> None:
    """Say what comes: how many fires when, where they collide, and when it is quiet.

    \b
    Example:
      schedule-zero forecast --to +7d --bucket 1d --quiet 2h
    """
    with caller.client() as client:
        found = client.request("GET", "/api/forecast", query={"from": from_, **query})
    if caller.json:
        show_json(found)
        return
    show_table(found["buckets"], BUCKETS, none="no buckets")
    say(f"\n{found['fires']} fires of {found['schedules']} schedules")
    if found["peaks"]:
        say("\nMost at one moment:")
        show_table(found["peaks"], PEAKS, none="")
        say(found["peaks"][0]["suggestion"])
    if found["quietest"] is not None:
        quiet = found["quietest"]
        say(
            f"\nQuietest: {short_moment(quiet['from'])} to {short_moment(quiet['to'])}, "
            f"{quiet['fires']} fires, {quiet['busy_s']:g} s of expected run time"
        )


@main.command()
@click.option("--from", "from_", type=Moment(), help="From this moment on. [now]")
@click.option("--to", type=Moment(), required=True, help="Until this moment.")
@click.option("--schedule", "ids", multiple=True, metavar="ID", help="Only this one; may be given several times.")
@click.option("--list", "list_", is_flag=True, help="Each fire, not only the sums.")
@click.option("--limit", type=click.IntRange(1), default=1000, help="With --list: at most so many lines. [1000]")
@with_caller
def simulate(caller: Caller, from_: float | None, to: float, ids: tuple[str, ...], list_: bool, limit: int) -> None:
    """Run the stored schedules on a clock that jumps, and say what would fire. Nothing is run, nothing is stored.

    The scheduler's own decisions, with pauses, skips, calendars and maxima as they are now: what runs before --from
    counts towards a maximum. No schedule fires before it was made. A run takes no time here, so no fire overlaps the
    one before. No start of the server is foreseen: a startup trigger does not fire.

    \b
    Examples:
      schedule-zero simulate --to +365d
      schedule-zero simulate --from 2027-03-27T00:00:00Z --to 2027-03-29T00:00:00Z --schedule nightly --list
    """
    import asyncio

    from schedule_zero.clock import SystemClock

    now_us = SystemClock().wall_us()
    from_us = now_us if from_ is None else round(from_ * 1e6)
    to_us = round(to * 1e6)
    if to_us <= from_us:
        raise click.UsageError("--to does not lie after --from")
    with caller.client() as client:
        rows = list(_stored(client, ids))
        calendars = _calendars(client, rows)
    sums, shown, total = asyncio.run(_simulate(rows, calendars, (from_us, to_us, now_us), limit if list_ else 0))
    if caller.json:
        show_json({"from": rfc3339(from_us), "to": rfc3339(to_us), "fires": total, "schedules": sums, "list": shown})
        return
    if list_:
        show_table(shown, FIRES, none="nothing would fire")
        if total > len(shown):
            say(f"{len(shown)} of {total}; more: --limit {total}", err=True)
        return
    show_table(sums, SUMS, none="nothing would fire")
    say(f"{total} fires of {len(sums)} schedules", err=True)


def _stored(client: Client, ids: tuple[str, ...]) -> Iterator[Schedule]:
    """The schedules as the server has them."""
    if ids:
        for id_ in ids:
            yield _row(client.get_schedule(id_))
        return
    cursor: str | None = None
    while True:
        page = client.schedules(limit=500, cursor=cursor)
        yield from map(_row, page.schedules)
        cursor = page.next_cursor
        if cursor is None:
            return


def _row(record: Any) -> Schedule:
    import msgspec

    from schedule_zero.clock import to_us
    from schedule_zero.model import Policies, Schedule, ScheduleState
    from schedule_zero.rules.policies import stored_policies, stored_skips

    def moment_us(moment: Any) -> int | None:
        return None if moment is None else to_us(moment)

    return Schedule(
        id=record.id,
        handler_id=record.handler_id,
        job_method=record.job_method,
        trigger=msgspec.json.encode(record.trigger),
        policies=stored_policies(msgspec.convert(record.policies, Policies)),
        state=ScheduleState(record.state),
        misfire_grace_s=record.misfire_grace_s,
        resume_us=moment_us(record.paused_until),
        skips=stored_skips(map(to_us, record.skips)),
        next_fire_us=moment_us(record.next_fire_time),
        runs=record.runs,
        created_us=moment_us(record.created_at) or 0,
    )


class _Copies:
    """The named calendars that the schedules use, as the server has them."""

    def __init__(self, calendars: dict[str, NamedCalendar]) -> None:
        self._calendars = calendars

    def get(self, name: str) -> NamedCalendar | None:
        return self._calendars.get(name)

    def current_version(self, name: str) -> int | None:  # noqa: ARG002  # nothing is bound to a version here
        return None

    def known_version(self, name: str, version: int) -> NamedCalendar | None:  # noqa: ARG002
        return self._calendars.get(name)


def _calendars(client: Client, rows: list[Schedule]) -> _Copies:
    from schedule_zero.rules.policies import policies_of
    from schedule_zero.timing.calendar_parse import parse_calendar

    names: set[str] = set()
    for policies in (policies_of(row.policies) for row in rows):
        names.update(policies.exclude, policies.require)
        if policies.business_days is not None:
            names.add(policies.business_days.calendar)
    return _Copies({name: parse_calendar(client.calendar(name).document, name) for name in sorted(names)})


async def _simulate(
    rows: list[Schedule], calendars: _Copies, when: tuple[int, int, int], limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """The sums by schedule, the first ``limit`` fires, and how many there are."""
    from schedule_zero.config import TimingConfig
    from schedule_zero.timing.resolve import Resolver
    from schedule_zero.timing.simulate import simulate

    runs: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    shown: list[dict[str, Any]] = []
    total = 0
    from_us, to_us, now_us = when
    # As for a forecast: no start of the server is foreseen, and 1970 lies before every range.
    resolver = Resolver(0, calendars)
    async for fire in simulate(rows, from_us, to_us, now_us=now_us, resolver=resolver, config=TimingConfig()):
        total += fire.count
        (skipped if fire.execution_id is None else runs)[fire.schedule_id] += fire.count
        first.setdefault(fire.schedule_id, fire.nominal_us)
        last[fire.schedule_id] = fire.last_nominal_us or fire.nominal_us
        if len(shown) < limit:
            shown.append(_shown(fire))
    sums = [
        {
            "schedule_id": id_,
            "runs": runs[id_],
            "skipped": skipped[id_],
            "first": rfc3339(first[id_]),
            "last": rfc3339(last[id_]),
        }
        for id_ in sorted(first)
    ]
    return sums, shown, total


def _shown(fire: Fire) -> dict[str, Any]:
    return {
        "schedule_id": fire.schedule_id,
        "nominal_time": rfc3339(fire.nominal_us),
        "outcome": fire.outcome.value,
        "reason": None if fire.reason is None else fire.reason.value,
        "detail": fire.detail,
        "count": fire.count,
    }
