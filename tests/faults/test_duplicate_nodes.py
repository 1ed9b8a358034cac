"""Two processes under one node id (C18), for real: newcomers, successors, copies, and holders that were only away."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedule_zero.testbed.history import FaultKind
from tests.faults.beside import honest_work, judged
from tests.faults.cable import Cable
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import CHAOS, FAST, Bed
from tests.system.processes import NodeProcess

PART, WHAT = "6 hostile peers", "one node id, two processes"
whole = pytest.mark.skipif(SIZE.sweep is not None, reason="only with FAULTS=full: each takes seconds")


def node_from(bed: Bed, folder: Path, node_id: str = "n1") -> NodeProcess:
    """A process under ``node_id`` with a state directory of its own in ``folder``."""
    folder.mkdir(exist_ok=True)
    node = NodeProcess(
        folder,
        bed.server.addresses["zmq"],
        CHAOS,
        node_id=node_id,
        env={"SCHEDULE_ZERO_CHAOS_LEDGER": str(bed.ledger_file)},
    )
    # What is done to it is done to no node that the server knows.
    bed.note(node, "node:hostile")
    return node


@pytest.fixture
def cable(bed: Bed) -> Iterator[Cable]:
    """To a server whose leases are long enough for a newcomer to come while a holder is silent."""
    bed.start_server(env=FAST | {"SCHEDULE_ZERO_DISPATCH__LEASE_S": "12"})
    with Cable(bed.server.addresses["zmq"]) as made:
        yield made


def holder(bed: Bed) -> int:
    """The process that has the name n1, by what the server says."""
    nodes = bed.client.get("/api/nodes").json()["nodes"]
    return next(int(node["pid"]) for node in nodes if node["id"] == "n1")


@whole
def test_c18_newcomers_are_denied_with_the_reason_and_the_holder_works_on(bed: Bed, tried) -> None:
    t = tried(PART, WHAT)
    bed.start_server(env={})
    incumbent = bed.start_node()
    many = min(SIZE.peers, 10)

    with honest_work(bed, f"{many} newcomers", kind=FaultKind.DUPLICATE):
        newcomers = [node_from(bed, bed.folder / f"other{number}") for number in range(many)]
        for newcomer in newcomers:
            assert newcomer.popen.wait(60) == 4
            assert "in use by a living process on" in newcomer.output()
            assert f"pid {incumbent.pid}" in newcomer.output()
            t.faults += 1
        assert holder(bed) == incumbent.pid

    judged(bed, t)


@whole
def test_c18_a_restart_from_the_same_state_directory_takes_over_at_once(bed: Bed, tried) -> None:
    t = tried(PART, WHAT)
    # With a lease of 15 s: nobody waits for it.
    bed.start_server(env={})
    node = bed.start_node()
    for _ in range(min(SIZE.kills, 10)):
        [id_] = bed.submit(1, "sleep", seconds=0.2)
        eventually_sync(lambda: bed.starts()[id_], within_s=20)
        node.kill()
        # (Its successor may begin with it before it is seen to be online.)
        bed.faults.works_again("node:n1")
        node = bed.start_node()
        t.faults += 1
        eventually_sync(lambda: holder(bed) == node.pid, within_s=10)
        done = bed.execution(id_, wait_s=10)
        assert (done["status"], done["attempt"]) == ("completed", 2)

    bed.judge(t)


def test_c18_of_a_copied_state_directory_the_later_process_works_and_the_earlier_ends_at_once(bed: Bed, tried) -> None:
    """Both know the same secret, and the copy counts one start more: nothing tells it from a restart."""
    t = tried(PART, WHAT)
    bed.start_server(env={})
    first = bed.start_node()
    ids = bed.submit(16 if SIZE.sweep else 40, "sleep", seconds=1.0)
    eventually_sync(lambda: len(bed.starts()) >= 4, within_s=20)
    shutil.copytree(bed.folder / "nodes", bed.folder / "copy" / "nodes")

    fault = bed.faults.begin(FaultKind.DUPLICATE, "node:n1", "its state directory was copied")
    second = node_from(bed, bed.folder / "copy")
    t.faults += 1
    # In less than a heartbeat.
    assert first.popen.wait(20) == 4
    assert "from a copy of it" in first.output()
    bed.faults.end(fault)

    for id_ in ids:
        assert bed.execution(id_, wait_s=40)["status"] == "completed"
    # From the moment at which the later one works, the earlier does nothing.
    lines = bed.ledger()
    taken_ns = min((line.mono_ns for line in lines if line.pid == second.pid), default=lines[-1].mono_ns)
    late = [line for line in lines if line.pid == first.pid and line.mono_ns > taken_ns + 1_000_000_000]
    assert late == []
    bed.judge(t)


@whole
@pytest.mark.parametrize("how", ["stopped", "cut off"])
def test_c18_a_silent_holder_keeps_its_name_for_its_lease_and_ends_when_it_is_heard_again(
    bed: Bed, cable: Cable, tried, how: str
) -> None:
    t = tried(PART, WHAT)
    first = bed.start_node(server=cable.address)
    [id_] = bed.submit(1, "sleep", seconds=0.5)
    eventually_sync(lambda: bed.starts()[id_], within_s=20)
    if how == "stopped":
        first.signal(signal.SIGSTOP)
    else:
        bed.faults.begin(FaultKind.PARTITION, "node:n1", "both ways")
        cable.cut()
    eventually_sync(lambda: bed.node_state("n1") in ("suspect", "lost"), within_s=10)
    bed.faults.begin(FaultKind.DUPLICATE, "node:n1", f"a newcomer, while the holder is {how}")
    second = node_from(bed, bed.folder / "other")
    t.faults += 1

    eventually_sync(lambda: holder(bed) == second.pid and bed.node_state("n1") == "online", within_s=40)
    done = bed.execution(id_, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 2)
    assert "is silent now" in second.output()

    if how == "stopped":
        first.signal(signal.SIGCONT)
    else:
        cable.mend()
    assert first.popen.wait(30) == 4
    assert holder(bed) == second.pid
    more = bed.submit(8, "ok")
    assert [bed.execution(id_, wait_s=20)["status"] for id_ in more] == ["completed"] * 8
    bed.judge(t)
