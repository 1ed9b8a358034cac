"""The node's side of the protocol, with the socket replaced by a list and time by a manual clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from schedule_zero import BaseHandler, current_job
from schedule_zero.node.delivery import RESEND_S, EncodedResult
from schedule_zero.node.identity import Identity
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.node.methods import describe
from schedule_zero.node.work import HOARD_S, About, Work
from schedule_zero.wire.codec import decode_node, encode
from schedule_zero.wire.messages import (
    Accept,
    Cancel,
    Credit,
    Dispatch,
    DispatchItem,
    NodeDrain,
    NodeMessage,
    Progress,
    Reject,
    Result,
    ResultAck,
    ResultItem,
    ServerDrain,
    Welcome,
)
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

M = TypeVar("M")
SERVER_OFFSET_US = 5_000_000


class Jobs(BaseHandler):
    handler_id = "jobs"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered: list[int] = []

    def ok(self) -> str:
        self.entered.append(current_job().fence_token)
        return "ok"

    def held(self) -> str:
        self.entered.append(current_job().fence_token)
        self.gate.wait(10)
        return "held"

    def watchful(self) -> bool:
        self.entered.append(current_job().fence_token)
        return current_job().wait_cancelled(10)

    def tells(self) -> None:
        for percent in range(100):
            current_job().progress(percent, "working")
        self.gate.wait(10)

    async def aheld(self) -> None:
        self.entered.append(current_job().fence_token)
        await asyncio.sleep(60)


class FakeLink:
    """Keeps what was sent, after a trip through the codec."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.sent: list[NodeMessage] = []

    def send(self, message: NodeMessage | EncodedResult) -> bool:
        assert self.session is not None
        self.sent.append(decode_node(encode(message)))  # type: ignore[arg-type]
        return True

    def all(self, kind: type[M]) -> list[M]:
        return [message for message in self.sent if isinstance(message, kind)]


class Rig:
    def __init__(self, folder: Path, clock: ManualClock, slots: int) -> None:
        self.clock = clock
        self.identity = Identity.take(folder, "n1")
        self.lease, self.time = Lease(), ServerTime()
        self.jobs = Jobs()
        self.link = FakeLink()
        self.work = Work(
            identity=self.identity,
            methods=describe(self.jobs),
            about=About(slots=slots, version="1", host="h", pid=1, labels={"gpu": "true"}, facts={"os": "x"}),
            result_limit=1000,
            clock=clock,
            lease=self.lease,
            time=self.time,
        )
        self.work.open(self.link)  # type: ignore[arg-type]
        self.sessions = 0
        self.token = 100

    def connect(self, lease_s: float = 1000.0) -> None:
        self.sessions += 1
        self.link.session = f"s{self.sessions}"
        now_s = self.clock.mono_s()
        self.lease.extend(now_s, lease_s)
        self.time.sample(now_s, now_s, self.clock.wall_us() + SERVER_OFFSET_US)
        self.work.opened(Welcome(s=self.link.session, server_us=0, heartbeat_s=2, lease_s=lease_s, log_bytes=1 << 20))

    def disconnect(self) -> None:
        self.link.session = None
        self.work.closed()

    def item(self, method: str, handler_id: str = "jobs", **more: Any) -> DispatchItem:
        self.token += 1
        return DispatchItem(
            id=f"e{self.token}", token=self.token, attempt=1, handler_id=handler_id, job_method=method, **more
        )

    def dispatch(self, *items: DispatchItem) -> list[int]:
        self.work.receive(Dispatch(s="s", items=list(items)))
        return [item.token for item in items]

    def ack(self, *tokens: int, kind: str = "recorded") -> None:
        self.work.receive(ResultAck(s="s", **{kind: list(tokens)}))

    def results(self) -> list[ResultItem]:
        return [item for message in self.link.all(Result) for item in message.items]

    def rejects(self) -> list[tuple[int, str]]:
        return [(item.token, item.reason) for message in self.link.all(Reject) for item in message.items]

    def windows(self) -> list[int]:
        return [message.window for message in self.link.all(Credit)]

    async def result(self, token: int) -> ResultItem:
        return await eventually(lambda: next((item for item in self.results() if item.token == token), None))

    def close(self) -> None:
        self.jobs.gate.set()
        self.work.close()
        self.identity.release()


Make = Callable[..., Rig]


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


async def test_a_dispatch_is_run_and_its_result_sent_from_the_disk_and_stamped_in_server_time(
    rig: Make, clock: ManualClock
) -> None:
    r = rig()
    r.connect()
    [token] = r.dispatch(r.item("ok"))
    result = await r.result(token)
    assert (result.id, result.outcome, result.result) == (f"e{token}", "completed", b'"ok"')
    assert result.started_us == result.finished_us == clock.wall_us() + SERVER_OFFSET_US
    assert len(r.work.delivery) == 1
    r.ack(token)
    assert len(r.work.delivery) == 0
    await eventually(lambda: not r.work.runner.attempts)


async def test_stamps_do_not_move_with_this_machines_wall_clock(rig: Make, clock: ManualClock) -> None:
    r = rig()
    r.connect()
    server_us = clock.wall_us() + SERVER_OFFSET_US
    clock.step_wall(-3600)
    [token] = r.dispatch(r.item("ok"))
    assert (await r.result(token)).started_us == server_us


async def test_a_duplicate_dispatch_runs_once_whenever_it_comes(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    r.connect()
    held, waiting = r.item("held"), r.item("ok")
    r.dispatch(held, waiting, held)
    r.dispatch(waiting)
    await eventually(lambda: r.jobs.entered == [held.token])
    clock.advance(0.6)
    r.work.sweep()
    assert {item.token for message in r.link.all(Accept) for item in message.items} == {held.token, waiting.token}
    r.dispatch(held, waiting)
    r.work.sweep()
    assert len(r.link.all(Accept)) == 2, "a duplicate of a held attempt is accepted anew"
    r.jobs.gate.set()
    await r.result(held.token)
    await r.result(waiting.token)

    r.dispatch(held)
    r.work.flush()
    assert [item.token for item in r.results()].count(held.token) == 2, "its result is sent again"
    r.ack(held.token, waiting.token)
    r.dispatch(held, waiting)
    r.work.flush()
    assert len(r.results()) == 3
    # (One thing at a time, in order: what came before it would have run by now.)
    [last] = r.dispatch(r.item("ok"))
    await r.result(last)
    assert r.jobs.entered == [held.token, waiting.token, last]


async def test_unknown_handlers_and_methods_are_rejected_by_name(rig: Make) -> None:
    r = rig()
    r.connect()
    tokens = r.dispatch(r.item("nothing"), r.item("ok", handler_id="nobody"), r.item("ok"))
    assert r.rejects() == [(tokens[0], "unknown_method"), (tokens[1], "unknown_handler")]
    assert (await r.result(tokens[2])).outcome == "completed"


async def test_results_are_repeated_until_acknowledged(rig: Make, clock: ManualClock) -> None:
    r = rig()
    r.connect()
    [token] = r.dispatch(r.item("ok"))
    await r.result(token)
    r.work.tick()
    assert len(r.results()) == 1
    clock.advance(RESEND_S)
    r.work.tick()
    assert len(r.results()) == 2
    for kind in ("superseded", "unknown", "duplicate"):
        r.ack(token, kind=kind)
    clock.advance(RESEND_S)
    r.work.tick()
    assert len(r.results()) == 2


async def test_results_of_an_outage_come_first_and_credit_after_their_acknowledgement(rig: Make) -> None:
    r = rig()
    r.connect()
    tokens = r.dispatch(r.item("ok"), r.item("ok"))
    r.disconnect()
    await eventually(lambda: len(r.work.delivery) == 2)
    r.link.sent.clear()
    r.connect()
    assert sorted(item.token for item in r.results()) == tokens
    assert r.windows() == []
    r.ack(tokens[0])
    assert r.windows() == []
    r.ack(tokens[1], kind="duplicate")
    assert r.windows() == [2]


async def test_hello_names_what_is_held_and_counts_what_waits(rig: Make) -> None:
    r = rig(slots=1)
    r.connect()
    done, held, waiting = r.dispatch(r.item("ok"), r.item("held"), r.item("ok"))
    await eventually(lambda: len(r.work.delivery) == 1)
    hello = r.work.hello()
    assert [(one.id, one.token) for one in hello.running] == [(f"e{held}", held), (f"e{waiting}", waiting)]
    assert hello.outbox == 1
    assert (hello.node_id, hello.epoch, hello.slots) == ("n1", 1, 1)
    assert (hello.labels, hello.facts) == ({"gpu": "true"}, {"os": "x"})
    assert [handler.handler_id for handler in hello.handlers] == ["jobs"]
    assert r.work.heartbeat() == (2, 1)
    assert done


async def test_a_restart_finds_its_results_on_disk_and_delivers_them(rig: Make, tmp_path: Path) -> None:
    first = rig()
    first.connect()
    tokens = first.dispatch(first.item("ok"), first.item("ok"))
    await eventually(lambda: len(first.work.delivery) == 2)
    first.close()
    second = rig()
    assert second.identity.epoch == 2
    assert second.work.hello().outbox == 2
    second.connect()
    assert sorted(item.token for item in second.results()) == tokens
    assert second.windows() == []
    second.ack(*tokens)
    assert second.windows() == [2]
    second.work.close()
    assert (tmp_path / "nodes" / "n1" / "outbox").stat().st_size == 0


async def test_long_runners_are_announced_with_their_start(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    r.connect()
    held, waiting = r.dispatch(r.item("held"), r.item("ok"))
    await eventually(lambda: r.jobs.entered)
    started_us = clock.wall_us() + SERVER_OFFSET_US
    r.work.sweep()
    assert r.link.all(Accept) == []
    clock.advance(0.06)
    r.work.sweep()
    r.work.sweep()
    [accept] = r.link.all(Accept)
    assert [(item.token, item.started_us) for item in accept.items] == [(held, started_us)]
    clock.advance(0.5)
    r.work.sweep()
    assert [(item.token, item.started_us) for item in r.link.all(Accept)[1].items] == [(waiting, None)]


# --- lease


async def test_a_node_whose_lease_is_over_starts_nothing_and_tells_its_jobs(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=1)
    r.connect(lease_s=15.0)
    watchful, waiting = r.dispatch(r.item("watchful"), r.item("ok"))
    await eventually(lambda: r.jobs.entered)
    r.disconnect()
    clock.advance(14.9)
    r.work.tick()
    assert sorted(r.work.runner.attempts) == [watchful, waiting]
    clock.advance(0.1)
    r.work.tick()
    await eventually(lambda: len(r.work.delivery) == 1)
    assert r.jobs.entered == [watchful]
    assert r.work.hello().running == []

    r.connect()
    assert (await r.result(watchful)).outcome == "handed_back"
    # The server, which still believes it here, sends it again under the same token: now it may run.
    r.dispatch(DispatchItem(id=f"e{waiting}", token=waiting, attempt=1, handler_id="jobs", job_method="ok"))
    assert (await r.result(waiting)).outcome == "completed"


async def test_a_result_from_beyond_the_lease_is_still_reported(rig: Make, clock: ManualClock) -> None:
    r = rig()
    r.connect(lease_s=15.0)
    [token] = r.dispatch(r.item("held"))
    await eventually(lambda: r.jobs.entered)
    clock.advance(20.0)
    r.work.sweep()
    r.jobs.gate.set()
    assert (await r.result(token)).outcome == "completed"


# --- cancelling


async def test_cancels_are_answered_by_one_result_each(rig: Make) -> None:
    r = rig(slots=2)
    r.connect()
    watchful, aheld, waiting = r.dispatch(r.item("watchful"), r.item("aheld"), r.item("ok"))
    await eventually(lambda: len(r.jobs.entered) == 2)
    r.work.receive(Cancel(s="s", tokens=[waiting, watchful, aheld]))
    r.work.receive(Cancel(s="s", tokens=[waiting, watchful, aheld]))
    for token in (watchful, aheld, waiting):
        assert (await r.result(token)).outcome == "cancelled"
    assert r.rejects() == []
    r.ack(watchful, aheld, waiting)
    r.work.receive(Cancel(s="s", tokens=[waiting, watchful, aheld]))
    assert len(r.results()) == 3
    # For a server that still asks they are not here any more; one that has the result takes no notice.
    assert sorted(r.rejects()) == sorted((token, "not_held") for token in (waiting, watchful, aheld))


async def test_a_cancel_that_overtakes_its_dispatch_wins(rig: Make) -> None:
    r = rig()
    r.connect()
    item = r.item("ok")
    r.work.receive(Cancel(s="s", tokens=[item.token]))
    assert r.rejects() == [(item.token, "not_held")]
    r.dispatch(item)
    [after] = r.dispatch(r.item("ok"))
    await r.result(after)
    assert r.jobs.entered == [after]


# --- credit


async def test_what_waits_behind_long_jobs_is_given_back_after_the_smaller_window(
    rig: Make, clock: ManualClock
) -> None:
    r = rig(slots=2)
    r.connect()
    tokens = r.dispatch(*(r.item("held") for _ in range(6)))
    await eventually(lambda: len(r.jobs.entered) == 2)
    r.work.credit._prefetch = 50.0
    r.work.credit._last_done_s = clock.mono_s()
    r.work.flush()
    assert r.windows()[-1] == 52
    clock.advance(HOARD_S + 0.1)
    r.work.sweep()
    assert r.windows()[-1] == 2
    assert sorted(r.rejects()) == [(token, "overcommitted") for token in tokens[2:]]
    kinds = [type(message) for message in r.link.sent if isinstance(message, Credit | Reject)]
    assert kinds[-2:] == [Credit, Reject]


async def test_a_full_disk_closes_the_window_until_it_can_be_written_again(rig: Make) -> None:
    r = rig()
    r.connect()
    r.work._disk_health([OSError(28, "No space left on device")])
    assert r.windows() == [2, 0]
    r.work._disk_health([OSError(28, "No space left on device"), None])
    assert r.windows() == [2, 0, 2]


async def test_a_job_that_hangs_beyond_its_timeout_costs_its_slot_in_the_window(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=2)
    r.connect()
    [token] = r.dispatch(r.item("held", timeout_s=1.0))
    await eventually(lambda: r.jobs.entered)
    clock.advance(1.0)
    r.work.sweep()
    assert (await r.result(token)).outcome == "timeout"
    assert r.windows() == [2, 1]
    r.jobs.gate.set()
    await eventually(lambda: not r.work.runner.overdue)
    r.work.tick()
    assert r.windows() == [2, 1, 2]
    assert [item.token for item in r.results()] == [token]


# --- draining


async def test_an_operators_drain_gives_back_what_waits_and_can_be_undone(rig: Make) -> None:
    r = rig(slots=1)
    r.connect()
    held, waiting = r.dispatch(r.item("held"), r.item("ok"))
    await eventually(lambda: r.jobs.entered)
    r.work.receive(ServerDrain(s="s", on=True))
    assert r.rejects() == [(waiting, "draining")]
    [late] = r.dispatch(r.item("ok"))
    assert r.rejects()[-1] == (late, "draining")
    assert r.windows() == [1, 0]
    r.jobs.gate.set()
    assert (await r.result(held)).outcome == "completed"
    r.work.receive(ServerDrain(s="s", on=False))
    assert r.windows() == [1, 0, 1]
    [again] = r.dispatch(r.item("ok"))
    assert (await r.result(again)).outcome == "completed"


async def test_a_drain_lets_running_jobs_finish_and_waits_for_their_acknowledgement(rig: Make) -> None:
    r = rig(slots=1)
    r.connect()
    held, waiting = r.dispatch(r.item("held"), r.item("ok"))
    await eventually(lambda: r.jobs.entered)
    draining = asyncio.create_task(r.work.drain(30.0, 1.0, 30.0))
    await eventually(lambda: r.link.all(NodeDrain))
    assert r.rejects() == [(waiting, "draining")]
    r.jobs.gate.set()
    assert (await r.result(held)).outcome == "completed"
    assert not draining.done()
    r.ack(held)
    await draining


async def test_c22_a_node_that_reconnects_while_it_drains_says_so_before_anything_else(rig: Make) -> None:
    r = rig(slots=1)
    r.connect()
    [held] = r.dispatch(r.item("held"))
    await eventually(lambda: r.jobs.entered)
    draining = asyncio.create_task(r.work.drain(30.0, 1.0, 30.0))
    await eventually(lambda: r.link.all(NodeDrain))
    r.disconnect()
    r.link.sent.clear()
    r.connect()
    assert isinstance(r.link.sent[0], NodeDrain)
    assert r.windows() == [0]
    r.jobs.gate.set()
    await r.result(held)
    r.ack(held)
    await draining


async def test_at_the_drain_deadline_what_runs_is_handed_back(rig: Make, clock: ManualClock) -> None:
    r = rig(slots=3)
    r.connect()
    tokens = r.dispatch(r.item("held"), r.item("aheld"), r.item("watchful"))
    await eventually(lambda: len(r.jobs.entered) == 3)
    draining = asyncio.create_task(r.work.drain(5.0, 1.0, 1.0))
    await eventually(lambda: r.link.all(NodeDrain))
    clock.advance(5.1)
    for token in tokens[1:]:
        assert (await r.result(token)).outcome == "handed_back"
    clock.advance(1.1)
    assert (await r.result(tokens[0])).outcome == "handed_back"
    r.ack(*tokens)
    await draining


# --- progress


async def test_progress_is_sent_as_the_newest_only(rig: Make) -> None:
    r = rig()
    r.connect()
    [token] = r.dispatch(r.item("tells"))
    [progress] = await eventually(lambda: r.link.all(Progress))
    assert (progress.token, progress.percent, progress.text) == (token, 99.0, "working")


async def test_messages_are_valid_at_their_limits(rig: Make) -> None:
    r = rig(slots=1)
    r.connect()
    items = [r.item("nothing") for _ in range(5000)]
    r.dispatch(*items, *(r.item("nothing") for _ in range(5000)))
    assert len(r.rejects()) == 10_000
    assert len(r.link.all(Reject)) == 2
    assert msgspec.msgpack.encode(r.work.hello())
