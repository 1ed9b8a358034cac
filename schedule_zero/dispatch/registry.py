"""What handlers can do: their methods, with compiled schemas against which parameters are checked before acceptance.

In memory, for look-ups on every submission; the store owns the facts. A schema comes from a node, so it is treated as
hostile: references lead nowhere but into itself, patterns have a bound on backtracking, sizes are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs
import msgspec
import structlog
from msgspec import Struct

from schedule_zero.conditions import objection
from schedule_zero.config import HandlerRule
from schedule_zero.errors import InvalidParams, UnknownHandler, UnknownMethod
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Handler, JobMethod
from schedule_zero.wire.messages import HandlerDeclaration

log = structlog.get_logger(__name__)

MAX_SCHEMA_BYTES = 64 << 10
MAX_DOC_CHARS = 4000
# Steps of one match; a pattern that needs more doesn't match, and says so.
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20, dfa_size_limit=1 << 20)
_METHOD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,127}")
_NO_RULE = HandlerRule()
_NO_OPTIONS = JobOptions()
# Any parameters will do: most methods' schema, if they have no type hints.
_ANYTHING = (b"", b"{}", b"true")


class HandlerView(Struct, kw_only=True):
    """One handler as the API shows it."""

    handler_id: str
    methods: list[JobMethod]
    # Nodes that serve it now.
    node_ids: list[str]
    registered_us: int
    # When methods or nodes changed last.
    updated_us: int


class ServedView(Struct, frozen=True, kw_only=True):
    """One method as a connected node serves it."""

    handler_id: str
    job_method: str
    # None: the node's schema is another one than the newest, as in the middle of an upgrade.
    version: int | None


class Refused(Struct, frozen=True):
    """A method that a node declared and that is not taken over, and why."""

    handler_id: str
    job_method: str
    reason: str


class _Known(Struct):
    handler: Handler
    methods: dict[str, tuple[JobMethod, jsonschema_rs.Draft202012Validator | None]]


class Registry:
    """Handlers that were ever declared, and who serves them now."""

    def __init__(self, rules: Mapping[str, HandlerRule] | None = None) -> None:
        self._rules = dict(rules or {})
        self._known: dict[str, _Known] = {}
        # node id → what it declared, while it is connected.
        self._serving: dict[str, dict[str, HandlerDeclaration]] = {}

    # --- asking -----------------------------------------------------------------------------------

    def validate(self, handler_id: str, job_method: str, params: object) -> JobMethod:
        """The method, if it exists and takes ``params`` (a decoded JSON object).

        Raises UnknownHandler, UnknownMethod or InvalidParams with the pointer of the first offending part.
        """
        known = self._known.get(handler_id)
        if known is None:
            raise UnknownHandler(
                f"no handler {handler_id!r} is known{_suggest(self._known)}",
                pointer="/handler_id",
                hint="start a node that serves it: schedule-zero-handler module:Class",
            )
        found = known.methods.get(job_method)
        if found is None or not self._allowed(handler_id, job_method):
            names = [name for name in known.methods if self._allowed(handler_id, name)]
            raise UnknownMethod(
                f"handler {handler_id!r} has no method {job_method!r}{_suggest(names)}", pointer="/job_method"
            )
        method, validator = found
        if validator is not None:
            try:
                validator.validate(params)
            except jsonschema_rs.ValidationError as error:
                raise _invalid(error, handler_id, job_method) from None
            except (ValueError, RecursionError) as error:
                # What JSON has no words for, or nested beyond all reason.
                raise InvalidParams(f"the parameters can't be checked: {error}"[:300], pointer="/job_params") from None
        return method

    def options(self, handler_id: str, job_method: str) -> JobOptions:
        """The options that the method declares; none if it is not known. Never raises, validates nothing."""
        known = self._known.get(handler_id)
        found = None if known is None else known.methods.get(job_method)
        return _NO_OPTIONS if found is None else found[0].options

    def handlers(self) -> list[HandlerView]:
        """All known handlers by id, with the methods that may be used."""
        nodes: dict[str, list[str]] = {}
        for node_id, declarations in self._serving.items():
            for handler_id in declarations:
                nodes.setdefault(handler_id, []).append(node_id)
        return [
            HandlerView(
                handler_id=handler_id,
                methods=[method for method in known.handler.methods if self._allowed(handler_id, method.name)],
                node_ids=sorted(nodes.get(handler_id, [])),
                registered_us=known.handler.registered_us,
                updated_us=known.handler.updated_us,
            )
            for handler_id, known in sorted(self._known.items())
        ]

    def served_by(self, node_id: str) -> list[ServedView]:
        """The methods that a node serves now, by handler, in its order."""
        return [
            ServedView(handler_id=handler_id, job_method=method.name, version=self._version(handler_id, method))
            for handler_id, declaration in sorted(self._serving.get(node_id, {}).items())
            for method in declaration.methods
        ]

    def _version(self, handler_id: str, declared: JobMethod) -> int | None:
        newest = self.method(handler_id, declared.name)
        return newest.version if newest is not None and newest.schema == declared.schema else None

    def rule(self, handler_id: str) -> HandlerRule:
        """What an operator declared about this handler (handler_registry.yaml)."""
        return self._rules.get(handler_id, _NO_RULE)

    @property
    def rules(self) -> Mapping[str, HandlerRule]:
        """What operators declared, by handler."""
        return self._rules

    def set_rules(self, rules: Mapping[str, HandlerRule]) -> None:
        """Other rules than before: for what is submitted at once, for what nodes declare from their next HELLO on."""
        self._rules = dict(rules)

    def _allowed(self, handler_id: str, job_method: str) -> bool:
        allowed = self.rule(handler_id).allowed_methods
        return allowed is None or job_method in allowed

    # --- learning ---------------------------------------------------------------------------------

    def screen(self, declared: Iterable[HandlerDeclaration]) -> tuple[list[HandlerDeclaration], list[Refused]]:
        """What of a node's declaration may be taken over; the rest with the reason, for the log."""
        taken: dict[str, dict[str, JobMethod]] = {}
        refused: list[Refused] = []
        for declaration in declared:
            handler_id = declaration.handler_id
            methods = taken.setdefault(handler_id, {})
            for method in declaration.methods:
                reason = self._objection(handler_id, method)
                if reason is None:
                    methods[method.name] = method
                else:
                    refused.append(Refused(handler_id, method.name[:128], reason))
        return [
            HandlerDeclaration(handler_id=handler_id, methods=list(methods.values()))
            for handler_id, methods in taken.items()
        ], refused

    def _objection(self, handler_id: str, method: JobMethod) -> str | None:
        if not _METHOD_NAME.fullmatch(method.name):
            return "not a valid name"
        if not self._allowed(handler_id, method.name):
            return "not among the allowed_methods of handler_registry.yaml"
        if len(method.schema) > MAX_SCHEMA_BYTES or len(method.doc) > MAX_DOC_CHARS:
            return f"schema over {MAX_SCHEMA_BYTES} bytes, or text over {MAX_DOC_CHARS} characters"
        refused = objection(method.options)
        if refused is not None:
            return f"options{refused[0]}: {refused[1]}"
        known = self._known.get(handler_id)
        found = None if known is None else known.methods.get(method.name)
        if found is not None and found[0].schema == method.schema:
            return None
        try:
            _compile(method.schema)
        except ValueError as error:
            return f"schema: {error}"
        return None

    def method(self, handler_id: str, job_method: str) -> JobMethod | None:
        """What is known of one method."""
        known = self._known.get(handler_id)
        found = None if known is None else known.methods.get(job_method)
        return None if found is None else found[0]

    def usable(self, handler_id: str, job_method: str) -> JobMethod | None:
        """The same, if an operator allows it."""
        return self.method(handler_id, job_method) if self._allowed(handler_id, job_method) else None

    def changes(
        self, node_id: str, declared: Iterable[HandlerDeclaration], *, adds: frozenset[str] = frozenset()
    ) -> list[HandlerDeclaration]:
        """Those of ``declared`` (screened) that say something new; saying the same again changes nothing (C19).

        A method that only other connected nodes serve stays: in a rolling upgrade old and new code are both right.
        So does every known method of the handlers in ``adds``, of which the node has named only what it serves.
        """
        changed = []
        for declaration in declared:
            methods = {method.name: method for method in declaration.methods}
            for other_id, others in self._serving.items():
                other = others.get(declaration.handler_id)
                if other is not None and other_id != node_id:
                    for method in other.methods:
                        methods.setdefault(method.name, method)
            if declaration.handler_id in adds and declaration.handler_id in self._known:
                for method, _ in self._known[declaration.handler_id].methods.values():
                    methods.setdefault(method.name, method)
            whole = HandlerDeclaration(handler_id=declaration.handler_id, methods=list(methods.values()))
            if not self._says_nothing_new(whole):
                changed.append(whole)
        return changed

    def _says_nothing_new(self, declaration: HandlerDeclaration) -> bool:
        known = self._known.get(declaration.handler_id)
        if known is None or len(known.handler.methods) != len(declaration.methods):
            return False
        for method in declaration.methods:
            found = known.methods.get(method.name)
            if found is None:
                return False
            mine = found[0]
            if (mine.schema, mine.options, mine.doc) != (method.schema, method.options, method.doc):
                return False
        return True

    def learn(self, handlers: Iterable[Handler]) -> None:
        """What the store knows of these handlers now."""
        for handler in handlers:
            before = self._known.get(handler.handler_id)
            methods: dict[str, tuple[JobMethod, jsonschema_rs.Draft202012Validator | None]] = {}
            for method in handler.methods:
                old = None if before is None else before.methods.get(method.name)
                if old is not None and old[0].schema == method.schema:
                    methods[method.name] = (method, old[1])
                    continue
                try:
                    methods[method.name] = (method, _compile(method.schema))
                except ValueError as error:
                    # It was checked when it was declared: by an earlier release, perhaps. Not served unchecked.
                    log.error(
                        "schema_unusable", handler_id=handler.handler_id, job_method=method.name, reason=str(error)
                    )
            if before is not None:
                # A move that the store could not be told was one all the same.
                handler.updated_us = max(handler.updated_us, before.handler.updated_us)
            self._known[handler.handler_id] = _Known(handler, methods)

    def serving(self, node_id: str, declared: Iterable[HandlerDeclaration], now_us: int) -> list[str]:
        """What ``node_id`` serves from now on (nothing: it is away). Returns the handlers that it joins or leaves."""
        declarations = {declaration.handler_id: declaration for declaration in declared}
        before = self._serving.get(node_id, {})
        if declarations:
            self._serving[node_id] = declarations
        else:
            self._serving.pop(node_id, None)
        moved = sorted(before.keys() ^ declarations.keys())
        self.moved(moved, now_us)
        return moved

    def moved(self, handler_ids: Iterable[str], now_us: int) -> None:
        """What these handlers show has changed just now."""
        for handler_id in handler_ids:
            known = self._known.get(handler_id)
            if known is not None:
                known.handler.updated_us = max(known.handler.updated_us, now_us)


def _compile(schema: bytes) -> jsonschema_rs.Draft202012Validator | None:
    """A validator, or None where anything will do. ValueError says what is wrong with the schema."""
    if schema in _ANYTHING:
        return None
    try:
        document = msgspec.json.decode(schema, type=dict[str, Any])
        return jsonschema_rs.Draft202012Validator(document, offline=True, pattern_options=_PATTERNS)
    except (ValueError, RecursionError) as error:
        raise ValueError(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from None


def _invalid(error: jsonschema_rs.ValidationError, handler_id: str, job_method: str) -> InvalidParams:
    """The first offence, said with its place: ``/job_params/customer``."""
    path = list(error.instance_path)
    kind = error.kind
    message = error.message
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        path.append(kind.property)
        message = f"missing parameter {kind.property!r}" if len(path) == 1 else f"missing {kind.property!r}"
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties) and kind.unexpected:
        path.append(kind.unexpected[0])
        message = f"unknown {'parameter' if len(path) == 1 else 'field'} {kind.unexpected[0]!r}"
    if len(message) > 300:
        message = f"{message[:300]}…"
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
    return InvalidParams(f"{handler_id}.{job_method}: {message}", pointer=f"/job_params{pointer}")


def _suggest(names: Iterable[str]) -> str:
    known = sorted(names)
    if not known:
        return ""
    return f" (there is {', '.join(known[:10])}{', …' if len(known) > 10 else ''})"
