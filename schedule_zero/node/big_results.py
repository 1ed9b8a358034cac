"""Results that are too large for one message: a file each, beside the outbox, sent in chunks before their RESULT.

**The order** is that of the outbox, with a step before and after. The file is on disk (fsynced, under its own name)
before the record is in the outbox, so a record of the outbox never speaks of a result that a crash took. The record is
held back (``Delivery.hold``) until the server has all chunks; then it is sent as any other, and when that is
acknowledged the file is deleted.

**What can go wrong.** A crash before the record was written leaves a file that no record speaks of: deleted at start,
and the attempt ends as lost. A crash after it: sent from the beginning, and the server says where to go on. A lost
chunk or acknowledgement: sent again from the last acknowledgement on. The server has less than it acknowledged (a
backup was restored): it answers the RESULT by how much it has, and the chunks follow. The disk refuses: tried again
until it takes the file; the attempt is held meanwhile. The file is gone although the record speaks of it (somebody
deleted it): the attempt is reported as failed. The disk is full of these very files: each that is acknowledged is
deleted before the next try, and what could not be written whole is not left to take up room.

The thread writes and deletes files; all else runs on the loop's thread.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog
from msgspec import Struct

from schedule_zero.node.attempt import LiveAttempt
from schedule_zero.wire.messages import MAX_RESULT_CHUNK
from schedule_zero.wire.result_parts import pack

log = structlog.get_logger(__name__)

# Under way at a time, so that other results and heartbeats never stand behind more.
WINDOW_BYTES = 1 << 20
RESEND_S = 5.0
RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)


class Part(NamedTuple):
    """What to send next of one result."""

    execution_id: str
    token: int
    offset: int
    raw_bytes: int
    total: int
    body: bytes


class _Sending(Struct):
    execution_id: str
    total: int
    acked: int = 0
    sent: int = 0
    moved_s: float = 0.0


class BigResults:
    """``keep`` from any thread; ``deliver`` gets the attempt, its result in a file, in this one's thread."""

    def __init__(self, folder: Path, deliver: Callable[[LiveAttempt], None]) -> None:
        self._folder = folder
        self._deliver = deliver
        self._sending: dict[int, _Sending] = {}
        # None: there is something to delete, or it is time to end.
        self._work: queue.SimpleQueue[LiveAttempt | None] = queue.SimpleQueue()
        self._recorded: deque[int] = deque()
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    # --- files -----------------------------------------------------------------------------------------

    def keep(self, attempt: LiveAttempt) -> None:
        """Write its result to a file, then deliver it."""
        self._queue(attempt)

    def recover(self, known: Iterable[int]) -> None:
        """At start: delete what no record of the outbox speaks of."""
        names = {str(token) for token in known}
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in names:
                    path.unlink(missing_ok=True)

    def size_of(self, token: int) -> int | None:
        """Of the file with this result; None: there is none."""
        try:
            return self._path(token).stat().st_size
        except OSError:
            return None

    def close(self) -> None:
        """Finish what is queued, unless the disk refuses it, and end the thread. Safe to call twice."""
        self._closing.set()
        self._work.put(None)
        if self._thread is not None:
            self._thread.join()

    def _path(self, token: int) -> Path:
        return self._folder / str(token)

    def _queue(self, work: LiveAttempt | None) -> None:
        self._work.put(work)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="big-results", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            work = self._work.get()
            self._delete_recorded()
            if work is None:
                if self._closing.is_set() and self._work.empty():
                    return
            elif self._write(work):
                self._deliver(work)

    def _delete_recorded(self) -> None:
        while self._recorded:
            try:
                self._path(self._recorded.popleft()).unlink(missing_ok=True)
            except OSError as error:
                # It takes room until the next start deletes it.
                log.warning("big_result_not_deleted", error=str(error))

    def _write(self, attempt: LiveAttempt) -> bool:
        ended = attempt.outcome
        if ended is None or ended.result is None:
            raise AssertionError("only a result can be kept")
        failures = 0
        while True:
            try:
                self._write_file(self._path(attempt.token), ended.result)
            except OSError as error:
                if failures == 0:
                    log.warning("big_result_unwritable", error=str(error), bytes=len(ended.result))
                delay_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                if self._closing.wait(delay_s):
                    return False  # the attempt ends as lost
                self._delete_recorded()
                continue
            attempt.outcome = ended._replace(result=None, result_bytes=len(ended.result))
            return True

    def _write_file(self, path: Path, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fresh = path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                fresh.unlink()
            raise
        finally:
            os.close(fd)
        fresh.rename(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # --- sending ---------------------------------------------------------------------------------------

    def add(self, execution_id: str, token: int, total: int) -> None:
        """This one is on disk, and so is its record."""
        self._sending[token] = _Sending(execution_id, total)

    def __contains__(self, token: int) -> bool:
        return token in self._sending

    def opened(self, limit_bytes: int) -> list[int]:
        """A new session: what was under way may have been lost. Returns what is larger than this server takes.

        Nothing of those is sent: their RESULT is answered by why.
        """
        too_large = []
        for token, sending in self._sending.items():
            if sending.total > limit_bytes:
                sending.acked = sending.total
                too_large.append(token)
            sending.sent = sending.acked
        return too_large

    def take(self, now_s: float) -> Part | None:
        """The next part to send; None: all is sent, or enough is under way. One result after the other."""
        for token, sending in self._sending.items():
            if sending.acked == sending.total:
                continue
            if sending.sent == sending.total or sending.sent - sending.acked >= WINDOW_BYTES:
                return None
            return self._part(token, sending, now_s)
        return None

    def _part(self, token: int, sending: _Sending, now_s: float) -> Part | None:
        offset = sending.sent
        try:
            with self._path(token).open("rb") as file:
                file.seek(offset)
                raw = file.read(MAX_RESULT_CHUNK)
        except OSError as error:
            log.error("big_result_unreadable", error=str(error))
            return None
        if not raw:
            return None
        if offset == sending.acked:
            sending.moved_s = now_s
        sending.sent += len(raw)
        return Part(sending.execution_id, token, offset, len(raw), sending.total, pack(raw))

    def ack(self, token: int, upto: int, now_s: float, *, unknown: bool = False) -> bool:
        """The server has so much of it, or (``unknown``) wants nothing of it. Whether that is all."""
        sending = self._sending.get(token)
        if sending is None:
            return False
        upto = sending.total if unknown else min(upto, sending.total)
        if upto < sending.acked:
            # It had more before, and says that it hasn't any more.
            sending.sent = upto
        sending.acked = upto
        sending.sent = max(sending.sent, upto)
        sending.moved_s = now_s
        return upto == sending.total

    def forget(self, token: int) -> None:
        """The server has recorded the result, or refused it for good."""
        if self._sending.pop(token, None) is not None:
            self._recorded.append(token)
            self._queue(None)

    def overdue(self, now_s: float) -> int:
        """Send again what is not acknowledged for long; of how many results that is."""
        late = [
            sending
            for sending in self._sending.values()
            if sending.sent > sending.acked and now_s - sending.moved_s >= RESEND_S
        ]
        for sending in late:
            sending.sent = sending.acked
        return len(late)
