"""``schedule-zero executions --search``, and the Python client's ``search``."""

from __future__ import annotations

import anyio
import pytest

from schedule_zero.client import Client
from schedule_zero.errors import BadRequest
from schedule_zero.model import State
from schedule_zero.store import execution_lists, executions
from tests.store.builders import execution

pytestmark = pytest.mark.anyio


async def put(server):
    now_us = server.clock.wall_us()
    rows = [
        execution("01k" + "0" * 22 + "1", state=State.FAILED, created_us=now_us, params=b'{"customer":42}'),
        execution("01k" + "0" * 22 + "2", state=State.COMPLETED, created_us=now_us, params=b'{"customer":7}'),
        *(execution(f"01k1{n:022d}", state=State.COMPLETED, created_us=now_us) for n in range(20)),
    ]
    await server.store.write(executions.insert, executions.Insert(rows=rows))


async def test_the_command_lists_what_a_search_finds(server, command_line):
    await put(server)
    listed = await command_line("executions", "--search", "arg.customer:42 since:today", "--zone", "Europe/Berlin")
    refused = await command_line("executions", "--search", "stat:failed")

    assert listed.exit_code == 0, listed.output
    assert "01k" + "0" * 22 + "1" in listed.output
    assert "01k" + "0" * 22 + "2" not in listed.output
    assert refused.exit_code == 2
    assert "did you mean state:?" in refused.output


async def test_the_command_says_how_far_it_has_looked(server, command_line, monkeypatch):
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 10)
    await put(server)
    listed = await command_line("executions", "--search", "arg.customer:42")
    assert "searched back to 2" in listed.output
    assert "more: --cursor" in listed.output


async def test_the_client_searches(server, monkeypatch):
    await put(server)
    token = (server.state_dir / "admin.token").read_text().strip()

    def ask():
        with Client(server.addresses.http, token=token) as client:
            with pytest.raises(BadRequest):
                client.executions(search="stat:failed")
            return client.executions(search="state:failed arg.customer:42", timezone="Asia/Tokyo")

    page = await anyio.to_thread.run_sync(ask)
    assert [record.status for record in page.records] == [State.FAILED]
