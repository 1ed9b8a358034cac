"""Both clients, and the client command, against a real server with a real node, all in this process."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import pytest
import structlog
from click.testing import CliRunner

from schedule_zero import errors
from schedule_zero.cli.client import main
from schedule_zero.client import AsyncClient, Client, Job
from schedule_zero.model import FireOutcome, ScheduleState, State
from tests.support import eventually

pytestmark = pytest.mark.anyio

YEARLY = {"type": "cron", "expression": "0 0 1 1 *"}


@pytest.fixture
async def client(server, start_node):
    """An asynchronous client of a server with one node."""
    await start_node("n1")
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


async def in_thread(function, *args, **kwargs):
    """Blocking code, while the server goes on in this thread's loop."""
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))


@pytest.fixture
def command(server, monkeypatch, tmp_path):
    """``schedule-zero``, as a user of this server's state directory runs it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SCHEDULE_ZERO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCHEDULE_ZERO_STATE_DIR", str(server.state_dir))
    # Server and node log in this very process; what the command prints must not be mixed up with that.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def run(*args, **settings):
        return await in_thread(CliRunner().invoke, main, list(args), **settings)

    yield run
    structlog.reset_defaults()


# --- jobs -------------------------------------------------------------------------------------------


async def test_run_returns_the_jobs_result(client):
    ran = await client.run("demo", "add", {"a": 19, "b": 23})
    assert ran.result == 42
    record = await client.execution(ran.execution_id)
    assert (record.status, record.node_id, record.job_params) == (State.COMPLETED, "n1", {"a": 19, "b": 23})
    assert record.created_at <= record.started_at <= record.finished_at <= datetime.now(UTC)


async def test_run_raises_what_the_job_raised(client):
    with pytest.raises(errors.JobFailed, match="on purpose") as raised:
        await client.run("demo", "fail", {"message": "on purpose"})
    assert "Traceback" in raised.value.data["traceback"]
    assert (await client.execution(raised.value.data["execution_id"])).status is State.FAILED


async def test_run_stops_waiting_in_time_and_the_job_goes_on(client):
    with pytest.raises(errors.WaitTimeout) as raised:
        await client.run("demo", "sleep", {"seconds": 1}, wait_s=0.05)
    record = await client.wait(raised.value.data["execution_id"], wait_s=20)
    assert record.status is State.COMPLETED


async def test_submit_and_wait(client):
    execution_id = await client.submit("demo", "add", {"a": 1, "b": 2}, priority=9, max_attempts=2)
    record = await client.wait(execution_id)
    assert (record.value(), record.priority) == (3, 9)


async def test_the_same_key_is_the_same_execution(client):
    first = await client.submit("demo", "noop", idempotency_key="invoice-7")
    assert await client.submit("demo", "noop", idempotency_key="invoice-7") == first
    with pytest.raises(errors.IdempotencyMismatch):
        await client.submit("demo", "add", {"a": 1, "b": 2}, idempotency_key="invoice-7")


async def test_many_jobs_are_submitted_in_order(client):
    jobs = [Job(handler_id="demo", job_method="echo", job_params={"n": n}) for n in range(300)]
    ids = await client.submit_many(jobs)
    assert ids == sorted(ids)
    assert len(set(ids)) == 300
    last = await client.wait(ids[-1])
    assert last.result == {"n": 299}
    page = await client.executions(handler_id="demo", limit=50)
    assert [record.id for record in page.records] == ids[:-51:-1]
    second = await client.executions(handler_id="demo", limit=50, cursor=page.next_cursor)
    assert second.records[0].id == ids[-51]


async def test_a_job_that_waits_can_be_cancelled_and_retried(client):
    execution_id = await client.submit("demo", "noop", not_before=4_000_000_000)
    assert (await client.execution(execution_id)).status is State.SCHEDULED
    assert (await client.cancel(execution_id)).outcome == "cancelled"
    assert (await client.cancel(execution_id)).outcome == "terminal"
    again = await client.retry(execution_id)
    assert (await client.wait(again)).parent_id == execution_id


@pytest.mark.parametrize(
    ("verb", "args", "error"),
    [
        ("submit", ("nobody", "noop"), errors.UnknownHandler),
        ("submit", ("demo", "nothing"), errors.UnknownMethod),
        ("submit", ("demo", "add", {"a": "x", "b": 2}), errors.InvalidParams),
        ("execution", ("01k00000000000000000000000",), errors.NotFound),
        ("get_schedule", ("nothing",), errors.NotFound),
        ("delete_schedule", ("nothing",), errors.NotFound),
        ("preview", ({"type": "cron", "expression": "61 * * * *"},), errors.InvalidTrigger),
    ],
)
async def test_what_the_server_refuses_is_a_typed_error(client, verb, args, error):
    with pytest.raises(error) as raised:
        await getattr(client, verb)(*args)
    assert raised.value.data["status"] == error.http_status


async def test_a_wrong_token_is_unauthenticated(server):
    async with AsyncClient(server.addresses.http, "sz_wrong") as client:
        with pytest.raises(errors.Unauthenticated):
            await client.nodes()
        assert (await client.health())["service"] == "ScheduleZero"


# --- schedules --------------------------------------------------------------------------------------


async def test_the_life_of_a_schedule(client):
    made = await client.schedule("demo", "hello", {"name": "Ada"}, trigger=YEARLY, id="yearly", note="why not")
    assert (made.id, made.state, made.job_params) == ("yearly", ScheduleState.ACTIVE, {"name": "Ada"})
    assert made.next_fire_time > datetime.now(UTC)
    with pytest.raises(errors.AlreadyExists):
        await client.schedule("demo", "hello", {"name": "Ada"}, trigger=YEARLY, id="yearly")

    changed = await client.update_schedule("yearly", if_match=made.etag, job_params={"name": "Bob"}, note=None)
    assert (changed.job_params, changed.note) == ({"name": "Bob"}, None)
    with pytest.raises(errors.PreconditionFailed):
        await client.update_schedule("yearly", if_match=made.etag, note="too late")

    assert (await client.pause_schedule("yearly", "holiday")).note == "holiday"
    assert (await client.resume_schedule("yearly")).state is ScheduleState.ACTIVE
    ran = await client.wait(await client.run_schedule("yearly"))
    assert (ran.schedule_id, ran.status) == ("yearly", State.COMPLETED)

    put = await client.put_schedule("yearly", "demo", "noop", trigger=YEARLY)
    assert put.job_method == "noop"
    with pytest.raises(errors.PreconditionFailed):
        await client.put_schedule("yearly", "demo", "noop", trigger=YEARLY, create_only=True)

    assert [schedule.id for schedule in (await client.schedules()).schedules] == ["yearly"]
    await client.delete_schedule("yearly")
    assert (await client.schedules()).schedules == []


async def test_many_schedules_are_made_and_deleted_at_once(client):
    documents = [
        {"id": f"s{number:03}", "handler_id": "demo", "job_method": "noop", "trigger": YEARLY} for number in range(250)
    ]
    ids = await client.schedule_many(documents)
    assert ids == [document["id"] for document in documents]
    assert (await client.schedules(limit=1)).count == 250
    assert len(await client.delete_schedules([*ids, "unknown"])) == 250


async def test_fires_are_in_the_ledger(client):
    await client.schedule("demo", "noop", trigger={"type": "interval", "milliseconds": 50}, id="often")
    async for event in client.events(kinds=["execution.finished"]):
        if event.data.get("schedule_id") == "often":
            break
    page = await client.fires("often")
    assert page.records[-1].outcome is FireOutcome.EXECUTED
    assert page.records[-1].execution_id


async def test_a_preview_says_when_and_in_words(client):
    seen = await client.preview({"type": "cron", "expression": "0 9 * * *"}, n=3, after=1_900_000_000)
    assert len(seen.fires) == 3
    assert all(fire.time.hour == 9 for fire in seen.fires)
    assert seen.words


# --- handlers, nodes, events ------------------------------------------------------------------------


async def test_handlers_and_nodes_are_shown(client):
    (demo,) = await client.handlers()
    assert (demo.id, demo.status, demo.nodes) == ("demo", "Connected", ["n1"])
    assert "hello" in demo.methods
    (node,) = await client.nodes()
    assert (node.node_id, node.state, node.slots) == ("n1", "online", 4)
    assert (await client.drain_node("n1")).draining
    assert not (await client.resume_node("n1")).draining
    cordoned = (await client.cordon_node("n1", "new disk")).operation
    assert cordoned is not None
    assert (cordoned.kind, cordoned.note, cordoned.by, cordoned.until) == ("cordon", "new disk", "admin", None)
    drained = (await client.drain_node("n1", deadline_s=60.0)).operation
    assert drained is not None
    assert drained.until is not None
    assert drained.until - drained.since == timedelta(seconds=60)
    assert (await client.node("n1")).operation == drained
    assert (await client.release_node("n1")).operation is None


async def test_events_follow_what_is_committed_and_can_be_replayed(client):
    first = await client.submit("demo", "noop")
    await client.wait(first)
    async with anyio.create_task_group() as tasks:
        found = []

        async def follow():
            async for event in client.events(topics=["execution"], since="0"):
                found.append(event)
                if event.kind == "execution.finished" and event.id == second:
                    tasks.cancel_scope.cancel()

        second = await client.submit("demo", "noop")
        tasks.start_soon(follow)
    finished = [event.id for event in found if event.kind == "execution.finished"]
    assert finished == [first, second]


async def test_the_blocking_client_does_the_same(client, server):
    def work():
        with Client(server.addresses.http, state_dir=server.state_dir) as blocking:
            assert blocking.run("demo", "add", {"a": 1, "b": 2}).result == 3
            ids = blocking.submit_many({"handler_id": "demo", "job_method": "noop"} for _ in range(20))
            assert [blocking.wait(id).status for id in ids] == [State.COMPLETED] * 20
            for event in blocking.events(since="0", kinds=["execution.finished"]):
                if event.id == ids[-1]:
                    return len(blocking.executions().records)
        return None

    assert await in_thread(work) == 21


# --- the command ------------------------------------------------------------------------------------


async def test_run_prints_the_result(client, command):
    done = await command("run", "demo.add", "a=19", "b=23")
    assert (done.exit_code, json.loads(done.stdout)) == (0, 42)
    done = await command("run", "demo", "hello", "name=World", "-o", "json")
    assert json.loads(done.stdout)["status"] == "success"
    done = await command("run", "demo.echo", "--params", "-", input='{"list": [1]}')
    assert json.loads(done.stdout) == {"list": [1]}


async def test_run_fails_with_the_job(client, command):
    done = await command("run", "demo.fail", "message=no way")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "no way" in done.stderr
    done = await command("run", "demo.fail", "message=no way", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (1, "error")


async def test_an_execution_is_shown_with_the_options_that_were_said_and_who_said_them(client, command):
    (execution_id,) = (await command("submit", "demo.noop", "--priority", "9", "--retry-on", "timeout")).stdout.split()
    done = await command("executions", execution_id)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["priority", "9", "submission"] in lines
    assert ["retry_on", "timeout", "submission"] in lines
    assert "max_per_key" not in done.stdout


async def test_submit_prints_ids_or_waits(client, command):
    done = await command("submit", "demo.add", "a=1", "b=2")
    (execution_id,) = done.stdout.split()
    done = await command("executions", execution_id, "--wait")
    assert done.exit_code == 0
    assert "completed" in done.stdout
    done = await command("submit", "demo.noop", "--count", "600", "--wait", "--wait-for", "20s")
    assert (done.exit_code, done.stderr) == (0, "600 completed, 0 not\n")
    done = await command("submit", "demo.fail", "message=no", "--wait")
    assert done.exit_code == 1


async def test_a_schedules_job_is_run_now_by_command_beside_its_fires(client, command):
    await client.schedule("demo", "fail", {"message": "no"}, trigger={"type": "manual"}, id="by-hand")

    done = await command("run-now", "by-hand")
    (execution_id,) = done.stdout.split()
    waited = await command("run-now", "by-hand", "--wait")

    assert (await client.execution(execution_id)).schedule_id == "by-hand"
    assert waited.exit_code == 1
    assert ": no" in waited.stderr
    assert (await client.fires("by-hand")).records == []
    assert (await command("run-now", "nobody")).exit_code == 3


async def test_jobs_come_from_a_file(client, command, tmp_path):
    line = json.dumps({"handler_id": "demo", "job_method": "noop"})
    (tmp_path / "jobs.jsonl").write_text(f"{line}\n\n{line}\n")
    done = await command("submit", "--file", "jobs.jsonl")
    assert len(done.stdout.split()) == 2
    (tmp_path / "jobs.jsonl").write_text(f"{line}\n{{\n")
    done = await command("submit", "--file", "jobs.jsonl")
    assert done.exit_code == 2
    assert "jobs.jsonl:2: not JSON" in done.stderr


async def test_waiting_gives_up_in_time_with_5(client, command):
    done = await command("run", "demo.sleep", "seconds=1", "--wait-for", "50ms")
    assert done.exit_code == 5
    assert "not over after 0.05 s" in done.stderr


async def test_schedules_by_command(client, command):
    cron = ("--cron", "0 9 * * *", "--timezone", "Europe/Berlin")
    done = await command("schedule", "demo.hello", "name=Ada", *cron, "--id", "morning", "--max-attempts", "3")
    assert done.stdout.startswith("morning: next at ")
    done = await command("schedule", "demo.hello", "name=Ada", *cron, "--id", "morning")
    assert done.exit_code == 4
    done = await command("schedule", "demo.noop", "--every", "1h", "--id", "morning", "--replace", "-o", "json")
    assert json.loads(done.stdout)["job_method"] == "noop"

    assert (await command("pause", "morning", "--note", "holiday")).stdout == "morning: paused\n"
    done = await command("schedules")
    assert done.stdout.splitlines()[1].split()[:3] == ["morning", "paused", "demo.noop"]
    assert (await command("resume", "morning")).exit_code == 0
    assert "job_method" in (await command("schedules", "morning")).stdout
    assert (await command("fires", "morning")).exit_code == 0

    done = await command("delete", "morning", "unknown")
    assert done.exit_code == 3
    assert done.stdout == "morning: deleted\n"
    assert "unknown: " in done.stderr
    assert (await command("schedules")).stderr == "no schedules\n"


async def test_the_other_commands(client, command):
    execution_id = await client.submit("demo", "noop", not_before=4_000_000_000)
    assert (await command("cancel", execution_id)).stdout == f"{execution_id}: cancelled\n"
    assert "is run again as" in (await command("retry", execution_id)).stdout
    done = await command("executions", "--status", "cancelled", "--since", "-1h", "-o", "json")
    assert [record["id"] for record in json.loads(done.stdout)["records"]] == [execution_id]
    done = await command("executions", "--handler", "demo")
    assert done.stdout.startswith("ID ")
    assert "demo.noop" in done.stdout
    assert "Connected" in (await command("handlers")).stdout

    async def idle():
        # The one that is run again may be running still.
        return "0/4" in (await command("nodes")).stdout

    await eventually(idle)
    assert (await command("nodes", "drain", "n1", "--wait")).stdout == "n1: online, drained\n"
    assert "online, drained" in (await command("nodes", "list")).stdout
    assert (await command("nodes", "resume", "n1")).exit_code == 0
    done = await command("nodes", "cordon", "n1", "nobody", "--note", "new disk")
    assert (done.stdout, done.exit_code) == ("n1: online, cordoned\n", 3)
    listed = (await command("nodes")).stdout
    assert "online, cordoned" in listed
    assert re.search(r"since .* by admin: new disk", listed)
    assert (await command("nodes", "release", "n1")).stdout == "n1: takes work again\n"
    assert (await command("preview", "--every", "90s", "-n", "2")).exit_code == 0
    done = await command("preview", "--trigger", '{"type": "startup"}')
    assert done.stdout == "at each start of the server\n  no time is known beforehand\n"
    done = await command("preview", "--at", "10")
    assert done.stdout == "once at 1970-01-01 00:00:10 (UTC)\n  never\n"
    assert "warning: it has no fire after" in done.stderr
    done = await command("preview", "--at", "+1h", "--start", "+1h")
    assert "--start does not go with a trigger of type date" in done.stderr
    done = await command("events", "--since", "0", "--count", "1", "-o", "json")
    assert set(json.loads(done.stdout)) == {"event_id", "kind", "id", "data"}


async def test_a_local_time_is_meant_in_the_zone_that_is_given_beside_it(client, command):
    when = ("--at", "2030-07-01T09:00", "--timezone", "Europe/Berlin")

    seen = await command("preview", *when)
    made = await command("schedule", "demo.noop", *when, "--id", "local", "-o", "json")

    assert "2030-07-01 07:00:00Z  2030-07-01T09:00:00+02:00" in seen.stdout
    assert json.loads(made.stdout)["next_fire_time"] == "2030-07-01T07:00:00.000000Z"
    assert "or give a --timezone" in (await command("preview", *when[:2])).stderr


async def test_what_the_server_refuses_has_its_exit_code(client, command):
    assert (await command("run", "nobody.noop")).exit_code == 3
    assert (await command("run", "demo.nothing")).exit_code == 2
    done = await command("run", "demo.add", "a=x", "b=2")
    assert done.exit_code == 2
    assert "(at /job_params/a)" in done.stderr
    assert (await command("nodes", "--token", "sz_wrong")).exit_code == 6
    assert (await command("executions", "01k00000000000000000000000")).exit_code == 3
