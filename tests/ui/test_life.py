"""A morning at the pages, by mouse and by keyboard alone: from signing in to taking a node out of service."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.site import Site, Visitor


class Mouse:
    """Points, clicks and types."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, what: Locator) -> None:
        what.click()

    def fill(self, field: Locator, text: str) -> None:
        field.click()
        field.fill(text)

    def choose(self, field: Locator, value: str) -> None:
        field.select_option(value)

    def go(self, name: str, key: str) -> None:
        self.page.locator("#nav").get_by_role("link", name=name).click()


class Keyboard(Mouse):
    """Never touches the mouse: gets to what it wants by Tab, as anybody would who can't see where to point."""

    def _reach(self, what: Locator) -> None:
        expect(what).to_be_visible()
        for _ in range(150):
            if what.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab never came to {what}")

    def press(self, what: Locator) -> None:
        self._reach(what)
        self.page.keyboard.press("Enter")

    def fill(self, field: Locator, text: str) -> None:
        self._reach(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def choose(self, field: Locator, value: str) -> None:
        self._reach(field)
        options = field.evaluate("field => [...field.options].map(option => option.value)")
        for _ in range(options.index(value)):
            self.page.keyboard.press("ArrowDown")
        assert field.input_value() == value

    def go(self, name: str, key: str) -> None:
        self.page.locator("body").evaluate("() => document.activeElement.blur()")
        self.page.keyboard.press("g")
        self.page.keyboard.press(key)


@pytest.fixture(scope="module")
def second_node(site: Site) -> Iterator[str]:
    """A node that may be taken out of service."""
    site.start_node("n2")
    yield "n2"
    site.nodes["n2"].kill()


@pytest.mark.slow
@pytest.mark.parametrize("hand", [Mouse, Keyboard])
def test_a_morning_at_the_pages(hand: type[Mouse], visitor: Visitor, site: Site, second_node: str) -> None:
    page, name = visitor.page, hand.__name__.lower()
    by = hand(page)

    # Make a schedule …
    by.go("Schedules", "s")
    page.wait_for_url("**/schedules")
    by.press(page.get_by_role("link", name="New schedule").first)
    page.wait_for_url("**/schedules/new*")
    by.choose(page.locator("#f-handler_id"), "chaos")
    expect(page.locator("#f-job_method")).to_contain_text("log")
    by.choose(page.locator("#f-job_method"), "log")
    expect(page.locator("#f-job_params-lines")).to_be_visible()
    by.choose(page.locator("#f-trigger-type"), "interval")
    by.fill(page.locator("#f-trigger-every"), "1s")
    by.fill(page.locator("#f-id"), f"life.{name}")
    by.press(page.get_by_role("button", name="Create"))

    # … and watch it run.
    page.wait_for_url(f"**/schedules/life.{name}")
    expect(page.get_by_role("heading", name=f"life.{name}")).to_be_visible()
    expect(page.locator("#main")).to_contain_text(re.compile(r"[1-9]\d* executed"))

    # One of its executions, and its log.
    by.press(page.get_by_role("link", name="Show all of it"))
    page.wait_for_url("**/executions?q=*")
    by.press(page.locator("#rows tbody tr a").first)
    page.wait_for_url(re.compile(r"/executions/[0-9a-z]{26}"))
    by.press(page.get_by_role("link", name="Log", exact=True))
    expect(page.locator("#main")).to_contain_text("number=9 text=chaos")

    # Pause it.
    page.goto(f"{site.url}/schedules/life.{name}")
    by.press(page.locator("#main summary", has_text="Pause"))
    by.press(page.locator("#main details[open]").get_by_role("button", name="Pause"))
    expect(page.locator("#main")).to_contain_text("paused")
    assert site.api.get(f"/api/schedules/life.{name}").json()["state"] == "paused"

    # Run again what has failed.
    failed = site.over(site.run("error", {"message": f"no luck for the {name}"}))["id"]
    page.goto(f"{site.url}/executions?q=state%3Afailed")
    by.press(page.locator(f"#x-{failed} a").first)
    page.wait_for_url(f"**/executions/{failed}")
    by.press(page.get_by_role("button", name=re.compile("^(Requeue|Retry)$")))
    expect(page.locator(".toast").first).to_be_visible()

    # Cancel everything that one search finds.
    for _ in range(3):
        site.run("hang", {}, options={"concurrency_key": f"life-{name}"})
    page.goto(f"{site.url}/executions?q=key%3Alife-{name}+state%3Aopen")
    expect(page.locator("#rows tbody tr")).to_have_count(3)
    by.press(page.get_by_role("link", name="Cancel …"))
    page.wait_for_url("**/executions/bulk*")
    by.press(page.get_by_role("button", name="Cancel 3"))
    page.wait_for_url("**/executions?*batch=*")
    expect(page.locator("#batches")).to_contain_text("3")

    # Empty a node.
    by.go("Nodes", "n")
    page.wait_for_url("**/nodes")
    by.press(page.locator(f"#node-{second_node}").get_by_role("button", name="Drain"))
    dialog = page.get_by_role("dialog", name="Please confirm")
    by.press(dialog.get_by_role("button", name="Drain"))
    expect(page.locator(f"#node-{second_node}")).to_contain_text("drain")
    site.post(f"/api/nodes/{second_node}/release", {})


HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "&lt;b&gt; \x1b[31m \N{RIGHT-TO-LEFT OVERRIDE} '\";--"
)


def test_nothing_that_jobs_say_becomes_markup(visitor: Visitor, site: Site) -> None:
    page = visitor.page
    echoed = site.over(site.run("ok", {"value": {HOSTILE: HOSTILE}}))["id"]
    failed = site.over(site.run("error", {"message": HOSTILE}))["id"]
    logged = site.over(site.run("log", {"lines": 3, "text": HOSTILE}))["id"]
    site.post(
        "/api/schedules",
        {
            "id": "hostile",
            "handler_id": "chaos",
            "job_method": "error",
            "job_params": {"message": HOSTILE},
            "trigger": {"type": "cron", "expression": "0 0 1 1 *"},
            "note": HOSTILE,
        },
    )
    site.post("/api/schedules/hostile/pause", {"note": HOSTILE})
    site.post("/api/nodes/n1/cordon", {"note": HOSTILE})
    site.post("/api/nodes/n1/release", {"note": HOSTILE})

    for path in (
        "/", "/schedules", "/schedules/hostile", "/schedules/hostile?tab=definition", "/schedules/hostile/edit",
        "/executions", f"/executions/{echoed}", f"/executions/{failed}", f"/executions/{logged}?tab=log",
        f"/executions/{failed}/retry-edit", "/dead-letters", "/nodes/n1", "/audit", "/forecast",
    ):  # fmt: skip
        visitor.open(path)
        assert "owned" not in page.title(), path
        assert page.locator("#main img[src='x']").count() == 0, path
        assert page.locator("#main script:not([type='application/json'])").count() == 0, path


def test_two_tabs_show_the_same_and_neither_disturbs_the_other(visitor: Visitor, site: Site) -> None:
    one, other = visitor.page, visitor.new_page()
    site.post(
        "/api/schedules",
        {
            "id": "tabs",
            "handler_id": "chaos",
            "job_method": "ok",
            "trigger": {"type": "cron", "expression": "0 0 1 1 *"},
        },
    )
    for tab in (one, other):
        tab.goto(f"{site.url}/schedules?q=tabs")
        expect(tab.locator("#live")).to_have_attribute("data-state", "live")
    field = one.locator("[data-search]")
    field.fill("tab")

    other.get_by_role("button", name=re.compile("^Pause")).last.click()

    expect(other.locator("tbody")).to_contain_text("paused")
    one.bring_to_front()
    assert field.input_value() == "tab"
    field.blur()
    one.mouse.move(0, 0)
    expect(one.locator("tbody").or_(one.locator(".pill")).first).to_contain_text(re.compile("paused|new"))
