"""Whether a loss had a cause, and whether its lease was waited for.

A node may be lost for what was done to it, to the network or to the machine; for what one of its own jobs did to it;
and for an outage of the server that lasted too long for its attempts to be re-attached. Everything else is a living
node that was taken for dead.
"""

from __future__ import annotations

from msgspec.structs import replace

from schedule_zero.testbed.history import SERVER, Fault, FaultKind
from schedule_zero.testbed.matching import DEADLY, ONLINE, Matched, Run, node

# Faults of the server in which it is away, and comes back to attempts that still run.
OUTAGES = frozenset({FaultKind.KILL, FaultKind.STOP, FaultKind.DRAIN})
# Those of a node after which it can't be heard, at once.
SILENT = frozenset({FaultKind.KILL, FaultKind.STOP})
# With these a node's result may not have come to the outbox, or is not there any more; or another one has its place.
SPOILING = frozenset({FaultKind.STOP, FaultKind.LOAD, FaultKind.DISK, FaultKind.CORRUPT, FaultKind.DUPLICATE})
# With these the server may not have heard a node for longer than it was silent.
DEAF = frozenset({FaultKind.STOP, FaultKind.LOAD})
# After so long a result is in the outbox: it takes a few milliseconds.
KEPT_S = 1.0
# What a partition is called in which the node is still heard.
TO_NODE = "cut_down"
# A connection of which one end does not know that it is gone.
HALF_OPEN = "half_open"


def explained(m: Matched, node_id: str | None, from_us: int, to_us: int) -> bool:
    """Whether something between the two accounts for the loss of a node.

    A cut of its connection does also where it was mended a moment before: what it held back comes when TCP sends it
    again, and until then the node goes on being silent.
    """
    mended_us = from_us - round(m.terms.lost_s * 1e6)
    for fault in m.trouble.touching(mended_us, to_us, SERVER, node(node_id)):
        if fault.end_us is not None and fault.end_us < from_us and fault.fault is not FaultKind.PARTITION:
            continue
        if fault.target == SERVER and fault.fault in OUTAGES and _short(m, fault):
            continue
        if fault.target == SERVER and fault.fault is FaultKind.CLOCK:
            # Leases go by the monotonic clock.
            continue
        return True
    return _by_itself(m, node_id, from_us, to_us)


def outage_only(m: Matched, node_id: str | None, from_us: int, to_us: int) -> bool:
    """Whether all that happened was that the server was away for a moment (C11)."""
    if explained(m, node_id, from_us, to_us):
        return False
    return m.trouble.any(from_us, to_us, SERVER, kinds=OUTAGES)


def _short(m: Matched, fault: Fault) -> bool:
    """An outage that is over long before a lease would be: half of one, for the node to find its way back."""
    return fault.end_us is not None and fault.end_us - fault.begin_us < m.terms.lease_s * 5e5


def _by_itself(m: Matched, node_id: str | None, from_us: int, to_us: int) -> bool:
    """Whether a job brought its own node down, or to silence."""
    for run in m.deaths.get(node_id or "", ()):
        # (It may have begun before the attempt that it took with it.)
        if run.start_us > to_us:
            continue
        if run.end_us is not None:
            # It did not kill it after all; but one that lets nobody else have a turn keeps it silent for so long.
            if run.action not in DEADLY and run.end_us >= from_us:
                return True
            continue
        reborn_us = m.reborn_us(run)
        if reborn_us is None or reborn_us >= from_us:
            return True
    return False


def too_soon(m: Matched, node_id: str | None, from_us: int, next_us: int) -> float | None:
    """How many seconds after its node was last heard an attempt was run again, if that is within the lease (C10).

    Known where the node was killed or stopped: it can't have been heard later, and was heard a heartbeat before.
    Whoever takes its place proves its death, and nothing is waited for then.
    """
    faults = [fault for fault in m.trouble.touching(from_us, next_us, node(node_id)) if _silences(fault)]
    silences = [fault for fault in faults if fault.fault in SILENT and (fault.end_us is None or fault.end_us > next_us)]
    # It may have been replaced before; what is done to its successor is another matter.
    replaced = any(_replaced(m, node_id, fault, next_us) for fault in faults if fault.fault is FaultKind.KILL)
    if not silences or replaced or _by_itself(m, node_id, from_us, min(fault.begin_us for fault in silences)):
        return None
    # (The lease may have run out in a silence before this one.)
    waited_us = max(end_us - begin_us for begin_us, end_us in _unheard(m, faults, next_us))
    needed_us = round((m.terms.lease_s + m.terms.lease_margin_s) * 1e6) - 2 * m.margin_us
    return waited_us / 1e6 if waited_us < needed_us else None


def kept_s(m: Matched, run: Run, lost_us: int | None) -> float | None:
    """How long a run had been over when its node died, if its result was in the outbox then, and was not heard (C9).

    What is lost before its lease can be over is lost because the next process of its node is there. That one has
    its predecessor's outbox, and tells what is in it first.
    """
    target = node(run.node_id)
    if run.end_us is None or lost_us is None or m.stepped(SERVER) or m.stepped(target):
        return None
    spoilt = m.trouble.any(run.end_us, lost_us, target, kinds=SPOILING)
    kills = [] if spoilt or m.trouble.any(run.end_us, lost_us, SERVER, kinds=DEAF) else _kills(m, run, lost_us)
    if not kills:
        return None
    killed_us = min(kill.begin_us for kill in kills)
    after_s = (killed_us - run.end_us) / 1e6
    # (A cut may hold back what was sent for a while after it is mended.)
    early_us = run.end_us - round(m.terms.lost_s * 1e6)
    silences = [_lingering(m, one) for one in m.trouble.touching(early_us, lost_us, target) if _silences(one)]
    unheard = _unheard(m, silences + kills, lost_us)
    silent_us = next(begin_us for begin_us, end_us in unheard if begin_us <= killed_us <= end_us)
    # (What died again before anybody heard of it has not been heard since.)
    if after_s < KEPT_S or (lost_us - silent_us) / 1e6 > m.terms.lease_s - m.terms.heartbeat_s:
        return None
    return None if _by_itself(m, run.node_id, run.end_us, killed_us - 1) else after_s


def _kills(m: Matched, run: Run, until_us: int) -> list[Fault]:
    """The deaths of a run's node after its end: those that somebody caused, and those by its own jobs."""
    target, end_us = node(run.node_id), run.end_us or 0
    kills = m.trouble.touching(end_us, until_us, target, kinds=frozenset({FaultKind.KILL}))
    # (One that had begun before is of the process before, and was seen to be over late.)
    found = [kill for kill in kills if kill.begin_us >= end_us]
    return found + [
        Fault(fault=FaultKind.KILL, target=target, begin_us=other.start_us)
        for other in m.deaths.get(run.node_id, ())
        if other.action in DEADLY and other.end_us is None and end_us <= other.start_us <= until_us
    ]


def _lingering(m: Matched, fault: Fault) -> Fault:
    if fault.end_us is None or fault.fault is not FaultKind.PARTITION:
        return fault
    return replace(fault, end_us=fault.end_us + round(m.terms.lost_s * 1e6))


def _silences(fault: Fault) -> bool:
    """Whether the node may not be heard while it lasts: nor can one that is cut off, before it is killed."""
    if fault.fault is FaultKind.PARTITION:
        return fault.detail != TO_NODE
    return fault.fault in SILENT or fault.detail == HALF_OPEN


def _replaced(m: Matched, node_id: str | None, kill: Fault, by_us: int) -> bool:
    """Whether the next process of a node that was killed was there by then: by the server's word, or that of the run.

    (The run may have noticed later than the server.)
    """
    if kill.end_us is not None and kill.end_us <= by_us:
        return True
    since_us = kill.begin_us + m.margin_us
    return any(event.kind == ONLINE and since_us < event.at_us <= by_us for event in m.lives.get(node_id or "", ()))


def _unheard(m: Matched, faults: list[Fault], until_us: int) -> list[tuple[int, int]]:
    """From when to when a node can't have been heard, or was only within a heartbeat: that may have been too short."""
    heartbeat_us = round(m.terms.heartbeat_s * 1e6)
    found: list[tuple[int, int]] = []
    for fault in sorted(faults, key=lambda fault: fault.begin_us):
        end_us = until_us if fault.end_us is None else min(fault.end_us, until_us)
        if found and fault.begin_us - found[-1][1] <= heartbeat_us:
            found[-1] = found[-1][0], max(end_us, found[-1][1])
        else:
            found.append((fault.begin_us - heartbeat_us, end_us))
    return found
