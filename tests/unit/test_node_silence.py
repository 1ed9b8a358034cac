"""Heartbeat timeouts and start deadlines on the node: what is silent is ended, what is late is not begun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
import pytest

from schedule_zero import BaseHandler, current_job
from schedule_zero.job_options import Isolation
from schedule_zero.model import ErrorCategory
from schedule_zero.node.attempt import LiveAttempt
from schedule_zero.node.context import JobContext, StopReason
from schedule_zero.node.isolation import WorkerPool
from schedule_zero.node.lease import Lease
from schedule_zero.node.methods import describe
from schedule_zero.node.runner import Runner
from schedule_zero.wire.messages import DispatchItem
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio


class Jobs(BaseHandler):
    """Jobs whose context the test holds."""

    handler_id = "jobs"

    def __init__(self) -> None:
        self.context: JobContext | None = None
        self.gate = threading.Event()
        self.async_gate = asyncio.Event()

    def plain(self) -> str:
        self.context = current_job()
        self.gate.wait(10)
        return "done"

    async def a_sync(self) -> str:
        self.context = current_job()
        await self.async_gate.wait()
        return "done"


class SlowPool:
    """Worker processes that are there when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[LiveAttempt] = []

    def attach(self, *, enter: Callable[[LiveAttempt], bool], **_: object) -> None:
        self.enter = enter

    def start(self, attempt: LiveAttempt) -> None:
        self.waiting.append(attempt)

    def ready(self) -> bool:
        """A worker is: may the first begin in it?"""
        return self.enter(self.waiting.pop(0))


class Rig:
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.pool = SlowPool()
        lease = Lease()
        lease.extend(clock.mono_s(), 10_000.0)
        self.delivered: list[LiveAttempt] = []
        self.late: list[int] = []
        self.jobs = Jobs()
        self.methods = {method.name: method for method in describe(self.jobs)}
        self.runner = Runner(
            slots=1,
            clock=clock,
            lease=lease,
            node_id="n1",
            result_limit=1000,
            deliver=self.delivered.append,
            report=lambda *_: None,
            too_late=self.late.extend,
            isolation=cast("WorkerPool", self.pool),
        )
        self.token = 0

    def submit(self, method: str, start_by_s: float | None = None, **more: Any) -> LiveAttempt:
        self.token += 1
        item = DispatchItem(
            id=f"e{self.token}", token=self.token, attempt=1, handler_id="jobs", job_method=method, **more
        )
        attempt = LiveAttempt(item, self.methods[method], self.clock.mono_s(), start_by_s)
        self.runner.submit([attempt])
        return attempt

    async def begun(self) -> JobContext:
        await eventually(lambda: self.jobs.context)
        assert self.jobs.context is not None
        return self.jobs.context

    def sweep(self) -> float | None:
        return self.runner.check_deadlines(self.clock.mono_s())


@pytest.fixture
async def rig(clock: ManualClock) -> AsyncIterator[Rig]:
    one = Rig(clock)
    yield one
    one.jobs.gate.set()
    one.jobs.async_gate.set()
    await eventually(lambda: one.runner.busy == 0)
    one.runner.close()
    for thread in one.runner._threads:
        thread.join(10)


@pytest.mark.parametrize("method", ["plain", "a_sync"])
async def test_an_attempt_that_says_nothing_for_too_long_times_out(rig: Rig, clock: ManualClock, method: str) -> None:
    attempt = rig.submit(method, heartbeat_timeout_s=5.0)
    await rig.begun()
    assert rig.sweep() == clock.mono_s() + 5.0
    clock.advance(4.9)
    rig.sweep()
    assert attempt.stop.reason is None

    clock.advance(0.1)
    rig.sweep()

    await eventually(lambda: rig.delivered)
    assert attempt.stop.reason is StopReason.SILENCE
    outcome = attempt.outcome
    assert outcome is not None
    assert outcome.error is not None
    assert (outcome.kind, outcome.error.type, outcome.error.category) == (
        "timeout", "HeartbeatTimeout", ErrorCategory.TIMEOUT,
    )  # fmt: skip
    assert "for 5 s" in outcome.error.message


@pytest.mark.parametrize("sign", ["heartbeat", "progress"])
async def test_each_sign_of_going_on_counts_anew(rig: Rig, clock: ManualClock, sign: str) -> None:
    attempt = rig.submit("plain", heartbeat_timeout_s=5.0)
    context = await rig.begun()
    for _ in range(5):
        clock.advance(4.0)
        context.heartbeat() if sign == "heartbeat" else context.progress(10)
        rig.sweep()
    assert attempt.stop.reason is None

    clock.advance(5.0)
    rig.sweep()

    assert attempt.stop.reason is StopReason.SILENCE


async def test_signs_do_not_put_off_the_timeout_of_the_whole_attempt(rig: Rig, clock: ManualClock) -> None:
    attempt = rig.submit("a_sync", heartbeat_timeout_s=5.0, timeout_s=8.0)
    context = await rig.begun()
    clock.advance(4.0)
    context.heartbeat()
    assert rig.sweep() == clock.mono_s() + 4.0
    clock.advance(4.0)
    rig.sweep()

    assert attempt.stop.reason is StopReason.TIMEOUT


async def test_a_job_that_promised_no_signs_may_give_them_and_be_silent(rig: Rig, clock: ManualClock) -> None:
    attempt = rig.submit("plain")
    context = await rig.begun()
    context.heartbeat()
    clock.advance(3600.0)

    assert rig.sweep() is None
    assert attempt.stop.reason is None


async def test_the_silence_counts_from_the_start_not_from_the_queue(rig: Rig, clock: ManualClock) -> None:
    rig.submit("plain")
    await rig.begun()
    rig.jobs.context = None
    waiting = rig.submit("a_sync", heartbeat_timeout_s=5.0)
    clock.advance(60.0)
    rig.jobs.gate.set()
    await rig.begun()

    assert rig.sweep() == clock.mono_s() + 5.0
    assert waiting.stop.reason is None


async def test_what_waits_for_a_slot_past_its_time_is_given_back_and_never_started(
    rig: Rig, clock: ManualClock
) -> None:
    rig.submit("plain")
    await rig.begun()
    late = rig.submit("plain", clock.mono_s() + 3.0)
    assert rig.sweep() == clock.mono_s() + 3.0
    clock.advance(3.0)

    rig.sweep()

    assert rig.late == [late.token]
    assert late.token not in rig.runner.attempts
    rig.jobs.gate.set()
    await eventually(lambda: len(rig.delivered) == 1)
    assert late.started_s is None


@pytest.mark.parametrize("method", ["plain", "a_sync"])
async def test_what_comes_to_its_turn_too_late_is_not_started(rig: Rig, clock: ManualClock, method: str) -> None:
    late = rig.submit(method, clock.mono_s() - 0.1)

    await eventually(lambda: rig.late)

    assert rig.late == [late.token]
    assert (late.started_s, rig.delivered, rig.jobs.context) == (None, [], None)
    await eventually(lambda: rig.runner.busy == 0)


async def test_c5_what_was_too_late_when_its_worker_process_was_ready_is_given_back(
    rig: Rig, clock: ManualClock
) -> None:
    late = rig.submit("plain", clock.mono_s() + 1.0, isolation=Isolation.PROCESS)
    # It has left the queue: there this finds nothing with a time to be started by.
    rig.sweep()
    clock.advance(2.0)

    assert not rig.pool.ready()

    assert rig.late == [late.token]
    assert (late.token in rig.runner.attempts, late.started_s, rig.runner.busy) == (False, None, 0)


def test_the_deadlines_travel_in_the_dispatch() -> None:
    item = DispatchItem(
        id="e", token=1, attempt=1, handler_id="h", job_method="m", heartbeat_timeout_s=2.5, start_by_us=9
    )

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(item), type=DispatchItem) == item
