"""Tells open pages *that* something changed, not what: they ask for the part that shows it.

Costs a count per event while somebody looks, and nothing otherwise; one look for any number of pages. What was told is
counted by topic: the word before the dot of an event's kind.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from schedule_zero.model import Event

# At most so often a page hears of changes; and so often while they don't stop.
GAP_S = 0.25
BUSY_GAP_S = 1.0
# After so many in a row they don't stop.
BUSY_AFTER = 8
# What makes no event: executions that start, and their progress.
LOOK_S = 1.0
EXECUTION = "execution"


class Hints:
    """Counts events by topic while somebody watches."""

    def __init__(self, started: Callable[[], int]) -> None:
        # How many attempts were started since the server began: these make no events.
        self._started = started
        self._watchers: set[Watcher] = set()
        self.counts: Counter[str] = Counter()
        # Changes with every event, also when nobody watches: whether a page that comes back has missed any.
        self.last_seq = 0

    def publish(self, events: Sequence[tuple[int, Event]]) -> None:
        """Take the events of committed transactions; on the loop's thread."""
        if not events:
            return
        self.last_seq = max(self.last_seq, events[-1][0])
        if not self._watchers:
            return
        self.counts.update([event.kind.partition(".")[0] for _, event in events])
        for watcher in self._watchers:
            watcher.wake()

    def watch(self, topics: frozenset[str]) -> Watcher:
        """Begin to watch; ``Watcher.close`` ends it."""
        watcher = Watcher(self, topics)
        self._watchers.add(watcher)
        return watcher

    def forget(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    @property
    def started(self) -> int:
        return self._started()

    @property
    def watchers(self) -> int:
        return len(self._watchers)


class Watcher:
    """What one page has been told."""

    def __init__(self, hints: Hints, topics: frozenset[str]) -> None:
        self._hints = hints
        self._topics = topics
        self._told: dict[str, int] = {topic: hints.counts[topic] for topic in topics}
        self._started = hints.started
        self._woken = asyncio.Event()
        self._in_a_row = 0

    def wake(self) -> None:
        self._woken.set()

    async def changes(self, wait_s: float) -> Mapping[str, int]:
        """How many events of each topic there were since the last time; empty when ``wait_s`` passed without any."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while True:
            changed = self._take()
            if changed:
                self._in_a_row += 1
                return changed
            self._in_a_row = 0
            left_s = until_s - loop.time()
            if left_s <= 0:
                return {}
            self._woken.clear()
            try:
                async with asyncio.timeout(min(left_s, LOOK_S)):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def pause(self) -> None:
        """Between two hints: long enough that a page can follow."""
        await asyncio.sleep(BUSY_GAP_S if self._in_a_row >= BUSY_AFTER else GAP_S)

    def _take(self) -> dict[str, int]:
        changed = {}
        for topic in self._topics:
            count = self._hints.counts[topic]
            if count != self._told[topic]:
                changed[topic] = count - self._told[topic]
                self._told[topic] = count
        started = self._hints.started
        if started != self._started:
            self._started = started
            if EXECUTION in self._topics:
                changed.setdefault(EXECUTION, 0)
        return changed

    def close(self) -> None:
        self._hints.forget(self)
