"""What the overview makes of the series, of failures and of nodes; and that all who ask at once share one answer."""

from __future__ import annotations

import asyncio

import pytest

from schedule_zero.model import JobError, NodeState, OperationKind, State
from schedule_zero.rules.series import MINUTE_US, Stats, buckets, longer_than, place_of
from schedule_zero.service.overview import grouped, renewed_s
from schedule_zero.service.series import SeriesView
from schedule_zero.service.shared import Shared
from schedule_zero.store.recent_failures import Failure
from schedule_zero.web.pages.overview_view import (
    MOST_NODES,
    RANGES,
    charts,
    executions_url,
    figures,
    nodes_shown,
    tiles,
)
from tests.support import ManualClock
from tests.unit.test_verdict import WELL, node, spark, standing

pytestmark = pytest.mark.anyio

T0 = 1_700_000_040_000_000


def view(*stats: Stats) -> SeriesView:
    to_us = T0 + len(stats) * MINUTE_US
    rows = [(T0 + place * MINUTE_US, one) for place, one in enumerate(stats)]
    return SeriesView(
        from_us=T0, to_us=to_us, step_us=MINUTE_US, buckets=buckets(rows, T0, to_us, MINUTE_US), failed=[]
    )


SOME = view(
    Stats(created=3, ended={"completed": 2, "dead": 1}, run_time={place_of(1_000_000): 3}, open=5, running=2),
    Stats(),
    Stats(ended={"completed": 1234}, open=7, running=4),
)


def failure(number: int, message: str, *, letter: str | None = None, state: State = State.FAILED) -> Failure:
    return Failure(
        id=f"e{number}", handler_id="etl", job_method="load", state=state, ended_us=1000 - number, dead_letter=letter,
        error=JobError(type="IOError", message=message),
    )  # fmt: skip


def test_charts_say_in_words_what_they_draw():
    by_id = {chart.id: chart for chart in charts(SOME, "Europe/Berlin")}

    assert (by_id["throughput"].title, by_id["throughput"].says) == (
        "Ended per minute",
        "1,236 completed, 0 failed, 1 dead",
    )
    assert by_id["open"].says == "most open 7, most running 4"
    assert by_id["run"].says.startswith("worst p95 1.")
    assert by_id["lateness"].says == "none in this time"
    assert '"zone":"Europe/Berlin"' in by_id["run"].data
    # What never ended so has no line.
    assert "misfired" not in by_id["throughput"].data


def test_the_table_has_the_buckets_in_which_something_happened_and_leads_to_their_executions():
    names, rows = figures(SOME)

    assert names == ["completed", "failed", "timeout", "dead", "cancelled", "misfired"]
    assert [row.ended for row in rows] == [[1234, 0, 0, 0, 0, 0], [2, 0, 0, 1, 0, 0]]
    assert rows[1].href == executions_url(T0, T0 + MINUTE_US)
    assert (rows[0].lateness, rows[0].running) == ("–", 4)


def test_the_executions_of_a_stretch_of_time_are_asked_for_in_the_search_language():
    assert executions_url(T0, T0 + MINUTE_US) == (
        "/executions?q=since:2023-11-14T22:14:00Z%20until:2023-11-14T22:15:00Z"
    )


def test_tiles_tell_what_waits_apart_from_what_runs():
    found = {
        tile.label: tile
        for tile in tiles(standing(running=2, waiting=5, spark=spark(failed=[1] * 60, completed=[3] * 60)))
    }

    assert (found["Running"].value, found["Running"].note) == ("2", "of 4 slots")
    assert found["Waiting"].value == "5"
    assert (found["Failed"].value, found["Failed"].note) == ("60", "25% in the last hour")
    assert "<svg" in found["Completed"].spark


def test_tiles_of_a_server_that_has_just_started_have_no_lines():
    nothing = spark(open=[None] * 60, running=[None] * 60)

    found = {tile.label: tile.spark for tile in tiles(standing(spark=nothing))}

    assert not found["Running"]
    assert not found["Waiting"]


def test_failures_are_grouped_by_what_they_have_in_common():
    groups = grouped(
        [
            failure(1, "no route to 10.0.0.1", letter="etl.load:1"),
            failure(2, "no route to 10.0.0.2", letter="etl.load:1"),
            failure(3, "no route to 10.0.0.3"),
            failure(4, "no route to 10.0.0.4"),
            failure(5, "no route to 10.0.0.5"),
            failure(6, "disk full", state=State.TIMEOUT),
        ]
    )

    # Those that somebody has dealt with are known by what they said; who waits still has the group's own name.
    assert [(group.count, group.execution_id, group.dead_letter, group.waiting) for group in groups] == [
        (3, "e3", None, 0),
        (2, "e1", "etl.load:1", 2),
        (1, "e6", None, 0),
    ]


def test_nodes_with_trouble_are_shown_first_and_not_more_than_fit():
    many = [node(f"n{n:03}") for n in range(MOST_NODES + 5)]
    odd = [
        node("z-lost", NodeState.LOST),
        node("y-silent", NodeState.SUSPECT),
        node("x-cordoned", kind=OperationKind.CORDON),
        node("a-gone", NodeState.OFFLINE),
    ]

    found, more = nodes_shown([*many, *odd])

    assert [one.node_id for one in found[:4]] == ["z-lost", "y-silent", "x-cordoned", "n000"]
    assert (len(found), more) == (MOST_NODES, 9)
    assert nodes_shown(WELL.nodes) == (WELL.nodes, 0)


def test_what_took_longer_is_counted_by_the_scale():
    times = {place_of(us): 1 for us in (900_000, 1_000_000, 2_000_000, 3_000_000)}

    assert longer_than(1_000_000, times) == 2


@pytest.mark.parametrize(("range_s", "step_s"), RANGES.values())
def test_a_chart_is_asked_for_again_more_often_than_a_bucket_is_long(range_s, step_s):
    assert 5 <= renewed_s(step_s) <= min(60, step_s)
    assert range_s % step_s == 0


# --- one answer for all ---------------------------------------------------------------------------


class Source:
    def __init__(self) -> None:
        self.answers = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> list[int]:
        await self.gate.wait()
        self.answers += 1
        return [self.answers]


async def test_all_who_ask_while_it_is_read_get_the_very_same_answer():
    source, clock = Source(), ManualClock()
    shared = Shared(clock, 1.0, source.read, name="test")
    source.gate.clear()

    asking = [asyncio.create_task(shared.get()) for _ in range(50)]
    await asyncio.sleep(0)
    source.gate.set()
    answers = await asyncio.gather(*asking)

    assert all(answer is answers[0] for answer in answers)
    assert shared.reads == 1


async def test_an_answer_is_good_for_so_long_and_then_read_anew():
    source, clock = Source(), ManualClock()
    shared = Shared(clock, 1.0, source.read, name="test")

    first = await shared.get()
    clock.advance(0.9)
    again = await shared.get()
    clock.advance(0.2)
    later = await shared.get()

    assert again is first
    assert later == [2]


async def test_who_goes_away_takes_nobodys_answer_along():
    source, clock = Source(), ManualClock()
    shared = Shared(clock, 1.0, source.read, name="test")
    source.gate.clear()
    impatient, patient = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)

    impatient.cancel()
    source.gate.set()

    assert await patient == [1]
    assert impatient.cancelled() or impatient.done()


async def test_an_error_is_told_and_not_kept():
    clock = ManualClock()
    outcomes = iter([OSError("no"), None])

    async def read() -> str:
        error = next(outcomes)
        if error is not None:
            raise error
        return "well"

    shared = Shared(clock, 1.0, read, name="test")

    with pytest.raises(OSError, match="no"):
        await shared.get()
    assert await shared.get() == "well"
