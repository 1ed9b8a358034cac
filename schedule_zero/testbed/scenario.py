"""What a scenario is: a handler whose jobs run on nodes, a part that drives them, and what must hold afterwards.

    class Example(Scenario):
        \"\"\"What it asks of a scheduler, in a sentence.\"\"\"

        handler_id = "example"

        class Params(ScenarioParams, frozen=True):
            count: int = 100

        quick = {"count": 10}
        holds = {"each_once": "each of the jobs ran once"}
        measures = {"jobs_per_s": "jobs per second"}
        worse = {"less": ("jobs_per_s",)}

        def work(self) -> None:
            with entered("work"):
                pass

        @classmethod
        async def drive(cls, ground: Ground) -> None:
            ...submits jobs, creates schedules, through ``ground.client``...

        @classmethod
        def judge(cls, ground: Ground, seen: Seen) -> None:
            seen.hold("each_once", all(...), "which one did not")

``drive`` and ``judge`` run beside the scheduler, the jobs in it. All they know of each other goes through the client's
verbs and the jobs' ledger (``job_ledger.entered``), which no scheduler can embellish.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol

# Most of what a client loads when it is made. In the first job that acts it would hold up the node's loop, for a second
# on a busy machine; so it is done as the node starts.
import httpx  # noqa: F401
from msgspec import Struct, field

from schedule_zero import AsyncClient, BaseHandler
from schedule_zero.clock import SystemClock
from schedule_zero.reports.record import Edge, Graph, Held, Series, Worse
from schedule_zero.testbed.graph import graph_of
from schedule_zero.testbed.history import Run

# Set by a subject that is no node.
CLIENT: ContextVar[Any] = ContextVar("client")
_clients: dict[int, AsyncClient] = {}
_clock = SystemClock()


def client() -> Any:
    """The client of an ``async`` job: of the server whose node runs it, one for each loop of a process."""
    found = CLIENT.get(None)
    if found is not None:
        return found
    loop = id(asyncio.get_running_loop())
    if loop not in _clients:
        _clients[loop] = AsyncClient()
    return _clients[loop]


def now_us() -> int:
    """The wall clock as a job sees it: that of its scheduler, also where it goes fast."""
    return _clock.wall_us()


async def schedule_ids(client: Any, handler_id: str) -> list[str]:
    """The schedules of a handler that there are, by what the scheduler says."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await client.schedules(handler_id=handler_id, limit=500, cursor=cursor)
        ids += [row.id for row in page.schedules]
        cursor = page.next_cursor
        if cursor is None:
            return ids


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """Of sorted values, the one at that share (the nearest rank)."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


# Evidence that is shown for each invariant; the rest is counted.
MOST_EVIDENCE = 20


class ScenarioParams(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What can be set about a scenario. Each field has a default and is a plain JSON value."""


class Scenario(BaseHandler):
    """Base class of the files in ``handlers/testbed``."""

    # (Of a subclass these are read-only: a class is never changed.)
    Params: ClassVar[type[ScenarioParams]] = ScenarioParams
    # What a quick run takes instead of the defaults.
    quick: ClassVar[dict[str, Any]] = {}
    # Name → what is true of a run in which it holds.
    holds: ClassVar[dict[str, str]] = {}
    # Name → what it is, with its unit, which ends the name as well (``_per_s``, ``_ms``, ``_s``, ``_mib``).
    measures: ClassVar[dict[str, str]] = {}
    # Which measures are worse the more they are, which the less; of the others ``compare`` has no opinion.
    worse: ClassVar[Mapping[Worse, Sequence[str]]] = {}
    # Whether it says anything about a bare APScheduler.
    for_bare: ClassVar[bool] = False
    # Whether it ends processes, which only those of the run's own can be.
    does_harm: ClassVar[bool] = False
    # What its server and nodes have in their environment; scenarios that differ in it share no installation.
    env: ClassVar[Mapping[str, str]] = {}
    # Whether it is about simulated time: the processes get a fast clock, and it is not run on the machine's.
    fast_clock: ClassVar[bool] = False
    # Whether it says the same on either clock: an accelerated run gives it the fast one.
    either_clock: ClassVar[bool] = False

    @classmethod
    def asks(cls) -> str:
        """The first line of its docstring."""
        return (cls.__doc__ or cls.handler_id).strip().splitlines()[0]

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        """Do whatever it takes, and return when it is over; what is still open is waited for by the runner."""
        raise NotImplementedError

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        """Say of each of ``holds`` whether it held, and take the measures."""
        raise NotImplementedError


class Ground(Protocol):
    """Where a scenario is driven: one scheduler, its nodes, its clock."""

    # ``AsyncClient``, or what stands for it where the scheduler is a bare one.
    client: Any
    params: Any
    # From the seed of the run and the scenario's name: the same seed does the same.
    random: random.Random
    nodes: Sequence[str]
    # How many times as fast as the machine's its clock goes.
    speedup: float

    def now_us(self) -> int:
        """The scheduler's wall clock."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Seconds of the scheduler's clock."""
        ...

    async def until(self, condition: Callable[[], Any], within_s: float) -> Any:
        """What ``condition`` (which may be async) returns once it is true. Hung: it never was."""
        ...

    def runs(self, action: str | None = None) -> list[Run]:
        """What the scenario's jobs have written so far, in the order of their starts."""
        ...

    def tell(self, fraction: float, text: str = "") -> None:
        """How far it is, for whoever watches."""
        ...

    def keep(self, name: str, value: Any) -> None:
        """Something that ``judge`` will need; JSON. Read it as ``seen.kept[name]``."""
        ...

    async def kill(self, target: str, *, back_after_s: float = 0.0) -> None:
        """SIGKILL of ``server`` or a node, and its return. Only where ``does_harm``."""
        ...

    async def stop(self, target: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later (seconds of the machine). Only where ``does_harm``."""
        ...


async def gone_or_quiet(ground: Ground, scenario: type[Scenario], *, since_us: int, quiet_s: float) -> bool:
    """Of jobs that delete their own schedules in the end: whether those are gone, or nothing has begun for so long.

    In the second case something is lost, and ``judge`` can say what; waiting longer would only hang.
    """
    runs = ground.runs()
    newest_us = max((run.start_us for run in runs), default=since_us)
    if ground.now_us() - newest_us > quiet_s * 1e6:
        return True
    return not (await ground.client.schedules(handler_id=scenario.handler_id)).schedules


class Seen(Struct, kw_only=True):
    """What was seen of a run, and what is found in it."""

    runs: list[Run]
    # Rows of the schedules' ledgers, by schedule: ``FireRecord`` (of a bare APScheduler there are none).
    fires: dict[str, list[Any]]
    # ``ExecutionRecord`` of every execution of the scenario, by id.
    executions: dict[str, Any]
    # Schedules of the scenario that are still there.
    left: list[str]
    # (Seconds since the scenario began, MiB of the scheduler's processes.)
    memory: list[tuple[float, float]] = []
    # When the scenario began, by its clock: where the x of what is drawn is zero.
    began_us: int = 0
    kept: dict[str, Any] = {}
    held: dict[str, Held] = field(default_factory=dict)
    measures: dict[str, float] = {}
    series: list[Series] = []
    graphs: list[Graph] = []

    def at_s(self, us: int) -> float:
        """A moment, in seconds since the scenario began."""
        return (us - self.began_us) / 1e6

    def mono_at_s(self, ns: int) -> float:
        """The same of a moment of the runs' monotonic clock, which has its zero by the first of them."""
        # (Rounding may make two moments one, and never the later the earlier.)
        return round(self.at_s(self.runs[0].start_us) + (ns - self.runs[0].start_ns) / 1e9, 6)

    def hold(self, name: str, ok: bool, evidence: str = "", *, of: int = 1) -> bool:
        """One look (or ``of`` of them) at an invariant; ``evidence`` says what broke it."""
        held = self.held[name]
        held.checked += of
        held.ok = ok if held.ok is None else held.ok and ok
        if not ok:
            held.broken += 1
            if len(held.evidence) < MOST_EVIDENCE:
                held.evidence.append(evidence)
        return ok

    def hold_each(self, name: str, broken: Iterable[str], *, of: int) -> None:
        """A look at ``of`` things, of which ``broken`` tells those that broke it."""
        held = self.held[name]
        held.checked += of
        if of and held.ok is None:
            held.ok = True
        for evidence in broken:
            self.hold(name, False, evidence, of=0)

    def measure(self, name: str, value: float) -> None:
        self.measures[name] = value

    def draw(self, name: str, points: Iterable[tuple[float, float]], *, x: str = "s", y: str) -> None:
        """A series, over time (``at_s``) unless ``x`` says otherwise."""
        self.series.append(Series(name, x, y, list(points)))

    def draw_dag(
        self, name: str, runs: Mapping[str, Sequence[Run]], edges: Iterable[Edge], *, overlap: bool = False
    ) -> None:
        """Steps with their runs, and which waited for which: until its end, or (``overlap``) its start."""
        self.graphs.append(graph_of(name, runs, edges, at_s=self.mono_at_s, overlap=overlap))

    def by_action(self) -> dict[str, list[Run]]:
        """The runs of each action, in the order of their starts."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.action, []).append(run)
        return found

    def by_execution(self) -> Counter[str]:
        """How often each execution was begun."""
        return Counter(run.execution_id for run in self.runs)
