"""The forms in a real browser: a look ahead that never disturbs who types, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Response, expect

from tests.ui.site import Site, Visitor

CRON = "#f-trigger-expression"


@pytest.fixture(scope="module")
def ended(site: Site) -> str:
    """An execution that has failed."""
    return str(site.over(site.run("fail", {"message": '"><script>alert(1)</script>'}, handler="demo"))["id"])


@pytest.fixture
def away(page: Page) -> Page:
    """Where forms lead to is another page's matter."""
    for path in (re.compile(r"/schedules(/ui\.[a-z]+)?$"), re.compile(r"/executions/[a-z0-9]+$")):
        page.route(path, lambda route: route.fulfill(body="there", content_type="text/plain"))
    return page


def looked(page: Page):
    """Waits for the next look ahead."""
    return page.expect_response(lambda answer: answer.url.endswith("/draft") and _target(answer) == "section#outlook")


def _target(answer: Response) -> str:
    return answer.request.headers.get("hx-target", "")


def choose(page: Page, handler: str, method: str) -> None:
    page.get_by_label("Handler", exact=False).select_option(handler)
    expect(page.locator("#f-job_method")).to_contain_text(method)
    page.locator("#f-job_method").select_option(method)


@pytest.mark.parametrize(
    "path",
    [
        "/schedules/new",
        "/schedules/new?handler=demo&method=add",
        "/handlers/demo/run",
        "/handlers/demo/run?method=sleep",
    ],
)
def test_a_form_has_no_barriers_in_any_light_or_width(path: str, visitor: Visitor) -> None:
    page = visitor.open(path)
    # What is folded has to be without barriers as well.
    page.evaluate("for (const one of document.querySelectorAll('#main details')) one.open = true")

    wrong = {(dark, width): visitor.look(dark=dark, width=width) for dark in (False, True) for width in (1280, 390)}

    assert not any(wrong.values()), wrong


def test_a_retry_and_a_refused_form_have_no_barriers(visitor: Visitor, ended: str) -> None:
    page = visitor.open(f"/executions/{ended}/retry-edit")
    page.locator("summary", has_text="Time limits").click()
    page.get_by_label("Timeout").fill("soon")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("alert")).to_contain_text("expected a duration")

    wrong = {(dark, width): visitor.look(dark=dark, width=width) for dark in (False, True) for width in (1280, 390)}

    assert not any(wrong.values()), wrong
    refused_by_the_server(visitor)


def refused_by_the_server(visitor: Visitor) -> None:
    """The browser's console tells of each answer that is an error, though the page says it all."""
    visitor.complaints[:] = [one for one in visitor.complaints if "the server responded with a status of 4" not in one]


def test_typing_keeps_value_focus_and_caret_while_the_preview_follows(page: Page, visitor: Visitor) -> None:
    visitor.open("/schedules/new")
    answers = []
    page.on("response", lambda answer: answers.append(answer.url) if _target(answer) == "section#outlook" else None)
    field = page.locator(CRON)

    field.focus()
    # Slower than the preview waits: it comes in between the keys.
    page.keyboard.type("0 9 * * *", delay=350)
    expect(page.locator("#outlook .lead")).to_contain_text("At 09:00")
    for _ in range(7):
        page.keyboard.press("ArrowLeft")
    with looked(page):
        page.keyboard.type("1")

    expect(page.locator("#outlook .lead")).to_contain_text("At 19:00")
    assert field.input_value() == "0 19 * * *"
    assert page.evaluate("document.activeElement.id") == CRON[1:]
    assert field.evaluate("field => [field.selectionStart, field.selectionEnd]") == [3, 3]
    assert len(answers) >= 5


def test_what_is_typed_elsewhere_survives_another_method_and_kind(page: Page, visitor: Visitor) -> None:
    visitor.open("/schedules/new")
    choose(page, "demo", "hello")
    page.locator("#f-job_params-name").fill("World")
    page.get_by_label("Note").fill("kept")
    page.locator(CRON).fill("@daily")

    page.locator("#f-trigger-type").select_option("interval")
    page.get_by_label("Every").fill("90s")
    expect(page.locator("#outlook .lead")).to_contain_text("90 seconds")
    page.locator("#f-trigger-type").select_option("cron")

    expect(page.locator(CRON)).to_have_value("@daily")
    assert page.get_by_label("Note").input_value() == "kept"
    assert page.locator("#f-job_params-name").input_value() == "World"


def test_the_methods_options_stand_in_the_empty_fields(page: Page, visitor: Visitor) -> None:
    visitor.open("/schedules/new")
    page.locator("summary", has_text="Retries").click()

    choose(page, "demo", "flaky")

    expect(page.locator("#f-options-max_attempts")).to_have_attribute("placeholder", "5 (the method)")


def test_a_schedule_is_made_by_mouse(away: Page, visitor: Visitor, site: Site) -> None:
    visitor.open("/schedules/new")
    choose(away, "demo", "add")
    away.locator("#f-job_params-a").fill("1")
    away.locator("#f-job_params-b").fill("2.5")
    away.locator(CRON).fill("0 9 * * MON-FRI")
    away.locator("#f-timezone, #f-trigger-timezone").fill("Europe/Berlin")
    away.locator("#f-id").fill("ui.made")

    away.get_by_role("button", name="Create").click()

    away.wait_for_url("**/schedules/ui.made")
    made = site.api.get("/api/schedules/ui.made").json()
    assert made["job_params"] == {"a": 1, "b": 2.5}
    assert made["trigger"]["timezone"] == "Europe/Berlin"


def test_a_schedule_is_made_by_keyboard(away: Page, visitor: Visitor, site: Site) -> None:
    visitor.open("/schedules/new?handler=demo&method=hello")
    away.locator("#f-job_method").focus()

    away.keyboard.press("Tab")
    away.keyboard.press("Tab")
    away.keyboard.type("World")
    away.keyboard.press("Tab")
    away.keyboard.press("Tab")
    away.keyboard.type("@hourly")
    away.locator("#f-id").focus()
    away.keyboard.type("ui.typed")
    away.keyboard.press("Enter")

    away.wait_for_url("**/schedules/ui.typed")
    made = site.api.get("/api/schedules/ui.typed").json()
    assert (made["job_params"], made["trigger"]["expression"]) == ({"name": "World"}, "@hourly")


def test_a_refused_form_shows_why_and_keeps_what_was_typed(page: Page, visitor: Visitor) -> None:
    visitor.open("/schedules/new")
    choose(page, "demo", "add")
    page.locator("#f-job_params-a").fill("one")
    page.locator("#f-id").fill("ui.refused")

    page.get_by_role("button", name="Create").click()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("expected a number, got 'one'")
    expect(alert).to_be_in_viewport()
    expect(alert).to_be_focused()
    assert page.locator("#f-job_params-a").input_value() == "one"
    assert page.locator("#f-id").input_value() == "ui.refused"
    alert.get_by_role("link", name="a", exact=True).click()
    expect(page.locator("#f-job_params-a")).to_be_focused()
    refused_by_the_server(visitor)


def test_who_was_slower_sees_both_and_may_choose(away: Page, visitor: Visitor, site: Site) -> None:
    trigger = {"type": "cron", "expression": "@daily"}
    site.post("/api/schedules", {"id": "ui.raced", "handler_id": "demo", "job_method": "noop", "trigger": trigger})
    visitor.open("/schedules/ui.raced/edit")
    away.get_by_label("Note").fill("mine")
    assert site.api.patch("/api/schedules/ui.raced", json={"note": "theirs"}).is_success

    away.get_by_role("button", name="Save", exact=True).click()

    expect(away.get_by_role("alert")).to_contain_text("changed this schedule")
    expect(away.get_by_role("alert")).to_contain_text('"theirs"')
    expect(away.get_by_label("Note")).to_have_value("mine")
    away.get_by_role("button", name="Save mine over it").click()
    away.wait_for_url("**/schedules/ui.raced")
    assert site.api.get("/api/schedules/ui.raced").json()["note"] == "mine"
    refused_by_the_server(visitor)


def test_parameters_turn_into_json_and_back(page: Page, visitor: Visitor) -> None:
    visitor.open("/handlers/demo/run?method=add")
    page.locator("#f-job_params-a").fill("12345678901234567890123")
    page.locator("#f-job_params-b").fill("2")

    page.get_by_label("as JSON").check()
    whole = page.locator("#f-job_params")
    expect(whole).to_have_value('{\n  "a": 12345678901234567890123,\n  "b": 2\n}')
    whole.fill('{"a": 12345678901234567890124}')
    page.get_by_label("as JSON").uncheck()

    expect(page.locator("#f-job_params-a")).to_have_value("12345678901234567890124")
    expect(page.locator("#f-job_params-b")).to_have_value("")


def test_a_job_is_run_from_its_form(away: Page, visitor: Visitor, site: Site) -> None:
    visitor.open("/handlers/demo/run?method=add")
    away.locator("#f-job_params-a").fill("19")
    away.locator("#f-job_params-b").fill("23")
    with looked(away):
        away.locator("#f-not_before").fill("1s")

    away.get_by_role("button", name="Run").click()

    away.wait_for_url("**/executions/*")
    assert site.over(away.url.rpartition("/")[2])["result"] == 42


def test_what_was_typed_is_not_left_by_accident(away: Page, visitor: Visitor) -> None:
    page = away
    visitor.open("/schedules/new")
    page.locator("#f-id").press_sequentially("ui.half")
    asked = []

    def stay(dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.get_by_role("link", name="Nodes").click()

    expect(page.locator("#f-id")).to_have_value("ui.half")
    assert asked == ["beforeunload"]
    page.remove_listener("dialog", stay)
    page.get_by_role("link", name="Cancel").click()
    page.wait_for_url("**/schedules")


def test_the_form_as_text_follows_the_choice(page: Page, visitor: Visitor) -> None:
    visitor.open("/schedules/new?handler=demo&method=noop")
    page.locator(CRON).fill("@daily")

    page.get_by_label("Copy as").select_option("python")

    expect(page.locator("#outlook code")).to_contain_text("client.schedule(")
    page.locator("#outlook [data-copy]").click()
    expect(page.locator("#toasts")).to_contain_text("Copied")
