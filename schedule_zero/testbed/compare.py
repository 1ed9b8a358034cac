"""Two reports side by side: what became worse, what is broken now. Pure.

Each figure has a threshold: how many times as much (or, where less of it is worse, how little of it) is still alike;
and a slack below which a difference is noise, whatever its factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from schedule_zero.errors import BadRequest
from schedule_zero.testbed.record import OURS, Outcome, RunReport, ScenarioReport
from schedule_zero.yaml_file import suggest


class Threshold(NamedTuple):
    """``factor`` ≥ 1: more is worse, beyond so many times; < 1: less is worse, below that share."""

    factor: float
    slack: float = 0.0


THRESHOLDS: Mapping[str, Threshold] = {
    "lateness_p50_s": Threshold(2.0, 0.02),
    "lateness_p99_s": Threshold(2.0, 0.1),
    "lateness_max_s": Threshold(3.0, 1.0),
    "latency_p50_s": Threshold(2.0, 0.02),
    "latency_p99_s": Threshold(2.0, 0.1),
    "executions_per_s": Threshold(0.7, 1.0),
    "memory_peak_mib": Threshold(1.5, 32.0),
    "cpu_s": Threshold(2.0, 2.0),
    "seconds": Threshold(2.0, 5.0),
    "smallest_interval_ms": Threshold(1.0),
}
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


def compare(old: RunReport, new: RunReport, thresholds: Mapping[str, Threshold] | None = None) -> Comparison:
    """What changed from ``old`` to ``new``; ``thresholds`` by figure, or by ``scenario.figure``."""
    allowed = {**THRESHOLDS, **(thresholds or {})}
    before, now = _by_name(old), _by_name(new)
    turns: list[Turn] = []
    rows: list[Row] = []
    for key in {**before, **now}:
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
            rows += _rows(was, is_, allowed)
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


def _rows(old: ScenarioReport, new: ScenarioReport, allowed: Mapping[str, Threshold]) -> Iterator[Row]:
    before, now = figures(old), figures(new)
    for name in before:
        threshold = allowed.get(f"{new.scenario}.{name}") or allowed.get(name)
        if threshold is None or name not in now:
            continue
        was, is_ = before[name], now[name]
        yield Row(
            scenario=new.scenario,
            subject=new.subject,
            figure=name,
            old=was,
            new=is_,
            limit=None if was is None else _limit(was, threshold),
            trend=trend(was, is_, threshold),
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
    factor, slack = threshold
    if factor >= 1:
        return max(old * factor, old + slack)
    return min(old * factor, old - slack)


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


def threshold_of(name: str, factor: float, known: Mapping[str, object]) -> Threshold:
    """What was said by hand. BadRequest: no report has such a figure (``known`` has those), or it can't be so."""
    figure = name.rpartition(".")[2]
    if name not in known and name not in THRESHOLDS:
        plain = dict.fromkeys([*THRESHOLDS, *(one for one in known if "." not in one)])
        raise BadRequest(
            f"there is no figure {name!r}{suggest(name, [*known, *THRESHOLDS])}",
            hint=f"there are: {', '.join(plain)}; each also for one scenario: scenario.figure",
        )
    default = THRESHOLDS.get(figure)
    if default is not None and (default.factor >= 1) != (factor >= 1):
        said = "at least 1, since more of it is worse" if default.factor >= 1 else "below 1, since less of it is worse"
        raise BadRequest(f"{name}: expected a factor of {said}; got {factor:g}")
    return Threshold(factor, default.slack if default is not None else 0.0)


def names(*reports: RunReport) -> dict[str, object]:
    """Figures that a threshold may be given for: ``name`` and ``scenario.name``."""
    found: dict[str, object] = {}
    for report in reports:
        for one in report.scenarios:
            for name in figures(one):
                found[name] = found[f"{one.scenario}.{name}"] = None
    return found
