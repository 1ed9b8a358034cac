"""What several scenarios ask of the evidence: has each nominal time its row, did a job run again for a cause?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from schedule_zero.clock import to_us
from schedule_zero.testbed.history import SERVER, Run
from schedule_zero.testbed.scenario import Seen

# So long after a process is back it may still be out of breath.
AFTERMATH_US = 3_000_000
# What was done: the target, and from when to when.
Harm = Sequence[tuple[str, int, int]]


def ill_accounted(rows: Iterable[Any], *, start_us: int, until_us: int, interval_us: int) -> Iterator[str]:
    """Each nominal time of an interval schedule, up to ``until_us``, without exactly one row; and rows of no such."""
    count: Counter[float] = Counter()
    for row in rows:
        first = (to_us(row.nominal_time) - start_us) / interval_us
        count.update(first + number for number in range(row.count))
    due = range((until_us - start_us) // interval_us + 1)
    for at in sorted({*due, *count}):
        if count[at] != 1 or at < 0 or at != int(at):
            yield f"fire {at:g} (from 0) has {count[at]} rows"


def steps_of(seen: Seen, count: int) -> list[int]:
    """Of a job that schedules its own next step, whose number ends its action: in the order in which they began.

    Holds ``each_step_once``: they are 1 to ``count``.
    """
    steps = [int(run.action.rpartition(".")[2]) for run in seen.runs]
    said = f"expected the steps 1 to {count}, they were {steps}"
    seen.hold("each_step_once", steps == list(range(1, count + 1)), said, of=count)
    return steps


def begun_early(runs: Iterable[Run]) -> Iterator[str]:
    """Each run that began before it was due."""
    for run in runs:
        if run.nominal_us is not None and run.start_us < run.nominal_us:
            yield f"{run.execution_id} began at {run.start_us}, due {run.nominal_us}"


def harmed(run: Run, until_us: int, harm: Harm) -> bool:
    """Whether its node, or the server, was harmed between its start and then, or just before."""
    targets, since_us = (SERVER, f"node:{run.node_id}"), run.start_us - AFTERMATH_US
    return any(target in targets and begin <= until_us and end >= since_us for target, begin, end in harm)


def again_without_cause(runs: Sequence[Run], harm: Harm, *, dies: bool = False) -> Iterator[str]:
    """Each start, of the runs of one execution in their order, that neither a failure nor any harm accounts for.

    ``dies``: it is the job's way to end without a line in its ledger, which is a failure, too.
    """
    for run, again in pairwise(runs):
        failed = run.outcome == "error" or (dies and run.outcome is None)
        if not failed and not harmed(run, again.start_us, harm):
            ended = "not known to have ended" if run.outcome is None else f"ended {run.outcome}"
            yield f"execution {run.execution_id}: on {run.node_id}, {ended}; then on {again.node_id}"


def by_execution(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each execution, in their order."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.execution_id, []).append(run)
    return found


def descendants(path: str, widths: Sequence[int]) -> Iterator[str]:
    """A job and all below it, where each has as many children as ``widths`` says of its level: ``1``, ``1.0``, …"""
    yield path
    for child in range(widths[0] if widths else 0):
        yield from descendants(f"{path}.{child}", widths[1:])
