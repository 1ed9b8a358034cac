"""The form of a log on the wire and in the store: whatever a body holds, reading it gives lines."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.wire.log_lines import UNREADABLE, pack, parse, split, unpack
from schedule_zero.wire.messages import MAX_LOG_CHUNK


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=50)))
def test_what_is_packed_is_read_back(texts):
    raw = "".join(f"{number} o- {text}\n" for number, text in enumerate(texts)).encode()
    read = [parse(line) for line in split(unpack(pack(raw)), len(texts))]
    assert [(line.at_us, line.stream, line.text) for line in read] == [
        (number, "stdout", text) for number, text in enumerate(texts)
    ]


@given(st.binary(max_size=300), st.integers(0, 20))
def test_garbage_becomes_as_many_lines_as_were_promised(body, lines):
    read = [parse(line) for line in split(unpack(body), lines)]
    assert len(read) == lines


@pytest.mark.parametrize(
    "body", [zlib.compress(b"x" * (MAX_LOG_CHUNK + 1)), zlib.compress(b"x" * 9999)[:-5], b"\x78bad"]
)
def test_a_bomb_or_a_damaged_body_is_unreadable_and_takes_no_memory(body):
    assert unpack(body) is None
    assert parse(split(None, 1)[0]).text == UNREADABLE
