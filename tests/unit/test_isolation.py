"""Isolated jobs: the runner and the pool with real worker processes, and no server."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.job_options import Isolation
from schedule_zero.model import AttemptOutcome, ErrorCategory
from schedule_zero.node import isolation, processes
from schedule_zero.node.attempt import LiveAttempt, Phase
from schedule_zero.node.context import StopReason
from schedule_zero.node.isolation import WorkerPool
from schedule_zero.node.lease import Lease
from schedule_zero.node.methods import describe
from schedule_zero.node.outcome import Outcome
from schedule_zero.node.runner import PROCESS_GRACE_S, Runner
from schedule_zero.node.targets import load_targets
from schedule_zero.wire.messages import DispatchItem
from tests.support import ManualClock, eventually
from tests.unit.isolated_jobs import BROKEN, TRACE

pytestmark = pytest.mark.anyio

JOBS = str(Path(__file__).with_name("isolated_jobs.py"))
LIMIT = 1 << 20


class Rig:
    """A runner with its pool. ``clock`` is the runner's; processes live in real time."""

    def __init__(self, folder: Path, *, target: str = JOBS, slots: int = 4, clock: Clock | None = None) -> None:
        self.lease = Lease()
        self.lease.until_s = math.inf
        self.clock = clock or SystemClock()
        self.delivered: dict[int, LiveAttempt] = {}
        self.progress: dict[int, str] = {}
        self.methods = {method.name: method for handler in load_targets([target]) for method in describe(handler)}
        self.pool = WorkerPool([target], node_id="n1", state_dir=folder, result_limit=LIMIT)
        self.runner = Runner(
            slots=slots,
            clock=self.clock,
            lease=self.lease,
            node_id="n1",
            result_limit=LIMIT,
            deliver=self._deliver,
            report=lambda token, _, text: self.progress.__setitem__(token, text),
            isolation=self.pool,
        )
        self.token = 0

    def _deliver(self, attempt: LiveAttempt) -> None:
        assert attempt.token not in self.delivered
        self.delivered[attempt.token] = attempt
        self.runner.release([attempt.token])

    def submit(self, method: str, params: Any = None, *, isolated: bool = True, **more: Any) -> LiveAttempt:
        self.token += 1
        item = DispatchItem(
            id=f"e{self.token}",
            token=self.token,
            attempt=1,
            handler_id="isolated",
            job_method=method,
            params=params if isinstance(params, bytes) else msgspec.json.encode(params or {}),
            isolation=Isolation.PROCESS if isolated else Isolation.NONE,
            **more,
        )
        attempt = LiveAttempt(item, self.methods[method], self.clock.mono_s())
        self.runner.submit([attempt])
        return attempt

    async def outcome(self, attempt: LiveAttempt) -> Outcome:
        await eventually(lambda: attempt.token in self.delivered, within_s=30, every_s=0.005)
        assert attempt.outcome is not None
        return attempt.outcome

    async def run(self, method: str, params: Any = None, **more: Any) -> Outcome:
        return await self.outcome(self.submit(method, params, **more))

    async def value(self, method: str, params: Any = None, **more: Any) -> Any:
        ended = await self.run(method, params, **more)
        assert ended.kind is AttemptOutcome.COMPLETED, ended
        return json.loads(ended.result or b"")

    async def saying(self, method: str, params: Any = None, **more: Any) -> LiveAttempt:
        """An attempt whose job has begun, and said so as its progress."""
        attempt = self.submit(method, params, **more)
        await eventually(lambda: attempt.token in self.progress, within_s=20)
        return attempt

    async def idle(self) -> None:
        """A warm worker is there."""
        await eventually(lambda: self.pool._idle, within_s=20)


Make = Callable[..., Rig]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Rig] = []

    def make(**more: Any) -> Rig:
        made.append(Rig(tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        pids = [worker.pid for worker in one.pool.workers]
        await one.pool.close()
        one.runner.close()
        assert not [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def quick_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "GRACE_S", 0.2)
    monkeypatch.setattr(isolation, "SHORT_GRACE_S", {StopReason.TIMEOUT: 0.1, StopReason.LEASE: 0.1})


# --- as in the node ---------------------------------------------------------------------------------


async def test_plain_and_async_methods_run_in_a_worker_that_has_set_the_handler_up(rig: Make) -> None:
    r = rig()
    worker = await r.value("pid")
    assert worker != os.getpid()
    assert await r.value("apid") == worker
    about = await r.value("about", timeout_s=60, idempotency_key="k", schedule_id="s")
    assert about == ["e3", 1, 3, "k", "s", "n1", True, False, True, True]


async def test_a_hundred_quick_jobs_are_run_by_the_same_worker(rig: Make) -> None:
    r = rig(slots=1)
    attempts = [r.submit("pid") for _ in range(100)]
    pids = {(await r.outcome(attempt)).result for attempt in attempts}
    assert len(pids) == 1
    assert r.pool.started == 1
    assert r.runner.busy == 0


async def test_as_many_run_at_once_as_there_are_slots_each_in_a_worker_of_its_own(rig: Make) -> None:
    r = rig(slots=3)
    attempts = [r.submit("looks") for _ in range(4)]
    await eventually(lambda: len(r.progress) == 3, within_s=20)
    assert attempts[3].phase is Phase.QUEUED
    assert len({worker.pid for worker in r.pool._jobs}) == 3
    for attempt in attempts:
        r.runner.cancel(attempt.token)
    assert {(await r.outcome(attempt)).kind for attempt in attempts} == {AttemptOutcome.CANCELLED}


async def test_progress_and_log_lines_come_while_it_runs(rig: Make) -> None:
    r = rig()
    with structlog.testing.capture_logs() as lines:
        attempt = r.submit("tells")
        await eventually(lambda: r.progress.get(attempt.token) == "nearly half", within_s=20)
        [said] = await eventually(lambda: [line for line in lines if line["event"] == "job_says"])
    assert (said["log_level"], said["colour"], said["execution_id"]) == ("warning", "blue", attempt.item.id)
    assert attempt.phase is Phase.RUNNING
    r.runner.cancel(attempt.token)
    assert (await r.outcome(attempt)).kind is AttemptOutcome.CANCELLED


async def test_a_line_of_its_log_with_the_names_of_the_loggers_own_parameters_costs_a_job_nothing(rig: Make) -> None:
    """It made the node lose whatever the worker had said behind it: the outcome, too."""
    r = rig()
    with structlog.testing.capture_logs() as lines:
        assert await r.value("logs_oddly") == "done"
    [said] = [line for line in lines if line["event"] == "with names of its own"]
    assert (said["method_name_"], said["self_"], said["event_"]) == ("m", 1, 2)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"\xff", b'{"a":"\xff"}', b'{"a":' + b"[" * 20_000, b'{"level":"notset","event":"x"}',
        b'{"level":1,"logger":2,"event":3}', b'{"self":1,"level":"error","event":{"a":1}}', b'{"method_name":1}',
        b'{"exc_info":[1,2],"stack_info":1}', b'{"event":"%s %d"}', b'{"_record":1,"_from_structlog":2,"timestamp":3}',
    ],
)  # fmt: skip
def test_whatever_a_worker_says_in_its_log_is_a_line_in_the_nodes(line: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        isolation._log(line)
    assert len(lines) == 1


async def test_parameters_that_do_not_fit_are_refused_and_given_up(rig: Make) -> None:
    r = rig()
    for params in ({}, {"number": None}, {"number": 1, "other": 2}, b"nothing", b"[]"):
        ended = await r.run("takes", params)
        assert ended.error is not None
        assert (ended.kind, ended.error.type, ended.give_up) == (AttemptOutcome.FAILED, "InvalidParams", True)
    assert r.pool.started == 1


async def test_large_parameters_and_a_result_at_the_limit_pass_and_one_byte_more_does_not(rig: Make) -> None:
    r = rig()
    assert await r.value("takes", {"number": 1, "text": "x" * (5 << 20)}) == (5 << 20) + 1
    assert len(await r.value("big", {"size": LIMIT - 2})) == LIMIT - 2
    ended = await r.run("big", {"size": LIMIT - 1})
    assert ended.error is not None
    assert ended.error.type == "ResultTooLarge"


@pytest.mark.parametrize(
    ("what", "kind", "more"),
    [
        ("object", "InvalidResult", {}),
        ("retry", "Retry", {"retry_after_s": 7.0}),
        ("give_up", "GiveUp", {"give_up": True}),
        ("error", "ValueError", {}),
        ("exit", "SystemExit", {}),
    ],
)
async def test_what_a_job_raises_comes_as_it_does_from_the_node_itself(
    rig: Make, what: str, kind: str, more: dict[str, Any]
) -> None:
    r = rig()
    there, here = await r.run("gives", {"what": what}), await r.run("gives", {"what": what}, isolated=False)
    assert there.error is not None
    assert here.error is not None
    assert there.error.type == kind
    assert there._replace(cpu_us=None, peak_rss_bytes=None) == here._replace(error=there.error)
    assert (there.error.message, there.error.category) == (here.error.message, here.error.category)
    assert "schedule_zero/node" not in there.error.traceback
    for name, value in more.items():
        assert getattr(there, name) == value


# --- crashes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "how"),
    [
        ("leave", {"code": 0}, "ended with exit code 0"),
        ("leave", {"code": 3}, "ended with exit code 3"),
        ("killed", {"number": signal.SIGSEGV}, "was killed by SIGSEGV"),
        ("killed", {"number": signal.SIGKILL}, "was killed by SIGKILL"),
        ("babbles", {}, "wrote into its line to the node"),
    ],
)
async def test_a_crash_is_the_failure_of_that_job_alone(rig: Make, method: str, params: Any, how: str) -> None:
    r = rig()
    beside = [await r.saying("looks"), await r.saying("looks", isolated=False)]
    ended = await r.run(method, params)
    assert ended.error is not None
    assert (ended.kind, ended.error.type) == (AttemptOutcome.FAILED, "WorkerDied")
    assert how in ended.error.message
    assert "MiB of memory" in ended.error.message
    assert ended.peak_rss_bytes is not None
    assert ended.peak_rss_bytes > 5 << 20
    assert [attempt.phase for attempt in beside] == [Phase.RUNNING] * 2
    for attempt in beside:
        r.runner.cancel(attempt.token)
        assert (await r.outcome(attempt)).kind is AttemptOutcome.CANCELLED


async def test_a_worker_that_died_is_replaced_before_the_next_job_comes(rig: Make) -> None:
    r = rig()
    dead = await r.value("pid")
    await r.run("leave", {"code": 1})
    await r.idle()
    assert r.pool.started == 2
    assert await r.value("pid") != dead
    assert r.pool.started == 2


async def test_an_idle_worker_that_dies_is_not_missed(rig: Make) -> None:
    r = rig()
    pid = await r.value("pid")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not r.pool.workers)
    assert await r.value("pid") != pid


async def test_sigterm_from_elsewhere_does_not_disturb_a_job(rig: Make) -> None:
    r = rig()
    attempt = await r.saying("sleeps", {"seconds": 0.3})
    [worker] = r.pool._jobs
    os.kill(worker.pid, signal.SIGTERM)
    assert (await r.outcome(attempt)).kind is AttemptOutcome.COMPLETED


# --- limits and usage -------------------------------------------------------------------------------


async def test_more_memory_than_its_limit_ends_the_attempt_with_the_peak(rig: Make) -> None:
    r = rig()
    ended = await r.run("hoard", {"mib": 300, "hold_s": 60}, memory_mb=150)
    assert ended.error is not None
    assert (ended.error.type, ended.error.category) == ("MemoryLimitExceeded", ErrorCategory.CRITICAL)
    assert "limit of 150 MiB" in ended.error.message
    assert ended.peak_rss_bytes is not None
    assert ended.peak_rss_bytes > 150 << 20
    assert f"{ended.peak_rss_bytes / (1 << 20):.1f} MiB" in ended.error.message


async def test_the_memory_of_what_a_job_starts_counts_too(rig: Make) -> None:
    r = rig()
    ended = await r.run("hoard_in_a_child", {"mib": 200}, memory_mb=150)
    assert ended.error is not None
    assert ended.error.type == "MemoryLimitExceeded"


async def test_an_allocation_far_beyond_the_limit_is_refused_and_said_to_be_so(rig: Make) -> None:
    r = rig()
    usual = await r.value("rlimits")
    ended = await r.run("asks_for_all_at_once", {"mib": 2000}, memory_mb=100)
    assert ended.error is not None
    assert (ended.error.type, ended.error.category) == ("MemoryLimitExceeded", ErrorCategory.CRITICAL)
    assert "asked for more" in ended.error.message
    assert await r.value("rlimits", memory_mb=100, cpu_s=5) != usual
    # The next job of that worker has no limit.
    assert await r.value("rlimits") == usual
    assert r.pool.started == 1


async def test_a_job_below_its_limits_is_left_alone(rig: Make) -> None:
    r = rig()
    assert await r.value("hoard", {"mib": 20, "hold_s": 0.2}, memory_mb=500, cpu_s=30, cpu_percent=1000) == 20


@pytest.mark.parametrize("method", ["spin", "spin_in_a_child"])
async def test_more_cpu_time_than_its_limit_ends_the_attempt(rig: Make, method: str) -> None:
    r = rig()
    ended = await r.run(method, {"seconds": 60}, cpu_s=0.3)
    assert ended.error is not None
    assert (ended.error.type, ended.error.category) == ("CpuLimitExceeded", ErrorCategory.TIMEOUT)
    assert "limit of 0.3 s" in ended.error.message
    assert ended.cpu_us is not None
    assert 300_000 < ended.cpu_us < 3_000_000


async def test_cpu_time_of_earlier_jobs_of_the_same_worker_does_not_count(rig: Make) -> None:
    r = rig()
    await r.value("spin", {"seconds": 0.4}, cpu_s=5)
    await r.value("spin", {"seconds": 0.2}, cpu_s=0.6)
    assert r.pool.started == 1


async def test_cpu_percent_slows_a_job_down_and_ends_nothing(rig: Make) -> None:
    r = rig()
    await r.value("pid")
    ended = await r.run("spin", {"seconds": 0.4}, cpu_percent=25)
    assert ended.kind is AttemptOutcome.COMPLETED
    assert float(ended.result or b"") > 1.0
    assert r.pool.started == 1


async def test_a_throttled_job_can_be_cancelled_while_it_stands_still(rig: Make) -> None:
    r = rig()
    attempt = r.submit("spin", {"seconds": 60}, cpu_percent=1)
    await eventually(lambda: any(job.paused for job in r.pool._jobs.values()), within_s=20)
    r.runner.cancel(attempt.token)
    assert (await r.outcome(attempt)).kind is AttemptOutcome.CANCELLED


async def test_cpu_time_and_peak_memory_are_those_of_the_one_attempt(rig: Make) -> None:
    r = rig()
    first = await r.run("pid")
    hoarder = await r.run("hoard", {"mib": 60})
    spinner = await r.run("spin", {"seconds": 0.3})
    family = await r.run("spin_in_a_child", {"seconds": 0.2})
    assert r.pool.started == 1
    for ended in (first, hoarder, spinner, family):
        assert ended.cpu_us is not None
        assert ended.peak_rss_bytes is not None
    assert first.cpu_us < 200_000
    assert spinner.cpu_us >= 300_000
    assert family.cpu_us >= 200_000
    assert hoarder.peak_rss_bytes > 60 << 20
    assert spinner.peak_rss_bytes < hoarder.peak_rss_bytes - (30 << 20)


async def test_a_job_in_the_node_itself_has_no_usage_of_its_own(rig: Make) -> None:
    ended = await rig().run("pid", isolated=False)
    assert json.loads(ended.result or b"") == os.getpid()
    assert (ended.cpu_us, ended.peak_rss_bytes) == (None, None)


# --- cancel and timeout -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["looks", "awaits", "runs_a_command"])
async def test_a_job_that_reacts_is_cancelled_without_being_killed(rig: Make, method: str) -> None:
    r = rig()
    attempt = await r.saying(method)
    r.runner.cancel(attempt.token)
    ended = await r.outcome(attempt)
    assert ended.kind is AttemptOutcome.CANCELLED
    assert attempt.finished_s is not None
    assert attempt.finished_s - attempt.stop_since_s < 3


async def test_a_job_that_blocks_the_loop_of_its_worker_is_killed(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_kill(monkeypatch)
    r = rig()
    with structlog.testing.capture_logs() as lines:
        attempt = r.submit("blocks")
        await eventually(lambda: any(line["event"] == "blocking" for line in lines), within_s=20)
    r.runner.cancel(attempt.token)
    assert (await r.outcome(attempt)).kind is AttemptOutcome.CANCELLED


@pytest.mark.parametrize("method", ["sleeps", "shrugs"])
async def test_one_that_takes_no_notice_of_a_cancel_is_killed_after_the_grace(
    rig: Make, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_kill(monkeypatch)
    r = rig()
    attempt = await r.saying(method)
    [worker] = r.pool._jobs
    r.runner.cancel(attempt.token)
    r.runner.cancel(attempt.token)
    ended = await r.outcome(attempt)
    assert (ended.kind, alive(worker.pid)) == (AttemptOutcome.CANCELLED, False)
    assert attempt.finished_s is not None
    assert attempt.finished_s - attempt.stop_since_s >= 0.2
    assert r.runner.busy == 0
    assert r.runner.overdue == set()


@pytest.mark.parametrize("own_session", [False, True])
async def test_what_a_job_has_started_ends_with_it(
    rig: Make, own_session: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_kill(monkeypatch)
    r = rig()
    attempt = await r.saying("family", {"own_session": own_session})
    pids = [int(pid) for pid in r.progress[attempt.token].split()]
    assert [alive(pid) for pid in pids] == [True, True]
    r.runner.cancel(attempt.token)
    assert (await r.outcome(attempt)).kind is AttemptOutcome.CANCELLED
    await eventually(lambda: not any(map(alive, pids)))


async def test_the_family_of_a_job_that_crashes_ends_too(rig: Make) -> None:
    r = rig()
    attempt = await r.saying("family")
    pids = [int(pid) for pid in r.progress[attempt.token].split()]
    [worker] = r.pool._jobs
    os.kill(worker.pid, signal.SIGKILL)
    ended = await r.outcome(attempt)
    assert ended.error is not None
    assert ended.error.type == "WorkerDied"
    await eventually(lambda: not any(map(alive, pids)))


async def test_one_that_waits_for_a_worker_is_cancelled_at_once(rig: Make) -> None:
    r = rig()
    attempt = r.submit("sleeps")
    assert attempt.phase is Phase.RUNNING
    assert attempt.started_s is None
    r.runner.cancel(attempt.token)
    assert attempt.outcome is not None
    assert attempt.outcome.kind is AttemptOutcome.CANCELLED
    # Its worker comes, and is there for the next one.
    await r.value("pid")
    assert r.pool.started == 1


@pytest.mark.parametrize("method", ["sleeps", "looks", "shrugs", "awaits"])
async def test_a_timeout_ends_the_job_itself_and_frees_its_slot(
    rig: Make, method: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_kill(monkeypatch)
    r = rig(slots=1, clock=clock)
    attempt = await r.saying(method, timeout_s=10)
    assert r.runner.check_deadlines(clock.mono_s()) == attempt.deadline_s
    clock.advance(10)
    r.runner.check_deadlines(clock.mono_s())
    ended = await r.outcome(attempt)
    assert ended.error is not None
    assert (ended.kind, ended.error.type) == (AttemptOutcome.TIMEOUT, "Timeout")
    assert "does not stop" not in ended.error.message
    assert (r.runner.busy, r.runner.overdue) == (0, set())
    await r.value("pid")


async def test_what_completes_after_its_timeout_has_timed_out(rig: Make, clock: ManualClock) -> None:
    r = rig(clock=clock)
    attempt = await r.saying("sleeps", {"seconds": 0.3}, timeout_s=10)
    clock.advance(10)
    r.runner.check_deadlines(clock.mono_s())
    assert (await r.outcome(attempt)).kind is AttemptOutcome.TIMEOUT


async def test_a_process_that_even_sigkill_does_not_end_is_reported_and_holds_its_slot(
    rig: Make, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_kill(monkeypatch)
    r = rig(slots=2, clock=clock)
    attempt = await r.saying("sleeps")
    [worker] = r.pool._jobs
    with monkeypatch.context() as patch:
        patch.setattr(worker, "kill", lambda: None)
        r.runner.cancel(attempt.token)
        clock.advance(PROCESS_GRACE_S)
        r.runner.check_deadlines(clock.mono_s())
        ended = await r.outcome(attempt)
    assert ended.kind is AttemptOutcome.CANCELLED
    assert (r.runner.busy, len(r.runner.overdue)) == (1, 1)
    worker.kill()
    await eventually(lambda: r.runner.busy == 0)
    assert r.runner.overdue == set()


# --- lease and drain --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sleeps", "looks", "awaits", "shrugs"])
async def test_the_end_of_the_lease_ends_isolated_jobs(rig: Make, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_kill(monkeypatch)
    r = rig()
    attempt = await r.saying(method)
    [worker] = r.pool._jobs
    assert r.runner.fence() == 1
    ended = await r.outcome(attempt)
    assert ended.error is not None
    assert (ended.kind, "lease" in ended.error.message) == (AttemptOutcome.HANDED_BACK, True)
    await eventually(lambda: not alive(worker.pid))


async def test_one_that_waits_for_a_worker_does_not_start_when_its_lease_is_over(rig: Make) -> None:
    r = rig()
    attempt = r.submit("pid")
    r.lease.until_s = 0
    await r.idle()
    assert attempt.started_s is None
    assert (attempt.outcome, r.runner.attempts, r.runner.busy) == (None, {}, 0)


async def test_a_drain_asks_and_at_its_end_kills_and_hands_back(rig: Make) -> None:
    r = rig()
    attempt, reacts = await r.saying("sleeps"), await r.saying("looks")
    pids = [worker.pid for worker in r.pool._jobs]
    r.runner.stop_running(StopReason.DRAIN)
    assert (await r.outcome(reacts)).kind is AttemptOutcome.HANDED_BACK
    assert attempt.phase is Phase.RUNNING
    r.runner.give_up_running(process_ends=True)
    assert (await r.outcome(attempt)).kind is AttemptOutcome.HANDED_BACK
    await eventually(lambda: not any(map(alive, pids)))


async def test_a_pool_that_closes_reports_nothing_of_what_nobody_asked_to_stop(rig: Make) -> None:
    r = rig()
    attempt = await r.saying("sleeps")
    await r.pool.close()
    assert attempt.outcome is None
    assert r.pool.workers == []


async def test_idle_workers_tear_their_handlers_down(
    rig: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACE, str(tmp_path / "trace"))
    r = rig()
    pid = await r.value("pid")
    await r.pool.close()
    assert (tmp_path / "trace").read_text() == f"torn down in {pid}"


# --- workers come and go ----------------------------------------------------------------------------


@pytest.mark.parametrize("own_session", [False, True])
async def test_a_process_that_a_job_leaves_behind_ends_with_its_worker(rig: Make, own_session: bool) -> None:
    r = rig()
    left = await r.value("leaves_a_process", {"own_session": own_session})
    await eventually(lambda: not alive(left))
    await r.value("pid")
    assert r.pool.started == 2


async def test_a_worker_is_replaced_after_so_many_jobs(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MAX_JOBS", 3)
    r = rig(slots=1)
    attempts = [r.submit("pid") for _ in range(7)]
    pids = [(await r.outcome(attempt)).result for attempt in attempts]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


async def test_a_worker_that_has_grown_is_replaced(rig: Make) -> None:
    r = rig()
    await r.value("pid")
    await r.value("hoard", {"mib": 100, "keep": True})
    await r.value("pid")
    assert r.pool.started == 2


async def test_what_the_first_job_loads_for_good_does_not_wear_a_worker(rig: Make) -> None:
    r = rig()
    await r.value("hoard", {"mib": 100, "keep": True})
    pid = await r.value("pid")
    assert await r.value("pid") == pid
    assert r.pool.started == 1


async def test_what_earlier_jobs_left_in_a_worker_does_not_count_for_one_with_a_limit(rig: Make) -> None:
    r = rig()
    await r.value("hoard", {"mib": 100, "keep": True})
    assert await r.value("hoard", {"mib": 1, "hold_s": 0.2}, memory_mb=90) == 1
    assert r.pool.started == 2


async def test_a_limit_below_what_python_itself_takes_is_told_as_such(rig: Make) -> None:
    r = rig()
    ended = await r.run("pid", memory_mb=16)
    assert ended.error is not None
    assert ended.error.type == "MemoryLimitExceeded"
    assert "before it begins" in ended.error.message
    assert (r.pool.started, r.runner.busy) == (1, 0)
    await r.value("pid")


async def test_a_thread_that_a_job_leaves_does_not_keep_its_worker_from_ending(rig: Make) -> None:
    r = rig()
    await r.value("leaves_a_thread")
    await asyncio.wait_for(r.pool.close(), 3)


async def test_workers_that_nobody_needs_end_and_one_is_kept(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "HOUSEKEEPING_S", 0.05)
    monkeypatch.setattr(isolation, "IDLE_S", 0.1)
    r = rig(slots=3)
    attempts = [await r.saying("looks") for _ in range(3)]
    for attempt in attempts:
        r.runner.cancel(attempt.token)
        await r.outcome(attempt)
    await r.value("pid")
    await eventually(lambda: len(r.pool.workers) == 1)
    monkeypatch.setattr(isolation, "LAST_IDLE_S", 0.1)
    await eventually(lambda: not r.pool.workers)
    await r.value("pid")


# --- workers that can't be started ------------------------------------------------------------------


async def test_a_setup_that_fails_in_the_worker_fails_the_job_with_its_reason(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BROKEN, "1")
    r = rig(slots=2)
    attempts = [r.submit("pid") for _ in range(5)]
    for attempt in attempts:
        ended = await r.outcome(attempt)
        assert ended.error is not None
        assert (ended.kind, ended.error.type) == (AttemptOutcome.FAILED, "WorkerNotStarted")
        assert "no database today" in ended.error.message
    assert (r.runner.busy, r.pool.started) == (0, 5)
    monkeypatch.delenv(BROKEN)
    await r.value("pid")


async def test_a_target_that_can_not_be_loaded_any_more_fails_the_job(rig: Make, tmp_path: Path) -> None:
    target = tmp_path / "vanishing_jobs.py"
    shutil.copy(JOBS, target)
    r = rig(target=str(target))
    target.unlink()
    ended = await r.run("pid")
    assert ended.error is not None
    assert ended.error.type == "WorkerNotStarted"
    assert "vanishing_jobs.py" in ended.error.message


async def test_a_method_that_the_changed_code_lacks_fails_the_job(rig: Make, tmp_path: Path) -> None:
    target = tmp_path / "changing_jobs.py"
    shutil.copy(JOBS, target)
    r = rig(target=str(target))
    target.write_text(target.read_text().replace("def takes(", "def _takes("))
    ended = await r.run("takes", {"number": 1})
    assert ended.error is not None
    assert ended.error.type == "WorkerNotStarted"
    assert "knows no isolated.takes" in ended.error.message
    await r.value("pid")


async def test_a_worker_that_does_not_become_ready_in_time_is_given_up(
    rig: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "slow_jobs.py"
    shutil.copy(JOBS, target)
    r = rig(target=str(target))
    target.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(isolation, "HOUSEKEEPING_S", 0.05)
    monkeypatch.setattr(isolation, "START_S", 0.2)
    ended = await r.run("pid")
    assert ended.error is not None
    assert "not ready after 0.2 s" in ended.error.message


async def test_a_system_that_starts_no_process_fails_the_job(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    r = rig()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        ended = await r.run("pid")
    assert ended.error is not None
    assert (ended.error.type, "temporarily" in ended.error.message) == ("WorkerNotStarted", True)
    await r.value("pid")


async def test_without_targets_there_are_no_workers_and_the_job_is_told() -> None:
    delivered: list[LiveAttempt] = []
    lease = Lease()
    lease.until_s = math.inf
    runner = Runner(
        slots=1, clock=SystemClock(), lease=lease, node_id="n1", result_limit=LIMIT, deliver=delivered.append,
        report=lambda *_: None,
    )  # fmt: skip
    methods = {method.name: method for handler in load_targets([JOBS]) for method in describe(handler)}
    words = {"attempt": 1, "handler_id": "isolated", "job_method": "pid", "isolation": Isolation.PROCESS}
    items = [DispatchItem(id=f"e{token}", token=token, **words) for token in range(1, 2001)]
    attempts = [LiveAttempt(item, methods["pid"], 0.0) for item in items]
    runner.submit(attempts)
    await eventually(lambda: len(delivered) == 2000)
    error = delivered[0].outcome.error if delivered[0].outcome else None
    assert error is not None
    assert (error.type, runner.busy) == ("WorkerNotStarted", 0)


# --- the guard --------------------------------------------------------------------------------------


async def test_a_guard_that_was_killed_is_started_again(rig: Make) -> None:
    r = rig()
    await r.value("pid")
    guard = r.pool._guard._popen
    assert guard is not None
    guard.kill()
    guard.wait()
    await r.run("leave", {"code": 1})
    await r.idle()
    again = r.pool._guard._popen
    assert again is not None
    assert again.pid != guard.pid
    assert again.poll() is None


async def test_processes_of_a_tree_are_found_and_counted_and_the_dead_are_not() -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True).wait()"
    child = subprocess.Popen([sys.executable, "-S", "-c", script])
    try:
        await eventually(lambda: len(processes.tree(child.pid)) == 2)
        used = processes.usage(processes.tree(child.pid))
        assert used.rss_bytes > 5 << 20
    finally:
        for pid in processes.tree(child.pid):
            os.kill(pid, signal.SIGKILL)
        child.wait()
    assert processes.tree(child.pid) == [child.pid]
    assert processes.usage([child.pid]) == (0, 0)


# --- races ------------------------------------------------------------------------------------------


async def test_c21_a_cancel_at_any_moment_meets_one_outcome(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_kill(monkeypatch)
    r = rig(slots=3)
    await r.value("pid")
    chance = random.Random(5)
    attempts = []
    for number in range(60):
        method = chance.choice(["pid", "apid", "looks", "awaits", "sleeps", "leave"])
        params = {"leave": {"code": 1}, "sleeps": {"seconds": 0.01}}.get(method)
        attempts.append(r.submit(method, params))
        if number % 3 == 0:
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.02]))
        r.runner.cancel(chance.choice(attempts).token)
    for attempt in attempts:
        r.runner.cancel(attempt.token)
        assert (await r.outcome(attempt)).kind in ("completed", "failed", "cancelled")
    assert (r.runner.busy, r.runner.attempts, len(r.delivered)) == (0, {}, 61)
    await r.value("pid")
