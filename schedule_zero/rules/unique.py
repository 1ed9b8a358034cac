"""Whether an execution keeps others with its ``unique_key`` out, and what becomes of one that comes all the same. Pure.

It does so while it waits; unless its ``unique_while`` is ``pending``, also while it runs; and with ``unique_for_s``,
once it has completed, until so long after its creation. One that failed, was cancelled or came too late keeps nobody
out: its work was not done. That is for the holder's options to say; what becomes of the newcomer is for its own.

One that waits for another attempt waits like any other. So two may wait with one key: the second came while the first
was running under ``pending``, and then the first failed. Both are run.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from schedule_zero.job_options import OnDuplicate, UniqueWhile
from schedule_zero.model import State
from schedule_zero.rules.options import options_of
from schedule_zero.rules.states import TERMINAL

# In these nothing of it is under way, so that another may take its place.
WAITING = frozenset(State) - TERMINAL - {State.RUNNING}


class Holder(Struct):
    """An execution with a unique key, as far as that goes."""

    id: str
    state: State
    created_us: int
    # ``Execution.options``.
    options: bytes | None
    # Those of one group (a broadcast, a fan-out) are one piece of work: they don't keep each other out.
    group_id: str | None = None


class Claim(Struct, frozen=True):
    """What becomes of a newcomer: it is born, perhaps in place of others; or the holder stays."""

    # None: it is born.
    holder: str | None = None
    # With a holder: it is refused, rather than joined to it.
    refused: bool = False
    # Cancelled for it.
    replaces: tuple[str, ...] = ()


FREE = Claim()


def keeps_out(holder: Holder, now_us: int) -> bool:
    """Whether nobody else may have its key now."""
    if holder.state in WAITING:
        return True
    options = options_of(holder.options)
    if options.unique_for_s is not None and holder.state in (State.RUNNING, State.COMPLETED):
        if now_us < holder.created_us + options.unique_for_s * 1e6:
            return True
        if holder.state is State.COMPLETED:
            return False
    return holder.state is State.RUNNING and options.unique_while is UniqueWhile.OPEN


def claim(newcomer: Holder, others: Sequence[Holder], now_us: int) -> Claim:
    """What becomes of ``newcomer``, where ``others`` have its key, or had it; the newest last."""
    in_the_way = [
        other
        for other in others
        if (newcomer.group_id is None or other.group_id != newcomer.group_id) and keeps_out(other, now_us)
    ]
    if not in_the_way:
        return FREE
    on_duplicate = options_of(newcomer.options).on_duplicate
    if on_duplicate is OnDuplicate.REPLACE and all(other.state in WAITING for other in in_the_way):
        return Claim(replaces=tuple(other.id for other in in_the_way))
    return Claim(holder=in_the_way[-1].id, refused=on_duplicate is not OnDuplicate.RETURN_EXISTING)
