"""The stand-in on a scheduler with the memory store, in this process."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from apscheduler import AsyncScheduler

from schedule_zero import AsyncClient
from schedule_zero.errors import AlreadyExists, NotFound, UnknownMethod
from schedule_zero.model import ScheduleState, State
from schedule_zero.testbed.bare import jobs
from schedule_zero.testbed.bare.client import BareClient, Raised, Unsupported
from schedule_zero.testbed.bare.executions import Executions
from schedule_zero.testbed.history import JobLine, read_lines
from schedule_zero.testbed.job_ledger import LEDGER
from schedule_zero.testbed.scenario import CLIENT
from tests.support import eventually

TICK = ("temporal_resolution", "tick")
LATER = {"type": "date", "run_date": "2090-01-01T00:00:00Z"}
VERBS = ("submit", "executions", "schedule", "schedule_many", "put_schedule", "get_schedule", "schedules",
         "delete_schedule", "delete_schedules", "pause_schedule", "resume_schedule", "fires")  # fmt: skip


def on_scheduler(work):
    """Run ``work(client, scheduler)``, the scheduler made but not running."""

    async def run():
        async with AsyncScheduler() as scheduler:
            executions = Executions()
            executions.listen(scheduler)
            client = BareClient(scheduler, executions)
            CLIENT.set(client)
            await work(client, scheduler)

    asyncio.run(run())


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setenv(LEDGER, str(path))
    return lambda: list(read_lines(path, JobLine))


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_what_the_client_s_takes(verb):
    ours = [*inspect.signature(getattr(AsyncClient, verb)).parameters]
    for name, parameter in inspect.signature(getattr(BareClient, verb)).parameters.items():
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            assert name in ours


def test_schedules_are_listed_by_id_and_page_by_page_of_one_handler():
    async def work(client, _):
        ids = [f"s{number}" for number in range(5)]
        assert await client.schedule_many(_body(id_) for id_ in reversed(ids)) == ids[::-1]
        await client.schedule("churn", "tick", trigger=LATER, id="other")
        first = await client.schedules(handler_id=TICK[0], limit=3)
        rest = await client.schedules(handler_id=TICK[0], limit=3, cursor=first.next_cursor)
        assert [row.id for row in (*first.schedules, *rest.schedules)] == ids
        assert (first.count, rest.next_cursor) == (5, None)
        assert sorted(await client.delete_schedules(["s1", "s4", "none"])) == ["s1", "s4"]
        assert (await client.schedules(limit=100)).count == 4

    on_scheduler(work)


def test_an_id_that_is_taken_is_refused_and_put_replaces():
    async def work(client, _):
        await client.schedule(*TICK, {}, trigger=LATER, id="s")
        with pytest.raises(AlreadyExists, match="there is a schedule s already"):
            await client.schedule(*TICK, trigger=LATER, id="s")
        await client.put_schedule("s", "adaptive_interval", "adapt", {"step": 2}, trigger=LATER)
        found = await client.get_schedule("s")
        assert (found.job_method, found.job_params, found.state) == ("adapt", {"step": 2}, ScheduleState.ACTIVE)

    on_scheduler(work)


def test_a_schedule_is_paused_and_resumed_and_one_that_is_not_there_not_found():
    async def work(client, _):
        await client.schedule(*TICK, trigger=LATER, id="s")
        assert (await client.pause_schedule("s")).state is ScheduleState.PAUSED
        assert (await client.resume_schedule("s")).state is ScheduleState.ACTIVE
        with pytest.raises(NotFound, match="there is no schedule t"):
            await client.get_schedule("t")

    on_scheduler(work)


def test_what_it_has_no_words_for_is_refused():
    async def work(client, _):
        with pytest.raises(Unsupported, match="nothing that does 'submit_group'"):
            await client.submit_group("churn", "tick")
        with pytest.raises(Unsupported, match="no such policies: jitter_s"):
            await client.schedule(*TICK, trigger=LATER, policies={"jitter_s": 3})
        with pytest.raises(Unsupported, match="no overlap queue"):
            await client.schedule(*TICK, trigger=LATER, policies={"overlap": "queue"})
        with pytest.raises(Unsupported, match="no such options: retry"):
            await client.schedule(*TICK, trigger=LATER, retry={})
        with pytest.raises(Unsupported, match="takes a schedule with an id"):
            await client.schedule(*TICK, trigger=LATER, policies={"overlap": "skip"})
        assert (await client.fires("s")).records == []

    on_scheduler(work)


@pytest.mark.parametrize("name", ["drive", "judge", "asks", "_secret", "__init__", "setup", "none"])
def test_nothing_but_a_job_of_the_catalogue_can_be_named(name):
    with pytest.raises(UnknownMethod):
        jobs.method("temporal_resolution", name)
    with pytest.raises(UnknownMethod):
        jobs.method("os", "system")


def test_what_the_scheduler_raises_is_told_with_its_verb():
    async def work(client, scheduler):
        async def locked(*_):
            raise OSError("database is locked\n[SQL: …]")

        scheduler.data_store.add_schedule = locked
        with pytest.raises(Raised, match=r"^APScheduler's add_schedule raised OSError: database is locked$"):
            await client.schedule(*TICK, trigger=LATER, id="s")

    on_scheduler(work)


def test_a_job_writes_the_ledger_with_its_schedule_and_due_time_and_is_on_record(ledger):
    async def work(client, scheduler):
        await scheduler.start_in_background()
        await client.schedule(*TICK, trigger={"type": "date", "run_date": 1.5}, id="s")
        by_hand = await client.submit(*TICK)

        async def over():
            rows = (await client.executions(handler_id=TICK[0])).records
            return len(rows) == 2 and {row.status for row in rows} == {State.COMPLETED}

        await eventually(over)
        rows = {row.id: row for row in (await client.executions()).records}
        assert {row.schedule_id for row in rows.values()} == {"s", None}
        assert (await client.executions(status=["pending", "running"])).records == []
        assert (await client.schedules()).schedules[0].state is ScheduleState.FINISHED
        ends = {line.execution_id: line for line in ledger() if line.event == "end"}
        assert set(ends) == set(rows)
        fired = next(line for line in ends.values() if line.schedule_id)
        assert (fired.schedule_id, fired.nominal_us, fired.node_id) == ("s", 1_500_000, "apscheduler")
        assert (fired.attempt, fired.token, fired.outcome) == (1, 1, "ok")
        assert (ends[by_hand].schedule_id, ends[by_hand].nominal_us) == (None, None)

    on_scheduler(work)


def test_a_job_that_fails_is_on_record_with_its_error(ledger):
    async def work(client, scheduler):
        await scheduler.start_in_background()
        job = {"step": 1, "plan": [True], "failures": 0, "unit_s": 1.0, "cap_s": 1.0}
        id_ = await client.submit("fibonacci_backoff", "attempt", job)

        async def over():
            rows = (await client.executions(status="failed")).records
            return [(row.id, row.error.type.rpartition(".")[2]) for row in rows] == [(id_, "NotToday")]

        await eventually(over)
        assert [line.error for line in ledger()] == [None, "NotToday"]

    on_scheduler(work)


def _body(id_):
    return {"handler_id": TICK[0], "job_method": TICK[1], "trigger": LATER, "id": id_}
