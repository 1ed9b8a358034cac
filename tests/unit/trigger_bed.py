"""What the tests of triggers share: documents of every type for hypothesis, and plain ways to list nominal times."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from schedule_zero.clock import to_us
from schedule_zero.timing import Trigger

Document = dict[str, Any]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Two weeks around changes of the clock: forward and back by an hour, by half an hour, a whole day left out, none.
PLACES = [
    ("Europe/Berlin", "2027-03-28"),
    ("Europe/Berlin", "2027-10-31"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2027-04-04"),
    ("Pacific/Apia", "2011-12-30"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("UTC", "2027-01-01"),
]


def middle_us(day: str) -> int:
    return to_us(datetime.fromisoformat(day).replace(tzinfo=UTC))


def forward(trigger: Trigger, after_us: int, upto_us: int, most: int = 100_000) -> list[int]:
    """The nominal times in ``(after_us, upto_us]``, asked one by one."""
    found: list[int] = []
    us = trigger.next_after(after_us)
    while us is not None and us <= upto_us and len(found) < most:
        found.append(us)
        us = trigger.next_after(us)
    return found


def backward(trigger: Trigger, after_us: int, upto_us: int, most: int = 100_000) -> list[int]:
    """The same from the end, in order of time."""
    found: list[int] = []
    us = trigger.last_before(upto_us + 1)
    while us is not None and us > after_us and len(found) < most:
        found.append(us)
        us = trigger.last_before(us)
    return found[::-1]


def policies() -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(
        {},
        optional={
            "dst_gap": st.sampled_from(["shift", "skip"]),
            "dst_fold": st.sampled_from(["first", "second", "both"]),
        },
    )


def spans(middle: int) -> st.SearchStrategy[Document]:
    """Often open; else a start before and an end after the middle, to the microsecond."""
    return st.fixed_dictionaries(
        {},
        optional={
            "start": st.integers(middle - 3 * DAY, middle).map(lambda us: us / SECOND),
            "end": st.integers(middle, middle + 3 * DAY).map(lambda us: us / SECOND),
        },
    )


def crons(zone: str) -> st.SearchStrategy[Document]:
    expressions = st.builds(
        " ".join,
        st.tuples(
            st.sampled_from(["0", "30", "*/20", "*", "7,52", "H", "H/15", "H(0-29)/10"]),
            st.sampled_from(["*", "0", "2", "1-3", "*/6", "8-18", "23", "H", "H(0-7)"]),
            st.sampled_from(["*", "*", "*", "1", "L", "LW", "28-31", "*/2", "H"]),
            st.sampled_from(["*", "*", "*", "3,10", "MAR-NOV", "12"]),
            st.sampled_from(["*", "*", "SUN", "1-5", "5L", "SUN#1", "7"]),
        ),
    )
    with_seconds = st.builds("{} {}".format, st.sampled_from(["0", "*", "*/10", "15"]), expressions)
    return st.builds(
        lambda expression, policy: {"type": "cron", "expression": expression, "timezone": zone, "seed": "s", **policy},
        expressions | with_seconds,
        policies(),
    )


def calendars(zone: str, day: str) -> st.SearchStrategy[Document]:
    start = datetime.fromisoformat(day).replace(day=1).date()
    units = st.one_of(
        st.builds(lambda n: {"days": n}, st.integers(1, 4)),
        st.builds(
            lambda n, on: {"weeks": n, "on": on},
            st.integers(1, 2),
            st.lists(st.sampled_from(["MON", "WED", "FRI", "SAT", "SUN"]), min_size=1, max_size=3),
        ),
        st.builds(
            lambda n, on: {"months": n, "on": on},
            st.integers(1, 2),
            st.sampled_from(["last sunday", "1st sunday", "31st day", "last weekday", "5th sunday", "30th day"]),
        ),
        st.just({"years": 1}),
    )
    return st.builds(
        lambda unit, at, policy: {
            "type": "calendar",
            "at": at,
            "start_date": start.isoformat(),
            "timezone": zone,
            **unit,
            **policy,
        },
        units,
        st.sampled_from(["02:30", "00:00", "02:00", "23:59:30", "12:00", "01:59:59"]),
        policies(),
    )


def intervals(middle: int) -> st.SearchStrategy[Document]:
    periods = st.sampled_from([7, 10, 60, 90, 300, 1800, 3600, 5400, 43_200, 86_400])
    anchors = st.sampled_from([0, 0, 30, 1800, 10 * 3600]).map(lambda s: middle // SECOND - 9 * 86_400 + s)
    return st.builds(lambda period, start: {"type": "interval", "seconds": period, "start": start}, periods, anchors)


def dates(middle: int) -> st.SearchStrategy[Document]:
    moments = st.integers(-96, 96).map(lambda quarters: middle // SECOND + quarters * 900)
    return st.builds(lambda run: {"type": "date", "run_date": run}, moments)


@lru_cache
def singles(zone: str, day: str) -> st.SearchStrategy[Document]:
    middle = middle_us(day)
    plain = dates(middle) | intervals(middle) | crons(zone) | crons(zone) | calendars(zone, day)
    return st.builds(
        lambda document, span: document if document["type"] in {"date", "calendar", "interval"} else document | span,
        plain,
        spans(middle),
    )


@lru_cache
def combinations(zone: str, day: str) -> st.SearchStrategy[Document]:
    """One to three levels of them, around singles."""
    middle = middle_us(day)

    def around(inner: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
        several = st.lists(inner, min_size=2, max_size=3)
        return st.one_of(
            st.builds(lambda triggers, span: {"type": "or", "triggers": triggers, **span}, several, spans(middle)),
            st.builds(lambda triggers, span: {"type": "and", "triggers": triggers, **span}, several, spans(middle)),
            st.builds(
                lambda trigger, removed, span: {"type": "except", "trigger": trigger, "except": removed, **span},
                inner,
                inner,
                spans(middle),
            ),
        )

    return around(st.recursive(singles(zone, day), around, max_leaves=4))


@lru_cache
def any_document(zone: str, day: str) -> st.SearchStrategy[Document]:
    """Of every type that has nominal times of its own."""
    return singles(zone, day) | combinations(zone, day)
