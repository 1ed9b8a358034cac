"""Verbs on saved views: queries of a page that are kept by name, for everybody."""

from __future__ import annotations

import structlog

from schedule_zero.clock import Clock
from schedule_zero.errors import InvalidSearch
from schedule_zero.model import SavedView, new_id
from schedule_zero.rules.search import said
from schedule_zero.rules.search_parse import parse
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store
from schedule_zero.store import saved_views as store_views

log = structlog.get_logger(__name__)

# The page whose queries are searches.
EXECUTIONS = "executions"


class ViewService:
    """List, save, delete, take a delete back."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def find(self, page: str | None = None) -> list[SavedView]:
        """Those of a page, or of all, by name."""
        return await self._store.read(lambda conn: store_views.find(conn, page))

    async def save(self, principal: Principal, page: str, name: str, query: str) -> SavedView:
        """Keep a query by a name; one that has it on that page is replaced. InvalidSearch, Conflict: too many."""
        if page == EXECUTIONS:
            try:
                query = said(parse(query))
            except InvalidSearch as error:
                error.pointer = "/query"
                raise
        view = SavedView(
            id=new_id(), page=page, name=name, query=query, created_us=self._clock.wall_us(), by=principal.name
        )
        saved: SavedView = await self._store.write(store_views.save, view, by=principal.actor)
        log.info("view_saved", view_id=saved.id, page=page, by=principal.name)
        return saved

    async def delete(self, principal: Principal, view_id: str) -> SavedView:
        """Forget one; it as it was. NotFound."""
        deleted: SavedView = await self._store.write(store_views.remove, view_id, by=principal.actor)
        log.info("view_deleted", view_id=view_id, page=deleted.page, by=principal.name)
        return deleted

    async def restore(self, principal: Principal, view_id: str) -> SavedView:
        """Keep a deleted one again, as it was. NotFound, WrongState: it is not deleted, Conflict: its name is taken."""
        wanted = SavedView(id=view_id, page="", name="", query="", created_us=self._clock.wall_us(), by=principal.name)
        restored: SavedView = await self._store.write(store_views.restore, wanted, by=principal.actor)
        log.info("view_saved", view_id=view_id, page=restored.page, by=principal.name)
        return restored
