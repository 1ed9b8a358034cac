"""Forecast and diary over HTTP, as a user asks for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import icalendar
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("known_demo")]

HOURLY = {"type": "cron", "expression": "0 * * * *"}


async def create(api, id_, trigger, **fields):
    body = {"id": id_, "handler_id": "demo", "job_method": "noop", "trigger": trigger, **fields}
    answer = await api.post("/api/schedules", json=body)
    assert answer.status_code == 201, answer.text


async def entries(api, query=""):
    answer = await api.get(f"/api/fires.ics{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
    return list(icalendar.Calendar.from_ical(answer.content).walk("VEVENT"))


async def test_the_forecast_counts_the_coming_day_and_names_what_collides(api):
    await create(api, "a", HOURLY)
    await create(api, "b", HOURLY)
    await create(api, "paused", HOURLY, paused=True)

    answer = await api.get("/api/forecast", params={"quiet_s": 7200})

    found = answer.json()
    assert (found["schedules"], found["fires"], len(found["buckets"])) == (2, 48, 24)
    assert found["peaks"][0]["schedule_ids"] == ["a", "b"]
    assert found["quietest"]["fires"] == 4
    assert found["complete"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "to"),
        ("from=2030-01-01T00:00:00Z&to=2032-01-01T00:00:00Z", "to"),
        ("from=9999-12-31T12:00:00Z", "from"),
        ("from=1960-01-01T00:00:00Z&to=1961-01-01T00:00:00Z", "from"),
        ("to=1961-01-01T00:00:00Z", "to"),
        ("bucket_s=1", "bucket_s"),
        ("bucket_s=0", "bucket_s"),
        ("quiet_s=900000", "quiet_s"),
        ("from=tomorrow", "from"),
    ],
)
async def test_a_range_that_makes_no_sense_is_refused_by_name(api, query, parameter):
    answer = await api.get(f"/api/forecast?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == parameter


async def test_the_feed_has_an_entry_for_each_fire_to_come(api):
    await create(api, "a", HOURLY, note="why")

    found = await entries(api, "?days=1")

    assert len(found) == 24
    first = found[0]
    assert (str(first["SUMMARY"]), str(first["DESCRIPTION"])) == ("a", "demo.noop\nwhy")
    assert datetime.now(UTC) < first["DTSTART"].dt <= datetime.now(UTC) + timedelta(hours=1)
    assert len({str(entry["UID"]) for entry in found}) == 24


async def test_the_feed_leaves_out_what_is_asked_to_be_skipped_and_what_is_paused(api):
    await create(api, "a", HOURLY)
    await create(api, "paused", HOURLY, paused=True)
    skipped = (await api.post("/api/schedules/a/skip", json={"count": 2})).json()["skips"]

    found = await entries(api, "?days=1")

    assert len(found) == 22
    assert {entry["DTSTART"].dt for entry in found}.isdisjoint(map(datetime.fromisoformat, skipped))


async def test_a_stream_does_not_fill_the_diary(api):
    await create(api, "often", {"type": "interval", "seconds": 1})
    await create(api, "daily", {"type": "cron", "expression": "0 0 * * *"})

    found = await entries(api, "?days=3")

    assert [str(entry["SUMMARY"]) for entry in found].count("daily") == 3
    assert [str(entry["SUMMARY"]) for entry in found].count("often") == 500


async def test_the_feed_of_one_schedule_that_is_not_there_is_a_404(api):
    assert (await api.get("/api/fires.ics?schedule_id=nobody")).status_code == 404


ALL_DAY = {"weekly": [{"days": ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]}]}


async def test_forecast_and_feed_leave_out_what_calendars_forbid_and_what_is_beyond_the_last_run(api):
    assert (await api.put("/api/calendars/allday", json=ALL_DAY)).status_code == 201
    await create(api, "never", HOURLY, policies={"exclude": ["allday"]})
    await create(api, "twice", HOURLY, policies={"max_fires": 2})

    found = (await api.get("/api/forecast")).json()
    later = datetime.now(UTC) + timedelta(days=2)
    after = (
        await api.get("/api/forecast", params={"from": later.isoformat(), "to": later.timestamp() + 86_400})
    ).json()

    assert (found["schedules"], found["fires"], found["peaks"]) == (1, 2, [])
    assert (after["schedules"], after["fires"]) == (0, 0)
    assert [str(entry["SUMMARY"]) for entry in await entries(api, "?days=1")] == ["twice", "twice"]


async def test_forecast_and_feed_expect_a_snoozed_schedule_again_when_it_goes_on(api):
    await create(api, "a", HOURLY)
    until = (datetime.now(UTC) + timedelta(hours=20)).replace(minute=30)
    assert (await api.post("/api/schedules/a/pause", json={"until": until.isoformat()})).status_code == 200

    found = (await api.get("/api/forecast", params={"to": until.timestamp() + 7200})).json()
    feed = await entries(api, "?days=1&schedule_id=a")

    assert found["fires"] == 2
    assert min(entry["DTSTART"].dt for entry in feed) > until
    await api.post("/api/schedules/a/pause")
    assert await entries(api, "?days=1&schedule_id=a") == []


async def test_nothing_is_to_come_before_a_schedule_was_made(api):
    await create(api, "a", HOURLY)

    found = (await api.get("/api/forecast?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z")).json()

    assert (found["schedules"], found["fires"]) == (0, 0)
