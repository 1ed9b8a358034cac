"""Fuzz one thing for as long as one likes: guided by coverage with atheris, if that is installed, else by the mutator.

    python -m tests.fuzz wire --seconds 600
    python -m tests.fuzz files --only ical --seconds 600
    python -m tests.fuzz wire --only "node: RESULT" --replay 84a174a6524553…

``atheris`` is no dependency of the project (it has no wheel for every interpreter): ``pip install atheris``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.fuzz.mutator import Mutator, chosen_seed

# Nothing of the product is imported before atheris looks on.
if TYPE_CHECKING:
    from tests.fuzz.targets import Target

    Sampled = list[tuple[Target, list[bytes], list[bytes]]]

LIBRARIES = ["icalendar", "recurring_ical_events", "dateutil", "yaml"]
# What libFuzzer may try; a HELLO may be a hundred times as long, but says nothing new.
MAX_LENGTH = 20_000


def wire() -> Sampled:
    from tests.fuzz import targets, values

    dice = Random(0)
    return [
        (target, [target.write(values.right(target.kind, dice)) for _ in range(50)], values.PIECES)
        for target in targets.message_targets()
    ]


def json() -> Sampled:
    from tests.fuzz import bodies

    found = [*bodies.answer_targets(), *bodies.body_targets()]
    return [
        *((target, samples, bodies.JSON_WORDS) for target, samples in found),
        *((target, samples, bodies.QUERY_WORDS) for target, samples in bodies.query_targets()),
    ]


def files() -> Sampled:
    from tests.fuzz import files as of_files

    return [(kind.target, kind.samples, kind.words) for kind in of_files.kinds()]


WHAT: dict[str, Callable[[], Sampled]] = {"wire": wire, "json": json, "files": files}


def guided(load: Callable[[], Sampled], seconds: int) -> None:
    """Until a finding, or for so long. libFuzzer ends the process itself."""
    import atheris

    # What is imported in here tells atheris what it runs through.
    with atheris.instrument_imports(include=["schedule_zero", *LIBRARIES]):
        sampled = load()
    mutators = [Mutator((chosen_seed(), target.name), samples, words) for target, samples, words in sampled]

    def one(data: bytes) -> None:
        # The first byte chooses.
        if data:
            sampled[data[0] % len(sampled)][0].check(data[1:])

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if not data or seed % 20 == 0:
            number = seed % len(mutators)
            return bytes([number]) + Random(seed).choice(mutators[number].samples)[: max_size - 1]
        if seed % 2:
            mutator = mutators[data[0] % len(mutators)]
            mutator.dice.seed(seed)
            return data[:1] + mutator.broken(data[1:])[: max_size - 1]
        return atheris.Mutate(data, max_size)

    # -max_total_time alone says what was done; a unit that takes a minute is a finding.
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LENGTH}",
        "-timeout=60",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([*arguments, "-print_final_stats=1"], one, custom_mutator=mutate)
    atheris.Fuzz()


def unguided(sampled: Sampled, seconds: int) -> None:
    """The mutator alone; says how much it did."""
    mutators = [(target, Mutator((chosen_seed(), target.name), samples, words)) for target, samples, words in sampled]
    ends_s, done = time.monotonic() + seconds, 0
    while time.monotonic() < ends_s:
        for target, mutator in mutators:
            for data in mutator.variants(10):
                target.check(data)
                done += 1
    print(f"{done:,} inputs to {len(mutators)} readers, nothing found")


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument("what", choices=WHAT)
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--only", default="", help="those whose name holds this")
    arguments.add_argument("--replay", metavar="HEX", help="one input, as a failure told it")
    given = arguments.parse_args()

    def load() -> Sampled:
        found = [one for one in WHAT[given.what]() if given.only in one[0].name]
        if not found:
            raise SystemExit(f"nothing of {given.what} is called {given.only!r}")
        return found

    if given.replay is not None:
        for target, _, _ in load():
            print(f"{target.name}: {target.check(bytes.fromhex(given.replay))!r}"[:300])
    elif importlib.util.find_spec("atheris") is not None:
        guided(load, given.seconds)
    else:
        print(
            "atheris is not installed (pip install atheris): the mutator goes alone, without a look at what is covered"
        )
        unguided(load(), given.seconds)


if __name__ == "__main__":
    main()
