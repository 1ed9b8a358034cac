"""Whatever arrives as a message, a frame or a body: a value or the one refusal comes out, at a bounded cost (C17)."""

from __future__ import annotations

import gc
import struct
import tracemalloc
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedule_zero.node import worker_frames
from schedule_zero.wire.codec import MAX_BYTES
from tests.fuzz import bodies, targets, values
from tests.fuzz.mutator import Mutator, chosen_seed
from tests.fuzz.targets import MAX_MEMORY, MEMORY_BESIDE, Target, message_targets
from tests.sizes import SIZE

SEED = chosen_seed()
MESSAGES = message_targets()
# A night has 500,000 of each.
pytestmark = pytest.mark.timeout(120 if SIZE.messages < 50_000 else 4 * 3600)
named = pytest.mark.parametrize("target", MESSAGES, ids=lambda target: target.name)


@named
def test_a_broken_message_is_read_or_refused_and_nothing_else(target: Target, tried):
    line = tried("7 fuzz", "messages of each type broken, or with anything in their fields")

    for data in targets.inputs(target, SEED, SIZE.messages):
        target.check(data)
        line.faults += 1


@named
def test_a_right_message_comes_out_as_it_went_in(target: Target):
    dice = Random(repr((SEED, target.name, "right")))

    for _ in range(max(50, SIZE.messages // 10)):
        message = values.right(target.kind, dice)
        assert target.check(target.write(message)) == message, f"seed {SEED}"


def of_hypothesis(function):
    """So many examples that the whole is cheap beside the mutator's; hypothesis knows how to make a failure small."""
    return settings(
        max_examples=max(5, SIZE.messages // 100),
        derandomize=SEED == 0,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )(function)


@of_hypothesis
@given(st.sampled_from(MESSAGES), st.randoms(use_true_random=False))
def test_hypothesis_finds_no_message_that_is_changed_on_its_way(target, dice):
    message = values.right(target.kind, dice)
    assert target.check(target.write(message)) == message


@of_hypothesis
@given(st.sampled_from(MESSAGES), st.randoms(use_true_random=False))
def test_hypothesis_finds_nothing_that_is_not_read_or_refused(target, dice):
    target.check(values.odd(target.kind, dice))


def test_the_bytes_of_a_worker_are_frames_or_refused(tried):
    line = tried("7 fuzz", "messages of each type broken, or with anything in their fields")
    dice = Random(SEED)
    said = [values.right(kind, dice) for kind in worker_frames.FromWorker.__args__ for _ in range(10)]
    samples = [b"".join(map(worker_frames.frame, dice.choices(said, k=3))) for _ in range(50)]

    for data in Mutator((SEED, "stream"), samples, [*values.PIECES, struct.pack(">I", 1 << 20)]).variants(
        SIZE.messages
    ):
        targets.STREAM.check(data)
        line.faults += 1


# --- JSON ------------------------------------------------------------------------------------------

ANSWERS = bodies.answer_targets()
BODIES = bodies.body_targets()
QUERIES = bodies.query_targets()


@pytest.mark.parametrize(("target", "samples"), ANSWERS, ids=[target.name for target, _ in ANSWERS])
def test_an_answer_that_a_node_does_not_understand_ends_its_session_and_nothing_else(target, samples, tried):
    line = tried("7 fuzz", "bodies, query strings and answers of HTTP broken")
    for data in Mutator((SEED, target.name), samples, bodies.JSON_WORDS).variants(SIZE.messages):
        target.check(data)
        line.faults += 1


@pytest.mark.parametrize(("target", "samples"), BODIES, ids=[target.name for target, _ in BODIES])
def test_a_broken_body_of_any_route_is_read_or_refused(target, samples, tried):
    line = tried("7 fuzz", "bodies, query strings and answers of HTTP broken")
    for data in Mutator((SEED, target.name), samples, bodies.JSON_WORDS).variants(SIZE.messages // 10):
        target.check(data)
        line.faults += 1


def test_a_broken_query_string_of_any_route_is_read_or_refused(tried):
    line = tried("7 fuzz", "bodies, query strings and answers of HTTP broken")
    for target, samples in QUERIES:
        for data in Mutator((SEED, target.name), samples, bodies.QUERY_WORDS).variants(SIZE.messages // 10):
            target.check(data)
            line.faults += 1


# --- what it may cost ------------------------------------------------------------------------------


def many(head: bytes, item: bytes, size: int) -> bytes:
    """A list of as many items as fit into ``size`` bytes."""
    count = (size - len(head) - 5) // len(item)
    return head + b"\xdd" + struct.pack(">I", count) + item * count


def text(word: str) -> bytes:
    return bytes([0xA0 + len(word)]) + word.encode()


def head(tag: str, field: str) -> bytes:
    """A map of a type, up to the value of a field."""
    return b"\x83" + text("t") + text(tag) + text("s") + text("x") + text(field)


ERROR = b"\x91\x84" + text("id") + text("e") + text("token") + b"\x01" + text("outcome") + text("failed")
# What makes the most of each byte: lists of what takes one byte, texts of one letter, objects of a few.
GREEDY = {
    "tokens of one byte": head("RESULT_ACK", "recorded") + b"|\x01",
    "tokens of three bytes": head("RESULT_ACK", "recorded") + b"|\xcd\xff\xff",
    "acknowledged logs": head("LOG_ACK", "items") + b"|\x82" + text("token") + b"\x01" + text("lines") + b"\x01",
    "items beyond the limit": head("ACCEPT", "items") + b"|\x81" + text("token") + b"\x01",
    "base classes of an error": head("RESULT", "items") + ERROR + text("error") + b"\x83" + text("type") + text("E")
    + text("message") + text("m") + text("bases") + b"|" + text("z"),
    "methods of a handler": head("HELLO", "handlers") + b"|\x82" + text("handler_id") + text("h") + text("methods")
    + b"\xdc\x03\xe8" + (b"\x81" + text("name") + b"\xa0") * 1000,
    "fields that nobody knows": head("BYE", "later") + b"|\x90",
    "levels": head("BYE", "later") + b"|\x91",
    "a text": head("RESULT", "items") + b"|" + text("x"),
}  # fmt: skip


@pytest.mark.parametrize("shape", GREEDY)
def test_a_message_never_takes_more_than_so_much_memory_and_time_for_each_of_its_bytes(shape):
    size = MAX_BYTES if SIZE.messages >= 50_000 else MAX_BYTES >> 9
    begin, _, item = GREEDY[shape].partition(b"|")
    data = many(begin, item, size)
    readers = [next(one for one in MESSAGES if one.name.startswith(f"{side}:")) for side in ("node", "server")]
    gc.collect()
    for target in readers:
        tracemalloc.start()
        try:
            target._attempt(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak <= MAX_MEMORY * len(data) + MEMORY_BESIDE
        target.check(data)


def test_the_mutator_is_the_same_for_the_same_seed_and_breaks_most_of_what_it_is_given():
    samples = [target.write(values.right(target.kind, Random(1))) for target in MESSAGES]

    made = list(Mutator(7, samples, values.PIECES).variants(500))

    assert made == list(Mutator(7, samples, values.PIECES).variants(500))
    assert len(set(made)) > 450
    assert len(set(made) & set(samples)) < 50


def test_what_raises_takes_too_long_or_says_too_much_is_told_with_its_bytes(monkeypatch):
    def talk(data):
        raise ValueError("x" * 2000)

    with pytest.raises(AssertionError, match=r"raised ZeroDivisionError.*: 6162"):
        Target("t", lambda _: 1 // 0, ValueError).check(b"ab")
    with pytest.raises(AssertionError, match=r"in 2000 characters.*: 6162"):
        Target("t", talk, ValueError).check(b"ab")
    monkeypatch.setattr(targets, "MAX_S", 0.001)
    with pytest.raises(AssertionError, match=r"t took .*: 6162"):
        Target("t", lambda _: sum(range(300_000)), ValueError).check(b"ab")
