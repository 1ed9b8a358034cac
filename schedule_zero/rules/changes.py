"""What differs between two versions of a schedule, as its users see it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.clock import rfc3339
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.rules.policies import skips_of

# What a schedule gets when it ends by itself: nobody changed that.
_BY_ITSELF = frozenset({ScheduleState.FINISHED, ScheduleState.QUARANTINED})
_OF_ITS_END = frozenset({"state", "note"})
ABSENT: Any = object()


class Op(StrEnum):
    """What became of a value."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Difference(Struct, frozen=True):
    """One value that was added, removed or changed. ``pointer`` is a JSON pointer (RFC 6901)."""

    op: Op
    pointer: str
    before: Any = None
    after: Any = None


def document(row: Schedule) -> dict[str, Any]:
    """What users set of a schedule, by the names of the API."""
    return {
        "handler_id": row.handler_id,
        "job_method": row.job_method,
        "job_params": msgspec.json.decode(row.params),
        "trigger": msgspec.json.decode(row.trigger),
        "options": _decoded(row.options),
        "policies": _decoded(row.policies),
        "misfire_grace_s": row.misfire_grace_s,
        "state": row.state.value,
        "note": row.note,
        "paused_until": rfc3339(row.resume_us),
        "skips": [rfc3339(us) for us in skips_of(row.skips)],
    }


def changed_fields(old: Schedule, new: Schedule) -> list[str]:
    """The fields that the newer version changed, in the order in which they are shown."""
    before, after = document(old), document(new)
    changed = [name for name in before if before[name] != after[name]]
    return [name for name in changed if new.state not in _BY_ITSELF or name not in _OF_ITS_END]


def differences(old: Schedule, new: Schedule) -> list[Difference]:
    """Every value that differs. Objects are compared member by member, lists as a whole."""
    return list(_walk("", document(old), document(new)))


def _walk(pointer: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            step = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            yield from _walk(step, before.get(name, ABSENT), after.get(name, ABSENT))
    elif before is ABSENT:
        yield Difference(Op.ADDED, pointer, None, after)
    elif after is ABSENT:
        yield Difference(Op.REMOVED, pointer, before, None)
    elif type(before) is not type(after) or before != after:
        yield Difference(Op.CHANGED, pointer, before, after)


def _decoded(document: bytes | None) -> Any:
    return {} if document is None else msgspec.json.decode(document)
