"""Which nominal times had to be decided, and whether each has its row (C2).

What the versions of a schedule owe is put together as the product's own audit does; *when* that is, is worked out
from the trigger's document in ``nominal`` where that covers it, and asked of the product's triggers elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from schedule_zero.clock import rfc3339
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.rules.audit import (
    Entry,
    Finding,
    FindingKind,
    Link,
    Span,
    Tally,
    clipped,
    compare,
    compare_chain,
    expected_count,
    joined,
    overlap,
)
from schedule_zero.rules.policies import policies_of
from schedule_zero.rules.states import TERMINAL
from schedule_zero.testbed.final import Book, FireRow
from schedule_zero.testbed.history import SERVER
from schedule_zero.testbed.matching import Matched
from schedule_zero.testbed.nominal import PlainCron, PlainTimes, plain_times
from schedule_zero.testbed.verdicts import Report, Verdict
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.spans import Owed, Version, owed
from schedule_zero.timing.trigger import LATEST_US, Trigger

# Nominal times of one generation that are walked through; beyond that they are counted between the rows.
MOST = 3_000_000
# A second opinion is had on spans of this length.
PLAIN_SPAN_US = 400 * 86_400_000_000
OVER = frozenset(state.value for state in TERMINAL)

Key = tuple[str, int]


def check_expected(m: Matched, rows: dict[Key, list[FireRow]], report: Report) -> None:
    """Compare each generation that is known with its rows."""
    versions: dict[Key, list[Version]] = {}
    for version in m.final.versions:
        key = (version.schedule.id, version.schedule.generation)
        versions.setdefault(key, []).append(Version(version.schedule, version.from_us, version.to_us))
    for row in m.final.schedules:
        key = (row.schedule.id, row.schedule.generation)
        versions.setdefault(key, []).append(Version(row.schedule, row.schedule.updated_us, None))
    triggers = Triggers(m)
    for key, known in versions.items():
        known.sort(key=_number)
        subject = f"schedule {key[0]}" + (f" generation {key[1]}" if key[1] > 1 else "")
        try:
            _generation(m, subject, known, rows.get(key, []), triggers, report)
        except ScheduleZeroError as error:
            report.note(f"{subject}: what was expected can't be told: {error}")


class Triggers:
    """The trigger of each version, and the second opinion on it."""

    def __init__(self, m: Matched) -> None:
        starts = [life.started_us for life in m.final.lives] or [0]
        self._resolver = Resolver(starts[-1], Book(m.final))
        self._resolver.started_before(starts)
        self._plain: dict[bytes, PlainTimes | None] = {}
        # Trigger → its second opinion. (The resolver gives equal documents one trigger, which is kept alive here.)
        self._of: dict[int, tuple[Trigger, PlainTimes]] = {}

    def of(self, row: Schedule) -> Trigger:
        """As it is fired. InvalidTrigger, InvalidCalendar."""
        trigger = self._resolver.trigger(row)
        if policies_of(row.policies).business_days is None:
            if row.trigger not in self._plain:
                self._plain[row.trigger] = plain_times(row.trigger)
            plain = self._plain[row.trigger]
            if plain is not None:
                self._of[id(trigger)] = (trigger, plain)
        return trigger

    def second(self, span: Span) -> Span:
        """The span with the second opinion on its times, where there is one."""
        found = self._of.get(id(span.times))
        if found is None:
            return span
        if isinstance(found[1], PlainCron) and span.upto_us - span.after_us > PLAIN_SPAN_US:
            # Day by day, that would take too long.
            return span
        return replace(span, times=found[1])


def _number(version: Version) -> int:
    return version.schedule.version


def _generation(
    m: Matched, subject: str, known: Sequence[Version], fires: Sequence[FireRow], triggers: Triggers, report: Report
) -> None:
    fires = sorted(fires, key=_nominal)
    until_us = _owed_until(m, known[-1], fires)

    def decided_upto(us: int) -> int | None:
        upto = [fire.last_nominal_us or fire.nominal_us for fire in fires if fire.nominal_us <= us]
        return max(upto, default=None)

    first = known[0]
    known_us = first.from_us if first.schedule.version > 1 else -1
    found = owed(known, known_us, until_us, trigger_of=triggers.of, lives=m.final.lives, decided_upto=decided_upto)
    tally = _spans(subject, found, fires, triggers, report)
    for chain in found.chains:
        links = [_link(m, fire) for fire in fires if chain.after_us < fire.nominal_us <= chain.upto_us]
        starts = [start for start in chain.starts if start[0] >= found.known_after_us]
        tally.add(compare_chain(links, chain.after_run, starts))
    report.look("C2", tally.expected)
    for finding in tally.findings:
        _tell(subject, finding, report)
    _undecided(m, subject, known[-1], found, report)


def _owed_until(m: Matched, last: Version, fires: Sequence[FireRow]) -> int:
    """Up to when all has to be decided: before the next time of a schedule, or to its end, whatever the clock says."""
    row = last.schedule
    # A clock that ran ahead has decided what is still to come.
    until_us = max([m.until_us, *(fire.last_nominal_us or fire.nominal_us for fire in fires)])
    if last.to_us is not None:
        return until_us
    if row.next_fire_us is not None:
        return max(until_us, row.next_fire_us - 1)
    if row.state is ScheduleState.FINISHED and policies_of(row.policies).max_fires is None:
        return LATEST_US
    return until_us


def _spans(subject: str, found: Owed, fires: Sequence[FireRow], triggers: Triggers, report: Report) -> Tally:
    after_us = found.known_after_us
    if after_us >= 0:
        report.note(f"{subject}: its versions are known from {rfc3339(after_us)} on only")
    chains = [(chain.after_us, chain.upto_us) for chain in found.chains]
    entries: dict[int, Entry] = {}
    for fire in fires:
        if fire.nominal_us <= after_us or any(low < fire.nominal_us <= high for low, high in chains):
            continue
        # (A second row of one nominal time has been told already.)
        entries.setdefault(fire.nominal_us, Entry(fire.nominal_us, fire.count, fire.last_nominal_us))
    spans = joined(
        triggers.second(replace(span, after_us=max(span.after_us, after_us)))
        for span in found.spans
        if max(span.upto_us, span.may_us) > after_us
    )
    count = expected_count(spans)
    if count is not None and count <= MOST:
        return compare(spans, entries.values())
    if count is None or overlap(spans):
        report.note(f"{subject}: its nominal times are too many, and can't be counted")
        return Tally(exact=False)
    return _counted(spans, list(entries.values()))


def _counted(spans: Sequence[Span], entries: Sequence[Entry]) -> Tally:
    """The same by arithmetic: so many nominal times under the rows that reach over each other, and none beside them."""
    tally = Tally(exact=False)
    low_us, high_us = spans[0].after_us, max(span.upto_us for span in spans)
    at, after_us = 0, low_us
    while True:
        beside_us = entries[at].nominal_us - 1 if at < len(entries) else high_us
        _balance(tally, spans, after_us, beside_us, 0)
        if at == len(entries):
            return tally
        recorded, after_us = 0, entries[at].nominal_us
        while at < len(entries) and entries[at].nominal_us <= after_us:
            recorded += entries[at].count
            after_us = max(after_us, entries[at].last_nominal_us or entries[at].nominal_us)
            at += 1
        _balance(tally, spans, beside_us, after_us, recorded)


def _balance(tally: Tally, spans: Sequence[Span], after_us: int, upto_us: int, recorded: int) -> None:
    """So many are recorded in ``(after_us, upto_us]``; so many there have to be, and some more there may be."""
    expected = expected_count(clipped(spans, after_us, upto_us)) or 0
    may = [replace(span, after_us=max(span.after_us, span.upto_us), upto_us=span.may_us) for span in spans]
    most = expected + (expected_count(clipped(may, after_us, upto_us)) or 0)
    tally.expected += min(max(expected, recorded), most)
    tally.recorded += recorded
    if recorded < expected:
        tally.found(FindingKind.MISSED, after_us + 1, upto_us, expected - recorded)
    elif recorded > most:
        tally.found(FindingKind.EXTRA, after_us + 1, upto_us, recorded - most)


def _nominal(fire: FireRow) -> int:
    return fire.nominal_us


def _link(m: Matched, fire: FireRow) -> Link:
    row = None if fire.execution_id is None else m.rows.get(fire.execution_id)
    ended_us = None if row is None or row.state not in OVER else row.finished_us or row.stored_us
    return Link(fire.nominal_us, fire.decided_us, fire.execution_id, ended_us)


def _tell(subject: str, finding: Finding, report: Report) -> None:
    words = {
        FindingKind.MISSED: (Verdict.MISSED, "a nominal time has no row in the ledger"),
        FindingKind.DUPLICATE: (Verdict.DUPLICATE, "a nominal time is counted twice in the ledger"),
        FindingKind.EXTRA: (Verdict.EXTRA, "the ledger has a row for what is no nominal time"),
    }
    verdict, said = words[finding.kind]
    promise = "C1" if finding.kind is FindingKind.DUPLICATE else "C2"
    span = {"from": rfc3339(finding.from_us), "to": rfc3339(finding.to_us)}
    report.found(promise, verdict, subject, said, count=finding.count, **span)


def _undecided(m: Matched, subject: str, last: Version, found: Owed, report: Report) -> None:
    """What is due and was not decided, though a server was there for long enough."""
    row, until_us = last.schedule, m.until_us
    if last.to_us is not None or not m.final.lives or m.stepped(SERVER):
        return
    if row.state not in (ScheduleState.ACTIVE, ScheduleState.PAUSED):
        return
    due_us = row.next_fire_us
    if row.waits_for is not None:
        before = m.rows.get(row.waits_for)
        if before is not None and before.state in OVER:
            due_us = before.stored_us
    up_us = max(due_us or until_us, m.final.lives[-1].started_us)
    frozen = any(freeze.to_us is None or freeze.to_us >= until_us - m.late_us for freeze in m.final.freezes)
    if due_us is None or up_us > until_us - m.late_us or frozen or not m.terms.settled:
        return
    if m.trouble.any(until_us - m.late_us, until_us, SERVER):
        return
    said = f"it was due at {rfc3339(due_us)}, and a server was there until {rfc3339(until_us)}"
    report.found("C2", Verdict.MISSED, subject, said, undecided=rfc3339(found.undecided_us))
