"""Does CalendarIntervalTrigger leave out more than the day whose midnight does not exist?

"If the resulting datetime is invalid due to a daylight saving forward shift, the date is discarded and the process
moves on to the next date" (`CalendarIntervalTrigger`). In Beirut clocks jump from 0:00 to 1:00 on 2027-03-28. One
expects the 28th to be discarded, as it says, and the 29th to be there. It is: our notes had this one wrong.
"""

import sys
from datetime import date

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger

trigger = CalendarIntervalTrigger(days=1, start_date=date(2027, 3, 26), timezone="Asia/Beirut")
seen = ", ".join(f"{trigger.next():%d}" for _ in range(4))
expected = "26, 27, 29, 30"
print(f"expected: {expected} March")
print(f"seen: {seen} March")
sys.exit(seen != expected)
