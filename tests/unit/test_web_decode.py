"""Bodies and query strings: what is accepted, and how exactly a refusal says where and what."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.errors import BadRequest, InvalidField, MalformedJson, TooDeep
from schedule_zero.web.api import calendar_schemas, schemas, search_schemas, wording
from schedule_zero.web.api.decode import BodyDecoder, QueryDecoder, check_depth, check_keys
from schedule_zero.web.api.routes import CREATE, ROUTES, SUBMIT
from schedule_zero.web.api.routing import OneOrMany

MAX_DEPTH = 8
JOB = b'"handler_id":"demo","job_method":"noop"'

one_or_many = BodyDecoder(SUBMIT, MAX_DEPTH)
schedule = BodyDecoder(schemas.ScheduleBody, MAX_DEPTH)


def refusal(body: bytes, decoder: BodyDecoder = one_or_many) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decoder.decode(body)
    return caught.value


# --- bodies ---------------------------------------------------------------------------------------


def test_one_object_and_a_list_of_them_are_told_apart():
    one = one_or_many.decode(b'{%s,"job_params":{"executions":[1]}}' % JOB)
    many = one_or_many.decode(b'{"executions":[{%s},{%s}]}' % (JOB, JOB))

    assert isinstance(one, schemas.SubmitBody)
    assert isinstance(many, schemas.SubmitManyBody)
    assert len(many.executions) == 2


def test_parameters_are_kept_byte_for_byte():
    body = one_or_many.decode('{%s,"job_params":{"b": 1.10, "a":"\\u00e9é", "B": 1}}'.encode() % JOB)

    assert bytes(body.item().job_params) == '{"b": 1.10, "a":"\\u00e9é", "B": 1}'.encode()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{%s,"handler_id":"demo"}' % JOB, "/handler_id"),
        (b'{%s,"job_params":{"a":{"b":1,"c":[{},{"d/e":1,"d/e":1}]}}}' % JOB, "/job_params/a/c/1/d~1e"),
        (b'{"executions":[{%s},{%s,"job_params":{"a":1,"b":2,"a":1}}]}' % (JOB, JOB), "/executions/1/job_params/a"),
        (b'{"executions":[{%s}],"executions":[{%s}]}' % (JOB, JOB), "/executions"),
        # The same key in other letters; and colons that are no separators.
        (rb'{%s,"job_params":{"\u0061":1,"a":2}}' % JOB, "/job_params/a"),
        (rb'{%s,"job_params":{"x":1,"x":"\u003a"}}' % JOB, "/job_params/x"),
        (rb'{%s,"job_params":{"x":1,"x":"\u003A:"}}' % JOB, "/job_params/x"),
        (rb'{%s,"job_params":{"x":"\":\"","x":2}}' % JOB, "/job_params/x"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_place(body, pointer):
    error = refusal(body)

    assert isinstance(error, InvalidField)
    assert error.pointer == pointer
    assert "stands twice" in error.message


# Pieces of JSON with colons in all their disguises, and keys that repeat now and then.
pieces = st.recursive(
    st.sampled_from(["1", "null", '":"', r'"\u003a"', r'"\\"', r'"\":\""', '"é"', "1e3"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(["a", "b", ":", r"\u0061"]), inner), max_size=3).map(
            lambda members: "{" + ",".join(f'"{key}":{value}' for key, value in members) + "}"
        )
    ),
    max_leaves=8,
)


@given(pieces)
@settings(max_examples=300)
def test_every_repetition_is_found_and_nothing_else(text):
    repeated = []
    json.loads(text, object_pairs_hook=lambda members: repeated.append(len(dict(members)) != len(members)))
    try:
        check_keys(text.encode())
    except InvalidField:
        assert any(repeated)
    else:
        assert not any(repeated)


def test_absent_parameters_are_an_empty_object():
    assert bytes(one_or_many.decode(b"{%s}" % JOB).item().job_params) == b"{}"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1, column 1, byte 0"),
        (b"  \n ", "line 1, column 1, byte 0"),
        (b"{", "line 1, column 2, byte 1"),
        (b'{\n "a": nope}', "line 2, column 8, byte 9"),
        (b'{"handler_id":NaN}', "byte 14"),
        (b'{"handler_id":"a","job_params":{"x":-Infinity}}', "byte 37"),
        (b'{"a":1,}', "byte 7"),
        (b"{} {}", "trailing characters"),
        (b'\xef\xbb\xbf{"a":1}', "byte 0"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"handler_id":"a","job_params":{"x":"\xc3"}}', "UTF-8"),
        (b'{"handler_id":"a","job_params":{"x":"\\ud800"}}', "surrogate"),
        (b"handler_id=a", "byte 0"),
        (b"'a'", "byte 0"),
    ],
)
def test_what_is_not_json_is_refused_with_its_position(body, where):
    error = refusal(body)

    assert isinstance(error, MalformedJson)
    assert where in error.message


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        (b"[]", "", "expected object, got array"),
        (b"null", "", "got null"),
        (b'{"job_method":"a"}', "/handler_id", "missing"),
        (b'{"handler_id":1,"job_method":"a"}', "/handler_id", "expected str, got int"),
        (b'{"handler_id":"","job_method":"a"}', "/handler_id", "up to 128 of A-Z a-z 0-9 _ . : @ / -, the first one"),
        (
            b'{"handler_id":"a b","job_method":"a"}',
            "/handler_id",
            "up to 128 of A-Z a-z 0-9 _ . : @ / -, the first one",
        ),
        (
            b'{"handler_id":"demo\\n","job_method":"a"}',
            "/handler_id",
            "up to 128 of A-Z a-z 0-9 _ . : @ / -, the first one",
        ),
        (
            b'{"handler_id":"\\u0000","job_method":"a"}',
            "/handler_id",
            "up to 128 of A-Z a-z 0-9 _ . : @ / -, the first one",
        ),
        (b'{%s,"options":{"priority":"high"}}' % JOB, "/options/priority", "got str"),
        (b'{%s,"options":{"priority":1e3}}' % JOB, "/options/priority", ""),
        (b'{%s,"options":{"priority":123456789012345678901234567890}}' % JOB, "/options/priority", ""),
        (b'{%s,"options":{"timeout_s":0}}' % JOB, "/options/timeout_s", "> 0"),
        (b'{%s,"options":[]}' % JOB, "/options", "got array"),
        (b'{%s,"not_before":"tomorrow"}' % JOB, "/not_before", "2030-01-01T00:00:00Z or unix seconds, got 'tomorrow'"),
        (b'{%s,"not_before":"2030-01-01T00:00:00"}' % JOB, "/not_before", "with Z or an offset"),
        (b'{%s,"not_before":true}' % JOB, "/not_before", "got bool"),
        (b'{"executions":[]}', "/executions", "length >= 1"),
        (b'{"executions":{}}', "/executions", "got object"),
        (b'{"executions":null}', "/executions", ""),
        (b'{"executions":[{%s},{"handler_id":"demo"}]}' % JOB, "/executions/1/job_method", "missing"),
        (b'{"executions":[{%s},7]}' % JOB, "/executions/1", "got int"),
    ],
)
def test_a_wrong_value_is_refused_with_a_pointer_to_it(body, pointer, says):
    error = refusal(body)

    assert isinstance(error, InvalidField)
    assert error.pointer == pointer
    assert says in error.message


@pytest.mark.parametrize(
    ("body", "pointer", "hint"),
    [
        (b'{"handler":"a"}', "/handler", "did you mean 'handler_id'?"),
        (b'{%s,"options":{"prio":1}}' % JOB, "/options/prio", "did you mean 'priority'?"),
        (b'{%s,"zzz":1}' % JOB, "/zzz", "known are handler_id, job_method"),
        (b'{"executions":[{%s,"job_parms":{}}]}' % JOB, "/executions/0/job_parms", "did you mean 'job_params'?"),
        (b'{"executions":[{%s}],"handler_id":"a"}' % JOB, "/handler_id", "known are executions"),
        (b'{"a/b~c":1}', "/a~1b~0c", "known are"),
    ],
)
def test_an_unknown_field_is_refused_with_a_pointer_and_a_suggestion(body, pointer, hint):
    error = refusal(body)

    assert error.pointer == pointer
    assert hint in (error.hint or "")


preview = BodyDecoder(schemas.PreviewBody, MAX_DEPTH)
monthly = BodyDecoder(calendar_schemas.MonthlyEntry, MAX_DEPTH)
TRIGGER = b'"trigger":{"type":"manual"}'


@pytest.mark.parametrize(
    ("decoder", "body", "pointer", "says"),
    [
        (preview, b'{%s,"n":0}' % TRIGGER, "/n", "expected int >= 1, got 0"),
        (preview, b'{%s,"n":"ten"}' % TRIGGER, "/n", "expected int, got str ('ten')"),
        (preview, b'{%s,"n":null}' % TRIGGER, "/n", "expected int, got null"),
        (preview, b'{%s,"n":true}' % TRIGGER, "/n", "expected int, got bool (true)"),
        (
            preview, b'{%s,"after":"x"}' % TRIGGER, "/after",
            "expected a moment: 2030-01-01T00:00:00Z or unix seconds, got 'x'",
        ),
        (
            preview, b'{%s,"policies":{"overlap":"bogus"}}' % TRIGGER, "/policies/overlap",
            "expected one of allow, skip, buffer_one, buffer_all, cancel_running, replace_pending, got 'bogus'",
        ),
        (
            preview, b'{%s,"policies":{"exclude":["a",""]}}' % TRIGGER, "/policies/exclude/1",
            "expected str of length >= 1, got ''",
        ),
        (preview, b'{"trigger":[]}', "/trigger", "expected array of length >= 1, got an empty list"),
        (monthly, b'{"day":"first"}', "/day", "expected one of -31 to 31, last, got 'first'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_allowed_and_what_came(decoder, body, pointer, says):
    error = refusal(body, decoder)

    assert (error.pointer, error.message) == (pointer, says)


def test_a_moment_that_may_be_local_names_all_of_its_forms():
    with pytest.raises(InvalidField) as caught:
        QueryDecoder(schemas.ExplainQuery).decode("at=x")

    assert caught.value.message.endswith("2030-01-01T00:00:00Z or a local time without Z or unix seconds, got 'x'")


def test_a_pattern_has_words_wherever_a_request_is_checked_by_it():
    def patterns(value):
        if isinstance(value, dict):
            yield from [value["pattern"]] if isinstance(value.get("pattern"), str) else []
            yield from (found for child in value.values() for found in patterns(child))
        elif isinstance(value, list):
            yield from (found for child in value for found in patterns(child))

    bodies = [route.body for route in ROUTES if route.body is not None]
    shapes = [part for body in bodies for part in ((body.one, body.many) if isinstance(body, OneOrMany) else (body,))]
    shapes += [route.query for route in ROUTES]
    found = {pattern for schema in msgspec.json.schema_components(shapes)[1].values() for pattern in patterns(schema)}

    assert found == set(wording.PATTERNS)


@pytest.mark.parametrize("number", ["1" * 5000, "-" + "1" * 5000, "1e999"])
def test_a_number_too_large_is_named_where_it_is_and_shown_in_part(number):
    error = refusal(b'{"trigger":{"type":"interval","seconds":%s}}' % number.encode(), preview)

    assert error.pointer == "/trigger/seconds"
    assert "out of range" in error.message
    assert len(error.message) < 350


def test_a_number_out_of_range_inside_free_form_values_is_found():
    error = refusal(b'{"id":"a",%s,"trigger":{"type":"or","triggers":[{},{"seconds":1e999}]}}' % JOB, schedule)

    assert error.pointer == "/trigger/triggers/1/seconds"


def test_a_list_of_schedules_is_told_from_one():
    decoder = BodyDecoder(CREATE, MAX_DEPTH)
    body = b'{%s,"trigger":{"type":"interval","seconds":1}}' % JOB

    assert isinstance(decoder.decode(body), schemas.ScheduleBody)
    assert isinstance(decoder.decode(b'{"schedules":[%s]}' % body), schemas.SchedulesBody)


# --- depth ----------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_a_body_may_be_as_deep_as_the_limit_and_no_deeper():
    # The body itself is the first level.
    one_or_many.decode(b'{%s,"job_params":%s}' % (JOB, nested(MAX_DEPTH - 1)))

    error = refusal(b'{%s,"job_params":%s}' % (JOB, nested(MAX_DEPTH)))

    assert isinstance(error, TooDeep)
    assert error.pointer == "/job_params" + "/a" * (MAX_DEPTH - 1)


def test_brackets_inside_strings_are_not_depth():
    one_or_many.decode(b'{%s,"job_params":{"a":"%s","b":"\\"[[[[[[[[\\\\"}}' % (JOB, b"[{" * 50))


def test_many_shallow_items_are_not_depth():
    one_or_many.decode(b'{"executions":[%s]}' % b",".join([b"{%s}" % JOB] * 100))


@pytest.mark.parametrize("levels", [2_000, 200_000])
def test_extreme_depth_is_refused_and_survived(levels):
    assert isinstance(refusal(b'{%s,"job_params":%s}' % (JOB, nested(levels))), TooDeep)


LEAVES = st.integers(0, 9) | st.text('[{"\\}]a', max_size=5)


@settings(max_examples=200)
@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a[{"', max_size=3), inner, max_size=3),
        max_leaves=12,
    )
)
def test_depth_is_counted_as_a_walk_would_count_it(document):
    def depth(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    body = msgspec.json.encode(document)
    limit = depth(document)

    check_depth(body, limit)
    if limit:
        with pytest.raises(TooDeep):
            check_depth(body, limit - 1)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_a_refusal(body):
    with pytest.raises(BadRequest):
        one_or_many.decode(body)


# --- query strings --------------------------------------------------------------------------------

executions = QueryDecoder(search_schemas.ExecutionsQuery)


def test_a_query_is_decoded_to_its_types():
    query = executions.decode("limit=5&status=failed,dead&status=timeout&since=2030-01-01T00:00:00Z&handler_id=null")

    assert query.limit == 5
    assert query.status == ["failed", "dead", "timeout"]
    assert schemas.moment_us(query.since) == 1_893_456_000_000_000
    assert query.handler_id == "null"


def test_no_query_is_the_defaults():
    assert executions.decode("").limit == schemas.DEFAULT_LIMIT


@pytest.mark.parametrize(
    ("query", "parameter", "says"),
    [
        ("limit=0", "limit", "expected int >= 1, got '0'"),
        ("limit=501", "limit", "<= 500"),
        ("limit=ten", "limit", "expected int, got 'ten'"),
        ("limit=", "limit", "expected int"),
        ("limit=1.5", "limit", "int"),
        ("limit=1&limit=2", "limit", "twice"),
        ("status=done", "status", "expected one of blocked, scheduled, "),
        ("status=done", "status", ", dead, got 'done'"),
        ("status=", "status", ""),
        ("since=yesterday", "since", "2030-01-01T00:00:00Z or unix seconds, got 'yesterday'"),
        ("since=nan", "since", ""),
        ("since=2026-02-30T00:00:00Z", "since", "expected a moment that there is, got '2026-02-30T00:00:00Z'"),
        ("handler_id=%00", "handler_id", "up to 128 of A-Z a-z 0-9 _ . : @ / -, the first one"),
        ("cursor=", "cursor", "length"),
        ("limt=3", "limt", "unknown"),
        ("%F0%9F%98%80=3", "😀", "unknown"),
    ],
)
def test_a_bad_query_is_refused_with_the_name_of_the_parameter(query, parameter, says):
    with pytest.raises(InvalidField) as caught:
        executions.decode(query)

    assert caught.value.data["parameter"] == parameter
    assert says in caught.value.message


def test_an_unknown_parameter_comes_with_a_suggestion():
    with pytest.raises(InvalidField) as caught:
        executions.decode("limt=3")

    assert caught.value.hint == "did you mean 'limit'?"


@pytest.mark.parametrize("query", ["a=%ff", "&".join(f"a{n}=1" for n in range(100))])
def test_a_query_that_can_not_be_read_is_refused(query):
    with pytest.raises(BadRequest):
        executions.decode(query)


@pytest.mark.parametrize(
    ("written", "us"),
    [
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00%2B23:59", 0),
        ("2030-01-01T01:00:00%2B01:00", 1_893_456_000_000_000),
        ("1893456000.5", 1_893_456_000_500_000),
        ("9999-12-31T23:59:59-23:59", schemas.MAX_UNIX_S * 1_000_000),
    ],
)
def test_moments_are_kept_between_1970_and_9999(written, us):
    assert schemas.moment_us(executions.decode(f"since={written}").since) == us
