"""What every page has: live parts, the dot that says how it stands, toasts with undo, keys, switches, the palette."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui.site import Site, Visitor


def live(page: Page) -> None:
    """Wait until the page hears of changes."""
    # (After a restart it tries again later and later.)
    expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=20_000)


def test_a_page_hears_of_what_others_do(sign_in, site: Site):
    one, other = sign_in(), sign_in()
    row = one.open("/nodes").locator("#node-n1")
    live(one.page)

    other.open("/nodes").locator("#node-n1").get_by_role("button", name="Cordon").click()

    expect(row).to_contain_text("cordoned")
    site.post("/api/nodes/n1/release", {})
    expect(row).not_to_contain_text("cordoned")


def test_a_page_is_live_also_where_its_scripts_come_later_than_its_stream(visitor: Visitor):
    """On a busy machine any part of a page may be the last to come."""
    visitor.page.route("**/live.js*", lambda route: (visitor.page.wait_for_timeout(300), route.continue_()))
    visitor.open("/nodes")
    live(visitor.page)


def test_what_was_done_is_said_and_can_be_undone(visitor: Visitor, site: Site):
    page = visitor.open("/nodes")
    row = page.locator("#node-n1")

    row.get_by_role("button", name="Cordon").click()
    toast = page.locator(".toast", has_text="n1 gets no new work")
    expect(toast).to_be_visible()
    expect(row).to_contain_text("cordoned")
    toast.get_by_role("button", name="Undo").click()

    expect(page.locator(".toast", has_text="n1 gets work again")).to_be_visible()
    expect(row).not_to_contain_text("cordoned")


def test_what_has_an_effect_on_others_is_asked_first(visitor: Visitor, site: Site):
    page = visitor.open("/nodes")
    drain = page.locator("#node-n1").get_by_role("button", name="Drain")
    question = page.get_by_role("dialog", name="Please confirm")

    drain.click()
    expect(question).to_contain_text("It gets no new work")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_have_count(0)
    assert site.api.get("/api/nodes/n1").json()["operation"] is None

    drain.click()
    expect(question).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#node-n1")).to_contain_text(re.compile("drain(ed|ing)"))
    site.post("/api/nodes/n1/release", {})


def test_an_error_is_said_where_one_is(visitor: Visitor, site: Site):
    page = visitor.open("/nodes")
    page.evaluate("document.querySelector('#node-n1 form').action = '/nodes/nobody/cordon'")
    page.evaluate(
        "(form => { form.setAttribute('hx-post', '/nodes/nobody/cordon'); htmx.process(form, true); })"
        "(document.querySelector('#node-n1 form'))"
    )

    page.locator("#node-n1").get_by_role("button", name="Cordon").click()

    expect(page.locator(".toast.problem")).to_contain_text("nobody")
    visitor.complaints = [text for text in visitor.complaints if "404" not in text]


def test_pause_holds_everything_until_it_is_resumed(visitor: Visitor, site: Site):
    page = visitor.open("/nodes")
    live(page)
    pause = page.locator("#pause-live")

    page.keyboard.press("p")
    expect(page.locator("#live")).to_have_attribute("data-state", "paused")
    expect(pause).to_have_attribute("aria-pressed", "true")
    site.post("/api/nodes/n1/cordon", {})
    expect(page.locator(".pill")).to_be_visible()
    expect(page.locator("#node-n1")).not_to_contain_text("cordoned")
    page.reload()
    expect(page.locator("#live")).to_have_attribute("data-state", "paused")
    expect(page.locator("#node-n1")).to_contain_text("cordoned")

    site.post("/api/nodes/n1/release", {})
    expect(page.locator(".pill")).to_be_visible()
    page.locator("#pause-live").click()

    expect(page.locator("#node-n1")).not_to_contain_text("cordoned")
    expect(page.locator(".pill")).to_have_count(0)


def _turn(page: Page, *, hidden: bool) -> None:
    """As a browser does when another tab is chosen."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_tab_has_no_stream_and_hears_of_all_that_it_missed_when_it_is_back(visitor: Visitor, site: Site):
    page = visitor.open("/nodes")
    live(page)
    with page.expect_event("requestfailed", lambda request: "/live?" in request.url) as ended:
        _turn(page, hidden=True)
    assert ended.value.failure
    site.post("/api/nodes/n1/cordon", {})
    try:
        with page.expect_request("**/live?*") as again:
            _turn(page, hidden=False)

        expect(page.locator("#node-n1")).to_contain_text("cordoned")
        live(page)
        assert again.value.header_value("last-event-id")
    finally:
        site.post("/api/nodes/n1/release", {})


def test_a_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(browser: Browser, tmp_path: Path):
    own = Site(tmp_path)
    try:
        visitor = Visitor(browser, own)
        page = visitor.open("/nodes")
        live(page)

        own.server.kill()
        expect(page.locator("#live")).to_have_attribute("data-state", "lost")
        expect(page.locator("#live")).to_contain_text("reconnecting")
        own.restart()
        live(page)
        own.start_node("n2")

        expect(page.locator("#node-n2")).to_contain_text("online")
        visitor.close()
    finally:
        own.close()


def test_a_viewer_sees_no_buttons_that_he_may_not_press(sign_in, site: Site):
    viewer: Visitor = sign_in("viewer")
    page = viewer.open("/nodes")

    expect(page.locator("#node-n1")).to_contain_text("online")
    expect(page.locator("#node-n1 button")).to_have_count(0)
    expect(page.locator("#nav")).not_to_contain_text("Audit log")
    answer = page.evaluate(
        "fetch('/nodes/n1/cordon', {method: 'POST', headers: {'X-Xsrf-Token': document.querySelector('meta[name=xsrf]')"
        ".content, 'Content-Type': 'application/x-www-form-urlencoded'}}).then(answer => answer.status)"
    )
    assert answer == 403
    viewer.complaints = [text for text in viewer.complaints if "403" not in text]


def test_the_palette_finds_pages_by_keyboard(page: Page, site: Site):
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Find")
    expect(field).to_be_focused()

    field.fill("nod")
    expect(page.locator("#found li").first).to_contain_text("Nodes")
    page.keyboard.press("Enter")

    page.wait_for_url(site.url + "/nodes")


def palette(visitor: Visitor, typed: str) -> Locator:
    """What it shows for that, once the server has answered."""
    visitor.page.keyboard.press("Control+k")
    visitor.page.get_by_role("combobox", name="Find").fill(typed)
    options = visitor.page.locator("#found li")
    expect(options.filter(has_text="in the documentation")).to_be_visible()
    return options


def test_the_palette_offers_what_the_navigation_does_not_name_and_only_what_one_may(sign_in):
    admin, viewer = sign_in(), sign_in("viewer")

    expect(palette(admin, "tokens").first).to_contain_text("Access")
    expect(palette(viewer, "tokens")).to_have_count(1)
    expect(palette(admin, "chaos.ok").first).to_have_text("Run chaos.okjob")
    viewer.page.keyboard.press("Escape")
    expect(palette(viewer, "chaos.ok").first).to_have_text("chaos.okjob")
    viewer.page.keyboard.press("Enter")
    viewer.page.wait_for_url(re.compile(r"/handlers/chaos\?method=ok"))


def test_on_a_narrow_screen_every_page_is_reached_without_scripts(sign_in):
    page = sign_in("viewer", java_script_enabled=False, viewport={"width": 390, "height": 844}).page

    main = page.locator("main").bounding_box()
    assert main is not None
    assert main["width"] == 390
    page.get_by_role("link", name="API and docs").click()

    expect(page.get_by_role("heading", name="API and docs")).to_be_visible()


def test_without_scripts_nothing_is_shown_that_needs_them(sign_in):
    page = sign_in("viewer", java_script_enabled=False).open("/schedules")

    expect(page.locator("#main h1")).to_be_visible()
    for dead in ("#palette-open", "#pause-live", "#time-in"):
        expect(page.locator(dead)).to_be_hidden()
    page.locator("details.menu summary").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_keys_go_to_pages_and_say_what_they_are(page: Page, site: Site):
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("n Nodes")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)

    page.keyboard.press("g")
    page.keyboard.press("n")
    page.wait_for_url(site.url + "/nodes")
    page.keyboard.press("j")

    expect(page.locator("tr.current a").first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/nodes/.+"))


@pytest.mark.parametrize(("theme", "scheme"), [("light", "light"), ("dark", "dark")])
def test_colours_are_chosen_once_and_kept(visitor: Visitor, theme: str, scheme: str):
    page = visitor.open("/nodes")
    page.locator("details.menu summary").click()

    page.locator("#theme").select_option(theme)

    for again in (False, True):
        if again:
            page.reload()
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == scheme


def test_the_zone_of_times_is_chosen_once_and_kept(sign_in, site: Site):
    visitor: Visitor = sign_in(timezone_id="Europe/Berlin")
    page = visitor.open("/nodes/n1")
    page.reload()

    page.locator("#time-in").select_option("browser")
    page.wait_for_load_state()

    expect(page.locator("#time-in")).to_have_value("browser")
    cookies = {cookie["name"]: cookie["value"] for cookie in visitor.context.cookies()}
    assert cookies["sz_zone"] == "Europe%2FBerlin"


def test_reading_works_without_javascript(sign_in, site: Site):
    # Signing in needs a click more then.
    visitor: Visitor = sign_in(java_script_enabled=False)
    page = visitor.open("/nodes")

    expect(page.locator("#node-n1")).to_contain_text("online")
    page.get_by_role("link", name="n1").first.click()
    expect(page.get_by_role("heading", name="n1")).to_be_visible()


def test_the_palette_finds_what_the_server_knows(page: Page, site: Site):
    site.post(
        "/api/schedules",
        {
            "id": "Palette_x.100",
            "handler_id": "chaos",
            "job_method": "ok",
            "trigger": {"type": "cron", "expression": "0 0 1 1 *"},
        },
    )
    execution = site.run("ok", {})
    options = page.locator("#found li")

    page.keyboard.press("Control+k")
    for typed, shown in (("E_X.1", "Palette_x.100"), (execution[:20], execution), ("chaos.segf", "Run chaos.segfault")):
        page.get_by_role("combobox", name="Find").fill(typed)
        expect(options.filter(has_text=shown).first).to_be_visible()
    page.get_by_role("combobox", name="Find").fill("<script>")

    # Nothing has such a name; the documentation may still say something.
    expect(options).to_have_text(["Look for “<script>” in the documentationdocs"])
