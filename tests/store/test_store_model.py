"""A state machine: in whatever order verbs come, and however they are grouped, the store does what the model says."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schedule_zero.config import StoreConfig
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import Store, events, executions
from schedule_zero.store.executions import CancelOutcome, EndItem, Insert, Refusal, ReleaseDue, StartItem
from tests.store.builders import T0, end_item, execution, running, start_item
from tests.support import ManualClock

IDS = [f"e{n}" for n in range(6)]
id_strategy = st.sampled_from(IDS)
WAITING = {State.SCHEDULED, State.PENDING, State.RETRY_SCHEDULED}
NEXT = [State.COMPLETED, State.FAILED, State.DEAD, State.PENDING, State.RETRY_SCHEDULED]


class Row:
    """What the model knows of one execution."""

    def __init__(self, state: State, token: int) -> None:
        self.state = state
        self.token = token
        self.cancel = False
        self.tokens = [token] if token else []
        self.archived: dict[int, AttemptOutcome] = {}


class StoreMachine(RuleBasedStateMachine):
    """Verbs are queued with the answers that the model expects; ``settle`` waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop
        self.directory: tempfile.TemporaryDirectory[str]
        self.store: Store | None = None
        self.rows: dict[str, Row] = {}
        self.finished: list[str] = []
        self.tokens = 0
        self.expected: list[Any] = []
        self.answers: list[Any] = []

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="szmodel", dir="/tmp")
        self.open()

    def open(self) -> None:
        self.store = Store.open(StoreConfig(durability="fast"), Path(self.directory.name), clock=ManualClock())

    def submit(self, verb: Any, arg: Any, expected: Any) -> None:
        async def put() -> None:
            self.store.submit(verb, arg, self.answers.append)

        self.loop.run_until_complete(put())
        self.expected.append(expected)

    @rule(id_=id_strategy, born=st.booleans())
    def insert(self, id_: str, born: bool) -> None:
        if id_ in self.rows:
            self.submit(executions.insert, Insert(rows=[execution(id_)]), "conflict")
            return
        self.tokens += 1
        row = running(id_, self.tokens) if born else execution(id_, state=State.SCHEDULED, not_before_us=T0)
        self.rows[id_] = Row(row.state, row.token)
        self.submit(executions.insert, Insert(rows=[row]), None)

    @rule(ids=st.lists(id_strategy, unique=True, min_size=1))
    def start(self, ids: list[str]) -> None:
        refused: set[str] = set()
        items: list[StartItem] = []
        for id_ in ids:
            self.tokens += 1
            items.append(start_item(id_, self.tokens))
            row = self.rows.get(id_)
            if row is None or row.state not in WAITING or row.cancel:
                refused.add(id_)
            else:
                row.state, row.token = State.RUNNING, self.tokens
                row.tokens.append(self.tokens)
        self.submit(executions.start, items, refused)

    @rule(ends=st.lists(st.tuples(id_strategy, st.integers(0, 3), st.sampled_from(NEXT)), min_size=1, max_size=4))
    def end(self, ends: list[tuple[str, int, State]]) -> None:
        """Results: of the current attempt mostly, of older ones, twice, and of attempts that never were."""
        refused: dict[int, Refusal] = {}
        items: list[EndItem] = []
        mine: set[int] = set()
        for id_, age, wanted in ends:
            state = wanted
            row = self.rows.get(id_)
            self.tokens += 1
            token = self.tokens
            if row is not None and age // 2 < len(row.tokens):
                token = row.tokens[-1 - age // 2]
            lost = state is State.PENDING
            outcome = AttemptOutcome.LOST if lost else AttemptOutcome.FAILED
            goes_on = state in WAITING
            items.append(end_item(id_, token, state, archive=goes_on, lost=lost, outcome=outcome, delay_us=0))
            if row is None or token > row.token:
                refused[token] = Refusal.UNKNOWN
            elif token in mine:
                continue
            elif row.state is State.RUNNING and row.token == token:
                mine.add(token)
                if goes_on and row.cancel:
                    state = State.CANCELLED
                elif goes_on:
                    row.archived[token] = outcome
                row.state = state
                if state in TERMINAL:
                    self.finished.append(id_)
            elif token in row.archived:
                lost = row.archived[token] is AttemptOutcome.LOST
                refused[token] = Refusal.SUPERSEDED if lost else Refusal.DUPLICATE
            else:
                same = row.token == token and row.state in TERMINAL
                refused[token] = Refusal.DUPLICATE if same else Refusal.SUPERSEDED
        self.submit(executions.end, items, refused)

    @rule(ids=st.lists(id_strategy, min_size=1, max_size=3))
    def cancel(self, ids: list[str]) -> None:
        expected: list[CancelOutcome] = []
        for id_ in ids:
            row = self.rows.get(id_)
            if row is None:
                expected.append(CancelOutcome.UNKNOWN)
            elif row.state is State.RUNNING:
                row.cancel = True
                expected.append(CancelOutcome.REQUESTED)
            elif row.state in TERMINAL:
                expected.append(CancelOutcome.TERMINAL)
            else:
                row.state = State.CANCELLED
                self.finished.append(id_)
                expected.append(CancelOutcome.CANCELLED)
        self.submit(executions.cancel, ids, expected)

    @rule()
    def release_due(self) -> None:
        due = {id_ for id_, row in self.rows.items() if row.state in (State.SCHEDULED, State.RETRY_SCHEDULED)}
        for id_ in due:
            self.rows[id_].state = State.PENDING
        self.submit(executions.release_due, ReleaseDue(T0), due)

    @precondition(lambda self: self.expected)
    @rule()
    def settle(self) -> None:
        self.catch_up()

    @rule()
    def restart(self) -> None:
        self.catch_up()
        self.loop.run_until_complete(self.store.close())
        self.open()

    def catch_up(self) -> None:
        async def last() -> None:
            await self.store.write(executions.mark_started, [])

        self.loop.run_until_complete(last())
        found = [self.plain(answer) for answer in self.answers]
        assert found == self.expected, (found, self.expected)
        self.answers.clear()
        self.expected.clear()

    @staticmethod
    def plain(answer: Any) -> Any:
        """An answer in the model's words."""
        if isinstance(answer, Exception):
            return getattr(answer, "code", repr(answer))
        if isinstance(answer, list) and answer and isinstance(answer[0], executions.CancelAnswer):
            return [one.outcome for one in answer]
        if isinstance(answer, list):
            return {row.id for row in answer}
        return answer

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        if self.expected or self.store is None:
            return

        def look(conn: Any) -> Any:
            page = executions.find(conn, executions.Filter(limit=100))
            told = [event for _, row in events.read_after(conn, 0, 10_000) for event in row]
            return page.rows, executions.stats(conn).by_state, told

        rows, by_state, told = self.loop.run_until_complete(self.store.read(look))
        assert {row.id: (row.state, row.token, row.cancel_requested) for row in rows} == {
            id_: (row.state, row.token, row.cancel) for id_, row in self.rows.items()
        }
        states = [row.state for row in self.rows.values()]
        assert by_state == {state.value: states.count(state) for state in State}
        # Each ends once, and is told once (C7, C21).
        assert sorted(event.id for event in told if event.kind == "execution.finished") == sorted(self.finished)
        assert len(set(self.finished)) == len(self.finished)

    def teardown(self) -> None:
        if self.store is None:
            return
        try:
            self.catch_up()
        finally:
            self.loop.run_until_complete(self.store.close())
            self.loop.close()
            self.directory.cleanup()


StoreMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestTheStoreAgainstItsModel = StoreMachine.TestCase
