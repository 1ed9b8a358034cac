"""Handlers and their methods as their pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.config import HandlerRule
from schedule_zero.dispatch.registry import HandlerView
from schedule_zero.job_options import JobOptions
from schedule_zero.model import JobMethod, State
from schedule_zero.web.pages.schema_table import Param, params_of, signature, takes_more

# Handlers of one page; methods and nodes of one of them there.
PER_PAGE = 25
METHODS = 8
NODES = 5
# Of a docstring, in a list.
LINE = 160
FAILED = (State.FAILED, State.TIMEOUT, State.DEAD)


class Ends(Struct, frozen=True, kw_only=True):
    """What became of a handler's executions in the newest hours."""

    created: int
    completed: int
    failed: int
    # State → how many, without those that there are none of.
    by_state: list[tuple[str, int]]


class MethodLine(Struct, frozen=True, kw_only=True):
    """One method in a list."""

    name: str
    version: int
    line: str
    takes: str


class Card(Struct, frozen=True, kw_only=True):
    """One handler in the catalogue."""

    view: HandlerView
    methods: list[MethodLine]
    more_methods: int
    nodes: list[str]
    more_nodes: int
    ends: Ends
    open: int
    letters: int
    limited: bool


class MethodView(Struct, frozen=True, kw_only=True):
    """One method with everything that is known of it."""

    method: JobMethod
    params: list[Param]
    takes_more: bool
    # Name → value, as JSON.
    options: list[tuple[str, str]]


def ends(counts: Mapping[str, int]) -> Ends:
    """From state (or ``created``) → how many."""
    by_state = [(state.value, counts[state.value]) for state in State if counts.get(state.value)]
    return Ends(
        created=counts.get("created", 0),
        completed=counts.get(State.COMPLETED.value, 0),
        failed=sum(counts.get(state.value, 0) for state in FAILED),
        by_state=by_state,
    )


def matches(view: HandlerView, q: str) -> bool:
    """Whether each word of ``q`` stands in its id, or in the name or text of one of its methods."""
    text = " ".join([view.handler_id, *(f"{method.name} {method.doc}" for method in view.methods)]).lower()
    return all(word in text for word in q.lower().split())


def card(view: HandlerView, counts: Mapping[str, int], *, open: int, letters: int, rule: HandlerRule) -> Card:
    return Card(
        view=view,
        methods=[line(method) for method in view.methods[:METHODS]],
        more_methods=max(0, len(view.methods) - METHODS),
        nodes=view.node_ids[:NODES],
        more_nodes=max(0, len(view.node_ids) - NODES),
        ends=ends(counts),
        open=open,
        letters=letters,
        limited=rule != HandlerRule(),
    )


def line(method: JobMethod) -> MethodLine:
    first = next(iter(method.doc.strip().splitlines()), "").replace("``", "")
    return MethodLine(
        name=method.name,
        version=method.version,
        line=first if len(first) <= LINE else f"{first[:LINE]}…",
        takes=signature(params_of(method.schema)) or ("anything" if takes_more(method.schema) else ""),
    )


def method_view(method: JobMethod) -> MethodView:
    return MethodView(
        method=method,
        params=params_of(method.schema),
        takes_more=takes_more(method.schema),
        options=said(method.options),
    )


def said(options: JobOptions) -> list[tuple[str, str]]:
    """The options that are set, in their order, with their values as JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(options)
    return [(name, plain_text(plain[name])) for name in JobOptions.__struct_fields__ if plain.get(name) is not None]


def limits(rule: HandlerRule) -> list[tuple[str, str]]:
    """What an operator allows a handler, without what is not limited."""
    plain: dict[str, Any] = msgspec.to_builtins(rule.limits)
    return [(name, plain_text(value)) for name, value in plain.items() if value is not None]


def plain_text(value: Any) -> str:
    """Text as it is, lists by comma, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(one) for one in value)
    return msgspec.json.encode(value).decode()
