"""The logs of a node's attempts together: who takes them, and what is posted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

from schedule_zero.node.lease import ServerTime
from schedule_zero.node.log_book import LogBook
from schedule_zero.wire.messages import LogChunk
from tests.support import ManualClock


class HeldTime(ServerTime):
    """Whoever asks first is kept waiting: it is asked while a log is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.gate = threading.Event()

    def at_us(self, mono_s: float) -> int:
        if not self.asked.is_set():
            self.asked.set()
            self.gate.wait(10)
        return super().at_us(mono_s)


def test_c22_the_turn_of_a_drain_waits_for_the_turn_that_the_logs_own_thread_is_in(clock: ManualClock) -> None:
    time = HeldTime()
    posted: list[LogChunk] = []
    book = LogBook(clock=clock, time=time, execution_of=str, post=posted.extend)
    book.limit_bytes = 1 << 20
    # Both threads are the test's.
    book.close()
    book.write(1, "stdout", None, "first\n")
    book.write(2, "stdout", None, "second\n")

    with ThreadPoolExecutor(2) as threads:
        own = threads.submit(book.turn)
        assert time.asked.wait(10)
        of_drain = threads.submit(book.turn)
        # Time enough to take what the first is about to take.
        wait([of_drain], timeout=0.05)
        time.gate.set()
        own.result(10)
        of_drain.result(10)

    assert [chunk.token for chunk in posted] == [1, 2]
