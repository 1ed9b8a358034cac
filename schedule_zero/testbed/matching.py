"""The inputs put in order once, for all verdicts: which run belongs to which execution, which fault touches what."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

from schedule_zero.rules.options import EffectiveOptions, options_of
from schedule_zero.testbed.final import AttemptRow, FinalStore, NodeEvent, Row
from schedule_zero.testbed.history import (
    EVERYWHERE,
    SERVER,
    BadEvidence,
    Call,
    Evidence,
    Fault,
    FaultKind,
    JobLine,
    Run,
    Side,
    Terms,
)

# What a job does to its own node: the action, if it has no end.
DEADLY = frozenset({"exit", "segfault", "oom"})
# Those that keep the node itself from saying anything.
STIFLING = frozenset({"hog"})
_intern = sys.intern


class Trouble:
    """The fault log, by what it touched."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        self._by_target: dict[str, list[Fault]] = {}
        for fault in self.faults:
            self._by_target.setdefault(fault.target, []).append(fault)

    def of(self, *targets: str) -> Iterator[Fault]:
        """Those of one of them, and those that were everywhere."""
        for target in (*targets, EVERYWHERE):
            yield from self._by_target.get(target, ())

    def touching(
        self, from_us: int, to_us: int, *targets: str, kinds: frozenset[FaultKind] | None = None
    ) -> Iterator[Fault]:
        """Those of a time that overlap ``[from_us, to_us]``."""
        for fault in self.of(*targets):
            if kinds is not None and fault.fault not in kinds:
                continue
            if fault.begin_us <= to_us and (fault.end_us is None or fault.end_us >= from_us):
                yield fault

    def any(self, from_us: int, to_us: int, *targets: str, kinds: frozenset[FaultKind] | None = None) -> bool:
        return next(self.touching(from_us, to_us, *targets, kinds=kinds), None) is not None


ONLINE, LOST = "node.online", "node.lost"


class Matched:
    """Everything that the verdicts look things up in."""

    def __init__(self, evidence: Evidence, final: FinalStore) -> None:
        self.final = final
        self.terms: Terms = evidence.terms
        self.calls: list[Call] = evidence.calls
        self.trouble = Trouble(evidence.faults)
        self.rows: dict[str, Row] = {row.id: row for row in final.executions}
        self.attempts: dict[str, list[AttemptRow]] = {}
        for attempt in final.attempts:
            self.attempts.setdefault(attempt.execution_id, []).append(attempt)
        for attempts in self.attempts.values():
            attempts.sort(key=_token)
        # By execution, in the order of their starts; ``again`` are second starts of one attempt.
        self.runs: dict[str, list[Run]] = {}
        self.again: list[Run] = []
        self.deaths: dict[str, list[Run]] = {}
        self.lines = 0
        self._read(evidence.ledger)
        self._options: dict[str | None, EffectiveOptions] = {}
        # Whose wall clocks were set: what they wrote down can't be compared with the times of others.
        self._stepped = {fault.target for fault in self.trouble.faults if fault.fault is FaultKind.CLOCK}

    @property
    def margin_us(self) -> int:
        return round(self.terms.margin_s * 1e6)

    @property
    def late_us(self) -> int:
        return round(self.terms.late_s * 1e6)

    def stepped(self, target: str) -> bool:
        """Whether its wall clock was set: the server's, or a node's."""
        return target in self._stepped or EVERYWHERE in self._stepped

    def options(self, row: Row) -> EffectiveOptions:
        found = self._options.get(row.options)
        if found is None:
            stored = None if row.options is None else row.options.encode()
            found = self._options[row.options] = options_of(stored)
        return found

    def ledgered(self, row: Row) -> bool:
        """Whether its job writes the ledger."""
        return row.handler_id in self.terms.ledgered

    def outcome(self, row: Row | None, execution_id: str, token: int) -> str | None:
        """How an attempt ended, by the store; ``running`` if it has not; None: the store does not know it."""
        for attempt in self.attempts.get(execution_id, ()):
            if attempt.token == token:
                return attempt.outcome
        if row is None or row.token != token:
            return None
        return row.state

    @cached_property
    def until_us(self) -> int:
        """Up to when a server was there to decide: by what it has written, if nobody says."""
        if self.terms.until_us is not None:
            return self.terms.until_us
        seen_us = [life.stopped_us or life.alive_us for life in self.final.lives]
        seen_us += [fire.decided_us for fire in self.final.fires]
        seen_us += [row.stored_us for row in self.final.executions if row.stored_us is not None]
        return max(seen_us, default=0)

    @cached_property
    def lives(self) -> dict[str, list[NodeEvent]]:
        """What the server told of each node: that it was there, that it was lost."""
        found: dict[str, list[NodeEvent]] = {}
        for event in self.final.node_events:
            if event.kind in (ONLINE, LOST):
                found.setdefault(event.node_id, []).append(event)
        return found

    @cached_property
    def by_node(self) -> dict[str, list[Run]]:
        """The runs of each node, in the order of their starts."""
        found: dict[str, list[Run]] = {}
        for runs in self.runs.values():
            for run in runs:
                found.setdefault(run.node_id, []).append(run)
        for runs in found.values():
            runs.sort(key=_start)
        return found

    def reborn_us(self, run: Run) -> int | None:
        """When the next process of a run's node began its first job; None: there was none."""
        mine = self.by_node[run.node_id]
        for other in mine[bisect_right(mine, run.start_ns, key=_start) :]:
            if other.pid != run.pid:
                return other.start_us
        return None

    def _read(self, ledger: Iterable[JobLine]) -> None:
        open_: dict[tuple[str, int], Run] = {}
        for line in ledger:
            self.lines += 1
            key = (line.execution_id, line.token)
            run = open_.get(key)
            if line.event is Side.START:
                row = self.rows.get(line.execution_id)
                fresh = Run(
                    # The store's own string, where it has one: a million of them need not be there twice.
                    line.execution_id if row is None else row.id,
                    line.token,
                    line.attempt,
                    _intern(line.node_id),
                    line.pid,
                    line.wall_us,
                    line.mono_ns,
                    _intern(line.action),
                    None if line.schedule_id is None else _intern(line.schedule_id),
                    line.nominal_us,
                )
                if run is not None:
                    self.again.append(fresh)
                    continue
                open_[key] = fresh
                self.runs.setdefault(fresh.execution_id, []).append(fresh)
                if line.action in DEADLY or line.action in STIFLING:
                    self.deaths.setdefault(fresh.node_id, []).append(fresh)
            elif run is None:
                raise BadEvidence(
                    f"the ledger tells of the end of attempt {line.token} of execution {line.execution_id}, "
                    "and not of its start"
                )
            elif run.end_ns is None:
                run.end_us, run.end_ns, run.outcome, run.result = line.wall_us, line.mono_ns, line.outcome, line.result


def node(node_id: str | None) -> str:
    """A node as the target of a fault."""
    return f"node:{node_id}"


def _start(run: Run) -> int:
    return run.start_ns


def _token(attempt: AttemptRow) -> int:
    return attempt.token


__all__ = ["DEADLY", "SERVER", "STIFLING", "Matched", "Run", "Trouble", "node"]
