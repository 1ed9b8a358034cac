"""CronTrigger reads the clock of `start_time` as if it were in the trigger's zone.

`start_time`: "earliest possible date/time to trigger on". From 13:00 UTC, 8:00 in New York, one expects "9 o'clock in
New York" today. The fields are compared with 13:00, so that it is 9:00 tomorrow. The default start time is in the
machine's zone: any trigger with another one is concerned. (The issue is #1061, mended on master.)
"""

import sys
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger

start = datetime(2026, 11, 20, 13, tzinfo=UTC)
seen = f"{CronTrigger(hour=9, start_time=start, timezone='America/New_York').next():%Y-%m-%d %H:%M %Z}"
expected = "2026-11-20 09:00 EST"
print(f"expected: {expected}")
print(f"seen: {seen}")
sys.exit(seen != expected)
