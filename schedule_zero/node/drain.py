"""A drain that an operator ordered: until when what runs may go on, and what then. Pure: it is told the time.

Not the drain at SIGTERM (``Work.drain``), after which the process ends. Here it goes on, and takes work again when it
is released; so a method that does not stop keeps its slot, and it is said that it still runs.
"""

from __future__ import annotations

import math
from enum import Enum

# After being asked to stop: so long for jobs to react.
GRACE_S = 1.0


class Step(Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    # Ask what runs to stop.
    ASK = "ask"
    # Hand back what did not.
    GIVE_UP = "give up"


class DrainDeadline:
    """The deadline of the drain in force, if it has one. A newer word replaces it."""

    def __init__(self) -> None:
        self._ask_s = self._give_up_s = math.inf

    def set(self, deadline_s: float | None, now_s: float) -> None:
        """``deadline_s`` from now; None: there is none (any more)."""
        self._ask_s = math.inf if deadline_s is None else now_s + max(deadline_s, 0.0)
        self._give_up_s = math.inf

    def step(self, now_s: float) -> Step:
        """Each step comes once."""
        if now_s >= self._ask_s:
            self._ask_s, self._give_up_s = math.inf, now_s + GRACE_S
            return Step.ASK
        if now_s >= self._give_up_s:
            self._give_up_s = math.inf
            return Step.GIVE_UP
        return Step.NOTHING
