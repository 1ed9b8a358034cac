"""W9: log lines through one node, and what they do to a job that is run meanwhile."""

from __future__ import annotations

import threading
import time

import msgspec

from benchmarks.load import LoadError, closed_loop, deal
from benchmarks.procs import Deployment, accounting, wait_for
from benchmarks.report import Measured
from benchmarks.stats import percentile
from benchmarks.workloads.jobs import NOOP

# So many jobs talk at once; each may say 8 MiB in all (``limits.log_bytes``, with the time before each line).
TALKERS = 3
MEGABYTES = 6.0


def talking(deployed: Deployment, measured: Measured, *, rounds: int, megabytes_per_s: float, jobs: int) -> None:
    """Run no-ops one by one, in silence and while other jobs of their node print; all lines have to arrive."""
    silent_s = _singles(deployed, jobs)
    seconds = MEGABYTES * TALKERS / megabytes_per_s
    body = {"handler_id": "bench", "job_method": "talk", "job_params": {"megabytes": MEGABYTES, "seconds": seconds}}
    control = deployed.control
    latencies: list[float] = []
    over = threading.Event()
    with accounting(deployed.processes) as cpu:
        begin = time.perf_counter()
        side = threading.Thread(target=_until, args=(deployed, over, latencies))
        side.start()
        ids: list[str] = []
        said = 0
        for _ in range(rounds):
            batch = control.call("POST", "/api/executions", {"executions": [body] * TALKERS}, expect=(202,))["ids"]
            ids += batch
            for id_ in batch:
                record = control.call("GET", f"/api/executions/{id_}?wait_s=60")
                if record["status"] != "completed":
                    raise LoadError(f"a job that talks is {record['status']}")
                said += record["result"]
        over.set()
        side.join()
        wait_for(lambda: all(_complete(deployed, id_) for id_ in ids), "all logs complete", within_s=60)
        end = time.perf_counter()
    left_out = _left_out(deployed)
    if left_out:
        measured.note(f"W9: {left_out:,} lines were left out")
    measured.add("w9_log_mb_per_s", said / 1e6 / (end - begin))
    # Before and after, for the machine drifts.
    silent_s = (silent_s + _singles(deployed, jobs)) / 2
    talking_s = percentile(latencies, 50)
    measured.add("w9_silent_p50_s", silent_s)
    measured.add("w9_talking_p50_s", talking_s)
    measured.add("w9_p50_growth_share", talking_s / silent_s - 1)
    measured.add("w9_talking_p99_s", percentile(latencies, 99))
    measured.add_cpu("W9", cpu.per_thousand(max(1, round(said / 1e6))))


def _singles(deployed: Deployment, jobs: int) -> float:
    request = deployed.target.encode("POST", "/api/run_now", msgspec.json.encode({**NOOP, "wait_s": 30}))
    closed_loop(deployed.target, deal([request] * 20, 1), expect=(200,))
    load = closed_loop(deployed.target, deal([request] * jobs, 1), expect=(200,))
    if load.odd:
        raise LoadError(f"run_now was answered {load.odd}")
    return percentile(load.latencies_s, 50)


def _until(deployed: Deployment, over: threading.Event, latencies: list[float]) -> None:
    """One no-op after the other."""
    request = deployed.target.encode("POST", "/api/run_now", msgspec.json.encode({**NOOP, "wait_s": 30}))
    while not over.is_set():
        load = closed_loop(deployed.target, deal([request] * 20, 1), expect=(200,))
        latencies += load.latencies_s


def _complete(deployed: Deployment, execution_id: str) -> bool:
    return bool(deployed.control.call("GET", f"/api/executions/{execution_id}/logs?tail=0")["complete"])


def _left_out(deployed: Deployment) -> int:
    """Of all logs so far, by the log itself."""
    found = 0
    for record in deployed.control.call("GET", "/api/executions?job_method=talk&handler_id=bench&limit=100")["records"]:
        page = deployed.control.call("GET", f"/api/executions/{record['id']}/logs?grep=lines%20left%20out&limit=100")
        found += sum(line["stream"] == "node" for line in page["lines"])
    return found
