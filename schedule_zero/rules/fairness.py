"""Whose turn it is on a node that serves several handlers. Pure.

Priority counts first, then fairness. A handler's *level* is the priority of what it would start next, and one step more
for each minute that it has been waiting for a turn: since its last one on this node, or since that execution waits,
whichever is later. So

* a backlog gives no claim: after a turn its handler stands where a fresh execution of another handler stands;
* of two with the same level the one goes first that holds less of the node, then the one whose last turn is longer
  ago: equal priorities share a node equally, whatever their backlogs and however long their jobs are;
* nothing starves: a handler that is n steps less important gets a turn at the latest n + 1 minutes after its last,
  beside handlers that are always busy.

(Within a handler the order is ``aged_us``: there each minute counts for each execution.)
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from schedule_zero.rules.options import AGEING_US


class Claim(Struct, frozen=True):
    """A handler that has something to start."""

    # Of what it would start next.
    priority: int
    waits_since_us: int
    # When it last had a turn on this node, and which of all turns that was; 0: never.
    served_us: int = 0
    turn: int = 0
    # How much of the node it holds.
    held: int = 0


def level(claim: Claim, now_us: int) -> int:
    waited_us = now_us - max(claim.waits_since_us, claim.served_us)
    return claim.priority + max(waited_us, 0) // AGEING_US


def fairest(claims: Iterable[Claim], now_us: int) -> int:
    """The position of the one whose turn it is; there is at least one."""
    ranked = [(-level(claim, now_us), claim.held, claim.turn, index) for index, claim in enumerate(claims)]
    return min(ranked)[3]
