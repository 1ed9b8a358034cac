"""A server with a schedule and a node on a bad disk: work for it, on record, and what has to be true then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from schedule_zero.testbed.history import SERVER, FaultKind, Op, Side
from tests.faults.bad_calls import BadCall, Harm, harmed
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import Bed
from tests.tried import Tried

INTERVAL_MS = 200
# A writer that fails tries again by itself every second; a busy machine has more to do.
HEALED_S = 10.0
DONE_S = 40.0
# What a node calls when its results are delivered already.
TIDYING = ("ftruncate", "unlink")


class Trial(NamedTuple):
    """One kind of harm, and what the table says of it."""

    name: str
    what: str
    run: Callable[[Patient, Tried], None]


def series(trials: Sequence[Trial], *, left_out: Sequence[str] = ()) -> list[list[Trial]]:
    """Each trial has a server and a node of its own; a sample goes over one of each, and leaves some out."""
    if SIZE.sweep is None:
        return [[trial] for trial in trials]
    return [[trial for trial in trials if trial.name not in left_out]]


def named(trials: list[Trial]) -> str:
    return trials[0].name if len(trials) == 1 else "sample"


class Patient:
    """A server with a schedule and a node; the disk of one of the two fails, again and again."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self._output = bed.folder / "strace.out"
        # So many executions are not due in this run.
        self.later = 0
        self._rounds = 0
        self._paused = False
        self.refusals = 0
        self._ids: list[str] = []
        self._to_cancel: list[str] = []
        database = bed.folder / "state" / "schedule_zero.db"
        self.database = (database, Path(f"{database}-wal"))
        self.outbox = (bed.folder / "nodes" / "nodes" / "n1" / "outbox",)

    def prepare(self) -> None:
        # A disk error is no reason to lose a node: with short leases, a busy machine would be one.
        self.bed.start_server(env={})
        self.node = self.bed.start_node()
        trigger = {"type": "interval", "milliseconds": INTERVAL_MS}
        self.bed.create([{"id": "interval", "handler_id": "chaos", "job_method": "ok", "trigger": trigger}])

    # --- the server's disk ------------------------------------------------------------------------------

    def suffer(self, point: BadCall) -> int:
        """Work through a point at which the server's disk fails; how often it was met."""
        fault = self.bed.faults.begin(FaultKind.DISK, SERVER, str(point))
        with self.harmed_server(point, self.database) as harm:
            self.work()
            eventually_sync(lambda: harm.hits() or self.all_done(), within_s=DONE_S)
            if harm.hits() and point.sticky:
                self.is_red()
            hits = harm.hits()
        assert self.bed.server.alive()
        eventually_sync(lambda: self.health() == "ok", within_s=HEALED_S)
        self.bed.faults.end(fault)
        # What it has acknowledged has to be done in the end; results that it could not take come again meanwhile.
        self.cancel_the_rest()
        return hits

    def is_red(self) -> None:
        """While it lasts: the server says so after what it refuses, and shows what it has.

        (On a full disk a small commit may still fit where a large one did not; it is well for that moment.)
        """
        client = self.bed.client
        eventually_sync(lambda: not self.submit(1) and self.health() == "degraded", within_s=DONE_S)
        eventually_sync(lambda: client.get("/readyz").status_code == 503, within_s=DONE_S)
        assert client.get("/livez").status_code == 200
        assert client.get("/api/executions").status_code == 200
        assert client.get("/api/schedules/interval").json()["id"] == "interval"

    # --- a node's disk ----------------------------------------------------------------------------------

    def suffer_at_node(self, point: BadCall, files: Sequence[Path], method: str = "ok", **params: Any) -> int:
        """The same for the disk of the node: what its jobs return waits there, in memory."""
        fault = self.bed.faults.begin(FaultKind.DISK, "node:n1", str(point))
        with self.harmed_node(point, files) as harm:
            ids = self.bed.submit(3, method, **params)
            eventually_sync(lambda: harm.hits() or self.completed(ids), within_s=DONE_S)
            if harm.hits() and point.sticky and point.call not in TIDYING:
                # Whosever result it is: one of these, or of a fire.
                eventually_sync(lambda: self.bed.states()["running"], within_s=DONE_S)
                assert self.bed.node_state("n1") == "online"
            if point.call in TIDYING:
                eventually_sync(harm.hits, within_s=DONE_S)
            hits = harm.hits()
        assert self.node.alive()
        eventually_sync(lambda: self.completed(ids), within_s=DONE_S)
        self.bed.faults.end(fault)
        self.once_each()
        return hits

    def ended(self) -> set[str]:
        """The executions whose jobs have come to their end, by what they wrote themselves."""
        return {line.execution_id for line in self.bed.ledger() if line.event is Side.END}

    def once_each(self) -> None:
        """No job was run a second time so far."""
        assert set(self.bed.starts().values()) == {1}, "a job was run again"

    def completed(self, ids: list[str]) -> bool:
        return all(self.bed.execution(id_)["status"] == "completed" for id_ in ids)

    @contextmanager
    def trouble(self, target: str, detail: str) -> Iterator[None]:
        """A disk has trouble, on record."""
        fault = self.bed.faults.begin(FaultKind.DISK, target, detail)
        yield
        self.bed.faults.end(fault)

    # --- work, on record --------------------------------------------------------------------------------

    def work(self) -> None:
        """Many at once, one by one, one to be cancelled; beside it, the schedule fires and results come in."""
        self.refusals = 0
        self._ids.clear()
        self._ids += self.submit(20)
        for _ in range(3):
            self._ids += self.submit(1)
        long = self.submit(1, "sleep", seconds=60)
        self._ids += long
        for id_ in long:
            self._cancel(id_)

    def submit(self, number: int, method: str = "ok", **params: Any) -> list[str]:
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
        call.fail(self._refusal(answer))
        return []

    def refused(self) -> None:
        """Submit until there is no room: what the log has had before may be used again."""
        eventually_sync(lambda: not self.submit(20), within_s=DONE_S)

    def _cancel(self, id_: str) -> None:
        call = self.bed.history.begin(Op.CANCEL, id=id_)
        answer = self.bed.client.post(f"/api/executions/{id_}/cancel")
        if answer.status_code < 300:
            call.ok(outcome=answer.json()["outcome"], state=answer.json()["status"])
        else:
            call.fail(self._refusal(answer))
            self._to_cancel.append(id_)

    def cancel_the_rest(self) -> None:
        ids, self._to_cancel = self._to_cancel, []
        for id_ in ids:
            self._cancel(id_)
        assert not self._to_cancel, "the disk is well, and a cancel was refused"

    def finish(self, tried: Tried) -> None:
        """All that was acknowledged and is due comes to its end, and the checker finds nothing wrong."""
        if not self._paused:
            self.bed.keep_firing("interval")
        self.pause()
        eventually_sync(lambda: self.bed.open() == self.later, within_s=60)
        self.bed.judge(tried)

    def undergo(self, trials: Sequence[Trial], part: str, tried: Callable[[str, str], Tried]) -> None:
        """One after the other; then everything is judged."""
        for trial in trials:
            mine = tried(part, trial.what)
            trial.run(self, mine)
            assert mine.faults, f"{trial.name} did no harm"
        self.finish(mine)

    def pause(self) -> None:
        """No more fires."""
        if not self._paused:
            self.bed.pause("interval")
            self._paused = True

    def all_done(self) -> bool:
        return all(self.bed.execution(id_)["status"] in ("completed", "cancelled") for id_ in self._ids)

    def health(self) -> str:
        return str(self.bed.client.get("/api/health").json()["status"])

    def harmed_node(self, point: BadCall, files: Sequence[Path]) -> AbstractContextManager[Harm]:
        return harmed(self.node.pid, point, files, self._output)

    def harmed_server(self, point: BadCall, files: Sequence[Path]) -> AbstractContextManager[Harm]:
        return harmed(self.bed.server.pid, point, files, self._output)

    def _refusal(self, answer: httpx.Response) -> str:
        """Why; anything but "the store can't now" is a mistake."""
        assert answer.status_code == 503, answer.text
        code = str(answer.json()["error"]["code"])
        assert code == "store_unavailable", answer.text
        self.refusals += 1
        return code
