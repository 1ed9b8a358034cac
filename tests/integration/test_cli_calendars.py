"""``schedule-zero calendars`` and the clients' verbs, against a server."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import anyio
import pytest
import structlog
from click.testing import CliRunner

from schedule_zero.cli import client
from schedule_zero.client import AsyncClient
from schedule_zero.errors import AlreadyExists, InUse, InvalidCalendar, NotFound, PreconditionFailed
from schedule_zero.model import SkipReason

pytestmark = pytest.mark.anyio

YAML = """
timezone: Europe/Berlin
description: works council
holidays:
  - {country: DE, subdivision: BE}
dates:
  - 2026-12-24
  - {from: 2026-12-27, to: 2026-12-31, label: works holidays}
weekly:
  - days: [SAT, SUN]
  - days: [FRI]
    from: 22:00
    to: 06:00
cron:
  - expression: 0 2 * * *
    duration_s: 7200
"""
DOCUMENT = {
    "timezone": "Europe/Berlin",
    "description": "works council",
    "holidays": [{"country": "DE", "subdivision": "BE"}],
    "dates": ["2026-12-24", {"from": "2026-12-27", "to": "2026-12-31", "label": "works holidays"}],
    "weekly": [{"days": ["SAT", "SUN"]}, {"days": ["FRI"], "from": "22:00", "to": "06:00"}],
    "cron": [{"expression": "0 2 * * *", "duration_s": 7200}],
}
EVENT = "BEGIN:VEVENT\r\nUID:1\r\nDTSTART;VALUE=DATE:20260710\r\nSUMMARY:party\r\nEND:VEVENT\r\n"
ICS = f"BEGIN:VCALENDAR\r\n{EVENT}END:VCALENDAR\r\n"


@pytest.fixture
def cli(server, tmp_path, monkeypatch):
    """``schedule-zero calendars …`` in an empty directory, logged in to the test's server."""
    monkeypatch.chdir(tmp_path)
    # The server of this process must not write between the lines of the command.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    token = (server.state_dir / "admin.token").read_text().strip()
    env = {"SCHEDULE_ZERO_URL": server.addresses.http, "SCHEDULE_ZERO_TOKEN": token}

    async def run(*args: str, stdin: str | None = None) -> Any:
        invoke = partial(CliRunner().invoke, client.main, ["calendars", *args], env=env, input=stdin)
        return await anyio.to_thread.run_sync(invoke)

    yield run
    structlog.reset_defaults()


@pytest.fixture
async def remote(server):
    token = (server.state_dir / "admin.token").read_text().strip()
    async with AsyncClient(server.addresses.http, token) as connected:
        yield connected


async def test_a_yaml_file_means_what_it_says(cli, tmp_path):
    (tmp_path / "works.yaml").write_text(YAML)

    done = await cli("set", "works", "works.yaml")

    assert (done.exit_code, done.stdout) == (0, "works: version 1\n")
    assert json.loads((await cli("show", "works", "--document")).stdout) == DOCUMENT
    assert (await cli("set", "works", "works.yaml")).stdout == "works: version 1\n"
    assert (await cli("set", "works", "works.yaml", "--new")).exit_code == 4


async def test_json_and_standard_input_work_as_well(cli, tmp_path):
    (tmp_path / "works.json").write_text(json.dumps(DOCUMENT))

    assert (await cli("set", "a", "works.json")).exit_code == 0
    done = await cli("set", "b", "-", "-o", "json", stdin=YAML)

    assert json.loads(done.stdout) == {"name": "b", "version": 1, "document": DOCUMENT}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("- 1", 2, "expected an object"),
        ("a: [", 2, "not valid YAML"),
        ("dates: []\ndates: []", 2, "the key dates stands twice"),
        ("a: &a [1, *a]", 2, "x: not valid YAML: an alias refers to itself"),
        ("a: &a {b: *a}", 2, "x: not valid YAML: an alias refers to itself"),
        ("[" * 5000, 2, "x: not valid YAML: nested deeper than 100 levels"),
        ("!!set )", 2, "expected a mapping node, but found scalar"),
        ("description: !!timestamp x", 2, "x: not valid YAML: expected a value of the type timestamp"),
        ("description: !!binary aGVsbG8=", 2, "x: expected what JSON has as well"),
        ('{"a": }', 2, "not JSON"),
        ("holidays: [{country: Germany}]", 2, "did you mean DE (Germany)"),
        ("colour: red", 2, "(at /colour)"),
        ("weekly: [{days: [MON], from: 25:00}]", 2, "(at /weekly/0/from)"),
    ],
)
async def test_what_is_wrong_with_a_file_is_said(cli, tmp_path, text, code, said):
    (tmp_path / "x").write_text(text)

    done = await cli("set", "x", "x")

    assert done.exit_code == code
    assert said in done.stderr


async def test_files_that_cannot_be_read(cli, tmp_path):
    (tmp_path / "latin1").write_bytes(b"description: \xe4")

    assert "No such file" in (await cli("set", "x", "nothing")).stderr
    assert "not UTF-8 (byte 13)" in (await cli("set", "x", "latin1")).stderr


async def test_norway_is_a_country(cli, tmp_path):
    done = await cli("set", "no", "-", stdin="holidays: [{country: NO}]")

    assert done.exit_code == 0, done.stderr


async def test_an_import_that_covers_nothing_warns(cli, tmp_path):
    (tmp_path / "a.ics").write_text("BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n")

    done = await cli("import", "x", "a.ics")

    assert (done.exit_code, done.stdout) == (0, "x: version 1\n")
    assert done.stderr == "warning: the iCalendar file covers nothing: it has no event\n"


async def test_calendars_are_listed_and_shown(cli):
    assert "no calendars" in (await cli()).stderr
    await cli("set", "works", "-", stdin=YAML)
    await cli("set", "other", "-", stdin="{}")

    listed = (await cli()).stdout.splitlines()
    shown = (await cli("show", "works")).stdout

    assert [line.split()[0] for line in listed] == ["NAME", "other", "works"]
    assert "1 holidays, 2 dates, 2 weekly, 1 cron" in listed[2]
    assert "version     1" in shown
    assert '"country": "DE"' in shown
    assert (await cli("list", "--limit", "1")).stderr == "1 of 2; more: --cursor other\n"
    assert (await cli("show", "nothing")).exit_code == 3


async def test_a_file_is_imported(cli, tmp_path):
    (tmp_path / "a.ics").write_bytes(ICS.encode())
    (tmp_path / "b.ics").write_bytes(ICS.replace("UID:1", "UID:2").replace("0710", "0711").encode())

    assert (await cli("import", "x", "a.ics")).stdout == "x: version 1\n"
    assert (await cli("import", "x", "b.ics", "--add")).stdout == "x: version 2\n"

    done = await cli("windows", "x", "--from", "2026-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["START", "2026-07-10", "2026-07-11"]
    assert (await cli("import", "x", "b.ics")).exit_code == 0
    assert json.loads((await cli("show", "x", "--document")).stdout)["ical"].count("BEGIN:VEVENT") == 1
    assert '"SUMMARY' not in (await cli("show", "x", "--version", "2")).stdout
    assert [line.split()[0] for line in (await cli("versions", "x")).stdout.splitlines()] == ["VERSION", "3", "2", "1"]


async def test_a_moment_is_checked(cli):
    await cli("set", "works", "-", stdin=YAML)

    covered = await cli("check", "works", "--at", "2026-12-25T12:00:00Z")
    free = await cli("check", "works", "--at", "2026-12-23T12:00:00Z")

    assert covered.stdout == (
        "2026-12-25 12:00:00Z is covered: Christmas Day (holiday), 2026-12-24 23:00:00Z to 2026-12-25 23:00:00Z\n"
        "2026-12-25 is no business day (Christmas Day); the next one is 2027-01-04\n"
    )
    assert free.stdout == "2026-12-23 12:00:00Z is not covered\n2026-12-23 is a business day\n"
    assert json.loads((await cli("check", "works", "-o", "json")).stdout)["covered"] in (True, False)


async def test_windows_come_in_pages(cli):
    await cli("set", "works", "-", stdin=YAML)

    done = await cli("windows", "works", "--limit", "2", "--from", "2026-12-23T12:00:00Z")

    assert len(done.stdout.splitlines()) == 3
    cursor = done.stderr.split()[-1]
    more = await cli("windows", "works", "--limit", "2", "--from", "2026-12-23T12:00:00Z", "--cursor", cursor)
    assert done.stdout.splitlines()[1:] != more.stdout.splitlines()[1:]


async def test_several_are_deleted_and_each_is_told(cli):
    await cli("set", "a", "-", stdin="{}")

    done = await cli("delete", "a", "nothing", "--yes")

    assert done.exit_code == 3
    assert (await cli("show", "a")).exit_code == 3


# --- the clients' verbs -------------------------------------------------------------------------------


async def test_the_verbs_of_the_clients(remote, known_demo):
    created = await remote.put_calendar("works", DOCUMENT, create_only=True)
    assert (created.name, created.version, created.etag, created.document) == ("works", 1, "1", DOCUMENT)
    with pytest.raises((AlreadyExists, PreconditionFailed)):
        await remote.put_calendar("works", {}, create_only=True)
    with pytest.raises(PreconditionFailed):
        await remote.put_calendar("works", {}, if_match="7")
    with pytest.raises(InvalidCalendar):
        await remote.put_calendar("works", {"timezone": "Mars/Olympus"})
    imported = await remote.import_calendar("works", ICS, if_match=created.etag)
    assert imported.version == 2
    assert await remote.calendar("works") == imported
    page = await remote.calendars()
    assert (page.count, page.calendars[0].entries["ical"]) == (1, 1)

    windows = await remote.calendar_windows("works", datetime(2026, 7, 9, 23, tzinfo=UTC), limit=1)
    assert (windows.records[0].label, windows.records[0].reason) == ("party", SkipReason.HOLIDAY)
    checked = await remote.check_calendar("works", datetime(2026, 7, 10, 12, tzinfo=UTC))
    assert (checked.covered, checked.day, checked.business_day, checked.next_business_day) == (
        True, date(2026, 7, 10), False, date(2026, 7, 13),
    )  # fmt: skip
    versions = await remote.calendar_versions("works")
    assert [one.version for one in versions.records] == [2, 1]
    assert (await remote.calendar_versions("works", version=1)).records[0].document == DOCUMENT

    trigger = {"type": "cron", "expression": "0 0 1 1 *"}
    body = {
        "id": "s",
        "handler_id": "demo",
        "job_method": "noop",
        "trigger": trigger,
        "policies": {"exclude": ["works"]},
    }
    await remote.request("POST", "/api/schedules", body=body)
    with pytest.raises(InUse, match="used by 1 schedule: s"):
        await remote.delete_calendar("works")
    await remote.delete_schedule("s")
    await remote.delete_calendar("works", if_match=imported.etag)
    with pytest.raises(NotFound):
        await remote.calendar("works")
