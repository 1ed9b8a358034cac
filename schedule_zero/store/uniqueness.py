"""Unique keys, decided inside the transaction that gives birth (``rules.unique`` says how).

There is one writer, so what is read here stays so until the commit; what the transaction itself has accepted counts
as well.

Nothing is written here: the verbs insert what is left, then cancel what was replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from schedule_zero.errors import Duplicate
from schedule_zero.model import Execution, Origin, State
from schedule_zero.rules.unique import WAITING, Holder, claim
from schedule_zero.store import tables
from schedule_zero.store.statements import Bulk
from schedule_zero.store.tx import Tx

_FIELDS = "e.unique_key, e.id, e.state, e.created_us, e.options, e.group_id, e.seq"
_KNOWN = Bulk(
    tables.executions,
    ("unique_key",),
    "WITH keys AS (SELECT column1 AS k FROM (VALUES ",
    f""") AS v)
    SELECT k FROM keys WHERE EXISTS
        (SELECT 1 FROM executions e WHERE e.unique_key = keys.k AND e.{tables.IS_UNIQUE})""",
)
# All that wait, for they are few; of the others the newest says it: no later one came while an earlier one held.
_HOLDERS = Bulk(
    tables.executions,
    ("unique_key",),
    "WITH keys AS (SELECT column1 AS k FROM (VALUES ",
    f""") AS v)
    SELECT {_FIELDS} FROM keys JOIN executions e ON e.unique_key = keys.k
        AND e.{tables.IS_UNIQUE} AND e.state IN ({", ".join(f"'{state.value}'" for state in State if state in WAITING)})
    UNION ALL
    SELECT {_FIELDS} FROM keys JOIN executions e ON e.seq = (SELECT max(r.seq) FROM executions r
        WHERE r.unique_key = keys.k AND r.{tables.IS_UNIQUE} AND r.state = 'running')
    UNION ALL
    SELECT {_FIELDS} FROM keys JOIN executions e ON e.seq = (SELECT max(c.seq) FROM executions c
        WHERE c.unique_key = keys.k AND c.{tables.IS_UNIQUE} AND c.state = 'completed')""",
)


class Joined(Struct):
    """A submission of which not every row was written: ``ids`` in its order, and which of them were there before."""

    ids: list[str]
    existing: list[str]
    # Row not written → what stands in its place.
    instead: dict[str, str]


class Claims:
    """The holders of the unique keys of a batch, and how they change while it is gone through in order."""

    def __init__(self, tx: Tx, rows: Iterable[Execution]) -> None:
        self._now_us = tx.now_us
        # To be cancelled once the batch is inserted.
        self.replaced: list[str] = []
        self._holders: dict[str, list[Holder]] = {}
        named = [row.unique_key for row in rows if row.unique_key is not None]
        keys = list(dict.fromkeys(named))
        # Most keys are new: that is a cheap question.
        known = tx.lookup(_KNOWN, [(key,) for key in keys]) if keys else []
        # Nobody has any of them, and no two of the batch share one: there is nothing to decide.
        self.all_free = not known and len(keys) == len(named)
        if not known:
            return
        found = sorted(tx.lookup(_HOLDERS, known), key=lambda row: row[6])
        for key, id_, state, created_us, options, group_id, _ in found:
            document = None if options is None else options.encode()
            self._holders.setdefault(key, []).append(Holder(id_, State(state), created_us, document, group_id))

    def one(self, row: Execution, *, wait: bool = False) -> str | None:
        """For what is decided one by one (fires, backfills): None and it is to be born, or whose the key is.

        ``wait``: it replaces nobody.
        """
        key = row.unique_key
        if key is None or self.all_free:
            return None
        said = claim(_holder(row), self._holders.get(key, ()), self._now_us)
        if wait and said.replaces:
            return said.replaces[-1]
        if said.holder is None:
            self._take(key, row, said.replaces)
        return said.holder

    def request(self, rows: Sequence[Execution]) -> Joined | Duplicate | None:
        """For a submission, all or none: None (all are to be born), which are not, or why none is.

        Of two in one submission the later one takes the place of the earlier, where it is to replace: that one is not
        even written.
        """
        if self.all_free:
            return None
        instead: dict[str, str] = {}
        mine: dict[str, list[Execution]] = {}
        accepted: list[tuple[str, Execution, tuple[str, ...]]] = []
        for index, row in enumerate(rows):
            key = row.unique_key
            if key is None:
                continue
            others = self._holders.get(key, [])
            own = mine.setdefault(key, [])
            # Born running or not, nothing of this request has begun.
            said = claim(_holder(row), [*others, *(_holder(one, begun=False) for one in own)], self._now_us)
            if said.holder is not None and said.refused:
                return _duplicate(index, said.holder, in_request=any(one.id == said.holder for one in own))
            if said.holder is not None:
                instead[row.id] = said.holder
                continue
            for one in [one for one in own if one.id in said.replaces]:
                own.remove(one)
                instead[one.id] = row.id
            accepted.append((key, row, tuple(id_ for id_ in said.replaces if id_ not in instead)))
            own.append(row)
        for key, row, replaces in accepted:
            if row.id not in instead:
                self._take(key, row, replaces)
            else:
                # Its own successor replaces the same ones.
                self._drop(key, replaces)
        return _joined(rows, instead) if instead else None

    def _take(self, key: str, row: Execution, replaces: tuple[str, ...]) -> None:
        self._drop(key, replaces)
        self._holders.setdefault(key, []).append(_holder(row))

    def _drop(self, key: str, replaces: tuple[str, ...]) -> None:
        if replaces:
            self._holders[key] = [one for one in self._holders[key] if one.id not in replaces]
            self.replaced += [id_ for id_ in replaces if id_ not in self.replaced]


def _holder(row: Execution, *, begun: bool = True) -> Holder:
    state = row.state if begun or row.state is not State.RUNNING else State.PENDING
    # Those of a backfill, or of a requeue, are as many pieces of work.
    group_id = None if row.origin in (Origin.BACKFILL, Origin.RETRY) else row.group_id
    return Holder(row.id, state, row.created_us, row.options, group_id)


def _duplicate(index: int, holder: str, *, in_request: bool) -> Duplicate:
    said = "another one of this request has" if in_request else f"execution {holder} has"
    return Duplicate(f"{said} the same unique key", index=index, execution_id=None if in_request else holder)


def _joined(rows: Sequence[Execution], instead: dict[str, str]) -> Joined:
    born = {row.id for row in rows if row.id not in instead}

    def end_of(id_: str) -> str:
        while id_ in instead:
            id_ = instead[id_]
        return id_

    ids = [end_of(row.id) for row in rows]
    existing = list(dict.fromkeys(id_ for id_ in ids if id_ not in born))
    return Joined(ids=ids, existing=existing, instead={id_: end_of(id_) for id_ in instead})
