"""A form from a JSON Schema: a document that is shown and sent back untouched is the same."""

from __future__ import annotations

import json

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_zero.handlers.demo import DemoHandler

from schedule_zero.node.methods import describe
from schedule_zero.web.pages.fields import Widget, walk
from schedule_zero.web.pages.param_form import MORE, fields_of, read, shown
from schedule_zero.web.pages.param_shape import MAX_FIELDS, Kind, shape_of


class Order(msgspec.Struct):
    number: int
    lines: list[str]


class Params(msgspec.Struct, forbid_unknown_fields=True):
    order: Order
    rush: bool = False
    customer: int | None = None


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=6
)


def single_schemas():
    plain = st.sampled_from(
        [
            {"type": "string"},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "date-time"},
            {"type": "integer", "minimum": 1},
            {"type": "number"},
            {"type": "boolean"},
            {},
            True,
            {"type": ["integer", "string"]},
            {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        ]
    )
    enums = st.lists(SCALARS, min_size=1, max_size=4).map(lambda values: {"enum": values})
    single = plain | enums
    nullable = single.map(lambda schema: {"anyOf": [schema, {"type": "null"}]})
    return single | nullable | single.map(lambda schema: {"type": "array", "items": schema})


def object_schemas(inner):
    return st.builds(
        lambda members, required, more: {
            "type": "object",
            "properties": members,
            "required": [name for name in members if name in required],
            "additionalProperties": more,
        },
        st.dictionaries(ANY_TEXT, inner, max_size=4),
        st.sets(ANY_TEXT, max_size=3),
        st.booleans(),
    )


SCHEMAS = object_schemas(st.recursive(single_schemas(), object_schemas, max_leaves=6))


@st.composite
def schemas_with_documents(draw):
    """A schema, and a document that often fits it: its names, and values of all kinds."""
    schema = draw(SCHEMAS)

    def value(part):
        if isinstance(part, dict) and part.get("type") == "object" and draw(st.booleans()):
            members = {name: value(member) for name, member in part["properties"].items() if draw(st.booleans())}
            return members | (draw(st.dictionaries(ANY_TEXT, ANY_JSON, max_size=1)) if draw(st.booleans()) else {})
        if isinstance(part, dict) and part.get("enum") and draw(st.booleans()):
            return draw(st.sampled_from(part["enum"]))
        if isinstance(part, dict) and part.get("type") == "array" and draw(st.booleans()):
            return [value(part["items"]) for _ in range(draw(st.integers(0, 3)))]
        return draw(ANY_JSON)

    found = value(schema)
    return schema, found if isinstance(found, dict) else {}


def schema_of(**properties) -> bytes:
    required = [name for name, schema in properties.items() if not schema.pop("optional", False)]
    document = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return json.dumps(document).encode()


@given(schemas_with_documents())
def test_a_document_comes_back_as_it_was(case):
    schema, document = case
    shape = shape_of(json.dumps(schema).encode())

    pairs = fields_of(shape, document)
    reading = read(shape, pairs)

    assert not reading.errors
    assert json.dumps(reading.document, sort_keys=True) == json.dumps(document, sort_keys=True)


@given(schemas_with_documents())
def test_what_is_shown_is_what_is_sent(case):
    schema, document = case
    shape = shape_of(json.dumps(schema).encode())

    fields = walk([shown(shape, fields_of(shape, document))])
    # As a browser does it: a select of which nothing is chosen sends its first choice.
    pairs = [(one.name, one.value) for one in fields if one.widget is not Widget.GROUP]

    assert json.dumps(read(shape, pairs).document, sort_keys=True) == json.dumps(document, sort_keys=True)


@given(ANY_JSON, ANY_JSON)
def test_no_schema_and_no_document_is_too_strange(schema, document):
    shape = shape_of(json.dumps(schema).encode())

    assert read(shape, fields_of(shape, document)).document == document or document is None or not document


@pytest.mark.parametrize("text", ["123456789012345678901234567890", "-9007199254740993", "0"])
def test_a_big_integer_is_exact(text):
    shape = shape_of(schema_of(number={"type": "integer"}))

    reading = read(shape, [("/job_params/number", f" {text} ")])

    assert reading.document == {"number": int(text)}


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        ({"type": "integer"}, "1.5", "expected a whole number, got '1.5'"),
        ({"type": "integer"}, "9" * 5000, "expected a number of at most 4,300 digits, got 5,000"),
        ({"type": "number"}, "fast", "expected a number, got 'fast'"),
        ({"type": "number"}, "1e999", "expected a number up to 1.8e308, got '1e999'"),
        ({"enum": ["a", "b"]}, '"c"', "expected one of a, b, got '\"c\"'"),
        ({"type": "string", "format": "date"}, "tomorrow", "expected a date such as 2030-01-31, got 'tomorrow'"),
        (
            {"type": "string", "format": "date-time"},
            "soon",
            "expected a moment such as 2030-01-31T09:00:00+01:00, got 'soon'",
        ),
        ({"type": "array", "items": {"type": "integer"}}, "1\r\ntwo", "line 2: expected a whole number, got 'two'"),
    ],
)
def test_what_cannot_be_read_is_said_at_its_field_and_kept(schema, text, said):
    shape = shape_of(schema_of(it=schema))

    reading = read(shape, [("/job_params/it", text)])

    assert reading.errors == {"/job_params/it": said}
    assert shown(shape, [("/job_params/it", text)]).members[0].value == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "out of range"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("[" * 100_000, "nested far too deeply"),
    ],
)
def test_json_that_is_none_is_said_at_its_field(text, said):
    shape = shape_of(b'{"type": "object"}')

    reading = read(shape, [("json:/job_params", text)])

    assert said in reading.errors["/job_params"]


def test_a_field_that_is_left_empty_is_left_out():
    shape = shape_of(
        schema_of(
            name={"type": "string", "optional": True},
            count={"type": "integer", "default": 3, "optional": True},
            tags={"type": "array", "items": {"type": "string"}, "optional": True},
            place={"type": "object", "properties": {"city": {"type": "string"}}, "optional": True},
        )
    )
    names = ("name", "count", "tags", "place/city")

    reading = read(shape, [(f"/job_params/{name}", "") for name in names])

    assert reading == type(reading)({}, {})


def test_a_required_parameter_that_is_left_empty_is_for_the_registry_to_miss():
    shape = shape_of(schema_of(name={"type": "string"}, maybe={"anyOf": [{"type": "integer"}, {"type": "null"}]}))

    assert read(shape, []).document == {"maybe": None}


def test_a_field_tells_its_default_its_limits_and_what_it_is_for():
    shape = shape_of(
        schema_of(
            speed={"type": "integer", "minimum": 1, "maximum": 9, "default": 5, "description": "How fast."},
            colour={"enum": ["red", "blue"], "default": "red", "optional": True},
        )
    )

    speed, colour = shown(shape, []).members

    assert (speed.placeholder, speed.description, speed.required) == ("5 (default)", "How fast. · 1 to 9", True)
    assert colour.choices == [("", "red (default)"), ('"red"', "red"), ('"blue"', "blue")]


def test_members_without_a_name_in_the_schema_have_a_field_of_their_own():
    shape = shape_of(b'{"type": "object", "properties": {"a": {"type": "integer"}}}')

    reading = read(shape, [("/job_params/a", "1"), (MORE, '{"b": [2]}')])

    assert reading.document == {"a": 1, "b": [2]}
    assert read(shape, [(MORE, '{"a": 1}')]).errors == {MORE: "a has a field of its own"}
    assert read(shape, [(MORE, "[1]")]).errors == {MORE: "expected an object of parameters by name"}


def test_references_are_followed_and_circles_end():
    shape = shape_of(
        json.dumps(
            {
                "type": "object",
                "properties": {"tree": {"$ref": "#/$defs/Tree"}, "lists": {"$ref": "#/$defs/Lists"}},
                "$defs": {
                    "Tree": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "left": {"$ref": "#/$defs/Tree"}},
                    },
                    "Lists": {"type": "array", "items": {"$ref": "#/$defs/Lists"}},
                    "Me": {"$ref": "#/$defs/Me"},
                },
            }
        ).encode()
    )

    tree, lists = shape.members

    assert [member.kind for member in tree.members] == [Kind.TEXT, Kind.OBJECT]
    assert lists.kind is Kind.JSON


def test_a_schema_with_too_many_names_is_edited_as_json():
    many = {f"p{number}": {"type": "string"} for number in range(MAX_FIELDS + 1)}

    assert shape_of(schema_of(**many)).kind is Kind.JSON


def test_the_schemas_of_our_own_nodes_make_fields():
    methods = {method.name: method.declaration for method in describe(DemoHandler())}

    kinds = {name: [member.kind for member in shape_of(method.schema).members] for name, method in methods.items()}

    assert kinds["hello"] == [Kind.TEXT]
    assert kinds["add"] == [Kind.NUMBER, Kind.NUMBER]
    assert kinds["noop"] == []
    assert shape_of(methods["noop"].schema).kind is Kind.OBJECT
    assert shape_of(methods["echo"].schema).kind is Kind.JSON


def test_types_of_python_have_fields_that_fit():
    _, definitions = msgspec.json.schema_components([Params], ref_template="#/$defs/{name}")
    whole = {**definitions["Params"], "$defs": definitions}
    shape = shape_of(json.dumps(whole).encode())
    document = {"order": {"number": 2**70, "lines": ["a", "b c"]}, "rush": True}

    pairs = fields_of(shape, document)

    assert dict(pairs) == {
        "/job_params/order/number": str(2**70),
        "/job_params/order/lines": "a\nb c",
        "/job_params/rush": "true",
    }
    jsonschema_rs.Draft202012Validator(whole).validate(read(shape, pairs).document)
