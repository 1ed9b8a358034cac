"""How a verb asks: one request made of Python values, one answer made into them. Still no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar, cast
from urllib.parse import quote

import msgspec

from schedule_zero.client.flow import Flow, Patience, Request, Sleep, exchange
from schedule_zero.client.records import ExecutionRecord
from schedule_zero.clock import Clock
from schedule_zero.errors import InvalidField, ScheduleZeroError, WaitTimeout
from schedule_zero.model import new_id

T = TypeVar("T")
Moment = datetime | float
Json = Mapping[str, Any]
# Whatever the answer is, decoded.
ANYTHING: type[Any] = cast("type[Any]", Any)

# The most that one request may hold: ``limits.bulk``, and half of ``http.max_body_bytes`` (by default).
BULK = 10_000
BULK_BYTES = 8 << 20
# The longest that one request waits: proxies cut longer ones.
POLL_S = 20.0
AT_ONCE_S = 0.1
# POSTs that make something: they always carry a key, the caller's or a fresh one.
KEYED = frozenset({"/api/run_now", "/api/executions", "/api/schedules"})


class Asking:
    """Needs ``patience``, ``clock`` and ``random``, from the client that carries the flows out."""

    patience: Patience
    clock: Clock
    random: Callable[[], float]

    def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Json | None = None,
        body: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
        key: str | None = None,
        wait_s: float = 0.0,
        repeatable: bool = True,
    ) -> Flow[T]:
        """One request and its answer, decoded as ``kind``. ``key``: the Idempotency-Key; a POST without one has to be
        harmless to repeat.
        """
        if key is None and method == "POST" and path in KEYED:
            key = new_id()
        if key is not None:
            headers += (("idempotency-key", key),)
        # A write without a body needs the type as well: the server takes no write that a form could have sent.
        encoded = None if body is None else _encoded(body)
        if method not in ("GET", "HEAD"):
            headers += (("content-type", "application/json"),)
        request = Request(method, path, as_query(query or {}), encoded, headers, repeatable, wait_s)
        reply = yield from exchange(request, self.patience, clock=self.clock, random=self.random)
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.DecodeError as error:
            raise ScheduleZeroError(
                f"{method} {path}: HTTP {reply.status}, but not the server's answer: {error}", hint="is the URL right?"
            ) from None

    def whole_result(self, execution_id: str) -> Flow[Any]:
        return (yield from self.ask("GET", f"/api/executions/{segment(execution_id)}/result", ANYTHING))

    def until_over(self, execution_id: str, wait_s: float | None) -> Flow[ExecutionRecord]:
        until_s = None if wait_s is None else self.clock.mono_s() + wait_s
        while True:
            left_s = POLL_S if until_s is None else min(POLL_S, max(0.0, until_s - self.clock.mono_s()))
            path = f"/api/executions/{segment(execution_id)}"
            asked_s = self.clock.mono_s()
            record = yield from self.ask("GET", path, ExecutionRecord, query={"wait_s": left_s}, wait_s=left_s)
            if record.over:
                return record
            if until_s is not None and self.clock.mono_s() >= until_s:
                raise WaitTimeout(
                    f"execution {execution_id} is not over after {wait_s:g} s, but {record.status}; it goes on",
                    execution_id=execution_id,
                )
            if self.clock.mono_s() - asked_s < AT_ONCE_S:
                # It didn't wait as asked (it is stopping, say): no reason to ask it a thousand times a second.
                yield Sleep(AT_ONCE_S)


def job(handler_id: str, job_method: str, params: Json | None, options: Json, **more: Any) -> dict[str, Any]:
    """The body of a write: what wasn't said stays out, so that the server's defaults hold."""
    body = {"handler_id": handler_id, "job_method": job_method, "job_params": params or {}, "options": options or None}
    return {name: value for name, value in (body | more).items() if value is not None and value is not False}


def match(etag: str | None) -> tuple[tuple[str, str], ...]:
    return () if etag is None else (("if-match", etag if etag == "*" else f'"{etag}"'),)


def as_query(query: Json) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if isinstance(value, datetime):
            pairs.append((name, value.isoformat()))
        elif isinstance(value, (list, tuple)):
            pairs.append((name, ",".join(map(str, value))))
        elif value is not None:
            pairs.append((name, str(value)))
    return tuple(pairs)


def segment(value: str) -> str:
    """An id as a part of a path. InvalidField for what would make it the path of something else."""
    if value in ("", ".", ".."):
        raise InvalidField(f"{value!r} is no id: expected one that begins with a letter, digit or _")
    return quote(value, safe="")


def _encoded(body: Any) -> bytes:
    """As JSON. InvalidField for a number that JSON has no word for: it would arrive as null, which means "not said"."""
    encoded = msgspec.json.encode(body)
    # Looked for only where it may be: a large body costs nothing more.
    if b"null" in encoded:
        _refuse_non_finite(body, "")
    return encoded


def _refuse_non_finite(value: Any, pointer: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidField(f"expected a finite number, got {value}", pointer=pointer)
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_non_finite(item, f"{pointer}/{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{pointer}/{index}")


def bulks(name: str, items: Iterable[Any]) -> Iterator[msgspec.Raw]:
    """Bodies ``{"name": [items…]}``, each within what one request may hold, in number and in bytes."""
    encoded: list[bytes] = []
    size = 0
    for item in map(_encoded, items):
        if encoded and (len(encoded) == BULK or size + len(item) > BULK_BYTES):
            yield _array(name, encoded)
            encoded, size = [], 0
        encoded.append(item)
        size += len(item)
    if encoded:
        yield _array(name, encoded)


def _array(name: str, encoded: list[bytes]) -> msgspec.Raw:
    return msgspec.Raw(b'{"%s":[%s]}' % (name.encode(), b",".join(encoded)))
