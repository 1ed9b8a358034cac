"""C21 where a cancel meets something else in the same moment: an accept, a due retry, the end of a lease, itself."""

from __future__ import annotations

import itertools

import pytest

from schedule_zero.model import AttemptOutcome, JobOptions, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from schedule_zero.rules.states import TERMINAL
from schedule_zero.wire import messages as m
from tests.unit.core_world import World


@pytest.fixture
def world():
    return World()


def ends(world, id_):
    """The terminal states it was ever in."""
    return [one for one in world.ledger[id_].history if one in TERMINAL]


def nothing_is_left(world, node):
    """Credit and memory are free again: as many start as before, and nothing else does."""
    world.advance(60.0, alive=[node])
    world.release_due()
    assert node.work() == []
    assert node.view.held == 0
    ids = world.run(10)
    assert sorted(item.id for item in node.work()) == sorted(ids)


def retry_due(world, node):
    """One whose second attempt is due now, and which the timer has not looked at yet."""
    options = outfit(JobOptions(max_attempts=2, retry_delay_s=5.0), JobOptions(), Source.SUBMISSION).options
    [id_] = world.run(options=options)
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.FAILED)
    world.advance(5.0, alive=[node])
    assert world.ledger[id_].state is State.RETRY_SCHEDULED
    return id_


# --- accept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", sorted(set(itertools.permutations(["accept", "cancel", "cancel"]))))
def test_c21_a_cancel_that_crosses_an_accept_is_confirmed_once(world, order):
    node = world.node()
    [id_] = world.run()
    [item] = node.work()
    for deed in order:
        if deed == "accept":
            node.accept(item, started_us=world.now.wall_us)
        else:
            assert world.cancel(id_) == "requested"
    assert {token for message in node.got(m.Cancel) for token in message.tokens} == {item.token}
    assert world.ledger[id_].state is State.RUNNING

    node.report(item, outcome=AttemptOutcome.CANCELLED)
    node.report(item, outcome=AttemptOutcome.CANCELLED)

    assert ends(world, id_) == [State.CANCELLED]
    assert world.cancel(id_) == "terminal"
    nothing_is_left(world, node)


# --- a retry that becomes due -----------------------------------------------------------------------------


def test_c21_a_cancel_between_the_release_of_a_retry_and_its_start_leaves_nothing_to_start(world):
    node = world.node()
    id_ = retry_due(world, node)
    # Committed as pending; the core has not heard of it.
    due = world.ledger.release_due(world.now.wall_us)
    assert world.cancel(id_) == "cancelled"

    world.core.committed(due, world.now)
    world.settle()

    assert ends(world, id_) == [State.CANCELLED]
    assert world.ledger[id_].attempt == 1
    nothing_is_left(world, node)


def test_c21_a_cancel_while_the_start_of_a_due_retry_is_being_committed_comes_first(world):
    node = world.node()
    id_ = retry_due(world, node)
    world.holding = True
    world.release_due()
    assert len(world.held) == 1
    assert world.cancel(id_) == "cancelled"

    world.release()

    assert ends(world, id_) == [State.CANCELLED]
    nothing_is_left(world, node)


def test_c21_a_cancel_right_after_a_due_retry_was_sent_is_confirmed_by_its_node(world):
    node = world.node()
    id_ = retry_due(world, node)
    world.release_due()
    [again] = node.work()
    assert world.cancel(id_) == "requested"
    assert [message.tokens for message in node.got(m.Cancel)] == [[again.token]]

    # The job failed before the cancel reached it, and no attempt is left: asked to stop, it stopped.
    node.report(again, outcome=AttemptOutcome.FAILED)

    assert len(ends(world, id_)) == 1
    nothing_is_left(world, node)


# --- the end of a lease -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at_s", [0.5, 5.0, 14.5, 15.0, 15.5, 16.5, 17.0, 30.0])
@pytest.mark.parametrize("times", [1, 2])
def test_c21_a_cancel_around_the_end_of_a_lease_ends_it_once_and_runs_it_nowhere_else(world, at_s, times):
    lost = world.node("n1")
    [id_] = world.run()
    lost.disconnect()
    world.advance(at_s)

    answers = [world.cancel(id_) for _ in range(times)]
    assert answers[0] in ("requested", "cancelled")
    other = world.node("n2")
    world.advance(30.0, alive=[other])

    assert ends(world, id_) == [State.CANCELLED]
    assert id_ not in [item.id for item in other.work()]
    nothing_is_left(world, other)


def test_c21_a_cancel_while_a_loss_is_being_committed_leaves_one_end_and_nothing_to_run(world):
    lost = world.node("n1")
    [id_] = world.run()
    lost.disconnect()
    world.holding = True
    world.advance(17.0)
    assert len(world.held) == 1
    # It is to run again, and that is on its way to the store; the cancel is before it.
    assert world.cancel(id_) == "requested"
    world.release()

    node = world.node("n2")
    world.advance(30.0, alive=[node])

    assert ends(world, id_) == [State.CANCELLED]
    assert id_ not in [item.id for item in node.work()]


# --- itself -----------------------------------------------------------------------------------------------


def test_c21_two_cancels_of_what_waits_end_it_once(world):
    node = world.node(window=1)
    first, second = world.run(2)
    assert [world.cancel(second) for _ in range(2)] == ["cancelled", "terminal"]
    node.report(*node.work())
    assert (ends(world, first), ends(world, second)) == ([State.COMPLETED], [State.CANCELLED])
    assert node.work() == []
