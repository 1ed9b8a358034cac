"""Peers that keep to no protocol, or keep to it and lie, at the real ports of a real server, beside honest work.

Whatever they send, the honest node and client go on: every job is done at its first attempt, nothing is lost, what
the server spends on them is bounded and comes back, and so are the lines in its log (C17).
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.faults.beside import honest_work, judged
from tests.faults.hostile import QUICK, SLOW, Attack, announces_too_much, never_ends_a_message
from tests.faults.liars import LIES, SLOW_LIES, claims_what_others_do, sends_what_is_malformed
from tests.faults.raw_zmtp import RawPeer
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import Bed

PART = "6 hostile peers"
WHOLE = SIZE.sweep is None
ATTACKS: list[list[Attack]] = [[attack] for attack in (*QUICK, *SLOW)] if WHOLE else [
    [never_ends_a_message, announces_too_much]
]  # fmt: skip
TOLD: list[list[Attack]] = [LIES, SLOW_LIES] if WHOLE else [[claims_what_others_do, sends_what_is_malformed]]


@pytest.mark.parametrize("attacks", ATTACKS, ids=lambda attacks: attacks[0].__name__)
def test_c17_whatever_comes_over_the_ports_costs_little_and_harms_no_honest_work(
    bed: Bed, tried, attacks: list[Attack]
) -> None:
    t = tried(PART, "peers that keep to no protocol")
    bed.start_server(env={})
    bed.start_node()

    with honest_work(bed, ", ".join(attack.__name__ for attack in attacks)):
        for attack in attacks:
            t.faults += attack(bed, SIZE.peers)

    judged(bed, t)


@pytest.mark.parametrize("lies", TOLD, ids=lambda lies: lies[0].__name__)
def test_c17_whatever_a_node_claims_of_others_is_not_believed(bed: Bed, tried, lies: list[Attack]) -> None:
    t = tried(PART, "nodes that lie")
    bed.start_server(env={})
    bed.start_node()

    # (Lines about nodes that come and go are one for each.)
    with honest_work(bed, ", ".join(lie.__name__ for lie in lies), log_lines=200):
        for lie in lies:
            t.faults += lie(bed, min(SIZE.messages, 5_000))

    judged(bed, t)


@pytest.mark.skipif(not WHOLE, reason="only with FAULTS=full: it takes seconds")
@pytest.mark.parametrize("port", ["http", "zmq"])
def test_c17_connections_on_which_nothing_comes_leave_descriptors_for_the_work(bed: Bed, tried, port: str) -> None:
    """A server that may have few descriptors: with none left it could neither take a node, nor open a file."""
    t = tried(PART, "more connections than descriptors")
    most = 200
    bed.launch_server(env={}, under=["prlimit", f"--nofile={most}:{most}"])
    bed.server.wait_ready()
    bed.server_is_up()
    bed.start_node()

    with honest_work(bed, f"{2 * most} connections to {port}") as watch, ExitStack() as stack:
        for _ in range(2 * most):
            stack.enter_context(RawPeer(bed.server.addresses[port]))
            t.faults += 1
        # Those that are left, and what the server had before.
        eventually_sync(lambda: watch.process.num_fds() < most * 3 // 4, within_s=10)
        newcomer = bed.start_node("n2")
        assert newcomer.alive()

    judged(bed, t)
