from __future__ import annotations

import time

import msgspec
import pytest

from schedule_zero.config import HandlerRule
from schedule_zero.dispatch.registry import MAX_SCHEMA_BYTES, Registry
from schedule_zero.errors import InvalidParams, UnknownHandler, UnknownMethod
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Handler, JobMethod
from schedule_zero.wire.messages import HandlerDeclaration

T0 = 1_700_000_000_000_000
SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "amounts": {"type": "array", "items": {"type": "number"}},
        "a/b~c": {"type": "integer"},
    },
    "required": ["customer"],
    "additionalProperties": False,
}


def method(name="bill", schema=SCHEMA, **fields):
    return JobMethod(name=name, schema=msgspec.json.encode(schema), **fields)


def declared(*methods, handler_id="billing"):
    return HandlerDeclaration(handler_id=handler_id, methods=list(methods))


def known(*methods, rules=None, handler_id="billing"):
    registry = Registry(rules)
    registry.learn([Handler(handler_id=handler_id, methods=list(methods))])
    return registry


@pytest.fixture
def registry():
    return known(method(), method("anything", {}))


def test_good_parameters_give_the_method(registry):
    assert registry.validate("billing", "bill", {"customer": "c", "amounts": [1, 2.5]}).name == "bill"
    assert registry.validate("billing", "anything", {"x": [None]}).name == "anything"


def test_an_unknown_handler_is_named_with_those_that_exist(registry):
    with pytest.raises(UnknownHandler, match=r"'biling'.*there is billing") as caught:
        registry.validate("biling", "bill", {})
    assert caught.value.pointer == "/handler_id"


def test_an_unknown_method_is_named_with_those_that_exist(registry):
    with pytest.raises(UnknownMethod, match="there is anything, bill") as caught:
        registry.validate("billing", "bil", {})
    assert caught.value.pointer == "/job_method"


@pytest.mark.parametrize(
    ("params", "pointer", "message"),
    [
        ({"customer": 3}, "/job_params/customer", 'not of type "string"'),
        ({"customer": "c", "amounts": [1, "x"]}, "/job_params/amounts/1", 'not of type "number"'),
        ({"customer": "c", "a/b~c": "x"}, "/job_params/a~1b~0c", 'not of type "integer"'),
        ({}, "/job_params/customer", "missing parameter 'customer'"),
        ({"customer": "c", "custmer": 1}, "/job_params/custmer", "unknown parameter 'custmer'"),
        ([], "/job_params", 'not of type "object"'),
        (None, "/job_params", 'not of type "object"'),
    ],
)
def test_wrong_parameters_are_refused_with_a_pointer(registry, params, pointer, message):
    with pytest.raises(InvalidParams, match=message) as caught:
        registry.validate("billing", "bill", params)
    assert caught.value.pointer == pointer
    assert caught.value.message.startswith("billing.bill: ")


def test_a_huge_offending_value_does_not_make_a_huge_message(registry):
    with pytest.raises(InvalidParams) as caught:
        registry.validate("billing", "bill", {"customer": ["x" * 100_000]})
    assert len(caught.value.message) < 400


def test_what_json_has_no_words_for_is_refused_not_raised(registry):
    with pytest.raises(InvalidParams):
        registry.validate("billing", "bill", {"customer": object()})


def test_the_deepest_document_that_can_be_decoded_can_be_checked():
    registry = known(method(schema={"type": "object", "properties": {"x": {"$ref": "#"}}}))
    text = '{"x":' * 900 + "{}" + "}" * 900
    assert registry.validate("billing", "bill", msgspec.json.decode(text)).name == "bill"


def test_a_pattern_cannot_burn_the_server():
    evil = {"type": "object", "properties": {"x": {"type": "string", "pattern": r"^(?=(a+)+b)(a*)*\1$"}}}
    registry = known(method(schema=evil))
    began = time.perf_counter()
    with pytest.raises(InvalidParams):
        registry.validate("billing", "bill", {"x": "a" * 5000 + "c"})
    assert time.perf_counter() - began < 0.5


# --- what nodes declare -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        b"{",
        b"[]",
        b'{"type": "strnig"}',
        b'{"pattern": "("}',
        b'{"$ref": "http://example.com/schema.json"}',
        b'{"$ref": "https://example.com/schema.json#/x"}',
        b'{"$ref": "file:///etc/passwd"}',
        b'{"properties": {"x": {"$ref": "file:///etc/passwd"}}}',
        b'{"$dynamicRef": "http://example.com/x"}',
        b'{"$ref": "#/nowhere"}',
        b'{"x": "' + b"y" * MAX_SCHEMA_BYTES + b'"}',
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
    ],
)
def test_a_schema_that_is_broken_or_leads_elsewhere_is_refused(schema):
    taken, refused = Registry().screen([declared(JobMethod(name="bad", schema=schema), method("good"))])
    assert [one.name for one in taken[0].methods] == ["good"]
    assert [(one.handler_id, one.job_method) for one in refused] == [("billing", "bad")]
    assert len(refused[0].reason) < 300


@pytest.mark.parametrize("name", ["", "a b", "a\n", "é", "x" * 129, "-a", "../a"])
def test_a_method_with_a_strange_name_is_refused(name):
    _, refused = Registry().screen([declared(JobMethod(name=name))])
    assert [one.reason for one in refused] == ["not a valid name"]


def test_a_handler_declared_twice_in_one_message_is_one_handler():
    taken, _ = Registry().screen([declared(method("a")), declared(method("b")), declared(method("a", {}))])
    assert [(one.handler_id, [each.name for each in one.methods]) for one in taken] == [("billing", ["a", "b"])]
    assert taken[0].methods[0].schema == b"{}"


def test_references_within_a_schema_work():
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    registry = known(method(schema=schema))
    registry.validate("billing", "bill", {"x": 1})
    with pytest.raises(InvalidParams):
        registry.validate("billing", "bill", {"x": "1"})


def test_only_what_an_operator_allows_is_taken_and_usable():
    rules = {"billing": HandlerRule(allowed_methods=["bill"])}
    taken, refused = Registry(rules).screen([declared(method("bill"), method("refund"))])
    assert [one.name for one in taken[0].methods] == ["bill"]
    assert [(one.job_method, one.reason) for one in refused] == [
        ("refund", "not among the allowed_methods of handler_registry.yaml")
    ]
    registry = known(method("bill"), method("refund"), rules=rules)
    with pytest.raises(UnknownMethod):
        registry.validate("billing", "refund", {"customer": "c"})
    assert [one.name for one in registry.handlers()[0].methods] == ["bill"]


def test_c19_declaring_the_same_again_is_no_change(registry):
    again = declared(method("anything", {}), method())
    assert registry.changes("n1", [again]) == []


@pytest.mark.parametrize(
    "change",
    [
        declared(method(), method("anything", {}), method("new")),
        declared(method(), method("anything", {"type": "object"})),
        declared(method(), method("anything", {}, options=JobOptions(priority=9))),
        declared(method(), method("anything", {}, doc="Now with words.")),
        declared(method()),
        declared(method(), handler_id="other"),
    ],
)
def test_c19_a_changed_declaration_is_a_change(registry, change):
    assert registry.changes("n1", [change]) == [change]


def test_a_rolling_upgrade_keeps_what_the_old_nodes_still_serve(registry):
    registry.serving("old", [declared(method(), method("anything", {}))], now_us=T0)
    [merged] = registry.changes("new", [declared(method(), method("extra"))])
    assert {one.name for one in merged.methods} == {"bill", "extra", "anything"}
    registry.learn([Handler(handler_id="billing", methods=merged.methods)])
    registry.serving("new", [declared(method(), method("extra"))], now_us=T0)
    assert registry.changes("old", [declared(method(), method("anything", {}))]) == []
    registry.serving("old", (), now_us=T0)
    [after] = registry.changes("new", [declared(method(), method("extra"))])
    assert {one.name for one in after.methods} == {"bill", "extra"}


def test_handlers_show_who_serves_them_now(registry):
    registry.serving("n2", [declared(method())], now_us=T0)
    registry.serving("n1", [declared(method())], now_us=T0)
    assert [(view.handler_id, view.node_ids) for view in registry.handlers()] == [("billing", ["n1", "n2"])]
    registry.serving("n1", (), now_us=T0)
    assert registry.handlers()[0].node_ids == ["n2"]


def test_a_handler_was_updated_when_other_nodes_than_before_serve_it(registry):
    def updated():
        return registry.handlers()[0].updated_us

    assert registry.serving("n1", [declared(method())], now_us=T0 + 1) == ["billing"]
    assert updated() == T0 + 1
    # Saying the same again changes nothing (C19).
    assert registry.serving("n1", [declared(method())], now_us=T0 + 2) == []
    assert updated() == T0 + 1
    assert registry.serving("n2", [declared(method()), declared(method(), handler_id="other")], now_us=T0 + 3) == [
        "billing",
        "other",
    ]
    assert updated() == T0 + 3
    assert registry.serving("n2", (), now_us=T0 + 4) == ["billing", "other"]
    assert registry.serving("n2", (), now_us=T0 + 5) == []
    assert updated() == T0 + 4


def test_the_moment_of_an_update_never_goes_back(registry):
    registry.serving("n1", [declared(method())], now_us=T0 + 5)
    registry.moved(["billing", "unknown"], T0)
    registry.learn([Handler(handler_id="billing", methods=[method()], updated_us=T0)])
    assert registry.handlers()[0].updated_us == T0 + 5


def test_a_known_handler_keeps_accepting_jobs_while_its_nodes_are_away(registry):
    registry.serving("n1", [declared(method())], now_us=T0)
    registry.serving("n1", (), now_us=T0)
    assert registry.validate("billing", "bill", {"customer": "c"}).name == "bill"


def test_options_of_a_method_and_of_nothing():
    registry = known(method(options=JobOptions(priority=7)))
    assert registry.options("billing", "bill").priority == 7
    assert registry.options("billing", "none") == registry.options("nobody", "x") == JobOptions()


def test_a_stored_schema_that_is_not_usable_any_more_is_not_served_unchecked():
    registry = known(JobMethod(name="bad", schema=b'{"$ref": "http://example.com/x"}'))
    with pytest.raises(UnknownMethod):
        registry.validate("billing", "bad", {})


def test_a_changed_schema_is_compiled_anew(registry):
    registry.learn([Handler(handler_id="billing", methods=[method(schema={"type": "object"}, version=2)])])
    assert registry.validate("billing", "bill", {"whatever": 1}).version == 2
