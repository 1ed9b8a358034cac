"""What a fire does while earlier executions of its schedule are open, and what follows when one of them ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import Overlap
from schedule_zero.rules.overlap import Step, Turn, next_step, take_turns

START, WAIT, SKIP = Turn.START, Turn.WAIT, Turn.SKIP
BLOCKED, STARTED = True, False


@pytest.mark.parametrize(
    ("overlap", "nothing_open", "one_open", "one_waits"),
    [
        (Overlap.ALLOW, START, START, START),
        (Overlap.SKIP, START, SKIP, SKIP),
        (Overlap.BUFFER_ONE, START, WAIT, SKIP),
        (Overlap.BUFFER_ALL, START, WAIT, WAIT),
        (Overlap.CANCEL_RUNNING, START, WAIT, WAIT),
        (Overlap.REPLACE_PENDING, START, WAIT, WAIT),
    ],
)
def test_the_turn_of_one_fire(overlap: Overlap, nothing_open: Turn, one_open: Turn, one_waits: Turn) -> None:
    assert take_turns(overlap, 1, open_=0, blocked=0) == [nothing_open]
    assert take_turns(overlap, 1, open_=1, blocked=0) == [one_open]
    assert take_turns(overlap, 1, open_=2, blocked=1) == [one_waits]


@pytest.mark.parametrize(
    ("overlap", "turns"),
    [
        (Overlap.ALLOW, [START, START, START]),
        (Overlap.SKIP, [START, SKIP, SKIP]),
        (Overlap.BUFFER_ONE, [START, WAIT, SKIP]),
        (Overlap.BUFFER_ALL, [START, WAIT, WAIT]),
        # The latest would cancel the others before they do anything.
        (Overlap.CANCEL_RUNNING, [SKIP, SKIP, START]),
        (Overlap.REPLACE_PENDING, [SKIP, SKIP, START]),
    ],
)
def test_several_fires_of_one_round_see_each_other(overlap: Overlap, turns: list[Turn]) -> None:
    assert take_turns(overlap, 3, open_=0, blocked=0) == turns
    assert take_turns(overlap, 0, open_=0, blocked=0) == []


@pytest.mark.parametrize(
    ("overlap", "open_", "step"),
    [
        (Overlap.ALLOW, {"a": STARTED, "b": BLOCKED}, Step(unblock=["b"])),
        (Overlap.SKIP, {"a": STARTED}, Step()),
        # It was a buffering policy when they were made.
        (Overlap.SKIP, {"a": BLOCKED, "b": BLOCKED}, Step(unblock=["a"])),
        (Overlap.BUFFER_ONE, {"a": STARTED, "b": BLOCKED}, Step()),
        (Overlap.BUFFER_ONE, {"b": BLOCKED}, Step(unblock=["b"])),
        (Overlap.BUFFER_ALL, {"b": BLOCKED, "c": BLOCKED}, Step(unblock=["b"])),
        (Overlap.CANCEL_RUNNING, {"a": STARTED, "b": BLOCKED}, Step(cancel=["a"])),
        (Overlap.CANCEL_RUNNING, {"a": STARTED, "b": BLOCKED, "c": BLOCKED}, Step(cancel=["a", "b"])),
        (Overlap.CANCEL_RUNNING, {"c": BLOCKED}, Step(unblock=["c"])),
        (Overlap.REPLACE_PENDING, {"a": STARTED, "b": BLOCKED}, Step(cancel=["a"], only_unstarted=True)),
        (Overlap.REPLACE_PENDING, {"b": BLOCKED, "c": BLOCKED},
         Step(cancel=["b"], only_unstarted=True, unblock=["c"])),
    ],
)  # fmt: skip
def test_what_follows_from_what_is_open(overlap: Overlap, open_: dict[str, bool], step: Step) -> None:
    assert next_step(overlap, open_) == step


@pytest.mark.parametrize("overlap", list(Overlap))
def test_where_nothing_waits_nothing_follows(overlap: Overlap) -> None:
    assert next_step(overlap, {}) == Step()
    assert next_step(overlap, {"a": STARTED, "b": STARTED}) == Step()


@given(
    overlap=st.sampled_from([one for one in Overlap if one is not Overlap.ALLOW]),
    # Above zero: so many fires at once. Zero: the oldest one that has started ends.
    moves=st.lists(st.integers(0, 3), max_size=30),
    running=st.integers(0, 2),
)
def test_never_do_two_run_at_once_and_everything_that_waits_gets_its_turn(
    overlap: Overlap, moves: list[int], running: int
) -> None:
    """The store and the nodes as simple as can be: what is cancelled is over at once, if it may be cancelled."""
    open_: dict[str, bool] = {}
    born: list[str] = []
    ran: list[str] = []
    runs: set[str] = set()

    def follow() -> None:
        while (step := next_step(overlap, open_)) != Step():
            before = dict(open_)
            for id_ in step.cancel:
                if not (step.only_unstarted and id_ in runs):
                    del open_[id_]
            for id_ in step.unblock:
                open_[id_] = False
            started = [id_ for id_, waits in open_.items() if not waits]
            assert len(started) <= 1
            if before == open_:
                break

    def end_one() -> None:
        started = next((id_ for id_, waits in open_.items() if not waits), None)
        if started is not None:
            ran.append(started)
            del open_[started]
            follow()

    for n, move in enumerate(moves):
        # Some of what has started is picked up by a node, some isn't yet.
        if n % 3 <= running:
            runs.update(id_ for id_, waits in open_.items() if not waits)
        if move:
            for turn in take_turns(overlap, move, open_=len(open_), blocked=sum(open_.values())):
                if turn is not SKIP:
                    born.append(str(len(born)))
                    open_[born[-1]] = turn is WAIT
            follow()
        else:
            end_one()
        assert sum(not waits for waits in open_.values()) <= 1
        if overlap is Overlap.BUFFER_ONE:
            assert sum(open_.values()) <= 1
    while open_:
        end_one()

    if overlap in (Overlap.CANCEL_RUNNING, Overlap.REPLACE_PENDING):
        # Whatever was replaced, the last one always comes to its end.
        assert ran[-1:] == born[-1:]
    else:
        assert ran == born
