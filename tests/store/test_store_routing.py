"""What routing asks of the store: pending executions lane by lane, and what nodes say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.model import Node, NodeState
from schedule_zero.rules.birth import LaneSpec, lane_text
from schedule_zero.rules.options import aged_us
from schedule_zero.store import Store, executions, nodes
from schedule_zero.store.execution_reads import _WINDOW, _WINDOW_AFTER
from tests.store.builders import execution, insert

pytestmark = pytest.mark.anyio

GPU = lane_text(LaneSpec(require=("gpu",)))
PLAIN = ("demo", "noop", None)
ROUTED = ("demo", "noop", GPU)


async def test_each_lane_has_its_own_window_and_its_own_count(store: Store) -> None:
    await insert(store, *(execution(f"p{n}") for n in range(3)), *(execution(f"g{n}", lane=GPU) for n in range(2)))

    plain = await store.read(lambda conn: executions.pending_window(conn, PLAIN, 10))
    first = await store.read(lambda conn: executions.pending_window(conn, ROUTED, 1))
    after = (aged_us(first[0].priority, first[0].created_us), first[0].id)
    rest = await store.read(lambda conn: executions.pending_window(conn, ROUTED, 10, after))

    assert [row.id for row in plain] == ["p0", "p1", "p2"]
    assert [row.id for row in first + rest] == ["g0", "g1"]
    assert await store.read(executions.pending_counts) == {PLAIN: 3, ROUTED: 2}


@pytest.mark.parametrize("query", [_WINDOW, _WINDOW_AFTER])
@pytest.mark.parametrize("lane", ["", GPU])
async def test_a_window_is_a_walk_of_the_pending_index_without_a_sort(store: Store, query: Any, lane: str) -> None:
    """The promise behind C20: what a refill costs doesn't grow with the backlog, neither its own nor others'."""
    await insert(store, *(execution(f"e{n}", lane=GPU if n % 2 else None) for n in range(500)))
    values = {"handler": "demo", "method": "noop", "lane": lane, "most": 3, "aged": 0, "after": "e"}

    def plan(conn: Any) -> str:
        sql, order, constants = query._compile(conn)
        given = {**constants, **values}
        if conn.dialect.name == "sqlite":
            rows = conn.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, tuple(given[name] for name in order))
            return "\n".join(row[3] for row in rows.fetchall())
        # So small a table would be read as a whole.
        conn.exec_driver_sql("SET enable_seqscan = off")
        conn.exec_driver_sql("SET enable_bitmapscan = off")
        text = "\n".join(row[0] for row in conn.exec_driver_sql("EXPLAIN " + sql, given).fetchall())
        conn.exec_driver_sql("RESET enable_seqscan")
        conn.exec_driver_sql("RESET enable_bitmapscan")
        return text

    found = await store.read(plan)

    assert "ix_executions_pending" in found, found
    assert "Sort" not in found, found
    assert "TEMP B-TREE" not in found, found


async def test_a_nodes_labels_and_facts_are_kept(store: Store) -> None:
    node = Node(
        node_id="n1",
        instance="i",
        epoch=1,
        state=NodeState.ONLINE,
        handlers=["h"],
        slots=2,
        labels={"zone": "eu-1", "gpu": "true"},
        facts={"os": "linux"},
    )

    await store.write(nodes.upsert, node)
    assert await store.read(nodes.all) == [node]

    node.labels = {"zone": "us"}
    await store.write(nodes.upsert, node)
    assert await store.read(nodes.all) == [node]
