"""Fixtures for every tier."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings

from schedule_zero.store.sqlite import SqliteBackend
from tests import tried as tries
from tests.support import ManualClock
from tests.tried import Tried

# No example fails because the machine was busy with something else just then.
settings.register_profile("schedule-zero", deadline=None)
settings.load_profile("schedule-zero")

_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


# --- thousands of databases ----------------------------------------------------------------------------

_create = SqliteBackend._create


@pytest.fixture(scope="session", autouse=True)
def one_schema() -> Iterator[None]:
    """Of each process only the first database is created; those after it are copies, each 30 ms sooner."""
    made: list[bytes] = []

    def copy(backend: SqliteBackend) -> None:
        if made:
            backend.path.touch(0o600, exist_ok=False)
            backend.path.write_bytes(made[0])
        else:
            _create(backend)
            made.append(backend.path.read_bytes())

    SqliteBackend._create = copy
    yield
    SqliteBackend._create = _create


@pytest.fixture
def real_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each database is really created: for tests of how that goes."""
    monkeypatch.setattr(SqliteBackend, "_create", _create)


# --- what was tried, how often: see tests/tried.py ----------------------------------------------------


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Tried]]:
    """``tried(part, what)`` opens this test's line in the table of what was tried."""
    began_s = [time.monotonic()]
    lines: list[Tried] = []

    def begin(part: str, what: str) -> Tried:
        # A test's first line has its preparations, too.
        if lines:
            began_s.append(time.monotonic())
        lines.append(Tried(part=part, what=what, test=request.node.nodeid))
        return lines[-1]

    yield begin
    began_s.append(time.monotonic())
    for line, (from_s, to_s) in zip(lines, pairwise(began_s), strict=bool(lines)):
        line.took_s = round(to_s - from_s, 2)
        line.failed = request.node.stash.get(_FAILED, True)
        tries.write(line)


def pytest_configure(config: pytest.Config) -> None:
    # Workers inherit it.
    if not hasattr(config, "workerinput"):
        os.environ[tries.FILE] = str(tries.new_file())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    path = Path(os.environ[tries.FILE])
    if path.exists():
        counts = {name: len(reports) for name, reports in terminalreporter.stats.items()}
        tries.write(
            tries.Ended(
                asked=[argument.rstrip("/") for argument in config.args],
                exit_code=int(exitstatus),
                passed=counts.get("passed", 0),
                failed=counts.get("failed", 0) + counts.get("error", 0),
                skipped=counts.get("skipped", 0),
            )
        )
        terminalreporter.section(f"what was tried ({path})")
        terminalreporter.write_line(tries.table(tries.read(path)))
