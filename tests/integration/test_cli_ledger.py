"""The ledger by verb and by command, against a real server without nodes."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from schedule_zero import errors
from schedule_zero.client import AsyncClient
from tests.support import eventually

pytestmark = pytest.mark.anyio

FAST = {"type": "interval", "milliseconds": 50}
NIGHTLY = {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture
async def client(server, known_demo):
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


@pytest.fixture
def command(client, command_line):
    """``schedule-zero``, as a user of this server's state directory runs it."""
    return command_line


@pytest.fixture
async def busy(client, server):
    """A schedule that has fired a few times, and is paused."""
    await client.schedule("demo", "noop", trigger=FAST, id="busy")
    await eventually(lambda: server.timer.stats.executions >= 3)
    await client.pause_schedule("busy", "enough")
    return "busy"


async def test_an_audit_and_an_explanation_by_verb(client, busy):
    audit = await client.audit(busy)
    [fire, *_] = (await client.fires(busy, outcome="executed")).records
    said = await client.explain(busy, fire.nominal_time)
    local = await client.explain(busy, datetime(2050, 1, 1))

    assert (audit.ok, audit.exact, audit.details) == (True, True, [])
    assert audit.expected == audit.recorded >= 3
    assert audit.until - audit.since < timedelta(days=1, seconds=1)
    assert (said.outcome, said.fire, said.execution.id) == ("executed", fire, fire.execution_id)
    assert (said.version.version, said.nominal_time) == (1, fire.nominal_time)
    assert (local.outcome, local.at) == ("upcoming", datetime(2050, 1, 1, tzinfo=UTC))
    with pytest.raises(errors.NotFound):
        await client.explain("nobody")


async def test_versions_by_verb(client):
    await client.put_schedule("s", "demo", "noop", trigger=NIGHTLY, note="one")
    two = await client.put_schedule("s", "demo", "noop", trigger=NIGHTLY, note="two", priority=9)

    page = await client.schedule_versions("s")
    [first] = (await client.schedule_versions("s", version=1)).records
    diff = await client.diff_schedule("s")
    restored = await client.restore_schedule("s", 1, if_match=two.etag)

    assert [(version.version, version.changed) for version in page.records] == [(2, ["options", "note"]), (1, [])]
    assert first.schedule.note == "one"
    assert [(change.op, change.pointer) for change in diff.changes] == [
        ("added", "/options/priority"),
        ("changed", "/note"),
    ]
    assert (restored.version, restored.note) == (3, "one")
    with pytest.raises(errors.PreconditionFailed):
        await client.restore_schedule("s", 2, if_match=two.etag)
    with pytest.raises(errors.WrongState):
        await client.restore_schedule("s", 3)


async def test_explain_says_it_in_a_sentence(client, command, busy):
    [fire, *_] = (await client.fires(busy, outcome="executed")).records

    done = await command("explain", busy, "--at", fire.nominal_time.isoformat())

    sentence, empty, *facts = done.output.splitlines()
    assert sentence.startswith("It was due at ")
    assert empty == ""
    assert [line.split()[0] for line in facts] == ["outcome", "nominal_time", "execution", "version", "before", "after"]
    asked = json.loads((await command("explain", busy, "-o", "json")).output)
    assert asked["schedule_id"] == busy
    assert (await command("explain", "nobody")).exit_code == 3
    assert "names no zone" not in (await command("explain", busy, "--at", "2050-01-01")).output
    assert (await command("explain", busy, "--at", "noon")).exit_code == 2


async def test_a_note_with_escape_sequences_is_explained_without_them(client, command, busy, server):
    await client.resume_schedule(busy)
    await client.pause_schedule(busy, "\x1b]0;title\x07up\ngrade")
    done = server.timer.stats.fires
    await eventually(lambda: server.timer.stats.fires > done)

    sentence = (await command("explain", busy)).output.splitlines()[0]

    assert '(" ]0;title up grade")' in sentence


async def test_the_fires_of_a_fast_schedule_are_told_apart(client, command, busy):
    lines = (await command("fires", busy)).output.splitlines()[1:]

    shown = [line.partition("Z")[0] for line in lines]
    assert len(set(shown)) == len(shown)


async def test_a_moment_without_an_offset_is_local(client, command):
    await client.schedule("demo", "noop", trigger=NIGHTLY, id="nightly")

    done = await command("explain", "nightly", "--at", "2050-01-01T02:30")

    assert "It is due at 2050-01-01 02:30:00 Europe/Berlin (01:30:00 UTC)" in done.output


async def test_an_audit_is_a_line_and_its_findings_an_exit_code(client, command, server, busy):
    good = await command("audit", busy, busy)
    assert good.exit_code == 0
    assert good.output.count("busy: in order; ") == 2

    with sqlite3.connect(server.store._backend.path) as raw:
        raw.execute("DELETE FROM fires WHERE seq = 2")
    raw.close()
    bad = await command("audit", busy, "--since", "-1h")

    assert bad.exit_code == 1
    assert "busy: 1 missed; " in bad.output
    # (On a slow machine a line before it says what is not decided yet.)
    assert ["FOUND", "COUNT", "FROM", "TO", "GENERATION"] in [line.split() for line in bad.output.splitlines()]
    assert json.loads((await command("audit", busy, "-o", "json")).output)["missed"] == 1


async def test_versions_diff_and_restore_by_command(client, command):
    await client.put_schedule("s", "demo", "noop", trigger=NIGHTLY, note="one")
    await client.put_schedule("s", "demo", "noop", trigger=NIGHTLY, note="two")
    await client.delete_schedule("s")

    listed = (await command("versions", "s")).output.splitlines()
    assert listed[0].split() == ["VERSION", "GENERATION", "FROM", "TO", "BY", "CHANGED"]
    assert [line.split()[0] for line in listed[1:]] == ["2", "1"]
    assert listed[1].endswith("note; deleted by admin")
    assert listed[2].endswith("created")
    assert "one" in (await command("versions", "s", "--version", "1")).output
    assert (await command("versions", "s", "--generation", "1")).exit_code == 2
    assert (await command("diff", "s")).output == '- /note  "one"\n+ /note  "two"\n'
    assert (await command("diff", "s", "2", "1")).output == '- /note  "two"\n+ /note  "one"\n'
    assert "equal" in (await command("diff", "s", "2", "2")).stderr

    assert (await command("restore", "s", "2")).output == "s: is there again, as it was in version 2\n"
    await client.put_schedule("s", "demo", "noop", trigger=NIGHTLY, note="three")
    assert (await command("restore", "s", "1")).output == "s: version 3 is version 1 again\n"
    assert (await command("restore", "s", "3")).exit_code == 4
    assert (await command("restore", "s", "7")).exit_code == 3
