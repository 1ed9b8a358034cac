from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from schedule_zero import BaseHandler, GiveUp, Retry, current_job
from schedule_zero.clock import from_us
from schedule_zero.model import AttemptOutcome
from schedule_zero.node.attempt import LiveAttempt
from schedule_zero.node.context import StopReason
from schedule_zero.node.delivery import EncodedResult, encode_result
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.node.methods import describe
from schedule_zero.node.runner import ASYNC_GRACE_S, PLAIN_GRACE_S, Runner
from schedule_zero.wire.codec import decode_node
from schedule_zero.wire.messages import PREFIX, DispatchItem, Result
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio


class Unfinished(Retry):
    """Of somebody who does not call ``super().__init__``."""

    def __init__(self) -> None:
        pass


class AfterWhat(Retry):
    """Of somebody who says later how long to wait."""

    def __init__(self, after_s: Any) -> None:
        super().__init__(1.0)
        self.after_s = after_s


class Unreadable(Exception):
    """Nothing about it can be read; what is asked of it would even end a thread."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__

    @property
    def error_category(self) -> str:
        raise KeyboardInterrupt

    @property
    def __traceback__(self) -> Any:
        raise KeyboardInterrupt


Unreadable.__module__ = None  # type: ignore[assignment]


class Nowhere(dt.tzinfo):
    """A time zone that fails when a result is written."""

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        raise RuntimeError("nowhere")


AFTER_WHAT = [dt.timedelta(minutes=5), -1.0, float("nan"), float("inf"), 10**400, "soon", None]
LEAK: contextvars.ContextVar[int] = contextvars.ContextVar("leak", default=0)


class Jobs(BaseHandler):
    """Jobs that wait for the test."""

    handler_id = "jobs"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.async_gate = asyncio.Event()
        self.entered: list[int] = []
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def _in(self) -> None:
        with self.lock:
            self.entered.append(current_job().fence_token)
            self.running += 1
            self.most = max(self.most, self.running)

    def _out(self) -> None:
        with self.lock:
            self.running -= 1

    def ok(self, value: Any = None) -> Any:
        self._in()
        self._out()
        return value

    def held(self) -> str:
        self._in()
        self.gate.wait(10)
        self._out()
        return "done"

    async def aheld(self) -> str:
        self._in()
        try:
            await self.async_gate.wait()
        finally:
            self._out()
        return "done"

    async def aok(self) -> str:
        self._in()
        await asyncio.sleep(0)
        self._out()
        return "async"

    def watchful(self) -> str:
        self._in()
        stopped = current_job().wait_cancelled(10)
        self._out()
        return "stopped" if stopped else "not stopped"

    def looks_then_raises(self) -> None:
        if current_job().wait_cancelled(10):
            raise RuntimeError("interrupted")

    async def stubborn(self) -> str:
        self._in()
        while not self.async_gate.is_set():
            try:
                await self.async_gate.wait()
            except asyncio.CancelledError:
                continue
        return "at last"

    async def cleans_up(self) -> str:
        self._in()
        try:
            await self.async_gate.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "cleaned up"
        return "never"

    def fails(self, kind: str) -> None:
        raise {
            "error": ValueError("wrong"),
            "retry": Retry(3.0),
            "give_up": GiveUp("useless"),
            "exit": SystemExit(4),
            "interrupt": KeyboardInterrupt(),
        }[kind]

    async def afails(self, kind: str) -> None:
        self.fails(kind)

    def fails_badly(self, number: int) -> None:
        raise [Unfinished(), Unreadable(), *map(AfterWhat, AFTER_WHAT)][number]

    async def afails_badly(self, number: int) -> None:
        self.fails_badly(number)

    def unwritable(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=Nowhere())

    async def aunwritable(self) -> dt.datetime:
        return self.unwritable()

    def about(self) -> Any:
        ctx = current_job()
        return [
            ctx.execution_id,
            ctx.attempt,
            ctx.fence_token,
            ctx.idempotency_key,
            ctx.schedule_id,
            ctx.nominal_time,
            ctx.deadline,
            ctx.node_id,
            ctx.handler_id,
            ctx.job_method,
            ctx.cancelled,
            ctx.stop_reason,
        ]

    async def in_thread_and_task(self) -> Any:
        async def inner() -> int:
            return current_job().fence_token

        in_task = await asyncio.create_task(inner())
        in_thread = await asyncio.to_thread(lambda: current_job().fence_token)
        return [in_task, in_thread]

    def leaks(self) -> int:
        seen = LEAK.get()
        LEAK.set(seen + 1)
        return seen

    def reports(self) -> None:
        current_job().progress(12.5, "x" * 10_000)
        with pytest.raises(ValueError, match="between 0 and 100"):
            current_job().progress(101)

    def logs(self) -> bool:
        return current_job().log is current_job().log

    def gap(self) -> float:
        return float("nan")


class Rig:
    def __init__(self, clock: ManualClock, slots: int) -> None:
        self.clock = clock
        self.lease = Lease()
        self.lease.extend(clock.mono_s(), 1000.0)
        self.delivered: list[LiveAttempt] = []
        self.progress: list[tuple[int, float, str]] = []
        self.jobs = Jobs()
        self.methods = {method.name: method for method in describe(self.jobs)}
        self.runner = Runner(
            slots=slots,
            clock=clock,
            lease=self.lease,
            node_id="n1",
            result_limit=1000,
            deliver=self.delivered.append,
            report=lambda *what: self.progress.append(what),
        )
        self.token = 0

    def attempt(self, method: str, params: Any = None, **more: Any) -> LiveAttempt:
        self.token += 1
        item = DispatchItem(
            id=f"e{self.token}",
            token=self.token,
            attempt=1,
            handler_id="jobs",
            job_method=method,
            params=msgspec.json.encode(params or {}),
            **more,
        )
        return LiveAttempt(item, self.methods[method], self.clock.mono_s())

    def submit(self, *methods: str, **more: Any) -> list[LiveAttempt]:
        attempts = [self.attempt(method, **more) for method in methods]
        self.runner.submit(attempts)
        return attempts

    async def ended(self, count: int = 1) -> list[LiveAttempt]:
        await eventually(lambda: len(self.delivered) >= count)
        assert len(self.delivered) == count
        return self.delivered

    async def one(self, method: str, params: Any = None, **more: Any) -> tuple[AttemptOutcome, Any]:
        self.delivered.clear()
        self.runner.submit([self.attempt(method, params, **more)])
        [attempt] = await self.ended()
        outcome = attempt.outcome
        assert outcome is not None
        return outcome.kind, msgspec.json.decode(outcome.result) if outcome.result is not None else outcome.error


@pytest.fixture
async def rig(clock: ManualClock) -> Any:
    made: list[Rig] = []

    def make(slots: int = 2) -> Rig:
        made.append(Rig(clock, slots))
        return made[-1]

    yield make
    for one in made:
        one.jobs.gate.set()
        one.jobs.async_gate.set()
        await eventually(lambda one=one: one.runner.busy == 0)
        one.runner.close()
        for thread in one.runner._threads:
            thread.join(10)


Make = Callable[..., Rig]


async def test_plain_and_async_methods_run_to_their_result(rig: Make) -> None:
    r = rig()
    assert await r.one("ok", {"value": {"a": 1}}) == ("completed", {"a": 1})
    assert await r.one("aok") == ("completed", "async")
    assert await r.one("ok") == ("completed", None)


async def test_never_more_than_the_slots_run_at_once_in_all(rig: Make) -> None:
    r = rig(slots=3)
    r.submit(*["held", "aheld"] * 6)
    await eventually(lambda: len(r.jobs.entered) == 3)
    assert r.runner.busy == 3
    assert r.runner.queued == 9
    r.jobs.gate.set()
    r.jobs.async_gate.set()
    await r.ended(12)
    assert r.jobs.most <= 3
    await eventually(lambda: r.runner.busy == 0)


async def test_attempts_start_in_the_order_of_their_dispatch(rig: Make) -> None:
    r = rig(slots=1)
    methods = ["ok", "aok", "ok", "ok", "aok", "aok", "ok"]
    r.submit(*methods)
    r.submit(*methods)
    await r.ended(14)
    assert r.jobs.entered == list(range(1, 15))


async def test_a_burst_of_short_jobs_runs_each_once(rig: Make) -> None:
    r = rig(slots=8)
    r.submit(*["ok"] * 2000)
    await r.ended(2000)
    assert sorted(r.jobs.entered) == list(range(1, 2001))
    r.runner.release(list(r.runner.attempts))
    assert not r.runner.attempts


async def test_worker_threads_are_reused(rig: Make) -> None:
    r = rig(slots=4)
    for _ in range(5):
        await r.one("ok")
        await eventually(lambda: r.runner.busy == 0)
    assert len(r.runner._threads) == 1


@pytest.mark.parametrize("method", ["fails", "afails"])
async def test_what_a_job_raises_is_its_outcome_and_nothing_more(rig: Make, method: str) -> None:
    r = rig()
    for kind in ("error", "exit", "interrupt"):
        outcome, error = await r.one(method, {"kind": kind})
        assert outcome == "failed"
        assert error.traceback
    assert error.type == "KeyboardInterrupt"
    await r.one(method, {"kind": "retry"})
    assert r.delivered[0].outcome is not None
    assert r.delivered[0].outcome.retry_after_s == 3.0
    await r.one(method, {"kind": "give_up"})
    assert r.delivered[0].outcome is not None
    assert r.delivered[0].outcome.give_up
    assert await r.one("ok", {"value": 1}) == ("completed", 1)


@pytest.mark.parametrize("method", ["fails_badly", "afails_badly"])
@pytest.mark.parametrize("number", range(2 + len(AFTER_WHAT)))
async def test_c9_whatever_class_a_job_raises_its_end_can_be_told(rig: Make, method: str, number: int) -> None:
    r = rig(slots=1)

    outcome, error = await r.one(method, {"number": number})

    assert outcome == "failed"
    assert number == 1 or error.type.endswith(("Unfinished", "AfterWhat"))
    # The server takes what it is told: one item that it refuses would hold up all of a node's results.
    _, record = encode_result(r.delivered[0], ServerTime())
    told = decode_node([PREFIX, msgspec.msgpack.encode(EncodedResult(s="s", items=[msgspec.Raw(record)]))])
    assert isinstance(told, Result)
    assert (told.items[0].outcome, told.items[0].retry_after_s) == ("failed", None)
    assert await r.one("ok", {"value": 1}) == ("completed", 1)


@pytest.mark.parametrize("method", ["unwritable", "aunwritable"])
async def test_c9_a_result_that_raises_while_it_is_written_fails_the_attempt_and_no_more(
    rig: Make, method: str
) -> None:
    r = rig(slots=1)
    outcome, error = await r.one(method)
    assert (outcome, error.type, error.message) == ("failed", "RuntimeError", "nowhere")
    assert await r.one("ok", {"value": 1}) == ("completed", 1)


async def test_parameters_that_do_not_fit_fail_without_a_retry(rig: Make) -> None:
    r = rig()
    for method in ("fails", "afails"):
        outcome, error = await r.one(method, {"kind": 5})
        assert outcome == "failed"
        assert error.type == "InvalidParams"
        assert r.delivered[0].outcome is not None
        assert r.delivered[0].outcome.give_up


async def test_a_result_that_cannot_be_stored_fails(rig: Make) -> None:
    r = rig()
    outcome, error = await r.one("ok", {"value": "x" * 2000})
    assert (outcome, error.type) == ("failed", "ResultTooLarge")
    outcome, error = await r.one("gap")
    assert (outcome, error.type) == ("failed", "InvalidResult")


async def test_a_job_knows_its_attempt(rig: Make, clock: ManualClock) -> None:
    r = rig()
    due = clock.wall_us() - 5
    _, said = await r.one("about", nominal_us=due, schedule_id="s1", idempotency_key="key", timeout_s=10.0)
    assert said[:6] == ["e1", 1, 1, "key", "s1", from_us(due).isoformat().replace("+00:00", "Z")]
    assert said[6] == from_us(clock.wall_us() + 10_000_000).isoformat().replace("+00:00", "Z")
    assert said[7:] == ["n1", "jobs", "about", False, None]
    _, said = await r.one("about")
    assert said[3:7] == ["e2", None, None, None]


async def test_the_context_follows_into_tasks_and_threads(rig: Make) -> None:
    r = rig()
    assert await r.one("in_thread_and_task") == ("completed", [1, 1])
    with pytest.raises(RuntimeError):
        current_job()


async def test_context_variables_do_not_leak_into_the_next_job(rig: Make) -> None:
    r = rig(slots=1)
    assert [(await r.one("leaks"))[1] for _ in range(3)] == [0, 0, 0]


async def test_progress_is_bounded_and_reported(rig: Make) -> None:
    r = rig()
    assert (await r.one("reports"))[0] == "completed"
    assert r.progress == [(1, 12.5, "x" * 500)]
    assert await r.one("logs") == ("completed", True)


# --- timeouts


async def test_a_plain_job_that_times_out_is_reported_at_once_and_keeps_its_slot(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    [attempt] = r.submit("held", timeout_s=5.0)
    await eventually(lambda: attempt.started_s is not None)
    assert r.runner.check_deadlines(clock.mono_s()) == clock.mono_s() + 5.0
    clock.advance(5.0)
    r.runner.check_deadlines(clock.mono_s())
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "timeout"
    assert ended.outcome.error is not None
    assert "its timeout of 5 s; its method did not stop" in ended.outcome.error.message
    assert attempt.stop.reason is StopReason.TIMEOUT
    r.submit("ok")
    await anyio.sleep(0.02)
    assert r.runner.queued == 1
    assert r.runner.overdue == {attempt}
    r.jobs.gate.set()
    await r.ended(2)
    await eventually(lambda: not r.runner.overdue)
    assert [one.outcome.kind for one in r.delivered if one.outcome] == ["timeout", "completed"]


async def test_an_async_job_that_times_out_is_cancelled(rig: Make, clock: ManualClock) -> None:
    r = rig()
    r.submit("aheld", timeout_s=1.0)
    await eventually(lambda: r.jobs.running == 1)
    clock.advance(1.5)
    r.runner.check_deadlines(clock.mono_s())
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "timeout"
    assert r.jobs.running == 0
    assert not r.runner.overdue


async def test_an_async_job_that_swallows_its_cancellation_is_reported_after_a_grace(
    rig: Make, clock: ManualClock
) -> None:
    r = rig(slots=1)
    [attempt] = r.submit("stubborn", timeout_s=1.0)
    await eventually(lambda: len(r.jobs.entered) == 1)
    clock.advance(1.0)
    r.runner.check_deadlines(clock.mono_s())
    await anyio.sleep(0.02)
    assert not r.delivered
    clock.advance(ASYNC_GRACE_S)
    r.runner.check_deadlines(clock.mono_s())
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "timeout"
    assert r.runner.overdue == {attempt}
    r.jobs.async_gate.set()
    await eventually(lambda: r.runner.busy == 0)
    assert len(r.delivered) == 1


# --- cancelling


async def test_a_waiting_attempt_is_cancelled_without_starting(rig: Make) -> None:
    r = rig(slots=1)
    _, waiting = r.submit("held", "ok")
    await eventually(lambda: r.jobs.running == 1)
    assert r.runner.cancel(waiting.token)
    [ended] = await r.ended()
    assert ended is waiting
    assert ended.outcome is not None
    assert (ended.outcome.kind, ended.started_s) == ("cancelled", None)
    r.jobs.gate.set()
    await r.ended(2)
    assert r.jobs.entered == [1]


@pytest.mark.parametrize("method", ["aheld", "watchful", "looks_then_raises", "cleans_up"])
async def test_a_job_that_reacts_to_its_cancellation_is_cancelled(rig: Make, method: str) -> None:
    r = rig()
    [attempt] = r.submit(method)
    await eventually(lambda: attempt.started_s is not None)
    await anyio.sleep(0.01)
    assert r.runner.cancel(attempt.token)
    assert r.runner.cancel(attempt.token)  # the server repeats itself
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "cancelled"


async def test_a_plain_job_that_never_looks_is_completed_although_cancelled(rig: Make) -> None:
    r = rig()
    [attempt] = r.submit("held")
    await eventually(lambda: r.jobs.running == 1)
    r.runner.cancel(attempt.token)
    r.jobs.gate.set()
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert (ended.outcome.kind, ended.outcome.result) == ("completed", b'"done"')


async def test_a_plain_job_that_takes_no_notice_of_its_cancel_is_reported_after_a_grace(
    rig: Make, clock: ManualClock
) -> None:
    r = rig(slots=1)
    [attempt] = r.submit("held")
    await eventually(lambda: r.jobs.running == 1)
    r.runner.cancel(attempt.token)
    assert r.runner.check_deadlines(clock.mono_s()) == clock.mono_s() + PLAIN_GRACE_S
    clock.advance(PLAIN_GRACE_S - 0.1)
    r.runner.cancel(attempt.token)  # the server repeats itself: the grace does not begin anew
    r.runner.check_deadlines(clock.mono_s())
    assert not r.delivered

    clock.advance(0.1)
    r.runner.check_deadlines(clock.mono_s())
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "cancelled"
    assert ended.outcome.error is not None
    assert "did not stop, and holds a slot of node 'n1' until it ends" in ended.outcome.error.message
    assert (r.runner.busy, r.runner.overdue) == (1, {attempt})

    r.jobs.gate.set()
    await eventually(lambda: r.runner.busy == 0 and not r.runner.overdue)
    assert len(r.delivered) == 1


async def test_a_timeout_within_the_grace_ends_a_cancelled_plain_job_as_cancelled(
    rig: Make, clock: ManualClock
) -> None:
    r = rig()
    [attempt] = r.submit("held", timeout_s=5.0)
    await eventually(lambda: attempt.started_s is not None)
    r.runner.cancel(attempt.token)
    clock.advance(5.0)
    r.runner.check_deadlines(clock.mono_s())
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "cancelled"


async def test_an_async_job_cancelled_before_its_first_step_is_cancelled(rig: Make) -> None:
    r = rig()
    [attempt] = r.submit("aok")
    r.runner.cancel(attempt.token)
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "cancelled"
    assert r.jobs.entered == []


@pytest.mark.parametrize("method", ["ok", "aok"])
async def test_a_job_cancelled_on_its_way_to_its_thread_does_not_start(rig: Make, method: str) -> None:
    r = rig()
    attempt = r.attempt(method)
    attempt.stop.ask(StopReason.CANCEL)
    r.runner.submit([attempt])
    if attempt.task is not None:
        attempt.task.cancel()
    [ended] = await r.ended()
    assert ended.outcome is not None
    assert ended.outcome.kind == "cancelled"
    assert r.jobs.entered == []


async def test_a_job_whose_lease_was_lost_on_its_way_to_its_thread_does_not_start(rig: Make) -> None:
    r = rig()
    attempts = [r.attempt("ok"), r.attempt("aok")]
    for attempt in attempts:
        attempt.stop.ask(StopReason.LEASE)
    r.runner.submit(attempts)
    await eventually(lambda: not r.runner.attempts)
    assert r.jobs.entered == []
    assert not r.delivered


async def test_cancelling_what_is_over_or_unknown_changes_nothing(rig: Make) -> None:
    r = rig()
    await r.one("ok")
    assert r.runner.cancel(1)
    assert not r.runner.cancel(99)
    assert len(r.delivered) == 1


async def test_racing_cancels_and_timeouts_give_exactly_one_outcome_each(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=8)
    attempts = r.submit(*["ok", "aok", "watchful", "aheld"] * 50, timeout_s=0.5)
    for attempt in attempts:
        r.runner.cancel(attempt.token)
        if attempt.token % 10 == 0:
            await asyncio.sleep(0)
        if attempt.token == 100:
            clock.advance(1.0)
            r.runner.check_deadlines(clock.mono_s())
    await r.ended(200)
    await eventually(lambda: r.runner.busy == 0)
    assert sorted(attempt.token for attempt in r.delivered) == list(range(1, 201))


# --- lease, giving back


async def test_when_the_lease_is_over_nothing_starts_and_what_runs_is_told(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    running, waiting = r.submit("watchful", "ok")
    await eventually(lambda: r.jobs.running == 1)
    assert r.runner.fence() == 1
    [ended] = await r.ended()
    assert ended is running
    assert ended.outcome is not None
    assert ended.outcome.kind == "handed_back"
    assert list(r.runner.attempts) == [running.token]
    assert waiting.outcome is None
    assert r.jobs.entered == [running.token]


async def test_a_job_that_does_not_look_at_its_lost_lease_reports_its_result(rig: Make) -> None:
    r = rig()
    r.submit("held", "aheld")
    await eventually(lambda: r.jobs.running == 2)
    r.runner.fence()
    r.jobs.gate.set()
    r.jobs.async_gate.set()
    for ended in await r.ended(2):
        assert ended.outcome is not None
        assert ended.outcome.kind == "completed"


async def test_an_attempt_does_not_start_after_the_lease_even_if_nobody_fenced_yet(
    rig: Make, clock: ManualClock
) -> None:
    r = rig(slots=2)
    clock.advance(2000.0)
    r.submit("ok", "aok", "ok", "aok")
    await eventually(lambda: not r.runner.attempts)
    await eventually(lambda: r.runner.busy == 0)
    assert r.jobs.entered == []
    assert not r.delivered


async def test_the_newest_waiting_attempts_are_given_back_first(rig: Make) -> None:
    r = rig(slots=2)
    r.submit(*["held"] * 2, *["ok"] * 6)
    await eventually(lambda: r.jobs.running == 2)
    assert r.runner.take_back(5) == [8, 7, 6]
    assert r.runner.take_back(5) == []
    assert r.runner.take_back(0) == [5, 4, 3]
    assert sorted(r.runner.attempts) == [1, 2]


async def test_at_the_drain_deadline_everything_is_handed_back(rig: Make) -> None:
    r = rig(slots=3)
    r.submit("aheld", "watchful", "held")
    await eventually(lambda: r.jobs.running == 3)
    r.runner.stop_running(StopReason.DRAIN)
    await r.ended(2)
    assert r.runner.give_up_running(process_ends=True) == 1
    for ended in await r.ended(3):
        assert ended.outcome is not None
        assert ended.outcome.kind == "handed_back"


async def test_a_no_op_costs_microseconds(rig: Make) -> None:
    """Not a benchmark: catches a per-job thread, future or wake-up, which cost ten times as much."""
    r = rig(slots=4)
    if sys.gettrace() is not None:
        pytest.skip("coverage is measuring")
    await r.one("ok")
    r.delivered.clear()
    began = time.perf_counter()
    r.submit(*["ok"] * 5000)
    await r.ended(5000)
    assert (time.perf_counter() - began) / 5000 < 200e-6
