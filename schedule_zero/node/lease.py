"""What a node believes about the server's promise to it, and about the server's clock. Pure: it is told the time."""

from __future__ import annotations

from collections import deque

# Estimates older than so many samples are forgotten, so that the drift between two clocks is followed.
SAMPLES = 16
# More than the network can explain: the server's wall clock was set.
STEP_US = 50_000


class Lease:
    """Until when this node may believe in its attempts, on its own monotonic clock.

    It is counted from the *sending* of what the server acknowledged, so that the node's end of the lease
    always comes before the server's, whatever the network did in between.
    """

    __slots__ = ("until_s",)

    def __init__(self) -> None:
        self.until_s = float("-inf")

    def extend(self, sent_s: float, lease_s: float) -> None:
        """The server acknowledged what was sent at ``sent_s``. An older acknowledgement shortens nothing."""
        self.until_s = max(self.until_s, sent_s + lease_s)

    def held(self, now_s: float) -> bool:
        return now_s < self.until_s


class ServerTime:
    """The server's wall time as a function of this node's monotonic time (promise C12).

    From each exchange (sent, received, the server's stamp in between) comes an offset that is wrong by at most
    half the round trip; the newest samples' shortest round trip wins.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._offset_us = 0.0
        self.rtt_s: float | None = None

    def sample(self, sent_s: float, received_s: float, server_us: int) -> None:
        rtt_s = max(0.0, received_s - sent_s)
        offset_us = server_us - (sent_s + rtt_s / 2) * 1e6
        if self._samples:
            explained_us = (rtt_s + (self.rtt_s or 0.0)) / 2 * 1e6 + STEP_US
            if abs(offset_us - self._offset_us) > explained_us:
                self._samples.clear()
        self._samples.append((rtt_s, offset_us))
        self.rtt_s, self._offset_us = min(self._samples)

    def at_us(self, mono_s: float) -> int:
        """The server's wall time at ``mono_s`` of this node's monotonic clock."""
        return max(0, round(mono_s * 1e6 + self._offset_us))
