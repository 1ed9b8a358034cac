"""Pages of schedules in a real browser: looked at in every light, by mouse and by keyboard, while things happen."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support import eventually_sync
from tests.ui.site import Site, Visitor

HOSTILE = "<img src=x onerror=alert(1)>"


def make(site: Site, *ids: str, **fields: Any) -> None:
    trigger = {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}
    body = [{"id": id_, "handler_id": "chaos", "job_method": "ok", "trigger": trigger, **fields} for id_ in ids]
    site.post("/api/schedules", {"schedules": body})


def row(page: Page, id_: str) -> Any:
    return page.locator(f'tr[id="s-{id_}"]')


@pytest.fixture(scope="module")
def seen(site: Site) -> str:
    """A schedule with everything: fires that ran and failed, versions, a note, a name to be afraid of."""
    make(
        site,
        "seen/one",
        job_method="error",
        job_params={"message": HOSTILE},
        trigger={"type": "interval", "milliseconds": 300},
        policies={"overlap": "skip"},
    )
    make(site, "seen/paused", paused=True, note=HOSTILE)
    site.api.patch("/api/schedules/seen%2Fone", json={"job_params": {"message": "other"}})
    for _ in range(3):
        site.over(site.post("/api/schedules/seen%2Fone/run", {})["execution_id"])
    site.api.post("/api/schedules/seen%2Fone/pause", json={"note": HOSTILE})
    return "/schedules/seen%2Fone"


@pytest.mark.parametrize(
    "query",
    ["", "?tab=ledger&at=now", "?tab=versions&before=1&after=2", "?tab=definition", "?tab=backfills&since=-1min"],
)
def test_a_schedule_has_no_barriers_in_any_light_or_width(visitor: Visitor, seen: str, query: str) -> None:
    visitor.open(seen + query)

    wrong = {(dark, width): visitor.look(dark=dark, width=width) for dark in (False, True) for width in (1280, 390)}

    assert not any(wrong.values()), wrong


def test_a_pause_by_mouse_is_seen_at_once_and_can_be_taken_back(visitor: Visitor, site: Site) -> None:
    make(site, "mouse.a")
    page = visitor.open("/schedules?q=mouse")

    row(page, "mouse.a").get_by_role("button", name="Pause").click()
    expect(row(page, "mouse.a").locator(".tag")).to_have_text("paused")
    page.get_by_role("button", name="Undo").click()

    expect(row(page, "mouse.a").locator(".tag")).to_have_text("active")


def test_ticked_rows_are_deleted_by_keyboard_after_their_count_was_agreed_to(visitor: Visitor, site: Site) -> None:
    make(site, "keys.a", "keys.b", "keys.c")
    page = visitor.open("/schedules?q=keys.")
    bulk = page.locator("#bulk")
    expect(bulk).to_be_hidden()

    for key in ("j", "x", "j", "x"):
        page.keyboard.press(key)
    expect(bulk).to_contain_text("2 ticked")
    bulk.get_by_role("button", name="Delete").press("Enter")
    expect(page.locator("dialog")).to_contain_text("Delete 2 schedules? They never fire again.")
    page.keyboard.press("Escape")
    expect(row(page, "keys.a")).to_be_visible()
    bulk.get_by_role("button", name="Delete").press("Enter")
    page.locator("dialog").get_by_role("button", name="Delete").press("Enter")

    expect(page.locator(".toast")).to_contain_text("2 schedules deleted")
    expect(row(page, "keys.a")).to_have_count(0)
    expect(row(page, "keys.c")).to_be_visible()
    expect(bulk).to_be_hidden()


def test_all_that_match_are_paused_though_only_a_page_is_shown(visitor: Visitor, site: Site) -> None:
    make(site, *(f"lots.{n:03}" for n in range(60)))
    page = visitor.open("/schedules?q=lots.")

    page.get_by_label("Tick all on this page").check()
    expect(page.locator("#bulk")).to_contain_text("50 ticked")
    page.get_by_label("all 60 that match").check()
    page.locator("#bulk").get_by_role("button", name="Pause").click()
    expect(page.locator("dialog")).to_contain_text("Pause 60 schedules?")
    page.locator("dialog").get_by_role("button", name="Pause").click()

    expect(page.locator(".toast")).to_contain_text("60 schedules paused")
    assert site.api.get("/api/schedules", params={"state": "paused", "limit": 500}).json()["count"] >= 60


def test_typing_into_the_search_keeps_value_focus_and_caret_while_rows_change(visitor: Visitor, site: Site) -> None:
    make(site, "typing.a", "other.b")
    make(site, "typing.busy", trigger={"type": "interval", "milliseconds": 100})
    page = visitor.open("/schedules")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")

    field = page.get_by_role("searchbox")
    field.press_sequentially("typing", delay=150)
    expect(row(page, "other.b")).to_have_count(0)
    expect(row(page, "typing.a")).to_be_visible()
    field.press("ArrowLeft")
    first = row(page, "typing.busy").locator("time").first.get_attribute("datetime")
    page.mouse.move(0, 0)
    expect(row(page, "typing.busy").locator("time").first).not_to_have_attribute("datetime", first or "")

    expect(field).to_be_focused()
    assert field.evaluate("one => [one.value, one.selectionStart]") == ["typing", 5]
    assert page.url.endswith("/schedules?q=typing&handler=")
    # What is asked for anew is still what was found.
    expect(row(page, "other.b")).to_have_count(0)
    site.api.delete("/api/schedules/typing.busy")


def test_a_wrong_end_of_a_pause_is_told_at_its_field_and_a_right_one_is_taken(visitor: Visitor, site: Site) -> None:
    make(site, "until.a")
    page = visitor.open("/schedules/until.a")

    page.locator("summary", has_text="Pause").click()
    page.get_by_label("Why").fill("moving")
    page.get_by_label("Until").fill("soon")
    page.locator("#pause_form").get_by_role("button", name="Pause").click()
    expect(page.locator("#pause_form .problem")).to_contain_text("expected a moment such as +2h")
    assert page.get_by_label("Why").input_value() == "moving"
    page.get_by_label("Until").fill("tomorrow 09:00")
    page.locator("#pause_form").get_by_role("button", name="Pause").click()

    expect(page.locator(".banner")).to_contain_text("Paused")
    expect(page.locator(".banner")).to_contain_text("moving")
    assert "400" in visitor.complaints.pop()


def test_the_calendar_leads_to_a_day_and_a_fire_is_explained(visitor: Visitor, seen: str) -> None:
    page = visitor.open(seen)

    page.locator(".month td.today a").click()
    expect(page).to_have_url(re.compile(r"tab=ledger&day="))
    page.get_by_label("Explain this fire").first.click()

    expect(page.locator("#story .sentence")).to_contain_text("It was due at")
    page.go_back()
    expect(page.locator("#story")).to_have_count(0)


def test_the_months_of_the_calendar_change_without_that_the_page_jumps(visitor: Visitor, seen: str) -> None:
    page = visitor.open(f"{seen}?month=2026-11")

    page.get_by_role("link", name="The month after").click()
    expect(page.get_by_role("heading", name="December 2026")).to_be_visible()

    assert page.url.endswith("?month=2026-12")


def test_an_old_version_is_looked_at_and_brought_back(visitor: Visitor, site: Site) -> None:
    make(site, "version.a", job_params={"value": 1})
    site.api.patch("/api/schedules/version.a", json={"job_params": {"value": 2}})
    page = visitor.open("/schedules/version.a?tab=versions")

    page.get_by_role("link", name="Diff").click()
    expect(page.locator("#diff")).to_contain_text("/job_params/value")
    page.get_by_role("button", name="Restore").click()
    page.locator("dialog").get_by_role("button", name="Restore").click()

    expect(page.locator(".toast")).to_contain_text("version.a is as it was in version 1")
    assert site.api.get("/api/schedules/version.a").json()["job_params"] == {"value": 1}


def test_a_deleted_schedule_is_undone_from_where_one_lands(visitor: Visitor, site: Site) -> None:
    make(site, "gone.a")
    page = visitor.open("/schedules/gone.a")

    page.get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/schedules")
    page.get_by_role("button", name="Undo").click()

    page.wait_for_url("**/schedules/gone.a")
    expect(page.locator("h1")).to_have_text("gone.a")


def test_hostile_text_is_shown_as_text(visitor: Visitor, seen: str) -> None:
    page = visitor.open(seen)
    expect(page.locator(".banner")).to_contain_text(HOSTILE)
    visitor.open(f"{seen}?tab=versions&before=1&after=2")

    expect(page.locator("#diff")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 0


def test_a_viewer_is_offered_nothing_to_change(sign_in: Any, seen: str) -> None:
    viewer = sign_in("viewer")

    for path in ("/schedules", seen, f"{seen}?tab=versions", f"{seen}?tab=backfills&since=-1min"):
        page = viewer.open(path)
        assert page.locator("main form[method=post]").count() == 0, path


def test_a_double_click_is_one_order(visitor: Visitor, site: Site) -> None:
    make(site, "twice")
    page = visitor.open("/schedules/twice")

    page.get_by_role("button", name="Run now").dblclick()
    expect(page.locator(".toast")).to_contain_text("twice runs now")
    page.get_by_role("button", name="Run now").click()

    # By the second order the first has been obeyed, however often it was sent.
    expect(page.locator(".toast")).to_have_count(1)
    eventually_sync(lambda: len(_runs(site, "twice")) >= 2)
    assert len(_runs(site, "twice")) == 2


def _runs(site: Site, id_: str) -> list[Any]:
    answer = site.api.get("/api/executions", params={"schedule_id": id_})
    assert answer.is_success, answer.text
    return list(answer.json()["records"])
