"""What became of each nominal time of a schedule, by what its jobs wrote and what is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.clock import to_us
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.nominal import plain_times


class Account(Struct):
    """Nominal times in microseconds since the epoch."""

    due: list[int]
    # Neither ran nor is it on record why not.
    lost: list[int] = []
    twice: list[int] = []
    # Something ran or is on record, and nothing was due.
    other: list[int] = []
    # How many of them ran.
    ran: int = 0
    # Fires on record that did not run, by their outcome, and by ``skipped:<reason>``.
    excused: Counter[str] = msgspec.field(default_factory=Counter)


def nominal_times(trigger: dict[str, Any]) -> Iterator[int]:
    """Worked out from the words of a trigger that is plain and has an end, and from nothing else."""
    times = plain_times(msgspec.json.encode(trigger))
    assert times is not None, "it is plain enough"
    us = times.next_after(0)
    while us is not None:
        yield us
        us = times.next_after(us)


def account(due: Iterable[int], runs: Iterable[Run], rows: Iterable[Any], *, there_us: int = 0) -> Account:
    """``runs`` and ``rows`` (``FireRecord``; of a bare APScheduler there are none): those of one schedule.

    Since ``there_us`` it was certainly there; what was due before, while it was being made, need not have run.
    """
    account = Account(list(due))
    expected = set(account.due)
    ran = Counter(run.nominal_us or 0 for run in runs)
    single, spans, told = set(), [], set()
    for row in rows:
        nominal_us = to_us(row.nominal_time)
        told.add(nominal_us)
        if row.outcome not in ("skipped", "missed"):
            continue
        account.excused[str(row.outcome)] += row.count
        if row.reason is not None:
            account.excused[f"{row.outcome}:{row.reason}"] += row.count
        if row.count > 1 and row.last_nominal_time is not None:
            spans.append((nominal_us, to_us(row.last_nominal_time)))
        else:
            single.add(nominal_us)
    account.lost = [
        us
        for us in account.due
        if us > there_us and not ran[us] and us not in single and not any(low <= us <= high for low, high in spans)
    ]
    account.twice = [us for us in account.due if ran[us] > 1]
    account.other = sorted((set(ran) | told) - expected)
    account.ran = sum(1 for us in account.due if ran[us])
    return account
