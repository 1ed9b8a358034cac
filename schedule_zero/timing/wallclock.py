"""What ``cron`` and ``calendar`` have in common: local times in a zone, asked in microseconds."""

from __future__ import annotations

from abc import abstractmethod
from zoneinfo import ZoneInfo

from schedule_zero.timing.trigger import SECOND_US, SpannedTrigger
from schedule_zero.timing.walltime import WallTimes


class WallClockTrigger(SpannedTrigger):
    """Local times of one zone, each in whole seconds."""

    __slots__ = ()

    zone: ZoneInfo

    @property
    @abstractmethod
    def times(self) -> WallTimes:
        """The local times, in UTC seconds."""

    def _next_after(self, us: int, upto_us: int) -> int | None:
        utc = self.times.next_after(us // 1_000_000, upto_us // 1_000_000)
        return None if utc is None else utc * 1_000_000

    def _last_before(self, us: int, from_us: int) -> int | None:
        # Rounded up: 10.5 s has 10 s before it, 10.0 s has not; and what begins at 10.5 s begins at 11 s.
        utc = self.times.last_before(-(-us // 1_000_000), -(-from_us // 1_000_000))
        return None if utc is None else utc * 1_000_000

    def _count(self, after_us: int, upto_us: int) -> int:
        return self.times.count(after_us // 1_000_000, upto_us // 1_000_000)

    @property
    def zone_key(self) -> str:
        return self.zone.key

    def marks(self, us: int) -> tuple[str, ...]:
        return self.times.marks(us // SECOND_US)

    @property
    def per_day(self) -> float:
        return float(self.times.pattern.times.total)

    def grid_us(self, after_us: int, upto_us: int) -> int | None:
        # Inside one stretch of the zone the grid of the local times is one of absolute time as well. Its first moment
        # may be made up for after a gap, and then lies on no grid.
        after, upto = after_us // SECOND_US, upto_us // SECOND_US
        stretch = self.times.stretch_at(after)
        return self.times.pattern.times.grid_s * SECOND_US if stretch.start < after and upto < stretch.end else None
