"""Wcancel: a running job is cancelled, and its node confirms."""

from __future__ import annotations

import time

from benchmarks.procs import Deployment, wait_for
from benchmarks.report import Measured
from benchmarks.stats import percentile


def confirmed(deployed: Deployment, measured: Measured, *, jobs: int) -> None:
    """Asynchronous jobs that never end by themselves: from the request to the end that the node has confirmed.

    As many run as the node has slots; each is cancelled by itself, while the others go on.
    """
    control = deployed.control
    hold = {"handler_id": "bench", "job_method": "hold"}
    latencies: list[float] = []
    while len(latencies) < jobs:
        ids = control.call("POST", "/api/executions", {"executions": [hold] * deployed.slots})["ids"]

        def all_run(ids: list[str] = ids) -> bool:
            return all(control.call("GET", f"/api/executions/{id_}")["started_at"] is not None for id_ in ids)

        wait_for(all_run, "the jobs run", within_s=10, every_s=0.01)
        for id_ in ids:
            begin = time.perf_counter()
            control.call("POST", f"/api/executions/{id_}/cancel")
            shown = control.call("GET", f"/api/executions/{id_}?wait_s=10")
            latencies.append(time.perf_counter() - begin)
            if shown["status"] != "cancelled":
                raise AssertionError(f"a cancelled job ended as {shown['status']}")
    measured.add("wcancel_p50_s", percentile(latencies, 50))
    measured.add("wcancel_p99_s", percentile(latencies, 99))
