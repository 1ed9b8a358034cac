"""What large results leave behind in the processes that they went through: nothing.

Without ``cli/memory.py`` the C library keeps, for each thread, as much as that thread ever had: of the results below a
node kept 60 MiB.
"""

from __future__ import annotations

import psutil
import pytest

from tests.support import eventually_sync
from tests.system.bed import Bed
from tests.system.processes import Process

SLOTS = 8
COUNT = 2 * SLOTS
SIZE = 2_500_000
# Threads' stacks, what is imported with the first large result; a part of one that is under way.
ROOM_MIB = 24


def own_mib(process: Process) -> float:
    """The memory that nobody shares with it."""
    return float(psutil.Process(process.pid).memory_full_info().uss) / 2**20


@pytest.mark.slow
def test_large_results_leave_no_memory_behind_in_a_node(bed: Bed) -> None:
    bed.start_server(env={})
    node = bed.start_node(slots=SLOTS)
    before_mib = own_mib(node)

    bed.submit(COUNT, "big", size=SIZE)

    eventually_sync(lambda: bed.states() == {"completed": COUNT}, within_s=60)
    eventually_sync(lambda: own_mib(node) < before_mib + ROOM_MIB, within_s=5)
