"""Peers that keep to no protocol, at the real ports of a real server, beside a node and a client that do.

Whatever they send, the honest work goes on: every job is done at its first attempt, nothing is lost, and what the
server spends on them is bounded and comes back (C17).
"""

from __future__ import annotations

import pytest

from tests.faults.beside import honest_work, judged
from tests.faults.hostile import QUICK, SLOW, Attack
from tests.sizes import SIZE
from tests.system.bed import Bed

PART, WHAT = "6 hostile peers", "hostile peers beside honest work"
WHOLE = SIZE.sweep is None


@pytest.mark.parametrize(
    "attacks",
    [[attack] for attack in (*QUICK, *SLOW)] if WHOLE else [QUICK],
    ids=lambda attacks: attacks[0].__name__ if len(attacks) == 1 else "sample",
)
def test_c17_whatever_comes_over_the_ports_costs_little_and_harms_no_honest_work(
    bed: Bed, tried, attacks: list[Attack]
) -> None:
    t = tried(PART, WHAT)
    bed.start_server(env={})
    bed.start_node()

    with honest_work(bed, ", ".join(attack.__name__ for attack in attacks)):
        for attack in attacks:
            t.faults += attack(bed, SIZE.peers)

    judged(bed, t)
