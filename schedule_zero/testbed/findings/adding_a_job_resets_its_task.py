"""Adding a job or a schedule by its callable sets a configured task back to the defaults.

"When updating a task, any options not explicitly passed will remain the same" (`configure_task`). One expects
`max_running_jobs` to stay as it was configured. `add_job` and `add_schedule` configure the task again: given a
callable, with all defaults, which then count as a change. Given the task's id, they leave it alone.
"""

import asyncio
import sys

from apscheduler import AsyncScheduler


def job():
    pass


async def main():
    async with AsyncScheduler() as scheduler:
        task = await scheduler.configure_task(job, max_running_jobs=5)
        await scheduler.add_job(job)
        return (await scheduler.data_store.get_task(task.id)).max_running_jobs


maximum = asyncio.run(main())
print("expected: max_running_jobs stays 5")
print(f"seen: max_running_jobs is {maximum}")
sys.exit(maximum != 5)
