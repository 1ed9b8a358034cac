"""Start deadlines, silence and cancels over HTTP: in time, told, and in one end each."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from schedule_zero.clock import SystemClock, rfc3339, to_us
from tests.integration.conftest import api_client, know_demo, running_server
from tests.support import eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}
SLOW = "tests.integration.jobs:SlowHandler"


async def submit(api: httpx.AsyncClient, *items: dict) -> list[str]:
    answer = await api.post("/api/executions", json={"executions": list(items)})
    assert answer.status_code == 202, answer.text
    return answer.json()["ids"]


async def ended(api: httpx.AsyncClient, id_: str) -> dict:
    return (await api.get(f"/api/executions/{id_}", params={"wait_s": 20})).json()


async def runs(api: httpx.AsyncClient, id_: str) -> bool:
    return (await api.get(f"/api/executions/{id_}")).json()["started_at"] is not None


# --- start deadlines ---------------------------------------------------------------------------------


async def test_what_no_node_takes_in_time_is_misfired_soon_after(api, known_demo):
    ids = await submit(api, *({**NOOP, "options": {"queue_timeout_s": 0.3 + n * 0.05}} for n in range(8)), NOOP)

    shown = [await ended(api, id_) for id_ in ids[:-1]]

    for n, one in enumerate(shown):
        late_s = _us(one["finished_at"]) / 1e6 - _us(one["created_at"]) / 1e6 - (0.3 + n * 0.05)
        assert one["status"] == "misfired"
        # Mostly within milliseconds; a machine with much else to do takes longer.
        assert 0 <= late_s < 2
        assert one["error"]["type"] == "QueueTimeout"
    assert (await api.get(f"/api/executions/{ids[-1]}")).json()["status"] == "pending"
    assert "schedulezero_executions_misfired_total 8.0" in (await api.get("/metrics")).text


def _us(moment: str) -> int:
    from datetime import datetime

    return to_us(datetime.fromisoformat(moment))


async def test_a_node_that_comes_too_late_runs_only_what_is_still_wanted(server, api, known_demo, start_node):
    old, good = await submit(api, {**NOOP, "options": {"queue_timeout_s": 0.2}}, NOOP)
    await ended(api, old)

    await start_node("n1")

    assert (await ended(api, good))["status"] == "completed"
    assert (await ended(api, old))["attempts"] == []


async def test_a_later_one_has_its_time_from_when_it_is_due(api, known_demo):
    at = SystemClock().wall_us() / 1e6 + 0.4
    [id_] = await submit(api, {**NOOP, "not_before": at, "options": {"queue_timeout_s": 0.2}})

    shown = await ended(api, id_)

    assert shown["status"] == "misfired"
    assert _us(shown["finished_at"]) / 1e6 >= at + 0.2


async def test_what_came_due_while_the_server_was_away_is_misfired_by_the_next(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        know_demo(server)
        [id_] = await submit(api, {**NOOP, "options": {"queue_timeout_s": 1.0}})
    await asyncio.sleep(0)
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        assert (await ended(api, id_))["status"] == "misfired"


async def test_a_misfired_fire_is_explained(server, api, known_demo):
    schedule = {
        "id": "s",
        **NOOP,
        "options": {"queue_timeout_s": 0.1},
    }
    schedule["trigger"] = {"type": "date", "run_date": rfc3339(SystemClock().wall_us() + 200_000)}
    assert (await api.post("/api/schedules", json=schedule)).status_code == 201
    await eventually(lambda: server.timer.stats.fires == 1)
    [fire] = (await api.get("/api/schedules/s/fires")).json()["records"]
    await ended(api, fire["execution_id"])

    told = (await api.get("/api/schedules/s/explain", params={"at": fire["nominal_time"]})).json()

    assert "came too late to be started" in told["sentence"]


# --- silence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["none", "process"])
async def test_a_job_that_falls_silent_times_out_and_is_tried_again(api, start_node, isolation):
    await start_node("n1", SLOW)
    options = {"heartbeat_timeout_s": 0.3, "max_attempts": 2, "retry_delay_s": 0.0, "isolation": isolation}
    body = {"handler_id": "slow", "job_method": "beats", "job_params": {"beats": 4, "every_s": 0.1}, "options": options}
    [id_] = await submit(api, body)

    shown = await ended(api, id_)

    assert (shown["status"], shown["error"]["type"], shown["error"]["category"]) == (
        "timeout", "HeartbeatTimeout", "timeout",
    )  # fmt: skip
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["timeout", "timeout"]
    # Four signs at 0.1 s, and then 0.3 s of silence.
    assert 600 <= shown["duration_ms"] < 4000


# --- cancel ------------------------------------------------------------------------------------------


async def test_many_are_cancelled_by_a_filter_and_each_ends_once(server, api, start_node):
    await start_node("n1", SLOW, "schedule_zero.handlers.demo:DemoHandler", slots=3)
    running = await submit(api, *({"handler_id": "slow", "job_method": name} for name in ("held", "aheld", "aheld")))
    for id_ in running:
        await eventually(lambda id_=id_: runs(api, id_))
    waiting = await submit(api, *[{"handler_id": "slow", "job_method": "held"}] * 600)
    others = await submit(api, *[NOOP] * 5)

    counted = (await api.post("/api/executions/cancel", json={"handler_id": "slow", "dry_run": True})).json()
    assert (counted["matched"], counted["cancelled"], counted["dry_run"]) == (603, 0, True)
    done = (await api.post("/api/executions/cancel", json={"handler_id": "slow"})).json()

    assert done["matched"] == 603
    assert done["cancelled"] + done["requested"] == 603
    shown = [await ended(api, id_) for id_ in [*running, *waiting[:20], *waiting[-20:]]]
    assert {one["status"] for one in shown} == {"cancelled"}
    assert {(await ended(api, id_))["status"] for id_ in others} == {"completed"}
    stats = (await api.get("/api/executions/stats")).json()
    assert stats["by_status"]["cancelled"] == 603
    assert server.store.tally.total == 0


async def test_with_states_that_leave_running_out_nothing_that_began_is_touched(api, start_node):
    await start_node("n1", SLOW, slots=1)
    [running] = await submit(api, {"handler_id": "slow", "job_method": "aheld"})
    await eventually(lambda: runs(api, running))
    later = "2999-01-01T00:00:00Z"
    await submit(api, *[{"handler_id": "slow", "job_method": "held", "not_before": later}] * 3)

    body = {"handler_id": "slow", "status": ["pending", "scheduled"]}
    done = (await api.post("/api/executions/cancel", json=body)).json()

    assert (done["cancelled"], done["requested"]) == (3, 0)
    assert (await api.get(f"/api/executions/{running}")).json()["status"] == "running"
    # Or the node would wait for it at the end.
    await api.post(f"/api/executions/{running}/cancel")
    await ended(api, running)


async def test_ids_are_cancelled_and_the_unknown_and_the_finished_are_left(api, known_demo):
    ids = await submit(api, *[NOOP] * 3)
    await api.post(f"/api/executions/{ids[0]}/cancel")

    done = (await api.post("/api/executions/cancel", json={"ids": [*ids, ids[1], "nobody"]})).json()

    assert (done["matched"], done["cancelled"], done["left"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"ids": []}, "/ids"),
        ({"ids": ["a"], "handler_id": "demo"}, "/ids"),
        ({"ids": ["a"], "dry_run": True}, "/dry_run"),
        ({"handler_id": "demo", "status": ["sleeping"]}, "/status/0"),
        ({"handler": "demo"}, "/handler"),
    ],
)
async def test_what_says_nothing_or_too_much_is_refused_and_cancels_nothing(api, known_demo, body, pointer):
    [id_] = await submit(api, NOOP)

    refused = await api.post("/api/executions/cancel", json=body)

    assert refused.status_code == 400
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert (await api.get(f"/api/executions/{id_}")).json()["status"] == "pending"


async def test_cancels_that_race_with_the_ends_leave_one_end_each(server, api, start_node):
    await start_node("n1", slots=4)
    ids = await submit(api, *[NOOP] * 1500)

    answers = await asyncio.gather(*(api.post(f"/api/executions/{id_}/cancel") for id_ in ids[::3]))

    assert {answer.status_code for answer in answers} <= {200, 202}
    await eventually(lambda: server.store.tally.total == 0, within_s=30)
    stats = (await api.get("/api/executions/stats")).json()["by_status"]
    assert stats["completed"] + stats["cancelled"] == 1500
