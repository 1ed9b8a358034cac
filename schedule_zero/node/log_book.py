"""The logs of all attempts that run here: the one door for what jobs say, and the thread that makes chunks of it.

``write(token, stream, level, text)`` from any thread, whoever heard the job say it: the streams of this process
(``capture``), its logger (``job_logger``), or a process that runs the job alone. ``end(token)`` when the attempt has
its outcome. A job that says nothing costs nothing here.

The thread looks ten times a second while there is something, takes what each attempt has (``AttemptLog.take``), packs
it, and posts it to the loop (``log_sender``). A crash of the node loses what was not acknowledged: logs are no results,
and are not kept on disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import structlog

from schedule_zero.clock import Clock
from schedule_zero.node.attempt_log import AttemptLog
from schedule_zero.node.lease import ServerTime
from schedule_zero.wire.log_lines import code_of, pack
from schedule_zero.wire.messages import LogChunk

log = structlog.get_logger(__name__)

# How long what was said waits for company …
GATHER_S = 0.1


class LogBook:
    """``limit_bytes`` 0: nobody takes logs, and what is said goes where it would without a job."""

    def __init__(
        self,
        *,
        clock: Clock,
        time: ServerTime,
        execution_of: Callable[[int], str | None],
        post: Callable[[list[LogChunk]], None],
    ) -> None:
        # What one attempt may say; the server tells it at each connection.
        self.limit_bytes = 0
        # The sender has as much as it may hold: what is said now is left out.
        self.full = False
        # Lines that jobs said, for tests and the log.
        self.logs: dict[int, AttemptLog] = {}
        self._mono_s = clock.mono_s
        self._wall_us = time.at_us
        self._execution_of = execution_of
        self._post = post
        self._dirty: deque[AttemptLog] = deque()
        self._something = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        # Another than that one, for which an attempt's log may wait while it is locked itself.
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    # --- for whoever hears a job -------------------------------------------------------------------------

    def write(self, token: int, stream: str, level: str | None, text: str) -> bool:
        """A text, or a part of one, with its line feeds. False: no log takes it (its attempt is over, or unknown)."""
        return self.say(token, code_of(stream, level), text)

    def say(self, token: int, code: str, text: str) -> bool:
        """``write`` for who has the code of stream and level (``log_lines.code_of``)."""
        attempt = self.logs.get(token)
        if attempt is None:
            execution_id = self._execution_of(token)
            attempt = None if execution_id is None else self.open(execution_id, token)
        return attempt is not None and attempt.write(code, text)

    def open(self, execution_id: str, token: int) -> AttemptLog | None:
        """The log of this attempt; None if nobody would take it, or it is over."""
        if not self.limit_bytes or self._execution_of(token) is None:
            return None
        with self._lock:
            attempt = self.logs.get(token)
            if attempt is None:
                attempt = self.logs[token] = AttemptLog(
                    execution_id, token, limit=self.limit_bytes, mono_s=self._mono_s, wall_us=self._wall_us, book=self
                )
            return attempt

    def end(self, token: int) -> int:
        """This attempt is over; how many lines its log has (0: it has none)."""
        attempt = self.logs.pop(token, None)
        if attempt is None:
            return 0
        lines = attempt.end()
        self.touch(attempt)
        return lines

    def touch(self, attempt: AttemptLog) -> None:
        """There is something to take. (Told twice, the second ``take`` finds nothing, which does no harm.)"""
        self._dirty.append(attempt)
        if self._thread is None:
            self._start()
        if not self._something.is_set():
            self._something.set()

    # --- the thread ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread, once it has posted what there is. Safe to call twice."""
        self._closing.set()
        self._something.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something.wait()
            self._closing.wait(GATHER_S)
            self._something.clear()
            self.turn()

    def turn(self) -> None:
        """Post what there is by now. From any thread; each waits for the one before: chunks keep their order."""
        with self._turn:
            chunks: list[LogChunk] = []
            for _ in range(len(self._dirty)):
                for chunk in self._dirty.popleft().take():
                    chunk.body = pack(chunk.body)
                    if chunk.lines or chunk.last:
                        chunks.append(chunk)
            if chunks:
                self._post(chunks)
