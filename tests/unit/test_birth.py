"""What an execution is born with: its options, and the keys and deadlines that follow from them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.job_options import JobOptions, Priority, Strategy
from schedule_zero.model import Execution, Origin, State
from schedule_zero.rules.birth import PLAIN, LaneSpec, again, equip, lane_of, lane_text
from schedule_zero.rules.keys import MAX_KEY, fields_of, fill_in
from schedule_zero.rules.options import NO_OPTIONS, Source, aged_us, options_of, shown

MINUTE_US = 60_000_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def born(narrow: JobOptions = NO_OPTIONS, method: JobOptions = NO_OPTIONS, **fields: object) -> Execution:
    row = Execution(**{"id": "e1", "handler_id": "etl", "job_method": "load", "created_us": 1_000, **fields})
    equip(row, narrow, method, Source.SUBMISSION)
    return row


@pytest.mark.parametrize(
    ("template", "params", "key"),
    [
        ("fixed", {}, "fixed"),
        ("customer:{customer}", {"customer": "ann"}, "customer:ann"),
        ("customer:{customer}", {"customer": 7}, "customer:7"),
        ("{a}-{b}", {"a": True, "b": None}, "true-null"),
        ("{missing}", {}, "null"),
        ("{a}", {"a": {"y": 1, "x": [1, 2]}}, '{"x":[1,2],"y":1}'),
        ("all:{*}", {"b": 2, "a": "1"}, 'all:{"a":"1","b":2}'),
        ("{a}", {"a": "{b}", "b": "no"}, "{b}"),
        ("{a}", {"a": "x\0y"}, r"x\u0000y"),
    ],
)
def test_a_key_is_its_template_with_the_parameters_filled_in(template, params, key):
    assert fill_in(template, params) == key


@given(st.dictionaries(st.sampled_from("abc"), VALUES), st.dictionaries(st.sampled_from("abc"), VALUES))
def test_a_key_of_all_parameters_is_the_same_for_the_same_parameters_only_and_never_too_long(one, other):
    first, second = fill_in("k:{*}", one), fill_in("k:{*}", dict(reversed(list(one.items()))))
    assert first == second
    assert len(first) <= MAX_KEY
    if msgspec.json.encode(one, order="sorted") != msgspec.json.encode(other, order="sorted"):
        assert fill_in("k:{*}", other) != first


def test_long_keys_that_differ_only_in_their_end_stay_different():
    assert fill_in("{a}", {"a": "x" * 400 + "1"}) != fill_in("{a}", {"a": "x" * 400 + "2"})


def test_a_template_names_its_parameters():
    assert fields_of("{a}/{b_2}:{*}:c") == {"a", "b_2"}


@pytest.mark.parametrize("template", ["", "{", "a}", "{a b}", "{a{b}}", "{}", "x" * 257, "line\n"])
def test_what_is_no_template_is_refused(template):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"unique_key": template}, JobOptions)


@pytest.mark.parametrize("rate", ["", "10", "0/s", "10/w", "-1/s", "1.5/s", "10/s\n"])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"rate_limit": rate}, JobOptions)


def test_an_execution_without_options_is_born_with_nothing_of_its_own():
    row = born()
    assert (row.priority, row.options, row.lane, row.start_by_us) == (Priority.NORMAL, None, None, None)


def test_an_execution_is_born_with_its_keys_filled_in_and_what_is_unique_is_so_within_its_job():
    row = born(
        JobOptions(concurrency_key="c:{id}", unique_key="u:{id}"),
        JobOptions(rate_key="r:{id}", sticky_key="{id}"),
        params=b'{"id": 4}',
    )
    assert (row.concurrency_key, row.rate_key, row.sticky_key) == ("c:4", "r:4", "4")
    assert row.unique_key == "etl.load:u:4"


@pytest.mark.parametrize(("not_before_us", "since_us"), [(None, 1_000), (5_000_000, 5_000_000)])
def test_the_start_deadline_counts_from_when_it_could_start(not_before_us, since_us):
    row = born(JobOptions(queue_timeout_s=1.5), not_before_us=not_before_us)
    assert row.start_by_us == since_us + 1_500_000


def test_where_it_may_run_is_kept_as_one_text_and_nothing_special_as_none():
    row = born(JobOptions(require=("gpu",), strategy=Strategy.PACK), JobOptions(weight=3))
    assert lane_of(row.lane) == LaneSpec(require=("gpu",), strategy=Strategy.PACK, weight=3)
    assert lane_text(PLAIN) is None
    assert lane_of(None) == PLAIN


def test_what_is_kept_leaves_defaults_out_and_what_is_shown_has_them_all():
    row = born(JobOptions(priority=9))

    assert msgspec.json.decode(row.options) == {"priority": 9, "sources": {"priority": "submission"}}
    told = msgspec.json.decode(shown(row.options))
    assert (told["priority"], told["max_attempts"], told["sources"]) == (9, 1, {"priority": "submission"})
    assert msgspec.json.decode(shown(None))["strategy"] == "least_loaded"
    assert options_of(row.options).priority == 9


@given(st.integers(-1000, 1000), st.integers(0, 999))
def test_a_minute_of_waiting_is_worth_one_step_of_priority(priority, steps):
    assert aged_us(priority, 0) == aged_us(priority + steps, steps * MINUTE_US)


# --- again --------------------------------------------------------------------------------------------

KEYED = JobOptions(
    priority=9, concurrency_key="c:{customer}", require=("gpu",), queue_timeout_s=60.0, unique_key="u:{customer}"
)


def test_what_is_made_again_has_the_options_keys_and_lane_of_the_old_one_and_deadlines_of_its_own():
    old = born(KEYED, params=b'{"customer":"ann"}', schedule_id="s", idempotency_key="k")
    new = again(old, 5_000)
    assert (new.parent_id, new.origin, new.state) == (old.id, Origin.RETRY, State.PENDING)
    same = ("priority", "options", "lane", "concurrency_key", "unique_key", "schedule_id", "idempotency_key", "params")
    assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]
    assert (old.start_by_us, new.start_by_us) == (1_000 + MINUTE_US, 5_000 + MINUTE_US)


def test_other_parameters_fill_its_keys_anew():
    new = again(born(KEYED, params=b'{"customer":"ann"}'), 5_000, params=b'{"customer":"bob"}')
    assert (new.concurrency_key, new.unique_key) == ("c:bob", "etl.load:u:bob")


def test_options_that_are_to_be_others_win_and_the_rest_keeps_its_source():
    old = born(JobOptions(priority=9), JobOptions(max_attempts=3, timeout_s=5))
    new = again(old, 5_000, narrow=JobOptions(max_attempts=7, idempotent=False))
    told = msgspec.json.decode(shown(new.options))
    assert (told["priority"], told["max_attempts"], told["timeout_s"], told["on_lost"]) == (9, 7, 5, "fail")
    assert told["sources"] == {
        "priority": "submission", "timeout_s": "method", "max_attempts": "submission", "on_lost": "submission",
    }  # fmt: skip


def test_one_without_options_is_made_again_without_any():
    new = again(born(), 5_000)
    assert (new.options, new.lane, new.priority) == (None, None, 5)


def test_one_of_a_broadcast_stays_with_its_node():
    old = born(params=b"{}")
    old.lane = lane_text(LaneSpec(node="n7"))
    assert lane_of(again(old, 5_000).lane).node == "n7"
    assert lane_of(again(old, 5_000, narrow=JobOptions(weight=2)).lane) == LaneSpec(node="n7", weight=2)


def test_one_that_is_to_start_later_is_scheduled():
    new = again(born(KEYED, params=b'{"customer":"ann"}'), 5_000, not_before_us=9_000, group_id="g")
    assert (new.state, new.not_before_us, new.group_id) == (State.SCHEDULED, 9_000, "g")
    assert new.start_by_us == 9_000 + MINUTE_US
