"""Sizes at their limits, and one byte over; many at once; and what an Idempotency-Key stands for at the edges."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import msgspec
import pytest

from schedule_zero.config import LimitsConfig
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.support import eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}
PARAMS, RESULT = 2_000, 1_000


def echo(size: int, **more: object) -> dict:
    """An echo whose parameters, and so its result, take ``size`` bytes as JSON."""
    params = {"x": "y" * (size - len(b'{"x":""}'))}
    assert len(msgspec.json.encode(params)) == size
    return {"handler_id": "demo", "job_method": "echo", "job_params": params, **more}


@pytest.fixture
async def site(tmp_path: Path):
    config = with_config(
        limits=LimitsConfig(params_bytes=PARAMS, result_bytes=RESULT, big_result_bytes=RESULT, bulk=1_500)
    )
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        know_demo(server)
        yield server, api


@pytest.fixture
def server(site):
    return site[0]


@pytest.fixture
def api(site):
    return site[1]


async def post(api: httpx.AsyncClient, body: object, **headers: str) -> httpx.Response:
    # Compact, as it is measured.
    return await api.post("/api/executions", content=msgspec.json.encode(body), headers={
        "Content-Type": "application/json", **headers})  # fmt: skip


async def test_parameters_of_exactly_the_limit_are_taken_and_one_byte_more_is_not(api):
    assert (await post(api, echo(PARAMS))).status_code == 202

    refused = await post(api, echo(PARAMS + 1))

    assert refused.status_code == 413
    assert refused.json()["errors"][0]["pointer"] == "/job_params"


async def test_a_result_of_exactly_the_limit_is_kept_and_one_byte_more_fails(api, start_node):
    await start_node("n1")
    fits, too_large = [
        (await post(api, echo(size))).json()["ids"][0] for size in (RESULT, RESULT + 1)
    ]  # fmt: skip

    shown = [(await api.get(f"/api/executions/{id_}", params={"wait_s": 10})).json() for id_ in (fits, too_large)]

    assert shown[0]["status"] == "completed"
    assert len(msgspec.json.encode(shown[0]["result"])) == RESULT
    assert (shown[1]["status"], shown[1]["error"]["type"]) == ("failed", "ResultTooLarge")
    assert str(RESULT + 1) in shown[1]["error"]["message"]


async def test_more_than_a_thousand_jobs_at_once_each_run_once(server, api, start_node):
    await start_node("n1")

    answers = await asyncio.gather(
        post(api, {"executions": [NOOP] * 1_500}),
        *(post(api, {"executions": [NOOP] * 10}) for _ in range(50)),
    )

    assert {answer.status_code for answer in answers} == {202}
    ids = [id_ for answer in answers for id_ in answer.json()["ids"]]
    assert len(set(ids)) == 2_000
    await eventually(lambda: server.store.tally.total == 0, within_s=30)
    stats = (await api.get("/api/executions/stats")).json()
    assert stats["by_status"]["completed"] == 2_000
    assert (await post(api, {"executions": [NOOP] * 1_501})).status_code == 413


# --- idempotency keys --------------------------------------------------------------------------------


async def test_a_request_that_was_refused_may_be_repeated_with_its_key_when_it_can_be_done(api):
    unique = {**NOOP, "options": {"unique_key": "one"}}
    [first] = (await post(api, unique)).json()["ids"]
    refused = await post(api, unique, **{"Idempotency-Key": "k"})
    await api.post(f"/api/executions/{first}/cancel")

    again = await post(api, unique, **{"Idempotency-Key": "k"})

    assert (refused.status_code, again.status_code) == (409, 202)
    assert "Idempotent-Replayed" not in again.headers


async def test_a_key_of_a_bulk_stands_for_all_of_it(api):
    body = {"executions": [NOOP] * 5}

    first, again = [(await post(api, body, **{"Idempotency-Key": "k"})).json() for _ in range(2)]
    other = await post(api, {"executions": [NOOP] * 4}, **{"Idempotency-Key": "k"})

    assert again == first
    assert (await api.get("/api/executions")).json()["count"] == 5
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


async def test_a_key_stands_for_its_path_too(api):
    [id_] = (await post(api, NOOP, **{"Idempotency-Key": "k"})).json()["ids"]
    await api.post(f"/api/executions/{id_}/cancel")

    other = await api.post(f"/api/executions/{id_}/retry", headers={"Idempotency-Key": "k"})

    assert other.status_code == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\tb"])
async def test_a_malformed_key_is_refused_and_does_nothing(api, key):
    refused = await api.post("/api/executions", json=NOOP, headers=[(b"Idempotency-Key", key.encode())])

    assert refused.status_code == 400
    assert (await api.get("/api/executions")).json()["count"] == 0


async def test_a_key_survives_a_restart_of_the_server(tmp_path):
    ids = []
    for _ in range(2):
        async with running_server(tmp_path / "again") as server, api_client(server) as api:
            know_demo(server)
            ids.append((await post(api, NOOP, **{"Idempotency-Key": "k"})).json()["ids"])

    assert ids[0] == ids[1]
