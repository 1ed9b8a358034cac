"""Verbs on the logs of executions: read some lines, or look again and again at what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.errors import NotFound
from schedule_zero.model import Event, State
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import logs as store_logs

if TYPE_CHECKING:
    import asyncio

    from sqlalchemy import Connection

    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.dispatch.views import ProgressView
    from schedule_zero.store import Store


class LogView(Struct, kw_only=True):
    """Some lines of one attempt's log, and how that attempt and its execution stand."""

    execution_id: str
    state: State
    # 0: there is no attempt yet.
    attempt: int
    token: int
    found: store_logs.Found
    # No line will be added: the attempt is over, and all that it said is stored.
    complete: bool
    # The attempt has its outcome (its last lines may be on their way), and the one after it, if there is one.
    over: bool
    next_token: int | None
    progress: ProgressView | None

    @property
    def finished(self) -> bool:
        """Whether the execution is over."""
        return self.state in TERMINAL


class LogService:
    """Reads only: nodes write logs."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        store.on_commit(self._committed)

    async def read(self, execution_id: str, wanted: store_logs.Wanted, *, attempt: int | None = None) -> LogView:
        """Lines of an attempt: the one with the token of ``wanted``, or this number, or (neither) the newest.

        NotFound: there is no such execution, or it has no such attempt.
        """

        def look(conn: Connection) -> tuple[store_logs.Deliveries, int, store_logs.Found]:
            known = store_logs.deliveries(conn, execution_id)
            if known is None:
                raise NotFound(f"there is no execution {execution_id!r}")
            token = wanted.token
            if not token and attempt is not None:
                token = known.token_of(attempt) or 0
                if not token:
                    raise NotFound(f"execution {execution_id} has no attempt {attempt}")
            elif not token and known.attempts:
                token = known.attempts[-1][1]
            return known, token, store_logs.read(conn, execution_id, replace(wanted, token=token))

        known, token, found = await self._store.read(look)
        numbers = {its: number for number, its in known.attempts}
        if token and token not in numbers:
            raise NotFound(f"execution {execution_id} has no attempt with the token {token}")
        over = bool(token) and known.over(token)
        more = over and self._dispatcher.logs.missing(token, found.total)
        return LogView(
            execution_id=execution_id,
            state=known.state,
            attempt=numbers.get(token, 0),
            token=token,
            found=found,
            complete=found.complete or (over and not found.total and not more),
            over=over,
            next_token=next((its for _, its in known.attempts if its > token), None),
            progress=self._dispatcher.progress(execution_id),
        )

    async def first_error(self, execution_id: str, token: int) -> int | None:
        """Which line of an attempt's log is the first that looks like an error: by its level, or by what it says."""
        return await self._store.read(lambda conn: store_logs.first_error(conn, execution_id, token))

    def listening(self, execution_id: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set when there is more to read, or the execution became something else."""
        return self._dispatcher.logs.listening(execution_id)

    def _committed(self, events: Sequence[tuple[int, Event]]) -> None:
        logs = self._dispatcher.logs
        if logs.followed:
            for _, event in events:
                logs.wake(event.id)
