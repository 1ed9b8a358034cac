"""The server puts its own life on record, so that an outage can be explained afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from schedule_zero.errors import StoreCorrupt
from schedule_zero.model import ServerRun
from schedule_zero.server import Server, serve
from schedule_zero.store import Store, server_runs
from schedule_zero.store.store import FILE_NAME
from tests.integration.conftest import TEST_CONFIG, running_server
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

NEVER_US = 4_000_000_000_000_000


async def lives(store: Store) -> list[ServerRun]:
    return await store.read(lambda conn: server_runs.between(conn, 0, NEVER_US))


async def lives_in(state_dir: Path) -> list[ServerRun]:
    """What a server that is over has left."""
    store = Store.open(TEST_CONFIG.store, state_dir, clock=ManualClock())
    try:
        return await lives(store)
    finally:
        await store.close()


async def begun(server: Server) -> ServerRun:
    async def mine() -> list[ServerRun]:
        return [run for run in await lives(server.store) if run.epoch == server.store.epoch]

    return (await eventually(mine))[0]


async def test_a_start_begins_a_life_and_a_stop_ends_it(tmp_path: Path) -> None:
    async with running_server(tmp_path / "server") as server:
        life = await begun(server)
        assert (life.started_us, life.stopped_us) == (server.timer.started_us, None)

    [life] = await lives_in(tmp_path / "server")
    assert life.stopped_us is not None
    assert life.started_us <= life.stopped_us == life.alive_us


async def test_a_server_that_lives_says_so_now_and_then(tmp_path: Path) -> None:
    async with running_server(tmp_path / "server") as server:
        before = await begun(server)
        [chore] = [chore for chore in server._chores() if chore.name == "life"]
        commits = server.store.stats.commits

        await chore.run_once()

        after = await begun(server)
        assert after.alive_us > before.alive_us
        assert after.stopped_us is None
        # One small transaction in ten seconds, with no event to tell.
        assert (server.store.stats.commits, chore.every_s) == (commits + 1, 10)


async def test_a_second_start_is_a_second_life(tmp_path: Path) -> None:
    for _ in range(2):
        async with running_server(tmp_path / "server") as server:
            await begun(server)

    first, second = await lives_in(tmp_path / "server")
    assert first.epoch + 1 == second.epoch
    assert first.stopped_us is not None
    assert first.stopped_us <= second.started_us


async def test_a_start_that_fails_leaves_no_life_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o700)
    server = Server(TEST_CONFIG, tmp_path / "server")
    # As far as the timer gets, if something after it refuses to start.
    await server.timer._begin_life()

    await server.abandon()

    [life] = await lives_in(tmp_path / "server")
    assert life.stopped_us is not None


async def test_what_a_start_reads_and_can_not_have_written_is_a_damaged_database(tmp_path: Path) -> None:
    """SQLite finds nothing wrong with it; a traceback would tell nobody what to do."""
    folder = tmp_path / "server"
    async with running_server(folder):
        pass
    with closing(sqlite3.connect(folder / FILE_NAME)) as raw, raw:
        assert raw.execute("UPDATE api_tokens SET role = 'admix'").rowcount == 1

    with pytest.raises(StoreCorrupt, match="Nothing in it was reset") as caught:
        await serve(TEST_CONFIG, folder, stop=asyncio.Event())

    assert "admix" in caught.value.message
    assert f"cp BACKUP '{folder / FILE_NAME}'" in caught.value.message
