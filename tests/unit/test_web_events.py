"""The event stream: framing, filters, replay from the journal, and what a slow client is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from schedule_zero.errors import InvalidField
from schedule_zero.model import Event
from schedule_zero.ops.events import EventHub
from schedule_zero.web.api import events
from schedule_zero.web.api.events import ALL, frames, position

pytestmark = pytest.mark.anyio


class Journal:
    """What the service is to a stream: a hub, and committed transactions to replay."""

    def __init__(self) -> None:
        self.hub = EventHub()
        self.rows: list[tuple[int, list[Event]]] = []

    def commit(self, *several: Event) -> None:
        seq = self.hub.last_seq + 1
        self.rows.append((seq, list(several)))
        self.hub.publish([(seq, event) for event in several])

    async def events_after(self, seq: int, limit: int) -> list[tuple[int, list[Event]]]:
        return [row for row in self.rows if row[0] > seq][:limit]


def finished(id_: str) -> Event:
    return Event("execution.finished", id_, {"state": "completed"})


def everything(_: Event) -> bool:
    return True


async def next_chunk(stream: AsyncGenerator[bytes, None]) -> str:
    async with asyncio.timeout(10):
        return (await anext(stream)).decode()


def ids(*chunks: str) -> list[str]:
    return [line.removeprefix("id: ") for chunk in chunks for line in chunk.splitlines() if line.startswith("id: ")]


@pytest.fixture
def journal() -> Journal:
    return Journal()


# --- live -----------------------------------------------------------------------------------------


async def test_a_stream_opens_with_the_retry_time_and_a_position(journal):
    journal.commit(finished("a"))
    stream = frames(journal, None, everything)

    assert await next_chunk(stream) == "retry: 2000\nid: 1\n\n"
    await stream.aclose()


async def test_an_event_has_an_id_a_name_and_json(journal):
    stream = frames(journal, None, everything)
    await next_chunk(stream)
    following = asyncio.create_task(next_chunk(stream))
    await asyncio.sleep(0)
    journal.commit(finished("a"))

    id_line, event_line, data_line, *rest = (await following).split("\n")

    assert (id_line, event_line, rest) == ("id: 1-0", "event: execution.finished", ["", ""])
    assert json.loads(data_line.removeprefix("data: ")) == {
        "kind": "execution.finished", "id": "a", "data": {"state": "completed"},
    }  # fmt: skip
    await stream.aclose()


async def test_events_of_one_transaction_are_numbered_and_come_together(journal):
    stream = frames(journal, None, everything)
    await next_chunk(stream)
    following = asyncio.create_task(next_chunk(stream))
    await asyncio.sleep(0)
    journal.commit(finished("a"), finished("b"))
    journal.commit(finished("c"))

    assert ids(await following) == ["1-0", "1-1", "2-0"]
    await stream.aclose()


async def test_only_what_is_wanted_is_sent(journal):
    stream = frames(journal, (0, ALL), lambda event: event.kind.startswith("node."))
    journal.commit(finished("a"), Event("node.lost", "n1"))

    await next_chunk(stream)
    assert ids(await next_chunk(stream)) == ["1-1"]
    await stream.aclose()


async def test_silence_is_broken_by_a_comment(journal):
    stream = frames(journal, None, everything, keepalive_s=0.001)
    await next_chunk(stream)

    assert await next_chunk(stream) == ": keep-alive\n\n"
    await stream.aclose()


async def test_a_closed_stream_leaves_no_subscription(journal):
    stream = frames(journal, None, everything, keepalive_s=0.001)
    await next_chunk(stream)
    await next_chunk(stream)
    assert journal.hub.subscribers == 1

    await stream.aclose()

    assert journal.hub.subscribers == 0


# --- replay ---------------------------------------------------------------------------------------


async def test_who_comes_back_gets_what_it_missed_and_then_what_follows(journal):
    journal.commit(finished("a"))
    journal.commit(finished("b"), finished("c"), finished("d"))
    journal.commit(finished("e"))
    stream = frames(journal, (2, 0), everything)
    await next_chunk(stream)

    # The rest of a transaction that was cut in two comes first.
    assert ids(await next_chunk(stream)) == ["2-1", "2-2", "3-0"]

    following = asyncio.create_task(next_chunk(stream))
    await asyncio.sleep(0)
    journal.commit(finished("f"))
    assert ids(await following) == ["4-0"]
    await stream.aclose()


async def test_what_is_committed_during_the_replay_comes_once(journal, monkeypatch):
    monkeypatch.setattr(events, "REPLAY_ROWS", 2)
    for name in "abcd":
        journal.commit(finished(name))
    read = journal.events_after

    async def read_while_more_is_committed(seq: int, limit: int) -> list[tuple[int, list[Event]]]:
        rows = await read(seq, limit)
        if journal.hub.last_seq < 8:
            journal.commit(finished("x"))
        return rows

    journal.events_after = read_while_more_is_committed
    stream = frames(journal, (0, ALL), everything, keepalive_s=0.01)
    chunks: list[str] = []
    while "keep-alive" not in "".join(chunks):
        chunks.append(await next_chunk(stream))

    assert ids(*chunks) == [f"{seq}-0" for seq in range(1, 9)]
    await stream.aclose()


async def test_a_gap_in_the_journal_is_told(journal):
    for name in "abc":
        journal.commit(finished(name))
    del journal.rows[:2]
    stream = frames(journal, (1, 0), everything)
    await next_chunk(stream)

    resync = await next_chunk(stream)

    assert "event: resync\n" in resync
    assert ids(resync, await next_chunk(stream)) == ["1", "3-0"]
    await stream.aclose()


async def test_an_id_of_another_journal_is_told_and_the_stream_goes_on(journal):
    journal.commit(finished("a"))
    stream = frames(journal, (1000, 0), everything)
    await next_chunk(stream)

    assert ids(await next_chunk(stream)) == ["1"]
    following = asyncio.create_task(next_chunk(stream))
    await asyncio.sleep(0)
    journal.commit(finished("b"))
    assert ids(await following) == ["2-0"]
    await stream.aclose()


async def test_who_reads_too_slowly_is_told_to_read_its_state_again(journal):
    stream = frames(journal, None, everything, queue=2)
    await next_chunk(stream)
    following = asyncio.create_task(next_chunk(stream))
    await asyncio.sleep(0)
    journal.commit(finished("a"))
    assert ids(await following) == ["1-0"]

    # Nobody reads while more comes than the queue holds.
    for name in "bcde":
        journal.commit(finished(name))

    resync = await next_chunk(stream)
    assert "event: resync\n" in resync
    assert ids(resync) == ["5"]

    following = asyncio.create_task(next_chunk(stream))
    await asyncio.sleep(0)
    journal.commit(finished("f"))
    assert ids(await following) == ["6-0"]
    assert journal.hub.subscribers == 1
    await stream.aclose()


# --- positions --------------------------------------------------------------------------------------


def test_positions_are_read():
    assert position("12-3") == (12, 3)
    assert position("12") == (12, ALL)


@pytest.mark.parametrize("text", ["", "-", "12-", "-3", "a", "1-b", "1-2-3", "1" * 30, "१", "1.5", " 1"])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(InvalidField):
        position(text, header="Last-Event-ID")
