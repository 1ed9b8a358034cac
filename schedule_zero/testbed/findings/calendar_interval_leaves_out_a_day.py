"""CalendarIntervalTrigger leaves out the day after one whose time is skipped, if the gap reaches midnight.

"If the resulting datetime is invalid due to a daylight saving forward shift, the date is discarded and the process
moves on to the next date" (`CalendarIntervalTrigger`). In Nuuk clocks jump from 23:00 to 0:00 on 2027-03-27. One
expects the 27th to be discarded, as it says, and the 28th to be there. The skipped 23:30 becomes 0:30 of the 28th,
and the search goes on after that.
"""

import sys
from datetime import date

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger

trigger = CalendarIntervalTrigger(days=1, hour=23, minute=30, start_date=date(2027, 3, 26), timezone="America/Nuuk")
seen = ", ".join(f"{trigger.next():%d}" for _ in range(4))
expected = "26, 28, 29, 30"
print(f"expected: {expected} March")
print(f"seen: {seen} March")
sys.exit(seen != expected)
