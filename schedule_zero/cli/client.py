"""``schedule-zero``: the commands, one file per noun; importing them here is what adds them to the root."""

from __future__ import annotations

from schedule_zero.cli import (
    client_calendars,
    client_changes,
    client_dead_letters,
    client_executions,
    client_foresight,
    client_groups,
    client_jobs,
    client_ledger,
    client_logs,
    client_nodes,
    client_policies,
    client_schedules,
)
from schedule_zero.cli.api import main

__all__ = [
    "client_calendars",
    "client_changes",
    "client_dead_letters",
    "client_executions",
    "client_foresight",
    "client_groups",
    "client_jobs",
    "client_ledger",
    "client_logs",
    "client_nodes",
    "client_policies",
    "client_schedules",
    "main",
]

if __name__ == "__main__":
    main()
