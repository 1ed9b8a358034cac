"""The newest progress of each running attempt, a few times a second: jobs may report as often as they like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schedule_zero.node.mailbox import Mailbox

SEND_S = 0.2

Newest = dict[int, tuple[float, str]]


class ProgressBoard:
    """``report`` from any thread; ``send`` gets what is new, by token, on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Newest], None]) -> None:
        self._loop = loop
        self._send = send
        self._newest: Newest = {}
        self._mail: Mailbox[None] = Mailbox(loop, self._something_new)
        self._due = False

    def report(self, token: int, percent: float, text: str) -> None:
        self._newest[token] = (percent, text)
        self._mail.post(None)

    def _something_new(self, _: list[None]) -> None:
        if not self._due:
            self._due = True
            self._loop.call_later(SEND_S, self._turn)

    def _turn(self) -> None:
        self._due = False
        newest, self._newest = self._newest, {}
        self._send(newest)
