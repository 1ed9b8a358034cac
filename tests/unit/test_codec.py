from __future__ import annotations

import math
import struct
from contextlib import suppress

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.errors import ProtocolError
from schedule_zero.model import AttemptOutcome, JobError, JobMethod
from schedule_zero.wire import codec
from schedule_zero.wire import messages as m

NODE_MESSAGES = [
    m.Hello(
        protocol=1,
        node_id="n1",
        instance="i",
        epoch=1,
        state_key="k",
        handlers=[m.HandlerDeclaration(handler_id="demo", methods=[JobMethod(name="add")])],
        slots=4,
        running=[m.Held(id="e", token=7)],
    ),
    m.Heartbeat(s="s", seq=1),
    m.Credit(s="s", window=10),
    m.Accept(s="s", items=[m.AcceptedItem(token=1, started_us=5)]),
    m.Reject(s="s", items=[m.RejectedItem(token=1, reason="draining")]),
    m.Progress(s="s", token=1, percent=0.5, text="half"),
    m.Result(
        s="s",
        items=[
            m.ResultItem(id="e", token=1, outcome=AttemptOutcome.COMPLETED, result=b"3"),
            m.ResultItem(id="f", token=2, outcome=AttemptOutcome.FAILED, error=JobError(type="E", message="no")),
        ],
    ),
    m.ResultChunk(s="s", id="e", token=1, offset=0, bytes=3, total=3, body=b"1 2"),
    m.Log(s="s", items=[m.LogChunk(id="e", token=1, line=0, byte=0, lines=1, bytes=7, body=b"1 o- x\n", last=True)]),
    m.NodeDrain(s="s"),
    m.Bye(s="s"),
]
SERVER_MESSAGES = [
    m.Welcome(s="s", server_us=1, heartbeat_s=2.0, lease_s=15.0),
    m.Deny(code="x", reason="y", retry=True),
    m.HbAck(s="s", seq=1, server_us=1),
    m.Dispatch(s="s", items=[m.DispatchItem(id="e", token=1, attempt=1, handler_id="h", job_method="m", params=b"{}")]),
    m.Cancel(s="s", tokens=[1]),
    m.ResultAck(s="s", recorded=[1], superseded=[2]),
    m.ResultChunkAck(s="s", token=1, upto=3),
    m.LogAck(s="s", items=[m.LogAcked(token=1, lines=2)], unknown=[3]),
    m.ServerDrain(s="s", on=False),
    m.Goaway(s="s", reason="stop"),
    m.ErrorMessage(code="no_session", message="say HELLO"),
]


def body(**fields):
    return msgpack.packb(fields)


def nested(depth):
    return b"\x83\xa1t\xa3BYE\xa1s\xa1x\xa1z" + b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize("message", NODE_MESSAGES, ids=lambda value: type(value).__name__)
def test_a_node_message_comes_out_as_it_went_in(message):
    assert codec.decode_node(codec.encode(message)) == message


@pytest.mark.parametrize("message", SERVER_MESSAGES, ids=lambda value: type(value).__name__)
def test_a_server_message_comes_out_as_it_went_in(message):
    assert codec.decode_server(codec.encode(message)) == message


def test_every_message_type_is_covered():
    assert {type(x) for x in NODE_MESSAGES} == set(m.NodeMessage.__args__)
    assert {type(x) for x in SERVER_MESSAGES} == set(m.ServerMessage.__args__)


@pytest.mark.parametrize("message", SERVER_MESSAGES, ids=lambda value: type(value).__name__)
def test_a_node_may_not_speak_as_a_server(message):
    with pytest.raises(ProtocolError):
        codec.decode_node(codec.encode(message))


GARBAGE = {
    "no frame": [],
    "one frame": [b"SZ1"],
    "three frames": [b"SZ1", body(t="BYE", s="x"), b""],
    "wrong prefix": [b"SZ2", body(t="BYE", s="x")],
    "empty body": [b"SZ1", b""],
    "not a map": [b"SZ1", msgpack.packb([1, 2])],
    "no type": [b"SZ1", body(s="x")],
    "unknown type": [b"SZ1", body(t="EVAL", s="x")],
    "type is a number": [b"SZ1", body(t=3, s="x")],
    "missing field": [b"SZ1", body(t="CREDIT", s="x")],
    "wrong type": [b"SZ1", body(t="CREDIT", s="x", window="many")],
    "float for a whole number": [b"SZ1", body(t="CREDIT", s="x", window=1.5)],
    "NaN for a whole number": [b"SZ1", body(t="CREDIT", s="x", window=math.nan)],
    "NaN": [b"SZ1", body(t="PROGRESS", s="x", token=1, percent=math.nan)],
    "infinity": [b"SZ1", body(t="PROGRESS", s="x", token=1, percent=math.inf)],
    "negative": [b"SZ1", body(t="CREDIT", s="x", window=-1)],
    "token too large": [b"SZ1", body(t="PROGRESS", s="x", token=2**53)],
    "time too large": [b"SZ1", body(t="ACCEPT", s="x", items=[{"token": 1, "started_us": 2**64 - 1}])],
    "text too long": [b"SZ1", body(t="PROGRESS", s="x", token=1, text="x" * 5000)],
    "id too long": [b"SZ1", body(t="BYE", s="x" * 65)],
    "batch too large": [b"SZ1", body(t="ACCEPT", s="x", items=[{"token": 1}] * 5001)],
    "announced length far too large": [b"SZ1", b"\x82\xa1t\xa6RESULT\xa5items\xdd\xff\xff\xff\xff"],
    "huge map": [b"SZ1", b"\xdf\xff\xff\xff\xff"],
    "not UTF-8": [b"SZ1", b"\x82\xa1t\xa3BYE\xa1s\xa1\xff"],
    "trailing bytes": [b"SZ1", body(t="BYE", s="x") + b"\x00"],
    "truncated": [b"SZ1", body(t="BYE", s="x")[:-1]],
    "extension type": [b"SZ1", b"\x82\xa1t\xa3BYE\xa1s\xd6\xff\x00\x00\x00\x00"],
    "map as key": [b"SZ1", b"\x81\x80\xa1t"],
    "reserved byte": [b"SZ1", b"\xc1"],
    "deep nesting": [b"SZ1", nested(100_000)],
    "node id with a newline": [
        b"SZ1",
        body(t="HELLO", protocol=1, node_id="n\n", instance="i", epoch=1, state_key="k", handlers=[], slots=1),
    ],
    "node id with a control character": [
        b"SZ1",
        body(t="HELLO", protocol=1, node_id="n\x1b", instance="i", epoch=1, state_key="k", handlers=[], slots=1),
    ],
}


@pytest.mark.parametrize("frames", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_protocol_error_and_nothing_else(frames):
    with pytest.raises(ProtocolError) as caught:
        codec.decode_node(frames)
    assert len(caught.value.message) <= 250


def test_an_oversize_body_is_refused_before_it_is_decoded():
    frames = [b"SZ1", body(t="PROGRESS", s="x", token=1, text="x" * 500)]
    with pytest.raises(ProtocolError, match="at most 100 bytes"):
        codec.decode_node(frames, max_bytes=100)


def hello(**fields):
    base = {"protocol": 1, "node_id": "n", "instance": "i", "epoch": 1, "state_key": "k", "handlers": [], "slots": 1}
    return {"t": "HELLO", **base, **fields}


def accept(count):
    return {"t": "ACCEPT", "s": "x", "items": [{"token": 1}] * count}


# The largest that is taken, and what is one too many.
LIMITS = {
    "node id": (lambda n: hello(node_id="x" * n), 128),
    "session id": (lambda n: {"t": "BYE", "s": "x" * n}, 64),
    "items of a batch": (accept, 5_000),
    "tokens": (lambda n: {"t": "PROGRESS", "s": "x", "token": n}, 2**53 - 1),
    "text": (lambda n: {"t": "PROGRESS", "s": "x", "token": 1, "text": "x" * n}, 4096),
    "window": (lambda n: {"t": "CREDIT", "s": "x", "window": n}, 1_000_000),
    # (Under systemd `kernel.pid_max` is 4,194,304.)
    "pid": (lambda n: hello(pid=n), 2**53 - 1),
    "starts": (lambda n: hello(epoch=n), 2**53 - 1),
    "heartbeats": (lambda n: {"t": "HEARTBEAT", "s": "x", "seq": n}, 2**53 - 1),
    "percent": (lambda n: {"t": "PROGRESS", "s": "x", "token": 1, "percent": float(n)}, 100),
    "attempts held": (lambda n: hello(running=[{"id": "e", "token": 1}] * n), 100_000),
    "handlers": (lambda n: hello(handlers=[{"handler_id": "h", "methods": []}] * n), 1000),
    "labels": (lambda n: hello(labels={f"l{number}": "" for number in range(n)}), 64),
    "round trip": (lambda n: {"t": "HEARTBEAT", "s": "x", "seq": 1, "rtt_us": n}, 2**53 - 1),
    "a node's clock": (lambda n: {"t": "HEARTBEAT", "s": "x", "seq": 1, "wall_us": n}, 2**53 - 1),
}


def test_a_heartbeat_is_acknowledged_after_years():
    """One every 2 s is a million in 23 days."""
    ack = m.HbAck(s="s", seq=500_000_000, server_us=1)
    assert codec.decode_server(codec.encode(ack)) == ack


@pytest.mark.parametrize("what", LIMITS)
def test_the_limit_itself_is_taken_and_one_more_is_not(what):
    make, most = LIMITS[what]
    codec.decode_node([b"SZ1", body(**make(most))])
    with pytest.raises(ProtocolError):
        codec.decode_node([b"SZ1", body(**make(most + 1))])


def test_a_body_may_have_as_many_bytes_as_the_limit_and_not_one_more():
    data = body(t="PROGRESS", s="x", token=1, text="x" * 500)
    codec.decode_node([b"SZ1", data], max_bytes=len(data))
    with pytest.raises(ProtocolError, match=f"at most {len(data) - 1} bytes, got {len(data)}"):
        codec.decode_node([b"SZ1", data], max_bytes=len(data) - 1)


def test_a_newer_peer_may_say_more():
    assert codec.decode_node([b"SZ1", body(t="BYE", s="x", later={"a": [1]})]) == m.Bye(s="x")


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data):
    with suppress(ProtocolError):
        codec.decode_node([b"SZ1", data])


MESSAGE_BODIES = [codec.encode(message)[1] for message in NODE_MESSAGES]


@given(st.sampled_from(MESSAGE_BODIES), st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_else(data, position, value):
    changed = bytearray(data)
    changed[position % len(changed)] = value
    for decode in (codec.decode_node, codec.decode_server):
        with suppress(ProtocolError):
            decode([b"SZ1", bytes(changed)])


scalar = st.sampled_from([None, True, -(2**63), 2**64 - 1, 0, 1, 1.5, math.nan, math.inf, "", "x", "é", b"", b"\xff"])
json_like = scalar | st.lists(scalar, max_size=3) | st.lists(st.dictionaries(st.sampled_from(["id", "token"]), scalar))
TAGS = [kind.__struct_config__.tag for kind in m.NodeMessage.__args__]


@given(st.sampled_from(TAGS), st.dictionaries(st.sampled_from(["s", "items", "token", "window", "seq"]), json_like))
def test_wrong_values_in_right_fields_never_raise_anything_else(tag, fields):
    with suppress(ProtocolError):
        codec.decode_node([b"SZ1", msgspec.msgpack.encode({"t": tag, **fields})])


def test_a_32_bit_nan_is_refused_too():
    data = b"\x84\xa1t\xa8PROGRESS\xa1s\xa1x\xa5token\x01\xa7percent\xca" + struct.pack(">f", math.nan)
    with pytest.raises(ProtocolError):
        codec.decode_node([b"SZ1", data])
