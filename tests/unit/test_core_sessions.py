"""The dispatch core's promises about nodes and their sessions: C8, C11, C17, C18, C19, C22."""

from __future__ import annotations

import pytest

from schedule_zero.dispatch.membership import FORGET_S
from schedule_zero.job_options import JobOptions, OnLost
from schedule_zero.model import AttemptOutcome, NodeState, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from schedule_zero.wire import messages as m
from tests.unit.core_world import Peer, World


@pytest.fixture
def world():
    return World()


def options(**fields):
    return outfit(JobOptions(**fields), JobOptions(), Source.SUBMISSION).options


def state(world, execution_id):
    return world.ledger[execution_id].state


# --- C8: liveness ---------------------------------------------------------------------------------------


def test_c8_a_silent_node_is_suspect_after_6_s_and_lost_within_11_s(world):
    node = world.node()
    world.advance(5.5)
    assert node.view.state is NodeState.ONLINE
    world.advance(1)
    assert node.view.state is NodeState.SUSPECT
    world.advance(3)
    assert node.view.state is NodeState.SUSPECT
    world.advance(1)
    assert node.view.state is NodeState.LOST
    assert node.view.session is None


def test_c8_a_node_whose_socket_closed_is_lost_at_once(world):
    node = world.node()
    node.disconnect()
    assert node.view.state is NodeState.LOST
    assert world.node_changes[-1] == ("n1", NodeState.LOST, "disconnected")


def test_c8_heartbeats_keep_a_node_online(world):
    node = world.node()
    world.advance(100, alive=[node])
    assert node.view.state is NodeState.ONLINE
    assert len(node.got(m.HbAck)) == 200


def test_a_suspect_node_gets_no_new_work_until_it_is_heard_again(world):
    node = world.node()
    world.advance(7)
    world.run()
    assert node.work() == []
    node.heartbeat()
    assert node.view.state is NodeState.ONLINE
    assert len(node.work()) == 1


def test_a_standstill_of_the_server_is_not_taken_for_the_nodes_silence(world):
    node = world.node()
    [execution_id] = world.run()
    world.advance(5, alive=[node])
    world.mono_s += 60
    world.core.tick(world.now)
    world.settle()
    assert node.view.state is NodeState.ONLINE
    node.heartbeat()
    world.advance(5, alive=[node])
    assert state(world, execution_id) is State.RUNNING
    world.advance(11)
    assert node.view.state is NodeState.LOST


def test_a_node_that_said_goodbye_is_offline(world):
    node = world.node()
    node.bye()
    assert node.view.state is NodeState.OFFLINE


def test_a_node_that_is_long_gone_and_holds_nothing_is_forgotten(world):
    node = world.node()
    node.bye()
    # In steps: one jump would be a standstill of the server.
    steps = 0
    while "n1" in world.core.nodes and steps < FORGET_S:
        world.mono_s += 1.9
        world.core.tick(world.now)
        steps += 1
    assert steps == pytest.approx(FORGET_S / 1.9, rel=0.01)


# --- sessions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("heartbeat", m.Heartbeat(s="old", seq=1)),
        ("credit", m.Credit(s="old", window=5)),
        ("accept", m.Accept(s="old", items=[m.AcceptedItem(token=1)])),
        ("reject", m.Reject(s="old", items=[m.RejectedItem(token=1)])),
        ("result", m.Result(s="old", items=[m.ResultItem(id="e", token=1, outcome=AttemptOutcome.COMPLETED)])),
    ],
)
def test_c17_a_message_of_another_session_is_answered_no_session_and_changes_nothing(world, event, message):
    node = world.node()
    [execution_id] = world.run()
    before = node.view.record()
    node.say(event, message)
    [error] = node.got(m.ErrorMessage)
    assert error.code == "no_session"
    assert node.view.record() == before
    assert state(world, execution_id) is State.RUNNING


def test_c17_events_about_unknown_peers_and_nodes_do_nothing(world):
    world.core.disconnected(b"nobody", world.now)
    world.core.bye(b"nobody", "s", world.now)
    world.core.leaving(b"nobody", "s", world.now)
    world.core.cancel("nobody", 1, world.now)
    assert world.core.operate("nobody", None, world.now) is None
    assert world.core.execution_of(b"nobody", "s", 1, world.now) is None


def test_a_node_of_another_protocol_is_denied(world):
    node = Peer(world, "n1").hello(protocol=2)
    [denial] = node.got(m.Deny)
    assert (denial.code, denial.retry) == ("protocol_version", False)


def test_a_stopping_server_asks_nodes_to_come_back_later(world):
    world.core.close()
    [denial] = Peer(world, "n1").hello().got(m.Deny)
    assert denial.retry


def test_c19_saying_hello_twice_changes_nothing(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.hello(running=[item], new_socket=False).credit(10)
    node.hello(running=[item]).credit(10)
    assert node.work() == []
    assert len(world.core.sessions) == 1
    assert node.view.held == 1
    node.report(item)
    assert state(world, execution_id) is State.COMPLETED


def test_while_a_session_synchronises_it_gets_no_work(world):
    node = Peer(world, "n1").hello()
    world.run()
    assert node.work() == []
    node.credit(1)
    assert len(node.work()) == 1


# --- C11: restart of the server -------------------------------------------------------------------------------


def test_c11_attempts_running_over_a_server_restart_are_reattached_not_rerun(world):
    node = world.node()
    ids = world.run(3)
    items = node.work()
    world.restart()
    node.hello(running=items).credit(10)
    assert node.work() == []
    assert node.view.held == 3
    world.advance(60, alive=[node])
    node.report(*items)
    assert {state(world, execution_id) for execution_id in ids} == {State.COMPLETED}
    assert all(len(world.ledger[execution_id].tokens) == 1 for execution_id in ids)


def test_c11_results_from_before_the_restart_are_recorded_before_anything_is_sent(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.restart()
    node.hello()
    node.report(item, result=b"7")
    node.credit(10)
    assert state(world, execution_id) is State.COMPLETED
    assert node.work() == []


def test_c11_a_node_that_does_not_come_back_loses_its_attempts_after_a_full_lease(world):
    node = world.node()
    [execution_id] = world.run()
    node.work()
    world.restart()
    other = world.node("n2")
    world.advance(15.5, alive=[other])
    assert state(world, execution_id) is State.RUNNING
    assert node.view.state is NodeState.LOST
    world.advance(1, alive=[other])
    assert [item.id for item in other.work()] == [execution_id]


def test_c11_what_the_same_process_does_not_hold_any_more_is_sent_again(world):
    node = world.node()
    world.run()
    [item] = node.work()
    world.restart()
    node.hello().credit(10)
    assert node.work() == [item]


def test_c11_waiting_executions_are_dispatched_after_a_restart(world):
    ids = world.run(3)
    world.restart()
    node = world.node()
    assert [item.id for item in node.work()] == ids


def test_c11_what_was_recorded_before_the_restart_is_a_duplicate_after_it(world):
    node = world.node()
    world.run()
    [item] = node.work()
    node.report(item)
    world.restart()
    node.inbox.clear()
    node.hello()
    node.report(item)
    assert node.acks() == {"duplicate": [item.token]}


def test_after_a_restart_a_restarted_node_takes_over_at_once(world):
    node = world.node()
    [execution_id] = world.run()
    node.work()
    world.restart()
    node.start()
    node.hello().credit(10)
    [item] = node.work()
    assert (item.id, item.attempt) == (execution_id, 2)


def test_what_a_dead_process_had_begun_is_lost_even_if_its_successor_came_before_the_servers_restart(world):
    """The server that comes back knows only the successor: it neither holds the attempt nor says how it ended."""
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.accept(item, started_us=world.now.wall_us)
    node.start()
    node.hello()
    world.restart()

    node.hello().credit(10)

    [again] = node.work()
    assert (again.id, again.attempt) == (execution_id, 2)
    assert world.ledger[execution_id].lost == 1
    assert world.ledger[execution_id].attempts == {item.token: AttemptOutcome.LOST}


@pytest.mark.parametrize(
    ("on_lost", "becomes", "given_anew"),
    [(OnLost.RERUN, State.RUNNING, True), (OnLost.FAIL, State.FAILED, False), (OnLost.WAIT, State.RUNNING, False)],
)
def test_c10_what_a_dead_process_may_have_begun_is_lost_though_its_successor_came_before_the_servers_restart(
    world, on_lost, becomes, given_anew
):
    """Nothing was heard of the attempt since it was sent: it may have begun, and the successor does not know it."""
    node = world.node()
    [execution_id] = world.run(options=options(on_lost=on_lost))
    [item] = node.work()
    node.start()
    node.hello()
    world.restart()

    node.hello().credit(10)

    assert state(world, execution_id) is becomes
    assert [(again.id, again.attempt) for again in node.work()] == [(execution_id, 2)] * given_anew
    assert node.view.held == given_anew
    lost = on_lost is not OnLost.WAIT
    assert world.ledger[execution_id].lost == lost
    assert world.ledger[execution_id].attempts == ({item.token: AttemptOutcome.LOST} if lost else {})


def test_c16_such_losses_count_each_time(world):
    node = world.node()
    [execution_id] = world.run()
    for _ in range(3):
        assert [item.id for item in node.work()] == [execution_id]
        node.start()
        node.hello()
        # However often: neither a second successor nor a second restart makes it anybody else's.
        world.restart()
        node.start()
        node.hello()
        world.restart()
        node.hello().credit(10)
    assert state(world, execution_id) is State.DEAD


def test_c18_after_a_restart_too_results_in_the_successors_outbox_count_before_anything_is_lost(world):
    node = world.node()
    finished, unfinished = world.run(2)
    items = {item.id: item for item in node.work()}
    node.start()
    node.hello()
    world.restart()
    node.hello()
    node.report(items[finished])
    node.credit(10)
    assert state(world, finished) is State.COMPLETED
    assert [(item.id, item.attempt) for item in node.work()] == [(unfinished, 2)]


def test_c11_what_the_successor_was_given_is_its_own_after_a_restart(world):
    node = world.node()
    world.run()
    node.work()
    node.start()
    node.hello().credit(10)
    [running] = node.work()
    world.run()
    [unheard] = node.work()
    world.restart()
    node.hello(running=[running]).credit(10)
    assert node.work() == [unheard]
    assert node.view.held == 2


def test_c11_what_a_node_runs_is_its_own_though_the_store_failed_to_note_its_coming(world):
    node = world.node()
    predecessor = node.view.record()
    node.start()
    node.hello().credit(10)
    [execution_id] = world.run()
    [item] = node.work()
    world.restart([predecessor])
    node.hello(running=[item]).credit(10)
    assert node.work() == []
    assert node.view.held == 1
    node.report(item)
    assert (state(world, execution_id), node.view.held) == (State.COMPLETED, 0)
    assert world.ledger[execution_id].tokens == [item.token]


def test_c21_a_cancel_of_what_a_dead_process_may_have_begun_ends_it_when_the_successor_is_in_sync(world):
    node = world.node()
    [execution_id] = world.run()
    node.work()
    node.start()
    node.hello()
    world.restart()
    node.hello()
    assert world.cancel(execution_id) == "requested"
    assert node.got(m.Cancel) == []
    assert state(world, execution_id) is State.RUNNING
    node.credit(10)
    assert state(world, execution_id) is State.CANCELLED


def test_c10_if_the_successor_does_not_come_back_either_all_is_lost_after_a_full_lease(world):
    node = world.node()
    [of_the_first] = world.run()
    node.work()
    node.start()
    node.hello()
    world.restart()
    other = world.node("n2")
    world.advance(15.5, alive=[other])
    assert state(world, of_the_first) is State.RUNNING
    world.advance(1, alive=[other])
    assert [(item.id, item.attempt) for item in other.work()] == [(of_the_first, 2)]


def test_c18_what_is_left_of_an_earlier_process_keeps_nobody_from_the_id_of_a_node_that_said_goodbye(world):
    node = world.node()
    world.run(options=options(on_lost=OnLost.WAIT))
    node.work()
    node.start()
    node.hello().credit(10).bye()
    world.restart()
    assert Peer(world, "n1", key="another state directory").hello().got(m.Deny) == []


def test_c10_a_stranger_that_got_the_id_is_not_given_what_the_one_before_may_have_begun(world):
    node = world.node()
    [execution_id] = world.run(options=options(on_lost=OnLost.FAIL))
    node.work()
    node.disconnect()
    world.advance(14)
    world.mono_s = node.view.instance.lease_end_s + world.config.lease_margin_s
    stranger = Peer(world, "n1", key="another state directory")
    assert stranger.hello().got(m.Deny) == []
    assert state(world, execution_id) is State.RUNNING
    world.restart()
    stranger.hello().credit(10)
    assert stranger.work() == []
    assert state(world, execution_id) is State.FAILED


def test_what_was_handed_back_and_waits_for_an_operator_is_not_sent_again_after_a_restart(world):
    node = world.node()
    [execution_id] = world.run(options=options(on_lost=OnLost.WAIT))
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.HANDED_BACK, started_us=world.now.wall_us)
    assert node.acks() == {"recorded": [item.token]}
    world.restart()
    node.hello().credit(10)
    assert node.work() == []
    assert node.view.held == 0
    assert state(world, execution_id) is State.RUNNING


def test_after_a_restart_an_operators_drain_is_still_in_force(world):
    node = world.node()
    world.operate("n1", "drain")
    world.restart()
    node.inbox.clear()
    node.hello().credit(10)
    assert [message.on for message in node.got(m.ServerDrain)] == [True]
    world.run()
    assert node.work() == []


# --- C18: the same node id twice --------------------------------------------------------------------------------


def test_c18_the_living_incumbent_stays_and_the_newcomer_is_denied_with_the_reason(world):
    incumbent = world.node("n1")
    newcomer = Peer(world, "n1", key="another state directory").hello()
    [denial] = newcomer.got(m.Deny)
    assert (denial.code, denial.retry) == ("duplicate_node", False)
    assert "n1" in denial.reason
    world.run()
    assert len(incumbent.work()) == 1


@pytest.mark.parametrize("silence_s", [7, 11])
def test_c18_while_the_incumbent_is_silent_a_stranger_waits_for_the_end_of_its_lease(world, silence_s):
    incumbent = world.node("n1")
    [execution_id] = world.run()
    incumbent.work()
    world.advance(silence_s)
    stranger = Peer(world, "n1", key="another state directory")
    [denial] = stranger.hello().got(m.Deny)
    assert (denial.code, denial.retry) == ("duplicate_node", True)
    assert state(world, execution_id) is State.RUNNING
    world.advance(16.5 - silence_s)
    assert stranger.hello().got(m.Deny) == []
    [item] = stranger.credit(10).work()
    assert (item.id, item.attempt) == (execution_id, 2)


def test_c18_after_a_goodbye_the_id_is_free_at_once(world):
    world.node("n1").bye()
    assert Peer(world, "n1", key="another state directory").hello().got(m.Deny) == []


def test_c18_a_restart_from_the_same_state_directory_takes_over_at_once(world):
    node = world.node("n1")
    [execution_id] = world.run()
    [old] = node.work()
    node.start()
    node.hello()
    assert state(world, execution_id) is State.RUNNING
    node.credit(10)
    [new] = node.work()
    assert (new.id, new.attempt) == (execution_id, 2)
    assert world.ledger[execution_id].attempts == {old.token: AttemptOutcome.LOST}


def test_c18_results_in_the_successors_outbox_count_before_anything_is_lost(world):
    node = world.node("n1")
    finished, unfinished = world.run(2)
    items = {item.id: item for item in node.work()}
    node.start()
    node.hello()
    node.report(items[finished])
    assert node.acks() == {"recorded": [items[finished].token]}
    node.credit(10)
    assert state(world, finished) is State.COMPLETED
    assert [item.id for item in node.work()] == [unfinished]


def test_c18_a_successor_that_reconnects_before_it_is_in_sync_is_still_a_successor(world):
    node = world.node("n1")
    [execution_id] = world.run()
    node.work()
    node.start()
    node.hello()
    node.disconnect()
    node.hello().credit(10)
    [item] = node.work()
    assert (item.id, item.attempt) == (execution_id, 2)


def test_c18_the_predecessor_is_denied_for_good(world):
    old = world.node("n1")
    new = Peer(world, "n1")
    new.epoch = old.epoch
    new.start()
    new.hello().credit(10)
    told, denial = old.hello().got(m.Deny)
    assert (denial.code, denial.retry) == ("stale_epoch", False) == (told.code, told.retry)
    old.heartbeat()
    assert old.got(m.ErrorMessage)[0].code == "no_session"


def test_c18_a_predecessor_that_is_alive_is_told_at_once_that_it_is_one(world):
    """Whoever copies a state directory has two processes with one secret; the earlier must not meet reruns."""
    old = world.node("n1")
    old.got(m.Deny)
    new = Peer(world, "n1")
    new.epoch = old.epoch
    new.start()
    new.hello().credit(10)
    [denial] = old.got(m.Deny)
    assert (denial.code, denial.retry) == ("stale_epoch", False)
    assert new.got(m.Deny) == []


def test_c18_the_same_process_may_reconnect_while_its_old_socket_seems_alive(world):
    node = world.node("n1")
    world.run()
    [item] = node.work()
    old_address = node.address
    node.hello(running=[item]).credit(10)
    world.core.disconnected(old_address, world.now)
    world.settle()
    assert node.view.state is NodeState.ONLINE
    assert node.view.held == 1


def test_c18_a_stranger_after_a_server_restart_waits_for_the_lease_too(world):
    node = world.node("n1")
    world.run()
    node.work()
    world.restart()
    stranger = Peer(world, "n1", key="another state directory")
    [denial] = stranger.hello().got(m.Deny)
    assert denial.retry
    world.advance(16.5)
    assert stranger.hello().got(m.Deny) == []


# --- C22, drain by an operator --------------------------------------------------------------------------------------


def test_a_drained_node_gets_no_new_work_and_goes_on_with_what_it_runs(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.operate("n1", "drain")
    assert [message.on for message in node.got(m.ServerDrain)] == [True]
    world.run()
    assert node.work() == []
    node.report(item)
    assert state(world, execution_id) is State.COMPLETED
    assert node.work() == []
    world.operate("n1", None)
    assert len(node.work()) == 1


def test_a_leaving_node_that_comes_back_as_a_new_process_gets_work(world):
    node = world.node()
    node.leave()
    world.run()
    assert node.work() == []
    node.start()
    node.hello().credit(1)
    assert len(node.work()) == 1


def test_a_leaving_node_that_reconnects_and_says_so_again_is_still_leaving(world):
    node = world.node()
    node.leave()
    node.hello().leave()
    node.credit(5)
    world.run()
    assert node.work() == []


def test_a_node_that_says_hello_and_nothing_of_leaving_is_not_leaving_any_more(world):
    node = world.node()
    node.leave()
    node.hello().credit(1)
    world.run()
    assert len(node.work()) == 1


def test_an_attempt_whose_start_was_committed_after_the_drain_goes_elsewhere(world):
    node = world.node("n1", window=1)
    other = world.node("n2", window=0)
    [row] = world.rows()
    world.core.place([row], world.now)
    world.ledger.insert([row])
    world.operate("n1", "drain")
    world.core.committed([row], world.now)
    world.settle()
    assert node.work() == []
    assert [item.attempt for item in other.credit(1).work()] == [1]


def test_a_node_that_claims_what_is_over_is_told_to_stop_it(world):
    node = world.node()
    world.run()
    [item] = node.work()
    node.disconnect()
    world.advance(17)
    node.hello(running=[item])
    assert [message.tokens for message in node.got(m.Cancel)] == [[item.token]]
