"""What a bot sends in parts: its jobs' logs, and results that are too large for one request."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from msgspec import structs

from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch import log_intake, result_intake
from schedule_zero.store import logs
from schedule_zero.wire.messages import MAX_LOG_CHUNK, MAX_RESULT_CHUNK
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.integration.log_bed import log_of, texts_of
from tests.integration.test_http_bots import Bot, quick_server, shown, submit

pytestmark = pytest.mark.anyio

# Of a line as it is stored: 16 digits of time, two letters, two spaces, the line feed.
HEAD = 21


class Talker(Bot):
    """A bot that sends parts."""

    async def log(self, job: dict[str, Any], line: int, *lines: Any, **fields: Any) -> Any:
        body = {"bot_id": self.bot_id, "token": job["token"], "line": line, "lines": list(lines), **fields}
        return await self.api.post(f"/api/jobs/{job['id']}/log", json=body)

    async def part(self, job: dict[str, Any], offset: int, body: bytes, total: int, **fields: Any) -> Any:
        sent = {"bot_id": self.bot_id, "token": job["token"], "offset": offset, "total": total, **fields}
        sent["body"] = base64.b64encode(body).decode()
        return await self.api.post(f"/api/jobs/{job['id']}/result/part", json=sent)

    async def upload(self, job: dict[str, Any], document: bytes) -> None:
        upto = 0
        while upto < len(document):
            answer = await self.part(job, upto, document[upto : upto + MAX_RESULT_CHUNK], len(document))
            assert answer.status_code == 200, answer.text
            upto = answer.json()["upto"]


@pytest.fixture
async def bot(api, known_demo) -> Talker:
    return Talker(api)


@pytest.fixture
async def job(bot, api) -> dict[str, Any]:
    await submit(api)
    [job] = await bot.claim()
    return job


def error_of(answer: Any) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["error"]["code"], answer.json()["errors"][0]["pointer"]


# --- logs -------------------------------------------------------------------------------------------------


async def test_lines_are_read_while_the_job_runs_with_their_streams_levels_and_times(bot, api, job):
    said = {"text": "low on memory", "stream": "log", "level": "warning", "at": "2026-01-01T00:00:00.5Z"}
    first = await bot.log(job, 0, "on stdout", {"text": "on stderr", "stream": "stderr"}, said)

    assert first.json() == {"line": 3, "last": False}
    page = await log_of(api, job["id"])
    assert [(line["stream"], line["level"], line["text"]) for line in page["lines"]] == [
        ("stdout", None, "on stdout"),
        ("stderr", None, "on stderr"),
        ("log", "warning", "low on memory"),
    ]
    assert page["lines"][2]["at"] == "2026-01-01T00:00:00.500000Z"
    assert not page["complete"]


async def test_a_text_with_line_feeds_is_several_lines_and_the_last_feed_makes_none(bot, api, job):
    answer = await bot.log(job, 0, "a\nb\n", "", {"text": "c\n\n"}, "ä\0€")

    assert answer.json()["line"] == 6
    assert await texts_of(api, job["id"]) == ["a", "b", "", "c", "", "ä\0€"]


async def test_lines_that_are_sent_again_are_stored_once_and_those_that_come_too_early_not_at_all(bot, api, job):
    await bot.log(job, 0, "a", "b")

    answers = [await bot.log(job, 0, "a", "b"), await bot.log(job, 1, "b", "c"), await bot.log(job, 9, "j")]

    assert [answer.json()["line"] for answer in answers] == [2, 2, 2]
    assert (await bot.log(job, 2, "c")).json()["line"] == 3
    assert await texts_of(api, job["id"]) == ["a", "b", "c"]


async def test_copies_of_the_same_lines_at_once_are_stored_once(bot, api, job):
    answers = await asyncio.gather(*[bot.log(job, 0, "a", "b") for _ in range(5)])

    assert {answer.json()["line"] for answer in answers} == {2}
    assert await texts_of(api, job["id"]) == ["a", "b"]


async def test_a_log_goes_on_after_the_result_until_the_bot_says_that_it_is_complete(bot, api, job):
    await bot.log(job, 0, "before")
    await bot.report(job, log_lines=2)
    assert (await log_of(api, job["id"]))["complete"] is False

    assert (await bot.log(job, 1, "after", last=True)).json() == {"line": 2, "last": True}

    page = await log_of(api, job["id"])
    assert ([line["text"] for line in page["lines"]], page["complete"]) == (["before", "after"], True)
    # What follows the end changes nothing.
    assert (await bot.log(job, 2, "more")).json() == {"line": 2, "last": True}


async def test_a_log_may_end_without_another_line_and_asking_for_nothing_is_a_400(bot, api, job):
    assert error_of(await bot.log(job, 0)) == (400, "invalid_field", "/lines")
    assert (await bot.log(job, 0, last=True)).json() == {"line": 0, "last": True}


async def test_a_bot_whose_clock_is_ahead_says_nothing_in_the_future(bot, api, job):
    await bot.log(job, 0, {"text": "early", "at": 4_102_444_800})

    [line] = (await log_of(api, job["id"]))["lines"]
    assert line["at"] < "2100"


@pytest.mark.parametrize("over", [0, 1])
async def test_at_the_limit_of_one_request_lines_are_taken_and_one_byte_over_is_a_413_that_says_both(
    bot, api, job, over
):
    answer = await bot.log(job, 0, "x" * (MAX_LOG_CHUNK - HEAD + over))

    if over:
        assert error_of(answer) == (413, "too_large", "/lines")
        assert "262145 bytes" in answer.json()["detail"]
        assert "at most 262144" in answer.json()["detail"]
    else:
        assert answer.json()["line"] == 1
    # The next request is none the worse for it.
    assert (await bot.log(job, 1 - over, "y")).status_code == 200


@pytest.mark.parametrize("over", [0, 1])
async def test_at_the_limit_of_a_log_lines_are_taken_and_one_byte_over_is_a_413_that_says_both(
    tmp_path, monkeypatch, over
):
    monkeypatch.setattr(log_intake, "SLACK_BYTES", 100)
    config = with_config(limits=LimitsConfig(log_bytes=1000))
    async with running_server(tmp_path / "small", config) as server, api_client(server) as api:
        know_demo(server)
        bot = Talker(api)
        await submit(api)
        [job] = await bot.claim()
        assert (await bot.ask(batch_size=0)).json()["log_bytes"] == 1000
        await bot.log(job, 0, "x" * (1000 - HEAD))

        answer = await bot.log(job, 1, "y" * (100 - HEAD + over))

        if over:
            assert error_of(answer) == (413, "too_large", "/lines")
            assert "1100 bytes" in answer.json()["detail"]
            assert "1101" in answer.json()["detail"]
            assert error_of(await bot.log(job, 1, "y" * 100))[0] == 413
            assert (await bot.log(job, 1, last=True)).json() == {"line": 1, "last": True}
        else:
            assert answer.json()["line"] == 2
        assert (await bot.report(job)).json() == {"status": "recorded"}


async def test_a_server_that_keeps_no_logs_says_so(tmp_path):
    config = with_config(limits=LimitsConfig(log_bytes=0))
    async with running_server(tmp_path / "mute", config) as server, api_client(server) as api:
        know_demo(server)
        bot = Talker(api)
        await submit(api)
        [job] = await bot.claim()

        answer = await bot.log(job, 0, "a")

        assert (answer.status_code, answer.json()["detail"]) == (
            413,
            "this server keeps no logs: limits.log_bytes is 0",
        )


async def test_more_logs_than_may_wait_are_429_with_retry_after_and_nothing_of_them_is_stored(
    bot, api, job, monkeypatch
):
    monkeypatch.setattr(log_intake, "MAX_WAITING_BYTES", 10)

    answer = await bot.log(job, 0, "more than ten bytes")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    monkeypatch.undo()
    assert (await bot.log(job, 0, "again")).json()["line"] == 1
    assert await texts_of(api, job["id"]) == ["again"]


async def test_while_the_store_fails_lines_and_parts_are_not_acknowledged_and_come_again(bot, api, job, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "_append", full)
    answer = await bot.log(job, 0, "a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "retry-after" in answer.headers
    monkeypatch.undo()

    assert (await bot.log(job, 0, "a")).json()["line"] == 1


async def test_nobody_logs_for_another_or_for_an_attempt_that_there_is_not(bot, api, job):
    await bot.log(job, 0, "mine")
    other = Talker(api, "other")
    assert (await other.log(job, 1, "x")).status_code == 409
    await other.claim()

    refused = [
        await other.log(job, 1, "x"),
        await bot.log(job | {"token": job["token"] + 1}, 0, "x"),
        await bot.log(job | {"id": "0" * 26}, 0, "x"),
        await other.part(job, 0, b"1", 1),
        await bot.part(job | {"token": job["token"] + 1}, 0, b"1", 1),
        await bot.part(job | {"id": "0" * 26}, 0, b"1", 1),
    ]

    assert [answer.status_code for answer in refused] == [409, 404, 404, 409, 404, 404]
    assert {answer.json()["error"]["code"] for answer in refused} == {"lease_lost", "not_found"}
    assert await texts_of(api, job["id"]) == ["mine"]


async def test_over_http_nobody_adds_to_the_log_of_a_zeromq_node(api, start_node):
    await start_node("n1", "tests.integration.log_bed:TalkHandler")
    item = {"handler_id": "talk", "job_method": "say", "job_params": {"lines": ["by the node"]}}
    id_ = (await api.post("/api/executions", json=item)).json()["ids"][0]
    execution = (await api.get(f"/api/executions/{id_}", params={"wait_s": 20})).json()
    token = execution["attempts"][-1]["token"] if execution["attempts"] else 1

    answer = await Talker(api, "n1").log({"id": id_, "token": token}, 1, "by a stranger")

    assert answer.status_code in (404, 409)


async def test_a_log_outlives_a_restart_of_the_server(tmp_path):
    async with quick_server(tmp_path) as (_, api):
        bot = Talker(api)
        await submit(api)
        [job] = await bot.claim()
        await bot.log(job, 0, "before")
    async with quick_server(tmp_path) as (_, api):
        again = Talker(api)

        assert (await again.log(job, 0, "before")).json()["line"] == 1
        assert (await again.log(job, 1, "after", last=True)).json() == {"line": 2, "last": True}
        assert await texts_of(api, job["id"]) == ["before", "after"]


# --- large results ----------------------------------------------------------------------------------------


@pytest.fixture
async def server(tmp_path):
    config = with_config(limits=structs.replace(LimitsConfig(), result_bytes=1_000, big_result_bytes=300_000))
    async with running_server(tmp_path / "server", config) as server:
        yield server


def document(size: int) -> bytes:
    """JSON of exactly so many bytes, some of them in the middle of a character where parts end."""
    text = ("ä" * size)[: (size - 2) // 2] + "x" * (size % 2)
    return json.dumps(text, ensure_ascii=False).encode()


async def test_a_claim_says_how_large_results_may_be(bot):
    answer = (await bot.ask(batch_size=0)).json()
    assert (answer["result_bytes"], answer["big_result_bytes"]) == (1_000, 300_000)


async def test_a_result_in_parts_is_whole_when_it_is_asked_for(bot, api, job):
    whole = document(300_000)
    assert len(whole) == 300_000
    await bot.upload(job, whole)

    answer = await bot.report(job, result_bytes=len(whole))

    assert answer.json() == {"status": "recorded"}
    execution = await shown(api, job["id"])
    assert (execution["status"], execution["result"], execution["result_bytes"]) == ("completed", None, 300_000)
    assert (await api.get(f"/api/executions/{job['id']}/result")).content == whole
    assert (await bot.report(job, result_bytes=len(whole))).json() == {"status": "duplicate"}


async def test_parts_that_are_sent_again_or_too_early_change_nothing(bot, api, job):
    whole = document(5_000)
    answers = [
        await bot.part(job, 0, whole[:2_000], 5_000),
        await bot.part(job, 0, whole[:2_000], 5_000),
        await bot.part(job, 1_000, whole[1_000:3_000], 5_000),
        await bot.part(job, 4_000, whole[4_000:], 5_000),
        await bot.part(job, 2_000, whole[2_000:], 5_000),
    ]

    assert [answer.json()["upto"] for answer in answers] == [2_000, 2_000, 2_000, 2_000, 5_000]
    await bot.report(job, result_bytes=5_000)
    assert (await api.get(f"/api/executions/{job['id']}/result")).content == whole


async def test_a_report_before_all_parts_are_there_is_a_409_that_says_how_many_are(bot, api, job):
    whole = document(5_000)
    await bot.part(job, 0, whole[:2_000], 5_000)

    answer = await bot.report(job, result_bytes=5_000)

    problem = answer.json()
    assert (answer.status_code, problem["error"]["code"], problem["upto"]) == (409, "result_incomplete", 2_000)
    assert "2000 of 5000" in problem["detail"]
    assert (await shown(api, job["id"]))["status"] == "running"
    await bot.part(job, 2_000, whole[2_000:], 5_000)
    assert (await bot.report(job, result_bytes=5_000)).json() == {"status": "recorded"}


@pytest.mark.parametrize("over", [0, 1])
async def test_at_the_limit_of_one_part_it_is_taken_and_one_byte_over_is_a_413_that_says_both(bot, job, over):
    answer = await bot.part(job, 0, b"x" * (MAX_RESULT_CHUNK + over), 300_000)

    if over:
        assert error_of(answer) == (413, "too_large", "/body")
        assert "131073 bytes, at most 131072" in answer.json()["detail"]
    else:
        assert answer.json()["upto"] == MAX_RESULT_CHUNK


@pytest.mark.parametrize("over", [0, 1])
async def test_at_the_limit_of_a_result_its_parts_are_taken_and_one_byte_over_is_a_413_that_says_both(bot, job, over):
    answer = await bot.part(job, 0, b"x", 300_000 + over)

    if over:
        assert error_of(answer) == (413, "too_large", "/total")
        assert "300001 bytes as JSON, at most 300000" in answer.json()["detail"]
    else:
        assert answer.json()["upto"] == 1


async def test_a_result_that_says_to_be_larger_than_any_may_be_fails_the_job_as_one_in_one_piece_does(bot, api, job):
    await bot.report(job, result_bytes=300_001)

    execution = await shown(api, job["id"])
    assert (execution["status"], execution["error"]["type"]) == ("failed", "ResultTooLarge")


async def test_a_large_result_opens_no_place_that_no_claim_asked_for(bot, api, job):
    [waiting] = await submit(api)
    await bot.upload(job, document(2_000))

    await bot.report(job, result_bytes=2_000)

    assert (await shown(api, waiting))["status"] == "pending"
    [second] = await bot.claim()
    assert second["id"] == waiting


async def test_parts_of_an_attempt_that_is_over_are_not_wanted(bot, job):
    await bot.report(job, result=1)

    answer = await bot.part(job, 0, b"1", 1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "lease_lost")


async def test_more_parts_than_may_wait_are_429(bot, job, monkeypatch):
    monkeypatch.setattr(result_intake, "MAX_WAITING_BYTES", 1)

    answer = await bot.part(job, 0, b"x" * 50, 50)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


PART = {"bot_id": "bot", "token": 1, "offset": 0, "total": 3, "body": "eHh4"}
LOG = {"bot_id": "bot", "token": 1, "line": 0, "lines": ["a"]}
BAD_PARTS = {
    "empty": {},
    "no offset": {key: value for key, value in PART.items() if key != "offset"},
    "offset negative": PART | {"offset": -1},
    "offset a text": PART | {"offset": "0"},
    "total zero": PART | {"total": 0},
    "total less than what comes": PART | {"total": 2},
    "beyond the total": PART | {"offset": 1},
    "body empty": PART | {"body": ""},
    "body no Base64": PART | {"body": "%%%"},
    "body null": PART | {"body": None},
    "unknown field": PART | {"bytes": 3},
}
BAD_LOGS = {
    "empty": {},
    "no line": {"bot_id": "bot", "token": 1, "lines": ["a"]},
    "line negative": LOG | {"line": -1},
    "line a text": LOG | {"line": "0"},
    "lines null": LOG | {"lines": None},
    "lines a text": LOG | {"lines": "a"},
    "a line a number": LOG | {"lines": [1]},
    "no lines and not the last": LOG | {"lines": []},
    "an unknown stream": LOG | {"lines": [{"text": "a", "stream": "stdin"}]},
    "an unknown level": LOG | {"lines": [{"text": "a", "level": "loud"}]},
    "a line without text": LOG | {"lines": [{"stream": "stdout"}]},
    "at without a zone": LOG | {"lines": [{"text": "a", "at": "2026-01-01T00:00:00"}]},
    "last a text": LOG | {"last": "yes"},
    "unknown field": LOG | {"text": "a"},
}
BAD_REPORTS = {
    "of a failure": {"status": "failed", "result_bytes": 5},
    "beside a result": {"status": "completed", "result_bytes": 5, "result": 1},
    "negative": {"status": "completed", "result_bytes": -1},
    "log_lines negative": {"status": "completed", "log_lines": -1},
}


async def test_what_is_missing_null_unknown_or_malformed_is_a_400_with_its_place(bot, api, job):
    path = f"/api/jobs/{job['id']}"
    reports = {name: {"bot_id": "bot", "token": job["token"], **body} for name, body in BAD_REPORTS.items()}
    for verb, bodies in (("result/part", BAD_PARTS), ("log", BAD_LOGS), ("result", reports)):
        for name, body in bodies.items():
            answer = await api.post(f"{path}/{verb}", json=body)
            assert answer.status_code == 400, (verb, name, answer.text)
            assert "pointer" in answer.json()["errors"][0], (verb, name)
    assert await texts_of(api, job["id"]) == []
    assert (await shown(api, job["id"]))["status"] == "running"
