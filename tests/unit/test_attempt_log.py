"""The log of one attempt on its node: what a job says becomes whole lines, in order, within bounds."""

from __future__ import annotations

import threading

import pytest

from schedule_zero.node.attempt_log import MAX_LINE, MAX_TEXT, AttemptLog
from schedule_zero.wire.log_lines import code_of, parse, split

OUT, ERR = code_of("stdout", None), code_of("stderr", None)


class Rig:
    """One log and a clock that the test moves."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.now_s = 1.0
        self.full = False
        wall_us = lambda s: round(s * 1e6)
        self.log = AttemptLog("e", 7, limit=limit, mono_s=lambda: self.now_s, wall_us=wall_us, book=self)
        self.chunks = []

    def touch(self, log) -> None:
        pass

    def say(self, text: str, code: str = OUT, *, full: bool = False) -> bool:
        self.full = full
        return self.log.write(code, text)

    def take(self):
        self.chunks += self.log.take()

    def lines(self):
        self.take()
        return [parse(line) for chunk in self.chunks for line in split(chunk.body, chunk.lines)]

    def texts(self) -> list[str]:
        return [line.text for line in self.lines()]


def test_texts_become_lines_with_their_time_and_stream():
    rig = Rig()
    rig.say("one\ntwo\n")
    rig.now_s = 2.0
    rig.say("bad\n", ERR)
    assert [(line.at_us, line.stream, line.level, line.text) for line in rig.lines()] == [
        (1_000_000, "stdout", None, "one"),
        (1_000_000, "stdout", None, "two"),
        (2_000_000, "stderr", None, "bad"),
    ]


def test_a_line_said_in_pieces_is_one_line_with_the_time_of_its_beginning():
    rig = Rig()
    rig.say("a")
    rig.take()
    rig.now_s = 3.0
    rig.say("b", ERR)
    rig.say("c\nd")
    rig.say("\n")
    assert [(line.at_us, line.text) for line in rig.lines()] == [(1_000_000, "ac"), (3_000_000, "d")]
    rig.log.end()
    assert rig.texts() == ["ac", "d", "b"]


def test_what_has_no_line_feed_is_there_once_the_attempt_is_over():
    rig = Rig()
    rig.say("no end")
    assert rig.texts() == []
    assert rig.log.end() == 1
    assert rig.texts() == ["no end"]
    assert rig.chunks[-1].last


def test_nothing_is_taken_after_the_end():
    rig = Rig()
    rig.say("x\n")
    rig.log.end()
    assert not rig.say("late\n")
    assert rig.texts() == ["x"]
    assert rig.log.end() == 1


def test_an_end_after_everything_was_taken_is_a_chunk_of_its_own():
    rig = Rig()
    rig.say("x\n")
    rig.take()
    assert not rig.chunks[-1].last
    rig.log.end()
    rig.take()
    assert (rig.chunks[-1].last, rig.chunks[-1].line, rig.chunks[-1].lines) == (True, 1, 0)


def test_a_very_long_line_is_cut_into_several_without_losing_a_character():
    rig = Rig()
    text = "".join(map(str, range(20_000)))
    rig.say(text + "\n")
    rig.say(text)
    rig.log.end()
    texts = rig.texts()
    assert max(map(len, texts)) <= MAX_LINE
    assert "".join(texts) == text + text


def test_a_progress_bar_that_writes_over_itself_is_lines():
    rig = Rig()
    rig.say("\r10 %", ERR)
    rig.say("\r20 %", ERR)
    rig.say("\r\n", ERR)
    rig.log.end()
    assert [text for text in rig.texts() if text] == ["10 %", "20 %"]


@pytest.mark.parametrize("text", ["\udcff lone", "null\0inside", "ü𝄞\u2028x", " leading and trailing "])
def test_any_text_comes_out_as_one_line_that_can_be_read(text):
    rig = Rig()
    rig.say(text + "\n")
    assert rig.texts() == [text.encode("utf-8", "backslashreplace").decode()]


def test_chunks_continue_one_another_and_hold_whole_lines():
    rig = Rig()
    for number in range(30_000):
        rig.say(f"line {number:06}\n")
        if number % 7_000 == 0:
            rig.take()
    rig.log.end()
    rig.take()
    line = byte = 0
    for chunk in rig.chunks:
        assert (chunk.line, chunk.byte) == (line, byte)
        assert chunk.bytes == len(chunk.body) <= 256 << 10
        line += chunk.lines
        byte += chunk.bytes
    assert [chunk.last for chunk in rig.chunks].count(True) == 1
    assert rig.texts() == [f"line {number:06}" for number in range(30_000)]


def test_over_its_limit_a_log_says_so_and_keeps_the_end():
    rig = Rig(limit=100_000)
    for number in range(50_000):
        rig.say(f"line {number}\n")
        if number % 100 == 0:
            rig.take()
    rig.log.end()
    texts = rig.texts()
    first = next(at for at, text in enumerate(texts) if "reached its limit of 100000 bytes" in text)
    assert texts[:first] == [f"line {number}" for number in range(first)]
    marker = texts[first + 1]
    tail = texts[first + 2 :]
    assert tail[-1] == "line 49999"
    assert tail == [f"line {number}" for number in range(50_000 - len(tail), 50_000)]
    assert marker == f"… {50_000 - first - len(tail)} lines left out: over 100000 bytes …"
    assert sum(chunk.left_out for chunk in rig.chunks) == 50_000 - first - len(tail)
    assert rig.lines()[first].stream == "node"


def test_one_text_far_over_the_limit_is_cut_at_a_line():
    rig = Rig(limit=10_000)
    rig.say("".join(f"line {number}\n" for number in range(100_000)))
    rig.log.end()
    texts = rig.texts()
    assert texts[0] == "line 0" or "limit" in texts[0]
    assert texts[-1] == "line 99999"
    left_out = sum(chunk.left_out for chunk in rig.chunks)
    assert left_out + sum(text.startswith("line") for text in texts) == 100_000


def test_one_huge_text_is_taken_in_parts_and_comes_out_whole():
    rig = Rig(limit=8 << 20)
    text = "\n".join(f"{number} " + "x" * 100 for number in range(20_000))
    assert len(text) > 4 * MAX_TEXT
    rig.say(text + "\n")
    rig.say("z" * (MAX_TEXT + 1))
    rig.log.end()
    assert not rig.say("x" * (MAX_TEXT + 1))
    (*lines,) = rig.texts()
    assert lines[:20_000] == text.split("\n")
    assert "".join(lines[20_000:]) == "z" * (MAX_TEXT + 1)


def test_a_log_that_fits_exactly_is_whole():
    rig = Rig(limit=10 * len(b"1000000 o- 12345\n"))
    rig.say("12345\n" * 10)
    rig.log.end()
    assert rig.texts() == ["12345"] * 10


def test_what_the_node_has_no_room_for_is_counted_where_it_is_missing():
    rig = Rig()
    rig.say("before\n")
    rig.say("lost 1\nlost 2\n", full=True)
    rig.now_s = 2.0
    rig.say("after\n")
    rig.say("lost 3\n", full=True)
    rig.log.end()
    assert rig.texts() == [
        "before",
        "… 2 lines left out: faster than they could be sent …",
        "after",
        "… 1 lines left out: faster than they could be sent …",
    ]


def test_threads_of_one_job_lose_nothing_and_cut_no_line():
    rig = Rig()

    def talk(name: int) -> None:
        for number in range(2_000):
            rig.say(f"{name} {number}\n")

    threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        rig.take()
    rig.log.end()
    texts = rig.texts()
    for name in range(4):
        assert [text for text in texts if text.startswith(f"{name} ")] == [f"{name} {n}" for n in range(2_000)]
