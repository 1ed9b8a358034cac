"""Evidence by hand, to show that a scenario's ``judge`` names what is broken. Seconds count from ``BEGAN_US``."""

from __future__ import annotations

import random
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import msgspec

from schedule_zero.client.records import ExecutionRecord, FireRecord
from schedule_zero.clock import from_us
from schedule_zero.model import FireOutcome, State
from schedule_zero.reports.record import Held
from schedule_zero.testbed.catalogue import params_of
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.scenario import Scenario, Seen

BEGAN_US = 1_800_000_000_000_000


def us(seconds: float) -> int:
    return BEGAN_US + round(seconds * 1e6)


def crc(value: Any) -> int:
    """What the jobs' ledger says of a result."""
    return crc32(msgspec.json.encode(value))


def run(
    execution_id: str,
    action: str,
    start_s: float,
    end_s: float | None = None,
    *,
    node_id: str = "n1",
    pid: int = 1,
    token: int = 1,
    attempt: int = 1,
    schedule_id: str | None = None,
    nominal_s: float | None = None,
    outcome: str = "ok",
    value: Any = None,
) -> Run:
    """One run; without ``end_s`` nothing tells of its end. ``value``: what it returned."""
    made = Run(execution_id, token, attempt, node_id, pid, us(start_s), round(start_s * 1e9), action, schedule_id)
    made.nominal_us = None if nominal_s is None else us(nominal_s)
    if end_s is not None:
        made.end_us, made.end_ns, made.outcome = us(end_s), round(end_s * 1e9), outcome
        made.result = None if value is None else crc(value)
    return made


def execution(id: str, job: str, status: State = State.COMPLETED, **more: Any) -> ExecutionRecord:
    """``job``: ``<handler_id>.<method>``."""
    handler_id, _, method = job.partition(".")
    return ExecutionRecord(id=id, handler_id=handler_id, job_method=method, status=status, **more)


def fire(schedule_id: str, nominal_s: float, outcome: FireOutcome = FireOutcome.EXECUTED, **more: Any) -> FireRecord:
    return FireRecord(schedule_id=schedule_id, nominal_time=from_us(us(nominal_s)), outcome=outcome, **more)


def seen_of(
    scenario: type[Scenario],
    *,
    runs: Iterable[Run] = (),
    executions: Iterable[ExecutionRecord] = (),
    fires: Iterable[FireRecord] = (),
    left: Iterable[str] = (),
    kept: dict[str, Any] | None = None,
) -> Seen:
    """What the stage would have seen."""
    by_schedule: dict[str, list[Any]] = {id_: [] for id_ in (kept or {}).get("follow", ())}
    for row in fires:
        by_schedule.setdefault(row.schedule_id, []).append(row)
    return Seen(
        runs=sorted(runs, key=lambda one: one.start_ns),
        fires=by_schedule,
        executions={one.id: one for one in executions},
        left=list(left),
        began_us=BEGAN_US,
        kept=kept or {},
        held={name: Held(name, means) for name, means in scenario.holds.items()},
    )


def broken(scenario: type[Scenario], seen: Seen, **params: Any) -> set[str]:
    """Judge it, and say what does not hold. Whatever was not looked at counts as well, as ``<name>?``."""
    ground: Any = SimpleNamespace(
        params=params_of(scenario, params, quick=True), nodes=("n1", "n2", "n3"), random=random.Random(1)
    )
    scenario.judge(ground, seen)
    assert set(seen.measures) <= set(scenario.measures)
    return {name if held.ok is False else f"{name}?" for name, held in seen.held.items() if not held.ok}
