"""Back-pressure: how many executions may be open (not over), in all and of one handler, and whether more are accepted.

Accepted means stored: nothing that was acknowledged is ever dropped for it, and what waits for another attempt, or
was lost with its node, goes on whatever the limits say. A submission above a limit is refused as a whole, with the
time after which it is worth another try; a fire is skipped, and the ledger says so; a backfill waits.

What is being committed counts as well (``take`` … ``settled``), so that many at once don't get past a limit together.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from schedule_zero.clock import Clock
from schedule_zero.config import HandlerRule
from schedule_zero.errors import BacklogFull, TooLarge
from schedule_zero.model import Execution
from schedule_zero.store.tally import Tally

# How far back the rate at which executions end is measured, and how often it is looked at.
RATE_S = 30.0
LOOK_S = 1.0
# Retry-After where nothing ends, and at the most.
LONGEST_S = 60


class Backlog:
    """Only the loop's thread may call it. One ``settled`` for each row that was admitted, whatever became of it."""

    def __init__(self, tally: Tally, *, limit: int, rules: Mapping[str, HandlerRule], clock: Clock) -> None:
        self._tally = tally
        self._clock = clock
        self.limit = limit
        self._own = {id_: rule.limits.backlog for id_, rule in rules.items() if rule.limits.backlog is not None}
        # Being committed.
        self._taken: dict[str, int] = {}
        self._taken_total = 0
        # (when, how many had ended by then).
        self._looks: deque[tuple[float, int]] = deque()
        # Executions whose submission was refused; fires that were skipped.
        self.refused = 0
        self.skipped = 0

    @property
    def open(self) -> int:
        """Executions that are not over."""
        return self._tally.total

    @property
    def full(self) -> list[str]:
        """The limits that are reached: ``all``, or handlers."""
        found = ["all"] if self._room(None) <= 0 else []
        return found + [id_ for id_ in sorted(self._own) if self._room(id_) <= 0]

    def room(self, handler_id: str) -> int:
        """How many more of a handler would be accepted now."""
        room = self._room(None)
        return min(room, self._room(handler_id)) if handler_id in self._own else room

    def _room(self, handler_id: str | None) -> int:
        if handler_id is None:
            return self.limit - self._tally.total - self._taken_total
        return self._own[handler_id] - self._tally.open.get(handler_id, 0) - self._taken.get(handler_id, 0)

    def why_not(self, rows: Sequence[Execution]) -> BacklogFull | TooLarge | None:
        """Why these can't be accepted, all of them; None: they can."""
        if len(rows) > self.limit:
            return TooLarge(f"at most {self.limit} executions may be open, got {len(rows)}", pointer="/executions")
        if self._room(None) < len(rows):
            return self._full(f"{self.open} executions are not over, at most {self.limit} may be", len(rows), None)
        if self._own:
            for handler_id, n in Counter(row.handler_id for row in rows).items():
                own = self._own.get(handler_id)
                if own is None or self._room(handler_id) >= n:
                    continue
                if n > own:
                    said = f"at most {own} executions of handler {handler_id!r} may be open, got {n}"
                    return TooLarge(said, pointer="/executions")
                open_ = self._tally.open.get(handler_id, 0)
                said = f"{open_} executions of handler {handler_id!r} are not over, at most {own} may be"
                return self._full(said, n, handler_id)
        return None

    def _full(self, said: str, wanted: int, handler_id: str | None) -> BacklogFull:
        wait_s = self.retry_after_s(wanted - self._room(handler_id))
        return BacklogFull(f"{said}; nothing was accepted: try again in {wait_s} s", retry_after_s=wait_s)

    def take(self, rows: Sequence[Execution]) -> None:
        """They are about to be committed."""
        self._taken_total += len(rows)
        if self._own:
            for row in rows:
                self._taken[row.handler_id] = self._taken.get(row.handler_id, 0) + 1

    def admit(self, handler_id: str) -> bool:
        """Room for one more of this handler, and take it."""
        if self.limit - self._tally.total - self._taken_total <= 0:
            return False
        if self._own:
            if handler_id in self._own and self._room(handler_id) <= 0:
                return False
            self._taken[handler_id] = self._taken.get(handler_id, 0) + 1
        self._taken_total += 1
        return True

    def settled(self, rows: Sequence[Execution]) -> None:
        """They were committed, and are counted there; or they were not."""
        self._taken_total -= len(rows)
        if self._own:
            for row in rows:
                self._taken[row.handler_id] -= 1

    # --- how fast it drains -------------------------------------------------------------------------

    def look(self) -> None:
        """Call this about once a second."""
        now_s = self._clock.mono_s()
        self._looks.append((now_s, self._tally.ended))
        while self._looks[0][0] < now_s - RATE_S:
            self._looks.popleft()

    def retry_after_s(self, too_many: int) -> int:
        """Seconds until so many will have ended, at the rate of the last half minute."""
        now_s = self._clock.mono_s()
        if not self._looks or now_s - self._looks[0][0] < LOOK_S:
            # Just started: nobody knows.
            return 5
        then_s, ended = self._looks[0]
        rate = (self._tally.ended - ended) / (now_s - then_s)
        if rate <= 0:
            return LONGEST_S
        return min(LONGEST_S, max(1, math.ceil(too_many / rate)))
