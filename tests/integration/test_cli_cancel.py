"""Cancelling many, unique jobs and a full backlog by verb and by command, against a real server without nodes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from schedule_zero import errors
from schedule_zero.client import AsyncClient
from schedule_zero.config import LimitsConfig
from tests.integration.conftest import know_demo, running_server, with_config

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(server, known_demo):
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


@pytest.fixture
def command(client, command_line):
    """``schedule-zero``, as a user of this server's state directory runs it."""
    return command_line


async def test_many_are_cancelled_by_a_filter_over_as_many_requests_as_it_takes(client, monkeypatch):
    from schedule_zero.service import cancel_many

    monkeypatch.setattr(cancel_many, "MOST", 1_000)
    await client.submit_many({"handler_id": "demo", "job_method": "noop"} for _ in range(2_300))
    kept = await client.submit("demo", "echo")

    counted = await client.cancel_many(job_method="noop", dry_run=True)
    done = await client.cancel_many(job_method="noop")

    assert (counted.matched, counted.cancelled) == (2_300, 0)
    assert (done.matched, done.cancelled, done.requested, done.left) == (2_300, 2_300, 0, 0)
    assert (await client.execution(kept)).status == "pending"


async def test_ids_are_cancelled_by_verb(client):
    ids = [await client.submit("demo", "noop") for _ in range(3)]

    done = await client.cancel_many(ids[:2])

    assert (done.matched, done.cancelled) == (2, 2)
    assert (await client.execution(ids[2])).status == "pending"


async def test_the_command_counts_before_and_cancels_what_its_options_say(client, command):
    for _ in range(3):
        await client.submit("demo", "noop")
    later = await client.submit("demo", "noop", not_before=4_000_000_000)

    counted = await command("cancel", "--handler", "demo", "--status", "pending", "--dry-run")
    done = await command("-o", "json", "cancel", "--handler", "demo", "--status", "pending,running")

    assert counted.output == "3 found, none touched\n"
    assert json.loads(done.output) == {"matched": 3, "cancelled": 3, "requested": 0, "left": 0}
    assert (await client.execution(later)).status == "scheduled"
    rest = await command("cancel", "--since", "-1h")
    assert rest.output == "1 cancelled, 0 end when their nodes confirm, 0 left alone\n"


@pytest.mark.parametrize(
    "args", [(), ("--dry-run",), ("01abc", "--handler", "demo"), ("01abc", "--dry-run"), ("--status", "sleeping")]
)
async def test_a_command_that_says_nothing_or_too_much_cancels_nothing(client, command, args):
    id_ = await client.submit("demo", "noop")

    refused = await command("cancel", *args)

    assert refused.exit_code == 2, refused.output
    assert (await client.execution(id_)).status == "pending"


async def test_a_duplicate_is_a_typed_error_that_names_the_holder(client, command):
    first = await client.submit("demo", "noop", unique_key="one")

    with pytest.raises(errors.Duplicate) as refused:
        await client.submit("demo", "noop", unique_key="one")

    assert refused.value.data["execution_id"] == first
    assert await client.submit("demo", "noop", unique_key="one", on_duplicate="return_existing") == first
    said = await command("submit", "demo.noop", "--unique-key", "one")
    assert (said.exit_code, first in said.output) == (4, True)


async def test_a_client_waits_for_room_and_then_is_served(tmp_path: Path):
    config = with_config(limits=LimitsConfig(backlog=1))
    async with running_server(tmp_path / "full", config) as server:
        know_demo(server)
        async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
            first = await client.submit("demo", "noop")
            waiting = asyncio.create_task(client.submit("demo", "noop"))
            while not server.dispatcher.backlog.refused:
                await asyncio.sleep(0.01)
            await client.cancel(first)

            second = await waiting

            assert (await client.execution(second)).status == "pending"
        async with AsyncClient(server.addresses.http, state_dir=server.state_dir, retry_s=0) as client:
            with pytest.raises(errors.BacklogFull):
                await client.submit("demo", "noop")
