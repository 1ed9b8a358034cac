"""What the job of a worker process says: its log, its progress, and what is written to the descriptors 1 and 2.

Lines of ``print`` and of loggers go to the node as messages. What has no such way (a child process, C code, the trace
of a crash) writes to descriptors; while a job runs those lead into two pipes that the node reads (``worker_pipes``),
also when this process is dead. A message waits a little for what is in the pipes, so that the words of one thread stay
in their order. A child that was forked, which must not use the line to the node, writes its lines there as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import sys
import termios
import threading
from collections.abc import Callable
from typing import Protocol

from schedule_zero.clock import Clock
from schedule_zero.node.progress import SEND_S
from schedule_zero.node.worker_frames import FromWorker, Said, Told
from schedule_zero.wire.log_lines import code_of

# Of what the job says: so many characters in one frame, and so many pieces of a line before it is sent unfinished.
MAX_SAID = 64 << 10
MAX_PIECES = 100
# How long a message waits for the node to read the pipes; and if that was not enough, it isn't tried for so long.
ORDER_S, DISORDER_S = 0.02, 0.5
_ORDER_STEP_S = 0.0005
_IOLBF = 1
_NOTHING = bytes(4)
_STDOUT = code_of("stdout", None)


class Line(Protocol):
    """The way to the node."""

    def send(self, message: FromWorker) -> None: ...


class Descriptors:
    """1 and 2 of this process: ``begin`` and ``end`` around each job; in between they are what they were before."""

    def __init__(self, out: int, err: int, clock: Clock) -> None:
        self._pipes = (out, err)
        self._usual = (os.dup(1), os.dup(2))
        self._mono_s = clock.mono_s
        self._disorder_until_s = 0.0
        self._open = False
        self._flush_c = _line_buffered_c()

    def begin(self) -> None:
        for number, pipe in zip((1, 2), self._pipes, strict=True):
            os.dup2(pipe, number)
        self._disorder_until_s = 0.0
        self._open = True

    def end(self) -> None:
        """Whatever the job has done to them: closed them, or put something else there.

        Raises OSError where it has closed the ones that are kept here, too.
        """
        self._open = False
        for stream in (sys.__stdout__, sys.__stderr__):
            # Closed by the job, or its descriptor was: there is nothing to be flushed then.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()  # type: ignore[union-attr]
        self._flush_c()
        for number, usual in zip((1, 2), self._usual, strict=True):
            os.dup2(usual, number)

    def settle(self, wait: Callable[[float], object]) -> None:
        """Wait until the node has read what was written there, so that what is said now comes after it."""
        if not self._open or not self._unread():
            return
        began_s = now_s = self._mono_s()
        if now_s < self._disorder_until_s:
            return
        while self._unread():
            wait(_ORDER_STEP_S)
            now_s = self._mono_s()
            if now_s - began_s > ORDER_S:
                # Somebody writes and writes. Its lines and ours come in an order of their own then.
                self._disorder_until_s = now_s + DISORDER_S
                return

    def _unread(self) -> bool:
        try:
            # Once for each line: in as few steps as it takes.
            out, err = self._pipes
            return (
                fcntl.ioctl(out, termios.FIONREAD, _NOTHING) != _NOTHING
                or fcntl.ioctl(err, termios.FIONREAD, _NOTHING) != _NOTHING
            )
        except OSError:
            # The job has closed all that it found.
            return False


def waiting(pipe: int) -> int:
    """How many bytes are in a pipe; either end tells."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _line_buffered_c() -> Callable[[], None]:
    """Let C's ``stdout`` go out line by line, as on a terminal; what flushes it."""
    libc = ctypes.CDLL(None)
    try:
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
    except ValueError:
        return lambda: None
    libc.setvbuf(stdout, None, _IOLBF, 0)
    return lambda: libc.fflush(stdout)


class Relay:
    """What the job says, to the node: whole lines at a time, or what has gathered without a line feed."""

    def __init__(self, line: Line, descriptors: Descriptors) -> None:
        self._line = line
        self._descriptors = descriptors
        self._pause = threading.Event().wait
        self.logs: dict[int, RelayedLog] = {}
        # This is a process that a job has forked.
        self.forked = False

    def open(self, _execution_id: str, token: int) -> RelayedLog:
        log = self.logs[token] = RelayedLog(self, token)
        return log

    def say(self, token: int, code: str, text: str) -> bool:
        log = self.logs.get(token)
        return log is not None and log.write(code, text)

    def end(self, token: int) -> int:
        log = self.logs.pop(token, None)
        if log is not None:
            log.end()
        # The node counts them.
        return 0

    def send(self, said: Said) -> None:
        self._descriptors.settle(self._pause)
        self._line.send(said)


class RelayedLog:
    """Of one attempt; from any thread."""

    def __init__(self, relay: Relay, token: int) -> None:
        self._relay = relay
        self._token = token
        self._lock = threading.Lock()
        self._begun: dict[str, list[str]] = {}
        self._over = False

    def write(self, code: str, text: str) -> bool:
        if self._relay.forked:
            # The lock may be held by a thread that isn't here.
            write_all(1 if code == _STDOUT else 2, text.encode("utf-8", "backslashreplace"))
            return True
        with self._lock:
            if self._over:
                return False
            begun = self._begun.setdefault(code, [])
            begun.append(text)
            if text.endswith("\n") or len(begun) > MAX_PIECES:
                self._send(code, begun)
            return True

    def flush(self) -> None:
        """Send what is no whole line yet."""
        if self._relay.forked:
            return
        with self._lock:
            if not self._over:
                for code, begun in self._begun.items():
                    self._send(code, begun)

    def end(self) -> None:
        if self._relay.forked:
            return
        with self._lock:
            self._over = True
            for code, begun in self._begun.items():
                self._send(code, begun)

    def _send(self, code: str, begun: list[str]) -> None:
        text = "".join(begun)
        begun.clear()
        for start in range(0, len(text), MAX_SAID):
            # A lone surrogate has no place in a message.
            part = text[start : start + MAX_SAID].encode("utf-8", "backslashreplace").decode()
            self._relay.send(Said(token=self._token, code=code, text=part))


def write_all(number: int, data: bytes) -> None:
    """To a descriptor that may be closed: then nobody hears it."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(number, data) :]


class Teller:
    """The progress of the job, a few times a second, and what it says last before its end.

    The first report, and one that comes after a while, is sent by the thread that makes it: a process that crashes
    next has said how far it was.
    """

    def __init__(self, line: Line, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._line = line
        self._mono_s = clock.mono_s
        self._loop = loop
        self._lock = threading.Lock()
        self._untold: Told | None = None
        self._told_s = 0.0
        self._due = False

    def begin(self) -> None:
        with self._lock:
            self._untold, self._told_s = None, 0.0

    def report(self, token: int, percent: float, text: str) -> None:
        told = Told(token=token, percent=percent, text=text)
        with self._lock:
            now_s = self._mono_s()
            if not self._told_s or now_s - self._told_s >= SEND_S:
                self._tell(told, now_s)
                return
            self._untold = told
            if self._due:
                return
            self._due = True
        self._loop.call_soon_threadsafe(self._loop.call_later, SEND_S, self._turn)

    def flush(self) -> None:
        """Tell what is not told yet."""
        with self._lock:
            if self._untold is not None:
                self._tell(self._untold, self._mono_s())

    def _turn(self) -> None:
        self._due = False
        self.flush()

    def _tell(self, told: Told, now_s: float) -> None:
        self._untold, self._told_s = None, now_s
        self._line.send(told)
