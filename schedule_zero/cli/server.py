"""``schedule-zero-server``: the commands; importing them here is what adds them to the root."""

from __future__ import annotations

from schedule_zero.cli import server_access, server_config, server_login
from schedule_zero.cli.server_root import main

__all__ = ["main", "server_access", "server_config", "server_login"]

if __name__ == "__main__":
    main()
