"""Dead letters by verb and by command, against a real server without nodes."""

from __future__ import annotations

import json

import anyio
import pytest

from schedule_zero import errors
from schedule_zero.cli import client_dead_letters
from schedule_zero.client import AsyncClient, Client
from schedule_zero.model import RequeueState
from tests.integration.test_api_dead_letters import GROUP, children, put_letters
from tests.support import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(server, known_demo):
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        yield client


@pytest.fixture
def command(client, command_line):
    """``schedule-zero dead-letters``, as a user of this server's state directory runs it."""

    async def run(*args, **settings):
        return await command_line("dead-letters", *args, **settings)

    return run


# --- verbs --------------------------------------------------------------------------------------------


async def test_groups_and_their_executions_are_listed(client, server):
    old = await put_letters(server, 3)
    [group] = (await client.dead_letters(handler_id="demo")).groups
    assert (group.id, group.count, group.error_type, group.message) == (GROUP, 3, "E", "m")
    assert group.first_seen <= group.last_seen
    page = await client.dead_letter_executions(group.id, limit=2)
    assert [record.id for record in page.records] == [old[2], old[1]]
    assert page.records[0].dead_letter == GROUP
    assert (await client.dead_letter_executions(group.id, cursor=page.next_cursor)).next_cursor is None


async def test_one_is_edited_and_requeued_and_then_no_more(client, server):
    [old] = await put_letters(server, 1)
    new = await client.requeue(old, {"message": "new"}, priority=2)
    record = await client.execution(new)
    assert (record.parent_id, record.job_params, record.priority) == (old, {"message": "new"}, 2)
    with pytest.raises(errors.WrongState):
        await client.requeue(old)


async def test_several_are_requeued_in_order(client, server):
    old = await put_letters(server, 3)
    await client.requeue(old[1])
    new = await client.requeue_many(old, job_params_patch={"a": 1}, rate_per_s=1)
    assert [id_ is None for id_ in new] == [False, True, False]
    with pytest.raises(errors.WrongState):
        await client.requeue_many(old)


async def test_a_group_is_requeued_at_a_rate_and_cancelled(client, server):
    await put_letters(server, 5)
    begun = await client.requeue_group(GROUP, rate_per_s=0.01)
    assert (begun.state, begun.count, begun.group) == (RequeueState.RUNNING, 5, GROUP)
    assert [row.id for row in (await client.requeues()).requeues] == [begun.id]

    async def first():
        return (await client.show_requeue(begun.id)).created

    await eventually(first)
    cancelled = await client.cancel_requeue(begun.id)
    assert (cancelled.state, cancelled.created) == (RequeueState.CANCELLED, 1)
    with pytest.raises(errors.WrongState):
        await client.cancel_requeue(begun.id)
    assert await client.discard_dead_letters(group=GROUP) == 4
    with pytest.raises(errors.NotFound):
        await client.requeue_group(every=True)


async def test_the_blocking_client_does_the_same(client, server):
    [one, two] = await put_letters(server, 2)

    def blocking():
        with Client(server.addresses.http, state_dir=server.state_dir) as same:
            same.requeue(one)
            return same.dead_letters().groups[0].count, same.discard_dead_letters([two])

    assert await anyio.to_thread.run_sync(blocking) == (1, 1)


# --- commands -----------------------------------------------------------------------------------------


async def test_the_groups_are_listed_as_lines_and_as_json(command, server):
    assert (await command()).stderr == "no dead letters\n"
    await put_letters(server, 2)
    lines = (await command()).stdout.splitlines()
    assert lines[0].split() == ["GROUP", "COUNT", "LAST", "FIRST", "ERROR"]
    assert lines[1].split()[:2] == [GROUP, "2"]
    assert lines[1].endswith("E: m")
    assert json.loads((await command("list", "-o", "json")).stdout)["groups"][0]["count"] == 2
    assert (await command("list", "--handler", "other")).stderr == "no dead letters\n"


async def test_a_group_is_shown_execution_by_execution(command, server):
    old = await put_letters(server, 2)
    done = await command("show", GROUP, "--limit", "1")
    assert old[1] in done.stdout
    assert done.stderr.startswith("more: --cursor ")


async def test_ids_are_requeued_at_once_with_what_is_to_be_other(command, client, server):
    [old] = await put_letters(server, 1)
    done = await command("requeue", old, "--params", '{"message": "new"}', "--max-attempts", "3")
    assert done.exit_code == 0, done.output
    [row] = await children(server, old)
    assert done.stdout == f"{old}: is run again as {row.id}\n"
    assert row.params == b'{"message":"new"}'
    assert (await command("requeue", old)).exit_code == 4


async def test_a_group_is_counted_and_asked_about_first(command, server, monkeypatch):
    await put_letters(server, 3)
    done = await command("requeue", GROUP, "--rate", "100")
    assert (done.exit_code, "expected --yes" in done.output) == (2, True)
    monkeypatch.setattr(client_dead_letters, "_somebody_there", lambda: True)
    refused = await command("requeue", GROUP, input="n\n")
    assert "3 dead letters" in refused.output
    assert refused.exit_code == 130
    begun = await command("requeue", GROUP, "--rate", "1000", input="y\n")
    assert begun.exit_code == 0, begun.output
    id_ = begun.stdout.strip().splitlines()[-1]

    async def over():
        return "completed" in (await command("requeues", id_)).stdout

    await eventually(over)
    assert "3/3" in (await command("requeues")).stdout
    assert (await command("requeue-cancel", id_)).exit_code == 4


async def test_letters_are_discarded(command, server):
    old = await put_letters(server, 3)
    assert (await command("discard", old[0], old[1])).stdout == "discarded 2\n"
    assert (await command("discard", "--handler", "demo", "--method", "fail", "--yes")).stdout == "discarded 1\n"
    assert (await command("discard", "--all", "--yes")).stdout == "discarded 0\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("requeue",), "expected one of a GROUP, IDs, --handler and --all"),
        (("requeue", "a", "--all"), "expected one of a GROUP, IDs, --handler and --all"),
        (("requeue", "--method", "x"), "--method needs --handler"),
        (("requeue", "g:1", "g:2"), "expected one GROUP, or any number of IDs"),
        (("requeue", "a", "--params", "[]"), "--params: expected a JSON object"),
        (("requeue", "a", "--patch", "x"), "--patch: not JSON"),
        (("requeue", "a", "b", "--params", "{}"), "whole parameters are for one id"),
        (("discard",), "expected one of a GROUP, IDs, --handler and --all"),
    ],
)
async def test_what_cannot_be_meant_is_refused(command, words, said):
    done = await command(*words)
    assert done.exit_code == 2
    assert said in done.output
