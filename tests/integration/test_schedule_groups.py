"""Schedules whose runs are groups through the whole of it: API, clients, command; and unique keys of groups."""

from __future__ import annotations

import json
import time

import pytest

from schedule_zero.client import AsyncClient
from schedule_zero.client.group_verbs import GroupState
from schedule_zero.errors import Duplicate
from schedule_zero.model import Group, GroupKind
from schedule_zero.store import executions
from tests.integration.test_routing import TARGET, command, nodes  # noqa: F401  # ``command`` is a fixture
from tests.store.builders import execution
from tests.support import eventually

pytestmark = pytest.mark.anyio

DAILY = {"type": "cron", "expression": "0 0 1 1 *"}


def schedule(**fields):
    return {"id": "s", "handler_id": "parts", "job_method": "which", "trigger": DAILY, **fields}


def soon():
    return {"type": "date", "run_date": time.time() + 0.2}


@pytest.fixture
async def client(server):
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


async def create(api, **fields):
    answer = await api.post("/api/schedules", json=schedule(**fields))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def fired(api):
    async def found():
        return (await api.get("/api/schedules/s/fires")).json()["records"]

    [fire] = await eventually(found)
    return fire


async def group_over(api, id_):
    return (await api.get(f"/api/groups/{id_}", params={"wait_s": 10})).json()


async def explained(api, fire):
    return (await api.get("/api/schedules/s/explain", params={"at": fire["nominal_time"]})).json()


async def test_a_fire_in_parts_is_one_ledger_row_with_one_outcome(api, start_node):
    await start_node("n1", TARGET)
    await create(api, trigger=soon(), policies={"shards": 3})
    assert (await api.get("/api/schedules/s")).json()["policies"]["shards"] == 3
    fire = await fired(api)
    assert (fire["outcome"], fire["execution_id"], fire["detail"]) == ("executed", None, "shards: 3")
    group = await group_over(api, fire["group_id"])
    assert (group["status"], group["completed"], group["schedule_id"]) == ("completed", 3, "s")
    members = (await api.get("/api/executions", params={"group_id": group["id"]})).json()["records"]
    assert sorted(json.dumps(row["result"]) for row in members) == ["[0, 3]", "[1, 3]", "[2, 3]"]
    assert {row["nominal_time"] for row in members} == {fire["nominal_time"]}
    said = await explained(api, fire)
    assert f"Its group {group['id']} (shards: 3) is over, as completed: of 3 executions 3 completed" in said["sentence"]
    audit = (await api.get("/api/schedules/s/audit")).json()
    assert (audit["ok"], audit["recorded"]) == (True, audit["expected"])


async def test_a_broadcast_fire_fails_as_one_and_a_retry_of_its_dead_letter_stays_outside(api, start_node):
    await nodes(start_node)
    await create(
        api, trigger=soon(), job_method="where", job_params={"fail_on": "n2"},
        options={"require": ["gpu"]}, policies={"broadcast": True},
    )  # fmt: skip
    fire = await fired(api)
    assert fire["detail"] == "broadcast: n2, n3"
    group = await group_over(api, fire["group_id"])
    assert (group["status"], group["completed"], group["failed"]) == ("failed", 1, 1)
    of_it = {"group_id": group["id"], "status": "failed"}
    [letter] = (await api.get("/api/executions", params=of_it)).json()["records"]
    again = (await api.post(f"/api/executions/{letter['id']}/retry")).json()["id"]
    retried = (await api.get(f"/api/executions/{again}", params={"wait_s": 10})).json()
    assert (retried["status"], retried["node_id"], retried["group_id"]) == ("failed", "n2", None)
    after = await group_over(api, group["id"])
    assert after == group
    assert "is over, as failed" in (await explained(api, fire))["sentence"]


async def test_a_broadcast_fire_without_a_node_says_why_it_did_not_run(api, start_node):
    await start_node("n1", TARGET)
    await create(api, trigger=soon(), options={"require": ["tpu"]}, policies={"broadcast": True})
    fire = await fired(api)
    assert (fire["outcome"], fire["reason"], fire["group_id"]) == ("skipped", "no_node", None)
    assert "n1 lacks tpu" in fire["detail"]
    said = await explained(api, fire)
    assert said["reason"] == "no_node"
    assert "it was to run on every node that matches, and there was none" in said["sentence"]
    assert (await api.get("/api/groups")).json()["records"] == []


async def test_run_now_of_such_a_schedule_is_a_group_that_can_be_cancelled(api, client, start_node):
    await start_node("n1", TARGET)
    await create(api, job_method="sleep", policies={"shards": 5})
    headers = {"Idempotency-Key": "once"}
    answer = await api.post("/api/schedules/s/run", headers=headers)
    made = answer.json()
    assert (answer.status_code, made["id"], made["execution_id"]) == (202, made["group_id"], None)
    assert answer.headers["location"] == f"/api/groups/{made['id']}"
    assert (await api.post("/api/schedules/s/run", headers=headers)).json()["id"] == made["id"]
    await client.cancel_group(made["id"])
    over = await client.wait_group(made["id"], 10)
    assert (over.status, over.cancelled) == (GroupState.CANCELLED, 5)
    assert (await client.get_schedule("s")).runs == 0
    await client.cancel_group(await client.run_schedule("s"))


async def test_run_now_of_a_broadcast_without_a_node_is_refused(api, start_node):
    n1 = await start_node("n1", TARGET)
    await create(api, policies={"broadcast": True})
    await n1.stop()
    answer = await api.post("/api/schedules/s/run")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_matching_node")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"policies": {"broadcast": True, "shards": 2}}, "/policies/shards"),
        ({"policies": {"shards": 0}}, "/policies/shards"),
        ({"policies": {"shards": 1001}}, "/policies/shards"),
        ({"policies": {"shards": "2"}}, "/policies/shards"),
        ({"policies": {"broadcast": 1}}, "/policies/broadcast"),
        ({"policies": {"shards": 200, "catch_up": "all"}}, "/policies/catch_up_max"),
        ({"policies": {"shards": 2}, "options": {"unique_key": "k"}}, "/options/unique_key"),
        ({"policies": {"broadcast": True}, "job_method": "lonely"}, "/options/unique_key"),
    ],
)
async def test_a_bad_wish_for_groups_is_refused_with_its_place(api, start_node, fields, pointer):
    await start_node("n1", TARGET)
    answer = await api.post("/api/schedules", json=schedule(**fields))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer), answer.text
    assert (await api.get("/api/schedules/s")).status_code == 404


async def test_a_patch_makes_groups_of_the_runs_and_single_ones_again(api, start_node):
    await start_node("n1", TARGET)
    await create(api)
    assert (await api.patch("/api/schedules/s", json={"policies": {"shards": 2}})).json()["policies"]["shards"] == 2
    assert (await api.post("/api/schedules/s/run")).json()["group_id"] is not None
    patched = (await api.patch("/api/schedules/s", json={"policies": {"shards": None}})).json()
    assert patched["policies"].get("shards") is None
    assert (await api.post("/api/schedules/s/run")).json()["group_id"] is None


async def test_a_backfill_of_groups_is_refused_and_leaves_nothing(api, start_node):
    await start_node("n1", TARGET)
    await create(api, trigger={"type": "interval", "seconds": 60}, policies={"shards": 2})
    now = time.time()
    answer = await api.post("/api/schedules/s/backfill", json={"from": now - 3600, "to": now - 60})
    assert answer.status_code == 409, answer.text
    assert "is a group" in answer.json()["error"]["message"]
    assert (await api.get("/api/executions")).json()["records"] == []


async def test_the_command_makes_runs_and_lists_such_a_schedule(command, start_node):  # noqa: F811
    await start_node("n1", TARGET)
    made = await command("schedule", "parts.which", "--id", "s", "--every", "1h", "--shards", "2", "-o", "json")
    assert (made.exit_code, json.loads(made.stdout)["policies"]["shards"]) == (0, 2), made.output
    ran = await command("run-now", "s", "--wait", "-o", "json")
    assert (ran.exit_code, json.loads(ran.stdout)["status"]) == (0, "completed"), ran.output
    plain = await command("run-now", "s")
    shown = await command("group", plain.stdout.strip(), "--wait")
    assert (shown.exit_code, "shards" in shown.stdout) == (0, True)


# --- groups and unique keys -----------------------------------------------------------------------


async def test_a_group_with_a_unique_key_is_refused_whoever_has_the_key_and_leaves_nothing(api, start_node):
    await start_node("n1", TARGET)
    later = {"not_before": time.time() + 3600, "options": {"unique_key": "k"}}
    [holder] = (await api.post("/api/executions", json={"handler_id": "parts", "job_method": "which", **later})).json()[
        "ids"
    ]
    for replace in ("reject", "return_existing", "replace"):
        body = {"handler_id": "parts", "job_method": "which", "shards": 2}
        options = {"unique_key": "k", "on_duplicate": replace}
        headers = {"Idempotency-Key": f"k-{replace}"}
        answer = await api.post("/api/groups", json={**body, "options": options}, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/options/unique_key")
        # The key of a refused request is free: the same one makes a group of something else.
        assert (await api.post("/api/groups", json=body, headers=headers)).status_code == 202
    found = (await api.get("/api/executions", params={"status": "scheduled"})).json()["records"]
    assert [row["id"] for row in found] == [holder]
    assert len((await api.get("/api/groups")).json()["records"]) == 3


@pytest.mark.parametrize("on_duplicate", ["reject", "return_existing"])
async def test_a_group_of_which_one_member_has_a_taken_key_is_not_written_by_halves(server, on_duplicate):
    store = server.store
    await store.write(executions.insert, executions.Insert(rows=[execution("holder", unique_key="k")]))
    options = json.dumps({"on_duplicate": on_duplicate, "unique_key": "k"}).encode()
    rows = [execution(f"m{i}", group_id="g") for i in range(3)]
    rows[2].unique_key, rows[2].options = "k", options
    group = Group(id="g", kind=GroupKind.SHARDS, handler_id="demo", job_method="noop", total=3)
    with pytest.raises(Duplicate) as raised:
        await store.write(executions.insert, executions.Insert(rows=rows, group=group))
    assert (raised.value.http_status, raised.value.data["execution_id"]) == (409, "holder")
    page = await store.read(lambda conn: executions.find(conn, executions.Filter()))
    assert [row.id for row in page.rows] == ["holder"]
