"""The page on triggers: its examples are triggers, its fields are all there, its numbers are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from schedule_zero.timing import combination, cron_text, instants, parse, parse_trigger, recurring
from schedule_zero.timing.walltime import Fold, Gap

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "triggers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# 2026-11-20T13:24:51Z
NOW_US = 1_795_181_091_000_000


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_trigger(example):
    trigger = parse_trigger(json.loads(example), now_us=NOW_US)
    assert trigger.next_after(NOW_US) is not None


def test_every_expression_with_h_is_one():
    expressions = re.findall(r"^\| `([^`]*H[^`]*)` \|", PAGE, re.MULTILINE)
    assert len(expressions) == 5
    for expression in expressions:
        assert parse_trigger({"type": "cron", "expression": expression}, seed="a schedule").next_after(0)


@pytest.mark.parametrize(
    "word",
    [
        *parse._PARSERS,
        *cron_text.FIELDS,
        *cron_text.ALIASES,
        *instants.UNITS_US,
        *recurring.UNITS,
        *Gap,
        *Fold,
        *("run_date", "run_time", "timezone", "start", "end", "start_time", "end_time", "anchor", "expression", "seed"),
        *("dst_gap", "dst_fold", "at", "on", "start_date", "end_date", "triggers", "trigger", "except", "+2h"),
    ],
)
def test_every_type_and_field_stands_on_the_page(word):
    assert re.search(rf"`\"?{re.escape(word)}\"?`|\[`{re.escape(word)}`", PAGE)


def test_the_bounds_are_those_of_the_code():
    assert f"| {combination.SEARCH_STEPS:,} steps |" in PAGE
    assert f"| {combination.SEARCH_YEARS} years |" in PAGE
    assert f"| {combination.MAX_DEPTH} |" in PAGE
    assert f"| {combination.MAX_LEAVES} |" in PAGE
