"""Named calendars in the UI: a month of one, its document with errors at their lines, versions, import."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from schedule_zero.errors import InvalidField
from schedule_zero.web.pages.calendars_view import LAST, span
from schedule_zero.web.pages.days import month_of
from tests.integration.conftest import api_client
from tests.integration.page_bed import browser, counted_reads, part, submit

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>"
DOCUMENT = f"""\
timezone: Europe/Berlin
description: "{HOSTILE}"
holidays:
  - {{country: DE}}
weekly:
  - {{days: [FRI], from: 22:00, to: 06:00, label: maintenance}}
"""
ICS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nBEGIN:VEVENT\r\nUID:a@b\r\nDTSTAMP:20261101T000000Z\r\n"
    "DTSTART;VALUE=DATE:20261210\r\nDTEND;VALUE=DATE:20261211\r\nSUMMARY:Company outing\r\n"
    "END:VEVENT\r\nEND:VCALENDAR\r\n"
)


@pytest.fixture
async def operator(server):
    async with browser(server, "operator") as client:
        yield client


async def made(operator, name="works"):
    answer = await submit(operator, "/new-calendar", {"name": name, "document": DOCUMENT})
    assert answer.status_code == 303, answer.text
    return answer


# --- writing ----------------------------------------------------------------------------------------


async def test_a_calendar_is_written_and_shown_month_by_month(server, operator):
    assert "schedule-zero calendars set" in (await operator.get("/calendars")).text
    assert (await made(operator)).headers["Location"] == "/calendars/works"

    listed = (await operator.get("/calendars")).text
    assert 'href="/calendars/works"' in listed
    assert "1 holidays, 1 weekly" in listed
    december = (await operator.get("/calendars/works?month=2026-12")).text
    assert "December 2026" in december
    assert "Christmas Day" in december
    assert "22:00–24:00 maintenance" in december
    assert 'href="/calendars/works?month=2027-01"' in december
    for text in (listed, december):
        assert HOSTILE not in text
    # The present month, where none is named.
    assert (await operator.get("/calendars/works")).status_code == 200
    assert (await operator.get("/calendars/works?month=2026-13")).status_code == 400
    assert (await operator.get("/calendars/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("document", "line", "said"),
    [
        ("timezone: Mars/Base", 1, "Mars/Base"),
        ("timezone: UTC\nweekly:\n  - days: [SAT]\n  - {days: [FRI], from: 25:00, to: 26:00}", 4, "25:00"),
        ("timezone: UTC\nholidays:\n  - country: XX", 3, "XX"),
        ("timezone: UTC\ntimezone: UTC", 2, "stands twice"),
        ("timezone: UTC\nnonsense: 1", 2, "nonsense"),
        ("- 1", 1, "expected an object"),
    ],
)
async def test_what_is_wrong_with_a_document_is_said_with_its_line_and_what_was_typed_is_kept(
    operator, document, line, said
):
    answer = await submit(operator, "/new-calendar", {"name": "x", "document": document}, **part("editor"))

    assert answer.status_code == 400
    assert f'data-line="{line}"' in answer.text
    assert said in answer.text
    assert 'value="x"' in answer.text
    assert document.splitlines()[0] in answer.text.replace("&#34;", '"')


@pytest.mark.parametrize("name", ["", "no name", "ü", "x" * 200])
async def test_what_is_no_name_is_said_beside_the_name(operator, name):
    answer = await submit(operator, "/new-calendar", {"name": name, "document": "timezone: UTC"}, **part("editor"))
    assert answer.status_code == 400
    assert 'aria-describedby="wrong"' in answer.text


async def test_a_name_that_is_taken_is_refused(operator):
    await made(operator)
    answer = await submit(operator, "/new-calendar", {"name": "works", "document": DOCUMENT}, **part("editor"))
    assert answer.status_code == 409
    assert "exists already" in answer.text or "already" in answer.text


async def test_a_calendar_that_somebody_else_has_changed_meanwhile_is_not_overwritten(server, operator):
    await made(operator)
    form = (await operator.get("/calendars/works/edit")).text
    assert "from: 22:00" in form
    assert 'name="etag" value="1"' in form
    async with api_client(server) as api:
        assert (await api.put("/api/calendars/works", json={"timezone": "UTC"})).status_code == 200

    late = await submit(operator, "/calendars/works/edit", {"document": "timezone: Asia/Tokyo", "etag": "1"})
    assert late.status_code == 412
    assert "somebody else has changed it" in late.text

    good = await submit(operator, "/calendars/works/edit", {"document": "timezone: Asia/Tokyo", "etag": "2"})
    assert good.status_code == 303
    assert "Asia/Tokyo" in (await operator.get("/calendars/works")).text


async def test_a_version_is_looked_at_and_brought_back_also_of_a_calendar_that_was_deleted(operator):
    await made(operator)
    await submit(operator, "/calendars/works/edit", {"document": "timezone: Asia/Tokyo", "etag": "1"})

    old = (await operator.get("/calendars/works?version=1")).text
    assert "Document of version 1" in old
    assert "country: DE" in old
    assert (await submit(operator, "/calendars/works/restore", {"version": "1"})).status_code == 303
    assert "country: DE" in (await operator.get("/calendars/works")).text

    assert (await submit(operator, "/calendars/works/delete")).status_code == 303
    gone = (await operator.get("/calendars/works")).text
    assert "This calendar was deleted" in gone
    assert (await submit(operator, "/calendars/works/restore", {"version": "2"})).status_code == 303
    assert "Asia/Tokyo" in (await operator.get("/calendars/works")).text
    assert (await submit(operator, "/calendars/works/restore", {"version": "99"})).status_code == 404


async def test_an_icalendar_file_is_imported_beside_the_other_entries(operator):
    await made(operator)
    assert (await submit(operator, "/calendars/works/import", {"ical": ICS})).status_code == 303

    text = (await operator.get("/calendars/works?month=2026-12")).text
    assert "Company outing" in text
    assert "Christmas Day" in text
    assert (await submit(operator, "/calendars/works/import", {})).status_code == 400
    assert (await submit(operator, "/calendars/works/import", {"ical": "nonsense"})).status_code == 400


async def test_a_calendar_that_schedules_use_is_not_deleted_and_says_which(server, operator, known_demo):
    await made(operator)
    async with api_client(server) as api:
        for number in range(3):
            body = {
                "id": f"s{number}",
                "handler_id": "demo",
                "job_method": "noop",
                "trigger": {"type": "cron", "expression": "0 9 * * *"},
                "policies": {"exclude": ["works"]},
            }
            assert (await api.post("/api/schedules", json=body)).status_code == 201

    text = (await operator.get("/calendars/works")).text
    assert 'href="/schedules/s2"' in text
    assert '<td data-label="Schedules" class="num">3</td>' in (await operator.get("/calendars")).text
    assert (await submit(operator, "/calendars/works/delete")).status_code == 409


async def test_a_moment_is_asked_about_on_the_calendar_s_wall(operator):
    await made(operator)
    page = await operator.get("/calendars/works", params={"month": "2026-12", "at": "2026-12-25T00:30"})
    assert "2026-12-24 23:30:00.000000 UTC" in page.text
    assert "Christmas Day (holiday)" in page.text
    assert "the next one is 2026-12-27" in page.text
    assert (await operator.get("/calendars/works", params={"at": "soon"})).status_code == 400


async def test_a_viewer_sees_and_may_not_write(server, operator):
    await made(operator)
    async with browser(server, "viewer") as viewer:
        text = (await viewer.get("/calendars/works")).text
        assert "/calendars/works/edit" not in text
        assert "/calendars/works/delete" not in text
        for path in ("/new-calendar", "/calendars/works/edit"):
            assert (await viewer.get(path)).status_code == 403
        for path in ("/new-calendar", "/calendars/works/edit", "/calendars/works/import", "/calendars/works/delete"):
            assert (await submit(viewer, path, {"name": "x", "document": "{}", "ical": "x"})).status_code == 403


async def test_pages_of_calendars_ask_the_store_a_bounded_number_of_times(server, operator, monkeypatch):
    await made(operator)
    with counted_reads(server, monkeypatch) as asked:
        assert (await operator.get("/calendars/works?month=2026-12&version=1&at=%2B2h")).status_code == 200
    assert len(asked) <= 4


# --- months -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("month", "first", "count"),
    [("2026-12", date(2026, 11, 30), 35), ("2026-02", date(2026, 1, 26), 35), ("2027-02", date(2027, 2, 1), 28)],
)
def test_a_month_is_shown_in_whole_weeks(month, first, count):
    assert span(month_of(month, 0, ZoneInfo("UTC"))) == (first, count)


def test_the_present_month_is_that_of_the_calendar_s_zone():
    new_year_us = 1_798_758_000_000_000  # 2026-12-31T23:00:00Z
    assert month_of("", new_year_us, ZoneInfo("Asia/Tokyo")).first == date(2027, 1, 1)
    assert month_of("", new_year_us, ZoneInfo("UTC")).first == date(2026, 12, 1)


@pytest.mark.parametrize("month", ["1969-12", "2100-01", "2026-00"])
def test_months_that_no_calendar_knows_are_refused(month):
    with pytest.raises(InvalidField):
        month_of(month, 0, ZoneInfo("UTC"), last=LAST)
