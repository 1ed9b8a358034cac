"""The edges of a job, end to end in one process: parameters, upgrades, sizes, many at once, a clock that is off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
from msgspec import structs

from schedule_zero.clock import SystemClock
from schedule_zero.config import LimitsConfig
from schedule_zero.node.host import NodeSettings, run_node
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.integration.edge_handlers import Gauge
from tests.support import eventually

pytestmark = pytest.mark.anyio

HERE = "tests.integration.edge_handlers"
JSON = {"Content-Type": "application/json"}


async def submit(api, handler_id: str, job_method: str, params: dict | None = None, *, times: int = 1) -> list[str]:
    job = {"handler_id": handler_id, "job_method": job_method, "job_params": params or {}}
    answer = await api.post("/api/executions", json={"executions": [job] * times})
    assert answer.status_code == 202, answer.text
    return list(answer.json()["ids"])


async def ended(api, execution_id: str) -> dict:
    record = (await api.get(f"/api/executions/{execution_id}", params={"wait_s": 20})).json()
    assert record["status"] in ("completed", "failed", "timeout"), record
    return dict(record)


@asynccontextmanager
async def node_with(
    server, folder: Path, target: str, *, node_id: str = "n1", clock=None, **settings
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    # The server may not have heard of the end of an earlier process yet.
    before = {one.instance for one in server.dispatcher.nodes()}
    node = NodeSettings(
        targets=[f"{HERE}:{target}"], server=server.addresses.zmq, node_id=node_id, state_dir=folder, **settings
    )
    task = asyncio.create_task(run_node(node, stop=stop, clock=clock))
    await eventually(lambda: any(one.instance not in before and one.window for one in server.dispatcher.nodes()))
    try:
        yield
    finally:
        stop.set()
        await task


# --- parameters ------------------------------------------------------------------------------------------

# (job_method, job_params as JSON, code, where)
BAD_PARAMS = {
    "missing": ("hello", b"{}", "invalid_params", "/job_params"),
    "absent": ("hello", None, "invalid_params", "/job_params"),
    "null for a text": ("hello", b'{"name":null}', "invalid_params", "/job_params/name"),
    "a number for a text": ("hello", b'{"name":5}', "invalid_params", "/job_params/name"),
    "a text for a number": ("add", b'{"a":"1","b":2}', "invalid_params", "/job_params/a"),
    "unknown": ("hello", b'{"name":"x","nmae":"y"}', "invalid_params", "/job_params"),
    "any for a method that takes none": ("noop", b'{"a":1}', "invalid_params", "/job_params"),
    "a list": ("hello", b'["x"]', "invalid_params", "/job_params"),
    "a text": ("hello", b'"x"', "invalid_params", "/job_params"),
    "null": ("hello", b"null", "invalid_params", "/job_params"),
    "a name that stands twice": ("hello", b'{"name":"x","name":"y"}', "invalid_field", "/job_params/name"),
    "cut off": ("hello", b'{"name":"x"', "malformed_json", ""),
    "no JSON": ("hello", b"{name:x}", "malformed_json", ""),
}
TRIGGER = b'"trigger":{"type":"interval","seconds":3600},"id":"s"'
DOORS = {
    "submission": ("POST", "/api/executions", b"{%s}"),
    "bulk": ("POST", "/api/executions", b'{"executions":[{%s}]}'),
    "run now": ("POST", "/api/run_now", b"{%s}"),
    "schedule": ("POST", "/api/schedules", b"{%s," + TRIGGER + b"}"),
    "bulk of schedules": ("POST", "/api/schedules", b'{"schedules":[{%s,' + TRIGGER + b"}]}"),
    "replaced schedule": ("PUT", "/api/schedules/s", b"{%s," + TRIGGER + b"}"),
    "earlier schedule": ("POST", "/api/schedule", b"{%s," + TRIGGER.replace(b'"id"', b'"job_id"') + b"}"),
}


@pytest.mark.parametrize("door", DOORS)
async def test_parameters_that_do_not_fit_are_refused_alike_at_every_door_and_nothing_is_made(
    server, start_node, api, door
):
    await start_node("n1")
    method, path, body = DOORS[door]
    for words, (job_method, params, code, pointer) in BAD_PARAMS.items():
        job = b'"handler_id":"demo","job_method":"%s"' % job_method.encode()
        job += b"" if params is None else b',"job_params":' + params

        answer = await api.request(method, path, content=body % job, headers=JSON)

        problem = answer.json()
        assert (answer.status_code, problem["error"]["code"]) == (400, code), (words, problem)
        if pointer:
            assert pointer in problem["errors"][0]["pointer"], (words, problem)
    assert (await api.get("/api/executions")).json()["count"] == 0
    assert (await api.get("/api/schedules")).json()["count"] == 0


@pytest.mark.parametrize("params", [b"", b',"job_params":{}'])
async def test_a_method_without_parameters_runs_with_none_said_and_with_an_empty_object(start_node, api, params):
    await start_node("n1")
    job = b'{"handler_id":"demo","job_method":"noop"%s}' % params
    [execution_id] = (await api.post("/api/executions", content=job, headers=JSON)).json()["ids"]
    assert (await ended(api, execution_id))["status"] == "completed"


# --- a node that was upgraded ----------------------------------------------------------------------------


async def test_parameters_that_fit_no_more_after_an_upgrade_fail_at_the_node_and_are_named(server, api, tmp_path):
    async with node_with(server, tmp_path / "n", "ShopOne"):
        [done] = await submit(api, "shop", "order", {"article": "tea"})
        assert (await ended(api, done))["result"] == "one tea"
    [waits] = await submit(api, "shop", "order", {"article": "tea"})

    async with node_with(server, tmp_path / "n", "ShopTwo"):
        over = await ended(api, waits)

        assert (over["status"], over["attempt"], over["error"]["type"]) == ("failed", 1, "InvalidParams")
        assert "count" in over["error"]["message"]
        # Who submits now is told at once.
        late = {"handler_id": "shop", "job_method": "order", "job_params": {"article": "tea"}}
        assert (await api.post("/api/executions", json=late)).status_code == 400


async def test_a_method_that_is_gone_after_an_upgrade_waits_and_does_not_hold_up_the_others(server, api, tmp_path):
    async with node_with(server, tmp_path / "n", "ShopOne"):
        await ended(api, (await submit(api, "shop", "refund", {"article": "tea"}))[0])
    [gone] = await submit(api, "shop", "refund", {"article": "milk"})

    async with node_with(server, tmp_path / "n", "ShopTwo"):
        [other] = await submit(api, "shop", "order", {"article": "tea", "count": 1})
        assert (await ended(api, other))["status"] == "completed"
        record = (await api.get(f"/api/executions/{gone}")).json()
        assert (record["status"], record["attempt"]) == ("pending", 0)
        # A node of the old version, in the middle of a rolling upgrade, takes it.
        async with node_with(server, tmp_path / "old", "ShopOne", node_id="old"):
            over = await ended(api, gone)
            assert (over["result"], over["node_id"], over["attempt"]) == ("refund of milk", "old", 1)


async def test_fires_of_a_method_that_is_gone_wait_and_a_run_now_is_refused(server, api, tmp_path):
    async with node_with(server, tmp_path / "n", "ShopOne"):
        job = {"handler_id": "shop", "job_method": "refund", "job_params": {"article": "tea"}}
        trigger = {"type": "interval", "seconds": 1}
        made = await api.post("/api/schedules", json={"id": "s", **job, "trigger": trigger, "paused": True})
        assert made.status_code == 201, made.text
    async with node_with(server, tmp_path / "n", "ShopTwo"):
        ran = await api.post("/api/schedules/s/run")
        assert (ran.status_code, ran.json()["error"]["code"]) == (400, "unknown_method")
        await api.post("/api/schedules/s/resume")

        async def fired() -> list[dict]:
            return list((await api.get("/api/executions", params={"schedule_id": "s"})).json()["records"])

        [execution, *_] = await eventually(fired)
        assert (execution["status"], execution["attempt"]) == ("pending", 0)


# --- sizes -----------------------------------------------------------------------------------------------

LIMIT = 1000


def params_of(size: int) -> bytes:
    """An object of ``size`` bytes."""
    return b'{"a":"%s"}' % (b"x" * (size - 8))


@pytest.mark.parametrize("door", ["submission", "run now", "schedule"])
async def test_parameters_may_have_as_many_bytes_as_the_limit_and_not_one_more(tmp_path, door):
    config = with_config(limits=LimitsConfig(params_bytes=LIMIT))
    method, path, body = DOORS[door]
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        know_demo(server)
        answers = []
        for size in (LIMIT, LIMIT + 1):
            job = b'"handler_id":"demo","job_method":"echo","job_params":' + params_of(size)
            more = b',"wait_s":0' if door == "run now" else b""
            answers.append(await api.request(method, path, content=body % (job + more), headers=JSON))

        assert answers[0].status_code in (201, 202), answers[0].text
        assert (answers[1].status_code, answers[1].json()["error"]["code"]) == (413, "too_large")
        assert answers[1].json()["errors"][0]["pointer"] == "/job_params"


async def test_parameters_at_the_limit_reach_the_job_whole(server, start_node, api):
    await start_node("n1")
    most = server.config.limits.params_bytes
    job = b'{"handler_id":"demo","job_method":"echo","job_params":%s}' % params_of(most)
    [execution_id] = (await api.post("/api/executions", content=job, headers=JSON)).json()["ids"]
    record = await ended(api, execution_id)
    assert record["result"] == json.loads(params_of(most))


async def test_a_result_may_have_as_many_bytes_as_the_limit_and_not_one_more(tmp_path):
    config = with_config(limits=LimitsConfig(result_bytes=LIMIT, big_result_bytes=LIMIT))
    async with (
        running_server(tmp_path / "server", config) as server,
        api_client(server) as api,
        node_with(server, tmp_path / "n", "Gauge", result_bytes=LIMIT),
    ):
        [fits] = await submit(api, "gauge", "text", {"size": LIMIT})
        [over] = await submit(api, "gauge", "text", {"size": LIMIT + 1})

        assert (await ended(api, fits))["status"] == "completed"
        record = await ended(api, over)
        assert (record["status"], record["error"]["type"]) == ("failed", "ResultTooLarge")
        assert str(LIMIT) in record["error"]["message"]


async def test_a_node_that_allows_more_than_its_server_costs_its_job_and_nothing_else(tmp_path):
    """The two limits are two settings: what only the node would take is refused by the server, and the node goes on."""
    config = with_config(limits=LimitsConfig(result_bytes=LIMIT, big_result_bytes=LIMIT))
    async with (
        running_server(tmp_path / "server", config) as server,
        api_client(server) as api,
        node_with(server, tmp_path / "n", "Gauge", result_bytes=10 * LIMIT),
    ):
        [fits] = await submit(api, "gauge", "text", {"size": LIMIT})
        [over] = await submit(api, "gauge", "text", {"size": LIMIT + 1})
        assert (await ended(api, fits))["status"] == "completed"
        record = await ended(api, over)
        assert (record["status"], record["error"]["type"]) == ("failed", "ResultTooLarge")
        [after] = await submit(api, "gauge", "pause")
        assert (await ended(api, after))["status"] == "completed"


# --- many at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 10, 100])
async def test_1200_jobs_at_once_all_run_once_and_never_more_than_the_slots(server, api, tmp_path, slots):
    Gauge.reset()
    async with node_with(server, tmp_path / "n", "Gauge", slots=slots):
        ids = await submit(api, "gauge", "pause", {"seconds": 0.001}, times=1200)

        async def over() -> bool:
            return bool((await api.get("/api/executions/stats")).json()["by_status"].get("completed") == 1200)

        await eventually(over, within_s=60, every_s=0.1)
    assert len(set(ids)) == Gauge.entered == 1200
    assert Gauge.inside == 0
    # As many as there are slots, too: they are used.
    assert Gauge.most == slots if slots <= 10 else 10 < Gauge.most <= slots


# --- clocks ----------------------------------------------------------------------------------------------


class ClockOff(SystemClock):
    """A node's clock that nobody set."""

    def __init__(self, off_s: float) -> None:
        self._off_us = round(off_s * 1e6)

    def wall_us(self) -> int:
        return super().wall_us() + self._off_us


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
async def test_c12_a_node_whose_clock_is_an_hour_off_does_its_work_and_tells_the_servers_time(tmp_path, off_s):
    quick = structs.replace(with_config().dispatch, heartbeat_s=0.2)
    async with (
        running_server(tmp_path / "server", with_config(dispatch=quick)) as server,
        api_client(server) as api,
        node_with(server, tmp_path / "n", "Gauge", clock=ClockOff(off_s)),
    ):
        began = SystemClock().wall_us() / 1e6
        [execution_id] = await submit(api, "gauge", "pause", {"seconds": 0.1})
        record = await ended(api, execution_id)

        assert record["status"] == "completed"
        assert began - 1 < moment(record["started_at"]) <= moment(record["finished_at"]) < began + 20

        async def told() -> dict | None:
            node = (await api.get("/api/nodes/n1")).json()
            return node if node["round_trip_s"] is not None else None

        node = await eventually(told)
        assert node["clock_skew_s"] == pytest.approx(off_s, abs=2.0)
        assert 0 <= node["round_trip_s"] < 5
        assert node["state"] == "online"
