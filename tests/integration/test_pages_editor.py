"""The forms of the web UI that make and change schedules, run jobs and run them again."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import httpx
import pytest

from schedule_zero.model import Handler, JobMethod
from tests.integration.conftest import api_client

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {"type": "integer", "minimum": 1},
        "name": {"type": "string", "default": "<b>nobody</b>"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
    "required": ["customer"],
    "additionalProperties": False,
}
HOSTILE = '"><script>alert(1)</script>'
BIG = 12345678901234567890123
# Of a form that is complete.
READY = {
    "/handler_id": "shop",
    "/job_method": "ship",
    "/job_params/customer": "7",
    "/trigger/type": "cron",
    "/trigger/expression": "30 9 * * MON-FRI",
    "/trigger/timezone": "Europe/Berlin",
}


@pytest.fixture(autouse=True)
def shop(server):
    """A handler that is known; no node serves it."""
    methods = [
        JobMethod(name="ship", schema=json.dumps(SCHEMA).encode(), doc=f"Ship it. {HOSTILE}"),
        JobMethod(name="rest", schema=b'{"type": "object", "additionalProperties": false}'),
    ]
    server.dispatcher.registry.learn([Handler(handler_id="shop", methods=methods)])


class Form(HTMLParser):
    """The fields of a page as a browser would send them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._area = self._select = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        name = said.get("name")
        if tag == "textarea":
            self._area, self.fields[name] = name, ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in said or self._select not in self.fields):
            self.fields[self._select] = said.get("value", "")
        elif tag == "input" and name and (said.get("type") != "checkbox" or "checked" in said):
            self.fields[name] = said.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "textarea":
            # The line feed after the tag is not part of it.
            self.fields[self._area] = self.fields[self._area].removeprefix("\n")
            self._area = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data):
        if self._area is not None:
            self.fields[self._area] += data


def htmx(target: str = "form#editor") -> dict[str, str]:
    return {"HX-Request": "true", "HX-Target": target}


async def sent(api: httpx.AsyncClient, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
    return await api.post(path, data=fields, headers=headers)


async def outlook(api: httpx.AsyncClient, **changes: str) -> str:
    fields = {**READY, **changes}
    answer = await api.post("/schedules/draft", data=fields, headers=htmx("section#outlook"))
    assert answer.status_code == 200
    return answer.text


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def said_at(page: str, field: str) -> str:
    """What stands beside a field as its error."""
    found = re.search(rf'id="{re.escape(field)}-wrong"[^>]*>(.*?)</small>', page, re.DOTALL)
    return text_of(found[1]) if found else ""


async def saved(api: httpx.AsyncClient, schedule_id: str) -> dict:
    return (await api.get(f"/api/schedules/{schedule_id}")).json()


# --- a new schedule -----------------------------------------------------------------------------------


async def test_an_empty_form_says_what_is_needed_and_marks_nothing(api):
    page = (await api.get("/schedules/new")).text

    assert "Before it can be saved" in page
    assert 'aria-invalid="true"' not in page
    assert Form(page).fields["/handler_id"] == ""


async def test_the_address_may_name_the_job(api):
    page = (await api.get("/schedules/new?handler=shop&method=ship")).text

    fields = Form(page).fields
    assert (fields["/handler_id"], fields["/job_method"]) == ("shop", "ship")
    assert "/job_params/customer" in fields
    assert "&lt;script&gt;" in page
    assert HOSTILE not in page


async def test_the_calendars_that_there_are_stand_beside_their_fields(api):
    await api.put("/api/calendars/works", json={"timezone": "UTC", "dates": ["2030-12-24"]})

    assert "There is works." in (await api.get("/schedules/new")).text


async def test_an_unknown_handler_is_shown_and_not_lost(api):
    page = (await api.get("/schedules/new?handler=gone&method=away")).text

    assert (Form(page).fields["/handler_id"], Form(page).fields["/job_method"]) == ("gone", "away")
    assert "This handler is not known" in page


async def test_a_form_makes_a_schedule_and_leads_to_it(api):
    fields = {
        **READY,
        "/id": "morning",
        "/job_params/customer": str(BIG),
        "/job_params/tags": "a\r\nb c",
        "/options/timeout_s": "1h30m",
        "/policies/overlap": "skip",
        "/paused": "true",
        "/note": "why",
    }

    answer = await sent(api, "/schedules/new", fields)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/schedules/morning")
    record = await saved(api, "morning")
    assert record["job_params"] == {"customer": BIG, "tags": ["a", "b c"]}
    assert record["trigger"]["expression"] == "30 9 * * MON-FRI"
    assert (record["options"], record["policies"]["overlap"]) == ({"timeout_s": 5400.0}, "skip")
    assert (record["state"], record["note"]) == ("paused", "why")


async def test_with_htmx_the_browser_is_sent_there_and_told(api):
    answer = await sent(api, "/schedules/new", {**READY, "/id": "told"}, **htmx())

    assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/schedules/told")
    assert json.loads(answer.headers["HX-Trigger"])["sz:done"]["text"] == "told was created"


async def test_a_form_that_is_sent_twice_is_obeyed_once(api):
    once = Form((await api.get("/schedules/new")).text).fields["once"]

    first, second = [await sent(api, "/schedules/new", {**READY, "once": once}) for _ in range(2)]

    assert first.headers["Location"] == second.headers["Location"]
    assert (await api.get("/api/schedules")).json()["count"] == 1


async def test_what_is_wrong_is_said_at_its_field_and_all_that_was_typed_stays(api):
    fields = {
        **READY,
        "/job_params/customer": f"seven {HOSTILE}",
        "/job_params/name": "x\r\ny",
        "/options/max_attempts": "many",
        "/trigger/start": "soon",
        "/note": HOSTILE,
    }

    answer = await sent(api, "/schedules/new", fields, **htmx())

    assert answer.status_code == 422
    assert said_at(answer.text, "f-job_params-customer").startswith("expected a whole number, got 'seven")
    assert said_at(answer.text, "f-options-max_attempts") == "expected a whole number, got 'many'"
    again = Form(answer.text).fields
    assert {name: "\r\n".join(again[name].splitlines()) for name in fields} == fields
    assert HOSTILE not in answer.text


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"/job_params/customer": "0"}, "f-job_params-customer", "0 is less than the minimum of 1"),
        ({"/job_params/customer": ""}, "f-job_params-customer", "missing parameter 'customer'"),
        ({"/trigger/expression": "0 9 31 2 *"}, "f-trigger-expression", "never fires"),
        ({"/trigger/timezone": "Berlin"}, "f-trigger-timezone", "expected an IANA zone"),
        ({"/trigger/start": "soon"}, "f-trigger-start", "expected an ISO 8601 date and time"),
        ({"/options/max_attempts": "0"}, "f-options-max_attempts", "expected int >= 1"),
        ({"/options/require": "gpu\r\n= 3"}, "f-options-require", "expected the name of a label or fact"),
        ({"/policies/exclude": "nowhere"}, "f-policies-exclude", "nowhere"),
        ({"/policies/catch_up_window_s": "5s"}, "f-policies-catch_up_window_s", "misfire_grace_s"),
        ({"/misfire_grace_s": "soon"}, "f-misfire_grace_s", "expected a duration"),
        ({"/job_method": "sink"}, "f-job_method", "has no method 'sink'"),
        ({"/handler_id": "gone"}, "f-handler_id", "no handler 'gone' is known"),
        ({"/id": "a b"}, "f-id", "expected up to 128 of"),
        ({"/trigger/type": "interval", "/trigger/every": "0s"}, "f-trigger-every", "expected an interval of at least"),
        ({"/trigger/type": "calendar", "/trigger/on": "MON"}, "f-trigger-on", "on goes with weeks"),
        ({"/trigger/type": "json", "json:/trigger": '{"type": "moon"}'}, "f-trigger", "expected a trigger type"),
        ({"json:/job_params": "{"}, "f-job_params", "not JSON"),
    ],
)
async def test_whatever_refuses_it_the_error_stands_at_the_field(api, changes, field, said):
    answer = await sent(api, "/schedules/new", {**READY, **changes}, **htmx())

    assert answer.status_code in (400, 404, 422)
    assert said in said_at(answer.text, field), text_of(answer.text)
    assert (await api.get("/api/schedules")).json()["count"] == 0


async def test_an_id_that_is_taken_is_said_at_the_name(api):
    await sent(api, "/schedules/new", {**READY, "/id": "taken"})

    answer = await sent(api, "/schedules/new", {**READY, "/id": "taken"}, **htmx())

    assert answer.status_code == 409
    assert "exists already" in said_at(answer.text, "f-id")


async def test_a_copy_has_everything_but_the_name(api):
    await sent(api, "/schedules/new", {**READY, "/id": "first", "/note": "one", "/options/priority": "9"})

    fields = Form((await api.get("/schedules/new?from=first")).text).fields

    assert fields.pop("/id") == ""
    assert {name: fields[name] for name in READY} == READY
    assert (fields["/note"], fields["/options/priority"]) == ("one", "9")
    assert (await sent(api, "/schedules/new", {**fields, "/id": "second"})).status_code == 303
    first, second = await saved(api, "first"), await saved(api, "second")
    assert {name: first[name] for name in ("trigger", "job_params", "options")} == {
        name: second[name] for name in ("trigger", "job_params", "options")
    }


# --- the look ahead -----------------------------------------------------------------------------------


async def test_what_is_typed_is_told_in_words_with_its_next_fires(api):
    page = await outlook(api)

    assert "At 09:30, Monday through Friday" in page
    assert len(re.findall(r"<li[^>]*><time", page)) == 10
    assert len(re.findall(r"(CET|CEST)</time>", page)) == 10
    assert "Before it can be saved" not in page
    assert "<form" not in page


async def test_a_change_of_the_clock_is_marked(api):
    # Half past two on the last Sunday of March does not exist in Berlin.
    page = await outlook(api, **{"/trigger/expression": "30 2 * 3 7L"})

    assert "made up for: the clock is put forward" in page


async def test_what_is_often_meant_otherwise_is_warned_of(api):
    assert "warns" in await outlook(api, **{"/trigger/expression": "30 2 * * *"})


async def test_half_a_form_is_looked_at_as_far_as_it_goes(api):
    page = await outlook(api, **{"/handler_id": "", "/job_method": "", "/policies/overlap": "nonsense"})

    assert "At 09:30" in page
    assert 'href="#f-handler_id"' in page


@pytest.mark.parametrize("expression", ["", "0 9", "99 9 * * *", HOSTILE, "0 9 31 2 *"])
async def test_a_trigger_that_is_not_ready_is_no_error_of_the_page(api, expression):
    page = await outlook(api, **{"/trigger/expression": expression})

    assert HOSTILE not in page
    assert "<ol" not in page


async def test_nothing_is_stored_by_looking(api):
    await outlook(api, **{"/id": "looked-at"})

    assert (await api.get("/api/schedules/looked-at")).status_code == 404


async def test_a_name_that_is_taken_is_told_beforehand(api):
    await sent(api, "/schedules/new", {**READY, "/id": "taken"})

    assert "exists already" in await outlook(api, **{"/id": "taken"})
    assert "exists already" not in await outlook(api, **{"/id": "taken", "editing": "taken"})


@pytest.mark.parametrize(
    ("key", "start"),
    [
        ("curl", "curl -X POST"),
        ("python", "from schedule_zero"),
        ("cli", "schedule-zero schedule"),
        ("yaml", "schedules:"),
    ],
)
async def test_the_form_as_text_follows_it(api, key, start):
    page = await outlook(api, copy_as=key, **{"/job_params/name": "</code><script>"})

    code = html.unescape(re.search(r"<code>(.*?)</code>", page, re.DOTALL)[1])
    assert code.startswith(start)
    assert "30 9 * * MON-FRI" in code
    assert "</code><script>" in code


async def test_another_method_has_other_fields(api):
    answer = await sent(api, "/schedules/draft", {**READY, "/job_method": "rest"}, **htmx("section#job"))

    assert "This method takes no parameters." in answer.text
    assert "When</h2>" not in answer.text


async def test_another_kind_has_other_fields_and_forgets_none(api):
    answer = await sent(api, "/schedules/draft", {**READY, "/trigger/type": "interval"}, **htmx("section#when"))

    fields = Form(answer.text).fields
    assert fields["/trigger/every"] == ""
    assert fields["/trigger/expression"] == "30 9 * * MON-FRI"


async def test_the_parameters_can_be_had_as_json_and_back(api):
    fields = {**READY, "/job_params/customer": str(BIG), "as_json": "true"}

    as_json = Form((await sent(api, "/schedules/draft", fields, **htmx("section#job"))).text).fields
    back = await sent(api, "/schedules/draft", {**as_json, "as_json": ""}, **htmx("section#job"))

    assert json.loads(as_json["json:/job_params"]) == {"customer": BIG}
    assert Form(back.text).fields["/job_params/customer"] == str(BIG)


async def test_without_javascript_the_preview_is_a_page(api):
    answer = await sent(api, "/schedules/draft", READY)

    assert answer.status_code == 200
    assert "At 09:30, Monday through Friday" in answer.text
    assert '<form id="editor"' in answer.text


# --- changing one -------------------------------------------------------------------------------------


async def test_a_schedule_that_is_opened_and_saved_is_the_same(api):
    await sent(
        api, "/schedules/new", {**READY, "/id": "same", "/misfire_grace_s": "1m", "/options/retry_on": "transient"}
    )
    before = await saved(api, "same")

    fields = Form((await api.get("/schedules/same/edit")).text).fields
    answer = await sent(api, "/schedules/same/edit", fields)

    after = await saved(api, "same")
    assert answer.headers["Location"] == "/schedules/same"
    assert after == before


async def test_a_schedule_is_changed(api):
    await sent(api, "/schedules/new", {**READY, "/id": "changed"})
    fields = Form((await api.get("/schedules/changed/edit")).text).fields

    await sent(
        api,
        "/schedules/changed/edit",
        {**fields, "/job_params/customer": "8", "/trigger/type": "interval", "/trigger/every": "90s"},
    )

    record = await saved(api, "changed")
    assert record["job_params"] == {"customer": 8}
    assert record["trigger"]["seconds"] == 90


async def test_who_was_faster_is_told_and_both_are_offered(api, server):
    await sent(api, "/schedules/new", {**READY, "/id": "raced"})
    mine = Form((await api.get("/schedules/raced/edit")).text).fields
    token = (await api.post("/api/tokens", json={"name": "Maria <M>", "role": "operator"})).json()["token"]
    await api.patch(
        "/api/schedules/raced", json={"job_params": {"customer": 99}}, headers={"Authorization": f"Bearer {token}"}
    )

    refused = await sent(api, "/schedules/raced/edit", {**mine, "/note": "typed"}, **htmx())

    assert refused.status_code == 412
    assert "Maria <M> changed this schedule" in text_of(refused.text)
    assert "job_params/customer 7 99" in text_of(refused.text)
    assert Form(refused.text).fields["/note"] == "typed"
    assert (await saved(api, "raced"))["job_params"] == {"customer": 99}

    over = re.search(r'name="over" value="([^"]+)"', refused.text)[1]
    saved_over = await sent(api, "/schedules/raced/edit", {**Form(refused.text).fields, "over": over})

    assert saved_over.status_code == 303
    assert (await saved(api, "raced"))["job_params"] == {"customer": 7}


async def test_one_that_was_deleted_meanwhile_can_be_made_again(api):
    await sent(api, "/schedules/new", {**READY, "/id": "deleted"})
    mine = Form((await api.get("/schedules/deleted/edit")).text).fields
    await api.delete("/api/schedules/deleted")

    refused = await sent(api, "/schedules/deleted/edit", mine, **htmx())
    again = await sent(api, "/schedules/deleted/edit", {**mine, "over": "anew"})

    assert refused.status_code == 412
    assert "Somebody deleted this schedule" in refused.text
    assert again.status_code == 303
    assert (await saved(api, "deleted"))["id"] == "deleted"


async def test_a_schedule_that_is_not_there_has_no_form(api):
    assert (await api.get("/schedules/nowhere/edit")).status_code == 404
    assert (await api.get("/schedules/new?from=nowhere")).status_code == 404


async def test_parameters_that_fit_no_field_are_shown_as_json_in_its_place(api):
    body = {"id": "odd", "handler_id": "shop", "job_method": "ship", "trigger": {"type": "manual"}}
    await api.post("/api/schedules", json={**body, "job_params": {"customer": 1, "name": "", "tags": ["", "x"]}})

    fields = Form((await api.get("/schedules/odd/edit")).text).fields

    assert (fields["json:/job_params/name"], json.loads(fields["json:/job_params/tags"])) == ('""', ["", "x"])
    await sent(api, "/schedules/odd/edit", fields)
    assert (await saved(api, "odd"))["job_params"] == {"customer": 1, "name": "", "tags": ["", "x"]}


# --- run now ------------------------------------------------------------------------------------------


async def test_without_a_method_the_methods_are_offered(api):
    page = (await api.get("/handlers/shop/run")).text

    assert 'href="/handlers/shop/run?method=ship"' in page
    assert HOSTILE not in page
    assert (await api.get("/handlers/nowhere/run")).status_code == 404
    assert (await api.get("/handlers/shop/run?method=sink")).status_code == 404


async def test_a_form_runs_a_job_and_leads_to_its_execution(api):
    fields = Form((await api.get("/handlers/shop/run?method=ship")).text).fields
    fields |= {"/job_params/customer": str(BIG), "/options/priority": "11", "/not_before": "10m"}

    answer = await sent(api, "/handlers/shop/run", fields, **htmx())

    where = answer.headers["HX-Redirect"]
    record = (await api.get(f"/api{where}")).json()
    assert (record["job_params"], record["options"]["priority"], record["status"]) == (
        {"customer": BIG},
        11,
        "scheduled",
    )


@pytest.mark.parametrize("said", ["tomorrow 09:00", "18:00", "+1h 30m", "+1500ms", "1h30m", "2030-01-31 09:00"])
async def test_when_a_run_starts_is_typed_as_every_other_moment(api, said):
    fields = Form((await api.get("/handlers/shop/run?method=rest")).text).fields | {"/not_before": said}

    answer = await sent(api, "/handlers/shop/run", fields, **htmx())

    record = (await api.get(f"/api{answer.headers['HX-Redirect']}")).json()
    assert record["status"] == "scheduled"


@pytest.mark.parametrize("start", ["", "+2h"])
async def test_a_run_that_is_sent_twice_runs_once(api, start):
    fields = {**Form((await api.get("/handlers/shop/run?method=rest")).text).fields, "/not_before": start}

    first, second = [await sent(api, "/handlers/shop/run", fields) for _ in range(2)]

    assert first.headers["Location"] == second.headers["Location"]


@pytest.mark.parametrize(
    ("name", "value", "field", "said"),
    [
        ("/job_params/customer", "none", "f-job_params-customer", "expected a whole number"),
        ("/options/timeout_s", "-1", "f-options-timeout_s", "expected a duration"),
        ("/options/max_attempts", "1001", "f-options-max_attempts", "expected int <= 1000"),
        ("/not_before", "soon", "f-not_before", "expected a moment such as +2h, 18:00, tomorrow 09:00"),
        ("/not_before", "9999-12-31", "f-not_before", "expected a moment such as"),
    ],
)
async def test_a_run_that_cannot_be_is_refused_at_its_field(api, name, value, field, said):
    fields = {"/job_method": "ship", "/job_params/customer": "7", name: value}

    answer = await sent(api, "/handlers/shop/run", fields, **htmx())

    assert answer.status_code in (400, 422)
    assert said in said_at(answer.text, field)
    assert Form(answer.text).fields[name] == value


async def test_a_runs_form_tells_what_is_missing_and_then_its_text(api):
    empty = await sent(api, "/handlers/shop/run/draft", {"/job_method": "ship"}, **htmx("section#outlook"))
    ready = {"/job_method": "ship", "/job_params/customer": "7"}
    ready_page = await sent(api, "/handlers/shop/run/draft", ready, **htmx("section#outlook"))

    assert "missing parameter 'customer'" in text_of(empty.text)
    assert "/api/executions" in ready_page.text


# --- retry with edit ----------------------------------------------------------------------------------


@pytest.fixture
async def cancelled(api) -> str:
    """An execution that is over."""
    body = {"handler_id": "shop", "job_method": "ship", "job_params": {"customer": BIG, "name": HOSTILE}}
    id_ = (await api.post("/api/executions", json={**body, "options": {"priority": 3}})).json()["ids"][0]
    await api.post(f"/api/executions/{id_}/cancel")
    return id_


async def test_a_retry_begins_with_what_the_execution_had(api, cancelled):
    page = (await api.get(f"/executions/{cancelled}/retry-edit")).text

    fields = Form(page).fields
    assert (fields["/job_params/customer"], fields["/job_params/name"]) == (str(BIG), HOSTILE)
    assert "3 (this execution)" in page
    assert HOSTILE not in page


async def test_a_retry_runs_with_what_was_changed(api, cancelled):
    fields = Form((await api.get(f"/executions/{cancelled}/retry-edit")).text).fields
    fields |= {"/job_params/customer": "8", "/options/timeout_s": "5m"}

    answer = await sent(api, f"/executions/{cancelled}/retry-edit", fields)

    assert answer.status_code == 303
    record = (await api.get(f"/api{answer.headers['Location']}")).json()
    assert record["parent_id"] == cancelled
    assert record["job_params"] == {"customer": 8, "name": HOSTILE}
    assert (record["options"]["priority"], record["options"]["timeout_s"]) == (3, 300.0)


async def test_what_is_not_over_is_not_retried(api):
    body = {"handler_id": "shop", "job_method": "rest"}
    id_ = (await api.post("/api/executions", json=body)).json()["ids"][0]

    assert (await api.get(f"/executions/{id_}/retry-edit")).status_code == 409


async def test_a_retry_that_cannot_be_is_refused_at_its_field(api, cancelled):
    answer = await sent(api, f"/executions/{cancelled}/retry-edit", {"/job_params/customer": "0"}, **htmx())

    assert answer.status_code == 422
    assert "less than the minimum" in said_at(answer.text, "f-job_params-customer")


# --- bounds -------------------------------------------------------------------------------------------


async def test_pages_ask_the_store_a_bounded_number_of_times(api, server, cancelled, monkeypatch):
    await sent(api, "/schedules/new", {**READY, "/id": "counted"})
    reads = []
    real = server.store.read

    async def read(query):
        reads.append(query)
        return await real(query)

    monkeypatch.setattr(server.store, "read", read)
    counts = {}
    for path in (
        "/schedules/new",
        "/schedules/counted/edit",
        "/handlers/shop/run?method=ship",
        f"/executions/{cancelled}/retry-edit",
    ):
        reads.clear()
        assert (await api.get(path)).status_code == 200
        counts[path] = len(reads)

    assert all(count <= 2 for count in counts.values()), counts


async def test_forms_of_many_handlers_stay_small(api, server):
    methods = [JobMethod(name=f"method-{number}", schema=json.dumps(SCHEMA).encode()) for number in range(20)]
    server.dispatcher.registry.learn(
        [Handler(handler_id=f"handler-{number}", methods=methods) for number in range(500)]
    )

    page = await api.get("/schedules/new?handler=handler-7&method=method-3")

    assert len(page.content) < 200_000


async def test_a_viewer_sees_no_form(api, server):
    token = (await api.post("/api/tokens", json={"name": "v", "role": "viewer"})).json()["token"]
    async with api_client(server, Authorization=f"Bearer {token}") as viewer:
        assert (await viewer.get("/schedules/new")).status_code == 403
        assert (await sent(viewer, "/schedules/draft", READY)).status_code == 403
