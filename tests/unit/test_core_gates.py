"""Limits, keys, rates and weights in the core: what may start now, and what is in nobody's way meanwhile."""

from __future__ import annotations

import pytest

from schedule_zero.config import HandlerLimits, HandlerRule
from schedule_zero.dispatch.sessions import COUNTED
from schedule_zero.job_options import JobOptions, OnLost
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules.birth import equip
from schedule_zero.rules.options import NO_OPTIONS, Source
from tests.unit.core_world import World


@pytest.fixture
def world():
    return World()


def rows(world, count=1, *, params=b"{}", source=Source.SUBMISSION, method=NO_OPTIONS, row=None, **options):
    made = world.rows(count, params=params, **(row or {}))
    for one in made:
        equip(one, JobOptions(**options), method, source)
    return made


def run(world, count=1, **said):
    return world.submit(rows(world, count, **said))


def customer(world, name, count=1, **said):
    said = {"concurrency_key": "customer:{customer}", **said}
    return run(world, count, params=b'{"customer":"%s"}' % name.encode(), **said)


def taken(node):
    """What was sent; the node says that it has it."""
    work = node.work()
    if work:
        node.accept(*work)
    return work


def counted(world):
    return [att for node in world.core.nodes.values() for att in node.attempts.values() if att.phase in COUNTED]


def parked(world):
    return sum(len(lane.parking.ids) for lane in world.core.lanes.values())


# --- max_instances ------------------------------------------------------------------------------------


def test_no_more_of_a_job_run_at_once_than_it_says(world):
    node = world.node()
    ids = run(world, 5, max_instances=2)
    first = node.work()
    assert [item.id for item in first] == ids[:2]
    node.report(first[0])
    assert [item.id for item in node.work()] == [ids[2]]
    assert world.ledger[ids[3]].state is State.PENDING


def test_what_runs_without_a_limit_counts_for_who_has_one(world):
    node = world.node()
    plain = world.run(2)
    [late] = run(world, max_instances=2)
    work = node.work()
    assert [item.id for item in work] == plain
    node.report(work[0])
    assert [item.id for item in node.work()] == [late]


def test_each_is_held_to_its_own_number_while_jobs_run(world):
    node = world.node()
    run(world, 3, max_instances=3)
    work = node.work()
    [strict] = run(world, max_instances=1)
    [loose] = run(world, max_instances=10)
    # In order: who wants to run alone is not starved by those who don't.
    assert node.work() == []
    node.report(*work)
    # It starts alone; whoever allows more may join it.
    assert [item.id for item in node.work()] == [strict, loose]


def test_a_raised_limit_is_obeyed_at_once_by_what_comes(world):
    node = world.node()
    run(world, 1, max_instances=1)
    node.work()
    urgent = run(world, 2, max_instances=3, priority=9)
    assert [item.id for item in node.work()] == urgent


def test_a_schedule_limits_its_own_and_stands_in_nobodys_way(world):
    node = world.node()
    fires = run(world, 3, max_instances=1, source=Source.SCHEDULE, row={"schedule_id": "nightly"})
    others = run(world, 2, max_instances=1, source=Source.SCHEDULE, row={"schedule_id": "hourly"})
    plain = world.run()
    work = node.work()
    assert [item.id for item in work] == [fires[0], others[0], *plain]
    node.report(work[0])
    assert [item.id for item in node.work()] == [fires[1]]


def test_a_schedule_that_gets_a_limit_counts_what_runs_already(world):
    node = world.node()
    world.run(2, schedule_id="nightly")
    work = node.work()
    [limited] = run(world, max_instances=2, source=Source.SCHEDULE, row={"schedule_id": "nightly"})
    assert node.work() == []
    node.report(work[0])
    assert [item.id for item in node.work()] == [limited]


# --- concurrency keys ---------------------------------------------------------------------------------


def test_one_per_key_and_the_other_keys_go_on(world):
    node = world.node()
    seven = customer(world, "7", 3)
    eight = customer(world, "8", 2)
    work = node.work()
    assert [item.id for item in work] == [seven[0], eight[0]]
    assert parked(world) == 3
    node.report(work[1])
    assert [item.id for item in node.work()] == [eight[1]]
    node.report(work[0])
    assert [item.id for item in node.work()] == [seven[1]]


def test_a_key_counts_over_methods_and_handlers(world):
    node = world.node(pairs=(("h", "m"), ("k", "n")))
    [here] = customer(world, "7")
    [there] = customer(world, "7", row={"handler_id": "k", "job_method": "n"})
    [item] = node.work()
    assert item.id == here
    node.report(item)
    assert [item.id for item in node.work()] == [there]


def test_two_nodes_share_one_count(world):
    one, two = world.node("n1"), world.node("n2")
    customer(world, "7", 4, max_per_key=2)
    assert len(one.work()) + len(two.work()) == 2


def test_what_is_more_important_leaves_the_parking_first(world):
    node = world.node()
    customer(world, "7", 1)
    low = customer(world, "7", 2, priority=1)
    high = customer(world, "7", 1, priority=15)
    order = []
    for _ in range(4):
        [item] = node.work()
        order.append(item.id)
        node.report(item)
    assert order[1:] == [*high, *low]


def test_a_lost_attempt_counts_until_its_lease_is_over(world):
    node, other = world.node("n1", window=1), world.node("n2", window=0)
    [first] = customer(world, "7", on_lost=OnLost.FAIL)
    [item] = node.work()
    assert item.id == first
    other.credit(10)
    [second] = customer(world, "7")
    node.disconnect()
    world.advance(10, alive=[other])
    assert other.work() == []
    world.advance(8, alive=[other])
    assert {item.id for item in other.work()} == {second}


def test_what_waits_for_an_operator_counts_no_more(world):
    node, other = world.node("n1", window=1), world.node("n2", window=0)
    [first] = customer(world, "7", on_lost=OnLost.WAIT)
    node.work()
    other.credit(10)
    [second] = customer(world, "7")
    node.disconnect()
    world.advance(20, alive=[other])
    assert world.ledger[first].state is State.RUNNING
    assert {item.id for item in other.work()} == {second}


def test_an_end_that_is_not_committed_frees_the_key_all_the_same(world):
    node = world.node()
    customer(world, "7", 2)
    [item] = node.work()
    world.store_down = True
    node.report(item)
    world.store_down = False
    world.advance(1.0, alive=[node])
    assert len(node.work()) == 1


def test_a_start_that_is_not_committed_gives_its_place_back(world):
    node = world.node(window=1)
    world.run()
    seven = customer(world, "7", 2)
    [item] = node.work()
    world.holding = True
    node.report(item)
    world.holding = False
    world.store_down = True
    world.release()
    world.store_down = False
    node.report(item)
    world.advance(2.0, alive=[node])
    assert [one.id for one in node.work()] == [seven[0]]
    assert [att.row.id for att in counted(world)] == [seven[0]]


def test_a_refused_start_lets_the_next_of_its_key_go(world):
    node = world.node()
    seven = customer(world, "7", 3)
    [item] = node.work()
    # Gone in the store, and nobody told the core.
    world.ledger[seven[1]].become(State.CANCELLED)
    node.report(item)
    assert [one.id for one in node.work()] == [seven[2]]


def test_what_was_cancelled_while_parked_leaves_memory(world):
    node = world.node()
    seven = customer(world, "7", 3)
    [item] = node.work()
    world.cancel(seven[1])
    assert parked(world) == 1
    node.report(item)
    assert [one.id for one in node.work()] == [seven[2]]


def test_handed_back_it_is_the_first_that_waits_for_its_key(world):
    node = world.node()
    seven = customer(world, "7", 3)
    [item] = node.work()
    node.reject(item, reason="overcommitted")
    # The next one had its chance while that was committed.
    [other] = node.work()
    assert other.id == seven[1]
    node.report(other)
    assert [one.id for one in node.work()] == [seven[0]]


def test_a_retry_waits_for_its_key_like_any_other(world):
    node = world.node()
    first, second = customer(world, "7", 2, max_attempts=2, retry_delay_s=1.0)
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.FAILED)
    [item] = node.work()
    assert item.id == second
    world.advance(1.0, alive=[node])
    world.release_due()
    assert node.work() == []
    node.report(item)
    assert [one.id for one in node.work()] == [first]


def test_after_a_restart_what_runs_still_counts(world):
    node = world.node()
    customer(world, "7", 3)
    [item] = node.work()
    world.restart()
    node.hello(running=[item]).credit(10)
    assert node.work() == []
    node.report(item)
    assert len(node.work()) == 1


def test_parked_work_whose_nodes_are_gone_is_read_again(world):
    node = world.node()
    seven = customer(world, "7", 3)
    [item] = node.work()
    node.disconnect()
    assert parked(world) == 0
    node.start()
    node.hello().credit(10)
    # The successor of a dead process: its attempt is lost, and goes in front again.
    order = []
    while work := node.work():
        order += [one.id for one in work]
        node.report(*work)
    assert sorted(order) == seven
    assert item.id in order[:2]


def test_the_first_of_every_lane_is_let_go_not_only_of_the_one_that_is_stuck(world):
    busy, free = world.node("n1", window=2), world.node("n2", pairs=(("k", "n"),))
    customer(world, "7")
    [held] = busy.work()
    customer(world, "7")
    [other] = customer(world, "7", row={"handler_id": "k", "job_method": "n"})
    # n1 has no room for its own next one, n2 has.
    busy.credit(1)
    world.run()
    busy.credit(0)
    busy.report(held)
    assert [item.id for item in free.work()] == [other]


# --- bounded memory -----------------------------------------------------------------------------------


def test_a_saturated_key_with_a_long_backlog_keeps_nobody_waiting():
    world = World(window=20)
    node = world.node(window=5)
    seven = customer(world, "7", 500)
    [item] = node.work()
    eight = customer(world, "8", 1)
    assert [one.id for one in node.work()] == eight
    lane = world.core.lanes["h", "m", None]
    assert len(lane.parking.ids) <= lane.window + 1
    assert lane.count <= 2 * lane.window
    assert item.id == seven[0]


def test_many_saturated_keys_with_backlogs_are_read_past():
    world = World(window=20)
    node = world.node(window=100)
    for number in range(12):
        customer(world, str(number), 60)
    late = customer(world, "late", 2)
    held = node.work()
    assert len(held) == 13
    assert held[-1].id == late[0]
    lane = world.core.lanes["h", "m", None]
    assert len(lane.parking.ids) <= lane.window + 1


@pytest.mark.parametrize("window", [10, 20, 200])
def test_all_of_a_backlog_comes_to_its_turn_in_order(window):
    world = World(window=window)
    node = world.node(window=8)
    wanted = {str(number): customer(world, str(number), 40) for number in range(6)}
    order = []
    for _ in range(1000):
        work = node.work()
        if not work:
            break
        order += [item.id for item in work]
        node.report(*work)
    assert len(order) == 240
    for ids in wanted.values():
        assert [id_ for id_ in order if id_ in set(ids)] == ids
    assert not counted(world)
    assert not world.core._gates.keys


def test_large_parameters_are_bounded_in_bytes():
    world = World(window=1000, window_bytes=65_536)
    node = world.node()
    run(world, 40, concurrency_key="c", params=b'{"x":"' + b"y" * 10_000 + b'"}')
    lane = world.core.lanes["h", "m", None]
    assert lane.parking.size <= 65_536 + 10_100
    done = 0
    while work := node.work():
        done += len(work)
        node.report(*work)
    assert done == 40


def test_a_schedule_with_a_long_backlog_is_read_past():
    world = World(window=10)
    node = world.node()
    run(world, 100, max_instances=1, source=Source.SCHEDULE, row={"schedule_id": "s"})
    plain = world.run()
    assert plain[0] in [item.id for item in node.work()]


# --- rates --------------------------------------------------------------------------------------------


def starts_over(world, node, seconds):
    """(when, id) of what is started in that time; each ends at once."""
    seen = []
    end_s = world.mono_s + seconds
    while world.mono_s < end_s:
        for item in node.work():
            seen.append((world.mono_s, item.id))
            node.report(item)
        node.heartbeat()
        step_s = min(world.mono_s + 0.25, end_s)
        if world.wake_s is not None and world.wake_s <= step_s:
            world.mono_s, world.wake_s = max(world.wake_s, world.mono_s), None
            world.core.wake(world.now)
        else:
            world.mono_s = step_s
        world.settle()
    return seen


def test_a_job_starts_as_often_as_its_rate_says(world):
    node = world.node()
    run(world, 50, rate_limit="10/s", rate_burst=3)
    seen = starts_over(world, node, 2.0)
    assert [at_s for at_s, _ in seen[:3]] == [1000.0] * 3
    # Exactly one each tenth of a second: the core says when it wants to be woken.
    assert len(seen) in (22, 23)
    for first in range(len(seen)):
        for last in range(first, len(seen)):
            assert last - first + 1 <= 3 + (seen[last][0] - seen[first][0]) * 10 + 1e-6


def test_a_rate_key_is_shared_and_others_go_on(world):
    node = world.node()
    said = {"rate_limit": "1/m", "rate_key": "api:{api}"}
    a = run(world, 2, params=b'{"api":"a"}', **said)
    b = run(world, 2, params=b'{"api":"b"}', row={"job_method": "m"}, **said)
    plain = world.run()
    assert [item.id for item in taken(node)] == [a[0], b[0], *plain]
    world.advance(59.0, alive=[node])
    assert node.work() == []
    world.advance(1.1, alive=[node])
    assert {item.id for item in node.work()} == {a[1], b[1]}


def test_a_handlers_rate_is_of_all_its_methods():
    world = World(rules={"h": HandlerRule(limits=HandlerLimits(rate="2/s", rate_burst=2))})
    node = world.node(pairs=(("h", "a"), ("h", "b"), ("k", "c")))
    world.run(3, job_method="a")
    world.run(3, job_method="b")
    other = world.run(handler_id="k", job_method="c")
    assert len(node.work()) == 3
    seen = starts_over(world, node, 2.0)
    assert len(seen) in (3, 4)
    assert other[0] not in [id_ for _, id_ in seen]


def test_a_start_that_was_not_committed_gives_its_token_back(world):
    node = world.node()
    world.store_down = True
    run(world, rate_limit="1/h")
    world.store_down = False
    ids = run(world, 1, rate_limit="1/h")
    assert [item.id for item in node.work()] == ids


def test_a_start_that_was_handed_back_gives_its_token_back(world):
    node = world.node()
    [id_] = run(world, rate_limit="1/h")
    [item] = node.work()
    node.reject(item, reason="overcommitted")
    assert [one.id for one in node.work()] == [id_]


def test_a_token_is_not_given_back_where_the_bucket_could_not_have_held_it(world):
    node = world.node()
    first, _, _ = run(world, 3, rate_limit="1/s")
    [item] = node.work()
    assert item.id == first
    world.advance(1.1, alive=[node])
    [_] = node.work()
    node.reject(item, reason="overcommitted")
    # Else two more would start within the second in which one has.
    assert node.work() == []


def test_a_slow_rate_survives_a_restart(world):
    node = world.node()
    [first, second] = run(world, 2, rate_limit="1/h")
    [item] = node.work()
    node.report(item)
    assert item.id == first
    world.restart()
    node.hello().credit(10)
    assert node.work() == []
    world.advance(1800, alive=[node])
    assert node.work() == []
    world.advance(1801, alive=[node])
    assert [one.id for one in node.work()] == [second]


def test_a_slow_rate_that_was_not_recorded_is_known_by_what_runs(world):
    node = world.node()
    run(world, 2, rate_limit="1/h")
    [item] = node.work()
    # Killed after the insert, before anything else was written.
    world.buckets.clear()
    world.restart()
    node.hello(running=[item]).credit(10)
    world.advance(3590, alive=[node])
    assert node.work() == []
    world.advance(20, alive=[node])
    assert len({item.id for item in node.work()}) == 1


def test_a_fast_bucket_begins_empty_after_a_restart(world):
    node = world.node()
    run(world, 6, rate_limit="2/s", rate_burst=2)
    work = node.work()
    assert len(work) == 2
    node.report(*work)
    world.restart()
    node.hello().credit(10)
    assert node.work() == []
    assert len(starts_over(world, node, 1.01)) in (1, 2)


def test_a_restored_bucket_is_never_emptier_than_empty(world):
    node = world.node()
    run(world, 2, rate_limit="1/h")
    node.report(*node.work())
    # The wall clock was set back by a year meanwhile.
    world.buckets = {
        key: type(row)(row.kind, row.name, row.full_us + 365 * 86_400_000_000, row.taken_us, row.fill_us)
        for key, row in world.buckets.items()
    }
    world.restart()
    node.hello().credit(10)
    world.advance(3601, alive=[node])
    assert len(node.work()) == 1


def test_a_lost_timer_costs_no_more_than_a_tick(world):
    node = world.node()
    run(world, 2, rate_limit="1/s")
    node.report(*node.work())
    world.wake_s = None
    world.mono_s += 1.2
    world.core.tick(world.now)
    world.settle()
    assert len(node.work()) == 1


# --- rules that change --------------------------------------------------------------------------------


def test_an_operators_limit_changes_while_jobs_run(world):
    node = world.node()
    world.run(5)
    work = node.work()
    assert len(work) == 5
    world.core.set_rules({"h": HandlerRule(limits=HandlerLimits(max_running=2))}, world.now)
    late = world.run(3)
    node.report(*work[:3])
    assert node.work() == []
    node.report(work[3])
    assert [item.id for item in node.work()] == [late[0]]
    world.core.set_rules({"h": HandlerRule(limits=HandlerLimits(max_running=3))}, world.now)
    world.settle()
    assert [item.id for item in node.work()] == [late[1]]
    world.core.set_rules({}, world.now)
    world.settle()
    assert [item.id for item in node.work()] == [late[2]]


# --- weights ------------------------------------------------------------------------------------------


BIG = {"job_method": "big"}
BOTH = (("h", "m"), ("h", "big"))


def test_a_heavy_one_takes_as_much_of_its_node_as_it_weighs(world):
    node = world.node(window=4, pairs=BOTH)
    heavy = run(world, 2, weight=3, row=BIG)
    light = world.run(2)
    work = node.work()
    assert [item.id for item in work] == [heavy[0], light[0]]
    assert work[0].weight == 3
    node.report(work[0])
    assert [item.id for item in node.work()] == [heavy[1]]
    assert node.view.held == 4


def test_light_work_does_not_starve_a_heavy_one(world):
    node = world.node(window=4, pairs=BOTH)
    world.run(4)
    work = node.work()
    [heavy] = run(world, weight=4, row=BIG)
    world.run(20)
    started = []
    for item in work:
        node.report(item)
        started += [one.id for one in node.work()]
    assert started == [heavy]


def test_what_is_too_heavy_for_every_node_runs_alone(world):
    node = world.node(window=4, pairs=BOTH)
    world.run(2)
    work = node.work()
    [giant] = run(world, weight=100, row=BIG)
    node.report(work[0])
    light = world.run(1)
    assert node.work() == []
    node.report(work[1])
    assert [item.id for item in node.work()] == [giant]
    [item] = [att.row for att in counted(world)]
    node.report(item)
    assert [item.id for item in node.work()] == light


def test_it_does_not_run_alone_on_a_small_node_where_another_is_big_enough(world):
    small = world.node("n1", window=2)
    big = Peer_with_slots(world, "n2", 8)
    world.run(8)
    small_work, big_work = small.work(), big.work()
    [heavy] = run(world, weight=6)
    small.report(*small_work)
    assert small.work() == []
    big.report(*big_work)
    assert [item.id for item in big.work()] == [heavy]


def Peer_with_slots(world, node_id, slots):
    from tests.unit.core_world import Peer

    return Peer(world, node_id).hello(slots=slots).credit(slots)


def test_one_node_saves_up_for_it_while_the_others_go_on(world):
    one, two = world.node("n1", window=4, pairs=BOTH), world.node("n2", window=4, pairs=BOTH)
    world.run(8)
    work = {one: one.work(), two: two.work()}
    [heavy] = run(world, weight=4, row=BIG)
    light = world.run(8)
    one.report(work[one][0])
    assert one.work() == []
    two.report(work[two][0])
    assert [item.id for item in two.work()] == [light[0]]
    one.report(*work[one][1:])
    assert [item.id for item in one.work()] == [heavy]


def test_a_node_stops_saving_for_what_was_cancelled(world):
    node = world.node(window=2, pairs=BOTH)
    world.run(2)
    first, second = node.work()
    [heavy] = run(world, weight=2, row=BIG)
    light = world.run()
    node.report(first)
    assert node.work() == []
    world.cancel(heavy)
    node.report(second)
    world.advance(0.5, alive=[node])
    assert light[0] in [item.id for item in node.work()]


def test_a_node_stops_saving_for_what_was_cancelled_in_the_store():
    """Of a long backlog: nobody takes it from memory, the next read finds nothing."""
    world = World(window=10)
    node = world.node(window=5, pairs=BOTH, slots=5)
    heavy = run(world, 40, weight=4, row=BIG)
    [first] = node.work()
    world.advance(1.0, alive=[node])
    assert node.view.saving is not None
    for one in heavy[1:]:
        world.cancel(one)
    light = world.run(3)
    node.report(first)
    world.advance(1.0, alive=[node])

    assert [item.id for item in node.work()] == light


def test_what_a_bot_holds_counts_by_the_head_after_a_restart_too():
    world = World()
    node = world.node(window=1, slots=10)
    node.view.count_by_head()
    run(world, 1, weight=3)
    [item] = node.work()
    node.accept(item)
    assert node.view.held == 1

    world.restart()
    node.hello(running=[item])
    node.view.count_by_head()
    node.credit(2)
    world.run()

    assert len(node.work()) == 1
    assert node.view.held == 2


def test_the_weight_is_free_again_whatever_becomes_of_it(world):
    node = world.node(window=6)
    run(world, 2, weight=3, max_attempts=1)
    one, two = node.work()
    node.report(one, outcome=AttemptOutcome.FAILED)
    node.reject(two, reason="draining")
    world.advance(2.0, alive=[node])
    assert node.view.held in (0, 3)
    world.release_due()
    [again] = node.work()
    node.report(again)
    assert node.view.held == 0


# --- between handlers ---------------------------------------------------------------------------------


def two_handlers(world):
    return world.node(window=2, pairs=(("h", "m"), ("k", "n")))


def take_turns(world, node, count):
    order = []
    work = node.work()
    while len(order) < count and work:
        item = work.pop(0)
        order.append(item.handler_id)
        world.mono_s += 0.1
        node.report(item)
        work += node.work()
    return order


def test_a_backlog_of_one_handler_does_not_keep_anothers_fresh_job_waiting(world):
    node = two_handlers(world)
    world.run(50)
    world.mono_s += 3600
    node.heartbeat()
    world.run(handler_id="k", job_method="n")
    assert "k" in take_turns(world, node, 4)


def test_equal_handlers_share_a_node_equally_whatever_their_backlogs(world):
    node = two_handlers(world)
    world.run(100)
    world.run(20, handler_id="k", job_method="n")
    order = take_turns(world, node, 40)
    assert 18 <= order.count("k") <= 20


def test_a_more_important_handler_goes_first(world):
    node = two_handlers(world)
    world.run(10)
    world.run(5, handler_id="k", job_method="n", priority=10)
    order = take_turns(world, node, 7)
    assert order[2:] == ["k"] * 5


# --- ageing -------------------------------------------------------------------------------------------


def test_nothing_starves_under_a_constant_stream_of_critical_work(world):
    node = world.node(window=1)
    world.run(priority=15)
    [low] = world.run(priority=1)
    started_s = None
    begin_s = world.mono_s
    # As much critical work as the node gets done, and some that waits already.
    world.run(30, priority=15)
    for _ in range(1_000):
        world.run(priority=15)
        work = node.work()
        if low in [item.id for item in work]:
            started_s = world.mono_s
            break
        node.report(*work)
        world.advance(1.0, alive=[node])
    assert started_s is not None
    # Fourteen steps of priority are fourteen minutes.
    assert started_s - begin_s <= 15 * 60


def test_what_is_less_important_does_not_block_what_is_more_important_by_holding_its_key(world):
    # Priority inversion is bounded: what holds the key ends, and then the most important is next, not the oldest.
    node = world.node(window=4)
    customer(world, "7", 1, priority=1)
    [item] = node.work()
    customer(world, "7", 3, priority=5)
    [critical] = customer(world, "7", 1, priority=15)
    node.report(item)
    assert [one.id for one in node.work()] == [critical]


# --- why it waits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "reason"), [({"rate_limit": "1/m"}, "rate"), ({"max_instances": 1}, "job")])
def test_what_stands_behind_one_that_holds_its_lane_says_what_holds_it(world, option, reason):
    world.node()
    _, held = run(world, 2, **option)
    [behind] = run(world, 1)
    said = world.core.waiting_for(world.ledger[behind].as_row(), world.now)
    assert said.reason == reason
    assert f"execution {held} goes first" in said.detail
