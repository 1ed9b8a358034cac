"""The tabs of one schedule's page: each asks for what it shows, and for nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from schedule_zero.clock import rfc3339
from schedule_zero.errors import BadRequest, Conflict, InvalidField
from schedule_zero.model import BackfillState, Fire, FireOutcome
from schedule_zero.rules.facts import Ruling
from schedule_zero.service.schedule_rows import spec_of
from schedule_zero.service.versions import VersionView
from schedule_zero.web.pages import moments, schedule_policies
from schedule_zero.web.pages.copy_as import copy_as
from schedule_zero.web.pages.days import day_of, midnight_us, month_of
from schedule_zero.web.pages.job_form import base_url
from schedule_zero.web.pages.json_values import write_json
from schedule_zero.web.pages.render import message_of, url
from schedule_zero.web.pages.schedule_month import LEGEND, weeks
from schedule_zero.web.pages.schedule_state import CopyWord, OutcomeWord, Seen, Tab

COMING = 20
PAGE = 50
VERSIONS = 25
RATE_PER_S = 10.0
MOST_PER_S = 1000
# A fire that is due for so long is said to be late.
LATE_US = 1_000_000


class LedgerRow(Struct, frozen=True):
    """A row of the ledger with what became of its run, and where to read on."""

    fire: Fire
    state: str | None
    href: str | None
    explain: str
    late_s: float


class VersionRow(Struct, frozen=True):
    view: VersionView
    ruling: Ruling
    diff: str | None


async def overview(seen: Seen) -> dict[str, Any]:
    """A month as a calendar, and the next fires."""
    views, row = seen.request.service.schedule_views, seen.schedule
    now_us = seen.request.service.schedules.now_us()
    month = month_of(seen.query.month, now_us, seen.zone)
    before, after = month.beside(-1), month.beside(1)
    is_late = row.next_fire_us is not None and row.next_fire_us < now_us - LATE_US
    return {
        "coming": await views.coming(row, COMING),
        "late_us": row.next_fire_us if is_late else None,
        "month": month,
        "weeks": weeks(month, await views.days(seen.id, month.bounds), now_us),
        "legend": LEGEND,
        "month_before": seen.url(month=before) if before else "",
        "month_after": seen.url(month=after) if after else "",
        "month_now": seen.url(month=""),
    }


# --- the ledger -----------------------------------------------------------------------------------------


async def ledger(seen: Seen) -> dict[str, Any]:
    """What became of each fire, and the story of one."""
    query, low_us, high_us = seen.query, None, None
    if query.day:
        day = day_of(query.day, parameter="day")
        low_us, high_us = midnight_us(day, seen.zone), midnight_us(day.fromordinal(day.toordinal() + 1), seen.zone)
    found = await seen.request.service.schedule_views.ledger(
        seen.id,
        outcome=FireOutcome(query.outcome.value) if query.outcome else None,
        low_us=low_us,
        high_us=high_us,
        cursor=query.cursor or None,
        limit=PAGE,
    )
    cursor = found.page.next_cursor
    return {
        "query": query,
        "rows": [_ledger_row(seen, fire, found.states) for fire in found.page.rows],
        "outcomes": [
            (word.replace("_", " ") or "all", seen.url(outcome=word, cursor="", at=""), word is query.outcome)
            for word in OutcomeWord
        ],
        "no_day": seen.url(day="", cursor="", at="") if query.day else None,
        "first_url": seen.url(cursor="") if query.cursor else "",
        "next_url": seen.url(cursor=cursor) if cursor else "",
        **await _explained(seen),
    }


def _ledger_row(seen: Seen, fire: Fire, states: dict[str, str]) -> LedgerRow:
    ran = fire.execution_id
    return LedgerRow(
        fire=fire,
        state=None if ran is None else states.get(ran),
        href=None if ran is None else url("/groups" if fire.is_group else "/executions", ran),
        explain=seen.url(at=rfc3339(fire.nominal_us)),
        late_s=(fire.decided_us - fire.nominal_us) / 1e6,
    )


async def _explained(seen: Seen) -> dict[str, Any]:
    """The story of the moment that was asked about, or what is wrong with it."""
    said, service = seen.query.at.strip(), seen.request.service
    told: dict[str, Any] = {"story": None, "story_at": said, "story_problem": ""}
    if not said:
        return told
    try:
        at_us = moments.moment_us(said, service.schedules.now_us(), seen.zone, field="at")
        story = await service.explain.explain(seen.id, at_us)
    except BadRequest as error:
        return told | {"story_problem": message_of(error)}
    before_us, after_us = story.facts.before_us, story.facts.after_us
    return told | {
        "story": story,
        "story_before": None if before_us is None else seen.url(at=rfc3339(before_us)),
        "story_after": None if after_us is None else seen.url(at=rfc3339(after_us)),
        "story_policy": [(name, str(value)) for name, value in story.said.policy.items()],
    }


# --- versions -------------------------------------------------------------------------------------------


async def versions(seen: Seen) -> dict[str, Any]:
    """All that there were, and what differs between two."""
    query, service = seen.query, seen.request.service.versions
    found = await service.find(seen.id, cursor=query.cursor or None, limit=VERSIONS)
    diff = None
    if query.before is not None or query.after is not None:
        diff = await service.diff(seen.id, query.before, query.after, query.generation)
    changes = [] if diff is None else diff.differences
    return {
        "query": query,
        "versions": [_version_row(seen, view) for view in found.rows],
        "diff": diff,
        "changes": [
            (one.op.value, one.pointer, write_json(one.before, indent=2), write_json(one.after, indent=2))
            for one in changes
        ],
        "newest": found.rows[0].ruling.schedule,
        "first_url": seen.url(cursor="") if query.cursor else "",
        "next_url": seen.url(cursor=found.next_cursor) if found.next_cursor else "",
    }


def _version_row(seen: Seen, view: VersionView) -> VersionRow:
    row = view.ruling.schedule
    diff = None
    if row.version > 1:
        diff = seen.url(before=row.version - 1, after=row.version, generation=row.generation)
    return VersionRow(view, view.ruling, diff)


# --- what it is made of ---------------------------------------------------------------------------------


async def definition(seen: Seen) -> dict[str, Any]:
    """Policies and options with who said each, and what would make it."""
    options = seen.request.service.schedule_views.options(seen.schedule)
    texts = copy_as(spec_of(seen.schedule), base_url(seen.request))
    return {
        "copy": next(text for text in texts if text.key == seen.query.copy),
        "copies": [(text.label, seen.url(copy=CopyWord(text.key)), text.key == seen.query.copy) for text in texts],
        "policies": schedule_policies.policies(seen.schedule, seen.request.config.timing),
        "options": schedule_policies.options(options),
    }


# --- backfills ------------------------------------------------------------------------------------------


async def backfills(seen: Seen) -> dict[str, Any]:
    """Those that there were, and the count of one that may be begun."""
    query = seen.query
    found = await seen.request.service.backfills.find(seen.id, cursor=query.cursor or None, limit=PAGE)
    return {
        "query": query,
        "backfills": found.rows,
        "running": any(one.state is BackfillState.RUNNING for one in found.rows),
        "first_url": seen.url(cursor="") if query.cursor else "",
        "next_url": seen.url(cursor=found.next_cursor) if found.next_cursor else "",
        **await _counted(seen),
    }


async def _counted(seen: Seen) -> dict[str, Any]:
    """What the backfill that is asked about would run, or what is wrong with it, by field."""
    query, service = seen.query, seen.request.service
    wrong: dict[str, str] = {}
    told: dict[str, Any] = {"counted": None, "wrong": wrong}
    if not (query.since or query.until):
        return told
    now_us = service.schedules.now_us()
    us: dict[str, int] = {}
    for name, text in (("since", query.since), ("until", query.until or "now")):
        try:
            us[name] = moments.moment_us(text, now_us, seen.zone, field=name)
        except InvalidField as error:
            wrong[name] = error.message
    rate = _rate(query.rate)
    if rate is None:
        wrong["rate"] = f"expected a number up to {MOST_PER_S}, got {query.rate[:20]!r}"
    if wrong or rate is None:
        return told
    try:
        counted = await service.backfills.count(seen.id, us["since"], us["until"], rate)
    except (BadRequest, Conflict) as error:
        wrong["until" if error.pointer == "/to" else "since"] = message_of(error)
        return told
    return told | {"counted": counted, "from_us": us["since"], "to_us": us["until"], "rate": rate}


def _rate(text: str) -> float | None:
    try:
        rate = float(text or RATE_PER_S)
    except ValueError:
        return None
    return rate if 0 < rate <= MOST_PER_S else None


TABS: dict[Tab, Callable[[Seen], Awaitable[dict[str, Any]]]] = {
    Tab.OVERVIEW: overview,
    Tab.LEDGER: ledger,
    Tab.VERSIONS: versions,
    Tab.DEFINITION: definition,
    Tab.BACKFILLS: backfills,
}
# What is left of one that is deleted.
OF_DELETED = (Tab.LEDGER, Tab.VERSIONS)
