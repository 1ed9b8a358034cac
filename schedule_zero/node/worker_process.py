"""One worker process, from outside: started, spoken to, signalled, buried. What it is used for is its owner's to say.

It is started anew, never forked from this process with its threads. It leads a session and a process group of its own;
all that it starts belongs to it (``processes.tree``) and ends with it. Its id stays taken until ``_exited`` has seen
to its group, so that a signal never meets a stranger. All of it is on the loop's thread, which is why the kernel's
"end with your parent", which means the thread that started it, means this node.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from schedule_zero.node import processes, worker_guard
from schedule_zero.node.worker_frames import (
    LINE_LOST_CODE,
    MARGIN_BYTES,
    BadFrame,
    Begin,
    FromWorker,
    ToWorker,
    frame,
    from_worker,
)
from schedule_zero.node.worker_pipes import WorkerPipes

log = structlog.get_logger(__name__)

_READ_BYTES = 1 << 18
# How long a worker may live after its end of the line was closed.
_LAST_MOMENT_S = 1.0
LINE_LOST = "lost its line to the node: the job closed descriptors that it had not opened"
# Where this package is; behind all else, so that it hides nothing from the handlers.
_HOME = str(Path(__file__).resolve().parents[2])
_START = (
    "import sys; home, *numbers = sys.argv[1:]; sys.argv[1:] = []; sys.path.append(home); "
    "from schedule_zero.node.worker_main import main; main(*map(int, numbers))"
)


class Death(NamedTuple):
    """How a worker ended, and what it used in all its life, with the children that it waited for."""

    # As ``waitpid`` gives it; None where somebody else in this process was told.
    status: int | None
    cpu_us: int
    most_rss_bytes: int

    def how(self) -> str:
        """In words."""
        if self.status is None:
            return "ended, nobody knows how"
        if not os.WIFSIGNALED(self.status):
            code = os.waitstatus_to_exitcode(self.status)
            return LINE_LOST if code == LINE_LOST_CODE else f"ended with exit code {code}"
        number = os.WTERMSIG(self.status)
        name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
        if number == signal.SIGKILL:
            return f"was killed by {name} (by the kernel, if memory was short, or by somebody)"
        return f"was killed by {name}"


class Owner(Protocol):
    """Whom a worker works for."""

    def said(self, worker: WorkerProcess, message: FromWorker) -> None: ...

    def wrote(self, worker: WorkerProcess, code: str, text: str) -> None:
        """Its job, or what that has started, wrote to a descriptor; ``code`` as in ``log_lines``."""
        ...

    def died(self, worker: WorkerProcess, death: Death) -> None:
        """It is gone, with all that it started."""
        ...


class WorkerProcess:
    """A living worker. Raises OSError where it can't be started."""

    def __init__(self, begin: Begin, owner: Owner, guard: Guard) -> None:
        self._owner = owner
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._frames = from_worker(begin.result_limit + MARGIN_BYTES)
        self._unsent: list[memoryview] = []
        self.started_s = self._loop.time()
        # For the owner: when it became idle, how many jobs it has had, and its memory: when it was ready, after the
        # first job (which may have loaded much) and after the last one.
        self.idle_since_s = 0.0
        self.jobs = 0
        self.ready_rss_bytes = self.first_rss_bytes = self.rss_bytes = self.most_rss_bytes = self.total_cpu_us = 0
        # Why it is not to be used any more.
        self.worn = ""
        self.dead = False
        # Why it was killed, if that was for what it did to the line.
        self.fault = ""
        self._hung_up: asyncio.TimerHandle | None = None
        self._pipes = WorkerPipes(self._loop, self._read_all, lambda code, text: owner.wrote(self, code, text))
        try:
            self._socket, theirs = socket.socketpair()
        except OSError:
            self._pipes.close()
            raise
        self._socket.setblocking(False)
        try:
            with theirs:
                self._popen = _spawn(theirs.fileno(), *self._pipes.theirs)
            self.pid = self._popen.pid
            self._pidfd = _watched(self._popen)
        except OSError:
            self._socket.close()
            self._pipes.close()
            raise
        self._pipes.started()
        guard.add(self.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._loop.add_reader(self._socket, self._readable)
        self.send(begin)

    # --- talking -----------------------------------------------------------------------------------------

    def send(self, message: ToWorker) -> None:
        """In order, after what it has not read yet."""
        self._unsent.append(memoryview(frame(message)))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                count = self._socket.send(self._unsent[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                # It is dying; ``_exited`` will tell.
                self._unsent.clear()
                break
            self._unsent[0] = self._unsent[0][count:]
            if not self._unsent[0]:
                del self._unsent[0]
        self._loop.remove_writer(self._socket)

    def job_over(self) -> None:
        """Its job has ended: what that wrote to the descriptors is taken now, and what comes later is nobody's."""
        self._pipes.finish()

    def _read_all(self) -> None:
        # Not for ever, if it never stops.
        for _ in range(4):
            if not self._readable():
                return

    def _readable(self) -> bool:
        """Take what it says; whether there may be more."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return False
        if not data:
            # It is dying, which tells more than we could; or its job has closed the line, which it finds out itself.
            self._loop.remove_reader(self._socket)
            if self._hung_up is None:
                self._hung_up = self._loop.call_later(_LAST_MOMENT_S, self._kill_speechless)
            return False
        try:
            for message in self._frames.feed(data):
                self._owner.said(self, message)
        except BadFrame as error:
            log.warning("worker_not_understood", pid=self.pid, error=str(error))
            self.fault = f"wrote into its line to the node, and was killed for that ({error})"
            self._loop.remove_reader(self._socket)
            self.kill()
            return False
        return len(data) == _READ_BYTES

    def _kill_speechless(self) -> None:
        """What it does without a line is nothing that anybody waits for."""
        self.fault = LINE_LOST
        self.kill()

    # --- ending ------------------------------------------------------------------------------------------

    def signal(self, number: int) -> bool:
        """The process, its group and what else it has started; whether there was anything else."""
        # Afterwards its number may be somebody else's.
        return not self.dead and processes.signal_tree(self.pid, number)

    def kill(self) -> None:
        """``died`` follows."""
        self.signal(signal.SIGKILL)

    def _exited(self) -> None:
        if self._hung_up is not None:
            self._hung_up.cancel()
        # What it said last.
        with contextlib.suppress(OSError):
            while data := self._socket.recv(_READ_BYTES):
                self._take_last(data)
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        os.close(self._pidfd)
        self.kill()
        death = self._bury()
        self.dead = True
        self._guard.remove(self.pid)
        self._pipes.finish()
        self._pipes.close()
        self._owner.died(self, death)

    def _bury(self) -> Death:
        try:
            _, status, used = os.wait4(self.pid, 0)
        except ChildProcessError:
            # A job in this process waited for any child, or lets the kernel forget them.
            self._popen.returncode = 0
            return Death(None, 0, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        return Death(status, processes.cpu_us(used), used.ru_maxrss << 10)

    def _take_last(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self._owner.said(self, message)
        except BadFrame as error:
            log.warning("worker_not_understood", pid=self.pid, error=str(error))


def _spawn(fd: int, out: int, err: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-P", "-c", _START, _HOME, *map(str, (fd, out, err, os.getpid()))],
        stdin=subprocess.DEVNULL,
        pass_fds=[fd, out, err],
        start_new_session=True,
    )


def _watched(popen: subprocess.Popen[bytes]) -> int:
    """A descriptor that becomes readable with the end of the process."""
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise


class Guard:
    """The process that ends the workers' groups if this one is killed (``worker_guard``); started with the first."""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()
        # A child that a job forks would keep the pipe open beyond our death.
        os.register_at_fork(after_in_child=self._close_pipe)

    def add(self, group: int) -> None:
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        if self._popen is not None and self._popen.poll() is None:
            try:
                _pipe(self._popen).write(line.encode())
                return
            except BrokenPipeError:
                self._popen.wait()
        if self._popen is not None:
            self._let_go()
        if not self._groups:
            return
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - this very interpreter, a file of this package
                [sys.executable, "-I", "-S", worker_guard.__file__],
                stdin=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            _pipe(self._popen).write("".join(f"+{group}\n" for group in sorted(self._groups)).encode())
        except OSError as error:
            log.warning("worker_guard_not_started", error=str(error))

    def close(self) -> None:
        """It ends; and with it whatever group is left."""
        popen = self._popen
        self._let_go()
        if popen is not None:
            try:
                popen.wait(1)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()

    def _let_go(self) -> None:
        self._close_pipe()
        self._popen = None

    def _close_pipe(self) -> None:
        if self._popen is not None:
            _pipe(self._popen).close()


def _pipe(popen: subprocess.Popen[bytes]) -> io.RawIOBase:
    pipe = popen.stdin
    assert pipe is not None
    return pipe  # type: ignore[return-value]
