"""Peers that misbehave: counted, told of in bounded log lines, and ignored when it is too much (C17)."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from schedule_zero.clock import Clock
from schedule_zero.dispatch.views import DispatchStats

log = structlog.get_logger(__name__)

# Bad messages after which a peer is ignored.
PATIENCE = 20
# At most one line in this time, however many come.
QUIET_S = 1.0
# So many peers are remembered; a stranger may invent as many as it likes.
MAX_PEERS = 10_000
# A node that wants another session opens another socket. Each HELLO may cost a commit and lines of the log: more
# than so many on one connection are bad messages.
HELLOS = 20
# Lines about denied nodes: so many at once, then one in QUIET_S.
DENIED_LINES = 20


class Peers:
    """Who has sent what it should not, by routing id."""

    def __init__(self, stats: DispatchStats, clock: Clock, *, expel: Callable[[bytes], None]) -> None:
        self._expel = expel
        self._stats = stats
        self._clock = clock
        self._bad: dict[bytes, int] = {}
        self._hellos: dict[bytes, int] = {}
        self.ignored: dict[bytes, None] = {}
        self._spoke_s = -QUIET_S
        self._unsaid = 0
        self._denied_lines = float(DENIED_LINES)
        self._denied_s = 0.0
        self._denied_unsaid = 0

    def count_hello(self, peer: bytes) -> bool:
        """One more HELLO from ``peer``; whether that is too many."""
        return _count(self._hellos, peer) > HELLOS

    def denied(self, node_id: str, code: str, reason: str) -> None:
        """A HELLO was denied. Who repeats it all the time does not fill the log."""
        self._stats.nodes_denied += 1
        now_s = self._clock.mono_s()
        self._denied_lines = min(DENIED_LINES, self._denied_lines + (now_s - self._denied_s) / QUIET_S)
        self._denied_s = now_s
        if self._denied_lines < 1:
            self._denied_unsaid += 1
            return
        self._denied_lines -= 1
        log.warning("node_denied", node_id=node_id, code=code, reason=reason, not_logged=self._denied_unsaid)
        self._denied_unsaid = 0

    def count_bad(self, peer: bytes, reason: str, *, node_id: str | None = None) -> bool:
        """One more from ``peer``; whether that is too many."""
        count = _count(self._bad, peer)
        now_s = self._clock.mono_s()
        if now_s - self._spoke_s >= QUIET_S:
            log.warning(
                "bad_message",
                peer=peer[:16].hex(),
                node_id=node_id,
                reason=reason[:200],
                of_this_peer=count,
                not_logged=self._unsaid,
            )
            self._spoke_s = now_s
            self._unsaid = 0
        else:
            self._unsaid += 1
        return count >= PATIENCE

    def ignore(self, peer: bytes) -> None:
        """Read nothing of it any more; a new connection has a new routing id, and a new chance."""
        self._bad.pop(peer, None)
        self._hellos.pop(peer, None)
        if peer not in self.ignored:
            self._stats.peers_dropped += 1
            log.warning("peer_dropped", peer=peer[:16].hex())
        self.ignored[peer] = None
        self._expel(peer)
        if len(self.ignored) > MAX_PEERS:
            del self.ignored[next(iter(self.ignored))]


def _count(counts: dict[bytes, int], peer: bytes) -> int:
    """One more of this peer; of too many peers, the one that was counted longest ago is forgotten."""
    count = counts.pop(peer, 0) + 1
    counts[peer] = count
    if len(counts) > MAX_PEERS:
        del counts[next(iter(counts))]
    return count
