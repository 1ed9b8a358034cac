"""Pages of schedules over the wire: what they show, what they do, and what they refuse."""

from __future__ import annotations

import asyncio
import html
import json
import re
from typing import Any

import httpx
import pytest

from schedule_zero.model import CatchUp, Origin, Role, State
from schedule_zero.service.schedule_bulk import BulkVerb
from schedule_zero.service.specs import Principal
from schedule_zero.store.schedule_lists import Wanted
from tests.integration.conftest import api_client
from tests.support import eventually

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>"
DAILY = {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture(autouse=True)
def demo(known_demo: None) -> None:
    """The handler is known; nothing runs."""


async def make(api: httpx.AsyncClient, *ids: str, **fields: Any) -> None:
    body = [
        {"id": id_, "handler_id": "demo", "job_method": "echo", "trigger": {"type": "interval", "hours": 1}, **fields}
        for id_ in ids
    ]
    answer = await api.post("/api/schedules", json={"schedules": body})
    assert answer.status_code == 201, answer.text


async def shown(api: httpx.AsyncClient, path: str, **query: Any) -> str:
    answer = await api.get(path, params=query or None)
    assert answer.status_code == 200, answer.text
    return answer.text


async def send(api: httpx.AsyncClient, path: str, **fields: Any) -> httpx.Response:
    """Send a form as htmx does."""
    return await api.post(path, data=fields or None, headers={"HX-Request": "true", "Content-Type": FORM})


FORM = "application/x-www-form-urlencoded"


def said(answer: httpx.Response) -> dict[str, Any]:
    """What the page is told of a form that was obeyed."""
    assert answer.status_code in (200, 204), answer.text
    told: dict[str, Any] = json.loads(answer.headers["HX-Trigger"])["sz:done"]
    return told


def problem(answer: httpx.Response) -> str:
    text: str = json.loads(answer.headers["HX-Trigger"])["sz:problem"]["text"]
    return text


def listed(text: str) -> list[str]:
    """The ids in the table."""
    return re.findall(r'<tr id="s-([^"]+)"', text)


async def state_of(api: httpx.AsyncClient, id_: str) -> str:
    state: str = (await api.get(f"/api/schedules/{id_.replace('/', '%2F')}")).json()["state"]
    return state


# --- the list -----------------------------------------------------------------------------------------


async def test_the_list_without_schedules_says_how_to_make_one(api):
    text = await shown(api, "/schedules")

    assert "schedule-zero schedule demo.hello" in text
    assert "data-pick" not in text


async def test_the_list_shows_each_schedule_in_words(api):
    await make(api, "night/job", trigger=DAILY)
    await make(api, "paused", paused=True, note=HOSTILE)

    text = await shown(api, "/schedules")

    assert listed(text) == ["night/job", "paused"]
    assert "At 02:30 (Europe/Berlin)" in text
    assert 'href="/schedules/night%2Fjob"' in text
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False) in text
    assert re.search(r"active <b>1</b>.*paused <b>1</b>", text, re.DOTALL)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"q": "etl"}, ["etl.a", "etl.b"]),
        ({"q": "*.b"}, ["etl.b"]),
        ({"q": "demo.ec?o"}, ["etl.a", "etl.b", "other"]),
        ({"state": "paused"}, ["other"]),
        ({"q": "etl", "state": "paused"}, []),
        ({"handler": "demo"}, ["etl.a", "etl.b", "other"]),
        ({"handler": "nobody"}, []),
        ({"sort": "next"}, ["etl.a", "etl.b", "other"]),
    ],
)
async def test_the_list_is_filtered_by_what_its_address_says(api, query, ids):
    await make(api, "etl.b", "etl.a")
    await make(api, "other", paused=True)

    assert sorted(listed(await shown(api, "/schedules", **query))) == ids


@pytest.mark.parametrize("sort", ["id", "next", "handler"])
async def test_the_pages_of_the_list_lead_on_to_its_end(api, sort):
    ids = [f"s{n:03}" for n in range(120)]
    await make(api, *ids)

    found: list[str] = []
    path = f"/schedules?sort={sort}"
    while path:
        text = await shown(api, path)
        found += listed(text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = html.unescape(following[1]) if following else ""

    assert found == ids


@pytest.mark.parametrize("query", [{"state": "asleep"}, {"sort": "age"}, {"cursor": "x"}, {"x": "1"}, {"q": "a" * 201}])
async def test_a_list_that_there_is_not_is_refused(api, query):
    answer = await api.get("/schedules", params=query)

    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")


async def test_a_part_of_the_list_is_that_part_alone(api):
    await make(api, "a")

    rows = await api.get("/schedules", headers={**PART, "HX-Target": "section#rows"})
    whole = await api.get("/schedules", headers={**PART, "HX-Target": "div#list"})

    assert "<h1>" not in rows.text + whole.text
    assert listed(rows.text) == listed(whole.text) == ["a"]
    assert 'id="rows"' not in rows.text
    assert 'id="rows"' in whole.text


async def test_a_page_costs_a_few_reads_however_many_rows_it_has(api, server, monkeypatch):
    await make(api, *(f"s{n:03}" for n in range(100)))
    reads = 0
    real = server.store.read

    async def counted(query):
        nonlocal reads
        # The timer reads, too.
        reads += asyncio.current_task().get_coro().__qualname__ == "Exchange._run"
        return await real(query)

    monkeypatch.setattr(server.store, "read", counted)
    costs = {}
    for path in ("/schedules", "/schedules/s001", *(f"/schedules/s001?tab={tab}" for tab in TABS)):
        reads = 0
        await shown(api, path)
        costs[path] = reads

    assert costs["/schedules"] == 1
    assert max(costs.values()) <= 4, costs


TABS = ("ledger", "versions", "definition", "backfills")


# --- many at once -------------------------------------------------------------------------------------


async def test_ticked_schedules_are_paused_together(api):
    await make(api, "a", "b", "c")

    told = said(await send(api, "/schedules/bulk", verb="pause", id=["a", "c"]))

    assert told["text"] == "2 schedules paused"
    assert [await state_of(api, id_) for id_ in "abc"] == ["paused", "active", "paused"]


async def test_what_cannot_be_done_with_some_is_counted_and_told(api):
    await make(api, "a", "b")

    told = said(await send(api, "/schedules/bulk", verb="skip", id=["a", "unknown", "b"]))

    assert told["text"].startswith("2 schedules asked to skip a fire, 1 left as they are: ")
    assert "unknown" in told["text"]


async def test_all_that_match_are_as_many_as_was_agreed_to(api):
    await make(api, *(f"etl.{n}" for n in range(120)))
    await make(api, "other")

    refused = await send(api, "/schedules/bulk", verb="delete", all="1", q="etl.*", expected=119)
    assert refused.status_code == 409
    assert "finds 120 now" in problem(refused)
    told = said(await send(api, "/schedules/bulk", verb="delete", all="1", q="etl.*", expected=120))

    assert told["text"] == "120 schedules deleted"
    assert listed(await shown(api, "/schedules")) == ["other"]


async def test_many_are_run_now(api):
    await make(api, "a", "b")

    said(await send(api, "/schedules/bulk", verb="run", id=["a", "b"]))

    page = (await api.get("/api/executions")).json()
    assert sorted(record["schedule_id"] for record in page["records"]) == ["a", "b"]


@pytest.mark.parametrize("fields", [{"verb": "pause"}, {"verb": "burn", "id": "a"}, {"id": "a"}])
async def test_a_bulk_that_says_nothing_to_do_is_refused(api, fields):
    assert (await send(api, "/schedules/bulk", **fields)).status_code == 400


async def test_thousands_are_found_and_changed_in_one_request(server, api):
    principal = Principal(name="me", role=Role.OPERATOR, token_id="t")
    for at in range(0, 2500, 500):
        await make(api, *(f"s{n:05}" for n in range(at, at + 500)))

    answer = await server.service.schedule_bulk.do_all(principal, BulkVerb.PAUSE, Wanted(text="s0"), 2500)
    again = await server.service.schedule_bulk.do_all(principal, BulkVerb.RESUME, Wanted(), None)

    assert (answer.matched, answer.done, answer.left, answer.refused) == (2500, 2500, 0, 0)
    assert again.done == 2500


# --- one schedule -------------------------------------------------------------------------------------


async def test_a_schedule_shows_its_past_its_future_and_what_it_is_made_of(api):
    await make(api, "night", trigger=DAILY, job_params={"big": 12345678901234567890, "x": HOSTILE})

    text = await shown(api, "/schedules/night", month="2027-03")
    assert "March 2027" in text
    # The clock is set forward that night: 02:30 does not exist, and is made up for.
    assert re.search(r'title="28 March: 1 to come"', text)
    assert text.count("<li><time") == 20
    definition = await shown(api, "/schedules/night", tab="definition")
    assert "12345678901234567890" in definition
    assert HOSTILE not in text + definition


async def test_a_clock_change_and_a_calendar_are_marked_on_the_fires_to_come(api):
    made = await api.post("/api/calendars", json={"name": "off", "dates": ["2100-01-01"]})
    assert made.status_code == 201, made.text
    new_year = {"type": "cron", "expression": "0 9 1 1 *", "start": "2099-06-01T00:00:00Z"}
    await make(api, "new-year", trigger=new_year, policies={"exclude": ["off"]})
    await make(api, "gap", trigger={"type": "cron", "expression": "30 2 28 3 *", "timezone": "Europe/Berlin"})

    assert "dst gap" in await shown(api, "/schedules/gap")
    assert re.search(r"<li><time[^>]*>1 Jan 2100 .*?tag (holiday|blackout)", await shown(api, "/schedules/new-year"))


async def test_what_is_to_be_skipped_or_falls_into_a_pause_is_marked(api):
    await make(api, "a")

    told = said(await send(api, "/schedules/a/skip", count="2"))
    text = await shown(api, "/schedules/a")

    assert told == {"text": "a will skip its next 2 fires", "undo": "/schedules/a/skip-none"}
    # The facts above the tabs and the list say it of the next one, too.
    assert text.count("to be skipped") == 3
    assert (await shown(api, "/schedules")).count("to be skipped") == 1
    said(await send(api, "/schedules/a/skip-none"))
    said(await send(api, "/schedules/a/pause", until="+90min"))
    text = await shown(api, "/schedules/a")
    assert "to be skipped" not in text
    assert len(re.findall(r'<li><time.*?tag paused">', text)) == 1


async def test_a_pause_says_why_since_when_and_by_whom(api):
    await make(api, "a")

    told = said(await send(api, "/schedules/a/pause", note=HOSTILE, until="2090-01-01 09:00"))
    text = await shown(api, "/schedules/a")

    assert told["undo"] == "/schedules/a/resume"
    assert re.search(r"<b>Paused</b> since .*by admin, until .*1 Jan 2090 09:00:00 UTC", text)
    assert html.escape(HOSTILE, quote=False) in text
    said(await send(api, told["undo"]))
    assert await state_of(api, "a") == "active"


async def test_a_pause_until_something_that_is_no_moment_says_so_beside_the_field(api):
    await make(api, "a")

    answer = await api.post(
        "/schedules/a/pause",
        data={"until": "soon", "note": "why not"},
        headers={**PART, "HX-Target": "form#pause_form"},
    )
    whole = await api.post("/schedules/a/pause", data={"until": "-1h"})

    assert answer.status_code == whole.status_code == 400
    assert "expected a moment such as +2h" in answer.text
    assert 'value="soon"' in answer.text
    assert 'value="why not"' in answer.text
    assert "<h1>" not in answer.text
    assert "expected a moment to come" in whole.text
    assert "<h1>a</h1>" in whole.text
    assert await state_of(api, "a") == "active"


async def test_a_run_now_makes_an_execution(api):
    await make(api, "a")

    assert said(await send(api, "/schedules/a/run"))["text"] == "a runs now"
    without_js = await api.post("/schedules/a/run", headers={"Content-Type": FORM})

    records = (await api.get("/api/executions")).json()["records"]
    assert len(records) == 2
    assert (without_js.status_code, without_js.headers["Location"]) == (303, f"/executions/{records[0]['id']}")


async def test_a_deleted_schedule_keeps_its_page_and_comes_back(api):
    await make(api, "a/b", note="as it was")

    answer = await send(api, "/schedules/a%2Fb/delete")
    assert said(answer)["undo"] == "/schedules/a%2Fb/undelete"
    assert answer.headers["HX-Redirect"] == "/schedules"
    text = await shown(api, "/schedules/a%2Fb")
    assert "This schedule is deleted" in text
    assert (await send(api, "/schedules/unknown/undelete")).status_code == 404

    said(await send(api, "/schedules/a%2Fb/undelete"))
    assert (await api.get("/api/schedules/a%2Fb")).json()["note"] == "as it was"
    twice = await send(api, "/schedules/a%2Fb/undelete")
    assert (twice.status_code, "is not deleted" in problem(twice)) == (409, True)


@pytest.mark.parametrize("path", ["/schedules/unknown", "/schedules/unknown?tab=ledger", "/schedules/a%20b"])
async def test_a_schedule_that_never_was_is_not_found(api, path):
    assert (await api.get(path)).status_code == 404


# --- its ledger ---------------------------------------------------------------------------------------


@pytest.fixture
async def fired(api, server):
    """A schedule with fires that ran, and one that was skipped."""
    await make(api, "quick", trigger={"type": "interval", "milliseconds": 200})
    await eventually(lambda: _fires(server, "quick", 3))
    await api.post("/api/schedules/quick/pause")
    await eventually(lambda: _fires(server, "quick", 1, "skipped"))
    await api.post("/api/freeze")
    return (await api.get("/api/schedules/quick/fires")).json()["records"]


async def _fires(server, id_: str, least: int, outcome: str = "executed") -> bool:
    counts = await server.service.ledger.counts(id_)
    return getattr(counts, outcome) >= least


async def test_the_ledger_shows_each_fire_and_explains_it(api, fired):
    text = await shown(api, "/schedules/quick", tab="ledger")
    assert text.count("data-row") == min(50, len(fired))
    assert text.count(">why?</a>") == min(50, len(fired))

    skipped = await shown(api, "/schedules/quick", tab="ledger", outcome="skipped")
    assert "executed</span></td>" not in skipped
    first = html.unescape(re.findall(r'<a href="([^"]+)"[^>]*aria-label="Explain', skipped)[0])
    story = await shown(api, first)
    assert re.search(r'class="sentence">It was due at .* paused', story)


async def test_a_day_of_the_calendar_leads_to_its_fires(api, fired):
    month = await shown(api, "/schedules/quick")
    [today] = re.findall(r'<td class="today"><a href="([^"]+)"', month)

    assert re.search(r"title=\"\d+ \w+: \d+ ran, \d+ skipped", month)
    assert 'id="f-' in await shown(api, html.unescape(today))
    assert "No fire is like that" in await shown(api, "/schedules/quick", tab="ledger", day="2020-01-01")
    for query in ({"day": "2026-02-30", "tab": "ledger"}, {"day": "x"}, {"month": "2026-13"}):
        assert (await api.get("/schedules/quick", params=query)).status_code == 400


async def test_a_moment_can_be_asked_about_in_words_and_a_wrong_one_is_told(api, fired):
    before = await shown(api, "/schedules/quick", tab="ledger", at="yesterday 09:00")
    assert re.search(r'class="sentence">[^<]*09:00:00', before)
    text = await shown(api, "/schedules/quick", tab="ledger", at="when?")

    assert "expected a moment such as" in text
    assert 'value="when?"' in text


# --- versions -----------------------------------------------------------------------------------------


async def test_versions_are_compared_and_restored(api):
    await make(api, "a", job_params={"n": 1})
    await api.patch("/api/schedules/a", json={"job_params": {"n": 2, "x": HOSTILE}})

    text = await shown(api, "/schedules/a", tab="versions", before="1", after="2")
    assert "/job_params/n" in text
    assert HOSTILE not in text
    told = said(await send(api, "/schedules/a/restore", version="1"))

    assert told["text"] == "a is as it was in version 1"
    record = (await api.get("/api/schedules/a")).json()
    assert (record["version"], record["job_params"]) == (3, {"n": 1})
    assert (await send(api, "/schedules/a/restore", version="3")).status_code == 409
    assert (await api.get("/schedules/a", params={"tab": "versions", "before": "7", "after": "9"})).status_code == 404


# --- policies -----------------------------------------------------------------------------------------


async def test_policies_and_options_say_who_said_them(api):
    await make(api, "a", policies={"overlap": "skip", "catch_up_window_s": 60}, options={"max_attempts": 3})

    text = await shown(api, "/schedules/a", tab="definition")

    def origin(name: str) -> tuple[str, str]:
        found = re.search(rf'<th scope="row">{name}.*?<td>(.*?)</td><td><small>(.*?)</small>', text)
        assert found is not None
        return found[1], found[2]

    assert origin("overlap") == ("skip", "schedule")
    assert origin("catch_up_window_s") == ("1 min", "schedule")
    assert origin("misfire_grace_s") == ("10 s", "server")
    assert origin("coalesce") == ("no", "default")
    assert origin("max_attempts") == ("3", "schedule")
    assert origin("on_lost") == ("rerun", "default")


# --- backfills ----------------------------------------------------------------------------------------


async def test_a_backfill_is_counted_and_then_run_as_it_was_counted(api):
    await make(api, "a", trigger={"type": "cron", "expression": "* * * * *"})

    text = await shown(api, "/schedules/a", tab="backfills", since="-10min", until="-1min")
    [total] = re.findall(r"<b>(\d+) executions</b>", text)
    fields = dict(re.findall(r'<input type="hidden" name="(from_us|to_us|rate|expected)" value="([^"]+)">', text))
    told = said(await send(api, "/schedules/a/backfill", **fields))

    assert told["text"] == f"{total} executions of a will be made"
    [begun] = (await api.get("/api/schedules/a/backfills")).json()["backfills"]
    assert begun["count"] == int(total)
    changed = await send(api, "/schedules/a/backfill", **{**fields, "expected": "3"})
    assert changed.status_code == 409
    answer = await send(api, f"/backfills/{begun['id']}/cancel")
    assert answer.status_code in (204, 409)
    assert f"/{total} <small>10.0/s" in await shown(api, "/schedules/a", tab="backfills")


async def test_a_range_that_is_none_says_so_at_its_field(api):
    await make(api, "a")

    text = await shown(api, "/schedules/a", tab="backfills", since="soon", until="+1h", rate="-3")
    assert text.count("expected a") >= 2
    assert text.count("field invalid") == 2
    ahead = await shown(api, "/schedules/a", tab="backfills", since="-1h", until="+1h")
    assert "expected a range that lies back" in ahead


# --- freeze -------------------------------------------------------------------------------------------


async def test_a_freeze_is_told_on_every_page_of_schedules_until_it_is_thawed(api):
    await make(api, "a")

    told = said(await send(api, "/schedules/freeze", note="moving <b>", until="+1h"))
    for path in ("/schedules", "/schedules/a"):
        text = await shown(api, path)
        assert "All schedules are frozen" in text
        assert "moving &lt;b&gt;" in text
    assert (await send(api, "/schedules/freeze")).status_code == 409
    said(await send(api, told["undo"]))

    assert "All schedules are frozen" not in await shown(api, "/schedules")
    assert (await send(api, "/schedules/thaw", catch_up="some")).status_code == 400


async def test_a_freeze_ends_when_it_was_said_to_and_takes_up_what_was_asked_for(api, server):
    said(await send(api, "/schedules/freeze", until="+2h"))
    current, _ = await server.service.freezes.all()
    assert current.to_us - current.from_us == pytest.approx(7_200_000_000, abs=60_000_000)

    said(await send(api, "/schedules/thaw", catch_up="latest"))
    current, [freeze] = await server.service.freezes.all()
    assert current is None
    assert freeze.catch_up is CatchUp.LATEST


@pytest.mark.parametrize("until", ["yesterday", "2020-01-01T00:00", "9999-99-99"])
async def test_a_freeze_until_what_is_no_moment_to_come_is_refused(api, server, until):
    assert (await send(api, "/schedules/freeze", until=until)).status_code == 400
    assert (await server.service.freezes.all())[0] is None


# --- who may ------------------------------------------------------------------------------------------


async def test_a_viewer_sees_all_of_it_and_can_change_nothing(api, server):
    await make(api, "a")
    made = await api.post("/api/tokens", json={"name": "v", "role": "viewer"})
    async with api_client(server, Authorization=f"Bearer {made.json()['token']}") as viewer:
        for path in ("/schedules", "/schedules/a", *(f"/schedules/a?tab={tab}" for tab in TABS)):
            text = await shown(viewer, path)
            assert not re.search(r'<form[^>]*method="post" action="/(schedules|backfills)', text), path
        for verb in ("pause", "resume", "run", "skip", "skip-none", "delete", "undelete"):
            assert (await send(viewer, f"/schedules/a/{verb}")).status_code == 403
        for verb in ("bulk", "freeze", "thaw"):
            assert (await send(viewer, f"/schedules/{verb}", verb="pause", id="a")).status_code == 403

    assert await state_of(api, "a") == "active"


async def test_the_strip_shows_what_became_of_the_runs(api, server, fired):
    records = (await api.get("/api/executions", params={"schedule_id": "quick"})).json()["records"]
    assert {record["origin"] for record in records} == {Origin.FIRE.value}
    for record in records:
        await api.post(f"/api/executions/{record['id']}/cancel")

    text = await shown(api, "/schedules")

    assert f'<i class="{State.CANCELLED.value}"></i>' in text
    assert '<i class="skipped"></i>' in text
    assert re.search(r'class="strip"[^>]*title="\d+ cancelled, \d+ skipped"', text)
