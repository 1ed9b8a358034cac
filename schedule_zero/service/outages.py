"""When the server was not there, as far as its lives and the ledger tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedule_zero.rules.facts import Outage
from schedule_zero.store import fires, server_runs

if TYPE_CHECKING:
    from sqlalchemy import Connection

# So long after its start a server may still be reading what there is to fire.
STARTING_US = 10_000_000


def outage_at(conn: Connection, us: int) -> Outage | None:
    """The time without a server that a moment lies in, if it is known."""
    last, later = server_runs.around(conn, us)
    if last is None or later is None:
        return None
    ended_us = last.stopped_us
    about = ended_us is None
    if ended_us is None:
        # It was killed some time after it was last seen, and after it last decided anything.
        decided_us = fires.last_decided(conn, later.started_us) or 0
        ended_us = max(last.alive_us, last.started_us, decided_us)
    if us < ended_us:
        return None
    return Outage(from_us=ended_us, to_us=later.started_us, about=about)


def started_before(conn: Connection, us: int) -> int | None:
    """When the server started, if that was shortly before a moment."""
    last, _ = server_runs.around(conn, us)
    return last.started_us if last is not None and us - last.started_us < STARTING_US else None
