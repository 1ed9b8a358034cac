"""The logs of attempts in the store, on each database: appended once and in order, read by range, tail and text."""

from __future__ import annotations

import pytest

from schedule_zero.model import AttemptOutcome, State
from schedule_zero.store import executions, logs
from schedule_zero.wire.log_lines import pack
from schedule_zero.wire.messages import LogChunk
from tests.store.builders import end_item, insert, running

pytestmark = pytest.mark.anyio


class Node:
    """A node's end: cuts texts into chunks and sends them."""

    def __init__(self, store, execution_id: str, token: int, node_id: str = "n1") -> None:
        self.store, self.id, self.token, self.node_id = store, execution_id, token, node_id
        self.line = self.byte = 0

    def chunk(self, *texts: str, last: bool = False, code: str = "o-", **fields) -> LogChunk:
        raw = "".join(f"{1000 + n} {code} {text}\n" for n, text in enumerate(texts)).encode()
        made = LogChunk(
            id=self.id, token=self.token, line=self.line, byte=self.byte, lines=len(texts), bytes=len(raw),
            body=pack(raw), last=last, **fields,
        )  # fmt: skip
        self.line += len(texts)
        self.byte += len(raw)
        return made

    async def send(self, *chunks: LogChunk, limit_bytes: int = 1 << 30) -> logs.Appended:
        return await self.store.write(logs.append, logs.Append(self.node_id, list(chunks), limit_bytes))

    async def read(self, **wanted) -> logs.Found:
        wanted = logs.Wanted(token=self.token, **wanted)
        return await self.store.read(lambda conn: logs.read(conn, self.id, wanted))

    async def texts(self, **wanted) -> list[str]:
        return [line.text for _, line in (await self.read(**wanted)).lines]


@pytest.fixture
async def node(store) -> Node:
    await insert(store, running("e1", 10))
    return Node(store, "e1", 10)


async def test_chunks_are_stored_in_order_and_read_as_one(node):
    done = await node.send(node.chunk("a", "b"), node.chunk("c"))
    assert done.upto == {10: (3, False)}
    assert (await node.send(node.chunk("d", last=True))).upto == {10: (4, True)}
    found = await node.read()
    assert [(number, line.text) for number, line in found.lines] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert (found.total, found.complete, found.following) == (4, True, None)


async def test_a_repetition_changes_nothing_and_is_answered_the_same(node):
    first, second = node.chunk("a"), node.chunk("b")
    await node.send(first, second)
    again = await node.send(first, second)
    assert (again.upto, again.lines) == ({10: (2, False)}, 0)
    assert await node.texts() == ["a", "b"]


async def test_what_comes_before_its_time_waits_to_be_sent_again(node):
    first, second = node.chunk("a"), node.chunk("b")
    assert (await node.send(second)).upto == {10: (0, False)}
    assert (await node.send(first, second)).upto == {10: (2, False)}


async def test_what_was_acknowledged_and_is_lost_is_not_asked_for(node):
    node.line, node.byte = 500, 9_000
    done = await node.send(node.chunk("later", acked=500))
    assert done.upto == {10: (501, False)}
    assert (await node.read()).lines[0][0] == 500


async def test_another_nodes_attempt_and_an_unknown_execution_are_refused(store, node):
    intruder = Node(store, node.id, 10, node_id="n2")
    assert (await intruder.send(intruder.chunk("x"))).unknown == [10]
    nobody = Node(store, "0" * 26, 11)
    assert (await nobody.send(nobody.chunk("x"))).unknown == [11]
    wrong_token = Node(store, node.id, 12)
    assert (await wrong_token.send(wrong_token.chunk("x"))).unknown == [12]
    assert await node.texts() == []


async def test_an_attempt_that_was_lost_may_still_bring_its_log(store, node):
    item = end_item(node.id, 10, State.PENDING, outcome=AttemptOutcome.LOST, archive=True, lost=True, result=None)
    await store.write(executions.end, [item])
    assert (await node.send(node.chunk("late words"))).upto == {10: (1, False)}
    known = await store.read(lambda conn: logs.deliveries(conn, node.id))
    assert known is not None
    assert known.attempts == [(1, 10)]
    assert known.over(10)


async def test_beyond_the_limit_nothing_is_stored_but_all_is_acknowledged(node):
    done = await node.send(node.chunk("x" * 100), node.chunk("y" * 100), limit_bytes=150)
    assert done.upto == {10: (2, False)}
    assert (done.lines, done.left_out) == (1, 1)
    assert await node.texts() == ["x" * 100]


async def test_ranges_begin_and_end_inside_of_chunks(node):
    for start in range(0, 100, 10):
        await node.send(node.chunk(*(f"t{number}" for number in range(start, start + 10))))
    page = await node.read(first=37, limit=15)
    assert [line.text for _, line in page.lines] == [f"t{number}" for number in range(37, 52)]
    assert page.following == 52
    assert await node.texts(tail=3) == ["t97", "t98", "t99"]
    assert await node.texts(tail=3, grep="t5") == ["t57", "t58", "t59"]
    assert await node.texts(grep="T9", ignore_case=True) == ["t9", *(f"t{number}" for number in range(90, 100))]
    assert await node.texts(grep="o-") == []
    assert (await node.read(first=1_000)).lines == []


async def test_a_search_stops_after_so_much_and_says_where_to_go_on(node, monkeypatch):
    monkeypatch.setattr(logs, "SEARCH_BYTES", 500)
    for start in range(0, 200, 10):
        await node.send(node.chunk(*(f"text {number}" for number in range(start, start + 10))))
    found, first, pages = [], 0, 0
    while first is not None:
        page = await node.read(first=first, grep="text 19")
        found += [line.text for _, line in page.lines]
        first, pages = page.following, pages + 1
    assert found == ["text 19", *(f"text {number}" for number in range(190, 200))]
    assert pages > 3


async def test_lines_are_found_by_level_and_stream(node):
    await node.send(node.chunk("printed", "more"))
    await node.send(node.chunk("on stderr", code="e-"), node.chunk("told", code="li"))
    await node.send(node.chunk("careful", code="lw"), node.chunk("wrong", "so wrong", code="le"))
    await node.send(node.chunk("the end", code="nc"))

    assert await node.texts(level="warning") == ["careful", "wrong", "so wrong", "the end"]
    assert await node.texts(level="warning", stream="log") == ["careful", "wrong", "so wrong"]
    assert await node.texts(stream="stderr") == ["on stderr"]
    assert await node.texts(level="debug", grep="wrong", tail=1) == ["so wrong"]
    assert (await node.read(level="error", limit=1)).following == 6


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("anything", "le"),
        ("anything", "nc"),
        ("Traceback (most recent call last):", "o-"),
        ("ValueError: no, an error", "e-"),
    ],
)
async def test_the_first_error_is_found_by_level_or_by_words(text, code, node):
    await node.send(node.chunk("an error, as somebody printed", "Traceback"), node.chunk("INFO begun", code="e-"))
    await node.send(node.chunk("harmless", "1 le x", code="lw"))
    await node.send(node.chunk(text, code=code), node.chunk("y", code="le"))

    assert await node.store.read(lambda conn: logs.first_error(conn, node.id, node.token)) == 5


async def test_a_log_without_errors_has_no_first_one(node):
    await node.send(node.chunk(*["x"] * 3))

    assert await node.store.read(lambda conn: logs.first_error(conn, node.id, node.token)) is None


async def test_a_damaged_body_is_lines_that_say_so(node):
    broken = node.chunk("a", "b")
    broken.body = b"\x78\x00garbage"
    await node.send(broken, node.chunk("c"))
    assert await node.texts() == ["(a line that the server can't read)"] * 2 + ["c"]
