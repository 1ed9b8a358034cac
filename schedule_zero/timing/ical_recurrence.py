"""Recurrence rules of iCalendar (RFC 5545, 3.3.10), judged by their parts before any library follows them."""

from __future__ import annotations

from datetime import datetime

_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def probe(parts: dict[str, str], first: datetime) -> str:
    """A rule that matches if this one ever does, and is quick to say that it doesn't.

    ``dateutil`` steps a year of days in the time of ten days one by one. What the parts of a daily or weekly rule
    select are days of the year; only its interval selects among these.
    """
    probe = {name: value for name, value in parts.items() if name not in ("UNTIL", "COUNT")}
    if parts["FREQ"] in ("DAILY", "WEEKLY") and parts.get("INTERVAL", "1") == "1":
        if parts["FREQ"] == "WEEKLY":
            probe.setdefault("BYDAY", _DAYS[first.weekday()])
        probe["FREQ"] = "YEARLY"
    return ";".join(f"{name}={value}" for name, value in probe.items())


def times_a_year(parts: dict[str, str]) -> int:
    """An upper bound of a rule's matches in one year."""
    frequency = parts["FREQ"]
    said = {name: parts[name].split(",") for name in parts if name.startswith("BY")}
    # "The second Monday" is one of a period, "every Monday" as many as the period has.
    in_month = sum(1 if len(day) > 2 else 5 for day in said.get("BYDAY", ()))
    if frequency == "DAILY":
        days = 366
    elif frequency == "WEEKLY":
        days = 53 * len(said.get("BYDAY", "1"))
    elif frequency == "MONTHLY" or "BYMONTH" in said:
        months = len(said["BYMONTH"]) if "BYMONTH" in said else 12
        days = months * (len(said["BYMONTHDAY"]) if "BYMONTHDAY" in said else in_month or 1)
    elif "BYWEEKNO" in said:
        # Week 1 may come twice in a year: its end in January, its beginning in December.
        days = (len(said["BYWEEKNO"]) + 1) * len(said.get("BYDAY", "1234567"))
    elif "BYDAY" in said:
        days = sum(1 if len(day) > 2 else 53 for day in said["BYDAY"])
    else:
        days = 12 * len(said.get("BYMONTHDAY", ())) + len(said.get("BYYEARDAY", ())) or 1
    days = -(-min(days, 366) // int(parts.get("INTERVAL", "1")))
    for name in ("BYHOUR", "BYMINUTE", "BYSECOND"):
        days *= len(said.get(name, "1"))
    return days
