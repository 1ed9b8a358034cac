"""W5 and W7: memory when idle and after a million executions, and how fast the lists are then.

The history is not made by a million jobs but by copying one real row with SQL while the server is stopped: what is
measured is reading it. Only the columns that make rows differ are set; all others are as the product wrote them.
"""

from __future__ import annotations

import sqlite3
import time
from itertools import repeat
from urllib.parse import quote

from benchmarks.load import LoadError, closed_loop
from benchmarks.procs import Deployment
from benchmarks.report import Measured
from benchmarks.stats import percentile

# Of every 100: 2 failed, 10 come from one schedule. Ids are older than any real one, and grow with the time.
_FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
INSERT INTO executions (id, state, schedule_id, nominal_us, created_us, dispatched_us, started_us, finished_us,
                        stored_us, error{columns})
SELECT printf('01h%023d', i), CASE WHEN i % 50 = 7 THEN 'failed' ELSE 'completed' END,
       CASE WHEN i % 10 = 3 THEN 'history' END, CASE WHEN i % 10 = 3 THEN :base + i * 1000 END,
       :base + i * 1000, :base + i * 1000 + 200, :base + i * 1000 + 400, :base + i * 1000 + 500, :base + i * 1000 + 900,
       CASE WHEN i % 50 = 7 THEN '{{"type":"ValueError","message":"no"}}' END{columns}
FROM n, (SELECT * FROM executions WHERE state = 'completed' LIMIT 1)
"""
# The product counts as it writes; what it did not write itself has to be counted here.
_COUNT = """
INSERT INTO execution_counts (bucket_us, handler_id, state, n, run_us)
SELECT 0, handler_id, state, count(*), sum(finished_us - started_us) FROM executions WHERE id GLOB '01h*'
GROUP BY handler_id, state
ON CONFLICT (bucket_us, handler_id, state) DO UPDATE SET n = n + excluded.n, run_us = run_us + excluded.run_us
"""
# One schedule with a long ledger: its executions' fires.
_LEDGER = """
INSERT INTO fires (schedule_id, generation, nominal_us, outcome, execution_id, decided_us)
SELECT schedule_id, 1, nominal_us, 'executed', id, created_us FROM executions WHERE schedule_id = 'history'
"""
_SET = frozenset(
    {
        "seq",
        "id",
        "state",
        "schedule_id",
        "nominal_us",
        "created_us",
        "dispatched_us",
        "started_us",
        "finished_us",
        "stored_us",
        "error",
    }
)


def idle_memory(deployed: Deployment, measured: Measured, *, settle_s: float) -> None:
    """W5: resident memory of server and node that have done nothing but one job."""
    time.sleep(settle_s)
    for name, process in deployed.processes.items():
        measured.add(f"w5_{name}_idle_mb", process.rss_bytes() / 1e6)


def fill(deployed: Deployment, *, rows: int) -> None:
    """Add ``rows`` finished executions to the database of a stopped server."""
    database = sqlite3.connect(deployed.database)
    try:
        # Not what is measured, and thrown away afterwards: no need to wait for the disk.
        database.execute("PRAGMA synchronous=OFF")
        names = [row[1] for row in database.execute("PRAGMA table_info(executions)")]
        columns = "".join(f", {name}" for name in names if name not in _SET)
        base = time.time_ns() // 1000 - rows * 1000 - 3_600_000_000
        with database:
            database.execute(_FILL.format(columns=columns), {"rows": rows, "base": base})
            database.execute(_COUNT)
            database.execute(_LEDGER)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


def browse(deployed: Deployment, measured: Measured, *, repeats: int) -> None:
    """W7 (the API's reads; ``pages`` has the pages) and W5 after it: p95 of the slowest kind of read, then memory."""
    target = deployed.target
    worst = ("", 0.0)
    for name, path in _reads(deployed).items():
        load = closed_loop(target, [repeat(target.encode("GET", path), repeats)], expect=(200,))
        if load.odd:
            raise LoadError(f"GET {path} was answered {load.odd}")
        p95 = percentile(load.latencies_s, 95)
        measured.add(f"w7_{name}_p95_s", p95)
        worst = max(worst, (name, p95), key=lambda each: each[1])
    measured.add("w7_read_p95_s", worst[1])
    measured.add("w5_server_history_mb", deployed.processes["server"].rss_bytes() / 1e6)


def _reads(deployed: Deployment) -> dict[str, str]:
    control = deployed.control
    first = control.call("GET", "/api/executions?limit=50")
    deep = first
    for _ in range(20):
        deep = control.call("GET", f"/api/executions?limit=500&cursor={quote(deep['next_cursor'])}")
    middle = deep["records"][-1]
    return {
        "list": "/api/executions?limit=50",
        "list_500": "/api/executions?limit=500",
        "list_deep": f"/api/executions?limit=50&cursor={quote(deep['next_cursor'])}",
        "list_failed": "/api/executions?limit=50&status=failed",
        "list_running": "/api/executions?limit=50&status=running",
        "list_handler": "/api/executions?limit=50&handler_id=demo",
        "list_no_such_handler": "/api/executions?limit=50&handler_id=nobody",
        "list_schedule": "/api/executions?limit=50&job_id=history",
        "list_since": f"/api/executions?limit=50&since={quote(middle['created_at'])}",
        "search_failed": f"/api/executions?limit=50&q={quote('state:failed-like job:demo.* since:7d')}",
        "search_argument": f"/api/executions?limit=50&q={quote('arg.customer:42')}",
        "search_nothing": f"/api/executions?limit=50&q={quote('node:nobody')}",
        "search_error": f"/api/executions?limit=50&q={quote('no such thing')}",
        "histogram": "/api/executions/histogram",
        "histogram_sampled": f"/api/executions/histogram?q={quote('-node:nobody')}",
        "detail": f"/api/executions/{middle['id']}",
        "stats": "/api/executions/stats",
        "errors": "/api/executions/errors",
        "schedules": "/api/schedules",
        "fires": "/api/schedules/history/fires",
        "nodes": "/api/nodes",
        "handlers": "/api/handlers",
        "health": "/api/health",
    }
