"""The pages of dead letters, requeues and groups: what they show, what their forms do, how little they read."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from urllib.parse import quote

import msgspec
import pytest

from schedule_zero.store import dead_letters as store_letters
from tests.integration.conftest import know_demo
from tests.integration.pages import HTMX, counted, part_of, seen, send, token_of
from tests.integration.test_api_dead_letters import GROUP, children, fail, groups, put_letters, shown
from tests.support import eventually

pytestmark = pytest.mark.anyio

EVIL = "<script>alert(1)</script>"
PATH = f"/dead-letters/{quote(GROUP, safe='')}"


async def waiting(api):
    return sum(group["count"] for group in await groups(api))


# --- look -------------------------------------------------------------------------------------------


async def test_without_dead_letters_the_page_says_what_one_is(api):
    text = await seen(api, "/dead-letters")
    assert "failed for good" in text
    assert "schedule-zero dead-letters" in text


async def test_groups_show_job_error_and_count_as_text(api, start_node):
    await start_node()
    await fail(api, f"order 17 is bad {EVIL}", f"order 18 is bad {EVIL}", "no connection")

    text = await part_of(api, "/dead-letters", "groups")

    assert text.count('href="/dead-letters/demo.fail%3A') == 4
    assert "RuntimeError" in text
    assert EVIL not in text
    assert "order 18 is bad &lt;script&gt;" in text
    assert "<b>2</b>" in text


async def test_groups_are_filtered_by_handler_and_a_method_alone_is_refused(api, server):
    know_demo(server)
    await put_letters(server, 3)
    await put_letters(server, 2, handler_id="other", letter="other.fail:bbbbbbbbbbbbbbbb")
    await server.service.dead_letters.refresh()

    both = await seen(api, "/dead-letters")
    one = await part_of(api, "/dead-letters", "groups", handler="other")

    assert 'href="/dead-letters?handler=other"' in both
    assert "other.fail" in one
    assert "demo.fail" not in one
    assert "expected handler as well" in await seen(api, "/dead-letters", 400, method="fail")


async def test_a_group_shows_its_newest_error_with_traceback_and_its_executions(api, start_node):
    await start_node()
    first, second = await fail(api, "order 17 is bad", "order 18 is bad")
    [group] = await groups(api)

    text = await seen(api, f"/dead-letters/{quote(group['id'], safe='')}")

    assert "order 18 is bad" in text
    assert "Traceback (most recent call last)" in text
    assert text.index(second) < text.index(first)
    assert f'href="/executions/{first}/retry-edit"' in text
    assert "/api/dead-letters/export.csv?group=demo.fail%3A" in text


async def test_a_group_that_was_dealt_with_says_so(api):
    assert "Nothing waits in the group" in await seen(api, PATH)
    # Also the parts of a page that was opened before.
    assert "Nothing waits in the group" in await part_of(api, PATH, "about")
    assert "None here" in await part_of(api, PATH, "letters")


async def test_letters_and_groups_come_in_pages_with_a_bounded_number_of_queries(api, server, monkeypatch):
    know_demo(server)
    ids = await put_letters(server, 120)
    for number in range(30):
        await put_letters(server, 1, letter=f"demo.fail:{number:016x}")

    with counted(monkeypatch, server) as queries:
        page = await seen(api, PATH)
    assert queries[0] <= 7
    assert page.count("data-pick aria-label") == 50
    assert ids[-1] in page
    assert ids[0] not in page

    with counted(monkeypatch, server) as queries:
        first = await part_of(api, "/dead-letters", "groups")
    assert queries[0] <= 25 * 4 + 1
    assert first.count('id="letters-demo.fail:') == 25
    cursor = first.split("/dead-letters?cursor=")[1].split('"')[0]
    second = await part_of(api, f"/dead-letters?cursor={cursor}", "groups")
    assert second.count('id="letters-demo.fail:') == 6


async def test_a_group_with_the_longest_names_has_a_page(api, server):
    name = "a" * 128
    await put_letters(server, 1, handler_id=name, method=name, letter=f"{name}.{name}:0123456789abcdef")
    [group] = await groups(api)
    assert group["id"] in await seen(api, f"/dead-letters/{quote(group['id'], safe='')}")
    assert "is no id" in await seen(api, "/dead-letters/no%20group", 404)


# --- a few ------------------------------------------------------------------------------------------


async def test_ticked_letters_run_again_once(api, server):
    know_demo(server)
    ids = await put_letters(server, 3)

    said = await send(api, "/dead-letters/requeue-ticked", id=ids[:2], group=GROUP)

    assert said["text"] == "2 dead letters run again"
    assert await waiting(api) == 1
    assert len(await children(server, ids[0])) == 1
    again = await send(api, "/dead-letters/requeue-ticked", id=ids, group=GROUP)
    assert again["text"] == "1 dead letter run again; 2 were dealt with already"
    assert (await send(api, "/dead-letters/requeue-ticked", 400, group=GROUP))["code"] == "invalid_field"
    assert (await send(api, "/dead-letters/requeue-ticked", 409, id=ids))["code"] == "wrong_state"


async def test_ticked_letters_are_put_aside_with_a_reason_and_the_undo_brings_them_back(api, server):
    ids = await put_letters(server, 3)

    said = await send(api, "/dead-letters/discard-ticked", id=ids[:2], group=GROUP, note="a known outage")

    assert said["text"] == "2 dead letters put aside"
    assert await waiting(api) == 1
    [[_, events]] = [
        row for row in await server.service.system.events_after(0, 1_000) if row[1][0].kind == "dead_letters.discarded"
    ]
    assert events[0].data == {"count": 2, "by": "admin", "note": "a known outage"}

    undone = await send(api, said["undo"])
    assert undone["text"] == "2 dead letters back"
    assert await waiting(api) == 3
    assert (await shown(api, ids[0]))["dead_letter"] == GROUP
    # Only once.
    assert (await send(api, said["undo"], 404))["code"] == "not_found"


async def test_a_whole_group_is_put_aside_and_brought_back(api, server):
    await put_letters(server, 30)
    await put_letters(server, 1, letter="demo.fail:bbbbbbbbbbbbbbbb")

    said = await send(api, "/dead-letters/discard", group=GROUP, note="known")

    assert said["text"] == "30 dead letters put aside"
    assert await waiting(api) == 1
    await send(api, said["undo"])
    assert await waiting(api) == 31


async def test_no_more_are_put_aside_than_were_agreed_to(api, server):
    await put_letters(server, 3)
    agreed = {"group": GROUP, "count": 2}

    refused = await api.post("/dead-letters/discard", data=agreed, headers={"HX-Request": "true"})

    assert refused.status_code == 409
    assert "there are 3 of them by now, and 2 were agreed to" in refused.headers["HX-Trigger"]
    assert await waiting(api) == 3
    assert (await send(api, "/dead-letters/discard", **agreed | {"count": 3}))["text"] == "3 dead letters put aside"


async def test_what_is_too_much_to_be_remembered_is_put_aside_without_an_undo(api, server, monkeypatch):
    monkeypatch.setattr("schedule_zero.service.dead_letters.MOST_REMEMBERED", 5)
    await put_letters(server, 6)
    said = await send(api, "/dead-letters/discard", group=GROUP)
    assert said["text"] == "6 dead letters put aside"
    assert "undo" not in said


async def test_only_the_newest_discards_are_remembered(api, server, monkeypatch):
    monkeypatch.setattr("schedule_zero.service.dead_letters.REMEMBERED", 2)
    ids = await put_letters(server, 3)
    deeds = [(await send(api, "/dead-letters/discard-ticked", id=[id_]))["undo"] for id_ in ids]
    await send(api, deeds[0], 404)
    await send(api, deeds[1])
    await send(api, deeds[2])
    assert await waiting(api) == 2


async def test_nobody_puts_everything_aside_by_leaving_out_what_is_meant(api, server):
    await put_letters(server, 1)
    for path in ("/dead-letters/discard", "/dead-letters/requeue"):
        assert (await send(api, path, 400))["code"] == "invalid_field"
        assert (await send(api, path, 400, group=GROUP, all="true"))["code"] == "invalid_field"
    assert await waiting(api) == 1


# --- many -------------------------------------------------------------------------------------------


async def test_the_form_says_how_many_and_what_becomes_of_the_oldest_ones_parameters(api, server):
    know_demo(server)
    await put_letters(server, 12, params=b'{"page":1,"big":12345678901234567890}')

    plain = await seen(api, "/dead-letters/requeue", group=GROUP)
    patched = (await api.post("/dead-letters/requeue/preview", data={"group": GROUP, "patch": '{"page": 2}'})).text

    assert "12 dead letters, 10 a second: 1.2 s in all" in plain
    assert "12345678901234567890" in plain
    assert "As they would be" not in plain
    assert "As they would be" in patched
    assert "&#34;page&#34;: 2" in patched
    assert await waiting(api) == 12


async def test_the_preview_says_what_the_job_would_not_take(api, server):
    know_demo(server)
    await put_letters(server, 3, method="noop", letter="demo.noop:aaaaaaaaaaaaaaaa", params=b"{}")
    data = {"group": "demo.noop:aaaaaaaaaaaaaaaa", "patch": '{"other": 1}'}
    text = (await api.post("/dead-letters/requeue/preview", data=data)).text
    assert "Of the oldest 3, 3 would not be taken" in text
    assert "stay: demo.noop: " in text


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("rate", "fast", "expected a number, got &#39;fast&#39;"),
        ("rate", "0", "expected 0.001 to 1000 a second, got 0"),
        ("rate", "nan", "expected 0.001 to 1000 a second, got nan"),
        ("patch", "[1]", "expected a JSON object"),
        ("patch", '{"a": 1', "the body is not JSON"),
        ("patch", '{"a": 1, "a": 2}', "stands twice"),
        ("patch", "[" * 5_000, "JSON"),
        ("patch", '{"a":' * 70 + "1" + "}" * 70, "nested deeper"),
    ],
)
async def test_a_wrong_field_is_told_beside_it_and_what_was_typed_is_kept(api, server, field, typed, said):
    know_demo(server)
    await put_letters(server, 1)
    form = {"group": GROUP, "rate": "5", "patch": '{"page": 2}', field: typed}

    answer = await api.post("/dead-letters/requeue", data=form, headers=HTMX)

    assert answer.status_code == 422, answer.text
    assert said in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert await waiting(api) == 1
    if field == "rate":
        assert "&#34;page&#34;: 2" in answer.text


async def test_many_are_run_again_at_a_rate_with_other_parameters_and_the_page_shows_how_far(api, server):
    know_demo(server)
    ids = await put_letters(server, 4, params=b'{"page":1}')

    said = await send(api, "/dead-letters/requeue", 200, group=GROUP, rate="1000", patch='{"page": 2}')

    to = said["headers"]["HX-Redirect"]
    assert to.startswith("/requeues/")
    assert said["text"] == "4 dead letters will be run again, 1000 a second"

    async def done():
        text = await part_of(api, to, "now")
        return text if "completed" in text else ""

    text = await eventually(done)
    assert "4 of 4" in text
    [child] = await children(server, ids[0])
    assert child.params == b'{"page":2}'
    assert to in await seen(api, "/requeues")
    assert "Nothing waits in the group" in await seen(api, PATH)


async def test_a_requeue_that_runs_is_shown_and_can_be_cancelled(api, server):
    know_demo(server)
    await put_letters(server, 50)
    to = (await send(api, "/dead-letters/requeue", 200, group=GROUP, rate="0.001"))["headers"]["HX-Redirect"]

    running = await part_of(api, "/dead-letters", "running")
    assert f"the group {GROUP}" in running
    assert "of 50" in running
    said = await send(api, f"{to}/cancel")

    assert "stay" in said["text"]
    assert "cancelled" in await part_of(api, to, "now")
    assert (await send(api, f"{to}/cancel", 409))["code"] == "wrong_state"
    assert f"the group {GROUP}" not in await part_of(api, "/dead-letters", "running")


async def test_what_nobody_waits_for_any_more_is_a_problem_of_the_form(api, server):
    know_demo(server)
    answer = await api.post("/dead-letters/requeue", data={"group": GROUP}, headers=HTMX)
    assert answer.status_code == 404
    assert "no such dead letters wait" in answer.text


async def test_viewers_see_dead_letters_and_can_do_nothing_with_them(api, server):
    await put_letters(server, 1)
    viewer = await token_of(api, "viewer")
    for path in ("/dead-letters", PATH, "/requeues"):
        answer = await api.get(path, headers=viewer)
        assert answer.status_code == 200
        assert "/dead-letters/requeue" not in answer.text
        assert "/dead-letters/discard" not in answer.text
        assert "data-pick" not in answer.text
    assert (await api.get("/dead-letters/requeue", params={"group": GROUP}, headers=viewer)).status_code == 403
    forms = ("requeue", "requeue/preview", "requeue-ticked", "discard", "discard-ticked")
    for path in (*(f"/dead-letters/{form}" for form in forms), "/discards/x/undo", "/requeues/x/cancel"):
        assert (await api.post(path, data={"group": GROUP}, headers=viewer)).status_code == 403, path


# --- as a file --------------------------------------------------------------------------------------


async def test_a_group_is_a_file_of_lines_newest_first_with_all_of_it(api, server, monkeypatch):
    monkeypatch.setattr("schedule_zero.web.api.dead_letter_export.ROWS", 7)
    ids = await put_letters(server, 20, params=b'{"big":12345678901234567890}')
    await put_letters(server, 1, letter="demo.fail:bbbbbbbbbbbbbbbb")

    lines = (await api.get("/api/dead-letters/export.jsonl", params={"group": GROUP})).text.splitlines()
    sheet = (await api.get("/api/dead-letters/export.csv", params={"group": GROUP})).text

    found = [json.loads(line) for line in lines]
    assert [one["id"] for one in found] == ids[::-1]
    assert found[0]["job_params"] == {"big": 12345678901234567890}
    assert found[0]["error"]["message"] == found[0]["message"]
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert [row["id"] for row in rows] == ids[::-1]
    assert rows[0]["job_params"] == '{"big":12345678901234567890}'


async def test_no_field_of_a_sheet_is_a_formula(api, start_node):
    await start_node()
    await fail(api, '=HYPERLINK("http://example.org";"x")')
    [group] = await groups(api)
    sheet = (await api.get("/api/dead-letters/export.csv", params={"group": group["id"]})).text
    [row] = list(csv.DictReader(io.StringIO(sheet)))
    assert row["message"] == '\'=HYPERLINK("http://example.org";"x")'


async def test_a_file_of_no_group_in_particular_is_refused(api):
    answer = await api.get("/api/dead-letters/export.csv")
    assert answer.status_code == 400
    assert "'group' is missing" in answer.text
    assert (await api.get("/api/dead-letters/export.jsonl", params={"group": "demo.fail:0"})).text == ""


# --- groups -----------------------------------------------------------------------------------------


async def make_group(api, job_method="sleep", params=None, **more):
    body = {"handler_id": "demo", "job_method": job_method, "job_params": params or {}, **more}
    answer = await api.post("/api/groups", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def test_without_groups_the_page_says_what_one_is(api):
    assert "A group is one job on every matching node" in await seen(api, "/groups")


async def test_a_group_shows_its_members_by_state_and_is_cancelled(api, start_node):
    await start_node(slots=2)
    made = await make_group(api, params={"seconds": 60}, shards=3)
    path = f"/groups/{made['id']}"

    async def two_run():
        text = await part_of(api, path, "now")
        return text if "running 2" in text else ""

    now = await eventually(two_run)
    assert "0 of 3 members over" in now
    assert "Cancel 3 members?" in now
    members = await part_of(api, path, "members")
    assert all(id_ in members for id_ in made["execution_ids"])
    assert "part 0/3" in members
    pending = await part_of(api, path, "members", state="pending")
    assert pending.count("part ") == 1
    assert "in parts" in await seen(api, "/groups")

    await send(api, f"{path}/cancel")

    async def over():
        return "3 of 3 members over" in await part_of(api, path, "now")

    await eventually(over)
    assert "Cancel all" not in await part_of(api, path, "now")


async def test_the_address_of_a_group_that_a_requeue_made_leads_to_the_requeue(api, server):
    know_demo(server)
    ids = await put_letters(server, 3)
    requeue = (await send(api, "/dead-letters/requeue", 200, group=GROUP, rate="1000"))["headers"]["HX-Redirect"]
    few = await put_letters(server, 2)
    done = await api.post("/api/dead-letters/requeue", json={"ids": few})

    answer = await api.get(requeue.replace("/requeues/", "/groups/"))
    assert (answer.status_code, answer.headers["Location"]) == (303, requeue)
    answer = await api.get(f"/groups/{done.json()['id']}")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/executions?q=group%3A{done.json()['id']}")
    assert ids
    assert "there is no group" in await seen(api, f"/groups/{ids[0]}", 404)


async def test_a_state_that_is_none_is_refused(api, known_demo):
    made = await make_group(api, "noop", shards=2)
    assert "expected a state" in await seen(api, f"/groups/{made['id']}", 400, state="well")
    assert "None is failed" in await part_of(api, f"/groups/{made['id']}", "members", state="failed")


async def test_viewers_see_groups_and_cannot_cancel_them(api, known_demo):
    made = await make_group(api, "noop", shards=2)
    viewer = await token_of(api, "viewer")
    text = (await api.get(f"/groups/{made['id']}", headers=viewer)).text
    assert "0 of 2 members over" in text
    assert "/cancel" not in text
    assert (await api.post(f"/groups/{made['id']}/cancel", headers=viewer)).status_code == 403


async def test_groups_cost_a_handful_of_queries_however_many_members(api, server, known_demo, monkeypatch):
    made = await make_group(api, "noop", shards=300)
    with counted(monkeypatch, server) as queries:
        text = await seen(api, f"/groups/{made['id']}")
    assert 0 < queries[0] <= 4
    assert text.count("data-row") == 50
    with counted(monkeypatch, server) as queries:
        await seen(api, "/groups")
    assert queries == [1]


async def test_two_who_take_one_discard_back_at_once_do_it_once(api, server):
    await put_letters(server, 3)
    undo = (await send(api, "/dead-letters/discard", group=GROUP))["undo"]
    answers = await asyncio.gather(*(api.post(undo, headers=HTMX) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]
    assert await server.store.read(store_letters.waiting) == {"demo": 3}
    assert msgspec.json.decode(answers[0].headers["HX-Trigger"])
