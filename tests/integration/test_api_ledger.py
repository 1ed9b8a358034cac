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
