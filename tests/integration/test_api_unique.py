"""Unique jobs and back-pressure over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from schedule_zero.config import HandlerLimits, HandlerRule, LimitsConfig
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}


def echo(customer: str, **options: object) -> dict:
    said = {"unique_key": "customer:{customer}", **options}
    return {"handler_id": "demo", "job_method": "echo", "job_params": {"customer": customer}, "options": said}


async def status(api: httpx.AsyncClient, id_: str) -> str:
    return (await api.get(f"/api/executions/{id_}")).json()["status"]


async def post(api: httpx.AsyncClient, body: object, **headers: str) -> httpx.Response:
    return await api.post("/api/executions", json=body, headers=headers)


# --- unique ------------------------------------------------------------------------------------------


async def test_a_second_one_is_refused_with_the_id_of_the_first(api, known_demo):
    [first] = (await post(api, echo("acme"))).json()["ids"]

    refused = await post(api, echo("acme"))

    assert refused.status_code == 409
    problem = refused.json()
    assert problem["error"]["code"] == "duplicate"
    assert problem["execution_id"] == first
    assert (await post(api, echo("other"))).status_code == 202


async def test_a_duplicate_in_a_bulk_is_named_and_nothing_of_it_is_kept(api, known_demo):
    [first] = (await post(api, echo("acme"))).json()["ids"]

    refused = await post(api, {"executions": [echo("a"), NOOP, echo("acme")]})

    assert refused.status_code == 409
    assert refused.json()["errors"][0]["pointer"] == "/executions/2"
    assert refused.json()["execution_id"] == first
    assert (await api.get("/api/executions")).json()["count"] == 1


async def test_the_existing_one_is_returned_in_its_place(api, known_demo):
    [first] = (await post(api, echo("acme"))).json()["ids"]
    items = [echo("a"), echo("acme", on_duplicate="return_existing"), echo("b")]

    answer = (await post(api, {"executions": items})).json()

    assert answer["ids"][1] == first
    assert answer["existing"] == [first]
    assert len(set(answer["ids"])) == 3
    assert (await api.get("/api/executions")).json()["count"] == 3


async def test_one_that_waits_is_replaced(api, known_demo):
    [first] = (await post(api, echo("acme"))).json()["ids"]

    [second] = (await post(api, echo("acme", on_duplicate="replace"))).json()["ids"]

    assert (await status(api, first), await status(api, second)) == ("cancelled", "pending")


async def test_of_submissions_at_the_same_moment_one_is_accepted(api, known_demo):
    answers = await asyncio.gather(*(post(api, echo("acme")) for _ in range(30)))

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 29


async def test_a_key_is_free_when_the_job_is_done_and_its_places_on_nodes_too(api, start_node):
    await start_node("n1", slots=1)
    for _ in range(3):
        [id_] = (await post(api, echo("acme"))).json()["ids"]
        refused = await asyncio.gather(*(post(api, echo("acme")) for _ in range(5)))
        assert {answer.status_code for answer in refused} <= {202, 409}
        for answer in refused:
            if answer.status_code == 202:
                [id_] = answer.json()["ids"]
        await api.get(f"/api/executions/{id_}", params={"wait_s": 10})
        assert await status(api, id_) == "completed"


async def test_run_now_waits_for_the_existing_one(server, api, start_node):
    await start_node("n1", "tests.integration.jobs:SlowHandler")
    body = {"handler_id": "slow", "job_method": "held", "options": {"unique_key": "one"}}
    [first] = (await post(api, body)).json()["ids"]
    again = asyncio.create_task(
        api.post("/api/run_now", json={**body, "options": {"unique_key": "one", "on_duplicate": "return_existing"}})
    )
    await eventually(lambda: server.hub.is_awaited(first))
    from tests.integration.jobs import GATE

    GATE.set()
    answer = (await again).json()

    assert answer["execution_id"] == first
    assert answer["status"] == "success"


async def test_a_retry_by_hand_is_one_of_its_key_too(api, known_demo):
    [first] = (await post(api, echo("acme"))).json()["ids"]
    await api.post(f"/api/executions/{first}/cancel")
    [second] = (await post(api, echo("acme"))).json()["ids"]

    refused = await api.post(f"/api/executions/{first}/retry")

    assert (refused.status_code, refused.json()["execution_id"]) == (409, second)
    await api.post(f"/api/executions/{second}/cancel")
    assert (await api.post(f"/api/executions/{first}/retry")).status_code == 201


async def test_a_schedule_run_by_hand_and_its_fires_share_one_key(server, api, known_demo):
    schedule = {
        "id": "s",
        **NOOP,
        "trigger": {"type": "interval", "seconds": 0.05},
        "options": {"unique_key": "nightly"},
    }
    assert (await api.post("/api/schedules", json=schedule)).status_code == 201
    await eventually(lambda: server.timer.stats.executions >= 1)
    await eventually(lambda: server.timer.stats.fires >= 4)

    assert (await api.post("/api/schedules/s/run")).status_code == 409
    await api.post("/api/schedules/s/pause")

    page = (await api.get("/api/schedules/s/fires", params={"limit": 500})).json()
    outcomes = [row["outcome"] for row in page["records"]]
    assert outcomes.count("executed") == 1
    assert outcomes.count("skipped") >= 3
    duplicate = next(row for row in page["records"] if row["reason"] == "duplicate")
    told = (await api.get("/api/schedules/s/explain", params={"at": duplicate["nominal_time"]})).json()
    assert "had its unique key" in json.dumps(told)
    audit = (await api.get("/api/schedules/s/audit")).json()
    assert (audit["missed"], audit["duplicate"], audit["extra"]) == (0, 0, 0)


async def test_a_repeated_request_gets_the_existing_id_again(api, known_demo):
    [first] = (await post(api, echo("acme"))).json()["ids"]
    item = echo("acme", on_duplicate="return_existing")

    answers = [await post(api, item, **{"Idempotency-Key": "k"}) for _ in range(2)]

    assert [answer.json() for answer in answers] == [{"ids": [first], "existing": [first]}] * 2
    assert answers[1].headers["Idempotent-Replayed"] == "true"


# --- back-pressure -----------------------------------------------------------------------------------


@pytest.fixture
async def full(tmp_path: Path):
    """A server that takes five executions at once, three of them of the handler ``demo``."""
    config = with_config(limits=LimitsConfig(backlog=5), handler_registry=str(tmp_path / "registry.yaml"))
    (tmp_path / "registry.yaml").write_text("demo:\n  limits:\n    backlog: 3\n")
    async with running_server(tmp_path / "server", config) as server:
        know_demo(server)
        async with api_client(server) as api:
            yield server, api


def test_a_limit_of_a_handler_is_read_from_the_registry():
    assert HandlerRule(limits=HandlerLimits(backlog=3)).limits.backlog == 3


async def test_above_the_limit_a_submission_is_refused_as_a_whole_and_nothing_accepted_is_lost(full):
    _, api = full
    assert (await post(api, {"executions": [NOOP] * 2})).status_code == 202

    refused = await post(api, {"executions": [NOOP] * 2})

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "backlog_full"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await post(api, NOOP)).status_code == 202
    assert (await post(api, NOOP)).status_code == 429
    assert (await api.get("/api/executions", params={"status": "pending"})).json()["count"] == 3


async def test_what_ends_makes_room(full):
    _, api = full
    ids = (await post(api, {"executions": [NOOP] * 3})).json()["ids"]
    assert (await post(api, NOOP)).status_code == 429

    await api.post(f"/api/executions/{ids[0]}/cancel")

    assert (await post(api, NOOP)).status_code == 202


async def test_many_at_once_do_not_get_past_the_limit_together(full):
    server, api = full
    answers = await asyncio.gather(*(post(api, NOOP) for _ in range(40)))

    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 37
    assert server.dispatcher.backlog.open == 3


async def test_a_repetition_of_what_was_accepted_is_answered_although_there_is_no_room(full):
    _, api = full
    first = await post(api, {"executions": [NOOP] * 3}, **{"Idempotency-Key": "k"})

    again = await post(api, {"executions": [NOOP] * 3}, **{"Idempotency-Key": "k"})

    assert (again.status_code, again.json()["ids"]) == (202, first.json()["ids"])
    assert (await post(api, NOOP, **{"Idempotency-Key": "other"})).status_code == 429


async def test_what_would_never_fit_is_too_large(full):
    _, api = full

    refused = await post(api, {"executions": [NOOP] * 4})

    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")


async def test_it_is_shown_in_health_and_metrics(full):
    _, api = full
    await post(api, {"executions": [NOOP] * 3})
    await post(api, NOOP)

    health = (await api.get("/api/health")).json()

    assert health["status"] == "ok"
    assert health["backlog"] == {"open": 3, "limit": 5, "full": ["demo"]}
    metrics = (await api.get("/metrics")).text
    assert "schedulezero_executions_open 3.0" in metrics
    assert "schedulezero_backlog_refused_total 1.0" in metrics


async def test_fires_above_the_limit_are_skipped_and_the_ledger_says_so(full):
    server, api = full
    schedule = {"id": "s", **NOOP, "trigger": {"type": "interval", "seconds": 0.05}}
    assert (await api.post("/api/schedules", json=schedule)).status_code == 201

    await eventually(lambda: server.timer.stats.fires >= 6)
    await api.post("/api/schedules/s/pause")

    page = (await api.get("/api/schedules/s/fires", params={"limit": 500})).json()["records"]
    outcomes = [(row["outcome"], row["reason"]) for row in page if row["reason"] != "paused"]
    assert outcomes.count(("executed", None)) == 3
    assert outcomes.count(("skipped", "backpressure")) == len(outcomes) - 3 >= 3
    assert server.dispatcher.backlog.open == 3


def test_retry_after_follows_the_rate_at_which_executions_end():
    from schedule_zero.ops.backlog import Backlog
    from schedule_zero.store.tally import Tally
    from schedule_zero.store.tx import STORED_NOW

    clock, tally = ManualClock(), Tally()
    backlog = Backlog(tally, limit=10, rules={}, clock=clock)
    backlog.look()
    assert backlog.retry_after_s(1) == 5
    for _ in range(10):
        clock.advance(1.0)
        tally.add({(STORED_NOW, "demo", "completed"): (4, 0)})
        backlog.look()

    assert [backlog.retry_after_s(n) for n in (1, 40, 41, 10_000)] == [1, 10, 11, 60]
    clock.advance(60.0)
    backlog.look()
    clock.advance(2.0)
    assert backlog.retry_after_s(1) == 60
