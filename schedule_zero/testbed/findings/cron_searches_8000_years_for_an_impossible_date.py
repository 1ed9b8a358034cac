"""CronTrigger accepts 30 February, and then searches for it up to the year 9999, on the event loop.

The search tries each month anew; it took 0.1 to 0.3 s on our machines. A single fault of a user is enough to hold
everything else on that loop for so long. One expects ValueError when the trigger is made: a day that no month of the
list has cannot come.
"""

import sys
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger

steps = 0


class Counted(CronTrigger):
    def _increment_field_value(self, dateval, fieldnum):
        global steps
        steps += 1
        return super()._increment_field_value(dateval, fieldnum)


try:
    fires = Counted(month=2, day=30, start_time=datetime(2026, 11, 20, tzinfo=UTC), timezone="UTC").next()
    seen = f"accepted; next() is {fires} after {steps:,} steps"
except ValueError:
    seen = "ValueError"
print("expected: ValueError, or an answer after a few steps")
print(f"seen: {seen}")
sys.exit(steps > 100)
