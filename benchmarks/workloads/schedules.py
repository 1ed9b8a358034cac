"""W3: creating and deleting schedules, one by one from 16 callers and in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.load import LoadError, Target, closed_loop, deal
from benchmarks.procs import Deployment, accounting
from benchmarks.report import Measured

CALLERS = 16
# Schedules per bulk request.
CHUNK = 1_000
# Far in the future, so that none of them fires while it exists.
_TRIGGER = {"type": "interval", "hours": 12}


def target_of(schedule_id: str, trigger: dict[str, Any]) -> dict[str, Any]:
    """A schedule of ``demo.noop`` as the bulk endpoint takes it."""
    return {"id": schedule_id, "handler_id": "demo", "job_method": "noop", "trigger": trigger}


def bulk_requests(target: Target, schedules: Sequence[dict[str, Any]], *, chunk: int = CHUNK) -> list[bytes]:
    """Requests that create these schedules, ``chunk`` at a time."""
    return [
        target.encode("POST", "/api/schedules", msgspec.json.encode({"schedules": schedules[n : n + chunk]}))
        for n in range(0, len(schedules), chunk)
    ]


def bulk_delete_requests(target: Target, ids: Sequence[str], *, chunk: int = CHUNK) -> list[bytes]:
    """Requests that delete these schedules, ``chunk`` at a time."""
    return [
        target.encode("POST", "/api/schedules/delete", msgspec.json.encode({"ids": ids[n : n + chunk]}))
        for n in range(0, len(ids), chunk)
    ]


def create_and_delete(deployed: Deployment, measured: Measured, *, singles: int, many: int) -> None:
    """W3: ``singles`` schedules one by one from 16 callers, then ``many`` in bulk; each created, then deleted."""
    target = deployed.target
    names = [f"single-{n}" for n in range(singles)]
    create = [
        target.encode(
            "POST",
            "/api/schedule",
            msgspec.json.encode({"handler_id": "demo", "job_method": "noop", "job_id": name, "trigger": _TRIGGER}),
        )
        for name in names
    ]
    delete = [target.encode("DELETE", f"/api/schedules/{name}") for name in names]
    _timed(deployed, measured, "create_one", create, singles, callers=CALLERS)
    _timed(deployed, measured, "delete_one", delete, singles, callers=CALLERS)
    ids = [f"bulk-{n}" for n in range(many)]
    schedules = [target_of(name, _TRIGGER) for name in ids]
    _timed(deployed, measured, "create_bulk", bulk_requests(target, schedules), many, callers=2)
    _timed(deployed, measured, "delete_bulk", bulk_delete_requests(target, ids), many, callers=2)


def _timed(
    deployed: Deployment, measured: Measured, what: str, requests: list[bytes], schedules: int, *, callers: int
) -> None:
    with accounting(deployed.processes) as cpu:
        load = closed_loop(deployed.target, deal(requests, callers))
    if load.odd:
        raise LoadError(f"{what} was answered {load.odd}")
    measured.add(f"w3_{what}_per_s", schedules / load.seconds)
    measured.add_cpu(f"W3 {what.replace('_', ' ')}", cpu.per_thousand(schedules))
