"""When: the triggers, and the timer that turns their nominal times into fires.

The only importer of APScheduler (``datastore`` and ``timer``; the triggers don't need it).
"""

from __future__ import annotations

from schedule_zero.timing.parse import first_fire, load_trigger, parse_trigger, preview
from schedule_zero.timing.timer import Timer
from schedule_zero.timing.trigger import Trigger

__all__ = ["Timer", "Trigger", "first_fire", "load_trigger", "parse_trigger", "preview"]
