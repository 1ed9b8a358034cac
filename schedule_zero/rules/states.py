"""The states of an execution and the only transitions between them, as one literal table.

The store's conditional updates, the core's decisions and the picture in the docs all come from here.
"""

from __future__ import annotations

from schedule_zero.model import State

TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.TIMEOUT, State.CANCELLED, State.MISFIRED, State.DEAD})

# state → the states it may become. A terminal state is never left: a retry by hand is a new execution.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.BLOCKED: frozenset({State.PENDING, State.SCHEDULED, State.CANCELLED, State.FAILED}),
    State.SCHEDULED: frozenset({State.PENDING, State.RUNNING, State.CANCELLED, State.MISFIRED}),
    State.PENDING: frozenset({State.RUNNING, State.CANCELLED, State.MISFIRED, State.DEAD}),
    State.RUNNING: frozenset(
        {
            State.COMPLETED,
            State.FAILED,
            State.TIMEOUT,
            State.CANCELLED,
            State.DEAD,
            # A failed attempt with attempts left waits for its due time …
            State.RETRY_SCHEDULED,
            # … and a lost or handed-back one goes straight back.
            State.PENDING,
        }
    ),
    State.RETRY_SCHEDULED: frozenset({State.PENDING, State.RUNNING, State.CANCELLED, State.MISFIRED}),
    **{state: frozenset() for state in TERMINAL},
}


def may_become(state: State, target: State) -> bool:
    """Whether the table allows ``state`` → ``target``."""
    return target in TRANSITIONS[state]
