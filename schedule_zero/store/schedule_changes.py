"""What the change log says of schedules: what a change was about. All that a version was stands in its history."""

from __future__ import annotations

from typing import Any

from schedule_zero.clock import rfc3339
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.rules.change_log import Actor, ChangeVerb, differing, embedded
from schedule_zero.rules.changes import document
from schedule_zero.store.changes import record
from schedule_zero.store.tx import Tx

_VERBS = {
    ScheduleState.ACTIVE: ChangeVerb.SCHEDULE_RESUMED,
    ScheduleState.PAUSED: ChangeVerb.SCHEDULE_PAUSED,
    # A pause ended, and there is nothing left to come.
    ScheduleState.FINISHED: ChangeVerb.SCHEDULE_RESUMED,
    ScheduleState.QUARANTINED: ChangeVerb.SCHEDULE_QUARANTINED,
}


def created(tx: Tx, actor: Actor | None, row: Schedule) -> None:
    record(tx, actor, ChangeVerb.SCHEDULE_CREATED, row.id, after=_summary(row))


def deleted(tx: Tx, actor: Actor | None, row: Schedule) -> None:
    record(tx, actor, ChangeVerb.SCHEDULE_DELETED, row.id, before=_summary(row))


def put(tx: Tx, actor: Actor | None, old: Schedule | None, new: Schedule) -> None:
    """Replaced as a whole, or created: what differs, in the names of the API."""
    if old is None:
        created(tx, actor, new)
        return
    before, after = differing(document(old), document(new))
    _changed(tx, actor, ChangeVerb.SCHEDULE_UPDATED, old, new, before, after)


def updated(tx: Tx, actor: Actor | None, old: Schedule, new: Schedule) -> None:
    """Some fields; the fires to be left out are told from others."""
    before, after = differing(document(old), document(new))
    verb = ChangeVerb.SCHEDULE_SKIPS_SET if old.skips != new.skips else ChangeVerb.SCHEDULE_UPDATED
    _changed(tx, actor, verb, old, new, before, after)


def state_set(tx: Tx, actor: Actor | None, old: Schedule, new: Schedule) -> None:
    """Paused, resumed, quarantined."""
    before, after = differing(_state(old), _state(new))
    _changed(tx, actor, _VERBS[new.state], old, new, before, after)


def quarantined(tx: Tx, schedule_id: str, note: str | None) -> None:
    """By the timer, because its trigger fails."""
    after = {"state": ScheduleState.QUARANTINED.value, "note": note}
    record(tx, None, ChangeVerb.SCHEDULE_QUARANTINED, schedule_id, after=after)


def _changed(
    tx: Tx,
    actor: Actor | None,
    verb: ChangeVerb,
    old: Schedule,
    new: Schedule,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    # Where nobody asked for it, the version says what did it: ``snooze``, ``max_failures``, a calendar.
    note = new.updated_by if actor is None else None
    before, after = {"version": old.version, **before}, {"version": new.version, **after}
    record(tx, actor, verb, new.id, before=before, after=after, note=note)


def _state(row: Schedule) -> dict[str, Any]:
    return {"state": row.state.value, "note": row.note, "paused_until": rfc3339(row.resume_us)}


def _summary(row: Schedule) -> dict[str, Any]:
    """By which one knows it again; the versions have the rest."""
    return {
        "generation": row.generation,
        "version": row.version,
        "handler_id": row.handler_id,
        "job_method": row.job_method,
        "trigger": embedded(row.trigger),
        "state": row.state.value,
    }
