"""Nodes taken out of service and back, in the core: cordon, drain, release; and each race with what is under way."""

from __future__ import annotations

import msgspec
import pytest

from schedule_zero.dispatch.views import node_view
from schedule_zero.job_options import JobOptions, OnLost
from schedule_zero.model import AttemptOutcome, NodeState, State
from schedule_zero.wire import messages as m
from tests.unit.core_world import Peer, World


@pytest.fixture
def world():
    return World()


def drains(peer) -> list[tuple[bool, float | None]]:
    """Take what the node was told of being drained."""
    return [(message.on, message.deadline_s) for message in peer.got(m.ServerDrain)]


def state(world, execution_id):
    return world.ledger[execution_id].state


# --- cordon ---------------------------------------------------------------------------------------------


def test_a_cordoned_node_gets_no_new_work_and_keeps_what_it_has_queued(world):
    node = world.node(window=5)
    world.run(3)
    items = node.work()
    world.operate("n1", "cordon")
    world.run(2)
    assert node.work() == []
    # It is not told: it has nothing to do about it.
    assert drains(node) == [(False, None)]
    node.report(*items)
    assert [state(world, item.id) for item in items] == [State.COMPLETED] * 3
    assert node.work() == []


def test_a_released_node_gets_at_once_what_waited(world):
    node = world.node(window=5)
    world.operate("n1", "cordon")
    world.run(2)
    world.operate("n1", None)
    assert len(node.work()) == 2


def test_what_waits_for_nodes_that_take_no_work_says_of_each_why(world):
    leaving = world.node("n1")
    world.node("n2")
    world.node("n3")
    leaving.leave()
    world.operate("n2", "cordon")
    world.operate("n3", "drain")
    [execution_id] = world.run()

    waits = world.core.waiting_for(world.ledger[execution_id].as_row(), world.now)

    assert waits.reason == "node"
    assert waits.detail == "no node that may run it takes new work: n1 is stopping; n2 is cordoned; n3 is drained"


def test_what_waits_for_nodes_says_at_most_five_of_them(world):
    for i in range(7):
        world.node(f"n{i}")
        world.operate(f"n{i}", "cordon")
    [execution_id] = world.run()

    detail = world.core.waiting_for(world.ledger[execution_id].as_row(), world.now).detail

    assert detail.endswith("n4 is cordoned; and 2 more")


def test_a_node_cordoned_while_it_is_syncing_gets_nothing_when_it_is_ready(world):
    world.run(1)
    node = Peer(world, "n1").hello()
    world.operate("n1", "cordon")
    node.credit(5)
    assert node.work() == []
    world.operate("n1", None)
    assert len(node.work()) == 1


def test_what_was_being_started_when_the_node_was_cordoned_goes_elsewhere_and_burns_no_attempt(world):
    node = world.node("n1", window=0)
    other = world.node("n2", window=0)
    [execution_id] = world.run()
    world.holding = True
    node.credit(1)
    world.operate("n1", "cordon")
    world.release()
    assert node.work() == []
    assert [(item.id, item.attempt) for item in other.credit(1).work()] == [(execution_id, 1)]


def test_a_cordon_is_in_force_after_a_restart_of_server_and_node(world):
    node = world.node()
    world.operate("n1", "cordon", note="new disk")
    world.restart()
    node.start()
    node.hello().credit(5)
    world.run()
    assert node.work() == []
    assert (node.view.operation.note, node.view.operation.by) == ("new disk", "ann")


def test_a_cordoned_node_that_was_away_is_still_cordoned_and_not_forgotten(world):
    node = world.node()
    world.operate("n1", "cordon")
    node.disconnect()
    world.advance(25 * 3600)
    assert node.view.state is NodeState.LOST
    node.start()
    node.hello().credit(5)
    world.run()
    assert node.work() == []


def test_what_a_cordoned_node_did_not_hear_of_is_sent_again_to_it(world):
    node = world.node()
    world.run()
    [item] = node.work()
    world.operate("n1", "cordon")
    world.advance(3, alive=[node])
    assert [again.token for again in node.work()] == [item.token]


# --- drain ----------------------------------------------------------------------------------------------


def test_a_drain_tells_the_node_how_long_it_has(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=60.0)
    assert drains(node) == [(True, 60.0)]


def test_a_node_that_comes_back_is_told_what_is_left_of_the_deadline(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=60.0)
    node.disconnect()
    drains(node)
    world.advance(20)
    node.hello()
    assert drains(node) == [(True, 40.0)]


def test_a_deadline_that_passed_while_the_node_was_away_is_over_when_it_is_back(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=5.0)
    node.disconnect()
    drains(node)
    world.advance(9)
    node.hello()
    assert drains(node) == [(True, 0.0)]


def test_the_deadline_survives_a_restart_of_the_server(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=60.0)
    world.advance(10, alive=[node])
    world.restart()
    drains(node)
    node.hello().credit(0)
    assert drains(node) == [(True, 50.0)]
    world.run()
    assert node.work() == []


def test_the_rest_of_a_deadline_does_not_follow_a_step_of_the_wall_clock(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=60.0)
    drains(node)
    stepped = world.now
    stepped = type(stepped)(stepped.mono_s + 10.0, stepped.wall_us + 3_600_000_000)
    world.core.disconnected(node.address, stepped)
    world.mono_s += 10.0
    node.hello()
    assert drains(node) == [(True, 50.0)]


def test_what_is_handed_back_at_the_deadline_runs_elsewhere_and_burns_no_attempt(world):
    node = world.node("n1")
    [execution_id] = world.run()
    [item] = node.work()
    other = world.node("n2")
    world.operate("n1", "drain", deadline_s=1.0)
    node.report(item, outcome=AttemptOutcome.HANDED_BACK)
    assert [(again.id, again.attempt) for again in other.work()] == [(execution_id, 1)]


@pytest.mark.parametrize(
    ("on_lost", "expected"),
    [(OnLost.RERUN, State.PENDING), (OnLost.FAIL, State.FAILED), (OnLost.WAIT, State.RUNNING)],
)
def test_c10_what_becomes_of_a_job_that_is_handed_back_at_the_deadline_is_its_own_choice(world, on_lost, expected):
    node = world.node()
    [execution_id] = world.run(options=msgspec.json.encode(JobOptions(on_lost=on_lost)))
    [item] = node.work()
    world.operate("n1", "drain", deadline_s=1.0)
    node.report(item, outcome=AttemptOutcome.HANDED_BACK)
    assert state(world, execution_id) is expected
    # Nothing is left on it, also where an operator is waited for.
    assert node_view(node.view, world.mono_s).running == 0


def test_a_released_node_is_told_so_and_takes_work_again_while_it_still_hands_back(world):
    node = world.node(window=2)
    world.run(2)
    items = node.work()
    world.operate("n1", "drain", deadline_s=5.0)
    world.operate("n1", None)
    assert drains(node) == [(True, 5.0), (False, None)]
    # It had rejected one before it heard of the release.
    node.reject(items[0], reason="draining")
    world.advance(1.5, alive=[node])
    world.release_due()
    assert [(again.id, again.attempt) for again in node.work()] == [(items[0].id, 1)]


def test_a_node_released_while_it_was_away_takes_work_when_it_is_back(world):
    node = world.node()
    world.operate("n1", "drain")
    node.disconnect()
    world.operate("n1", None)
    drains(node)
    world.run()
    node.hello().credit(1)
    assert drains(node) == []
    assert len(node.work()) == 1


def test_a_release_survives_a_restart_of_the_server(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=5.0)
    world.operate("n1", None)
    world.restart()
    drains(node)
    node.hello().credit(1)
    world.run()
    assert drains(node) == []
    assert len(node.work()) == 1


def test_the_newest_word_of_an_operator_counts(world):
    node = world.node()
    world.operate("n1", "drain", deadline_s=5.0)
    world.operate("n1", "cordon")
    world.operate("n1", "drain")
    world.operate("n1", None)
    assert drains(node) == [(True, 5.0), (False, None), (True, None), (False, None)]


def test_to_release_twice_tells_the_node_twice_and_changes_nothing(world):
    node = world.node()
    world.operate("n1", None)
    world.operate("n1", None)
    assert drains(node) == [(False, None)] * 2
    assert node.view.operation is None


def test_a_start_that_was_being_committed_when_the_node_was_drained_goes_elsewhere(world):
    node = world.node("n1", window=0)
    other = world.node("n2", window=0)
    [execution_id] = world.run()
    world.holding = True
    node.credit(1)
    world.operate("n1", "drain", deadline_s=1.0)
    world.release()
    assert node.work() == []
    assert [(item.id, item.attempt) for item in other.credit(1).work()] == [(execution_id, 1)]


def test_an_end_that_is_being_committed_when_the_node_is_drained_is_acknowledged(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.holding = True
    node.report(item)
    world.operate("n1", "drain", deadline_s=0.0)
    world.release()
    assert node.acks() == {"recorded": [item.token]}
    assert state(world, execution_id) is State.COMPLETED


def test_a_drained_node_that_dies_loses_what_it_held_by_the_jobs_own_policy(world):
    node = world.node()
    [execution_id] = world.run()
    node.work()
    world.operate("n1", "drain", deadline_s=60.0)
    node.disconnect()
    world.advance(17)
    assert state(world, execution_id) is State.PENDING
    other = world.node("n2")
    assert [item.id for item in other.work()] == [execution_id]


# --- heartbeat: for people -----------------------------------------------------------------------------


def beat(world, node, **said):
    node.say("heartbeat", m.Heartbeat(s=node.s, seq=1, **said))


def test_a_heartbeat_tells_the_round_trip_and_how_far_the_nodes_clock_is_off(world):
    node = world.node()
    beat(world, node, rtt_us=20_000, wall_us=world.now.wall_us + 3_600_000_000)
    assert node.view.round_trip_s == pytest.approx(0.02)
    assert node.view.clock_skew_s == pytest.approx(3600.01)


def test_a_node_that_says_neither_is_as_good_and_a_new_session_begins_anew(world):
    node = world.node()
    beat(world, node, rtt_us=20_000, wall_us=world.now.wall_us)
    node.hello()
    assert (node.view.round_trip_s, node.view.clock_skew_s) == (None, None)
    beat(world, node)
    assert (node.view.round_trip_s, node.view.clock_skew_s) == (None, None)


@pytest.mark.parametrize("off_s", [3600, -3600])
def test_c12_a_node_whose_clock_is_an_hour_off_runs_and_lives_like_any_other(world, off_s):
    node = world.node()
    [execution_id] = world.run()
    for _ in range(20):
        world.advance(2)
        beat(world, node, rtt_us=1000, wall_us=world.now.wall_us + off_s * 1_000_000)
    assert node.view.state is NodeState.ONLINE
    [item] = node.work()[:1]
    node.report(item)
    assert state(world, execution_id) is State.COMPLETED
