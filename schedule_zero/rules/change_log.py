"""The change log: who changed what, and what it was before. Pure: the words, and how much of a document is kept.

Users know it as the *audit log*. (An *audit* in this code is that of a schedule's ledger.) It has one row for each
change that somebody asked for, and for what the server did by itself to nodes and schedules; never one for a
submission or a fire, of which there are too many, and which are rows of their own. What each verb means stands in
docs/reference/audit-log.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw, Struct

# Of ``before``, and of ``after``; larger values are left out, and named.
MAX_BYTES = 8 << 10
# Names and ids that are listed in one row; ``count`` says how many there were.
MAX_LISTED = 100
MAX_NAMED = 20
MAX_NOTE = 500
OMITTED = "omitted"

_encode = msgspec.json.Encoder().encode


class ChangeVerb(StrEnum):
    """What was done, as ``noun.verb``. Where the journal has an event for it, it is the same word."""

    SCHEDULE_CREATED = "schedule.created"
    SCHEDULE_UPDATED = "schedule.updated"
    SCHEDULE_DELETED = "schedule.deleted"
    SCHEDULE_PAUSED = "schedule.paused"
    SCHEDULE_RESUMED = "schedule.resumed"
    SCHEDULE_SKIPS_SET = "schedule.skips_set"
    SCHEDULE_QUARANTINED = "schedule.quarantined"
    SCHEDULE_RUN_NOW = "schedule.run_now"
    SCHEDULE_BACKFILLED = "schedule.backfilled"
    SCHEDULE_BACKFILL_CANCELLED = "schedule.backfill_cancelled"
    SCHEDULES_FROZEN = "schedules.frozen"
    SCHEDULES_THAWED = "schedules.thawed"
    CALENDAR_CREATED = "calendar.created"
    CALENDAR_UPDATED = "calendar.updated"
    CALENDAR_DELETED = "calendar.deleted"
    EXECUTION_CANCELLED = "execution.cancelled"
    EXECUTION_RETRIED = "execution.retried"
    EXECUTION_CLEARED = "execution.cleared"
    BATCH_CREATED = "batch.created"
    BATCH_CANCELLED = "batch.cancelled"
    VIEW_SAVED = "view.saved"
    VIEW_DELETED = "view.deleted"
    GROUP_CANCELLED = "group.cancelled"
    DEAD_LETTERS_REQUEUED = "dead_letters.requeued"
    DEAD_LETTERS_DISCARDED = "dead_letters.discarded"
    DEAD_LETTERS_RESTORED = "dead_letters.restored"
    REQUEUE_CREATED = "requeue.created"
    REQUEUE_CANCELLED = "requeue.cancelled"
    NODE_CORDONED = "node.cordoned"
    NODE_DRAINED = "node.drained"
    NODE_QUARANTINED = "node.quarantined"
    NODE_RELEASED = "node.released"
    TOKEN_CREATED = "token.created"  # noqa: S105 - a verb
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - a verb
    SESSION_LINK_CREATED = "session.link_created"
    SESSION_CREATED = "session.created"
    SESSION_ENDED = "session.ended"
    NODE_KEY_CREATED = "node_key.created"
    NODE_KEY_REVOKED = "node_key.revoked"
    REGISTRY_RELOADED = "registry.reloaded"

    @property
    def noun(self) -> str:
        """What it was done to."""
        return self.value.partition(".")[0]


NOUNS = tuple(dict.fromkeys(verb.noun for verb in ChangeVerb))


class Deed(Struct, frozen=True, kw_only=True):
    """What an operation is recorded as whose verb in the store serves several ends: a cancel, an insert, a clearing."""

    verb: ChangeVerb
    subject: str
    # Done in several transactions, whose counts add up in one row. ``subject`` is then an id that nothing else has.
    in_steps: bool = False
    # What was asked for, beside the subject: a filter, say.
    asked: dict[str, Any] = {}


class Actor(Struct, frozen=True, kw_only=True):
    """Who wants a change, and with which request. What is not known is empty."""

    name: str
    token_id: str = ""
    # Of the peer: an IP address.
    address: str = ""
    request_id: str = ""
    # Why, if the change itself has no word for it.
    note: str = ""
    deed: Deed | None = None


# No token has an empty id: nobody can be taken for the server.
SERVER = Actor(name="server")


def bounded(fields: Mapping[str, Any] | None) -> str:
    """A document as JSON of at most ``MAX_BYTES``, "" for None. The largest values go first; ``omitted`` names them."""
    if fields is None:
        return ""
    text = _encode(fields)
    if len(text) <= MAX_BYTES:
        return text.decode()
    sizes = {name: len(_encode(name)) + len(_encode(value)) + 2 for name, value in fields.items()}
    left = sum(sizes.values())
    kept = dict(fields)
    omitted: list[str] = []
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        # Room for their names.
        if left <= MAX_BYTES - 4096:
            break
        omitted.append(name)
        left -= sizes[name]
        del kept[name]
    return _encode({**kept, OMITTED: [name[:128] for name in omitted[:MAX_NAMED]]}).decode()


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of two documents is not the same in both; a name that only one has is not in the other."""
    # As JSON: 1 is not true.
    changed = [
        name
        for name in {**before, **after}
        if name not in before or name not in after or _encode(before[name]) != _encode(after[name])
    ]
    return (
        {name: before[name] for name in changed if name in before},
        {name: after[name] for name in changed if name in after},
    )


def listed(ids: Sequence[str]) -> list[str]:
    """The first of many ids."""
    return list(ids[:MAX_LISTED])


def embedded(document: bytes | None) -> Raw | None:
    """A stored JSON document, to stand in another one."""
    return None if document is None else Raw(document)
