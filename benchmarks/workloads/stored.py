"""W8: many stored schedules of which none is due soon: how fast the server starts, what waiting costs, and the lists.

They are created through the API like any others. Each fires daily, at minutes spread over the twenty hours that begin
in two: what is measured is having them, not firing them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any
from urllib.parse import quote

from benchmarks.load import Connection, LoadError, closed_loop
from benchmarks.procs import Deployment, accounting, wait_for
from benchmarks.records import open_database
from benchmarks.report import Measured
from benchmarks.stats import percentile
from benchmarks.workloads.schedules import bulk_requests, target_of

_AHEAD_HOURS = 2
_SPREAD_MINUTES = 20 * 60
# Of every hundred schedules, one is paused: a filter has something to look for.
_PAUSED_EVERY = 100


def create(deployed: Deployment, *, schedules: int) -> None:
    """Store the schedules; nothing of this is timed."""
    first = datetime.now(UTC) + timedelta(hours=_AHEAD_HOURS)
    rows = [
        target_of(f"daily-{n:06}", _daily(first + timedelta(minutes=n % _SPREAD_MINUTES)))
        | {"paused": n % _PAUSED_EVERY == 0}
        for n in range(schedules)
    ]
    for request in bulk_requests(deployed.target, rows):
        reply = deployed.control.send(request)
        if reply.status != 201:
            raise LoadError(f"creating schedules was answered {reply.status}: {reply.body[:500]!r}")


def _daily(at: datetime) -> dict[str, Any]:
    return {"type": "cron", "expression": f"{at.minute} {at.hour} * * *", "timezone": "UTC"}


def start(deployed: Deployment, measured: Measured) -> None:
    """Seconds from starting the server's command to the first 200 of ``/readyz``. Server and node were stopped."""
    begin = time.perf_counter()
    deployed.start_server()
    wait_for(lambda: _ready(deployed), "/readyz answered 200", within_s=60, every_s=0.005)
    measured.add("w8_start_s", time.perf_counter() - begin)
    measured.add("w8_start_cpu_s", deployed.processes["server"].cpu_s())
    deployed.start_node()
    deployed.first_job(within_s=30)


def _ready(deployed: Deployment) -> bool:
    for process in deployed.processes.values():
        process.check()
    try:
        with Connection(deployed.target) as connection:
            return connection.send(deployed.target.encode("GET", "/readyz")).status == 200
    except (OSError, LoadError):
        # It does not listen yet; or it has not written its token.
        return False


def idle(deployed: Deployment, measured: Measured, *, settle_s: float, seconds: float) -> None:
    """The share of one core that server and node use while nothing is asked of them, and the server's memory."""
    time.sleep(settle_s)
    begin = time.perf_counter()
    with accounting(deployed.processes) as cpu:
        time.sleep(seconds)
    elapsed_s = time.perf_counter() - begin
    measured.add("w8_idle_cpu_share", cpu.seconds["server"] / elapsed_s)
    measured.add("w8_node_idle_cpu_share", cpu.seconds["node"] / elapsed_s)
    measured.add("w8_server_mb", deployed.processes["server"].rss_bytes() / 1e6)


def browse(deployed: Deployment, measured: Measured, *, repeats: int) -> None:
    """p95 of the slowest kind of page of the schedules' list; and nothing may have fired."""
    worst = 0.0
    for name, path in _pages(deployed).items():
        load = closed_loop(deployed.target, [repeat(deployed.target.encode("GET", path), repeats)], expect=(200,))
        if load.odd:
            raise LoadError(f"GET {path} was answered {load.odd}")
        p95 = percentile(load.latencies_s, 95)
        measured.add(f"w8_page_{name}_p95_s", p95)
        worst = max(worst, p95)
    measured.add("w8_list_p95_s", worst)
    with open_database(deployed.database) as database:
        fired = database.execute("SELECT count(*) FROM fires WHERE schedule_id GLOB 'daily-*'").fetchone()[0]
    if fired:
        raise LoadError(f"{fired} fires of schedules that were not to be due: the clock moved, or the times are wrong")


def _pages(deployed: Deployment) -> dict[str, str]:
    deep = deployed.control.call("GET", "/api/schedules?limit=500")
    for _ in range(20):
        deep = deployed.control.call("GET", f"/api/schedules?limit=500&cursor={quote(deep['next_cursor'])}")
    return {
        "first": "/api/schedules?limit=50",
        "500_rows": "/api/schedules?limit=500",
        "deep": f"/api/schedules?limit=50&cursor={quote(deep['next_cursor'])}",
        "paused": "/api/schedules?limit=50&state=paused",
        "quarantined": "/api/schedules?limit=50&state=quarantined",
        "handler": "/api/schedules?limit=50&handler_id=demo",
        "no_such_handler": "/api/schedules?limit=50&handler_id=nobody",
    }
