"""Isolated jobs by client and command, with a server and a node in this process; the workers are real ones."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import anyio
import pytest
import structlog
from click.testing import CliRunner

from schedule_zero.cli.client import main
from schedule_zero.client import AsyncClient
from schedule_zero.errors import InvalidField, JobFailed
from schedule_zero.model import AttemptOutcome, State
from tests.support import eventually

pytestmark = pytest.mark.anyio

JOBS = str(Path(__file__).parents[1] / "unit" / "isolated_jobs.py")


@pytest.fixture
async def client(server, start_node):
    await start_node("n1", JOBS)
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


@pytest.fixture
def command(client, server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SCHEDULE_ZERO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCHEDULE_ZERO_STATE_DIR", str(server.state_dir))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def run(*args):
        return await anyio.to_thread.run_sync(partial(CliRunner().invoke, main, list(args)))

    yield run
    structlog.reset_defaults()


async def test_an_isolated_job_runs_elsewhere_and_shows_what_it_used(client):
    ran = await client.run("isolated", "pid", isolation="process")
    assert ran.result != os.getpid()

    record = await client.execution(ran.execution_id)
    [attempt] = record.attempts
    assert record.peak_rss_bytes == attempt.peak_rss_bytes > 5 << 20
    assert record.cpu_ms == attempt.cpu_ms >= 0
    [listed] = (await client.executions()).records
    assert listed.peak_rss_bytes == record.peak_rss_bytes

    here = await client.run("isolated", "pid")
    assert here.result == os.getpid()
    assert (await client.execution(here.execution_id)).peak_rss_bytes is None


async def test_a_breach_is_told_with_its_reason_and_figures(client):
    said = r"limit of 120 MiB \(memory_mb\); it used up to [123]\d\d\.\d MiB"
    with pytest.raises(JobFailed, match=said) as failed:
        await client.run("isolated", "hoard", {"mib": 400, "hold_s": 30}, memory_mb=120)
    assert failed.value.data["type"] == "MemoryLimitExceeded"


async def test_a_retry_after_a_crash_counts_and_each_attempt_keeps_its_figures(client):
    options = {"isolation": "process", "max_attempts": 2, "retry_delay_s": 0.01, "retry_on": ["WorkerDied"]}
    execution_id = await client.submit("isolated", "leave", {"code": 9}, **options)
    record = await client.wait(execution_id)
    assert record.status is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == [AttemptOutcome.FAILED] * 2
    assert all("exit code 9" in attempt.error.message for attempt in record.attempts)
    assert all(attempt.peak_rss_bytes > 5 << 20 for attempt in record.attempts)


async def test_limits_that_are_none_are_refused(client):
    for options in ({"memory_mb": 1}, {"cpu_s": 0}, {"cpu_percent": 0}, {"isolation": "vm"}):
        with pytest.raises(InvalidField):
            await client.submit("isolated", "pid", **options)


async def test_a_cancel_of_a_running_one_is_confirmed_by_its_node(client):
    execution_id = await client.submit("isolated", "looks", isolation="process")

    async def told():
        return (await client.execution(execution_id)).progress

    await eventually(told, within_s=20)
    assert (await client.cancel(execution_id)).outcome == "requested"
    record = await client.wait(execution_id)
    assert record.status is State.CANCELLED
    assert record.peak_rss_bytes is not None


async def test_the_command_shows_cpu_and_memory_of_each_attempt(client, command):
    ran = await client.run("isolated", "hoard", {"mib": 40}, isolation="process")
    shown = await command("executions", ran.execution_id, "-o", "json")
    assert json.loads(shown.output)["peak_rss_bytes"] > 40 << 20

    options = {"isolation": "process", "max_attempts": 2, "retry_delay_s": 0.01}
    crashed = await client.submit("isolated", "leave", {"code": 9}, **options)
    await client.wait(crashed)
    shown = await command("executions", crashed)
    [heading] = [line for line in shown.output.splitlines() if line.startswith("TRY")]
    assert heading.split()[-4:] == ["CPU", "MEMORY", "PROGRESS", "ERROR"]
    rows = [line for line in shown.output.splitlines() if " MiB  " in line and "the job's process ended" in line]
    assert len(rows) == 2
