"""Conditions on nodes: what is understood, what is refused and where, and when they hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.conditions import ConditionError, objection, parse, parse_labels
from schedule_zero.job_options import JobOptions

NODE = {
    "python": "3.12.4",
    "memory_gb": "15.5",
    "cores": "8",
    "os": "linux",
    "zone": "eu-1",
    "gpu": "true",
    "arm": "false",
    "host": "web-3[a]",
    "driver": "535.104.5",
    "release": "3.13.0rc1",
    "rack": "b 12",
}


@pytest.mark.parametrize(
    "condition",
    [
        "gpu",
        "  gpu  ",
        "!arm",
        "!tpu",
        "zone == eu-1",
        "zone==eu-1",
        "zone != eu-2",
        # What a node doesn't have is like nothing.
        "rack2 != 5",
        "rack2 not in (5, 6)",
        "rack2 !~ *",
        "zone in (us-1, eu-1)",
        "zone in(eu-1)",
        "zone not in (us-1, us-2)",
        'rack == "b 12"',
        'rack in ("b 12", c)',
        "cores == 8.0",
        "cores >= 8",
        "cores > -1",
        "memory_gb > 15.25",
        "memory_gb < 15.51",
        "python >= 3.9",
        "python < 3.13",
        "python <= 3.12.4.0",
        "python ~ 3.12.*",
        "driver > 535.99.9",
        "release < 3.13.0",
        "release >= 3.12.9",
        "host ~ web-*",
        "host !~ db-*",
    ],
)
def test_it_holds(condition):
    assert parse(condition).holds(NODE)


@pytest.mark.parametrize(
    "condition",
    [
        "tpu",
        "arm",
        "!gpu",
        "zone == EU-1",
        "zone == us-1",
        "zone != eu-1",
        "zone in (us-1)",
        "tpu in (a)",
        # Can't be compared, so it isn't fulfilled.
        "zone < 5",
        "zone >= 5",
        "tpu < 5",
        "memory_gb >= 15.75",
        "python < 3.9",
        "host ~ web",
        "tpu ~ *",
    ],
)
def test_it_does_not_hold(condition):
    assert not parse(condition).holds(NODE)


def test_brackets_in_a_pattern_stand_for_themselves():
    assert parse('host ~ "web-3[a]"').holds(NODE)
    assert not parse('host ~ "web-[3][a]"').holds(NODE)


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("", "expected the name of a label or fact at character 1"),
        ("3d", "at character 1 of '3d', got '3d'"),
        ("gpu gpu", "expected ==, !=, <, <=, >, >=, ~, !~, in or the end at character 5"),
        ("os = linux", "at character 4 of 'os = linux', got '= linux'"),
        ("memory_gb >=", "expected a value at character 13 of 'memory_gb >=', it ends there"),
        ("memory_gb >= much", "expected a number or a version at character 14"),
        ("a in b", "expected ( and a list of values at character 6"),
        ("a in (b", "expected , or ) at character 8"),
        ("a in ()", "expected a value at character 7"),
        ("a == b c", "expected the end at character 8"),
        ("!a == b", "expected the end at character 4"),
        ('a == "b', "expected a value at character 6"),
        ("a" * 257, "expected at most 256 characters, got 257"),
        ("a\nb", "expected"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(condition, error):
    with pytest.raises(ConditionError, match=re.escape(error)) as found:
        parse(condition)
    assert len(str(found.value)) < 500


def test_the_first_bad_condition_of_the_options_is_named():
    assert objection(JobOptions()) is None
    assert objection(JobOptions(require=("gpu",), prefer=("zone == a",))) is None
    where, why = objection(JobOptions(require=("gpu",), prefer=("zone == a", "zone =")))
    assert where == "/prefer/1"
    assert "character 6" in why


texts = st.text(alphabet='abz_019. <>=!~in(),"*?[]-/\t', max_size=30)


@given(texts, st.dictionaries(st.sampled_from(["a", "b", "z", "in"]), texts, max_size=3))
def test_whatever_is_understood_holds_or_does_not(condition, facts):
    try:
        parsed = parse(condition)
    except ConditionError:
        return
    assert parsed.holds(facts) in (True, False)
    assert parsed.holds(facts) == parse(condition).holds(dict(facts))


versions = st.lists(st.integers(0, 30), min_size=3, max_size=4)


@given(versions, versions)
def test_versions_are_ordered_part_by_part(mine, other):
    facts = {"v": ".".join(map(str, mine))}
    written = ".".join(map(str, other))
    width = max(len(mine), len(other))
    one, two = (parts + [0] * (width - len(parts)) for parts in (mine, other))
    assert parse(f"v < {written}").holds(facts) == (one < two)
    assert parse(f"v >= {written}").holds(facts) == (one >= two)
    assert parse(f"v > {written}").holds(facts) == (one > two)
    assert parse(f"v <= {written}").holds(facts) == (one <= two)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_numbers_are_ordered_as_numbers(mine, other):
    facts = {"n": f"{mine:.3f}"}
    assert parse(f"n < {other:.3f}").holds(facts) == (float(f"{mine:.3f}") < float(f"{other:.3f}"))


def test_labels_are_names_with_or_without_a_value():
    assert parse_labels(["gpu", "zone=eu-1", "empty=", "url=a=b"]) == {
        "gpu": "true",
        "zone": "eu-1",
        "empty": "",
        "url": "a=b",
    }


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ("", "expected NAME or NAME=VALUE"),
        ("=x", "expected NAME or NAME=VALUE"),
        ("3d=x", "expected NAME or NAME=VALUE"),
        ("a b", "expected NAME or NAME=VALUE"),
        ("a" * 64, "expected NAME or NAME=VALUE"),
        ("os=linux", "'os' is what the node itself tells"),
        ("node=n2", "'node' is what the node itself tells"),
        ("a=" + "x" * 257, "at most 256 printable characters"),
        ("a=x\ny", "at most 256 printable characters"),
    ],
)
def test_a_bad_label_is_refused(label, error):
    with pytest.raises(ValueError, match=error):
        parse_labels([label])


def test_labels_are_counted():
    assert len(parse_labels(f"l{n}" for n in range(64))) == 64
    with pytest.raises(ValueError, match="at most 64 labels, got 65"):
        parse_labels(f"l{n}" for n in range(65))
