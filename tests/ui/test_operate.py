"""Operating by the pages of nodes, handlers, dead letters and groups, in a real browser: by mouse and by keyboard."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.support import eventually_sync
from tests.ui.site import Site, Visitor

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def letters(site: Site) -> str:
    """A group of dead letters with hostile messages; its id."""
    for number in range(3):
        site.over(site.run("error", {"message": f"order {number} {EVIL}"}))
    return group_of(site, EVIL)


def dead(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.api.get("/api/dead-letters", params={"handler_id": "chaos"}).json()["groups"]
    return found


def group_of(site: Site, message: str) -> str:
    return str(next(group["id"] for group in dead(site) if message in group["message"]))


@pytest.fixture(scope="module")
def parts(site: Site) -> str:
    """A group of executions; its id."""
    body = {"handler_id": "demo", "job_method": "noop", "shards": 3}
    return str(site.post("/api/groups", body)["id"])


def agree(page: Page, button: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=button).click()


def said(page: Page, text: str) -> None:
    expect(page.locator(".toast").filter(has_text=text)).to_be_visible()


@pytest.mark.parametrize(
    "path",
    ["/nodes/n1", "/handlers/chaos?method=error", "/dead-letters/{letters}", "/dead-letters/requeue?group={letters}",
     "/requeues", "/groups", "/groups/{parts}"],
)  # fmt: skip
def test_pages_of_one_thing_have_no_barriers(path: str, visitor: Visitor, letters: str, parts: str) -> None:
    visitor.open(path.format(letters=quote(letters, safe=""), parts=parts))
    wrong = {
        (colours, width): visitor.look(dark=colours == "dark", width=width)
        for colours in ("light", "dark")
        for width in (1280, 390)
    }
    assert not any(wrong.values()), wrong


def test_a_node_is_drained_with_a_reason_and_a_deadline_and_the_undo_releases_it(site: Site, visitor: Visitor) -> None:
    site.start_node("n-drained")
    page = visitor.open("/nodes/n-drained")
    page.get_by_text("Take it out of service").click()
    page.get_by_role("radio", name="Drain what").check()
    page.get_by_label("Why").fill("new disk")
    page.get_by_label("Deadline of a drain").fill("10")
    page.get_by_role("button", name="Take out of service").click()

    said(page, "n-drained is being emptied")
    now = page.locator("#now")
    expect(now).to_contain_text("drained")
    expect(now).to_contain_text("new disk")
    expect(page.locator("#history")).to_contain_text("new disk")
    operation = site.api.get("/api/nodes/n-drained").json()["operation"]
    assert (operation["kind"], operation["note"], operation["by"]) == ("drain", "new disk", "admin")

    page.get_by_role("button", name="Undo").click()
    expect(now.get_by_text("takes work")).to_be_visible()
    assert site.api.get("/api/nodes/n-drained").json()["operation"] is None


def test_a_reason_of_one_long_word_does_not_push_the_page_aside(site: Site, visitor: Visitor) -> None:
    site.post("/api/nodes/n1/cordon", {"note": "w" * 400})
    page = visitor.open("/nodes/n1")

    expect(page.locator("#now")).to_contain_text("www")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    site.post("/api/nodes/n1/release", {})
    assert wide == 0


def test_a_node_is_drained_by_keyboard_alone_once_that_is_confirmed(site: Site, visitor: Visitor) -> None:
    site.start_node("n-keys")
    page = visitor.open("/nodes?q=n-keys")
    page.get_by_role("button", name="Drain").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Empty n-keys?")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert site.api.get("/api/nodes/n-keys").json()["operation"] is None

    page.get_by_role("button", name="Drain").focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Enter")

    said(page, "n-keys is being emptied")
    expect(page.locator("#node-n-keys")).to_contain_text("drained")
    site.post("/api/nodes/n-keys/release", {})


def test_the_list_of_nodes_follows_what_happens_to_them(site: Site, visitor: Visitor) -> None:
    site.start_node("n-live")
    page = visitor.open("/nodes?q=n-live")
    row = page.locator("#node-n-live")
    expect(row).to_contain_text("online")
    site.nodes["n-live"].kill()
    expect(row).to_contain_text("lost")


def test_hostile_text_of_a_failure_is_shown_as_text(visitor: Visitor, letters: str) -> None:
    for path in ("/dead-letters", f"/dead-letters/{quote(letters, safe='')}"):
        page = visitor.open(path)
        expect(page.get_by_text(EVIL).first).to_be_visible()


def test_ticked_letters_are_requeued_and_put_aside_and_brought_back(site: Site, visitor: Visitor) -> None:
    for number in range(4):
        site.over(site.run("error", {"message": f"ticks {number}"}))
    group = group_of(site, "ticks")
    page = visitor.open(f"/dead-letters/{quote(group, safe='')}")
    again = page.get_by_role("button", name="Run ticked again")
    expect(again).to_be_disabled()

    page.locator("[data-pick]").nth(0).check()
    expect(page.get_by_text("1 dead letter ticked")).to_be_visible()
    again.click()
    said(page, "1 dead letter run again")
    # It fails again, and is a new one.
    eventually_sync(lambda: count(site, group) == 4)
    expect(page.locator("[data-pick]")).to_have_count(4)

    page.get_by_label("Tick all on this page").check()
    page.get_by_label("Why aside").fill("known")
    page.get_by_role("button", name="Put ticked aside").click()
    expect(page.get_by_role("dialog")).to_contain_text("Put 4 dead letters aside?")
    agree(page, "Put ticked aside")
    said(page, "4 dead letters put aside")
    expect(page.get_by_text("Nothing waits in the group")).to_be_visible()

    page.get_by_role("button", name="Undo").click()
    said(page, "4 dead letters back")
    assert count(site, group) == 4


def count(site: Site, group: str) -> int:
    found = site.api.get("/api/dead-letters").json()["groups"]
    return sum(one["count"] for one in found if one["id"] == group)


def test_a_group_is_run_again_with_other_parameters_previewed_while_typing(site: Site, visitor: Visitor) -> None:
    for number in range(2):
        site.over(site.run("error", {"message": f"patched {number}"}))
    group = group_of(site, "patched")
    page = visitor.open(f"/dead-letters/{quote(group, safe='')}")
    page.get_by_role("link", name="Run all again").click()
    expect(page.locator("#preview")).to_contain_text("2 dead letters, 10 a second")

    patch = page.get_by_label("Other parameters")
    patch.press_sequentially('{"message": ')
    expect(page.locator("#preview")).to_contain_text("is not JSON")
    expect(patch).to_be_focused()
    expect(patch).to_have_value('{"message": ')
    patch.press_sequentially('"other"}')
    expect(page.locator("#preview")).to_contain_text('"message": "other"')
    expect(patch).to_be_focused()

    page.get_by_label("How many a second").fill("100")
    page.get_by_role("button", name="Run 2 again").click()
    page.wait_for_url("**/requeues/*")
    said(page, "2 dead letters will be run again, 100 a second")
    expect(page.locator("#now")).to_contain_text("completed")
    expect(page.locator("#now")).to_contain_text("2 of 2")
    assert count(site, group) == 0
    # They were made; that they fail again takes a moment.
    eventually_sync(lambda: [one["count"] for one in dead(site) if "other" in one["message"]] == [2])


def test_a_running_group_is_cancelled(site: Site, visitor: Visitor) -> None:
    body = {"handler_id": "demo", "job_method": "sleep", "job_params": {"seconds": 60}, "shards": 2}
    made = site.post("/api/groups", body)
    page = visitor.open(f"/groups/{made['id']}")
    page.get_by_role("button", name="Cancel all").click()
    agree(page, "Cancel all")
    expect(page.locator("#now")).to_contain_text("2 of 2 members over")
    expect(page.locator("#members")).to_contain_text("cancelled")


def test_a_viewer_finds_no_button_to_press(site: Site, sign_in, letters: str) -> None:
    visitor = sign_in("viewer")
    for path in ("/nodes", "/nodes/n1", "/dead-letters", f"/dead-letters/{quote(letters, safe='')}", "/handlers"):
        page = visitor.open(path)
        main = page.locator("main")
        expect(main.get_by_role("button", name="Drain")).to_have_count(0)
        expect(main.get_by_text("Take it out of service")).to_have_count(0)
        expect(main.get_by_text("again …")).to_have_count(0)
        expect(main.get_by_text("Run now")).to_have_count(0)


def test_a_group_is_downloaded_as_a_sheet(visitor: Visitor, letters: str) -> None:
    page = visitor.open(f"/dead-letters/{quote(letters, safe='')}")
    with page.expect_download() as waited:
        page.get_by_role("link", name="CSV").click()
    assert waited.value.suggested_filename == "dead-letters.csv"
    text = waited.value.path().read_text(encoding="utf-8")
    assert text.startswith("id,handler_id,job_method,status,")
    assert text.count("order ") >= 3
