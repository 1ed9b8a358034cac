"""The periodic chores keep what the settings promise, however much came in between two of their turns."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from schedule_zero.config import RetentionConfig
from schedule_zero.store import events
from tests.integration.conftest import api_client, running_server, with_config

pytestmark = pytest.mark.anyio

HOUR_US = 3_600_000_000


def chore(server, name):
    [found] = [chore for chore in server._chores() if chore.name == name]
    return found


async def fill(server, statement: str, count: int, created_us: int) -> None:
    """As if a busy server had written so many rows."""
    numbers = f"WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {count}) "

    def verb(tx, args):
        tx.execute(text(numbers + statement).bindparams(created_us=created_us))
        return [None]

    await server.store.write(verb, None)


async def journal(server) -> int:
    return len(await server.store.read(lambda conn: events.read_after(conn, 0, 100_000)))


async def test_the_journal_is_cut_to_its_rows_in_one_turn(tmp_path):
    config = with_config(retention=RetentionConfig(events_rows=1_000))
    async with running_server(tmp_path / "server", config) as server:
        rows = "INSERT INTO events (created_us, body) SELECT :created_us, '[]' FROM n"
        await fill(server, rows, 4_500, server.clock.wall_us())
        await chore(server, "events").run_once()
        assert await journal(server) == 1_000


async def test_the_journal_is_cut_to_its_age_in_one_turn(tmp_path):
    config = with_config(retention=RetentionConfig(events_s=3600))
    async with running_server(tmp_path / "server", config) as server:
        rows = "INSERT INTO events (created_us, body) SELECT :created_us, '[]' FROM n"
        now_us = server.clock.wall_us()
        await fill(server, rows, 3_500, now_us - 2 * HOUR_US)
        await fill(server, rows, 100, now_us)
        await chore(server, "events").run_once()
        assert await journal(server) == 100


async def test_old_idempotency_keys_are_all_forgotten_in_one_turn(tmp_path):
    async with running_server(tmp_path / "server") as server:
        rows = (
            "INSERT INTO idempotency (key, fingerprint, status, response, created_us)"
            " SELECT 'k' || x, 'f', 200, '[]', :created_us FROM n"
        )
        await fill(server, rows, 3_500, server.clock.wall_us() - 25 * HOUR_US)
        await chore(server, "idempotency").run_once()
        [(left,)] = await server.store.read(lambda conn: conn.execute(text("SELECT count(*) FROM idempotency")).all())
        assert left == 0


async def test_executions_that_were_kept_long_enough_are_deleted_and_counted(tmp_path):
    config = with_config(retention=RetentionConfig(completed_s=3600, completed_rows=10))
    async with running_server(tmp_path / "server", config) as server:
        rows = (
            "INSERT INTO executions"
            " (id, handler_id, job_method, state, priority, origin, created_us, stored_us, params)"
            " SELECT :created_us || '-' || x, 'demo', 'noop', 'completed', 5, 'submit', :created_us, :created_us, '{}'"
            " FROM n"
        )
        now_us = server.clock.wall_us()
        await fill(server, rows, 450, now_us - 2 * HOUR_US)
        await fill(server, rows, 30, now_us)

        def count(tx, args):
            tx.count("demo", "completed", 480)
            tx.count("demo", "created", 480)
            return [None]

        await server.store.write(count, None)
        await chore(server, "retention").run_once()

        stats = await server.service.executions.stats()
        assert (stats.total, stats.lifetime, stats.by_state["completed"]) == (10, 480, 10)
        async with api_client(server) as api:
            shown = (await api.get("/metrics")).text
        assert "schedulezero_executions_pruned_total 470.0" in shown
