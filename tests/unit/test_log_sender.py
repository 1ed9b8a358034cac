"""Which parts of logs a node sends, and when again."""

from __future__ import annotations

from schedule_zero.node.log_sender import HEAD_BYTES, KEEP_BYTES, MESSAGE_ITEMS, RESEND_S, WINDOW_BYTES, LogSender
from schedule_zero.wire.messages import LogAcked, LogChunk


def chunk(line: int, *, token: int = 1, lines: int = 1, body: bytes = b"", last: bool = False) -> LogChunk:
    return LogChunk(id="e", token=token, line=line, byte=0, lines=lines, bytes=0, body=body, last=last)


def lines_of(items: list[LogChunk]) -> list[int]:
    return [item.line for item in items]


def test_no_more_than_the_window_is_under_way_and_acknowledgements_open_it():
    sender = LogSender()
    sender.add(chunk(number, body=b"x" * (200 << 10)) for number in range(20))
    sent = []
    while items := sender.take(0.0):
        sent += items
    assert sum(len(item.body) + HEAD_BYTES for item in sent) <= WINDOW_BYTES
    assert lines_of(sent) == [0, 1, 2, 3, 4]
    sender.ack([LogAcked(token=1, lines=2)])
    assert lines_of(sender.take(0.0)) == [5, 6]


def test_a_chunk_larger_than_the_window_still_goes():
    sender = LogSender()
    sender.add([chunk(0, body=b"x" * (WINDOW_BYTES + 1))])
    assert lines_of(sender.take(0.0)) == [0]


def test_one_message_is_bounded_in_number():
    sender = LogSender()
    sender.add(chunk(0, token=token) for token in range(1, 2_000))
    assert len(sender.take(0.0)) == MESSAGE_ITEMS


def test_a_lost_acknowledgement_is_made_up_for_by_the_next():
    sender = LogSender()
    sender.add(chunk(number) for number in range(3))
    sender.take(0.0)
    sender.ack([LogAcked(token=1, lines=3)])
    assert sender.idle
    assert sender.bytes == 0


def test_what_is_not_acknowledged_in_time_is_sent_again_in_order():
    sender = LogSender()
    sender.add(chunk(number) for number in range(4))
    sender.take(0.0)
    sender.ack([LogAcked(token=1, lines=1)])
    assert sender.overdue(RESEND_S - 0.1) == 0
    assert sender.overdue(RESEND_S) == 3
    again = sender.take(RESEND_S)
    assert lines_of(again) == [1, 2, 3]
    assert [item.acked for item in again] == [1, 1, 1]


def test_a_new_session_begins_with_what_was_under_way():
    sender = LogSender()
    sender.add(chunk(number, body=b"x" * (300 << 10)) for number in range(5))
    first = sender.take(0.0) + sender.take(0.0)
    sender.opened()
    assert lines_of(sender.take(1.0) + sender.take(1.0)) == lines_of(first)


def test_the_last_chunk_is_acknowledged_only_as_the_last():
    sender = LogSender()
    sender.add([chunk(0), chunk(1, lines=0, last=True)])
    sender.take(0.0)
    sender.ack([LogAcked(token=1, lines=1)])
    assert not sender.idle
    sender.ack([LogAcked(token=1, lines=1, last=True)])
    assert sender.idle


def test_an_acknowledgement_that_comes_after_the_chunk_was_queued_again_counts():
    sender = LogSender()
    sender.add([chunk(0), chunk(1)])
    sender.take(0.0)
    sender.overdue(RESEND_S)
    sender.ack([LogAcked(token=1, lines=2)])
    assert sender.idle
    assert sender.bytes == 0


def test_what_the_server_does_not_know_is_forgotten():
    sender = LogSender()
    sender.add([chunk(0), chunk(0, token=2), chunk(1), chunk(1, token=2)])
    sender.take(0.0)
    sender.add([chunk(2)])
    sender.forget([1])
    assert {item[1].token for item in sender._in_flight} == {2}
    assert not sender._waiting
    assert sender.bytes == 2 * HEAD_BYTES


def test_it_says_when_it_holds_too_much_and_when_there_is_room_again():
    sender = LogSender()
    big = 1 << 20
    sender.add(chunk(number, body=b"x" * big) for number in range(KEEP_BYTES // big))
    assert sender.full
    while items := sender.take(0.0):
        sender.ack([LogAcked(token=1, lines=items[-1].line + 1)])
        if sender.bytes < KEEP_BYTES // 2:
            break
    assert not sender.full
