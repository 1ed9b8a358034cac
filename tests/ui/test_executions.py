"""Executions in a real browser: searching by keyboard, much done at once, a job watched live, a log that is long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support import eventually_sync
from tests.ui.site import Site, Visitor

EVIL = "<img src=x onerror=alert(1)>"
LINES = 100_000
ERROR_AT = 70_001


@pytest.fixture(scope="module")
def talker(site: Site) -> None:
    """A node whose jobs talk."""
    site.start_node("talker", "tests.ui.talker:TalkerHandler")


@pytest.fixture(scope="module")
def failed(site: Site) -> str:
    """The id of one that has failed, with an error to be afraid of."""
    id_ = site.run("error", {"message": EVIL}, options={"priority": 7})
    site.over(id_)
    for number in range(3):
        site.over(site.run("ok", {"value": number}))
    return id_


def complete(site: Site, id_: str) -> None:
    """Wait until it is over and all of its log is stored."""
    site.over(id_)

    def there() -> bool:
        return bool(site.api.get(f"/api/executions/{id_}/logs", params={"limit": 1}).json()["complete"])

    eventually_sync(there, within_s=60)


def live(page: Page) -> None:
    expect(page.locator("#live")).to_have_attribute("data-state", "live")


def rows(page: Page):
    return page.locator("#rows tbody tr")


# --- looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/executions?q=handler:chaos",
        "/executions/bulk?kind=retry&q=state:failed",
        "/executions/{failed}",
        "/executions/{failed}?tab=log",
        "/executions/{talked}?tab=log&line=5",
        "/executions/{talked}/log?grep=before",
    ],
)
def test_the_page_has_no_barriers_in_any_light_or_width(path, visitor: Visitor, site: Site, failed: str, talker: None):
    talked = site.run("talk", {"lines": 30}, handler="talker")
    complete(site, talked)
    visitor.open(path.format(failed=failed, talked=talked))

    wrong = {(dark, width): visitor.look(dark=dark, width=width) for dark in (False, True) for width in (1280, 390)}

    assert not any(wrong.values()), wrong


# --- searching --------------------------------------------------------------------------------------


def test_a_search_is_typed_by_keyboard_with_suggestions(page: Page, visitor: Visitor, failed: str):
    visitor.open("/executions")
    page.keyboard.press("/")
    field = page.get_by_role("combobox", name="Search executions")
    expect(field).to_be_focused()

    page.keyboard.type("sta")
    options = page.locator("#suggestions li")
    expect(options.first).to_contain_text("state:")
    page.keyboard.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(field).to_have_value("state:")
    expect(options.filter(has_text="failed-like")).to_be_visible()
    page.keyboard.type("faile")
    expect(options).to_have_count(2)
    page.keyboard.press("Tab")
    expect(field).to_have_value("state:failed ")
    expect(field).to_be_focused()

    page.keyboard.type("job:chaos.er")
    expect(options.first).to_contain_text("chaos.error")
    page.keyboard.press("Escape")
    expect(options).to_have_count(0)
    page.keyboard.type("ror")
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile(r"q=state%3Afailed\+job%3Achaos\.error"))
    expect(page.locator(f"#x-{failed}")).to_contain_text(EVIL)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/executions/[0-9a-z]{26}$"))


def test_what_is_being_typed_is_left_alone_while_everything_changes(page: Page, visitor: Visitor, site: Site):
    visitor.open("/executions")
    live(page)
    page.mouse.move(0, 0)
    field = page.locator("#q")
    field.click()
    typed = "handler:chaos arg.value:42"
    first = rows(page).first.get_attribute("id")

    for place, letter in enumerate(typed):
        # Ten a second and more.
        site.run("ok", {"value": place})
        page.keyboard.type(letter, delay=60)
    field.evaluate("field => field.setSelectionRange(3, 9)")
    # The list has followed meanwhile.
    expect(rows(page).first).not_to_have_attribute("id", first or "")
    last = site.run("ok", {"value": "last"})
    expect(page.locator(f"#x-{last}")).to_be_visible()

    expect(field).to_have_value(typed)
    expect(field).to_be_focused()
    assert field.evaluate("field => [field.selectionStart, field.selectionEnd]") == [3, 9]


def test_a_slip_is_marked_at_the_field(page: Page, visitor: Visitor):
    visitor.open("/executions")
    page.locator("#q").fill("node:n1 stat:failed")
    page.keyboard.press("Enter")

    expect(page.locator("#q-problem mark")).to_have_text("stat:failed")
    expect(page.locator("#q")).to_have_value("node:n1 stat:failed")
    expect(page.locator("#q")).to_have_attribute("aria-invalid", "true")
    visitor.complaints = [text for text in visitor.complaints if "400" not in text]


def test_states_and_bars_narrow_the_search(page: Page, visitor: Visitor, failed: str):
    visitor.open("/executions?q=handler:chaos")
    page.locator("#states a", has_text="failed").click()
    page.wait_for_url(re.compile("state%3Afailed"))
    expect(page.locator(f"#x-{failed}")).to_be_visible()

    bars = page.locator("#histogram svg a")
    expect(bars.first).to_be_visible()
    # One stop for the Tab key, however many there are.
    assert page.locator("#histogram svg a[tabindex='0']").count() == 1
    bars.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("since%3A.*until%3A"))


def test_a_search_is_kept_by_a_name_and_found_again(page: Page, visitor: Visitor):
    visitor.open("/executions?q=state:failed")
    menu = page.locator("details.menu", has_text="Saved views")
    menu.locator("summary").click()
    menu.get_by_label("Keep this search as").fill("what failed")
    menu.get_by_role("button", name="Save").click()
    expect(page.locator(".toast")).to_contain_text("Saved as what failed")

    visitor.open("/executions")
    menu.locator("summary").click()
    menu.get_by_role("link", name="what failed").click()
    page.wait_for_url(re.compile("state%3Afailed"))

    menu.locator("summary").click()
    menu.get_by_role("button", name="Delete what failed").click()
    expect(page.locator(".toast")).to_contain_text("no longer kept")
    menu.locator("summary").click()
    expect(menu.get_by_role("link", name="what failed")).to_have_count(0)

    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".toast")).to_contain_text("is kept again")
    menu.locator("summary").click()
    expect(menu.get_by_role("link", name="what failed")).to_be_visible()


def test_without_javascript_it_is_read_and_searched(sign_in, failed: str):
    visitor: Visitor = sign_in("viewer", java_script_enabled=False)
    page = visitor.open("/executions")
    page.locator("#q").fill("state:failed")
    page.get_by_role("button", name="Search").click()
    page.locator(f"#x-{failed} a").first.click()
    expect(page.locator("main")).to_contain_text(f"RuntimeError: {EVIL}")
    page.get_by_role("link", name="Log", exact=True).click()
    expect(page.locator(".log")).to_be_visible()


# --- much at once -----------------------------------------------------------------------------------


def test_all_that_a_search_finds_is_cancelled_after_it_was_said_how_many(page: Page, visitor: Visitor, site: Site):
    body = {"handler_id": "chaos", "job_method": "ok", "options": {"require": ["nowhere"], "concurrency_key": "all"}}
    site.post("/api/executions", {"executions": [body] * 120})
    visitor.open("/executions?q=key:all")
    expect(rows(page)).to_have_count(50)

    page.locator("#bulk").get_by_role("link", name="Cancel").click()
    expect(page.locator("main")).to_contain_text("Cancel 120 executions?")
    page.get_by_role("button", name="Cancel 120").click()
    # (Nothing moves under the pointer.)
    page.mouse.move(0, 0)

    expect(page.locator(".toast")).to_contain_text("Cancelling 120")
    expect(page.locator("#batches")).to_contain_text("120 of 120")
    expect(page.locator("#batches")).to_contain_text("Cancelled all of key:all")
    expect(rows(page).first).to_contain_text("cancelled")
    assert site.api.get("/api/executions", params={"q": "key:all -state:cancelled"}).json()["count"] == 0


def test_rows_are_ticked_by_keyboard_and_retried(page: Page, visitor: Visitor, site: Site):
    ids = [site.run("error", {"message": "ticked"}, options={"concurrency_key": "tick"}) for _ in range(3)]
    for id_ in ids:
        site.over(id_)
    visitor.open("/executions?q=key:tick")
    retry = page.get_by_role("button", name="Retry ticked")
    expect(retry).to_be_disabled()

    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#bulk")).to_contain_text("2 executions ticked")
    retry.click()
    expect(page.locator("main")).to_contain_text("Retry 2 executions?")
    page.keyboard.press("Enter")

    expect(page.locator("#batches")).to_contain_text("2 of 2")
    page.locator("#batches").get_by_role("link", name="see them").click()
    expect(rows(page)).to_have_count(2)


# --- one --------------------------------------------------------------------------------------------


def test_a_dead_letter_is_requeued_and_one_goes_to_what_it_became(page: Page, visitor: Visitor, site: Site):
    id_ = site.run("error", {"message": "again"})
    site.over(id_)
    visitor.open(f"/executions/{id_}")

    page.get_by_role("button", name="Requeue").click()

    page.wait_for_url(lambda url: id_ not in url)
    expect(page.locator(".toast")).to_contain_text("Requeued")
    page.locator("dd", has_text=id_[-6:]).get_by_role("link").click()
    page.wait_for_url(re.compile(id_))
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_visible()


def test_what_waits_is_cancelled_where_one_looks_at_it(page: Page, visitor: Visitor, site: Site):
    id_ = site.run("ok", {}, options={"require": ["nowhere"]})
    visitor.open(f"/executions/{id_}")
    expect(page.locator(".standing")).to_contain_text("no node matches require [nowhere]")
    live(page)

    page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button")).to_have_text(["Back", "Cancel"])
    dialog.get_by_role("button", name="Cancel").click()

    expect(page.locator(".standing")).to_contain_text("It was cancelled before it began")


def test_a_job_is_watched_while_it_runs(page: Page, visitor: Visitor, site: Site, talker: None, tmp_path: Path):
    gate = tmp_path / "gate"
    id_ = site.run("talk", {"lines": 200, "gate": str(gate), "then": 5}, handler="talker")
    visitor.open(f"/executions/{id_}?tab=log")
    log = page.locator(".log")
    expect(log).to_contain_text("before 200")
    expect(page.locator(".standing")).to_contain_text("waits for the gate")
    expect(log).to_contain_text("More may come")
    assert log.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40
    # Whoever reads is left where he reads.
    log.evaluate("box => { box.scrollTop = 700; }")
    before = log.evaluate("box => box.scrollTop")

    gate.touch()

    expect(log).to_contain_text("after 5")
    expect(log).to_contain_text("The end.")
    expect(page.locator("#log-lines")).to_have_text("205 lines")
    expect(page.locator(".standing")).to_contain_text("It completed on talker")
    expect(page).to_have_title(re.compile("talker.talk completed"))
    assert abs(log.evaluate("box => box.scrollTop") - before) < 30


def test_who_is_at_the_end_of_a_log_stays_there(page: Page, visitor: Visitor, site: Site, talker: None, tmp_path: Path):
    gate = tmp_path / "gate"
    id_ = site.run("talk", {"lines": 200, "gate": str(gate), "then": 100}, handler="talker")
    visitor.open(f"/executions/{id_}/log")
    log = page.locator(".log")
    expect(log).to_contain_text("before 200")

    gate.touch()

    expect(log).to_contain_text("after 100")
    expect(log).to_contain_text("The end.")
    assert log.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40


def test_a_log_of_100_000_lines_is_all_there_and_its_first_error_is_jumped_to(
    page: Page, visitor: Visitor, site: Site, talker: None
):
    id_ = site.run("much", {"lines": LINES, "error_at": ERROR_AT}, handler="talker")
    complete(site, id_)
    visitor.open(f"/executions/{id_}?tab=log")
    log = page.locator(".log")
    expect(page.locator(f"#L{LINES}")).to_be_in_viewport()

    # All of it comes by itself, and the browser's own search finds any of it.
    expect(page.locator("#earlier[data-goes-on]")).to_have_count(0, timeout=120_000)
    assert page.locator(".chunk p").count() == LINES
    assert log.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40
    assert page.evaluate("window.find('line 12345 ')")
    assert page.evaluate("getSelection().anchorNode.parentElement.closest('p').id") == "L12345"

    # (By its role it would be looked for among 100,000 links.)
    page.locator(".logbar a", has_text="First error").click()
    page.wait_for_url(re.compile(f"line={ERROR_AT}#L{ERROR_AT}"))
    marked = page.locator(".log p.mark")
    expect(marked).to_contain_text("<b>it</b> broke here")
    expect(marked).to_be_in_viewport()

    # A line's number is its address.
    page.locator(f"#L{ERROR_AT - 3} a").click()
    expect(page).to_have_url(re.compile(f"line={ERROR_AT - 3}#L{ERROR_AT - 3}"))
    expect(page.locator(".log p.mark")).to_have_count(1)
