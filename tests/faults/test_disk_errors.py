"""I/O errors at every write: nothing is acknowledged that was not stored, and all is well again by itself (C9, C13).

strace answers the n-th system call of a kind on the database, or on a node's outbox, with EIO or ENOSPC: that one
alone, or all from there on until it lets go. One server, and one node, goes through many such points in a row, so that
what one of them left behind meets the next. (tests/store does the same to the store alone, with SQLite's own limits.)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from schedule_zero.testbed.history import SERVER, FaultKind, Op
from tests.faults.tracing import Harm, Point, harmed, injection
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
# A sample's points are so far apart.
STEPS = {"pwrite64": 7, "fdatasync": 2}
INTERVAL_MS = 200
# A writer that fails tries again by itself every second; a busy machine has more to do.
HEALED_S = 10.0
DONE_S = 40.0
# More points than any scenario has calls: a sweep that gets there does not end by itself.
NO_END = 500


def ways(calls: Sequence[str]) -> list[list[tuple[str, str]]]:
    """What one server is put through: in a sample everything, else one call and one error."""
    every = [(call, error) for call in calls for error in ERRORS]
    return [[way] for way in every] if SIZE.sweep is None else [every]


def name(ways: list[tuple[str, str]]) -> str:
    return "-".join(ways[0]) if len(ways) == 1 else "sample"


def points(call: str, error: str) -> Iterator[Point]:
    """All of a kind, each alone and with all that follow; of a sample each in one of these ways."""
    if SIZE.sweep is None:
        for n in count(1):
            assert n < NO_END, f"{call} was hit {n} times, and the scenario is not over"
            yield Point(call, n, error)
            yield Point(call, n, error, sticky=True)
    for number in range(SIZE.sweep):
        if number % 2 == ERRORS.index(error):
            yield Point(call, 1 + number * STEPS.get(call, 1), error, sticky=(number + len(call)) % 2 == 0)


def sweep(kinds: list[tuple[str, str]], suffer: Callable[[Point], int], tried: Tried) -> None:
    """Do it at every point, until none is reached any more."""
    for call, error in kinds:
        missed = 0
        for point in points(call, error):
            hits = suffer(point)
            tried.faults += hits
            # Alone and with all that follow: neither was reached.
            missed = 0 if hits else missed + 1
            if missed == 2:
                break
        assert SIZE.sweep is not None or tried.faults, f"no {call} was ever made"


class Patient:
    """A server with a schedule and a node; the disk of one of the two fails, again and again."""

    def __init__(self, bed: Bed, strace: str) -> None:
        self.bed = bed
        self._strace = strace
        self._rounds = 0
        self._ids: list[str] = []
        self._to_cancel: list[str] = []
        database = bed.folder / "state" / "schedule_zero.db"
        self.database = (database, Path(f"{database}-wal"))
        self.outbox = (bed.folder / "nodes" / "nodes" / "n1" / "outbox",)

    def prepare(self) -> None:
        # A disk error is no reason to lose a node: with short leases, a busy machine would be one.
        self.bed.start_server(env={})
        self.node = self.bed.start_node()
        self._create_schedule()

    # --- the server's disk ------------------------------------------------------------------------------

    def suffer(self, point: Point) -> int:
        """Work through a point at which the server's disk fails; how often it was met."""
        fault = self.bed.faults.begin(FaultKind.DISK, SERVER, str(point))
        with self._harmed(self.bed.server.pid, point, self.database) as harm:
            self._work()
            eventually_sync(lambda: harm.hits() or self._all_done(), within_s=DONE_S)
            if harm.hits() and point.sticky:
                self._is_red()
            hits = harm.hits()
        assert self.bed.server.alive()
        eventually_sync(lambda: self._health() == "ok", within_s=HEALED_S)
        self.bed.faults.end(fault)
        self._cancel_the_rest()
        eventually_sync(self._all_done, within_s=DONE_S)
        return hits

    def _is_red(self) -> None:
        """While it lasts: the server says so, takes nothing, and shows what it has."""
        eventually_sync(lambda: self._health() == "degraded", within_s=HEALED_S)
        client = self.bed.client
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        assert self._submit(1) == []
        assert client.get("/api/executions").status_code == 200
        assert client.get("/api/schedules/interval").json()["id"] == "interval"
        assert self._health() == "degraded"

    # --- a node's disk ----------------------------------------------------------------------------------

    def suffer_at_node(self, point: Point, files: Sequence[Path], method: str = "ok", **params: Any) -> int:
        """The same for the disk of the node: what its jobs return waits there, in memory."""
        fault = self.bed.faults.begin(FaultKind.DISK, "node:n1", str(point))
        with self._harmed(self.node.pid, point, files) as harm:
            ids = self.bed.submit(3, method, **params)
            eventually_sync(lambda: harm.hits() or self._completed(ids), within_s=DONE_S)
            if harm.hits() and point.sticky and point.call != "ftruncate":
                eventually_sync(lambda: any(self.bed.execution(id_)["status"] == "running" for id_ in ids))
                assert self.bed.node_state("n1") == "online"
            eventually_sync(lambda: harm.hits() or self._emptied(), within_s=HEALED_S)
            hits = harm.hits()
        assert self.node.alive()
        eventually_sync(lambda: self._completed(ids), within_s=DONE_S)
        self.bed.faults.end(fault)
        assert not self.bed.starts() - Counter(dict.fromkeys(self.bed.starts(), 1)), "a job was run again"
        return hits

    def _emptied(self) -> bool:
        return self.outbox[0].stat().st_size == 0

    def _completed(self, ids: list[str]) -> bool:
        return all(self.bed.execution(id_)["status"] == "completed" for id_ in ids)

    # --- work, on record --------------------------------------------------------------------------------

    def _work(self) -> None:
        """Many at once, one by one, one to be cancelled; beside it, the schedule fires and results come in."""
        self._ids.clear()
        self._ids += self._submit(20)
        for _ in range(3):
            self._ids += self._submit(1)
        long = self._submit(1, "sleep", seconds=60)
        self._ids += long
        for id_ in long:
            self._cancel(id_)

    def _submit(self, number: int, method: str = "ok", **params: Any) -> list[str]:
        """The ids, or none if it was refused, as a failing disk must."""
        self._rounds += 1
        mark = f"round-{self._rounds}"
        item = {"handler_id": "chaos", "job_method": method, "job_params": params, "idempotency_key": mark}
        call = self.bed.history.begin(Op.SUBMIT, count=number, mark=mark)
        answer = self.bed.client.post("/api/executions", json={"executions": [item] * number})
        if answer.status_code == 202:
            ids: list[str] = answer.json()["ids"]
            call.ok(ids=ids)
            return ids
        call.fail(_refusal(answer))
        return []

    def _cancel(self, id_: str) -> None:
        call = self.bed.history.begin(Op.CANCEL, id=id_)
        answer = self.bed.client.post(f"/api/executions/{id_}/cancel")
        if answer.status_code < 300:
            call.ok(outcome=answer.json()["outcome"], state=answer.json()["status"])
        else:
            call.fail(_refusal(answer))
            self._to_cancel.append(id_)

    def _cancel_the_rest(self) -> None:
        ids, self._to_cancel = self._to_cancel, []
        for id_ in ids:
            self._cancel(id_)
        assert not self._to_cancel, "the disk is well, and a cancel was refused"

    def _create_schedule(self) -> None:
        trigger = {"type": "interval", "milliseconds": INTERVAL_MS}
        row = {"id": "interval", "handler_id": "chaos", "job_method": "ok", "trigger": trigger}
        call = self.bed.history.begin(Op.CREATE_SCHEDULE, id="interval")
        answer = self.bed.client.post("/api/schedules", json={"schedules": [row]})
        assert answer.status_code == 201, answer.text
        call.ok()

    def finish(self, tried: Tried) -> None:
        """All that was acknowledged comes to its end, and the checker finds nothing wrong."""
        client = self.bed.client
        client.post("/api/schedules/interval/pause").raise_for_status()
        eventually_sync(lambda: not self._open(), within_s=60)
        tried.judged(self.bed.judge())

    def _open(self) -> int:
        return int(self.bed.client.get("/api/health").json()["backlog"]["open"])

    def _all_done(self) -> bool:
        return all(self.bed.execution(id_)["status"] in ("completed", "cancelled") for id_ in self._ids)

    def _health(self) -> str:
        return str(self.bed.client.get("/api/health").json()["status"])

    def _harmed(self, pid: int, point: Point, files: Sequence[Path]) -> Any:
        return harmed(self._strace, pid, point, files, self.bed.folder / "strace.out")


def _refusal(answer: Any) -> str:
    """Why; anything but "the store can't now" is a mistake."""
    assert answer.status_code == 503, answer.text
    code = str(answer.json()["error"]["code"])
    assert code == "store_unavailable", answer.text
    return code


@pytest.fixture
def patient(bed: Bed, strace: str) -> Patient:
    made = Patient(bed, strace)
    made.prepare()
    return made


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kinds", ways(COMMIT_CALLS), ids=name)
def test_a_server_whose_writes_fail_acknowledges_nothing_unstored_and_recovers(
    patient: Patient, kinds: list[tuple[str, str]], tried: Callable[[str, str], Tried]
) -> None:
    mine = tried(PART, "EIO, ENOSPC at a call on the server's database")
    sweep(kinds, patient.suffer, mine)
    patient.finish(mine)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kinds", ways(COMMIT_CALLS), ids=name)
def test_a_node_whose_outbox_fails_keeps_its_results_until_it_takes_them(
    patient: Patient, kinds: list[tuple[str, str]], tried: Callable[[str, str], Tried]
) -> None:
    mine = tried(PART, "EIO, ENOSPC at a call on a node's outbox")
    sweep(kinds, lambda point: patient.suffer_at_node(point, patient.outbox), mine)
    patient.finish(mine)
