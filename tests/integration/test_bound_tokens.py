"""Tokens of workers that are for certain handlers, or for one bot: held to at everything that a bot can say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.integration.conftest import api_client, running_server
from tests.integration.test_http_bots import becomes, submit
from tests.integration.test_http_parts import Talker

pytestmark = pytest.mark.anyio

OTHER = ["other.noop"]


async def make(api: httpx.AsyncClient, name: str = "w", **bound: Any) -> httpx.Response:
    return await api.post("/api/tokens", json={"name": name, "role": "worker", **bound})


@asynccontextmanager
async def with_token(api: httpx.AsyncClient, name: str = "w", **bound: Any) -> AsyncIterator[httpx.AsyncClient]:
    made = await make(api, name, **bound)
    assert made.status_code == 201, made.text
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    async with httpx.AsyncClient(base_url=api.base_url, headers=headers) as client:
        yield client


def forbidden(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), answer.text
    return str(answer.json()["detail"])


async def everything(bot: Talker, job: dict[str, Any]) -> list[httpx.Response]:
    """All that can be said of a job."""
    return [
        await bot.beat(job),
        await bot.log(job, 0, "a"),
        await bot.part(job, 0, b"1", 1),
        await bot.report(job, "rejected"),
        await bot.report(job, result=1),
    ]


async def test_a_token_for_a_handler_runs_its_jobs_and_no_others(api, known_demo):
    [id_] = await submit(api)
    async with with_token(api, handlers=["demo"]) as mine:
        bot = Talker(mine)

        said = forbidden(await bot.ask(operations=["demo.echo", *OTHER]))

        assert said == "the token 'w' is for the handlers demo, not for 'other'"
        [job] = await bot.claim(wait_s=5)
        assert (await bot.beat(job)).status_code == 200
        assert (await bot.log(job, 0, "a")).status_code == 200
        assert (await bot.report(job, result=1)).status_code == 200
    await becomes(api, id_, "completed")


async def test_a_token_for_one_handler_says_nothing_of_the_jobs_of_another(api, known_demo):
    [id_] = await submit(api)
    [job] = await Talker(api).claim(wait_s=5)
    async with with_token(api, handlers=["other", "third"]) as theirs:
        for answer in await everything(Talker(theirs), job):
            assert forbidden(answer) == "the token 'w' is for the handlers other, third, not for 'demo'"
    await Talker(api).report(job, result=1)
    await becomes(api, id_, "completed")

    # Nor when the job is over.
    async with with_token(api, "again", handlers=["other"]) as theirs:
        for answer in await everything(Talker(theirs), job):
            forbidden(answer)


async def test_a_token_for_one_bot_can_not_be_another(api, known_demo):
    await submit(api)
    async with with_token(api, bot_id="b1") as mine:
        bot, stranger = Talker(mine, "b1"), Talker(mine, "b2")
        [job] = await bot.claim(wait_s=5)

        for answer in [await stranger.ask(), *await everything(stranger, job)]:
            assert forbidden(answer) == "the token 'w' is for the bot 'b1', not for 'b2'"

        assert (await bot.report(job, result=1)).status_code == 200


async def test_of_what_there_is_not_a_bound_token_hears_that(api, known_demo):
    async with with_token(api, handlers=["demo"]) as mine:
        nothing = {"id": "0" * 26, "token": 1}
        assert [answer.status_code for answer in await everything(Talker(mine), nothing)] == [404] * 5


async def test_two_tokens_that_share_a_bot_id_are_never_given_each_others_jobs(api, known_demo):
    """Whatever the one has in hand: a claim that names nothing would be given it again."""
    await submit(api)
    async with (
        with_token(api, "one", handlers=["demo"]) as one,
        with_token(api, "two", handlers=["other"]) as two,
    ):
        [job] = await Talker(one).claim(wait_s=5)

        assert await Talker(two).claim(10, operations=OTHER, running=[], wait_s=0.2) == []

        assert (await Talker(one).report(job, result=1)).json() == {"status": "recorded"}


async def test_a_token_without_a_binding_may_be_any_bot_and_run_any_job_and_so_may_those_made_before(api, tmp_path):
    async with with_token(api) as mine:
        assert (await Talker(mine, "any").ask(operations=["demo.echo", *OTHER])).status_code == 200
    listed = {one["name"]: one for one in (await api.get("/api/tokens")).json()["tokens"]}
    assert (listed["w"]["bot_id"], listed["w"]["handlers"]) == ("*", ["*"])
    assert (listed["admin"]["bot_id"], listed["admin"]["handlers"]) == ("*", ["*"])


async def test_a_binding_is_shown_and_outlives_a_restart(tmp_path):
    bound = {"bot_id": "b1", "handlers": ["demo", "reports"]}
    async with running_server(tmp_path / "s") as server, api_client(server) as api:
        made = (await make(api, **bound)).json()
        assert {name: made[name] for name in bound} == bound
    async with running_server(tmp_path / "s") as server, api_client(server) as api:
        listed = next(one for one in (await api.get("/api/tokens")).json()["tokens"] if one["name"] == "w")
        assert {name: listed[name] for name in bound} == bound
        headers = {"Authorization": f"Bearer {made['token']}"}
        body = {"bot_id": "b1", "operations": OTHER}
        forbidden(await api.post("/api/jobs/claim", json=body, headers=headers))


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"handlers": []}, "/handlers"),
        ({"handlers": None}, "/handlers"),
        ({"handlers": "demo"}, "/handlers"),
        ({"handlers": ["a b"]}, "/handlers/0"),
        ({"bot_id": ""}, "/bot_id"),
        ({"bot_id": "a b"}, "/bot_id"),
        ({"bot_id": None}, "/bot_id"),
        ({"role": "operator", "handlers": ["demo"]}, "/handlers"),
        ({"role": "viewer", "bot_id": "b1"}, "/bot_id"),
    ],
)
async def test_a_binding_that_can_not_be_is_a_400_with_its_place(api, fields, pointer):
    answer = await make(api, **fields)

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
