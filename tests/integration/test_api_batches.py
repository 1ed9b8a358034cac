"""Batches: all that a search finds is cancelled or retried by the server, once, whoever goes on looking at it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from schedule_zero.config import LimitsConfig
from schedule_zero.model import State
from schedule_zero.rules.states import TERMINAL
from schedule_zero.service import batches as service_batches
from schedule_zero.service import search as service_search
from schedule_zero.store import execution_lists, executions
from schedule_zero.store.executions import Filter
from tests.integration.conftest import TEST_CONFIG, api_client, know_demo, running_server
from tests.store.builders import end_item, execution, running
from tests.support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("known_demo")]


async def put(server, count, state=State.FAILED, first=0, **fields):
    """As if so many had been there, and come to that; their ids, oldest first."""
    ids = [f"01k{first + n:023d}" for n in range(count)]
    token = server.store.epoch << 32 | 1 << 30 | first << 8
    letter = fields.pop("dead_letter", None)
    fields["created_us"] = server.clock.wall_us() - 60_000_000
    if state not in TERMINAL:
        rows = [execution(id_, state=state, **fields) for id_ in ids]
        await server.store.write(executions.insert, executions.Insert(rows=rows))
        return ids
    rows = [running(id_, token + n, **fields) for n, id_ in enumerate(ids)]
    await server.store.write(executions.insert, executions.Insert(rows=rows))
    ends = [end_item(row.id, row.token, state, job_method=row.job_method, dead_letter=letter) for row in rows]
    assert await server.store.write(executions.end, ends) == {}
    return ids


async def post(api, path, status, headers=None, **body):
    answer = await api.post(f"/api/executions{path}", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def over(api, batch, within=10):
    """The batch when it is."""

    async def look():
        shown = (await api.get(f"/api/batches/{batch['id']}")).json()
        return shown if shown["state"] != "running" else None

    return await eventually(look, within_s=within)


async def states(server, **fields):
    page = await server.store.read(lambda conn: executions.find(conn, Filter(limit=5_000, **fields)))
    return [row.state for row in page.rows]


async def test_all_that_a_search_finds_is_counted_then_cancelled(server, api):
    await put(server, 1200, State.PENDING, concurrency_key="customer-7")
    await put(server, 3, State.PENDING, first=5000)
    await put(server, 3, State.COMPLETED, first=6000, concurrency_key="customer-7")

    counted = await post(api, "/cancel", 200, q="key:customer-7", dry_run=True)
    begun = await post(api, "/cancel", 202, q="key:customer-7")
    done = await over(api, begun)

    assert (counted["matched"], counted["exact"], counted["cancelled"]) == (1200, True, 0)
    assert (begun["kind"], begun["state"], begun["matched"], begun["exact"]) == ("cancel", "running", 1200, True)
    assert (done["state"], done["done"], done["skipped"], done["failed"]) == ("completed", 1200, 0, 0)
    assert done["ended_at"] is not None
    assert (done["q"], done["by"]) == ("key:customer-7", "admin")
    assert (await states(server)).count(State.CANCELLED) == 1200
    assert (await states(server)).count(State.PENDING) == 3
    assert server.dispatcher.backlog.open == 3


async def test_what_runs_is_told_to_end_unless_only_what_waits_was_meant(server, api, start_node):
    node = await start_node(slots=1)
    body = {"handler_id": "demo", "job_method": "sleep", "job_params": {"seconds": 60}}
    ids = (await api.post("/api/executions", json={"executions": [body, body]})).json()["ids"]

    async def one_runs():
        return sorted(await states(server)) == [State.PENDING, State.RUNNING] or None

    await eventually(one_runs)

    waiting = await over(api, await post(api, "/cancel", 202, q="state:pending"))
    assert waiting["done"] == 1
    assert sorted(await states(server)) == [State.CANCELLED, State.RUNNING]

    running = await over(api, await post(api, "/cancel", 202, q="state:open job:demo.*"))
    assert running["done"] == 1
    for id_ in ids:
        shown = (await api.get(f"/api/executions/{id_}?wait_s=10")).json()
        assert shown["status"] == "cancelled"
    await node.stop()


async def test_all_that_a_search_finds_is_retried_once_as_new_executions(server, api, start_node):
    old = await put(server, 700, job_method="noop", dead_letter="demo.noop:x")
    await put(server, 5, State.COMPLETED, first=5000, job_method="noop")
    await start_node()

    counted = await post(api, "/retry", 200, q="state:failed", dry_run=True)
    begun = await post(api, "/retry", 202, q="state:failed", headers={"Idempotency-Key": "k"})
    done = await over(api, begun)
    repeated = await post(api, "/retry", 202, q="state:failed", headers={"Idempotency-Key": "k"})

    assert counted == {"matched": 700, "exact": True, "dry_run": True}
    assert (done["done"], done["skipped"], done["failed"]) == (700, 0, 0)
    assert repeated["id"] == begun["id"]

    async def all_ran():
        found = await states(server, group_id=begun["id"])
        return len(found) == 700 and set(found) == {State.COMPLETED}

    await eventually(all_ran)
    page = await server.store.read(lambda conn: executions.find(conn, Filter(group_id=begun["id"], limit=1000)))
    # The newest first, and each once.
    assert [row.parent_id for row in page.rows][::-1] == old[::-1]
    assert (await api.get("/api/dead-letters")).json()["groups"] == []


async def test_what_fails_again_meanwhile_is_not_retried_again(server, api, start_node):
    await put(server, 3, job_method="fail")
    await start_node()

    done = await over(api, await post(api, "/retry", 202, q="state:failed"))

    async def all_failed():
        return await states(server) == [State.FAILED] * 6

    await eventually(all_failed)
    assert done["done"] == 3


async def test_what_its_job_would_not_take_is_counted_with_the_reason(server, api):
    await put(server, 2, job_method="noop", params=b'{"unknown":1}')
    await put(server, 1, first=10, job_method="gone")
    body = {"handler_id": "demo", "job_method": "noop", "options": {"unique_key": "k"}}
    [holder] = (await api.post("/api/executions", json=body)).json()["ids"]
    options = (await server.store.read(lambda conn: executions.get(conn, holder))).execution.options
    await put(server, 2, first=20, job_method="noop", options=options)

    done = await over(api, await post(api, "/retry", 202, q="state:failed"))

    assert (done["done"], done["skipped"], done["failed"]) == (0, 2, 3)
    assert done["reasons"] == {"invalid_params": 2, "unknown_method": 1, "unique": 2}
    assert done["note"].startswith("execution 01k")


async def test_retries_wait_for_room_and_go_on_when_there_is_some(tmp_path):
    config = structs.replace(TEST_CONFIG, limits=LimitsConfig(backlog=5))
    async with running_server(tmp_path, config) as server, api_client(server) as api:
        know_demo(server)
        await put(server, 20, job_method="noop", params=b"{}")
        begun = await post(api, "/retry", 202, q="state:failed")

        async def as_many_as_may_be():
            return (await states(server)).count(State.PENDING) == 5 or None

        await eventually(as_many_as_may_be)
        while (await api.get(f"/api/batches/{begun['id']}")).json()["state"] == "running":
            await api.post("/api/executions/cancel", json={"status": ["pending"]})
            assert server.dispatcher.backlog.open <= 5
        assert (await over(api, begun))["done"] == 20


@asynccontextmanager
async def short_steps(monkeypatch, size):
    monkeypatch.setattr(service_batches, "STEP", size)
    monkeypatch.setattr(service_batches, "STEPS_A_TURN", 1)
    yield


async def test_a_batch_goes_on_where_it_was_when_the_server_starts_again(tmp_path, monkeypatch):
    async with short_steps(monkeypatch, 10):
        async with running_server(tmp_path) as server, api_client(server) as api:
            know_demo(server)
            await put(server, 55, job_method="noop", params=b"{}")
            begun = await post(api, "/retry", 202, q="state:failed since:1h")

            async def some():
                return (await api.get(f"/api/batches/{begun['id']}")).json()["done"] or None

            await eventually(some)
            # Neither is what comes later.
            await put(server, 5, first=100, job_method="noop", params=b"{}")
        async with running_server(tmp_path) as server, api_client(server) as api:
            know_demo(server)
            done = await over(api, begun, within=20)
            assert done["done"] + done["failed"] == 55
            parents = await server.store.read(
                lambda conn: [
                    row.parent_id for row in executions.find(conn, Filter(group_id=begun["id"], limit=500)).rows
                ]
            )
            assert len(parents) == len(set(parents)) == done["done"]


async def test_a_batch_is_stopped_and_what_was_done_stays(server, api, monkeypatch):
    async with short_steps(monkeypatch, 1):
        await put(server, 500, State.PENDING)
        begun = await post(api, "/cancel", 202, q="state:pending")

        async def some():
            return (await api.get(f"/api/batches/{begun['id']}")).json()["done"] or None

        await eventually(some)
        stopped = await api.post(f"/api/batches/{begun['id']}/cancel")
        assert stopped.status_code == 200
        assert stopped.json()["state"] == "cancelled"
        assert (await api.post(f"/api/batches/{begun['id']}/cancel")).status_code == 409
        await server.service.batches.run_once()

        shown = (await api.get(f"/api/batches/{begun['id']}")).json()
        assert shown["done"] == stopped.json()["done"] == (await states(server)).count(State.CANCELLED)
        assert [one["id"] for one in (await api.get("/api/batches")).json()["batches"]] == [begun["id"]]


async def test_something_wrong_with_one_batch_ends_that_one_alone(server, api, monkeypatch):
    await put(server, 3, State.PENDING)
    original = execution_lists.look

    def failing(conn, wanted):
        if any(term.qualifier == "handler" for term in wanted.terms):
            raise RuntimeError("no such thing")
        return original(conn, wanted)

    monkeypatch.setattr(service_batches.execution_lists, "look", failing)
    broken = await over(api, await post(api, "/cancel", 202, q="state:pending handler:demo"))
    sound = await over(api, await post(api, "/cancel", 202, q="state:pending"))

    assert broken["state"] == "cancelled"
    assert "no such thing" in broken["note"]
    assert (sound["state"], sound["done"]) == ("completed", 3)


async def test_many_are_counted_up_to_a_bound(server, api, monkeypatch):
    monkeypatch.setattr(service_search, "MOST_COUNTED", 50)
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 30)
    await put(server, 100, State.PENDING)
    counted = await post(api, "/cancel", 200, q="", dry_run=True)
    assert 50 <= counted["matched"] < 100
    assert counted["exact"] is False


async def test_ids_are_retried_as_a_batch(server, api):
    ids = await put(server, 3, job_method="noop", params=b"{}")
    done = await over(api, await post(api, "/retry", 202, ids=ids[:2]))
    assert done["done"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("/cancel", {"q": "stat:x"}, 400, "/q"),
        ("/cancel", {"q": "state:open", "ids": ["x"]}, 400, "/ids"),
        ("/cancel", {"q": "state:open", "cursor": "1"}, 400, "/cursor"),
        ("/cancel", {"q": "state:open", "timezone": "Nowhere"}, 400, "/timezone"),
        ("/cancel", {"q": "state:open"}, 404, None),
        ("/retry", {"q": "stat:x"}, 400, "/q"),
        ("/retry", {}, 400, ""),
        ("/retry", {"ids": ["0"]}, 400, "/ids/0"),
        ("/retry", {"ids": ["0" * 26], "dry_run": True}, 400, "/dry_run"),
        ("/retry", {"q": "state:open"}, 404, None),
        ("/retry", {"handler_id": "nobody"}, 404, None),
    ],
)
async def test_what_can_not_be_meant_is_refused(api, path, body, status, where):
    answer = await api.post(f"/api/executions{path}", json=body)
    assert answer.status_code == status, answer.text
    if where is not None:
        assert answer.json()["errors"][0]["pointer"] == where


async def test_a_viewer_may_look_and_no_more(server, api):
    await put(server, 1, State.PENDING)
    token = (await api.post("/api/tokens", json={"name": "eyes", "role": "viewer"})).json()["token"]
    eyes = {"Authorization": f"Bearer {token}"}
    for path in ("/api/executions/cancel", "/api/executions/retry"):
        assert (await api.post(path, json={"q": ""}, headers=eyes)).status_code == 403
    assert (await api.post("/api/views", json={"name": "x", "query": ""}, headers=eyes)).status_code == 403
    for path in ("/api/batches", "/api/views", "/api/executions/export", "/api/executions/histogram"):
        assert (await api.get(path, headers=eyes)).status_code == 200
