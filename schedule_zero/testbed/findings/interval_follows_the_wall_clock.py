"""IntervalTrigger adds its interval to the wall clock: two hours pass for one, or none.

"when you want to run the task at fixed intervals of time" (user guide, Scheduling tasks). One expects an hour between
two fires. Python's arithmetic on a datetime with a zone is that of its wall clock. And where the clock is set forward
the same moment comes twice, which triggers must not do: "next() must never return the same datetime twice"
(Extending APScheduler, Custom triggers).

The default start time is in the machine's zone, so that this concerns every machine that is not set to UTC.
"""

import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from apscheduler.triggers.interval import IntervalTrigger

NEW_YORK = ZoneInfo("America/New_York")


def hours_between(start):
    trigger = IntervalTrigger(hours=1, start_time=start)
    fires = [trigger.next().astimezone(UTC) for _ in range(6)]
    return [(later - earlier) // timedelta(hours=1) for earlier, later in pairwise(fires)]


seen = [hours_between(datetime(*day, 23, tzinfo=NEW_YORK)) for day in ((2026, 10, 31), (2027, 3, 13))]
print("expected: 1, 1, 1, 1, 1 hours in autumn, the same in spring")
print(f"seen: {', '.join(map(str, seen[0]))} hours in autumn, {', '.join(map(str, seen[1]))} in spring")
sys.exit(seen != [[1] * 5] * 2)
