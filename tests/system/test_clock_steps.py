"""A real server whose wall clock is set forward and back by an hour and by ten years while it runs (C3, C12).

libfaketime gives the server's process a wall clock that the test sets by writing a file, and leaves its monotonic
clocks alone: those of its leases and its sleeps. (The node keeps the machine's clock.)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedule_zero.clock import EPOCH, SystemClock, to_us
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.final import load
from schedule_zero.testbed.history import SERVER, Evidence, Fault, FaultKind, Terms
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import CHAOS, Own
from tests.system.processes import NodeProcess, ServerProcess
from tests.system.wall_clock import WallClock

HOUR_S = 3600
TEN_YEARS_S = 10 * 365 * 86_400
INTERVAL_US = 200_000
# So far ahead of the machine's clock, one after the other.
STEPS_S = (HOUR_S, 0, -HOUR_S, 2 * HOUR_S, TEN_YEARS_S, 0, -TEN_YEARS_S, TEN_YEARS_S + HOUR_S, HOUR_S)
SAMPLE_S = (HOUR_S, -HOUR_S, TEN_YEARS_S, 0)


class Schedules:
    """What the test asks and tells the server."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.names: list[str] = []

    def create(self, name: str, **fields: Any) -> None:
        row = {"id": name, "handler_id": "chaos", "job_method": "ok", **fields}
        row.setdefault("trigger", {"type": "interval", "milliseconds": INTERVAL_US // 1000})
        self._client.post("/api/schedules", json={"schedules": [row]}).raise_for_status()
        self.names.append(name)

    def show(self, name: str) -> dict[str, Any]:
        return dict(self._client.get(f"/api/schedules/{name}").raise_for_status().json())

    def next_us(self, name: str) -> int:
        return to_us(EPOCH.fromisoformat(self.show(name)["next_fire_time"]))

    def fires_on(self, name: str) -> None:
        runs = self.show(name)["runs"]
        eventually_sync(lambda: self.show(name)["runs"] >= runs + 3, within_s=20)

    def audited(self) -> None:
        for name in self.names:
            report = self._client.get(f"/api/schedules/{name}/audit", params={"since": 0}).raise_for_status().json()
            found = {kind: report[kind] for kind in ("missed", "duplicate", "extra")}
            assert not any(found.values()), (name, report)


def test_c12_the_clock_of_durations_does_not_follow_the_wall_clock(wall_clock: WallClock) -> None:
    wall_clock.set(TEN_YEARS_S)
    code = "from schedule_zero.clock import SystemClock as C; print(C().wall_us() / 1e6, C().mono_s())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **wall_clock.env},
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    wall_s, mono_s = map(float, told.stdout.split())
    assert abs(wall_s - time.time() - TEN_YEARS_S) < HOUR_S
    assert abs(mono_s - SystemClock().mono_s()) < HOUR_S


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_whose_clock_is_set_forward_and_back_decides_each_fire_once_and_goes_on(
    tmp_path: Path, own: Own, wall_clock: WallClock
) -> None:
    server = ServerProcess(tmp_path, env=wall_clock.env)
    own(server)
    server.wait_ready()
    own(NodeProcess(tmp_path, server.addresses["zmq"], CHAOS, env={"SCHEDULE_ZERO_CHAOS_LEDGER": ""}))
    with server.client() as client:
        eventually_sync(lambda: client.get("/api/nodes").json()["nodes"], within_s=20)
        schedules = Schedules(client)
        schedules.create("steady")
        schedules.create("paused", paused=True)
        schedules.create("once", trigger={"type": "date", "run_date": time.time() + HOUR_S / 2})
        schedules.fires_on("steady")

        farthest_s = 0
        for step, ahead_s in enumerate(STEPS_S if SIZE.steps else SAMPLE_S):
            wall_clock.set(ahead_s)
            if ahead_s > farthest_s:
                farthest_s = ahead_s
                eventually_sync(lambda: wall_clock.is_now(schedules.next_us("steady")), within_s=20)
                schedules.fires_on("steady")
            else:
                eventually_sync(lambda: _told_now(client, wall_clock), within_s=20)
                schedules.create(f"made-after-step-{step}")
                schedules.fires_on(f"made-after-step-{step}")
                # Rounds that were decided by the clock as it was before are committed by now.
                before = schedules.show("steady")
                schedules.fires_on(f"made-after-step-{step}")
                # What was decided by a clock that was ahead stays decided.
                assert schedules.show("steady") == before
            schedules.audited()

        assert schedules.show("once")["state"] == "finished"
        assert [node["state"] for node in client.get("/api/nodes").json()["nodes"]] == ["online"]
    server.kill()

    store = load(server.state_dir)
    set_back = Fault(fault=FaultKind.CLOCK, target=SERVER, begin_us=0)
    terms = Terms(settled=False, ledgered=())
    report = check(Evidence(calls=[], faults=[set_back], ledger=(), terms=terms), store)
    assert report.ok, report.text()
    # Ten years of five a second were looked at, one way or another.
    assert report.checked["C2"] > 10 * 365 * 86_400 * 5
    assert {row.attempt for row in store.executions} <= {0, 1}


def _told_now(client: httpx.Client, clock: WallClock) -> bool:
    """Whether the server itself has noticed."""
    return clock.is_now(to_us(EPOCH.fromisoformat(client.get("/api/health").json()["now"])))
