"""Which node gets what: conditions on nodes, the strategies, and lanes that come, change and go."""

from __future__ import annotations

from collections import Counter

import pytest

from schedule_zero.config import HandlerLimits, HandlerRule
from schedule_zero.dispatch.lane_book import FORGET_LANE_S
from schedule_zero.job_options import Strategy
from schedule_zero.model import State
from schedule_zero.rules.birth import LaneSpec, lane_text
from tests.unit.core_world import Peer, World

GPU = lane_text(LaneSpec(require=("gpu",)))


@pytest.fixture
def world():
    return World()


def lane(**spec):
    return lane_text(LaneSpec(**spec))


def where(world, ids):
    """The node of each; None while it waits for one."""
    waiting = (State.PENDING, State.RETRY_SCHEDULED)
    return [None if world.ledger[id_].state in waiting else world.ledger[id_].node_id for id_ in ids]


def complete(world, *nodes):
    """Let the nodes complete all that they have; what they then get, too."""
    done = 0
    while any(items := [(node, node.work()) for node in nodes]) and any(work for _, work in items):
        for node, work in items:
            if work:
                node.report(*work)
                done += len(work)
    return done


# --- require --------------------------------------------------------------------------------------


def test_what_requires_a_label_goes_to_nodes_that_have_it(world):
    world.node("n1")
    world.node("n2", labels={"gpu": "true"})
    ids = world.run(3, lane=GPU)
    assert where(world, ids) == ["n2"] * 3


def test_what_no_node_may_run_waits_and_stands_in_nobodys_way(world):
    node = world.node("n1", window=2)
    stuck = world.run(50, lane=GPU, priority=15)
    ids = world.run(5)
    assert complete(world, node) == 5
    assert {world.ledger[id_].state for id_ in ids} == {State.COMPLETED}
    assert {world.ledger[id_].state for id_ in stuck} == {State.PENDING}
    # Not a row of it is in memory.
    assert sum(one.count for one in world.core.lanes.values()) == 0


def test_a_node_that_comes_with_the_label_gets_what_waits(world):
    world.node("n1")
    ids = world.run(3, lane=GPU)
    node = world.node("n2", labels={"gpu": "true"})
    assert where(world, ids) == ["n2"] * 3
    assert complete(world, node) == 3


def test_a_lane_of_a_method_that_the_node_does_not_serve_is_not_its_own(world):
    world.node("n1", labels={"gpu": "true"}, pairs=(("h", "other"),))
    ids = world.run(1, lane=GPU)
    assert where(world, ids) == [None]


def test_facts_and_the_nodes_own_name_count_as_labels_do(world):
    world.node("n1")
    world.node("n2").hello(facts={"os": "linux", "cores": "8"}).credit(10)
    assert where(world, world.run(1, lane=lane(require=("os == linux", "cores >= 8")))) == ["n2"]
    assert where(world, world.run(1, lane=lane(require=("node == n1",)))) == ["n1"]
    assert where(world, world.run(1, lane=lane(node="n1"))) == ["n1"]
    assert where(world, world.run(1, lane=lane(node="n3"))) == [None]


def test_a_fact_that_a_label_pretends_to_be_is_the_nodes_own(world):
    # Not by our own node, which refuses such a label.
    world.node("n1", labels={"node": "n2"})
    assert where(world, world.run(1, lane=lane(node="n2"))) == [None]


def test_a_condition_of_another_release_is_met_by_nobody(world):
    world.node("n1")
    ids = world.run(1, lane=lane(require=("gpu === true",)))
    assert where(world, ids) == [None]


# --- labels that change ---------------------------------------------------------------------------


def test_a_node_that_comes_back_with_other_labels_serves_other_lanes(world):
    n1 = world.node("n1", labels={"gpu": "true"}, window=1)
    first, *waiting = world.run(3, lane=GPU)
    [item] = n1.work()
    assert item.id == first
    n1.report(item)
    [item] = n1.work()
    n1.report(item)
    [item] = n1.work()
    n1.disconnect()
    n1.start()
    n1.hello(labels={"tpu": "true"}).credit(5)
    # What it had is lost with the process and waits again; it may not have it now.
    assert world.ledger[waiting[-1]].state is State.PENDING
    assert n1.work() == []
    assert where(world, world.run(1, lane=lane(require=("tpu",)))) == ["n1"]
    n2 = world.node("n2", labels={"gpu": "true"})
    assert [item.id for item in n2.work()] == [waiting[-1]]


def test_a_rolling_change_of_labels_leaves_nothing_behind(world):
    nodes = [world.node(f"n{n}", labels={"v": "1"}, window=2) for n in range(3)]
    old = world.run(20, lane=lane(require=("v == 1",)))
    new = world.run(20, lane=lane(require=("v == 2",)))
    for node in nodes:
        node.report(*node.work())
        node.report(*node.work())
        node.bye()
        node.start()
        node.hello(labels={"v": "2"}).credit(2)
        assert {world.ledger[id_].node_id for id_ in new} <= {"n0", "n1", "n2", None}
    complete(world, *nodes)
    assert {world.ledger[id_].state for id_ in new} == {State.COMPLETED}
    done = [world.ledger[id_].state for id_ in old]
    assert set(done) == {State.COMPLETED, State.PENDING}
    last = world.node("n9", labels={"v": "1"})
    complete(world, last)
    assert {world.ledger[id_].state for id_ in old} == {State.COMPLETED}


def test_a_lane_that_begins_while_a_node_is_synchronising_gets_it_with_the_first_credit(world):
    node = Peer(world, "n1").hello(labels={"gpu": "true"})
    ids = world.run(2, lane=GPU)
    assert where(world, ids) == [None, None]
    node.credit(5)
    assert where(world, ids) == ["n1", "n1"]


def test_a_method_that_the_node_does_not_know_after_all_is_asked_of_it_in_no_lane(world):
    n1 = world.node("n1", labels={"gpu": "true"})
    ids = world.run(1, lane=GPU)
    n1.reject(*n1.work(), reason="unknown_method")
    assert where(world, world.run(1)) == [None]
    assert where(world, world.run(1, lane=lane(strategy=Strategy.PACK))) == [None]
    world.advance(20, alive=[n1])
    world.core.committed(world.ledger.release_due(world.now.wall_us), world.now)
    world.settle()
    assert where(world, ids) == [None]
    n1.hello().credit(5)
    assert where(world, ids) == ["n1"]


# --- restart, refill ------------------------------------------------------------------------------


def test_after_a_restart_lanes_are_served_by_those_who_match(world):
    world.run(4, lane=GPU)
    plain = world.run(2)
    world.restart()
    n1 = world.node("n1")
    assert complete(world, n1) == 2
    n2 = world.node("n2", labels={"gpu": "true"})
    assert complete(world, n2) == 4
    assert where(world, plain) == ["n1", "n1"]


def test_what_runs_at_a_restart_belongs_to_its_lane_still(world):
    n1 = world.node("n1", labels={"gpu": "true"})
    ids = world.run(2, lane=GPU)
    items = n1.work()
    world.restart()
    n1.hello(running=items).credit(5)
    n1.reject(*items, reason="overcommitted")
    assert {one.key[2] for one in world.core.lanes.values()} >= {GPU}
    assert where(world, ids) == ["n1", "n1"]


def test_what_was_lost_on_its_way_is_not_sent_again_to_a_node_that_has_other_labels_now(world):
    n1 = world.node("n1", labels={"gpu": "true"})
    ids = world.run(1, lane=GPU)
    n1.disconnect()
    n1.inbox.clear()
    n1.hello(labels={}).credit(5)
    assert n1.work() == []
    assert where(world, ids) == [None]


def test_a_backlog_larger_than_the_window_is_read_lane_by_lane():
    world = World(window=4)
    n1 = world.node("n1", window=2)
    n2 = world.node("n2", window=2, labels={"gpu": "true"})
    plain = world.run(30, lane=lane(require=("!gpu",)))
    ids = world.run(30, lane=GPU)
    assert complete(world, n1, n2) == 60
    assert set(where(world, plain)) == {"n1"}
    assert set(where(world, ids)) == {"n2"}
    assert {key[2] for key in world.refills} == {GPU, lane(require=("!gpu",))}


def test_routed_lanes_in_which_nothing_is_are_forgotten(world):
    node = world.node("n1", labels={"gpu": "true"}, window=100)
    for n in range(20):
        world.run(1, lane=lane(require=("gpu", f"x{n} != 1")))
    assert len(world.core.lanes) == 21
    items = node.work()
    node.report(*items[:10])
    node.accept(*items[10:])
    world.advance(FORGET_LANE_S + 2, alive=[node])
    # Attempts that run don't keep a lane: it is made again where it is needed.
    assert len(world.core.lanes) == 1
    assert len(world.core.nodes["n1"].lanes) == 1
    node.reject(*items[10:12], reason="overcommitted")
    assert complete(world, node) == 2
    node.report(*items[12:])
    assert set(world.ledger.states().values()) == {State.COMPLETED}


def test_a_routed_lane_with_a_backlog_is_not_forgotten(world):
    n1 = world.node("n1")
    ids = world.run(3, lane=GPU)
    world.advance(3 * FORGET_LANE_S, alive=[n1])
    world.node("n2", labels={"gpu": "true"})
    assert where(world, ids) == ["n2"] * 3


# --- strategies -----------------------------------------------------------------------------------


def bed(world, *names, window=10, **labels):
    return [world.node(name, window=window, labels=labels.get(name)) for name in names]


def test_least_loaded_is_what_it_is_without_options(world):
    bed(world, "n1", "n2", "n3")
    assert Counter(where(world, world.run(9, lane=lane(require=("!x",))))) == {"n1": 3, "n2": 3, "n3": 3}


def test_preferred_nodes_come_first_and_the_others_when_they_are_full(world):
    bed(world, "n1", "n2", n2={"ssd": "true"})
    text = lane(prefer=("ssd", "node == n2"))
    assert where(world, world.run(10, lane=text)) == ["n2"] * 10
    assert where(world, world.run(3, lane=text)) == ["n1"] * 3


def test_of_the_preferred_conditions_more_is_better(world):
    bed(world, "n1", "n2", "n3", n1={"a": ""}, n2={"a": "", "b": ""}, n3={"b": ""})
    assert where(world, world.run(1, lane=lane(prefer=("a", "b")))) == ["n2"]


@pytest.mark.parametrize("at_once", [1, 4])
def test_round_robin_gives_to_each_in_turn(world, at_once):
    bed(world, "n1", "n2", "n3", window=100)
    # Loaded unevenly from outside: round robin doesn't care.
    world.run(7, lane=lane(node="n1"))
    text = lane(strategy=Strategy.ROUND_ROBIN)
    ids = [id_ for _ in range(12 // at_once) for id_ in world.run(at_once, lane=text)]
    assert where(world, ids) == ["n1", "n2", "n3"] * 4


def test_round_robin_goes_past_who_is_full_or_away(world):
    n1, _, n3 = bed(world, "n1", "n2", "n3", window=2)
    text = lane(strategy=Strategy.ROUND_ROBIN)
    world.run(2, lane=lane(node="n2"))
    assert where(world, world.run(2, lane=text)) == ["n1", "n3"]
    n3.disconnect()
    assert where(world, world.run(1, lane=text)) == ["n1"]
    n1.report(*n1.work())
    assert where(world, world.run(1, lane=text)) == ["n1"]


@pytest.mark.parametrize("at_once", [1, 5])
def test_pack_fills_one_node_after_the_other(world, at_once):
    bed(world, "n1", "n2", "n3", window=5)
    world.run(1, lane=lane(node="n2"))
    text = lane(strategy=Strategy.PACK)
    ids = [id_ for _ in range(10 // at_once) for id_ in world.run(at_once, lane=text)]
    assert where(world, ids) == ["n2"] * 4 + ["n1"] * 5 + ["n3"]


def test_weighted_shares_by_slots(world):
    world.node("n1", slots=1, window=1000)
    world.node("n2", slots=3, window=1000)
    text = lane(strategy=Strategy.WEIGHTED)
    ids = [*world.run(100, lane=text), *(world.run(1, lane=text)[0] for _ in range(100))]
    assert Counter(where(world, ids)) == {"n1": 50, "n2": 150}


@pytest.mark.parametrize("weight", ["2", "2.0"])
def test_weighted_goes_by_the_label_weight_where_there_is_one(world, weight):
    world.node("n1", slots=1, window=1000, labels={"weight": weight})
    world.node("n2", slots=50, window=1000, labels={"weight": "1"})
    assert Counter(where(world, world.run(90, lane=lane(strategy=Strategy.WEIGHTED)))) == {"n1": 60, "n2": 30}


@pytest.mark.parametrize("weight", ["", "-1", "0", "nan", "inf", "much"])
def test_a_weight_that_is_none_breaks_nothing(world, weight):
    world.node("n1", window=1000, labels={"weight": weight})
    world.node("n2", window=1000, labels={"weight": "1"})
    assert set(where(world, world.run(90, lane=lane(strategy=Strategy.WEIGHTED)))) == {"n1", "n2"}


def test_who_was_away_does_not_get_everything_afterwards(world):
    n1, n2 = bed(world, "n1", "n2", window=1000)
    text = lane(strategy=Strategy.WEIGHTED)
    world.run(10, lane=text)
    n1.disconnect()
    n1.start()
    world.run(200, lane=text)
    n1.hello().credit(1000)
    world.advance(1, alive=[n1, n2])
    assert Counter(where(world, world.run(100, lane=text))) == {"n1": 50, "n2": 50}


def test_who_was_full_does_not_get_everything_afterwards(world):
    n1 = world.node("n1", window=10)
    world.node("n2", window=1000)
    text = lane(strategy=Strategy.WEIGHTED)
    world.run(300, lane=text)
    n1.report(*n1.work())
    assert Counter(where(world, world.run(10, lane=text)))["n1"] in (5, 6)


def test_random_spreads_and_needs_no_chance(world):
    bed(world, "n1", "n2", "n3", window=1000)
    text = lane(strategy=Strategy.RANDOM)
    ids = [*world.run(300, lane=text), *(world.run(1, lane=text)[0] for _ in range(300))]
    counts = Counter(where(world, ids))
    assert all(150 < counts[name] < 250 for name in ("n1", "n2", "n3")), counts
    other = World()
    bed(other, "n1", "n2", "n3", window=1000)
    other.numbers = iter(range(int(ids[0][1:]), 10**6))
    again = [*other.run(300, lane=text), *(other.run(1, lane=text)[0] for _ in range(300))]
    assert again == ids
    assert where(other, again) == where(world, ids)


STICKY = lane_text(LaneSpec(strategy=Strategy.STICKY_KEY))


def keys_at(world, keys):
    """Which node each key's execution went to; all of them are completed."""
    found = {}
    for key in keys:
        [id_] = world.run(1, lane=STICKY, sticky_key=key)
        found[key] = world.ledger[id_].node_id
    for peer in world.peers.values():
        if world.core.nodes[peer.node_id].session is not None:
            peer.report(*peer.work())
    return found


KEYS = [f"customer:{n}" for n in range(120)]


def test_a_key_sticks_to_its_node_and_only_the_keys_of_one_that_leaves_move(world):
    nodes = bed(world, "n1", "n2", "n3", "n4", window=1000)
    before = keys_at(world, KEYS)
    assert keys_at(world, KEYS) == before
    assert all(15 < count < 50 for count in Counter(before.values()).values())
    nodes[1].bye()
    without = keys_at(world, KEYS)
    assert all(without[key] == node for key, node in before.items() if node != "n2")
    assert {without[key] for key, node in before.items() if node == "n2"} == {"n1", "n3", "n4"}
    nodes[1].start()
    nodes[1].hello().credit(1000)
    assert keys_at(world, KEYS) == before


def test_a_key_sticks_in_a_batch_as_well(world):
    bed(world, "n1", "n2", "n3", window=1000)
    before = keys_at(world, KEYS)
    rows = [row for key in KEYS for row in world.rows(1, lane=STICKY, sticky_key=key)]
    ids = world.submit(rows)
    assert dict(zip(KEYS, where(world, ids), strict=True)) == before


def test_the_keys_of_a_full_node_go_to_the_next_in_their_order(world):
    n1, n2, n3 = bed(world, "n1", "n2", "n3", window=2)
    [first] = world.run(1, lane=STICKY, sticky_key="a")
    [home] = where(world, [first])
    ids = world.run(5, lane=STICKY, sticky_key="a")
    found = [home, *where(world, ids)]
    assert found == [found[0]] * 2 + [found[2]] * 2 + [found[4]] * 2
    assert len(set(found)) == 3
    # Nothing waits for the right node where another has room.
    [late] = world.run(1, lane=STICKY, sticky_key="a")
    other = {"n1": n1, "n2": n2, "n3": n3}[found[4]]
    other.report(*other.work())
    assert where(world, [late]) == [found[4]]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_handlers_limit_and_a_drained_node_are_respected_by_every_strategy(strategy):
    world = World(rules={"h": HandlerRule(limits=HandlerLimits(max_running=3))})
    n1, n2, n3 = bed(world, "n1", "n2", "n3", window=5)
    world.operate("n1", "drain")
    world.settle()
    text = lane(strategy=strategy, require=("!x",))
    ids = world.run(4, lane=text, sticky_key="k")
    ids += [world.run(1, lane=text, sticky_key="k")[0] for _ in range(4)]
    found = where(world, ids)
    assert sum(node is not None for node in found) == 3
    assert set(found) <= {"n2", "n3", None}
    assert complete(world, n1, n2, n3) == 8
    assert "n1" not in where(world, ids)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_important_ones_of_a_batch_get_the_free_places_by_every_strategy(strategy):
    world = World()
    node = world.node(window=2)
    text = lane(strategy=strategy, require=("!x",))
    rows = [*world.rows(3, priority=1, lane=text, sticky_key="k"), *world.rows(2, priority=8, lane=text)]
    world.submit(rows)
    assert [item.id for item in node.work()] == [rows[3].id, rows[4].id]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_backlog_is_worked_off_by_all_nodes_whatever_the_strategy(strategy):
    world = World(window=8)
    nodes = bed(world, "n1", "n2", "n3", window=2)
    ids = world.run(60, lane=lane(strategy=strategy, require=("!x",)), sticky_key="k")
    assert complete(world, *nodes) == 60
    assert set(where(world, ids)) == {"n1", "n2", "n3"}


# --- nobody ---------------------------------------------------------------------------------------


def test_why_nobody_runs_it_is_said_node_by_node(world):
    key = ("h", "m", lane(require=("gpu", "zone == a")))
    assert world.core.why_nobody(key) == "no node that serves h.m is connected"
    n1 = world.node("n1", labels={"zone": "a"})
    world.node("n2", labels={"gpu": "true", "zone": "b"})
    world.node("n3", pairs=(("h", "other"),), labels={"gpu": "true", "zone": "a"})
    assert world.core.why_nobody(key) == ("no node matches require [gpu, zone == a]: n1 lacks gpu; n2 lacks zone == a")
    assert world.core.why_nobody(("h", "m", lane(node="n9"))) == (
        "no node matches require [node == n9]: n1 lacks node == n9; n2 lacks node == n9"
    )
    assert world.core.why_nobody(("h", "m", None)) is None
    world.run(1, lane=key[2])
    assert world.core.unserved() == [key]
    n1.bye()
    n1.start()
    n1.hello(labels={"gpu": "true", "zone": "a"}).credit(1)
    assert world.core.why_nobody(key) is None
    assert world.core.unserved() == []


def test_of_many_nodes_that_do_not_match_a_few_are_named(world):
    for n in range(8):
        world.node(f"n{n}")
    assert world.core.why_nobody(("h", "m", GPU)).endswith("n4 lacks gpu; and 3 more")
