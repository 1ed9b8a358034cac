"""Verdicts on the ledger's rows: one for each nominal time, one execution for each that ran, in time (C1–C3, C12).

What had to be decided at all is in ``expected``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from schedule_zero.clock import rfc3339
from schedule_zero.model import CatchUp, Policies, Schedule, ScheduleState
from schedule_zero.rules.policies import policies_of
from schedule_zero.testbed.expected import check_expected
from schedule_zero.testbed.final import FireRow, Row
from schedule_zero.testbed.history import SERVER
from schedule_zero.testbed.matching import Matched
from schedule_zero.testbed.verdicts import Report, Verdict

# Rows that a round of catch-up does not write: they come with a change, or of what was to run.
ELSEWHERE = frozenset({"changed", "paused", "quarantined", "overlap", "backpressure", "duplicate", "no_node"})
# Whoever changes a schedule writes these of what it has not decided.
LEFT = frozenset({"changed", "paused"})
OUTCOMES = ("executed", "caught_up", "skipped", "missed")

Key = tuple[str, int]


class Rules(Struct):
    """What held for the fires of one generation, over all of its versions: the loosest."""

    versions: list[Schedule]
    policies: list[Policies]
    from_us: list[int]
    # From when to when it was active, of each version that is over.
    active: list[tuple[int, int]]

    @property
    def grace_us(self) -> tuple[int, int]:
        graces = [round(version.misfire_grace_s * 1e6) for version in self.versions]
        return min(graces), max(graces)

    @property
    def most_caught_up(self) -> int:
        return max(
            {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: policies.catch_up_max}[policies.catch_up]
            for policies in self.policies
        )


def check_fires(m: Matched, report: Report) -> None:
    """Everything that is to be said of the ledger."""
    rows: dict[Key, list[FireRow]] = {}
    for fire in m.final.fires:
        rows.setdefault((fire.schedule_id, fire.generation), []).append(fire)
    rules = _rules(m)
    _match(m, report)
    _balance(m, rows, report)
    causes = Causes(m)
    for key, fires in rows.items():
        known = rules.get(key)
        _order(key, fires, known, report)
        if known is None:
            report.note(
                f"no version of schedule {key[0]} generation {key[1]} is in the store: its fires can't be judged"
            )
        elif m.stepped(SERVER):
            report.note("the server's clock was set: how late fires were decided is not judged")
        else:
            _lateness(m, key, fires, known, causes, report)
            _slept(m, key, fires, known, causes, report)
            _catch_up(m, key, fires, known, report)
    check_expected(m, rows, report)


def named(key: Key) -> str:
    return f"schedule {key[0]}" + (f" generation {key[1]}" if key[1] > 1 else "")


def _rules(m: Matched) -> dict[Key, Rules]:
    rules: dict[Key, Rules] = {}
    for schedule, from_us in [
        *((version.schedule, version.from_us) for version in m.final.versions),
        *((row.schedule, row.schedule.updated_us) for row in m.final.schedules),
    ]:
        found = rules.setdefault((schedule.id, schedule.generation), Rules([], [], [], []))
        found.versions.append(schedule)
        found.policies.append(policies_of(schedule.policies))
        found.from_us.append(from_us)
    for version in m.final.versions:
        if version.schedule.state is ScheduleState.ACTIVE:
            key = (version.schedule.id, version.schedule.generation)
            rules[key].active.append((version.from_us, version.to_us))
    return rules


# --- rows and executions ------------------------------------------------------------------------------


def _match(m: Matched, report: Report) -> None:
    """Each row that ran has its execution (or the members of its group), and each execution of a fire its row."""
    made: dict[str, list[Row]] = {}
    for row in m.final.executions:
        if row.origin == "fire":
            made.setdefault(row.group_id or row.id, []).append(row)
    seen: set[tuple[str, int, int]] = set()
    claimed: set[str] = set()
    ran: set[tuple[str, int | None]] = set()
    gone = 0
    again = "C12" if m.stepped(SERVER) else "C1"
    for fire in m.final.fires:
        key = (fire.schedule_id, fire.generation, fire.nominal_us)
        if key in seen:
            report.found(again, Verdict.DUPLICATE, _at(fire), "a nominal time has two rows in the ledger", seq=fire.seq)
        seen.add(key)
        if not fire.ran:
            if fire.execution_id is not None:
                said = f"the ledger says {fire.outcome}, and yet there is an execution"
                report.found("C1", Verdict.UNBALANCED, _at(fire), said, execution_id=fire.execution_id)
            continue
        ran.add((fire.schedule_id, fire.nominal_us))
        unit = fire.execution_id or ""
        alone = m.rows.get(unit)
        rows = made.get(unit) or ([] if alone is None else [alone])
        if fire.execution_id is None or (not rows and gone >= m.final.removed):
            said = f"the ledger says {fire.outcome}, and there is no execution"
            report.found("C1", Verdict.MISSED, _at(fire), said, execution_id=fire.execution_id)
            continue
        gone += not rows
        if fire.execution_id in claimed:
            said = "two rows of the ledger name one execution"
            report.found("C1", Verdict.DUPLICATE, _at(fire), said, execution_id=fire.execution_id)
        claimed.add(fire.execution_id)
        for row in rows:
            if (row.schedule_id, row.nominal_us) != (fire.schedule_id, fire.nominal_us):
                said = f"its execution is of {row.schedule_id} at {rfc3339(row.nominal_us)}"
                report.found("C1", Verdict.UNBALANCED, _at(fire), said, execution_id=row.id)
    for unit, rows in made.items():
        if unit not in claimed:
            row = rows[0]
            verdict = Verdict.DUPLICATE if (row.schedule_id, row.nominal_us) in ran else Verdict.EXTRA
            said = "an execution is not in the ledger" if unit == row.id else "a group is not in the ledger"
            report.found("C1", verdict, _at(row), said, execution_id=unit)
    report.look("C1", len(m.final.fires) + len(made))
    _backfills(m, report)


def _at(what: FireRow | Row) -> str:
    return f"schedule {what.schedule_id} at {rfc3339(what.nominal_us)}"


def _backfills(m: Matched, report: Report) -> None:
    """A backfill makes one execution of each nominal time."""
    made = Counter((row.group_id, row.nominal_us) for row in m.final.executions if row.origin == "backfill")
    report.look("C1", len(made))
    for (backfill, nominal_us), times in made.items():
        if times > 1:
            said = f"a backfill made {times} executions of {rfc3339(nominal_us)}"
            report.found("C1", Verdict.DUPLICATE, f"backfill {backfill}", said, count=times - 1)


def _balance(m: Matched, rows: dict[Key, list[FireRow]], report: Report) -> None:
    """Expected = executed + caught_up + skipped + missed: the schedule's own totals are those of its rows."""
    for row in m.final.schedules:
        key = (row.schedule.id, row.schedule.generation)
        counted: Counter[str] = Counter()
        for fire in rows.get(key, ()):
            counted[fire.outcome] += fire.count
        report.look("C2")
        for outcome in OUTCOMES:
            told = getattr(row, outcome)
            if told != counted[outcome]:
                said = f"it says {told} {outcome}, its ledger {counted[outcome]}"
                report.found("C2", Verdict.UNBALANCED, named(key), said)


# --- one generation -----------------------------------------------------------------------------------


def _order(key: Key, fires: Sequence[FireRow], known: Rules | None, report: Report) -> None:
    """What ran, ran in the order of its nominal times, whatever was done to the clock."""
    if known is not None and any(b'"startup"' in version.trigger for version in known.versions):
        # A start is a nominal time by the clock of that start.
        return
    report.look("C12", len(fires))
    # The latest of the rounds before, and of this one: within a round, rows are written in no order.
    before_us = latest_us = 0
    round_us = None
    for fire in fires:
        if not fire.ran:
            continue
        if fire.decided_us != round_us:
            before_us, round_us = latest_us, fire.decided_us
        if fire.nominal_us < before_us:
            said = f"{rfc3339(fire.nominal_us)} was run after {rfc3339(before_us)}: it went back"
            report.found("C12", Verdict.REVIVED, named(key), said, seq=fire.seq)
        latest_us = max(latest_us, fire.nominal_us)


class Causes:
    """What may have kept a server from deciding: it was away, frozen, or something was done to it."""

    def __init__(self, m: Matched) -> None:
        self._m = m
        lives = m.final.lives
        # From when it was last seen until it was there again.
        self._away = [(life.stopped_us or life.alive_us, next_.started_us) for life, next_ in pairwise(lives)]
        if lives:
            self._away.insert(0, (0, lives[0].started_us))

    def any(self, from_us: int, to_us: int) -> bool:
        """Whether there was a cause between the two, or so shortly before that its end was still being made up for."""
        early_us = from_us - self._m.late_us
        if any(begin <= to_us and end >= early_us for begin, end in self._away):
            return True
        freezes = self._m.final.freezes
        if any(freeze.from_us <= to_us and (freeze.to_us is None or freeze.to_us >= early_us) for freeze in freezes):
            return True
        return self._m.trouble.any(early_us, to_us, SERVER)


def _lateness(m: Matched, key: Key, fires: Sequence[FireRow], known: Rules, causes: Causes, report: Report) -> None:
    least_us, _ = known.grace_us
    report.look("C2", len(fires))
    for fire in fires:
        late_us = fire.decided_us - (fire.last_nominal_us or fire.nominal_us)
        if -m.margin_us <= late_us <= least_us and (fire.outcome == "skipped" or late_us <= m.late_us):
            if fire.outcome in ("executed", "skipped"):
                continue
        elif fire.outcome == "skipped" and late_us > 0:
            continue
        subject = f"{named(key)} at {rfc3339(fire.nominal_us)}"
        evidence: dict[str, Any] = {"late_s": late_us / 1e6, "decided": rfc3339(fire.decided_us)}
        if late_us < -m.margin_us:
            report.found("C12", Verdict.EARLY, subject, "it was decided before it was due", **evidence)
        elif fire.outcome == "executed":
            if late_us > m.late_us and not _caused(fire, known, causes, m.late_us):
                said = f"it was decided {late_us / 1e6:.3g} s late, and nothing was in the way"
                report.found("C2", Verdict.LATE, subject, said, **evidence)
        elif late_us <= least_us - m.margin_us and not _caused(fire, known, causes, late_us):
            said = f"{fire.outcome}, though it was decided within the misfire grace"
            report.found("C2", Verdict.UNBALANCED, subject, said, **evidence)
        elif not _caused(fire, known, causes, least_us):
            said = f"{fire.outcome}, and nothing kept the server from deciding it in time"
            verdict = Verdict.MISSED if fire.outcome == "missed" else Verdict.LATE
            report.found("C2", verdict, subject, said, count=fire.count, **evidence)


def _slept(m: Matched, key: Key, fires: Sequence[FireRow], known: Rules, causes: Causes, report: Report) -> None:
    """What comes due while it is active is decided, and not left to whoever pauses or changes it much later."""
    for fire in fires:
        if fire.outcome != "skipped" or fire.reason not in LEFT:
            continue
        for from_us, to_us in known.active:
            if from_us < fire.nominal_us < to_us - m.late_us and not causes.any(to_us, to_us):
                waited_s = (to_us - fire.nominal_us) / 1e6
                said = f"{fire.reason}, though it was active for {waited_s:.3g} s more, and nothing was in the way"
                subject = f"{named(key)} at {rfc3339(fire.nominal_us)}"
                report.found("C2", Verdict.MISSED, subject, said, decided=rfc3339(fire.decided_us))


def _caused(fire: FireRow, known: Rules, causes: Causes, within_us: int) -> bool:
    """Whether something explains that a fire was not decided within so long after its nominal time."""
    due_us = fire.last_nominal_us or fire.nominal_us
    # A date that had just passed, or what a new version took over.
    if any(due_us <= from_us <= fire.decided_us for from_us in known.from_us):
        return True
    return causes.any(due_us, max(due_us, min(fire.decided_us, due_us + within_us)))


def _catch_up(m: Matched, key: Key, fires: Sequence[FireRow], known: Rules, report: Report) -> None:
    """At one moment no more is made up for than the policy says, nor are more rows written (C3)."""
    caught: Counter[int] = Counter()
    details: Counter[int] = Counter()
    for fire in fires:
        if fire.outcome == "caught_up":
            caught[fire.decided_us] += 1
        elif fire.outcome != "executed" and fire.count == 1 and fire.reason not in ELSEWHERE:
            details[fire.decided_us] += 1
    report.look("C3", len(caught) + len(details))
    windows = [policies.catch_up_window_s or m.terms.catch_up_window_s for policies in known.policies]
    window_us = round(max(windows) * 1e6) + m.late_us
    most = known.most_caught_up
    for fire in fires if caught else ():
        late_us = fire.decided_us - fire.nominal_us
        if fire.outcome == "caught_up" and late_us > window_us and not m.final.freezes:
            said = f"it was caught up {late_us / 1e6:.0f} s late; the window is {max(windows):g} s"
            report.found("C3", Verdict.UNBOUNDED, f"{named(key)} at {rfc3339(fire.nominal_us)}", said)
    for decided_us, times in caught.items():
        # Each freeze has a catch-up of its own.
        if times > most and not m.final.freezes:
            said = f"{times} were caught up at once, its policy allows {most}"
            report.found("C3", Verdict.UNBOUNDED, named(key), said, decided=rfc3339(decided_us))
    for decided_us, times in details.items():
        # One more for each fate: a sum of one.
        if times > m.terms.catch_up_rows + len(OUTCOMES) + len(ELSEWHERE):
            said = f"{times} rows for what did not run were written at once, not {m.terms.catch_up_rows} and a sum"
            report.found("C3", Verdict.UNBOUNDED, named(key), said, decided=rfc3339(decided_us))
