"""The audit log in the UI: who, when, from where, what, before and after."""

from __future__ import annotations

import re

import pytest

from schedule_zero.web.pages.audit import Difference, differences
from tests.integration.conftest import api_client
from tests.integration.page_bed import browser, counted_reads, part, submit

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>"
NIGHTLY = {"handler_id": "demo", "job_method": "noop", "trigger": {"type": "cron", "expression": "0 2 * * *"}}


@pytest.fixture
async def operator(server, known_demo):
    async with api_client(server) as api:
        assert (await api.put("/api/schedules/nightly", json=NIGHTLY)).status_code == 201
        assert (await api.patch("/api/schedules/nightly", json={"note": HOSTILE})).status_code == 200
        assert (await api.post("/api/tokens", json={"name": "ci", "role": "viewer"})).status_code == 201
    async with browser(server, "operator") as client:
        yield client


def shown(text: str) -> list[str]:
    """The verbs of the rows."""
    return re.findall(r'href="/audit\?verb=([\w.]+)"', text)


async def test_each_change_stands_there_with_who_and_from_where_and_what_it_was_before(operator):
    text = (await operator.get("/audit")).text

    assert shown(text)[:4] == ["session.created", "session.link_created", "token.created", "schedule.updated"]
    assert 'href="/schedules/nightly"' in text
    assert "from 127.0.0.1" in text
    assert HOSTILE not in text
    assert "<ins>&#34;&lt;script&gt;" in text
    assert "<del>1</del>" in text


async def test_what_was_done_to_many_executions_leads_to_how_far_it_is(server, known_demo):
    async with api_client(server) as api:
        await api.post("/api/executions", json={"executions": [{"handler_id": "demo", "job_method": "noop"}]})
        batch = (await api.post("/api/executions/cancel", json={"q": "handler:demo"})).json()["id"]
    async with browser(server, "operator") as client:
        assert f'href="/executions?batch={batch}"' in (await client.get("/audit")).text


async def test_filters_are_in_the_address_and_go_into_the_exports(operator):
    text = (await operator.get("/audit", params={"noun": "schedule", "subject": "nightly", "since": "2020-01-01"})).text

    assert shown(text) == ["schedule.updated", "schedule.created"]
    exported = re.search(r'href="(/api/changes\.csv\?[^"]+)"', text)[1].replace("&amp;", "&")
    answer = await operator.get(exported)
    assert answer.status_code == 200
    assert answer.text.count("\r\n") == 3
    lines = re.search(r'href="(/api/changes\.jsonl\?[^"]+)"', text)[1].replace("&amp;", "&")
    assert len((await operator.get(lines)).text.splitlines()) == 2
    assert shown((await operator.get("/audit", params={"by": "nobody"})).text) == []
    assert shown((await operator.get("/audit", params={"until": "2020-01-01T00:00"})).text) == []
    assert (await operator.get("/audit", params={"noun": "king"})).status_code == 400
    assert (await operator.get("/audit", params={"since": "soon"})).status_code == 400
    assert (await operator.get("/audit", params={"cursor": "soon"})).status_code == 400


async def test_a_moment_that_is_none_is_told_above_the_filters_that_stay(operator):
    page = await operator.get("/audit?since=yesterdy&by=ci")

    assert page.status_code == 400
    assert "expected a moment such as" in page.text
    assert 'name="since" value="yesterdy"' in page.text
    assert 'name="by" value="ci"' in page.text
    assert not shown(page.text)


async def test_older_changes_are_on_the_next_pages(server, operator):
    async with api_client(server) as api:
        body = {"schedules": [{"id": f"s{number:03}", **NIGHTLY} for number in range(60)]}
        assert (await api.post("/api/schedules", json=body)).status_code == 201

    first = (await operator.get("/audit?noun=schedule")).text
    older = re.search(r'rel="next" href="([^"]+)"', first) or re.search(r'href="([^"]+)" rel="next"', first)
    second = (await operator.get(older[1].replace("&amp;", "&"))).text

    assert len(shown(first)) == 50
    assert len(shown(second)) == 12
    assert "data-live=" not in second.partition('id="changes"')[2].partition(">")[0]


async def test_what_is_done_in_the_ui_stands_there_too(operator, server):
    async with browser(server) as admin:
        await submit(admin, "/schedules/freeze", {"note": "moving house"})
        await submit(admin, "/new-calendar", {"name": "works", "document": "timezone: UTC"})
        assert (await submit(admin, "/tokens", {"name": "made here", "role": "viewer"})).status_code == 201

    text = (await operator.get("/audit", headers=part("changes"))).text

    assert shown(text)[:4] == ["token.created", "calendar.created", "schedules.frozen", "session.created"]
    assert "moving house" in text
    assert not re.search(r"sz_[\w-]{20,}", text)


async def test_viewers_neither_see_nor_may_open_it(server, operator):
    async with browser(server, "viewer") as viewer:
        assert 'href="/audit"' not in (await viewer.get("/settings")).text
        assert (await viewer.get("/audit")).status_code == 403
        assert (await viewer.get("/api/changes.csv")).status_code == 403


async def test_one_page_is_one_look_into_the_store(server, operator, monkeypatch):
    with counted_reads(server, monkeypatch) as asked:
        await operator.get("/audit?noun=schedule")
    assert len(asked) == 1


def test_values_are_shown_as_they_are_written_and_only_where_they_differ():
    before = b'{"a":12345678901234567890,"b":1,"c":null,"d":[1, 2]}'
    after = b'{"a":12345678901234567891,"b":1,"c":"x","e":"' + b"y" * 500 + b'"}'
    assert differences(before, after) == [
        Difference("a", "12345678901234567890", "12345678901234567891"),
        Difference("c", None, '"x"'),
        Difference("d", "[1, 2]", None),
        Difference("e", None, '"' + "y" * 159 + "…"),
    ]
    assert differences(None, None) == []
