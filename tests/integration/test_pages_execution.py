"""The page of one execution, and of its log: why, when, what it got and gave, what it said; what can be done."""

from __future__ import annotations

import re
import sys
from html import unescape

import msgspec
import pytest

from schedule_zero import BaseHandler, current_job, job
from schedule_zero.model import JobError, State
from schedule_zero.node import capture
from schedule_zero.store import executions
from schedule_zero.store import logs as store_logs
from schedule_zero.web.pages import execution_log
from tests.integration.log_bed import GATE
from tests.integration.pages import counted, part_of, seen, send, token_of
from tests.store.builders import execution
from tests.support import eventually

pytestmark = pytest.mark.anyio

EVIL = "<script>alert(1)</script>"
ID = "01k" + "0" * 23


class TellerHandler(BaseHandler):
    handler_id = "teller"

    @job(max_attempts=2, retry_delay_s=0.0)
    def tell(self, lines: int = 3, fail: bool = False) -> dict[str, object]:
        log = current_job().log
        for number in range(lines):
            print(f"line {number} {EVIL} \x1b[31mred\x1b[0m")
        log.warning("careful")
        if fail:
            raise ConnectionError(f"no route {EVIL}")
        return {"big": 12345678901234567890, "evil": EVIL}

    def trouble(self, lines: int = 10) -> None:
        for number in range(lines):
            print(f"fine {number}")
        current_job().log.error("broken here")
        print("after it")

    def held(self) -> str:
        print("before")
        current_job().progress(40, "half <b>way</b>")
        GATE.wait(20)
        print("after")
        return "done"

    def large(self, size: int) -> str:
        return "x" * size

    def quiet(self) -> None:
        pass


TELLER = f"{__name__}:TellerHandler"


@pytest.fixture
async def node(start_node):
    GATE.clear()
    await start_node("n1", TELLER)
    yield
    GATE.set()


async def submit(api, method, params=None, **more) -> str:
    if not isinstance(sys.stdout, capture.JobStream):
        # pytest put its own streams there after the node's start.
        capture.uninstall()
        capture.install()
    body = {"handler_id": "teller", "job_method": method, "job_params": params or {}, **more}
    answer = await api.post("/api/executions", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["ids"][0])


async def over(api, method, params=None, **more) -> str:
    """The id of one that has ended, with all of its log stored."""
    id_ = await submit(api, method, params, **more)
    await api.get(f"/api/executions/{id_}", params={"wait_s": 20})

    async def complete():
        return (await api.get(f"/api/executions/{id_}/logs", params={"limit": 1})).json()["complete"]

    await eventually(complete)
    return id_


async def put(server, **fields) -> str:
    row = execution(ID, **{"created_us": server.clock.wall_us(), **fields})
    await server.store.write(executions.insert, executions.Insert(rows=[row]))
    return row.id


def lines_in(text: str) -> list[str]:
    return [unescape(line) for line in re.findall(r'<p id="L\d+".*?</a>(.*?)</p>', text)]


def link(text: str, id_: str) -> str:
    """Where the earlier or later lines are."""
    return unescape(re.search(rf'<\w+ id="{id_}"[^>]*(?:href|data-from)="([^"]+)"', text)[1])


# --- one execution ----------------------------------------------------------------------------------


async def test_one_that_completed_shows_its_times_parameters_and_result(node, api):
    id_ = await over(api, "tell", {"lines": 2}, options={"priority": 8})

    text = await seen(api, f"/executions/{id_}")

    assert "<title>teller.tell completed" in text
    assert "It completed on n1 after" in text
    for label in ("created", "dispatched", "started", "finished", "stored"):
        assert f"<span>{label}</span> <time" in text
    assert "12345678901234567890" in text
    assert "&#34;lines&#34;: 2" in text
    assert re.search(r"<dt>priority</dt><dd><code>8</code> <small>submission</small>", text)
    assert re.search(r"<dt>max_attempts</dt><dd><code>2</code> <small>method</small>", text)
    assert EVIL not in text
    # What is over doesn't change: nothing asks for it again.
    assert "data-live=" not in text


async def test_one_that_failed_says_why_with_each_attempt(node, api):
    id_ = await over(api, "tell", {"fail": True})

    text = await seen(api, f"/executions/{id_}")

    assert "at attempt 2 of 2: ConnectionError: no route &lt;script&gt;" in text
    assert text.count('id="attempt-') == 2
    assert "Traceback (most recent call last)" in text
    assert "dead letter" in text
    assert f'action="/executions/{id_}/requeue"' in text
    assert EVIL not in text


async def test_one_that_waits_says_for_what(server, api):
    id_ = await put(server, state=State.PENDING, nominal_us=server.clock.wall_us())
    text = await seen(api, f"/executions/{id_}")
    assert "It waits: no node that serves demo.noop is connected" in text
    assert "<span>due</span>" in text
    assert 'data-live="execution"' in text


async def test_one_that_runs_shows_how_far_it_is(node, api):
    id_ = await submit(api, "held")

    async def shown():
        return "half &lt;b&gt;way&lt;/b&gt;" in await seen(api, f"/executions/{id_}")

    await eventually(shown)
    text = await part_of(api, f"/executions/{id_}", "now")
    assert '<progress max="100" value="40.0"' in text
    assert "It runs on n1, for" in text
    GATE.set()


async def test_a_result_that_is_too_large_for_a_page_can_be_downloaded(node, api):
    small, large = await over(api, "large", {"size": 50_000}), await over(api, "large", {"size": 3_000_000})

    text = await seen(api, f"/executions/{small}")
    assert "The beginning of 48.8 KiB" in text
    assert len(text) < 60_000
    text = await seen(api, f"/executions/{large}")
    assert "too large for a page: 2.9 MiB" in text
    assert f'href="/api/executions/{large}/result"' in text


async def test_what_came_from_it_and_what_it_came_from_are_linked(node, api):
    first = await over(api, "quiet")
    said = await send(api, f"/executions/{first}/retry", 200)
    second = said["headers"]["HX-Redirect"].rpartition("/")[2]

    assert f'href="/executions/{second}"' in await seen(api, f"/executions/{first}")
    assert f'href="/executions/{first}"' in await seen(api, f"/executions/{second}")


async def test_one_that_is_gone_says_when_it_was_made_and_why_it_may_be_gone(server, api):
    text = await seen(api, f"/executions/{ID}", 404)
    assert "Nothing is stored at all" in text
    await put(server, state=State.COMPLETED)

    text = await seen(api, "/executions/01j" + "0" * 23, 404)
    assert "older ones that were over have been cleared" in text
    assert "the id has a slip in it" in await seen(api, "/executions/02z" + "0" * 23, 404)
    assert "the id has a slip in it" in await seen(api, "/executions/zzz" + "0" * 23, 404)
    assert "is no id" in await seen(api, "/executions/nonsense", 404)


async def test_every_state_has_its_page(server, api):
    for n, state in enumerate(State):
        row = execution(f"01k{n:023d}", state=state, created_us=server.clock.wall_us(), lost_count=1)
        await server.store.write(executions.insert, executions.Insert(rows=[row]))
        assert state.value.replace("_", " ") in await seen(api, f"/executions/{row.id}")


async def test_keys_and_errors_are_hostile_too(server, api):
    error = JobError(type=EVIL, message=f"{EVIL}\x1b[31m\u202e" + "x" * 5000, traceback=EVIL)
    id_ = await put(server, state=State.FAILED, error=msgspec.json.encode(error), concurrency_key=EVIL,
                    idempotency_key=EVIL, params=msgspec.json.encode({EVIL: EVIL}))  # fmt: skip
    for path in (f"/executions/{id_}", f"/executions/{id_}?tab=log", f"/executions/{id_}/log"):
        text = await seen(api, path)
        assert EVIL not in text
        assert "\u202e" not in text
        assert "\x1b" not in text


async def test_the_page_makes_a_bounded_number_of_reads(node, api, server, monkeypatch):
    id_ = await over(api, "tell")
    with counted(monkeypatch, server) as reads:
        await seen(api, f"/executions/{id_}")
    assert reads[0] <= 6


# --- what can be done -------------------------------------------------------------------------------


async def test_what_waits_is_cancelled_at_once(server, api):
    id_ = await put(server, state=State.PENDING)
    assert (await send(api, f"/executions/{id_}/cancel"))["text"] == "Cancelled"
    assert "It was cancelled before it began" in await seen(api, f"/executions/{id_}")
    assert "over already: cancelled" in (await send(api, f"/executions/{id_}/cancel"))["text"]


async def test_a_dead_letter_is_requeued_once(node, api):
    id_ = await over(api, "tell", {"fail": True})

    said = await send(api, f"/executions/{id_}/requeue", 200)

    assert said["undo"].endswith("/cancel")
    new = said["headers"]["HX-Redirect"].rpartition("/")[2]
    assert (await api.get(f"/api/executions/{new}")).json()["parent_id"] == id_
    assert "text" in await send(api, f"/executions/{id_}/requeue", 409)
    assert f'action="/executions/{id_}/retry"' in await seen(api, f"/executions/{id_}")


async def test_a_viewer_sees_it_and_changes_nothing(server, api):
    id_ = await put(server, state=State.PENDING)
    viewer = await token_of(api, "viewer")
    text = (await api.get(f"/executions/{id_}", headers=viewer)).text
    assert "It waits" in text
    assert "<form" not in text.replace('action="/logout"', "").split("<main", 1)[1]
    for verb in ("cancel", "retry", "requeue"):
        assert (await api.post(f"/executions/{id_}/{verb}", headers=viewer)).status_code == 403


# --- its log ----------------------------------------------------------------------------------------


async def test_the_log_is_text_with_a_link_for_each_line(node, api):
    id_ = await over(api, "tell", {"lines": 3})

    for path in (f"/executions/{id_}?tab=log", f"/executions/{id_}/log"):
        text = await seen(api, path)
        assert lines_in(text) == [*(f"line {n} {EVIL} red" for n in range(3)), "careful"]
        assert 'class="w"' in text
        assert EVIL not in text
        assert 'line=2#L2">2</a>' in text
        assert ">The end.<" in text


async def test_a_line_has_an_address_that_shows_it_among_others(node, api):
    id_ = await over(api, "tell", {"lines": 3000})

    text = await seen(api, f"/executions/{id_}/log", line=1500)

    assert 'id="L1500" class="mark"' in text
    assert 'data-at="L1500"' in text
    assert len(lines_in(text)) == execution_log.FIRST
    assert "There is no line 9999" in await seen(api, f"/executions/{id_}/log", line=9999)


@pytest.mark.parametrize("start", [{}, {"line": 1500}, {"line": 1}])
async def test_part_after_part_all_lines_come_once(start, node, api):
    id_ = await over(api, "tell", {"lines": 6000})
    page = await seen(api, f"/executions/{id_}/log", **start)
    found = lines_in(page)

    text = page
    while 'id="earlier" class' in text:
        path = link(text, "earlier")
        text = await part_of(api, path, "earlier")
        found = lines_in(text) + found
    text = page
    while '<a id="later"' in text:
        text = await part_of(api, link(text, "later"), "later")
        found += lines_in(text)

    assert found == [*(f"line {n} {EVIL} red" for n in range(6000)), "careful"]
    assert "The end." in text


async def test_lines_stop_coming_by_themselves_at_a_bound(node, api, monkeypatch):
    monkeypatch.setattr(execution_log, "MOST", 600)
    id_ = await over(api, "tell", {"lines": 6000})
    text = await seen(api, f"/executions/{id_}/log")
    assert "data-goes-on" in text
    text = await part_of(api, link(text, "earlier"), "earlier")
    assert 'id="earlier"' in text
    assert "data-goes-on" not in text


async def test_lines_are_looked_for_by_text_and_level(node, api):
    id_ = await over(api, "tell", {"lines": 1200})

    text = await seen(api, f"/executions/{id_}/log", grep="LINE 11")
    assert len(lines_in(text)) == 1 + 10 + 100
    assert "<mark>line 11</mark>" in text
    assert lines_in(await seen(api, f"/executions/{id_}", tab="log", level="warning")) == ["careful"]
    assert lines_in(await seen(api, f"/executions/{id_}/log", stream="log")) == ["careful"]
    text = await seen(api, f"/executions/{id_}/log", grep="nothing like it")
    assert "No line fits." in text


async def test_found_lines_go_on_in_parts(node, api):
    id_ = await over(api, "tell", {"lines": 1200})
    text = await seen(api, f"/executions/{id_}/log", grep="line")
    assert len(lines_in(text)) == execution_log.FIRST
    more = await part_of(api, link(text, "later"), "later")
    assert len(lines_in(text)) + len(lines_in(more)) == 1200


async def test_the_first_error_is_jumped_to(node, api):
    id_ = await over(api, "trouble", {"lines": 1000})

    for path, where in (("/log", f"/executions/{id_}/log?"), ("?tab=log", f"/executions/{id_}?tab=log&")):
        joined = f"/executions/{id_}{path}{'&' if '?' in path else '?'}error=1&attempt=1"
        answer = await api.get(joined)
        assert answer.status_code == 303
        to = answer.headers["Location"]
        assert to.startswith(where)
        assert to.endswith("line=1001#L1001")
        assert 'id="L1001" class="e mark"' in (await api.get(to)).text

    fine = await over(api, "quiet")
    answer = await api.get(f"/executions/{fine}/log?error=1")
    assert answer.headers["Location"] == f"/executions/{fine}/log#no-error"


async def test_a_log_is_followed_while_it_grows_to_its_end(node, api):
    id_ = await submit(api, "held")

    async def begun():
        return "before" in lines_in(await seen(api, f"/executions/{id_}/log"))

    await eventually(begun)
    text = await seen(api, f"/executions/{id_}/log")
    assert "data-follows" in text
    at = link(text, "later")
    text = await part_of(api, at, "later")
    assert (lines_in(text), "data-follows" in text) == ([], True)
    GATE.set()

    async def ended():
        part = await part_of(api, at, "later")
        return "data-follows" not in part and part

    text = await eventually(ended)
    assert lines_in(text) == ["after"]
    assert "The end." in text
    # The tab's title tells it, too.
    assert "<title>teller.held completed" in text


async def test_nothing_yet_is_not_nothing(server, api, node):
    waits = await put(server, state=State.PENDING)
    assert "It has not begun. Lines appear here" in await seen(api, f"/executions/{waits}?tab=log")
    quiet = await over(api, "quiet")
    assert "This attempt wrote nothing." in await seen(api, f"/executions/{quiet}?tab=log")


async def test_each_attempt_has_its_log(node, api):
    id_ = await over(api, "tell", {"fail": True, "lines": 1})

    text = await seen(api, f"/executions/{id_}/log", attempt=1)

    assert '<option value="1" selected>1</option>' in text
    assert "There is a newer attempt." in text
    assert "has no attempt 7" in await seen(api, f"/executions/{id_}/log", 404, attempt=7)


async def test_a_log_is_downloaded_as_it_was_written(node, api, monkeypatch):
    monkeypatch.setattr(execution_log, "DOWNLOAD_LINES", 100)
    id_ = await over(api, "tell", {"lines": 350})

    answer = await api.get(f"/executions/{id_}/log.txt")

    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{id_}-1.log"'
    assert answer.text == "".join(f"line {n} {EVIL} \x1b[31mred\x1b[0m\n" for n in range(350)) + "careful\n"


async def test_before_it_has_begun_there_is_no_log_to_download(server, api):
    id_ = await put(server, state=State.PENDING)
    answer = await api.get(f"/executions/{id_}/log.txt")
    assert answer.status_code == 404


@pytest.mark.parametrize("query", [{"line": 0}, {"level": "loud"}, {"wrap": "perhaps"}, {"before": "x"}, {"x": 1}])
async def test_nonsense_in_the_address_is_told(query, server, api):
    id_ = await put(server, state=State.PENDING)
    await seen(api, f"/executions/{id_}/log", 400, **query)
    await seen(api, f"/executions/{id_}", 400, **query)


async def test_a_node_that_died_with_the_rest_of_a_log_is_not_waited_for_without_end(node, api, monkeypatch):
    monkeypatch.setattr(execution_log, "IDLE_LOOKS", 2)
    id_ = await over(api, "tell", {"lines": 1})
    read = store_logs.read

    def cut_off(*args):
        found = read(*args)
        found.complete = False
        return found

    monkeypatch.setattr(store_logs, "read", cut_off)
    text, looks = await seen(api, f"/executions/{id_}/log"), 0
    while "data-follows" in text:
        text = await part_of(api, link(text, "later"), "later")
        looks += 1

    assert looks == 3
    assert "The end." in text
