"""Handlers for the tests of job edges: one that counts how many run at once, and two versions of one handler."""

from __future__ import annotations

import threading
import time

from schedule_zero import BaseHandler


class Gauge(BaseHandler):
    """``most`` is how many were in the method at once, over all nodes of this process since ``reset``."""

    handler_id = "gauge"
    _lock = threading.Lock()
    inside = most = entered = 0
    gate = threading.Event()

    @classmethod
    def reset(cls) -> None:
        cls.inside = cls.most = cls.entered = 0
        cls.gate.clear()

    def pause(self, seconds: float = 0.0) -> int:
        with self._lock:
            type(self).inside += 1
            type(self).entered += 1
            type(self).most = max(self.most, self.inside)
            number = self.entered
        time.sleep(seconds)
        with self._lock:
            type(self).inside -= 1
        return number

    def hold(self) -> None:
        """Until the gate is opened, whatever else is asked for."""
        with self._lock:
            type(self).entered += 1
        self.gate.wait(120)

    def text(self, size: int) -> str:
        """A result of ``size`` bytes as JSON."""
        return "x" * (size - 2)


class ShopOne(BaseHandler):
    """Before the upgrade."""

    handler_id = "shop"

    def order(self, article: str) -> str:
        return f"one {article}"

    def refund(self, article: str) -> str:
        return f"refund of {article}"


class ShopTwo(BaseHandler):
    """After it: ``order`` takes something else, and ``refund`` is gone."""

    handler_id = "shop"

    def order(self, article: str, count: int) -> str:
        return f"{count} {article}"
