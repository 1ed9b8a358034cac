"""The frames between a node and its workers: whole messages out of any pieces, and nothing out of nonsense."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import AttemptOutcome, JobError
from schedule_zero.node.worker_frames import BadFrame, Done, Logged, Ready, Run, Told, frame, from_worker, to_worker
from schedule_zero.wire.messages import DispatchItem

ERROR = JobError(type="E", message="ü")
DONE = Done(token=7, kind=AttemptOutcome.FAILED, error=ERROR, cpu_us=1, peak_rss_bytes=2, leftovers=True)
SAID = [
    Ready(rss_bytes=1, most_rss_bytes=2, total_cpu_us=3),
    Logged(line=b'{"event":"x"}'),
    Told(token=7, percent=1.5, text="…"),
    DONE,
    Done(token=8, kind=AttemptOutcome.COMPLETED, result=b"x" * 5000),
]


@given(st.lists(st.integers(1, 4000), max_size=30))
def test_messages_come_out_whole_whatever_pieces_they_came_in(sizes):
    data = b"".join(map(frame, SAID))
    frames, got = from_worker(10_000), []
    for size in sizes:
        got += frames.feed(data[:size])
        data = data[size:]
    got += frames.feed(data)
    assert got == SAID


def test_a_frame_over_the_limit_is_refused_before_it_is_there():
    frames = from_worker(100)
    with pytest.raises(BadFrame, match="101 bytes"):
        list(frames.feed(struct.pack(">I", 101)))


def test_a_frame_at_the_limit_is_taken():
    data = frame(DONE)
    assert list(from_worker(len(data) - 4).feed(data)) == [DONE]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"t": "done"}),
        msgspec.msgpack.encode({"t": "run", "item": {}}),
        msgspec.msgpack.encode({"token": 1}),
        msgspec.msgpack.encode({"t": "told", "token": "x", "percent": 1, "text": ""}),
        b"\x91" * 5000,
    ],
)
def test_what_no_worker_says_is_refused(body):
    with pytest.raises(BadFrame):
        list(from_worker(10_000).feed(struct.pack(">I", len(body)) + body))


def test_what_came_before_nonsense_is_taken():
    frames = from_worker(10_000).feed(frame(DONE) + struct.pack(">I", 1) + b"\xc1")
    assert next(frames) == DONE
    with pytest.raises(BadFrame):
        next(frames)


def test_a_worker_takes_parameters_of_any_size():
    item = DispatchItem(id="e", token=1, attempt=1, handler_id="h", job_method="m", params=b"x" * (20 << 20))
    assert list(to_worker().feed(frame(Run(item=item)))) == [Run(item=item)]
