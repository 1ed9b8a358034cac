"""What the page of one execution shows, ready to be shown: why it is in its state, its times, its attempts."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.model import Execution, JobError, State
from schedule_zero.rules.options import NAMES, shown
from schedule_zero.rules.search_values import MAX_US
from schedule_zero.service.deliveries import Delivery, deliveries
from schedule_zero.service.specs import ExecutionView
from schedule_zero.web.pages.executions_view import ready_us
from schedule_zero.web.pages.words import duration, json_text, size

# Of a payload that is shown on the page; the whole of it is one click away.
MOST_SHOWN = 16_000
# The drawing of the times.
WIDTH = 1_000

_decode_error = msgspec.json.Decoder(JobError).decode


class Step(Struct, frozen=True, kw_only=True):
    """One moment in the life of an execution, and how long after the one before."""

    label: str
    us: int
    after: str


class Span(Struct, frozen=True, kw_only=True):
    """What it did between two moments, as it is drawn."""

    label: str
    kind: str
    x: int
    width: int
    took: str


class Times(Struct, frozen=True, kw_only=True):
    steps: list[Step]
    spans: list[Span]


def times(it: Execution, now_us: int) -> Times:
    """From when it was due to when its end was stored; of its last attempt. What runs, runs until now."""
    moments = [
        ("due", it.nominal_us, "late", "bad"),
        ("created", it.created_us, "waited", "wait"),
        ("could start", it.not_before_us if ready_us(it) > it.created_us else None, "waited", "wait"),
        ("dispatched", it.dispatched_us, "on its way", ""),
        ("started", it.started_us, "ran", "run"),
        ("finished", it.finished_us, "reported", ""),
        ("stored", it.stored_us, "", ""),
    ]
    known = [(label, us, then, kind) for label, us, then, kind in moments if us is not None]
    steps = [
        Step(label=label, us=us, after=_between(known[place - 1][1], us) if place else "")
        for place, (label, us, _, _) in enumerate(known)
    ]
    if it.stored_us is None and it.state in (State.RUNNING, State.PENDING):
        known.append(("now", now_us, "", ""))
    return Times(steps=steps, spans=_spans(known))


def _spans(known: list[tuple[str, int, str, str]]) -> list[Span]:
    whole = sum(max(0, later[1] - one[1]) for one, later in pairwise(known))
    if not whole:
        return []
    spans, x = [], 0
    for one, later in pairwise(known):
        # What is there is seen; and clocks of nodes may be a little off.
        us = max(0, later[1] - one[1])
        width = max(3, round(us / whole * WIDTH)) if us else 0
        if width:
            spans.append(Span(label=one[2], kind=one[3], x=x, width=width, took=duration(us / 1e6)))
        x += width
    return spans


def _between(from_us: int, to_us: int) -> str:
    gap = duration(abs(to_us - from_us) / 1e6)
    return f"+ {gap}" if to_us >= from_us else f"{gap} before that, by its node's clock"


# --- attempts ---------------------------------------------------------------------------------------


class Try(Struct, frozen=True, kw_only=True):
    """One attempt with what it failed with."""

    it: Delivery
    outcome: str
    error: JobError | None


def tries(view: ExecutionView) -> list[Try]:
    return [
        Try(it=one, outcome=one.outcome.value if one.outcome else "running", error=error_of(one.error))
        for one in reversed(deliveries(view))
    ]


def error_of(document: bytes | None) -> JobError | None:
    return None if document is None else _decode_error(document)


# --- payloads ---------------------------------------------------------------------------------------


class Payload(Struct, frozen=True, kw_only=True):
    """A document, or as much of it as a page can have; ``cut``: how large it is, if it is not all."""

    text: str
    cut: str = ""


def payload(document: bytes | None) -> Payload | None:
    if document is None:
        return None
    if len(document) > MOST_SHOWN:
        return Payload(text=document[:MOST_SHOWN].decode("utf-8", "ignore") + " …", cut=size(len(document)))
    return Payload(text=json_text(document))


class Option(Struct, frozen=True, kw_only=True):
    """One option in force: its value, and who said it."""

    name: str
    value: str
    source: str


def options(it: Execution) -> tuple[list[Option], list[Option]]:
    """Those that somebody has said, and those that are the default."""
    values: dict[str, Any] = json.loads(shown(it.options))
    said: dict[str, str] = values["sources"]
    found = [
        Option(name=name, value=_text(values[name]), source=said.get(name, "default").replace("_", " "))
        for name in NAMES
    ]
    return [one for one in found if one.name in said], [one for one in found if one.name not in said]


def _text(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- ids --------------------------------------------------------------------------------------------

_DIGITS = {digit: value for value, digit in enumerate("0123456789abcdefghjkmnpqrstvwxyz")}


def made_us(execution_id: str) -> int | None:
    """When an id was made, as it says itself: its first ten digits are milliseconds. None: no clock has said that."""
    ms = 0
    for digit in execution_id[:10]:
        ms = ms * 32 + _DIGITS[digit]
    return ms * 1000 if ms * 1000 <= MAX_US else None
