"""How many attempts a node asks for. Pure: counts and times come in, a window comes out.

An attempt counts by its weight: the slots that it takes. The window is the slots plus what the node gets done in about
100 ms. So short jobs never wait for a round trip to the server, while long ones stay there, where another node can have
them.
"""

from __future__ import annotations

HORIZON_S = 0.1
MAX_WINDOW = 2_000
# Completions are counted over at least this long before they are believed.
MEASURE_S = 0.005
IDLE_S = 0.05
# Without a completion for so long, what was measured says nothing about what comes next.
FORGET_S = 2.0
# A change smaller than this is not worth a message.
MEANINGFUL = 0.2


class CreditWindow:
    """The window of one node. ``note`` completions as they come; ``change`` says what to send, if anything."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._blocked = 0
        self._paused: set[str] = set()
        self._prefetch = 0.0
        self._done = 0
        self._busy_s = 0.0
        self._since_s = 0.0
        self._last_done_s = float("-inf")
        self._sent: int | None = None

    def note(self, done: int, busy_s: float, first_start_s: float, now_s: float) -> None:
        """``done`` attempts ended by now, the first began at ``first_start_s``; together they ran for ``busy_s``."""
        if first_start_s - self._last_done_s > IDLE_S:
            # Nothing ran in between, and for longer than a trip to the server: having no work is not slowness.
            self._since_s, self._done, self._busy_s = first_start_s, 0, 0.0
        self._last_done_s = now_s
        self._done += done
        self._busy_s += busy_s
        elapsed_s = now_s - self._since_s
        if elapsed_s < MEASURE_S:
            return
        rate = self._done / elapsed_s
        if self._busy_s > 0:
            # A burst that ended together says little: with this mean duration the slots can't do more than this.
            rate = min(rate, max(1, self._slots - self._blocked) * self._done / self._busy_s)
        measured = rate * HORIZON_S
        # Up at once, down by halves: one slow batch among many is no reason to starve.
        self._prefetch = measured if measured >= self._prefetch else (self._prefetch + measured) / 2
        self._since_s, self._done, self._busy_s = now_s, 0, 0.0

    def overcommitted(self) -> None:
        """What was prefetched waits behind long jobs: ask for no more than the slots until measured anew."""
        self._prefetch = 0.0

    def block(self, slots: int) -> None:
        """So many slots are held by attempts that are over but whose thread did not return."""
        self._blocked = slots

    def pause(self, reason: str) -> None:
        self._paused.add(reason)

    def unpause(self, reason: str) -> None:
        self._paused.discard(reason)

    @property
    def paused(self) -> frozenset[str]:
        return frozenset(self._paused)

    def window(self, now_s: float) -> int:
        """How many attempts to hold in all."""
        free = self._slots - self._blocked
        if self._paused or free <= 0:
            return 0
        if now_s - self._last_done_s > FORGET_S:
            self._prefetch = 0.0
        return min(free + int(self._prefetch), max(MAX_WINDOW, free))

    def change(self, now_s: float) -> int | None:
        """The window to send now; None while the last one sent is near enough."""
        window = self.window(now_s)
        sent = self._sent
        if sent is not None and window == sent:
            return None
        small = sent is not None and sent > 0 and window > self._slots and abs(window - sent) < MEANINGFUL * sent
        if small:
            return None
        self._sent = window
        return window

    def forget_sent(self) -> None:
        """A new session: the server knows of no window."""
        self._sent = None
