"""Processes are killed and stopped at random moments while clients ask and schedules fire: what was promised is kept.

A seed says what is hit and how long it is away; when exactly it is hit, and amid what, is chance.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.traffic import Traffic
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import FAST, Bed
from tests.system.processes import NodeProcess, Process
from tests.tried import Tried

NODES = ("n1", "n2")
# So many in one test, so that several workers share them.
AT_ONCE = 10
FIRST = int(os.environ.get("FIRST_SEED", "0"))
# Delays can't be judged where processes are away half of the time, on a machine that has two cores for all of them.
LATE_S = 30.0


class Storm:
    """A server and two nodes, and what happens to them."""

    def __init__(self, bed: Bed, seed: int, env: dict[str, str]) -> None:
        self.bed = bed
        self.random = random.Random(seed)
        bed.start_server(env=env)
        self.nodes: dict[str, NodeProcess] = {name: bed.start_node(name) for name in NODES}

    def wait(self, least_s: float, most_s: float) -> None:
        """Let it go on for a while: how long is the seed's."""
        until = time.monotonic() + self.random.uniform(least_s, most_s)
        eventually_sync(lambda: time.monotonic() >= until, within_s=most_s + 1, every_s=0.005)

    def kill(self) -> None:
        """The server, a node, or one after the other; and back."""
        self.wait(0.0, 0.8)
        victim = self.random.choice(("server", "server", "node", "both"))
        name = self.random.choice(NODES)
        if victim != "node":
            self.bed.server.kill()
        if victim == "both":
            # What ends meanwhile lies in the outbox when the node dies (C9).
            self.wait(1.2, 1.6)
        if victim != "server":
            self.nodes[name].kill()
        self.wait(0.0, 0.3)
        if victim != "node":
            self.bed.restart_server()
        if victim != "server":
            # Sometimes it stays away for longer than its lease.
            if self.random.random() < 0.2:
                self.wait(2.3, 3.0)
            self.nodes[name] = self.bed.start_node(name)

    def stop(self) -> None:
        """SIGSTOP for longer than the lease, then SIGCONT: a node, or the server."""
        self.wait(0.0, 0.8)
        process: Process = self.bed.server
        if self.random.random() < 0.7:
            process = self.nodes[self.random.choice(NODES)]
        process.signal(signal.SIGSTOP)
        self.wait(2.4, 4.0)
        process.signal(signal.SIGCONT)
        for name in NODES:
            self.bed.wait_online(name)


def weather(
    bed: Bed,
    seed: int,
    line: Tried,
    count: int,
    harm: Callable[[Storm], None],
    *,
    env: dict[str, str] = FAST,
    grace_s: float | None = None,
) -> None:
    """So many times harm under traffic; then everything comes to rest, and is judged."""
    storm = Storm(bed, seed, env)
    with Traffic(bed, seed, grace_s=grace_s) as traffic:
        for _ in range(count):
            harm(storm)
            line.faults += 1
    traffic.finish()
    report = bed.judge(line, late_s=LATE_S)
    assert traffic.answered > count
    assert report.seen["ledger lines"] > count


def parts(whole: int) -> list[int]:
    """So many, in portions."""
    return [min(AT_ONCE, whole - begun) for begun in range(0, whole, AT_ONCE)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "count"), list(enumerate(parts(SIZE.kills), FIRST)))
def test_processes_killed_at_random_lose_nothing_and_run_nothing_twice(bed, tried, seed, count):
    line = tried("1 kills", "SIGKILL of server, node, or both, at random moments")
    # With short leases a node stays away for longer than its own; with those of the default the server never does, so
    # that nothing is run again for its absence (C11). And of what it comes too late for, some is caught up (C3).
    env = FAST if seed % 2 else {}
    weather(bed, seed, line, count, Storm.kill, env=env, grace_s=1.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "count"), list(enumerate(parts(SIZE.stops), FIRST)))
def test_processes_stopped_beyond_the_lease_are_fenced_when_they_go_on(bed, tried, seed, count):
    weather(bed, seed, tried("1 stops", "SIGSTOP beyond the lease, then SIGCONT"), count, Storm.stop)
