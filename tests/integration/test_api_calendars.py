"""Named calendars over HTTP: atomic writes, versions, what they cover, iCalendar files, and what uses them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from schedule_zero.client import AsyncClient
from schedule_zero.clock import from_us
from schedule_zero.errors import Forbidden
from schedule_zero.model import Role
from schedule_zero.service.specs import Principal
from tests.integration.conftest import running_server
from tests.unit.test_calendar_parse import BAD

pytestmark = pytest.mark.anyio

BERLIN = {"timezone": "Europe/Berlin", "holidays": [{"country": "DE", "subdivision": "BE"}]}
WEEKEND = {"timezone": "Europe/Berlin", "weekly": [{"days": ["SAT", "SUN"]}]}
NOOP = {
    "handler_id": "demo",
    "job_method": "noop",
    "trigger": {"type": "cron", "expression": "0 0 1 1 *", "timezone": "UTC"},
}


def event(uid: str, *lines: str, summary: str = "x") -> str:
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", *lines, f"SUMMARY:{summary}", "END:VEVENT", ""])


def file(*events: str, head: str = "") -> str:
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{head}" + "".join(events) + "END:VCALENDAR\r\n"


async def put(api: httpx.AsyncClient, name: str = "de", document: Any = None, **headers: str) -> httpx.Response:
    return await api.put(f"/api/calendars/{name}", json=BERLIN if document is None else document, headers=headers)


async def windows(api: httpx.AsyncClient, name: str, **query: Any) -> list[tuple[str, str, str]]:
    answer = await api.get(f"/api/calendars/{name}/windows", params=query)
    assert answer.status_code == 200, answer.text
    return [(one["start"][:16], one["end"][:16], one["label"]) for one in answer.json()["records"]]


# --- create, replace, delete --------------------------------------------------------------------------


async def test_a_calendar_is_created_and_shown(api):
    answer = await api.post("/api/calendars", json={"name": "team/de", **BERLIN, "description": "us"})

    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/calendars/team%2Fde"
    shown = await api.get("/api/calendars/team%2Fde")
    assert shown.json() == answer.json()
    assert shown.headers["etag"] == answer.headers["etag"] == '"1"'
    record = shown.json()
    assert (record["name"], record["version"]) == ("team/de", 1)
    assert record["document"] == {**BERLIN, "description": "us"}
    assert record["created_at"] == record["updated_at"]


async def test_what_is_shown_can_be_put_back_and_is_no_new_version(api):
    first = (await put(api, document={"holidays": [{"country": "deu", "subdivision": "Berlin"}]})).json()

    again = await put(api, document=first["document"])

    assert again.status_code == 200
    assert again.json() == first
    assert len((await api.get("/api/calendars/de/versions")).json()["records"]) == 1


async def test_a_name_that_is_taken_is_refused(api):
    await put(api)

    answer = await api.post("/api/calendars", json={"name": "de", **WEEKEND})

    assert answer.status_code == 409
    assert "'de'" in answer.json()["detail"]
    assert (await api.get("/api/calendars/de")).json()["document"] == BERLIN


async def test_a_repetition_with_the_same_key_creates_nothing(api):
    headers = {"Idempotency-Key": "k"}
    first = await api.post("/api/calendars", json={"name": "de", **BERLIN}, headers=headers)
    second = await api.post("/api/calendars", json={"name": "de", **BERLIN}, headers=headers)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"


async def test_put_creates_and_then_replaces_as_a_whole(api):
    created = await put(api)
    replaced = await put(api, document=WEEKEND)

    assert (created.status_code, replaced.status_code) == (201, 200)
    assert created.headers["location"] == "/api/calendars/de"
    assert (replaced.json()["document"], replaced.json()["version"]) == (WEEKEND, 2)
    assert created.headers["etag"] != replaced.headers["etag"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "IMPORT"])
async def test_a_write_with_an_old_etag_is_refused_and_changes_nothing(api, method):
    old = (await put(api)).headers["etag"]
    new = await put(api, document=WEEKEND)

    async def write(tag: str) -> httpx.Response:
        headers = {"If-Match": tag}
        if method == "IMPORT":
            return await api.post("/api/calendars/de/import", json={"ical": file()}, headers=headers)
        return await api.request(method, "/api/calendars/de", json=BERLIN if method == "PUT" else None, headers=headers)

    assert (await write(old)).status_code == 412
    assert (await api.get("/api/calendars/de")).json() == new.json()
    assert (await write(f'"nothing", {new.headers["etag"]}')).status_code == 200


async def test_preconditions_of_creation(api):
    only = {"If-None-Match": "*"}
    assert (await put(api, **{"If-Match": "*"})).status_code == 412
    assert (await put(api, **only)).status_code == 201
    assert (await put(api, document=WEEKEND, **only)).status_code == 412
    assert (await put(api, **{"If-None-Match": '"1"'})).status_code == 400
    assert (await put(api, **{"If-Match": "1"})).status_code == 400


async def test_get_says_whether_it_changed(api):
    etag = (await put(api)).headers["etag"]

    same = await api.get("/api/calendars/de", headers={"If-None-Match": etag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)


async def test_calendars_are_listed_by_name_without_their_documents(api):
    await put(api, "b", {**BERLIN, "dates": ["2026-12-24"], "description": "x"})
    await put(
        api, "a", {"ical": file(event("1", "DTSTART;VALUE=DATE:20260710"), event("2", "DTSTART;VALUE=DATE:20260711"))}
    )
    await put(api, "c", {})

    first = (await api.get("/api/calendars?limit=2")).json()
    second = (await api.get("/api/calendars", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [one["name"] for one in first["calendars"] + second["calendars"]] == ["a", "b", "c"]
    assert (first["count"], second["next_cursor"]) == (3, None)
    assert [one["entries"] for one in first["calendars"]] == [{"ical": 2}, {"holidays": 1, "dates": 1}]
    assert first["calendars"][1] | {"created_at": 0, "updated_at": 0} == {
        "name": "b", "version": 1, "timezone": "Europe/Berlin", "description": "x", "created_at": 0, "updated_at": 0,
        "entries": {"holidays": 1, "dates": 1},
    }  # fmt: skip


async def test_versions_outlive_the_calendar(api):
    await put(api)
    await put(api, document=WEEKEND)
    await api.delete("/api/calendars/de")

    assert (await api.get("/api/calendars/de")).status_code == 404
    found = (await api.get("/api/calendars/de/versions?limit=2")).json()
    assert [(one["version"], one["deleted"], one["document"]) for one in found["records"]] == [
        (3, True, None), (2, False, None),
    ]  # fmt: skip
    rest = (await api.get("/api/calendars/de/versions", params={"cursor": found["next_cursor"]})).json()
    assert [one["version"] for one in rest["records"]] == [1]
    [first] = (await api.get("/api/calendars/de/versions?version=1")).json()["records"]
    assert first["document"] == BERLIN
    assert (await api.get("/api/calendars/de/versions?version=9")).status_code == 404
    assert (await put(api)).json()["version"] == 4


async def test_a_calendar_that_is_not_there_is_not_found(api):
    for method, path in [
        ("GET", ""), ("DELETE", ""), ("GET", "/windows"), ("GET", "/check"), ("GET", "/versions"),
        ("GET", "/versions?version=1"),
    ]:  # fmt: skip
        answer = await api.request(method, f"/api/calendars/nothing{path}")
        assert answer.status_code == 404, (method, path)
        assert "nothing" in answer.json()["detail"]


async def test_changes_are_told(api, server):
    await put(api)
    await put(api, document=WEEKEND)
    await api.delete("/api/calendars/de")

    async with api.stream("GET", "/api/events?topics=calendar&since=0") as stream:
        kinds = []
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if len(kinds) == 3:
                break

    assert kinds == ["calendar.created", "calendar.updated", "calendar.deleted"]


async def test_viewers_look_and_operators_write(api, server):
    await put(api)
    token = (await api.post("/api/tokens", json={"name": "v", "role": "viewer"})).json()["token"]
    async with AsyncClient(server.addresses.http, token) as viewer:
        assert (await viewer.calendar("de")).name == "de"
        with pytest.raises(Forbidden):
            await viewer.put_calendar("de", WEEKEND)


# --- what is used is not deleted ----------------------------------------------------------------------


async def test_a_calendar_that_schedules_use_is_not_deleted(api, known_demo):
    await put(api)
    for number in range(12):
        policies = {"exclude": ["de"]} if number else {"business_days": {"calendar": "de", "rule": "next"}}
        body = {**NOOP, "id": f"s{number:02}", "policies": policies}
        assert (await api.post("/api/schedules", json=body)).status_code == 201

    refused = await api.delete("/api/calendars/de")

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "in_use"
    assert "12 schedules: s00, s01, s02, s03, s04, s05, s06, s07, s08, s09 and 2 more" in refused.json()["detail"]
    assert (await api.get("/api/calendars/de")).status_code == 200
    await api.post("/api/schedules/delete", json={"ids": [f"s{number:02}" for number in range(12)]})
    assert (await api.delete("/api/calendars/de")).json()["name"] == "de"


# --- wrong input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("document", "pointer", "said"), [bad for bad in BAD if isinstance(bad[0], dict)])
async def test_a_wrong_document_is_refused_with_a_pointer_and_changes_nothing(api, server, document, pointer, said):
    await put(api)
    before = server.hub.last_seq

    for answer in (
        await put(api, document=document),
        await api.post("/api/calendars", json={**document, "name": "new"}),
    ):
        assert answer.status_code == 400, answer.text
        # The shape of a body is checked before its meaning: an item of the wrong kind is refused where it stands.
        assert answer.json()["errors"][0]["pointer"].startswith(pointer.rpartition("/")[0]), answer.text
    assert server.hub.last_seq == before


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("POST", "", {**BERLIN}, "/name"),
        ("POST", "", {**BERLIN, "name": "a b"}, "/name"),
        ("PUT", "/de", {**BERLIN, "name": "de"}, "/name"),
        ("PUT", "/a%20b", BERLIN, "id"),
        ("POST", "/de/import", {}, "/ical"),
        ("POST", "/de/import", {"ical": file(), "replace": True}, "/replace"),
        ("POST", "/de/import", {"ical": "hello"}, "/ical"),
        ("POST", "/de/import", {"ical": 5}, "/ical"),
        ("GET", "/de/windows?from=soon", None, "from"),
        ("GET", "/de/windows?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", None, "to"),
        ("GET", "/de/windows?from=2026-01-01T00:00:00Z&to=2032-01-01T00:00:00Z", None, "to"),
        ("GET", "/de/windows?from=9999-12-01T00:00:00Z", None, "from"),
        ("GET", "/de/windows?from=1950-01-01T00:00:00Z", None, "from"),
        ("GET", "/de/windows?to=1950-01-01T00:00:00Z", None, "to"),
        ("GET", "/de/check?at=1950-01-01T00:00:00Z", None, "at"),
        ("GET", "/de/windows?limit=501", None, "limit"),
        ("GET", "/de/windows?cursor=x", None, "cursor"),
        ("GET", "/de/windows?until=5", None, "until"),
        ("GET", "/de/check?at=2026-01-01", None, "at"),
        ("GET", "/de/check?at=9999-01-01T00:00:00Z", None, "at"),
        ("GET", "/de/versions?version=0", None, "version"),
        ("GET", "/de/versions?cursor=x", None, "cursor"),
        ("GET", "?limit=0", None, "limit"),
    ],
)
async def test_wrong_requests_are_refused_where_they_are_wrong(api, method, path, body, where):
    await put(api)

    answer = await api.request(method, f"/api/calendars{path}", json=body)

    assert answer.status_code == 400, answer.text
    [problem] = answer.json()["errors"]
    assert problem.get("pointer", problem.get("parameter")) == where


async def test_an_unknown_country_comes_with_close_matches(api):
    answer = await put(api, document={"holidays": [{"country": "Germany"}]})

    assert answer.json()["hint"].startswith("did you mean DE (Germany)")


async def test_a_large_file_is_taken_and_one_too_large_is_not(api):
    events = [event(str(n), "DTSTART;VALUE=DATE:20260710", "DESCRIPTION:" + "x" * 900) for n in range(900)]

    taken = await api.post("/api/calendars/big/import", json={"ical": file(*events)})
    refused = await api.post("/api/calendars/big/import", json={"ical": file(*events, "X" * 300_000)})

    assert taken.status_code == 201
    assert len(taken.content) < 200_000
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["pointer"] == "/ical"


async def test_an_import_that_covers_nothing_is_taken_and_says_so(api):
    todo = "BEGIN:VTODO\r\nUID:1\r\nEND:VTODO\r\n"

    sound = await api.post("/api/calendars/x/import", json={"ical": file(event("1", "DTSTART;VALUE=DATE:20260710"))})
    empty = await api.post("/api/calendars/x/import", json={"ical": file(todo), "add": True})

    assert "warnings" not in sound.json()
    assert empty.json()["warnings"] == ["the iCalendar file covers nothing: it has no event"]
    assert empty.json()["document"] == sound.json()["document"]


@pytest.mark.parametrize("add", [False, True])
async def test_an_empty_file_is_no_calendar_and_leaves_the_events_there(api, add):
    sound = await api.post("/api/calendars/x/import", json={"ical": file(event("1", "DTSTART;VALUE=DATE:20260710"))})

    answer = await api.post("/api/calendars/x/import", json={"ical": "", "add": add})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/ical"
    assert (await api.get("/api/calendars/x")).json() == sound.json()


@pytest.mark.parametrize("add", [False, True])
async def test_an_import_that_is_refused_names_the_line_of_its_own_file(api, add):
    sound = file(event("1", "DTSTART;VALUE=DATE:20260710"))
    await api.post("/api/calendars/x/import", json={"ical": sound})
    wrong = file(
        event("2", "DESCRIPTION:one\r\n two", "DTSTART:20260710T100000Z", "DTEND:20260710T090000Z", "X-A:b"),
        head="X:1\r\n",
    )

    answer = await api.post("/api/calendars/x/import", json={"ical": wrong, "add": add})

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("line 9 of the iCalendar text: DTEND")


# --- what it covers -----------------------------------------------------------------------------------


async def test_windows_are_listed_by_start_in_pages(api):
    await put(api, document={**BERLIN, "weekly": [{"days": ["SAT"], "from": "22:00", "to": "06:00", "label": "night"}]})
    span = {"from": "2026-12-24T12:00:00Z", "to": "2026-12-28T00:00:00Z"}

    whole = await windows(api, "de", **span)

    assert whole == [
        ("2026-12-24T23:00", "2026-12-25T23:00", "Christmas Day"),
        ("2026-12-25T23:00", "2026-12-26T23:00", "Second Day of Christmas"),
        ("2026-12-26T21:00", "2026-12-27T05:00", "night"),
    ]
    paged, cursor = [], {}
    for _ in range(3):
        page = (await api.get("/api/calendars/de/windows", params={**span, "limit": 1, **cursor})).json()
        paged += [one["label"] for one in page["records"]]
        cursor = {"cursor": page["next_cursor"]}
    assert (paged, cursor) == ([label for _, _, label in whole], {"cursor": None})


async def test_pages_of_windows_that_begin_at_the_same_moment_lose_none(api):
    entries = [{"days": ["MON"], "label": str(number)} for number in range(5)]
    await put(api, document={"weekly": entries})
    span = {"from": "2026-11-23T12:00:00Z", "to": "2026-12-01T00:00:00Z", "limit": 2}

    found, cursor = [], ""
    while cursor is not None:
        query = {**span, "cursor": cursor} if cursor else span
        page = (await api.get("/api/calendars/de/windows", params=query)).json()
        found += [(one["start"][8:10], one["label"]) for one in page["records"]]
        cursor = page["next_cursor"]

    assert found == [(day, str(number)) for day in ("23", "30") for number in range(5)]


async def test_windows_go_from_now_for_a_year_unless_said_otherwise(api, server):
    await put(api, document={"monthly": [{"day": 1}]})

    found = await windows(api, "de")

    assert len(found) in (12, 13)
    assert found[0][1] > from_us(server.clock.wall_us()).isoformat()[:16]


async def test_a_moment_is_checked(api):
    await put(api, document={**BERLIN, **WEEKEND})

    christmas = (await api.get("/api/calendars/de/check?at=2026-12-24T23:30:00Z")).json()
    before = (await api.get("/api/calendars/de/check?at=2026-12-24T22:30:00Z")).json()

    assert christmas == {
        "at": "2026-12-24T23:30:00.000000Z",
        "covered": True,
        "window": {
            "start": "2026-12-24T23:00:00.000000Z",
            "end": "2026-12-25T23:00:00.000000Z",
            "reason": "holiday",
            "label": "Christmas Day",
        },
        "day": "2026-12-25",
        "business_day": False,
        "why": "Christmas Day",
        "next_business_day": "2026-12-28",
    }
    assert (before["covered"], before["window"], before["day"], before["business_day"]) == (
        False, None, "2026-12-24", True,
    )  # fmt: skip
    assert (await api.get("/api/calendars/de/check")).status_code == 200
    assert (await api.get("/api/calendars/de/check?at=0")).json()["day"] == "1970-01-01"
    assert (await api.get("/api/calendars/de/check?at=9998-12-31T23:59:59Z")).json()["day"] == "9999-01-01"


async def test_an_answer_never_comes_from_the_calendar_before(api):
    for number in range(20):
        day = f"2026-07-{number + 1:02}"
        await put(api, document={"dates": [day]})

        assert (await api.get(f"/api/calendars/de/check?at={day}T12:00:00Z")).json()["covered"]


# --- iCalendar files ----------------------------------------------------------------------------------


async def test_an_import_makes_a_calendar_in_the_zone_of_the_file(api):
    text = file(event("1", "DTSTART;VALUE=DATE:20260710", summary="party"), head="X-WR-TIMEZONE:America/New_York\r\n")

    answer = await api.post("/api/calendars/new/import", json={"ical": text})

    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/calendars/new"
    assert answer.json()["document"]["timezone"] == "America/New_York"
    span = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    assert await windows(api, "new", **span) == [("2026-07-10T04:00", "2026-07-11T04:00", "party")]


async def test_an_import_leaves_the_rest_and_replaces_or_adds_to_the_events(api):
    await put(api, document=WEEKEND)
    one, other = event("1", "DTSTART;VALUE=DATE:20260710"), event("2", "DTSTART;VALUE=DATE:20260711")
    moved = event("1", "DTSTART;VALUE=DATE:20260717")

    async def imported(text: str, **fields: Any) -> list[str]:
        answer = await api.post("/api/calendars/de/import", json={"ical": text, **fields})
        assert answer.status_code == 200, answer.text
        document = answer.json()["document"]
        assert document["weekly"] == WEEKEND["weekly"]
        return [line for line in document["ical"].splitlines() if line.startswith("DTSTART")]

    assert await imported(file(one)) == ["DTSTART;VALUE=DATE:20260710"]
    assert await imported(file(other)) == ["DTSTART;VALUE=DATE:20260711"]
    assert await imported(file(moved), add=True) == ["DTSTART;VALUE=DATE:20260717", "DTSTART;VALUE=DATE:20260711"]
    version = (await api.get("/api/calendars/de")).json()["version"]
    await imported(file(moved), add=True)
    assert (await api.get("/api/calendars/de")).json()["version"] == version


# --- over restarts ------------------------------------------------------------------------------------


async def test_calendars_are_there_after_a_restart(tmp_path):
    async with running_server(tmp_path / "server") as server:
        await server.service.calendars.put(NOBODY, "de", BERLIN)
        await server.service.calendars.put(NOBODY, "x", WEEKEND)

    async with running_server(tmp_path / "server") as server:
        assert server.calendars.get("de").document() == BERLIN
        assert server.calendars.current_version("x") == 1
        assert server.calendars.get("nothing") is None


NOBODY = Principal(name="nobody", role=Role.ADMIN, token_id="")
