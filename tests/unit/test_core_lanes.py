"""Which work goes to which node: order, choice, limits, and the bounded window (C20)."""

from __future__ import annotations

import pytest

from schedule_zero.config import HandlerLimits, HandlerRule
from schedule_zero.model import AttemptOutcome, State
from tests.unit.core_world import World


@pytest.fixture
def world():
    return World()


def finish(node, count):
    """Let ``node`` complete its next ``count`` attempts one after the other; the ids in order."""
    order = []
    queue = node.work()
    while len(order) < count:
        item = queue.pop(0)
        order.append(item.id)
        node.report(item)
        queue += node.work()
    return order


def test_greater_priority_goes_first_then_age(world):
    node = world.node(window=1)
    first = world.run()
    low = world.run(2, priority=1)
    high = world.run(2, priority=9)
    middle = world.run(1, priority=5)
    assert finish(node, 6) == [*first, *high, *middle, *low]


def test_within_one_batch_the_important_ones_get_the_free_places(world):
    node = world.node(window=2)
    rows = [*world.rows(3, priority=1), *world.rows(2, priority=8)]
    world.submit(rows)
    assert [item.id for item in node.work()] == [row.id for row in rows[3:]]


def test_a_newcomer_does_not_overtake_what_waits(world):
    node = world.node(window=1)
    ids = world.run(3)
    [item] = node.work()
    world.holding = True
    node.report(item)
    late = world.run()
    world.release()
    world.holding = False
    assert finish(node, 3) == [*ids[1:], *late]


def test_priorities_are_compared_across_the_methods_of_a_node(world):
    node = world.node(window=1, pairs=(("h", "a"), ("h", "b"), ("k", "c")))
    [running] = world.run(job_method="a")
    low = world.run(2, job_method="a", priority=2)
    high = world.run(2, handler_id="k", job_method="c", priority=7)
    middle = world.run(1, job_method="b", priority=4)
    assert finish(node, 6) == [running, *high, *middle, *low]


def test_work_is_spread_by_what_is_free(world):
    small = world.node("small", window=10)
    large = world.node("large", window=90)
    world.run(50)
    assert (len(small.work()), len(large.work())) == (5, 45)


def test_equals_take_turns(world):
    nodes = [world.node(f"n{number}") for number in range(3)]
    for _ in range(6):
        world.run()
        for node in nodes:
            node.report(*node.work())
    assert [node.view.turn > 3 for node in nodes] == [True] * 3


def test_a_node_gets_only_what_it_serves(world):
    old = world.node("old", pairs=(("h", "m"),))
    new = world.node("new", pairs=(("h", "m"), ("h", "new")))
    ids = world.run(3, job_method="new")
    assert [item.id for item in new.work()] == ids
    assert old.work() == []


def test_one_node_may_serve_several_handlers(world):
    node = world.node(pairs=(("a", "m"), ("b", "m")))
    world.run(handler_id="a")
    world.run(handler_id="b")
    assert {item.handler_id for item in node.work()} == {"a", "b"}


# --- C20: a stuck node, the window ------------------------------------------------------------------------


def test_c20_a_stuck_node_never_slows_others(world):
    stuck = world.node("stuck", pairs=(("stuck", "m"),), window=2)
    well = world.node("well", pairs=(("well", "m"),), window=2)
    for _ in range(50):
        world.run(2, handler_id="stuck")
        world.run(1, handler_id="well")
        well.report(*well.work())
    assert len(stuck.work()) == 2
    states = [record.state for record in world.ledger.records.values() if record.row.handler_id == "well"]
    assert states == [State.COMPLETED] * 50


def test_c20_a_backlog_stays_in_the_store_beyond_the_window():
    world = World(window=10)
    node = world.node(window=1)
    ids = world.run(100)
    assert sum(lane.count for lane in world.core.lanes.values()) <= 10
    assert finish(node, 100) == ids
    assert world.refills


def test_c20_the_backlog_of_absent_nodes_takes_no_memory(world):
    world.run(1000, handler_id="nobody")
    assert sum(lane.count for lane in world.core.lanes.values()) == 0
    node = world.node(pairs=(("nobody", "m"),), window=3)
    assert len(node.work()) == 3
    node.disconnect()
    assert sum(lane.count for lane in world.core.lanes.values()) == 0


def test_c20_a_method_that_nobody_serves_does_not_stand_in_the_way_of_the_others():
    world = World(window=10)
    world.run(100, job_method="gone")
    wanted = world.run(5, job_method="here")
    node = world.node(pairs=(("h", "here"),), window=2)
    assert finish(node, 5) == wanted


def test_c20_what_is_more_important_than_a_full_window_is_not_left_behind_it():
    world = World(window=10)
    node = world.node(window=1)
    first = world.run(1)
    low = world.run(50, priority=1)
    high = world.run(3, priority=9)
    assert finish(node, 54) == [*first, *high, *low]


def test_what_is_committed_while_the_window_is_refilled_is_neither_lost_nor_started_twice():
    world = World(window=4)
    node = world.node(window=1)
    ids = world.run(20)
    done = []
    for _ in range(60):
        world.holding = True
        for item in node.work():
            done.append(item.id)
            node.report(item)
        if len(ids) < 40:
            ids += world.run(2)
        world.release()
        world.settle()
    for _ in range(10):
        items = node.work()
        done += [item.id for item in items]
        node.report(*items)
    assert sorted(done) == sorted(ids)
    assert {record.state for record in world.ledger.records.values()} == {State.COMPLETED}


def test_a_refill_that_failed_is_tried_again():
    world = World(window=4)
    node = world.node(window=1)
    ids = world.run(20)
    perform = world.perform
    failing = True

    def flaky(effect):
        if failing and type(effect).__name__ == "Refill":
            world.core.refill_failed(effect.lane)
        else:
            perform(effect)

    world.perform = flaky
    done = finish(node, 5)
    failing = False
    world.advance(1, alive=[node])
    assert done + finish(node, 15) == ids


def test_a_refilled_row_whose_cancel_was_requested_is_cancelled_not_started():
    world = World(window=2)
    node = world.node(window=1)
    ids = world.run(6)
    world.ledger[ids[5]].cancel_requested = True
    assert finish(node, 5) == ids[:5]
    assert world.ledger[ids[5]].state is State.CANCELLED


# --- large parameters -----------------------------------------------------------------------------------------


def large(size):
    return b'"%s"' % (b"x" * (size - 2))


def held(world):
    [only] = world.core.lanes.values()
    return only.count, only.size


def test_the_window_is_bounded_in_bytes_too_and_everything_gets_its_turn():
    world = World(window=100, window_bytes=1000)
    node = world.node(window=1)
    ids = world.run(20, params=large(300))
    # One is on the node; 300 bytes each, until 1,000 are reached.
    assert held(world) == (4, 1200)
    assert finish(node, 20) == ids
    assert held(world) == (0, 0)


def test_a_window_that_is_full_of_bytes_is_not_read_again_before_most_of_it_is_gone():
    world = World(window=100, window_bytes=1000)
    node = world.node(window=1)
    world.run(40, params=large(100))
    finish(node, 40)
    # Ten at a time, and a last one that finds nothing more.
    assert len(world.refills) <= 6


def test_parameters_larger_than_the_whole_window_are_no_reason_to_wait_for_ever():
    world = World(window=100, window_bytes=100)
    node = world.node(window=1)
    ids = world.run(4, params=large(5000))
    assert finish(node, 4) == ids


def test_what_is_more_important_gets_past_a_window_full_of_bytes():
    world = World(window=100, window_bytes=1000)
    node = world.node(window=1)
    low = world.run(10, params=large(500), priority=1)
    [high] = world.run(params=large(500), priority=9)
    assert finish(node, 2) == [low[0], high]


# --- a refill's answer is older than what happened meanwhile --------------------------------------------------


def lane(window=4):
    """A lane with somebody to serve it, so that it keeps rows in memory."""
    world = World(window=window)
    world.node(window=0)
    [only] = world.core.lanes.values()
    return world, only


def test_what_was_taken_since_a_refill_was_asked_for_is_not_taken_from_its_answer():
    world, waiting = lane()
    rows = world.rows(6)
    for row in rows:
        waiting.add(row)
    waiting.refill_asked()
    taken = waiting.pop()
    waiting.settled(taken)
    waiting.refilled(rows[:4], more=True)
    assert [waiting.pop().id for _ in range(waiting.count)] == [row.id for row in rows[1:4]]


def test_what_is_being_started_when_a_refill_is_asked_for_is_not_taken_from_its_answer():
    world, waiting = lane()
    rows = world.rows(3)
    for row in rows:
        waiting.add(row)
    taken = waiting.pop()
    waiting.refill_asked()
    waiting.settled(taken)
    waiting.refilled(rows, more=False)
    assert waiting.count == 2


def test_what_was_left_out_during_a_refill_asks_for_another():
    world, waiting = lane()
    waiting.overflow = True
    waiting.refill_asked()
    waiting.add(*world.rows())
    waiting.refilled([], more=False)
    assert waiting.overflow
    assert waiting.wants_refill()


def test_an_important_row_that_came_during_a_refill_stays_in_memory():
    world, waiting = lane()
    low = world.rows(4, priority=1)
    for row in low:
        waiting.add(row)
    waiting.refill_asked()
    [high] = world.rows(priority=9)
    waiting.add(high)
    waiting.refilled(low, more=True)
    assert [waiting.pop().id for _ in range(5)] == [high.id, *[row.id for row in low]]


def test_a_row_is_never_added_twice():
    world, waiting = lane()
    [row] = world.rows()
    waiting.add(row)
    waiting.add(row)
    assert waiting.count == 1
    waiting.pop()
    waiting.add(row)
    assert waiting.count == 0
    waiting.settled(row)
    waiting.add(row)
    assert waiting.count == 1


# --- an operator's limit ----------------------------------------------------------------------------------------


@pytest.fixture
def limited():
    return World(rules={"h": HandlerRule(limits=HandlerLimits(max_running=2, timeout_s=9.0))})


def test_a_limit_holds_over_all_nodes_and_methods(limited):
    one = limited.node("n1", pairs=(("h", "a"), ("h", "b")))
    two = limited.node("n2", pairs=(("h", "a"), ("h", "b")))
    limited.run(3, job_method="a")
    limited.run(3, job_method="b")
    for _ in range(3):
        items = [(node, item) for node in (one, two) for item in node.work()]
        assert len(items) == 2
        for node, item in items:
            node.report(item)
    assert {record.state for record in limited.ledger.records.values()} == {State.COMPLETED}


def test_what_ends_makes_room_on_any_node(limited):
    one = limited.node("n1")
    limited.run(3)
    items = one.work()
    two = limited.node("n2")
    one.leave()
    one.report(items[0], outcome=AttemptOutcome.FAILED)
    assert len(two.work()) == 1


def test_lost_attempts_make_room_too(limited):
    one = limited.node("n1")
    limited.run(4)
    assert len(one.work()) == 2
    one.disconnect()
    two = limited.node("n2")
    limited.advance(17, alive=[two])
    assert len(two.work()) == 2
    two.disconnect()
    limited.advance(17)
    three = limited.node("n3")
    assert len(three.work()) == 2


def test_a_limit_survives_a_restart(limited):
    node = limited.node("n1")
    limited.run(4)
    items = node.work()
    limited.restart()
    node.hello(running=items).credit(10)
    assert node.work() == []
    node.report(items[0])
    assert len(node.work()) == 1


def test_an_operators_time_limit_caps_what_a_job_asks_for(limited):
    node = limited.node("n1")
    limited.run()
    limited.run(options=b'{"timeout_s": 3.0}')
    limited.run(options=b'{"timeout_s": 30.0}')
    times = []
    while len(times) < 3:
        items = node.work()
        times += [item.timeout_s for item in items]
        node.report(*items)
    assert times == [9.0, 3.0, 9.0]
