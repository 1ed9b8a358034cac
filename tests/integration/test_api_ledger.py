"""The ledger over HTTP: audits, explanations, versions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from schedule_zero.model import Handler, JobMethod
from schedule_zero.server import Server
from tests.support import eventually

pytestmark = pytest.mark.anyio

FAST = {"type": "interval", "milliseconds": 20}
YEARLY = {"type": "cron", "expression": "0 0 1 1 *", "timezone": "UTC"}
NOOP = {"handler_id": "demo", "job_method": "noop", "trigger": YEARLY}


async def put(api: httpx.AsyncClient, id_: str = "s1", **changes: object) -> dict[str, Any]:
    return (await api.put(f"/api/schedules/{id_}", json={**NOOP, **changes})).raise_for_status().json()


async def ask(api: httpx.AsyncClient, path: str, **query: object) -> dict[str, Any]:
    return (await api.get(f"/api/schedules/{path}", params=query)).raise_for_status().json()


# --- audit ------------------------------------------------------------------------------------------


async def test_the_ledger_of_a_busy_schedule_is_complete_while_it_runs(
    server: Server, api: httpx.AsyncClient, known_demo: None
) -> None:
    await put(api, trigger=FAST)
    for _ in range(3):
        before = server.timer.stats.executions
        await eventually(lambda before=before: server.timer.stats.executions > before + 10)

        audit = await ask(api, "s1/audit")

        assert (audit["ok"], audit["exact"], audit["details"]) == (True, True, [])
        assert audit["expected"] == audit["recorded"] > 10
        assert (audit["missed"], audit["duplicate"], audit["extra"]) == (0, 0, 0)


async def test_an_audit_has_the_range_that_was_asked_for(api: httpx.AsyncClient, known_demo: None) -> None:
    await put(api)

    audit = await ask(api, "s1/audit", since="2026-01-01T00:00:00+01:00", until="2026-01-02T00:00:00Z")

    assert audit == {
        "schedule_id": "s1", "since": "2025-12-31T23:00:00.000000Z", "until": "2026-01-02T00:00:00.000000Z",
        "expected": 0, "recorded": 0, "missed": 0, "duplicate": 0, "extra": 0, "ok": True, "exact": True,
        "undecided_since": None, "details": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("nobody/audit", 404, None),
        ("s1/audit?since=yesterday", 400, "since"),
        ("s1/audit?since=2999-01-01T00:00:00Z", 400, "since"),
        ("s1/audit?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", 400, "since"),
        ("s1/audit?from=2026-01-02T00:00:00Z", 400, "from"),
    ],
)
async def test_an_audit_that_makes_no_sense_is_refused(
    api: httpx.AsyncClient, known_demo: None, path: str, status: int, parameter: str | None
) -> None:
    await put(api)

    answer = await api.get(f"/api/schedules/{path}")

    assert answer.status_code == status
    if parameter is not None:
        assert answer.json()["errors"][0]["parameter"] == parameter


# --- explain ----------------------------------------------------------------------------------------


async def test_a_fire_is_explained_with_all_that_it_stands_on(
    server: Server, api: httpx.AsyncClient, known_demo: None
) -> None:
    await put(api, trigger={"type": "interval", "milliseconds": 100})
    await eventually(lambda: server.timer.stats.executions >= 3)
    (await api.post("/api/schedules/s1/pause", json={"note": "enough"})).raise_for_status()
    fires = (await api.get("/api/schedules/s1/fires?outcome=executed")).json()["records"]

    said = await ask(api, "s1/explain", at=fires[1]["nominal_time"])

    assert said["sentence"].startswith("It was due at 20")
    assert said["sentence"].endswith("and ran. Its execution waits for a node that serves demo and has room.")
    assert (said["outcome"], said["reason"], said["timezone"], said["policy"]) == ("executed", None, "UTC", {})
    assert (said["fire"], said["nominal_time"]) == (fires[1], fires[1]["nominal_time"])
    assert said["execution"]["id"] == fires[1]["execution_id"]
    assert (said["execution"]["status"], said["execution"]["error"]) == ("pending", None)
    assert (said["version"]["version"], said["version"]["by"]) == (1, "admin")
    assert said["version"]["from"] < said["nominal_time"] < said["version"]["to"]
    assert (said["before"], said["after"]) == (fires[2]["nominal_time"], fires[0]["nominal_time"])
    assert (said["outage"], said["freeze"], said["calendar"]) == (None, None, None)


async def test_without_a_moment_it_is_about_now(api: httpx.AsyncClient, known_demo: None) -> None:
    await put(api)

    said = await ask(api, "s1/explain")

    assert (said["outcome"], said["nominal_time"], said["fire"]) == ("not_due", None, None)
    assert said["after"].endswith("-01-01T00:00:00.000000Z")


async def test_a_moment_may_be_a_local_time(api: httpx.AsyncClient, known_demo: None) -> None:
    await put(api, trigger={**YEARLY, "timezone": "Europe/Berlin"})

    said = await ask(api, "s1/explain", at="2050-01-01T00:00:00")

    assert (said["outcome"], said["nominal_time"]) == ("upcoming", "2049-12-31T23:00:00.000000Z")
    assert "2050-01-01 00:00:00 Europe/Berlin (2049-12-31 23:00:00 UTC)" in said["sentence"]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Europe/Berlin", "Pacific/Honolulu"])
@pytest.mark.parametrize("expression", ["0 0 1 1 *", "0 9 * * *"])
@pytest.mark.parametrize(
    "at", ["1970-01-01T00:00:00Z", "1970-06-01T00:00:00", "9998-12-31T23:59:59.999999Z", "0", "253370764799"]
)
async def test_the_ends_of_time_are_moments_like_others(
    api: httpx.AsyncClient, known_demo: None, zone: str, expression: str, at: str
) -> None:
    await put(api, trigger={**YEARLY, "expression": expression, "timezone": zone})

    said = await ask(api, "s1/explain", at=at)

    assert said["outcome"] in ("not_created", "not_due")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00", "1969-12-31T23:59:59Z", "-1"])
async def test_a_moment_before_all_schedules_is_refused_with_the_bound(
    api: httpx.AsyncClient, known_demo: None, at: str
) -> None:
    await put(api, trigger=YEARLY)

    answer = await api.get("/api/schedules/s1/explain", params={"at": at})

    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "at")
    assert "expected a moment from 1970 on, got" in answer.json()["detail"]


@pytest.mark.parametrize(
    "at", ["9999-01-01T00:00:00Z", "9998-12-31T23:59:59", "9999-12-31T23:59:59-12:00", "253370764800", "253402300799"]
)
async def test_a_moment_behind_the_last_year_is_refused_with_the_bound(
    api: httpx.AsyncClient, known_demo: None, at: str
) -> None:
    await put(api, trigger={**YEARLY, "timezone": "Pacific/Honolulu"})

    answer = await api.get("/api/schedules/s1/explain", params={"at": at})

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["parameter"] == "at"
    assert "expected a moment before the year 9999, got " in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("nobody/explain", 404, None),
        ("s1/explain?at=noon", 400, "at"),
        ("s1/explain?at=-1", 400, "at"),
        ("s1/explain?at=1&at=2", 400, "at"),
        ("s1/explain?when=1", 400, "when"),
    ],
)
async def test_an_explanation_that_makes_no_sense_is_refused(
    api: httpx.AsyncClient, known_demo: None, path: str, status: int, parameter: str | None
) -> None:
    await put(api)

    answer = await api.get(f"/api/schedules/{path}")

    assert answer.status_code == status
    if parameter is not None:
        assert answer.json()["errors"][0]["parameter"] == parameter


# --- versions ---------------------------------------------------------------------------------------


async def three_versions(api: httpx.AsyncClient) -> None:
    await put(api, note="one", job_params={"deep": {"a": 1, "b": [1, 2]}}, job_method="echo")
    await put(api, note="two", job_params={"deep": {"a": 1, "b": [1, 3]}}, job_method="echo", options={"priority": 9})
    (await api.post("/api/schedules/s1/pause", json={"note": "three"})).raise_for_status()


async def test_every_version_is_listed_with_who_made_and_ended_it_and_what_it_changed(
    api: httpx.AsyncClient, known_demo: None
) -> None:
    await three_versions(api)

    page = await ask(api, "s1/versions")

    assert [(v["version"], v["changed"], v["deleted"], v["by"], v["ended_by"]) for v in page["records"]] == [
        (3, ["state", "note"], False, "admin", None),
        (2, ["job_params", "options", "note"], False, "admin", "admin"),
        (1, [], False, "admin", "admin"),
    ]
    newest, middle, oldest = page["records"]
    assert (newest["to"], middle["to"], oldest["to"]) == (None, newest["from"], middle["from"])
    assert [v["schedule"] for v in page["records"]] == [None] * 3


async def test_versions_are_paged_and_each_is_shown_with_its_content(api: httpx.AsyncClient, known_demo: None) -> None:
    await three_versions(api)
    (await api.delete("/api/schedules/s1")).raise_for_status()
    await put(api, note="again")

    found: list[dict[str, Any]] = []
    query: dict[str, object] = {"limit": 2}
    while True:
        page = await ask(api, "s1/versions", **query)
        found += page["records"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert found == (await ask(api, "s1/versions"))["records"]
    assert [(v["version"], v["deleted"]) for v in found] == [(1, False), (3, True), (2, False), (1, False)]
    # At the end of a page as well it is known what was changed.
    assert found[2]["changed"] == ["job_params", "options", "note"]
    [one] = (await ask(api, "s1/versions", version=2, generation=found[2]["generation"]))["records"]
    assert one | {"schedule": None} == found[2]
    assert (one["schedule"]["note"], one["schedule"]["job_params"]) == ("two", {"deep": {"a": 1, "b": [1, 3]}})
    [newest] = (await ask(api, "s1/versions", version=1))["records"]
    assert newest["schedule"]["note"] == "again"


async def test_two_versions_are_compared_value_by_value(api: httpx.AsyncClient, known_demo: None) -> None:
    await three_versions(api)

    diff = await ask(api, "s1/diff", **{"from": 1, "to": 2})

    assert (diff["schedule_id"], diff["from"], diff["to"]) == ("s1", 1, 2)
    assert diff["changes"] == [
        {"op": "changed", "pointer": "/job_params/deep/b", "before": [1, 2], "after": [1, 3]},
        {"op": "added", "pointer": "/options/priority", "before": None, "after": 9},
        {"op": "changed", "pointer": "/note", "before": "one", "after": "two"},
    ]
    newest = await ask(api, "s1/diff")
    assert (newest["from"], newest["to"]) == (2, 3)
    assert [change["pointer"] for change in newest["changes"]] == ["/state", "/note"]
    back = await ask(api, "s1/diff", **{"from": 3, "to": 1})
    assert {"op": "removed", "pointer": "/options/priority", "before": 9, "after": None} in back["changes"]
    assert (await ask(api, "s1/diff", **{"from": 2, "to": 2}))["changes"] == []


async def test_an_old_version_is_restored_as_a_new_one(api: httpx.AsyncClient, known_demo: None) -> None:
    await three_versions(api)
    before = (await ask(api, "s1/versions", version=1))["records"][0]["schedule"]
    tag = (await api.get("/api/schedules/s1")).headers["etag"]

    answer = await api.post("/api/schedules/s1/restore", json={"version": 1}, headers={"If-Match": tag})

    assert answer.status_code == 200
    restored = answer.json()
    assert (restored["version"], restored["updated_by"]) == (4, "admin")
    assert answer.headers["etag"] == f'"{restored["generation"]}-4"'
    own = {"version", "updated_at", "updated_by"}
    assert {k: v for k, v in restored.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    assert (await ask(api, "s1/diff", **{"from": 1, "to": 4}))["changes"] == []


async def test_a_deleted_schedule_is_made_again(api: httpx.AsyncClient, known_demo: None) -> None:
    await three_versions(api)
    (await api.delete("/api/schedules/s1")).raise_for_status()

    answer = await api.post("/api/schedules/s1/restore", json={"version": 2})

    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/schedules/s1"
    restored = (await api.get("/api/schedules/s1")).json()
    assert (restored["version"], restored["note"], restored["state"]) == (1, "two", "active")
    assert [v["deleted"] for v in (await ask(api, "s1/versions"))["records"]] == [False, True, False, False]
    # Of the older generation, which has to be named now.
    old = (await ask(api, "s1/versions"))["records"][1]["generation"]
    answer = await api.post("/api/schedules/s1/restore", json={"version": 3, "generation": old})
    assert (answer.json()["state"], answer.json()["note"], answer.json()["version"]) == ("paused", "three", 2)


async def test_how_a_schedule_ended_is_not_restored(server: Server, api: httpx.AsyncClient, known_demo: None) -> None:
    await put(api, trigger=FAST, policies={"max_fires": 2})

    async def finished() -> bool:
        return (await api.get("/api/schedules/s1")).json()["state"] == "finished"

    await eventually(finished)
    (await api.delete("/api/schedules/s1")).raise_for_status()
    [last] = (await ask(api, "s1/versions", version=1))["records"]
    assert last["schedule"]["note"] == "finished after 2 runs"

    restored = (await api.post("/api/schedules/s1/restore", json={"version": 1})).json()

    assert (restored["state"], restored["note"], restored["runs"]) == ("active", None, 0)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "where"),
    [
        ("GET", "nobody/versions", None, 404, None),
        ("GET", "s1/versions?version=9", None, 404, None),
        ("GET", "s1/versions?version=1&generation=999", None, 404, None),
        ("GET", "s1/versions?version=0", None, 400, "version"),
        ("GET", "s1/versions?generation=1", None, 400, "generation"),
        ("GET", "s1/versions?cursor=x", None, 400, "cursor"),
        ("GET", "nobody/diff", None, 404, None),
        ("GET", "s1/diff?from=7&to=9", None, 404, None),
        ("GET", "s1/diff?from=one", None, 400, "from"),
        ("GET", "s1/diff?generation=999", None, 404, None),
        ("POST", "nobody/restore", {"version": 1}, 404, None),
        ("POST", "s1/restore", {"version": 9}, 404, None),
        ("POST", "s1/restore", {}, 400, "/version"),
        ("POST", "s1/restore", {"version": "1"}, 400, "/version"),
        ("POST", "s1/restore", {"version": 3}, 409, None),
    ],
)
async def test_versions_that_make_no_sense_are_refused_and_change_nothing(
    api: httpx.AsyncClient, known_demo: None, method: str, path: str, body: Any, status: int, where: str | None
) -> None:
    await three_versions(api)

    answer = await api.request(method, f"/api/schedules/{path}", json=body)

    assert answer.status_code == status, answer.text
    if where is not None:
        [error] = answer.json()["errors"]
        assert error.get("parameter", error.get("pointer")) == where
    assert (await api.get("/api/schedules/s1")).json()["version"] == 3


async def test_a_version_that_is_not_valid_any_more_is_refused_with_the_reason(
    server: Server, api: httpx.AsyncClient, known_demo: None
) -> None:
    await put(api, job_method="echo")
    await put(api)
    server.dispatcher.registry.learn([Handler(handler_id="demo", methods=[JobMethod(name="noop")])])

    answer = await api.post("/api/schedules/s1/restore", json={"version": 1})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_method")
    assert answer.json()["errors"][0]["pointer"] == "/version"
    assert (await api.get("/api/schedules/s1")).json()["version"] == 2


async def test_a_restore_holds_to_the_version_that_it_was_asked_for(api: httpx.AsyncClient, known_demo: None) -> None:
    await three_versions(api)
    tag = f'"{(await api.get("/api/schedules/s1")).json()["generation"]}-2"'

    answer = await api.post("/api/schedules/s1/restore", json={"version": 1}, headers={"If-Match": tag})

    assert answer.status_code == 412
    assert (await api.get("/api/schedules/s1")).json()["version"] == 3


async def test_who_restored_it_is_told(server: Server, api: httpx.AsyncClient, known_demo: None) -> None:
    await three_versions(api)
    told: list[tuple[str, Any]] = []
    server.store.on_commit(lambda events: told.extend((event.kind, event.data.get("by")) for _, event in events))

    (await api.post("/api/schedules/s1/restore", json={"version": 1})).raise_for_status()

    assert ("schedule.updated", "admin") in told
