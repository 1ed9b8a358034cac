"""What each policy of job options costs: W1 with it over W1 without, one right after the other."""

from __future__ import annotations

import msgspec

from benchmarks.policies import KEYS, PLAIN, POLICIES
from benchmarks.procs import Deployment
from benchmarks.report import Measured
from benchmarks.workloads.jobs import CHUNK, timed_bulk


def overhead(deployed: Deployment, measured: Measured, *, jobs: int) -> None:
    """Time and CPU per job of each policy, as a share of what a job costs without any."""
    for name in POLICIES:
        plain = timed_bulk(deployed, _requests(deployed, PLAIN, jobs), jobs)
        found = timed_bulk(deployed, _requests(deployed, name, jobs), jobs)
        measured.add(f"policy_{name}_share", found.seconds / plain.seconds - 1)
        measured.add(f"policy_{name}_cpu_share", found.cpu_s / plain.cpu_s - 1)


def _requests(deployed: Deployment, name: str, jobs: int) -> list[bytes]:
    bodies = [
        msgspec.json.encode(
            {
                "executions": [
                    {"handler_id": "policies", "job_method": name, "job_params": {"k": (start + n) % KEYS}}
                    for n in range(CHUNK)
                ]
            }
        )
        for start in range(0, jobs, CHUNK)
    ]
    return [deployed.target.encode("POST", "/api/executions", body) for body in bodies]
