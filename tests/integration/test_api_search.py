"""Searching over the API: pages, when, files, suggestions, and views that are kept."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest

from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import State
from schedule_zero.service import search as service_search
from schedule_zero.store import execution_lists, executions
from tests.store.builders import execution

pytestmark = pytest.mark.anyio

HOSTILE = [
    "=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", 'say "hi", you', "a\nb", "<script>", "ü",
    "safe",
]  # fmt: skip


async def put(server, count, **fields):
    """As if so many had been there; their ids, oldest first."""
    now_us = server.clock.wall_us()
    rows = [
        execution(
            f"01k{n:023d}", **{"created_us": now_us - (count - n) * 1_000_000, "state": State.COMPLETED, **fields}
        )
        for n in range(count)
    ]
    await server.store.write(executions.insert, executions.Insert(rows=rows))
    return [row.id for row in rows]


async def asked(api, path="", answered=200, **query):
    answer = await api.get(f"/api/executions{path}", params=query)
    assert answer.status_code == answered, answer.text
    return answer


async def found(api, q, **query):
    return [record["id"] for record in (await asked(api, q=q, **query)).json()["records"]]


async def test_a_search_finds_what_it_says_beside_the_other_filters(server, api):
    first = await put(server, 3, params=b'{"customer":42}')
    now_us = server.clock.wall_us()
    other = execution("01kz" + "0" * 22, handler_id="other", state=State.FAILED, created_us=now_us,
                      error=b'{"type":"E","message":"no route"}')  # fmt: skip
    await server.store.write(executions.insert, executions.Insert(rows=[other]))

    assert await found(api, "arg.customer:42") == first[::-1]
    assert await found(api, 'state:failed error:"No Route"') == [other.id]
    assert await found(api, "handler:*", handler_id="other") == [other.id]
    assert await found(api, "", status="failed") == [other.id]
    assert await found(api, "until:1h") == []
    page = (await asked(api, q="  STATE:failed   since:-1h ", limit=1)).json()
    assert (page["q"], page["searched_back_to"]) == ("state:failed since:1h", None)


async def test_days_are_those_of_the_viewers_zone(server, api):
    await put(server, 1)
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert len(await found(api, "since:today until:today", timezone=zone)) <= 1
        assert len(await found(api, "since:yesterday", timezone=zone)) == 1
    problem = (await asked(api, answered=400, q="since:today", timezone="Mars/Olympus")).json()
    assert problem["errors"][0]["parameter"] == "timezone"
    assert "Mars/Olympus" in problem["detail"]


async def test_what_is_no_search_is_refused_with_the_place_and_what_was_expected(api):
    problem = (await asked(api, answered=400, q="job:a stat:failed")).json()

    assert problem["error"]["code"] == "invalid_search"
    assert problem["errors"][0]["parameter"] == "q"
    assert problem["position"] == 6
    assert problem["hint"] == "did you mean state:?"


async def test_a_page_that_was_cut_short_says_how_far_it_looked_and_goes_on(server, api, monkeypatch):
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 10)
    ids = await put(server, 25, node_id="n1")

    page = (await asked(api, q=f"-id:{ids[-1]} -node:n1")).json()
    steps = 1
    assert page["searched_back_to"] is not None
    while page["next_cursor"] is not None:
        page = (await asked(api, q=f"-id:{ids[-1]} -node:n1", cursor=page["next_cursor"])).json()
        steps += 1

    assert (page["records"], page["searched_back_to"], steps) == ([], None, 3)


# --- when -----------------------------------------------------------------------------------------------


async def test_a_histogram_says_when_what_was_found_was_created(server, api):
    await put(server, 30)

    whole = (await asked(api, "/histogram", q="handler:demo")).json()

    assert (whole["total"], whole["complete"], whole["basis"], whole["q"]) == (30, True, "created", "handler:demo")
    assert sum(bucket["count"] for bucket in whole["buckets"]) == 30
    assert len(whole["buckets"]) <= 60
    starts = [bucket["start"] for bucket in whole["buckets"]]
    assert starts == sorted(starts)
    assert starts[-1] < whole["end"]


async def test_a_histogram_of_more_than_was_looked_at_is_not_complete(server, api, monkeypatch):
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 10)
    await put(server, 30, node_id="n1")

    sample = (await asked(api, "/histogram", q="node:n1")).json()

    assert (sample["total"], sample["complete"]) == (10, False)
    assert sample["sampled_back_to"] is not None


# --- files ----------------------------------------------------------------------------------------------


def rows_of(answer):
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


async def test_all_that_a_search_finds_comes_as_a_file_the_newest_first(server, api, monkeypatch):
    monkeypatch.setattr(service_search, "EXPORTED_ROWS", 3)
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 4)
    ids = await put(server, 20, node_id="n1", params=b'{"big":12345678901234567890123}', started_us=1, finished_us=2001)
    newest_first = ids[::-1]

    text = await asked(api, "/export", q="node:n1", format="csv")
    whole = await asked(api, "/export", q="node:n1", format="json")
    lines = await asked(api, "/export", q="node:n1", format="jsonl")
    nothing = await asked(api, "/export", q="node:n2", format="json")
    no_rows = await asked(api, "/export", q="node:n2")

    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert text.headers["content-disposition"] == 'attachment; filename="executions.csv"'
    assert [row["id"] for row in rows_of(text)] == newest_first
    assert rows_of(text)[0]["duration_ms"] == "2.0"
    assert [row["id"] for row in whole.json()] == newest_first
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == newest_first
    # As it was sent: a number that no spreadsheet could hold.
    assert "12345678901234567890123" in lines.text
    assert nothing.json() == []
    assert rows_of(no_rows) == []


async def test_text_of_others_is_never_a_formula(server, api):
    now_us = server.clock.wall_us()
    rows = [
        execution(
            f"01k{n:023d}",
            state=State.FAILED,
            created_us=now_us,
            concurrency_key=text,
            error=json.dumps({"type": text, "message": text}).encode(),
        )
        for n, text in enumerate(HOSTILE)
    ]
    await server.store.write(executions.insert, executions.Insert(rows=rows))

    written = rows_of(await asked(api, "/export", q="state:failed"))[::-1]

    for text, row in zip(HOSTILE, written, strict=True):
        for column in ("concurrency_key", "error_type", "error_message"):
            assert not row[column].startswith(("=", "+", "-", "@", "\t", "\r", "\n")), (text, column)
            assert row[column] in (text, f"'{text}")
    assert written[-1]["error_message"] == "safe"


async def test_a_file_that_could_not_be_finished_is_cut_off(server, api, monkeypatch):
    monkeypatch.setattr(service_search, "EXPORTED_ROWS", 3)
    await put(server, 9)
    original = executions.find
    calls = []

    def failing(conn, wanted):
        calls.append(wanted)
        if len(calls) == 2:
            raise StoreUnavailable("the disk is gone")
        return original(conn, wanted)

    monkeypatch.setattr(service_search.store_executions, "find", failing)

    with pytest.raises(httpx.RemoteProtocolError):
        await api.get("/api/executions/export", params={"format": "csv"})


# --- suggestions ----------------------------------------------------------------------------------------


async def suggested(api, text):
    caret = text.index("|")
    answer = (await asked(api, "/suggest", q=text.replace("|", ""), at=caret)).json()
    return [one["text"] for one in answer["suggestions"]], (answer["start"], answer["end"])


@pytest.mark.usefixtures("known_demo")
async def test_suggestions_are_what_this_server_knows(server, api, start_node):
    await start_node("n1")
    trigger = {"type": "interval", "seconds": 3600}
    for name in ("nightly-a", "nightly-b", "weekly"):
        body = {"id": name, "handler_id": "demo", "job_method": "noop", "trigger": trigger}
        assert (await api.post("/api/schedules", json=body)).status_code == 201

    assert (await suggested(api, "st|"))[0] == ["state:"]
    assert "arg." in (await suggested(api, "|"))[0]
    assert await suggested(api, "job:a state:fai|") == (["failed", "failed-like"], (12, 15))
    assert (await suggested(api, "job:demo.no|"))[0][0] == "demo.noop"
    assert (await suggested(api, "handler:|"))[0] == ["demo"]
    assert (await suggested(api, "schedule:night|"))[0] == ["nightly-a", "nightly-b"]
    assert (await suggested(api, "node:|"))[0] == ["n1"]
    assert "today" in (await suggested(api, "since:|"))[0]
    assert "seconds:" in (await suggested(api, "arg.sec|"))[0]
    assert (await suggested(api, "nobody:x|"))[0] == []
    # Whatever is typed, and wherever: there may be none, there is no error.
    for text in ('"|', "state:,|,", "arg.|", "schedule:\0|", "-|", "x" * 2000 + "|"):
        await suggested(api, text)


# --- views ----------------------------------------------------------------------------------------------


async def test_views_are_kept_listed_replaced_and_deleted(api):
    made = await api.post("/api/views", json={"name": "Failed today ü", "query": "STATE:failed  since:today"})
    assert made.status_code == 201, made.text
    view = made.json()
    assert (view["page"], view["query"], view["by"]) == ("executions", "state:failed since:today", "admin")

    again = (await api.post("/api/views", json={"name": "Failed today ü", "query": "state:dead"})).json()
    await api.post("/api/views", json={"page": "schedules", "name": "mine", "query": "?state=paused"})

    assert again["id"] == view["id"]
    assert [one["name"] for one in (await api.get("/api/views")).json()["views"]] == ["Failed today ü", "mine"]
    assert [one["query"] for one in (await api.get("/api/views?page=executions")).json()["views"]] == ["state:dead"]
    assert (await api.delete(f"/api/views/{view['id']}")).json()["name"] == "Failed today ü"
    assert (await api.delete(f"/api/views/{view['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": "x", "query": "stat:failed"}, "/query"),
        ({"name": " x", "query": ""}, "/name"),
        ({"name": "", "query": ""}, "/name"),
        ({"name": "a\nb", "query": ""}, "/name"),
        ({"name": "x", "query": "a\u0000"}, "/query"),
        ({"name": "x", "query": "", "page": "No Page"}, "/page"),
        ({"name": "x"}, "/query"),
    ],
)
async def test_what_is_no_view_is_refused(api, body, where):
    answer = await api.post("/api/views", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == where
