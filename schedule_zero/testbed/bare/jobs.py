"""What APScheduler calls: two functions, with the name of a scenario and of one of its methods.

They set what the jobs' ledger says of a run, and keep count: a job that is begun again is another attempt.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from threading import Lock
from typing import Any

import msgspec
from apscheduler import current_job
from msgspec import Struct

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import UnknownMethod
from schedule_zero.testbed.bare.order import NODE
from schedule_zero.testbed.bare.triggers import Grid
from schedule_zero.testbed.catalogue import scenarios
from schedule_zero.testbed.job_ledger import ATTEMPT

# What a job carries of its schedule, among its metadata.
GRID = "grid"


class Attempt(Struct):
    """What stands in the jobs' ledger of this run (``job_ledger.Attempt``)."""

    execution_id: str
    attempt: int
    fence_token: int
    schedule_id: str | None
    nominal_time: datetime | None
    node_id: str = NODE


_begun: Counter[str] = Counter()
_lock = Lock()


def method(handler_id: str, job_method: str) -> Callable[..., Any]:
    """Of an instance of a scenario of the catalogue. UnknownMethod: it has no such job."""
    handler = _handler(handler_id)
    if handler is None or job_method.startswith("_") or not inspect.isfunction(vars(type(handler)).get(job_method)):
        raise UnknownMethod(f"there is no job {handler_id}.{job_method} in the catalogue of scenarios")
    found: Callable[..., Any] = getattr(handler, job_method)
    return found


def run_in_thread(handler_id: str, job_method: str, params: bytes) -> Any:
    """A plain method, as a node would run it."""
    with _counted():
        return method(handler_id, job_method)(**msgspec.json.decode(params))


async def run_on_loop(handler_id: str, job_method: str, params: bytes) -> Any:
    """An ``async`` method."""
    with _counted():
        return await method(handler_id, job_method)(**msgspec.json.decode(params))


@cache
def _handler(handler_id: str) -> Any:
    scenario = scenarios().get(handler_id)
    return None if scenario is None else scenario()


@contextmanager
def _counted() -> Iterator[None]:
    job = current_job.get()
    id_ = str(job.id)
    with _lock:
        _begun[id_] += 1
        attempt = _begun[id_]
    nominal = job.original_scheduled_time
    if nominal is not None and GRID in job.metadata:
        nominal = from_us(msgspec.convert(job.metadata[GRID], Grid).nominal_us(to_us(nominal)))
    token = ATTEMPT.set(Attempt(id_, attempt, attempt, job.schedule_id, nominal))
    try:
        yield
    finally:
        ATTEMPT.reset(token)
