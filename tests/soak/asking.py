"""One client of the server: it asks, writes down what it was told, and lives through the server's absences."""

from __future__ import annotations

import random
from collections import Counter
from threading import Event
from typing import Any

import httpx

from schedule_zero.testbed.history import Op, OpenCall, Recorder

# Refusals that a crowd of clients brings about. Anything else of this kind is a mistake in what was asked.
REFUSED = frozenset({404, 409, 429})
# After a connection that broke, or a server that can't.
PATIENCE_S = 0.2


class Unexpected(AssertionError):
    """An answer that there must not be."""


class Client:
    """Requests of one thread, each on record where the history has a word for it."""

    def __init__(self, number: int, http: httpx.Client, history: Recorder, rng: random.Random, stop: Event) -> None:
        self.number = number
        self.rng = rng
        self.stop = stop
        # ``POST /api/executions 202`` → how often.
        self.told: Counter[str] = Counter()
        self.http = http
        self._history = history
        self._marks = 0

    def mark(self) -> str:
        """A name that nobody has used."""
        self._marks += 1
        return f"c{self.number}-{self._marks}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        op: Op | None = None,
        args: dict[str, Any] | None = None,
        answer: dict[str, str] | None = None,
        key: str | None = None,
        params: dict[str, Any] | None = None,
        what: str = "",
        refused: frozenset[int] = REFUSED,
    ) -> dict[str, Any] | None:
        """The answer; None: it was refused, or nobody knows. ``answer``: what goes on record, by its field there."""
        call = None if op is None else self._history.begin(op, self.number, **(args or {}))
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            response = self.http.request(method, path, json=body, headers=headers, params=params)
        except httpx.TransportError as error:
            self._unknown(call, repr(error))
            self.told[f"{method} {what or path} away"] += 1
            return None
        status = response.status_code
        self.told[f"{method} {what or path} {status}"] += 1
        if status == 503:
            self._unknown(call, "503")
            return None
        if status in refused:
            if call is not None:
                call.fail(str(status))
            return None
        if not response.is_success:
            raise Unexpected(f"{method} {path} {body!r}: {status} {response.text[:1000]}")
        said = response.json() if "json" in response.headers.get("content-type", "") else {}
        if call is not None:
            call.ok(**{name: said[field] for name, field in (answer or {}).items() if said.get(field) is not None})
        return dict(said) if isinstance(said, dict) else {}

    def listen(self, path: str, lines: int, params: dict[str, Any] | None = None) -> None:
        """Read so many lines of an event stream, and go away."""
        try:
            with self.http.stream("GET", path, params=params, timeout=5) as response:
                self.told[f"GET {path.partition('/01')[0]} {response.status_code}"] += 1
                if response.status_code in REFUSED or response.status_code == 503:
                    return
                for _, _line in zip(range(lines), response.iter_lines(), strict=False):
                    if self.stop.is_set():
                        return
        except httpx.TransportError:
            # A quiet stream, or a server that went away.
            self.told[f"GET {path.partition('/01')[0]} ended"] += 1

    def _unknown(self, call: OpenCall | None, why: str) -> None:
        if call is not None:
            call.unknown(why)
        self.stop.wait(PATIENCE_S)
