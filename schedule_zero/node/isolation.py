"""Worker processes for isolated jobs: warm, one job at a time each, watched, limited, and ended with all they started.

Everything happens on the loop's thread. The runner gives an attempt its slot, and then it is here:

    start ──► waiting for a worker ──► running ──Done──► ended, the worker is idle again (or worn: replaced)
                 │      │                 ├──the worker is dead──► ended: what killed it, see below
                 │      └─it can't be started──► ended: WorkerNotStarted
                 └──stop──► ended            └──stop──► stopping ──Done, or dead after a grace──► ended

A worker:  starting ──Ready──► idle ⇄ busy ──worn──► quitting ──► dead      any of these ──killed, crashed──► dead

**What ends a job from outside**, the first counts, and each ends with its worker dead:

* *asked to stop* (cancel, timeout, drain, the end of the lease): the job is told, its process group and whatever else
  descends from it gets SIGTERM, and after a grace SIGKILL. The outcome says who asked.
* *over a limit*: SIGKILL at once. Looked at twenty times a second (``isolated_job``): resident memory and CPU time of
  the worker and all that descends from it. A job that completed before it was looked at has completed.
* *a crash*, ``os._exit``, the kernel short of memory: ``WorkerDied``, with the signal or the exit code. The node lives,
  so this is a failure of the job, not a lost attempt.

``cpu_percent`` ends nothing: who is over it stands still (SIGSTOP) until the time has come in which it may.

**Workers** are started when there is a job and none is idle. The first start takes as long as loading the handlers
does; afterwards one is kept warm: what died or is worn is replaced in the background, once for each job, so that
handlers which can't be loaded any more are not tried for ever. A worker is worn after ``MAX_JOBS``, when it has grown
by ``MAX_GROWTH``, when its job left processes behind, and after any signal. Those that nobody needs end after a while.

The node killed: the kernel kills the workers with it, ``worker_guard`` what they had started.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog

from schedule_zero.node import outcome
from schedule_zero.node.attempt import LiveAttempt, stopped
from schedule_zero.node.context import ReportProgress, StopReason
from schedule_zero.node.isolated_job import IsolatedJob
from schedule_zero.node.outcome import Outcome
from schedule_zero.node.worker_frames import (
    Alive,
    Begin,
    Broken,
    Done,
    FromWorker,
    Logged,
    Quit,
    Ready,
    Run,
    Said,
    Stop,
    Told,
)
from schedule_zero.node.worker_pipes import CODES
from schedule_zero.node.worker_process import Death, Guard, WorkerProcess

log = structlog.get_logger(__name__)

# From SIGTERM to SIGKILL. After a timeout there was time enough already; and when the lease is over the server waits
# for one second (``dispatch.lease_margin_s``) before another node may begin.
GRACE_S = 5.0
SHORT_GRACE_S = {StopReason.TIMEOUT: 1.0, StopReason.SILENCE: 1.0, StopReason.LEASE: 0.5}
START_S = 60.0
QUIT_S = 5.0
MAX_JOBS = 1_000
MAX_GROWTH = 64 << 20
# Idle workers but one end after so long, the last one later.
IDLE_S, LAST_IDLE_S = 60.0, 900.0
HOUSEKEEPING_S = 15.0


class WorkerPool:
    """``attach`` once; then ``start``, ``stop``, ``kill`` attempts, each of which ends once; ``close`` at the end."""

    def __init__(self, targets: Sequence[str], *, node_id: str, state_dir: Path, result_limit: int) -> None:
        self._begin = Begin(
            targets=list(targets),
            node_id=node_id,
            state_dir=str(state_dir),
            result_limit=result_limit,
            log_level=_log_level(),
        )
        self._loop = asyncio.get_running_loop()
        self._guard = Guard()
        self._waiting: deque[LiveAttempt] = deque()
        self._jobs: dict[WorkerProcess, IsolatedJob] = {}
        self._starting: dict[WorkerProcess, str] = {}
        # The one that was used last is used next.
        self._idle: list[WorkerProcess] = []
        self._quitting: dict[WorkerProcess, asyncio.TimerHandle] = {}
        self._closing = False
        # While closing: the last worker is.
        self._gone = asyncio.Event()
        self._look_timer: asyncio.TimerHandle | None = None
        self._chores_timer: asyncio.TimerHandle | None = None
        self._enter: Callable[[LiveAttempt], bool] = lambda _: False
        self._ended: Callable[[LiveAttempt, Outcome], None] = lambda _, __: None
        self._report: ReportProgress = lambda _, __, ___: None
        self._heard: Callable[[LiveAttempt], None] = lambda _: None
        self._say: Callable[[int, str, str], bool] | None = None
        # For tests and the log.
        self.started = 0

    def attach(
        self,
        *,
        enter: Callable[[LiveAttempt], bool],
        ended: Callable[[LiveAttempt, Outcome], None],
        report: ReportProgress,
        heard: Callable[[LiveAttempt], None],
        say: Callable[[int, str, str], bool] | None = None,
    ) -> None:
        """``enter`` is called when an attempt has a worker, and says whether it may start."""
        self._enter, self._ended, self._report, self._heard, self._say = enter, ended, report, heard, say

    def allow_results(self, limit: int) -> None:
        """In workers that are started from now on a result may take so many bytes."""
        self._begin.result_limit = limit

    # --- for the runner ----------------------------------------------------------------------------------

    @property
    def workers(self) -> list[WorkerProcess]:
        """All that live."""
        return [*self._starting, *self._idle, *self._jobs, *self._quitting]

    def start(self, attempt: LiveAttempt) -> None:
        self._waiting.append(attempt)
        if self._idle:
            self._free(self._idle.pop())
        else:
            self._hire()

    def stop(self, attempt: LiveAttempt, reason: StopReason) -> None:
        """Ask it to end, and see to it that it does."""
        if attempt in self._waiting:
            self._waiting.remove(attempt)
            self._ended(attempt, stopped(reason, attempt.item))
            return
        job = self._job_of(attempt)
        if job is None:
            return
        job.worker.send(Stop(reason=reason))
        if job.stopping or job.breach:
            return
        job.stopping = True
        job.go_on()
        job.hit = job.worker.signal(signal.SIGTERM)
        job.kill_timer = self._loop.call_later(SHORT_GRACE_S.get(reason, GRACE_S), job.worker.kill)

    def kill(self, attempt: LiveAttempt) -> None:
        """At once."""
        job = self._job_of(attempt)
        if job is not None:
            job.worker.kill()

    async def close(self) -> None:
        """End all workers; those without a job may tear their handlers down."""
        self._closing = True
        self._waiting.clear()
        for timer in (self._look_timer, self._chores_timer):
            if timer is not None:
                timer.cancel()
        for worker in [*self._starting, *self._jobs]:
            worker.kill()
        for worker in [*self._idle]:
            self._quit(worker)
        if self.workers:
            await self._gone.wait()
        self._guard.close()

    # --- workers -----------------------------------------------------------------------------------------

    def _hire(self) -> None:
        """Start as many workers as there are attempts that wait for one."""
        while len(self._starting) < len(self._waiting) and not self._closing:
            try:
                worker = WorkerProcess(self._begin, self, self._guard)
            except OSError as error:
                log.warning("worker_not_started", error=str(error))
                attempt = self._waiting.popleft()
                self._ended(attempt, outcome.not_isolated(f"no worker process could be started: {error}"))
                continue
            self._new(worker)

    def _keep_warm(self) -> None:
        """One worker is to be there for the next job."""
        if self._closing or self._starting or any(not worker.worn for worker in self._idle):
            return
        try:
            self._new(WorkerProcess(self._begin, self, self._guard))
        except OSError as error:
            log.warning("worker_not_started", error=str(error))

    def _new(self, worker: WorkerProcess) -> None:
        self._starting[worker] = ""
        self.started += 1
        self._chore_soon()

    def _free(self, worker: WorkerProcess) -> None:
        """It has nothing to do: the next attempt, or none."""
        while self._waiting:
            attempt = self._waiting.popleft()
            memory_mb = attempt.item.memory_mb
            if memory_mb is not None and worker.rss_bytes > worker.ready_rss_bytes + MAX_GROWTH:
                # What others have left in it is not to count for one with a limit.
                self._waiting.appendleft(attempt)
                self._retire(worker, "grown")
                return
            if not self._enter(attempt):
                continue
            job = IsolatedJob(attempt, worker, self._loop.time())
            if memory_mb is not None and worker.rss_bytes > memory_mb << 20:
                self._end(job, outcome.over_memory(memory_mb, "its process takes more than that before it begins"))
                continue
            worker.jobs += 1
            self._jobs[worker] = job
            worker.send(Run(item=attempt.item))
            self._look_in(job.look_s)
            return
        worker.idle_since_s = self._loop.time()
        self._idle.append(worker)
        self._chore_soon()

    def _retire(self, worker: WorkerProcess, why: str) -> None:
        """It is not used any more."""
        log.debug("worker_retired", pid=worker.pid, jobs=worker.jobs, reason=why)
        worker.worn = why
        self._quit(worker)
        self._hire()
        self._keep_warm()

    def _quit(self, worker: WorkerProcess) -> None:
        """Let it tear its handlers down."""
        if worker in self._idle:
            self._idle.remove(worker)
        worker.send(Quit())
        self._quitting[worker] = self._loop.call_later(QUIT_S, worker.kill)

    def _wear(self, worker: WorkerProcess, job: IsolatedJob, done: Done) -> str:
        """Why it is worn after this job; nothing if it isn't."""
        if job.stopping or job.breach:
            return "signalled"
        if done.leftovers:
            return "processes_left"
        if done.rss_bytes > worker.first_rss_bytes + MAX_GROWTH:
            return "grown"
        return "jobs" if worker.jobs >= MAX_JOBS else ""

    # --- what workers say --------------------------------------------------------------------------------

    def said(self, worker: WorkerProcess, message: FromWorker) -> None:
        if isinstance(message, Done):
            self._done(worker, message)
        elif isinstance(message, Told):
            job = self._jobs.get(worker)
            if job is not None and job.attempt.token == message.token:
                self._heard(job.attempt)
                self._report(message.token, message.percent, message.text)
        elif isinstance(message, Alive):
            job = self._jobs.get(worker)
            if job is not None and job.attempt.token == message.token:
                self._heard(job.attempt)
        elif isinstance(message, Said):
            job = self._jobs.get(worker)
            if job is not None and job.attempt.token == message.token:
                self._take_line(job, message.code, message.text)
        elif isinstance(message, Logged):
            _log(message.line)
        elif isinstance(message, Broken):
            if worker in self._starting:
                self._starting[worker] = message.message
        elif worker in self._starting:
            self._ready(worker, message)

    def wrote(self, worker: WorkerProcess, code: str, text: str) -> None:
        job = self._jobs.get(worker)
        if job is not None:
            self._take_line(job, code, text)

    def _take_line(self, job: IsolatedJob, code: str, text: str) -> None:
        if self._say is None or not self._say(job.attempt.token, code, text):
            # Nobody takes logs: it goes where it would without a worker.
            stream = sys.stderr if code == CODES[1] else sys.stdout
            encoding = stream.encoding or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def _ready(self, worker: WorkerProcess, ready: Ready) -> None:
        del self._starting[worker]
        worker.ready_rss_bytes = worker.rss_bytes = ready.rss_bytes
        worker.most_rss_bytes = ready.most_rss_bytes
        worker.total_cpu_us = ready.total_cpu_us
        log.debug("worker_ready", pid=worker.pid, after_s=round(self._loop.time() - worker.started_s, 3))
        self._free(worker)

    def _done(self, worker: WorkerProcess, done: Done) -> None:
        job = self._jobs.get(worker)
        if job is None or job.attempt.token != done.token:
            return
        worker.job_over()
        self._over(job)
        worker.rss_bytes, worker.total_cpu_us = done.rss_bytes, done.total_cpu_us
        if worker.jobs == 1:
            worker.first_rss_bytes = done.rss_bytes
        ended = job.ended_itself(done)
        self._end(job, ended)
        why = self._wear(worker, job, done)
        if why:
            self._retire(worker, why)
        else:
            self._free(worker)

    def died(self, worker: WorkerProcess, death: Death) -> None:
        how = worker.fault or death.how()
        if worker in self._starting:
            why = self._starting.pop(worker)
            if not self._closing:
                self._not_started(why or f"the worker process {how} while it was starting")
        elif worker in self._quitting:
            self._quitting.pop(worker).cancel()
        elif worker in self._idle:
            self._idle.remove(worker)
            log.warning("worker_died", pid=worker.pid, how=how)
        elif self._closing:
            # Nobody asked it to stop, so this node could not go on: the attempt is lost with it.
            self._over(self._jobs[worker])
        elif worker in self._jobs:
            self._died_with(self._jobs[worker], how, death)
            self._hire()
            self._keep_warm()
        if self._closing and not self.workers:
            self._gone.set()

    def _not_started(self, why: str) -> None:
        log.warning("worker_not_started", error=why)
        # Each that waits has a start of its own under way.
        if len(self._waiting) > len(self._starting):
            ended = outcome.not_isolated(f"its worker process could not be started: {why}")
            self._ended(self._waiting.popleft(), ended)

    def _died_with(self, job: IsolatedJob, how: str, death: Death) -> None:
        self._over(job)
        ended = job.ended_with_its_worker(how, death)
        if ended.error is not None and ended.error.type == outcome.WORKER_DIED:
            item = job.attempt.item
            log.warning(
                "worker_died",
                pid=job.worker.pid,
                how=how,
                execution_id=item.id,
                handler_id=item.handler_id,
                job_method=item.job_method,
            )
        self._end(job, ended)

    def _over(self, job: IsolatedJob) -> None:
        del self._jobs[job.worker]
        if job.kill_timer is not None:
            job.kill_timer.cancel()
        job.go_on()

    def _end(self, job: IsolatedJob, ended: Outcome) -> None:
        self._ended(job.attempt, ended._replace(cpu_us=max(0, job.cpu_us), peak_rss_bytes=job.peak_rss_bytes))

    def _job_of(self, attempt: LiveAttempt) -> IsolatedJob | None:
        return next((job for job in self._jobs.values() if job.attempt is attempt), None)

    # --- limits ------------------------------------------------------------------------------------------

    def _look_in(self, delay_s: float) -> None:
        at_s = self._loop.time() + delay_s
        if self._look_timer is not None:
            if self._look_timer.when() <= at_s:
                return
            self._look_timer.cancel()
        self._look_timer = self._loop.call_later(delay_s, self._look_around)

    def _look_around(self) -> None:
        self._look_timer = None
        now_s = self._loop.time()
        for job in list(self._jobs.values()):
            if now_s - job.looked_s >= job.look_s * 0.9:
                job.look(now_s)
        if self._jobs:
            self._look_in(min(job.looked_s + job.look_s for job in self._jobs.values()) - now_s)

    # --- chores ------------------------------------------------------------------------------------------

    def _chore_soon(self) -> None:
        if self._chores_timer is None and not self._closing:
            self._chores_timer = self._loop.call_later(HOUSEKEEPING_S, self._chores)

    def _chores(self) -> None:
        """Starts that take too long, and workers that nobody needs."""
        self._chores_timer = None
        now_s = self._loop.time()
        for worker in [worker for worker in self._starting if now_s - worker.started_s > START_S]:
            self._starting[worker] = f"it was not ready after {START_S:g} s"
            worker.kill()
        # The one used last stands last, and is kept longest.
        for worker in [*self._idle]:
            if now_s - worker.idle_since_s > (LAST_IDLE_S if len(self._idle) == 1 else IDLE_S):
                self._quit(worker)
        if self._starting or self._idle:
            self._chore_soon()


def _log_level() -> Literal["debug", "info", "warning", "error"]:
    level = logging.getLogger().getEffectiveLevel()
    if level <= logging.DEBUG:
        return "debug"
    return "info" if level <= logging.INFO else "warning" if level <= logging.WARNING else "error"


_decode_line = msgspec.json.Decoder(dict[str, Any]).decode
# How the logger calls its own parameters. A job may call what it says by any name.
_PARAMETERS = ("self", "level", "event", "method_name")


def _log(line: bytes) -> None:
    """Say in this process's log what a worker said in its own. Whatever that is, it is said: never an exception."""
    try:
        event = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        event = {"event": line.decode("utf-8", "replace")}
    level = logging.getLevelNamesMapping().get(str(event.pop("level", "info")).upper()) or logging.INFO
    name, what = str(event.pop("logger", __name__)), event.pop("event", "")
    said = {f"{key}_" if key in _PARAMETERS else key: value for key, value in event.items()}
    structlog.get_logger(name).log(level, what, **said)
