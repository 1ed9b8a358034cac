"""Fires that are groups: a schedule whose policies say ``broadcast`` or ``shards``.

The ledger's row of such a fire names the *group* as what ran; the row in ``execution_groups`` is the parent. It is no
execution, so no table of transitions, no window and no dispatcher has to know of it: there is nothing that could be
sent to a node by mistake. One nominal time is one row and counts once, however many members there are. The group is
``running`` from the fire's transaction on, and takes its one outcome in the transaction of the last member's end.

What can go wrong, and what then holds:

* *Killed before the commit*: neither row, group nor member exists, and the fire is still due. It is decided again,
  once, and asks again which nodes there are.
* *Killed after the commit*: row, group and all members exist, for they are one transaction. Members are ordinary
  executions, which survive as such. Each member of a broadcast is pinned to its node by its lane, and the row's
  ``detail`` names those chosen: who takes part is never decided twice.
* *Just started, and nodes are not back yet*: a broadcast would go past them. It waits for those that were connected
  when the last server ended, for a lease at most; the fire keeps its nominal time (``Rounds``).
* *No node matches a broadcast*: the fire is skipped (``no_node``) with the reason as its detail. It isn't tried again.
* *Overlap*: one group counts as one execution that is open until the group ends. Members of one that has to wait are
  born blocked, and are let go together. ``replace_pending`` leaves a group alone of which any member has started.
* *Backlog*: a group fits as a whole, or its fire is skipped (``backpressure``).
* *A unique key*, which a method may have got after the schedule was written: members of one group don't shut one
  another out, and if somebody else has the key, the fire is skipped as a whole (``duplicate``).
* *Cancel* of the group ends its open members; cancelling or retrying one member is that member's affair, as in every
  group. ``max_failures`` and a fixed delay look at groups, not members. A backfill of such a schedule is refused: its
  executions have its own id as their ``group_id``.
* *Pruning* takes members, and the group after the last; the ledger's row stays and then names what is not stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from schedule_zero.rules.birth import pinned
from schedule_zero.rules.grouping import BROADCAST_QUEUE_S, shard_text
from schedule_zero.rules.options import options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from schedule_zero.job_options import JobOptions
    from schedule_zero.model import Execution, LaneKey

# So many nodes are named in the ledger's row.
NAMED_NODES = 20


def shards_of(make: Callable[[], Execution], count: int) -> tuple[list[Execution], str]:
    """The parts of one fire, and what its row says of them."""
    rows = [make() for _ in range(count)]
    for index, row in enumerate(rows):
        row.shard = shard_text(index, count)
    return rows, f"shards: {count}"


def broadcast_of(
    make: Callable[[JobOptions], Execution], options: JobOptions, takers: Callable[[LaneKey], list[str]]
) -> tuple[list[Execution], str, LaneKey]:
    """One for each node that matches now (perhaps none), what the row says of them, and the lane that was asked for."""
    first = make(options)
    if options_of(first.options).queue_timeout_s is None:
        options = replace(options, queue_timeout_s=BROADCAST_QUEUE_S)
    key = (first.handler_id, first.job_method, first.lane)
    node_ids = takers(key)
    rows = [make(options) for _ in node_ids]
    for row, node_id in zip(rows, node_ids, strict=True):
        row.lane = pinned(row, node_id)
    more = f" and {len(node_ids) - NAMED_NODES} more" if len(node_ids) > NAMED_NODES else ""
    return rows, f"broadcast: {', '.join(node_ids[:NAMED_NODES])}{more}", key
