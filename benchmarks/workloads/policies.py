"""What each policy of job options costs: W1 with it beside W1 without, in turn."""

from __future__ import annotations

import itertools
from collections import deque
from statistics import median

import msgspec

from benchmarks.policies import KEYS, PLAIN, POLICIES
from benchmarks.procs import Deployment
from benchmarks.report import Measured
from benchmarks.workloads.jobs import CHUNK, Timed, timed_bulk

_numbers = itertools.count()


def overhead(deployed: Deployment, measured: Measured, *, jobs: int, rounds: int) -> None:
    """Time and CPU per job of each policy, as a share of what a job costs without any: medians over ``rounds``.

    A single run of so few jobs is off by a tenth either way.
    """
    seen: dict[str, list[Timed]] = {name: [] for name in (PLAIN, *POLICIES)}
    turn = deque(seen)
    for _ in range(rounds):
        for name in turn:
            seen[name].append(bulk(deployed, name, jobs=jobs))
        # Nobody is always the first, nor always behind the same one.
        turn.rotate(1)
    plain = seen.pop(PLAIN)
    for name, runs in seen.items():
        seconds = median(run.seconds for run in runs) / median(run.seconds for run in plain)
        cpu_s = median(run.cpu_s for run in runs) / median(run.cpu_s for run in plain)
        measured.add(f"policy_{name}_share", seconds - 1)
        measured.add(f"policy_{name}_cpu_share", cpu_s - 1)


def bulk(deployed: Deployment, name: str, *, jobs: int) -> Timed:
    """Submit ``jobs`` under the policy ``name``, and wait for their results."""
    return timed_bulk(deployed, _requests(deployed, name, jobs), jobs)


def _requests(deployed: Deployment, name: str, jobs: int) -> list[bytes]:
    work = {"handler_id": "policies", "job_method": name}
    bodies = [
        msgspec.json.encode(
            {
                "executions": [
                    {**work, "job_params": {"k": number % KEYS, "n": number}}
                    for number in itertools.islice(_numbers, CHUNK)
                ]
            }
        )
        for _ in range(0, jobs, CHUNK)
    ]
    return [deployed.target.encode("POST", "/api/executions", body) for body in bodies]
