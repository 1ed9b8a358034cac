from __future__ import annotations

import pytest

from schedule_zero import errors
from schedule_zero.client.events import Event, EventParser, EventStream
from schedule_zero.client.flow import Failure, Patience, Reply

STREAM = (
    b"retry: 2000\nid: 11\n\n: keep-alive\n\n"
    b"id: 12-0\nevent: execution.finished\n"
    b'data: {"kind":"execution.finished","id":"e1","data":{"status":"completed"}}\n\n'
    b'id: 12-1\r\nevent: node.lost\r\ndata: {"kind":"node.lost",\r\n'
    b'data: "id":"n1","data":{"text":"a\xe2\x80\xa8b"}}\r\n\r\n'
    b'id: 13\nevent: resync\ndata: {"reason":"too slow"}\n\n'
    b"data: half an ev"
)
EVENTS = [
    Event(kind="execution.finished", id="e1", data={"status": "completed"}, event_id="12-0"),
    Event(kind="node.lost", id="n1", data={"text": "a\u2028b"}, event_id="12-1"),
    Event(kind="resync", data={"reason": "too slow"}, event_id="13"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_events_are_read_however_the_bytes_are_cut(size):
    parser = EventParser()
    found = [event for at in range(0, len(STREAM), size) for event in parser.feed(STREAM[at : at + size])]
    assert found == EVENTS
    assert (parser.last_id, parser.retry_s) == ("13", 2.0)


def test_an_event_that_is_not_json_is_given_as_text():
    assert EventParser().feed(b"data: hello\n\n") == [Event(kind="message", data={"text": "hello"})]


@pytest.fixture
def stream(clock):
    return EventStream(["execution"], ["node.lost"], None, Patience(retry_s=10.0), clock, lambda: 1.0)


def test_it_connects_again_after_the_last_event(stream):
    assert stream.request().query == (("topics", "execution"), ("kinds", "node.lost"))
    assert "last-event-id" not in dict(stream.request().headers)
    stream.connected()
    stream.feed(b"id: 12-0\nevent: x\ndata: {}\n\nid: 13-0\nevent: x\nda")
    assert stream.pause_s(Failure("gone", reached=True)) == pytest.approx(0.1)
    assert dict(stream.request().headers)["last-event-id"] == "12-0"
    stream.connected()
    assert stream.feed(b'id: 13-0\nevent: x\ndata: {"id": "s"}\n\n') == [Event(kind="x", id="s", event_id="13-0")]


def test_a_server_that_was_there_is_waited_for_as_long_as_it_takes(stream, clock):
    stream.connected()
    for _ in range(100):
        clock.advance(stream.pause_s(Failure("refused", reached=False)))


def test_a_server_that_never_answered_is_given_up(stream, clock):
    def try_often():
        for _ in range(100):
            clock.advance(stream.pause_s(Failure("refused", reached=False)))

    with pytest.raises(errors.ServerUnreachable):
        try_often()


def test_a_refusal_is_final(stream):
    stream.connected()
    with pytest.raises(errors.Unauthenticated):
        stream.pause_s(Reply(401, {}, b'{"error": {"code": "unauthenticated", "message": "revoked"}}'))
