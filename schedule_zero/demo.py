"""The five sample schedules of ``--demo``: one for each thing worth seeing at a first look. Data, nothing else.

They are documents for ``POST /api/schedules``, and run methods of the handler ``demo``
(``schedule_zero.handlers.demo``).
"""

from __future__ import annotations

from typing import Any

HANDLER_ID = "demo"


def sample_schedules() -> list[dict[str, Any]]:
    """Fresh documents on each call."""
    return [
        {
            "id": "hello-every-10-seconds",
            "handler_id": HANDLER_ID,
            "job_method": "hello",
            "job_params": {"name": "ScheduleZero"},
            "trigger": {"type": "interval", "seconds": 10},
        },
        {
            "id": "add-every-minute",
            "handler_id": HANDLER_ID,
            "job_method": "add",
            "job_params": {"a": 19, "b": 23},
            "trigger": {"type": "cron", "expression": "* * * * *"},
        },
        {
            # Fails twice, then completes: see its attempts in GET /api/executions/{id}.
            "id": "flaky-with-retries",
            "handler_id": HANDLER_ID,
            "job_method": "flaky",
            "job_params": {"fail_times": 2},
            "trigger": {"type": "cron", "expression": "*/2 * * * *"},
            "options": {"max_attempts": 5, "retry_delay_s": 2},
        },
        {
            # At nine by the clock on the wall in Berlin, summer and winter.
            "id": "daily-report-berlin",
            "handler_id": HANDLER_ID,
            "job_method": "echo",
            "job_params": {"report": "yesterday"},
            "trigger": {"type": "cron", "expression": "0 9 * * *", "timezone": "Europe/Berlin"},
            "options": {"timeout_s": 600},
        },
        {
            "id": "one-shot-paused",
            "handler_id": HANDLER_ID,
            "job_method": "hello",
            "job_params": {"name": "2038"},
            "trigger": {"type": "date", "run_date": "2038-01-19T03:14:07Z"},
            "paused": True,
            "note": "Due once, at the last second of 32-bit time. Resume it, or run it now.",
        },
    ]
