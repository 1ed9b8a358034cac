"""Runs of the test bed in the UI: what is in the folder, and nothing that is not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from schedule_zero.config import BedConfig
from schedule_zero.reports import record
from schedule_zero.reports.record import Outcome
from schedule_zero.service.bed_runs import BedRunService
from tests.integration.conftest import running_server, with_config
from tests.integration.page_bed import browser
from tests.unit import testbed_reports as reports

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>"


def put(folder: Path, report: record.RunReport, page: str = "<h1>report</h1>") -> None:
    folder.mkdir(parents=True)
    record.write(report, folder)
    (folder / "report.html").write_text(page)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
async def viewer(tmp_path: Path, runs: Path):
    config = with_config(testbed=BedConfig(reports=str(runs)))
    async with running_server(tmp_path / "server", config) as server, browser(server, "viewer") as client:
        yield client


async def test_without_runs_the_page_says_what_makes_one(viewer, runs):
    text = (await viewer.get("/testbed")).text
    assert "schedule-zero-testbed run --quick" in text
    assert str(runs) in text


async def test_runs_are_listed_with_their_verdict_and_those_that_can_not_be_read_with_the_reason(viewer, runs):
    put(runs / "good", reports.run(reports.scenario()))
    put(runs / "bad", reports.run(reports.scenario(outcome=Outcome.BROKEN, why=HOSTILE)))
    (runs / "torn").mkdir()
    (runs / "torn" / "report.json").write_text('{"schema": 1, "product"')
    (runs / "later").mkdir()
    (runs / "later" / "report.json").write_text('{"schema": 99}')
    (runs / "empty").mkdir()

    text = (await viewer.get("/testbed")).text

    assert 'href="/testbed/good"' in text
    assert "kept" in text
    assert "broken" in text
    assert "torn: " in text
    assert "expected a report of schema 1, got 99" in text
    assert "empty" not in text
    shown = (await viewer.get("/testbed/bad")).text
    assert HOSTILE not in shown
    assert "&lt;img" in shown


async def test_a_report_is_read_anew_when_it_has_changed(viewer, runs):
    put(runs / "one", reports.run(reports.scenario()))
    assert "1 kept" in (await viewer.get("/testbed")).text

    record.write(reports.run(reports.scenario(outcome=Outcome.BROKEN)), runs / "one")

    assert "1 broken" in (await viewer.get("/testbed")).text


async def test_a_report_s_own_page_is_sent_in_a_sandbox_without_scripts(viewer, runs):
    put(runs / "one", reports.run(reports.scenario()), page=f"<style>b{{}}</style><script>alert(1)</script>{HOSTILE}")

    answer = await viewer.get("/testbed/one/report")

    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert "allow-" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_outside_of_the_folder_is_read(viewer, runs, tmp_path):
    secret = tmp_path / "secret"
    put(secret, reports.run(reports.scenario()), page="secret")
    put(runs / "one", reports.run(reports.scenario()))
    (runs / "link").symlink_to(secret)
    (runs / "file").mkdir()
    (runs / "file" / "report.json").symlink_to(secret / "report.json")
    (runs / "file" / "report.html").symlink_to(secret / "report.html")

    for name in ("link", "file", "..%2Fsecret", "%2e%2e", "a%2Fb", "x%00y"):
        for path in (f"/testbed/{name}", f"/testbed/{name}/report"):
            assert (await viewer.get(path)).status_code in (400, 404), path
    assert (await viewer.get("/testbed", params={"old": "../secret", "new": "one"})).status_code == 404
    assert 'href="/testbed/link"' not in (await viewer.get("/testbed")).text


async def test_two_runs_stand_side_by_side(viewer, runs):
    put(runs / "old", reports.run(reports.scenario(seconds=10.0)))
    put(runs / "new", reports.run(reports.scenario(seconds=100.0), seed=8))

    answer = await viewer.get("/testbed", params={"old": "old", "new": "new"})

    assert answer.status_code == 200
    assert "worse" in answer.text
    assert "<code>seconds</code>" in answer.text
    assert "seed: " in answer.text
    assert "alike" in (await viewer.get("/testbed", params={"old": "old", "new": "old", "all": "true"})).text
    assert (await viewer.get("/testbed", params={"old": "old"})).status_code == 400


async def test_a_report_that_is_too_large_is_refused_before_it_is_read(runs, monkeypatch):
    put(runs / "one", reports.run(reports.scenario()))
    monkeypatch.setattr("schedule_zero.service.bed_runs.MAX_BYTES", 100)
    found = await BedRunService(runs).find()
    assert found.runs == []
    assert "at most 100 bytes" in found.unreadable["one"]


async def test_what_is_drawn_is_not_kept_in_memory(runs):
    put(runs / "one", reports.run(reports.scenario(series=[record.Series("x", "s", "n", [(1.0, 2.0)] * 1000)])))
    run = await BedRunService(runs).get("one")
    assert run.report.scenarios[0].series == []
    assert len(json.dumps(msgspec.to_builtins(run.report))) < 20_000
