"""Routing and groups through the whole of it: nodes with labels, the API, the clients and the command."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import anyio
import pytest
import structlog
from click.testing import CliRunner

from schedule_zero import BaseHandler, current_job, errors, job
from schedule_zero.cli.client import main
from schedule_zero.client import AsyncClient
from schedule_zero.client.group_verbs import GroupKind, GroupState
from schedule_zero.model import State
from tests.support import eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}
GPU = {"gpu": "true", "zone": "eu-1"}


class PartsHandler(BaseHandler):
    handler_id = "parts"

    def which(self) -> list[int] | None:
        shard = current_job().shard
        return None if shard is None else [shard.index, shard.count]

    def where(self, fail_on: str = "") -> str:
        node_id = current_job().node_id
        if node_id == fail_on:
            raise ValueError(f"not on {node_id}")
        return node_id

    @job(require="zone == eu-1", strategy="round_robin")
    def in_europe(self) -> str:
        return current_job().node_id

    async def sleep(self) -> None:
        await asyncio.sleep(30)

    @job(unique_key="one")
    def lonely(self) -> None: ...


TARGET = f"{__name__}:PartsHandler"


@pytest.fixture
async def client(server):
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


async def ended(api, id_):
    return (await api.get(f"/api/executions/{id_}", params={"wait_s": 10})).json()


async def nodes(start_node):
    for name, labels in (("n1", {}), ("n2", GPU), ("n3", GPU)):
        await start_node(name, TARGET, labels=labels)


# --- routing --------------------------------------------------------------------------------------


async def test_a_node_shows_its_labels_and_its_facts(api, start_node):
    await start_node("n1", labels={"gpu": "true", "zone": "eu-1"})
    [node] = (await api.get("/api/nodes")).json()["nodes"]
    assert node["labels"] == {"gpu": "true", "zone": "eu-1"}
    assert set(node["facts"]) >= {"os", "arch", "python", "cores", "version"}
    assert int(node["facts"]["cores"]) >= 1
    assert float(node["facts"]["memory_gb"]) > 0


async def test_a_submission_goes_to_a_node_that_it_requires(client, start_node):
    await nodes(start_node)
    for require, expected in (("gpu", {"n2", "n3"}), ("!gpu", {"n1"}), ("node == n3", {"n3"}), ("cores >= 1", None)):
        ids = [await client.submit("parts", "where", require=[require]) for _ in range(4)]
        found = {(await client.wait(id_, 10)).result for id_ in ids}
        assert found <= (expected or {"n1", "n2", "n3"})
    with pytest.raises(errors.InvalidField, match="at character 7") as raised:
        await client.submit("parts", "where", require=["gpu", "cores ="])
    assert raised.value.pointer == "/options/require/1"


async def test_what_the_method_requires_holds_and_a_submission_may_say_otherwise(client, start_node):
    await nodes(start_node)
    found = [(await client.run("parts", "in_europe")).result for _ in range(4)]
    assert sorted(found) == ["n2", "n2", "n3", "n3"]
    assert (await client.run("parts", "in_europe", require=["node == n1"])).result == "n1"


async def test_a_bad_condition_is_refused_wherever_it_is_said(api, start_node):
    await start_node("n1")
    bad = {**NOOP, "options": {"prefer": ["zone = eu"]}}
    answer = await api.post("/api/executions", json={"executions": [NOOP, bad]})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/executions/1/options/prefer/0"
    schedule = {**bad, "id": "s", "trigger": {"type": "interval", "seconds": 60}}
    answer = await api.post("/api/schedules", json=schedule)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/options/prefer/0"
    good = {**schedule, "options": {"prefer": ["zone == eu"]}}
    assert (await api.post("/api/schedules", json=good)).status_code == 201
    answer = await api.patch("/api/schedules/s", json={"options": {"require": ["("]}})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/options/require/0")


async def test_what_no_node_may_run_says_so_until_one_may(api, start_node):
    await start_node("n1", labels={"zone": "us"})
    body = {**NOOP, "options": {"require": ["gpu", "zone == eu-1"]}}
    [id_] = (await api.post("/api/executions", json=body)).json()["ids"]
    shown = (await api.get(f"/api/executions/{id_}")).json()
    assert shown["status"] == "pending"
    assert shown["waiting_for"]["detail"] == "no node matches require [gpu, zone == eu-1]: n1 lacks gpu, zone == eu-1"
    metrics = (await api.get("/metrics")).text
    assert 'schedulezero_lanes_unserved{handler_id="demo"} 1.0' in metrics

    await start_node("n2", labels=GPU)

    shown = await ended(api, id_)
    assert (shown["status"], shown["node_id"], shown["waiting_for"]) == ("completed", "n2", None)


# --- groups ---------------------------------------------------------------------------------------


async def test_a_broadcast_runs_once_on_every_node_that_matches(client, start_node):
    await nodes(start_node)
    made = await client.submit_group("parts", "where", broadcast=True, require=["gpu"])
    assert (made.kind, made.status, made.total) == (GroupKind.BROADCAST, GroupState.RUNNING, 2)
    assert made.created_by == "admin"

    over = await client.wait_group(made.id, 10)

    assert (over.status, over.completed) == (GroupState.COMPLETED, 2)
    page = await client.executions(group_id=made.id)
    assert {record.id for record in page.records} == set(made.execution_ids)
    assert sorted(record.result for record in page.records) == ["n2", "n3"]
    assert sorted(record.node_id for record in page.records) == ["n2", "n3"]


async def test_a_group_has_failed_where_one_of_it_has(client, start_node):
    await nodes(start_node)
    made = await client.submit_group(
        "parts", "where", {"fail_on": "n2"}, broadcast=True, max_attempts=2, retry_delay_s=0
    )
    over = await client.wait_group(made.id, 10)
    assert (over.status, over.completed, over.failed) == (GroupState.FAILED, 2, 1)
    [failed] = (await client.executions(group_id=made.id, status="failed")).records
    assert (failed.node_id, failed.attempt) == ("n2", 2)
    # A retry by hand is one execution, on the same node, outside the group.
    again = await client.wait(await client.retry(failed.id), 10)
    assert (again.node_id, again.group_id, again.status) == ("n2", None, State.FAILED)
    assert await client.group(made.id) == over


async def test_a_broadcast_that_nobody_can_take_is_a_conflict_and_leaves_nothing(client, start_node):
    await start_node("n1", TARGET)
    with pytest.raises(errors.NoMatchingNode, match=r"no node matches require \[gpu\]: n1 lacks gpu"):
        await client.submit_group("parts", "where", broadcast=True, require=["gpu"])
    assert (await client.groups()).records == []
    await client.drain_node("n1")
    with pytest.raises(errors.NoMatchingNode, match="out of service or stopping"):
        await client.submit_group("parts", "where", broadcast=True)


async def test_a_member_waits_for_its_own_node(client, start_node):
    await start_node("n1", TARGET)
    n2 = await start_node("n2", TARGET)
    await client.drain_node("n1")
    later = await client.submit_group("parts", "where", broadcast=True, not_before=4_000_000_000)
    assert later.total == 1
    await client.cancel_group(later.id)
    await client.resume_node("n1")
    await n2.stop()
    [only] = (await client.submit_group("parts", "where", broadcast=True)).execution_ids
    record = await client.wait(only, 10)
    assert record.result == "n1"


async def test_shards_know_which_part_they_are(client, start_node):
    await nodes(start_node)
    made = await client.submit_group("parts", "which", shards=20)
    assert (made.kind, made.total) == (GroupKind.SHARDS, 20)
    over = await client.wait_group(made.id, 10)
    assert over.status is GroupState.COMPLETED
    records = [await client.execution(id_) for id_ in made.execution_ids]
    assert [record.result for record in records] == [[n, 20] for n in range(20)]
    assert [record.shard for record in records] == [f"{n}/20" for n in range(20)]
    assert (await client.run("parts", "which")).result is None


async def test_the_same_key_is_the_same_group(client, start_node):
    await start_node("n1", TARGET)
    made = await client.submit_group("parts", "which", shards=3, idempotency_key="k")
    again = await client.submit_group("parts", "which", shards=3, idempotency_key="k")
    assert (again.id, again.execution_ids) == (made.id, made.execution_ids)
    with pytest.raises(errors.IdempotencyMismatch):
        await client.submit_group("parts", "which", shards=4, idempotency_key="k")


async def test_a_group_is_cancelled_with_all_that_waits_and_runs(client, start_node, api):
    await start_node("n1", TARGET, slots=2)
    made = await client.submit_group("parts", "sleep", shards=50)
    await eventually(lambda: _started(api, made.execution_ids[0]))
    await client.cancel_group(made.id)
    over = await client.wait_group(made.id, 20)
    assert (over.status, over.cancelled) == (GroupState.CANCELLED, 50)
    assert (await client.cancel_group(made.id)).status is GroupState.CANCELLED


async def _started(api, id_):
    return (await api.get(f"/api/executions/{id_}")).json()["started_at"] is not None


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 400, "/shards"),
        ({"broadcast": True, "shards": 2}, 400, "/shards"),
        ({"shards": 0}, 400, "/shards"),
        ({"shards": "2"}, 400, "/shards"),
        ({"shards": 10_001}, 413, "/shards"),
        ({"shards": 2, "job_method": "nothing"}, 400, "/job_method"),
        ({"shards": 2, "handler_id": "nobody"}, 404, "/handler_id"),
        ({"shards": 2, "job_params": {"x": 1}}, 400, "/job_params/x"),
        ({"shards": 2, "options": {"require": ["="]}}, 400, "/options/require/0"),
        ({"shards": 2, "options": {"unique_key": "k"}}, 400, "/options/unique_key"),
        ({"shards": 2, "job_method": "lonely"}, 400, "/options/unique_key"),
        ({"shards": 2, "idempotency_key": "k"}, 400, "/idempotency_key"),
    ],
)
async def test_a_bad_group_is_refused_and_leaves_nothing(api, start_node, body, status, pointer):
    await start_node("n1", TARGET)
    answer = await api.post("/api/groups", json={"handler_id": "parts", "job_method": "which", **body})
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await api.get("/api/groups")).json()["records"] == []
    assert (await api.get("/api/executions")).json()["records"] == []


async def test_members_may_be_large_or_many_but_not_both(api, start_node):
    await start_node("n1")
    body = {"handler_id": "demo", "job_method": "echo", "job_params": {"x": "y" * 100_000}, "shards": 500}
    answer = await api.post("/api/groups", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (413, "/job_params")


async def test_a_group_that_is_not_there_is_not_found(api):
    for method, path in (("GET", "/api/groups/nothing"), ("POST", "/api/groups/nothing/cancel")):
        answer = await api.request(method, path, headers={"content-type": "application/json"})
        assert answer.status_code == 404


async def test_a_group_ends_after_a_restart_of_its_node(client, start_node):
    n1 = await start_node("n1", TARGET)
    await client.submit_group("parts", "which", shards=2)
    await n1.stop()
    made = await client.submit_group("parts", "which", shards=3)
    await start_node("n1", TARGET)
    assert (await client.wait_group(made.id, 10)).status is GroupState.COMPLETED


async def test_events_tell_of_groups(client, start_node, server):
    await start_node("n1", TARGET)
    subscription = server.hub.subscribe()
    made = await client.submit_group("parts", "which", shards=2)
    await client.wait_group(made.id, 10)
    told = []
    while not subscription.empty():
        told.append((await subscription.get())[1])
    subscription.close()
    groups = [(event.kind, event.id, event.data["state"]) for event in told if event.kind.startswith("group.")]
    assert groups == [("group.created", made.id, "running"), ("group.finished", made.id, "completed")]


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def command(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCHEDULE_ZERO_STATE_DIR", str(server.state_dir))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def run(*args):
        return await anyio.to_thread.run_sync(partial(CliRunner().invoke, main, list(args)))

    yield run
    structlog.reset_defaults()


async def test_the_command_submits_shows_waits_and_cancels(command, start_node):
    await nodes(start_node)
    made = await command("submit", "parts.where", "--broadcast", "--require-node", "gpu", "-o", "json")
    answer = json.loads(made.stdout)
    assert len(answer["ids"]) == 2
    shown = await command("group", answer["id"], "--wait", "-o", "json")
    assert (shown.exit_code, json.loads(shown.stdout)["status"]) == (0, "completed")
    members = await command("executions", "--group", answer["id"], "-o", "json")
    assert len(json.loads(members.stdout)["records"]) == 2
    failed = await command("submit", "parts.where", "fail_on=n1", "--broadcast", "--wait")
    assert failed.exit_code == 1
    assert "failed" in failed.stdout
    plain = await command("submit", "parts.sleep", "--shards", "3")
    cancelled = await command("group", plain.stdout.strip(), "--cancel")
    assert cancelled.exit_code == 0
    listed = await command("groups")
    assert plain.stdout.strip() in listed.stdout
    for wrong in (("--broadcast", "--shards", "2"), ("--shards", "2", "--count", "3")):
        assert (await command("submit", "parts.which", *wrong)).exit_code == 2
    nobody = await command("submit", "parts.which", "--broadcast", "--require-node", "tpu")
    assert (nobody.exit_code, "lacks tpu" in nobody.stderr) == (4, True)
    listed = await command("nodes")
    assert "gpu zone=eu-1" in listed.stdout
