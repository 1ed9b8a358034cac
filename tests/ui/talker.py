"""A handler whose jobs talk, and wait in between for the test: for a file that it makes."""

from __future__ import annotations

import time
from pathlib import Path

from schedule_zero import BaseHandler, current_job


class TalkerHandler(BaseHandler):
    handler_id = "talker"

    def talk(self, lines: int, gate: str = "", then: int = 0) -> int:
        """Say ``lines`` lines, wait for the file ``gate``, say some more."""
        for number in range(1, lines + 1):
            print(f"before {number}")
        if gate:
            current_job().progress(50, "waits for the gate")
            while not Path(gate).exists():
                time.sleep(0.02)
        for number in range(1, then + 1):
            print(f"after {number}")
        return lines + then

    def much(self, lines: int, error_at: int) -> int:
        """Say many lines, one of them an error."""
        for number in range(1, lines + 1):
            if number == error_at:
                current_job().log.error("<b>it</b> broke here")
            else:
                print(f"line {number} <script>alert(1)</script>")
        return lines
