"""An operator's drain with a deadline, on the node: what runs until then, and what happens to it after."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schedule_zero.node.drain import GRACE_S, DrainDeadline, Step
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.wire.messages import Credit, ServerDrain
from tests.support import ManualClock, eventually
from tests.unit.test_node_work import Make, Rig

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Make]:
    made: list[Rig] = []

    def make(slots: int = 2) -> Rig:
        made.append(Rig(tmp_path, clock, slots))
        return made[-1]

    yield make
    for one in made:
        one.close()
        for attempt in list(one.work.runner.attempts.values()):
            if attempt.task is not None:
                attempt.task.cancel()
    await asyncio.sleep(0)


# --- the deadline ---------------------------------------------------------------------------------------


def test_what_runs_is_asked_at_the_deadline_and_given_up_a_moment_later_each_once():
    deadline = DrainDeadline()
    deadline.set(5.0, 100.0)
    assert [deadline.step(now_s) for now_s in (100.0, 104.9)] == [Step.NOTHING] * 2
    assert deadline.step(105.0) is Step.ASK
    assert deadline.step(105.0 + GRACE_S - 0.01) is Step.NOTHING
    assert deadline.step(105.0 + GRACE_S) is Step.GIVE_UP
    assert deadline.step(1e9) is Step.NOTHING


def test_no_deadline_never_comes_and_a_newer_word_replaces_the_older():
    deadline = DrainDeadline()
    assert deadline.step(math.nextafter(math.inf, 0)) is Step.NOTHING
    deadline.set(5.0, 100.0)
    deadline.set(None, 101.0)
    assert deadline.step(1000.0) is Step.NOTHING
    deadline.set(0.0, 1000.0)
    assert deadline.step(1000.0) is Step.ASK
    # Said again after a reconnect: what runs is asked again, which it does not hear twice.
    deadline.set(0.0, 1000.5)
    assert [deadline.step(1000.5), deadline.step(1000.5 + GRACE_S)] == [Step.ASK, Step.GIVE_UP]


def test_a_deadline_in_the_past_is_now():
    deadline = DrainDeadline()
    deadline.set(-3.0, 100.0)
    assert deadline.step(100.0) is Step.ASK


# --- the node -------------------------------------------------------------------------------------------


async def test_until_the_deadline_what_runs_may_finish(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=2)
    r.connect()
    held, waiting, _ = r.dispatch(r.item("held"), r.item("held"), r.item("ok"))
    await eventually(lambda: len(r.jobs.entered) == 2)
    r.work.receive(ServerDrain(s="s", on=True, deadline_s=10.0))
    assert [reason for _, reason in r.rejects()] == ["draining"]
    clock.advance(9.0)
    r.work.sweep()
    r.jobs.gate.set()
    assert (await r.result(held)).outcome == "completed"
    assert (await r.result(waiting)).outcome == "completed"


async def test_at_the_deadline_what_runs_is_handed_back_and_the_node_lives_on(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=3)
    r.connect()
    ignores, task, looks = r.dispatch(r.item("held"), r.item("aheld"), r.item("watchful"))
    await eventually(lambda: len(r.jobs.entered) == 3)
    r.work.receive(ServerDrain(s="s", on=True, deadline_s=5.0))
    clock.advance(5.1)
    for token in (task, looks):
        assert (await r.result(token)).outcome == "handed_back"
    clock.advance(GRACE_S + 0.1)
    result = await r.result(ignores)
    assert result.outcome == "handed_back"
    assert result.error is not None
    assert "did not stop, and holds a slot of node 'n1'" in result.error.message
    # Its method still runs: the slot comes back with it.
    assert len(r.work.runner.overdue) == 1
    r.ack(ignores, task, looks)
    r.work.receive(ServerDrain(s="s", on=False))
    assert r.link.all(Credit)[-1].window == 2
    r.jobs.gate.set()
    await eventually(lambda: not r.work.runner.overdue)
    r.work.tick()
    assert r.link.all(Credit)[-1].window == 3


async def test_the_deadline_passes_although_the_node_is_disconnected(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    r.connect()
    [token] = r.dispatch(r.item("watchful"))
    await eventually(lambda: r.jobs.entered)
    r.work.receive(ServerDrain(s="s", on=True, deadline_s=5.0))
    r.disconnect()
    clock.advance(5.1)
    await eventually(lambda: len(r.work.delivery))
    r.connect()
    assert (await r.result(token)).outcome == "handed_back"


async def test_a_released_node_lets_what_runs_go_on(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    r.connect()
    [token] = r.dispatch(r.item("held"))
    await eventually(lambda: r.jobs.entered)
    r.work.receive(ServerDrain(s="s", on=True, deadline_s=5.0))
    r.work.receive(ServerDrain(s="s", on=False))
    clock.advance(100.0)
    r.work.sweep()
    clock.advance(100.0)
    r.work.sweep()
    r.jobs.gate.set()
    assert (await r.result(token)).outcome == "completed"


async def test_a_drain_is_forgotten_with_its_session(rig: Make, clock: ManualClock) -> None:
    """Who was released while it was away would else never take work again."""
    r = rig(slots=1)
    r.connect()
    r.work.receive(ServerDrain(s="s", on=True, deadline_s=5.0))
    r.disconnect()
    r.connect()
    assert r.link.all(Credit)[-1].window == 1
    [token] = r.dispatch(r.item("ok"))
    assert (await r.result(token)).outcome == "completed"


async def test_sigterm_in_the_middle_of_an_operators_drain_ends_it_in_order(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    r.connect()
    [token] = r.dispatch(r.item("held"))
    await eventually(lambda: r.jobs.entered)
    r.work.receive(ServerDrain(s="s", on=True, deadline_s=1000.0))
    draining = asyncio.create_task(r.work.drain(5.0, 1.0, 1.0))
    await eventually(lambda: len(r.rejects()) == 0 and r.work.credit.paused == {"drain", "operator"})
    clock.advance(5.1)
    await eventually(lambda: r.work.runner.attempts[token].stop.reason is not None)
    clock.advance(1.1)
    assert (await r.result(token)).outcome == "handed_back"
    r.ack(token)
    await draining


# --- the clocks -----------------------------------------------------------------------------------------


def test_c12_a_nodes_clock_that_is_an_hour_off_changes_neither_lease_nor_stamps():
    lease, time = Lease(), ServerTime()
    server_us, mono_s = 1_700_000_000_000_000, 500.0
    lease.extend(mono_s, 15.0)
    time.sample(mono_s, mono_s + 0.002, server_us)
    # The node's own wall clock is asked for nothing here.
    assert lease.held(mono_s + 14.9)
    assert not lease.held(mono_s + 15.0)
    assert time.at_us(mono_s + 3600.001) == server_us + 3_600_000_000
