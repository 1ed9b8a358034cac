"""What happens to fires, over HTTP: policies, snooze, skip, freeze, backfill, and the ledger of all schedules."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from schedule_zero.clock import rfc3339
from tests.integration.conftest import api_client, know_demo, running_server
from tests.support import eventually

pytestmark = pytest.mark.anyio

YEARLY = {"type": "cron", "expression": "0 0 1 1 *", "timezone": "UTC"}
HOURLY = {"type": "cron", "expression": "0 * * * *", "timezone": "UTC"}
NOOP = {"handler_id": "demo", "job_method": "noop", "trigger": YEARLY}
FAR = "2999-01-01T00:00:00.000000Z"
YESTERYEAR = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-01T23:59:59Z"}
POLICIES = {
    "catch_up": "all", "catch_up_window_s": 60.0, "catch_up_max": 7, "coalesce": True, "overlap": "buffer_one",
    "max_fires": 9, "max_failures": 3, "jitter_s": 1.5, "jitter": "hash",
}  # fmt: skip


async def put(api: httpx.AsyncClient, id_: str = "s1", **changes: object) -> httpx.Response:
    return await api.put(f"/api/schedules/{id_}", json={**NOOP, **changes})


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and pointer of a refusal."""
    problem = answer.json()
    [first, *_] = problem.get("errors") or [{}]
    return answer.status_code, problem["error"]["code"], first.get("pointer")


# --- policies -----------------------------------------------------------------------------------------


async def test_policies_are_stored_and_shown_as_they_were_sent(api, known_demo):
    made = (await put(api, policies=POLICIES)).json()

    assert made["policies"] == POLICIES
    assert (made["runs"], made["skips"], made["paused_until"], made["waits_for"]) == (0, [], None, None)
    assert made["updated_by"] == "admin"
    assert (await api.get("/api/schedules/s1")).json() == made


async def test_without_policies_a_schedule_shows_none(api, known_demo):
    assert (await put(api)).json()["policies"] == {}
    assert (await put(api, policies={"catch_up": "latest", "overlap": "allow"})).json()["policies"] == {}


BAD_POLICIES = [
    ({"catch_up": "some"}, "/policies/catch_up"),
    ({"catch_up_window_s": 0}, "/policies/catch_up_window_s"),
    ({"catch_up_max": 0}, "/policies/catch_up_max"),
    ({"catch_up_max": 1001}, "/policies/catch_up_max"),
    ({"coalesce": "yes"}, "/policies/coalesce"),
    ({"overlap": "never"}, "/policies/overlap"),
    ({"max_fires": 0}, "/policies/max_fires"),
    ({"max_failures": 0}, "/policies/max_failures"),
    ({"jitter_s": -1}, "/policies/jitter_s"),
    ({"jitter": "wild"}, "/policies/jitter"),
    ({"jitters": 1}, "/policies/jitters"),
    ({"exclude": "holidays"}, "/policies/exclude"),
    ({"catch_up_window_s": 1.0}, "/policies/catch_up_window_s"),
    ({"business_days": {"rule": "skip"}}, "/policies/business_days/calendar"),
]


@pytest.mark.parametrize(("policies", "pointer"), BAD_POLICIES)
async def test_a_bad_policy_is_refused_with_a_pointer_and_changes_nothing(api, known_demo, policies, pointer):
    before = (await put(api)).json()

    created = await api.post("/api/schedules", json={**NOOP, "id": "new", "policies": policies})
    replaced = await put(api, policies=policies)
    patched = await api.patch("/api/schedules/s1", json={"policies": policies})

    for answer in (created, replaced, patched):
        status, _, where = refusal(answer)
        assert status == 400, answer.text
        # What is missing is said of the object that it is missing in.
        assert where is not None, answer.text
        assert pointer.startswith(where), answer.text
        assert where != "", answer.text
    assert (await api.get("/api/schedules/new")).status_code == 404
    assert (await api.get("/api/schedules/s1")).json() == before


async def test_a_patch_of_policies_is_merged_and_null_goes_back_to_the_default(api, known_demo):
    await put(api, policies=POLICIES)

    one = (await api.patch("/api/schedules/s1", json={"policies": {"overlap": None, "jitter_s": 2}})).json()
    assert one["policies"] == {name: value for name, value in POLICIES.items() if name != "overlap"} | {"jitter_s": 2.0}
    none = (await api.patch("/api/schedules/s1", json={"policies": None})).json()
    assert none["policies"] == {}


async def test_a_put_without_policies_has_none(api, known_demo):
    await put(api, policies=POLICIES)

    assert (await put(api)).json()["policies"] == {}


@pytest.mark.parametrize("grace_s", [0, 0.0005])
async def test_a_grace_in_which_nothing_could_ever_run_is_refused(api, known_demo, grace_s):
    """Every fire is a little late; with catch-up it runs nevertheless."""
    refused = await put(api, misfire_grace_s=grace_s, policies={"catch_up": "none"})
    taken = await put(api, misfire_grace_s=grace_s)

    assert refusal(refused)[::2] == (400, "/misfire_grace_s")
    assert f"expected at least 0.1 with catch_up none, as every fire is a bit late, got {grace_s:g}" in refused.text
    assert taken.status_code == 201


# --- snooze -------------------------------------------------------------------------------------------


async def test_a_pause_with_an_end_says_so(api, known_demo):
    await put(api)

    snoozed = (await api.post("/api/schedules/s1/pause", json={"until": FAR, "note": "holiday"})).json()
    assert (snoozed["state"], snoozed["paused_until"], snoozed["note"]) == ("paused", FAR, "holiday")
    resumed = (await api.post("/api/schedules/s1/resume")).json()
    assert (resumed["state"], resumed["paused_until"]) == ("active", None)


async def test_whoever_only_changes_the_end_of_a_pause_leaves_its_note(api, known_demo):
    await put(api)
    await api.post("/api/schedules/s1/pause", json={"note": "incident 42"})

    assert (await api.post("/api/schedules/s1/pause", json={"until": FAR})).json()["note"] == "incident 42"
    assert (await api.post("/api/schedules/s1/pause", json={"note": "43"})).json()["note"] == "43"


async def test_a_pause_without_an_end_replaces_one_with_an_end(api, known_demo):
    await put(api)
    await api.post("/api/schedules/s1/pause", json={"until": FAR})

    assert (await api.post("/api/schedules/s1/pause")).json()["paused_until"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"until": "2020-01-01T00:00:00Z"},
        {"until": 0},
        {"until": "tomorrow"},
        {"until": "2999-01-01T00:00:00"},
        {"until": "1960-01-01T00:00:00Z"},
        {"until": "9999-06-01T00:00:00Z"},
        {"until": 253_370_764_800},
    ],
)
async def test_a_pause_until_no_moment_to_come_is_refused(api, known_demo, body):
    await put(api)

    answer = await api.post("/api/schedules/s1/pause", json=body)

    assert refusal(answer) == (400, "invalid_field", "/until")
    assert (await api.get("/api/schedules/s1")).json()["state"] == "active"


async def test_a_put_keeps_the_snooze_and_the_skips_while_the_times_stay(api, known_demo):
    await put(api)
    skips = (await api.post("/api/schedules/s1/skip")).json()["skips"]
    await api.post("/api/schedules/s1/pause", json={"until": FAR})

    same = (await put(api, paused=True, options={"priority": 1})).json()
    assert (same["paused_until"], same["skips"]) == (FAR, skips)
    other = (await put(api, paused=True, trigger=HOURLY)).json()
    assert (other["paused_until"], other["skips"]) == (FAR, [])
    active = (await put(api, trigger=HOURLY)).json()
    assert (active["state"], active["paused_until"]) == ("active", None)


async def test_a_patch_keeps_the_snooze_and_the_skips(api, known_demo):
    await put(api)
    skips = (await api.post("/api/schedules/s1/skip", json={"count": 2})).json()["skips"]
    await api.post("/api/schedules/s1/pause", json={"until": FAR})

    patched = (await api.patch("/api/schedules/s1", json={"misfire_grace_s": 7})).json()

    assert (patched["state"], patched["paused_until"], patched["skips"]) == ("paused", FAR, skips)


async def test_a_finished_schedule_has_nothing_to_snooze(api, known_demo):
    soon = (datetime.now(UTC) + timedelta(milliseconds=50)).isoformat()
    await put(api, trigger={"type": "date", "run_date": soon})

    async def finished() -> bool:
        return (await api.get("/api/schedules/s1")).json()["state"] == "finished"

    await eventually(finished)
    answer = await api.post("/api/schedules/s1/pause", json={"until": FAR})

    assert refusal(answer)[:2] == (409, "wrong_state")
    assert refusal(await api.post("/api/schedules/s1/resume"))[:2] == (400, "invalid_trigger")
    assert (await api.get("/api/schedules/s1")).json()["state"] == "finished"


# --- skip ---------------------------------------------------------------------------------------------


async def test_skips_add_up_and_are_taken_back(api, known_demo):
    first = (await put(api, trigger=HOURLY)).json()["next_fire_time"]

    one = (await api.post("/api/schedules/s1/skip")).json()
    assert one["skips"] == [first]
    three = (await api.post("/api/schedules/s1/skip", json={"count": 2})).json()
    hours = [datetime.fromisoformat(text) for text in three["skips"]]
    assert [(hour - hours[0]) / timedelta(hours=1) for hour in hours] == [0, 1, 2]
    assert three["version"] > one["version"]
    none = (await api.delete("/api/schedules/s1/skip")).json()
    assert none["skips"] == []


@pytest.mark.parametrize("count", [0, -1, 101, 1.5, "two", None])
async def test_a_count_that_is_none_is_refused(api, known_demo, count):
    await put(api)

    assert refusal(await api.post("/api/schedules/s1/skip", json={"count": count})) == (
        400, "invalid_field", "/count",
    )  # fmt: skip


async def test_no_more_than_a_hundred_fires_are_skipped_in_all(api, known_demo):
    await put(api, trigger=HOURLY)
    await api.post("/api/schedules/s1/skip", json={"count": 99})

    assert len((await api.post("/api/schedules/s1/skip")).json()["skips"]) == 100
    assert refusal(await api.post("/api/schedules/s1/skip")) == (400, "invalid_field", "/count")


async def test_more_fires_than_there_are_cannot_be_skipped(api, known_demo):
    await put(api, trigger={"type": "date", "run_date": FAR})

    answer = await api.post("/api/schedules/s1/skip", json={"count": 2})

    assert refusal(answer)[:2] == (409, "wrong_state")
    assert "has only 1 fire" in answer.json()["detail"]
    assert (await api.get("/api/schedules/s1")).json()["skips"] == []


# --- freeze -------------------------------------------------------------------------------------------


async def test_freeze_and_thaw_are_kept_and_conflict_with_themselves(api):
    assert (await api.get("/api/freezes")).json() == {"current": None, "freezes": []}
    assert refusal(await api.post("/api/thaw", json={"catch_up": "all"}))[:2] == (409, "wrong_state")

    frozen = await api.post("/api/freeze", json={"note": "move", "until": FAR, "catch_up": "latest"})

    assert frozen.status_code == 200
    record = frozen.json()
    assert (record["note"], record["to"], record["catch_up"], record["by"]) == ("move", FAR, "latest", "admin")
    assert refusal(await api.post("/api/freeze"))[:2] == (409, "wrong_state")
    assert (await api.get("/api/freezes")).json() == {"current": record, "freezes": [record]}

    thawed = (await api.post("/api/thaw", json={"catch_up": "none"})).json()
    assert (thawed["id"], thawed["catch_up"]) == (record["id"], "none")
    assert record["from"] <= thawed["to"] < FAR
    assert refusal(await api.post("/api/thaw", json={"catch_up": "none"}))[:2] == (409, "wrong_state")
    assert (await api.get("/api/freezes")).json() == {"current": None, "freezes": [thawed]}


async def test_what_is_made_up_for_goes_with_an_end_of_the_freeze(api):
    refused = await api.post("/api/freeze", json={"catch_up": "none"})

    assert refusal(refused)[::2] == (400, "/catch_up")
    assert (await api.get("/api/freezes")).json()["current"] is None
    ended = (await api.post("/api/freeze", json={"until": FAR})).json()
    assert (ended["catch_up"], ended["thawed_by"]) == ("policy", None)
    assert (await api.post("/api/thaw", json={"catch_up": "none"})).json()["thawed_by"] == "admin"


async def test_a_freeze_needs_no_body_and_the_newest_is_shown_first(api):
    first = (await api.post("/api/freeze")).json()
    assert (first["to"], first["note"], first["catch_up"]) == (None, None, "policy")
    await api.post("/api/thaw", json={"catch_up": "policy"})
    second = (await api.post("/api/freeze", json={})).json()

    shown = (await api.get("/api/freezes")).json()

    assert [row["id"] for row in shown["freezes"]] == [second["id"], first["id"]]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("freeze", {"until": "2020-01-01T00:00:00Z"}, "/until"),
        ("freeze", {"until": "1960-01-01T00:00:00Z"}, "/until"),
        ("freeze", {"until": "9999-06-01T00:00:00Z"}, "/until"),
        ("freeze", {"until": "soon"}, "/until"),
        ("freeze", {"catch_up": "some"}, "/catch_up"),
        ("freeze", {"note": "x" * 501}, "/note"),
        ("freeze", {"why": "x"}, "/why"),
        ("thaw", {"catch_up": "some"}, "/catch_up"),
        ("thaw", {}, "/catch_up"),
    ],
)
async def test_a_bad_freeze_or_thaw_is_refused_and_changes_nothing(api, path, body, pointer):
    answer = await api.post(f"/api/{path}", json=body)

    status, code, where = refusal(answer)
    assert (status, code) == (400, "invalid_field"), answer.text
    assert where is not None
    assert pointer.startswith(where)
    assert (await api.get("/api/freezes")).json()["freezes"] == []


async def test_nothing_fires_in_a_freeze_and_thaw_says_what_is_made_up_for(api, known_demo):
    await api.post("/api/freeze")
    await put(api, trigger={"type": "interval", "milliseconds": 20})
    due = (await api.get("/api/schedules/s1")).json()["next_fire_time"]

    async def overdue() -> bool:
        return datetime.now(UTC) > datetime.fromisoformat(due) + timedelta(milliseconds=200)

    await eventually(overdue)
    assert (await api.get("/api/schedules/s1/fires")).json()["records"] == []
    await api.post("/api/thaw", json={"catch_up": "latest"})

    async def decided() -> list[dict]:
        return (await api.get("/api/schedules/s1/fires?outcome=caught_up")).json()["records"]

    [row] = await eventually(decided)
    assert row["execution_id"]
    await api.delete("/api/schedules/s1")
    skipped = (await api.get("/api/schedules/s1/fires?outcome=skipped&limit=500")).json()["records"]
    assert {row["reason"] for row in skipped} <= {"frozen", "changed"}
    assert any(row["reason"] == "frozen" for row in skipped)


# --- backfill -----------------------------------------------------------------------------------------


async def test_a_dry_run_counts_and_stores_nothing(api, known_demo):
    await put(api, trigger=HOURLY)

    counted = await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "rate_per_s": 2, "dry_run": True})

    assert counted.status_code == 200
    assert counted.json() == {
        "count": 24,
        "first_time": "2020-01-01T00:00:00.000000Z",
        "last_time": "2020-01-01T23:00:00.000000Z",
        "takes_s": 12.0,
    }
    assert (await api.get("/api/schedules/s1/backfills")).json()["backfills"] == []
    assert (await api.get("/api/executions")).json()["records"] == []


async def test_a_dry_run_of_an_empty_range_counts_none(api, known_demo):
    await put(api)

    counted = (
        await api.post(
            "/api/schedules/s1/backfill",
            json={"from": "2020-02-01T00:00:00Z", "to": "2020-03-01T00:00:00Z", "dry_run": True},
        )
    ).json()

    assert (counted["count"], counted["first_time"], counted["last_time"], counted["takes_s"]) == (0, None, None, 0.0)


async def test_a_backfill_creates_marked_executions_and_no_fires(api, known_demo):
    await put(api, trigger=HOURLY)

    answer = await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "rate_per_s": 1000, "count": 24})

    assert answer.status_code == 202
    begun = answer.json()
    assert (begun["state"], begun["count"], begun["created"], begun["by"]) == ("running", 24, 0, "admin")

    async def completed() -> dict | None:
        [row] = (await api.get("/api/schedules/s1/backfills")).json()["backfills"]
        return row if row["state"] == "completed" else None

    row = await eventually(completed)
    assert (row["id"], row["created"], row["next_time"]) == (begun["id"], 24, None)
    made = (await api.get("/api/executions?schedule_id=s1&limit=100")).json()["records"]
    assert {(one["origin"], one["group_id"]) for one in made} == {("backfill", begun["id"])}
    assert sorted(one["nominal_time"] for one in made) == [f"2020-01-01T{hour:02}:00:00.000000Z" for hour in range(24)]
    assert (await api.get("/api/schedules/s1/fires")).json()["records"] == []
    assert (await api.get("/api/schedules/s1")).json()["runs"] == 0
    assert refusal(await api.post(f"/api/backfills/{begun['id']}/cancel"))[:2] == (409, "wrong_state")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"from": "1960-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}, "/from"),
        ({"from": -5, "to": "2020-01-01T00:00:00Z"}, "/from"),
        ({"from": 0, "to": "1960-01-01T00:00:00Z"}, "/to"),
    ],
)
async def test_a_backfill_of_moments_before_1970_is_refused_with_the_bound(api, known_demo, body, pointer):
    await put(api)

    answer = await api.post("/api/schedules/s1/backfill", json={**body, "dry_run": True})

    assert refusal(answer) == (400, "invalid_field", pointer)
    assert answer.json()["detail"].startswith("expected a moment from 1970 on, got ")


async def test_a_backfill_of_a_startup_schedule_runs_at_every_start_on_record(tmp_path):
    before = rfc3339(time.time_ns() // 1000)
    for _ in range(3):
        async with running_server(tmp_path / "server") as server:
            know_demo(server)
            async with api_client(server) as api:
                if (await api.get("/api/schedules/s1")).status_code == 404:
                    await put(api, trigger={"type": "startup"})
                await eventually(lambda server=server: server.timer._started)

                async def decided(api=api):
                    return (await api.get("/api/schedules/s1")).json()["next_fire_time"] is None

                await eventually(decided)
                span = {"from": before, "to": rfc3339(time.time_ns() // 1000)}
                counted = await api.post("/api/schedules/s1/backfill", json={**span, "dry_run": True})
                begun = await api.post("/api/schedules/s1/backfill", json={**span, "rate_per_s": 1000})

                async def completed(api=api):
                    rows = (await api.get("/api/schedules/s1/backfills")).json()["backfills"]
                    return rows if rows[0]["state"] == "completed" else None

                row = (await eventually(completed))[0]
                counts = (counted.json()["count"], begun.json()["count"], row["created"])

    assert counts == (3, 3, 3)


@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        ({"type": "manual"}, "it runs only when somebody runs it"),
        ({"type": "interval", "hours": 1, "anchor": "end"}, "each follows the end of a run (anchor: end)"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_has_no_times_of_its_own_is_not_backfilled_and_the_reason_said(
    api, known_demo, trigger, why, dry_run
):
    await put(api, trigger=trigger, paused=True)

    answer = await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "dry_run": dry_run})

    assert refusal(answer) == (400, "invalid_field", "/from")
    assert answer.json()["detail"] == f"the schedule has no nominal times that could be run: {why}"


async def test_a_backfill_that_is_asked_for_again_with_its_key_is_the_same_one(api, known_demo):
    await put(api, trigger=HOURLY)
    body, key = {**YESTERYEAR, "rate_per_s": 1000}, {"Idempotency-Key": "k"}

    first = await api.post("/api/schedules/s1/backfill", json=body, headers=key)
    again = await api.post("/api/schedules/s1/backfill", json=body, headers=key)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await api.get("/api/schedules/s1/backfills")).json()["backfills"]) == 1
    other = await api.post("/api/schedules/s1/backfill", json={**body, "rate_per_s": 1}, headers=key)
    assert refusal(other)[:2] == (422, "idempotency_mismatch")


async def test_a_backfill_of_another_count_than_agreed_is_refused(api, known_demo):
    await put(api, trigger=HOURLY)

    answer = await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "count": 23})

    assert refusal(answer)[:2] == (409, "conflict")
    assert "expected 23 executions, there would be 24" in answer.json()["detail"]
    assert (await api.get("/api/schedules/s1/backfills")).json()["backfills"] == []


async def test_a_backfill_is_cancelled_and_what_it_created_stays(api, known_demo):
    await put(api, trigger=HOURLY)
    begun = (await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "rate_per_s": 0.001})).json()

    async def one_created() -> bool:
        [row] = (await api.get("/api/schedules/s1/backfills")).json()["backfills"]
        return row["created"] == 1

    await eventually(one_created)
    cancelled = await api.post(f"/api/backfills/{begun['id']}/cancel")

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert len((await api.get("/api/executions?schedule_id=s1")).json()["records"]) == 1
    assert refusal(await api.post(f"/api/backfills/{begun['id']}/cancel"))[:2] == (409, "wrong_state")
    assert refusal(await api.post("/api/backfills/01k00000000000000000000000/cancel"))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"from": "2020-01-02T00:00:00Z", "to": "2020-01-01T00:00:00Z"}, "/to"),
        ({"from": "2020-01-01T00:00:00Z", "to": FAR}, "/to"),
        ({"from": "2020-01-01T00:10:00Z", "to": "2020-01-01T00:20:00Z"}, "/from"),
        ({"from": "2000-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}, "/from"),
        ({"from": "long ago", "to": "2020-01-01T00:00:00Z"}, "/from"),
        ({"from": "2020-01-01T00:00:00Z"}, "/to"),
        ({**YESTERYEAR, "rate_per_s": 0}, "/rate_per_s"),
        ({**YESTERYEAR, "rate_per_s": 1001}, "/rate_per_s"),
        ({**YESTERYEAR, "count": 0}, "/count"),
        ({**YESTERYEAR, "rate": 1}, "/rate"),
    ],
)
async def test_a_bad_range_is_refused_with_a_pointer(api, known_demo, body, pointer):
    await put(api, trigger=HOURLY)

    answer = await api.post("/api/schedules/s1/backfill", json=body)

    status, code, where = refusal(answer)
    assert (status, code) == (400, "invalid_field"), answer.text
    assert where is not None
    assert pointer.startswith(where), answer.text
    assert (await api.get("/api/schedules/s1/backfills")).json()["backfills"] == []


async def test_backfills_come_in_pages_the_newest_first(api, known_demo):
    await put(api, trigger=HOURLY)
    ids = []
    for _ in range(3):
        begun = (await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "rate_per_s": 0.001})).json()
        beside = await api.post("/api/schedules/s1/backfill", json=YESTERYEAR)
        dry = await api.post("/api/schedules/s1/backfill", json={**YESTERYEAR, "dry_run": True})
        for answer in (beside, dry):
            assert (answer.status_code, begun["id"] in answer.json()["detail"]) == (409, True)
        await api.post(f"/api/backfills/{begun['id']}/cancel")
        ids.append(begun["id"])

    first = (await api.get("/api/schedules/s1/backfills?limit=2")).json()
    second = (await api.get("/api/schedules/s1/backfills", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [row["id"] for row in first["backfills"] + second["backfills"]] == ids[::-1]
    assert second["next_cursor"] is None


# --- all of them --------------------------------------------------------------------------------------


async def test_the_ledger_of_all_schedules_is_one_list(api, known_demo):
    for id_ in ("s1", "s2"):
        await put(api, id_, trigger={"type": "interval", "milliseconds": 30})

    async def both() -> bool:
        rows = (await api.get("/api/fires?limit=500")).json()["records"]
        return {row["schedule_id"] for row in rows} == {"s1", "s2"} and len(rows) > 4

    await eventually(both)
    await api.post("/api/schedules/delete", json={"ids": ["s1", "s2"]})

    rows = (await api.get("/api/fires?limit=500")).json()["records"]
    assert [row["decided_at"] for row in rows] == sorted((row["decided_at"] for row in rows), reverse=True)
    executed = (await api.get("/api/fires?outcome=executed&limit=500")).json()["records"]
    assert executed == [row for row in rows if row["outcome"] == "executed"]
    paged: list[dict] = []
    cursor = None
    while True:
        page = (await api.get("/api/fires", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        paged += page["records"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == rows
    assert (await api.get(f"/api/fires?since={FAR}")).json()["records"] == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("outcome=gone", "outcome"), ("since=soon", "since"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("a=1", "a")],
)
async def test_a_bad_question_about_all_fires_is_refused(api, query, parameter):
    answer = await api.get(f"/api/fires?{query}")

    assert answer.status_code == 400
    first = answer.json()["errors"][0]
    assert parameter in (first.get("parameter"), (first.get("pointer") or "").removeprefix("/")), answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/schedules/none/skip"), ("DELETE", "/api/schedules/none/skip"),
        ("POST", "/api/schedules/none/backfill"), ("POST", "/api/schedules/none/pause"),
        ("GET", "/api/schedules/none/backfills"), ("GET", "/api/schedules/none/fires"),
    ],
)  # fmt: skip
async def test_what_is_asked_of_a_schedule_that_is_not_there_is_not_found(api, known_demo, method, path):
    body = YESTERYEAR if path.endswith("/backfill") else None

    answer = await api.request(method, path, json=body)

    assert refusal(answer)[:2] == (404, "not_found"), answer.text


async def test_a_viewer_looks_and_changes_nothing(server, api, known_demo):
    await put(api)
    token = (await api.post("/api/tokens", json={"name": "guest", "role": "viewer"})).json()["token"]

    async with api_client(server, Authorization=f"Bearer {token}") as viewer:
        for path in ("/api/freezes", "/api/fires", "/api/schedules/s1/backfills"):
            assert (await viewer.get(path)).status_code == 200, path
        for method, path, body in [
            ("POST", "/api/schedules/s1/skip", None), ("DELETE", "/api/schedules/s1/skip", None),
            ("POST", "/api/schedules/s1/pause", {"until": FAR}), ("POST", "/api/schedules/s1/backfill", YESTERYEAR),
            ("POST", "/api/backfills/x/cancel", None), ("POST", "/api/freeze", None),
            ("POST", "/api/thaw", {"catch_up": "all"}),
        ]:  # fmt: skip
            assert refusal(await viewer.request(method, path, json=body))[:2] == (403, "forbidden"), path
    assert (await api.get("/api/freezes")).json()["freezes"] == []


async def test_a_freeze_outlives_a_restart(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        frozen = (await api.post("/api/freeze", json={"note": "move"})).json()

    async with running_server(tmp_path / "server") as server, api_client(server) as api:

        async def known() -> bool:
            return (await api.get("/api/freezes")).json()["current"] == frozen

        await eventually(known)
