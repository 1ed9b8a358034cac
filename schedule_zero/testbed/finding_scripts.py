"""Runs the scripts of our findings about APScheduler, each in a process of its own, and imports none of them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from schedule_zero.reports.record import Finding, Verdict
from schedule_zero.testbed.guard import Guard

FOLDER = Path(__file__).with_name("findings")
# They sleep more than they work.
AT_ONCE = 3
LIMIT_S = 60.0
# What a quick run has in any case.
NAMED = frozenset(
    {
        "crash_before_the_release_fires_twice",
        "raising_trigger_ends_the_scheduler",
        "catch_up_asks_without_bound",
    }
)
# More than about two seconds each: an SQL store, or a wait.
SLOW = frozenset(
    {
        "cleanup_of_many_schedules_ends_the_scheduler",
        "cron_searches_8000_years_for_an_impossible_date",
        "expired_job_leaks_a_slot",
        "get_schedules_of_no_ids_returns_all",
        "locked_database_ends_the_scheduler",
        "lowering_max_running_jobs_lifts_the_limit",
        "orphaned_lease_never_wakes_a_survivor",
        "pausing_rewinds_the_next_fire_time",
        "poisoned_row_ends_the_scheduler",
        "replacement_is_overwritten",
        "saturated_task_starves_the_others",
        "sqlite_acquires_outside_of_a_transaction",
        "stopping_leaves_a_job_acquired",
        "stored_fire_time_loses_its_zone",
        "unserialisable_result_ends_the_scheduler",
        "wake_up_missed_before_sleeping",
    }
)
SAID = re.compile(r"expected: (.+)\nseen: (.+)\n")


def scripts(*, quick: bool) -> list[Path]:
    """All, or what a quick run has time for; by name."""
    return sorted(path for path in FOLDER.glob("*.py") if not quick or path.stem in NAMED or path.stem not in SLOW)


class FindingScripts:
    """``run`` some; ``kill`` ends what runs."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._processes: set[Process] = set()

    async def run(self, paths: list[Path], found: Callable[[Finding], None]) -> None:
        """Tells each as it is found, several at a time. (What was told stays told if this is cancelled.)"""
        room = asyncio.Semaphore(AT_ONCE)
        guard = Guard()

        async def one(path: Path) -> None:
            async with room:
                found(await self._one(path, guard))

        try:
            async with asyncio.TaskGroup() as group:
                for path in paths:
                    group.create_task(one(path), name=path.stem)
        finally:
            self.kill()
            guard.close()

    def kill(self) -> None:
        """At once, with what they have forked."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _one(self, path: Path, guard: Guard) -> Finding:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(path), stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        self._processes.add(process)
        guard.watch(process.pid)
        try:
            async with asyncio.timeout(self._limit_s):
                output, _ = await process.communicate()
            finding = judged(path, process.returncode, output.decode(errors="replace"))
        except TimeoutError:
            seen = f"it did not end within {self._limit_s:g} s"
            finding = Finding(path.stem, Verdict.FAILED, "", seen, str(path))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # It waits, and closes the pipe.
            await process.communicate()
            self._processes.discard(process)
        finding.seconds = round(loop.time() - began_s, 3)
        return finding


def judged(path: Path, code: int | None, output: str) -> Finding:
    """By what it printed and how it ended: 1 is what it shows, 0 is not."""
    lines = SAID.fullmatch(output)
    if lines is None or code not in (0, 1):
        return Finding(path.stem, Verdict.FAILED, "", f"it ended with {code} and said {output[-500:]!r}", str(path))
    verdict = Verdict.CONFIRMED if code else Verdict.REFUTED
    return Finding(path.stem, verdict, lines[1], lines[2], str(path))
