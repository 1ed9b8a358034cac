"""What differs between two versions of a schedule."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.rules.changes import Difference, Op, changed_fields, differences


def row(**fields: Any) -> Schedule:
    return Schedule(
        **{"id": "a", "handler_id": "demo", "job_method": "noop", "trigger": b'{"type":"manual"}', **fields}
    )


def test_only_what_users_set_is_compared():
    assert differences(row(), row(version=2, next_fire_us=5, runs=7, updated_us=9, waits_for="x", generation=3)) == []


def test_objects_are_compared_member_by_member_and_lists_as_a_whole():
    old = row(params=b'{"a":1,"b":{"c":[1,2],"d":true},"e/f~":0}', policies=b'{"overlap":"skip"}')
    new = row(params=b'{"a":1.0,"b":{"c":[1,3]},"g":null,"e/f~":1}', trigger=b'{"type":"startup"}', skips=b"[1000000]")

    assert differences(old, new) == [
        Difference(Op.CHANGED, "/job_params/a", 1, 1.0),
        Difference(Op.CHANGED, "/job_params/b/c", [1, 2], [1, 3]),
        Difference(Op.REMOVED, "/job_params/b/d", True, None),
        Difference(Op.CHANGED, "/job_params/e~1f~0", 0, 1),
        Difference(Op.ADDED, "/job_params/g", None, None),
        Difference(Op.CHANGED, "/trigger/type", "manual", "startup"),
        Difference(Op.REMOVED, "/policies/overlap", "skip", None),
        Difference(Op.CHANGED, "/skips", [], ["1970-01-01T00:00:01.000000Z"]),
    ]


def test_a_value_of_another_kind_is_a_change_even_if_it_is_equal():
    assert differences(row(params=b'{"a":1}'), row(params=b'{"a":true}')) == [
        Difference(Op.CHANGED, "/job_params/a", 1, True)
    ]


def test_the_fields_that_a_version_changed_are_named_but_not_how_it_ended():
    old = row(note="one", state=ScheduleState.PAUSED, resume_us=5)
    new = row(note="two", misfire_grace_s=3.0)

    assert changed_fields(old, new) == ["misfire_grace_s", "state", "note", "paused_until"]
    ended = row(note="finished after 3 runs", misfire_grace_s=3.0, state=ScheduleState.FINISHED)
    assert changed_fields(new, ended) == []
    assert changed_fields(row(), ended) == ["misfire_grace_s"]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab/~", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text("ab/~", max_size=2), values, max_size=4)


def _put(document: Any, change: Difference) -> Any:
    """Apply one difference."""
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in change.pointer.split("/")[1:]]
    at = document
    for step in way:
        at = at[step]
    if change.op is Op.REMOVED:
        del at[last]
    else:
        at[last] = change.after
    return document


@given(objects, objects)
def test_the_differences_lead_from_one_to_the_other(before, after):

    found = differences(row(params=msgspec.json.encode(before)), row(params=msgspec.json.encode(after)))

    document: Any = {"job_params": before}
    for change in found:
        document = _put(document, change)
    assert msgspec.json.encode(document["job_params"], order="sorted") == msgspec.json.encode(after, order="sorted")
