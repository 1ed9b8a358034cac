"""What users of the earlier ScheduleZero send still works, under its names."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio

YEARLY = {"type": "cron", "minute": "0", "hour": "0", "day": "1", "month": "1"}


async def test_a_schedule_is_created(api, known_demo):
    answer = await api.post(
        "/api/schedule",
        json={"handler_id": "demo", "job_method": "noop", "job_params": {}, "trigger": YEARLY, "job_id": "j1"},
    )

    assert answer.status_code == 201
    assert answer.json() == {"status": "success", "job_id": "j1"}
    listed = (await api.get("/api/schedules")).json()
    assert listed["count"] == 1
    assert {"id", "next_fire_time", "trigger", "args"} <= set(listed["schedules"][0])


async def test_the_earlier_names_are_taken(api, known_demo):
    answer = await api.post(
        "/api/schedule",
        json={"handler_id": "demo", "method_name": "noop", "job_params": {}, "trigger_config": YEARLY},
    )

    assert answer.status_code == 201
    assert answer.json()["job_id"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"handler_id": "nobody"}, 404, "unknown_handler"),
        ({"job_method": "nothing"}, 400, "unknown_method"),
        ({"trigger": {"type": "sundial"}}, 400, "invalid_trigger"),
        ({"job_id": "taken"}, 409, "already_exists"),
        ({"method_name": "echo"}, 400, "invalid_field"),
        ({"trigger_config": {"type": "interval", "seconds": 1}}, 400, "invalid_field"),
        ({"job_method": None}, 400, "invalid_field"),
        ({"colour": "red"}, 400, "invalid_field"),
    ],
)
async def test_errors_have_the_promised_status(api, known_demo, changes, status, code):
    good = {"handler_id": "demo", "job_method": "noop", "job_params": {}, "trigger": YEARLY}
    await api.post("/api/schedule", json={**good, "job_id": "taken"})

    answer = await api.post("/api/schedule", json={**good, **changes})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (await api.get("/api/schedules")).json()["count"] == 1


async def test_missing_names_are_pointed_to(api, known_demo):
    answer = await api.post("/api/schedule", json={"handler_id": "demo", "trigger": YEARLY})
    assert answer.json()["errors"][0]["pointer"] == "/job_method"
    answer = await api.post("/api/schedule", json={"handler_id": "demo", "job_method": "noop"})
    assert answer.json()["errors"][0]["pointer"] == "/trigger"


async def test_delete_of_an_unknown_schedule_is_not_found(api):
    assert (await api.delete("/api/schedules/nothing")).status_code == 404


async def test_run_now_answers_with_the_result(api, start_node):
    await start_node("n1")

    answer = await api.post(
        "/api/run_now", json={"handler_id": "demo", "method_name": "hello", "job_params": {"name": "world"}}
    )

    assert answer.status_code == 200
    ran = answer.json()
    assert (ran["status"], ran["result"], ran["error"]) == ("success", "Hello, world!", None)
    assert ran["message"]
    shown = (await api.get(f"/api/executions/{ran['execution_id']}")).json()
    assert shown["origin"] == "run_now"


async def test_run_now_answers_200_with_the_jobs_own_error(api, start_node):
    await start_node("n1")

    answer = await api.post(
        "/api/run_now", json={"handler_id": "demo", "job_method": "fail", "job_params": {"message": "no luck"}}
    )

    assert answer.status_code == 200
    ran = answer.json()
    assert (ran["status"], ran["result"]) == ("error", None)
    assert (ran["error"]["type"], ran["error"]["message"]) == ("RuntimeError", "no luck")
    assert "Traceback" in ran["error"]["traceback"]
    assert "no luck" in ran["message"]


async def test_run_now_answers_202_when_the_time_is_up_and_the_job_goes_on(api, known_demo):
    answer = await api.post("/api/run_now", json={"handler_id": "demo", "job_method": "noop", "wait_s": 0.01})

    assert answer.status_code == 202
    ran = answer.json()
    assert (ran["status"], ran["result"]) == ("accepted", None)
    assert answer.headers["location"] == f"/api/executions/{ran['execution_id']}"
    assert (await api.get(answer.headers["location"])).json()["status"] == "pending"


async def test_run_now_is_done_once_for_one_key(api, start_node):
    await start_node("n1")
    body = {"handler_id": "demo", "job_method": "hello", "job_params": {"name": "world"}}

    first = await api.post("/api/run_now", json=body, headers={"Idempotency-Key": "k"})
    second = await api.post("/api/run_now", json=body, headers={"Idempotency-Key": "k"})

    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert (await api.get("/api/executions")).json()["count"] == 1


async def test_a_repeated_run_now_may_be_more_patient_than_the_first(api, known_demo):
    body = {"handler_id": "demo", "job_method": "echo", "job_params": {"a": 1}}
    key = {"Idempotency-Key": "k"}
    first = await api.post("/api/run_now", json={**body, "wait_s": 0}, headers=key)

    second = await api.post("/api/run_now", json={**body, "wait_s": 0.01}, headers=key)
    another = await api.post("/api/run_now", json={**body, "job_params": {"a": 2}}, headers=key)

    assert second.json()["execution_id"] == first.json()["execution_id"]
    assert another.status_code == 422
    assert (await api.get("/api/executions")).json()["count"] == 1


async def test_handlers_are_shown_connected_and_disconnected(api, start_node):
    assert (await api.get("/api/handlers")).json() == {"handlers": [], "count": 0}
    node = await start_node("n1")

    [handler] = (await api.get("/api/handlers")).json()["handlers"]
    assert (handler["id"], handler["status"], handler["nodes"]) == ("demo", "Connected", ["n1"])
    assert "hello" in handler["methods"]
    hello = next(method for method in handler["job_methods"] if method["name"] == "hello")
    assert "name" in hello["schema"]["properties"]
    assert handler["address"]

    await node.stop()
    [handler] = (await api.get("/api/handlers")).json()["handlers"]
    assert (handler["status"], handler["nodes"]) == ("Disconnected", [])


async def test_nodes_are_shown_drained_and_taken_back(api, start_node):
    await start_node("n1", slots=3)

    [node] = (await api.get("/api/nodes")).json()["nodes"]
    assert (node["node_id"], node["state"], node["slots"], node["draining"]) == ("n1", "online", 3, False)
    assert node["handlers"] == ["demo"]
    assert (await api.post("/api/nodes/n1/drain")).json()["draining"] is True
    assert (await api.get("/api/nodes/n1")).json()["draining"] is True
    assert (await api.post("/api/nodes/n1/resume")).json()["draining"] is False
    assert (await api.post("/api/nodes/nothing/drain")).status_code == 404


async def test_the_settings_are_shown(api):
    config = (await api.get("/api/config")).json()

    assert config["instance_name"] == "ScheduleZero"
    assert "admin_contact" in config
    assert "description" in config
