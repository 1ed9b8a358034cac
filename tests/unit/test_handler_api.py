from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest

from schedule_zero import BaseHandler, GiveUp, Retry, current_job, job
from schedule_zero.errors import InvalidHandler, InvalidParams
from schedule_zero.job_options import Backoff, JobOptions, OnLost
from schedule_zero.node.handler import mark_of
from schedule_zero.node.methods import BoundMethod, describe


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclasses.dataclass
class Line:
    start: Point
    end: Point


def only(handler_class: type[BaseHandler]) -> BoundMethod:
    [method] = describe(handler_class())
    return method


def schema_of(method: BoundMethod) -> dict[str, Any]:
    return msgspec.json.decode(method.declaration.schema)


def call(method: BoundMethod, params: bytes) -> Any:
    args, kwargs = method.bind(params)
    return method.function(*args, **kwargs)


# --- which methods are jobs


def test_public_methods_are_job_methods_and_helpers_are_not() -> None:
    class Base(BaseHandler):
        def inherited(self) -> None: ...

        def overridden(self) -> str:
            return "base"

    class Handler(Base):
        handler_id = "h"

        def overridden(self) -> str:
            return "handler"

        async def later(self) -> None: ...

        def _helper(self) -> None: ...

        @staticmethod
        def static() -> None: ...

        @classmethod
        def of_class(cls) -> None: ...

        @property
        def prop(self) -> int:
            return 1

        def setup(self) -> None: ...

        def teardown(self) -> None: ...

    methods = {method.name: method for method in describe(Handler())}
    assert list(methods) == ["inherited", "overridden", "later"]
    assert methods["overridden"].function() == "handler"
    assert [method.is_async for method in methods.values()] == [False, False, True]


def test_marked_methods_carry_their_options_and_unmarked_ones_stay_jobs() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        @job(name="daily-report", priority=8, max_attempts=3, retry_delay_s=1.5, timeout_s=60, on_lost="wait")
        def report(self) -> None:
            """Write the report."""

        @job(idempotent=False)
        def pay(self) -> None: ...

        @job
        def bare(self) -> None: ...

        def unmarked(self) -> None: ...

    report, pay, bare, unmarked = (method.declaration for method in describe(Handler()))
    assert report.name == "daily-report"
    assert report.doc == "Write the report."
    assert report.options == JobOptions(
        priority=8, max_attempts=3, retry_delay_s=1.5, timeout_s=60, on_lost=OnLost.WAIT
    )
    assert pay.options == JobOptions(idempotent=False)
    assert bare.options == unmarked.options == JobOptions()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"retry_delay_s": -1}, "retry_delay_s"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"on_lost": "shrug"}, "rerun, fail, wait"),
        ({"backoff": "quadratic"}, "fixed, linear, exponential, fibonacci, list, got 'quadratic'"),
        ({"retry_delays_s": []}, "retry_delays_s"),
        ({"retry_delays_s": [1, -1]}, "retry_delays_s"),
        ({"retry_max_delay_s": -1}, "retry_max_delay_s"),
        ({"retry_on": "no such!"}, "retry_on"),
    ],
)
def test_impossible_options_are_refused_where_they_are_written(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        job(**options)


def test_errors_are_named_by_their_classes() -> None:
    @job(retry_on=[ConnectionError, "timeout"], give_up_on=LookupError, backoff="fibonacci", retry_delays_s=[1, 2.5])
    def fetch() -> None: ...

    options = mark_of(fetch).options
    assert (options.retry_on, options.give_up_on) == (("ConnectionError", "timeout"), ("LookupError",))
    assert (options.backoff, options.retry_delays_s) == (Backoff.FIBONACCI, (1.0, 2.5))
    with pytest.raises(TypeError, match="expected exception classes or their names, got 3"):
        job(retry_on=[3])


# --- parameters


def test_type_hints_become_a_closed_schema_with_defaults() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, name: str, day: dt.date, colour: Colour = Colour.RED, anything=None, *, many: int = 3): ...

    schema = schema_of(only(Handler))
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "day"]
    assert schema["properties"]["name"] == {"type": "string"}
    assert schema["properties"]["day"] == {"type": "string", "format": "date"}
    assert schema["properties"]["colour"] == {"$ref": "#/$defs/Colour", "default": "red"}
    assert schema["properties"]["anything"] == {"default": None}
    assert schema["properties"]["many"] == {"type": "integer", "default": 3}
    assert schema["$defs"]["Colour"]["enum"] == ["blue", "red"]


def test_parameters_arrive_as_the_hinted_types() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, at: dt.datetime, colour: Colour, line: Line, number: float, raw: Any) -> Any:
            return at, colour, line, number, raw

    at, colour, line, number, raw = call(
        only(Handler),
        b'{"at":"2026-11-20T13:24:51Z","colour":"blue","line":{"start":{"x":1},"end":{"x":2,"y":3}},'
        b'"number":4,"raw":[1,{"a":null}]}',
    )
    assert at == dt.datetime(2026, 11, 20, 13, 24, 51, tzinfo=dt.UTC)
    assert colour is Colour.BLUE
    assert line == Line(Point(1), Point(2, 3))
    assert (number, raw) == (4.0, [1, {"a": None}])


def test_unset_parameters_take_the_functions_own_defaults() -> None:
    marker = object()

    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: int = 1, b: Any = marker) -> Any:
            return a, b

    assert call(only(Handler), b"{}") == (1, marker)
    assert call(only(Handler), b'{"a":2,"b":null}') == (2, None)
    assert "default" not in schema_of(only(Handler))["properties"]["b"]


def test_a_method_without_parameters_takes_none() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self) -> str:
            return "ran"

    method = only(Handler)
    assert schema_of(method)["additionalProperties"] is False
    assert call(method, b"{}") == call(method, b" { } ") == "ran"
    with pytest.raises(InvalidParams, match="unknown field `x`"):
        method.bind(b'{"x":1}')


def test_a_single_parameter_called_params_gets_all_of_them() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, params):
            return params

    class Typed(BaseHandler):
        handler_id = "h"

        def run(self, params: Point) -> Any:
            return params

    assert schema_of(only(Handler)) == {"type": "object"}
    assert call(only(Handler), b'{"a":1,"b":[2]}') == {"a": 1, "b": [2]}
    assert call(only(Typed), b'{"x":5}') == Point(5)
    assert schema_of(only(Typed))["$defs"]["Point"]["required"] == ["x"]
    with pytest.raises(InvalidParams, match="array"):
        only(Handler).bind(b"[]")


def test_keyword_arguments_take_what_is_not_named() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: int, **rest: float) -> Any:
            return a, rest

    class Open(BaseHandler):
        handler_id = "h"

        def run(self, **params: Any) -> Any:
            return params

    schema = schema_of(only(Handler))
    assert schema["additionalProperties"] == {"type": "number"}
    assert call(only(Handler), b'{"a":1,"x":2,"y":3.5}') == (1, {"x": 2.0, "y": 3.5})
    assert schema_of(only(Open))["additionalProperties"] is True
    assert call(only(Open), b'{"self_":1,"deep":{"a":[]}}') == {"self_": 1, "deep": {"a": []}}
    with pytest.raises(InvalidParams):
        only(Handler).bind(b'{"a":1,"x":"no number"}')


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (b'{"a":"text"}', r"Expected `int`, got `str` - at `\$\.a`"),
        (b'{"a":null}', r"Expected `int`, got `null` - at `\$\.a`"),
        (b"{}", "missing required field `a`"),
        (b"", "truncated"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"a":1,"b":2}', "unknown field `b`"),
        (b"[1]", "Expected `object`"),
        (b"{", "truncated"),
    ],
)
def test_parameters_that_do_not_fit_are_named(params: bytes, said: str) -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: int) -> None: ...

    with pytest.raises(InvalidParams, match=said) as caught:
        only(Handler).bind(params)
    assert "h.run" in caught.value.message


def test_parameters_nested_too_deeply_are_refused() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: Any) -> None: ...

    with pytest.raises(InvalidParams, match="nested too deeply"):
        only(Handler).bind(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


# --- bad handlers are named at start-up


def bad_no_id() -> type[BaseHandler]:
    class Handler(BaseHandler):
        def run(self) -> None: ...

    return Handler


def bad_id() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "no spaces please"

        def run(self) -> None: ...

    return Handler


def bad_no_methods() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

    return Handler


def bad_twice() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self) -> None: ...

        @job(name="run")
        def other(self) -> None: ...

    return Handler


def bad_star() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, *args: int) -> None: ...

    return Handler


def bad_positional() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: int, /) -> None: ...

    return Handler


def bad_hint() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, lock: threading.Event) -> None: ...

    return Handler


def bad_unresolved() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: NoSuchThing) -> None: ...  # noqa: F821

    return Handler


def bad_generator() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self) -> Any:
            yield 1

    return Handler


def bad_static() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        @staticmethod
        @job
        def run() -> None: ...

    return Handler


def bad_params_hint() -> type[BaseHandler]:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, params: list[int]) -> None: ...

    return Handler


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (bad_no_id, "has no handler_id"),
        (bad_id, "no spaces please"),
        (bad_no_methods, "no job methods"),
        (bad_twice, "two job methods called 'run'"),
        (bad_star, r"takes \*args"),
        (bad_positional, "'a' is positional-only"),
        (bad_hint, "'lock' has no JSON form"),
        (bad_unresolved, "NoSuchThing"),
        (bad_generator, "generator"),
        (bad_static, "not static"),
        (bad_params_hint, "'params' is all parameters"),
    ],
)
def test_a_bad_handler_is_refused_with_its_place_and_reason(make: Any, said: str) -> None:
    with pytest.raises(InvalidHandler, match=said) as caught:
        describe(make()())
    assert "test_handler_api" in caught.value.message
    assert caught.value.exit_code == 2


def test_a_hint_of_the_result_need_not_exist_at_run_time() -> None:
    class Handler(BaseHandler):
        handler_id = "h"

        def run(self, a: int) -> OnlyForTypeCheckers:  # noqa: F821
            return a

    assert call(only(Handler), b'{"a":1}') == 1


# --- context


def test_current_job_outside_a_job_says_where_it_works() -> None:
    with pytest.raises(RuntimeError, match="outside a job"):
        current_job()


def test_retry_takes_sensible_delays_only() -> None:
    assert Retry(5).after_s == 5.0
    for wrong in (-1, float("nan"), float("inf"), 1e12):
        with pytest.raises(ValueError, match="must be between"):
            Retry(wrong)
    assert str(GiveUp("no such customer")) == "no such customer"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, schedule_zero; "
        "print([m for m in ('zmq', 'httpx', 'msgspec', 'structlog', 'asyncio') if m in sys.modules]); "
        "from schedule_zero import BaseHandler, job, current_job; "
        "print([m for m in ('zmq', 'httpx', 'structlog', 'tornado', 'sqlalchemy') if m in sys.modules]); "
        "print(schedule_zero.__version__)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[:2] == ["[]", "[]"]


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import schedule_zero

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = schedule_zero.no_such_name
    assert {"Client", "AsyncClient", "BaseHandler", "job", "current_job"} <= set(dir(schedule_zero))
