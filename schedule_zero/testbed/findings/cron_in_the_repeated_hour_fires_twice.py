"""CronTrigger fires a daily job twice on the day when the clock is set back over its time.

"similarly to how the UNIX cron scheduler works" (`CronTrigger`). Vixie cron runs a job with a fixed hour once on that
day. One expects the same of "every day at 1:30" in New York, where on 2026-11-01 it is 1:30 twice.
"""

import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

NEW_YORK = ZoneInfo("America/New_York")

trigger = CronTrigger(hour=1, minute=30, start_time=datetime(2026, 11, 1, tzinfo=NEW_YORK), timezone=NEW_YORK)
seen = [trigger.next() for _ in range(2)]
print("expected: 2026-11-01 01:30 EDT, 2026-11-02 01:30 EST")
print(f"seen: {', '.join(f'{time:%Y-%m-%d %H:%M %Z}' for time in seen)}")
sys.exit(seen[1].day != 2)
