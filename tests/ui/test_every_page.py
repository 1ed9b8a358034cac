"""Every page, light and dark, wide and narrow: no barriers by axe, no complaints in the console, no sideways scroll."""

from __future__ import annotations

import pytest

from schedule_zero.web.pages.shell import NAVIGATION
from tests.ui.site import Site, Visitor

PATHS = [entry.path for entry in NAVIGATION]


@pytest.fixture(scope="module", autouse=True)
def something_to_see(site: Site) -> None:
    """Schedules, and executions of each kind."""
    site.post(
        "/api/schedules",
        {
            "schedules": [
                {
                    "id": f"page.{number}",
                    "handler_id": "chaos",
                    "job_method": "ok",
                    "trigger": {"type": "cron", "expression": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"},
                    "note": "<b>seen by everybody</b>",
                }
                for number in range(3)
            ]
        },
    )
    for method in ("ok", "error"):
        site.over(site.run(method, {}))


@pytest.mark.parametrize("path", PATHS)
def test_the_page_has_no_barriers_in_any_light_or_width(path: str, visitor: Visitor) -> None:
    visitor.open(path)

    wrong = {
        (colours, width): visitor.look(dark=colours == "dark", width=width)
        for colours in ("light", "dark")
        for width in (1280, 390)
    }

    assert not any(wrong.values()), wrong
