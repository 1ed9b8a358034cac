"""Handlers for the tests of worker processes; loaded by their path, in the test's process and in each worker."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from schedule_zero import BaseHandler, GiveUp, Retry, current_job

# Where workers leave a trace, and what makes their ``setup`` fail.
TRACE = "ISOLATED_JOBS_TRACE"
BROKEN = "ISOLATED_JOBS_BROKEN"


class Isolated(BaseHandler):
    handler_id = "isolated"

    def __init__(self) -> None:
        self.ready_in = 0
        self.kept: list[Any] = []

    async def setup(self) -> None:
        if os.environ.get(BROKEN):
            raise RuntimeError("no database today")
        self.ready_in = os.getpid()

    def teardown(self) -> None:
        if trace := os.environ.get(TRACE):
            Path(trace).write_text(f"torn down in {os.getpid()}")

    # --- what a job sees

    def pid(self) -> int:
        return os.getpid()

    async def apid(self) -> int:
        await asyncio.sleep(0)
        return os.getpid()

    def about(self) -> list[Any]:
        ctx = current_job()
        return [
            ctx.execution_id, ctx.attempt, ctx.fence_token, ctx.idempotency_key, ctx.schedule_id, ctx.node_id,
            ctx.deadline is not None, ctx.cancelled, self.ready_in == os.getpid(), os.getpgid(0) == os.getpid(),
        ]  # fmt: skip

    def tells(self) -> None:
        current_job().progress(40, "nearly half")
        current_job().log.warning("job_says", colour="blue")
        current_job().wait_cancelled(20)

    def logs_oddly(self) -> str:
        logging.getLogger("odd").warning("with names of its own", extra={"method_name": "m", "self": 1, "event_": 2})
        return "done"

    def takes(self, number: int, text: str = "") -> int:
        return number + len(text)

    def big(self, size: int) -> str:
        return "x" * size

    def gives(self, what: str) -> Any:
        if what == "nothing":
            return None
        if what == "object":
            return object()
        errors = {"retry": Retry(7.0), "give_up": GiveUp("useless"), "error": ValueError("wrong")}
        raise errors.get(what) or SystemExit(3)

    # --- ways to go

    def leave(self, code: int) -> None:
        os._exit(code)

    def killed(self, number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(20)

    def sleeps(self, seconds: float = 60) -> str:
        current_job().progress(1, "asleep")
        time.sleep(seconds)
        return "slept"

    def looks(self) -> str:
        current_job().progress(1, "looking")
        return "stopped" if current_job().wait_cancelled(60) else "not stopped"

    async def awaits(self) -> None:
        current_job().progress(1, "waiting")
        await asyncio.sleep(60)

    async def shrugs(self) -> None:
        current_job().progress(1, "shrugging")
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def blocks(self) -> None:
        """Keeps the loop from its turns."""
        current_job().log.warning("blocking")
        time.sleep(60)

    def runs_a_command(self) -> None:
        current_job().progress(1, "running")
        subprocess.run(["sleep", "60"], check=True)

    def babbles(self) -> None:
        """Write into the line to the node."""
        for name in Path("/proc/self/fd").iterdir():
            try:
                line = socket.socket(fileno=os.dup(int(name.name)))
                if line.family == socket.AF_UNIX and line.type == socket.SOCK_STREAM and line.getpeername() == "":
                    line.send(b"\xff" * 100)
            except OSError:
                continue
        time.sleep(60)

    # --- what it uses

    def spin(self, seconds: float) -> float:
        until = time.process_time() + seconds
        began = time.monotonic()
        while time.process_time() < until:
            pass
        return time.monotonic() - began

    def spin_in_a_child(self, seconds: float) -> None:
        script = f"import time\nwhile time.process_time() < {seconds}: pass"
        subprocess.run([sys.executable, "-S", "-c", script], check=True)

    def hoard(self, mib: int, hold_s: float = 0.0, keep: bool = False) -> int:
        hoard = [bytearray(b"x" * (1 << 20)) for _ in range(mib)]
        if keep:
            self.kept.append(hoard)
        time.sleep(hold_s)
        return len(hoard)

    def hoard_in_a_child(self, mib: int) -> None:
        script = f"import time\nhoard = [bytearray(b'x' * (1 << 20)) for _ in range({mib})]\ntime.sleep(60)"
        subprocess.run([sys.executable, "-S", "-c", script], check=True)

    def asks_for_all_at_once(self, mib: int) -> int:
        return len(bytearray(mib << 20))

    def rlimits(self) -> list[Any]:
        return [resource.getrlimit(what) for what in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)]

    def leaves_a_process(self, *, own_session: bool) -> int:
        return subprocess.Popen(["sleep", "60"], start_new_session=own_session).pid

    def leaves_a_thread(self) -> None:
        threading.Thread(target=time.sleep, args=(60,), daemon=False).start()

    def family(self, *, own_session: bool = False) -> None:
        """A child with a child; their ids are the progress."""
        script = (
            "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
        )
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, start_new_session=own_session
        )
        current_job().progress(1, f"{child.pid} {int(child.stdout.readline())}")
        child.wait()
