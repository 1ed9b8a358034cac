"""Dead letters that are run again where others have their unique keys, or where too much is waiting already."""

from __future__ import annotations

import pytest

from schedule_zero.config import LimitsConfig
from schedule_zero.model import JobOptions
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.integration.test_api_dead_letters import GROUP, children, ends, groups, put_letters, requeue, shown
from tests.support import eventually

pytestmark = pytest.mark.anyio

FAIL = {"handler_id": "demo", "job_method": "fail"}
UNIQUE = outfit(JobOptions(unique_key="one"), JobOptions(), Source.SUBMISSION).options


async def holder(api) -> str:
    """Who has the unique key, and waits."""
    [id_] = (await api.post("/api/executions", json={**FAIL, "options": {"unique_key": "one"}})).json()["ids"]
    return id_


async def count(api) -> int:
    return (await api.get("/api/executions/stats")).json()["total_executions"]


# --- unique keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
async def test_letters_whose_unique_key_is_taken_are_refused_and_stay(api, server, known_demo, n):
    old = await put_letters(server, n, options=UNIQUE)
    first = await holder(api)
    before = await count(api)

    refused = await requeue(api, 409, ids=old)

    assert refused["code"] == "duplicate"
    assert await count(api) == before
    assert [(await shown(api, id_))["dead_letter"] for id_ in old] == [GROUP] * n
    # Nor is a place kept for them: once the key is free, one of them goes.
    assert server.store.tally.total == 1
    await api.post(f"/api/executions/{first}/cancel")
    again = (await requeue(api, 201, ids=old))["ids"]
    assert [new is None for new in again] == [False] + [True] * (n - 1)
    assert server.store.tally.total == 1
    assert sum(group["count"] for group in await groups(api)) == n - 1


async def test_of_many_under_one_unique_key_one_goes_and_the_rest_stay_letters(api, server, known_demo):
    old = await put_letters(server, 5, options=UNIQUE)

    over = await ends(api, (await requeue(api, 202, all=True, rate_per_s=1000))["id"])

    assert (over["state"], over["created"], over["refused"]) == ("completed", 1, 4)
    assert "has the unique key of a dead letter" in over["note"]
    assert [len(await children(server, id_)) for id_ in old].count(1) == 1
    assert [group["count"] for group in await groups(api)] == [4]
    assert server.store.tally.total == 1


# --- a full backlog ---------------------------------------------------------------------------------------


@pytest.fixture
async def full(tmp_path):
    """A server on which at most three executions may be open, and two are; its letters, and those two."""
    config = with_config(limits=LimitsConfig(backlog=3))
    async with running_server(tmp_path / "full", config) as server, api_client(server) as api:
        know_demo(server)
        old = await put_letters(server, 2)
        answer = await api.post("/api/executions", json={"executions": [FAIL] * 2})
        yield server, api, old, answer.json()["ids"]


async def test_a_requeue_beyond_the_backlog_gets_429_and_nothing_of_it_is_written(full):
    server, api, old, waiting = full
    before, letters = await count(api), await groups(api)
    journal = (await api.get("/api/executions")).json()["records"]

    answer = await api.post("/api/dead-letters/requeue", json={"ids": old}, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "backlog_full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await count(api), await groups(api)) == (before, letters)
    assert (await api.get("/api/executions")).json()["records"] == journal
    assert [(await shown(api, id_))["dead_letter"] for id_ in old] == [GROUP] * 2
    # The same request, with its key, once there is room.
    await api.post(f"/api/executions/{waiting[0]}/cancel")
    again = await requeue(api, 201, ids=old, headers={"Idempotency-Key": "k"})
    assert None not in again["ids"]
    assert await groups(api) == []
    assert (server.dispatcher.backlog.open, server.dispatcher.backlog.room("demo")) == (3, 0)


async def test_letters_that_wait_are_not_open_also_after_a_restart(tmp_path):
    """What waits for a decision takes no place, and gives none."""
    config = with_config(limits=LimitsConfig(backlog=3))
    for life in range(2):
        async with running_server(tmp_path / "full", config) as server, api_client(server) as api:
            know_demo(server)
            assert server.dispatcher.backlog.open == life
            old = await put_letters(server, 3)
            assert server.dispatcher.backlog.open == life
            if not life:
                assert (await api.post("/api/executions", json=FAIL)).status_code == 202
            else:
                await requeue(api, 429, ids=old)


async def test_a_requeue_of_many_goes_as_far_as_the_backlog_lets_it_and_on_when_there_is_room(full):
    server, api, old, waiting = full
    begun = await requeue(api, 202, all=True, rate_per_s=1000)

    async def created() -> int:
        return (await api.get(f"/api/requeues/{begun['id']}")).json()["created"]

    async def one() -> bool:
        return await created() == 1

    await eventually(one)
    assert (server.dispatcher.backlog.open, [group["count"] for group in await groups(api)]) == (3, [1])
    await api.post(f"/api/executions/{waiting[0]}/cancel")
    assert ((await ends(api, begun["id"]))["created"], await groups(api)) == (2, [])
    assert server.dispatcher.backlog.open == 3
    assert [len(await children(server, id_)) for id_ in old] == [1, 1]
