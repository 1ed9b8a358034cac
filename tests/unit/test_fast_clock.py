"""The fast clock: a process that has it sees time pass so many times as fast, and durations as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schedule_zero.clock import SystemClock
from schedule_zero.testbed.fast_clock import FastClock

SPEEDUP = 1000.0
CODE = "from schedule_zero.clock import SystemClock as C; c = C(); print(c.wall_us(), c.mono_s())"


def test_a_process_on_the_fast_clock_agrees_with_who_watches_it_and_its_durations_are_the_machine_s() -> None:
    clock = FastClock(SPEEDUP)
    before_us = clock.wall_us()
    told = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **clock.env},
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    after_us = clock.wall_us()
    wall_us, mono_s = told.stdout.split()
    assert before_us <= int(wall_us) <= after_us
    assert 0 <= SystemClock().mono_s() - float(mono_s) < 20
    assert clock.hours() == pytest.approx((clock.wall_us() - before_us) / 3.6e9, abs=0.1)


def test_evidence_measured_by_either_clock_is_in_one_time() -> None:
    clock = FastClock(SPEEDUP)
    wall_us, mono_s = clock.wall_us(), clock.mono_s()
    while clock.wall_us() < wall_us + 10_000_000:
        pass
    assert clock.mono_s() - mono_s == pytest.approx((clock.wall_us() - wall_us) / 1e6, abs=5)


def test_a_clock_that_is_held_goes_as_the_machine_s_until_it_is_let_go(tmp_path: Path) -> None:
    began_us = 1_800_000_000_000_000
    clock = FastClock(SPEEDUP, began_us=began_us, held=tmp_path / "a clock")
    watching = subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + CODE.replace("print", "\nfor _ in sys.stdin: print") + "\n"],
        env={**os.environ, **clock.env, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdin is not None
    assert watching.stdout is not None

    def seen_by_the_process() -> int:
        watching.stdin.write("\n")
        watching.stdin.flush()
        return int(watching.stdout.readline().split()[0])

    with watching:
        slow_us = seen_by_the_process()
        # (Of the machine: it took no minute to get there, let alone a thousand.)
        assert began_us <= slow_us <= clock.wall_us() < began_us + 60_000_000
        clock.go()
        clock.go()
        before_us = clock.wall_us()
        fast_us = seen_by_the_process()
        assert before_us <= fast_us <= clock.wall_us()
        time.sleep(0.1)
        assert clock.wall_us() - fast_us >= 0.1 * SPEEDUP * 1e6
        watching.stdin.close()
