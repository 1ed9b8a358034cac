"""What stands around every page: navigation with counts, the state of the system in the tab's title, switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from schedule_zero.model import NodeState
from schedule_zero.web.api.routing import Access, allowed
from schedule_zero.web.pages.preferences import Theme, TimeIn

if TYPE_CHECKING:
    from schedule_zero.web.pages.render import View


class Entry(Struct, frozen=True):
    """One line of the navigation."""

    path: str
    label: str
    icon: str
    # The key that goes there, after g.
    key: str
    access: Access = Access.VIEWER
    # On a narrow screen it stands in the bar at the bottom; others are behind "More".
    first: bool = False
    # Other paths that belong to it.
    also: tuple[str, ...] = ()


NAVIGATION = (
    Entry("/", "Overview", "layout-dashboard", "o", first=True),
    Entry("/schedules", "Schedules", "calendar-clock", "s", first=True),
    Entry("/executions", "Executions", "activity", "e", first=True, also=("/groups",)),
    Entry("/nodes", "Nodes", "server", "n", first=True),
    Entry("/handlers", "Handlers", "code", "h"),
    Entry("/dead-letters", "Dead letters", "skull", "d", also=("/requeues",)),
    Entry("/forecast", "Forecast", "calendar-days", "f"),
    Entry("/testbed", "Test bed", "flask-conical", "t"),
    Entry("/audit", "Audit log", "history", "a", Access.OPERATOR),
    Entry("/settings", "Settings", "settings", "c", also=("/calendars", "/new-calendar")),
    Entry("/docs", "API and docs", "book-open", "r"),
)
TIME_WORDS = {
    TimeIn.UTC: "UTC",
    TimeIn.SCHEDULE: "Schedule's zone",
    TimeIn.BROWSER: "My zone",
    TimeIn.RELATIVE: "Relative",
}
THEME_WORDS = {Theme.AUTO: "As the system", Theme.LIGHT: "Light", Theme.DARK: "Dark"}


def shell(view: View, title: str) -> dict[str, Any]:
    """The variables that ``base.html`` needs; all of it is in memory."""
    request = view.request
    caller = request.principal
    service = request.service
    nodes = service.system.node_states()
    online, lost = nodes[NodeState.ONLINE], nodes[NodeState.LOST] + nodes[NodeState.SUSPECT]
    letters = sum(service.dead_letters.waiting.values())
    problems = [f"{letters:,} dead" if letters else "", f"{lost:,} lost" if lost else ""]
    trouble = ", ".join(filter(None, problems))
    counts = {"/nodes": f"{online}/{nodes.total()}", "/dead-letters": f"{letters:,}" if letters else ""}
    name = request.config.instance_name
    return {
        "title": title,
        "tab_title": f"{f'● {trouble} – ' if trouble else ''}{title} – {name}",
        "instance_name": name,
        "caller": caller,
        "xsrf_word": request.live.session.xsrf if request.live else "",
        "navigation": [entry for entry in NAVIGATION if allowed(caller.role, entry.access)],
        "nav_counts": counts,
        "nav_alarms": {path for path, wrong in (("/nodes", lost), ("/dead-letters", letters)) if wrong},
        "here": _here(request.path),
        "theme": view.preferences.theme,
        "times": TIME_WORDS,
        "time_in": view.preferences.time,
        "themes": THEME_WORDS,
        "now_us": view.now_us,
        "since_seq": request.since_seq,
        "preferences": view.preferences,
    }


def _here(path: str) -> str:
    found = [
        (len(prefix), entry.path)
        for entry in NAVIGATION
        for prefix in (entry.path, *entry.also)
        if path == prefix or path.startswith(f"{prefix.rstrip('/')}/")
    ]
    return max(found, default=(0, ""))[1]
