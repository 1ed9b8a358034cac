"""From any thread to the event loop, in batches: one wake-up of the loop for however much was posted meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """``post`` from any thread; ``receive`` gets everything posted so far, on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[list[T]], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._items: deque[T] = deque()
        self._due = False

    def post(self, item: T) -> None:
        self._items.append(item)
        # Two threads may both see False: then the second turn finds nothing, which does no harm.
        if not self._due:
            self._due = True
            try:
                self._loop.call_soon_threadsafe(self._turn)
            except RuntimeError:
                # The loop is closed: the process is ending, and what is on disk is there at the next start.
                return

    def _turn(self) -> None:
        self._due = False
        items: list[T] = []
        while self._items:
            items.append(self._items.popleft())
        if items:
            self._receive(items)
