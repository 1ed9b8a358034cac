"""W1 and W2: jobs in bulk, and one job at a time; and Wiso: the latter in a worker process."""

from __future__ import annotations

import time

import msgspec

from benchmarks.load import Connection, LoadError, LoadResult, closed_loop, deal
from benchmarks.procs import Deployment, accounting, wait_for
from benchmarks.report import Measured
from benchmarks.stats import percentile

# Jobs per request: what a client's submit_many sends at a time, far below the API's limit of 10,000.
CHUNK = 1_000
NOOP = {"handler_id": "demo", "job_method": "noop"}


def finished(control: Connection) -> int:
    """How many executions have completed in all."""
    return int(control.call("GET", "/api/executions/stats")["by_status"].get("completed", 0))


def bulk(deployed: Deployment, measured: Measured, *, jobs: int, callers: int = 2, work: str = "W1") -> None:
    """W1: submit ``jobs`` no-ops, ``CHUNK`` to a request; the clock stops when the last result is recorded."""
    target, control = deployed.target, deployed.control
    request = target.encode("POST", "/api/executions", msgspec.json.encode({"executions": [NOOP] * CHUNK}))
    requests = [request] * (jobs // CHUNK)
    before = finished(control)
    with accounting(deployed.processes) as cpu:
        begin = time.perf_counter()
        load = closed_loop(target, deal(requests, callers))
        submitted = time.perf_counter()
        if load.odd:
            raise LoadError(f"a bulk submission was answered {load.odd}")
        # One cheap question that the server answers when it is over, instead of many while it works …
        last = msgspec.json.decode(load.last_body)["ids"][-1]
        control.call("GET", f"/api/executions/{last}?wait_s=60")
        # … and the count, because the last one submitted need not be the last one done.
        wait_for(lambda: finished(control) >= before + jobs, f"{jobs} jobs completed", within_s=30, every_s=0.005)
        end = time.perf_counter()
    if (done := finished(control) - before) != jobs:
        raise LoadError(f"{jobs} jobs were submitted, but {done} were completed")
    measured.add("w1_jobs_per_s", jobs / (end - begin))
    measured.add("w1_submitted_per_s", jobs / (submitted - begin))
    measured.add_cpu(work, cpu.per_thousand(jobs))


def one_by_one(deployed: Deployment, measured: Measured, *, jobs: int) -> None:
    """W2: one caller, ``run_now`` and wait for the result."""
    load = _run_now(deployed, measured, jobs=jobs, callers=1, work="W2")
    measured.add("w2_p50_s", percentile(load.latencies_s, 50))
    measured.add("w2_p99_s", percentile(load.latencies_s, 99))


def sixteen_callers(deployed: Deployment, measured: Measured, *, jobs: int) -> None:
    """Not in the budget: how many ``run_now`` a second there can be."""
    load = _run_now(deployed, measured, jobs=jobs, callers=16, work="W2, 16 callers")
    measured.add("w2_16_callers_per_s", load.per_second)
    measured.add("w2_16_callers_p99_s", percentile(load.latencies_s, 99))


def isolated(deployed: Deployment, measured: Measured, *, jobs: int, rounds: int = 4) -> None:
    """Wiso: W2 in the node and in a warm worker process, in turn; what the process costs each job, at p50."""
    target = deployed.target
    plain, process = (
        target.encode("POST", "/api/run_now", msgspec.json.encode({**NOOP, "wait_s": 30, "options": options}))
        for options in ({}, {"isolation": "process"})
    )
    closed_loop(target, deal([plain, process] * 20, 1), expect=(200,))
    latencies: dict[bytes, list[float]] = {plain: [], process: []}
    for _ in range(rounds):
        for request, seen in latencies.items():
            load = closed_loop(target, deal([request] * (jobs // rounds), 1), expect=(200,))
            if load.odd:
                raise LoadError(f"run_now was answered {load.odd}")
            seen.extend(load.latencies_s)
    at_half = {request: percentile(seen, 50) for request, seen in latencies.items()}
    measured.add("wiso_p50_s", at_half[process])
    measured.add("wiso_overhead_s", max(0.0, at_half[process] - at_half[plain]))


def _run_now(deployed: Deployment, measured: Measured, *, jobs: int, callers: int, work: str) -> LoadResult:
    request = deployed.target.encode("POST", "/api/run_now", msgspec.json.encode({**NOOP, "wait_s": 30}))
    closed_loop(deployed.target, deal([request] * 20 * callers, callers), expect=(200,))
    with accounting(deployed.processes) as cpu:
        load = closed_loop(deployed.target, deal([request] * jobs, callers), expect=(200,))
    if load.odd:
        raise LoadError(f"run_now was answered {load.odd}")
    measured.add_cpu(work, cpu.per_thousand(jobs))
    return load
