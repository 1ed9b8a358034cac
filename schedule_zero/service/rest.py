"""Long work on a reader thread beside a loop that has to fire on time."""

from __future__ import annotations

import threading

# How long the loop may have the interpreter to itself after each so many steps.
REST_EVERY = 20
REST_S = 0.001


class Rest:
    """Called between steps: lets go of the interpreter now and then."""

    def __init__(self) -> None:
        self._calls = 0
        self._never = threading.Event()

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % REST_EVERY == 0:
            self._never.wait(REST_S)
