"""Settings, calendars, API and docs, runs of the test bed: by mouse and keyboard, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.ui.site import Site, Visitor

SECRET = re.compile(r"sz_[\w-]{40,}")
HOSTILE = "<img src=x onerror=alert(1)>"
CALENDAR = {"name": "ui.works", "timezone": "Europe/Berlin", "description": HOSTILE, "holidays": [{"country": "DE"}]}


@pytest.fixture(scope="module", autouse=True)
def calendar(site: Site) -> None:
    site.post("/api/calendars", CALENDAR)


def expected(visitor: Visitor, status: int) -> None:
    """Chromium puts every answer of that kind into its console."""
    visitor.complaints[:] = [text for text in visitor.complaints if f"a status of {status} " not in text]


def live(page: Page) -> None:
    expect(page.locator("#live")).to_have_attribute("data-state", "live")


@pytest.mark.parametrize(
    "path",
    [
        "/settings",
        "/settings/configuration",
        "/settings/access",
        "/settings/about",
        "/calendars",
        "/calendars/ui.works?month=2026-12&at=2026-12-25T12:00",
        "/calendars/ui.works/edit",
        "/new-calendar",
        "/testbed",
        "/audit",
        "/docs",
        "/docs?q=lease",
        "/docs/how-to/calendars",
        "/docs/api/nodes?op=nodes_cordon",
    ],
)
def test_a_page_has_no_barriers_in_any_light_or_width(path: str, visitor: Visitor):
    visitor.open(path)

    wrong = {
        (colours, width): visitor.look(dark=colours == "dark", width=width)
        for colours in ("light", "dark")
        for width in (1280, 390)
    }

    assert not any(wrong.values()), wrong


# --- tokens -----------------------------------------------------------------------------------------


def make_token(page: Page, name: str) -> str:
    """By keyboard alone; the secret."""
    page.get_by_text("New token").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Enter")
    shown = page.locator(".once pre")
    expect(shown).to_be_visible()
    return shown.inner_text()


def test_a_token_s_secret_is_shown_once_and_never_again(visitor: Visitor, site: Site):
    page = visitor.open("/settings/access")
    live(page)

    secret = make_token(page, f"ui {HOSTILE}")

    assert SECRET.fullmatch(secret)
    # The list has it at once; what is refreshed there takes nothing away here.
    row = page.locator("#tokens tr", has_text=f"ui {HOSTILE}")
    expect(row).to_be_visible()
    expect(page.locator(".once")).to_contain_text("shown this once")
    assert secret not in page.url
    for path in ("/settings/access", "/settings", "/settings/access?over=true"):
        assert secret not in visitor.open(path).content()
    page.go_back()
    live(page)
    assert secret not in page.content()

    page.goto(site.url + "/settings/access")
    row.get_by_role("button", name="Revoke").click()
    question = page.get_by_role("dialog", name="Please confirm")
    expect(question).to_contain_text("browsers that signed in with it are signed out")
    question.get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)


def test_what_is_wrong_with_a_token_is_said_in_place_and_what_was_typed_stays(visitor: Visitor):
    page = visitor.open("/settings/access")
    page.get_by_text("New token").click()
    page.get_by_label("Name").fill("wrong")
    page.get_by_label("Good for (days)").fill("soon")

    page.get_by_role("button", name="Make the token").click()

    expect(page.locator("#wrong-days")).to_contain_text("expected a number of days")
    expect(page.get_by_label("Name")).to_have_value("wrong")
    expected(visitor, 400)


# --- sessions ---------------------------------------------------------------------------------------


def test_another_browser_is_signed_out_and_sent_to_sign_in(sign_in, site: Site):
    admin, colleague = sign_in(), sign_in("viewer")
    colleague.open("/nodes")
    live(colleague.page)
    page = admin.open("/settings/access")
    live(page)
    row = page.locator("#sessions tr", has_text="viewer").first

    row.get_by_role("button", name="Sign out").click()
    page.get_by_role("dialog", name="Please confirm").get_by_role("button", name="Sign out").click()

    # Its stream hears of it, at the latest with the next change.
    site.post("/api/nodes/n1/cordon", {})
    site.post("/api/nodes/n1/release", {})
    expect(colleague.page).to_have_url(re.compile("/login"))
    # Whatever it still asks is refused as well.
    colleague.page.close()
    expected(colleague, 401)


def test_a_link_for_a_colleague_signs_another_browser_in_with_less(sign_in, browser, site: Site):
    page = sign_in().open("/settings/access")
    page.get_by_label("A link for a colleague").select_option("viewer")
    page.get_by_role("button", name="Make a sign-in link").click()
    link = page.locator("#new_link pre").inner_text()
    other = browser.new_context()
    try:
        window = other.new_page()
        window.goto(link)
        window.wait_for_url(site.url + "/")
        window.goto(site.url + "/settings")
        expect(window.get_by_role("link", name="Access")).to_have_count(0)
        expect(window.get_by_role("link", name="Audit log")).to_have_count(0)
    finally:
        other.close()


# --- the switch for all schedules -------------------------------------------------------------------


def test_schedules_are_frozen_and_thawed(visitor: Visitor):
    page = visitor.open("/settings")
    live(page)
    page.get_by_label("Why").fill("moving house")
    page.get_by_role("button", name="Freeze all schedules").click()
    question = page.get_by_role("dialog", name="Please confirm")
    expect(question).to_contain_text("None of them fires until the thaw")
    question.get_by_role("button", name="Freeze all schedules").click()
    expect(page.locator("#freeze")).to_contain_text("moving house")

    page.get_by_label("Make up for").select_option("none")
    page.get_by_role("button", name="Thaw").click()

    expect(page.get_by_role("button", name="Freeze all schedules")).to_be_visible()


# --- calendars --------------------------------------------------------------------------------------


def test_a_calendar_is_written_with_a_mistake_that_is_found_at_its_line(visitor: Visitor, site: Site):
    page = visitor.open("/calendars")
    page.get_by_label("New calendar").fill("ui.typed")
    page.keyboard.press("Enter")
    field = page.get_by_label("Document (YAML or JSON)")
    field.fill("timezone: UTC\nweekly:\n  - days: [SAT]\n    from: 25:00\n    to: 26:00\n")
    page.get_by_role("button", name="Create").click()

    page.get_by_role("link", name="Line 4").click()
    assert page.evaluate(
        "document.activeElement.value.slice(document.activeElement.selectionStart).split('\\n')[0]"
    ) == ("    from: 25:00")
    expected(visitor, 400)
    field.fill("timezone: UTC\nweekly:\n  - days: [SAT]\n")
    page.get_by_role("button", name="Create").click()

    page.wait_for_url(re.compile("/calendars/ui.typed$"))
    expect(page.locator(".toast")).to_contain_text("ui.typed is version 1")
    expect(page.locator(".days .off").first).to_contain_text("weekly SAT")


def test_an_icalendar_file_is_chosen_and_imported(visitor: Visitor):
    page = visitor.open("/calendars/ui.works")
    page.get_by_text("Import an iCalendar file").click()
    text = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nBEGIN:VEVENT\r\nUID:a@b\r\nDTSTAMP:20261101T000000Z\r\n"
        "DTSTART;VALUE=DATE:20261210\r\nDTEND;VALUE=DATE:20261211\r\nSUMMARY:Outing\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    page.get_by_label("File", exact=True).set_input_files(
        {"name": "closures.ics", "mimeType": "text/calendar", "buffer": text.encode()}
    )
    expect(page.get_by_label("Its text")).to_have_value(re.compile("Outing"))
    page.get_by_role("button", name="Import").click()

    expect(page.locator(".toast")).to_contain_text("ui.works is version")
    page = visitor.open("/calendars/ui.works?month=2026-12")
    expect(page.locator(".days")).to_contain_text("Outing")


# --- the audit log ----------------------------------------------------------------------------------


def test_the_audit_log_hears_of_a_change_and_shows_what_it_was_before(visitor: Visitor, site: Site):
    page = visitor.open("/audit?noun=calendar&subject=ui.audited")
    live(page)

    site.post("/api/calendars", {**CALENDAR, "name": "ui.audited"})

    row = page.locator("#changes tr", has_text="calendar.created")
    expect(row).to_be_visible()
    expect(row.locator("ins").filter(has_text="img src=x")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "audit-log.csv"


# --- Try-it -----------------------------------------------------------------------------------------


def tried(page: Page, path: str, method: str = "GET"):
    return page.locator(f'try-it[data-path="{path}"][data-method="{method}"]')


def test_an_operation_is_tried_and_its_answer_shown_as_text_with_big_numbers_unmangled(visitor: Visitor, site: Site):
    big = 12345678901234567890
    execution = site.over(site.run("ok", {"value": {"big": big, "text": HOSTILE}}))
    page = visitor.open("/docs/api/executions?op=executions_show")
    form = tried(page, "/api/executions/{id}")
    form.get_by_label("id path").fill(execution["id"])
    form.get_by_role("button", name="Send GET").click()

    answer = form.locator("output pre.payload")
    expect(answer).to_contain_text(str(big))
    expect(answer).to_contain_text(HOSTILE)
    expect(form.locator("output")).to_contain_text("200")


def test_a_write_is_asked_about_first_and_sent_with_the_session_s_word(visitor: Visitor, site: Site):
    page = visitor.open("/docs/api/nodes?op=nodes_cordon")
    form = tried(page, "/api/nodes/{id}/cordon", "POST")
    form.get_by_label("id path").fill("n1")
    form.get_by_role("button", name="Send POST").click()
    question = page.get_by_role("dialog", name="Please confirm")
    expect(question).to_contain_text("Send POST /api/nodes/n1/cordon to this server?")
    question.get_by_role("button", name="Cancel").click()
    assert site.api.get("/api/nodes/n1").json()["operation"] is None

    form.get_by_role("button", name="Send POST").click()
    question.get_by_role("button", name="Send POST").click()

    expect(form.locator("output")).to_contain_text("200")
    assert site.api.get("/api/nodes/n1").json()["operation"]["kind"] == "cordon"
    site.post("/api/nodes/n1/release", {})


def test_an_error_is_an_answer_as_well(visitor: Visitor):
    page = visitor.open("/docs/api/nodes?op=nodes_show")
    form = tried(page, "/api/nodes/{id}")
    form.get_by_label("id path").fill("nobody")
    form.get_by_role("button", name="Send GET").click()

    expect(form.locator("output")).to_contain_text("404")
    expect(form.locator("output pre.payload")).to_contain_text('"not_found"')
    expected(visitor, 404)


def test_a_viewer_is_offered_only_what_he_may(sign_in):
    page = sign_in("viewer").open("/docs/api/nodes?op=nodes_cordon")
    expect(tried(page, "/api/nodes/{id}")).to_have_count(1)
    expect(tried(page, "/api/nodes/{id}/cordon", "POST")).to_have_count(0)
    expect(page.locator("#nodes_cordon")).to_contain_text("To try it takes the role operator")


def test_json_is_laid_out_without_being_read(visitor: Visitor):
    page = visitor.open("/docs/api/nodes")
    laid = page.evaluate(
        """async () => {
            const { pretty } = await import(document.querySelector('script[src$="try.js"]').src);
            return pretty('{"a":[1,{}, [ ]],"b":"x,{\\\\"y","c":12345678901234567890}');
        }"""
    )
    assert laid.splitlines() == [
        "{", '  "a": [', "    1,", "    {},", "    []", "  ],", '  "b": "x,{\\"y",', '  "c": 12345678901234567890', "}",
    ]  # fmt: skip


def test_the_documentation_is_searched_and_read_by_keyboard(visitor: Visitor):
    page = visitor.open("/docs")
    page.keyboard.press("/")
    page.keyboard.type("fencing token")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"q=fencing"))
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/docs/"))
    expect(page.locator("article.prose, details.operation").first).to_be_visible()
