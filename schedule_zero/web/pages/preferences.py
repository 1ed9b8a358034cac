"""How one browser wants to see things: in which zone, light or dark. Kept in cookies that the page's switches set."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from zoneinfo import ZoneInfo

from msgspec import Struct

from schedule_zero.timing.zones import iana_zone
from schedule_zero.web.guard import cookies

TIME, ZONE, THEME = "sz_time", "sz_zone", "sz_theme"


class TimeIn(StrEnum):
    """How moments are written."""

    UTC = "utc"
    # In the zone of the schedule that they are of, if they are of one.
    SCHEDULE = "schedule"
    BROWSER = "browser"
    # "12 s ago".
    RELATIVE = "relative"


class Theme(StrEnum):
    AUTO = "auto"
    LIGHT = "light"
    DARK = "dark"


class Preferences(Struct, frozen=True):
    time: TimeIn = TimeIn.UTC
    # The browser's, as it says; UTC if it has not.
    zone: ZoneInfo = ZoneInfo("UTC")
    theme: Theme = Theme.AUTO


def preferences(headers: Mapping[str, str]) -> Preferences:
    """What the cookies say; anything else than what we wrote there counts as nothing."""
    said = cookies(headers)
    time, theme = said.get(TIME, ""), said.get(THEME, "")
    zone = iana_zone(said.get(ZONE, "").replace("%2F", "/"))
    return Preferences(
        time=TimeIn(time) if time in set(TimeIn) else TimeIn.UTC,
        zone=zone or ZoneInfo("UTC"),
        theme=Theme(theme) if theme in set(Theme) else Theme.AUTO,
    )
