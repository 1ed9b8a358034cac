"""Executions over HTTP: submit, wait, page, cancel, retry, clear; and bad input, which changes nothing."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from schedule_zero.node import runner
from tests.support import eventually

pytestmark = pytest.mark.anyio

ULID = "01jd3zq8m2x4v6t8r0p2n4m6k8"
NOOP = {"handler_id": "demo", "job_method": "noop"}
FAR = "2999-01-01T00:00:00Z"


async def ended(api: httpx.AsyncClient, id_: str) -> dict:
    return (await api.get(f"/api/executions/{id_}", params={"wait_s": 10})).json()


async def submit(api: httpx.AsyncClient, *items: dict, **headers: str) -> list[str]:
    answer = await api.post("/api/executions", json={"executions": list(items)}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["ids"]


async def started(api: httpx.AsyncClient, id_: str) -> bool:
    return (await api.get(f"/api/executions/{id_}")).json()["started_at"] is not None


# --- with a node ------------------------------------------------------------------------------------


async def test_a_job_is_submitted_run_and_shown_with_everything_that_is_known(api, start_node):
    await start_node("n1")
    answer = await api.post(
        "/api/executions",
        json={
            "handler_id": "demo",
            "job_method": "add",
            "job_params": {"a": 1, "b": 2.5},
            "options": {"priority": 7},
            "idempotency_key": "my-key",
        },
    )
    assert answer.status_code == 202
    [id_] = answer.json()["ids"]

    shown = await ended(api, id_)

    assert shown["status"] == "completed"
    assert shown["result"] == 3.5
    assert shown["error"] is None
    assert shown["job_params"] == {"a": 1, "b": 2.5}
    assert shown["idempotency_key"] == "my-key"
    assert (shown["node_id"], shown["attempt"], shown["priority"], shown["origin"]) == ("n1", 1, 7, "submit")
    assert (shown["schedule_id"], shown["job_id"]) == (None, None)
    [attempt] = shown["attempts"]
    assert (attempt["attempt"], attempt["node_id"], attempt["outcome"]) == (1, "n1", "completed")
    assert attempt["token"] == shown["fence_token"]
    times = [shown[name] for name in ("created_at", "dispatched_at", "started_at", "finished_at", "stored_at")]
    assert all(time.endswith("Z") and len(time) == 27 for time in times)
    assert shown["duration_ms"] >= 0


async def test_ids_come_in_the_order_of_the_request(api, start_node):
    await start_node("n1")
    ids = await submit(api, *({**NOOP, "job_method": "echo", "job_params": {"n": n}} for n in range(50)))

    shown = [await ended(api, id_) for id_ in ids]

    assert [one["result"] for one in shown] == [{"n": n} for n in range(50)]


async def test_a_job_that_fails_shows_its_error(api, start_node):
    await start_node("n1")
    [id_] = await submit(api, {**NOOP, "job_method": "fail", "job_params": {"message": "no luck"}})

    shown = await ended(api, id_)

    assert shown["status"] == "failed"
    assert shown["error"]["type"] == "RuntimeError"
    assert shown["error"]["message"] == "no luck"
    assert "no luck" in shown["error"]["traceback"]
    listed = (await api.get("/api/executions/errors")).json()
    assert [one["id"] for one in listed["errors"]] == [id_]


async def test_every_attempt_is_shown_oldest_first(api, start_node):
    await start_node("n1")
    [id_] = await submit(
        api, {**NOOP, "job_method": "flaky", "job_params": {"fail_times": 2}, "options": {"retry_delay_s": 0}}
    )

    shown = await ended(api, id_)

    assert shown["status"] == "completed"
    assert shown["attempt"] == 3
    assert [(one["attempt"], one["outcome"]) for one in shown["attempts"]] == [
        (1, "failed"),
        (2, "failed"),
        (3, "completed"),
    ]


async def test_what_is_in_force_is_shown_with_who_said_it_and_decides_about_retries(api, start_node):
    await start_node("n1")
    grown = {"backoff": "list", "retry_delays_s": [0, 0.05], "give_up_on": ["ConnectionResetError"]}
    job = {**NOOP, "job_method": "flaky", "job_params": {"fail_times": 3}}
    [retried] = await submit(api, {**job, "options": {**grown, "retry_on": ["dependency"]}})
    [given_up] = await submit(api, {**job, "options": {"give_up_on": ["OSError"]}})

    shown, ended_at_once = await ended(api, retried), await ended(api, given_up)

    assert (shown["status"], shown["attempt"]) == ("completed", 4)
    options = shown["options"]
    assert (options["max_attempts"], options["retry_delays_s"], options["retry_on"]) == (5, [0, 0.05], ["dependency"])
    assert options["sources"] == dict.fromkeys([*grown, "retry_on"], "submission") | {
        "max_attempts": "method",
        "retry_delay_s": "method",
    }
    assert (ended_at_once["status"], ended_at_once["attempt"]) == ("failed", 1)
    error = ended_at_once["error"]
    assert (error["type"], error["category"], error["bases"]) == ("ConnectionError", "dependency", ["OSError"])


async def test_a_running_job_is_cancelled_by_way_of_its_node(api, start_node):
    await start_node("n1")
    [id_] = await submit(api, {**NOOP, "job_method": "sleep", "job_params": {"seconds": 60}})

    async def runs() -> bool:
        return (await api.get(f"/api/executions/{id_}")).json()["started_at"] is not None

    await eventually(runs)

    answer = await api.post(f"/api/executions/{id_}/cancel")

    assert answer.status_code == 202
    assert answer.json()["outcome"] == "requested"
    assert (await ended(api, id_))["status"] == "cancelled"
    assert (await api.post(f"/api/executions/{id_}/cancel")).json()["outcome"] == "terminal"


async def test_a_cancel_ends_although_the_job_takes_no_notice_of_it(api, start_node, monkeypatch):
    monkeypatch.setattr(runner, "PLAIN_GRACE_S", 0.1)
    await start_node("n1", "schedule_zero.testbed.chaos:ChaosHandler")
    [id_] = await submit(api, {"handler_id": "chaos", "job_method": "hang", "job_params": {"seconds": 2}})
    await eventually(lambda: started(api, id_))

    assert (await api.post(f"/api/executions/{id_}/cancel")).json()["outcome"] == "requested"
    shown = await ended(api, id_)

    assert shown["status"] == "cancelled"
    assert "did not stop, and holds a slot of node 'n1' until it ends" in shown["error"]["message"]
    assert [one["outcome"] for one in shown["attempts"]] == ["cancelled"]


async def test_retry_is_a_new_execution_of_the_same_work(api, start_node):
    await start_node("n1")
    [id_] = await submit(api, {**NOOP, "job_method": "fail", "job_params": {"message": "again"}})
    await ended(api, id_)

    answer = await api.post(f"/api/executions/{id_}/retry")

    assert answer.status_code == 201
    again = await ended(api, answer.json()["id"])
    assert answer.headers["location"] == f"/api/executions/{again['id']}"
    assert (again["parent_id"], again["origin"], again["error"]["message"]) == (id_, "retry", "again")


async def test_a_large_result_is_left_out_of_lists_and_named(api, start_node):
    await start_node("n1")
    [id_] = await submit(api, {**NOOP, "job_method": "echo", "job_params": {"text": "a" * 20_000}})
    whole = await ended(api, id_)

    [listed] = (await api.get("/api/executions")).json()["records"]

    assert len(whole["result"]["text"]) == 20_000
    assert listed["result"] is None
    assert listed["omitted"] == ["result"]


async def test_clear_forgets_what_is_over_and_nothing_else(api, start_node):
    await start_node("n1")
    [over] = await submit(api, NOOP)
    await ended(api, over)
    [later] = await submit(api, {**NOOP, "not_before": FAR})

    assert (await api.post("/api/executions/clear", json={"before": "2020-01-01T00:00:00Z"})).json()["cleared"] == 0
    answer = await api.post("/api/executions/clear")

    assert answer.json() == {"status": "success", "cleared": 1}
    assert (await api.get(f"/api/executions/{over}")).status_code == 404
    assert (await api.get(f"/api/executions/{later}")).status_code == 200
    stats = (await api.get("/api/executions/stats")).json()
    assert (stats["total_executions"], stats["lifetime_executions"]) == (1, 2)


async def test_stats_count_by_status_and_handler(api, start_node):
    await start_node("n1")
    for id_ in await submit(api, NOOP, NOOP, {**NOOP, "job_method": "fail"}):
        await ended(api, id_)

    stats = (await api.get("/api/executions/stats")).json()

    assert stats["success_count"] == 2
    assert stats["error_count"] == 1
    assert stats["success_rate"] == pytest.approx(2 / 3)
    assert stats["avg_duration_ms"] >= 0
    assert stats["handler_stats"]["demo"]["total"] == 3


async def test_a_long_poll_answers_as_soon_as_it_is_over(api, start_node):
    [id_] = await submit_before_there_is_a_node(api, start_node)
    waiting = asyncio.create_task(ended(api, id_))

    assert (await waiting)["status"] == "completed"


async def submit_before_there_is_a_node(api: httpx.AsyncClient, start_node) -> list[str]:
    node = await start_node("n1")
    await node.stop()
    ids = await submit(api, NOOP)
    await start_node("n1")
    return ids


# --- without one ------------------------------------------------------------------------------------


async def test_a_long_poll_whose_time_is_up_answers_as_it_is(api, known_demo):
    [id_] = await submit(api, NOOP)

    answer = await api.get(f"/api/executions/{id_}", params={"wait_s": 0.01})

    assert answer.status_code == 200
    assert answer.json()["status"] == "pending"


async def test_what_waits_is_cancelled_at_once(api, known_demo):
    pending, later = await submit(api, NOOP, {**NOOP, "not_before": FAR})

    for id_ in (pending, later):
        answer = await api.post(f"/api/executions/{id_}/cancel")
        assert (answer.status_code, answer.json()["outcome"]) == (200, "cancelled")
        assert (await api.get(f"/api/executions/{id_}")).json()["status"] == "cancelled"


async def test_a_later_one_is_scheduled(api, known_demo):
    [id_] = await submit(api, {**NOOP, "not_before": FAR})

    shown = (await api.get(f"/api/executions/{id_}")).json()

    assert shown["status"] == "scheduled"
    assert shown["not_before"] == "2999-01-01T00:00:00.000000Z"


async def test_what_is_not_over_can_not_be_retried(api, known_demo):
    [id_] = await submit(api, NOOP)

    assert (await api.post(f"/api/executions/{id_}/retry")).status_code == 409


async def test_a_repetition_with_the_same_key_gets_the_first_answer(api, known_demo):
    first = await api.post("/api/executions", json=NOOP, headers={"Idempotency-Key": "k1"})
    second = await api.post("/api/executions", json=NOOP, headers={"Idempotency-Key": "k1"})
    other = await api.post("/api/executions", json=NOOP, headers={"Idempotency-Key": "k2"})

    assert second.status_code == first.status_code
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert other.json() != first.json()
    assert (await api.get("/api/executions")).json()["count"] == 2


async def test_the_same_key_with_another_request_is_refused(api, known_demo):
    await api.post("/api/executions", json=NOOP, headers={"Idempotency-Key": "k1"})

    answer = await api.post("/api/executions", json={**NOOP, "job_method": "fail"}, headers={"Idempotency-Key": "k1"})

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_mismatch"
    assert (await api.get("/api/executions")).json()["count"] == 1


async def test_the_key_for_the_job_deduplicates_nothing_and_says_so(api, known_demo):
    for _ in range(2):
        await api.post("/api/executions", json={**NOOP, "idempotency_key": "invoice-7"})

    page = (await api.get("/api/executions")).json()
    shown = (await api.get("/api/openapi.json")).json()["components"]["schemas"]["SubmitBody"]

    assert page["count"] == 2
    assert "header `Idempotency-Key`" in json.dumps(shown["properties"]["idempotency_key"])


async def test_repetitions_at_the_same_moment_make_one_execution(api, known_demo):
    answers = await asyncio.gather(
        *(api.post("/api/executions", json=NOOP, headers={"Idempotency-Key": "k1"}) for _ in range(8))
    )

    assert len({answer.json()["ids"][0] for answer in answers}) == 1
    assert (await api.get("/api/executions")).json()["count"] == 1


async def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repetition(api, known_demo):
    ids = await submit(api, *[NOOP] * 25)
    # Only what was there before the first page is promised.
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/api/executions", params={"limit": 10, **cursor})).json()
        seen += [record["id"] for record in page["records"]]
        assert page["count"] == len(page["records"])
        assert page["limit"] == 10
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        await submit(api, NOOP)

    assert seen == ids[::-1]


async def test_filters_choose(api, known_demo):
    noop, fail = await submit(api, NOOP, {**NOOP, "job_method": "fail", "not_before": FAR})

    async def found(**query: str) -> list[str]:
        answer = await api.get("/api/executions", params=query)
        assert answer.status_code == 200, answer.text
        return [record["id"] for record in answer.json()["records"]]

    assert await found(handler_id="demo") == [fail, noop]
    assert await found(handler_id="other") == []
    assert await found(job_method="fail") == [fail]
    assert await found(status="pending") == [noop]
    assert await found(status="pending,scheduled") == [fail, noop]
    assert await found(since=FAR) == []
    assert await found(until="2000-01-01T00:00:00Z") == []
    assert await found(node_id="n1") == []
    assert await found(job_id="x") == await found(schedule_id="x") == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("cursor=nonsense", "cursor"),
        ("status=done", "status"),
        ("since=yesterday", "since"),
        ("handler_id=a%20b", "handler_id"),
        ("job_id=a&schedule_id=b", "job_id"),
        ("sort=asc", "sort"),
    ],
)
async def test_a_bad_query_names_its_parameter(api, query, parameter):
    answer = await api.get(f"/api/executions?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == parameter


async def test_an_unknown_execution_is_not_found(api):
    for method, path in [
        ("GET", f"/api/executions/{ULID}"),
        ("GET", f"/api/executions/{ULID}?wait_s=5"),
        ("POST", f"/api/executions/{ULID}/cancel"),
        ("POST", f"/api/executions/{ULID}/retry"),
        ("GET", "/api/executions/nonsense"),
    ]:
        assert (await api.request(method, path)).status_code == 404


# --- bad input ------------------------------------------------------------------------------------

NOOP_JSON = b'"handler_id":"demo","job_method":"noop"'

BAD_INPUT = [
    (b"{", 400, "malformed_json", ""),
    (b"", 400, "malformed_json", ""),
    (b'{%s,"job_params":{"a":NaN}}' % NOOP_JSON, 400, "malformed_json", ""),
    (b'{%s,"job_params":{"a":1e999}}' % NOOP_JSON, 400, "invalid_field", "/job_params/a"),
    (b'{%s,"job_params":{"a":"\xff"}}' % NOOP_JSON, 400, "malformed_json", ""),
    (b'{%s,"job_params":{"a":"\\ud800"}}' % NOOP_JSON, 400, "malformed_json", ""),
    (b'{%s,"job_params":%s1%s}' % (NOOP_JSON, b'{"a":' * 70, b"}" * 70), 400, "too_deep", "/job_params" + "/a" * 63),
    (b'{%s,"job_params":[]}' % NOOP_JSON, 400, "invalid_params", "/job_params"),
    (b'{%s,"job_params":null}' % NOOP_JSON, 400, "invalid_params", "/job_params"),
    (b'{%s,"job_params":{"a":1}}' % NOOP_JSON, 400, "invalid_params", "/job_params"),
    (b'{%s,"colour":"red"}' % NOOP_JSON, 400, "invalid_field", "/colour"),
    (b'{"handler_id":"demo"}', 400, "invalid_field", "/job_method"),
    (b'{"handler_id":"nobody","job_method":"noop"}', 404, "unknown_handler", "/handler_id"),
    (b'{"handler_id":"demo","job_method":"nothing"}', 400, "unknown_method", "/job_method"),
    (b'{%s,"job_params":{"a":"%s"}}' % (NOOP_JSON, b"a" * 300_000), 413, "too_large", "/job_params"),
    (b'{"executions":[{%s},{%s,"x":1}]}' % (NOOP_JSON, NOOP_JSON), 400, "invalid_field", "/executions/1/x"),
    (b'{"executions":[{%s},{"handler_id":"demo","job_method":"nothing"}]}' % NOOP_JSON, 400, "unknown_method",
     "/executions/1/job_method"),
    (b'{"executions":[{"handler_id":"demo","job_method":"nothing"}]}', 400, "unknown_method",
     "/executions/0/job_method"),
    (b'{"executions":[{%s},{%s,"job_params":{"a":1e999}}]}' % (NOOP_JSON, NOOP_JSON), 400, "invalid_field",
     "/executions/1/job_params/a"),
    (b'{"executions":[%s]}' % b",".join([b"{%s}" % NOOP_JSON] * 10_001), 413, "too_large", "/executions"),
    (b'{"executions":[]}', 400, "invalid_field", "/executions"),
]  # fmt: skip


async def test_bad_input_is_refused_with_a_pointer_and_changes_nothing(server, api, known_demo):
    before = server.hub.last_seq
    for body, status, code, pointer in BAD_INPUT:
        answer = await api.post("/api/executions", content=body, headers={"Content-Type": "application/json"})

        problem = answer.json()
        assert (answer.status_code, problem["error"]["code"]) == (status, code), (body[:100], problem)
        assert answer.headers["content-type"] == "application/problem+json"
        if pointer or body:
            assert problem["errors"][0]["pointer"].startswith(pointer), (body[:100], problem)
    assert (await api.get("/api/executions")).json()["count"] == 0
    assert server.hub.last_seq == before


async def test_parameters_go_through_unchanged(api, start_node):
    await start_node("n1")
    params = '{"b":1.10,"a":"\\u00e9\\ud83d\\ude00","big":123456789012345678,"deep":[[[{}]]]}'
    answer = await api.post(
        "/api/executions",
        content=f'{{"handler_id":"demo","job_method":"echo","job_params":{params}}}',
        headers={"Content-Type": "application/json"},
    )
    [id_] = answer.json()["ids"]
    await ended(api, id_)

    text = (await api.get(f"/api/executions/{id_}")).text

    assert f'"job_params":{params}' in text
    assert json.loads(text)["result"] == json.loads(params)
