"""The preview says what firing will do, and what is special about it."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("known_demo")]

BERLIN = "Europe/Berlin"


async def preview(api, trigger, **more):
    answer = await api.post("/api/triggers/preview", json={"trigger": trigger, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_fire_that_the_clock_jumps_over_is_made_up_for_and_marked(api):
    daily = {"type": "cron", "expression": "30 2 * * *", "timezone": BERLIN}

    seen = await preview(api, daily, n=3, after="2027-03-27T00:00:00Z")

    assert [(fire["time"], fire["local"], fire["marks"]) for fire in seen["fires"]] == [
        ("2027-03-27T01:30:00.000000Z", "2027-03-27T02:30:00+01:00", []),
        ("2027-03-28T01:00:00.000000Z", "2027-03-28T03:00:00+02:00", ["dst_gap"]),
        ("2027-03-29T00:30:00.000000Z", "2027-03-29T02:30:00+02:00", []),
    ]
    assert (seen["zone"], seen["left_out"]) == (BERLIN, [])


async def test_a_fire_that_is_left_out_by_the_clock_is_told(api):
    daily = {"type": "cron", "expression": "30 2 * * *", "timezone": BERLIN, "dst_gap": "skip"}

    seen = await preview(api, daily, n=2, after="2027-03-27T12:00:00Z")

    assert seen["left_out"] == [{"local": "2027-03-28T02:30:00", "after": "2027-03-28T01:00:00.000000Z"}]


async def test_a_local_time_that_comes_twice_is_marked(api):
    daily = {"type": "calendar", "days": 1, "at": "02:30", "timezone": BERLIN, "start_date": "2027-10-30"}

    seen = await preview(api, daily, n=2, after="2027-10-30T12:00:00Z")

    assert [fire["marks"] for fire in seen["fires"]] == [["dst_fold"], []]


async def test_traps_are_pointed_out(api):
    seen = await preview(api, {"type": "cron", "expression": "0 0 31 * *"})

    assert any("31" in warning for warning in seen["warnings"])


async def test_several_triggers_are_one_and_say_so(api):
    seen = await preview(
        api,
        [{"type": "cron", "expression": "0 9 * * *"}, {"type": "cron", "expression": "0 17 * * *"}],
        n=3,
        after="2030-01-01T00:00:00Z",
    )

    assert [fire["time"][11:16] for fire in seen["fires"]] == ["09:00", "17:00", "09:00"]
    assert seen["trigger"]["type"] == "or"


async def test_a_zone_is_meant_where_the_trigger_names_none(api):
    seen = await preview(
        api, {"type": "cron", "expression": "0 9 * * *"}, timezone=BERLIN, n=1, after="2030-01-01T00:00:00Z"
    )

    assert seen["fires"][0]["time"] == "2030-01-01T08:00:00.000000Z"


async def test_the_minute_of_an_h_is_the_one_that_the_schedule_will_have(api):
    trigger = {"type": "cron", "expression": "H H * * *"}
    seen = await preview(api, trigger, id="nightly", n=1)

    body = {"id": "nightly", "handler_id": "demo", "job_method": "noop", "trigger": trigger}
    made = (await api.post("/api/schedules", json=body)).json()["schedules"][0]

    assert made["next_fire_time"] == seen["fires"][0]["time"]


async def test_what_waits_for_something_has_no_times_and_is_no_error(api):
    for kind in ("startup", "manual"):
        seen = await preview(api, {"type": kind})
        assert seen["fires"] == []


async def test_an_unknown_calendar_is_refused_with_its_place(api):
    answer = await api.post(
        "/api/triggers/preview",
        json={"trigger": {"type": "cron", "expression": "0 9 * * *"}, "policies": {"exclude": ["nowhere"]}},
    )

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/policies/exclude/0"


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "Pacific/Kiritimati", "Pacific/Honolulu"])
async def test_the_last_fires_of_all_are_shown(api, zone):
    daily = {"type": "cron", "expression": "0 9 * * *", "timezone": zone}

    seen = await preview(api, daily, after="9998-12-30T20:00:00Z", n=10)

    assert seen["fires"]
    assert all("9998-12-30" < fire["time"] < "9999" and fire["local"][10:16] == "T09:00" for fire in seen["fires"])
    assert (await preview(api, daily, after="9998-12-31T23:59:59.999999Z"))["fires"] == []


@pytest.mark.parametrize("after", ["9999-01-01T00:00:00Z", "9999-12-31T00:00:00Z", 253_402_300_799])
async def test_a_moment_behind_the_last_year_is_refused_with_the_bound(api, after):
    body = {"trigger": {"type": "cron", "expression": "0 9 * * *"}, "after": after}

    answer = await api.post("/api/triggers/preview", json=body)

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"] == [{"detail": answer.json()["detail"], "pointer": "/after"}]
    assert "expected a moment before the year 9999, got " in answer.json()["detail"]


@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        (
            {"type": "cron", "expression": "0 9 * * *", "end": "2020-01-01T00:00:00Z"},
            "its end, 2020-01-01T00:00:00.000000Z, has passed",
        ),
        ({"type": "date", "run_date": 0}, "its run_date, 1970-01-01T00:00:00.000000Z, has passed"),
        (
            {"type": "interval", "minutes": 5, "anchor": "end", "start": 0, "end": 10},
            "its end, 1970-01-01T00:00:10.000000Z, has passed",
        ),
    ],
)
async def test_what_never_fires_is_told_with_the_reason_and_refused_with_the_same(api, trigger, why):
    seen = await preview(api, trigger, after="2026-11-20T00:00:00Z")
    refused = await api.post("/api/schedules", json={"handler_id": "demo", "job_method": "noop", "trigger": trigger})

    assert (seen["fires"], seen["warnings"][0]) == ([], f"it has no fire after 2026-11-20T00:00:00.000000Z: {why}")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/trigger")
    assert refused.json()["detail"] == f"the trigger has no fire after now: {why}"


async def test_what_follows_its_runs_is_shown_to_begin_now(api):
    trigger = {"type": "interval", "minutes": 5, "anchor": "end", "start": 0}

    seen = await preview(api, trigger, after="2026-11-20T00:00:00Z")

    assert [fire["time"] for fire in seen["fires"]] == ["2026-11-20T00:00:00.000000Z"]


@pytest.mark.parametrize(
    ("expression", "day", "skipped", "moved_to"),
    [
        # Saturday in Apia, and Friday still in Berlin.
        ("0 9 1 5 *", "2027-05-01", ["holiday"], "2027-05-03"),
        # Monday in Apia, and Sunday still in Berlin.
        ("30 0 25 10 *", "2027-10-25", [], "2027-10-25"),
    ],
)
async def test_the_day_of_every_business_day_rule_is_read_in_the_triggers_zone(api, expression, day, skipped, moved_to):
    document = {"timezone": BERLIN, "weekly": [{"days": ["SAT", "SUN"]}]}
    assert (await api.put("/api/calendars/biz", json=document)).status_code == 201
    trigger = {"type": "cron", "expression": expression, "timezone": "Pacific/Apia"}

    async def first(rule):
        policies = {"business_days": {"calendar": "biz", "rule": rule}}
        [fire] = (await preview(api, trigger, policies=policies, n=1, after=f"{day[:4]}-01-01T00:00:00Z"))["fires"]
        return fire

    left_out, moved = await first("skip"), await first("next")

    assert (left_out["local"][:10], left_out["marks"]) == (day, skipped)
    assert (moved["local"][:10], moved["marks"]) == (moved_to, ["shifted"] if moved_to != day else [])


async def test_an_interval_names_no_day_so_the_calendars_zone_says_which_day_it_is(api):
    document = {"timezone": "Pacific/Apia", "weekly": [{"days": ["SAT"]}]}
    assert (await api.put("/api/calendars/biz", json=document)).status_code == 201
    trigger = {"type": "interval", "hours": 1, "start": "2027-04-30T10:00:00Z"}
    policies = {"business_days": {"calendar": "biz", "rule": "skip"}}

    seen = await preview(api, trigger, policies=policies, n=3, after="2027-04-30T09:30:00Z")

    assert [fire["marks"] for fire in seen["fires"]] == [[], ["holiday"], ["holiday"]]


async def test_a_preview_ends_with_the_last_fire_that_may_run(api):
    closed = {"weekly": [{"days": ["FRI"]}]}
    assert (await api.put("/api/calendars/closed", json=closed)).status_code == 201
    trigger = {"type": "cron", "expression": "0 9 * * *"}

    seen = await preview(
        api, trigger, policies={"max_fires": 2, "exclude": ["closed"]}, n=50, after="2027-01-07T00:00:00Z"
    )

    assert [(fire["time"][:10], fire["marks"]) for fire in seen["fires"]] == [
        ("2027-01-07", []), ("2027-01-08", ["blackout"]), ("2027-01-09", []),
    ]  # fmt: skip
