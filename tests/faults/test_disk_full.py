"""Disks that are really full: a small tmpfs, to its last page or its last file (C9, C13).

The server's state directory lies on one, the node's on another. What is stored stays stored, what has no room is
refused, and as soon as there is room again all goes on, with no restart.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schedule_zero.testbed.history import SERVER
from tests.faults.patient import DONE_S, HEALED_S, Patient, Trial, named, series
from tests.support import eventually_sync
from tests.system.bed import Bed, Own
from tests.system.processes import Process, ServerProcess
from tests.tried import Tried

PART = "4 disk full"
MIB = 1 << 20
# The kernel's word, and those of SQLite.
REASONS = ("No space left on device", "database or disk is full", "unable to open database file", "disk I/O error")
Begin = Callable[[str, str], Tried]


class TinyDisk:
    """A tmpfs of its own, which a ballast fills up."""

    def __init__(self, path: Path, mib: int, files: int) -> None:
        self.path = path
        path.mkdir(mode=0o700)
        options = f"size={mib}m,nr_inodes={files},mode=700"
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"no tmpfs can be mounted here (that needs root): {made.stderr.strip()}")

    @contextmanager
    def full(self, *, but: int = 0) -> Iterator[None]:
        """Without a free byte, or with so many; there is room again after it."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            status = os.statvfs(self.path)
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_bsize - but)
        try:
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """Room enough, and not for one more file."""
        folder = self.path / "crowd"
        folder.mkdir()
        for number in range(os.statvfs(self.path).f_favail):
            (folder / str(number)).touch()
        try:
            yield
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True, capture_output=True)


# Those of the test that runs now: one for the server, one for the node.
DISKS: dict[str, TinyDisk] = {}


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[None]:
    try:
        DISKS["server"] = TinyDisk(tmp_path / "state", mib=12, files=200)
        DISKS["node"] = TinyDisk(tmp_path / "nodes", mib=4, files=100)
        yield
    finally:
        for disk in DISKS.values():
            disk.unmount()
        DISKS.clear()


def refuses(process: Process) -> None:
    """It ends with a sentence, and with a code after which it is worth to be started again."""
    assert process.popen.wait(60) == 5, process.output()
    said = process.output().rstrip().splitlines()[-1]
    assert said.startswith("error: "), said
    assert any(reason in said for reason in REASONS), said
    assert "Traceback" not in process.output()


# --- the server's --------------------------------------------------------------------------------------


def full_server(patient: Patient, tried: Tried) -> None:
    """Not a byte: what needs one is refused, the rest goes on, and room heals it."""
    disk = DISKS["server"]
    with patient.trouble(SERVER, "full"):
        with disk.full():
            patient.refused()
            patient.work()
            patient.is_red()
            tried.faults += 1
        eventually_sync(lambda: patient.health() == "ok", within_s=HEALED_S)
    patient.cancel_the_rest()
    eventually_sync(patient.all_done, within_s=DONE_S)


def self_filled_server(patient: Patient, tried: Tried) -> None:
    """The server takes the last room itself, for what it acknowledges and for what comes in."""
    disk = DISKS["server"]
    with patient.trouble(SERVER, "full of its own"):
        with disk.full(but=2 * MIB):
            eventually_sync(lambda: not patient.submit(10, value="z" * 30_000), within_s=DONE_S)
            patient.work()
            patient.is_red()
            tried.faults += 1
        eventually_sync(lambda: patient.health() == "ok", within_s=HEALED_S)
    patient.cancel_the_rest()
    eventually_sync(patient.all_done, within_s=DONE_S)


def crowded_server(patient: Patient, tried: Tried) -> None:
    """Room, and no file more: a running server needs none."""
    with patient.trouble(SERVER, "no more files"), DISKS["server"].crowded():
        patient.work()
        assert not patient.refusals
        eventually_sync(patient.all_done, within_s=DONE_S)
        assert patient.health() == "ok"
        tried.faults += 1


def starts_of_the_server(patient: Patient, tried: Tried) -> None:
    """On a full disk there is none, which is said; with room again, all is there."""
    bed = patient.bed
    bed.server.kill()
    for lack in (DISKS["server"].full, DISKS["server"].crowded):
        with lack():
            server = ServerProcess(bed.folder)
            bed.own(server)
            refuses(server)
            tried.faults += 1
    bed.restart_server()


# --- a node's ------------------------------------------------------------------------------------------


def full_node(patient: Patient, tried: Tried) -> None:
    """Results wait in memory; they and their executions are not done before they are on the disk."""
    bed = patient.bed
    with patient.trouble("node:n1", "full"):
        with DISKS["node"].full():
            ids = bed.submit(8, "ok", value="v" * 5_000)
            eventually_sync(lambda: "outbox_unwritable" in patient.node.output(), within_s=DONE_S)
            assert any(bed.execution(id_)["status"] == "running" for id_ in ids)
            assert bed.node_state("n1") == "online"
            tried.faults += 1
        eventually_sync(lambda: patient.completed(ids), within_s=DONE_S)
    patient.once_each()


def crowded_node(patient: Patient, tried: Tried) -> None:
    """Small results go on; a large one, which has a file of its own, waits for that."""
    bed = patient.bed
    with patient.trouble("node:n1", "no more files"):
        with DISKS["node"].crowded():
            large = bed.submit(1, "big", size=1_500_000)
            small = bed.submit(3, "ok")
            eventually_sync(lambda: patient.completed(small), within_s=DONE_S)
            eventually_sync(lambda: "big_result_unwritable" in patient.node.output(), within_s=DONE_S)
            assert bed.execution(large[0])["status"] == "running"
            tried.faults += 1
        eventually_sync(lambda: patient.completed(large), within_s=DONE_S)
    patient.once_each()


def starts_of_the_node(patient: Patient, tried: Tried) -> None:
    """As with the server; what waited in its outbox is delivered by the start that succeeds."""
    bed = patient.bed
    patient.node.kill()
    with DISKS["node"].full():
        refuses(bed.start_node(wait=False))
    # One that was there before needs no more files; a new one does.
    with DISKS["node"].crowded():
        refuses(bed.start_node("n2", wait=False))
    tried.faults += 2
    bed.faults.works_again("node:n1")
    patient.node = bed.start_node()
    ids = bed.submit(2, "ok")
    eventually_sync(lambda: patient.completed(ids), within_s=DONE_S)


# --- the test ------------------------------------------------------------------------------------------

_SERVER = "the server's disk full (pages, files)"
_NODE = "a node's disk full (pages, files)"
TRIALS = [
    Trial("server-full", _SERVER, full_server),
    Trial("server-fills-it", _SERVER, self_filled_server),
    Trial("server-no-file", _SERVER, crowded_server),
    Trial("node-full", _NODE, full_node),
    Trial("node-no-file", _NODE, crowded_node),
    Trial("node-starts", "a start on a full disk", starts_of_the_node),
    Trial("server-starts", "a start on a full disk", starts_of_the_server),
]
# Not in a sample: each start is a second.
LONGER = ("node-starts", "server-starts")


@pytest.fixture
def patient(disks: None, tmp_path: Path, own: Own) -> Iterator[Patient]:
    # (After ``disks``: all processes are gone before these are unmounted.)
    bed = Bed(tmp_path, own)
    made = Patient(bed)
    made.prepare()
    yield made
    bed.close()


@pytest.mark.slow
@pytest.mark.parametrize("trials", series(TRIALS, left_out=LONGER), ids=named)
def test_a_full_disk_costs_nothing_acknowledged_no_result_and_no_help(
    patient: Patient, trials: list[Trial], tried: Begin
) -> None:
    patient.undergo(trials, PART, tried)
