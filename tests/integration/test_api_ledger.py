"""The ledger over HTTP: audits, explanations, versions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

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


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "0", "253402300799"]
)
async def test_the_ends_of_time_are_moments_like_others(api: httpx.AsyncClient, known_demo: None, at: str) -> None:
    await put(api, trigger={**YEARLY, "timezone": "Pacific/Kiritimati"})

    said = await ask(api, "s1/explain", at=at)

    assert said["outcome"] in ("not_created", "not_due")


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
