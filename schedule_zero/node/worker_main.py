"""The inside of a worker process: loads the node's handlers, sets them up, and runs one job at a time for its node.

Jobs run as they do in a node (it is the node's own runner): ``async`` methods on the loop of the main thread, plain
ones in a thread. A second thread reads what the node says, so that neither kind keeps it from being heard; when the
node's end of the line is closed it ends this process and its group at once.
SIGTERM does nothing here: the node says by a message what is to stop, and sends the signal for what the job has
started. (It has a handler rather than being ignored, so that those processes don't inherit that.)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import io
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO, cast

from schedule_zero import logs
from schedule_zero.clock import SystemClock
from schedule_zero.config import LogConfig
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.job_options import Isolation
from schedule_zero.node import capture, outcome, processes
from schedule_zero.node.attempt import LiveAttempt
from schedule_zero.node.context import CLIENT
from schedule_zero.node.handler import BaseHandler
from schedule_zero.node.lease import Lease
from schedule_zero.node.life import set_up, tear_down
from schedule_zero.node.methods import BoundMethod, describe
from schedule_zero.node.runner import Runner
from schedule_zero.node.targets import load_targets
from schedule_zero.node.worker_frames import (
    LINE_LOST_CODE,
    Alive,
    Begin,
    Broken,
    Done,
    FromWorker,
    Logged,
    Ready,
    Run,
    Stop,
    ToWorker,
    frame,
    to_worker,
)
from schedule_zero.node.worker_voice import Descriptors, Relay, Teller

# What a job may allocate beyond its limit between two looks of the node, before the kernel refuses it: this only
# keeps one that is faster than those from taking the machine's memory. Threads reserve more than they use.
MEMORY_MARGIN = 256 << 20
CPU_MARGIN_S = 2
_READ_BYTES = 1 << 18
# What an operation on a descriptor ends with that somebody else has closed.
CLOSED = (errno.EBADF, errno.ENOTSOCK)
MAX_LOG_LINE = 64 << 10


class Line:
    """This end of the pair of sockets. ``send`` from any thread; it waits while the node is behind."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._socket.setblocking(True)
        self._frames = to_worker()
        self._lock = threading.Lock()
        # This is a process that a job has forked: it has no line.
        self.forked = False
        self._read: list[ToWorker] = []

    def send(self, message: FromWorker) -> None:
        if self.forked:
            if isinstance(message, Done):
                # A child that the job has forked, and that came back from it like its parent.
                os._exit(0)
            return
        data = frame(message)
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError as error:
            end_at_once(error)

    def leave(self) -> None:
        """In a child that was forked: what it has to say the node can't tell from its parent's words."""
        self.forked = True
        self._socket.close()

    def receive(self) -> ToWorker:
        """The next message. Ends this process where there is none any more."""
        while not self._read:
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                end_at_once(error)
            if not data:
                end_at_once()
            self._read.extend(self._frames.feed(data))
        return self._read.pop(0)


def end_at_once(error: OSError | None = None) -> NoReturn:
    """The node is gone, and nobody waits for what is done here."""
    if error is not None and error.errno in CLOSED:
        # Not the node: the job has closed what it found. What it has started the node ends.
        os._exit(LINE_LOST_CODE)
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("alive")


def _forked(line: Line, relay: Relay) -> None:
    relay.forked = True
    line.leave()


class LogStream(io.TextIOBase):
    """Takes the lines that ``logs`` writes, one JSON object each, to the node: it alone has a log file."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def write(self, text: str) -> int:
        for one in text.splitlines():
            self._line.send(Logged(line=one.encode("utf-8", "replace")[:MAX_LOG_LINE]))
        return len(text)


class Meter:
    """What one job uses, and what it may use. ``start`` before it, ``read`` after it, in any thread."""

    def __init__(self) -> None:
        self._cpu_us = 0
        self._children_rss = 0
        self._children: set[int] = set()
        self._usual = {what: resource.getrlimit(what) for what in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)}
        self._limited: list[int] = []

    def start(self, memory_mb: int | None, cpu_s: float | None) -> None:
        processes.forget_peak()
        self._cpu_us = processes.own_cpu_us()
        self._children_rss = _children_peak()
        self._children = processes.own_children()
        if memory_mb is not None:
            resident, _, data = processes.own_memory()
            room = max(0, (memory_mb << 20) - resident)
            self._limit(resource.RLIMIT_DATA, data + room + MEMORY_MARGIN)
        if cpu_s is not None:
            used_s = processes.cpu_us(resource.getrusage(resource.RUSAGE_SELF)) / 1e6
            self._limit(resource.RLIMIT_CPU, math.ceil(used_s + cpu_s) + CPU_MARGIN_S)

    def read(self, done: Done) -> None:
        while self._limited:
            what = self._limited.pop()
            resource.setrlimit(what, self._usual[what])
        resident, peak, _ = processes.own_memory()
        done.total_cpu_us = processes.own_cpu_us()
        done.cpu_us = done.total_cpu_us - self._cpu_us
        # Of all children ever: it says something of this job's only where it has grown.
        children_rss = _children_peak()
        done.peak_rss_bytes = max(peak, resident, children_rss if children_rss > self._children_rss else 0)
        done.rss_bytes = resident
        done.leftovers = not self._children.issuperset(processes.own_children())

    def _limit(self, what: int, value: int) -> None:
        """Never more than usual, and only for as long as the job runs."""
        self._limited.append(what)
        usual, most = self._usual[what]
        resource.setrlimit(what, (value if usual == resource.RLIM_INFINITY else min(value, usual), most))


def _children_peak() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


class Worker:
    """Runs what the node sends, one at a time."""

    def __init__(self, line: Line, begin: Begin, methods: list[BoundMethod], descriptors: Descriptors) -> None:
        self._line = line
        self._descriptors = descriptors
        self._loop = asyncio.get_running_loop()
        self._methods = {(method.handler_id, method.name): method for method in methods}
        self._meter = Meter()
        self._current: LiveAttempt | None = None
        self.quit = asyncio.Event()
        # The node watches the lease; it ends this process when that is over.
        lease = Lease()
        lease.until_s = math.inf
        self._clock = SystemClock()
        self._teller = Teller(line, self._clock, self._loop)
        relay = Relay(line, descriptors)
        os.register_at_fork(after_in_child=lambda: _forked(line, relay))
        self._runner = Runner(
            slots=1,
            clock=self._clock,
            lease=lease,
            node_id=begin.node_id,
            result_limit=begin.result_limit,
            deliver=self._deliver,
            report=self._teller.report,
            alive=self._alive,
            book=relay,
        )
        # When the node last heard that the current job goes on.
        self._alive_s = -math.inf

    def listen(self) -> None:
        """In a thread, until this process ends."""
        while True:
            message = self._line.receive()
            current = self._current
            if isinstance(message, Run):
                self._run(message)
                continue
            if isinstance(message, Stop) and current is not None and not current.method.is_async:
                # At once, even if the loop is kept from its next turn.
                current.stop.ask(message.reason)
            self._loop.call_soon_threadsafe(self._handle, message)

    def _handle(self, message: ToWorker) -> None:
        if isinstance(message, Stop):
            if self._current is not None:
                self._runner.ask(self._current, message.reason)
        else:
            self.quit.set()

    def _run(self, message: Run) -> None:
        item = message.item
        # Here is the process that it wants.
        item.isolation = Isolation.NONE
        self._meter.start(item.memory_mb, item.cpu_s)
        method = self._methods.get((item.handler_id, item.job_method))
        if method is None:
            ended = outcome.not_isolated(
                f"the worker process knows no {item.handler_id}.{item.job_method}: the handler's code has changed "
                "since its node started, which has to be started again"
            )
            self._send(item.token, ended)
            return
        self._alive_s = -math.inf
        self._teller.begin()
        self._descriptors.begin()
        self._current = attempt = LiveAttempt(item, method, self._clock.mono_s())
        if method.is_async:
            self._loop.call_soon_threadsafe(self._runner.submit, [attempt])
        else:
            # There is one attempt at a time, so nobody else is at the runner, and a turn of the loop is saved.
            self._runner.submit([attempt])

    def _alive(self, attempt: LiveAttempt) -> None:
        """From the job's thread: however often it says so, the node hears it a few times within its timeout."""
        now_s = self._clock.mono_s()
        if now_s - self._alive_s >= min(1.0, (attempt.item.heartbeat_timeout_s or 0.0) / 5):
            self._alive_s = now_s
            self._line.send(Alive(token=attempt.token))

    def _deliver(self, attempt: LiveAttempt) -> None:
        """In the thread that it ended in."""
        ended = attempt.outcome
        assert ended is not None
        self._runner.release([attempt.token])
        self._current = None
        try:
            self._descriptors.end()
        except OSError as error:
            end_at_once(error)
        self._teller.flush()
        self._send(attempt.token, ended)

    def _send(self, token: int, ended: outcome.Outcome) -> None:
        done = Done(
            token=token,
            kind=ended.kind,
            result=ended.result,
            error=ended.error,
            retry_after_s=ended.retry_after_s,
            give_up=ended.give_up,
        )
        self._meter.read(done)
        self._line.send(done)


async def serve(line: Line, begin: Begin, pipes: tuple[int, int]) -> None:
    """Set up, run jobs until the node says that it is enough, tear down."""
    CLIENT.state_dir = Path(begin.state_dir)
    handlers: list[BaseHandler] = []
    try:
        handlers = load_targets(begin.targets)
        methods = [method for handler in handlers for method in describe(handler)]
        for handler in handlers:
            await set_up(handler)
    except ScheduleZeroError as error:
        line.send(Broken(message=error.message[:2000]))
        _exit(1)
    worker = Worker(line, begin, methods, Descriptors(*pipes, SystemClock()))
    threading.Thread(target=worker.listen, name="listen", daemon=True).start()
    # From here on it is jobs that speak.
    capture.install()
    line.send(
        Ready(
            rss_bytes=processes.own_memory()[0],
            most_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
            total_cpu_us=processes.own_cpu_us(),
        )
    )
    await worker.quit.wait()
    for handler in reversed(handlers):
        await tear_down(handler)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """End without waiting for the threads that jobs have left, and with the processes that they have."""
    for pid in processes.tree(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(fd: int, out: int, err: int, parent: int) -> None:
    """``fd``: the line to the node; ``out``, ``err``: where the job's 1 and 2 are to lead; ``parent``: the node."""
    processes.become_worker(parent)
    for pipe in (out, err):
        # Not for what the handlers start while they are set up.
        os.set_inheritable(pipe, False)
    # A crash says where it happened: in the job's log, or on the node's stderr if there is no job.
    faulthandler.enable()
    signal.signal(signal.SIGTERM, _nothing)
    signal.signal(signal.SIGINT, _nothing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a job prints is not lost with a process that is killed.
        sys.stdout.reconfigure(line_buffering=True)
    line = Line(fd)
    begin = line.receive()
    assert isinstance(begin, Begin)
    logs.configure(LogConfig(level=begin.log_level, format="json"), stream=cast("TextIO", LogStream(line)))
    try:
        asyncio.run(serve(line, begin, (out, err)))
    except OSError as error:
        if error.errno in CLOSED:
            end_at_once(error)
        raise


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """What has to stop is told by a message."""
