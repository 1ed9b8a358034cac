"""Whether the ledger is what the triggers say: each expected nominal time has exactly one row that accounts for it.

Pure. Expected is what the triggers in force answer, asked again; a *missed* time has no row, a *duplicate* one has
several, an *extra* row stands for a time that nothing expected. Where a range has more nominal times than one wants to
walk through, ``expected_count`` says by arithmetic how many there have to be.

A row with a count stands for itself, for its last nominal time, and for so many others between the two as make up the
count: which ones, it does not say, and such rows of one round interleave. They are right if the times that have no row
of their own can be dealt out among them; dealing each to the row that ends first finds such a way if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from heapq import heappop, heappush, merge

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.rules.catchup import NominalTimes

# Findings that are told one by one.
MOST_FINDINGS = 100
# Pieces in which the nominal times of one span may be counted (``Trigger.reach``).
MOST_PIECES = 1000


class Span(Struct, frozen=True):
    """A trigger in force: its nominal times in ``(after_us, upto_us]`` have to be decided."""

    times: NominalTimes
    after_us: int
    upto_us: int
    # Up to here they may have been, by a schedule that has ended or is not as far yet.
    may_us: int


class Entry(Struct, frozen=True, gc=False):
    """What the comparison needs of a ledger row."""

    nominal_us: int
    count: int = 1
    last_nominal_us: int | None = None


class Link(Struct, frozen=True, gc=False):
    """A ledger row of a schedule whose next time follows the end of the last run."""

    nominal_us: int
    decided_us: int
    execution_id: str | None = None
    # When its execution was over; None: it is not, or not known any more.
    ended_us: int | None = None

    @property
    def base_us(self) -> int | None:
        """What the next nominal time is counted from."""
        return self.decided_us if self.execution_id is None else self.ended_us


class FindingKind(StrEnum):
    MISSED = "missed"
    DUPLICATE = "duplicate"
    EXTRA = "extra"


class Finding(Struct, frozen=True):
    """``count`` nominal times from ``from_us`` to ``to_us`` that are not accounted for as they should be."""

    kind: FindingKind
    from_us: int
    to_us: int
    count: int


class Tally(Struct):
    """What a comparison found. ``findings`` is bounded; the counts are not."""

    expected: int = 0
    recorded: int = 0
    missed: int = 0
    duplicate: int = 0
    extra: int = 0
    findings: list[Finding] = []
    # Every nominal time was looked at, not only their number.
    exact: bool = True

    @property
    def ok(self) -> bool:
        return not (self.missed or self.duplicate or self.extra)

    def found(self, kind: FindingKind, from_us: int, to_us: int, count: int = 1) -> None:
        """Count it, and keep it among the findings while they are few."""
        setattr(self, kind.value, getattr(self, kind.value) + count)
        last = self.findings[-1] if self.findings else None
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(kind, from_us, to_us, count))
        elif last is not None and from_us < last.from_us:
            self.findings[-1] = Finding(kind, from_us, to_us, count)
        self.findings.sort(key=_place)

    def add(self, other: Tally) -> None:
        """Take in what was found elsewhere."""
        self.expected += other.expected
        self.recorded += other.recorded
        self.missed += other.missed
        self.duplicate += other.duplicate
        self.extra += other.extra
        self.findings = sorted(self.findings + other.findings, key=_place)[:MOST_FINDINGS]
        self.exact = self.exact and other.exact


def _place(finding: Finding) -> int:
    return finding.from_us


# --- spans ------------------------------------------------------------------------------------------


def clipped(spans: Iterable[Span], after_us: int, upto_us: int) -> list[Span]:
    """What of the spans lies in ``(after_us, upto_us]``."""
    cut = (
        replace(
            span,
            after_us=max(span.after_us, after_us),
            upto_us=min(span.upto_us, upto_us),
            may_us=min(span.may_us, upto_us),
        )
        for span in spans
    )
    return [span for span in cut if max(span.upto_us, span.may_us) > span.after_us]


def joined(spans: Iterable[Span]) -> list[Span]:
    """In order of time; those of the same times that follow each other, as one."""
    ordered: list[Span] = []
    for span in sorted(spans, key=lambda span: span.after_us):
        last = ordered[-1] if ordered else None
        if last is not None and last.times == span.times and span.after_us <= last.upto_us:
            ordered[-1] = replace(last, upto_us=max(last.upto_us, span.upto_us), may_us=max(last.may_us, span.may_us))
        else:
            ordered.append(span)
    return ordered


def overlap(spans: Sequence[Span]) -> bool:
    """Whether two of them (in order) may expect the same nominal time."""
    reached_us = None
    for span in spans:
        if span.upto_us <= span.after_us:
            continue
        if reached_us is not None and span.after_us < reached_us:
            return True
        reached_us = span.upto_us if reached_us is None else max(reached_us, span.upto_us)
    return False


def expected_count(spans: Iterable[Span]) -> int | None:
    """How many nominal times they expect, one by one; None if that can't be counted cheaply."""
    total = 0
    for span in spans:
        at_us, pieces = span.after_us, 0
        while at_us < span.upto_us:
            reach_us = span.times.reach(at_us, span.upto_us)
            end_us = span.upto_us if reach_us is None else min(span.upto_us, max(reach_us, at_us + 1))
            total += span.times.count(at_us, end_us)
            at_us, pieces = end_us, pieces + 1
            if pieces == MOST_PIECES and at_us < span.upto_us:
                return None
    return total


def expected_times(spans: Iterable[Span]) -> Iterator[int]:
    """The nominal times that any of them expects, each once and in order."""
    last_us = None
    for nominal_us in merge(*(_walk(span) for span in spans)):
        if nominal_us != last_us:
            yield nominal_us
        last_us = nominal_us


def _walk(span: Span) -> Iterator[int]:
    nominal_us = span.times.next_after(span.after_us)
    while nominal_us is not None and nominal_us <= span.upto_us:
        yield nominal_us
        nominal_us = span.times.next_after(nominal_us)


def _is_nominal(times: NominalTimes, us: int) -> bool:
    return times.next_after(us - 1) == us


# --- one by one ---------------------------------------------------------------------------------------


class _Range(Struct, eq=False):
    """A row with a count: ``left`` more nominal times between its first and its last."""

    from_us: int
    to_us: int
    left: int


def compare(spans: Sequence[Span], entries: Iterable[Entry]) -> Tally:
    """Compare what the spans expect with the rows, none of which may reach beyond the spans' range."""
    tally = Tally()
    own: dict[int, int] = {}
    ranges: list[_Range] = []
    for entry in entries:
        tally.recorded += entry.count
        _take_in(entry, own, ranges, tally)
    expected = list(expected_times(spans))
    tally.expected = len(expected)
    wanted = set(expected)
    for us, times in own.items():
        if us in wanted:
            if times > 1:
                tally.found(FindingKind.DUPLICATE, us, us, times - 1)
        elif any(span.upto_us < us <= span.may_us and _is_nominal(span.times, us) for span in spans):
            tally.expected += 1
            if times > 1:
                tally.found(FindingKind.DUPLICATE, us, us, times - 1)
        else:
            tally.found(FindingKind.EXTRA, us, us, times)
    missing = _deal([us for us in expected if us not in own], ranges)
    for run in _runs(missing, expected):
        tally.found(FindingKind.MISSED, run[0], run[1], run[2])
    for range_ in ranges:
        optional = 0 if range_.left <= 0 else _optional(spans, range_)
        tally.expected += min(optional, range_.left)
        if range_.left > optional:
            tally.found(FindingKind.EXTRA, range_.from_us, range_.to_us, range_.left - optional)
    return tally


def _take_in(entry: Entry, own: dict[int, int], ranges: list[_Range], tally: Tally) -> None:
    """Split a row into the moments that it names, and those that it only counts."""
    first_us, last_us = entry.nominal_us, entry.last_nominal_us
    if entry.count < 1:
        return
    own[first_us] = own.get(first_us, 0) + 1
    if entry.count == 1:
        return
    if last_us is None or last_us <= first_us:
        # It counts what it leaves no room for.
        tally.found(FindingKind.EXTRA, first_us, first_us, entry.count - 1)
        return
    own[last_us] = own.get(last_us, 0) + 1
    if entry.count > 2:
        ranges.append(_Range(first_us, last_us, entry.count - 2))


def _deal(free: list[int], ranges: list[_Range]) -> list[int]:
    """Deal the times without a row of their own out to the ranges; those that are left over."""
    ranges.sort(key=lambda range_: range_.from_us)
    left: list[int] = []
    # Begun and not full, the one that ends first on top.
    open_: list[tuple[int, int]] = []
    begun = 0
    for us in free:
        while begun < len(ranges) and ranges[begun].from_us < us:
            heappush(open_, (ranges[begun].to_us, begun))
            begun += 1
        while open_ and open_[0][0] <= us:
            heappop(open_)
        if not open_:
            left.append(us)
            continue
        range_ = ranges[open_[0][1]]
        range_.left -= 1
        if not range_.left:
            heappop(open_)
    return left


def _runs(missing: list[int], expected: list[int]) -> Iterator[tuple[int, int, int]]:
    """(first, last, how many) of those missing that follow each other."""
    lacks = set(missing)
    first_us = last_us = count = 0
    for us in expected:
        if us in lacks:
            first_us, last_us, count = (first_us if count else us), us, count + 1
        elif count:
            yield first_us, last_us, count
            count = 0
    if count:
        yield first_us, last_us, count


def _optional(spans: Sequence[Span], range_: _Range) -> int:
    """How many nominal times a range may count although nothing has to be decided there."""
    within = [
        Span(span.times, max(span.upto_us, range_.from_us), min(span.may_us, range_.to_us - 1), 0) for span in spans
    ]
    return expected_count([span for span in within if span.upto_us > span.after_us]) or 0


# --- what follows the last run --------------------------------------------------------------------------


def _began_before(start: tuple[int, int | None], link: Link) -> bool:
    # At the moment of a change the version that ends still has a row for what was due.
    us, first_us = start
    return us < link.decided_us or (us == link.decided_us and first_us is not None and link.nominal_us >= first_us)


def compare_chain(
    links: Iterable[Link], after_run: Callable[[int], int | None], starts: Iterable[tuple[int, int | None]] = ()
) -> Tally:
    """Compare the rows of a fixed delay with what has to follow each of them.

    ``starts`` are the moments at which it began anew, each with the nominal time that it began with (None: not
    known). The first row is expected where no start says otherwise: what came before it is not known here.
    """
    tally = Tally()
    todo = sorted(starts, key=lambda start: start[0])
    base: Link | None = None
    due_us: int | None = None
    for link in links:
        tally.recorded += 1
        began = False
        while todo and _began_before(todo[0], link):
            due_us = todo.pop(0)[1]
            base, began = None, True
        if base is not None and link.nominal_us == base.nominal_us:
            tally.found(FindingKind.DUPLICATE, link.nominal_us, link.nominal_us)
            continue
        if not began and base is not None:
            due_us = None if base.base_us is None else after_run(base.base_us)
        if due_us is not None and link.nominal_us < due_us:
            tally.found(FindingKind.EXTRA, link.nominal_us, link.nominal_us)
            continue
        if due_us is not None and link.nominal_us > due_us:
            tally.expected += 1
            tally.found(FindingKind.MISSED, due_us, due_us)
        tally.expected += 1
        base = link
    return tally
