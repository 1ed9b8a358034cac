"""C21 on a whole server with real nodes: a cancel in every state of an execution, and in the moments between them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from msgspec import structs

from schedule_zero.model import Execution, State, new_id
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import events, executions
from tests.integration.conftest import api_client, know_demo, running_server, with_config
from tests.integration.edge_handlers import Gauge
from tests.integration.test_api_dead_letters import put_letters
from tests.integration.test_flaky_network import QUICK, Cable, node_behind
from tests.support import eventually

pytestmark = pytest.mark.anyio

FAR = "2999-01-01T00:00:00Z"
SLOW = "tests.integration.jobs:SlowHandler"


async def submit(api, count: int = 1, *, handler_id: str = "demo", job_method: str = "noop", **more) -> list[str]:
    item = {"handler_id": handler_id, "job_method": job_method, **more}
    answer = await api.post("/api/executions", json={"executions": [item] * count})
    assert answer.status_code == 202, answer.text
    return list(answer.json()["ids"])


async def status(api, id_: str) -> str:
    return (await api.get(f"/api/executions/{id_}")).json()["status"]


async def becomes(api, id_: str, wanted: str) -> None:
    async def there() -> bool:
        return await status(api, id_) == wanted

    await eventually(there, within_s=20)


async def cancel(api, id_: str) -> str:
    answer = await api.post(f"/api/executions/{id_}/cancel")
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["outcome"]


async def ends(server) -> Counter[str]:
    """How often the journal says of each execution that it is over."""
    rows = await server.store.read(lambda conn: events.read_after(conn, 0, 100_000))
    return Counter(event.id for _, row in rows for event in row if event.kind == "execution.finished")


async def arrive(server, api, start_node, state: State) -> str:
    """An execution in this state, by the way that leads there."""
    if state in (State.FAILED, State.TIMEOUT, State.DEAD):
        know_demo(server)
        return (await put_letters(server, 1, state=state))[0]
    if state is State.MISFIRED:
        know_demo(server)
        [id_] = await submit(api, options={"queue_timeout_s": 0.05})
    elif state is State.BLOCKED:
        # As the timer makes it, which lets it go when what it waits for is over.
        row = Execution(id=new_id(), handler_id="demo", job_method="noop", state=state, created_us=1)
        await server.store.write(executions.insert, executions.Insert(rows=[row]))
        id_ = row.id
    elif state is State.RUNNING:
        await start_node("n1", SLOW)
        [id_] = await submit(api, handler_id="slow", job_method="aheld")
    elif state is State.RETRY_SCHEDULED:
        await start_node("n1")
        [id_] = await submit(api, job_method="fail", options={"max_attempts": 2, "retry_delay_s": 3600})
    elif state is State.COMPLETED:
        await start_node("n1")
        [id_] = await submit(api)
    else:
        know_demo(server)
        [id_] = await submit(api, **({"not_before": FAR} if state is State.SCHEDULED else {}))
        if state is State.CANCELLED:
            await cancel(api, id_)
    await becomes(api, id_, state.value)
    return id_


@pytest.mark.parametrize("state", list(State))
async def test_c21_two_cancels_at_once_in_every_state_leave_one_end(server, api, start_node, state):
    id_ = await arrive(server, api, start_node, state)
    before = (await ends(server))[id_]

    answers = sorted(await asyncio.gather(cancel(api, id_), cancel(api, id_)))

    if state in TERMINAL:
        assert answers == ["terminal", "terminal"]
        assert (await status(api, id_), (await ends(server))[id_]) == (state.value, before)
        return
    assert answers in (
        [["requested", "requested"], ["requested", "terminal"]]
        if state is State.RUNNING
        else [["cancelled", "terminal"]]
    )
    await becomes(api, id_, "cancelled")
    assert await cancel(api, id_) == "terminal"
    assert (await ends(server))[id_] == 1
    assert server.store.tally.total == 0


async def test_c21_cancels_while_retries_become_due_leave_one_end_each(server, api, start_node):
    await start_node("n1")
    ids = await submit(api, 200, job_method="fail", options={"max_attempts": 6, "retry_delay_s": 0.02})

    async def hunt(mine: list[str]) -> None:
        for id_ in mine:
            await cancel(api, id_)

    await asyncio.gather(*(hunt(ids[n::8]) for n in range(8)))

    await eventually(lambda: server.store.tally.total == 0, within_s=30)
    assert await ends(server) == Counter(ids)
    found = {state: n for state, n in (await api.get("/api/executions/stats")).json()["by_status"].items() if n}
    assert set(found) <= {"failed", "cancelled"}
    assert sum(found.values()) == 200
    # The node's places are free again.
    [after] = await submit(api)
    await becomes(api, after, "completed")


async def test_c21_cancels_while_leases_expire_leave_one_end_each_and_none_runs_again(tmp_path):
    short = structs.replace(QUICK, lease_s=1.5, lease_margin_s=0.1)
    async with running_server(tmp_path / "server", with_config(dispatch=short)) as server, api_client(server) as api:
        cable = Cable(int(server.addresses.zmq.rpartition(":")[2]))
        Gauge.reset()
        async with node_behind(cable, tmp_path / "n", slots=20):
            await eventually(lambda: any(node.window for node in server.dispatcher.nodes()))
            ids = await submit(api, 20, handler_id="gauge", job_method="hold")
            await eventually(lambda: Gauge.entered == 20)
            cable.swallows = True
            # One after the other, so that some come before their lease is over, some in that moment and some after.
            while server.dispatcher.stats.attempts_lost == 0 and len(await ends(server)) == 0 and ids:
                await cancel(api, ids[0])
                ids.append(ids.pop(0))
            await asyncio.gather(*(cancel(api, id_) for id_ in ids))
            await eventually(lambda: server.store.tally.total == 0, within_s=20)
            Gauge.gate.set()
            cable.swallows = False
            cable.cut()
            # What it reports now is superseded.
            await eventually(lambda: server.dispatcher.node("n1").state == "online", within_s=20)
            [after] = await submit(api, handler_id="gauge", job_method="pause")
            await becomes(api, after, "completed")
            assert await ends(server) == Counter([*ids, after])
            assert Gauge.entered == 21
            assert {await status(api, id_) for id_ in ids} == {"cancelled"}
