"""A process that goes wrong is the outcome of its scenario, and is ended. (The processes are small scripts.)"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from schedule_zero.errors import BadRequest
from schedule_zero.reports.record import Outcome
from schedule_zero.testbed.bare import run as bare_run
from schedule_zero.testbed.bare.order import DATABASE, Order
from schedule_zero.testbed.bare.run import BareRun, stores
from schedule_zero.testbed.catalogue import chosen, params_of
from schedule_zero.testbed.runner import Limits, Planned, Watcher

MEMORY = "apscheduler (memory)"
READY = "import os, sys, time; os.write(1, b'{\"ready\": true}\\n');"


@pytest.fixture
def bare(tmp_path):
    """``bare(script)``: a run whose process is that instead."""

    def bare(script, **limits):
        command = (sys.executable, "-c", script)
        return BareRun(tmp_path, seed=1, limits=Limits(**limits), command=command, start_s=5.0, leeway_s=0.2)

    return bare


@pytest.fixture
def planned():
    [scenario] = chosen(["temporal_resolution"])
    return Planned(scenario, params_of(scenario, {}, quick=True))


def left(folder: Path) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys; sys.exit('no such thing')", "its process ended with 1 without a report\nno such thing"),
        (READY, "its process ended with 0 without a report"),
        (READY + "os.kill(os.getpid(), 9)", "its process was ended by SIGKILL without a report"),
        (READY + "print('hello', flush=True); time.sleep(60)", "wrote something else than how far it is"),
        (READY + "open('scenario.json', 'w').write('[]')", "left something else than a report"),
        (READY + "time.sleep(60)", "did not end within 0.2 s (limits.max_execution_time_seconds), nor could it say"),
        (READY + "x = bytearray(os.urandom(1) * 400_000_000); time.sleep(60)", "limits.memory_limit_mb is 200"),
    ],
    ids=["raises", "says nothing", "is killed", "babbles", "leaves nonsense", "hangs", "leaks"],
)
def test_a_process_that_goes_wrong_is_ended_and_says_why(bare, planned, tmp_path, script, why):
    limit_s = 60.0 if "urandom" in script else 0.2
    run = bare(script, max_execution_time_s=limit_s, memory_mib=200)
    report = asyncio.run(run.play(MEMORY, planned, 1.0, Watcher()))
    assert (report.outcome, report.subject, report.scenario) == (Outcome.FAILED, MEMORY, "temporal_resolution")
    assert why in report.why
    assert left(tmp_path) == []
    assert list(tmp_path.rglob("order.json")) == []


def test_a_scheduler_that_does_not_start_is_ended(tmp_path, planned):
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    run = BareRun(tmp_path, seed=1, limits=Limits(), command=command, start_s=0.2)
    report = asyncio.run(run.play(MEMORY, planned, 1.0, Watcher()))
    assert report.why == "its scheduler did not start within 0.2 s"
    assert left(tmp_path) == []


def test_an_interrupted_run_ends_its_process(bare, planned, tmp_path):
    class Interrupts(Watcher):
        def goes_on(self, _, fraction, text, /):
            assert (fraction, text) == (0.5, "half")
            playing.cancel()

    async def play():
        nonlocal playing
        script = READY + 'os.write(1, b\'{"fraction": 0.5, "text": "half"}\\n\'); time.sleep(60)'
        playing = asyncio.ensure_future(bare(script).play(MEMORY, planned, 1.0, Interrupts()))
        with pytest.raises(asyncio.CancelledError):
            await playing

    playing: asyncio.Future | None = None
    asyncio.run(play())
    assert left(tmp_path) == []


def test_the_process_is_told_all_that_the_scenario_depends_on(bare, planned, tmp_path):
    script = READY + "import pathlib; pathlib.Path('seen').write_bytes(pathlib.Path('order.json').read_bytes())"
    asyncio.run(bare(script).play("apscheduler (sqlite)", planned, 1440.0, Watcher()))
    seen = msgspec.json.decode(next(tmp_path.rglob("seen")).read_bytes(), type=Order)
    assert (seen.store, seen.scenario, seen.seed, seen.speedup) == ("sqlite", "temporal_resolution", 1, 1440.0)
    assert seen.params["seconds"] == planned.params.seconds
    assert next(tmp_path.rglob("clock")).exists(), "its clock goes fast once it is ready"


def test_a_store_that_can_t_be_had_is_left_out_and_says_why(monkeypatch):
    names = list(bare_run.STORES)
    assert stores("postgresql://u@h/d") == (names, [])
    found, [why] = stores(None)
    assert found == names[:2]
    assert why == f"{names[2]} was left out: no database was named (--postgresql URL, or {DATABASE})"
    monkeypatch.setattr(bare_run, "find_spec", lambda name: None if name == "aiosqlite" else name)
    assert stores("postgresql://u@h/d")[0] == [names[0], names[2]]
    assert 'pip install "schedule-zero[testbed]"' in stores("postgresql://u@h/d")[1][0]
    with pytest.raises(BadRequest, match="--postgresql: expected an URL such as"):
        stores("sqlite:///x")
