"""I/O errors at every write: nothing is acknowledged that was not stored, and all is well again by itself (C9, C13).

strace answers the n-th system call of a kind on the database, or on a node's outbox, with EIO or ENOSPC: that one
alone, or all from there on until it lets go. One server, and one node, goes through many such points in a row, so that
what one of them left behind meets the next. (tests/store does the same to the store alone, with SQLite's own limits.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import pytest

from schedule_zero.testbed.history import SERVER, FaultKind
from tests.faults.bad_calls import BadCall, Harm, injection
from tests.faults.patient import DONE_S, Patient, Trial, named, series
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import Bed
from tests.system.processes import ServerProcess
from tests.tried import Tried

PART = "3 disk errors"
ERRORS = ("EIO", "ENOSPC")
# What a commit calls, on the log and on the file.
COMMIT_CALLS = ("pwrite64", "fdatasync")
# What a start calls beside these: it makes files, cuts them, puts them into place.
START_CALLS = (*COMMIT_CALLS, "openat", "ftruncate", "rename", "fsync")
# A sample's points are so far apart. (Three results may go to an outbox in one write.)
STEPS = {"pwrite64": 7, "fdatasync": 2}
OUTBOX_STEP = 0
# So many calls are more than one turn of everything. (While results of earlier points come in, it is never over.)
MOST = {"pwrite64": 150, "fdatasync": 30}
# More than any start has.
NO_END = 500
LATER_ROWS = 4_000
# Not in a sample: a node's start is a second.
LONGER = ("node-killed", "checkpoint-fdatasync", "outbox-fdatasync-EIO", "outbox-ftruncate")


# --- sweeps -------------------------------------------------------------------------------------------


def points(call: str, error: str, step: int) -> Iterator[BadCall]:
    """All of a kind, each alone and with all that follow; of a sample each in one of these ways."""
    if SIZE.sweep is None:
        for n in range(1, MOST[call]):
            yield BadCall(call, n, error)
            yield BadCall(call, n, error, sticky=True)
        return
    for number in range(SIZE.sweep):
        if number % 2 == ERRORS.index(error):
            yield BadCall(call, 1 + number * step, error, sticky=(number + len(call)) % 2 == 0)


def sweep(patient: Patient, tried: Tried, *, call: str, error: str, suffer: Callable[[Patient, BadCall], int]) -> None:
    """Do it at every point, until none is reached any more."""
    missed = 0
    for point in points(call, error, OUTBOX_STEP if suffer is at_outbox else STEPS[call]):
        hits = suffer(patient, point)
        tried.faults += hits
        # Alone and with all that follow: neither was reached.
        missed = 0 if hits else missed + 1
        if missed == 2:
            break


def at_outbox(patient: Patient, point: BadCall) -> int:
    return patient.suffer_at_node(point, patient.outbox)


# --- single places ------------------------------------------------------------------------------------


def emptying(patient: Patient, tried: Tried) -> None:
    """A while after all was acknowledged the outbox is emptied; if it can't be, that costs room and no more."""
    patient.pause()
    for error in ERRORS:
        tried.faults += patient.suffer_at_node(BadCall("ftruncate", 1, error, sticky=True), patient.outbox)


def large_results(patient: Patient, tried: Tried) -> None:
    """Each has a file of its own beside the outbox, which is put into place by a rename."""
    big = partial(patient.suffer_at_node, files=(), method="big", size=2 << 20)
    for point in (BadCall("rename", 1, "ENOSPC"), BadCall("rename", 1, "EIO", sticky=True))[: SIZE.sweep]:
        tried.faults += big(point)
    # The file of a result that was delivered is deleted; a disk that refuses that costs room, and no more.
    tried.faults += big(BadCall("unlink", 1, "EIO", sticky=True))
    tried.faults += big(BadCall("rename", 1, "EIO"))


def checkpoints(patient: Patient, tried: Tried, *, call: str) -> None:
    """Commits go to the log: where only the file fails, all goes on, and the next checkpoint catches up."""
    bed, database = patient.bed, patient.database[0]
    later = {"handler_id": "chaos", "job_method": "ok", "not_before": time.time() + 3600}
    fault = bed.faults.begin(FaultKind.DISK, SERVER, f"{call} on the file")
    with patient.harmed_server(BadCall(call, 1, sticky=True), (database,)) as harm:
        bed.ask([later] * LATER_ROWS)
        eventually_sync(harm.hits, within_s=DONE_S)
        done = bed.submit(3, "ok")
        eventually_sync(lambda: patient.completed(done), within_s=DONE_S)
        assert patient.health() == "ok"
        tried.faults += harm.hits()
    bed.faults.end(fault)
    size = database.stat().st_size
    bed.ask([later] * LATER_ROWS)
    eventually_sync(lambda: database.stat().st_size > size)
    patient.later += 2 * LATER_ROWS


def node_deaths(patient: Patient, tried: Tried) -> None:
    """What was in memory only is gone with its node: its successor tells the server so, and it is run again."""
    bed = patient.bed
    for error in ERRORS:
        # A node whose disk refuses takes no more work: these two have begun before.
        ids = bed.submit(2, "sleep", seconds=4)
        eventually_sync(lambda ids=ids: bed.starts().keys() >= set(ids), within_s=DONE_S)
        with patient.harmed_node(BadCall("pwrite64", 1, error, sticky=True), patient.outbox) as harm:
            eventually_sync(lambda ids=ids: patient.ended() >= set(ids), within_s=DONE_S)
            eventually_sync(harm.hits, within_s=DONE_S)
            patient.node.kill()
            tried.faults += harm.hits()
        # Its jobs are begun again as soon as its successor says what it has.
        bed.faults.works_again("node:n1")
        patient.node = bed.start_node()
        eventually_sync(lambda ids=ids: patient.completed(ids), within_s=DONE_S)
        starts = bed.starts()
        assert all(starts[id_] == 2 for id_ in ids)


def restarts(patient: Patient, tried: Tried) -> None:
    """A start on the database of a server that was killed; then, without the errors, one that finds everything."""
    patient.bed.server.kill()
    for point in start_points("pwrite64"):
        hits = starting(patient.bed, point)
        tried.faults += hits
        if not hits:
            break
    patient.bed.restart_server()


# --- starts -------------------------------------------------------------------------------------------


def start_points(call: str) -> Iterator[BadCall]:
    """Both errors, and both ways, in turn: a start takes a second or more."""
    if SIZE.sweep is not None:
        yield BadCall(call, 2, "EIO", sticky=True)
        return
    errors, sticky = cycle(ERRORS), cycle((False, False, True, True))
    for n in range(1, NO_END, SIZE.first_start_step(call)):
        yield BadCall(call, n, next(errors), sticky=next(sticky))


def starting(bed: Bed, point: BadCall) -> int:
    """Start a server on a failing disk: it ends with a sentence, or does without. How often it was hit."""
    folder = bed.folder / "state"
    names = ("", "-wal", "-shm", ".lock", ".new", ".new-wal", ".new-shm", ".new-journal")
    files = [folder / f"schedule_zero.db{suffix}" for suffix in names] + [folder / "admin.token", folder]
    output = bed.folder / "strace.out"
    output.unlink(missing_ok=True)
    command = injection(point, files, output)
    log = bed.folder / "server.log"
    before = len(log.read_bytes()) if log.exists() else 0
    server = ServerProcess(bed.folder, under=(command[0], "--seccomp-bpf", *command[1:], "-D"))
    bed.own(server)
    eventually_sync(lambda: not server.alive() or server.server_json.exists(), within_s=60)
    hits = Harm(output).hits()
    if server.alive():
        server.kill()
        return hits
    said = log.read_bytes()[before:].decode()
    assert hits, said
    assert "Traceback" not in said, f"{point}: {said}"
    assert said.rstrip().splitlines()[-1].startswith("error: "), f"{point}: {said}"
    # There is nothing that an operator has to change first: it is worth to be started again.
    assert server.popen.returncode == 5, f"{point}: {said}"
    return hits


# --- the tests ----------------------------------------------------------------------------------------

_DATABASE = "EIO, ENOSPC at a call on the server's database"
_OUTBOX = "EIO, ENOSPC at a call on a node's files"
_START = "EIO, ENOSPC at a call of a server's start"
TRIALS = [
    *(
        Trial(f"database-{call}-{error}", _DATABASE, partial(sweep, call=call, error=error, suffer=Patient.suffer))
        for call in COMMIT_CALLS
        for error in ERRORS
    ),
    *(Trial(f"checkpoint-{call}", _DATABASE, partial(checkpoints, call=call)) for call in COMMIT_CALLS),
    *(
        Trial(f"outbox-{call}-{error}", _OUTBOX, partial(sweep, call=call, error=error, suffer=at_outbox))
        for call in COMMIT_CALLS
        for error in ERRORS
    ),
    Trial("outbox-ftruncate", _OUTBOX, emptying),
    Trial("large-results", _OUTBOX, large_results),
    Trial("node-killed", "SIGKILL of a node whose disk takes nothing", node_deaths),
    Trial("restart", _START, restarts),
]


@pytest.fixture
def patient(bed: Bed) -> Patient:
    made = Patient(bed)
    made.prepare()
    return made


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("trials", series(TRIALS, left_out=LONGER), ids=named)
def test_a_disk_that_fails_costs_nothing_acknowledged_no_result_and_no_help(
    patient: Patient, trials: list[Trial], tried: Callable[[str, str], Tried]
) -> None:
    patient.undergo(trials, PART, tried)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", START_CALLS if SIZE.sweep is None else [])
def test_a_start_that_the_disk_refuses_ends_with_a_sentence_and_the_next_one_does_well(
    bed: Bed, call: str, tried: Callable[[str, str], Tried]
) -> None:
    """The first start of all, and what it leaves behind, until it makes it; then a job is done."""
    mine = tried(PART, _START)
    database = bed.folder / "state" / "schedule_zero.db"
    again = cycle((True, True, False))
    for point in start_points(call):
        hits = starting(bed, point)
        mine.faults += hits
        if not hits:
            break
        if database.exists() and next(again):
            # Twice out of three the first start of all again.
            for path in database.parent.glob("schedule_zero.db*"):
                path.unlink()
    bed.start_server()
    bed.start_node()
    bed.execution(bed.submit(1, "ok")[0], wait_s=20)
    bed.judge(mine)
