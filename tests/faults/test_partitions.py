"""The network between nodes and server is cut under traffic, in every way in which one can be, and comes back.

From a second to twice the lease. (For six hours: on the virtual clock, ``tests/simulation``.)
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from zlib import crc32

import pytest

from schedule_zero.testbed.history import FaultKind
from tests.faults.cable import Cable
from tests.faults.traffic import Traffic
from tests.sizes import SIZE
from tests.support import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NODES = ("n1", "n2")
# Name → what is done to a cable. ``resets`` is done again and again.
WAYS: dict[str, Callable[[Cable], None]] = {
    "both ways": Cable.cut,
    "to the server": lambda cable: cable.cut(back=False),
    "to the node": lambda cable: cable.cut(up=False),
    "link down": Cable.take_down,
    "resets": Cable.reset,
    "a byte at a time": Cable.trickle,
}
CHOSEN = list(WAYS) if SIZE.sweep is None else ["both ways", "resets"]
LATE_S = 30.0


@pytest.fixture
def cables(bed) -> Iterator[dict[str, Cable]]:
    """A server with two nodes, each behind a cable."""
    bed.start_server()
    with ExitStack() as stack:
        made = {name: stack.enter_context(Cable(bed.server.addresses["zmq"])) for name in NODES}
        for name, cable in made.items():
            bed.start_node(name, server=cable.address)
        yield made


@pytest.mark.parametrize("way", CHOSEN)
def test_a_partition_of_any_length_loses_nothing_and_runs_nothing_twice(bed, cables, tried, way):
    line = tried("3 partitions", f"partition: {way}")
    rng = random.Random(crc32(way.encode()))
    with Traffic(bed, seed=1) as traffic:
        for _ in range(SIZE.cuts):
            # One node, or all of them; for a moment, about as long as the lease (2 s), or twice as long.
            names = rng.choice((("n1",), ("n2",), NODES))
            faults = [bed.faults.begin(FaultKind.PARTITION, f"node:{name}", way) for name in names]
            began = time.monotonic()
            length_s = rng.choice((1.0, 2.0, 4.0)) * rng.uniform(0.9, 1.1)
            for name in names:
                WAYS[way](cables[name])
            eventually_sync(lambda: _over(began, length_s, way, cables, names), within_s=length_s + 5, every_s=0.1)
            for name in names:
                cables[name].mend()
            for name in names:
                eventually_sync(lambda name=name: bed.node_state(name) == "online", within_s=30)
            for fault in faults:
                bed.faults.end(fault)
            line.faults += len(names)
    traffic.finish()
    bed.judge(line, late_s=LATE_S)
    assert traffic.answered > 10


def _over(began: float, length_s: float, way: str, cables: dict[str, Cable], names: tuple[str, ...]) -> bool:
    if way == "resets":
        for name in names:
            cables[name].reset()
    return time.monotonic() - began >= length_s
