"""A whole node in this process, on real sockets, against a server that says what the test tells it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from schedule_zero import BaseHandler, current_job
from schedule_zero.clock import SystemClock
from schedule_zero.errors import ConfigError, Denied, DuplicateNode, InvalidHandler, NodeLocked
from schedule_zero.node import host
from schedule_zero.node import link as link_module
from schedule_zero.node.host import Node, run_node
from schedule_zero.node.settings import Curve, NodeSettings
from schedule_zero.wire.messages import (
    Bye,
    Credit,
    Deny,
    Dispatch,
    ErrorMessage,
    Goaway,
    HbAck,
    Heartbeat,
    NodeDrain,
    ResultAck,
    ServerDrain,
)
from tests.integration.node_peer import ScriptedServer
from tests.support import eventually

pytestmark = pytest.mark.anyio


class Jobs(BaseHandler):
    handler_id = "jobs"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered: list[int] = []
        self.log: list[str] = []

    async def setup(self) -> None:
        self.log.append("setup")

    def teardown(self) -> None:
        self.log.append("teardown")

    def ok(self, value: Any = None) -> Any:
        self.entered.append(current_job().fence_token)
        return value

    def held(self) -> str:
        self.entered.append(current_job().fence_token)
        self.gate.wait(20)
        return "held"

    def watchful(self) -> bool:
        self.entered.append(current_job().fence_token)
        return current_job().wait_cancelled(20)

    async def blocks_the_loop(self, seconds: float) -> None:
        threading.Event().wait(seconds)


class Bed:
    """Scripted server, nodes, and their tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context: zmq.Context = zmq.Context()
        self.server = ScriptedServer(self.context)
        self.jobs = Jobs()
        self.stop = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, *, node_id: str = "n1", jobs: Jobs | None = None, **more: Any) -> Node:
        settings = NodeSettings(
            targets=[],
            node_id=node_id,
            state_dir=self.folder,
            server=more.pop("address", self.server.address),
            **({"slots": 2, "drain_s": 10.0} | more),
        )
        node = Node(settings, clock=SystemClock(), handlers=[jobs or self.jobs])
        self.tasks.append(asyncio.create_task(node.run(self.stop)))
        return node

    async def close(self) -> None:
        self.jobs.gate.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.server.hang_up()
        self.context.destroy(0)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    bed = Bed(tmp_path)
    bed.server.listen()
    yield bed
    await bed.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect without waiting."""
    monkeypatch.setattr(link_module, "_uniform", lambda _low, high: min(high, 0.02))
    monkeypatch.setattr(link_module, "BACKOFF_MAX_S", 0.05)


async def test_a_job_travels_to_the_node_and_its_result_back(bed: Bed) -> None:
    bed.start()
    await bed.server.ready()
    hello = bed.server.hellos[0]
    assert (hello.node_id, hello.epoch, hello.slots, hello.running, hello.outbox) == ("n1", 1, 2, [], 0)
    assert [method.name for method in hello.handlers[0].methods] == ["ok", "held", "watchful", "blocks_the_loop"]
    assert hello.pid > 0
    assert hello.version
    token = bed.server.dispatch("jobs", "ok", {"value": [1, "é"]})
    result = await bed.server.result(token)
    assert (result.outcome, result.result) == ("completed", '[1,"é"]'.encode())
    assert abs((result.started_us or 0) - SystemClock().wall_us()) < 5_000_000


async def test_a_thousand_jobs_in_one_message_come_back_complete(bed: Bed) -> None:
    bed.start(slots=4)
    await bed.server.ready()
    items = [bed.server.item("jobs", "ok", {"value": n}) for n in range(1000)]
    bed.server.send(Dispatch(s=bed.server.session, items=items))
    await eventually(lambda: len(bed.server.results) == 1000)
    assert [bed.server.results[item.token][0].result for item in items] == [b"%d" % n for n in range(1000)]
    await eventually(lambda: (bed.server.window or 0) > 4, within_s=2)


async def test_heartbeats_go_on_while_every_slot_is_blocked(bed: Bed) -> None:
    bed.server.heartbeat_s = 0.2
    bed.start()
    await bed.server.ready()
    bed.server.dispatch("jobs", "held")
    bed.server.dispatch("jobs", "held")
    await eventually(lambda: len(bed.jobs.entered) == 2)
    before = len(bed.server.all(Heartbeat))
    await eventually(lambda: len(bed.server.all(Heartbeat)) >= before + 5)
    assert bed.server.all(Heartbeat)[-1].running == 2
    await eventually(lambda: len(bed.server.accepted) == 2)
    assert len(bed.server.hellos) == 1


async def test_a_server_that_closes_its_port_is_noticed_at_once_and_joined_again(bed: Bed, quick: None) -> None:
    bed.server.heartbeat_s = 60.0  # so that only the socket can tell
    node = bed.start()
    await bed.server.ready()
    token = bed.server.dispatch("jobs", "held")
    await eventually(lambda: bed.jobs.entered)
    bed.server.hang_up()
    await eventually(lambda: node.link.session is None, within_s=2)
    bed.jobs.gate.set()
    await eventually(lambda: len(node.work.delivery) == 1)
    assert bed.server.results == {}

    bed.server.received.clear()
    bed.server.acks_results = False
    bed.server.listen_again()
    await eventually(lambda: len(bed.server.sessions) == 2)
    assert bed.server.hellos[1].outbox == 1
    assert bed.server.hellos[1].instance == bed.server.hellos[0].instance
    assert bed.server.peers[0] != bed.server.peers[1]
    assert (await bed.server.result(token)).outcome == "completed"
    assert bed.server.all(Credit) == []
    bed.server.send(ResultAck(s=bed.server.session, recorded=[token]))
    await bed.server.ready(2)


async def test_a_running_job_outlives_a_reconnect_and_is_named_in_hello(bed: Bed, quick: None) -> None:
    bed.start()
    await bed.server.ready()
    token = bed.server.dispatch("jobs", "held")
    await eventually(lambda: bed.jobs.entered)
    bed.server.send(ErrorMessage(code="no_session", message="who are you?"))
    await bed.server.ready(2)
    assert [(held.id, held.token) for held in bed.server.hellos[1].running] == [(f"execution{token}", token)]
    bed.jobs.gate.set()
    assert (await bed.server.result(token)).outcome == "completed"
    assert bed.jobs.entered == [token]


async def test_silence_ends_the_session(bed: Bed, quick: None) -> None:
    bed.server.heartbeat_s = 0.05
    bed.start()
    await bed.server.ready()
    bed.server.answers_heartbeats = False
    await eventually(lambda: len(bed.server.hellos) >= 2)
    bed.server.answers_heartbeats = True
    await bed.server.ready(len(bed.server.sessions))


async def test_a_server_that_does_not_answer_hello_is_tried_again_on_a_new_socket(
    bed: Bed, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "WELCOME_S", 0.05)
    bed.server.welcomes = False
    bed.start()
    await eventually(lambda: len(bed.server.hellos) >= 3)
    assert len(set(bed.server.peers)) == len(bed.server.peers)
    bed.server.welcomes = True
    await bed.server.ready()


async def test_a_node_that_starts_before_its_server_joins_when_it_comes(
    bed: Bed, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CONNECT_S", 0.05)
    bed.server.hang_up()
    bed.start()
    await asyncio.sleep(0.3)  # a few attempts that find nobody
    bed.server.listen_again()
    await bed.server.ready()


async def test_going_away_is_obeyed(bed: Bed, quick: None) -> None:
    bed.start()
    await bed.server.ready()
    bed.server.send(Goaway(s=bed.server.session, reason="restart", reconnect_s=0.01))
    await bed.server.ready(2)


async def test_c6_a_lease_counts_from_when_the_heartbeat_was_sent(bed: Bed) -> None:
    """However late it is acknowledged: the server has counted from when it came."""
    bed.server.heartbeat_s = 0.3
    bed.server.answers_heartbeats = False
    node = bed.start()
    await bed.server.ready()
    [first, *_] = await eventually(lambda: bed.server.all(Heartbeat))
    sent_by_s = SystemClock().mono_s()
    await eventually(lambda: len(bed.server.all(Heartbeat)) >= 2)
    before_s = node.link._lease.until_s

    bed.server.send(HbAck(s=bed.server.session, seq=first.seq, server_us=0))

    await eventually(lambda: node.link._lease.until_s > before_s)
    assert node.link._lease.until_s <= sent_by_s + bed.server.lease_s


async def test_each_session_counts_its_heartbeats_from_one(bed: Bed, quick: None) -> None:
    bed.server.heartbeat_s = 0.02
    bed.start()
    for sessions in (1, 2):
        await bed.server.ready(sessions)
        session = bed.server.session

        def counted(of: str = session) -> list[int]:
            return [m.seq for m in bed.server.received if isinstance(m, Heartbeat) and m.s == of]

        await eventually(lambda: len(counted()) >= 3)
        assert counted()[:3] == [1, 2, 3]
        bed.server.send(Goaway(s=session, reason="restart", reconnect_s=0.01))


async def test_messages_of_another_session_are_ignored(bed: Bed) -> None:
    bed.start()
    await bed.server.ready()
    stale = bed.server.item("jobs", "ok")
    bed.server.send(Dispatch(s="some other session", items=[stale]))
    bed.server.send(Goaway(s="some other session"))
    bed.server.send(HbAck(s="some other session", seq=1, server_us=0))
    token = bed.server.dispatch("jobs", "ok")
    await bed.server.result(token)
    assert bed.jobs.entered == [token]
    assert len(bed.server.hellos) == 1


async def test_what_is_sent_right_behind_the_welcome_is_heard(bed: Bed) -> None:
    bed.server.welcomes = False
    bed.start()
    await eventually(lambda: bed.server.hellos)
    bed.server.welcome()
    token = bed.server.dispatch("jobs", "ok")
    await bed.server.result(token)


async def test_bad_messages_are_survived_and_many_of_them_end_the_session(bed: Bed, quick: None) -> None:
    bed.start()
    await bed.server.ready()
    for junk in ([b""], [b"SZ1", b"\xc1"], [b"SZ1", b"\x80", b"x"], [b"XX1", b"\x80"], [b"SZ1", b"\x81\xa1t\xa3NOT"]):
        bed.server.send_raw(*junk)
    token = bed.server.dispatch("jobs", "ok")
    await bed.server.result(token)
    assert len(bed.server.hellos) == 1
    for _ in range(link_module.MAX_BAD + 1):
        bed.server.send_raw(b"junk")
    await bed.server.ready(2)


async def test_dispatches_are_never_missed_however_they_interleave(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket's descriptor is edge-triggered: a lost wake-up would show, as nothing else wakes the node here."""
    monkeypatch.setattr(host, "TICK_S", 600.0)
    bed.server.heartbeat_s = 600.0
    bed.start(slots=4)
    await bed.server.ready()
    for _ in range(300):
        token = bed.server.dispatch("jobs", "ok")
        async with asyncio.timeout(20):
            while token not in bed.server.results:
                await asyncio.sleep(0)


# --- denied


async def test_a_denial_for_good_ends_the_node_with_its_reason(bed: Bed) -> None:
    bed.server.welcomes = False
    bed.start()
    await eventually(lambda: bed.server.hellos)
    bed.server.send(Deny(code="duplicate_node", reason="n1 is connected from host-a (pid 7)"))
    with pytest.raises(DuplicateNode, match="connected from host-a") as caught:
        await bed.tasks[0]
    assert caught.value.exit_code == 4
    assert bed.jobs.log == ["setup", "teardown"]

    bed.start()
    await eventually(lambda: len(bed.server.hellos) == 2)
    bed.server.send(Deny(code="key_node_id", reason="this key belongs to another node"))
    with pytest.raises(Denied) as denied:
        await bed.tasks[1]
    assert denied.value.exit_code == 6


async def test_a_denial_for_now_is_tried_again(bed: Bed, quick: None) -> None:
    bed.server.welcomes = False
    bed.start()
    await eventually(lambda: bed.server.hellos)
    bed.server.welcomes = True
    bed.server.send(Deny(code="store_unavailable", reason="later", retry=True))
    await bed.server.ready()


# --- stopping


async def test_a_stop_drains_says_goodbye_and_frees_the_folder(bed: Bed) -> None:
    node = bed.start()
    await bed.server.ready()
    running = bed.server.dispatch("jobs", "held")
    await eventually(lambda: bed.jobs.entered)
    bed.stop.set()
    await eventually(lambda: bed.server.all(NodeDrain))
    assert bed.server.window == 0
    late = bed.server.dispatch("jobs", "ok")
    await eventually(lambda: [(item.token, item.reason) for item in bed.server.rejected] == [(late, "draining")])
    bed.jobs.gate.set()
    await bed.tasks[0]
    assert (await bed.server.result(running)).outcome == "completed"
    await eventually(lambda: bed.server.all(Bye))
    assert bed.jobs.log == ["setup", "teardown"]
    assert (bed.folder / "nodes" / "n1" / "outbox").stat().st_size == 0
    assert len(node.work.delivery) == 0

    bed.stop.clear()
    bed.start()
    await bed.server.ready(2)
    assert bed.server.hellos[1].epoch == 2
    assert bed.server.hellos[1].state_key == bed.server.hellos[0].state_key
    assert bed.server.hellos[1].instance != bed.server.hellos[0].instance


async def test_at_the_drain_deadline_running_jobs_are_handed_back(bed: Bed) -> None:
    bed.start(drain_s=0.05)
    await bed.server.ready()
    token = bed.server.dispatch("jobs", "watchful")
    await eventually(lambda: bed.jobs.entered)
    bed.stop.set()
    await bed.tasks[0]
    assert (await bed.server.result(token)).outcome == "handed_back"
    await eventually(lambda: bed.server.all(Bye))


async def test_a_stop_with_a_result_that_nobody_has_taken_says_no_goodbye(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a node that said BYE all that it held is lost at once; the result is on its disk: its successor brings it."""
    monkeypatch.setattr(host, "FLUSH_S", 0.05)
    bed.server.acks_results = False
    bed.start()
    await bed.server.ready()
    token = bed.server.dispatch("jobs", "ok")
    await bed.server.result(token)
    bed.stop.set()
    await bed.tasks[0]

    bed.stop.clear()
    bed.server.acks_results = True
    node = bed.start()
    await bed.server.ready(2)
    assert not bed.server.all(Bye)
    await eventually(lambda: not len(node.work.delivery))
    assert len(bed.server.results[token]) == 2
    assert bed.jobs.entered == [token]


async def test_a_stop_without_a_server_keeps_the_results_for_the_next_start(bed: Bed) -> None:
    node = bed.start()
    await bed.server.ready()
    token = bed.server.dispatch("jobs", "held")
    await eventually(lambda: bed.jobs.entered)
    bed.server.hang_up()
    await eventually(lambda: node.link.session is None)
    bed.jobs.gate.set()
    bed.stop.set()
    await bed.tasks[0]
    assert bed.server.results == {}

    bed.stop.clear()
    bed.server.listen_again()
    bed.start()
    assert (await bed.server.result(token)).outcome == "completed"
    assert bed.server.hellos[-1].outbox == 1
    await bed.server.ready(2)


async def test_an_operators_drain_keeps_the_process_and_can_be_undone(bed: Bed) -> None:
    bed.start()
    await bed.server.ready()
    bed.server.send(ServerDrain(s=bed.server.session, on=True))
    await eventually(lambda: bed.server.window == 0)
    bed.server.send(ServerDrain(s=bed.server.session, on=False))
    await eventually(lambda: bed.server.window == 2)


# --- identity and set-up


async def test_a_second_process_of_the_same_folder_is_refused(bed: Bed) -> None:
    bed.start()
    await bed.server.ready()
    bed.start(jobs=Jobs())
    with pytest.raises(NodeLocked, match="n1"):
        await bed.tasks[1]
    token = bed.server.dispatch("jobs", "ok")
    await bed.server.result(token)


async def test_a_setup_that_fails_stops_the_start_and_frees_the_folder(bed: Bed) -> None:
    class Broken(Jobs):
        async def setup(self) -> None:
            raise ConnectionError("no database")

    bed.start(jobs=Broken())
    with pytest.raises(InvalidHandler, match=r"setup\(\) of the handler 'jobs' failed: ConnectionError: no database"):
        await bed.tasks[0]
    bed.start()
    await bed.server.ready()


async def test_a_node_whose_outbox_breaks_ends_loudly(bed: Bed) -> None:
    node = bed.start()
    await bed.server.ready()

    def defect(attempt: object) -> tuple[int, bytes]:
        raise AssertionError("a defect")

    node.work.outbox._encode = defect
    bed.server.dispatch("jobs", "ok")
    with pytest.raises(AssertionError, match="a defect"):
        await bed.tasks[0]


async def test_an_outbox_that_cannot_be_opened_is_named(bed: Bed) -> None:
    (bed.folder / "nodes" / "n1" / "outbox").mkdir(parents=True)
    bed.start()
    with pytest.raises(ConfigError, match="outbox of this node can't be used"):
        await bed.tasks[0]


async def test_run_node_loads_its_targets(bed: Bed) -> None:
    settings = NodeSettings(
        targets=["schedule_zero.handlers.demo:DemoHandler"],
        node_id="n1",
        state_dir=bed.folder,
        server=bed.server.address,
    )
    bed.tasks.append(asyncio.create_task(run_node(settings, stop=bed.stop)))
    await bed.server.ready()
    token = bed.server.dispatch("demo", "add", {"a": 2, "b": 3})
    assert (await bed.server.result(token)).result == b"5.0"


async def test_a_job_that_blocks_the_loop_is_named_in_the_log(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "TICK_S", 0.05)
    monkeypatch.setattr(host, "LAG_S", 0.1)
    bed.start()
    await bed.server.ready()
    token = bed.server.dispatch("jobs", "blocks_the_loop", {"seconds": 0.4})
    await bed.server.result(token)
    await eventually(lambda: "loop_blocked" in capsys.readouterr().out)


# --- encryption


async def test_the_link_is_encrypted_when_there_are_keys_and_dead_when_they_are_wrong(
    bed: Bed, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CONNECT_S", 0.2)
    server_public, server_secret = zmq.curve_keypair()
    _, node_secret = zmq.curve_keypair()
    wrong_public, _ = zmq.curve_keypair()
    socket = bed.context.socket(zmq.ROUTER)
    socket.curve_server = True
    socket.curve_secretkey = server_secret
    socket.bind("tcp://127.0.0.1:*")
    address = socket.getsockopt(zmq.LAST_ENDPOINT).decode()
    try:
        bed.start(node_id="wrong", address=address, curve=Curve(wrong_public, node_secret))
        bed.start(node_id="plain", address=address, jobs=Jobs())
        await asyncio.sleep(0.4)
        assert not socket.poll(0)
        bed.start(node_id="right", address=address, curve=Curve(server_public, node_secret), jobs=Jobs())
        await eventually(lambda: socket.poll(0))
        _, _, body = socket.recv_multipart()
        assert b"HELLO" in body
        assert b"right" in body
    finally:
        socket.close(0)
