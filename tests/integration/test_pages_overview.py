"""The overview as it is served: what it says, to whom, part by part, and how often it asks the store for that."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import httpx
import pytest

from schedule_zero.errors import StoreUnavailable
from schedule_zero.server import Server
from schedule_zero.service import overview
from schedule_zero.web.pages import overview as page
from schedule_zero.web.pages.overview_view import RANGES
from tests.support import eventually

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert('x')</script>\" onload=\"x"


def asking(part: str) -> dict[str, str]:
    """As htmx asks for one part."""
    return {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": f"section#{part}"}


async def shown(api: httpx.AsyncClient, path: str = "/", part: str = "", status: int = 200) -> str:
    answer = await api.get(path, headers=asking(part) if part else {})
    assert answer.status_code == status, answer.text
    return answer.text


async def schedule(api: httpx.AsyncClient, id_: str, trigger: dict[str, Any] | None = None, **fields: Any) -> None:
    body = {
        "id": id_,
        "handler_id": "demo",
        "job_method": "noop",
        "trigger": trigger or {"type": "interval", "seconds": 3600},
        **fields,
    }
    answer = await api.post("/api/schedules", json=body)
    assert answer.status_code == 201, answer.text


async def submit(api: httpx.AsyncClient, *items: dict[str, Any]) -> list[str]:
    answer = await api.post("/api/executions", json={"executions": list(items)})
    assert answer.status_code == 202, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids


def fail(message: str) -> dict[str, Any]:
    return {"handler_id": "demo", "job_method": "fail", "job_params": {"message": message}}


async def anew(server: Server) -> None:
    """What was shown a moment ago may be shown for a moment longer; the test does not wait for that."""
    service = server.service.overview
    for shared in (service._standing, service._failures, service._changes, *service._charts.values()):
        shared._answer = None
    service._spark = None


# --- the first steps ------------------------------------------------------------------------------------


async def test_a_fresh_server_shows_the_three_commands_to_the_first_job(api):
    text = await shown(api)

    assert "nothing is scheduled yet" in text
    for _, command in page.FIRST_STEPS:
        assert command in text


async def test_the_first_step_is_ticked_once_a_node_has_brought_the_handler(server, api, known_demo):
    text = await shown(api, part="now")

    assert text.count('class="tag completed"') == 1


async def test_the_commands_go_once_something_ran_or_is_scheduled(server, api, known_demo):
    await schedule(api, "first")

    assert "Three commands" not in await shown(api)


# --- what it says ---------------------------------------------------------------------------------------


async def test_all_well_names_the_next_schedule_and_counts_down_to_it(server, api, known_demo):
    await schedule(api, "hourly")

    text = await shown(api)

    assert re.search(r"All well: 1 schedule, next <code>hourly</code> <time [^>]*data-relative>in (59|60|1) ", text)


async def test_jobs_that_no_node_serves_are_said_with_how_many_wait_and_why(server, api, known_demo):
    await submit(api, *[{"handler_id": "demo", "job_method": "noop"}] * 14)

    text = await shown(api)

    assert "14 jobs waiting for <code>demo</code>" in text
    assert "No node that serves demo.noop is connected." in text
    assert 'href="/executions?q=state%3Apending+handler%3Ademo"' in text


async def test_what_failed_is_grouped_with_what_it_said_as_text(server, api, start_node):
    await start_node("n1")
    await submit(api, *(fail(f"no route to 10.0.0.{n}") for n in range(3)), fail(f"{HOSTILE}\u202e"))
    await eventually(lambda: server.store.tally.ended == 4)
    await server.service.dead_letters.refresh()

    text = await shown(api)

    assert "4 dead letters" in text
    assert re.search(r"3×</span>\s*<div[^>]*><a[^>]*>demo\.fail</a>", text)
    assert "RuntimeError: no route to 10.0.0." in text
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text
    # Nor is any text turned around.
    assert "\u202e" not in text
    assert "\\u202e" in text


async def test_what_is_hostile_in_names_stays_text_in_the_verdict(server, api, known_demo, monkeypatch):
    note = HOSTILE[:100]
    answer = await api.post("/api/freeze", json={"note": note})
    assert answer.status_code == 200, answer.text

    text = await shown(api)

    assert "All schedules are frozen" in text
    assert note not in text


async def test_the_series_of_the_last_hour_are_in_the_page_as_data(server, api, start_node):
    await start_node("n1")
    await submit(api, *[{"handler_id": "demo", "job_method": "noop"}] * 5)
    await eventually(lambda: server.store.tally.ended == 5)

    text = await shown(api)

    blocks = [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert [block["unit"] for block in blocks] == ["count", "count", "s", "s", "s"]
    completed = blocks[0]["lines"][0]
    assert (completed["label"], sum(completed["values"])) == ("completed", 5)
    assert len(completed["values"]) == 60
    assert "5 completed, 0 failed" in text


@pytest.mark.parametrize("one", RANGES)
async def test_each_range_is_an_address_and_has_its_buckets(api, one):
    text = await shown(api, f"/?range={one}")

    range_s, step_s = RANGES[one]
    data = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', text)[0])
    assert (len(data["lines"][0]["values"]), data["step"]) == (range_s // step_s, step_s)
    assert f'href="/?range={one}" aria-current="true"' in text


async def test_charts_have_the_zone_that_the_viewer_wants(api):
    answer = await api.get("/", headers={"Cookie": "sz_time=browser; sz_zone=Asia%2FKolkata"})

    assert '"zone":"Asia/Kolkata"' in answer.text
    assert '"zone":"UTC"' in await shown(api)


async def test_the_figures_are_a_table_for_those_who_ask(server, api, start_node):
    await start_node("n1")
    await submit(api, {"handler_id": "demo", "job_method": "noop"})
    await eventually(lambda: server.store.tally.ended == 1)

    without, with_ = await shown(api), await shown(api, "/?figures=true")

    assert '<th scope="row"><a href="/executions?q=since:' not in without
    assert '<th scope="row"><a href="/executions?q=since:' in with_
    assert "Lateness p50" in await shown(api, part="figures")


# --- parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "has", "lacks"),
    [("now", "Dead letters", "sz-chart"), ("charts", "<sz-chart", "tile"), ("more", "All nodes", "sz-chart")],
)
async def test_a_part_is_what_stands_in_its_element_and_no_more(api, part, has, lacks):
    text = await shown(api, part=part)

    assert has in text
    assert lacks not in text
    assert '<nav class="nav"' not in text
    # What is shared by all has nothing of one session in it.
    assert "_xsrf" not in text
    assert "<form" not in text


async def test_many_who_look_at_once_cost_one_set_of_reads(server, api):
    service = server.service.overview
    await shown(api)
    await anew(server)
    before = service._standing.reads

    began_s = time.monotonic()
    texts = await asyncio.gather(*(shown(api, part="now") for _ in range(50)))
    took_s = time.monotonic() - began_s

    # One, and on a slow machine one more for each second that passes.
    reads = service._standing.reads - before
    assert 1 <= reads <= 1 + took_s
    assert len(set(texts)) <= reads


async def test_the_whole_page_is_at_most_four_reads_and_a_second_later_look_is_none(server, api, monkeypatch):
    await shown(api, "/?range=7d")
    await anew(server)
    reads: list[str] = []
    real = server.store.read

    async def counted(query: Any) -> Any:
        # The timer and the chores read, too.
        task = asyncio.current_task()
        assert task is not None
        if task.get_name().startswith("overview"):
            reads.append(task.get_name())
        return await real(query)

    monkeypatch.setattr(server.store, "read", counted)
    await shown(api, "/?range=7d")
    first = sorted(reads)
    await shown(api, "/?range=7d")

    assert first == ["overview changes", "overview chart 604800", "overview failures", "overview standing"]
    assert reads.count("overview failures") == 1


async def test_a_part_is_rendered_once_for_the_same_facts_role_and_zone(server, api, monkeypatch):
    rendered = []
    real = page.page
    monkeypatch.setattr(page, "page", lambda *args, **facts: rendered.append(1) or real(*args, **facts))
    monkeypatch.setattr(overview, "STANDING_S", 60.0)
    server.service.overview._standing._age_s = 60.0

    first = await shown(api, part="now")
    again = await shown(api, part="now")
    in_india = await api.get("/", headers={**asking("now"), "Cookie": "sz_time=browser; sz_zone=Asia%2FKolkata"})
    plain = await api.get("/", headers={**asking("now"), "Accept-Encoding": "identity"})

    assert first == again == plain.text
    assert in_india.status_code == 200
    assert len(rendered) == 2
    assert "Content-Encoding" not in plain.headers


async def test_a_viewer_sees_it_and_who_is_not_signed_in_does_not(server, api):
    token = (await api.post("/api/tokens", json={"name": "v", "role": "viewer"})).json()["token"]
    async with httpx.AsyncClient(base_url=server.addresses.http) as other:
        seen = await other.get("/", headers={"Authorization": f"Bearer {token}"})
        stranger = await other.get("/", headers={"Accept": "text/html"})

    assert seen.status_code == 200
    assert (stranger.status_code, stranger.headers["Location"]) == (303, "/login?next=%2F")


@pytest.mark.parametrize("query", ["range=2h", "figures=maybe", "colour=red"])
async def test_what_the_address_cannot_say_is_refused(api, query):
    assert "expected" in await shown(api, f"/?{query}", status=400) or "unknown" in await shown(
        api, f"/?{query}", status=400
    )


# --- what was changed -----------------------------------------------------------------------------------


async def test_the_last_changes_say_who_changed_what_and_lead_to_the_audit_log(server, api, known_demo):
    await schedule(api, "nightly")
    answer = await api.post("/api/schedules/nightly/pause", json={})
    assert answer.status_code == 200, answer.text

    text = await shown(api, part="changes")

    assert re.findall(r">(schedule\.\w+)</a>", text) == ["schedule.paused", "schedule.created"]
    assert text.count('<a href="/schedules/nightly">nightly</a>') == 2
    assert "<b>admin</b>" in text
    assert 'href="/audit?subject=nightly"' in text


async def test_the_last_changes_are_eight_and_not_who_signed_in(server, api, known_demo):
    for n in range(10):
        await schedule(api, f"s{n}")
    for _ in range(9):
        link = (await api.post("/api/login-links", json={"role": "viewer"})).json()["path"]
        async with httpx.AsyncClient(base_url=server.addresses.http) as other:
            assert (await other.post("/login", data={"link": link.partition("t=")[2]})).status_code == 303

    text = await shown(api, part="changes")

    assert text.count("schedule.created") == 8
    assert "session" not in text


async def test_who_may_not_read_the_audit_log_is_shown_no_changes(server, api, known_demo):
    await schedule(api, "secretive")
    token = (await api.post("/api/tokens", json={"name": "v", "role": "viewer"})).json()["token"]
    assert "token.created" in await shown(api, part="changes")
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.addresses.http, headers=headers) as viewer:
        whole, part = await shown(viewer), await shown(viewer, part="changes")

    assert "Last changes" not in whole
    assert "token.created" not in whole + part
    assert "secretive" not in part


# --- trouble --------------------------------------------------------------------------------------------


async def test_while_the_store_cannot_be_read_it_says_so_and_still_shows_what_is_in_memory(
    server, api, known_demo, monkeypatch
):
    await schedule(api, "a")
    await anew(server)

    async def broken(_: object) -> object:
        raise StoreUnavailable("the store is not available: disk I/O error")

    real = server.store.read
    monkeypatch.setattr(server.store, "read", broken)
    try:
        text = await shown(api, "/?range=7d")
    finally:
        monkeypatch.setattr(server.store, "read", real)

    assert "The store can&#39;t be read" in text
    assert "what was is not known until it can" in text
    assert "Dead letters" in text


async def test_a_schedule_that_failed_too_often_is_in_the_verdict(server, api, start_node):
    await start_node("n1")
    await schedule(api, "fails", {"type": "interval", "seconds": 3600}, job_method="fail", policies={"max_failures": 1})
    # The failure of a fire counts, not that of a run by hand: so it is paused as the timer does it.
    from schedule_zero.model import ScheduleState
    from schedule_zero.store import schedules as store_schedules

    await server.store.write(
        store_schedules.set_state,
        store_schedules.SetState(
            id="fails", state=ScheduleState.PAUSED, note="paused after a failed execution", by="max_failures"
        ),
    )
    await anew(server)

    text = await shown(api)

    assert "1 schedule paused by failures" in text
    assert "<code>fails</code>" in text


# --- what comes -----------------------------------------------------------------------------------------


async def test_what_comes_in_the_next_minutes_is_listed_by_schedule_with_how_often(server, api, known_demo):
    await schedule(api, "often", {"type": "interval", "seconds": 60})
    await schedule(api, "never-mind", {"type": "cron", "expression": "0 0 1 1 *"})
    await schedule(api, "paused", {"type": "interval", "seconds": 60}, paused=True)

    text = await shown(api, part="more")

    assert re.search(r">often</a> <small>demo\.noop · (14|15)×</small>", text)
    assert "never-mind" not in text
    assert ">paused<" not in text


async def test_where_nothing_comes_soon_the_next_one_at_all_is_named(server, api, known_demo):
    await schedule(api, "yearly", {"type": "cron", "expression": "0 0 1 1 *"})

    text = await shown(api, part="more")

    assert re.search(r"Nothing in that time\. The next one is <a [^>]*>yearly</a>", text)


async def test_finding_what_comes_reads_few_of_many_schedules(server, api, known_demo, monkeypatch):
    from schedule_zero.store import schedule_overview

    read = []
    real = schedule_overview.upcoming

    def counted(conn: Any, upto_us: int, most: int) -> list[Any]:
        rows = real(conn, upto_us, most)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(schedule_overview, "upcoming", counted)
    items = [
        {
            "id": f"s{n:04}",
            "handler_id": "demo",
            "job_method": "noop",
            "trigger": {"type": "interval", "seconds": 600 + n % 200},
        }
        for n in range(2000)
    ]
    assert (await api.post("/api/schedules", json={"schedules": items})).status_code == 201
    await anew(server)

    found = await server.service.foresight.next_runs(server.clock.wall_us() + 900 * 10**6, 10)

    assert [row.schedule.id for row in found.rows] == sorted(row.schedule.id for row in found.rows)
    assert found.more
    assert sum(read) <= 50 + 500


async def test_next_runs_are_those_that_the_whole_forecast_would_find(server, api, known_demo):
    for n in range(40):
        await schedule(
            api, f"s{n:02}", {"type": "cron", "expression": f"{(n * 7) % 60} {(n * 5) % 24} * * *"}, paused=n % 9 == 0
        )
    to_us = server.clock.wall_us() + 2 * 86_400 * 10**6

    found = await server.service.foresight.next_runs(to_us, 12)
    coming = await server.service.foresight.coming(server.clock.wall_us(), to_us)

    first: dict[str, int] = {}
    for row, at_us in coming:
        first.setdefault(row.id, at_us)
    assert {row.schedule.id: row.at_us for row in found.rows} == dict(
        sorted(first.items(), key=lambda pair: (pair[1], pair[0]))[:12]
    )
    assert all(row.runs == 2 for row in found.rows)
