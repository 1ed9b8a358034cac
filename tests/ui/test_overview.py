"""The overview and the forecast in a browser: charts that are drawn, renewed, marked and recoloured; a map of heat."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.support import eventually_sync
from tests.ui.site import Site, Visitor

DRAWN = """chart => {
    const { width, height } = chart.querySelector("canvas");
    // (A copy: of a canvas that is drawn, reading it again and again is complained of.)
    const copy = Object.assign(document.createElement("canvas"), { width, height });
    const paper = copy.getContext("2d", { willReadFrequently: true });
    paper.drawImage(chart.querySelector("canvas"), 0, 0);
    const { data } = paper.getImageData(0, 0, width, height);
    const colours = new Set();
    for (let at = 0; at < data.length; at += 4) if (data[at + 3]) colours.add(data.slice(at, at + 3).join());
    return [...colours];
}"""
# The green of what went well, in light and in dark.
LIGHT_OK, DARK_OK = "23,107,58", "98,208,140"
BETWEEN = re.compile(r"since:(\S+Z) until:(\S+Z)")


@pytest.fixture(scope="module", autouse=True)
def something_to_see(site: Site) -> None:
    """Schedules that meet, and executions of both kinds."""
    site.post(
        "/api/schedules",
        {
            "schedules": [
                {
                    "id": f"overview.{number}",
                    "handler_id": "chaos",
                    "job_method": "ok",
                    "trigger": {"type": "cron", "expression": "0 9 * * *"},
                }
                for number in range(3)
            ]
        },
    )
    for method in ("ok", "ok", "error"):
        site.over(site.run(method, {}))


def drawn(page: Page, name: str = "throughput") -> Locator:
    """A chart, once there is something on it."""
    chart = page.locator(f"#chart-{name}")
    expect(chart).to_have_attribute("data-drawn", "yes")
    return chart


def opened_executions(page: Page) -> list[str]:
    """The addresses of lists of executions that are opened from now on."""
    seen: list[str] = []

    def answer(route: Route) -> None:
        seen.append(route.request.url)
        route.fulfill(status=200, content_type="text/html", body="<title>executions</title>")

    page.route(re.compile(r"/executions\?"), answer)
    return seen


def span_s(address: str) -> float:
    """How long the stretch of time is that an address asks for."""
    found = BETWEEN.fullmatch(parse_qs(urlsplit(address).query)["q"][0])
    assert found is not None, address
    since, until = (int(t[11:13]) * 3600 + int(t[14:16]) * 60 + int(t[17:19]) for t in found.groups())
    return (until - since) % 86_400


def test_every_chart_is_drawn_with_its_axes_and_lines(visitor: Visitor):
    page = visitor.open("/")

    for name in ("throughput", "open", "lateness", "queue", "run"):
        assert len(drawn(page, name).evaluate(DRAWN)) > 2, name


def test_the_colours_of_a_chart_follow_those_of_the_page(visitor: Visitor):
    page = visitor.open("/")
    page.emulate_media(color_scheme="light")
    chart = drawn(page)
    eventually_sync(lambda: LIGHT_OK in chart.evaluate(DRAWN))

    page.emulate_media(color_scheme="dark")

    eventually_sync(lambda: DARK_OK in chart.evaluate(DRAWN))
    assert LIGHT_OK not in chart.evaluate(DRAWN)
    page.get_by_label("Signed in as admin").click()
    page.get_by_label("Colours").select_option("light")
    eventually_sync(lambda: LIGHT_OK in chart.evaluate(DRAWN))


def test_a_chart_is_renewed_in_place(visitor: Visitor, site: Site):
    page = visitor.open("/")
    chart = drawn(page)
    completed = chart.locator(".series button", has_text="completed").locator("b")
    before = int(completed.inner_text().replace(",", ""))
    chart.evaluate("chart => { chart.u.mine = true; }")

    site.over(site.run("ok", {}))

    expect(completed).not_to_have_text(f"{before}", timeout=15_000)
    assert chart.evaluate("chart => chart.u.mine")


def test_a_stretch_that_is_marked_opens_the_executions_of_that_time(visitor: Visitor):
    page = visitor.open("/?range=1h")
    over = drawn(page).locator(".u-over")
    seen = opened_executions(page)
    box = over.bounding_box()
    assert box is not None

    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 40, steps=4)
    page.mouse.up()

    page.wait_for_url(re.compile("/executions"))
    # A quarter of the hour, in whole minutes.
    assert span_s(seen[0]) in (15 * 60, 16 * 60)


def test_a_click_on_a_chart_opens_nothing(visitor: Visitor):
    page = visitor.open("/")
    seen = opened_executions(page)

    drawn(page).locator(".u-over").click()

    assert not seen
    assert urlsplit(page.url).path == "/"


def test_a_stretch_is_marked_by_keys_as_well(visitor: Visitor):
    page = visitor.open("/?range=1h")
    chart = drawn(page)
    seen = opened_executions(page)

    chart.locator(".stage").focus()
    page.keyboard.press("End")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    expect(chart.locator("[role=status]")).to_contain_text("completed")
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile("/executions"))
    assert span_s(seen[0]) == 5 * 60


def test_the_crosshair_of_one_chart_is_that_of_all(visitor: Visitor):
    page = visitor.open("/")
    drawn(page, "run")

    drawn(page).locator(".u-over").hover()

    when = page.locator("#chart-throughput .when").inner_text()
    assert re.search(r"\d\d:\d\d – \d\d:\d\d UTC", when)
    expect(page.locator("#chart-run .when")).to_have_text(when)


def test_a_line_is_hidden_and_shown_again(visitor: Visitor):
    page = visitor.open("/")
    chart = drawn(page)
    button = chart.get_by_role("button", name=re.compile("^completed"))

    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    eventually_sync(lambda: LIGHT_OK not in chart.evaluate(DRAWN))
    button.click()

    expect(button).to_have_attribute("aria-pressed", "true")
    eventually_sync(lambda: LIGHT_OK in chart.evaluate(DRAWN))


def test_another_range_is_another_address(visitor: Visitor):
    page = visitor.open("/")

    page.get_by_role("navigation", name="How far back").get_by_role("link", name="24h").click()

    page.wait_for_url(re.compile(r"\?range=24h"))
    expect(page.get_by_role("heading", name="What was, in the last 24 hours")).to_be_visible()
    expect(drawn(page).get_by_role("heading")).to_have_text("Ended per 10 minutes")


def test_the_verdict_changes_while_one_looks(visitor: Visitor, site: Site):
    page = visitor.open("/")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")

    site.post("/api/freeze", {"note": "<b>moving</b>"})
    expect(page.locator(".verdict")).to_contain_text("All schedules are frozen", ignore_case=True)
    expect(page.locator(".verdict")).to_contain_text("<b>moving</b>")
    site.post("/api/thaw", {"catch_up": "none"})

    expect(page.locator(".verdict")).not_to_contain_text("frozen")


def test_the_figures_come_as_a_table_when_they_are_asked_for(visitor: Visitor):
    page = visitor.open("/")

    page.get_by_text("These figures as a table").click()

    expect(page.get_by_role("columnheader", name="completed")).to_be_visible()
    assert not visitor.look(dark=False, width=390)


def test_all_is_read_without_scripts(sign_in):
    visitor = sign_in(java_script_enabled=False)
    page = visitor.page

    expect(page.locator(".how")).not_to_be_empty()
    expect(page.locator("#says-throughput")).to_contain_text("completed")
    page.get_by_text("These figures as a table").click()
    page.locator("#figures").get_by_role("link", name="Show them").click()

    expect(page.get_by_role("columnheader", name="completed")).to_be_visible()


def test_the_forecast_appears_when_it_is_counted_and_a_day_is_a_step_away(visitor: Visitor):
    page = visitor.open("/forecast?from=2027-06-07&schedule=overview.*")
    week = page.get_by_role("table")

    expect(week.get_by_role("row", name=re.compile("^Tue 8 Jun")).get_by_role("cell", name="3")).to_have_count(1)
    assert not visitor.look(dark=False, width=390)
    assert not visitor.look(dark=True, width=390)
    week.get_by_role("link", name="Tue 8 Jun").click()

    page.wait_for_url(re.compile("span=day"))
    expect(page.get_by_role("row", name=re.compile("^09:00")).get_by_role("cell", name="3")).to_have_count(1)
    expect(page.get_by_text("3 at once")).to_be_visible()


def test_the_forecast_is_filtered_by_keyboard_alone(visitor: Visitor):
    page = visitor.open("/forecast?from=2027-06-07")

    page.keyboard.press("/")
    page.keyboard.type("overview.1")
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile(r"schedule=overview\.1"))
    expect(page.get_by_text("of 1 schedule", exact=True)).to_be_visible()


def test_the_forecast_follows_a_new_schedule(visitor: Visitor, site: Site):
    page = visitor.open("/forecast?from=2027-06-07&schedule=added.*")
    expect(page.get_by_text("Nothing will run in this time")).to_be_visible()
    expect(page.locator("#live")).to_have_attribute("data-state", "live")

    site.post(
        "/api/schedules",
        {
            "id": "added.later",
            "handler_id": "chaos",
            "job_method": "ok",
            "trigger": {"type": "cron", "expression": "0 12 * * *"},
        },
    )

    expect(page.get_by_text("of 1 schedule", exact=True)).to_be_visible()
