"""Which executions have been kept long enough. Pure.

An execution that is over is deleted when it is older than its state is kept, or when there are enough newer ones in
that state. A schedule may say otherwise: its own age then takes the place of the server's, and its own number counts
beside it. Kept in any case is what somebody still has to deal with (a dead letter), and what a schedule that is paused
after so many failures in a row has to look back on.
"""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.model import Policies, State
from schedule_zero.rules.states import TERMINAL

OVER = frozenset(state.value for state in TERMINAL)
# Those that count where failures in a row are counted.
TELLING = OVER - {State.CANCELLED.value, State.MISFIRED.value}


class Keep(Struct, frozen=True, kw_only=True):
    """What the policies of a schedule say about its old executions."""

    keep_us: int | None = None
    keep_last: int | None = None
    # Its newest so many are looked at when one fails.
    max_failures: int | None = None


class Past(Struct, array_like=True):
    """An execution, as far as this is about it."""

    seq: int
    state: str
    schedule_id: str | None
    created_us: int
    stored_us: int | None
    # 1: a dead letter that waits.
    waits: int
    # Of its logs and its large results.
    size: int = 0


class Bounds(Struct, frozen=True, kw_only=True):
    """What is too old, and what is too many: recorded before the one, or with a ``seq`` below the other."""

    now_us: int
    before_us: int | None = None
    below_seq: int = 0

    def reached(self, row: Past) -> bool:
        """Whether all from this one on are young enough and few enough: nothing is recorded before it is created.

        A row from the future says nothing about the next ones: the clock was ahead then, and was set right.
        """
        young = self.before_us is None or self.before_us <= row.created_us <= self.now_us
        return young and row.seq >= self.below_seq

    def takes(self, row: Past) -> bool:
        """Whether this one is too old, or one of too many."""
        if row.seq < self.below_seq:
            return True
        recorded_us = row.created_us if row.stored_us is None else row.stored_us
        return self.before_us is not None and recorded_us < self.before_us


def keep_of(policies: Policies) -> Keep | None:
    """None: they say nothing about it."""
    if policies.keep_s is None and policies.keep_last is None and policies.max_failures is None:
        return None
    return Keep(
        keep_us=None if policies.keep_s is None else round(policies.keep_s * 1e6),
        keep_last=policies.keep_last,
        # A run in parts is as many executions.
        max_failures=None if policies.max_failures is None else policies.max_failures * (policies.shards or 1),
    )


def may_go(row: Past, *, keep_letters: bool) -> bool:
    """Whether anything may delete it."""
    return row.state in OVER and not (row.waits and keep_letters)


def has_own_age(keep: Keep | None) -> bool:
    """Whether the server's bounds are not meant for a schedule's executions."""
    return keep is not None and keep.keep_us is not None
