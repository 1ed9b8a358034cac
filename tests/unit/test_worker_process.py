"""How a worker process ended is told as it was, whichever of its two ends the node hears of first."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from schedule_zero.node import worker_process
from schedule_zero.node.worker_frames import Begin, FromWorker
from schedule_zero.node.worker_process import LINE_LOST, Death, Guard, WorkerProcess

BEGIN = Begin(targets=[], node_id="n1", state_dir="/nowhere", result_limit=1000, log_level="info")
CLOSES = "import os, sys, time; os.close(int(sys.argv[1])); "


class Owner:
    """Waits for the end."""

    def __init__(self) -> None:
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def said(self, worker: WorkerProcess, message: FromWorker) -> None:
        raise AssertionError(message)

    def wrote(self, worker: WorkerProcess, code: str, text: str) -> None:
        raise AssertionError(text)

    def died(self, worker: WorkerProcess, death: Death) -> None:
        self.end.set_result(worker.fault or death.how())


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """How a worker ends that runs this code; ``sys.argv[1]`` is its end of the line."""
    guard = Guard()

    def run(code: str) -> str:
        def spawn(fd: int, _out: int, _err: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-S", "-c", code, str(fd)], pass_fds=[fd], start_new_session=True)

        async def live() -> str:
            owner = Owner()
            WorkerProcess(BEGIN, owner, guard)
            return await asyncio.wait_for(owner.end, 30)

        monkeypatch.setattr(worker_process, "_spawn", spawn)
        return asyncio.run(live())

    yield run
    guard.close()


def test_a_job_that_closes_the_line_is_told_so_also_where_the_node_hears_of_it_first(ends):
    assert ends(CLOSES + "time.sleep(0.1); os._exit(117)") == LINE_LOST


def test_a_worker_that_has_closed_its_line_and_lives_on_is_ended(ends):
    assert ends(CLOSES + "time.sleep(60)") == LINE_LOST


def test_a_worker_that_was_killed_is_not_said_to_have_closed_its_line(ends):
    assert "was killed by SIGKILL" in ends(CLOSES + "time.sleep(0.1); os.kill(os.getpid(), 9)")
    assert ends(CLOSES + "time.sleep(0.1); os._exit(3)") == "ended with exit code 3"
