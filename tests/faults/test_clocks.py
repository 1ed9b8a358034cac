"""Wall clocks of server and nodes are set forward and back at random under traffic (C12), by up to a day.

Fires follow the wall clock, each nominal time once at most; leases, heartbeats, timeouts and retries don't: no node is
lost, no attempt is run again, no job waits for an hour that was taken back.
"""

from __future__ import annotations

import random

import pytest

from schedule_zero.testbed.final import load
from schedule_zero.testbed.history import SERVER, FaultKind
from tests.faults.traffic import Traffic
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.wall_clock import WallClock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(SIZE.steps == 0, reason="tests/system/test_clock_steps.py is the sample"),
]

NODES = ("n1", "n2")
STEPS_S = (1, 60, 600, 3600, 86_400)


def test_clocks_that_are_set_at_random_repeat_no_fire_and_lose_no_node(bed, tmp_path, tried):
    line = tried("6 clocks", "a wall clock of server or node set forward or back, by 1 s to a day")
    clocks = {name: WallClock(tmp_path / f"clock-{name}") for name in (SERVER, *NODES)}
    targets = {SERVER: SERVER, **{name: f"node:{name}" for name in NODES}}
    # (With leases of 15 s: a busy machine is no reason to lose a node.)
    bed.start_server(env=clocks[SERVER].env)
    for name in NODES:
        bed.start_node(name, env=clocks[name].env)
    for target in targets.values():
        # To the end: what was decided by one clock is compared with what was decided by another.
        bed.faults.begin(FaultKind.CLOCK, target)
    rng = random.Random(12)

    with Traffic(bed, seed=2) as traffic:
        for _ in range(SIZE.steps):
            name = rng.choice((SERVER, *NODES))
            clocks[name].set(rng.choice((-1, 1)) * rng.choice(STEPS_S))
            line.faults += 1
            before = traffic.answered
            # Its process has noticed, and was asked for something since.
            eventually_sync(clocks[name].is_read, within_s=5)
            eventually_sync(lambda before=before: traffic.answered > before + 5, within_s=30)
    traffic.finish(fires=False)

    report = bed.judge(line, late_s=30.0)
    assert report.seen["fires"] > 10
    assert "lost" not in {attempt.outcome for attempt in load(bed.server.state_dir).attempts}
