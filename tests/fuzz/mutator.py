"""Breaks bytes: a seeded mutator, quick enough for a million inputs in a minute, and replayable to the byte."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from random import Random

# What numbers, lengths and characters have their edges at.
EDGES = b"\x00\x01\x7f\x80\x81\xbf\xc0\xc1\xfe\xff"
# Nothing gets longer than this by mutation: what limits do is told by tests of their own.
MAX_BYTES = 1 << 16
SEED = "FUZZ_SEED"


def chosen_seed() -> int:
    """``FUZZ_SEED``; else the same in every ``make test``, and another one in each longer run."""
    given = os.environ.get(SEED)
    if given is not None:
        return int(given)
    return 0 if os.environ.get("FAULTS", "sample") == "sample" else int.from_bytes(os.urandom(4))


class Mutator:
    """Makes broken variants of samples. ``words``: pieces that mean something in the format."""

    def __init__(self, seed: object, samples: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        self.dice = Random(repr(seed))
        self.samples = list(samples)
        self.words = list(words) or [b""]
        self._ways = (
            self._flip_bit, self._flip_bit, self._set_byte, self._set_byte, self._count, self._cut, self._drop,
            self._insert, self._word, self._word, self._repeat, self._splice, self._swap,
        )  # fmt: skip

    def variants(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield self.broken(self.dice.choice(self.samples))

    def broken(self, sample: bytes) -> bytes:
        """``sample`` after one to six changes."""
        data = bytearray(sample)
        for _ in range(1 + int(self.dice.random() ** 2 * 6)):
            self.dice.choice(self._ways)(data)
        return bytes(data[:MAX_BYTES])

    def _at(self, data: bytearray) -> int:
        return int(self.dice.random() * len(data))

    def _flip_bit(self, data: bytearray) -> None:
        if data:
            data[self._at(data)] ^= 1 << self.dice.getrandbits(3)

    def _set_byte(self, data: bytearray) -> None:
        if data:
            data[self._at(data)] = self.dice.choice(EDGES) if self.dice.random() < 0.5 else self.dice.getrandbits(8)

    def _count(self, data: bytearray) -> None:
        """A length or a number becomes one that is a little, or far, too large or too small."""
        if data:
            at = self._at(data)
            data[at] = (data[at] + self.dice.choice((-2, -1, 1, 2, 16))) & 0xFF

    def _cut(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _drop(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + 1 + int(self.dice.random() ** 3 * len(data))]

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self.dice.randbytes(1 + self.dice.getrandbits(3))

    def _word(self, data: bytearray) -> None:
        at = self._at(data)
        word = self.dice.choice(self.words)
        data[at : at + (len(word) if self.dice.random() < 0.5 else 0)] = word

    def _repeat(self, data: bytearray) -> None:
        at = self._at(data)
        piece = data[at : at + 1 + int(self.dice.random() ** 2 * 64)]
        data[at:at] = piece * (1 + int(self.dice.random() ** 4 * 64))

    def _splice(self, data: bytearray) -> None:
        """Go on with the rest of another sample."""
        other = self.dice.choice(self.samples)
        data[self._at(data) :] = other[int(self.dice.random() * len(other)) :]

    def _swap(self, data: bytearray) -> None:
        here, there = sorted((self._at(data), self._at(data)))
        size = min(1 + self.dice.getrandbits(4), there - here)
        data[here : here + size], data[there : there + size] = data[there : there + size], data[here : here + size]
