"""Rows for store tests, with everything that a test doesn't care about filled in."""

from __future__ import annotations

from typing import Any

from schedule_zero.model import (
    AttemptOutcome,
    Execution,
    Fire,
    FireOutcome,
    Schedule,
    ScheduleState,
    State,
)
from schedule_zero.store import executions
from schedule_zero.store.executions import EndItem, Insert, StartItem
from schedule_zero.store.schedules import ReleaseItem

T0 = 1_700_000_000_000_000
TRIGGER = b'{"type":"interval","seconds":10}'


def execution(id_: str, **fields: Any) -> Execution:
    return Execution(**{"id": id_, "handler_id": "demo", "job_method": "noop", "created_us": T0, **fields})


def running(id_: str, token: int, **fields: Any) -> Execution:
    """Born running."""
    return execution(
        id_, **{"state": State.RUNNING, "attempt": 1, "token": token, "node_id": "n1", "dispatched_us": T0, **fields}
    )


def end_item(id_: str, token: int, state: State = State.COMPLETED, **fields: Any) -> EndItem:
    outcome = AttemptOutcome.COMPLETED if state is State.COMPLETED else AttemptOutcome.FAILED
    return EndItem(
        **{
            "id": id_,
            "token": token,
            "outcome": outcome,
            "state": state,
            "result": b"null" if state is State.COMPLETED else None,
            "error": None if state is State.COMPLETED else b'{"type":"E","message":"m"}',
            "started_us": T0 + 10,
            "finished_us": T0 + 20,
            "stored_us": T0 + 30,
            "attempt": 1,
            "node_id": "n1",
            "dispatched_us": T0,
            "handler_id": "demo",
            "job_method": "noop",
            **fields,
        }
    )


def start_item(id_: str, token: int) -> StartItem:
    return StartItem(id_, 1, token, "n1", T0 + 5)


def schedule(id_: str, **fields: Any) -> Schedule:
    return Schedule(
        **{
            "id": id_,
            "handler_id": "demo",
            "job_method": "noop",
            "trigger": TRIGGER,
            "next_fire_us": T0,
            "created_us": T0,
            "updated_us": T0,
            **fields,
        }
    )


def release_item(row: Schedule, execution_id: str, *, due_us: int | None = None, **fields: Any) -> ReleaseItem:
    """The ordinary release: one fire, executed, the next one 10 s later."""
    due = due_us if due_us is not None else row.next_fire_us
    assert due is not None
    return ReleaseItem(
        **{
            "id": row.id,
            "generation": row.generation,
            "version": row.version,
            "due_us": due,
            "next_fire_us": due + 10_000_000,
            "last_fire_us": due,
            "state": ScheduleState.ACTIVE,
            "fires": [
                Fire(
                    schedule_id=row.id,
                    generation=row.generation,
                    nominal_us=due,
                    outcome=FireOutcome.EXECUTED,
                    execution_id=execution_id,
                    decided_us=due,
                )
            ],
            "executions": [execution(execution_id, schedule_id=row.id, nominal_us=due)],
            **fields,
        }
    )


async def insert(store: Any, *rows: Execution) -> None:
    await store.write(executions.insert, Insert(rows=list(rows)))


async def get(store: Any, id_: str) -> Execution:
    detail = await store.read(lambda conn: executions.get(conn, id_))
    assert detail is not None, id_
    return detail.execution


async def state_of(store: Any, id_: str) -> State:
    return (await get(store, id_)).state


async def journal(store: Any) -> list[tuple[str, str]]:
    """(kind, id) of every event, oldest first."""
    from schedule_zero.store import events

    rows = await store.read(lambda conn: events.read_after(conn, 0, 10_000))
    return [(event.kind, event.id) for _, row in rows for event in row]
