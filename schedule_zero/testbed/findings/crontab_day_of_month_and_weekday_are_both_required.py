"""from_crontab("0 0 1 * MON") fires when the 1st is a Monday; cron fires on each 1st and on each Monday.

`CronTrigger` says of itself that it fires "when current time matches all specified time constraints". But
`from_crontab` takes "a standard crontab expression", and in that, says crontab(5), "if both fields are restricted …
the command will be run when either field matches the current time". So one expects that of `from_crontab`.
"""

import sys
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger

friday = datetime(2026, 11, 20, tzinfo=UTC)
trigger = CronTrigger.from_crontab("0 0 1 * MON", start_time=friday, timezone="UTC")
seen = ", ".join(f"{trigger.next():%Y-%m-%d}" for _ in range(3))
expected = "2026-11-23, 2026-11-30, 2026-12-01"
print(f"expected: {expected}")
print(f"seen: {seen}")
sys.exit(seen != expected)
