"""Named calendars on a running server: what they forbid stands in the ledger, and what they move is moved."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from schedule_zero.clock import from_us
from schedule_zero.store import calendars as store_calendars
from schedule_zero.timing.calendar_rules import WEEKDAYS
from tests.integration.conftest import api_client, know_demo, running_server
from tests.support import eventually

pytestmark = pytest.mark.anyio

EVERY_DAY = {"weekly": [{"days": list(WEEKDAYS), "label": "never"}]}
FAST = {"type": "interval", "milliseconds": 20}


async def put_calendar(api: httpx.AsyncClient, name: str, document: dict[str, Any]) -> None:
    answer = await api.put(f"/api/calendars/{name}", json=document)
    assert answer.status_code in (200, 201), answer.text


async def put_schedule(api: httpx.AsyncClient, trigger: dict[str, Any], **policies: Any) -> dict[str, Any]:
    body = {"handler_id": "demo", "job_method": "noop", "trigger": trigger, "policies": policies}
    answer = await api.put("/api/schedules/s", json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def fires(api: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    return (await api.get("/api/schedules/s/fires", params={"limit": 500, **query})).json()["records"]


def today(server: Any) -> date:
    return from_us(server.clock.wall_us()).date()


@pytest.mark.parametrize(
    ("document", "policies", "expected"),
    [
        (EVERY_DAY, {"exclude": ["c"]}, ("blackout", "c: never")),
        ({}, {"require": ["c"]}, ("blackout", "outside of c")),
        (EVERY_DAY, {"business_days": {"calendar": "c", "rule": "skip"}}, ("holiday", "c: never")),
    ],
)
async def test_what_a_calendar_forbids_stands_in_the_ledger(api, known_demo, document, policies, expected):
    await put_calendar(api, "c", document)
    await put_schedule(api, FAST, **policies)

    found = await eventually(lambda: fires(api))

    assert {(one["outcome"], one["reason"], one["detail"]) for one in found} == {("skipped", *expected)}
    assert (await api.get("/api/executions?schedule_id=s")).json()["records"] == []


async def test_own_dates_are_holidays_in_the_ledger(api, server, known_demo):
    near = [today(server) + timedelta(days=shift) for shift in (-1, 0, 1)]
    await put_calendar(api, "c", {"dates": [day.isoformat() for day in near]})
    await put_schedule(api, FAST, exclude=["c"])

    found = await eventually(lambda: fires(api))

    assert found[0]["reason"] == "holiday"
    assert found[0]["detail"] in {f"c: {day}" for day in near}


async def test_a_changed_calendar_counts_from_then_on(api, known_demo):
    await put_calendar(api, "c", EVERY_DAY)
    await put_schedule(api, FAST, exclude=["c"])
    await eventually(lambda: fires(api))

    await put_calendar(api, "c", {})

    assert await eventually(lambda: fires(api, outcome="executed"))
    before = await fires(api, outcome="skipped")
    assert before
    assert {one["detail"] for one in before} == {"c: never"}


async def test_fires_are_moved_to_business_days_and_move_on_with_the_calendar(api, server, known_demo):
    first = datetime(today(server).year + 1, 7, 1, 9, tzinfo=UTC)
    closed = [first.date() + timedelta(days=shift) for shift in range(3)]
    await put_calendar(api, "c", {"dates": [day.isoformat() for day in closed]})
    yearly = {"type": "cron", "expression": "0 9 1 7 *", "start": f"{first.year}-01-01T00:00:00Z"}

    moved = await put_schedule(api, yearly, business_days={"calendar": "c", "rule": "next"})
    assert moved["next_fire_time"] == f"{first.year}-07-04T09:00:00.000000Z"
    assert moved["policies"]["business_days"]["version"] == 1

    await put_calendar(api, "c", {"dates": [closed[0].isoformat()]})

    async def bound_anew() -> bool:
        shown = (await api.get("/api/schedules/s")).json()
        assert shown["policies"]["business_days"]["version"] in (1, 2)
        return shown["next_fire_time"] == f"{first.year}-07-02T09:00:00.000000Z"

    assert await eventually(bound_anew)


async def test_a_change_that_a_crash_kept_from_its_schedules_reaches_them_at_the_next_start(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        know_demo(server)
        year = today(server).year + 1
        yearly = {"type": "cron", "expression": "0 9 1 7 *", "start": f"{year}-01-01T00:00:00Z"}
        await put_calendar(api, "c", {"dates": [f"{year}-07-01"]})
        await put_schedule(api, yearly, business_days={"calendar": "c", "rule": "next"})
        # As if the server had been killed right after it.
        new = store_calendars.Put(name="c", document=f'{{"dates":["{year}-07-01","{year}-07-02"]}}'.encode())
        await server.store.write(store_calendars.put, new)

    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        shown = (await api.get("/api/schedules/s")).json()

    assert shown["policies"]["business_days"]["version"] == 2
    assert shown["next_fire_time"] == f"{year}-07-03T09:00:00.000000Z"
    assert shown["updated_by"] == "calendar c"


async def test_an_interval_has_no_days_to_move(api, known_demo):
    await put_calendar(api, "c", EVERY_DAY)
    policies = {"business_days": {"calendar": "c", "rule": "next"}}

    answer = await api.post(
        "/api/schedules", json={"handler_id": "demo", "job_method": "noop", "trigger": FAST, "policies": policies}
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_trigger"
