"""What was: counts and times by buckets of equal length, as charts show them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.errors import InvalidField
from schedule_zero.ops.series import Series
from schedule_zero.rules import series as rules
from schedule_zero.rules.series import HOUR_US, MINUTE_US, Bucket, Spread, Stats, longer_than, spread_of
from schedule_zero.store import Store
from schedule_zero.store import series as store_series

if TYPE_CHECKING:
    from sqlalchemy import Connection

SPARK_MINUTES = 60
LATENESS_MINUTES = 5
# A fire that is decided so long after it was due, is late.
LATE_US = 1_000_000


class SeriesView(Struct, frozen=True, kw_only=True):
    """``[from_us, to_us)`` in buckets; ``failed`` counts the failures of all of it by handler, the most first."""

    from_us: int
    to_us: int
    step_us: int
    buckets: list[Bucket]
    failed: list[tuple[str, int]]


class Spark(Struct, frozen=True, kw_only=True):
    """The last hour by the minute, from ``from_us`` on; the last minute is not over. None: the server was not there.

    ``late`` counts fires that were decided more than a second after they were due; ``lateness`` is of the last five
    minutes.
    """

    from_us: int
    completed: list[int]
    failed: list[int]
    fires: list[int]
    late: list[int]
    lateness: Spread | None
    open: list[int | None]
    running: list[int | None]


class SeriesService:
    """Reads only; each costs what the range says, however many executions there were."""

    def __init__(self, *, store: Store, series: Series, clock: Clock) -> None:
        self._store = store
        self._series = series
        self._clock = clock

    async def read(
        self, from_us: int | None = None, to_us: int | None = None, step_s: float | None = None
    ) -> SeriesView:
        """What was counted from a moment (an hour back) to another (now), in buckets of at least ``step_s`` seconds.

        The first begins at a multiple of its length, and those to come are left out. InvalidField: the range is empty,
        or would have too many buckets.
        """
        now_us = self._clock.wall_us()
        # The present moment is part of what is asked for without an end.
        end_us = now_us + 1 if to_us is None else min(to_us, now_us + 1)
        to_us = now_us if to_us is None else to_us
        from_us = max(0, to_us - HOUR_US) if from_us is None else from_us
        if to_us <= from_us:
            raise InvalidField("the end of the range does not lie after its start", parameter="until")
        step_us = rules.step_us(from_us, to_us, step_s)
        if step_us is None and step_s is None:
            most_s = rules.USUAL_BUCKETS * rules.STEPS_S[-1]
            raise InvalidField(f"expected a range of at most {most_s // 86_400} days", parameter="since")
        if step_us is None:
            raise InvalidField(
                f"expected at most {rules.MOST_BUCKETS} buckets, got more of {step_s:g} s: make them longer",
                parameter="step_s",
            )
        from_us -= from_us % step_us
        end_us = max(from_us, end_us)
        # What is in memory is taken first: it is all that lies behind, so nothing is counted twice.
        memory_us = self._series.complete_from_us
        recent = self._series.recent(max(from_us, memory_us), end_us)
        if from_us >= memory_us:
            found = rules.buckets(recent, from_us, end_us, step_us)
        else:
            found = await self._store.read(
                partial(_read, recent=recent, from_us=from_us, memory_us=memory_us, end_us=end_us, step_us=step_us)
            )
        failed = rules.total(bucket.stats for bucket in found).failed
        return SeriesView(
            from_us=from_us,
            to_us=to_us,
            step_us=step_us,
            buckets=found,
            failed=sorted(failed.items(), key=lambda one: (-one[1], one[0])),
        )

    def spark(self) -> Spark:
        """The last hour, from memory alone."""
        now_us = self._clock.wall_us()
        from_us = now_us - now_us % MINUTE_US - (SPARK_MINUTES - 1) * MINUTE_US
        there = dict(self._series.recent(from_us, now_us + 1))
        minutes = [there.get(from_us + index * MINUTE_US) or Stats() for index in range(SPARK_MINUTES)]
        return Spark(
            from_us=from_us,
            completed=[one.ended.get("completed", 0) for one in minutes],
            failed=[sum(one.failed.values()) for one in minutes],
            fires=[sum(one.fires.values()) for one in minutes],
            late=[longer_than(LATE_US, one.lateness) for one in minutes],
            lateness=spread_of(rules.total(minutes[-LATENESS_MINUTES:]).lateness),
            open=[one.open for one in minutes],
            running=[one.running for one in minutes],
        )


def _read(
    conn: Connection, *, recent: Iterable[tuple[int, Stats]], from_us: int, memory_us: int, end_us: int, step_us: int
) -> list[Bucket]:
    stored = store_series.between(conn, rules.unit_us(step_us), from_us, min(memory_us, end_us))
    return rules.buckets([*stored, *recent], from_us, end_us, step_us)
