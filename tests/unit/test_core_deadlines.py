"""The dispatch core and ``queue_timeout_s``: nothing is sent too late. And cancel at every state, and other edges."""

from __future__ import annotations

import pytest

from schedule_zero.job_options import JobOptions
from schedule_zero.model import AttemptOutcome, Execution, State
from schedule_zero.rules.birth import equip
from schedule_zero.rules.options import Source
from schedule_zero.wire.messages import DispatchItem
from tests.unit.core_world import Peer, World

S = 1_000_000


@pytest.fixture
def world():
    return World()


def queued(world: World, count: int = 1, queue_timeout_s: float = 10.0, **said) -> list[Execution]:
    rows = world.rows(count, created_us=world.now.wall_us)
    for row in rows:
        equip(row, JobOptions(queue_timeout_s=queue_timeout_s, **said), JobOptions(), Source.SUBMISSION)
    return rows


def occupied(world: World) -> tuple[Peer, DispatchItem]:
    """A node that has room for one job, and has begun one."""
    node = world.node(window=1)
    world.run()
    [busy] = node.work()
    node.accept(busy)
    return node, busy


def state(world: World, id_: str) -> State:
    return world.ledger[id_].state


def test_what_waits_for_a_node_for_too_long_is_misfired_when_its_time_has_come(world):
    [row] = queued(world)
    [id_] = world.submit([row])

    world.advance(9.5)
    assert state(world, id_) is State.PENDING
    world.advance(0.5)

    assert state(world, id_) is State.MISFIRED
    assert world.node().work() == []


def test_what_is_in_memory_when_its_time_is_over_is_not_sent(world):
    node, busy = occupied(world)
    late, good = world.submit([*queued(world), *queued(world, queue_timeout_s=60.0)])

    world.advance(10.0, alive=[node])
    node.report(busy)

    assert [item.id for item in node.work()] == [good]
    assert state(world, late) is State.MISFIRED


def test_a_start_that_is_decided_after_the_deadline_is_refused_although_the_timer_is_late(world):
    node, busy = occupied(world)
    [late] = world.submit(queued(world))
    world.expire = lambda: None

    world.advance(10.0, alive=[node])
    node.report(busy)

    assert node.work() == []
    assert state(world, late) is State.PENDING


def test_one_whose_start_took_too_long_to_commit_is_not_sent(world):
    node = world.node()
    [row] = queued(world)
    world.core.place([row], world.now)
    world.ledger.insert([row])
    assert row.state is State.RUNNING

    world.advance(11.0, alive=[node])
    world.core.committed([row], world.now)
    world.settle()
    world.expire()

    assert node.work() == []
    assert state(world, row.id) is State.MISFIRED


def test_a_retry_has_its_time_from_when_it_is_due(world):
    node = world.node()
    [id_] = world.submit(queued(world, max_attempts=2, retry_delay_s=30.0))
    [item] = node.work()
    world.advance(60.0, alive=[node])
    node.report(item, outcome=AttemptOutcome.FAILED)

    assert world.ledger[id_].start_by_us == world.now.wall_us + 40 * S
    node.disconnect()
    world.advance(39.5)
    assert state(world, id_) is State.RETRY_SCHEDULED
    world.advance(0.5)
    assert state(world, id_) is State.MISFIRED


def test_a_rerun_is_not_misfired_because_it_had_to_wait_for_the_lease_of_the_lost_attempt(world):
    node = world.node()
    [id_] = world.submit(queued(world, queue_timeout_s=5.0))
    node.accept(*node.work())
    node.disconnect()

    world.advance(17.0)
    assert state(world, id_) is State.PENDING
    assert world.ledger[id_].attempt == 1
    assert [item.attempt for item in world.node("n2").work()] == [2]


def test_what_is_given_back_unstarted_keeps_its_deadline(world):
    node = world.node()
    [row] = queued(world)
    deadline_us = row.start_by_us
    [id_] = world.submit([row])
    [item] = node.work()
    world.advance(4.0, alive=[node])

    node.reject(item, reason="too_late")

    assert world.ledger[id_].start_by_us == deadline_us
    assert state(world, id_) is State.RETRY_SCHEDULED
    world.advance(6.0, alive=[node])
    assert state(world, id_) is State.MISFIRED


def test_the_node_is_told_the_deadline_and_the_silence_that_it_may_keep(world):
    node = world.node()
    [row] = queued(world, heartbeat_timeout_s=7.0)
    world.submit([row])
    world.run()

    first, plain = node.work()
    assert (first.start_by_us, first.heartbeat_timeout_s) == (row.start_by_us, 7.0)
    assert (plain.start_by_us, plain.heartbeat_timeout_s) == (None, None)


def test_deadlines_survive_a_restart_of_the_server(world):
    [id_] = world.submit(queued(world))
    world.restart()

    world.advance(10.0)

    assert state(world, id_) is State.MISFIRED


# --- edge cases of this kind ------------------------------------------------------------------------------


def test_retries_that_are_used_up_while_the_server_is_away_end_it_when_the_server_is_back(world):
    node = world.node()
    [id_] = world.submit(queued(world, max_attempts=2, retry_delay_s=0.0))
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.FAILED)
    world.release_due()
    [last] = node.work()
    assert last.attempt == 2
    # The node's report of the last failure waits in its outbox while the server is killed and started again.
    world.restart()
    node.hello(running=[])
    node.report(last, outcome=AttemptOutcome.FAILED)
    node.credit(10)

    assert state(world, id_) is State.FAILED
    assert last.token in node.acks()["recorded"]
    world.advance(60.0, alive=[node])
    assert node.work() == []


def test_a_job_that_takes_an_hour_keeps_its_lease_and_its_one_attempt(world):
    node = world.node()
    [id_] = world.submit(queued(world, timeout_s=7200.0))
    [item] = node.work()
    node.accept(item, started_us=world.now.wall_us)

    world.advance(3600.0, alive=[node])
    node.report(item, result=b'"done"')

    record = world.ledger[id_]
    assert (record.state, record.attempt, len(record.tokens)) == (State.COMPLETED, 1, 1)


def test_a_thousand_jobs_and_more_at_once_each_end_once(world):
    node = world.node(window=100)
    ids = world.run(2500)
    done: list[str] = []
    while items := node.work():
        assert len(items) <= 100
        done += [item.id for item in items]
        node.report(*items)

    assert sorted(done) == sorted(ids)
    assert {state(world, id_) for id_ in ids} == {State.COMPLETED}


def test_what_is_less_important_does_not_starve_behind_a_stream_of_what_is_more(world):
    """Priority inversion: a low one that holds nobody up, and yet must come; a minute is worth a step."""
    node, busy = occupied(world)
    [low] = world.submit(world.rows(1, priority=1, created_us=world.now.wall_us))
    order: list[str] = []
    for _ in range(40):
        world.submit(world.rows(1, priority=10, created_us=world.now.wall_us))
        world.advance(30.0, alive=[node])
        node.report(busy)
        [busy] = node.work()
        node.accept(busy)
        order.append(busy.id)
        if busy.id == low:
            break

    # Nine steps are nine minutes; half a minute each.
    assert order.index(low) in (18, 19)


def test_a_critical_one_gets_the_next_free_place_although_low_ones_waited_first(world):
    node, busy = occupied(world)
    world.submit(world.rows(50, priority=1, created_us=world.now.wall_us))
    world.advance(10.0, alive=[node])
    [critical] = world.submit(world.rows(1, priority=15, created_us=world.now.wall_us))

    node.report(busy)

    assert [item.id for item in node.work()] == [critical]


# --- a clock that is set --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_s", [-86_400.0, -5.0, 5.0, 86_400.0])
def test_c12_what_waits_has_its_time_whatever_becomes_of_the_clock(world, by_s):
    node, busy = occupied(world)
    late, good = world.submit([*queued(world), *queued(world, queue_timeout_s=60.0)])
    world.advance(8.0, alive=[node])

    world.set_clock(by_s)
    world.advance(1.0, alive=[node])
    assert (state(world, late), state(world, good)) == (State.PENDING, State.PENDING)
    world.advance(1.5, alive=[node])
    assert (state(world, late), state(world, good)) == (State.MISFIRED, State.PENDING)

    node.report(busy)
    [item] = node.work()
    assert (item.id, item.start_by_us) == (good, world.ledger[good].start_by_us)
    assert 49 * S < item.start_by_us - world.now.wall_us < 50 * S


@pytest.mark.parametrize("by_s", [-86_400.0, 86_400.0])
def test_c12_what_is_being_started_or_was_given_back_keeps_its_time_too(world, by_s):
    node = world.node(window=1)
    world.holding = True
    [starting] = world.submit(queued(world))
    world.set_clock(by_s)
    world.release()
    [item] = node.work()
    assert item.id == starting

    world.set_clock(-by_s)
    node.reject(item)

    assert 0 < world.ledger[starting].start_by_us - world.now.wall_us <= 10 * S


def test_c12_what_is_being_started_when_the_clock_is_set_back_is_started_all_the_same(world):
    """The store moves its time before it looks whether it is too late, by the clock as it was: refused, it waits on."""
    node, busy = occupied(world)
    [waiting] = world.submit(queued(world, queue_timeout_s=30.0))
    world.holding = True
    node.report(busy)
    world.set_clock(-60.0)
    world.release()
    world.advance(1.0, alive=[node])

    assert [item.id for item in node.work()] == [waiting]


# --- cancel at every state --------------------------------------------------------------------------------


def waiting_for_its_time(world, node):
    [row] = world.rows(1, state=State.SCHEDULED, not_before_us=world.now.wall_us + 60 * S)
    return world.submit([row])[0]


def blocked(world, node):
    return world.submit(world.rows(1, state=State.BLOCKED))[0]


def pending(world, node):
    node.disconnect()
    return world.run()[0]


def between_attempts(world, node):
    [id_] = world.submit(queued(world, max_attempts=2, retry_delay_s=60.0))
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.FAILED)
    return id_


@pytest.mark.parametrize("arrive", [blocked, waiting_for_its_time, pending, between_attempts])
def test_a_cancel_of_what_waits_ends_it_at_once_and_nothing_starts_it_again(world, arrive):
    node = world.node()
    id_ = arrive(world, node)

    assert world.cancel(id_) == "cancelled"

    assert state(world, id_) is State.CANCELLED
    world.advance(120.0)
    world.release_due()
    assert world.node("n2").work() == []
    assert world.cancel(id_) == "terminal"


def test_a_cancel_between_placing_and_its_insert_comes_before_it_is_sent(world):
    node = world.node()
    [row] = world.rows()
    world.core.place([row], world.now)
    world.ledger.insert([row])
    # Committed, and the core has not heard of it yet.
    assert world.cancel(row.id) == "requested"
    world.core.committed([row], world.now)
    world.settle()

    assert node.work() == []
    assert state(world, row.id) is State.CANCELLED


@pytest.mark.parametrize("accepted", [False, True])
def test_a_cancel_of_what_was_sent_is_confirmed_by_its_node(world, accepted):
    node = world.node()
    [id_] = world.run()
    [item] = node.work()
    if accepted:
        node.accept(item, started_us=world.now.wall_us)

    assert world.cancel(id_) == "requested"
    assert state(world, id_) is State.RUNNING
    node.report(item, outcome=AttemptOutcome.CANCELLED)

    assert state(world, id_) is State.CANCELLED


@pytest.mark.parametrize("outcome", [AttemptOutcome.COMPLETED, AttemptOutcome.FAILED, AttemptOutcome.TIMEOUT])
def test_a_cancel_that_comes_while_the_end_is_being_committed_finds_that_end(world, outcome):
    node = world.node()
    [id_] = world.run()
    [item] = node.work()
    world.holding = True
    node.report(item, outcome=outcome)
    assert world.cancel(id_) == "requested"

    world.release()

    assert state(world, id_) is State(outcome.value)
    assert world.cancel(id_) == "terminal"
    assert sum(one in (State.CANCELLED, State(outcome.value)) for one in world.ledger[id_].history) == 1


@pytest.mark.parametrize("outcome", [AttemptOutcome.COMPLETED, AttemptOutcome.FAILED, AttemptOutcome.CANCELLED])
def test_a_cancel_of_what_is_over_changes_nothing(world, outcome):
    node = world.node()
    [id_] = world.run()
    node.report(*node.work(), outcome=outcome)
    was = state(world, id_)

    assert world.cancel(id_) == "terminal"

    assert state(world, id_) is was
