"""CronTrigger returns a local time that the clock skips.

One expects each fire time to be a time of its zone: one that is the same after a conversion to UTC and back. In New
York 2:30 does not exist on 2027-03-14. (The issue is #1059, mended on master.)
"""

import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

NEW_YORK = ZoneInfo("America/New_York")

trigger = CronTrigger(hour=2, minute=30, start_time=datetime(2027, 3, 14, tzinfo=NEW_YORK), timezone=NEW_YORK)
time = trigger.next()
exists = time.astimezone(UTC).astimezone(NEW_YORK).replace(tzinfo=None) == time.replace(tzinfo=None)
print("expected: a time that exists")
print(f"seen: {f'{time:%Y-%m-%d %H:%M} does not exist' if not exists else 'a time that exists'}")
sys.exit(not exists)
