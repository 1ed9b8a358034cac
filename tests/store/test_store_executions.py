"""The contract of the execution verbs: every transition is conditional, counted and told."""

from __future__ import annotations

import pytest

from schedule_zero.errors import Conflict, IdempotencyMismatch
from schedule_zero.model import Attempt, AttemptOutcome, Origin, State
from schedule_zero.rules.options import aged_us
from schedule_zero.rules.states import TERMINAL, TRANSITIONS
from schedule_zero.store import IdempotencyRecord, IdempotentReplay, Store, executions, idempotency, rate_buckets
from schedule_zero.store.execution_window import Without, fill_window
from schedule_zero.store.executions import CancelOutcome, Clear, Insert, Refusal, ReleaseDue, StartedItem
from schedule_zero.store.rate_buckets import BucketRow
from tests.store.builders import T0, end_item, execution, get, insert, journal, running, start_item, state_of

LANE = ("demo", "noop", None)

pytestmark = pytest.mark.anyio


def key(name: str = "k", fingerprint: str = "f", response: bytes = b'{"ids":["a"]}') -> IdempotencyRecord:
    return IdempotencyRecord(key=name, fingerprint=fingerprint, status=202, response=response, created_us=T0)


# --- birth ------------------------------------------------------------------------------------------


async def test_every_field_of_an_execution_comes_back_as_it_was_written(store: Store) -> None:
    full = execution(
        "full",
        state=State.RETRY_SCHEDULED,
        params='{"text": "ä \\u0000 \\" 😀", "n": 1.50}'.encode(),
        priority=9,
        schedule_id="s",
        nominal_us=T0 + 1,
        not_before_us=T0 + 2,
        parent_id="p",
        attempt=3,
        token=(7 << 32) + 1,
        node_id="n",
        lost_count=2,
        cancel_requested=True,
        options=b'{"priority":9}',
        idempotency_key="ik",
        dispatched_us=T0 + 3,
        started_us=T0 + 4,
        finished_us=T0 + 5,
        stored_us=T0 + 6,
        result=b"[1, 2]",
        error=b'{"type":"E"}',
        progress=b'{"percent":63.0,"text":"table x","at_us":7}',
    )
    plain = execution("plain")

    await insert(store, full, plain)

    assert await get(store, "full") == full
    assert await get(store, "plain") == plain


async def test_a_batch_of_unlike_rows_is_written_whole(store: Store) -> None:
    rows = [
        execution(f"e{n:04}", priority=n % 10, schedule_id="s" if n % 3 == 0 else None, state=State.PENDING)
        for n in range(700)
    ]

    await insert(store, *rows)

    window = await store.read(lambda conn: executions.pending_window(conn, LANE, 1000))
    assert sorted(row.id for row in window) == [row.id for row in rows]
    assert [(-row.priority, row.id) for row in window] == sorted((-row.priority, row.id) for row in rows)


async def test_an_execution_id_is_written_once_and_the_rest_of_that_request_not_at_all(store: Store) -> None:
    await insert(store, execution("a"))

    with pytest.raises(Conflict):
        await insert(store, execution("b"), execution("a"))

    assert await store.read(lambda conn: executions.get(conn, "b")) is None


async def test_the_same_key_and_request_is_answered_with_the_first_answer(store: Store) -> None:
    first = await store.write(executions.insert, Insert(rows=[execution("a")], idem=key()))
    again = await store.write(executions.insert, Insert(rows=[execution("b")], idem=key(response=b"other")))

    assert first is None
    assert again == IdempotentReplay(status=202, response=b'{"ids":["a"]}')
    assert await store.read(lambda conn: executions.get(conn, "b")) is None
    assert (await store.read(lambda conn: idempotency.get(conn, "k"))) == key()


async def test_the_same_key_with_another_request_is_a_mismatch(store: Store) -> None:
    await store.write(executions.insert, Insert(rows=[execution("a")], idem=key()))

    with pytest.raises(IdempotencyMismatch):
        await store.write(executions.insert, Insert(rows=[execution("b")], idem=key(fingerprint="g")))

    assert await store.read(lambda conn: executions.get(conn, "b")) is None


async def test_two_requests_with_one_key_in_one_transaction_are_one(store: Store) -> None:
    outcomes: list[object] = []
    for name in ("a", "b"):
        store.submit(executions.insert, Insert(rows=[execution(name)], idem=key()), outcomes.append)
    store.submit(executions.insert, Insert(rows=[execution("c")], idem=key(fingerprint="g")), outcomes.append)
    await insert(store, execution("d"))

    assert outcomes[0] is None
    assert isinstance(outcomes[1], IdempotentReplay)
    assert isinstance(outcomes[2], IdempotencyMismatch)
    assert await store.read(lambda conn: executions.get(conn, "b")) is None
    assert await store.read(lambda conn: executions.get(conn, "c")) is None


async def test_a_forgotten_key_is_new_again(store: Store) -> None:
    await store.write(executions.insert, Insert(rows=[execution("a")], idem=key()))

    assert await store.write(idempotency.prune, idempotency.Prune(T0)) == 0
    assert await store.write(idempotency.prune, idempotency.Prune(T0 + 1)) == 1

    assert await store.write(executions.insert, Insert(rows=[execution("b")], idem=key())) is None


# --- transitions ------------------------------------------------------------------------------------


async def test_only_what_the_table_allows_is_started(store: Store) -> None:
    await insert(store, *(execution(state.value, state=state) for state in State))

    refused = await store.write(executions.start, [start_item(state.value, 100 + n) for n, state in enumerate(State)])

    assert refused == {state.value for state in State if State.RUNNING not in TRANSITIONS[state]}
    for state in State:
        moved = state.value not in refused
        assert await state_of(store, state.value) is (State.RUNNING if moved else state)
        assert (await get(store, state.value)).node_id == ("n1" if moved else None)


async def test_only_what_runs_is_ended(store: Store) -> None:
    targets = sorted(TRANSITIONS[State.RUNNING])
    await insert(
        store,
        *(execution(f"{state}-{to}", state=state, token=7, attempt=1) for state in State for to in targets),
    )

    for to in targets:
        items = [end_item(f"{state}-{to}", 7, to) for state in State]
        # Tokens are unique in the system; here they need not be, so the refusals are counted by what is stored.
        for item in items:
            await store.write(executions.end, [item])

    for state in State:
        for to in targets:
            expected = to if state is State.RUNNING else state
            assert await state_of(store, f"{state}-{to}") is expected, (state, to)


async def test_an_end_that_the_table_does_not_know_is_a_mistake_of_the_caller(store: Store) -> None:
    await insert(store, running("a", 1))

    with pytest.raises(AssertionError, match="cannot become"):
        await store.write(executions.end, [end_item("a", 1, State.SCHEDULED)])

    assert await state_of(store, "a") is State.RUNNING


async def test_only_what_waits_is_cancelled_at_once(store: Store) -> None:
    await insert(
        store, *(execution(s.value, state=s, token=5, node_id="n1" if s is State.RUNNING else None) for s in State)
    )

    answers = await store.write(executions.cancel, [*(state.value for state in State), "nobody"])

    by_id = {answer.id: answer for answer in answers}
    assert by_id["nobody"].outcome is CancelOutcome.UNKNOWN
    for state in State:
        answer = by_id[state.value]
        if state is State.RUNNING:
            assert (answer.outcome, answer.node_id, answer.token) == (CancelOutcome.REQUESTED, "n1", 5)
            assert (await get(store, state.value)).cancel_requested
        elif state in TERMINAL:
            assert (answer.outcome, answer.state) == (CancelOutcome.TERMINAL, state)
        else:
            assert answer.outcome is CancelOutcome.CANCELLED
        expected = state if state is State.RUNNING or state in TERMINAL else State.CANCELLED
        assert await state_of(store, state.value) is expected


async def test_only_what_waits_for_its_time_becomes_due(store: Store) -> None:
    await insert(store, *(execution(state.value, state=state, not_before_us=T0) for state in State))
    await insert(store, execution("later", state=State.SCHEDULED, not_before_us=T0 + 1))

    released = await store.write(executions.release_due, ReleaseDue(T0))

    assert {row.id for row in released} == {"scheduled", "retry_scheduled"}
    assert {row.state for row in released} == {State.PENDING}
    assert await state_of(store, "later") is State.SCHEDULED
    assert await store.read(executions.next_due_us) == T0 + 1
    for state in set(State) - {State.SCHEDULED, State.RETRY_SCHEDULED}:
        assert await state_of(store, state.value) is state


async def test_what_becomes_due_comes_earliest_first_and_bounded(store: Store) -> None:
    await insert(store, *(execution(f"e{n}", state=State.SCHEDULED, not_before_us=T0 - n) for n in range(5)))

    assert [row.id for row in await store.write(executions.release_due, ReleaseDue(T0, 2))] == ["e4", "e3"]
    assert [row.id for row in await store.write(executions.release_due, ReleaseDue(T0, 9))] == ["e2", "e1", "e0"]
    assert await store.read(executions.next_due_us) is None


async def test_an_execution_that_was_asked_to_cancel_is_not_started(store: Store) -> None:
    await insert(store, execution("a", cancel_requested=True), execution("b"))

    assert await store.write(executions.start, [start_item("a", 1), start_item("b", 2)]) == {"a"}


async def test_of_two_starts_of_one_execution_in_one_transaction_the_first_wins(store: Store) -> None:
    await insert(store, execution("a"), execution("b"))
    outcomes: list[object] = []
    store.submit(executions.start, [start_item("a", 1)], outcomes.append)
    store.submit(executions.start, [start_item("a", 2), start_item("b", 3)], outcomes.append)
    await insert(store, execution("z"))

    assert outcomes == [set(), {"a"}]
    assert ((await get(store, "a")).token, (await get(store, "b")).token) == (1, 3)


async def test_started_is_recorded_only_for_the_attempt_that_runs(store: Store) -> None:
    await insert(store, running("a", 1), running("b", 2), execution("c", token=3))

    await store.write(
        executions.mark_started,
        [StartedItem("a", 1, T0 + 7), StartedItem("b", 99, T0 + 7), StartedItem("c", 3, T0 + 7)],
    )

    assert [(await get(store, id_)).started_us for id_ in "abc"] == [T0 + 7, None, None]


# --- results ----------------------------------------------------------------------------------------


async def test_a_completed_attempt_is_recorded_with_its_times(store: Store) -> None:
    await insert(store, running("a", 1, error=b'"from the attempt before"'))

    assert await store.write(executions.end, [end_item("a", 1, result=b'{"x":1}')]) == {}

    row = await get(store, "a")
    assert (row.state, row.result, row.error) == (State.COMPLETED, b'{"x":1}', None)
    assert (row.started_us, row.finished_us, row.stored_us, row.node_id) == (T0 + 10, T0 + 20, T0 + 30, "n1")


async def test_what_a_process_used_is_recorded_of_each_attempt(store: Store) -> None:
    await insert(store, running("a", 1), running("b", 2), running("c", 3))

    await store.write(
        executions.end,
        [
            end_item("a", 1, cpu_us=1500, peak_rss_bytes=5 << 40),
            end_item("b", 2, State.FAILED, cpu_us=7),
            end_item("c", 3, State.RETRY_SCHEDULED, delay_us=9, archive=True, cpu_us=8, peak_rss_bytes=9),
        ],
    )

    used = {}
    for id_ in "abc":
        row = await get(store, id_)
        used[id_] = (row.state, row.result, row.cpu_us, row.peak_rss_bytes)
    assert used == {
        "a": (State.COMPLETED, b"null", 1500, 5 << 40),
        "b": (State.FAILED, None, 7, None),
        "c": (State.RETRY_SCHEDULED, None, None, None),
    }
    detail = await store.read(lambda conn: executions.get(conn, "c"))
    assert detail is not None
    [attempt] = detail.attempts
    assert (attempt.cpu_us, attempt.peak_rss_bytes) == (8, 9)


async def test_a_result_with_an_old_token_is_refused(store: Store) -> None:
    await insert(store, running("a", 2))

    assert await store.write(executions.end, [end_item("a", 1)]) == {1: Refusal.SUPERSEDED}

    row = await get(store, "a")
    assert (row.state, row.token, row.result) == (State.RUNNING, 2, None)


async def test_a_replayed_result_is_a_duplicate_and_changes_nothing(store: Store) -> None:
    await insert(store, running("a", 1), running("b", 2))
    await store.write(executions.end, [end_item("a", 1, result=b"1")])
    before = await get(store, "a")

    refused = await store.write(executions.end, [end_item("a", 1, State.FAILED, stored_us=T0 + 99), end_item("b", 2)])

    assert refused == {1: Refusal.DUPLICATE}
    assert await get(store, "a") == before
    assert await state_of(store, "b") is State.COMPLETED
    assert [kind for kind, id_ in await journal(store) if id_ == "a"] == ["execution.created", "execution.finished"]
    stats = await store.read(executions.stats)
    assert (stats.by_state["completed"], stats.by_state["failed"]) == (2, 0)


async def test_one_result_that_comes_twice_in_one_transaction_is_recorded_once(store: Store) -> None:
    await insert(store, running("a", 1), running("b", 2))
    outcomes: list[object] = []

    store.submit(executions.end, [end_item("a", 1), end_item("a", 1)], outcomes.append)
    store.submit(executions.end, [end_item("a", 1), end_item("b", 2)], outcomes.append)
    await insert(store, execution("z"))

    assert outcomes[0] == {}
    assert outcomes[1] == {1: Refusal.DUPLICATE}
    assert (await store.read(executions.stats)).by_state["completed"] == 2


async def test_a_result_of_nothing_that_is_known_is_refused_as_unknown(store: Store) -> None:
    assert await store.write(executions.end, [end_item("ghost", 5)]) == {5: Refusal.UNKNOWN}


async def test_a_late_result_of_a_lost_attempt_is_superseded_even_before_the_rerun(store: Store) -> None:
    await insert(store, running("a", 1))
    await store.write(
        executions.end,
        [end_item("a", 1, State.PENDING, outcome=AttemptOutcome.LOST, lost=True, archive=True, error=None)],
    )

    assert await store.write(executions.end, [end_item("a", 1)]) == {1: Refusal.SUPERSEDED}

    assert await state_of(store, "a") is State.PENDING


async def test_a_late_result_of_a_failed_attempt_that_is_retried_is_a_duplicate(store: Store) -> None:
    await insert(store, running("a", 1))
    retry = end_item("a", 1, State.RETRY_SCHEDULED, delay_us=50, archive=True)
    await store.write(executions.end, [retry])

    assert await store.write(executions.end, [retry]) == {1: Refusal.DUPLICATE}


async def test_a_lost_attempt_is_archived_and_counted_and_leaves_the_execution_free(store: Store) -> None:
    await insert(store, running("a", 1, started_us=T0 + 1))

    await store.write(
        executions.end,
        [end_item("a", 1, State.PENDING, outcome=AttemptOutcome.LOST, lost=True, archive=True, error=b'"gone"')],
    )

    detail = await store.read(lambda conn: executions.get(conn, "a"))
    assert detail is not None
    row = detail.execution
    assert (row.state, row.lost_count, row.attempt, row.token) == (State.PENDING, 1, 1, 1)
    assert (row.node_id, row.dispatched_us, row.started_us, row.finished_us) == (None, None, None, None)
    assert [(a.attempt, a.token, a.node_id, a.outcome, a.error) for a in detail.attempts] == [
        (1, 1, "n1", AttemptOutcome.LOST, b'"gone"')
    ]
    assert ("execution.requeued", "a") in await journal(store)


async def test_a_handed_back_attempt_gives_its_number_back(store: Store) -> None:
    await insert(store, running("a", 1, attempt=2))

    await store.write(
        executions.end,
        [end_item("a", 1, State.PENDING, outcome=AttemptOutcome.HANDED_BACK, burn=False, archive=True, attempt=2)],
    )

    row = await get(store, "a")
    assert (row.attempt, row.lost_count) == (1, 0)


async def test_a_retry_waits_for_its_time_and_keeps_the_reason_in_sight(store: Store) -> None:
    await insert(store, running("a", 1))

    await store.write(executions.end, [end_item("a", 1, State.RETRY_SCHEDULED, delay_us=99, archive=True)])

    row = await get(store, "a")
    assert (row.state, row.not_before_us, row.error) == (State.RETRY_SCHEDULED, T0 + 99, b'{"type":"E","message":"m"}')
    assert ("execution.retry_scheduled", "a") in await journal(store)
    assert await store.read(executions.next_due_us) == T0 + 99


async def test_a_cancel_wins_over_a_retry_that_was_decided_before_it_was_known(store: Store) -> None:
    await insert(store, running("a", 1), running("b", 2))
    await store.write(executions.cancel, ["a"])

    refused = await store.write(
        executions.end,
        [
            end_item("a", 1, State.RETRY_SCHEDULED, delay_us=99, archive=True),
            end_item("b", 2, State.RETRY_SCHEDULED, delay_us=99, archive=True),
        ],
    )

    assert refused == {}
    assert await state_of(store, "a") is State.CANCELLED
    assert await state_of(store, "b") is State.RETRY_SCHEDULED
    assert [kind for kind, id_ in await journal(store) if id_ == "a"][-1] == "execution.finished"


async def test_a_loss_that_was_decided_before_the_cancel_was_known_is_archived_like_any(store: Store) -> None:
    await insert(store, running("a", 1))
    await store.write(executions.cancel, ["a"])

    lost = end_item("a", 1, State.PENDING, outcome=AttemptOutcome.LOST, lost=True, archive=True)
    assert await store.write(executions.end, [lost]) == {}

    detail = await store.read(lambda conn: executions.get(conn, "a"))
    assert detail is not None
    assert (detail.execution.state, detail.execution.lost_count) == (State.CANCELLED, 1)
    assert [(a.token, a.outcome) for a in detail.attempts] == [(1, AttemptOutcome.LOST)]
    assert await store.write(executions.end, [end_item("a", 1)]) == {1: Refusal.SUPERSEDED}


async def test_a_completed_result_wins_over_a_cancel_that_came_later(store: Store) -> None:
    await insert(store, running("a", 1))
    await store.write(executions.cancel, ["a"])

    assert await store.write(executions.end, [end_item("a", 1)]) == {}
    [answer] = await store.write(executions.cancel, ["a"])

    assert (answer.outcome, answer.state) == (CancelOutcome.TERMINAL, State.COMPLETED)


async def test_an_execution_cancelled_twice_ends_once(store: Store) -> None:
    await insert(store, execution("a"))
    outcomes: list[object] = []
    store.submit(executions.cancel, ["a", "a"], outcomes.append)
    store.submit(executions.cancel, ["a"], outcomes.append)
    await insert(store, execution("z"))

    found = [answer.outcome for answers in outcomes for answer in answers]  # type: ignore[attr-defined]
    assert found == [CancelOutcome.CANCELLED, CancelOutcome.TERMINAL, CancelOutcome.TERMINAL]
    assert (await journal(store)).count(("execution.finished", "a")) == 1
    assert (await store.read(executions.stats)).by_state["cancelled"] == 1


async def test_a_stale_result_is_kept_unless_its_attempt_has_an_outcome(store: Store) -> None:
    def stale(id_: str, token: int, outcome: AttemptOutcome) -> Attempt:
        return Attempt(execution_id=id_, attempt=1, token=token, node_id="n1", outcome=outcome, finished_us=T0)

    await insert(store, running("a", 1))
    await store.write(
        executions.end,
        [end_item("a", 1, State.PENDING, outcome=AttemptOutcome.LOST, lost=True, archive=True)],
    )

    await store.write(
        executions.record_stale,
        [
            stale("a", 1, AttemptOutcome.COMPLETED),  # archived as lost: kept so
            stale("a", 77, AttemptOutcome.FAILED),  # nothing known of it
            stale("ghost", 5, AttemptOutcome.FAILED),
        ],
    )

    detail = await store.read(lambda conn: executions.get(conn, "a"))
    assert detail is not None
    assert [(a.token, a.outcome) for a in detail.attempts] == [(1, AttemptOutcome.LOST), (77, AttemptOutcome.FAILED)]


async def test_the_running_ones_are_found_after_a_restart(store: Store) -> None:
    await insert(store, running("a", 1), execution("b"), running("c", 3, state=State.COMPLETED))

    assert [row.id for row in await store.read(executions.running)] == ["a"]
    assert await store.read(executions.pending_counts) == {LANE: 1}


async def test_the_pending_window_goes_on_after_a_row(store: Store) -> None:
    await insert(store, *(execution(f"e{n}", priority=n % 2) for n in range(6)))
    await insert(store, execution("x", handler_id="other"), execution("y", job_method="other"))

    first = await store.read(lambda conn: executions.pending_window(conn, LANE, 2))
    rest = await store.read(
        lambda conn: executions.pending_window(
            conn, LANE, 9, after=(aged_us(first[-1].priority, first[-1].created_us), first[-1].id)
        )
    )

    assert [row.id for row in first] == ["e1", "e3"]
    assert [row.id for row in rest] == ["e5", "e0", "e2", "e4"]


@pytest.mark.parametrize(
    ("limit", "max_bytes", "row_bytes", "found", "more"),
    [
        (9, 10_000, 100, "bdface", False),
        (6, 10_000, 100, "bdface", True),
        (4, 10_000, 100, "bdfa", True),
        # One by one, two and one; the row that reaches the bound is the last.
        (9, 250, 250, "bdf", True),
        (9, 250, 125, "bdf", True),
        (9, 300, 300, "bdf", True),
        # At least one, however large.
        (9, 1, 100, "b", True),
    ],
)
async def test_the_window_is_filled_up_to_a_number_and_to_a_size(
    store: Store, limit: int, max_bytes: int, row_bytes: int, found: str, more: bool
) -> None:
    params = b'{"x":"%s"}' % (b"x" * 92)
    await insert(store, *(execution(id_, priority=n % 2, params=params) for n, id_ in enumerate("abcdef")))

    rows, may_be_more = await store.read(lambda conn: fill_window(conn, LANE, limit, max_bytes, row_bytes))

    assert ("".join(row.id for row in rows), may_be_more) == (found, more)


# --- what is told and counted -----------------------------------------------------------------------


async def test_each_transaction_is_one_row_of_the_journal_in_order(store: Store) -> None:
    await insert(store, execution("a"), running("b", 1))
    await store.write(executions.end, [end_item("b", 1, schedule_id="s")])

    from schedule_zero.store import events

    rows = await store.read(lambda conn: events.read_after(conn, 0, 10))
    assert [[(event.kind, event.id) for event in row] for _, row in rows] == [
        [("execution.created", "a"), ("execution.created", "b")],
        [("execution.finished", "b")],
    ]
    assert [seq for seq, _ in rows] == sorted({seq for seq, _ in rows})
    assert rows[1][1][0].data == {
        "handler_id": "demo",
        "job_method": "noop",
        "state": "completed",
        "attempt": 1,
        "node_id": "n1",
        "schedule_id": "s",
    }


async def test_the_counters_say_what_the_rows_say(store: Store) -> None:
    await insert(store, *(running(f"r{n}", n) for n in range(6)), execution("p"), execution("o", handler_id="other"))
    await insert(store, execution("s", state=State.SCHEDULED, not_before_us=T0))
    await store.write(executions.end, [end_item(f"r{n}", n) for n in range(3)])
    await store.write(executions.end, [end_item("r3", 3, State.FAILED), end_item("r4", 4, State.DEAD)])
    await store.write(executions.cancel, ["p"])

    stats = await store.read(executions.stats)

    assert (stats.total, stats.lifetime, stats.completed_run_us) == (9, 9, 30)
    assert {state: n for state, n in stats.by_state.items() if n} == {
        "completed": 3, "failed": 1, "dead": 1, "cancelled": 1, "running": 1, "pending": 1, "scheduled": 1,
    }  # fmt: skip
    assert stats.handlers["demo"].by_state == {"open": 2, "completed": 3, "failed": 1, "dead": 1, "cancelled": 1}
    assert stats.handlers["other"].by_state == {"open": 1}


async def test_clearing_removes_what_is_over_and_nothing_else(store: Store) -> None:
    living = [state for state in State if state not in TERMINAL]
    await insert(store, *(execution(state.value, state=state) for state in living))
    await insert(store, *(running(f"r{n}", 100 + n) for n in range(3)))
    await store.write(executions.end, [end_item(f"r{n}", 100 + n) for n in range(2)])
    await store.write(executions.end, [end_item("r2", 102, State.PENDING, archive=True, outcome=AttemptOutcome.LOST)])

    assert await executions.clear_all(store) == 2

    left = await store.read(lambda conn: executions.find(conn, executions.Filter(limit=100)))
    assert {row.id for row in left.rows} == {*(state.value for state in living), "r2"}
    stats = await store.read(executions.stats)
    assert (stats.total, stats.lifetime, stats.by_state["completed"]) == (len(living) + 1, len(living) + 3, 0)
    detail = await store.read(lambda conn: executions.get(conn, "r2"))
    assert detail is not None
    assert len(detail.attempts) == 1


async def test_clearing_keeps_what_was_stored_since(store: Store) -> None:
    await insert(store, *(running(f"r{n}", n) for n in range(10)))
    await store.write(executions.end, [end_item(f"r{n}", n, stored_us=T0 + n) for n in range(10)])

    assert await executions.clear_all(store, T0 + 4) == 4

    stats = await store.read(executions.stats)
    assert (stats.total, stats.lifetime, stats.by_state["completed"], stats.completed_run_us) == (6, 10, 6, 60)


async def test_a_step_of_clearing_is_bounded(store: Store) -> None:
    await insert(store, *(running(f"r{n}", n) for n in range(10)))
    await store.write(executions.end, [end_item(f"r{n}", n) for n in range(10)])

    step = await store.write(executions.clear, Clear(None, 0, 4))

    assert step.deleted == 4
    assert step.after is not None
    assert (await store.write(executions.clear, Clear(None, step.after, 100))).deleted == 6


# --- what a window leaves out, and token buckets ------------------------------------------------------


async def test_a_window_reads_past_what_it_is_told_to_leave_out(store: Store) -> None:
    await insert(
        store,
        execution("a", concurrency_key="seven"),
        execution("b", concurrency_key='ei"ght'),
        execution("c", schedule_id="s"),
        execution("d", rate_key="r"),
        execution("e"),
        execution("f", schedule_id="t", concurrency_key="nine", rate_key="q"),
    )

    async def found(**without: tuple[str, ...]) -> tuple[str, bool]:
        rows, more = await store.read(
            lambda conn: fill_window(conn, ("demo", "noop", None), 9, 10_000, 5_000, Without(**without))
        )
        return "".join(row.id for row in rows), more

    assert await found() == ("abcdef", False)
    assert await found(concurrency_keys=("seven", 'ei"ght')) == ("cdef", False)
    assert await found(schedule_ids=("s",), rate_keys=("r", "none")) == ("abef", False)
    assert await found(schedule_ids=("t",), concurrency_keys=("seven",), rate_keys=("r",)) == ("bce", False)


async def test_token_buckets_are_kept_until_they_are_full(store: Store) -> None:
    one = BucketRow("job_rate", "h.m", T0 + 100, T0, 1_000)
    two = BucketRow("rate_key", "api", T0 + 900, T0 + 1, 1_000)
    newer = BucketRow("job_rate", "h.m", T0 + 500, T0 + 2, 1_000)
    await store.write(rate_buckets.keep, [one, two])
    await store.write(rate_buckets.keep, [newer])

    assert await store.read(lambda conn: rate_buckets.not_full(conn, T0)) == [newer, two]
    assert await store.read(lambda conn: rate_buckets.not_full(conn, T0 + 500)) == [two]
    assert await store.write(rate_buckets.forget_full, T0 + 500) == 1
    assert await store.read(lambda conn: rate_buckets.not_full(conn, T0)) == [two]


async def test_what_took_the_place_of_an_execution_is_found_by_it(store):
    old, later = execution("old", state=State.FAILED), execution("later", state=State.FAILED, parent_id="old")
    await insert(store, old, execution("other"), later)
    orphan = execution("orphan", parent_id="gone")
    await insert(store, execution("newest", parent_id="old", origin=Origin.RETRY), orphan)

    of_old = await store.read(lambda conn: executions.family(conn, old, limit=10))
    of_later = await store.read(lambda conn: executions.family(conn, later, limit=10))
    of_orphan = await store.read(lambda conn: executions.family(conn, orphan, limit=10))

    assert (of_old.parent, [kin.id for kin in of_old.replacements]) == (None, ["newest", "later"])
    assert of_old.replacements[0].origin is Origin.RETRY
    assert of_later.parent is not None
    assert of_later.parent.id == "old"
    assert (of_orphan.parent, of_orphan.replacements) == (None, [])
    assert await store.read(executions.oldest_us) == old.created_us


async def test_an_empty_store_has_no_oldest_execution(store):
    assert await store.read(executions.oldest_us) is None
