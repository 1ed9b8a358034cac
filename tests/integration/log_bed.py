"""Jobs that say things, for the tests of logs, and how those are read back."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from schedule_zero import BaseHandler, GiveUp, current_job, job

GATE = threading.Event()
_log = logging.getLogger("billing")


class TalkHandler(BaseHandler):
    handler_id = "talk"

    def say(self, lines: list[str]) -> None:
        for line in lines:
            print(line)

    def count(self, lines: int, name: str = "line") -> int:
        for number in range(lines):
            print(f"{name} {number}")
        return lines

    def every_way(self) -> None:
        ctx = current_job()
        print("on stdout")
        print("on stderr", file=sys.stderr)
        ctx.log.info("by ctx.log", rows=3, name="a b")
        ctx.log.debug("quietly")
        _log.warning("by %s", "logging")
        try:
            raise ValueError("inner")
        except ValueError:
            _log.exception("caught")

    def no_end(self) -> None:
        sys.stdout.write("first\nno line feed")

    def garbage(self) -> None:
        sys.stdout.buffer.write(b"caf\xc3")
        sys.stdout.buffer.write(b"\xa9 \xff\xfe\x00\n")
        sys.stdout.write("\udc80 lone\n")
        print("x" * 100_000)

    def wait(self, lines: int = 1) -> str:
        for number in range(lines):
            print(f"before {number}")
        GATE.wait(20)
        print("after")
        return "done"

    def thread(self) -> None:
        print("in the method")
        context = __import__("contextvars").copy_context()
        thread = threading.Thread(target=lambda: context.run(print, "in a thread"))
        thread.start()
        thread.join()

    async def tasks(self) -> None:
        async def child(name: str) -> None:
            for number in range(50):
                print(f"{name} {number}")
                await asyncio.sleep(0)

        await asyncio.gather(child("a"), child("b"), asyncio.to_thread(print, "to_thread"))

    @job(max_attempts=3, retry_delay_s=0.0)
    def flaky(self) -> int:
        attempt = current_job().attempt
        print(f"attempt {attempt}")
        if attempt < 3:
            raise RuntimeError("again")
        return attempt

    def fails(self) -> None:
        print("about to fail")
        raise GiveUp("no")

    def flood(self, megabytes: int) -> str:
        line = "x" * 199 + "\n"
        for _ in range(megabytes * 5_000):
            sys.stdout.write(line)
        return "over"

    def steps(self) -> None:
        for percent in (10, 20, 30):
            current_job().progress(percent, f"step {percent}")
            GATE.wait(0.7)

    @job(max_attempts=2, retry_delay_s=0.0)
    def comes_as_far_as(self, percent: float, text: str, fails: bool = False) -> None:
        if current_job().attempt == 1:
            current_job().progress(percent, text + ("\0\udc80" if fails else ""))
        if fails:
            raise RuntimeError("no further")

    @job(isolation="process")
    def comes_as_far_as_apart(self, percent: float, text: str, leaves: bool = False) -> None:
        current_job().progress(1, "begun")
        current_job().progress(percent, text)
        if leaves:
            os._exit(3)

    @job(isolation="process")
    def apart(self, lines: int) -> int:
        sys.stdout.write("begun ")
        for number in range(lines):
            print(f"apart {number}")
        current_job().log.warning("from another process", pid=1)
        sys.stderr.write("no end \udc80")
        return os.getpid()

    @job(isolation="process")
    def by_descriptors(self, times: int = 1) -> None:
        for number in range(times):
            print(f"{number} print")
            os.write(1, f"{number} by os.write\n".encode())
            subprocess.run(["echo", f"{number} by a child"], check=True)
            os.system(f"echo {number} by a shell")
            current_job().log.warning(f"{number} by ctx.log")
            ctypes.CDLL(None).printf(b"%d by C\n", number)
            os.write(2, f"{number} on 2\n".encode())
            print(f"{number} printed on stderr", file=sys.stderr)
            print(f"{number} half", end=" a line, ", flush=True)
            os.write(1, b"and the rest\n")

    @job(isolation="process")
    def last_words(self, how: str) -> None:
        print("print")
        os.write(1, b"caf\xc3\xa9 \xff\x00\n")
        print("no line feed", end="", flush=True)
        match how:
            case "exit":
                os._exit(3)
            case "crash":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), 9)
            case "close":
                os.closerange(0, 1000)

    @job(isolation="process")
    async def closes_all(self) -> None:
        os.closerange(0, 1000)
        await asyncio.sleep(20)

    @job(isolation="process")
    def closes_descriptors(self) -> int:
        print("before")
        os.close(1)
        os.close(2)
        with Path(os.devnull).open() as other:
            print("after, without a descriptor", other.fileno())
        return os.getpid()

    @job(isolation="process")
    def leaves_a_writer(self) -> int:
        """A child that writes for as long as it lives, and takes no notice of signals that can be ignored."""
        script = "trap '' TERM HUP PIPE; echo begun; while :; do echo stray || sleep 0.01; done"
        child = subprocess.Popen(["sh", "-c", script], start_new_session=True)
        current_job().log.info("child", pid=child.pid)
        return os.getpid()

    @job(isolation="process")
    def forks(self, how: str) -> int:
        child = os.fork()
        if child == 0:
            print("the child")
            current_job().log.warning("the child logs")
            current_job().progress(99, "the child")
            if how == "exits":
                os._exit(0)
            return 0
        os.waitpid(child, 0)
        print("the parent")
        return child

    @job(isolation="process")
    def large_apart(self, size: int) -> str:
        return "x" * size

    def pid(self) -> int:
        return os.getpid()


async def log_of(api: Any, execution_id: str, **query: Any) -> dict[str, Any]:
    answer = await api.get(f"/api/executions/{execution_id}/logs", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def texts_of(api: Any, execution_id: str, **query: Any) -> list[str]:
    """All lines, page by page."""
    texts: list[str] = []
    first: int | None = 0
    while first is not None:
        page = await log_of(api, execution_id, **{"from": first, "limit": 5000, **query})
        assert [line["line"] for line in page["lines"]] == sorted(line["line"] for line in page["lines"])
        texts += [line["text"] for line in page["lines"]]
        first = page["next"]
    return texts


async def complete_log(api: Any, execution_id: str, **query: Any) -> list[str]:
    """The texts, once all of it is there."""
    from tests.support import eventually

    async def there() -> bool:
        return (await log_of(api, execution_id, limit=1, **query))["complete"]

    await eventually(there, within_s=30)
    return await texts_of(api, execution_id, **query)
