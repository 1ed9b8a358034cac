"""The documentation and the API's reference, as the UI shows them."""

from __future__ import annotations

import re

import pytest

from schedule_zero.web.api.decode import BodyDecoder
from schedule_zero.web.api.routes import ROUTES
from schedule_zero.web.pages import api_view, docs_library, docs_markdown
from tests.docs.test_links import PAGES, ROOT, anchors
from tests.integration.page_bed import browser, counted_reads

pytestmark = pytest.mark.anyio

BY_NAME = {route.name: route for route in ROUTES}
OPERATIONS = [operation for chapter in api_view.chapters().values() for operation in chapter.operations]


@pytest.fixture
async def viewer(server):
    async with browser(server, "viewer") as client:
        yield client


# --- the reference ----------------------------------------------------------------------------------


def test_every_route_of_the_api_stands_in_one_chapter():
    assert sorted(operation.id for operation in OPERATIONS) == sorted(BY_NAME)


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.body_example], ids=lambda operation: operation.id
)
def test_the_example_of_an_operation_s_body_is_taken_by_it(operation):
    BodyDecoder(BY_NAME[operation.id].body, 64).decode(operation.body_example.encode())


@pytest.mark.parametrize("slug", api_view.chapters())
def test_every_type_that_a_chapter_names_stands_in_it(slug):
    chapter = api_view.chapters()[slug]
    tables = {table.name for table in chapter.types}
    named = {word.link for table in chapter.types for field in table.fields for word in field.kind}
    named |= {word.link for one in chapter.operations for word in one.body}
    assert named - {None} <= tables


def test_an_example_for_a_shell_keeps_what_stands_in_quotes():
    operation = api_view.chapters()["schedules"].operations[0]
    assert """-d '{"handler_id": "demo",""" in operation.curl("http://h")
    assert operation.curl("http://h").startswith("curl -X POST http://h/api/schedules \\\n")
    compile(operation.python("http://h"), "example", "exec")


@pytest.mark.parametrize("slug", api_view.chapters())
async def test_a_chapter_shows_its_operations_and_offers_to_try_what_one_may(viewer, slug):
    answer = await viewer.get(f"/docs/api/{slug}?op={api_view.chapters()[slug].operations[0].id}")

    assert answer.status_code == 200
    for operation in api_view.chapters()[slug].operations:
        assert f'id="{operation.id}"' in answer.text
    offered = set(re.findall(r'<try-it data-method="(\w+)" data-path="([^"]+)"', answer.text))
    assert offered == {
        (operation.method, operation.path)
        for operation in api_view.chapters()[slug].operations
        if operation.access in ("viewer", "probe", "public")
    }
    assert len(answer.content) < 1_500_000


# --- the documentation ------------------------------------------------------------------------------


async def test_every_page_of_the_documentation_can_be_read_and_its_links_lead_somewhere(viewer):
    names = docs_library.names()
    assert {f"{name}.md" for name in names} == {
        page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")
    }
    known = {name: {heading.anchor for heading in docs_markdown.page(name).headings} for name in names}
    for name in sorted(names):
        answer = await viewer.get("/docs" if name == "README" else f"/docs/{name}")
        assert answer.status_code == 200, name
        body = answer.text.partition("<main")[2]
        assert "&lt;!--" not in body
        assert " style=" not in body
        for href in re.findall(r'href="(/docs[^"]*|#[^"]*)"', body):
            path, _, anchor = href.partition("#")
            there = path.removeprefix("/docs").strip("/") or ("README" if path else name)
            if there.startswith("api/"):
                continue
            assert there in names, (name, href)
            if anchor and there != "README" and anchor != "main":
                assert anchor in known[there], (name, href)


def test_headings_have_the_anchors_that_links_are_written_to():
    for name in docs_library.names():
        ours = {heading.anchor for heading in docs_markdown.page(name).headings}
        assert ours <= anchors(docs_library.folder() / f"{name}.md") | {a for a in ours if re.search(r"-\d+$", a)}


async def test_pictures_come_with_a_policy_that_lets_them_run_nothing(viewer):
    answer = await viewer.get("/docs/reference/img/dst-gap.svg")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    ["/docs/nothing", "/docs/../pyproject", "/docs/%2e%2e/pyproject", "/docs/reference/img/x.svg", "/docs/api/x"],
)
async def test_what_is_not_there_is_not_found(viewer, path):
    assert (await viewer.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a <!-- note --> b", "a  b"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("[x](testbed.md#the-file)", '<a href="/docs/reference/testbed#the-file">x</a>'),
        ("[x](../../config.yaml)", "<span>x</span>"),
        ("[x](https://example.org)", '<a href="https://example.org">x</a>'),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
    ],
)
def test_only_what_markdown_says_becomes_markup(markdown, html):
    assert docs_markdown.inline(markdown, "reference/configuration") == html


# --- looking for something --------------------------------------------------------------------------


async def test_a_search_finds_sections_and_operations_that_have_all_words(viewer):
    text = (await viewer.get("/docs", params={"q": "LEASE heartbeat"})).text
    assert "/docs/reference/protocol#" in text
    assert "<mark>" in text
    assert "jobs_heartbeat" in text


async def test_the_folder_of_the_reference_leads_to_its_contents(viewer):
    answer = await viewer.get("/docs/api")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/docs")


async def test_what_was_looked_for_is_shown_as_text(viewer):
    text = (await viewer.get("/docs", params={"q": "<script>alert(1)</script>"})).text
    assert "<script>alert" not in text
    assert "Nothing has all of these words" in text
    assert (await viewer.get("/docs", params={"q": "x" * 300})).status_code == 400


def test_a_search_prefers_what_is_called_so():
    first = docs_library.find("dead letters")[0]
    assert "dead letters" in f"{first.title} {first.heading}".lower()
    assert docs_library.find("") == []
    assert docs_library.find("no such words anywhere xyzzy") == []


async def test_pages_of_documentation_ask_the_store_nothing(server, viewer, monkeypatch):
    with counted_reads(server, monkeypatch) as asked:
        for path in ("/docs", "/docs?q=lease", "/docs/reference/api", "/docs/api/schedules"):
            assert (await viewer.get(path)).status_code == 200
    assert asked == []
