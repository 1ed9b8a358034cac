"""Limits with a real server and real nodes: what waits says why, what runs is counted, rates are kept."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime

import httpx
import pytest

from schedule_zero.clock import to_us
from tests.integration.conftest import StartNode, api_client, running_server, with_config
from tests.support import eventually

pytestmark = pytest.mark.anyio

SLEEP = {"handler_id": "demo", "job_method": "sleep", "job_params": {"seconds": 60}}
NOOP = {"handler_id": "demo", "job_method": "noop"}


async def submit(api: httpx.AsyncClient, *items: dict) -> list[str]:
    answer = await api.post("/api/executions", json={"executions": list(items)})
    assert answer.status_code == 202, answer.text
    return answer.json()["ids"]


async def show(api: httpx.AsyncClient, id_: str, wait_s: float = 0) -> dict:
    return (await api.get(f"/api/executions/{id_}", params={"wait_s": wait_s})).json()


async def statuses(api: httpx.AsyncClient, ids: list[str]) -> list[str]:
    return [(await show(api, id_))["status"] for id_ in ids]


async def all_over(api: httpx.AsyncClient, ids: list[str]) -> list[dict]:
    return [await show(api, id_, wait_s=20) for id_ in ids]


async def waits_for(api: httpx.AsyncClient, id_: str, reason: str) -> dict:
    async def found() -> dict | None:
        waiting = (await show(api, id_))["waiting_for"]
        return waiting if waiting is not None and waiting["reason"] == reason else None

    return await eventually(found)


async def cancel(api: httpx.AsyncClient, *ids: str) -> None:
    for id_ in ids:
        await api.post(f"/api/executions/{id_}/cancel")


async def test_one_of_each_key_runs_and_what_waits_says_so(api: httpx.AsyncClient, start_node: StartNode) -> None:
    await start_node("n1")

    def of(customer: str) -> dict:
        # ``sleep`` takes no other parameter, so the key is said outright.
        return {**SLEEP, "options": {"concurrency_key": f"customer:{customer}"}}

    seven, eight = await submit(api, of("7"), of("7")), await submit(api, of("8"))
    await eventually(lambda: _running(api, [seven[0], *eight]))

    waiting = await waits_for(api, seven[1], "key")

    assert (waiting["running"], waiting["limit"], waiting["until"]) == (1, 1, None)
    assert waiting["detail"] == "concurrency key 'customer:7': 1 of 1 running"
    await cancel(api, seven[0])
    await eventually(lambda: _running(api, [seven[1]]))
    assert (await show(api, seven[1]))["waiting_for"] is None
    await cancel(api, seven[1], *eight)


async def _running(api: httpx.AsyncClient, ids: list[str]) -> bool:
    return set(await statuses(api, ids)) == {"running"}


async def test_a_job_that_nobody_runs_or_has_no_slot_says_so(api, start_node, known_demo) -> None:
    [early] = await submit(api, NOOP)
    assert (await show(api, early))["waiting_for"]["reason"] == "node"
    node = await start_node("n1", slots=1)
    assert (await all_over(api, [early]))[0]["status"] == "completed"
    [busy] = await submit(api, SLEEP)
    await eventually(lambda: _running(api, [busy]))
    # So many that some are not prefetched.
    late = (await submit(api, *[{**SLEEP, "options": {"priority": 1}}] * 3))[-1]
    await waits_for(api, late, "slot")
    await api.post("/api/executions/" + busy + "/cancel")
    await node.stop()


async def test_max_instances_of_a_submission_and_of_a_schedule(api: httpx.AsyncClient, start_node: StartNode) -> None:
    await start_node("n1")
    ids = await submit(api, *[{**SLEEP, "options": {"max_instances": 2}}] * 3)
    waiting = await waits_for(api, ids[2], "job")
    assert (waiting["running"], waiting["limit"]) == (2, 2)
    await cancel(api, *ids)

    answer = await api.post(
        "/api/schedules",
        json={
            "id": "nightly",
            "handler_id": "demo",
            "job_method": "sleep",
            "job_params": {"seconds": 60},
            "trigger": {"type": "manual"},
            "options": {"max_instances": 1},
            "policies": {"overlap": "allow"},
        },
    )
    assert answer.status_code == 201, answer.text
    runs = [(await api.post("/api/schedules/nightly/run")).json()["execution_id"] for _ in range(2)]
    waiting = await waits_for(api, runs[1], "schedule")
    assert waiting["detail"] == "schedule 'nightly': 1 of 1 running"
    await cancel(api, *runs)


async def test_the_measured_rate_is_never_above_the_limit(api: httpx.AsyncClient, start_node: StartNode) -> None:
    await start_node("n1")
    await submit(api, NOOP)
    limited = {**NOOP, "options": {"rate_limit": "50/s", "rate_burst": 5}}
    records = await all_over(api, await submit(api, *[limited] * 30))
    at_us = sorted(to_us(datetime.fromisoformat(record["dispatched_at"])) for record in records)
    for first, last in itertools.combinations(range(len(at_us)), 2):
        # The moments are of the wall clock, which is read once for each batch.
        assert last - first + 1 <= 5 + (at_us[last] - at_us[first] + 1_000) / 1e6 * 50
    # And it is used: the 25 after the burst take half a second.
    assert at_us[-1] - at_us[0] < 2_000_000


async def test_a_slow_rate_says_when_and_survives_a_restart(tmp_path) -> None:
    limited = {**NOOP, "options": {"rate_limit": "1/h", "rate_key": "api"}}
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        stop, task = await _node(server, tmp_path)
        first, second = await submit(api, limited, limited)
        assert (await all_over(api, [first]))[0]["status"] == "completed"
        waiting = await waits_for(api, second, "rate")
        assert "rate key 'api' may start 1/h" in waiting["detail"]
        stop.set()
        await task
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        stop, task = await _node(server, tmp_path)
        again = await waits_for(api, second, "rate")
        # The same moment, but for what the two clocks drift apart.
        moments = [datetime.fromisoformat(one["until"]).timestamp() for one in (waiting, again)]
        assert abs(moments[0] - moments[1]) < 1
        [other] = await submit(api, {**NOOP, "options": {"rate_limit": "1/h", "rate_key": "other"}})
        assert (await all_over(api, [other]))[0]["status"] == "completed"
        stop.set()
        await task


async def test_an_operators_limits_are_read_again_while_jobs_run(tmp_path) -> None:
    registry = tmp_path / "handler_registry.yaml"
    registry.write_text("demo:\n  limits: {max_running: 1}\n")
    config = with_config(handler_registry=str(registry))
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        stop, task = await _node(server, tmp_path)
        ids = await submit(api, SLEEP, SLEEP, SLEEP)
        waiting = await waits_for(api, ids[2], "handler")
        assert (waiting["running"], waiting["limit"]) == (1, 1)

        registry.write_text("demo:\n  limits: {max_running: 2, rate: 100/s, rate_burst: 10}\n")
        server.reload()
        await eventually(lambda: _count_running(api, ids, 2))

        # A broken file changes nothing.
        registry.write_text("demo:\n  limits: {max_running: many}\n")
        server.reload()
        assert (await waits_for(api, ids[2], "handler"))["limit"] == 2

        registry.unlink()
        server.reload()
        await eventually(lambda: _count_running(api, ids, 3))
        await cancel(api, *ids)
        stop.set()
        await task


async def _count_running(api: httpx.AsyncClient, ids: list[str], count: int) -> bool:
    return (await statuses(api, ids)).count("running") == count


async def _node(server, tmp_path):
    from schedule_zero.node.host import NodeSettings, run_node

    stop = asyncio.Event()
    settings = NodeSettings(
        targets=["schedule_zero.handlers.demo:DemoHandler"],
        server=server.addresses.zmq,
        node_id="n1",
        slots=4,
        state_dir=tmp_path / "nodes",
    )
    task = asyncio.create_task(run_node(settings, stop=stop))
    await eventually(lambda: any(view.state == "online" for view in server.dispatcher.nodes()))
    return stop, task


async def test_a_heavy_job_has_its_slots_to_itself(api: httpx.AsyncClient, start_node: StartNode) -> None:
    await start_node("n1", slots=4)
    [heavy] = await submit(api, {**SLEEP, "options": {"weight": 3}})
    await eventually(lambda: _running(api, [heavy]))
    await eventually(lambda: _started(api, heavy))
    light = await submit(api, SLEEP, SLEEP)
    await eventually(lambda: _started(api, light[0]))
    second = await show(api, light[1])
    assert second["status"] == "pending" or second["started_at"] is None
    await cancel(api, heavy)
    await eventually(lambda: _started(api, light[1]))
    await cancel(api, *light)


async def _started(api: httpx.AsyncClient, id_: str) -> bool:
    return (await show(api, id_))["started_at"] is not None


async def test_what_is_parked_is_counted_by_kind(api: httpx.AsyncClient, start_node: StartNode) -> None:
    await start_node("n1")
    ids = await submit(api, *[{**SLEEP, "options": {"concurrency_key": "k"}}] * 3)
    await waits_for(api, ids[2], "key")
    text = (await api.get("/metrics")).text
    assert 'schedulezero_executions_parked{gate="key"} 2' in text
    await cancel(api, ids[1])
    text = (await api.get("/metrics")).text
    assert 'schedulezero_executions_parked{gate="key"} 1' in text
    await cancel(api, *ids)


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"rate_limit": "fast"}, "/options/rate_limit"),
        ({"rate_limit": "0/s"}, "/options/rate_limit"),
        ({"max_instances": 0}, "/options/max_instances"),
        ({"weight": 0}, "/options/weight"),
        ({"concurrency_key": "{"}, "/options/concurrency_key"),
        ({"priority": 1001}, "/options/priority"),
    ],
)
async def test_a_limit_that_means_nothing_is_refused_with_its_place(api, known_demo, options, pointer) -> None:
    answer = await api.post("/api/executions", json={**NOOP, "options": options})
    assert answer.status_code == 400
    assert pointer in answer.text


async def test_a_thousand_jobs_with_keys_are_done_with_never_two_of_one_key(api, start_node, server) -> None:
    await start_node("n1", slots=8)
    await start_node("n2", slots=8)
    items = [
        {"handler_id": "demo", "job_method": "echo", "job_params": {"k": n % 50},
         "options": {"concurrency_key": "k:{k}"}}
        for n in range(1_000)
    ]  # fmt: skip
    ids = await submit(api, *items)
    await all_over(api, [ids[-1]])
    await eventually(lambda: _completed(api, 1_000), within_s=30)
    assert not server.dispatcher.waiting()
    assert not server.dispatcher.parked()


async def _completed(api: httpx.AsyncClient, count: int) -> bool:
    return (await api.get("/api/executions/stats")).json()["by_status"].get("completed", 0) >= count
