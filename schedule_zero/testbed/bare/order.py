"""What a run tells the process of a scenario (``order.json``), and what that tells back: a line each, and a report."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schedule_zero.testbed.runner import Limits

ORDER, REPORT = "order.json", "scenario.json"
# The environment variable of ``--postgresql``.
DATABASE = "SCHEDULE_ZERO_TESTBED_POSTGRESQL"
# The stock stores by the names of their subjects, in the order in which they are tried.
STORES = {"apscheduler (memory)": "memory", "apscheduler (sqlite)": "sqlite", "apscheduler (postgresql)": "postgresql"}
# What stands where a node's name would.
NODE = "apscheduler"


class Order(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One scenario on one store."""

    subject: str
    store: str
    scenario: str
    params: dict[str, Any]
    seed: int
    speedup: float
    limits: Limits
    # Of PostgreSQL: where it is.
    database: str | None = None


class Told(Struct, frozen=True, omit_defaults=True):
    """A line on the process's stdout. ``ready``: its scheduler runs."""

    ready: bool = False
    fraction: float = 0.0
    text: str = ""
