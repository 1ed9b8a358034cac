"""Clients that go on asking whatever happens to the server, on record: what they were told is what the checker holds
the store to.

Each client is a thread with dice of its own; what it asks for is the seed's, when it asks is not.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Self
from zlib import crc32

import httpx
import msgspec

from schedule_zero.testbed.history import Op
from tests.support import eventually_sync
from tests.system.bed import Bed, sent

# Somebody who gets no answer asks again after so long.
PATIENCE_S = 15.0
INTERVAL_MS = 200
# Name → what a schedule does besides firing five times a second.
SCHEDULES: dict[str, dict[str, Any]] = {
    "plain": {"job_method": "ok"},
    "slow": {"job_method": "sleep", "job_params": {"seconds": 0.3}, "policies": {"overlap": "skip"}},
    "all": {"job_method": "ok", "policies": {"catch_up": "all"}},
}


class Traffic:
    """``with Traffic(bed, seed):`` requests come while the block lasts; ``finish`` waits for all that they began."""

    def __init__(
        self, bed: Bed, seed: int, *, clients: int = 2, pause_s: float = 0.05, grace_s: float | None = None
    ) -> None:
        """``grace_s``: what is decided later than that is caught up, or missed."""
        self._bed = bed
        self._seed = seed
        self._pause_s = pause_s
        self._clients = clients
        self._grace = {} if grace_s is None else {"misfire_grace_s": grace_s}
        self._over = threading.Event()
        self._names = count(1)
        self._failed: list[BaseException] = []
        self.answered = 0

    def __enter__(self) -> Self:
        self._bed.create([_schedule(name, **more, **self._grace) for name, more in SCHEDULES.items()])
        self._threads = [
            threading.Thread(target=self._live, args=(number,), name=f"client {number}")
            for number in range(1, self._clients + 1)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def finish(self, within_s: float = 60, *, fires: bool = True) -> None:
        """Everything still fires; then nothing does any more, and all that was begun has come to an end.

        ``fires`` is False where a clock was set back, and has yet to come to the next nominal time.
        """
        if fires:
            self._bed.keep_firing(*SCHEDULES)
        for name in SCHEDULES:
            self._bed.pause(name)
        eventually_sync(lambda: self._bed.open() == 0, within_s=within_s)

    def _live(self, number: int) -> None:
        try:
            with self._bed.server.client() as http:
                http.timeout = PATIENCE_S
                client = _Client(self, self._bed, http, number, random.Random(f"{self._seed}/{number}"))
                while not self._over.is_set():
                    client.ask()
                    self._over.wait(self._pause_s)
        except BaseException as error:
            self._failed.append(error)
            raise

    def name(self, number: int) -> str:
        return f"c{number}-{next(self._names)}"


class _Client:
    def __init__(self, traffic: Traffic, bed: Bed, http: httpx.Client, number: int, rng: random.Random) -> None:
        self._traffic = traffic
        self._bed = bed
        self._http = http
        self._number = number
        self._random = rng
        self._mine: list[str] = []

    def ask(self) -> None:
        """One thing, as a client does: again, where it may be asked again and was not answered."""
        kind = self._random.random()
        if kind < 0.6 or not self._mine:
            self._submit()
        elif kind < 0.75:
            self._cancel(self._random.choice(self._mine))
        else:
            self._observe(self._random.choice(self._mine))

    def _submit(self) -> None:
        rng = self._random
        mark = self._traffic.name(self._number)
        size = rng.choice((1, 1, 1, 3, 10))
        item = {"handler_id": "chaos", "idempotency_key": mark, **self._job()}
        key = mark if rng.random() < 0.7 else None
        args = {"count": size, "mark": mark, **({} if key is None else {"key": key})}
        headers = {} if key is None else {"Idempotency-Key": key}
        for _ in range(3 if key else 1):
            answer = self._call(
                Op.SUBMIT,
                args,
                lambda: self._http.post("/api/executions", json={"executions": [item] * size}, headers=headers),
                lambda body: {"ids": body["ids"]},
            )
            if answer is not None:
                self._mine += answer["ids"]
                return

    def _job(self) -> dict[str, Any]:
        rng = self._random
        options: dict[str, Any] = {}
        if rng.random() < 0.2:
            options["on_lost"] = "fail"
        if rng.random() < 0.2:
            options["priority"] = rng.randint(1, 9)
        kind = rng.random()
        if kind < 0.6:
            return {"job_method": "ok", "job_params": {"value": rng.randint(0, 1000)}, "options": options}
        if kind < 0.8:
            seconds = round(rng.uniform(0.05, 0.5), 3)
            return {"job_method": "sleep", "job_params": {"seconds": seconds}, "options": options}
        if kind < 0.9:
            return {"job_method": "big", "job_params": {"size": rng.randint(1, 300_000)}, "options": options}
        options |= {"max_attempts": rng.randint(1, 3), "retry_delay_s": 0.1}
        return {"job_method": "error", "job_params": {}, "options": options}

    def _cancel(self, id_: str) -> None:
        self._call(Op.CANCEL, {"id": id_}, lambda: self._http.post(f"/api/executions/{id_}/cancel"), _cancelled)

    def _observe(self, id_: str) -> None:
        self._call(Op.OBSERVE, {"id": id_}, lambda: self._http.get(f"/api/executions/{id_}"), _observed)

    def _call(
        self,
        op: Op,
        args: dict[str, Any],
        request: Callable[[], httpx.Response],
        told: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> dict[str, Any] | None:
        """What was answered, as the history has it; None: it was refused, or nobody knows."""
        call = self._bed.history.begin(op, self._number, **args)
        answer = sent(call, request)
        if answer is None:
            return None
        if answer.is_success:
            known = told(answer.json())
            call.ok(**known)
            self._traffic.answered += 1
            return known
        if answer.status_code == 500:
            call.unknown(answer.text)
        else:
            call.fail(answer.text)
        return None


def _cancelled(body: dict[str, Any]) -> dict[str, Any]:
    state = body.get("status")
    return {"outcome": body["outcome"], **({} if state is None else {"state": state})}


def _observed(body: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"state": body["status"]}
    if body.get("result") is not None:
        told["result"] = crc32(msgspec.json.encode(body["result"]))
    return told


def _schedule(name: str, **fields: Any) -> dict[str, Any]:
    trigger = {"type": "interval", "milliseconds": INTERVAL_MS}
    return {"id": name, "handler_id": "chaos", "trigger": trigger, **fields}
