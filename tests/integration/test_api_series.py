"""The series over HTTP, of jobs that ran: exact counts, which a restart keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedule_zero.rules.series import HOUR_US, MINUTE_US, Stats
from schedule_zero.server import Server
from schedule_zero.store import series as store_series
from tests.integration.conftest import StartNode, api_client, know_demo, running_server
from tests.support import eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}
FAIL = {"handler_id": "demo", "job_method": "fail"}
FAR = "2999-01-01T00:00:00Z"


async def submit(api: httpx.AsyncClient, *items: dict[str, object]) -> list[str]:
    answer = await api.post("/api/executions", json={"executions": list(items)})
    assert answer.status_code == 202, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids


async def series(api: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    answer = await api.get("/api/series", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def summed(found: dict[str, Any], part: str) -> dict[str, int]:
    """Of all buckets, what is not zero."""
    totals: dict[str, int] = {}
    for bucket in found["buckets"]:
        for name, n in bucket[part].items():
            if n:
                totals[name] = totals.get(name, 0) + n
    return totals


def times(found: dict[str, Any], part: str) -> int:
    return sum(bucket[part]["n"] for bucket in found["buckets"] if bucket[part] is not None)


async def counted(api: httpx.AsyncClient, **ended: int) -> dict[str, Any]:
    """The series once so many have ended, each for good."""

    async def there() -> dict[str, Any] | None:
        found = await series(api)
        return found if sum(summed(found, "ended").values()) >= sum(ended.values()) else None

    found = await eventually(there)
    assert summed(found, "ended") == ended
    return found


async def test_whatever_an_execution_ends_as_is_counted_once(
    server: Server, api: httpx.AsyncClient, start_node: StartNode
) -> None:
    await start_node("n1")
    flaky = {"handler_id": "demo", "job_method": "flaky", "options": {"retry_delay_s": 0.01}}
    await submit(api, *[NOOP] * 40, *[FAIL] * 3, flaky)
    [id_] = await submit(api, {**NOOP, "not_before": FAR})
    await api.post(f"/api/executions/{id_}/cancel")

    found = await counted(api, completed=41, failed=3, cancelled=1)

    assert sum(bucket["created"] for bucket in found["buckets"]) == 45
    # The flaky one is tried three times; what was cancelled never began.
    assert times(found, "queue_wait") == times(found, "run_time") == 46
    assert times(found, "lateness") == 0
    assert found["failed"] == [{"handler_id": "demo", "n": 3}]
    last = found["buckets"][-1]
    assert (last["open"], last["running"], found["step_s"]) == (0, 0, 60)
    assert found["to"] >= last["time"]


async def test_fires_are_counted_by_outcome_and_their_lateness_is_measured(
    server: Server, api: httpx.AsyncClient, start_node: StartNode
) -> None:
    await start_node("n1")
    schedule = {
        "id": "a", **NOOP, "trigger": {"type": "interval", "milliseconds": 20}, "policies": {"max_fires": 5},
    }  # fmt: skip
    assert (await api.post("/api/schedules", json=schedule)).status_code == 201

    found = await counted(api, completed=5)

    assert summed(found, "fires") == {"executed": 5}
    assert times(found, "lateness") == 5
    assert max(bucket["lateness"]["p99_s"] for bucket in found["buckets"] if bucket["lateness"]) < 60


async def test_a_restart_keeps_what_the_charts_have_shown(tmp_path: Path) -> None:
    async with running_server(tmp_path / "server") as first, api_client(first) as api:
        know_demo(first)
        ids = await submit(api, *[NOOP] * 7)
        await api.post(f"/api/executions/{ids[0]}/cancel")
        before = await series(api)
    async with running_server(tmp_path / "server") as second, api_client(second) as api:
        after = await series(api)

    assert summed(before, "ended") == summed(after, "ended") == {"cancelled": 1}
    assert [sum(bucket["created"] for bucket in found["buckets"]) for found in (before, after)] == [7, 7]
    assert after["buckets"][-1]["open"] == 6


async def test_the_chores_write_it_down_and_delete_what_is_too_old(server: Server, api: httpx.AsyncClient) -> None:
    know_demo(server)
    chores = {chore.name: chore for chore in server._chores()}
    await submit(api, NOOP)
    now_us = server.clock.wall_us()
    old_us = (now_us - 8 * 24 * HOUR_US) // MINUTE_US * MINUTE_US
    await server.store.write(store_series.add, {old_us: Stats(created=3)})

    await chores["series"].run_once()
    await chores["series_age"].run_once()

    rows = await server.store.read(lambda conn: store_series.between(conn, MINUTE_US, 0, 1 << 62))
    assert [stats.created for _, stats in rows if stats.created] == [1]


async def test_a_range_of_the_past_is_in_buckets_of_the_length_that_was_asked_for(api: httpx.AsyncClient) -> None:
    until = datetime.now(UTC) - timedelta(days=1)
    since = until - timedelta(hours=6)

    found = await series(api, since=since.isoformat(), until=until.isoformat(), step_s=1000)

    assert found["step_s"] == 3600
    assert len(found["buckets"]) == 7
    empty = found["buckets"][0]
    assert (empty["created"], empty["open"], empty["running"], empty["run_time"]) == (0, None, None, None)
    assert datetime.fromisoformat(empty["time"]).minute == 0


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("since=2030-01-02T00:00:00Z&until=2030-01-01T00:00:00Z", "until"),
        ("since=2020-01-01T00:00:00Z", "since"),
        ("since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z&step_s=60", "step_s"),
        ("step_s=0", "step_s"),
        ("step_s=86401", "step_s"),
        ("since=yesterday", "since"),
        ("until=1961-01-01T00:00:00Z", "until"),
        ("since=9999-12-31T23:59:00Z", "since"),
    ],
)
async def test_a_range_that_makes_no_chart_is_refused_by_name(
    api: httpx.AsyncClient, query: str, parameter: str
) -> None:
    answer = await api.get(f"/api/series?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == parameter
