from __future__ import annotations

import msgspec
import pytest

from schedule_zero.node.delivery import BATCH_BYTES, BATCH_ITEMS, IN_FLIGHT, RESEND_S, Delivery, EncodedResult, token_of
from schedule_zero.wire.codec import decode_node, encode
from schedule_zero.wire.messages import Result, ResultItem


def record(token: int, size: int = 0) -> tuple[int, bytes]:
    item = ResultItem(id=f"e{token}", token=token, outcome="completed", result=b"1" * size)  # type: ignore[arg-type]
    return token, msgspec.msgpack.encode(item)


def sent(delivery: Delivery, now_s: float = 0.0) -> list[list[int]]:
    return [[token_of(item) for item in items] for items in delivery.take(now_s)]


def test_encoded_results_are_the_same_message_as_typed_ones() -> None:
    _, encoded = record(7, 3)
    frames = encode(EncodedResult(s="x", items=[msgspec.Raw(encoded)]))  # type: ignore[arg-type]
    message = decode_node(frames)
    assert isinstance(message, Result)
    assert message.items[0].token == 7
    assert message.items[0].result == b"111"


def test_what_is_no_result_has_no_token() -> None:
    for junk in (b"", b"\x00", b"\xff\xff", msgspec.msgpack.encode({"id": 1})):
        with pytest.raises(ValueError):
            token_of(junk)


def test_each_result_is_sent_once_and_again_only_when_overdue() -> None:
    delivery = Delivery()
    delivery.opened()
    delivery.add([record(1), record(2)])
    assert sent(delivery, 10.0) == [[1, 2]]
    assert sent(delivery, 11.0) == []
    assert delivery.overdue(10.0 + RESEND_S - 0.1) == 0
    delivery.ack([1])
    assert delivery.overdue(10.0 + RESEND_S) == 1
    assert sent(delivery, 10.0 + RESEND_S) == [[2]]
    assert delivery.ack([2, 2, 99]) == [2]
    assert len(delivery) == 0
    assert delivery.overdue(1000.0) == 0


def test_batches_are_bounded_in_items_bytes_and_number() -> None:
    delivery = Delivery()
    delivery.opened()
    delivery.add(record(token) for token in range(BATCH_ITEMS + 1))
    assert [len(batch) for batch in sent(delivery)] == [BATCH_ITEMS, 1]

    delivery = Delivery()
    delivery.add(record(token, BATCH_BYTES // 2 + 100) for token in range(20))
    assert sent(delivery) == [[token] for token in range(IN_FLIGHT)]
    delivery.ack([0, 1])
    assert sent(delivery) == [[IN_FLIGHT], [IN_FLIGHT + 1]]


def test_a_result_larger_than_a_batch_goes_alone() -> None:
    delivery = Delivery()
    delivery.add([record(1), record(2, 3 * BATCH_BYTES), record(3)])
    assert sent(delivery) == [[1], [2], [3]]


def test_a_new_session_gets_everything_again_and_is_synced_when_the_old_is_acknowledged() -> None:
    delivery = Delivery()
    delivery.add([record(1), record(2)])
    assert sent(delivery) == [[1, 2]]
    delivery.opened()
    assert not delivery.synced
    delivery.add([record(3)])
    assert sent(delivery) == [[1, 2, 3]]
    delivery.ack([1])
    assert not delivery.synced
    delivery.ack([2])
    assert delivery.synced
    assert len(delivery) == 1


def test_an_empty_outbox_is_synced_at_once() -> None:
    delivery = Delivery()
    delivery.opened()
    assert delivery.synced


def test_a_result_asked_for_again_is_sent_again_unless_acknowledged() -> None:
    delivery = Delivery()
    delivery.add([record(1)])
    sent(delivery)
    delivery.resend(1)
    delivery.resend(2)
    assert sent(delivery) == [[1]]
    delivery.ack([1])
    delivery.resend(1)
    assert sent(delivery) == []
