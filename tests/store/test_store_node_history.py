"""What happened to each node is kept beyond the journal, bounded; handlers are counted by the hour and as they wait."""

from __future__ import annotations

import pytest

from schedule_zero.model import NodeOperation, NodeState, OperationKind, State
from schedule_zero.store import Store, executions, handler_counts, node_history, nodes
from schedule_zero.store.executions import Insert
from schedule_zero.store.node_history import KEPT
from tests.store.builders import T0, end_item, execution, journal, running
from tests.store.test_store_nouns import node
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

HOUR_US = 3_600_000_000


async def history(store: Store, node_id: str = "n1", limit: int = 1_000) -> list[node_history.NodeEvent]:
    return await store.read(lambda conn: node_history.newest(conn, node_id, limit))


async def test_comings_goings_and_operations_are_kept_newest_first(store: Store, clock: ManualClock) -> None:
    await store.write(nodes.upsert, node())
    clock.advance(5)
    await store.write(nodes.upsert, node(state=NodeState.LOST))
    done = NodeOperation(kind=OperationKind.DRAIN, since_us=T0, until_us=T0 + 9, note="new disk", by="ann")
    await store.write(nodes.operate, nodes.Operate(node=node(), operation=done))
    await store.write(nodes.operate, nodes.Operate(node=node(), operation=None, by="bob", note="works"))
    await store.write(nodes.upsert, node("other"))

    found = await history(store)

    assert [one.kind for one in found] == ["node.released", "node.drained", "node.lost", "node.online"]
    assert found[0].data == {"by": "bob", "note": "works"}
    assert found[1].data == {"by": "ann", "note": "new disk", "until_us": T0 + 9}
    assert found[3].data == {"instance": "i1", "host": "h"}
    assert found[0].at_us - found[3].at_us == 5_000_000
    assert await history(store, limit=1) == found[:1]


async def test_nothing_is_kept_of_what_changed_nothing(store: Store) -> None:
    await store.write(nodes.upsert, node())
    await store.write(nodes.upsert, node(last_seen_us=T0 + 9))
    await store.write(nodes.operate, nodes.Operate(node=node(), operation=None, by="bob"))

    assert [one.kind for one in await history(store)] == ["node.online"]


async def test_a_node_that_flaps_keeps_its_newest_events_only(store: Store) -> None:
    await store.write(nodes.upsert, node("calm"))
    states = (NodeState.LOST, NodeState.ONLINE)
    for number in range(KEPT + 30):
        await store.write(nodes.upsert, node(state=states[number % 2], instance=f"i{number}"))

    found = await history(store)

    assert len(found) == KEPT
    assert found[0].data["instance"] == f"i{KEPT + 29}"
    assert found[-1].data["instance"] == "i30"
    assert len(await history(store, "calm")) == 1


async def test_a_forgotten_node_leaves_no_history(store: Store) -> None:
    await store.write(nodes.upsert, node())
    assert await store.write(nodes.forget, "n1")
    assert await history(store) == []
    assert (await journal(store))[-1] == ("node.forgotten", "n1")


# --- handlers in numbers ----------------------------------------------------------------------------


async def test_ends_are_counted_by_the_hour_in_which_they_came(store: Store, clock: ManualClock) -> None:
    await store.write(executions.insert, Insert(rows=[running("a", 1), running("b", 2)]))
    await store.write(executions.end, [end_item("a", 1)])
    clock.advance(3 * 3600)
    await store.write(executions.end, [end_item("b", 2, State.FAILED)])
    now_us = clock.wall_us()

    async def ends(hours: int) -> dict[str, object]:
        since_us = handler_counts.first_hour_us(now_us, hours)
        return dict(await store.read(lambda conn: handler_counts.by_handler(conn, since_us)))

    assert await ends(4) == {"demo": {"created": 2, "completed": 1, "failed": 1}}
    assert await ends(1) == {"demo": {"failed": 1}}


def test_the_newest_hour_is_the_one_that_is_not_over() -> None:
    assert handler_counts.first_hour_us(10 * HOUR_US + 5, 1) == 10 * HOUR_US
    assert handler_counts.first_hour_us(10 * HOUR_US + 5, 24) == -13 * HOUR_US


async def test_what_waits_is_counted_by_lane_and_not_beyond_what_was_asked_for(store: Store) -> None:
    rows = [execution(f"p{n}") for n in range(3)]
    rows += [execution("gpu", lane='{"require":["gpu"]}'), execution("x", job_method="other")]
    rows += [execution("theirs", handler_id="demo2"), execution("later", state=State.SCHEDULED, not_before_us=T0 * 2)]
    await store.write(executions.insert, Insert(rows=rows))

    assert await store.read(lambda conn: handler_counts.pending(conn, "demo", 6)) == {
        ("demo", "noop", None): 3,
        ("demo", "noop", '{"require":["gpu"]}'): 1,
        ("demo", "other", None): 1,
    }
    assert await store.read(lambda conn: handler_counts.pending(conn, "demo", 5)) is None
    assert await store.read(lambda conn: handler_counts.pending(conn, "nobody", 5)) == {}
