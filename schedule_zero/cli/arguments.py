"""What people type, made into values: parameters, durations, moments, triggers, jobs' names."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from schedule_zero.clock import Clock, SystemClock, from_us

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
# Types of triggers without a start and an end.
_UNBOUNDED = ("date", "calendar", "startup", "manual")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}|$)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def duration_s(text: str) -> float:
    """``90``, ``10s``, ``250ms``, ``1h30m``, ``2d`` → seconds; ValueError otherwise."""
    said = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", said):
        return float(said)
    parts = _DURATION.findall(said)
    if not parts or "".join(number + unit for number, unit in parts) != said:
        raise ValueError(f'expected a duration such as 10s, 250ms or 1h30m, got "{text}"')
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


class Duration(click.ParamType[float]):
    """``10s``, ``1h30m``, or plain seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Number(click.FloatRange):
    """A finite number within a range. click lets ``nan`` pass every range, since it is neither less nor more."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {number}", param, ctx)
        return number


class Durations(click.ParamType[list[float]]):
    """Several of them, with commas between: ``1s,10s,5m``."""

    name = "durations"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        one = Duration()
        return [one.convert(part.strip(), param, ctx) for part in value.split(",")]


class Moment(click.ParamType[float]):
    """An ISO 8601 moment with its offset, unix seconds, or ``+10m`` / ``-2h`` from now; unix seconds come out.

    Before 1970 there is nothing to ask a server about.
    """

    name = "moment"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        moment_s = self._moment_s(value, param, ctx)
        if moment_s < 0:
            self.fail(f'expected a moment from 1970 on, got "{value}"', param, ctx)
        return moment_s

    def _moment_s(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = value.strip()
        try:
            if text[:1] in ("+", "-"):
                seconds = duration_s(text[1:]) * (-1 if text[0] == "-" else 1)
                return (from_us(self._clock.wall_us()) + timedelta(seconds=seconds)).timestamp()
            if re.fullmatch(r"\d+(\.\d+)?", text):
                return float(text)
            moment = datetime.fromisoformat(text)
        except OverflowError:
            self.fail(f'expected a moment in the years 1 to 9999, got "{value}"', param, ctx)
        except ValueError as error:
            if _DATE.match(text):
                self.fail(f'there is no such moment: "{value}" ({error})', param, ctx)
            self.fail(f'expected 2030-01-01T00:00:00Z, unix seconds or +10m, got "{value}"', param, ctx)
        if moment.tzinfo is None:
            self.fail(f'"{value}" names no zone: end it with Z or an offset such as +01:00', param, ctx)
        return moment.timestamp()


class LocalMoment(Moment):
    """As ``Moment``; a local time without an offset comes out as text, for whoever knows on which wall it is meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # Digits alone are unix seconds, also where they could be a date.
        if isinstance(value, str) and value[:1] not in ("+", "-") and not value.strip().isdecimal():
            try:
                local = datetime.fromisoformat(value.strip())
            except ValueError:
                pass
            else:
                if local.tzinfo is None:
                    return local.isoformat()
        return super().convert(value, param, ctx)


def job_target(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """``demo.hello a=1`` or ``demo hello a=1`` → handler, method, and the rest (the parameters)."""
    first, *rest = words
    if rest and "=" not in rest[0]:
        return first, rest[0], rest[1:]
    handler_id, dot, method = first.rpartition(".")
    if not dot or not handler_id or not method:
        raise click.UsageError(f'expected a job as HANDLER.METHOD or HANDLER METHOD, got "{first}"')
    return handler_id, method, rest


def job_params(pairs: Iterable[str], document: str | None) -> dict[str, Any]:
    """The parameters from ``key=value`` words and from ``--params`` (JSON, ``@file`` or ``-``); the words win."""
    params: dict[str, Any] = {}
    if document is not None:
        params = json_document(document, "--params")
        if not isinstance(params, dict):
            raise click.UsageError("--params: expected a JSON object")
    given: set[str] = set()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f'expected a parameter as key=value, got "{pair}"')
        if name in given:
            raise click.UsageError(f"the parameter {name!r} is given twice")
        given.add(name)
        params[name] = json_or_text(value)
    return params


def json_or_text(text: str) -> Any:
    """``3`` → 3, ``true`` → True, ``[1]`` → [1], ``"3"`` → "3"; what is no JSON is the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def json_document(text: str, what: str) -> Any:
    """JSON from the argument itself, from ``@file`` or from standard input (``-``)."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_members)
    except OSError as error:
        raise click.UsageError(f"{what}: {error.filename}: {error.strerror}") from None
    except RecursionError:
        raise click.UsageError(f"{what}: nested far too deeply") from None
    except ValueError as error:
        raise click.UsageError(f"{what}: not JSON: {error}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one of two members of the same name would be lost silently."""
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:index]))
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def trigger_document(
    *,
    cron: str | None,
    every: float | None,
    at: float | str | None,
    trigger: str | None,
    timezone: str | None,
    start: float | str | None = None,
    end: float | str | None = None,
    zone_around: str | None = None,
) -> dict[str, Any]:
    """The trigger of exactly one of ``--cron``, ``--every``, ``--at`` and ``--trigger``.

    Moments without an offset are on the wall of its zone, or else of ``zone_around``.
    """
    choices = {"--cron": cron, "--every": every, "--at": at, "--trigger": trigger}
    said = [name for name, value in choices.items() if value is not None]
    if len(said) != 1:
        got = " and ".join(said) or "none of them"
        raise click.UsageError(f"expected one of --cron, --every, --at and --trigger, got {got}")
    document: dict[str, Any]
    if trigger is not None:
        given = json_document(trigger, "--trigger")
        if isinstance(given, list) and given:
            # Several, each of which fires. As an object it can also take a zone, a start and an end.
            given = given[0] if len(given) == 1 else {"type": "or", "triggers": given}
        if not isinstance(given, dict):
            raise click.UsageError('--trigger: expected a JSON object such as {"type": "cron", …}, or a list of them')
        document = given
    elif cron is not None:
        document = {"type": "cron", "expression": cron}
    elif every is not None:
        document = {"type": "interval", "seconds": int(every) if every.is_integer() else every}
    else:
        document = {"type": "date", "run_date": at}
    more = {"timezone": timezone, "start": start, "end": end}
    for name, value in (("--at", at), ("--start", start), ("--end", end)):
        if name != "--at" and value is not None and document.get("type") in _UNBOUNDED:
            raise click.UsageError(f"{name} does not go with a trigger of type {document['type']}")
        if isinstance(value, str) and not (timezone or zone_around or document.get("timezone")):
            raise click.UsageError(
                f'{name}: "{value}" names no zone: end it with Z or an offset such as +01:00, or give a --timezone'
            )
    return document | {name: value for name, value in more.items() if value is not None}
