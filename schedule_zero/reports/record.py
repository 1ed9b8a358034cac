"""What a run of the test bed leaves behind: ``report.json`` (what ``compare`` reads), of which the pages are made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from schedule_zero.errors import BadRequest

SCHEMA = 1
OURS = "schedulezero"
REPORT = "report.json"

Worse = Literal["more", "less"]
# (What comes first, what waits for it.)
Edge = tuple[str, str]


class Held(Struct):
    """An invariant and what became of it. ``ok`` None: nothing was seen by which it could be judged."""

    name: str
    means: str
    ok: bool | None = None
    # How many things were looked at.
    checked: int = 0
    broken: int = 0
    evidence: list[str] = []


class Measure(Struct, frozen=True):
    """A figure. ``value`` None: there is none, or no end of it (JSON knows no infinity)."""

    name: str
    means: str
    value: float | None
    # What of it is worse; None: neither.
    worse: Worse | None = None


class Series(Struct, frozen=True):
    """Something to draw. ``points``: x (seconds since the scenario began, unless it says otherwise) and y."""

    name: str
    x: str
    y: str
    points: list[tuple[float, float]]


class Step(Struct, frozen=True):
    """One run of a step, or a step that did not run (``start_s`` None). Seconds since the scenario began."""

    name: str
    start_s: float | None = None
    # None: nothing tells of its end.
    end_s: float | None = None
    node: str = ""
    # ``ok`` or ``error``; empty where there is no end.
    outcome: str = ""


class Graph(Struct, frozen=True):
    """Steps by name, each name once, and what they waited for."""

    name: str
    steps: list[Step]
    edges: list[Edge]
    # What waits may begin once the other has begun, as children that a running parent makes; False: once it has ended.
    overlap: bool = False


class Outcome(StrEnum):
    """What became of a scenario."""

    # All that must hold did.
    KEPT = "kept"
    # Something did not.
    BROKEN = "broken"
    # It raised, hung, or went beyond a limit: nothing is known of the rest.
    FAILED = "failed"
    # It does not apply here; ``why`` says why.
    SKIPPED = "skipped"


class ProcessFigures(Struct):
    """Of one process during a scenario."""

    target: str
    memory_peak_mib: float
    # Between its first and its last reading.
    memory_delta_mib: float
    # None: it was too short to say.
    memory_mib_per_hour: float | None
    cpu_s: float


class FaultWindow(Struct):
    """Something that was done, in seconds since the scenario began."""

    fault: str
    target: str
    from_s: float
    to_s: float | None = None


class Figures(Struct):
    """Taken of every scenario alike. Seconds; None: there was nothing to take it from."""

    executions: int = 0
    failed: int = 0
    # From entry to exit of its method.
    latency_avg_s: float | None = None
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None
    latency_max_s: float | None = None
    # From due to entered.
    lateness_p50_s: float | None = None
    lateness_p99_s: float | None = None
    lateness_max_s: float | None = None
    schedules_created: int = 0
    schedules_deleted: int = 0
    executions_per_s: float | None = None
    by_node: dict[str, int] = {}
    processes: list[ProcessFigures] = []


class ScenarioReport(Struct):
    """One scenario on one subject."""

    scenario: str
    subject: str
    asks: str
    outcome: Outcome
    why: str = ""
    # How many times as fast as the machine's its clock went: series and faults are in that clock's seconds, unless
    # a series says otherwise.
    speedup: float = 1.0
    params: dict[str, Any] = {}
    seconds: float = 0.0
    held: list[Held] = []
    measures: list[Measure] = []
    figures: Figures = field(default_factory=Figures)
    series: list[Series] = []
    graphs: list[Graph] = []
    faults: list[FaultWindow] = []


class Answer(Struct):
    """One of the six questions, with its figure."""

    question: str
    answer: str
    from_scenario: str
    subject: str = OURS


class Verdict(StrEnum):
    """What became of a finding."""

    # What it says of APScheduler is so.
    CONFIRMED = "confirmed"
    # It is not so (any more).
    REFUTED = "refuted"
    # Its script did not come to an end.
    FAILED = "failed"


class Finding(Struct):
    """What a script shows about APScheduler (docs/explanation/apscheduler-findings.md)."""

    name: str
    verdict: Verdict
    expected: str
    seen: str
    # What reproduces it.
    script: str
    seconds: float = 0.0


class Machine(Struct):
    python: str
    system: str
    cores: int
    memory_mib: int


class RunReport(Struct, kw_only=True):
    """A whole run."""

    schema: int = SCHEMA
    product: str
    began: str
    seconds: float
    mode: str
    speedup: float
    seed: int
    nodes: int
    quick: bool
    machine: Machine
    # It was ended from outside: what is missing was not run.
    interrupted: bool = False
    # What the checker says of the run as a whole, where the store was ours. ``promises``: on how many things each was
    # checked; ``breaches``: ``C1 duplicate`` → how often; ``violations``: the first of them, in words; ``notes``: what
    # could not be judged, or was left out.
    promises: dict[str, int] = {}
    promises_ok: bool | None = None
    breaches: dict[str, int] = {}
    violations: list[str] = []
    notes: list[str] = []
    answers: list[Answer] = []
    scenarios: list[ScenarioReport] = []
    findings: list[Finding] = []

    @property
    def judged(self) -> list[ScenarioReport]:
        """Those that the run stands or falls by: ours; where there are none, those of the bare APScheduler."""
        return [one for one in self.scenarios if one.subject == OURS] or self.scenarios

    @property
    def ok(self) -> bool:
        alone = not any(one.subject == OURS for one in self.scenarios)
        return (
            not self.interrupted
            and self.promises_ok is not False
            and all(one.outcome in (Outcome.KEPT, Outcome.SKIPPED) for one in self.judged)
            and not (alone and any(one.verdict is not Verdict.REFUTED for one in self.findings))
        )


class _Head(Struct):
    """What tells a report of another schema, whatever else is in it."""

    schema: int


def read(folder: Path) -> RunReport:
    """The report in a folder, or a file. BadRequest: there is none, or it is none of ours."""
    path = folder / REPORT if folder.is_dir() else folder
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadRequest(f"expected {REPORT} of a run: there is no {path}") from None
    except OSError as error:
        raise BadRequest(f"expected {REPORT} of a run: {path}: {error.strerror}") from None
    try:
        schema = msgspec.json.decode(raw, type=_Head).schema
        if schema != SCHEMA:
            raise BadRequest(f"{path}: expected a report of schema {SCHEMA}, got {schema}")
        return msgspec.json.decode(raw, type=RunReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: expected the report of a run: {error}") from None


def write(report: RunReport, folder: Path) -> Path:
    """Put it there, whole or not at all: whoever reads meanwhile gets the one before."""
    path = folder / REPORT
    fresh = path.with_suffix(".new")
    try:
        raw = msgspec.json.encode(report)
    except UnicodeEncodeError:
        # A file's name in some error, say. A run's report is not lost over it.
        raw = msgspec.json.encode(_encodable(msgspec.to_builtins(report)))
    fresh.write_bytes(msgspec.json.format(raw) + b"\n")
    return fresh.replace(path)


def _encodable(value: Any) -> Any:
    """The same without halves of surrogate pairs."""
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_encodable(inner) for inner in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
