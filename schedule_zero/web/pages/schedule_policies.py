"""Policies and options of a schedule as a page shows them: what is in force, and who said so. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from schedule_zero.config import TimingConfig
from schedule_zero.model import NO_POLICIES, BusinessDays, Schedule
from schedule_zero.rules.options import DEFAULTS, NAMES, StoredOptions
from schedule_zero.rules.policies import policies_of
from schedule_zero.web.pages import words

# What each policy decides, for those whose name does not tell.
MEANINGS = {
    "misfire_grace_s": "A fire that is at most so late simply runs",
    "catch_up": "What becomes of fires that are later than that",
    "catch_up_window_s": "How far back it is made up for",
    "catch_up_max": "With all: at most so many",
    "coalesce": "Of several that are due at once, only the latest runs",
    "overlap": "While an earlier run is not over",
    "max_fires": "Finished after so many runs",
    "max_failures": "Paused after so many failures in a row",
    "keep_s": "How long its executions are kept",
    "keep_last": "How many of its executions are kept",
    "jitter_s": "Each run starts up to so much later",
    "jitter": "How that is drawn",
    "exclude": "No fire inside these calendars",
    "require": "No fire outside these calendars",
    "business_days": "What becomes of a fire on another day",
    "broadcast": "Each run goes to every node that matches",
    "shards": "Each run is so many parts",
}


class Setting(Struct, frozen=True):
    """One policy or option. ``origin``: schedule, method, server (its configuration) or default."""

    name: str
    value: str
    origin: str
    meaning: str = ""

    @property
    def said(self) -> bool:
        """Whether somebody said it for this schedule or its method."""
        return self.origin not in ("default", "server")


def policies(row: Schedule, timing: TimingConfig) -> list[Setting]:
    """All of them, those first that the schedule says."""
    found = policies_of(row.policies)
    grace = "server" if row.misfire_grace_s == timing.misfire_grace_s else "schedule"
    settings = [Setting("misfire_grace_s", words.duration(row.misfire_grace_s), grace, MEANINGS["misfire_grace_s"])]
    for name in found.__struct_fields__:
        value, default = getattr(found, name), getattr(NO_POLICIES, name)
        origin = "default" if value == default else "schedule"
        if name == "catch_up_window_s" and value is None:
            value, origin = timing.catch_up_window_s, "server"
        settings.append(Setting(name, _text(name, value), origin, MEANINGS.get(name, "")))
    return sorted(settings, key=lambda one: not one.said)


def options(stored: StoredOptions) -> list[Setting]:
    """All of them, those first that somebody says."""
    said = stored.sources
    settings = [
        Setting(name, _text(name, getattr(stored, name)), said[name].value if name in said else "default")
        for name in NAMES
        if name in said or getattr(DEFAULTS, name) not in (None, ())
    ]
    return sorted(settings, key=lambda one: not one.said)


def _text(name: str, value: Any) -> str:
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, BusinessDays):
        return f"{value.rule.value} (calendar {value.calendar}, version {value.version})"
    if isinstance(value, tuple):
        return ", ".join(_text(name, part) for part in value)
    if isinstance(value, StrEnum):
        return value.value.replace("_", " ")
    if name.endswith("_s") and isinstance(value, int | float):
        return words.duration(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
