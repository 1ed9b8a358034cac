"""Dead letters: what failed for good waits in groups, is run again once, edited or at a rate, or is put aside."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from schedule_zero.model import State
from schedule_zero.service.requeues import BATCH
from schedule_zero.store import dead_letters, executions
from tests.integration.conftest import TEST_CONFIG, api_client, know_demo, running_server
from tests.store.builders import end_item, running
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

FAIL = {"handler_id": "demo", "job_method": "fail"}


async def fail(api, *messages, **more):
    """Run ``demo.fail`` for each message to its end; the ids."""
    items = [{**FAIL, "job_params": {"message": message}, **more} for message in messages]
    ids = (await api.post("/api/executions", json={"executions": items})).json()["ids"]
    for id_ in ids:
        assert (await shown(api, id_, wait_s=10))["status"] == "failed"
    return ids


async def shown(api, id_, **query):
    return (await api.get(f"/api/executions/{id_}", params=query)).json()


async def groups(api, **query):
    answer = await api.get("/api/dead-letters", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["groups"]


async def requeue(api, status, **body):
    headers = body.pop("headers", None)
    answer = await api.post("/api/dead-letters/requeue", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json() if status < 400 else problem(answer)


def problem(answer):
    """What is wrong, and where."""
    document = answer.json()
    return {"code": document["error"]["code"]} | (document.get("errors") or [{}])[0]


GROUP = "demo.fail:aaaaaaaaaaaaaaaa"


async def put_letters(server, count, *, method="fail", state=State.FAILED, letter=GROUP, **fields):
    """As if so many had failed: ``count`` letters of one group; their ids."""
    token = server.store.epoch << 32 | 1 << 30
    found = await server.store.read(dead_letters.newest_seq)
    ids = [f"01{found + n:024d}" for n in range(count)]
    rows = [running(id_, token + found + n, job_method=method, **fields) for n, id_ in enumerate(ids)]
    await server.store.write(executions.insert, executions.Insert(rows=rows))
    ends = [
        end_item(row.id, row.token, state, job_method=method, handler_id=row.handler_id, dead_letter=letter)
        for row in rows
    ]
    assert await server.store.write(executions.end, ends) == {}
    return ids


async def children(server, parent_id):
    """The executions that took its place."""
    page = await server.store.read(lambda conn: executions.find(conn, executions.Filter(limit=5_000)))
    return [row for row in page.rows if row.parent_id == parent_id]


# --- with a node ------------------------------------------------------------------------------------


async def test_what_fails_for_good_is_a_dead_letter_in_the_group_of_what_failed_alike(api, start_node):
    await start_node()
    first, second, other = await fail(api, "order 17 is bad", "order 18 is bad", "no connection")

    one, two = sorted(await groups(api), key=lambda group: -group["count"])

    assert (one["count"], one["handler_id"], one["job_method"]) == (2, "demo", "fail")
    assert (one["error_type"], one["message"]) == ("RuntimeError", "order 18 is bad")
    assert one["sample_ids"] == [second, first]
    assert one["first_seen"] <= one["last_seen"]
    assert (two["count"], two["sample_ids"]) == (1, [other])
    page = (await api.get("/api/dead-letters/executions", params={"group": one["id"]})).json()
    assert [record["id"] for record in page["records"]] == [second, first]
    assert (await shown(api, first))["dead_letter"] == one["id"]


async def test_what_is_tried_again_is_none_until_its_last_attempt(api, start_node, server):
    await start_node()
    body = {**FAIL, "options": {"max_attempts": 2, "retry_delay_s": 3600}}
    [id_] = (await api.post("/api/executions", json=body)).json()["ids"]

    async def waits():
        return (await shown(api, id_))["status"] == "retry_scheduled"

    await eventually(waits)
    assert await groups(api) == []
    assert (await shown(api, id_))["dead_letter"] is None


async def test_what_is_given_up_is_one_however_many_attempts_were_left(api, start_node):
    await start_node()
    await fail(api, "x", options={"max_attempts": 9, "give_up_on": ["RuntimeError"]})
    assert [group["count"] for group in await groups(api)] == [1]


async def test_a_requeued_letter_runs_again_with_its_options_and_is_none_any_more(api, start_node):
    await start_node()
    [old] = await fail(api, "x", options={"priority": 9, "timeout_s": 77})

    answer = await requeue(api, 201, ids=[old])

    [new] = answer["ids"]
    again = await shown(api, new, wait_s=10)
    assert (again["parent_id"], again["origin"], again["status"]) == (old, "retry", "failed")
    assert (again["priority"], again["options"]["timeout_s"]) == (9, 77)
    assert (await shown(api, old))["dead_letter"] is None
    # It failed again: one letter, the new one.
    assert [(group["count"], group["sample_ids"]) for group in await groups(api)] == [(1, [new])]


async def test_a_single_letter_is_edited_and_requeued(api, start_node):
    await start_node()
    [old] = await fail(api, "old")
    params, options = {"message": "new"}, {"priority": 1, "max_attempts": 2, "retry_delay_s": 0.01}
    [new] = (await requeue(api, 201, ids=[old], job_params=params, options=options))["ids"]

    again = await shown(api, new, wait_s=10)

    assert (again["job_params"], again["attempt"], again["priority"]) == (params, 2, 1)
    assert again["options"]["sources"] == dict.fromkeys(options, "submission")
    assert (await shown(api, old))["job_params"] == {"message": "old"}


async def test_a_patch_is_merged_into_the_parameters_of_each(api, start_node):
    await start_node()
    old = await fail(api, "a", "b")
    # Longer than the other test's: the message is put back by a null.
    new = (await requeue(api, 201, ids=old, job_params_patch={"message": None}))["ids"]
    assert [(await shown(api, id_, wait_s=10))["job_params"] for id_ in new] == [{}, {}]


async def test_a_retry_by_hand_deals_with_the_letter(api, start_node):
    await start_node()
    [old] = await fail(api, "x")
    answer = await api.post(f"/api/executions/{old}/retry")
    assert answer.status_code == 201
    assert (await shown(api, old))["dead_letter"] is None
    assert (await requeue(api, 409, ids=[old]))["code"] == "wrong_state"


# --- exactly once -------------------------------------------------------------------------------------


async def test_two_operators_who_requeue_one_letter_make_one_execution(api, server, known_demo):
    [old] = await put_letters(server, 1)
    body = {"ids": [old]}
    answers = await asyncio.gather(*(api.post("/api/dead-letters/requeue", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert len(await children(server, old)) == 1


async def test_of_a_list_those_that_were_dealt_with_are_null_and_the_others_run(api, server, known_demo):
    first, second, third = await put_letters(server, 3)
    await requeue(api, 201, ids=[second])
    answer = await requeue(api, 201, ids=[first, second, third])
    assert [new is None for new in answer["ids"]] == [False, True, False]
    # They are a group of their own.
    [row] = await children(server, first)
    assert row.group_id == answer["id"]
    assert (await requeue(api, 409, ids=[first, second, third]))["code"] == "wrong_state"


async def test_a_repeated_request_with_its_key_gets_the_first_answer(api, server, known_demo):
    old = await put_letters(server, 2)
    headers = {"Idempotency-Key": "once"}
    first = await requeue(api, 201, ids=old, headers=headers)
    assert await requeue(api, 201, ids=old, headers=headers) == first
    assert (await requeue(api, 422, ids=old[:1], headers=headers))["code"] == "idempotency_mismatch"
    assert len(await children(server, old[0])) == 1


async def test_a_requeue_that_is_refused_leaves_the_letter(api, server, known_demo):
    noop, gone = await put_letters(server, 1, method="noop"), await put_letters(server, 1, method="gone")
    wrong = await requeue(api, 400, ids=noop, job_params={"a": 1})
    assert (wrong["code"], wrong["pointer"]) == ("invalid_params", "/job_params")
    unknown = await requeue(api, 400, ids=[*noop, *gone])
    assert (unknown["code"], unknown["pointer"]) == ("unknown_method", "/ids/1")
    assert [(await shown(api, id_))["dead_letter"] is None for id_ in noop + gone] == [False, False]
    assert await children(server, noop[0]) == []


async def test_an_id_that_does_not_exist_is_pointed_at(api, server, known_demo):
    [old] = await put_letters(server, 1)
    answer = await requeue(api, 404, ids=[old, "01jd3zq8m2x4v6t8r0p2n4m6k8"])
    assert answer["pointer"] == "/ids/1"
    assert (await shown(api, old))["dead_letter"] is not None


async def test_a_few_at_a_rate_start_one_after_the_other(api, server, known_demo):
    old = await put_letters(server, 3)
    new = (await requeue(api, 201, ids=old, rate_per_s=0.5))["ids"]
    rows = [(await children(server, id_))[0] for id_ in old]
    assert [row.id for row in rows] == new
    assert [row.state for row in rows] == [State.PENDING, State.SCHEDULED, State.SCHEDULED]
    assert rows[2].not_before_us - rows[1].not_before_us == 2_000_000


# --- many at a rate -----------------------------------------------------------------------------------


async def ends(api, id_):
    async def over():
        return (await api.get(f"/api/requeues/{id_}")).json()["state"] != "running"

    await eventually(over)
    return (await api.get(f"/api/requeues/{id_}")).json()


@asynccontextmanager
async def with_clock(tmp_path):
    """A server whose clock stands still."""
    clock = ManualClock()
    async with running_server(tmp_path / "server", TEST_CONFIG, clock) as server, api_client(server) as api:
        know_demo(server)
        # Its steps are taken by the test.
        await server._end("requeues")
        yield server, api, clock


async def test_a_group_is_requeued_at_its_rate(tmp_path):
    async with with_clock(tmp_path) as (server, api, clock):
        old = await put_letters(server, 10)
        begun = await requeue(api, 202, group="demo.fail:aaaaaaaaaaaaaaaa", rate_per_s=2)
        assert (begun["count"], begun["created"], begun["state"]) == (10, 0, "running")
        loop = server.service.dead_letters.requeues
        created = []
        for _ in range(4):
            await loop.run_once()
            clock.advance(1.0)
            created.append((await api.get(f"/api/requeues/{begun['id']}")).json()["created"])
        # The first at once, then two a second, the oldest first.
        assert created == [1, 3, 5, 7]
        assert [len(await children(server, id_)) for id_ in old] == [1] * 7 + [0] * 3
        assert [group["count"] for group in await groups(api)] == [3]
        clock.advance(60)
        while await loop.run_once():
            clock.advance(1)
        over = (await api.get(f"/api/requeues/{begun['id']}")).json()
        assert (over["state"], over["created"], over["refused"]) == ("completed", 10, 0)
        assert {(await children(server, id_))[0].group_id for id_ in old} == {begun["id"]}


async def test_a_requeue_goes_on_where_it_was_when_the_server_is_started_again(tmp_path):
    async with with_clock(tmp_path) as (server, api, _):
        old = await put_letters(server, 5)
        begun = await requeue(api, 202, all=True, rate_per_s=1)
        await server.service.dead_letters.requeues.run_once()
        assert len(await children(server, old[0])) == 1
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        know_demo(server)
        over = await ends(api, begun["id"])
        assert (over["state"], over["created"]) == ("completed", 5)
        assert [len(await children(server, id_)) for id_ in old] == [1] * 5


async def test_a_cancelled_requeue_leaves_the_rest_as_dead_letters(tmp_path):
    async with with_clock(tmp_path) as (server, api, clock):
        await put_letters(server, 5)
        begun = await requeue(api, 202, handler_id="demo", rate_per_s=1)
        await server.service.dead_letters.requeues.run_once()
        cancelled = await api.post(f"/api/requeues/{begun['id']}/cancel")
        assert (cancelled.json()["state"], cancelled.json()["created"]) == ("cancelled", 1)
        clock.advance(60)
        assert not await server.service.dead_letters.requeues.run_once()
        assert [group["count"] for group in await groups(api)] == [4]
        again = await api.post(f"/api/requeues/{begun['id']}/cancel")
        assert (again.status_code, problem(again)["code"]) == (409, "wrong_state")


async def test_what_fails_again_while_it_goes_on_is_not_requeued_for_ever(api, server, start_node):
    await start_node()
    await fail(api, *["x"] * 4)
    [group] = await groups(api)
    begun = await requeue(api, 202, group=group["id"], rate_per_s=1000)
    over = await ends(api, begun["id"])
    assert (over["count"], over["created"]) == (4, 4)


async def test_what_its_job_would_not_take_any_more_stays_and_the_first_reason_is_told(api, server, known_demo):
    good = await put_letters(server, 2)
    gone = await put_letters(server, 2, method="gone", letter="demo.gone:aaaaaaaaaaaaaaaa")
    begun = await requeue(api, 202, all=True, rate_per_s=1000)
    over = await ends(api, begun["id"])
    assert (over["created"], over["refused"], over["state"]) == (2, 2, "completed")
    assert gone[0] in over["note"]
    assert [len(await children(server, id_)) for id_ in good] == [1, 1]
    assert [group["job_method"] for group in await groups(api)] == ["gone"]


async def test_two_requeues_of_the_same_letters_make_one_execution_of_each(api, server, known_demo):
    old = await put_letters(server, 40)
    begun = [await requeue(api, 202, all=True, rate_per_s=1000) for _ in range(2)]
    over = [await ends(api, row["id"]) for row in begun]
    assert sum(row["created"] for row in over) == 40
    assert [len(await children(server, id_)) for id_ in old] == [1] * 40


async def test_more_than_fit_into_one_step_all_get_their_turn(api, server, known_demo):
    await put_letters(server, BATCH + 7)
    over = await ends(api, (await requeue(api, 202, all=True, rate_per_s=1000))["id"])
    assert (over["created"], await groups(api)) == (BATCH + 7, [])


async def test_a_patch_and_options_reach_each_of_many(api, server, known_demo):
    [old] = await put_letters(server, 1)
    patch, options = {"message": "patched"}, {"priority": 3}
    await ends(api, (await requeue(api, 202, all=True, job_params_patch=patch, options=options))["id"])
    [row] = await children(server, old)
    assert (row.params, row.priority) == (b'{"message":"patched"}', 3)


async def test_there_is_nothing_to_requeue(api, server, known_demo):
    assert (await requeue(api, 404, group="demo.fail:0000000000000000"))["code"] == "not_found"
    assert (await requeue(api, 200, all=True, dry_run=True)) == {"count": 0}
    assert (await api.get("/api/requeues")).json()["requeues"] == []


async def test_a_repeated_beginning_with_its_key_begins_one(api, server, known_demo):
    await put_letters(server, 3)
    headers = {"Idempotency-Key": "once"}
    first = await requeue(api, 202, all=True, headers=headers)
    await ends(api, first["id"])
    assert (await requeue(api, 202, all=True, headers=headers))["id"] == first["id"]
    assert len((await api.get("/api/requeues")).json()["requeues"]) == 1


# --- which ---------------------------------------------------------------------------------------------


async def test_handlers_whose_names_begin_alike_are_told_apart(api, server, known_demo):
    await put_letters(server, 1)
    await put_letters(server, 2, letter="demo.x.fail:aaaaaaaaaaaaaaaa", handler_id="demo.x")
    assert [group["handler_id"] for group in await groups(api, handler_id="demo")] == ["demo"]
    assert await requeue(api, 200, handler_id="demo", dry_run=True) == {"count": 1}
    assert await requeue(api, 200, handler_id="demo", job_method="fail", dry_run=True) == {"count": 1}
    assert (await requeue(api, 202, handler_id="demo"))["count"] == 1
    assert await groups(api, handler_id="dem") == []


async def test_groups_and_their_executions_come_in_pages(api, server, known_demo):
    for n in range(5):
        await put_letters(server, 3, letter=f"demo.fail:{n:016d}")
    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/api/dead-letters", params=query)).json()
        found += [group["id"] for group in page["groups"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == [f"demo.fail:{n:016d}" for n in range(5)]
    first = (await api.get("/api/dead-letters/executions", params={"group": found[0], "limit": 2})).json()
    more = {"group": found[0], "limit": 2, "cursor": first["next_cursor"]}
    second = (await api.get("/api/dead-letters/executions", params=more)).json()
    assert [len(first["records"]), len(second["records"]), second["next_cursor"]] == [2, 1, None]
    bad = await api.get("/api/dead-letters/executions", params={**more, "cursor": "x"})
    assert problem(bad)["code"] == "invalid_field"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"ids": ["a"], "all": True}, ""),
        ({"group": "g", "handler_id": "demo"}, ""),
        ({"all": True, "job_method": "x"}, "/handler_id"),
        ({"ids": ["a", "a"]}, "/ids"),
        ({"ids": []}, "/ids"),
        ({"all": True, "job_params": {}}, "/job_params"),
        ({"ids": ["a", "b"], "job_params": {}}, "/job_params"),
        ({"ids": ["a"], "job_params": {}, "job_params_patch": {}}, "/job_params_patch"),
        ({"all": True, "rate_per_s": 0}, "/rate_per_s"),
        ({"all": True, "rate_per_s": 1001}, "/rate_per_s"),
        ({"all": True, "options": {"max_attempts": 0}}, "/options/max_attempts"),
        ({"all": True, "job_params_patch": []}, "/job_params_patch"),
        ({"all": True, "speed": 1}, "/speed"),
    ],
)
async def test_a_request_that_cannot_be_meant_is_refused_with_a_pointer(api, body, pointer):
    answer = await requeue(api, 400, **body)
    assert (answer["code"], answer["pointer"]) == ("invalid_field", pointer)


async def test_a_list_of_a_group_needs_the_group(api):
    assert problem(await api.get("/api/dead-letters/executions"))["parameter"] == "group"
    assert problem(await api.get("/api/dead-letters", params={"job_method": "x"}))["parameter"] == "handler_id"


# --- discard, clear, counters ----------------------------------------------------------------------------


async def test_what_is_discarded_stays_in_the_history_and_nobody_waits_for_it(api, server, known_demo):
    old = await put_letters(server, 2_500)
    one = await api.post("/api/dead-letters/discard", json={"ids": old[:1]})
    assert one.json() == {"count": 1, "discarded": 1}
    assert (await api.post("/api/dead-letters/discard", json={"ids": old[:1]})).json() == {"count": 0, "discarded": 0}
    counted = await api.post("/api/dead-letters/discard", json={"all": True, "dry_run": True})
    assert counted.json() == {"count": 2_499, "discarded": 0}
    done = await api.post("/api/dead-letters/discard", json={"all": True, "note": "a known outage"})
    assert done.json() == {"count": 2_499, "discarded": 2_499}
    assert await groups(api) == []
    assert (await shown(api, old[7]))["status"] == "failed"
    assert (await requeue(api, 409, ids=[old[7]]))["code"] == "wrong_state"


async def test_the_number_that_waits_is_right_after_all_that_can_happen_to_them(api, server, known_demo):
    ids = await put_letters(server, 10)
    await put_letters(server, 2, letter="other.x:aaaaaaaaaaaaaaaa", handler_id="other")

    async def waiting():
        await server.service.dead_letters.refresh()
        return server.service.dead_letters.waiting

    assert await waiting() == {"demo": 10, "other": 2}
    text = (await api.get("/metrics")).text
    assert 'schedulezero_dead_letters{handler_id="demo"} 10.0' in text
    await requeue(api, 201, ids=ids[:2])
    await api.post("/api/dead-letters/discard", json={"ids": ids[1:4]})
    await api.post(f"/api/executions/{ids[4]}/retry")
    assert await waiting() == {"demo": 5, "other": 2}
    before = (await api.get("/api/executions/stats")).json()
    assert before["handler_stats"]["demo"]["by_status"]["failed"] == 10
    assert "dead_letter" not in before["handler_stats"]["demo"]["by_status"]
    await api.post("/api/executions/clear", json={})
    assert await waiting() == {"demo": 0, "other": 0}
    assert await groups(api) == []


async def test_what_happens_is_told_in_events(api, server, known_demo):
    heard = server.hub.subscribe()
    [first, second, _] = await put_letters(server, 3)
    await requeue(api, 201, ids=[first])
    await api.post("/api/dead-letters/discard", json={"ids": [second]})
    begun = await requeue(api, 202, all=True, rate_per_s=1000)
    await ends(api, begun["id"])
    told = []
    while not heard.empty():
        told.append((await heard.get())[1])
    finished = [event for event in told if event.kind == "execution.finished"]
    assert [event.data["dead_letter"] for event in finished] == ["demo.fail:aaaaaaaaaaaaaaaa"] * 3
    kinds = [event.kind for event in told if not event.kind.startswith("execution.")]
    assert kinds == ["dead_letters.requeued", "dead_letters.discarded", "requeue.created", "requeue.completed"]
    assert [event.data["count"] for event in told if event.kind.startswith("dead_letters.")] == [1, 1]


async def test_a_viewer_looks_and_changes_nothing(api, server, known_demo):
    await put_letters(server, 1)
    made = (await api.post("/api/tokens", json={"name": "v", "role": "viewer"})).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert (await api.get("/api/dead-letters", headers=headers)).status_code == 200
    for path in ("/api/dead-letters/requeue", "/api/dead-letters/discard"):
        assert (await api.post(path, json={"all": True}, headers=headers)).status_code == 403
