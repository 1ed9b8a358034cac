"""Whose turn it is on a node that serves several handlers: shares and bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.job_options import Priority
from schedule_zero.rules.fairness import Claim, fairest, level

MINUTE_US = 60_000_000
T0_US = 1_700_000_000_000_000


class Server:
    """One slot that is always busy: each turn takes ``turn_us``; handlers always have something that waits."""

    def __init__(self, priorities, turn_us, *, fresh=frozenset()):
        self.priorities = priorities
        self.turn_us = turn_us
        # Handlers whose next one has only just come.
        self.fresh = fresh
        self.now_us = T0_US
        self.served = dict.fromkeys(range(len(priorities)), (0, 0))
        self.turns = []

    def turn(self):
        claims = [
            Claim(priority, self.now_us if number in self.fresh else T0_US, *self.served[number])
            for number, priority in enumerate(self.priorities)
        ]
        chosen = fairest(claims, self.now_us)
        self.turns.append(chosen)
        self.served[chosen] = (self.now_us, len(self.turns))
        self.now_us += self.turn_us
        return chosen


@given(st.integers(2, 6), st.integers(1, 200))
def test_equal_priorities_get_equal_turns_within_one(handlers, turns):
    server = Server([5] * handlers, turn_us=1_000)
    for _ in range(turns):
        server.turn()
        counts = [server.turns.count(number) for number in range(handlers)]
        assert max(counts) - min(counts) <= 1


def test_a_backlog_gives_no_claim_against_a_fresh_execution_of_equal_priority():
    backlog = Claim(5, T0_US - 90 * MINUTE_US, served_us=T0_US, turn=1)
    fresh = Claim(5, T0_US, served_us=0, turn=0)
    assert fairest([backlog, fresh], T0_US) == 1


def test_an_idle_handler_gains_no_credit_against_more_important_work():
    busy = Claim(Priority.CRITICAL, T0_US, served_us=T0_US - 1, turn=9)
    idle_for_a_day = Claim(Priority.LOW, T0_US, served_us=T0_US - 1440 * MINUTE_US, turn=1)
    assert fairest([idle_for_a_day, busy], T0_US) == 1


def test_of_equals_who_holds_less_is_next():
    holds_long_jobs = Claim(5, T0_US, served_us=T0_US - 5, turn=3, held=7)
    holds_little = Claim(5, T0_US, served_us=T0_US - 1, turn=4, held=2)
    assert fairest([holds_long_jobs, holds_little], T0_US) == 1


@settings(max_examples=30)
@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=5),
    st.sampled_from([100_000, 1_000_000, 20_000_000]),
)
def test_nobody_waits_longer_than_the_difference_in_priority_says(priorities, turn_us):
    server = Server(priorities, turn_us)
    spread = max(priorities) - min(priorities)
    bound_us = (spread + 1) * MINUTE_US + len(priorities) * turn_us
    last = dict.fromkeys(range(len(priorities)), T0_US)
    while server.now_us < T0_US + 3 * bound_us:
        at_us = server.now_us
        last[server.turn()] = at_us
        for number, served_us in last.items():
            assert server.now_us - served_us <= bound_us + turn_us, number


def test_low_gets_its_turn_beside_critical_that_never_ends():
    server = Server([Priority.LOW, Priority.CRITICAL], turn_us=1_000_000)
    while server.now_us < T0_US + 60 * MINUTE_US:
        server.turn()
    # Fourteen steps apart: one turn in fourteen minutes.
    assert 3 <= server.turns.count(0) <= 5


def test_a_clock_that_was_set_back_takes_nothing_away():
    assert level(Claim(5, T0_US, served_us=T0_US + 3600 * MINUTE_US), T0_US) == 5
