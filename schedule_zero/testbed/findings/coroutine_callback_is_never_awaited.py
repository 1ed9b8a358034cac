"""A coroutine function that subscribes with `is_async=False` is never run.

"If callback is a coroutine function, this flag is ignored" (`AsyncScheduler.subscribe`). One expects it to be awaited
on the event loop. It is called in a worker thread, and the coroutine that it returns is dropped.
"""

import asyncio
import sys
import warnings

from apscheduler import AsyncScheduler, TaskAdded

warnings.simplefilter("ignore", RuntimeWarning)  # Python's own: "coroutine 'callback' was never awaited"
called = []


async def callback(event):
    called.append(event)


def job():
    pass


async def main():
    async with AsyncScheduler() as scheduler:
        scheduler.subscribe(callback, TaskAdded, is_async=False)
        await scheduler.configure_task(job)
        await asyncio.sleep(0.2)


asyncio.run(main())
print("expected: the callback runs once")
print(f"seen: it ran {len(called)} times")
sys.exit(len(called) != 1)
