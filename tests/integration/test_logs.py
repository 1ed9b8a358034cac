"""Logs of jobs from end to end in one process: said on a node, stored on the server, read over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys

import pytest

from schedule_zero.clock import rfc3339
from schedule_zero.node import capture
from schedule_zero.web.api import logs as web_logs
from tests.integration.conftest import RunningNode, api_client, running_server, with_config
from tests.integration.log_bed import GATE, complete_log, log_of, texts_of
from tests.support import eventually

pytestmark = pytest.mark.anyio

TALK = "tests.integration.log_bed:TalkHandler"


@pytest.fixture(autouse=True)
def gate():
    GATE.clear()
    yield GATE
    GATE.set()


@pytest.fixture
async def node(start_node):
    return await start_node("n1", TALK, slots=8)


async def submit(api, method: str, **params) -> str:
    if not isinstance(sys.stdout, capture.JobStream):
        # pytest put its own streams there after the node's start.
        capture.uninstall()
        capture.install()
    body = {"handler_id": "talk", "job_method": method, "job_params": params}
    answer = await api.post("/api/executions", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["ids"][0]


async def over(api, execution_id: str) -> dict:
    answer = await api.get(f"/api/executions/{execution_id}", params={"wait_s": 30})
    return answer.json()


async def follow(api, execution_id: str, headers=None, **query) -> list[dict]:
    """All events of a stream, to its end."""
    events = []
    async with api.stream("GET", f"/api/executions/{execution_id}/logs/follow", params=query, headers=headers) as got:
        assert got.status_code == 200
        assert got.headers["content-type"].startswith("text/event-stream")
        event = {}
        async for line in got.aiter_lines():
            if not line:
                if "data" in event:
                    events.append(event)
                event = {}
                continue
            name, _, value = line.partition(": ")
            event[name] = json.loads(value) if name == "data" else value
    return events


def lines_of(events: list[dict]) -> list[str]:
    return [line["text"] for event in events if event["event"] == "log" for line in event["data"]["data"]["lines"]]


# --- what is captured ---------------------------------------------------------------------------------


async def test_whatever_a_job_says_it_with_is_in_its_log_with_stream_and_level(api, node):
    execution_id = await submit(api, "every_way")
    await complete_log(api, execution_id)
    page = await log_of(api, execution_id)
    said = [(line["stream"], line["level"], line["text"]) for line in page["lines"]]
    assert said[:5] == [
        ("stdout", None, "on stdout"),
        ("stderr", None, "on stderr"),
        ("log", "info", "by ctx.log rows=3 name='a b'"),
        ("log", "debug", "quietly"),
        ("log", "warning", "billing: by logging"),
    ]
    assert said[5] == ("log", "error", "billing: caught")
    assert said[-1] == ("log", "error", "ValueError: inner")
    assert all(line["at"].endswith("Z") for line in page["lines"])


async def test_a_hundred_thousand_lines_come_complete_and_in_order(api, node):
    execution_id = await submit(api, "count", lines=100_000)
    assert await complete_log(api, execution_id) == [f"line {number}" for number in range(100_000)]


async def test_jobs_that_print_at_once_do_not_mix(api, node):
    ids = {name: await submit(api, "count", lines=3_000, name=name) for name in ("a", "b", "c", "d")}
    for name, execution_id in ids.items():
        assert await complete_log(api, execution_id) == [f"{name} {number}" for number in range(3_000)]


async def test_what_has_no_line_feed_at_the_end_is_there(api, node):
    execution_id = await submit(api, "no_end")
    assert await complete_log(api, execution_id) == ["first", "no line feed"]


async def test_bytes_that_are_no_text_and_very_long_lines_can_be_read(api, node):
    execution_id = await submit(api, "garbage")
    texts = await complete_log(api, execution_id)
    assert texts[:2] == ["café \\xff\\xfe\0", "\\udc80 lone"]
    assert "".join(texts[2:]) == "x" * 100_000


async def test_tasks_and_threads_of_a_job_speak_into_its_log(api, node):
    first, second = await submit(api, "tasks"), await submit(api, "thread")
    texts = await complete_log(api, first)
    assert "to_thread" in texts
    assert [text for text in texts if text.startswith("a ")] == [f"a {n}" for n in range(50)]
    assert [text for text in texts if text.startswith("b ")] == [f"b {n}" for n in range(50)]
    assert await complete_log(api, second) == ["in the method", "in a thread"]


async def test_outside_a_job_the_streams_are_what_they_were(start_node, capsys):
    before = sys.stdout
    node = await start_node("n1", TALK)
    assert isinstance(sys.stdout, capture.JobStream)
    print("not a job's")
    await node.stop()
    assert sys.stdout is before
    assert "not a job's" in capsys.readouterr().out
    assert not any(isinstance(handler, capture.JobRecords) for handler in logging.getLogger().handlers)


async def test_a_silent_job_has_an_empty_complete_log_and_costs_no_row(api, node, server):
    execution_id = await submit(api, "pid")
    await over(api, execution_id)
    page = await log_of(api, execution_id)
    assert (page["lines"], page["complete"], page["total_lines"]) == ([], True, 0)
    assert server.dispatcher.stats.log_lines == 0


# --- reading ------------------------------------------------------------------------------------------


async def test_ranges_tails_and_searches(api, node):
    execution_id = await submit(api, "count", lines=20_000)
    await complete_log(api, execution_id)
    page = await log_of(api, execution_id, **{"from": 12_345, "limit": 3})
    assert [line["text"] for line in page["lines"]] == ["line 12345", "line 12346", "line 12347"]
    assert (page["next"], page["total_lines"], page["complete"]) == (12_348, 20_000, True)
    tail = await log_of(api, execution_id, tail=2)
    assert [line["text"] for line in tail["lines"]] == ["line 19998", "line 19999"]
    assert tail["next"] is None
    assert await texts_of(api, execution_id, grep="e 1999") == ["line 1999", *(f"line 1999{n}" for n in range(10))]
    found = await log_of(api, execution_id, grep="LINE 7", ignore_case="true", tail=1)
    assert [line["text"] for line in found["lines"]] == ["line 7999"]
    assert (await log_of(api, execution_id, grep="stdout"))["lines"] == []
    assert (await log_of(api, execution_id, stream="stderr"))["lines"] == []
    assert (await log_of(api, execution_id, level="debug"))["lines"] == []
    assert (await log_of(api, execution_id, **{"from": 20_000}))["lines"] == []
    assert (await log_of(api, execution_id, tail=0))["lines"] == []


async def test_plain_text_is_what_the_job_said_and_is_never_taken_for_html(api, node):
    execution_id = await submit(api, "say", lines=["<script>alert(1)</script>", "ü"])
    await complete_log(api, execution_id)
    answer = await api.get(f"/api/executions/{execution_id}/logs", params={"format": "text"})
    assert answer.text == "<script>alert(1)</script>\nü\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    first = await api.get(f"/api/executions/{execution_id}/logs", params={"format": "text", "limit": 1})
    assert first.headers["x-log-next"] == "1"


async def test_each_attempt_has_its_own_log(api, node):
    execution_id = await submit(api, "flaky")
    await over(api, execution_id)
    for attempt in (1, 2, 3):
        assert await complete_log(api, execution_id, attempt=attempt) == [f"attempt {attempt}"]
    assert (await log_of(api, execution_id))["attempt"] == 3


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"attempt": 2}, 404),
        ({"attempt": 0}, 400),
        ({"tail": 5, "from": 1}, 400),
        ({"limit": 0}, 400),
        ({"limit": 5001}, 400),
        ({"from": -1}, 400),
        ({"grep": ""}, 400),
        ({"level": "loud"}, 400),
        ({"stream": "stdin"}, 400),
        ({"format": "html"}, 400),
        ({"nonsense": 1}, 400),
    ],
)
async def test_wrong_questions_are_refused(api, node, query, status):
    execution_id = await submit(api, "pid")
    await over(api, execution_id)
    assert (await api.get(f"/api/executions/{execution_id}/logs", params=query)).status_code == status


async def test_an_unknown_execution_has_no_log(api, server):
    for path in ("logs", "logs/follow"):
        assert (await api.get(f"/api/executions/{'0' * 26}/{path}")).status_code == 404


async def test_one_that_waits_has_no_attempt_and_no_line(api, known_demo):
    answer = await api.post("/api/executions", json={"handler_id": "demo", "job_method": "noop"})
    page = await log_of(api, answer.json()["ids"][0])
    assert (page["attempt"], page["lines"], page["complete"]) == (0, [], False)


# --- following ----------------------------------------------------------------------------------------


async def test_two_clients_follow_one_job_while_it_runs(api, node):
    execution_id = await submit(api, "wait", lines=2)
    followers = [asyncio.create_task(follow(api, execution_id)) for _ in range(2)]
    await eventually(lambda: any(not task.done() for task in followers))

    async def two() -> bool:
        return (await log_of(api, execution_id))["total_lines"] == 2

    await eventually(two)
    GATE.set()
    for events in await asyncio.gather(*followers):
        assert lines_of(events) == ["before 0", "before 1", "after"]
        assert events[-1]["event"] == "end"
        assert events[-1]["data"]["data"] == {"status": "completed", "complete": True}


async def test_following_a_finished_one_gives_all_of_it_and_ends(api, node):
    execution_id = await submit(api, "count", lines=5_000)
    await complete_log(api, execution_id)
    assert lines_of(await follow(api, execution_id)) == [f"line {number}" for number in range(5_000)]
    assert lines_of(await follow(api, execution_id, tail=2)) == ["line 4998", "line 4999"]
    assert lines_of(await follow(api, execution_id, grep="line 49", **{"from": 4_990})) == [
        f"line {n}" for n in range(4_990, 5_000)
    ]


async def test_a_follower_goes_from_attempt_to_attempt(api, node):
    execution_id = await submit(api, "flaky")
    await over(api, execution_id)
    assert lines_of(await follow(api, execution_id, attempt=1)) == ["attempt 1", "attempt 2", "attempt 3"]


async def test_a_follower_that_comes_again_misses_nothing_and_gets_nothing_twice(api, node):
    execution_id = await submit(api, "count", lines=3_000)
    events = await follow(api, execution_id)
    chunks = [event for event in events if event["event"] == "log"]
    assert len(chunks) >= 2
    again = await follow(api, execution_id, headers={"Last-Event-ID": chunks[0]["id"]})
    assert lines_of(chunks[:1]) + lines_of(again) == [f"line {number}" for number in range(3_000)]
    refused = await api.get(f"/api/executions/{execution_id}/logs/follow", headers={"Last-Event-ID": "nonsense"})
    assert refused.status_code == 400


async def test_a_follower_of_a_failure_sees_its_last_words(api, node):
    execution_id = await submit(api, "fails")
    events = await follow(api, execution_id)
    assert lines_of(events) == ["about to fail"]
    assert events[-1]["data"]["data"]["status"] == "failed"


async def test_progress_is_in_the_stream_and_in_the_detail_with_what_is_left(api, node):
    execution_id = await submit(api, "steps")
    events = await follow(api, execution_id)
    told = [event["data"]["data"] for event in events if event["event"] == "progress"]
    assert told[-1]["percent"] == 30
    assert told[-1]["text"] == "step 30"
    assert told[0]["eta_s"] is None
    assert told[-1]["eta_s"] > 0


async def test_how_far_a_job_came_is_kept_with_the_attempt_that_said_so(api, node):
    execution_id = await submit(api, "comes_as_far_as", percent=63, text="loading table x")
    done = await over(api, execution_id)
    assert (done["status"], done["progress"]["percent"]) == ("completed", 63)
    assert done["progress"]["text"] == "loading table x"
    assert done["progress"]["eta_s"] is None
    assert done["created_at"] <= rfc3339(done["progress"]["at_us"]) <= done["stored_at"]
    assert [attempt["progress"]["percent"] for attempt in done["attempts"]] == [63]

    execution_id = await submit(api, "comes_as_far_as", percent=12.5, text="ä", fails=True)
    failed = await over(api, execution_id)
    assert (failed["status"], failed["progress"]) == ("failed", None)
    assert [(attempt["progress"] or {}).get("text") for attempt in failed["attempts"]] == ["ä\0\\udc80", None]


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_an_isolated_job_said_of_its_progress_just_before_its_end_is_kept(api, node, leaves):
    execution_id = await submit(api, "comes_as_far_as_apart", percent=63, text="loading table x", leaves=leaves)
    ended = await over(api, execution_id)
    assert ended["status"] == ("failed" if leaves else "completed")
    # A crash may take along what was said within the fifth of a second before, but never the first word.
    told = (ended["progress"]["percent"], ended["progress"]["text"])
    assert told in ([(1, "begun"), (63, "loading table x")] if leaves else [(63, "loading table x")])


async def test_a_follower_does_not_wait_for_ever_for_lines_that_died_with_their_node(api, node, server, monkeypatch):
    monkeypatch.setattr(web_logs, "LINGER_S", 0.1)
    execution_id = await submit(api, "count", lines=10)
    await complete_log(api, execution_id)
    view = await server.service.logs.read(execution_id, web_logs.Wanted(token=0))
    server.dispatcher.logs._awaited[view.token] = 20
    await server.store.write(_unfinish, execution_id)
    chunks = [
        chunk
        async for chunk in web_logs.frames(
            server.service.logs, execution_id, web_logs.Wanted(token=0), linger_s=0.1, look_s=0.05
        )
    ]
    assert b'"complete":false' in chunks[-1]


def _unfinish(tx, args):
    from sqlalchemy import update

    from schedule_zero.store.tables import log_chunks

    tx.execute(update(log_chunks).where(log_chunks.c.execution_id.in_(args)).values(last=0))
    return [None] * len(args)


# --- limits and mishaps -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def node_at(server, folder, *targets):
    from schedule_zero.node.host import NodeSettings, run_node

    stop = asyncio.Event()
    settings = NodeSettings(targets=list(targets), server=server.addresses.zmq, node_id="n1", slots=4, state_dir=folder)
    node = RunningNode("n1", asyncio.create_task(run_node(settings, stop=stop)), stop)
    await eventually(lambda: any(view.state == "online" for view in server.dispatcher.nodes()))
    try:
        yield node
    finally:
        await node.stop()


def limits(**values):
    from schedule_zero.config import LimitsConfig

    return with_config(limits=LimitsConfig(**values))


async def test_over_the_limit_there_is_a_marker_and_the_end(tmp_path):
    async with (
        running_server(tmp_path / "s", limits(log_bytes=50_000)) as server,
        api_client(server) as api,
        node_at(server, tmp_path, TALK),
    ):
        execution_id = await submit(api, "count", lines=50_000)
        texts = await complete_log(api, execution_id)
        assert texts[0] == "line 0"
        assert texts[-1] == "line 49999"
        assert [text for text in texts if "left out" in text]
        assert len(texts) < 10_000
        assert server.dispatcher.stats.log_lines_left_out + sum(t.startswith("line") for t in texts) == 50_000


async def test_with_a_limit_of_nothing_no_log_is_taken_and_jobs_print_where_they_did(tmp_path, capfd):
    async with (
        running_server(tmp_path / "s", limits(log_bytes=0)) as server,
        api_client(server) as api,
        node_at(server, tmp_path, TALK),
    ):
        execution_id = await submit(api, "say", lines=["to the console"])
        await over(api, execution_id)
        assert (await log_of(api, execution_id))["total_lines"] == 0
    assert "to the console" in capfd.readouterr().out


async def test_clearing_executions_takes_their_logs_along(api, node, server):
    execution_id = await submit(api, "say", lines=["x"])
    await complete_log(api, execution_id)
    await api.post("/api/executions/clear", json={})

    def rows(conn):
        from sqlalchemy import func, select

        from schedule_zero.store.tables import log_chunks

        return conn.execute(select(func.count()).select_from(log_chunks)).scalar_one()

    assert await server.store.read(rows) == 0
    assert (await api.get(f"/api/executions/{execution_id}/logs")).status_code == 404


async def test_a_flood_of_lines_holds_up_no_result(api, node):
    flood = await submit(api, "flood", megabytes=5)
    quick = await submit(api, "pid")
    assert (await over(api, quick))["status"] == "completed"
    assert (await over(api, flood))["status"] == "completed"
    assert len(await complete_log(api, flood)) == 25_000


async def test_a_node_that_stops_has_sent_what_its_jobs_said(api, node):
    execution_id = await submit(api, "count", lines=20_000)
    await over(api, execution_id)
    await node.stop()
    page = await log_of(api, execution_id, limit=1)
    assert (page["total_lines"], page["complete"]) == (20_000, True)


async def test_both_clients_read_and_follow(api, node, server):
    from schedule_zero import AsyncClient, Client

    execution_id = await submit(api, "say", lines=["one", "two", "three"])
    where = {"url": server.addresses.http, "token": (server.state_dir / "admin.token").read_text().strip()}
    async with AsyncClient(**where) as client:
        lines = [line async for line in client.follow_logs(execution_id)]
        assert [(line.attempt, line.line, line.text) for line in lines] == [
            (1, 0, "one"),
            (1, 1, "two"),
            (1, 2, "three"),
        ]
        page = await client.logs(execution_id, first=1, limit=1)
        assert ([line.text for line in page.lines], page.next, page.complete) == (["two"], 2, True)

    def blocking():
        with Client(**where) as client:
            return [line.text for line in client.follow_logs(execution_id, tail=1)], client.logs(execution_id, grep="t")

    texts, found = await asyncio.to_thread(blocking)
    assert texts == ["three"]
    assert [line.text for line in found.lines] == ["two", "three"]


async def test_an_isolated_job_speaks_into_its_log_as_any_other(api, node):
    execution_id = await submit(api, "apart", lines=5_000)
    assert (await over(api, execution_id))["status"] == "completed"
    texts = await complete_log(api, execution_id)
    assert texts[0] == "begun apart 0"
    assert texts[1:5_000] == [f"apart {number}" for number in range(1, 5_000)]
    assert texts[5_000:] == ["from another process pid=1", "no end \\udc80"]


async def test_an_isolated_job_may_return_a_large_result(api, node):
    execution_id = await submit(api, "large_apart", size=2_000_000)
    record = await over(api, execution_id)
    assert (record["status"], record["result_bytes"]) == ("completed", 2_000_002)


# --- what is written to descriptors --------------------------------------------------------------------


async def test_what_is_written_to_descriptors_is_in_the_log_in_its_order(api, node):
    execution_id = await submit(api, "by_descriptors", times=20)
    assert (await over(api, execution_id))["status"] == "completed"
    said = ["print", "by os.write", "by a child", "by a shell", "by ctx.log", "by C", "half a line, and the rest"]
    await complete_log(api, execution_id)
    log = await log_of(api, execution_id, limit=5000)
    lines = [(line["stream"], line["text"]) for line in log["lines"]]
    assert [text for stream, text in lines if stream != "stderr"] == [f"{n} {what}" for n in range(20) for what in said]
    on_stderr = [text for stream, text in lines if stream == "stderr"]
    assert on_stderr == [f"{n} {what}" for n in range(20) for what in ("on 2", "printed on stderr")]


@pytest.mark.parametrize(
    ("how", "error", "trace"),
    [
        ("exit", "exit code 3", []),
        ("crash", "SIGSEGV", ["Fatal Python error: Segmentation fault"]),
        ("kill", "SIGKILL", []),
        ("close", "closed", []),
    ],
)
async def test_the_last_words_of_a_worker_are_in_the_log_of_its_job(api, node, how, error, trace):
    execution_id = await submit(api, "last_words", how=how)
    ended = await over(api, execution_id)
    assert (ended["status"], ended["error"]["type"]) == ("failed", "WorkerDied")
    assert error in ended["error"]["message"]
    texts = await complete_log(api, execution_id)
    assert texts[:2] == ["print", "café \\xff\x00"]
    assert "no line feed" in texts
    assert all(any(text in line for line in texts) for text in trace)


async def test_an_async_job_that_closes_all_descriptors_is_told_so(api, node):
    ended = await over(api, await submit(api, "closes_all"))
    assert (ended["status"], ended["error"]["type"]) == ("failed", "WorkerDied")
    assert "closed descriptors that it had not opened" in ended["error"]["message"]


async def test_a_job_may_close_its_descriptors_and_the_next_one_has_them_again(api, node):
    first = await submit(api, "closes_descriptors")
    ended = await over(api, first)
    assert await complete_log(api, first) == ["before", "after, without a descriptor 1"]
    second = await submit(api, "by_descriptors")
    await over(api, second)
    assert ended["status"] == "completed"
    assert "0 by a child" in await complete_log(api, second)


async def test_a_child_that_goes_on_writing_neither_holds_the_worker_up_nor_speaks_into_another_log(api, node):
    first = await submit(api, "leaves_a_writer")
    ended = await over(api, first)
    assert ended["status"] == "completed"
    second = await submit(api, "apart", lines=3)
    after = await over(api, second)
    assert after["result"] != ended["result"]
    assert not any("stray" in text for text in await complete_log(api, second))
    await complete_log(api, first)


@pytest.mark.parametrize("how", ["exits", "returns"])
async def test_a_child_that_a_job_forks_speaks_into_its_log_and_ends_nothing_but_itself(api, node, how):
    execution_id = await submit(api, "forks", how=how)
    ended = await over(api, execution_id)
    assert ended["status"] == "completed"
    assert ended["result"] > 0
    assert ended["progress"] is None
    texts = await complete_log(api, execution_id)
    assert sorted(text for text in texts if "the child" in text) == ["the child", "the child logs"]
    assert texts[-1] == "the parent"
