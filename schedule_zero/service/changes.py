"""The change log (to users: the audit log): look at it, and put into it what has no other write.

Everything else is recorded by the verbs of the store, with the change itself: hand them ``principal.actor``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from schedule_zero.config import HandlerRule
from schedule_zero.errors import InvalidField
from schedule_zero.rules.change_log import NOUNS, ChangeVerb, differing
from schedule_zero.service.specs import Principal
from schedule_zero.state_dir import REGISTRY
from schedule_zero.store import Page, Store
from schedule_zero.store import changes as store_changes
from schedule_zero.store.changes import Change, Entry, Filter

# Of an export, read at once.
EXPORT_ROWS = 500


class ChangeService:
    """Find, record."""

    def __init__(self, *, store: Store) -> None:
        self._store = store

    async def find(self, wanted: Filter) -> Page[Change]:
        """A page, newest first; it may be short and still have a cursor. InvalidField: there is no such noun."""
        _check_noun(wanted)
        return await self._store.read(lambda conn: store_changes.find(conn, wanted))

    def pages(self, wanted: Filter) -> AsyncGenerator[list[Change], None]:
        """All that there is, newest first, page by page. InvalidField at once, as ``find``."""
        _check_noun(wanted)
        return self._pages(replace(wanted, cursor=None, limit=EXPORT_ROWS))

    async def _pages(self, wanted: Filter) -> AsyncGenerator[list[Change], None]:
        while True:
            page = await self.find(wanted)
            yield page.rows
            if page.next_cursor is None:
                return
            wanted = replace(wanted, cursor=page.next_cursor)

    async def record(
        self,
        principal: Principal | None,
        verb: ChangeVerb,
        subject: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> None:
        """Put a change into the log that is no write of the store; None: the server did it. Never with a secret."""
        entry = Entry(verb=verb, subject=subject, before=before, after=after, note=note)
        await self._store.write(store_changes.add, entry, by=None if principal is None else principal.actor)

    def registry_reloaded(self, old: Mapping[str, HandlerRule], new: Mapping[str, HandlerRule]) -> None:
        """Record which handlers have other rules now, if any have. Nobody waits for it."""
        before, after = differing(_rules(old), _rules(new))
        if before or after:
            entry = Entry(
                verb=ChangeVerb.REGISTRY_RELOADED, subject=REGISTRY, before=before, after=after, note="SIGHUP"
            )
            self._store.submit(store_changes.add, entry, _told)


def _rules(rules: Mapping[str, HandlerRule]) -> dict[str, Any]:
    return {handler_id: to_builtins(rule) for handler_id, rule in rules.items()}


def _told(result: object) -> None:
    """The rules hold whether this could be stored or not (the server's log says that they were read, too)."""


def _check_noun(wanted: Filter) -> None:
    if wanted.noun is not None and wanted.noun not in NOUNS:
        raise InvalidField(f"expected one of {', '.join(NOUNS)}, got {wanted.noun[:100]!r}", pointer="/noun")
