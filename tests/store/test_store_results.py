"""Large results in the store, on each database."""

from __future__ import annotations

import zlib

import pytest

from schedule_zero.model import State
from schedule_zero.store import executions, results
from schedule_zero.wire.messages import ResultChunk
from tests.store.builders import end_item, get, insert, running

pytestmark = pytest.mark.anyio


def part(offset: int, raw: bytes, *, id_: str = "e1", token: int = 10, total: int = 100) -> results.Append:
    chunk = ResultChunk(s="s", id=id_, token=token, offset=offset, bytes=len(raw), total=total, body=zlib.compress(raw))
    return results.Append("n1", chunk, 1_000)


async def read(store, first: int, id_: str = "e1", token: int = 10) -> bytes:
    return await store.read(lambda conn: results.read(conn, id_, token, first))


@pytest.fixture
async def running_one(store):
    await insert(store, running("e1", 10))


@pytest.mark.usefixtures("running_one")
class TestOne:
    async def test_parts_are_taken_in_order_and_once(self, store):
        assert await store.write(results.append, part(0, b"abc")) == 3
        assert await store.write(results.append, part(0, b"abc")) == 3
        assert await store.write(results.append, part(5, b"x")) == 3
        assert await store.write(results.append, part(3, b"de")) == 5
        assert (await read(store, 0), await read(store, 3), await read(store, 5)) == (b"abc", b"de", b"")
        assert await store.read(lambda conn: results.state_of(conn, "e1", 10)) == (5, True)

    async def test_no_more_than_announced_or_allowed_is_stored(self, store):
        assert await store.write(results.append, part(0, b"abc", total=2)) == 0
        assert await store.write(results.append, part(0, b"x" * 1_001, total=5_000)) == 0

    async def test_parts_of_an_attempt_that_does_not_run_there_are_refused(self, store):
        other = part(0, b"x")
        other.node_id = "n2"
        assert await store.write(results.append, other) is None
        assert await store.write(results.append, part(0, b"x", token=11)) is None
        assert await store.write(results.append, part(0, b"x", id_="e2")) is None

    async def test_the_end_says_how_large_it_is_and_then_nothing_is_added(self, store):
        await store.write(results.append, part(0, b"abc"))
        await store.write(executions.end, [end_item("e1", 10, result=None, result_bytes=3)])
        row = await get(store, "e1")
        assert (row.state, row.result, row.result_bytes) == (State.COMPLETED, None, 3)
        assert await store.write(results.append, part(3, b"d")) is None
        assert await store.write(results.sweep, results.Sweep(1 << 60)) == 0
        assert await read(store, 0) == b"abc"

    async def test_what_a_failed_attempt_left_is_swept_once_it_is_old(self, store):
        await store.write(results.append, part(0, b"abc"))
        assert await store.write(results.sweep, results.Sweep(1 << 60)) == 0, "it runs"
        await store.write(executions.end, [end_item("e1", 10, State.FAILED)])
        assert await store.write(results.sweep, results.Sweep(0)) == 0, "too young"
        assert await store.write(results.sweep, results.Sweep(1 << 60)) == 1
        assert await read(store, 0) == b""

    async def test_clearing_takes_it_along(self, store):
        await store.write(results.append, part(0, b"abc"))
        await store.write(executions.end, [end_item("e1", 10, result=None, result_bytes=3)])
        assert await executions.clear_all(store) == 1
        assert await read(store, 0) == b""

    async def test_a_damaged_part_keeps_its_size(self, store):
        broken = part(0, b"abc")
        broken.chunk.body = b"garbage"
        await store.write(results.append, broken)
        assert await read(store, 0) == b"   "
