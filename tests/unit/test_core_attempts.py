"""The dispatch core's promises about attempts: C5, C6, C7, C10, C13, C16, C21, C22."""

from __future__ import annotations

import pytest

from schedule_zero.job_options import JobOptions, OnLost
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from schedule_zero.wire import messages as m
from tests.unit.core_world import World


@pytest.fixture
def world():
    return World()


def options(**fields):
    return outfit(JobOptions(**fields), JobOptions(), Source.SUBMISSION).options


def state(world, execution_id):
    return world.ledger[execution_id].state


# --- the straight way ---------------------------------------------------------------------------------


def test_an_execution_that_finds_a_free_place_is_born_running_and_sent_after_its_commit(world):
    node = world.node()
    [row] = world.rows()
    world.core.place([row], world.now)
    world.settle()
    assert (row.state, row.attempt, row.node_id) == (State.RUNNING, 1, "n1")
    assert node.work() == []
    world.ledger.insert([row])
    world.core.committed([row], world.now)
    world.settle()
    [item] = node.work()
    assert (item.id, item.token, item.attempt) == (row.id, row.token, 1)


def test_a_result_is_acknowledged_after_its_commit_and_not_before(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.holding = True
    node.report(item, result=b"3")
    assert node.acks() == {}
    world.release()
    assert node.acks() == {"recorded": [item.token]}
    assert (state(world, execution_id), world.ledger[execution_id].result) == (State.COMPLETED, b"3")


def test_an_execution_that_finds_no_place_waits_and_is_started_when_one_is_free(world):
    node = world.node(window=1)
    first, second = world.run(2)
    [item] = node.work()
    assert item.id == first
    assert state(world, second) is State.PENDING
    node.report(item)
    [item] = node.work()
    assert item.id == second


def test_a_start_is_sent_after_its_commit_and_not_before(world):
    node = world.node(window=1)
    _, second = world.run(2)
    [item] = node.work()
    world.holding = True
    node.report(item)
    assert node.work() == []
    world.release()
    assert [item.id for item in node.work()] == [second]


def test_an_insert_that_failed_frees_its_places(world):
    node = world.node(window=2)
    rows = world.rows(2)
    world.core.place(rows, world.now)
    assert node.view.held == 2
    world.core.abandoned(rows, world.now)
    assert node.view.held == 0
    assert [row.state for row in rows] == [State.PENDING] * 2
    assert len(world.run(2)) == len(node.work()) == 2


def test_the_window_is_an_absolute_number(world):
    node = world.node(window=2)
    world.run(10)
    assert len(node.work()) == 2
    node.credit(2)
    assert node.work() == []
    node.credit(5)
    assert len(node.work()) == 3
    node.credit(1)
    assert node.work() == []


def test_a_large_dispatch_is_cut_into_pieces(world):
    node = world.node(window=1200)
    world.run(1200)
    assert [len(message.items) for message in node.got(m.Dispatch)] == [500, 500, 200]
    big = world.node("n2", pairs=(("big", "m"),))
    world.run(3, handler_id="big", params=b'"' + b"x" * 700_000 + b'"')
    assert [len(message.items) for message in big.got(m.Dispatch)] == [1, 1, 1]


# --- C5: dispatched until accepted ----------------------------------------------------------------------


def test_c5_a_dispatch_that_is_not_accepted_is_sent_again_with_the_same_token(world):
    node = world.node()
    world.run()
    [item] = node.work()
    world.advance(1.5, alive=[node])
    assert node.work() == []
    world.advance(1.0, alive=[node])
    assert node.work() == [item]
    world.advance(2.5, alive=[node])
    assert node.work() == [item]
    node.accept(item)
    world.advance(10, alive=[node])
    assert node.work() == []


def test_c5_an_execution_waits_for_a_node_as_long_as_it_takes(world):
    [execution_id] = world.run()
    world.advance(1000)
    assert state(world, execution_id) is State.PENDING
    assert [item.id for item in world.node().work()] == [execution_id]


def test_c5_a_dispatch_lost_with_its_connection_is_sent_again_after_the_reconnect(world):
    node = world.node()
    world.run()
    [item] = node.work()
    node.disconnect()
    node.hello().credit(10)
    assert node.work() == [item]


def test_an_attempt_that_was_never_sent_goes_to_another_node_at_once_and_burns_nothing(world):
    first = world.node("n1")
    [row] = world.rows()
    world.core.place([row], world.now)
    world.ledger.insert([row])
    second = world.node("n2")
    first.disconnect()
    world.core.committed([row], world.now)
    world.settle()
    [item] = second.work()
    assert (item.id, item.attempt) == (row.id, 1)


def test_an_attempt_committed_while_its_node_synchronises_is_sent_at_its_first_credit(world):
    node = world.node(window=1)
    world.run(2)
    [first] = node.work()
    world.holding = True
    node.report(first)
    world.holding = False
    node.hello()
    world.release()
    assert node.work() == []
    node.credit(10)
    assert len(node.work()) == 1


# --- C6, C7: tokens and replays ---------------------------------------------------------------------------


def test_c7_a_replayed_result_is_a_duplicate_and_changes_nothing(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.report(item, result=b"1")
    node.acks()
    node.report(item, result=b"2")
    assert node.acks() == {"duplicate": [item.token]}
    assert world.ledger[execution_id].result == b"1"
    assert world.ledger.stale == []


def test_c7_a_result_that_comes_twice_while_it_is_recorded_is_answered_once_it_is(world):
    node = world.node()
    world.run()
    [item] = node.work()
    world.holding = True
    node.report(item, result=b"1")
    node.report(item, result=b"1")
    assert node.acks() == {}
    world.release()
    assert node.acks() == {"recorded": [item.token]}


def test_c7_the_answer_goes_to_the_newest_session(world):
    node = world.node()
    world.run()
    [item] = node.work()
    world.holding = True
    node.report(item)
    node.hello(running=[item])
    world.release()
    [ack] = node.got(m.ResultAck)
    assert (ack.s, ack.recorded) == (node.s, [item.token])


def test_c6_a_result_with_an_old_token_is_refused_and_recorded_as_stale(world):
    first = world.node("n1")
    [execution_id] = world.run()
    [old] = first.work()
    first.disconnect()
    world.advance(17)
    second = world.node("n2")
    [new] = second.work()
    assert new.id == execution_id
    assert new.token > old.token
    first.hello()
    first.report(old, result=b'"late"')
    assert first.acks() == {"superseded": [old.token]}
    assert [row.token for row in world.ledger.stale] == [old.token]
    second.report(new, result=b'"right"')
    assert world.ledger[execution_id].result == b'"right"'


def test_c6_a_result_after_its_loss_was_committed_is_superseded_even_before_the_rerun(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.disconnect()
    world.advance(17)
    assert state(world, execution_id) is State.PENDING
    node.hello()
    node.report(item)
    assert node.acks() == {"superseded": [item.token]}
    assert state(world, execution_id) is State.PENDING


def test_c6_a_result_while_its_loss_is_being_committed_is_not_answered(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.disconnect()
    world.holding = True
    world.advance(17)
    node.hello()
    node.report(item)
    assert node.acks() == {}
    world.release()
    assert state(world, execution_id) is State.PENDING
    node.report(item)
    assert node.acks() == {"superseded": [item.token]}


def test_a_result_of_an_unknown_execution_is_unknown(world):
    node = world.node()
    node.report(m.Held(id="nobody", token=77))
    assert node.acks() == {"unknown": [77]}


def test_a_node_cannot_end_an_attempt_of_another_node(world):
    first = world.node("n1", window=1)
    [execution_id] = world.run()
    [item] = first.work()
    thief = world.node("n2")
    thief.report(item)
    assert thief.acks() == {}
    assert state(world, execution_id) is State.RUNNING
    assert world.notes[-1][0] == "result_of_anothers_attempt"


def test_c17_a_node_that_keeps_reporting_what_is_not_its_own_is_told_of_once_a_second(world):
    thief, owner = world.node("n1"), world.node("n3", pairs=(("h3", "m"),))
    world.run(handler_id="h3")
    [item] = owner.work()
    before = len(world.notes)
    for _ in range(50):
        thief.report(item)
    world.advance(1.5, alive=(thief, owner))
    thief.report(item)
    notes = [fields for event, fields in world.notes[before:] if event == "result_of_anothers_attempt"]
    assert [fields["count"] for fields in notes] == [1, 50]


def test_a_token_with_another_executions_id_ends_nothing(world):
    node = world.node()
    one, two = world.run(2)
    items = {item.id: item for item in node.work()}
    node.report(m.Held(id=one, token=items[two].token))
    assert state(world, one) is state(world, two) is State.RUNNING


@pytest.mark.parametrize("result", [b"{", b"NaN", b'"\xff"', b"", b"1 2", b"[" * 100_000])
def test_a_result_that_is_not_json_is_a_failure_of_the_job(world, result):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.report(item, result=result)
    assert node.acks() == {"recorded": [item.token]}
    assert state(world, execution_id) is State.FAILED
    assert b"InvalidResult" in world.ledger[execution_id].error


def test_a_result_that_is_too_large_is_a_failure_of_the_job(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.report(item, result=b'"' + b"x" * (2 << 20) + b'"')
    assert state(world, execution_id) is State.FAILED
    assert b"ResultTooLarge" in world.ledger[execution_id].error


# --- retries --------------------------------------------------------------------------------------------


def test_a_failed_attempt_with_attempts_left_is_retried_when_it_is_due(world):
    node = world.node()
    [execution_id] = world.run(options=options(max_attempts=2, retry_delay_s=3))
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.FAILED)
    assert state(world, execution_id) is State.RETRY_SCHEDULED
    assert world.ledger[execution_id].not_before_us == world.now.wall_us + 3_000_000
    world.advance(3, alive=[node])
    world.release_due()
    [again] = node.work()
    assert (again.id, again.attempt) == (execution_id, 2)
    node.report(again, outcome=AttemptOutcome.FAILED)
    assert state(world, execution_id) is State.FAILED


# --- C10, C16: lost attempts -------------------------------------------------------------------------------


def test_c10_a_rerun_starts_only_after_the_lease_and_a_margin(world):
    node = world.node("n1")
    [execution_id] = world.run()
    node.work()
    other = world.node("n2")
    world.advance(3, alive=[node, other])
    node.disconnect()
    # The last heartbeat came at 3 s: lease 15 s, margin 1 s.
    world.advance(15.5, alive=[other])
    assert state(world, execution_id) is State.RUNNING
    world.advance(1.0, alive=[other])
    [item] = other.work()
    assert (item.id, item.attempt) == (execution_id, 2)
    assert world.ledger[execution_id].lost == 1


def test_c10_on_lost_fail_ends_the_execution(world):
    node = world.node()
    [execution_id] = world.run(options=options(idempotent=False))
    node.disconnect()
    world.advance(17)
    assert state(world, execution_id) is State.FAILED
    assert b"NodeLost" in world.ledger[execution_id].error


def test_c10_on_lost_wait_leaves_it_until_the_result_comes(world):
    node = world.node()
    [execution_id] = world.run(options=options(on_lost=OnLost.WAIT))
    [item] = node.work()
    node.disconnect()
    world.advance(100)
    assert state(world, execution_id) is State.RUNNING
    node.hello(running=[item])
    node.report(item)
    node.credit(10)
    assert state(world, execution_id) is State.COMPLETED


def test_c10_on_lost_wait_can_be_cancelled_by_an_operator(world):
    node = world.node()
    [execution_id] = world.run(options=options(on_lost=OnLost.WAIT))
    node.disconnect()
    world.advance(100)
    assert world.cancel(execution_id) == "requested"
    assert state(world, execution_id) is State.CANCELLED


@pytest.mark.parametrize("cancelled_first", [False, True])
def test_c21_what_waits_for_its_result_after_a_loss_is_cancelled_once_its_node_says_that_it_has_it_not(
    world, cancelled_first
):
    node = world.node()
    [execution_id] = world.run(options=options(on_lost=OnLost.WAIT))
    [item] = node.work()
    node.accept(item)
    if cancelled_first:
        world.cancel(execution_id)
    node.reject(item, reason="fenced")
    if not cancelled_first:
        assert state(world, execution_id) is State.RUNNING
        assert world.cancel(execution_id) == "requested"
        assert [message.tokens for message in node.got(m.Cancel)] == [[item.token]]
        node.reject(item, reason="not_held")
    assert state(world, execution_id) is State.CANCELLED
    node.got(m.Cancel)
    world.advance(60, alive=[node])
    assert node.got(m.Cancel) == []


def test_c16_a_job_that_kills_its_node_three_times_is_dead_and_others_go_on(world):
    node = world.node(window=2)
    poison, fine = world.run(2)
    for _ in range(3):
        items = {item.id: item for item in node.work()}
        assert poison in items
        if fine in items:
            node.report(items[fine])
        node.disconnect()
        node.start()
        node.hello().credit(2)
    assert state(world, poison) is State.DEAD
    assert world.ledger[poison].lost == 3
    assert state(world, fine) is State.COMPLETED
    assert node.work() == []


def test_c16_a_late_result_of_a_dead_execution_is_superseded(world):
    world = World(max_lost=1)
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.disconnect()
    world.advance(17)
    assert state(world, execution_id) is State.DEAD
    node.hello()
    node.report(item)
    assert node.acks() == {"superseded": [item.token]}


# --- C13: the store fails -------------------------------------------------------------------------------------


def test_c13_a_result_that_could_not_be_recorded_is_not_acknowledged_and_wins_when_it_is_repeated(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.store_down = True
    node.report(item)
    node.report(item)
    assert node.acks() == {}
    world.store_down = False
    node.report(item)
    assert node.acks() == {"recorded": [item.token]}
    assert state(world, execution_id) is State.COMPLETED


def test_c13_starts_that_could_not_be_recorded_wait_and_are_tried_again(world):
    node = world.node(window=1)
    _, second, _ = world.run(3)
    [first] = node.work()
    world.store_down = True
    node.report(first)
    world.advance(3, alive=[node])
    assert node.work() == []
    world.store_down = False
    node.report(first)
    world.advance(6, alive=[node])
    assert {(item.id, item.attempt) for item in node.work()} == {(second, 1)}
    assert node.view.held == 1


def test_c13_a_failing_store_is_not_hammered_with_starts(world):
    node = world.node(window=0)
    world.run(5)
    world.store_down = True
    attempts = []
    perform = world.perform

    def counting(effect):
        attempts.append(type(effect).__name__)
        perform(effect)

    world.perform = counting
    node.credit(5)
    world.advance(60, alive=[node])
    assert 5 < attempts.count("RecordStart") < 30


def test_c13_a_loss_that_could_not_be_recorded_is_tried_again(world):
    node = world.node()
    [execution_id] = world.run()
    node.disconnect()
    world.store_down = True
    world.advance(20)
    assert state(world, execution_id) is State.RUNNING
    world.store_down = False
    world.advance(1)
    assert state(world, execution_id) is State.PENDING


def test_c13_a_result_that_comes_before_its_loss_could_be_recorded_wins(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.disconnect()
    world.store_down = True
    world.advance(20)
    world.store_down = False
    node.hello(running=[item])
    node.report(item)
    assert state(world, execution_id) is State.COMPLETED
    world.advance(5, alive=[node])
    assert world.ledger[execution_id].lost == 0


def test_c13_a_node_that_comes_back_before_its_loss_could_be_recorded_keeps_its_work(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.disconnect()
    world.store_down = True
    world.advance(20)
    node.hello(running=[item]).credit(10)
    world.store_down = False
    world.advance(5, alive=[node])
    assert state(world, execution_id) is State.RUNNING
    assert node.view.held == 1
    node.report(item)
    assert (state(world, execution_id), node.view.held) == (State.COMPLETED, 0)


# --- C21: cancel ------------------------------------------------------------------------------------------------


def test_c21_a_running_attempt_is_cancelled_by_its_node(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.accept(item)
    assert world.cancel(execution_id) == "requested"
    assert [message.tokens for message in node.got(m.Cancel)] == [[item.token]]
    node.report(item, outcome=AttemptOutcome.CANCELLED)
    assert state(world, execution_id) is State.CANCELLED


def test_c21_a_cancel_is_repeated_until_the_node_answers(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.accept(item)
    world.cancel(execution_id)
    world.advance(4.5, alive=[node])
    assert len(node.got(m.Cancel)) == 3
    node.report(item, outcome=AttemptOutcome.CANCELLED)
    world.advance(10, alive=[node])
    assert node.got(m.Cancel) == []


def test_c21_a_result_that_overtakes_the_cancel_stands(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.holding = True
    node.report(item)
    world.cancel(execution_id)
    world.release()
    assert state(world, execution_id) is State.COMPLETED


def test_c21_a_failure_after_the_cancel_is_not_retried(world):
    node = world.node()
    [execution_id] = world.run(options=options(max_attempts=5))
    [item] = node.work()
    world.cancel(execution_id)
    node.report(item, outcome=AttemptOutcome.FAILED)
    assert state(world, execution_id) is State.CANCELLED


def test_c21_a_cancel_that_races_with_a_retry_ends_as_cancelled(world):
    node = world.node()
    [execution_id] = world.run(options=options(max_attempts=5))
    [item] = node.work()
    world.holding = True
    node.report(item, outcome=AttemptOutcome.FAILED)
    world.cancel(execution_id)
    world.release()
    assert state(world, execution_id) is State.CANCELLED
    world.advance(20, alive=[node])
    world.release_due()
    assert node.work() == []


def test_c21_an_execution_that_is_being_started_is_cancelled_without_being_sent(world):
    node = world.node(window=1)
    _, second = world.run(2)
    [item] = node.work()
    world.holding = True
    node.report(item)
    [end, start] = [*world.held, *[None] * (2 - len(world.held))]
    assert start is not None, end
    world.holding = False
    world.held.remove(start)
    refused = world.ledger.start(start.items)
    assert world.cancel(second) == "requested"
    world.core.started(start.attempts, refused, world.now)
    world.settle()
    assert node.work() == []
    assert state(world, second) is State.CANCELLED


def test_c21_an_execution_cancelled_while_it_waits_is_not_started(world):
    node = world.node(window=1)
    _, second, third = world.run(3)
    assert world.cancel(second) == "cancelled"
    [item] = node.work()
    node.report(item)
    assert [item.id for item in node.work()] == [third]
    assert state(world, second) is State.CANCELLED
    assert node.view.held == 1


def test_c21_on_a_lost_node_it_ends_as_cancelled_when_the_lease_is_over(world):
    node = world.node()
    [execution_id] = world.run()
    node.disconnect()
    world.cancel(execution_id)
    assert state(world, execution_id) is State.RUNNING
    world.advance(17)
    assert state(world, execution_id) is State.CANCELLED
    assert world.node("n2").work() == []


def test_c21_a_node_that_comes_back_with_a_cancelled_attempt_is_told_again(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.disconnect()
    world.cancel(execution_id)
    node.hello(running=[item]).credit(10)
    assert [message.tokens for message in node.got(m.Cancel)] == [[item.token]]


def test_c21_a_node_that_comes_back_without_the_cancelled_attempt_ends_it(world):
    node = world.node()
    [execution_id] = world.run()
    node.work()
    node.disconnect()
    world.cancel(execution_id)
    node.hello().credit(10)
    assert state(world, execution_id) is State.CANCELLED
    assert node.work() == []


def test_c21_a_node_that_never_saw_the_cancelled_attempt_rejects_it(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.cancel(execution_id)
    node.reject(item, reason="not_held")
    assert state(world, execution_id) is State.CANCELLED


def test_c21_a_cancel_survives_a_server_restart(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    world.cancel(execution_id)
    node.inbox.clear()
    world.restart()
    node.hello(running=[item]).credit(10)
    assert [message.tokens for message in node.got(m.Cancel)] == [[item.token]]


# --- giving back ------------------------------------------------------------------------------------------------


def test_c22_what_a_draining_node_gives_back_goes_to_another_and_burns_no_attempt(world):
    first = world.node("n1")
    world.run(2)
    items = first.work()
    second = world.node("n2")
    first.leave()
    first.reject(*items, reason="draining")
    again = second.work()
    assert [item.attempt for item in again] == [1, 1]
    assert {item.token for item in again}.isdisjoint(item.token for item in items)


def test_c22_a_started_job_that_is_handed_back_at_the_deadline_burns_no_attempt(world):
    first = world.node("n1")
    [execution_id] = world.run()
    [item] = first.work()
    first.accept(item)
    second = world.node("n2")
    first.leave()
    first.report(item, outcome=AttemptOutcome.HANDED_BACK)
    assert first.acks() == {"recorded": [item.token]}
    [again] = second.work()
    assert (again.id, again.attempt) == (execution_id, 1)


def test_c22_a_started_job_that_may_not_run_twice_fails_when_it_is_handed_back(world):
    node = world.node()
    [execution_id] = world.run(options=options(idempotent=False))
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.HANDED_BACK)
    assert state(world, execution_id) is State.FAILED


def test_an_unexplained_reject_is_not_answered_with_the_same_work_at_once(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.reject(item, reason="no idea")
    assert state(world, execution_id) is State.RETRY_SCHEDULED
    assert node.work() == []
    world.advance(1, alive=[node])
    world.release_due()
    assert [again.attempt for again in node.work()] == [1]


def test_an_overcommitted_node_gives_back_and_another_takes_over_at_once(world):
    first = world.node("n1", window=2)
    world.run(2)
    items = first.work()
    second = world.node("n2", window=5)
    first.credit(1)
    first.reject(items[1], reason="overcommitted")
    assert [item.id for item in second.work()] == [items[1].id]


def test_a_method_that_a_node_does_not_know_is_not_sent_to_it_again(world):
    old = world.node("old", pairs=(("h", "m"), ("h", "new")))
    [execution_id] = world.run(job_method="new")
    [item] = old.work()
    old.reject(item, reason="unknown_method")
    world.advance(2, alive=[old])
    world.release_due()
    assert old.work() == []
    assert world.notes[-1][0] == "method_unknown_to_node"
    new = world.node("new", pairs=(("h", "new"),))
    assert [item.id for item in new.work()] == [execution_id]


def test_bye_gives_back_what_was_not_accepted_without_waiting_for_the_lease(world):
    node = world.node("n1")
    [execution_id] = world.run()
    node.bye()
    assert state(world, execution_id) is State.PENDING
    assert [item.attempt for item in world.node("n2").work()] == [1]


def test_accept_records_when_the_method_was_entered(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.accept(item)
    assert world.ledger[execution_id].started_us is None
    started_us = world.ledger[execution_id].row.dispatched_us + 123
    node.accept(item, started_us=started_us)
    assert world.ledger[execution_id].started_us == started_us


def test_no_attempt_starts_before_it_was_sent(world):
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()

    node.accept(item, started_us=1)

    assert world.ledger[execution_id].started_us == world.ledger[execution_id].row.dispatched_us


def test_a_node_that_accepts_what_is_over_is_told_to_stop(world):
    node = world.node()
    node.accept(m.Held(id="x", token=99))
    assert [message.tokens for message in node.got(m.Cancel)] == [[99]]


def test_tokens_grow_over_a_server_restart(world):
    node = world.node()
    world.run()
    [item] = node.work()
    world.restart()
    node.hello(running=[item]).credit(10)
    world.run()
    [next_item] = node.work()
    assert next_item.token > item.token
    assert next_item.token < 2**53


@pytest.mark.parametrize("how", ["lost", "reported"])
def test_c12_no_attempt_ends_before_it_began_though_the_clock_is_set_back(world, how):
    """(The ledger of this world refuses one that does.)"""
    node = world.node()
    [execution_id] = world.run()
    [item] = node.work()
    node.accept(item, started_us=world.now.wall_us)
    world.wall_step_s = -3600.0

    if how == "reported":
        node.report(item)
    else:
        node.disconnect()
        world.advance(20)

    outcomes = world.ledger[execution_id]
    assert (outcomes.state is State.COMPLETED) == (how == "reported")
    assert outcomes.lost == (how == "lost")
