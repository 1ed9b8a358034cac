"""Finding schedules and executions by a part of their names."""

from __future__ import annotations

import pytest

from schedule_zero.store import Store, finding, schedules
from tests.store.builders import execution, insert, schedule

pytestmark = pytest.mark.anyio


async def test_schedules_are_found_by_a_part_of_their_id_in_whatever_case(store: Store):
    rows = [schedule(id_) for id_ in ("etl.load", "etl_load", "ETL.Load.eu", "mail", "a%b")]
    await store.write(schedules.create, schedules.Create(rows=rows))

    async def found(text: str, limit: int = 10) -> list[str]:
        return await store.read(lambda conn: finding.schedules_like(conn, text, limit=limit))

    assert set(await found("L.lo")) == {"etl.load", "ETL.Load.eu"}
    assert await found("l_l") == ["etl_load"]
    assert await found("%") == ["a%b"]
    assert await found("\\") == []
    assert len(await found("l", limit=2)) == 2


async def test_executions_are_found_by_how_their_id_begins(store: Store):
    await insert(store, *[execution(f"e0000{n}") for n in range(3)], execution("f00000"))

    found = await store.read(lambda conn: finding.executions_from(conn, "e0000", limit=2))

    assert [row[0] for row in found] == ["e00000", "e00001"]
    assert await store.read(lambda conn: finding.executions_from(conn, "g", limit=2)) == []
