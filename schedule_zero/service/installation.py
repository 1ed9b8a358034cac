"""What this server is and how it was set up: settings and who said them, its loops, its database, its parts."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero import settings
from schedule_zero.clock import Clock
from schedule_zero.config import ServerConfig
from schedule_zero.ops.supervise import LoopStatus, Supervisor
from schedule_zero.settings import Said
from schedule_zero.store import Store
from schedule_zero.store.writer import StoreStats

# What the server runs on, as their authors call it.
LIBRARIES = (
    "apscheduler", "tornado", "pyzmq", "sqlalchemy", "msgspec", "msgpack", "jinja2", "markdown-it-py", "cronsim",
    "holidays", "icalendar", "tzdata", "structlog", "psycopg", "uvloop",
)  # fmt: skip


class SettingInForce(Struct, frozen=True):
    """One setting: its value, masked where it is a secret, and who said it."""

    path: str
    value: Any
    said: Said
    default: Any


class LoopFigures(Struct, frozen=True):
    """A loop of the server. ``trouble``: why it does not count as well."""

    status: LoopStatus
    running_s: float
    trouble: str | None


class StoreFigures(Struct, frozen=True):
    """The database, and what was written since the start."""

    dialect: str
    # With its path or address.
    where: str
    size_bytes: int
    healthy: bool
    trouble: str | None
    epoch: int
    stats: StoreStats
    # Executions that are not over.
    open: int


class InstallationService:
    """Reads for people who look after the server."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        origins: Mapping[str, Said] | None,
        state_dir: Path,
        store: Store,
        supervisor: Supervisor,
        clock: Clock,
    ) -> None:
        """``origins`` None: whoever started this server did so without ``settings.load``."""
        self._config = config
        self._origins = origins or {}
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self.state_dir = state_dir

    def settings(self) -> list[SettingInForce]:
        """Every setting in force, in the order of config.yaml."""
        defaults = settings.values(ServerConfig())
        return [
            SettingInForce(path, value, self._origins.get(path, settings.DEFAULT), defaults[path])
            for path, value in settings.values(self._config).items()
        ]

    def loops(self) -> list[LoopFigures]:
        """Every supervised loop by name."""
        unwell, now_s = self._supervisor.unwell(), self._clock.mono_s()
        return [
            LoopFigures(
                replace(status),
                now_s - status.started_s if status.running else 0.0,
                unwell.get(name),
            )
            for name, status in sorted(self._supervisor.loops.items())
        ]

    async def store(self) -> StoreFigures:
        """The database as it is now."""
        store = self._store
        return StoreFigures(
            dialect=store.dialect,
            where=store.where,
            size_bytes=await store.size_bytes(),
            healthy=store.healthy,
            trouble=None if store.healthy else store.last_error,
            epoch=store.epoch,
            stats=replace(store.stats),
            open=store.tally.total,
        )

    def versions(self) -> dict[str, str]:
        """Name → version of ScheduleZero, Python and the libraries that are here."""
        return _versions()


@cache
def _versions() -> dict[str, str]:
    found = {"ScheduleZero": package_version("schedule-zero")}
    found[platform.python_implementation()] = platform.python_version()
    for name in LIBRARIES:
        try:
            found[name] = package_version(name)
        except PackageNotFoundError:
            continue
    return found
