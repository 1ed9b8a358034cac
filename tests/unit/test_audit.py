"""The audit against definitions that go one by one: what is right it lets pass, what was tampered with it finds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schedule_zero.model import CatchUp
from schedule_zero.rules import audit
from schedule_zero.rules.audit import Entry, Finding, FindingKind, Link, Span, Tally, compare, compare_chain
from schedule_zero.rules.catchup import Circumstances, Frozen, Policy, decide
from schedule_zero.timing import parse_trigger

MISSED, DUPLICATE, EXTRA = FindingKind.MISSED, FindingKind.DUPLICATE, FindingKind.EXTRA


class Listed:
    """Nominal times given one by one."""

    def __init__(self, times: list[int], *, reach: int | None = None) -> None:
        self.times = sorted(set(times))
        self._reach = reach
        self.counted = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listed) and self.times == other.times

    def __hash__(self) -> int:
        return hash(tuple(self.times))

    def next_after(self, us: int) -> int | None:
        at = bisect_right(self.times, us)
        return self.times[at] if at < len(self.times) else None

    def last_before(self, us: int) -> int | None:
        at = bisect_left(self.times, us)
        return self.times[at - 1] if at else None

    def count(self, after_us: int, upto_us: int) -> int:
        self.counted += 1
        assert self._reach is None or upto_us <= after_us + self._reach
        return bisect_right(self.times, upto_us) - bisect_right(self.times, after_us)

    def reach(self, after_us: int, upto_us: int) -> int | None:
        return None if self._reach is None else after_us + self._reach


def span(times: list[int], after_us: int = 0, upto_us: int = 10_000, may_us: int | None = None) -> Span:
    return Span(Listed(times), after_us, upto_us, upto_us if may_us is None else may_us)


def rows(*entries: int | tuple[int, int, int]) -> list[Entry]:
    """7: a row of its own; (3, 9, 4): four nominal times from 3 to 9."""
    return [Entry(e) if isinstance(e, int) else Entry(e[0], e[2], e[1]) for e in entries]


def counts(tally: Tally) -> dict[str, int]:
    found = {"missed": tally.missed, "duplicate": tally.duplicate, "extra": tally.extra}
    return {name: count for name, count in found.items() if count}


# --- by example ---------------------------------------------------------------------------------------


def test_a_row_for_each_expected_time_is_in_order():
    tally = compare([span([10, 20, 30])], rows(10, 20, 30))

    assert (tally.ok, tally.exact, tally.expected, tally.recorded, tally.findings) == (True, True, 3, 3, [])


def test_what_has_no_row_is_missed_and_told_in_runs():
    tally = compare([span(list(range(10, 110, 10)))], rows(10, 20, 60, 100))

    assert counts(tally) == {"missed": 6}
    assert tally.findings == [Finding(MISSED, 30, 50, 3), Finding(MISSED, 70, 90, 3)]


def test_a_second_row_for_a_time_is_a_duplicate_and_a_row_for_no_time_is_extra():
    tally = compare([span([10, 20])], rows(10, 10, 10, 15, 20))

    assert counts(tally) == {"duplicate": 2, "extra": 1}
    assert tally.findings == [Finding(DUPLICATE, 10, 10, 2), Finding(EXTRA, 15, 15, 1)]
    assert (tally.expected, tally.recorded) == (2, 5)


def test_what_two_versions_expect_at_one_moment_is_expected_once():
    tally = compare([span([10, 20, 30], upto_us=30), span([20, 25], after_us=15)], rows(10, 20, 25, 30))

    assert tally.ok
    assert tally.expected == 4


def test_summarising_rows_that_interleave_are_right_if_their_counts_can_be_dealt_out():
    times = list(range(10, 110, 10))

    assert compare([span(times)], rows((10, 100, 6), (20, 90, 3), 50)).ok
    assert counts(compare([span(times)], rows((10, 100, 6), (20, 90, 4), 50))) == {"extra": 1}
    assert counts(compare([span(times)], rows((10, 100, 6), (20, 90, 2), 50))) == {"missed": 1}


def test_a_count_may_not_take_times_from_outside_its_own_range():
    # As many times as are counted; but four of them can't lie between 20 and 40.
    tally = compare([span(list(range(10, 90, 10)))], rows((20, 40, 5), (10, 80, 3)))

    assert counts(tally) == {"extra": 2, "missed": 2}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (Entry(10, 5), {"extra": 4}),
        (Entry(10, 5, 10), {"extra": 4}),
        (Entry(10, 0), {"missed": 1}),
        (Entry(10, -3), {"missed": 1}),
        (Entry(10, 2, 15), {"extra": 1}),
        (Entry(10, 2, 20), {"duplicate": 1}),
    ],
)
def test_a_count_that_is_not_what_its_row_has_room_for_is_found(entry, found):
    assert counts(compare([span([10, 20])], [entry, Entry(20)])) == found


def test_what_may_have_been_decided_is_neither_missed_nor_extra():
    ended = span([10, 20, 30, 40], upto_us=20, may_us=40)

    assert compare([ended], rows(10, 20)).ok
    assert compare([ended], rows(10, 20, 40)).ok
    assert compare([ended], rows(10, (20, 40, 3))).ok
    assert counts(compare([ended], rows(10, 20, 35))) == {"extra": 1}
    assert counts(compare([ended], rows(10, 20, 40, 40))) == {"duplicate": 1}


def test_findings_are_few_and_the_earliest_but_the_counts_are_complete():
    times = list(range(10, 10_000, 10))
    tally = compare([span(times)], rows(*times[::2]))

    assert tally.missed == 499
    assert len(tally.findings) == audit.MOST_FINDINGS
    assert [finding.from_us for finding in tally.findings] == times[1 : 2 * audit.MOST_FINDINGS : 2]


def test_versions_with_the_same_times_are_one_span():
    first, second = span([10, 20], upto_us=15), span([10, 20], after_us=15)
    apart = span([10, 20], after_us=16)

    assert audit.joined([second, first]) == [span([10, 20])]
    assert len(audit.joined([first, apart])) == 2


def test_overlapping_spans_are_told_from_others():
    assert not audit.overlap([span([], 0, 10), span([], 10, 20), span([], 15, 15), span([], 20, 30)])
    assert audit.overlap([span([], 0, 100), span([], 10, 20), span([], 30, 40)])


def test_counting_goes_as_far_at_a_time_as_is_cheap():
    times = Listed(list(range(0, 1000, 10)), reach=77)

    assert audit.expected_count([Span(times, 5, 905, 905)]) == 90
    assert times.counted == 12
    assert audit.expected_count([Span(Listed([1], reach=1), 0, 10_000, 10_000)]) is None


def test_ten_years_of_a_short_interval_are_counted_at_once():
    trigger = parse_trigger({"type": "interval", "milliseconds": 10}, now_us=0)
    ten_years_us = 10 * 365 * 86_400 * 1_000_000

    assert audit.expected_count([Span(trigger, 0, ten_years_us, ten_years_us)]) == ten_years_us // 10_000


def test_what_was_found_in_two_places_adds_up():
    tally = compare([span([10, 20])], rows(10))
    tally.add(compare([span([5])], rows(5, 7)))

    assert (tally.expected, tally.recorded, counts(tally)) == (3, 3, {"missed": 1, "extra": 1})
    assert [finding.from_us for finding in tally.findings] == [7, 20]


# --- by search ----------------------------------------------------------------------------------------


def deal_out(times: list[int], entries: list[Entry]) -> int:
    """How many times can be given to rows, by augmenting paths: as slow and as simple as can be."""
    seats = [
        (entry.nominal_us, entry.last_nominal_us)
        for entry in entries
        if entry.last_nominal_us is not None
        for _ in range(entry.count - 2)
    ]
    taken: dict[int, int] = {}

    def seat(us: int, tried: set[int]) -> bool:
        for number, (from_us, to_us) in enumerate(seats):
            if from_us < us < to_us and number not in tried:
                tried.add(number)
                if number not in taken or seat(taken[number], tried):
                    taken[number] = us
                    return True
        return False

    return sum(seat(us, set()) for us in times)


@st.composite
def summaries(draw: st.DrawFn) -> tuple[list[int], list[Entry]]:
    times = draw(st.lists(st.integers(1, 30), unique=True, max_size=14))
    ends = draw(st.lists(st.tuples(st.integers(0, 31), st.integers(1, 12), st.integers(2, 6)), max_size=4))
    return sorted(times), [Entry(low, count, low + length) for low, length, count in ends]


@given(summaries())
def test_as_many_times_are_dealt_out_as_can_be(case):
    times, entries = case
    own = {us for entry in entries for us in (entry.nominal_us, entry.last_nominal_us)}
    free = [us for us in times if us not in own]

    tally = compare([span(times)], entries)

    assert tally.missed == len(free) - deal_out(free, entries)
    # Every counted time is expected, a duplicate, or extra.
    assert tally.recorded == tally.expected - tally.missed + tally.duplicate + tally.extra


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[Listed, list[Entry], int]:
    """What the real rules write over a few rounds that come late, in whatever circumstances."""
    steps = draw(st.lists(st.integers(1, 40), min_size=3, max_size=60))
    times, us = [], 0
    for step in steps:
        us += step
        times.append(us)
    listed = Listed(times)
    entries: list[Entry] = []
    due: int | None = times[0]
    now = 0
    while due is not None and now < us + 50:
        now = max(now, due) + draw(st.integers(0, 400))
        freezes = []
        if draw(st.booleans()):
            low = draw(st.integers(0, now))
            freezes = [Frozen(from_us=low, to_us=min(now, low + 90), catch_up=draw(st.sampled_from([*CatchUp, None])))]
        policy = Policy(
            grace_us=draw(st.integers(0, 60)),
            window_us=draw(st.integers(1, 200)),
            catch_up=draw(st.sampled_from(list(CatchUp))),
            catch_up_max=3,
            coalesce=draw(st.booleans()),
            max_rows=draw(st.integers(1, 4)),
        )
        around = Circumstances(
            paused=draw(st.booleans()),
            resume_us=draw(st.integers(0, now)),
            skips=frozenset(draw(st.lists(st.sampled_from(times), max_size=4))),
            freezes=freezes,
        )
        while due is not None and due <= now:
            plan = decide(listed, due, now, policy, around)
            entries += [Entry(d.nominal_us, d.count, d.last_nominal_us) for d in plan.decisions]
            due = plan.next_us
    return listed, entries, now


@given(ledgers())
@settings(max_examples=300)
def test_what_the_rules_write_is_in_order(case):
    listed, entries, now = case

    tally = compare([Span(listed, 0, now, now)], entries)

    assert tally.ok, tally.findings
    assert tally.expected == tally.recorded == sum(entry.count for entry in entries) == listed.count(0, now)


@given(ledgers(), st.data())
@settings(max_examples=300)
def test_a_row_that_was_deleted_is_missed(case, data):
    listed, entries, now = case
    at = data.draw(st.integers(0, len(entries) - 1))

    tally = compare([Span(listed, 0, now, now)], entries[:at] + entries[at + 1 :])

    assert counts(tally) == {"missed": entries[at].count}


@given(ledgers(), st.data())
def test_a_row_that_was_repeated_is_a_duplicate(case, data):
    listed, entries, now = case
    entry = data.draw(st.sampled_from(entries))

    tally = compare([Span(listed, 0, now, now)], [*entries, entry])

    assert tally.duplicate == min(entry.count, 2)
    assert counts(tally).get("extra", 0) == entry.count - tally.duplicate


@given(ledgers(), st.data())
def test_a_row_for_a_time_that_nothing_expects_is_extra(case, data):
    listed, entries, now = case
    us = data.draw(st.integers(1, now))
    assume(us not in listed.times)

    assert counts(compare([Span(listed, 0, now, now)], [*entries, Entry(us)])) == {"extra": 1}


@given(ledgers(), st.data(), st.integers(-5, 5))
@settings(max_examples=300)
def test_a_count_that_was_changed_is_found_to_the_last_one(case, data, change):
    listed, entries, now = case
    at = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[at]
    assume(change and (entry.count > 2 or change > 0))
    change = max(change, 2 - entry.count) if entry.count > 1 else change
    assume(change)
    entries[at] = Entry(entry.nominal_us, entry.count + change, entry.last_nominal_us)

    tally = compare([Span(listed, 0, now, now)], entries)

    assert counts(tally) == ({"extra": change} if change > 0 else {"missed": -change})


# --- what follows the last run ------------------------------------------------------------------------


def chain(*steps: tuple[int, int | None], delay: int = 10) -> list[Link]:
    """(nominal, end of its execution; None: it had none) as a fixed delay would write them."""
    return [Link(nominal, nominal + 1, None if ended is None else f"x{nominal}", ended) for nominal, ended in steps]


def after_run(us: int) -> int | None:
    return us + 10 if us < 1000 else None


GOOD = chain((10, 15), (25, 40), (50, None), (61, 62), (72, 90))


def test_each_row_of_a_fixed_delay_follows_the_end_of_the_run_before():
    tally = compare_chain(GOOD, after_run)

    assert (tally.ok, tally.expected, tally.recorded) == (True, 5, 5)


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_link_that_is_gone_is_missed(gone):
    tally = compare_chain(GOOD[:gone] + GOOD[gone + 1 :], after_run)

    assert counts(tally) == {"missed": 1}
    assert tally.findings == [Finding(MISSED, GOOD[gone].nominal_us, GOOD[gone].nominal_us, 1)]


@pytest.mark.parametrize("at", range(1, 5))
def test_a_link_that_follows_nothing_is_extra_and_one_that_comes_twice_is_a_duplicate(at):
    strange = Link(GOOD[at].nominal_us - 1, GOOD[at].nominal_us, None)

    assert counts(compare_chain([*GOOD[:at], strange, *GOOD[at:]], after_run)) == {"extra": 1}
    assert counts(compare_chain([*GOOD[:at], GOOD[at - 1], *GOOD[at:]], after_run)) == {"duplicate": 1}


def test_what_follows_a_run_that_is_not_known_any_more_is_taken_as_it_is():
    forgotten = [*GOOD[:1], Link(25, 26, "x25", None), *GOOD[2:]]

    assert compare_chain(forgotten, after_run).ok


def test_a_fixed_delay_that_was_begun_anew_is_checked_against_its_new_beginning():
    links = [*chain((10, 15), (25, 40)), *chain((300, 310), (320, 330))]

    assert counts(compare_chain(links, after_run)) == {"missed": 1}
    assert compare_chain(links, after_run, [(200, 300)]).ok
    assert compare_chain(links, after_run, [(200, None)]).ok
    assert counts(compare_chain(links, after_run, [(200, 290)])) == {"missed": 1}


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=20))
def test_every_fixed_delay_that_follows_its_runs_is_in_order(runs):
    links, nominal = [], 10
    for lasts, executed in runs:
        decided = nominal + 1
        ended = decided + lasts if executed else None
        links.append(Link(nominal, decided, f"x{nominal}" if executed else None, ended))
        nominal = (decided if ended is None else ended) + 10

    assert compare_chain(links, lambda us: us + 10).ok
    assert all(before.nominal_us < after.nominal_us for before, after in pairwise(links))
