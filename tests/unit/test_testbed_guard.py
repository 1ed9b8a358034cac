"""What the test bed started ends with it, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from schedule_zero.testbed.guard import Guard
from tests.support import eventually_sync

WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]
# A test bed that starts one process, which starts another, and tells.
STARTS = """
import subprocess, sys, time
from schedule_zero.testbed.guard import Guard
guard = Guard()
waits = [sys.executable, "-c", "import time; time.sleep(600)"]
inner = f"import subprocess, time; print(subprocess.Popen({waits!r}).pid, flush=True); time.sleep(600)"
outer = subprocess.Popen([sys.executable, "-c", inner], start_new_session=True)
guard.watch(outer.pid)
print(outer.pid, guard._popen.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_test_bed_leaves_no_process():
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, text=True) as bed:
        pids = [int(word) for _ in range(2) for word in bed.stdout.readline().split()]
        assert len(pids) == 3
        assert not any(gone(pid) for pid in pids)
        bed.kill()
        bed.wait(10)
        eventually_sync(lambda: all(gone(pid) for pid in pids))


def test_what_is_still_there_when_it_closes_is_ended_and_nothing_else():
    guard = Guard()
    with (
        subprocess.Popen(WAITS, start_new_session=True) as watched,
        subprocess.Popen(WAITS, start_new_session=True) as other,
    ):
        guard.watch(watched.pid)
        guard.close()
        assert watched.wait(10) == -9
        assert other.poll() is None
        other.kill()


def test_a_guard_that_was_killed_does_not_stop_the_run():
    guard = Guard()
    os.kill(guard._popen.pid, 9)
    guard._popen.wait(10)
    guard.watch(os.getpid())
    guard.watch(os.getpid())
    guard.close()


def test_one_that_had_ended_before_is_no_matter():
    guard = Guard()
    with subprocess.Popen(["true"]) as process:
        process.wait(10)
    guard.watch(process.pid)
    guard.close()
    assert guard._popen.returncode == 0
