"""Tells the rest of the process what was committed: live subscribers, and callers who wait for one execution or group.

Fed by the store after each commit, on the loop's thread; it never blocks and keeps nothing: what a slow
subscriber missed stands in the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from schedule_zero.model import Event

# The kinds of events after which an execution, or a group of them, never changes again.
ENDS = frozenset({"execution.finished", "group.finished"})


def event_id(seq: int, index: int) -> str:
    """``<journal seq>-<index within its transaction>``: what SSE sends, and takes back as Last-Event-ID."""
    return f"{seq}-{index}"


class Subscription:
    """One subscriber's bounded queue. When it is full, ``overflowed`` is set and the newest events are dropped."""

    def __init__(self, hub: EventHub, maxsize: int) -> None:
        self._hub = hub
        self._queue: asyncio.Queue[tuple[str, Event]] = asyncio.Queue(maxsize)
        self.overflowed = False

    def offer(self, item: tuple[str, Event]) -> None:
        if self._queue.full():
            self.overflowed = True
        else:
            self._queue.put_nowait(item)

    async def get(self) -> tuple[str, Event]:
        """The next event with its id; waits for it."""
        return await self._queue.get()

    def empty(self) -> bool:
        return self._queue.empty()

    async def __aiter__(self) -> AsyncIterator[tuple[str, Event]]:
        while True:
            yield await self.get()

    def close(self) -> None:
        self._hub.unsubscribe(self)


class EventHub:
    """Fans committed events out to subscriptions, and wakes those who wait for an execution's end."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._closed = False
        self.last_seq = 0

    def publish(self, events: Sequence[tuple[int, Event]]) -> None:
        """Take over the events of one or more committed transactions, in journal order."""
        if not events:
            return
        self.last_seq = max(self.last_seq, events[-1][0])
        if not self._subscriptions and not self._waiters:
            return
        seq = index = 0
        for event_seq, event in events:
            index = index + 1 if event_seq == seq else 0
            seq = event_seq
            if self._waiters and event.kind in ENDS:
                self._wake(event.id)
            for subscription in self._subscriptions:
                subscription.offer((event_id(seq, index), event))

    def subscribe(self, maxsize: int = 2_000) -> Subscription:
        subscription = Subscription(self, maxsize)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def wait_terminal(self, execution_id: str) -> asyncio.Future[None]:
        """A future that is done once the end of the execution (or group) is committed. Ask before looking at its state.

        It is cancelled if the hub is closed first: nobody will say any more.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            waiter.cancel()
            return waiter
        self._waiters.setdefault(execution_id, []).append(waiter)
        return waiter

    def forget(self, execution_id: str, waiter: asyncio.Future[None]) -> None:
        """Take a waiter back (it gave up, or is done)."""
        waiters = self._waiters.get(execution_id)
        if waiters is None:
            return
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            del self._waiters[execution_id]

    def close(self) -> None:
        """The server stops: let nobody wait any longer. Safe to call twice."""
        self._closed = True
        waiters, self._waiters = self._waiters, {}
        for waiter in [one for those in waiters.values() for one in those]:
            waiter.cancel()

    def _wake(self, execution_id: str) -> None:
        for waiter in self._waiters.pop(execution_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def is_awaited(self, execution_id: str) -> bool:
        """Whether somebody waits for the end of this execution."""
        return execution_id in self._waiters

    @property
    def subscribers(self) -> int:
        return len(self._subscriptions)
