"""A process for the crash test: inserts in batches, prints what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from schedule_zero.clock import SystemClock
from schedule_zero.config import StoreConfig
from schedule_zero.model import Execution, Schedule, new_id
from schedule_zero.store import Store, executions, schedules
from schedule_zero.store.executions import Insert
from tests.store.builders import release_item, schedule

BATCH = 7


async def main(state_dir: Path) -> None:
    store = Store.open(StoreConfig(), state_dir, clock=SystemClock())
    created = await store.write(schedules.create, schedules.Create(rows=[schedule("s")]))
    assert isinstance(created, list)

    async def submit() -> None:
        while True:
            rows = [Execution(id=new_id(), handler_id="demo", job_method="noop") for _ in range(BATCH)]
            await store.write(executions.insert, Insert(rows=rows))
            print("insert", *(row.id for row in rows), flush=True)

    async def fire(row: Schedule) -> None:
        while True:
            assert row.next_fire_us is not None
            assert await store.write(schedules.release, [release_item(row, f"x{row.next_fire_us}")]) == {}
            print("fire", row.next_fire_us, flush=True)
            row.next_fire_us += 10_000_000

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(submit())
        tasks.create_task(fire(created[0]))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
