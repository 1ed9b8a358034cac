"""Runs scenarios on a bare APScheduler, each whole in a process of its own, which it watches and ends in time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

from schedule_zero.errors import BadRequest
from schedule_zero.reports.record import Outcome, ScenarioReport
from schedule_zero.testbed.bare.order import DATABASE, ORDER, REPORT, STORES, Order, Told
from schedule_zero.testbed.fast_clock import FastClock
from schedule_zero.testbed.installation import fast_clock
from schedule_zero.testbed.runner import Limits, Planned, Watcher, blank
from schedule_zero.testbed.sampling import Sampler, TooLarge

COMMAND = (sys.executable, "-m", "schedule_zero.testbed.bare")
LOG = "scheduler.log"
FOLDER = "apscheduler"
# Until its scheduler runs; and beyond the scenario's limit, which it keeps itself if it can, to judge what it saw.
START_S, LEEWAY_S = 60.0, 30.0
# From its report to its end.
LEAVE_S = 10.0
NOT_FOR_BARE = "it asks for what a bare APScheduler does not have"
LOG_CHARS = 2000
SCHEMES = ("postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg")


class _Ended(Exception):
    """The process is over, or has to be, without a report."""


def stores(database: str | None) -> tuple[list[str], list[str]]:
    """The subjects that there are, and of the others why not. BadRequest: the database's URL is none."""
    if database is not None and database.partition("://")[0] not in SCHEMES:
        raise BadRequest("--postgresql: expected an URL such as postgresql://user@127.0.0.1/database")
    found, notes = [], []
    for subject, store in STORES.items():
        if why := _missing(store, database):
            notes.append(f"{subject} was left out: {why}")
        else:
            found.append(subject)
    return found, notes


def _missing(store: str, database: str | None) -> str | None:
    if store == "memory":
        return None
    if store == "postgresql" and database is None:
        return f"no database was named (--postgresql URL, or {DATABASE})"
    driver = "aiosqlite" if store == "sqlite" else "asyncpg" if "+asyncpg://" in (database or "") else "psycopg"
    extra = "testbed,postgres" if store == "postgresql" else "testbed"
    for module in ("greenlet", driver):
        if find_spec(module) is None:
            return f'its store imports {module}, which is not there: pip install "schedule-zero[{extra}]"'
    return None


class BareRun:
    """``play`` one after the other; ``kill`` ends what runs."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        limits: Limits,
        database: str | None = None,
        command: Sequence[str] = COMMAND,
        start_s: float = START_S,
        leeway_s: float = LEEWAY_S,
    ) -> None:
        self._folder = folder / FOLDER
        self._seed = seed
        self._limits = limits
        self._database = database
        self._command = command
        self._start_s, self._leeway_s = start_s, leeway_s
        self._process: Process | None = None

    def kill(self) -> None:
        """At once, with whatever it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def play(self, subject: str, planned: Planned, speedup: float, watcher: Watcher) -> ScenarioReport:
        """One scenario; what goes wrong is its outcome."""
        folder = self._folder / STORES[subject] / planned.scenario.handler_id
        folder.mkdir(parents=True)
        order = Order(
            subject=subject,
            store=STORES[subject],
            scenario=planned.scenario.handler_id,
            params=msgspec.to_builtins(planned.params),
            seed=self._seed,
            speedup=speedup,
            limits=self._limits,
            database=self._database,
        )
        (folder / ORDER).touch(0o600)
        (folder / ORDER).write_bytes(msgspec.json.encode(order))
        clock = None if speedup == 1.0 else fast_clock(speedup, folder)
        sampler = Sampler(self._pids, limit_mib=self._limits.memory_mib)
        began_s = asyncio.get_running_loop().time()
        try:
            return await self._watched(folder, planned, clock, sampler, watcher)
        except (_Ended, TooLarge, TimeoutError) as error:
            report = blank(planned, subject, Outcome.FAILED, str(error), speedup)
            report.seconds = round(asyncio.get_running_loop().time() - began_s, 3)
            report.figures.processes = sampler.figures()
            return report
        finally:
            # It may hold a password.
            (folder / ORDER).unlink()

    async def _watched(
        self, folder: Path, planned: Planned, clock: FastClock | None, sampler: Sampler, watcher: Watcher
    ) -> ScenarioReport:
        """Start it, hear what it tells, wait for its end."""
        env = {**os.environ, **({} if clock is None else clock.env)}
        with (folder / LOG).open("ab") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command, str(folder),
                stdin=PIPE, stdout=PIPE, stderr=log, cwd=folder, env=env, start_new_session=True,
            )  # fmt: skip
        watching = asyncio.create_task(sampler.watch())
        playing = asyncio.create_task(self._heard(process, planned, clock, watcher))
        try:
            await asyncio.wait((watching, playing), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            playing.result()
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await process.wait()
        finally:
            for task in (watching, playing):
                task.cancel()
            await asyncio.gather(watching, playing, return_exceptions=True)
            self.kill()
            # It waits, and closes the pipes.
            await process.communicate()
            self._process = None
        return _report(folder, process.returncode)

    async def _heard(self, process: Process, planned: Planned, clock: FastClock | None, watcher: Watcher) -> None:
        """Until it tells no more. _Ended: that takes too long."""
        assert process.stdout is not None, "it has a pipe"
        limit_s = self._limits.max_execution_time_s
        ready = False
        try:
            async with asyncio.timeout(self._start_s) as deadline:
                while line := await process.stdout.readline():
                    told = msgspec.json.decode(line, type=Told)
                    if told.ready:
                        ready = True
                        deadline.reschedule(asyncio.get_running_loop().time() + limit_s + self._leeway_s)
                        if clock is not None:
                            clock.go()
                    else:
                        watcher.goes_on(planned, told.fraction, told.text)
        except TimeoutError:
            if not ready:
                raise _Ended(f"its scheduler did not start within {self._start_s:g} s") from None
            words = f"it did not end within {limit_s:g} s (limits.max_execution_time_seconds), nor could it say why"
            raise _Ended(words) from None
        except (msgspec.DecodeError, ValueError):
            raise _Ended("its process wrote something else than how far it is") from None

    def _pids(self) -> dict[str, int]:
        return {} if self._process is None else {"scheduler": self._process.pid}


def _report(folder: Path, code: int | None) -> ScenarioReport:
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=ScenarioReport)
    except FileNotFoundError:
        raise _Ended(f"its process {_end(code)} without a report{_tail(folder / LOG)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Ended(f"its process left something else than a report: {error}") from None


def _end(code: int | None) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"


def _tail(log: Path) -> str:
    said = log.read_text(errors="replace").strip()[-LOG_CHARS:]
    return f"\n{said}" if said else ""
