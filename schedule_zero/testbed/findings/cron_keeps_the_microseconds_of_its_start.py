"""CronTrigger carries the microseconds of `start_time` into its fire times, with `second="*"` into all of them.

The finest field is the second, so one expects fire times on full seconds. The default start time is the moment in
which the trigger is made, which has microseconds nearly always.
"""

import sys
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger

start = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)
trigger = CronTrigger(second="*", start_time=start, timezone="UTC")
seen = ", ".join(f"{trigger.next():%H:%M:%S.%f}" for _ in range(3))
expected = "12:00:01.000000, 12:00:02.000000, 12:00:03.000000"
print(f"expected: {expected}")
print(f"seen: {seen}")
sys.exit(seen != expected)
