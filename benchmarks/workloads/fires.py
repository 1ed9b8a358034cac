"""W4 and W4b: how late a method is entered after its nominal time, and how many fires a second can be sustained.

Lateness is the wall clock that the job itself read when it was entered (``handler.py``) less the fire's nominal time.
``started_at`` of the record is compared with it: how far the node's estimate of the server's time is off.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.load import LoadError, closed_loop, deal
from benchmarks.procs import Deployment, accounting, wait_for
from benchmarks.records import LedgerReport, judge_interval, open_database, pages, parse_us
from benchmarks.report import Measured
from benchmarks.stats import percentile
from benchmarks.workloads.jobs import finished
from benchmarks.workloads.schedules import bulk_delete_requests, bulk_requests, target_of

_NAME = "every-10-ms"
_ENTER = {"handler_id": "bench", "job_method": "enter"}


def interval(deployed: Deployment, measured: Measured, *, seconds: float) -> None:
    """W4: one 10 ms interval for ``seconds``; p50/p99 of the lateness, and its ledger without a gap."""
    control = deployed.control
    with accounting(deployed.processes) as cpu:
        trigger = {"type": "interval", "milliseconds": 10}
        control.call("POST", "/api/schedule", {**_ENTER, "trigger": trigger, "job_id": _NAME})
        time.sleep(seconds)
        control.call("POST", f"/api/schedules/{_NAME}/pause")
        paused_us = time.time_ns() // 1000
    _wait_until_quiet(deployed)
    records = list(pages(control, f"/api/executions?job_id={_NAME}", "records"))
    lateness = [(record["result"] - parse_us(record["nominal_time"])) / 1e6 for record in records]
    skew = [abs(parse_us(record["started_at"]) - record["result"]) / 1e6 for record in records]
    rows = [
        (parse_us(row["nominal_time"]), row["outcome"], row.get("count", 1))
        for row in pages(control, f"/api/schedules/{_NAME}/fires", "records")
    ]
    control.call("DELETE", f"/api/schedules/{_NAME}")
    # What came due while the pause was on its way, or after it, is in the ledger as skipped: not part of the 20 s.
    rows = [row for row in rows if row[0] <= paused_us - 50_000]
    report = judge_interval(rows, 10_000, until_us=paused_us - 50_000)
    measured.add("w4_interval_p50_s", percentile(lateness, 50))
    measured.add("w4_interval_p99_s", percentile(lateness, 99))
    measured.add("w4_interval_max_s", max(lateness))
    measured.add("w4_started_at_off_by_p50_s", percentile(skew, 50))
    measured.add("w4_interval_missing", report.missing + report.not_executed)
    measured.add("w4_interval_fires", report.executed)
    if len(lateness) < report.executed:
        raise LoadError(f"{report.executed} fires were executed, but {len(lateness)} executions are on record")
    measured.add_cpu("W4 10 ms interval", cpu.per_thousand(len(lateness)))


def due_at_once(deployed: Deployment, measured: Measured, *, schedules: int, ahead_s: float) -> None:
    """W4: ``schedules`` dates at the same moment, ``ahead_s`` from now; seconds until the last method was entered."""
    control = deployed.control
    before = finished(control)
    due_us = (time.time_ns() // 1_000_000_000 + 1) * 1_000_000 + round(ahead_s * 1e6)
    trigger = {"type": "date", "run_date": due_us / 1e6}
    ids = [f"at-{due_us}-{n}" for n in range(schedules)]
    _create(deployed, [{**_ENTER, "trigger": trigger, "id": name} for name in ids])
    if time.time_ns() // 1000 > due_us - 500_000:
        measured.note(f"creating {schedules} schedules took so long that they were due before all existed")
    with accounting(deployed.processes) as cpu:
        time.sleep(max(0.0, due_us / 1e6 - time.time()))
        wait_for(lambda: finished(control) >= before + schedules, f"{schedules} fires", within_s=60, every_s=0.05)
    with open_database(deployed.database) as database:
        count, last_us, first_us = database.execute(
            "SELECT count(*), max(CAST(result AS INTEGER)), min(CAST(result AS INTEGER)) FROM executions"
            " WHERE nominal_us = ? AND handler_id = 'bench'",
            (due_us,),
        ).fetchone()
    if count != schedules:
        raise LoadError(f"{schedules} schedules were due, but {count} executions are on record")
    measured.add(f"w4_first_of_{schedules}_s", (first_us - due_us) / 1e6)
    measured.add(f"w4_last_of_{schedules}_s", (last_us - due_us) / 1e6)
    measured.add_cpu(f"W4 {schedules:,} due at once", cpu.per_thousand(schedules))
    _delete(deployed, ids)


def sustained(deployed: Deployment, measured: Measured, *, schedules: int, interval_ms: int, seconds: float) -> float:
    """W4b: as many interval schedules for ``seconds``. Fires/s that were run and recorded in that time.

    The schedules are created in chunks over one interval, so that their phases are spread over it.
    """
    trigger = {"type": "interval", "milliseconds": interval_ms}
    prefix = f"load-{interval_ms}-"
    ids = [f"{prefix}{n}" for n in range(schedules)]
    _create(deployed, [target_of(name, trigger) for name in ids], spread_s=interval_ms / 1000)
    # The first round is not counted: caches fill, the credit window grows.
    time.sleep(max(1.0, interval_ms / 1000))
    with accounting(deployed.processes) as cpu:
        begin_us = time.time_ns() // 1000
        time.sleep(seconds)
        end_us = time.time_ns() // 1000
    for processes in deployed.processes.values():
        processes.check()
    _delete(deployed, ids)
    _wait_until_quiet(deployed)
    offered = schedules * 1000 / interval_ms
    with open_database(deployed.database) as database:
        done, late_p99 = _done_between(database, prefix, begin_us, end_us)
        report = _whole_ledger(database, prefix, interval_ms * 1000)
    rate = done / ((end_us - begin_us) / 1e6)
    name = f"w4b_at_{offered:.0f}"
    measured.add(f"{name}_fires_per_s", rate)
    measured.add(f"{name}_lateness_p99_s", late_p99)
    measured.add(f"{name}_not_executed", report.not_executed)
    measured.add("w4b_missing", report.missing)
    measured.add_cpu(f"W4b {offered:,.0f} offered/s", cpu.per_thousand(max(done, 1)))
    for process in deployed.processes:
        measured.add(f"cpu_us_per_fire_{process}", cpu.seconds[process] / max(done, 1) * 1e6)
    if report.not_executed:
        measured.note(f"W4b with {offered:,.0f} fires/s offered: {report.not_executed} fires were skipped or missed")
    return rate


def _create(deployed: Deployment, schedules: list[dict[str, Any]], *, spread_s: float = 0.0) -> None:
    requests = bulk_requests(deployed.target, schedules, chunk=200 if spread_s else 1_000)
    begin = time.perf_counter()
    for n, request in enumerate(requests):
        time.sleep(max(0.0, begin + n * spread_s / len(requests) - time.perf_counter()))
        reply = deployed.control.send(request)
        if reply.status not in (200, 201):
            raise LoadError(f"creating schedules was answered {reply.status}: {reply.body[:500]!r}")


def _delete(deployed: Deployment, ids: list[str]) -> None:
    load = closed_loop(deployed.target, deal(bulk_delete_requests(deployed.target, ids), 1))
    if load.odd:
        raise LoadError(f"deleting schedules was answered {load.odd}")


def _wait_until_quiet(deployed: Deployment) -> None:
    def quiet() -> bool:
        by_status = deployed.control.call("GET", "/api/executions/stats")["by_status"]
        return not sum(by_status.get(state, 0) for state in ("pending", "running", "scheduled", "retry_scheduled"))

    wait_for(quiet, "every execution finished", within_s=120, every_s=0.1)


def _done_between(database: Any, prefix: str, begin_us: int, end_us: int) -> tuple[int, float]:
    late = [
        (started - nominal) / 1e6
        for started, nominal in database.execute(
            "SELECT started_us, nominal_us FROM executions"
            " WHERE state = 'completed' AND stored_us BETWEEN ? AND ? AND schedule_id GLOB ?",
            (begin_us, end_us, prefix + "*"),
        )
    ]
    return len(late), percentile(late, 99) if late else 0.0


def _whole_ledger(database: Any, prefix: str, interval_us: int) -> LedgerReport:
    """All schedules' ledgers judged together."""
    ledgers: dict[str, list[tuple[int, str, int]]] = {}
    for schedule_id, nominal_us, outcome, count in database.execute(
        "SELECT schedule_id, nominal_us, outcome, count FROM fires WHERE schedule_id GLOB ?", (prefix + "*",)
    ):
        ledgers.setdefault(schedule_id, []).append((nominal_us, outcome, count))
    reports = [judge_interval(rows, interval_us) for rows in ledgers.values()]
    return LedgerReport(
        nominal_times=sum(report.nominal_times for report in reports),
        executed=sum(report.executed for report in reports),
        missing=sum(report.missing for report in reports),
        not_executed=sum(report.not_executed for report in reports),
    )
