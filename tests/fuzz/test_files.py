"""Files that people hand in: valid, or refused with the file and the place; nothing else, and never for long."""

from __future__ import annotations

import tracemalloc

import pytest

from schedule_zero import yaml_file
from schedule_zero.errors import ConfigError
from tests.fuzz import files
from tests.fuzz.files import Kind
from tests.fuzz.mutator import Mutator, chosen_seed
from tests.fuzz.targets import MAX_MEMORY, MEMORY_BESIDE
from tests.sizes import SIZE

SEED = chosen_seed()
KINDS = files.kinds()
# A night has 50,000 of each.
pytestmark = pytest.mark.timeout(120 if SIZE.files < 5_000 else 4 * 3600)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind: Kind, tried):
    line = tried("7 fuzz", f"{kind.name}, damaged")

    # A calendar takes a hundred times as long as a file of settings: a sample of it is smaller.
    count = SIZE.files // 4 if SIZE.files < 5_000 and kind.target.name in ("calendar", "ical") else SIZE.files
    for data in Mutator((SEED, kind.name), kind.samples, kind.words).variants(count):
        kind.target.check(data)
        line.faults += 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_undamaged_file_is_right(kind: Kind):
    for sample in kind.samples:
        assert kind.target.check(sample) is not None


LARGE = 20_000 if SIZE.files >= 5_000 else 300
# What costs far more than its size where nobody looks: each was a minute, or all memory there is, or no ConfigError.
BOMBS = {
    "lists of lists": files.bomb("list"),
    "keys merged": files.bomb("merge"),
    "a chain": files.bomb("list", levels=LARGE // 4, each=1),
    "a chain of merged keys": files.bomb("merge", levels=LARGE // 4, each=1),
    "brackets": b"[" * 50_000,
    "braces": b"{a: " * 50_000,
    "dashes": b"- " * 50_000,
    "question marks": b"? " * 50_000,
    "keys": b"".join(b"key%d: 1\n" % number for number in range(LARGE)),
    "one key": b"a: 1\n" * LARGE,
    "one key below": b"a:\n" + b"  b: 1\n" * LARGE,
    "a long key": b"? " + b"x" * 100_000 + b"\n: 1\n",
    "a long value": b"http: {port: " + b"x" * 100_000 + b"}\n",
    "anchors": b"".join(b"a%d: &a%d x\n" % (number, number) for number in range(LARGE)),
    "a large number": b"drain_s: 0x" + b"f" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_yaml_file_costs_in_proportion_to_its_size(name, tried):
    line = tried("7 fuzz", "YAML files that cost far more than their size")
    for kind in KINDS[:3]:
        tracemalloc.start()
        try:
            kind.target._attempt(BOMBS[name])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # A value of a file in memory, with its place, is some hundred bytes.
        assert peak <= 40 * MAX_MEMORY * len(BOMBS[name]) + 4 * MEMORY_BESIDE
        assert kind.target._seconds(BOMBS[name]) < 0.5 + LARGE / 5_000, kind.name
        line.faults += 1


def test_a_file_beyond_the_limit_is_refused_before_it_is_read():
    with pytest.raises(ConfigError, match="larger than"):
        yaml_file.parse(b"#" * (yaml_file.MAX_BYTES + 1), "config.yaml")
