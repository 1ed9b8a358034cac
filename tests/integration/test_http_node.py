"""``--transport http``: the node's own runner and outbox over HTTP, against a real server, on a network that fails."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schedule_zero import BaseHandler, current_job
from schedule_zero.clock import SystemClock
from schedule_zero.config import HttpConfig
from schedule_zero.errors import Denied, DuplicateNode
from schedule_zero.node import http_link, link
from schedule_zero.node.host import Node
from schedule_zero.node.http_link import HttpLink
from schedule_zero.node.settings import HttpAccess, NodeSettings
from schedule_zero.server import Server
from schedule_zero.web.api.job_records import JobRecord, ResultBody
from schedule_zero.wire.messages import DispatchItem, ResultItem
from tests.integration.conftest import api_client, running_server, with_config
from tests.integration.log_bed import complete_log
from tests.integration.test_http_bots import QUICK, becomes, shown, submit
from tests.support import eventually

pytestmark = pytest.mark.anyio


class Jobs(BaseHandler):
    handler_id = "demo"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered: list[int] = []
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def echo(self, value: Any = None) -> Any:
        self.entered.append(current_job().fence_token)
        return value

    def held(self) -> str:
        self.entered.append(current_job().fence_token)
        current_job().progress(40, "held")
        self.gate.wait(20)
        return "held"

    def says(self, lines: int) -> None:
        for number in range(lines):
            current_job().log.info(f"line {number}")

    def large(self, size: int) -> str:
        return "x" * (size - 2)

    def counted(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.gate.wait(0.02)
        with self._lock:
            self.running -= 1

    def watchful(self) -> bool:
        self.entered.append(current_job().fence_token)
        return current_job().wait_cancelled(20)

    def deep(self) -> Any:
        value: Any = 1
        for _ in range(100):
            value = [value]
        return value


def as_it_is(*_: Any) -> None:
    """Nothing is wrong with the network."""


def no_result_gets_through(path: str, _: Any) -> Exception | None:
    return httpx.ReadTimeout("slow") if path.endswith("/result") else None


def cut(*_: Any) -> Exception:
    return httpx.ConnectError("cut")


class Wire(httpx.AsyncBaseTransport):
    """The network between node and server, which a test can break. ``log`` has (path, body, what came of it)."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.log: list[tuple[str, dict[str, Any], Any]] = []
        # What to do instead of sending, or after it: None lets it pass.
        self.before: Callable[[str, dict[str, Any]], httpx.Response | Exception | None] = as_it_is
        self.after: Callable[..., Exception | None] = as_it_is

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, msgspec.json.decode(request.content)
        outcome = self.before(path, body)
        if outcome is None:
            answer = await self.inner.handle_async_request(request)
            await answer.aread()
            outcome = self.after(path, body, answer) or answer
        self.log.append((path, body, getattr(outcome, "status_code", outcome)))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        await self.inner.aclose()

    def results(self) -> list[tuple[int, Any]]:
        """(token, what came of it) of every report, in order."""
        return [(body["token"], status) for path, body, status in self.log if path.endswith("/result")]

    def claims(self) -> list[dict[str, Any]]:
        return [body for path, body, _ in self.log if path.endswith("/claim")]


class Running:
    """A node in this process, and everything of it that a test looks at."""

    def __init__(self, node: Node, task: asyncio.Task[None], stop: asyncio.Event, jobs: Jobs, wire: Wire) -> None:
        self.node, self.task, self._stop, self.jobs, self.wire = node, task, stop, jobs, wire

    @property
    def link(self) -> HttpLink:
        assert isinstance(self.node.link, HttpLink)
        return self.node.link

    async def stop(self) -> None:
        self._stop.set()
        await self.task


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Starts nodes that speak HTTP; all are stopped at the end."""
    wires: list[Wire] = []
    real = http_link.HttpLink.__init__

    def init(self, **fields: Any) -> None:
        real(self, **fields, transport=wires[-1])

    monkeypatch.setattr(http_link.HttpLink, "__init__", init)
    # Quick, and as the protocol says: with full jitter.
    monkeypatch.setattr(http_link, "back_off_s", lambda _, most_s: min(0.05, most_s))
    started: list[Running] = []

    async def begin(
        url: str, *, token: str = "", token_file: Path | None = None, slots: int = 4, node_id: str = "n1", **more: Any
    ) -> Running:
        jobs, wire, stop = Jobs(), Wire(), asyncio.Event()
        wire.before = more.pop("before", wire.before)
        wires.append(wire)
        settings = NodeSettings(
            targets=[],
            node_id=node_id,
            state_dir=more.pop("folder", tmp_path / "nodes"),
            slots=slots,
            http=HttpAccess(url, token, token_file),
            **more,
        )
        node = Node(settings, clock=SystemClock(), handlers=[jobs])
        running = Running(node, asyncio.create_task(node.run(stop)), stop, jobs, wire)
        started.append(running)
        await eventually(lambda: running.task.done() or (hasattr(node, "link") and running.link.sessions))
        return running

    yield begin
    for running in started:
        running.jobs.gate.set()
        running.wire.before = as_it_is
        running.wire.after = as_it_is
        if not running.task.done():
            await running.stop()


def token_of(server: Server) -> str:
    return (server.state_dir / "admin.token").read_text().strip()


@pytest.fixture
async def node(server: Server, start: Any) -> Running:
    running: Running = await start(server.addresses.http, token=token_of(server))
    return running


def view(server: Server, node_id: str = "n1"):
    return next((one for one in server.dispatcher.nodes() if one.node_id == node_id), None)


# --- the same node, another line ------------------------------------------------------------------------


def test_every_field_of_a_dispatch_travels_over_http_as_well():
    names = {field.encode_name for field in msgspec.structs.fields(DispatchItem)}
    shown_as = {"params": "job_params", "nominal_us": "nominal_time", "start_by_us": "start_by"}
    there = {field.encode_name for field in msgspec.structs.fields(JobRecord)}
    assert {shown_as.get(name, name) for name in names} == there


def test_every_field_of_a_result_travels_over_http_as_well():
    names = {field.encode_name for field in msgspec.structs.fields(ResultItem)}
    shown_as = {"outcome": "status", "started_us": "started_at", "finished_us": "finished_at"}
    there = {field.encode_name for field in msgspec.structs.fields(ResultBody)}
    assert {shown_as.get(name, name) for name in names} - {"id"} == there - {"bot_id", "reason"}


async def test_a_node_runs_jobs_and_declares_its_methods_with_their_schemas(server, api, node):
    ids = await submit(api, 20, job_params={"value": {"a": [1, "ä"]}})

    for id_ in ids:
        execution = await becomes(api, id_, "completed")
        assert execution["result"] == {"a": [1, "ä"]}
        assert (execution["node_id"], execution["attempt"]) == ("n1", 1)
        assert execution["dispatched_at"] <= execution["started_at"] <= execution["finished_at"]
    wrong = {"handler_id": "demo", "job_method": "echo", "job_params": {"valu": 1}}
    assert (await api.post("/api/executions", json=wrong)).json()["error"]["code"] == "invalid_params"
    assert (view(server).slots, view(server).state) == (4, "online")


@pytest.mark.parametrize("slots", [1, 10, 100])
async def test_no_more_jobs_run_at_once_than_there_are_slots_and_all_of_them_run(server, api, start, slots):
    node = await start(server.addresses.http, token=token_of(server), slots=slots)
    count = 40 if slots == 1 else 150
    await submit(api, count, job_method="counted")

    async def done() -> bool:
        return (await api.get("/api/executions/stats")).json()["success_count"] == count

    await eventually(done, within_s=30)
    assert 1 <= node.jobs.most <= slots
    await eventually(lambda: Counter(status for _, status in node.wire.results()) == {200: count})


async def test_progress_and_cancel_reach_their_end_while_all_slots_are_busy(server, api, start):
    node = await start(server.addresses.http, token=token_of(server), slots=1)
    [id_] = await submit(api, job_method="watchful")
    await eventually(lambda: node.jobs.entered)

    assert (await api.post(f"/api/executions/{id_}/cancel")).status_code == 202

    await becomes(api, id_, "cancelled")


async def test_progress_is_shown(server, api, node):
    [id_] = await submit(api, job_method="held")

    async def told() -> bool:
        return ((await shown(api, id_))["progress"] or {}).get("percent") == 40

    await eventually(told)
    node.jobs.gate.set()
    assert (await becomes(api, id_, "completed"))["result"] == "held"


async def test_a_drained_node_ends_its_job_signs_off_and_gives_the_rest_back(server, api, start):
    node = await start(server.addresses.http, token=token_of(server), slots=1)
    held, *waiting = await submit(api, 3, job_method="held")
    await eventually(lambda: node.jobs.entered)

    stopping = asyncio.create_task(node.stop())
    await eventually(lambda: view(server).draining)
    node.jobs.gate.set()
    await stopping

    assert (await shown(api, held))["status"] == "completed"
    assert view(server).state == "offline"
    for id_ in waiting:
        execution = await becomes(api, id_, "pending")
        assert execution["attempt"] == 0


async def test_what_still_runs_at_the_drains_deadline_is_handed_back_and_spends_no_attempt(server, api, start):
    node = await start(server.addresses.http, token=token_of(server), drain_s=0.1)
    [id_] = await submit(api, job_method="watchful")
    await eventually(lambda: node.jobs.entered)

    await node.stop()

    execution = await becomes(api, id_, "pending")
    assert execution["attempt"] == 0


async def test_an_operator_drains_and_resumes_it(server, api, node):
    await api.post("/api/nodes/n1/drain")
    [id_] = await submit(api)
    await eventually(lambda: "operator" in node.node.work._refusing)
    assert (await shown(api, id_))["status"] == "pending"

    await api.post("/api/nodes/n1/resume")
    await becomes(api, id_, "completed")


async def test_a_second_process_of_its_node_id_ends_with_the_reason(server, node, start, tmp_path):
    second = await start(server.addresses.http, token=token_of(server), folder=tmp_path / "elsewhere")

    with pytest.raises(DuplicateNode):
        await second.task


async def test_the_same_state_directory_takes_over_at_once_and_brings_its_outbox(server, api, start):
    first = await start(server.addresses.http, token=token_of(server))
    [id_] = await submit(api, job_params={"value": 7})
    # Its result reaches the disk, and no further.
    first.wire.before = no_result_gets_through
    await eventually(lambda: len(first.node.work.delivery) == 1)
    first.task.cancel()
    await asyncio.gather(first.task, return_exceptions=True)
    assert (await shown(api, id_))["status"] == "running"

    second = await start(server.addresses.http, token=token_of(server))

    execution = await becomes(api, id_, "completed")
    assert (execution["result"], len(execution["attempts"])) == (7, 1)
    assert second.jobs.entered == []


# --- the network, the server, the token -----------------------------------------------------------------------


async def test_results_go_out_in_order_stop_at_the_first_failure_and_the_rest_is_kept(server, api, start):
    node = await start(server.addresses.http, token=token_of(server), slots=4)
    ids = await submit(api, 4, job_method="held")
    await eventually(lambda: len(node.jobs.entered) == 4)
    answered = 0

    def all_but_one_are_lost(path: str, body: dict[str, Any]) -> httpx.Response | Exception | None:
        nonlocal answered
        if path.endswith("/result"):
            answered += 1
            return None if answered == 1 else httpx.ConnectError("cut")
        return None if answered < 2 else httpx.Response(502)

    node.wire.before = all_but_one_are_lost
    node.jobs.gate.set()

    await eventually(lambda: len(node.node.work.delivery) == 3 and answered >= 2)
    kept = list(node.node.work.delivery)
    tried = [token for token, _ in node.wire.results()]
    # After the first failure nothing behind it was tried.
    assert tried[1] == kept[0]
    assert len(tried) == 2
    node.wire.log.clear()
    node.wire.before = as_it_is

    await eventually(lambda: not len(node.node.work.delivery))
    assert node.wire.results() == [(token, 200) for token in kept]
    for id_ in ids:
        assert (await shown(api, id_))["status"] == "completed"


async def test_while_results_can_not_be_reported_nothing_is_claimed(server, api, node):
    node.wire.before = no_result_gets_through
    [first] = await submit(api)
    await eventually(lambda: len(node.wire.results()) >= 2)
    asked: list[int] = []

    def slow(path: str, body: dict[str, Any]) -> Exception | None:
        asked.extend([body["batch_size"]] if path.endswith("/claim") else [])
        return no_result_gets_through(path, body)

    node.wire.before = slow
    node.wire.log.clear()
    [second] = await submit(api)

    await eventually(lambda: len(node.wire.results()) >= 3)

    assert set(asked) == {0}
    assert len(node.jobs.entered) == 1
    node.wire.before = as_it_is
    await becomes(api, first, "completed")
    await becomes(api, second, "completed")


@pytest.mark.parametrize("seed", range(3))
async def test_an_intermittent_network_loses_no_job_and_runs_none_twice(server, api, start, seed):
    import random

    chance = random.Random(seed)
    node = await start(server.addresses.http, token=token_of(server), slots=5)

    def before(path: str, body: dict[str, Any]) -> Exception | None:
        return httpx.ConnectError("lost on the way there") if chance.random() < 0.15 else None

    def after(path: str, body: dict[str, Any], answer: httpx.Response) -> Exception | None:
        return httpx.ReadError("lost on the way back") if chance.random() < 0.15 else None

    node.wire.before, node.wire.after = before, after
    ids = await submit(api, 60, job_params={"value": 1})

    async def done() -> bool:
        return (await api.get("/api/executions/stats")).json()["success_count"] == len(ids)

    await eventually(done, within_s=60)
    assert len(node.jobs.entered) == len(set(node.jobs.entered)) == 60
    for id_ in ids:
        # What was given back had not been begun.
        outcomes = [attempt["outcome"] for attempt in (await shown(api, id_))["attempts"]]
        assert [outcome for outcome in outcomes if outcome != "handed_back"] == ["completed"]


async def test_a_token_that_was_revoked_in_mid_flight_stops_claims_and_keeps_results_for_the_next_one(
    server, api, start, tmp_path
):
    made = (await api.post("/api/tokens", json={"name": "w1", "role": "worker"})).json()
    token_file = tmp_path / "worker.token"
    token_file.write_text(made["token"] + "\n")
    node = await start(server.addresses.http, token_file=token_file)
    [id_] = await submit(api, job_method="held")
    await eventually(lambda: node.jobs.entered)

    await api.delete(f"/api/tokens/{made['id']}")
    node.jobs.gate.set()
    await eventually(lambda: 401 in [status for _, _, status in node.wire.log])
    await eventually(lambda: len(node.node.work.delivery) == 1)
    [waiting] = await submit(api)
    assert (await shown(api, id_))["status"] == "running"
    # Its claim that was waiting is no good either: what was on the way to it is given back.
    await becomes(api, waiting, "pending")

    again = (await api.post("/api/tokens", json={"name": "w2", "role": "worker"})).json()
    token_file.write_text(again["token"] + "\n")

    assert (await becomes(api, id_, "completed"))["result"] == "held"
    await becomes(api, waiting, "completed")
    assert len(node.jobs.entered) == 2


async def test_a_token_without_the_role_is_tried_again_slowly(server, api, start, monkeypatch):
    secret = (await api.post("/api/tokens", json={"name": "v", "role": "viewer"})).json()["token"]
    bounds: list[tuple[int, float]] = []
    monkeypatch.setattr(http_link, "back_off_s", lambda failures, most_s: bounds.append((failures, most_s)) or 0.01)
    starting = asyncio.create_task(start(server.addresses.http, token=secret))

    await eventually(lambda: len(bounds) >= 3)

    assert [failures for failures, _ in bounds[:3]] == [0, 1, 2]
    assert {most_s for _, most_s in bounds} == {link.BACKOFF_MAX_S}
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for(server, api, start, monkeypatch, status):
    delays: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, *rest: Any) -> None:
        delays.append(seconds)
        await real(min(seconds, 0.02))

    node = await start(server.addresses.http, token=token_of(server))
    monkeypatch.setattr(http_link.asyncio, "sleep", sleep)
    busy = httpx.Response(status, headers={"Retry-After": "17"}, json={"error": {"code": "x", "message": "busy"}})
    node.wire.before = lambda *_: busy

    await eventually(lambda: any(seconds >= 17 for seconds in delays))


async def test_a_proxys_page_is_no_word_of_the_server_and_loses_no_result(server, api, node):
    for status in (400, 404, 409, 502, 504):
        page = httpx.Response(status, html="<h1>a proxy</h1>")
        node.wire.before = lambda path, _, page=page: page if path.endswith("/result") else None
        node.wire.log.clear()
        [id_] = await submit(api, job_params={"value": status})
        await eventually(lambda: len(node.wire.results()) >= 2)
        assert len(node.node.work.delivery) == 1, status
        node.wire.before = as_it_is
        assert (await becomes(api, id_, "completed"))["result"] == status


@pytest.mark.parametrize("page", [b"<html>please log in</html>", b"", b"{}", b'{"status": "ok"}'])
async def test_a_success_that_is_a_proxys_and_not_the_servers_loses_no_result(server, api, node, page):
    node.wire.before = lambda path, _: httpx.Response(200, content=page) if path.endswith("/result") else None
    [id_] = await submit(api, job_params={"value": 1})
    await eventually(lambda: len(node.wire.results()) >= 2)
    assert len(node.node.work.delivery) == 1
    node.wire.before = as_it_is
    assert (await becomes(api, id_, "completed"))["result"] == 1
    assert len(node.jobs.entered) == 1


async def test_a_result_that_the_server_will_never_take_fails_its_job_and_blocks_no_other(server, api, node):
    deep, *others = [*await submit(api, job_method="deep"), *await submit(api, 3)]

    execution = await becomes(api, deep, "failed")
    assert execution["error"]["type"] == "ResultRefused"
    for id_ in others:
        await becomes(api, id_, "completed")
    await eventually(lambda: not len(node.node.work.delivery))


async def test_a_result_that_a_proxy_finds_too_large_fails_its_job(tmp_path, start):
    config = with_config(http=HttpConfig(port=0, max_body_bytes=8192))
    async with running_server(tmp_path / "small", config) as server, api_client(server) as api:
        await start(server.addresses.http, token=token_of(server))
        [id_] = await submit(api, job_params={"value": "x" * 3000})
        assert (await becomes(api, id_, "completed"))["result"] == "x" * 3000
        [id_] = await submit(api, job_method="deep", options={"max_attempts": 3})
        assert (await becomes(api, id_, "failed"))["attempt"] == 1


async def test_after_a_server_restart_a_running_job_goes_on_and_its_result_is_recorded(tmp_path, start):
    config = with_config()
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        url, port = server.addresses.http, int(server.addresses.http.rpartition(":")[2])
        node = await start(url, token=token_of(server))
        [id_] = await submit(api, job_method="held")
        await eventually(lambda: node.jobs.entered)
    await eventually(lambda: node.link.session is None)
    config = with_config(http=HttpConfig(port=port))
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        await eventually(lambda: node.link.session is not None)
        node.jobs.gate.set()
        execution = await becomes(api, id_, "completed")
        assert (len(execution["attempts"]), len(node.jobs.entered)) == (1, 1)
        await node.stop()


async def test_a_node_that_is_cut_off_for_longer_than_its_lease_stops_believing_before_the_job_runs_elsewhere(
    tmp_path, start
):
    async with running_server(tmp_path / "quick", with_config(dispatch=QUICK)) as server, api_client(server) as api:
        away = await start(server.addresses.http, token=token_of(server), node_id="cut")
        [id_] = await submit(api, job_method="watchful")
        await eventually(lambda: away.jobs.entered)
        away.wire.before = cut

        # The lease is over for the node first.
        await eventually(lambda: away.node.work._fenced)
        assert (await shown(api, id_))["attempt"] == 1
        other = await start(server.addresses.http, token=token_of(server), node_id="other")
        await eventually(lambda: other.jobs.entered)
        assert other.jobs.entered[0] > away.jobs.entered[0]

        away.wire.before = as_it_is
        await eventually(lambda: not len(away.node.work.delivery) and not away.node.work.runner.attempts)
        await api.post(f"/api/executions/{id_}/cancel")
        execution = await becomes(api, id_, "cancelled")
        assert [attempt["node_id"] for attempt in execution["attempts"]][-2:] == ["cut", "other"]


async def test_a_full_disk_stops_claims_until_results_can_be_written_again(server, api, node):
    await eventually(lambda: view(server).window == 4)
    node.node.work._disk_health([OSError(28, "No space left on device")])
    # The claim that was waiting is ended, too.
    await eventually(lambda: view(server).window == 0)
    asked: list[int] = []
    node.wire.before = lambda _, body: asked.append(body.get("batch_size", 0))
    [id_] = await submit(api)

    await eventually(lambda: len(asked) >= 2)
    assert set(asked) == {0}
    assert (await shown(api, id_))["status"] == "pending"

    node.node.work._disk_health([None])
    await becomes(api, id_, "completed")


async def test_a_server_that_denies_the_node_ends_it(start):
    def denied(path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(403, json={"error": {"code": "denied", "message": "not you"}})

    node = await start("http://127.0.0.1:9", token="x", before=denied)
    with pytest.raises(Denied, match="not you"):
        await node.task


async def test_a_drain_with_a_deadline_has_what_still_runs_handed_back_in_time(server, api, start):
    node = await start(server.addresses.http, token=token_of(server))
    [id_] = await submit(api, job_method="watchful")
    await eventually(lambda: node.jobs.entered)

    await api.post("/api/nodes/n1/drain", json={"deadline_s": 0.2})

    execution = await becomes(api, id_, "pending")
    assert execution["attempt"] == 0


# --- logs and large results -----------------------------------------------------------------------------------


async def test_a_jobs_log_is_streamed_over_http_whole_and_once_though_answers_are_lost(server, api, node):
    lost = iter([True, False] * 3)
    node.wire.after = lambda path, *_: (
        httpx.ReadTimeout("lost") if path.endswith("/log") and next(lost, False) else None
    )
    [id_] = await submit(api, job_method="says", job_params={"lines": 300})

    texts = await complete_log(api, id_)

    assert [text.split()[:2] for text in texts] == [["line", str(number)] for number in range(300)]
    await becomes(api, id_, "completed")


async def test_a_server_that_has_too_many_logs_delays_logs_and_nothing_else(server, api, node):
    full = httpx.Response(429, json={"error": {"code": "too_many_requests", "message": "wait"}})
    node.wire.before = lambda path, _: full if path.endswith("/log") else None
    [id_] = await submit(api, job_method="says", job_params={"lines": 1})

    await becomes(api, id_, "completed")
    await eventually(lambda: any(status == 429 for _, _, status in node.wire.log))
    assert node.link.sessions == 1
    node.wire.before = as_it_is
    assert len(await complete_log(api, id_)) == 1


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3_000_000])
async def test_a_large_result_goes_in_parts_and_is_whole_though_answers_are_lost(server, api, node, size):
    lost = iter([True, False] * 3)
    node.wire.after = lambda path, *_: httpx.ReadTimeout("x") if path.endswith("/part") and next(lost, False) else None
    [id_] = await submit(api, job_method="large", job_params={"size": size})

    execution = await becomes(api, id_, "completed")

    assert execution["result_bytes"] == (None if size == 1 << 20 else size)
    assert len((await api.get(f"/api/executions/{id_}/result")).content) == size
    await eventually(lambda: not list((node.node.work.big._folder).glob("*")) if size > 1 << 20 else True)


async def test_a_result_whose_parts_a_proxy_will_not_pass_fails_with_the_reason(server, api, node):
    node.wire.before = lambda path, _: httpx.Response(413, text="<html>") if path.endswith("/part") else None
    [id_] = await submit(api, job_method="large", job_params={"size": 2_000_000})

    execution = await becomes(api, id_, "failed")

    assert execution["error"]["type"] == "ResultRefused"
    assert "413" in execution["error"]["message"]
