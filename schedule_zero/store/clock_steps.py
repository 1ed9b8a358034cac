"""The wall clock was set (by NTP, by an operator): what waits for a length of time is moved along with it (C12).

Moments that somebody named stay what they are: nominal times, ``not_before``. What was reckoned from "now" and a length
is a length: the delay before a retry, the time within which something has to be started. In a database a length can
only be kept as the moment of its end, so that moment follows the clock. Else a clock that is set back by an hour holds
each retry for an hour more, and one that is set forward ends whatever waits with a ``queue_timeout_s``.

The writer looks at both clocks as a transaction begins, and moves in that transaction whatever earlier ones have left:
each row was reckoned by the clock of its own transaction. Where nothing is written, the dispatcher's tick looks
(``Store.look_at_clock``). Steps while no server runs are not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text, update

from schedule_zero.clock import Clock
from schedule_zero.model import State
from schedule_zero.store import tables

if TYPE_CHECKING:
    from schedule_zero.store.tx import Tx

log = structlog.get_logger(__name__)

# Less is a clock that is being slewed, or the time between reading one clock and the other.
LEAST_US = 1_000_000
# Two readings of the monotonic clock, around one of the wall clock, that are farther apart say nothing about it.
_CLOSE_S = 0.1

_E = tables.executions.c
# (Of a row that waits for a moment, the time to start it counts from that moment.)
_DEADLINES = (
    f"{tables.IS_EXPIRING} AND state <> '{State.SCHEDULED.value}'",
    f"state = '{State.RUNNING.value}' AND start_by_us IS NOT NULL",
)
_DELAYS = f"{tables.IS_TIMED} AND state = '{State.RETRY_SCHEDULED.value}'"


class ClockSteps:
    """How far the wall clock was ahead of the monotonic one when somebody looked last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_us = clock.wall_us() - round(clock.mono_s() * 1e6)
        self._pending_us = 0

    def follow(self, tx: Tx) -> None:
        """If the clock was set: move what waits, in ``tx``. ``committed`` says that this holds."""
        self._pending_us = self.step_us()
        if self._pending_us:
            move(tx, self._pending_us)

    def committed(self) -> int:
        """By how much (µs) the rows were moved in the transaction that is committed now; mostly 0."""
        moved_us, self._pending_us = self._pending_us, 0
        if moved_us:
            self._ahead_us += moved_us
            log.warning("clock_set", by_s=round(moved_us / 1e6, 3))
        return moved_us

    def step_us(self) -> int:
        """By how much (µs) it was set since the last transaction. From any thread."""
        before_s = self._clock.mono_s()
        wall_us = self._clock.wall_us()
        after_s = self._clock.mono_s()
        step_us = wall_us - round(before_s * 1e6) - self._ahead_us
        # The thread stood still between the two readings: the next transaction will tell.
        return step_us if abs(step_us) >= LEAST_US and after_s - before_s < _CLOSE_S else 0


def look(_tx: Tx, args: list[None]) -> list[None]:
    """A transaction in which nothing is done but what the clock asks for."""
    return args


def move(tx: Tx, by_us: int) -> None:
    """Whatever waits for a length of time waits for what is left of it: its moments are ``by_us`` later."""
    table = tables.executions
    tx.execute(update(table).where(text(_DELAYS)).values(not_before_us=_E.not_before_us + by_us))
    for which in _DEADLINES:
        tx.execute(update(table).where(text(which)).values(start_by_us=_E.start_by_us + by_us))
