"""From a handler object to its job methods: what each is called, takes (as JSON schema) and how it is called.

All checks of a handler are made here, once, at start-up: a handler that gets past ``describe`` can be run.
Parameters are decoded straight from their JSON into the hinted types, by a decoder built once per method.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from schedule_zero.errors import InvalidHandler, InvalidParams
from schedule_zero.job_options import JobOptions
from schedule_zero.model import JobMethod
from schedule_zero.node.handler import BaseHandler, mark_of
from schedule_zero.wire.messages import HandlerDeclaration

MAX_DOC = 4_000
MAX_DEFAULT_BYTES = 1_024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,127}")
_HOOKS = frozenset({"setup", "teardown"})

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class BoundMethod:
    """One job method of one handler object."""

    __slots__ = ("arguments", "declaration", "function", "handler_id", "is_async", "name")

    def __init__(
        self,
        handler_id: str,
        declaration: JobMethod,
        function: Callable[..., Any],
        arguments: Callable[[bytes], Arguments],
    ) -> None:
        self.handler_id = handler_id
        self.name = declaration.name
        self.declaration = declaration
        self.function = function
        # Decodes the parameters; raises msgspec.MsgspecError where they don't fit.
        self.arguments = arguments
        self.is_async = inspect.iscoroutinefunction(function)

    def bind(self, params: bytes) -> Arguments:
        """The positional and keyword arguments for ``params``; raises InvalidParams."""
        try:
            return self.arguments(params)
        except msgspec.MsgspecError as error:
            raise InvalidParams(f"{self.handler_id}.{self.name} can't take these parameters: {error}") from None
        except RecursionError:
            raise InvalidParams(f"{self.handler_id}.{self.name}: the parameters are nested too deeply") from None


def describe(handler: BaseHandler) -> list[BoundMethod]:
    """The job methods of ``handler``, in the order of their definition; raises InvalidHandler."""
    where = f"{type(handler).__module__}.{type(handler).__qualname__}"
    handler_id: object = handler.handler_id
    if not isinstance(handler_id, str) or not handler_id:
        raise InvalidHandler(f'{where} has no handler_id: set one in the class, such as handler_id = "reports"')
    if not _NAME.fullmatch(handler_id):
        raise InvalidHandler(
            f"{where}: the handler_id must be 1 to 128 letters, digits or _ . : @ / - "
            f"(not beginning with one of the last five), not {handler_id!r}"
        )
    methods: dict[str, BoundMethod] = {}
    for attribute, function in _job_functions(handler, where):
        method = _describe_method(handler_id, attribute, function, f"{where}.{attribute}")
        other = methods.get(method.name)
        if other is not None:
            raise InvalidHandler(f"{where} has two job methods called {method.name!r}")
        methods[method.name] = method
    if not methods:
        raise InvalidHandler(f"{where} has no job methods: define at least one public method")
    return list(methods.values())


def declaration(handler_id: str, methods: list[BoundMethod]) -> HandlerDeclaration:
    """What HELLO says about one handler."""
    return HandlerDeclaration(handler_id=handler_id, methods=[method.declaration for method in methods])


def _job_functions(handler: BaseHandler, where: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public and marked methods, base classes' first, an override in the place of what it overrides."""
    names: dict[str, None] = {}
    for cls in reversed(type(handler).__mro__):
        if cls is not object and cls is not BaseHandler:
            names.update(dict.fromkeys(vars(cls)))
    for name in names:
        raw = inspect.getattr_static(type(handler), name)
        if isinstance(raw, staticmethod | classmethod):
            if mark_of(raw.__func__) is not None or mark_of(raw) is not None:
                raise InvalidHandler(f"{where}.{name}: @job is for instance methods, not static or class methods")
            continue
        if isinstance(raw, types.FunctionType):
            if mark_of(raw) is not None or not (name.startswith("_") or name in _HOOKS):
                yield name, getattr(handler, name)
        elif not name.startswith("_") and mark_of(raw) is not None:
            raise InvalidHandler(f"{where}.{name}: @job is for methods, not for a {type(raw).__name__}")


def _describe_method(handler_id: str, attribute: str, function: Callable[..., Any], where: str) -> BoundMethod:
    mark = mark_of(function)
    name = mark.name if mark is not None and mark.name is not None else attribute
    if not _NAME.fullmatch(name):
        raise InvalidHandler(f"{where}: {name!r} can't be the name of a job method")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidHandler(f"{where} is a generator (it uses yield): a job method returns its result")
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise InvalidHandler(f"{where} takes *{parameter.name}: parameters of jobs have names")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidHandler(f"{where}: {parameter.name!r} is positional-only; parameters of jobs have names")
    hints = _hints(function, parameters, where)
    if len(parameters) == 1 and parameters[0].name == "params" and parameters[0].kind is not parameters[0].VAR_KEYWORD:
        schema, arguments = _whole(hints["params"], where)
    else:
        schema, arguments = _by_name(parameters, hints, where)
    declared = JobMethod(
        name=name,
        schema=msgspec.json.encode(schema),
        doc=(inspect.getdoc(function) or "")[:MAX_DOC],
        options=JobOptions() if mark is None else mark.options,
    )
    return BoundMethod(handler_id, declared, function, arguments)


def _hints(function: Callable[..., Any], parameters: list[inspect.Parameter], where: str) -> dict[str, Any]:
    """Each parameter's type; Any where nothing is said. The returned type is nobody's business here."""
    plain = inspect.unwrap(function)
    plain = getattr(plain, "__func__", plain)
    try:
        said = {name: hint for name, hint in inspect.get_annotations(plain).items() if name != "return"}
        carrier = types.SimpleNamespace(__annotations__=said)
        resolved = typing.get_type_hints(carrier, globalns=plain.__globals__, include_extras=True)
    except (NameError, SyntaxError, TypeError, AttributeError) as error:
        raise InvalidHandler(
            f"{where}: a type hint can't be resolved ({error}); hints of parameters must be importable "
            "where the handler is defined, at run time too"
        ) from None
    return {parameter.name: resolved.get(parameter.name, Any) for parameter in parameters}


def _components(name: str, hint: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        (schema,), definitions = msgspec.json.schema_components([hint], ref_template="#/$defs/{name}")
        msgspec.json.Decoder(hint)
    except (TypeError, NameError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidHandler(
            f"{where}: the type hint of {name!r} has no JSON form ({reason}); use JSON types, dates, enums, "
            "dataclasses or msgspec.Struct"
        ) from None
    return schema, definitions


def _whole(hint: Any, where: str) -> tuple[dict[str, Any], Callable[[bytes], Arguments]]:
    """A method whose only parameter is called ``params`` gets all of them as one value."""
    if hint is Any or hint is dict:
        hint = dict[str, Any]
    schema, definitions = _components("params", hint, where)
    reference = schema.get("$ref", "")
    shape = definitions[reference.removeprefix("#/$defs/")] if reference else schema
    if shape.get("type") != "object":
        raise InvalidHandler(f"{where}: 'params' is all parameters as one object; its type hint can't be {hint}")
    decode = msgspec.json.Decoder(hint).decode

    def arguments(params: bytes) -> Arguments:
        return (decode(params),), {}

    return (schema | {"$defs": definitions} if definitions else schema), arguments


def _by_name(
    parameters: list[inspect.Parameter], hints: dict[str, Any], where: str
) -> tuple[dict[str, Any], Callable[[bytes], Arguments]]:
    """Each parameter by its name; further ones only where the method has ``**kwargs``."""
    named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    rest = next((parameter for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)
    for parameter in named:
        _components(parameter.name, hints[parameter.name], where)
    fields: list[Any] = []
    for parameter in named:
        hint = hints[parameter.name]
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            # Unset rather than the default: the function itself knows its default best.
            fields.append((parameter.name, hint | UnsetType, UNSET))
    shape = msgspec.defstruct("_Parameters", fields, kw_only=True, forbid_unknown_fields=rest is None)
    (reference,), definitions = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    schema = definitions.pop(reference["$ref"].removeprefix("#/$defs/"))
    schema.pop("title", None)
    for parameter in named:
        _show_default(schema["properties"][parameter.name], parameter)
    names = tuple(parameter.name for parameter in named)
    if rest is not None:
        extra, more = _components(f"**{rest.name}", hints[rest.name], where)
        schema["additionalProperties"] = extra or True
        definitions |= more
    if definitions:
        schema["$defs"] = definitions
    if rest is not None:
        return schema, _open_arguments(shape, names, hints[rest.name])
    return schema, _named_arguments(shape, names)


def _show_default(schema: dict[str, Any], parameter: inspect.Parameter) -> None:
    """Put the default into the schema, for forms and readers, if it has a short JSON form."""
    if parameter.default is parameter.empty:
        return
    try:
        encoded = msgspec.json.encode(parameter.default)
    except (TypeError, ValueError, RecursionError):
        return
    if len(encoded) <= MAX_DEFAULT_BYTES:
        schema["default"] = msgspec.json.decode(encoded)


def _named_arguments(shape: type[msgspec.Struct], names: tuple[str, ...]) -> Callable[[bytes], Arguments]:
    decode = msgspec.json.Decoder(shape).decode

    def arguments(params: bytes) -> Arguments:
        if not names and params == b"{}":
            return (), {}
        values = decode(params)
        return (), {name: value for name in names if (value := getattr(values, name)) is not UNSET}

    return arguments


def _open_arguments(shape: type[msgspec.Struct], names: tuple[str, ...], rest: Any) -> Callable[[bytes], Arguments]:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    decode_named = msgspec.json.Decoder(shape).decode
    decode_rest = msgspec.json.Decoder(rest).decode

    def arguments(params: bytes) -> Arguments:
        values = decode_named(params) if names else None
        keywords = {name: value for name in names if (value := getattr(values, name)) is not UNSET}
        for name, raw in decode(params).items():
            if name not in names:
                keywords[name] = decode_rest(raw)
        return (), keywords

    return arguments
