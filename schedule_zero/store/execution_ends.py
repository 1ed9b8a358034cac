"""How attempts end: the verb ``end``, and the record of results that came too late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import bindparam, select

from schedule_zero.model import Attempt, AttemptOutcome, Event, State
from schedule_zero.rules.states import TERMINAL, TRANSITIONS
from schedule_zero.store import execution_rows as rows
from schedule_zero.store import tables
from schedule_zero.store.groups import settle
from schedule_zero.store.results import set_sizes
from schedule_zero.store.statements import Query, bulk_insert, bulk_select, bulk_update
from schedule_zero.store.tx import Tx, Undo

if TYPE_CHECKING:
    from sqlalchemy import Connection


class EndItem(Struct, kw_only=True):
    """How an attempt ended and what its execution becomes (``rules`` decided; the table of transitions allows it)."""

    id: str
    token: int
    outcome: AttemptOutcome
    # The next state: terminal, ``retry_scheduled`` (with ``delay_us``) or ``pending``.
    state: State
    result: bytes | None = None
    # Of a result that is in ``results`` already.
    result_bytes: int | None = None
    error: bytes | None = None
    started_us: int | None = None
    finished_us: int | None = None
    stored_us: int
    cpu_us: int | None = None
    peak_rss_bytes: int | None = None
    # ``Reached`` as JSON, if the attempt ever said how far it was.
    progress: bytes | None = None
    # With a state in which somebody has to look at it (``rules.signature``): the group of its failure.
    dead_letter: str | None = None
    # So long after the commit: a length of time, whatever becomes of the clock until then.
    delay_us: int | None = None
    # The attempt ended with the loss of its node: counts towards ``lost_count`` (C16).
    lost: bool = False
    # The execution goes on, so this attempt becomes a row of ``attempts`` (needs the next three).
    archive: bool = False
    attempt: int
    node_id: str | None = None
    dispatched_us: int | None = None
    # The execution goes on, and has until then to be started; None: as before.
    start_by_us: int | None = None
    # False: the attempt was handed back, its number is given back.
    burn: bool = True
    # For the event.
    handler_id: str
    job_method: str
    schedule_id: str | None = None
    group_id: str | None = None


class Refusal(StrEnum):
    """Why an end was refused; the words of RESULT_ACK."""

    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"


_RUNS = "executions.state = 'running'"
# The common end: completed in the node's own process, with a result, both times, and no word of progress. No value is
# NULL, none is computed.
_COMPLETE = bulk_update(
    tables.executions,
    ("id", "token"),
    ("result", "started_us", "finished_us", "stored_us"),
    also="state = 'completed', error = NULL",
    where=_RUNS,
)
_END = bulk_update(
    tables.executions,
    ("id", "token"),
    (
        "state",
        "result",
        "error",
        "started_us",
        "finished_us",
        "stored_us",
        "cpu_us",
        "peak_rss_bytes",
        "progress",
        "dead_letter",
        "lost_count",
    ),
    how={"started_us": "coalesce({v}, executions.started_us)", "lost_count": "executions.lost_count + {v}"},
    where=_RUNS,
)
# The attempt is over, the execution goes on. A cancel that came in between has to win: see ``_end_all``.
_GO_ON = bulk_update(
    tables.executions,
    ("id", "token"),
    ("state", "error", "not_before_us", "lost_count", "attempt", "start_by_us"),
    how={
        "lost_count": "executions.lost_count + {v}",
        "attempt": "executions.attempt - {v}",
        "start_by_us": "coalesce({v}, executions.start_by_us)",
    },
    also="node_id = NULL, dispatched_us = NULL, started_us = NULL, finished_us = NULL, result = NULL",
    where=f"executions.cancel_requested = 0 AND {_RUNS}",
)
_ARCHIVE = bulk_insert(tables.attempts, rows.ATTEMPT_FIELDS, "DO NOTHING")
LOOK = bulk_select(
    tables.executions,
    ("id",),
    ("id", "state", "token", "cancel_requested", "node_id", "handler_id", "job_method", "schedule_id", "group_id"),
)
_LOOK_ATTEMPTS = bulk_select(tables.attempts, ("execution_id",), ("token", "outcome"))


# What an attempt is that no longer counts, whatever its node says later.
_GIVEN_UP = frozenset({AttemptOutcome.LOST.value, AttemptOutcome.HANDED_BACK.value})


def end(tx: Tx, args: list[list[EndItem]]) -> list[dict[int, Refusal]]:
    """``running`` with that token → ``item.state``; the tokens refused, each with why.

    Emits ``execution.finished``, ``execution.retry_scheduled`` or ``execution.requeued``. Who was asked to cancel
    meanwhile and would have gone on is ``cancelled`` instead. A refused result leaves nothing behind here; see
    ``record_stale``.
    """
    items = args[0] if len(args) == 1 else [item for arg in args for item in arg]
    if _end_all(tx, items):
        _tell_ends(tx, items)
        return [{} for _ in args]
    refused: list[dict[int, Refusal]] = []
    accepted = _sort_out(tx, args, refused)
    if not _end_all(tx, accepted):
        raise AssertionError("an end was refused that the same transaction had found possible")
    _tell_ends(tx, accepted)
    return refused


def _end_all(tx: Tx, items: list[EndItem]) -> bool:
    """Write them all, or nothing (False): one of them isn't running with its token, or is to be cancelled."""
    completed: list[tuple[Any, ...]] = []
    ended: list[tuple[Any, ...]] = []
    gone_on: list[tuple[Any, ...]] = []
    archived: list[tuple[Any, ...]] = []
    large: list[tuple[str, int, int]] = []
    for i in items:
        state = i.state
        if state is State.COMPLETED and _is_common(i):
            completed.append((i.id, i.token, rows.text(i.result), i.started_us, i.finished_us, i.stored_us))
        elif state not in TRANSITIONS[State.RUNNING]:
            raise AssertionError(f"a running execution cannot become {state}")
        elif TRANSITIONS[state]:
            gone_on.append(
                (
                    i.id,
                    i.token,
                    state.value,
                    rows.text(i.error),
                    None if i.delay_us is None else tx.now_us + i.delay_us,
                    int(i.lost),
                    int(not i.burn),
                    i.start_by_us,
                )
            )
        else:
            documents = (rows.text(i.result), rows.text(i.error))
            times = (i.started_us, i.finished_us, i.stored_us)
            used = (i.cpu_us, i.peak_rss_bytes, rows.text(i.progress))
            ended.append((i.id, i.token, state.value, *documents, *times, *used, i.dead_letter, int(i.lost)))
            if i.result_bytes and state is State.COMPLETED:
                large.append((i.id, i.token, i.result_bytes))
        if i.archive:
            archived.append((i.id, *_attempt_values(i)))
    with tx.attempt() as trial:
        if tx.bulk(_COMPLETE, completed) + tx.bulk(_END, ended) + tx.bulk(_GO_ON, gone_on) != len(items):
            raise Undo
        tx.bulk(_ARCHIVE, archived)
        if large:
            set_sizes(tx, large)
    return trial.kept


def _is_common(i: EndItem) -> bool:
    return (
        i.result is not None
        and i.started_us is not None
        and i.finished_us is not None
        and i.cpu_us is None
        and i.peak_rss_bytes is None
        and i.progress is None
    )


def _attempt_values(over: EndItem | Attempt) -> tuple[Any, ...]:
    """What ``attempts`` keeps, but for the execution's id."""
    return (
        over.attempt,
        over.token,
        over.node_id,
        over.outcome.value,
        over.dispatched_us,
        over.started_us,
        over.finished_us,
        rows.text(over.error),
        over.cpu_us,
        over.peak_rss_bytes,
        rows.text(over.progress),
    )


def _sort_out(tx: Tx, args: list[list[EndItem]], refused: list[dict[int, Refusal]]) -> list[EndItem]:
    """The slow way, row by row: who may end. Fills ``refused``, one dict per operation."""
    ids = list(dict.fromkeys((item.id,) for arg in args for item in arg))
    now = {row[0]: row for row in tx.lookup(LOOK, ids)}
    archived: dict[int, str] = dict(tx.lookup(_LOOK_ATTEMPTS, ids))
    accepted: list[EndItem] = []
    seen: set[int] = set()
    for arg in args:
        refusals: dict[int, Refusal] = {}
        refused.append(refusals)
        mine: set[int] = set()
        for item in arg:
            row = now.get(item.id)
            if item.token in mine:
                continue
            if item.token in seen:
                refusals[item.token] = Refusal.DUPLICATE
                continue
            verdict = _verdict(item.token, row, archived)
            if verdict is None and row is not None:
                accepted.append(_cancelled(item) if row[3] and TRANSITIONS[item.state] else item)
                mine.add(item.token)
            elif verdict is not None:
                refusals[item.token] = verdict
        seen |= mine
    return accepted


def _verdict(token: int, row: Sequence[Any] | None, archived: Mapping[int, str]) -> Refusal | None:
    """Why a result with this token is refused, None if its attempt runs. ``row`` is of ``LOOK``."""
    if row is None:
        return Refusal.UNKNOWN
    _, state, current = row[:3]
    if state == State.RUNNING and current == token:
        return None
    if token in archived:
        return Refusal.SUPERSEDED if archived[token] in _GIVEN_UP else Refusal.DUPLICATE
    if token > current:
        return Refusal.UNKNOWN
    return Refusal.DUPLICATE if current == token and State(state) in TERMINAL else Refusal.SUPERSEDED


_LOOK_ONE = Query(select(*(tables.executions.c[name] for name in ("id", "state", "token"))).where(
    tables.executions.c.id == bindparam("wanted")))  # fmt: skip
_LOOK_TOKENS = Query(select(tables.attempts.c.token, tables.attempts.c.outcome).where(
    tables.attempts.c.execution_id == bindparam("wanted")))  # fmt: skip


def classify(conn: Connection, pairs: Sequence[tuple[str, int]]) -> dict[int, Refusal | None]:
    """What ``end`` would say to results of these (id, token), ending nothing. None: it runs with that token."""
    verdicts: dict[int, Refusal | None] = {}
    for id_, token in pairs:
        archived = {row[0]: row[1] for row in _LOOK_TOKENS.rows(conn, wanted=id_)}
        verdicts[token] = _verdict(token, _LOOK_ONE.one(conn, wanted=id_), archived)
    return verdicts


def _cancelled(item: EndItem) -> EndItem:
    """The same end, of an execution that is not to go on."""
    return replace(
        item,
        state=State.CANCELLED,
        finished_us=item.stored_us if item.finished_us is None else item.finished_us,
        delay_us=None,
        dead_letter=None,
        # What its node may still report is told by this row that it is superseded; its own report needs none.
        archive=item.archive and item.outcome in _GIVEN_UP,
        burn=True,
    )


def _tell_ends(tx: Tx, items: list[EndItem]) -> None:
    """Count and emit, in order."""
    counts: dict[tuple[str, State], int] = {}
    run_us: dict[tuple[str, State], int] = {}
    events = tx.events
    grouped: list[tuple[str, State]] = []
    for i in items:
        state = i.state
        data: dict[str, Any] = {"handler_id": i.handler_id, "job_method": i.job_method, "state": state,
                                "attempt": i.attempt, "node_id": i.node_id}  # fmt: skip
        if i.schedule_id is not None:
            data["schedule_id"] = i.schedule_id
        if state is State.PENDING:
            data["outcome"] = i.outcome
            events.append(Event("execution.requeued", i.id, data))
        elif state is State.RETRY_SCHEDULED:
            data["not_before_us"] = tx.now_us + (i.delay_us or 0)
            events.append(Event("execution.retry_scheduled", i.id, data))
        else:
            if i.dead_letter is not None:
                data["dead_letter"] = i.dead_letter
                tx.count_letters(i.handler_id, 1)
            events.append(Event("execution.finished", i.id, data))
            key = (i.handler_id, state)
            counts[key] = counts.get(key, 0) + 1
            if i.group_id is not None:
                grouped.append((i.group_id, state))
            if i.started_us is not None and i.finished_us is not None:
                run_us[key] = run_us.get(key, 0) + i.finished_us - i.started_us
    for (handler_id, state), n in counts.items():
        tx.count(handler_id, state.value, n, run_us.get((handler_id, state), 0))
    settle(tx, grouped)


def record_stale(tx: Tx, args: list[list[Attempt]]) -> list[None]:
    """Keep refused results of old attempts, unless the attempt has a row already (its outcome is kept).

    Nothing is kept of an execution that doesn't exist, nor of the attempt that the execution itself describes.
    """
    stale = [attempt for arg in args for attempt in arg]
    current = {row[0]: row[2] for row in tx.lookup(LOOK, list(dict.fromkeys((a.execution_id,) for a in stale)))}
    kept = [a for a in stale if current.get(a.execution_id, a.token) != a.token]
    tx.bulk(_ARCHIVE, [(a.execution_id, *_attempt_values(a)) for a in kept])
    return [None] * len(args)
