"""Start deadlines: what waits too long is misfired, what comes too late is not started. And the tally of the open."""

from __future__ import annotations

import msgspec
import pytest

from schedule_zero.job_options import JobOptions
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from schedule_zero.store import Store, executions
from schedule_zero.store.execution_expiry import Expire, misfire_expired, next_expiry_us
from schedule_zero.store.executions import Clear, ReleaseDue, StartItem
from schedule_zero.store.tables import EXPIRING
from tests.store.builders import T0, end_item, execution, get, insert, journal, running, start_item, state_of

pytestmark = pytest.mark.anyio

S = 1_000_000


def options(**said) -> bytes | None:
    return outfit(JobOptions(**said), JobOptions(), Source.SUBMISSION).options


@pytest.mark.parametrize("state", sorted(EXPIRING))
async def test_what_waits_past_its_time_is_misfired_with_a_reason_and_counted(store: Store, state: State) -> None:
    await insert(store, execution("a", state=state, start_by_us=T0 + S, schedule_id="s"))

    assert await store.write(misfire_expired, Expire(T0 + S - 1)) == []
    assert await store.write(misfire_expired, Expire(T0 + S)) == ["a"]

    row = await get(store, "a")
    assert row.state is State.MISFIRED
    assert row.finished_us is not None
    error = msgspec.json.decode(row.error)
    assert error["type"] == "QueueTimeout"
    assert "2023-11-14T22:13:21" in error["message"]
    assert (await journal(store))[-1] == ("execution.finished", "a")
    stats = await store.read(executions.stats)
    assert (stats.by_state["misfired"], stats.by_state["pending"]) == (1, 0)


@pytest.mark.parametrize("state", [State.BLOCKED, State.RUNNING, State.COMPLETED, State.CANCELLED])
async def test_what_does_not_wait_for_a_node_is_not_misfired(store: Store, state: State) -> None:
    await insert(store, execution("a", state=state, start_by_us=T0))

    assert await store.write(misfire_expired, Expire(T0 + S)) == []
    assert await store.read(next_expiry_us) is None


async def test_the_oldest_go_first_a_step_at_a_time(store: Store) -> None:
    await insert(store, *(execution(f"e{n}", start_by_us=T0 + n) for n in range(5)))

    assert await store.write(misfire_expired, Expire(T0 + S, 3)) == ["e0", "e1", "e2"]
    assert await store.read(next_expiry_us) == T0 + 3
    assert await store.write(misfire_expired, Expire(T0 + S, 3)) == ["e3", "e4"]
    assert await store.read(next_expiry_us) is None


async def test_a_start_that_was_decided_too_late_is_refused(store: Store) -> None:
    # ``start_item`` was decided at T0 + 5.
    await insert(store, execution("late", start_by_us=T0 + 5), execution("just", start_by_us=T0 + 6))

    refused = await store.write(executions.start, [start_item("late", 1), start_item("just", 2)])

    assert refused == {"late"}
    assert (await state_of(store, "late"), await state_of(store, "just")) == (State.PENDING, State.RUNNING)


async def test_what_goes_on_has_its_time_anew_and_what_was_given_back_keeps_its_own(store: Store) -> None:
    await insert(store, running("retried", 1, start_by_us=T0), running("given", 2, start_by_us=T0))
    items = [
        end_item("retried", 1, State.RETRY_SCHEDULED, archive=True, delay_us=S, start_by_us=T0 + 9 * S),
        end_item("given", 2, State.PENDING, archive=True, outcome=AttemptOutcome.HANDED_BACK, burn=False),
    ]
    await store.write(executions.end, items)

    assert ((await get(store, "retried")).start_by_us, (await get(store, "given")).start_by_us) == (T0 + 9 * S, T0)


async def test_the_time_of_what_waited_for_another_one_counts_from_its_turn(store: Store, clock) -> None:
    now_us = clock.wall_us()
    await insert(store, execution("a", state=State.BLOCKED, options=options(queue_timeout_s=10.0), start_by_us=T0 - S))
    clock.advance(100.0)

    [row] = await store.write(executions.unblock, "a")

    assert row is not None
    assert row.start_by_us == now_us + 110 * S
    assert (await get(store, "a")).start_by_us == row.start_by_us
    assert await store.read(next_expiry_us) == row.start_by_us


# --- the tally ---------------------------------------------------------------------------------------


async def test_the_tally_is_what_is_not_over_after_every_kind_of_step(store: Store) -> None:
    await insert(store, *(execution(f"e{n}") for n in range(4)), running("r", 1), running("t", 2),
                 execution("other", handler_id="other"), execution("late", start_by_us=T0))  # fmt: skip
    assert (store.tally.total, store.tally.open) == (8, {"demo": 7, "other": 1})

    await store.write(executions.cancel, ["e0", "e0", "other", "r", "unknown"])
    await store.write(executions.start, [StartItem("e1", 1, 5, "n1", T0)])
    await store.write(executions.end, [end_item("t", 2, State.RETRY_SCHEDULED, archive=True, delay_us=0)])
    await store.write(executions.end, [end_item("e1", 5)])
    await store.write(executions.end, [end_item("e1", 5)])
    await store.write(misfire_expired, Expire(T0))
    await store.write(executions.release_due, ReleaseDue(T0))
    await store.write(executions.clear, Clear())

    assert store.tally.open == {"demo": 4, "other": 0}
    assert store.tally.ended == 4
    stats = await store.read(executions.stats)
    assert {name: handler.by_state["open"] for name, handler in stats.handlers.items()} == store.tally.open


async def test_dead_letters_are_over_and_not_in_the_tally(sqlite_store: Store, tmp_path, clock) -> None:
    """They wait for somebody to look at them; they were subtracted a second time."""
    from schedule_zero.config import StoreConfig

    await insert(sqlite_store, running("a", 1), execution("b"))
    await sqlite_store.write(executions.end, [end_item("a", 1, State.FAILED, dead_letter="demo.job:1")])

    assert (sqlite_store.tally.total, sqlite_store.tally.open) == (1, {"demo": 1})

    await sqlite_store.close()
    again = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    try:
        assert (again.tally.total, again.tally.open) == (1, {"demo": 1})
    finally:
        await again.close()


async def test_the_tally_counts_nothing_that_was_rolled_back(store: Store) -> None:
    from schedule_zero.errors import Conflict

    await insert(store, execution("a"))

    with pytest.raises(Conflict):
        await insert(store, execution("b"), execution("a"))

    assert store.tally.total == 1


async def test_the_tally_is_there_after_a_restart(sqlite_store: Store, tmp_path, clock) -> None:
    from schedule_zero.config import StoreConfig

    await insert(sqlite_store, *(execution(f"e{n}") for n in range(3)))
    await sqlite_store.write(executions.cancel, ["e0"])
    await sqlite_store.close()

    again = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    try:
        assert (again.tally.total, again.tally.open) == (2, {"demo": 2})
    finally:
        await again.close()
