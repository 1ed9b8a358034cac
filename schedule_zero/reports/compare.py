"""Two reports side by side: what became worse, what is broken now. Pure.

Each figure has a threshold: how many times as much (or, where less of it is worse, how little of it) is still alike;
and a slack below which a difference is noise, whatever its factor. A scenario says of its measures what is worse, more
or less; their units say the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from schedule_zero.errors import BadRequest
from schedule_zero.reports.record import OURS, Outcome, RunReport, ScenarioReport, Worse
from schedule_zero.yaml_file import suggest


class Threshold(NamedTuple):
    """``factor`` ≥ 1: more is worse, beyond so many times; < 1: less is worse, below that share."""

    factor: float
    # In the figure's unit; of what is measured by the scenario's clock, in seconds of the machine.
    slack: float = 0.0
    # Of a rate: how much longer the same may take (the more it counts, the shorter the scenario).
    longer_s: float = 0.0


# Set by quick runs of the same code, on two cores that were busy with a fault suite as well. Runs that come later are
# not all alike by them: see "Comparing" in docs/reference/testbed.md.
THRESHOLDS: Mapping[str, Threshold] = {
    "lateness_p50_s": Threshold(4.0, 0.02),
    "lateness_p99_s": Threshold(4.0, 0.15),
    "lateness_max_s": Threshold(4.0, 2.0),
    "latency_p50_s": Threshold(4.0, 0.02),
    "latency_p99_s": Threshold(4.0, 0.15),
    "latency_max_s": Threshold(4.0, 2.0),
    "executions_per_s": Threshold(0.55, 1.0, 5.0),
    "memory_peak_mib": Threshold(1.5, 32.0),
    "cpu_s": Threshold(2.0, 2.0),
    "seconds": Threshold(4.0, 5.0),
    # Intervals of 1, 10, 100 and 1,000 ms fall together, once lateness is beyond 50 ms.
    "smallest_interval_ms": Threshold(100.0),
    # What is due while a process is away is late by that; how much of all that is, is luck.
    "chaos_mix.lateness_p50_s": Threshold(4.0, 3.0),
    "failover.lateness_p50_s": Threshold(4.0, 3.0),
    # Jobs of processes that are stopped, or whose server is away, for seconds.
    "chaos_mix.latency_p99_s": Threshold(4.0, 10.0),
    "chaos_mix.latency_max_s": Threshold(4.0, 10.0),
    # Bursts that take milliseconds.
    "creation_storm.bulk_created_per_s": Threshold(0.2, 1.0, 5.0),
    "creation_storm.bulk_deleted_per_s": Threshold(0.2, 1.0, 5.0),
}
# Of a scenario's own measures, by what is worse, and by the end of the name: the first that fits.
UNITS: Mapping[Worse, Mapping[str, Threshold]] = {
    "more": {
        "_max_ms": Threshold(4.0, 2000.0),
        "_max_s": Threshold(4.0, 2.0),
        "_ms": Threshold(4.0, 150.0),
        "_s": Threshold(4.0, 0.15),
        "_mib": Threshold(1.5, 16.0),
        "": Threshold(4.0),
    },
    "less": {"_per_s": Threshold(0.55, 1.0, 5.0), "": Threshold(0.55)},
}
# Of fewer runs, the 99th of a hundred is the longest one, and compared as that.
FEWEST_FOR_P99 = 100
GOOD = (Outcome.KEPT, Outcome.SKIPPED)


class Trend(StrEnum):
    ALIKE = "alike"
    BETTER = "better"
    WORSE = "worse"


class Row(Struct, frozen=True, kw_only=True):
    """One figure of one scenario. None: there is none. ``limit``: the worst that ``new`` may be."""

    scenario: str
    subject: str
    figure: str
    old: float | None
    new: float | None
    limit: float | None
    trend: Trend


class Turn(Struct, frozen=True, kw_only=True):
    """What became of a scenario, then and now. None: it is not in that report."""

    scenario: str
    subject: str
    old: Outcome | None
    new: Outcome | None
    why: str = ""

    @property
    def bad(self) -> bool:
        """It is broken now, or it was kept and nobody knows now."""
        return self.new in (Outcome.BROKEN, Outcome.FAILED) or (self.old is Outcome.KEPT and self.new is not self.old)


class Comparison(Struct, frozen=True, kw_only=True):
    turns: list[Turn]
    rows: list[Row]
    # What is wrong with the new run as a whole: promises that the checker found broken, an early end.
    broken: list[str]
    # Why the two can hardly be compared.
    notes: list[str]
    # The subjects by which it stands or falls: ours, or else those that there are.
    judged: list[str]

    @property
    def worse(self) -> list[Row]:
        return [row for row in self.rows if row.trend is Trend.WORSE and row.subject in self.judged]

    @property
    def bad(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.bad and turn.subject in self.judged]

    @property
    def ok(self) -> bool:
        return not self.worse and not self.broken and not self.bad


def compare(
    old: RunReport, new: RunReport, thresholds: Mapping[str, Threshold] | None = None, *, only: Collection[str] = ()
) -> Comparison:
    """What changed from ``old`` to ``new``; ``thresholds`` by figure, or by ``scenario.figure``.

    ``only``: of the scenarios these. BadRequest: neither report has such a one.
    """
    before, now = _by_name(old), _by_name(new)
    keys = list({**before, **now})
    known = dict.fromkeys(name for name, _ in keys)
    for name in only:
        if name not in known:
            raise BadRequest(
                f"neither report has a scenario {name!r}{suggest(name, known)}", hint=f"there are: {', '.join(known)}"
            )
    turns: list[Turn] = []
    rows: list[Row] = []
    for key in keys:
        if only and key[0] not in only:
            continue
        was, is_ = before.get(key), now.get(key)
        turns.append(
            Turn(
                scenario=key[0],
                subject=key[1],
                old=None if was is None else was.outcome,
                new=None if is_ is None else is_.outcome,
                why=is_.why.partition("\n")[0] if is_ is not None else "",
            )
        )
        # Of what was not kept, figures say nothing.
        if was is not None and is_ is not None and was.outcome is is_.outcome is Outcome.KEPT:
            rows += _rows(was, is_, thresholds or {})
    broken = [f"the checker found {name} × {times}" for name, times in sorted(new.breaches.items())]
    if new.interrupted:
        broken.append("the new run was interrupted")
    return Comparison(
        turns=turns, rows=rows, broken=broken, notes=list(_differences(old, new)), judged=_judged(old, new)
    )


def _judged(old: RunReport, new: RunReport) -> list[str]:
    subjects = {one.subject for report in (old, new) for one in report.scenarios}
    return [OURS] if OURS in subjects else sorted(subjects)


def _by_name(report: RunReport) -> dict[tuple[str, str], ScenarioReport]:
    return {(one.scenario, one.subject): one for one in report.scenarios}


def _rows(old: ScenarioReport, new: ScenarioReport, said: Mapping[str, Threshold]) -> Iterator[Row]:
    before, now = figures(old), figures(new)
    for name in before:
        threshold = said.get(f"{new.scenario}.{name}") or said.get(name) or default(new, name)
        if threshold is None or name not in now:
            continue
        was, is_ = before[name], now[name]
        allowed = _fitted(threshold, name, old)
        yield Row(
            scenario=new.scenario,
            subject=new.subject,
            figure=name,
            old=was,
            new=is_,
            limit=None if was is None else _limit(was, allowed),
            trend=trend(was, is_, allowed),
        )


def figures(report: ScenarioReport) -> dict[str, float | None]:
    """All of a scenario's figures by name: its own measures, and those that are taken of each."""
    found: dict[str, float | None] = {measure.name: measure.value for measure in report.measures}
    own = report.figures
    found |= {name: getattr(own, name) for name in THRESHOLDS if name in own.__struct_fields__}
    if own.processes:
        found["memory_peak_mib"] = sum(process.memory_peak_mib for process in own.processes)
        found["cpu_s"] = sum(process.cpu_s for process in own.processes)
    found["seconds"] = report.seconds
    return found


def default(report: ScenarioReport, name: str) -> Threshold | None:
    """Of a figure of a scenario, if nobody says another one. None: more of it is no worse, nor less."""
    worse = next((measure.worse for measure in report.measures if measure.name == name), None)
    if report.figures.executions < FEWEST_FOR_P99:
        name = name.replace("_p99", "_max")
    found = THRESHOLDS.get(f"{report.scenario}.{name}") or THRESHOLDS.get(name)
    if found is not None or worse is None:
        return found
    return next(threshold for unit, threshold in UNITS[worse].items() if name.endswith(unit))


def _fitted(threshold: Threshold, name: str, old: ScenarioReport) -> Threshold:
    """For a scenario that took so long, on a clock that fast."""
    factor, slack, longer_s = threshold
    if longer_s and old.seconds:
        factor = min(factor, 1 / (1 + longer_s / old.seconds))
    # (Latencies are those of the machine, on any clock.)
    by_its_clock = name.startswith("lateness_") or (
        name.endswith(("_s", "_ms")) and any(measure.name == name for measure in old.measures)
    )
    return Threshold(factor, slack * old.speedup if by_its_clock and factor >= 1 else slack)


def trend(old: float | None, new: float | None, threshold: Threshold) -> Trend:
    """None, where the other has a figure, is worse than any."""
    if old is None or new is None:
        return Trend.ALIKE if old is new else Trend.WORSE if new is None else Trend.BETTER
    if _beyond(old, new, threshold):
        return Trend.WORSE
    return Trend.BETTER if _beyond(new, old, threshold) else Trend.ALIKE


def _beyond(old: float, new: float, threshold: Threshold) -> bool:
    limit = _limit(old, threshold)
    return new > limit if threshold.factor >= 1 else new < limit


def _limit(old: float, threshold: Threshold) -> float:
    """The worst value that is still alike."""
    if threshold.factor >= 1:
        return max(old * threshold.factor, old + threshold.slack)
    return min(old * threshold.factor, old - threshold.slack)


def _differences(old: RunReport, new: RunReport) -> Iterator[str]:
    """Settings in which they differ, so that their figures may."""
    for name in ("product", "quick", "nodes", "mode", "speedup", "seed"):
        was, is_ = getattr(old, name), getattr(new, name)
        if was != is_:
            yield f"{name}: {was} then, {is_} now"
    for name in ("python", "system", "cores"):
        was, is_ = getattr(old.machine, name), getattr(new.machine, name)
        if was != is_:
            yield f"the machine's {name}: {was} then, {is_} now"
    before, now = _by_name(old), _by_name(new)
    for key in before.keys() & now.keys():
        if before[key].params != now[key].params:
            yield f"{key[0]} ({key[1]}) has other parameters now: its figures are of something else"


def threshold_of(name: str, factor: float, known: Mapping[str, Threshold | None]) -> Threshold:
    """What was said by hand. BadRequest: no report has such a figure (``known`` has those), or it can't be so."""
    if name not in known and name not in THRESHOLDS:
        plain = dict.fromkeys(one for one in [*THRESHOLDS, *known] if "." not in one)
        raise BadRequest(
            f"there is no figure {name!r}{suggest(name, [*known, *THRESHOLDS])}",
            hint=f"there are: {', '.join(plain)}; each also for one scenario: scenario.figure",
        )
    usual = known.get(name) or THRESHOLDS.get(name)
    if usual is None:
        return Threshold(factor)
    if (usual.factor >= 1) != (factor >= 1):
        said = "at least 1, since more of it is worse" if usual.factor >= 1 else "below 1, since less of it is worse"
        raise BadRequest(f"{name}: expected a factor of {said}; got {factor:g}")
    return usual._replace(factor=factor)


def names(*reports: RunReport) -> dict[str, Threshold | None]:
    """Figures that a threshold may be given for, with what they have: ``name`` and ``scenario.name``."""
    found: dict[str, Threshold | None] = {}
    for report in reports:
        for one in report.scenarios:
            for name in figures(one):
                found[f"{one.scenario}.{name}"] = default(one, name)
                # (Not that of one scenario only.)
                found[name] = found.get(name) or THRESHOLDS.get(name) or default(one, name)
    return found
