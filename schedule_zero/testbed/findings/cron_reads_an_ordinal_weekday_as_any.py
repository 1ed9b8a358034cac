"""CronTrigger reads `MON#1` (the first Monday of a month, in many crons) as any Monday, without a word.

APScheduler has its own way to say it, `day="1st mon"`. So one expects "Unrecognized expression 'MON#1' for field
'day_of_week'", as for other expressions that it does not know, or the first Monday. The regular expression for weekdays
is not anchored at its end: what follows the letters is dropped, so that `MON-FRI/2` is each weekday as well.
"""

import sys
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger

friday = datetime(2026, 11, 20, tzinfo=UTC)
try:
    seen = f"{CronTrigger(day_of_week='MON#1', start_time=friday, timezone='UTC').next():%Y-%m-%d}"
except ValueError:
    seen = "ValueError"
print("expected: ValueError, or the next first Monday, 2026-12-07")
print(f"seen: {seen}")
sys.exit(seen not in ("ValueError", "2026-12-07"))
