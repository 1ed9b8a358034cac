"""Who may run what, and who should: lanes' conditions, shares, keys and draws."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.conditions import FACTS
from schedule_zero.job_options import JobOptions, Strategy
from schedule_zero.model import Execution
from schedule_zero.node.facts import gather
from schedule_zero.rules.birth import LaneSpec, equip, lane_of, lane_text
from schedule_zero.rules.options import Source, options_of
from schedule_zero.rules.routing import affinity, digest, draw, lacks, match, share_of

NODES = [f"n{n}" for n in range(6)]


def test_a_plain_lane_matches_every_node():
    assert match(LaneSpec(), {}, 4) is not None
    assert lacks(LaneSpec(), {}) == []


def test_all_that_is_required_is_required():
    spec = LaneSpec(require=("a", "b == 1"))
    assert match(spec, {"a": "true", "b": "1"}, 1) is not None
    assert match(spec, {"a": "true", "b": "2"}, 1) is None
    assert lacks(spec, {"b": "2"}) == ["a", "b == 1"]


def test_preferred_conditions_that_are_not_met_are_counted():
    spec = LaneSpec(prefer=("a", "b", "not a condition"))
    found = match(spec, {"a": "true"}, 1)
    assert found is not None
    assert found.unmet == 2


def test_what_cannot_be_understood_is_met_by_nobody_and_named():
    spec = LaneSpec(require=("a =",))
    assert match(spec, {"a": "true"}, 1) is None
    assert lacks(spec, {"a": "true"}) == ["a ="]


@pytest.mark.parametrize(
    ("facts", "share"),
    [({}, 4.0), ({"weight": "2.5"}, 2.5), ({"weight": "x"}, 4.0), ({"weight": "0"}, 1.0), ({"weight": "inf"}, 1.0)],
)
def test_a_share_is_the_label_weight_or_the_slots_and_never_nothing(facts, share):
    assert share_of(facts, 4) == share
    assert share_of({}, 0) == 1.0


@given(st.text(max_size=40), st.sets(st.sampled_from(NODES), min_size=2), st.data())
def test_a_node_that_goes_moves_its_own_keys_only(key, nodes, data):
    home = max(nodes, key=lambda node: affinity(digest(key), digest(node)))
    gone = data.draw(st.sampled_from(sorted(nodes)))
    left = nodes - {gone}
    new = max(left, key=lambda node: affinity(digest(key), digest(node)))
    assert home in (new, gone)


def test_keys_and_draws_are_spread_evenly():
    keys = Counter(max(NODES, key=lambda node: affinity(digest(f"k{n}"), digest(node))) for n in range(6000))
    draws = Counter(draw(f"e{n}", 6) for n in range(6000))
    assert set(draws) == set(range(6))
    assert all(850 < count < 1150 for count in (*keys.values(), *draws.values())), (keys, draws)


conditions = st.lists(st.sampled_from(["gpu", "zone == a", "!x"]), max_size=3).map(tuple)
specs = st.builds(
    LaneSpec,
    require=conditions,
    prefer=conditions,
    strategy=st.sampled_from(Strategy),
    weight=st.integers(1, 3),
    node=st.none() | st.sampled_from(NODES),
)


@given(specs)
def test_a_lane_is_the_same_after_it_was_stored(spec):
    assert lane_of(lane_text(spec)) == spec


def born(**options):
    row = Execution(id="e", handler_id="h", job_method="m", params=b'{"customer":"acme","n":1}')
    equip(row, msgspec.convert(options, JobOptions), JobOptions(), Source.SUBMISSION)
    return row


def test_who_says_a_sticky_key_means_the_strategy():
    row = born(sticky_key="c:{customer}")
    assert (row.sticky_key, lane_of(row.lane).strategy) == ("c:acme", Strategy.STICKY_KEY)
    assert options_of(row.options).strategy is Strategy.STICKY_KEY
    assert lane_of(born(sticky_key="k", strategy="pack").lane).strategy is Strategy.PACK


def test_sticky_without_a_key_goes_by_all_parameters():
    assert born(strategy="sticky_key").sticky_key == '{"customer":"acme","n":1}'


def test_executions_that_want_the_same_share_a_lane_and_others_do_not():
    assert born(require=["gpu"], priority=9).lane == born(require=["gpu"]).lane
    assert born(require=["gpu"]).lane != born(require=["!gpu"]).lane
    assert born(priority=9).lane is None


def test_a_node_knows_the_facts_that_labels_may_not_be_called_like():
    found = gather("1.2", "worker-3")
    assert set(found) <= set(FACTS)
    assert {"host", "os", "arch", "python", "cores", "version"} <= set(found)
    assert (found["host"], found["version"]) == ("worker-3", "1.2")
    assert int(found["cores"]) >= 1
