"""Honest work beside something hostile: a client and a node that go on, and what the server spends meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import httpx
import psutil

from schedule_zero.testbed.history import FaultKind
from tests.support import eventually_sync
from tests.system.bed import Bed
from tests.tried import Tried

T = TypeVar("T")

JOBS = 8
JOB = {"handler_id": "chaos", "job_method": "sleep", "job_params": {"seconds": 0.05}}
# How long one of them may take, however busy the machine: it is 50 ms of work.
PATIENCE_S = 20.0
PACE_S = 0.1
SAMPLE_S = 0.02
MIB = 1 << 20


class HonestClient(threading.Thread):
    """Submits a few jobs, waits until they are done, and begins again; whatever goes wrong is told by ``stop``."""

    def __init__(self, bed: Bed) -> None:
        super().__init__(name="honest client")
        self.bed = bed
        self.done = 0
        self._over = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(PACE_S):
                key = f"honest-{self.done}"
                for id_ in _twice(partial(self.bed.ask, [JOB] * JOBS, key)):
                    record = _twice(partial(self.bed.execution, id_, wait_s=PATIENCE_S))
                    assert record["status"] == "completed", record
                    self.done += 1
        except Exception as error:
            self._error = error

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error


class Watch(threading.Thread):
    """The most memory and descriptors that the server had, looked at all the time."""

    def __init__(self, bed: Bed) -> None:
        super().__init__(name="watch")
        self.process = psutil.Process(bed.server.pid)
        self.peak_rss = self.peak_fds = 0
        self._over = threading.Event()
        self.look()

    def connections(self) -> int:
        """Descriptors that are no files: the store opens a reader when it first needs one, and keeps it."""
        return self.process.num_fds() - len(self.process.open_files())

    def look(self) -> None:
        self.peak_rss = max(self.peak_rss, self.process.memory_info().rss)
        self.peak_fds = max(self.peak_fds, self.process.num_fds())

    def run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.look()

    def stop(self) -> None:
        self._over.set()
        self.join()


def _twice(request: Callable[[], T]) -> T:
    """Once more where the connection was closed just as it was used again: a server whose connections are all taken
    closes what sits idle, and whoever keeps one has to be ready for that.
    """
    try:
        return request()
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        return request()


@contextmanager
def honest_work(
    bed: Bed, detail: str, *, kind: FaultKind = FaultKind.PEER, growth_mib: int = 256, log_lines: int = 40
) -> Iterator[Watch]:
    """What is done inside harms nobody: every job is done at the first attempt, the server's memory grows by no more
    than ``growth_mib`` and its log by no more than so many lines (and a few a second), and its descriptors are free
    again afterwards.

    The fault log names a node that is nobody's: the honest one has no excuse.
    """
    client = HonestClient(bed)
    client.start()
    # All that the first jobs bring: pools, connections, prepared statements.
    eventually_sync(lambda: client.done >= JOBS or not client.is_alive(), within_s=PATIENCE_S)
    watch = Watch(bed)
    rss, connections, lines = watch.peak_rss, watch.connections(), bed.server.output().count("\n")
    watch.start()
    begun_s = time.monotonic()
    fault = bed.faults.begin(kind, "node:hostile", detail)
    try:
        yield watch
    finally:
        bed.faults.end(fault)
        watch.stop()
        client.stop()
    assert bed.server.alive()
    grown = (watch.peak_rss - rss) / MIB
    assert grown <= growth_mib, f"{detail}: the server's memory grew by {grown:.0f} MiB, to {watch.peak_rss / MIB:.0f}"
    more = bed.server.output().count("\n") - lines
    # What is said at most once a second: of bad messages, of closed connections, of denied nodes.
    most = log_lines + 3 * (time.monotonic() - begun_s)
    assert more <= most, f"{detail}: {more} lines in the log:\n{bed.server.output()[-4000:]}"
    # Two more for what happens to be under way.
    eventually_sync(lambda: watch.connections() <= connections + 2, within_s=PATIENCE_S)


def judged(bed: Bed, t: Tried) -> None:
    """All jobs were done at once and once, and the checker agrees that nothing else went wrong."""
    states = bed.states()
    assert states == Counter(completed=states.total()), states
    assert set(bed.starts().values()) == {1}
    assert {line.attempt for line in bed.ledger()} == {1}
    bed.judge(t)
