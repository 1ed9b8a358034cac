"""A method's JSON schema as a table: whatever it says, the rows say something, and there are not too many."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.web.pages.schema_table import MAX_DEPTH, MAX_ROWS, MAX_TEXT, params_of, signature, takes_more


def schema(properties: dict[str, Any], *required: str, **more: Any) -> bytes:
    return json.dumps({"type": "object", "properties": properties, "required": list(required), **more}).encode()


def types(properties: dict[str, Any], **more: Any) -> dict[str, str]:
    return {row.name: row.type for row in params_of(schema(properties, **more))}


def test_a_row_says_name_type_whether_it_is_required_default_and_what_it_is_for() -> None:
    [day, count] = params_of(
        schema(
            {
                "day": {"type": "string", "format": "date", "description": "Of the report."},
                "count": {"type": "integer", "default": 12345678901234567890, "minimum": 1, "maximum": 9},
            },
            "day",
        )
    )

    assert (day.name, day.type, day.required, day.default) == ("day", "string (date)", True, None)
    assert day.about == "Of the report."
    assert (count.required, count.default, count.about) == (False, "12345678901234567890", "at least 1 · at most 9")
    assert signature([day, count]) == "day, count?"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"enum": ["a", "ß", 3]}, '"a" or "ß" or 3'),
        ({"const": True}, "true"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({}, "anything"),
        (True, "anything"),
        ({"$ref": "#/$defs/nowhere"}, "anything"),
        ({"$ref": "#/$defs/loop"}, "anything"),
    ],
)
def test_types_are_said_in_words(part: Any, words: str) -> None:
    assert types({"x": part}, **{"$defs": {"loop": {"$ref": "#/$defs/loop"}}}) == {"x": words}


def test_fields_of_objects_follow_their_object_also_by_reference_in_lists_and_where_it_may_be_null() -> None:
    defs = {"Window": {"type": "object", "properties": {"start": {"type": "string"}}, "required": ["start"]}}
    window = {"$ref": "#/$defs/Window"}
    rows = params_of(
        schema(
            {"a": window, "b": {"type": "array", "items": window}, "c": {"anyOf": [window, {"type": "null"}]}},
            **{"$defs": defs},
        )
    )

    assert [row.name for row in rows] == ["a", "a.start", "b", "b[].start", "c", "c.start"]
    assert [row.required for row in rows if row.depth] == [True, True, True]
    assert signature(rows) == "a?, b?, c?"


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    rows = params_of(schema({"first": {"$ref": "#/$defs/Node"}}, **{"$defs": {"Node": node}}))
    assert len(rows) == MAX_DEPTH


def test_a_table_is_bounded_however_large_the_schema() -> None:
    rows = params_of(schema({f"p{n}": {"description": "x" * 5_000} for n in range(MAX_ROWS + 50)}))
    assert len(rows) == MAX_ROWS
    assert max(len(row.about) for row in rows) == MAX_TEXT + 1


def test_whether_others_are_taken_is_what_the_schema_says() -> None:
    assert takes_more(b"{}")
    assert takes_more(b"true")
    assert not takes_more(schema({}, additionalProperties=False))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "anyOf", "enum", "$ref", "required", "default", "minimum", "x", "$defs"]
            ),
            inner | st.sampled_from(["object", "array", "#/$defs/x", "#", "string"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_json)
def test_no_document_is_too_odd(document: Any) -> None:
    body = json.dumps(document).encode()
    for row in params_of(body):
        assert row.type
        assert len(row.name) <= MAX_TEXT + 1
    takes_more(body)


def test_what_is_no_json_has_no_rows() -> None:
    assert params_of(b"{") == []
    assert takes_more(b"{")
