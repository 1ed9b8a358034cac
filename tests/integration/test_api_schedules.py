"""Schedules over HTTP: atomic writes, versions, the ledger, triggers."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from schedule_zero.config import TimingConfig
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.support import eventually

pytestmark = pytest.mark.anyio

YEARLY = {"type": "cron", "expression": "0 0 1 1 *", "timezone": "UTC"}
NOOP = {"handler_id": "demo", "job_method": "noop", "trigger": YEARLY}


async def put(api: httpx.AsyncClient, id_: str = "s1", **changes: object) -> httpx.Response:
    return await api.put(f"/api/schedules/{id_}", json={**NOOP, **changes})


# --- create ---------------------------------------------------------------------------------------


async def test_a_schedule_is_created_and_shown(api, known_demo):
    answer = await api.post("/api/schedules", json={**NOOP, "id": "s1", "options": {"priority": 3}, "note": "why"})

    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/schedules/s1"
    shown = await api.get("/api/schedules/s1")
    assert shown.headers["etag"] == answer.headers["etag"]
    record = shown.json()
    assert answer.json() == {"status": "success", "ids": ["s1"], "schedules": [record]}
    assert record["trigger"]["type"] == "cron"
    assert record["options"] == {"priority": 3}
    assert (record["state"], record["note"], record["version"]) == ("active", "why", 1)
    assert record["next_fire_time"].endswith("-01-01T00:00:00.000000Z")
    assert record["args"] == ["demo", "noop", {}]


async def test_a_schedule_without_an_id_gets_one(api, known_demo):
    [id_] = (await api.post("/api/schedules", json=NOOP)).json()["ids"]

    assert (await api.get(f"/api/schedules/{id_}")).status_code == 200


async def test_an_id_with_a_slash_is_reached(api, known_demo):
    await api.post("/api/schedules", json={**NOOP, "id": "team/nightly:1"})

    assert (await api.get("/api/schedules/team%2Fnightly%3A1")).json()["id"] == "team/nightly:1"
    assert (await api.post("/api/schedules/team%2Fnightly%3A1/pause")).status_code == 200


async def test_an_id_that_is_taken_is_refused(api, known_demo):
    await put(api)

    answer = await api.post("/api/schedules", json={**NOOP, "id": "s1"})

    assert answer.status_code == 409
    assert "s1" in answer.json()["detail"]


async def test_many_are_created_in_one_transaction_or_not_at_all(api, known_demo):
    ids = [f"s{n}" for n in range(20)]
    answer = await api.post("/api/schedules", json={"schedules": [{**NOOP, "id": id_} for id_ in ids]})
    assert (answer.status_code, answer.json()["ids"]) == (201, ids)

    refused = await api.post("/api/schedules", json={"schedules": [{**NOOP, "id": "new"}, {**NOOP, "id": "s7"}]})

    assert refused.status_code == 409
    assert "s7" in refused.json()["detail"]
    assert (await api.get("/api/schedules/new")).status_code == 404
    assert (await api.get("/api/schedules")).json()["count"] == 20


async def test_a_repetition_with_the_same_key_creates_nothing(api, known_demo):
    first = await api.post("/api/schedules", json=NOOP, headers={"Idempotency-Key": "k"})
    second = await api.post("/api/schedules", json=NOOP, headers={"Idempotency-Key": "k"})

    assert second.json()["ids"] == first.json()["ids"]
    assert second.headers["idempotent-replayed"] == "true"
    assert (await api.get("/api/schedules")).json()["count"] == 1


async def test_pages_go_by_id(api, known_demo):
    await api.post("/api/schedules", json={"schedules": [{**NOOP, "id": f"s{n}"} for n in range(5)]})
    first = (await api.get("/api/schedules?limit=3")).json()
    second = (await api.get("/api/schedules", params={"limit": 3, "cursor": first["next_cursor"]})).json()

    assert [record["id"] for record in first["schedules"] + second["schedules"]] == ["s0", "s1", "s2", "s3", "s4"]
    assert (first["count"], second["count"], second["next_cursor"]) == (5, 5, None)
    other = (await api.get("/api/schedules?handler_id=other")).json()
    assert (other["schedules"], other["count"]) == ([], 0)


async def test_the_count_is_that_of_all_pages_of_what_was_asked_for(api, known_demo):
    rows = [{**NOOP, "id": f"s{n}", "paused": n % 2 == 0} for n in range(5)]
    await api.post("/api/schedules", json={"schedules": rows})

    page = (await api.get("/api/schedules?state=paused&handler_id=demo&limit=1")).json()

    assert (len(page["schedules"]), page["count"]) == (1, 3)
    assert (await api.get("/api/schedules?state=quarantined")).json()["count"] == 0


# --- replace, patch, delete -------------------------------------------------------------------------


async def test_put_creates_and_then_replaces_as_a_whole(api, known_demo):
    created = await put(api, note="first", options={"priority": 1})
    replaced = await put(api, trigger={"type": "interval", "hours": 1})

    assert (created.status_code, replaced.status_code) == (201, 200)
    assert created.headers["location"] == "/api/schedules/s1"
    record = replaced.json()
    assert (record["note"], record["options"], record["version"]) == (None, None, 2)
    assert created.headers["etag"] != replaced.headers["etag"]


async def test_put_holds_its_id_against_the_body(api, known_demo):
    answer = await put(api, id="other")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/id"


async def test_create_only_refuses_to_replace(api, known_demo):
    only = {"If-None-Match": "*"}
    assert (await api.put("/api/schedules/s1", json=NOOP, headers=only)).status_code == 201

    answer = await api.put("/api/schedules/s1", json={**NOOP, "note": "mine"}, headers=only)

    assert answer.status_code == 412
    assert (await api.get("/api/schedules/s1")).json()["note"] is None


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_with_an_old_etag_is_refused_and_changes_nothing(api, known_demo, method):
    old = (await put(api)).headers["etag"]
    new = await put(api, note="newer")
    body = {"PUT": NOOP, "PATCH": {"note": "mine"}, "DELETE": None}[method]

    answer = await api.request(method, "/api/schedules/s1", json=body, headers={"If-Match": old})

    assert answer.status_code == 412
    assert (await api.get("/api/schedules/s1")).json() == new.json()
    answer = await api.request(method, "/api/schedules/s1", json=body, headers={"If-Match": new.headers["etag"]})
    assert answer.status_code == 200


async def test_a_schedule_made_anew_has_none_of_its_old_etags(api, known_demo):
    old = (await put(api)).headers["etag"]
    await api.delete("/api/schedules/s1")
    await put(api)

    answer = await api.patch("/api/schedules/s1", json={"note": "mine"}, headers={"If-Match": old})

    assert answer.status_code == 412


async def test_of_writers_that_saw_the_same_version_one_wins(api, known_demo):
    seen = (await put(api)).headers["etag"]

    answers = await asyncio.gather(
        *(api.patch("/api/schedules/s1", json={"note": f"writer {n}"}, headers={"If-Match": seen}) for n in range(8))
    )

    [winner] = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} == {200, 412}
    assert (await api.get("/api/schedules/s1")).json() == winner.json()


async def test_patches_at_the_same_time_without_if_match_are_all_applied(
    api: httpx.AsyncClient, known_demo: None
) -> None:
    await put(api, job_method="echo")

    answers = await asyncio.gather(
        *(api.patch("/api/schedules/s1", json={"job_params": {f"k{n}": n}}) for n in range(20))
    )

    assert {answer.status_code for answer in answers} == {200}
    schedule = (await api.get("/api/schedules/s1")).json()
    assert schedule["job_params"] == {f"k{n}": n for n in range(20)}
    assert schedule["version"] == 21


@pytest.mark.parametrize(
    ("tags", "status"),
    [('"nonsense", {etag}', 200), ("*", 200), ('"a","b"', 412), ("W/{etag}", 412), ("1-1", 400), ("", 400)],
)
async def test_if_match_takes_lists_and_the_star(api, known_demo, tags, status):
    etag = (await put(api)).headers["etag"]

    answer = await api.patch("/api/schedules/s1", json={"note": "x"}, headers={"If-Match": tags.format(etag=etag)})

    assert answer.status_code == status


async def test_if_match_with_a_star_does_not_create(api, known_demo):
    assert (await api.put("/api/schedules/s1", json=NOOP, headers={"If-Match": "*"})).status_code == 412
    assert (await api.get("/api/schedules")).json()["count"] == 0


async def test_get_says_whether_it_changed(api, known_demo):
    etag = (await put(api)).headers["etag"]

    same = await api.get("/api/schedules/s1", headers={"If-None-Match": etag})
    other = await api.get("/api/schedules/s1", headers={"If-None-Match": '"other"'})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert other.status_code == 200


async def test_patch_changes_what_it_names_and_null_goes_back_to_the_default(api, known_demo):
    await put(
        api, note="old", options={"priority": 3, "max_attempts": 2}, job_method="echo", job_params={"a": 1, "b": 2}
    )

    record = (
        await api.patch(
            "/api/schedules/s1",
            json={"note": None, "options": {"priority": 4}, "job_params": {"b": None, "c": {"d": 1}}, "paused": True},
        )
    ).json()

    assert record["note"] is None
    assert record["options"] == {"priority": 4, "max_attempts": 2}
    assert record["job_params"] == {"a": 1, "c": {"d": 1}}
    assert record["state"] == "paused"
    assert record["trigger"]["type"] == "cron"


async def test_a_merge_patch_may_come_under_its_own_type(api, known_demo):
    await put(api)

    answer = await api.patch(
        "/api/schedules/s1", content=b'{"note":"x"}', headers={"Content-Type": "application/merge-patch+json"}
    )

    assert answer.json()["note"] == "x"


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"nothing": 1}, "/nothing"),
        ({"id": "other"}, "/id"),
        ({"handler_id": None}, "/handler_id"),
        ({"paused": "yes"}, "/paused"),
        ({"options": {"prio": 1}}, "/options/prio"),
        ({"misfire_grace_s": -1}, "/misfire_grace_s"),
        ({"trigger": {"expression": "61 * * * *"}}, "/trigger/expression"),
        ({"job_method": "nothing"}, "/job_method"),
    ],
)
async def test_a_bad_patch_is_refused_with_a_pointer_and_changes_nothing(api, known_demo, patch, pointer):
    before = (await put(api)).json()

    answer = await api.patch("/api/schedules/s1", json=patch)

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await api.get("/api/schedules/s1")).json() == before


async def test_a_trigger_of_another_type_says_how_to_replace_the_old_one(api, known_demo):
    await put(api)

    refused = await api.patch("/api/schedules/s1", json={"trigger": {"type": "manual"}})
    merged = await api.patch(
        "/api/schedules/s1", json={"trigger": {"type": "manual", "expression": None, "timezone": None}}
    )

    assert refused.json()["errors"][0]["pointer"] == "/trigger/expression"
    assert refused.json()["hint"] == (
        "a patch is merged into the trigger: null takes a key out of it, PUT replaces all of it"
    )
    assert merged.json()["trigger"] == {"type": "manual"}


async def test_delete_forgets(api, known_demo):
    await put(api)

    answer = await api.delete("/api/schedules/s1")

    assert answer.status_code == 200
    assert answer.json()["schedule_id"] == "s1"
    assert (await api.get("/api/schedules/s1")).status_code == 404
    assert (await api.delete("/api/schedules/s1")).status_code == 404


async def test_many_are_deleted_at_once_and_the_unknown_passed_over(api, known_demo):
    await api.post("/api/schedules", json={"schedules": [{**NOOP, "id": f"s{n}"} for n in range(5)]})

    answer = await api.post("/api/schedules/delete", json={"ids": ["s1", "nothing", "s3"]})

    assert sorted(answer.json()["deleted"]) == ["s1", "s3"]
    assert (await api.get("/api/schedules")).json()["count"] == 3


async def test_a_schedule_may_be_called_delete(api, known_demo):
    await put(api, "delete")

    assert (await api.get("/api/schedules/delete")).json()["id"] == "delete"


# --- pause, resume, run, fires ------------------------------------------------------------------------


async def test_pause_and_resume(api, known_demo):
    await put(api)

    paused = (await api.post("/api/schedules/s1/pause", json={"note": "broken"})).json()
    assert (paused["state"], paused["note"]) == ("paused", "broken")
    assert [one["id"] for one in (await api.get("/api/schedules?state=paused")).json()["schedules"]] == ["s1"]
    resumed = (await api.post("/api/schedules/s1/resume")).json()
    assert (resumed["state"], resumed["note"]) == ("active", None)
    assert (await api.post("/api/schedules/s1/pause")).json()["note"] == "paused by admin"


async def test_run_runs_once_and_leaves_the_times(api, known_demo):
    before = (await put(api)).json()

    answer = await api.post("/api/schedules/s1/run")

    assert answer.status_code == 202
    shown = (await api.get(answer.headers["location"])).json()
    assert (shown["id"], shown["schedule_id"], shown["job_id"]) == (answer.json()["id"], "s1", "s1")
    assert (await api.get("/api/schedules/s1")).json()["next_fire_time"] == before["next_fire_time"]


async def test_fires_are_in_the_ledger_newest_first(api, start_node):
    await start_node("n1")
    await put(api, trigger={"type": "interval", "milliseconds": 20})

    async def enough() -> list[dict]:
        rows = (await api.get("/api/schedules/s1/fires")).json()["records"]
        return rows if len(rows) >= 3 else []

    rows = await eventually(enough)
    assert (await api.get("/api/schedules/s1/fires?outcome=missed")).json()["records"] == []
    await api.delete("/api/schedules/s1")

    assert [row["nominal_time"] for row in rows] == sorted((row["nominal_time"] for row in rows), reverse=True)
    newest = rows[0]
    assert (newest["schedule_id"], newest["outcome"], newest["reason"], newest["count"]) == ("s1", "executed", None, 1)
    shown = (await api.get(f"/api/executions/{newest['execution_id']}")).json()
    assert (shown["schedule_id"], shown["nominal_time"], shown["origin"]) == ("s1", newest["nominal_time"], "fire")
    # The ledger outlives its schedule.
    page = (await api.get("/api/schedules/s1/fires?limit=2&outcome=executed")).json()
    assert page["count"] == 2
    assert page["next_cursor"]
    listed = (await api.get("/api/executions?job_id=s1&limit=1")).json()["records"]
    assert listed[0]["schedule_id"] == "s1"


async def test_a_schedule_that_is_not_there_is_not_found(api, known_demo):
    for method, path, body in [
        ("GET", "", None), ("PATCH", "", {"note": "x"}), ("DELETE", "", None), ("POST", "/pause", None),
        ("POST", "/resume", None), ("POST", "/run", None), ("GET", "/fires", None),
    ]:  # fmt: skip
        answer = await api.request(method, f"/api/schedules/nothing{path}", json=body)
        assert answer.status_code == 404, (method, path)


# --- triggers -------------------------------------------------------------------------------------


async def test_a_trigger_is_explained(api):
    answer = await api.post(
        "/api/triggers/preview",
        json={"trigger": {"type": "cron", "expression": "*/5 * * * *"}, "n": 3, "after": "2030-01-01T00:00:00Z"},
    )

    shown = answer.json()
    assert [fire["time"] for fire in shown["fires"]] == [
        f"2030-01-01T00:{minute:02}:00.000000Z" for minute in (5, 10, 15)
    ]
    assert "5 minutes" in shown["words"].lower()
    assert shown["trigger"]["type"] == "cron"


BAD_TRIGGERS = [
    ({}, "/trigger"),
    ({"type": "sundial"}, "/trigger/type"),
    ({"type": "cron", "expression": "61 * * * *"}, "/trigger/expression"),
    ({"type": "cron", "expression": "* * * * *", "timezone": "Mars/Olympus"}, "/trigger/timezone"),
    ({"type": "interval"}, "/trigger"),
    ({"type": "interval", "seconds": 0}, "/trigger"),
    ({"type": "interval", "seconds": 1, "fortnights": 2}, "/trigger/fortnights"),
    ({"type": "date", "run_date": "soon"}, "/trigger/run_date"),
]


@pytest.mark.parametrize(("trigger", "pointer"), BAD_TRIGGERS)
async def test_a_bad_trigger_is_refused_with_a_pointer_and_changes_nothing(server, api, known_demo, trigger, pointer):
    before = server.hub.last_seq
    for method, path, body in [
        ("POST", "/api/triggers/preview", {"trigger": trigger}),
        ("POST", "/api/schedules", {**NOOP, "trigger": trigger}),
        ("PUT", "/api/schedules/s1", {**NOOP, "trigger": trigger}),
        ("POST", "/api/schedule", {**NOOP, "trigger": trigger}),
    ]:
        answer = await api.request(method, path, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["errors"][0]["pointer"].startswith(pointer), (path, answer.text)
    assert (await api.get("/api/schedules")).json()["count"] == 0
    assert server.hub.last_seq == before


@pytest.mark.parametrize("zone", ["Mars/Olympus", "right/Europe/Berlin"])
async def test_a_zone_that_is_none_is_refused_where_it_stands(api, known_demo, zone):
    body = {"trigger": {"type": "cron", "expression": "0 9 * * *"}, "timezone": zone}
    for path, more in [("triggers/preview", {}), ("schedules", {"handler_id": "demo", "job_method": "noop"})]:
        answer = await api.post(f"/api/{path}", json=body | more)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["pointer"] == "/timezone"
        assert f"IANA zone such as Europe/Berlin, got '{zone}'" in answer.json()["detail"]


async def test_days_that_cannot_be_moved_are_refused_where_the_policy_stands(api, known_demo):
    assert (await api.put("/api/calendars/works", json={"weekly": [{"days": ["SAT", "SUN"]}]})).status_code == 201
    policies = {"business_days": {"calendar": "works", "rule": "next"}}
    body = {"trigger": {"type": "interval", "hours": 1}, "policies": policies}
    for path, more in [("triggers/preview", {}), ("schedules", {"handler_id": "demo", "job_method": "noop"})]:
        answer = await api.post(f"/api/{path}", json=body | more)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["pointer"] == "/policies/business_days"


async def test_what_never_finds_a_business_day_is_refused_with_that_reason_as_the_preview_has_it(api, known_demo):
    everyday = {"weekly": [{"days": ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]}]}
    assert (await api.put("/api/calendars/never", json=everyday)).status_code == 201
    policies = {"business_days": {"calendar": "never", "rule": "next"}}
    body = {"trigger": {"type": "cron", "expression": "@daily"}, "policies": policies}

    made = await api.post("/api/schedules", json={"handler_id": "demo", "job_method": "noop", **body})
    shown = await api.post("/api/triggers/preview", json=body)

    assert (made.status_code, made.json()["detail"]) == (
        400, "the trigger has no fire after now: no business day is near enough"
    )  # fmt: skip
    assert shown.json()["warnings"][0].endswith(": no business day is near enough")


# --- the shortest interval ------------------------------------------------------------------------


async def test_the_shortest_interval_holds_for_what_is_new_and_not_for_what_is_there(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        know_demo(server)
        body = (await put(api, trigger={"type": "cron", "expression": "*/5 * * * * *"}, paused=True)).json()

    config = with_config(timing=TimingConfig(min_interval_ms=10_000))
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        know_demo(server)
        patched = await api.patch("/api/schedules/s1", json={"note": "x"})
        same = await put(api, trigger=body["trigger"], paused=True)
        changed = await api.patch("/api/schedules/s1", json={"trigger": {"expression": "*/6 * * * * *"}})
        new = await put(api, "s2", trigger=body["trigger"])
        previewed = await api.post("/api/triggers/preview", json={"trigger": body["trigger"]})

    assert (patched.status_code, same.status_code) == (200, 200)
    for answer in (changed, new, previewed):
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["pointer"] == "/trigger"
        assert "expected at least 10000 ms between two fires" in answer.json()["detail"]


async def test_days_that_are_moved_too_close_are_refused(tmp_path):
    config = with_config(timing=TimingConfig(min_interval_ms=10_000))
    sunday, monday = ({"type": "cron", "expression": text} for text in ("0 0 9 * * SUN", "5 0 9 * * MON"))
    async with running_server(tmp_path / "server", config) as server, api_client(server) as api:
        know_demo(server)
        await api.put("/api/calendars/works", json={"weekly": [{"days": ["SAT", "SUN"]}]})
        policies = {"business_days": {"calendar": "works", "rule": "next"}}

        alone = await put(api, "s1", trigger=[sunday, monday])
        moved = await put(api, "s2", trigger=[sunday, monday], policies=policies)

    assert alone.status_code == 201
    assert (moved.status_code, moved.json()["errors"][0]["pointer"]) == (400, "/policies/business_days")
