"""The newest executions that failed for good, with what they said: enough to say what goes wrong, and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, case, func, select, text

from schedule_zero.model import JobError, State
from schedule_zero.store import tables
from schedule_zero.store.execution_lists import BAD, CREATED_SLACK_US
from schedule_zero.store.statements import Query, Seek

if TYPE_CHECKING:
    from sqlalchemy import Connection

E = tables.executions.c
# Of what an execution said, if it is longer, is not looked at here: its group is known while it is a dead letter.
MOST_BYTES = 20_000
_ERROR = case((func.length(E.error) <= MOST_BYTES, E.error)).label("said")
_NEWEST = Query(
    select(E.seq, E.id, E.handler_id, E.job_method, E.created_us, E.finished_us, E.stored_us, E.dead_letter, _ERROR)
    .where(E.state == bindparam("state"), text(tables.NOT_COMPLETED), E.seq > bindparam("above"))
    .order_by(E.seq.desc())
    .limit(bindparam("most"))
)
_CREATED = Seek(tables.executions, "created_us")
_decode = msgspec.json.Decoder(JobError).decode


class Failure(Struct, frozen=True, kw_only=True):
    """One execution that failed."""

    id: str
    handler_id: str
    job_method: str
    state: State
    ended_us: int
    # Its group, while nobody has dealt with it.
    dead_letter: str | None
    error: JobError | None


def newest(conn: Connection, since_us: int, most: int) -> tuple[list[Failure], bool]:
    """Those that ended since a moment, the newest by creation first, ``most`` at most; and whether that is all.

    What was created long before the moment, and ended after it, may be left out.
    """
    first = _CREATED.first(conn, since_us - CREATED_SLACK_US)
    if first is None:
        return [], True
    found: list[tuple[int, Failure]] = []
    for state in BAD:
        for seq, id_, handler_id, method, created_us, finished_us, stored_us, letter, said in _NEWEST.rows(
            conn, state=state.value, above=first - 1, most=most + 1
        ):
            ended_us = finished_us or stored_us or created_us
            if ended_us < since_us:
                continue
            failure = Failure(
                id=id_,
                handler_id=handler_id,
                job_method=method,
                state=state,
                ended_us=ended_us,
                dead_letter=letter,
                error=None if said is None else _decode(said),
            )
            found.append((seq, failure))
    found.sort(key=lambda pair: -pair[0])
    return [failure for _, failure in found[:most]], len(found) <= most
