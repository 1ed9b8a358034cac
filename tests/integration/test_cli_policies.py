"""What happens to fires, by verb and by command, against a real server without nodes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from schedule_zero import errors
from schedule_zero.cli import client_policies
from schedule_zero.client import AsyncClient
from schedule_zero.model import BackfillState, ScheduleState
from tests.support import eventually

pytestmark = pytest.mark.anyio

HOURLY = {"type": "cron", "expression": "0 * * * *"}
DAY = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T23:00:00Z")
DAY_TO_COME = ("--from", "2999-01-01T00:00:00Z", "--to", "2999-01-01T23:00:00Z")


@pytest.fixture
async def client(server, known_demo):
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        await client.schedule("demo", "noop", trigger=HOURLY, id="hourly")
        yield client


@pytest.fixture
def command(client, command_line):
    """``schedule-zero``, as a user of this server's state directory runs it."""
    return command_line


@pytest.fixture
def terminal(monkeypatch):
    """Somebody is there to be asked."""
    monkeypatch.setattr(client_policies, "_somebody_there", lambda: True)


# --- verbs --------------------------------------------------------------------------------------------


async def test_a_schedule_is_made_with_policies_and_a_zone(client):
    made = await client.schedule(
        "demo", "noop", trigger=HOURLY, timezone="Europe/Berlin", policies={"overlap": "skip", "jitter_s": 5}
    )
    assert made.policies == {"overlap": "skip", "jitter_s": 5.0}
    assert made.trigger["timezone"] == "Europe/Berlin"

    put = await client.put_schedule(made.id, "demo", "noop", trigger=HOURLY, policies={"max_fires": 3})
    assert put.policies == {"max_fires": 3}
    changed = await client.update_schedule(made.id, policies={"max_fires": None, "coalesce": True})
    assert changed.policies == {"coalesce": True}


async def test_a_pause_may_end_by_itself(client):
    until = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    snoozed = await client.pause_schedule("hourly", until=until)
    assert (snoozed.state, snoozed.paused_until) == (ScheduleState.PAUSED, until)
    assert (await client.resume_schedule("hourly")).paused_until is None


async def test_fires_are_skipped_on_request_and_not_any_more(client):
    first = (await client.get_schedule("hourly")).next_fire_time
    assert (await client.skip_fires("hourly")).skips == [first]
    more = await client.skip_fires("hourly", 2)
    assert more.skips == [first, first + timedelta(hours=1), first + timedelta(hours=2)]
    assert (await client.skip_none("hourly")).skips == []


async def test_all_schedules_are_frozen_and_thawed(client):
    assert (await client.freezes()).current is None
    frozen = await client.freeze("maintenance")
    assert (frozen.note, frozen.to, frozen.catch_up) == ("maintenance", None, "policy")
    with pytest.raises(errors.WrongState):
        await client.freeze()
    assert (await client.freezes()).current == frozen

    thawed = await client.thaw("none")
    assert (thawed.id, thawed.catch_up) == (frozen.id, "none")
    assert thawed.to >= thawed.from_
    with pytest.raises(errors.WrongState):
        await client.thaw("none")
    assert (await client.freezes()).freezes == [thawed]


async def test_a_past_range_is_counted_and_run(client):
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 23, tzinfo=UTC)
    counted = await client.count_backfill("hourly", start, end, rate_per_s=2)
    assert (counted.count, counted.first_time, counted.last_time, counted.takes_s) == (24, start, end, 12)
    with pytest.raises(errors.Conflict):
        await client.backfill("hourly", start, end, count=23)

    begun = await client.backfill("hourly", start, end, count=24, rate_per_s=0.01)
    assert (begun.state, begun.count, begun.from_, begun.to) == (BackfillState.RUNNING, 24, start, end)
    assert [row.id for row in (await client.backfills("hourly")).backfills] == [begun.id]
    assert (await client.cancel_backfill(begun.id)).state is BackfillState.CANCELLED
    with pytest.raises(errors.WrongState):
        await client.cancel_backfill(begun.id)
    # The ledger says what became of a time when it came, not what was run afterwards.
    assert (await client.all_fires()).records == []


# --- commands -----------------------------------------------------------------------------------------


async def test_schedule_takes_the_policies(command):
    done = await command(
        "schedule", "demo.noop", "--cron", "0 9 * * *", "--timezone", "Europe/Berlin", "--id", "s",
        "--overlap", "buffer_one", "--catch-up", "all", "--catch-up-max", "7", "--coalesce", "--max-fires", "9",
        "--max-failures", "3", "--jitter", "1m", "--jitter-spread", "hash", "--catch-up-window", "2h",
        "--keep", "7d", "--keep-last", "50",
        "-o", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["policies"] == {
        "overlap": "buffer_one", "catch_up": "all", "catch_up_max": 7, "coalesce": True, "max_fires": 9,
        "max_failures": 3, "jitter_s": 60.0, "jitter": "hash", "catch_up_window_s": 7200.0,
        "keep_s": 604_800.0, "keep_last": 50,
    }  # fmt: skip
    assert made["trigger"]["timezone"] == "Europe/Berlin"
    shown = (await command("schedules", "s")).stdout
    assert '"overlap":"buffer_one"' in shown
    assert "runs" in shown


async def test_schedule_keeps_to_business_days(client, command):
    await client.put_calendar("works", {"dates": ["2030-06-03"]})

    done = await command(
        "schedule", "demo.noop", "--cron", "0 9 3 6 *", "--start", "2030-01-01T00:00:00Z",
        "--business-days", "next:works", "-o", "json",
    )  # fmt: skip

    made = json.loads(done.stdout)
    assert made["policies"]["business_days"] == {"calendar": "works", "rule": "next", "version": 1}
    assert made["next_fire_time"] == "2030-06-04T09:00:00.000000Z"
    for wrong in ("works", "later:works", "next:"):
        refused = await command("schedule", "demo.noop", "--cron", "0 9 3 6 *", "--business-days", wrong)
        assert refused.exit_code == 2
        assert f"got '{wrong}'" in refused.stderr
    assert (await command("schedule", "demo.noop", "--every", "1h", "--business-days", "next:nobody")).exit_code == 2


async def test_schedule_leaves_a_triggers_own_zone_alone(command):
    trigger = '{"type": "cron", "expression": "0 9 * * *", "timezone": "Asia/Tokyo"}'
    done = await command("schedule", "demo.noop", "--trigger", trigger, "--timezone", "Europe/Berlin", "-o", "json")
    assert json.loads(done.stdout)["trigger"]["timezone"] == "Asia/Tokyo"


async def test_pause_until_says_until_when(command):
    done = await command("pause", "hourly", "--until", "2099-01-01T00:00:00Z", "--note", "why")
    assert done.stdout == "hourly: paused until 2099-01-01 00:00:00Z\n"
    assert "paused_until" in (await command("schedules", "hourly")).stdout
    done = await command("pause", "hourly", "--until", "-1h")
    assert done.exit_code == 2
    assert "expected a moment to come, got " in done.stderr
    assert "(at /until)" in done.stderr


async def test_skip_says_which(command):
    done = await command("skip", "hourly", "--count", "2")
    assert done.stdout.startswith("hourly: skips ")
    assert done.stdout.count("Z") == 2
    assert "skips" in (await command("schedules", "hourly")).stdout
    assert (await command("skip", "hourly", "--none")).stdout == "hourly: skips none\n"
    assert (await command("skip", "nothing")).exit_code == 3


async def test_freeze_and_thaw(command):
    done = await command("freeze", "--until", "2099-01-01T00:00:00Z", "--catch-up", "all", "--note", "move")
    assert done.stdout == "all schedules are frozen until 2099-01-01 00:00:00Z\n"
    assert (await command("freeze")).exit_code == 4
    done = await command("thaw", "--catch-up", "latest")
    assert done.exit_code == 0
    assert "the newest of each schedule runs" in done.stdout
    assert (await command("thaw", "--catch-up", "latest")).exit_code == 4


async def test_thaw_asks_somebody_who_is_there(command, terminal):
    await command("freeze")
    done = await command("thaw", "-o", "json", input="perhaps\nlatest\n")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["catch_up"] == "latest"
    assert "What becomes of the fires that were due meanwhile?" in done.stderr


async def test_backfill_counts_asks_and_runs(command, terminal):
    done = await command("backfill", "hourly", *DAY, input="n\n")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "24 executions of hourly, 2026-01-01 00:00:00Z to 2026-01-01 23:00:00Z, in 2 s" in done.stderr
    assert (await command("backfills", "hourly")).stderr == "no backfills\n"

    done = await command("backfill", "hourly", *DAY, "--rate", "0.01", input="y\n")
    id_ = done.stdout.strip()
    listed = (await command("backfills", "hourly")).stdout
    assert id_ in listed
    assert "0.01/s" in listed
    done = await command("backfill-cancel", id_)
    assert done.stdout.startswith(f"{id_}: cancelled after ")
    assert (await command("backfill-cancel", id_)).exit_code == 4


async def test_backfill_does_not_run_what_nobody_agreed_to(command):
    done = await command("backfill", "hourly", *DAY)
    assert done.exit_code == 2
    assert "expected --yes: there is nobody to ask" in done.stderr
    done = await command("backfill", "hourly", *DAY, "--yes")
    assert done.exit_code == 0


async def test_backfill_of_nothing_is_refused(command):
    done = await command(
        "backfill", "hourly", "--from", "2026-01-01T00:10:00Z", "--to", "2026-01-01T00:20:00Z", "--yes"
    )
    assert done.exit_code == 2
    assert "no nominal time in this range" in done.stderr


async def test_fires_of_all_schedules_name_the_schedule(client, command):
    assert (await command("fires")).stderr == "no fires\n"
    await client.schedule("demo", "noop", trigger={"type": "interval", "milliseconds": 50}, id="often")

    async def fired():
        return (await client.all_fires()).records

    await eventually(fired)
    listed = (await command("fires", "--limit", "1")).stdout
    assert listed.startswith("SCHEDULE")
    assert "often" in listed


@pytest.mark.parametrize("id_", [".", "..", ""])
@pytest.mark.parametrize(
    "words",
    [
        ("fires",), ("explain",), ("pause",), ("schedules",), ("delete",), ("executions",), ("cancel",), ("audit",),
        ("calendars", "show"), ("calendars", "delete"), ("nodes", "drain"), ("backfills",), ("backfill-cancel",),
    ],
)  # fmt: skip
async def test_no_id_leads_to_the_path_of_something_else(command, words, id_):
    done = await command(*words, id_)

    assert done.exit_code == 2
    assert f"{id_!r} is no id: expected one that begins with a letter, digit or _" in done.output


@pytest.mark.parametrize("id_", [".", "..", ""])
async def test_no_verb_takes_an_id_that_is_the_path_of_something_else(client, id_):
    for verb in (client.fires, client.explain, client.get_schedule, client.delete_schedule, client.calendar):
        with pytest.raises(errors.InvalidField, match="is no id"):
            await verb(id_)


async def test_no_start_of_the_server_is_simulated(client, command):
    await client.schedule("demo", "noop", trigger={"type": "startup"}, id="start")
    await client.schedule("demo", "noop", trigger=[{"type": "startup"}, HOURLY], id="both")

    found = json.loads((await command("simulate", *DAY_TO_COME, "-o", "json")).output)

    assert {one["schedule_id"]: one["runs"] for one in found["schedules"]} == {"hourly": 24, "both": 24}
