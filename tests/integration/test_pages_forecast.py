"""The forecast as it is served: never waited for, right when it is there, and anew after a change."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from schedule_zero.errors import StoreUnavailable
from schedule_zero.service import foreseen
from schedule_zero.service.foreseen import Question
from schedule_zero.service.foresight import ALL, Only
from schedule_zero.timing.forecast import Forecast
from tests.support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("known_demo")]

HOURLY = {"type": "cron", "expression": "0 * * * *"}
FAR = "2027-06-07"
DAY_US = 86_400_000_000
PENDING = "are being counted"


async def create(api: httpx.AsyncClient, id_: str, trigger: dict[str, Any] = HOURLY, **fields: Any) -> None:
    body = {"id": id_, "handler_id": "demo", "job_method": "noop", "trigger": trigger, **fields}
    answer = await api.post("/api/schedules", json=body)
    assert answer.status_code == 201, answer.text


async def ready(api: httpx.AsyncClient, query: str = "") -> str:
    """The page, once what it is about is known."""

    async def there() -> str | None:
        answer = await api.get(f"/forecast?{query}")
        assert answer.status_code == 200, answer.text
        return None if PENDING in answer.text or "counted anew" in answer.text else answer.text

    found: str = await eventually(there)
    return found


def rows(text: str) -> list[list[str]]:
    """The cells of the heat map, by day."""
    body = re.search(r'<table class="heat.*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    assert body is not None
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body[1].split("</tr>")[:-1]]


async def test_each_hour_of_the_week_has_its_fires(api):
    await create(api, "a")
    await create(api, "b", {"type": "cron", "expression": "30 6 * * MON"})

    text = await ready(api, f"from={FAR}")

    assert rows(text) == [[*["1"] * 6, "2", *["1"] * 17], *[["1"] * 24] * 6]
    assert "Mon 7 Jun" in text
    assert "<b>169</b>" in text


async def test_what_collides_is_named_with_what_to_do(api):
    for id_ in "abc":
        await create(api, id_, {"type": "cron", "expression": "0 9 * * MON"})

    text = await ready(api, f"from={FAR}&zone=Europe/Berlin")

    assert re.search(r"7 Jun 2027 09:00:00 UTC|7 Jun 2027 11:00:00 CEST", text)
    assert "3 at once" in text
    for id_ in "abc":
        assert f'<a class="chip" href="/schedules/{id_}">{id_}</a>' in text
    assert "jitter" in text


async def test_schedules_that_were_not_looked_at_for_collisions_are_counted(api):
    for id_ in "ab":
        await create(api, id_, {"type": "cron", "expression": "* * * * *"})

    week = await ready(api, f"from={FAR}")
    day = await ready(api, f"from={FAR}&span=day&schedule=a")

    assert "2 schedules with more fires than are looked at one by one are left out here" in week
    assert "of those that were looked at" in week
    # What can be looked at is one click away.
    assert '">a day</a> has fewer' in week
    assert '">a day</a>' not in day


async def test_quiet_windows_are_there_for_several_lengths(api):
    await create(api, "a", {"type": "cron", "expression": "*/10 0-20 * * *"})

    text = await ready(api, f"from={FAR}&span=day")

    assert re.search(r"<b>1 h</b> <small>0 fires</small>", text)
    assert re.search(r"<b>8 h</b>", text)


async def test_only_some_schedules_by_id_and_by_calendar(api):
    answer = await api.post("/api/calendars", json={"name": "mondays", "weekly": [{"days": ["MON"]}]})
    assert answer.status_code == 201, answer.text
    await create(api, "etl.a")
    await create(api, "etl.b")
    await create(api, "other", policies={"exclude": ["mondays"]})

    for query, fires in (
        ("schedule=etl.*", 2 * 168),
        ("schedule=etl.b", 168),
        ("calendar=mondays", 144),
        ("calendar=mondays&schedule=etl.*", 0),
        ("schedule=none", 0),
    ):
        text = await ready(api, f"from={FAR}&{query}")
        said = f"<b>{fires:,}</b>" if fires else "Nothing will run in this time"
        assert said in text, query
    assert "<option selected>mondays</option>" in text or "<option >mondays</option>" in text


async def test_what_comes_first_is_as_of_now(api):
    await create(api, "soon", {"type": "interval", "seconds": 60})
    await create(api, "later", {"type": "cron", "expression": "0 0 1 1 *"})

    text = await ready(api)

    assert re.search(r"What comes first.*>soon</a>", text, re.DOTALL)
    assert ">later</a>" not in text


async def test_times_are_in_the_zone_of_the_page(api):
    await create(api, "a")

    text = await ready(api, f"from={FAR}&zone=Asia/Kolkata")

    assert "7 Jun 2027 00:30:00 IST" in text
    assert "7 Jun 2027 00:30:00 UTC" not in text


async def test_the_feed_and_the_neighbouring_weeks_are_one_step_away(api):
    text = await ready(api, f"from={FAR}&schedule=x")

    assert 'href="/api/fires.ics?days=30&amp;schedule_id=x"' in text
    assert 'href="/forecast?schedule=x&amp;from=2027-05-31"' in text
    assert 'href="/forecast?schedule=x&amp;from=2027-06-14"' in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("zone=Mars", "expected an IANA zone such as Europe/Berlin, got &#39;Mars&#39;"),
        ("from=2027-02-30", "expected a date from 1971-01-01 to 9990-12-31, got &#39;2027-02-30&#39;"),
        ("from=9000-01-01", "expected a range that ends within two years"),
        ("from=1960-01-01", "expected a date from 1971-01-01"),
    ],
)
async def test_what_makes_no_forecast_is_said_and_what_was_typed_stays(api, query, said):
    answer = await api.get(f"/forecast?schedule=keep-me&{query}")

    assert answer.status_code == 400
    assert said in answer.text
    assert 'value="keep-me"' in answer.text


@pytest.mark.parametrize("query", ["span=year", "from=monday", "show=all", "colour=red"])
async def test_what_the_address_cannot_say_is_refused(api, query):
    assert (await api.get(f"/forecast?{query}")).status_code == 400


async def test_names_are_text(api):
    answer = await api.get("/forecast", params={"schedule": "<b>*</b>", "calendar": '"><script>'})

    assert answer.status_code == 200
    assert "<b>*</b>" not in answer.text
    assert '"><script>' not in answer.text


async def test_a_fresh_server_says_how_to_make_a_schedule(api):
    assert "schedule-zero schedule demo.hello" in await ready(api)


async def test_a_frozen_server_says_that_nothing_of_it_fires(api):
    assert (await api.post("/api/freeze", json={})).status_code == 200

    assert "All schedules are frozen" in await ready(api)


# --- nobody waits for it ----------------------------------------------------------------------------


class Slow:
    """A forecast that takes as long as the test wants."""

    def __init__(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = asyncio.Event()
        self.asked = 0
        self.most_at_once = 0
        self.at_once = 0
        self._real = server.service.foresight.foresee
        monkeypatch.setattr(server.service.foresight, "foresee", self._foresee)

    async def _foresee(self, *args: Any) -> Any:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            return await self._real(*args)
        finally:
            self.at_once -= 1


async def test_a_page_whose_forecast_takes_long_says_so_and_asks_again(server, api, monkeypatch):
    slow = Slow(server, monkeypatch)

    first = (await api.get("/forecast")).text
    again = (await api.get("/forecast")).text
    slow.gate.set()

    assert PENDING in first
    assert 'data-live-every="1"' in first
    assert '<noscript><meta http-equiv="refresh"' in first
    assert PENDING in again
    assert PENDING not in await ready(api)
    assert slow.asked == 1


async def test_different_questions_are_worked_out_one_after_the_other(server, api, monkeypatch):
    slow = Slow(server, monkeypatch)
    queries = ["span=day", "span=week", "span=month"]

    await asyncio.gather(*(api.get(f"/forecast?{query}") for query in queries))
    slow.gate.set()
    for query in queries:
        await ready(api, query)

    assert (slow.asked, slow.most_at_once) == (3, 1)


async def test_after_a_change_the_old_answer_is_shown_until_the_new_one_is_there(server, api, monkeypatch):
    await create(api, "a")
    before = await ready(api, f"from={FAR}")
    slow = Slow(server, monkeypatch)

    await create(api, "b")
    meanwhile = (await api.get(f"/forecast?from={FAR}")).text
    slow.gate.set()
    after = await ready(api, f"from={FAR}")

    assert "<b>168</b>" in before
    assert "<b>168</b>" in meanwhile
    assert "it is being counted anew" in meanwhile
    assert "<b>336</b>" in after


async def test_an_answer_is_kept_while_nothing_changes(server, api, monkeypatch):
    await create(api, "a")
    await ready(api, f"from={FAR}")
    slow = Slow(server, monkeypatch)

    assert PENDING not in (await api.get(f"/forecast?from={FAR}")).text
    assert slow.asked == 0


def question(server: Any, days: int = 1, only: Only = ALL) -> Question:
    now_us = server.clock.wall_us()
    return Question(from_us=now_us, to_us=now_us + days * DAY_US, bucket_us=3_600_000_000, only=only)


async def test_no_more_questions_are_kept_than_there_is_room_for(server):
    service = server.service.foreseen

    for number in range(foreseen.MOST + 5):
        await service.ask(question(server, only=Only(schedule=f"s{number}")), 5.0)

    assert len(service._kept) == foreseen.MOST


async def test_an_error_is_told_to_who_asks_and_the_next_one_may_have_luck(server, monkeypatch):
    service = server.service.foreseen
    asked = question(server)
    real = server.service.foresight.foresee

    async def broken(*_: Any) -> Any:
        raise StoreUnavailable("no")

    monkeypatch.setattr(server.service.foresight, "foresee", broken)
    with pytest.raises(StoreUnavailable):
        await service.ask(asked, 5.0)
    monkeypatch.setattr(server.service.foresight, "foresee", real)

    answer = await service.ask(asked, 5.0)
    assert answer is not None
    assert isinstance(answer.foreseen.forecast, Forecast)
