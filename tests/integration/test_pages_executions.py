"""The list of executions: searches, states, when, what is done to many, views that are kept; and whom it refuses."""

from __future__ import annotations

import re
from html import unescape

import msgspec
import pytest

from schedule_zero.model import JobError, State
from schedule_zero.store import execution_lists, executions
from schedule_zero.web.pages.executions import ROWS
from tests.integration.pages import counted, part_of, seen, send, token_of
from tests.store.builders import execution
from tests.support import eventually

pytestmark = pytest.mark.anyio

EVIL = "<script>alert(1)</script>"


def id_of(n: int) -> str:
    return f"01k{n:023d}"


async def put(server, count, first=0, **fields):
    """As if so many had been there; their ids, oldest first."""
    now_us = server.clock.wall_us()
    rows = [
        execution(
            id_of(first + n),
            **{"created_us": now_us - (count - n) * 1_000_000, "state": State.COMPLETED, **fields},
        )
        for n in range(count)
    ]
    await server.store.write(executions.insert, executions.Insert(rows=rows))
    return [row.id for row in rows]


def ids_in(text: str) -> list[str]:
    return re.findall(r'<tr id="x-([0-9a-z]{26})"', text)


# --- what it shows ----------------------------------------------------------------------------------


async def test_without_executions_the_page_says_what_they_are_and_how_to_run_one(api):
    text = await seen(api, "/executions")
    assert "An execution is one piece of work" in text
    assert "schedule-zero run demo.hello" in text


async def test_executions_are_listed_newest_first_with_what_is_known(server, api):
    error = msgspec.json.encode(JobError(type="ValueError", message=f"{EVIL} \x1b[31m\u202ex"))
    now_us = server.clock.wall_us()
    ids = await put(server, 2)
    await put(
        server, 1, 2, state=State.FAILED, error=error, attempt=3, node_id="n1", schedule_id="etl.night",
        created_us=now_us, started_us=now_us + 2_000_000, finished_us=now_us + 5_000_000,
    )  # fmt: skip

    text = await seen(api, "/executions")

    assert ids_in(text) == [id_of(2), *ids[::-1]]
    row = text[text.index(f"x-{id_of(2)}") : text.index(f"x-{ids[1]}")]
    for fact in ("demo.noop", "failed", "×3", "etl.night", "n1", ">2 s<", ">3 s<", f'href="/executions/{id_of(2)}"'):
        assert fact in row
    assert EVIL not in text
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt; \\u202ex" in row


async def test_what_waits_says_for_what(server, api):
    now_us = server.clock.wall_us()
    await put(server, 1, state=State.PENDING)
    await put(server, 1, 1, state=State.SCHEDULED, not_before_us=now_us + 300_000_000)
    await put(server, 1, 2, state=State.RETRY_SCHEDULED, not_before_us=now_us + 42_000_000, attempt=1,
              error=b'{"type":"ConnectTimeout","message":"no route"}')  # fmt: skip

    text = await seen(api, "/executions")

    assert "no node that serves demo.noop is connected" in text
    assert re.search(r"in (4|5) min", text)
    assert re.search(r"in 4\d s</time>: ConnectTimeout: no route", text)


async def test_a_search_is_shown_as_it_was_understood_and_finds_what_it_says(server, api):
    await put(server, 2)
    [failed] = await put(server, 1, 2, state=State.FAILED)

    text = await seen(api, "/executions", q="STATE:Failed   handler:demo")

    assert ids_in(text) == [failed]
    assert 'value="state:failed handler:demo"' in text
    assert "<title>state:failed handler:demo – Executions" in text


async def test_a_slip_is_marked_and_nothing_that_was_typed_is_lost(server, api):
    await put(server, 1)
    text = await seen(api, "/executions", 400, q=f"node:n1 stat:failed {EVIL}")

    assert "node:n1 <mark>stat:failed</mark> &lt;script&gt;" in text
    assert "did you mean state:?" in text
    assert f'value="node:n1 stat:failed {EVIL}"'.replace("<", "&lt;").replace(">", "&gt;") in text
    assert 'aria-invalid="true"' in text
    assert EVIL not in text
    assert ids_in(text) == []


async def test_states_have_their_counts_and_lead_to_themselves(server, api):
    await put(server, 2, state=State.PENDING)

    text = await seen(api, "/executions")

    assert re.search(r'href="/executions\?q=state%3Apending"\s*>pending <b>2</b>', text)
    assert "completed <b>0</b>" in text
    text = await seen(api, "/executions", q="state:failed schedule:x")
    assert re.search(r'href="/executions\?q=schedule%3Ax" aria-current="true">failed<', text)


async def test_the_histogram_leads_to_the_time_of_its_bars(server, api):
    await put(server, 30)

    text = await seen(api, "/executions", q="handler:demo")

    bars = [unescape(href) for href in re.findall(r'<a href="([^"]+)" aria-label="\d+', text)]
    assert bars
    found: list[str] = []
    for bar in bars:
        found += ids_in((await api.get(bar)).text)
    assert sorted(found) == [id_of(n) for n in range(30)]


async def test_pages_follow_each_other_to_the_end(server, api):
    ids = await put(server, 2 * ROWS + 5)
    found, path = [], "/executions?q=handler%3Ademo"
    while path:
        text = (await api.get(path)).text
        found += ids_in(text)
        older = re.search(r'rel="next" href="([^"]+)"', text)
        path = unescape(older[1]) if older else ""

    assert found == ids[::-1]


async def test_a_page_that_has_looked_at_enough_says_back_to_when_and_goes_on(server, api, monkeypatch):
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 20)
    [old] = await put(server, 1, params=b'{"customer":42}')
    await put(server, 60, 1)

    text, looks = await seen(api, "/executions", q="arg.customer:42"), 1
    while not ids_in(text):
        assert "the search looked back to" in text
        assert "Search on" in text
        text = (await api.get(unescape(re.search(r'rel="next" href="([^"]+)"', text)[1]))).text
        looks += 1

    assert ids_in(text) == [old]
    assert 2 <= looks <= 12


async def test_days_are_the_viewers(server, api):
    await put(server, 1)
    api.cookies.set("sz_time", "browser")
    api.cookies.set("sz_zone", "Pacific/Kiritimati")
    text = await seen(api, "/executions", q="since:today")
    assert "timezone=Pacific%2FKiritimati" in text


async def test_a_cursor_that_is_none_is_told(api):
    assert "cursor" in await seen(api, "/executions", 400, cursor="x")


@pytest.mark.parametrize("field", ["page", "limit"])
async def test_what_the_address_does_not_know_is_refused(field, api):
    assert "unknown query parameter" in await seen(api, "/executions", 400, **{field: "x"})


# --- how little it reads ----------------------------------------------------------------------------


async def test_a_page_makes_a_bounded_number_of_reads(server, api, monkeypatch):
    await put(server, ROWS)
    with counted(monkeypatch, server) as few:
        await seen(api, "/executions", q="handler:demo")
    await put(server, 300, ROWS)
    with counted(monkeypatch, server) as many:
        await seen(api, "/executions", q="handler:demo")

    assert max(few + many) <= 12


async def test_a_part_reads_only_what_it_shows(server, api, monkeypatch):
    ids = await put(server, 3)
    with counted(monkeypatch, server) as reads:
        rows = await part_of(api, "/executions", "rows", q="handler:demo")
    assert reads[0] <= 4
    assert ids_in(rows) == ids[::-1]
    assert "histogram" not in rows

    assert "completed" in await part_of(api, "/executions", "states")
    assert "<svg" in await part_of(api, "/executions", "histogram")


# --- many at once -----------------------------------------------------------------------------------


async def test_before_many_are_cancelled_it_says_how_many_and_what_happens(server, api):
    await put(server, 3, state=State.PENDING)
    await put(server, 2, 3)

    text = await seen(api, "/executions/bulk", kind="cancel", q="handler:demo")

    assert "Cancel 3 executions?" in text
    assert "It can&#39;t be undone" in text or "It can't be undone" in text
    text = await seen(api, "/executions/bulk", kind="retry", q="handler:demo")
    assert "Retry 2 executions?" in text
    assert "There is nothing to retry" in await seen(api, "/executions/bulk", kind="retry", q="state:failed")


async def test_all_that_a_search_finds_is_cancelled_and_the_list_shows_how_far_it_is(server, api):
    ids = await put(server, 60, state=State.PENDING)
    kept = await put(server, 1, 60, state=State.PENDING, handler_id="other")

    said = await send(api, "/executions/bulk", 200, kind="cancel", q="handler:demo")

    assert said["text"] == "Cancelling 60"
    to = said["headers"]["HX-Redirect"]

    async def over():
        return "60 of 60" in (await api.get(to)).text

    await eventually(over)
    text = (await api.get(to)).text
    assert "Cancelled" in text
    assert "<code>handler:demo</code>" in text
    assert ids_in(await seen(api, "/executions", q="state:cancelled"))[0] == ids[-1]
    assert ids_in(await seen(api, "/executions", q="state:pending")) == kept


async def test_those_that_were_ticked_are_retried(server, api, start_node):
    await start_node()
    ids = await put(server, 4, state=State.FAILED, job_method="noop")
    [open_one] = await put(server, 1, 4, state=State.PENDING)
    ticked = [ids[0], ids[2], open_one]

    assert "Of the 3 that were ticked" in await seen(api, "/executions/bulk", kind="retry", q="x", id=ticked)
    said = await send(api, "/executions/bulk", 200, kind="retry", q="state:failed", id=ticked)

    to = said["headers"]["HX-Redirect"]
    batch_id = to.partition("batch=")[2]
    assert "q=state%3Afailed" in to

    async def made():
        return ids_in(await seen(api, "/executions", q=f"group:{batch_id}"))

    await eventually(made)
    found = await made()
    assert len(found) == 2
    text = (await api.get(to)).text
    assert "2 of 2" in text
    assert f"group%3A{batch_id}" in text


async def test_a_page_of_ticked_rows_fits_into_an_address(server, api):
    ids = await put(server, ROWS, state=State.FAILED)
    assert f"Retry {ROWS} executions?" in await seen(api, "/executions/bulk", kind="retry", q="", id=ids)


async def test_a_batch_can_be_stopped(server, api):
    await put(server, 1, state=State.PENDING)
    batch = await send(api, "/executions/bulk", 200, kind="cancel", q="")
    batch_id = batch["headers"]["HX-Redirect"].partition("batch=")[2]

    async def over():
        return (await api.get(f"/api/batches/{batch_id}")).json()["state"] == "completed"

    await eventually(over)
    assert "is completed already" in (await send(api, f"/batches/{batch_id}/stop", 409))["text"]


async def test_nothing_to_be_done_is_told(server, api):
    await put(server, 1)
    said = await send(api, "/executions/bulk", 404, kind="cancel", q="handler:demo")
    assert "no execution that is open" in said["text"]


@pytest.mark.parametrize("fields", [{"kind": "delete"}, {"kind": "cancel", "id": "x"}, {"q": "x"}])
async def test_nonsense_is_refused(fields, api):
    assert (await api.get("/executions/bulk", params=fields)).status_code == 400
    assert (await api.post("/executions/bulk", data=fields)).status_code == 400


async def test_a_form_that_is_sent_twice_retries_many_once(server, api):
    await put(server, 3, state=State.FAILED)
    page = await seen(api, "/executions/bulk", kind="retry", q="handler:demo")
    once = re.search(r'name="once" value="(\w+)"', page)[1]

    both = [await send(api, "/executions/bulk", 200, kind="retry", q="handler:demo", once=once) for _ in range(2)]

    assert both[0]["headers"]["HX-Redirect"] == both[1]["headers"]["HX-Redirect"]
    assert len((await api.get("/api/batches")).json()["batches"]) == 1


async def test_a_viewer_sees_all_and_is_offered_nothing(server, api):
    await put(server, 1, state=State.PENDING)
    viewer = await token_of(api, "viewer")

    text = (await api.get("/executions", headers=viewer)).text

    assert ids_in(text) == [id_of(0)]
    assert "data-pick" not in text
    assert "/executions/bulk" not in text
    for path in ("/executions/bulk", "/executions/views"):
        refused = await api.post(path, data={"kind": "cancel", "name": "x"}, headers=viewer)
        assert refused.status_code == 403
    assert (await api.get("/executions/bulk?kind=cancel", headers=viewer)).status_code == 403


# --- saved views ------------------------------------------------------------------------------------


async def test_a_search_is_kept_by_a_name_for_everybody_until_it_is_deleted(server, api):
    await send(api, "/executions/views", 200, name="<b>night</b>", q="state:Failed since:12h")

    viewer = await token_of(api, "viewer")
    text = (await api.get("/executions", headers=viewer)).text
    assert 'href="/executions?q=state%3Afailed+since%3A12h"' in text
    assert "&lt;b&gt;night&lt;/b&gt;" in text
    assert "/delete" not in text

    [view] = (await api.get("/api/views")).json()["views"]
    await send(api, f"/views/{view['id']}/delete", 200)
    assert "&lt;b&gt;night" not in await seen(api, "/executions")


async def test_deleting_a_kept_search_is_taken_back_once_by_its_undo(server, api):
    await send(api, "/executions/views", 200, name="night ☾", q="state:failed since:12h")
    [view] = (await api.get("/api/views")).json()["views"]
    undo = (await send(api, f"/views/{view['id']}/delete", 200))["undo"]

    said = await send(api, undo, 200)

    assert said["text"] == "night ☾ is kept again"
    [again] = (await api.get("/api/views")).json()["views"]
    assert {**again, "created_at": view["created_at"]} == view
    assert "is not deleted" in (await send(api, undo, 409))["text"]
    assert "there is no saved view" in (await send(api, "/views/nobody/undelete", 404))["text"]


async def test_an_undo_does_not_replace_what_took_the_name_of_a_deleted_search_meanwhile(server, api):
    await send(api, "/executions/views", 200, name="night", q="state:failed")
    [view] = (await api.get("/api/views")).json()["views"]
    undo = (await send(api, f"/views/{view['id']}/delete", 200))["undo"]
    await send(api, "/executions/views", 200, name="night", q="state:dead")

    assert "another view is called 'night'" in (await send(api, undo, 409))["text"]
    assert [one["query"] for one in (await api.get("/api/views")).json()["views"]] == ["state:dead"]


async def test_a_search_that_is_none_is_not_kept(api):
    assert "did you mean" in (await send(api, "/executions/views", 400, name="x", q="stat:failed"))["text"]


async def test_a_search_is_not_kept_by_a_name_of_spaces(api):
    assert "expected a name" in (await send(api, "/executions/views", 400, name="  ", q="state:failed"))["text"]
    assert (await api.get("/api/views")).json()["views"] == []


async def test_without_javascript_forms_go_on_to_the_list(server, api):
    await put(server, 1, state=State.PENDING)
    answer = await api.post("/executions/bulk", data={"kind": "cancel", "q": "handler:demo"})
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/executions?q=handler%3Ademo&batch=")
