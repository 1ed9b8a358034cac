"""What waited for what, and when each of it really ran: the DAG of a scenario. Pure; judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from schedule_zero.reports.record import Edge, Graph, Step
from schedule_zero.testbed.history import Run


def graph_of(
    name: str,
    runs: Mapping[str, Sequence[Run]],
    edges: Iterable[Edge],
    *,
    at_s: Callable[[int], float],
    overlap: bool = False,
) -> Graph:
    """The runs of each step (none: it did not run), and edges by the steps' names. ``at_s``: of a run's nanoseconds.

    A step that ran again has further bars (``a, run 2``). What waits for it may begin with the run that began first, or
    (no ``overlap``) ended first; what it waited for has to be over as its first run begins.
    """
    steps: list[Step] = []
    gives: dict[str, str] = {}
    for step, mine in runs.items():
        names = [step, *(f"{step}, run {number}" for number in range(2, len(mine) + 1))]
        over = [(run.end_ns, again) for run, again in zip(mine, names, strict=False) if run.end_ns is not None]
        gives[step] = min(over)[1] if over and not overlap else step
        steps += [
            Step(
                again,
                at_s(run.start_ns),
                None if run.end_ns is None else at_s(run.end_ns),
                run.node_id,
                run.outcome or "",
            )
            for run, again in zip(mine, names, strict=False)
        ] or [Step(step)]
    return Graph(name, steps, [(gives.get(one, one), after) for one, after in edges], overlap)


def violated(graph: Graph) -> list[Edge]:
    """Edges whose later step began although the earlier had not ended (``overlap``: had not begun), or did not run."""
    steps = {step.name: step for step in graph.steps}
    found: list[Edge] = []
    for before, after in graph.edges:
        one, then = steps.get(before), steps.get(after)
        if one is None or then is None or then.start_s is None:
            continue
        free_s = one.start_s if graph.overlap else one.end_s
        if free_s is None or then.start_s < free_s:
            found.append((before, after))
    return found
