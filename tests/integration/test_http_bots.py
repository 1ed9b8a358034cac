"""Bots: what speaks HTTP runs jobs through the same core, with leases and tokens as for nodes.

``Bot`` is the other end: a few lines of HTTP, none of the node's code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from schedule_zero.config import DispatchConfig, HttpConfig
from schedule_zero.dispatch import http_claims, http_peers
from schedule_zero.server import Server
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.support import eventually

pytestmark = pytest.mark.anyio

QUICK = DispatchConfig(
    heartbeat_s=0.2, suspect_s=0.7, lost_s=1.0, lease_s=2.2, lease_margin_s=0.1, resend_s=0.3, window=50
)
DEMO = ["demo.noop", "demo.echo"]


class Bot:
    """A worker in some other language."""

    def __init__(self, api: httpx.AsyncClient, bot_id: str = "bot", **always: Any) -> None:
        self.api = api
        self.bot_id = bot_id
        self.always = always

    async def ask(self, **fields: Any) -> httpx.Response:
        body = {"bot_id": self.bot_id, "operations": DEMO, **self.always, **fields}
        return await self.api.post("/api/jobs/claim", json=body)

    async def claim(self, batch_size: int = 1, **fields: Any) -> list[dict[str, Any]]:
        answer = await self.ask(batch_size=batch_size, **fields)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["jobs"])

    async def beat(self, job: dict[str, Any], **fields: Any) -> httpx.Response:
        body = {"bot_id": self.bot_id, "token": job["token"], **fields}
        return await self.api.post(f"/api/jobs/{job['id']}/heartbeat", json=body)

    async def report(self, job: dict[str, Any], status: str = "completed", **fields: Any) -> httpx.Response:
        body = {"bot_id": self.bot_id, "token": job["token"], "status": status, **fields}
        return await self.api.post(f"/api/jobs/{job['id']}/result", json=body)


async def submit(api: httpx.AsyncClient, count: int = 1, **fields: Any) -> list[str]:
    item = {"handler_id": "demo", "job_method": "echo", **fields}
    answer = await api.post("/api/executions", json={"executions": [item] * count})
    assert answer.status_code == 202, answer.text
    return list(answer.json()["ids"])


async def shown(api: httpx.AsyncClient, execution_id: str) -> dict[str, Any]:
    return dict((await api.get(f"/api/executions/{execution_id}")).json())


async def becomes(api: httpx.AsyncClient, execution_id: str, status: str) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        execution = await shown(api, execution_id)
        return execution if execution["status"] == status else None

    return await eventually(there)


def node(server: Server, node_id: str = "bot"):
    return next((view for view in server.dispatcher.nodes() if view.node_id == node_id), None)


@pytest.fixture
async def bot(api: httpx.AsyncClient, known_demo: None) -> Bot:
    return Bot(api)


@asynccontextmanager
async def quick_server(tmp_path, **dispatch: Any) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """Short leases."""
    config = with_config(dispatch=QUICK)
    async with running_server(tmp_path / "quick", config) as server, api_client(server) as api:
        know_demo(server)
        yield server, api


# --- the way of a job ---------------------------------------------------------------------------------


async def test_a_bot_claims_a_job_and_its_result_is_the_executions(bot, api):
    [id_] = await submit(api, job_params={"customer": 7}, options={"timeout_s": 60})

    [job] = await bot.claim(wait_s=5)
    answer = await bot.report(job, result={"sum": 42})

    assert job["id"] == id_
    assert job["job_params"] == {"customer": 7}
    assert (job["handler_id"], job["job_method"], job["attempt"], job["timeout_s"]) == ("demo", "echo", 1, 60)
    assert answer.status_code == 200
    assert answer.json() == {"status": "recorded"}
    execution = await shown(api, id_)
    assert (execution["status"], execution["result"], execution["node_id"]) == ("completed", {"sum": 42}, "bot")
    assert execution["dispatched_at"] <= execution["started_at"] <= execution["finished_at"]


async def test_a_waiting_claim_is_answered_when_work_comes(bot, api, server):
    claim = asyncio.create_task(bot.claim(wait_s=20))
    await eventually(lambda: (view := node(server)) and view.window == 1)

    [id_] = await submit(api)

    assert [job["id"] for job in await claim] == [id_]


async def test_a_claim_that_does_not_wait_gets_a_backlog_that_was_in_the_store_only(bot, api):
    ids = await submit(api, 3)

    assert [job["id"] for job in await bot.claim(10)] == ids


@pytest.mark.parametrize(("batch_size", "expected"), [(0, 0), (1, 1), (3, 3), (5, 5), (1000, 5)])
async def test_a_claim_gets_no_more_than_its_batch_size_and_no_more_than_there_is(bot, api, batch_size, expected):
    await submit(api, 5)

    jobs = await bot.claim(batch_size, wait_s=0)

    assert len(jobs) == expected
    assert len({job["token"] for job in jobs}) == expected


async def test_an_empty_claim_is_answered_when_its_time_is_up(bot, api):
    assert await bot.claim(3, wait_s=0.05) == []
    # Nothing is left open for what comes later.
    [id_] = await submit(api)
    assert (await shown(api, id_))["status"] == "pending"


async def test_a_job_that_ends_opens_no_place_that_no_claim_asked_for(bot, api):
    ids = await submit(api, 4)
    jobs = await bot.claim(2)

    for job in jobs:
        assert (await bot.report(job)).status_code == 200

    states = [(await shown(api, id_))["status"] for id_ in ids]
    assert states == ["completed", "completed", "pending", "pending"]


@pytest.mark.parametrize("concurrency", [1, 10, 100])
async def test_every_job_is_run_once_whatever_the_concurrency(bot, api, concurrency):
    ids = await submit(api, 200)
    seen: list[str] = []

    async def worker() -> None:
        while len(seen) < 200:
            for job in await bot.claim(2, wait_s=0.2):
                seen.append(job["id"])
                assert (await bot.report(job, result=1)).json() == {"status": "recorded"}

    await asyncio.gather(*[worker() for _ in range(concurrency)])

    assert sorted(seen) == sorted(ids)
    stats = (await api.get("/api/executions/stats")).json()
    assert stats["success_count"] == 200


async def test_two_bots_that_race_for_one_job_are_given_it_once(api, known_demo):
    for _ in range(10):
        [id_] = await submit(api)
        claims = await asyncio.gather(*[Bot(api, f"bot-{number}").claim(wait_s=0) for number in range(4)])

        winners = [job for jobs in claims for job in jobs]
        if not winners:
            # Each was answered while the other's start was under way.
            winners = await Bot(api, "bot-0").claim(wait_s=5)
        assert [job["id"] for job in winners] == [id_]
        winner = next((f"bot-{number}" for number, jobs in enumerate(claims) if jobs), "bot-0")
        assert (await Bot(api, winner).report(winners[0])).status_code == 200


async def test_a_bot_and_a_zeromq_node_race_for_jobs_and_none_runs_twice(api, server, start_node):
    await start_node("n1", slots=2)
    bot = Bot(api, operations=["demo.echo"])
    ids = await submit(api, 100, job_params={"value": 1})

    while (await api.get("/api/executions/stats")).json()["success_count"] < len(ids):
        for job in await bot.claim(5, wait_s=0.05):
            assert (await bot.report(job, result="bot")).json() == {"status": "recorded"}

    executions = [await shown(api, id_) for id_ in ids]
    assert {execution["status"] for execution in executions} == {"completed"}
    assert all(len(execution["attempts"]) == 1 for execution in executions)


# --- outcomes -----------------------------------------------------------------------------------------


async def test_a_failed_job_is_tried_again_by_the_rules_of_its_options(bot, api):
    [id_] = await submit(api, options={"max_attempts": 2, "retry_on": ["transient"]})

    [job] = await bot.claim()
    error = {"type": "Flaky", "message": "try later", "category": "transient"}
    await bot.report(job, "failed", error=error, retry_after_s=0)
    [again] = await bot.claim(wait_s=5)
    await bot.report(again, "failed", error={"type": "Bug", "message": "no"})

    assert (again["id"], again["attempt"]) == (id_, 2)
    assert again["token"] > job["token"]
    execution = await shown(api, id_)
    assert execution["status"] == "failed"
    assert execution["error"]["type"] == "Bug"


@pytest.mark.parametrize(
    ("report", "status", "kind"),
    [
        ({"status": "failed"}, "failed", "Error"),
        ({"status": "failed", "error": "in a word"}, "failed", "Error"),
        ({"status": "timeout"}, "timeout", "Error"),
        ({"status": "cancelled"}, "cancelled", None),
        ({"status": "completed"}, "completed", None),
        ({"status": "completed", "result": None}, "completed", None),
    ],
)
async def test_each_status_that_a_bot_may_report_ends_the_execution_as_it_says(bot, api, report, status, kind):
    [id_] = await submit(api)
    [job] = await bot.claim()

    answer = await bot.report(job, **report)

    assert answer.json() == {"status": "recorded"}
    execution = await shown(api, id_)
    assert execution["status"] == status
    assert (execution["error"] or {}).get("type") == kind
    assert execution["result"] is None


async def test_a_rejected_job_goes_to_another_and_spends_no_attempt(bot, api):
    [id_] = await submit(api)
    [job] = await bot.claim()

    assert (await bot.report(job, "rejected", reason="overcommitted")).json() == {"status": "rejected"}
    [again] = await Bot(api, "other").claim(wait_s=5)

    assert (again["id"], again["attempt"]) == (id_, 1)
    assert (await bot.report(job)).json()["error"]["code"] == "lease_lost"


async def test_a_bot_that_does_not_know_the_method_any_more_is_not_given_it_again(bot, api):
    [id_] = await submit(api)
    [job] = await bot.claim()

    await bot.report(job, "rejected", reason="unknown_method")

    await becomes(api, id_, "retry_scheduled")
    [again] = await Bot(api, "other").claim(wait_s=5)
    assert again["id"] == id_


async def test_a_repeated_result_is_a_duplicate_and_changes_nothing(bot, api):
    [id_] = await submit(api)
    [job] = await bot.claim()
    await bot.report(job, result=1)

    answers = [await bot.report(job, result=2), await bot.report(job, "failed")]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"status": "duplicate"})] * 2
    assert (await shown(api, id_))["result"] == 1


async def test_two_copies_of_a_result_at_once_are_recorded_once(bot, api):
    await submit(api)
    [job] = await bot.claim()

    answers = await asyncio.gather(*[bot.report(job, result=1) for _ in range(5)])

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} <= {"recorded", "duplicate"}


@pytest.mark.parametrize("over", [0, 1])
async def test_a_result_of_the_limit_is_recorded_and_one_byte_more_fails_the_job(tmp_path, over):
    limit = 2000
    config = with_config(limits=with_config().limits.__class__(result_bytes=limit))
    async with running_server(tmp_path / "small", config) as server, api_client(server) as api:
        know_demo(server)
        bot = Bot(api)
        [id_] = await submit(api)
        [job] = await bot.claim()

        await bot.report(job, result="x" * (limit - 2 + over))

        execution = await shown(api, id_)
        assert execution["status"] == ("failed" if over else "completed")
        assert over == 0 or execution["error"]["type"] == "ResultTooLarge"


async def test_a_body_over_the_servers_limit_is_refused_and_the_job_goes_on(tmp_path):
    config = with_config(http=HttpConfig(port=0, max_body_bytes=4096))
    async with running_server(tmp_path / "small", config) as server, api_client(server) as api:
        know_demo(server)
        bot = Bot(api)
        [id_] = await submit(api)
        [job] = await bot.claim()

        assert (await bot.report(job, result="x" * 5000)).status_code == 413
        assert (await shown(api, id_))["status"] == "running"
        assert (await bot.report(job, result="x")).status_code == 200


@pytest.mark.parametrize("off_s", [-3600, 3600])
async def test_a_bot_whose_clock_is_an_hour_off_makes_no_impossible_times(bot, api, off_s):
    [id_] = await submit(api)
    [job] = await bot.claim()
    now = await server_now(api)

    await bot.report(job, started_at=now + off_s, finished_at=now + off_s + 1)

    execution = await shown(api, id_)
    assert execution["created_at"] <= execution["dispatched_at"] <= execution["started_at"]
    assert execution["started_at"] <= execution["finished_at"] <= execution["stored_at"]


async def server_now(api: httpx.AsyncClient) -> float:
    answer = await api.post("/api/jobs/claim", json={"bot_id": "clock", "operations": DEMO, "batch_size": 0})
    from datetime import datetime

    return datetime.fromisoformat(answer.json()["server_time"]).timestamp()


# --- leases and tokens ----------------------------------------------------------------------------------


async def test_heartbeats_keep_a_job_for_longer_than_its_lease(tmp_path):
    async with quick_server(tmp_path) as (server, api):
        bot = Bot(api)
        [id_] = await submit(api)
        [job] = await bot.claim()
        clock = server.clock
        until_s = clock.mono_s() + 2.5 * QUICK.lease_s

        while clock.mono_s() < until_s:
            answer = await bot.beat(job, percent=50, text="half")
            assert answer.status_code == 200
            assert answer.json()["lease_s"] == QUICK.lease_s
            await asyncio.sleep(0.1)

        assert (await shown(api, id_))["progress"]["percent"] == 50
        assert (await bot.report(job)).json() == {"status": "recorded"}


async def test_a_job_that_a_living_bot_forgot_is_run_again_when_its_own_lease_is_over(tmp_path):
    async with quick_server(tmp_path) as (_, api):
        bot = Bot(api)
        forgotten, kept = await submit(api, 2)
        jobs = {job["id"]: job for job in await bot.claim(2)}
        again: list[dict[str, Any]] = []

        while not again:
            assert (await bot.beat(jobs[kept])).status_code == 200
            again = await bot.claim(wait_s=0.1)

        assert (again[0]["id"], again[0]["attempt"]) == (forgotten, 2)
        stale = await bot.report(jobs[forgotten], result="late")
        assert (stale.status_code, stale.json()["error"]["code"]) == (409, "lease_lost")
        assert (await bot.beat(jobs[forgotten])).status_code == 409
        assert (await bot.report(again[0], result="again")).json() == {"status": "recorded"}
        assert (await bot.report(jobs[kept])).json() == {"status": "recorded"}
        execution = await shown(api, forgotten)
        assert execution["result"] == "again"
        assert [attempt["outcome"] for attempt in execution["attempts"]][:1] == ["lost"]


async def test_a_silent_bot_is_lost_and_its_jobs_run_elsewhere_after_the_lease(tmp_path):
    async with quick_server(tmp_path) as (server, api):
        [id_] = await submit(api)
        [job] = await Bot(api, "silent").claim()

        [again] = await Bot(api, "other").claim(wait_s=10)

        assert (again["id"], again["attempt"]) == (id_, 2)
        assert node(server, "silent").state == "lost"
        assert (await Bot(api, "silent").report(job)).status_code == 409


async def test_a_result_that_comes_after_silence_but_before_the_rerun_is_recorded(tmp_path):
    async with quick_server(tmp_path) as (server, api):
        bot = Bot(api)
        [id_] = await submit(api)
        [job] = await bot.claim()
        await eventually(lambda: node(server).state == "lost")

        assert (await bot.report(job, result=1)).json() == {"status": "recorded"}
        assert (await shown(api, id_))["result"] == 1
        # And it goes on as if nothing had been.
        [other] = await submit(api)
        assert [job["id"] for job in await bot.claim()] == [other]


async def test_a_claim_extends_the_leases_that_it_names_and_says_which_are_over(tmp_path):
    async with quick_server(tmp_path) as (server, api):
        bot = Bot(api)
        await submit(api)
        [job] = await bot.claim()
        until_s = server.clock.mono_s() + 2.5 * QUICK.lease_s

        while server.clock.mono_s() < until_s:
            answer = await bot.ask(batch_size=0, running=[job["token"], 12345])
            assert answer.json()["cancel"] == [12345]
            await asyncio.sleep(0.1)

        assert (await bot.report(job)).json() == {"status": "recorded"}


async def test_what_was_lost_on_its_way_to_the_bot_is_delivered_again_with_the_same_token(bot, api):
    await submit(api, 3)
    jobs = await bot.claim(2)

    # The bot has never seen the second one.
    again = await bot.claim(2, running=[jobs[0]["token"]])

    assert again[0] == jobs[1]
    assert {job["id"] for job in again}.isdisjoint({jobs[0]["id"]})
    for job in [jobs[0], *again]:
        assert (await bot.report(job)).json() == {"status": "recorded"}


async def test_what_a_client_that_went_away_did_not_get_is_given_to_another(bot, api, server):
    claim = asyncio.create_task(bot.claim(5, wait_s=30))
    await eventually(lambda: (view := node(server)) and view.window == 5)

    claim.cancel()
    await eventually(lambda: node(server).window == 0)
    ids = await submit(api, 2)

    assert [job["id"] for job in await Bot(api, "other").claim(5, wait_s=5)] == ids


async def test_a_token_of_another_execution_or_of_nothing_is_no_attempt(bot, api):
    first, second = await submit(api, 2)
    jobs = {job["id"]: job for job in await bot.claim(2)}

    crossed = {"id": first, "token": jobs[second]["token"]}
    never = {"id": first, "token": 2**52}
    nowhere = {"id": "0" * 26, "token": 5}

    for wrong in (crossed, never, nowhere):
        assert (await bot.report(wrong)).status_code in (404, 409)
        assert (await bot.beat(wrong)).status_code in (404, 409)
        assert (await bot.report(wrong, "rejected")).status_code in (404, 409)
    assert (await bot.report(never)).status_code == 404
    assert (await shown(api, first))["status"] == "running"


async def test_one_bot_can_not_speak_for_another(bot, api):
    [id_] = await submit(api)
    [job] = await bot.claim()
    other = Bot(api, "other")
    await other.claim(0)

    answer = await other.report(job, result="stolen")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "lease_lost")
    assert (await other.beat(job)).status_code == 409
    assert (await shown(api, id_))["status"] == "running"


async def test_over_http_nobody_speaks_for_a_zeromq_node(api, start_node):
    await start_node("n1")
    [id_] = await submit(api, job_method="sleep", job_params={"seconds": 30})
    execution = await becomes(api, id_, "running")
    token = execution["attempts"][0]["token"]
    thief = Bot(api, "n1")

    assert (await thief.report({"id": id_, "token": token})).status_code == 409
    claim = await thief.ask()
    assert (claim.status_code, claim.json()["error"]["code"]) == (409, "duplicate_node")
    await api.post(f"/api/executions/{id_}/cancel")
    await becomes(api, id_, "cancelled")


# --- cancelling, draining, leaving ------------------------------------------------------------------------


async def test_a_cancel_is_told_by_heartbeat_and_by_a_waiting_claim_and_the_bot_confirms(bot, api, server):
    [id_] = await submit(api)
    [job] = await bot.claim()
    waiting = asyncio.create_task(bot.ask(wait_s=30))
    await eventually(lambda: node(server).window == 2)

    assert (await api.post(f"/api/executions/{id_}/cancel")).status_code == 202

    assert (await waiting).json()["cancel"] == [job["token"]]
    assert (await bot.beat(job)).json()["cancel"] is True
    assert (await bot.report(job, "cancelled")).json() == {"status": "recorded"}
    assert (await shown(api, id_))["status"] == "cancelled"


async def test_a_cancel_that_races_with_a_result_leaves_one_end(bot, api):
    for _ in range(20):
        [id_] = await submit(api)
        [job] = await bot.claim(wait_s=5)

        cancelled, reported = await asyncio.gather(api.post(f"/api/executions/{id_}/cancel"), bot.report(job, result=1))

        assert cancelled.status_code in (200, 202)
        assert reported.json()["status"] in ("recorded", "duplicate")
        assert (await shown(api, id_))["status"] in ("completed", "cancelled")


async def test_a_bot_that_an_operator_drains_is_told_and_gets_nothing_until_it_is_resumed(bot, api):
    assert await bot.claim(0) == []
    await api.post("/api/nodes/bot/drain")
    [id_] = await submit(api)

    answer = (await bot.ask()).json()
    assert (answer["jobs"], answer["drain"]) == ([], True)
    await api.post("/api/nodes/bot/resume")

    assert [job["id"] for job in await bot.claim(wait_s=5)] == [id_]


async def test_a_bot_that_leaves_gets_nothing_more_and_is_offline_once_it_holds_nothing(bot, api, server):
    await submit(api, 2)
    [job] = await bot.claim()

    assert (await bot.ask(leaving=True)).json()["jobs"] == []
    assert node(server).state == "online"
    await bot.report(job)
    await bot.ask(leaving=True)
    assert node(server).state == "offline"

    # And it may come back.
    assert len(await bot.claim(wait_s=5)) == 1
    assert node(server).state == "online"


async def test_a_bot_that_was_about_to_leave_and_asks_for_work_again_gets_some(bot, api, server):
    """As one does that was started again, without an instance of its own, before it had said that it has left."""
    await submit(api, 2)
    [job] = await bot.claim()
    await bot.ask(leaving=True)
    await bot.report(job)

    assert len(await bot.claim(wait_s=5)) == 1
    assert node(server).state == "online"


async def test_a_bot_that_is_leaving_keeps_what_it_holds_when_its_other_process_claims(bot, api):
    """Without an ``instance`` the two are one bot."""
    first, second = await submit(api, 2)
    [job] = await bot.claim()
    await bot.ask(leaving=True)

    [other] = await Bot(api).claim(wait_s=5)

    assert (job["id"], other["id"]) == (first, second)
    for one in (job, other):
        assert (await bot.report(one)).json() == {"status": "recorded"}
    assert (await shown(api, first))["attempt"] == 1


async def test_a_bot_that_has_left_and_says_so_again_is_not_taken_for_one_that_is_there(bot, server, monkeypatch):
    """It may end before it has the answer: what a claim had begun until then nobody would end."""
    await bot.claim(0)
    await bot.ask(leaving=True)
    assert node(server).state == "offline"

    async def join(*_) -> None:
        raise AssertionError("it is taken for one that comes")

    monkeypatch.setattr(http_peers.HttpPeers, "_join", join)
    answer = (await bot.ask(leaving=True)).json()

    assert (answer["jobs"], answer["cancel"], answer["drain"]) == ([], [], False)
    assert node(server).state == "offline"


async def test_an_idle_bot_is_signed_off_after_a_while_and_is_never_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(http_peers, "IDLE_S", 1.5)
    async with quick_server(tmp_path) as (server, api):
        await Bot(api).claim()
        states = set()

        async def gone() -> bool:
            states.add(node(server).state)
            return node(server).state == "offline"

        await eventually(gone)
        assert states == {"online", "offline"}


# --- who is who (C18), restarts (C11), the store (C13) ----------------------------------------------------


async def test_the_second_process_of_a_bot_id_is_refused_while_the_first_one_lives(bot, api):
    first, second = Bot(api, instance="one"), Bot(api, instance="two")
    assert (await first.ask()).status_code == 200

    refused = await second.ask()

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "duplicate_node")
    assert (await first.ask()).status_code == 200


async def test_a_restart_that_shows_its_key_takes_over_at_once_and_its_old_job_is_run_again(bot, api):
    key = "k" * 32
    before = Bot(api, instance="one", epoch=1, state_key=key)
    [id_] = await submit(api)
    [job] = await before.claim()

    after = Bot(api, instance="two", epoch=2, state_key=key)
    [again] = await after.claim(wait_s=5)

    assert (again["id"], again["attempt"]) == (id_, 2)
    assert (await before.ask()).status_code == 409
    assert (await before.report(job)).status_code == 409
    assert (await after.report(again)).json() == {"status": "recorded"}


async def test_two_processes_without_an_instance_share_one_bot_and_no_job(bot, api):
    ids = await submit(api, 2)

    claims = await asyncio.gather(bot.claim(wait_s=5), Bot(api).claim(wait_s=5))

    assert sorted(job["id"] for jobs in claims for job in jobs) == sorted(ids)


async def test_after_a_server_restart_a_bot_goes_on_with_what_it_holds(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        know_demo(server)
        ids = await submit(api, 3)
        jobs = await Bot(api).claim(3)
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        bot = Bot(api)

        assert (await bot.beat(jobs[0])).status_code == 200
        assert (await bot.report(jobs[1], result=1)).json() == {"status": "recorded"}
        # A claim brings none of them a second time.
        assert await bot.claim(5) == []
        assert (await bot.report(jobs[0], result=0)).json() == {"status": "recorded"}
        assert (await bot.report(jobs[2], result=2)).json() == {"status": "recorded"}
        for number, job in enumerate(jobs):
            execution = await shown(api, job["id"])
            assert (execution["result"], len(execution["attempts"])) == (number, 1)
        assert {job["id"] for job in jobs} == set(ids)


async def test_while_the_store_fails_nothing_is_acknowledged_and_the_bot_is_told_when_to_come_back(
    bot, api, server, monkeypatch
):
    from schedule_zero.errors import StoreUnavailable

    [id_] = await submit(api)
    [job] = await bot.claim()
    real = server.store.submit

    def full(verb, arg, on_done, **_):
        on_done(StoreUnavailable("disk full"))

    monkeypatch.setattr(server.store, "submit", full)
    refused = await bot.report(job, result=1)
    monkeypatch.setattr(server.store, "submit", real)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert (await shown(api, id_))["status"] == "running"
    assert (await bot.report(job, result=1)).json() == {"status": "recorded"}


async def test_a_claim_whose_start_can_not_be_stored_is_told_so(bot, api, server, monkeypatch):
    from schedule_zero.errors import StoreUnavailable

    await bot.claim(0)
    [id_] = await submit(api)
    real = server.store.submit

    def full(verb, arg, on_done, **_):
        on_done(StoreUnavailable("disk full"))

    monkeypatch.setattr(server.store, "submit", full)
    refused = await bot.ask(wait_s=5)
    monkeypatch.setattr(server.store, "submit", real)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert [job["id"] for job in await bot.claim(wait_s=10)] == [id_]


async def test_a_server_that_stops_ends_waiting_claims_at_once(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        claim = asyncio.create_task(Bot(api).ask(wait_s=60))
        await eventually(lambda: (view := node(server)) and view.window == 1)
        await server.stop(5)

        answer = await claim
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        server.stop = _already  # the fixture's own


async def _already(deadline_s: float) -> None:
    return None


async def test_more_claims_at_once_than_a_bot_may_have_are_429(bot, api, monkeypatch, server):
    monkeypatch.setattr(http_claims, "MAX_CLAIMS", 2)
    waiting = [asyncio.create_task(bot.ask(wait_s=30)) for _ in range(2)]
    await eventually(lambda: (view := node(server)) and view.window == 2)

    refused = await bot.ask(wait_s=30)

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
    assert refused.headers["Retry-After"] == "1"
    for task in waiting:
        task.cancel()
    await eventually(lambda: node(server).window == 0)


# --- what may be said -------------------------------------------------------------------------------------


async def test_a_method_that_is_only_named_is_declared_with_any_parameters(api, server):
    bot = Bot(api, operations=["billing.eu.invoice", {"handler_id": "mail", "methods": ["send"]}])
    await bot.claim(0)

    [id_] = await submit(api, handler_id="billing.eu", job_method="invoice", job_params={"n": [1]})
    await submit(api, handler_id="mail", job_method="send", job_params={})

    jobs = await bot.claim(5, wait_s=10)
    if len(jobs) < 2:
        # A claim comes with what there is; the other method's backlog is read by itself.
        jobs += await bot.claim(5, wait_s=10)
    assert {(job["handler_id"], job["job_method"]) for job in jobs} == {("billing.eu", "invoice"), ("mail", "send")}
    assert id_ in {job["id"] for job in jobs}


async def test_a_bot_that_names_one_method_takes_none_away_from_the_handler(bot, api):
    await bot.claim(0, operations=["demo.noop"])

    [handler] = (await api.get("/api/handlers")).json()["handlers"]
    assert set(handler["methods"]) == {"noop", "echo", "fail"}


async def test_a_schema_that_a_bot_declares_is_held_to(api):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    operations = [
        {"handler_id": "typed", "methods": [{"name": "run", "schema": schema, "options": {"max_attempts": 4}}]}
    ]
    bot = Bot(api, operations=operations)
    await bot.claim(0)

    item = {"handler_id": "typed", "job_method": "run", "job_params": {"n": "x"}}
    assert (await api.post("/api/executions", json=item)).json()["error"]["code"] == "invalid_params"
    [id_] = await submit(api, handler_id="typed", job_method="run", job_params={"n": 1})
    assert (await shown(api, id_))["options"]["max_attempts"] == 4


async def test_a_bot_may_change_what_it_serves_from_claim_to_claim(bot, api):
    await submit(api, job_method="noop")
    await submit(api, job_method="echo")

    [first] = await bot.claim(5, operations=["demo.noop"])
    [second] = await bot.claim(5, operations=["demo.echo"])

    assert (first["job_method"], second["job_method"]) == ("noop", "echo")
    for job in (first, second):
        assert (await bot.report(job)).json() == {"status": "recorded"}


CLAIM = {"bot_id": "bot", "operations": ["demo.noop"]}
BAD_CLAIMS = {
    "empty": {},
    "no bot_id": {"operations": ["demo.noop"]},
    "no operations": {"bot_id": "bot"},
    "bot_id null": CLAIM | {"bot_id": None},
    "bot_id empty": CLAIM | {"bot_id": ""},
    "bot_id malformed": CLAIM | {"bot_id": "a b"},
    "bot_id a number": CLAIM | {"bot_id": 7},
    "bot_id too long": CLAIM | {"bot_id": "b" * 129},
    "operations null": CLAIM | {"operations": None},
    "operations empty": CLAIM | {"operations": []},
    "operations a text": CLAIM | {"operations": "demo.noop"},
    "operation without a method": CLAIM | {"operations": ["demo"]},
    "operation with an empty method": CLAIM | {"operations": ["demo."]},
    "operation null": CLAIM | {"operations": [None]},
    "method too long": CLAIM | {"operations": ["a." + "m" * 200]},
    "handler without methods": CLAIM | {"operations": [{"handler_id": "demo", "methods": []}]},
    "handler with an unknown field": CLAIM | {"operations": [{"handler_id": "d", "methods": ["m"], "x": 1}]},
    "schema a text": CLAIM | {"operations": [{"handler_id": "d", "methods": [{"name": "m", "schema": "s"}]}]},
    "unknown option": CLAIM | {"operations": [{"handler_id": "d", "methods": [{"name": "m", "options": {"x": 1}}]}]},
    "batch_size negative": CLAIM | {"batch_size": -1},
    "batch_size null": CLAIM | {"batch_size": None},
    "batch_size a fraction": CLAIM | {"batch_size": 1.5},
    "batch_size too large": CLAIM | {"batch_size": 1001},
    "wait_s negative": CLAIM | {"wait_s": -0.1},
    "wait_s a text": CLAIM | {"wait_s": "10"},
    "instance empty": CLAIM | {"instance": ""},
    "instance malformed": CLAIM | {"instance": "a b"},
    "state_key short": CLAIM | {"state_key": "short"},
    "epoch negative": CLAIM | {"epoch": -1},
    "running null": CLAIM | {"running": None},
    "running of ids": CLAIM | {"running": ["x"]},
    "running of zero": CLAIM | {"running": [0]},
    "unknown field": CLAIM | {"batchsize": 1},
}
RESULT = {"bot_id": "bot", "token": 1, "status": "completed"}
BAD_RESULTS = {
    "empty": {},
    "no token": {"bot_id": "bot", "status": "completed"},
    "token null": RESULT | {"token": None},
    "token zero": RESULT | {"token": 0},
    "token a text": RESULT | {"token": "1"},
    "token too large": RESULT | {"token": 2**53},
    "no bot_id": {"token": 1, "status": "completed"},
    "no status": {"bot_id": "bot", "token": 1},
    "status unknown": RESULT | {"status": "done"},
    "status lost": RESULT | {"status": "lost"},
    "status null": RESULT | {"status": None},
    "error a number": RESULT | {"error": 5},
    "error without message": RESULT | {"error": {"type": "X"}},
    "error of unknown category": RESULT | {"error": {"message": "m", "category": "odd"}},
    "retry_after_s negative": RESULT | {"retry_after_s": -1},
    "give_up a text": RESULT | {"give_up": "yes"},
    "started_at without zone": RESULT | {"started_at": "2026-01-01T00:00:00"},
    "unknown field": RESULT | {"results": 1},
}
BEAT = {"bot_id": "bot", "token": 1}
BAD_BEATS = {
    "empty": {},
    "no token": {"bot_id": "bot"},
    "no bot_id": {"token": 1},
    "token null": BEAT | {"token": None},
    "percent over": BEAT | {"percent": 101},
    "percent a text": BEAT | {"percent": "50"},
    "text null": BEAT | {"text": None},
    "unknown field": BEAT | {"progress": 5},
}
ID = "0" * 26
MALFORMED = [
    *[("/api/jobs/claim", body, name) for name, body in BAD_CLAIMS.items()],
    *[(f"/api/jobs/{ID}/result", body, name) for name, body in BAD_RESULTS.items()],
    *[(f"/api/jobs/{ID}/heartbeat", body, name) for name, body in BAD_BEATS.items()],
]


async def test_what_is_missing_null_unknown_or_malformed_is_a_400_with_its_place(api, server):
    for path, body, name in MALFORMED:
        answer = await api.post(path, json=body)
        assert answer.status_code == 400, (path, name, answer.text)
        assert "pointer" in answer.json()["errors"][0], (path, name)
    assert node(server) is None, "nothing of it was believed"


@pytest.mark.parametrize("path", ["/api/jobs/claim", f"/api/jobs/{ID}/result", f"/api/jobs/{ID}/heartbeat"])
async def test_bodies_that_are_no_json_object_are_refused(api, path):
    for content in (b"", b"{", b"[]", b"null", b'"x"', b'{"bot_id": "\xff"}', b'{"token": 1, "token": 1}'):
        answer = await api.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (content, answer.text)
    assert (await api.post(path, content=b"{}", headers={"Content-Type": "text/plain"})).status_code == 415
    assert (await api.get(path)).status_code == 405


async def test_an_id_that_can_not_be_one_is_a_404(api):
    for id_ in ("x", "0" * 27, "%20"):
        assert (await api.post(f"/api/jobs/{id_}/result", json=RESULT)).status_code == 404


# --- who may ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "status"), [("worker", 200), ("viewer", 403), ("operator", 200), ("admin", 200)])
async def test_workers_operators_and_admins_may_claim(api, server, role, status):
    secret = (await api.post("/api/tokens", json={"name": "a bot", "role": role})).json()["token"]

    answer = await Bot(api).api.post("/api/jobs/claim", json=CLAIM, headers={"Authorization": f"Bearer {secret}"})

    assert answer.status_code == status


async def test_a_worker_may_do_nothing_else(api):
    secret = (await api.post("/api/tokens", json={"name": "w", "role": "worker"})).json()["token"]
    headers = {"Authorization": f"Bearer {secret}"}

    assert (await api.get("/api/executions", headers=headers)).status_code == 403
    item = {"handler_id": "demo", "job_method": "noop"}
    assert (await api.post("/api/executions", json=item, headers=headers)).status_code == 403
    assert (await api.get("/api/config", headers=headers)).status_code == 403
    assert (await api.get("/api/health", headers=headers)).status_code == 200


async def test_a_bot_whose_token_was_revoked_in_mid_flight_reports_with_another(bot, api):
    made = (await api.post("/api/tokens", json={"name": "w", "role": "worker"})).json()
    old = httpx.AsyncClient(base_url=api.base_url, headers={"Authorization": f"Bearer {made['token']}"})
    [id_] = await submit(api)
    async with old:
        [job] = await Bot(old).claim()
        await api.delete(f"/api/tokens/{made['id']}")
        refused = [await Bot(old).report(job), await Bot(old).beat(job), await Bot(old).ask()]

    assert [(one.status_code, one.json()["error"]["code"]) for one in refused] == [(401, "unauthenticated")] * 3
    assert (await bot.report(job, result=1)).json() == {"status": "recorded"}
    assert (await shown(api, id_))["status"] == "completed"


async def test_a_token_that_expires_in_mid_flight_is_refused_from_then_on_and_its_waiting_claim_gets_nothing(
    bot, api, server
):
    made = (await api.post("/api/tokens", json={"name": "short", "role": "worker", "expires_s": 2.0})).json()
    assert made["expires_at"] > made["created_at"]
    headers = {"Authorization": f"Bearer {made['token']}"}
    async with httpx.AsyncClient(base_url=api.base_url, headers=headers) as short:
        claim = asyncio.create_task(Bot(short).ask(wait_s=30))
        await eventually(lambda: (view := node(server)) and view.window == 1)

        async def expired() -> bool:
            return (await short.get("/api/executions")).status_code == 401

        await eventually(expired)
        [id_] = await submit(api)

        refused = await claim
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
    [job] = await bot.claim(wait_s=5)
    assert (job["id"], job["attempt"]) == (id_, 1)
