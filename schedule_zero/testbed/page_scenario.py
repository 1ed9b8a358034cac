"""One scenario on the page: its outcome, what held and what did not, its figures, its plots."""

from __future__ import annotations

from itertools import pairwise

from schedule_zero.reports.record import FaultWindow, Figures, Held, Outcome, ProcessFigures, ScenarioReport, Series
from schedule_zero.testbed import plot_graph, plots
from schedule_zero.testbed.answers import duration, number
from schedule_zero.testbed.html import Html, el, join
from schedule_zero.testbed.runner import LATENESS, MACHINE_S

# In three groups, side by side.
FIGURES = (
    {
        "executions": "executions",
        "failed": "runs that failed",
        "executions_per_s": "runs per second",
        "schedules_created": "schedules created",
        "schedules_deleted": "schedules deleted",
    },
    {
        "latency_avg_s": "latency, mean",
        "latency_p50_s": "latency, median",
        "latency_p99_s": "latency, p99",
        "latency_max_s": "latency, most",
    },
    {
        "lateness_p50_s": "lateness, median",
        "lateness_p99_s": "lateness, p99",
        "lateness_max_s": "lateness, most",
    },
)
# Of a series that is not over time.
MOST_BARS = 10
PROCESS = {
    "memory_peak_mib": "peak (MiB)",
    "memory_delta_mib": "change (MiB)",
    "memory_mib_per_hour": "growth (MiB/h)",
    "cpu_s": "CPU (s)",
}


def scenario_section(one: ScenarioReport, anchor: str, *, graphs: bool) -> Html:
    clock = f", on a clock {number(one.speedup)} times as fast" if one.speedup != 1.0 else ""
    why = None
    if one.why:
        why = el("pre", one.why) if one.outcome is Outcome.FAILED else el("p", one.why)
    return el(
        "section",
        el(
            "h3",
            f"{one.scenario} on {one.subject}: ",
            el("span", one.outcome.value, class_=f"outcome {one.outcome.value}"),
        ),
        el("p", f"{one.asks} It took {duration(one.seconds)}{clock}.", class_="soft"),
        why,
        _held(one.held),
        _measures(one),
        _figures(one.figures, one.outcome),
        _processes(one.figures.processes),
        _faults(one.faults),
        el("div", *_dags(one), *_plots(one), class_="plots") if graphs else None,
        id=anchor,
        class_="scenario",
    )


def _held(held: list[Held]) -> Html | None:
    if not held:
        return None
    rows = []
    for one in held:
        word, colour = {True: ("held", "kept"), False: ("broken", "broken"), None: ("not judged", "skipped")}[one.ok]
        rows.append(
            el(
                "tr",
                el("td", word, class_=f"outcome {colour}"),
                el("td", f"{one.means} ", el("span", f"({one.name})", class_="soft"), _evidence(one)),
                el("td", number(one.checked), class_="n"),
                el("td", number(one.broken), class_="n"),
            )
        )
    head = el(
        "tr", el("th", ""), el("th", "what must hold"), el("th", "checked", class_="n"), el("th", "broken", class_="n")
    )
    return join(el("h4", "What must hold"), _table(head, rows))


def _evidence(one: Held) -> Html | None:
    if not one.evidence:
        return None
    more = one.broken - len(one.evidence)
    lines = one.evidence + ([f"… and {number(more)} more"] if more > 0 else [])
    return el("div", "\n".join(lines), class_="evidence")


def _measures(one: ScenarioReport) -> Html | None:
    if not one.measures:
        return None
    rows = [
        el(
            "tr",
            el("th", measure.name, scope="row"),
            el("td", number(measure.value), class_="n"),
            el("td", measure.means),
        )
        for measure in one.measures
    ]
    head = el("tr", el("th", "measure"), el("th", "value", class_="n"), el("th", "what it is"))
    return join(el("h4", "Measured"), _table(head, rows))


def _figures(figures: Figures, outcome: Outcome) -> Html | None:
    if outcome not in (Outcome.KEPT, Outcome.BROKEN):
        return None
    groups = []
    for names in FIGURES:
        rows = [
            el("tr", el("th", words, scope="row"), el("td", _figure(name, value), class_="n"))
            for name, words in names.items()
            if (value := getattr(figures, name)) is not None
        ]
        if rows:
            groups.append(_table(None, rows))
    return join(el("h4", "Figures"), el("div", *groups, class_="side"))


def _figure(name: str, value: float) -> str:
    in_seconds = name.endswith("_s") and not name.endswith("_per_s")
    return duration(value) if in_seconds else number(value)


def _processes(processes: list[ProcessFigures]) -> Html | None:
    if not processes:
        return None
    rows = [
        el(
            "tr",
            el("th", one.target, scope="row"),
            *(el("td", number(getattr(one, name)), class_="n") for name in PROCESS),
        )
        for one in processes
    ]
    head = el("tr", el("th", "process"), *(el("th", words, class_="n") for words in PROCESS.values()))
    return join(el("h4", "Processes"), _table(head, rows))


def _faults(faults: list[FaultWindow]) -> Html | None:
    if not faults:
        return None
    rows = [
        el(
            "tr",
            el("td", one.fault),
            el("td", one.target),
            el("td", number(one.from_s), class_="n"),
            el("td", "the end" if one.to_s is None else number(one.to_s), class_="n"),
        )
        for one in faults
    ]
    head = el(
        "tr", el("th", "fault"), el("th", "target"), el("th", "from (s)", class_="n"), el("th", "to (s)", class_="n")
    )
    return join(el("h4", "What was done to it"), _table(head, rows))


# --- plots ----------------------------------------------------------------------------------------------


def _plots(one: ScenarioReport) -> list[Html]:
    drawn = [_plot(series, one) for series in one.series]
    if one.figures.by_node:
        drawn.append(plots.bars("per node", dict(sorted(one.figures.by_node.items())), unit="runs"))
    return drawn


def _dags(one: ScenarioReport) -> list[Html]:
    return [plot_graph.dag(graph, windows=_windows(one)) for graph in one.graphs]


def _windows(one: ScenarioReport, scale: float = 1.0) -> list[plots.Window]:
    """What was done to it, in seconds of which ``scale`` are one."""
    return [
        plots.Window(f"{f.fault} of {f.target}", f.from_s / scale, None if f.to_s is None else f.to_s / scale)
        for f in one.faults
    ]


def _plot(series: Series, one: ScenarioReport) -> Html:
    """By its x: one value for each run is a distribution; all else goes over x, over time with what was done.

    Of few values of something else, each has a bar: 1, 10, 100 and 1,000 ms have no room on one axis.
    """
    if series.x == "run":
        return plots.histogram(series.name, [y for _, y in series.points], x=series.y)
    windows: list[plots.Window] = []
    if series.x in ("s", MACHINE_S):
        windows = _windows(one, one.speedup if series.x == MACHINE_S else 1.0)
    elif len(series.points) <= MOST_BARS:
        by_x = {f"{plots.label(x)} {series.x}": y for x, y in series.points}
        if len(by_x) == len(series.points):
            return plots.bars(series.name, by_x, unit=series.y)
    rising = all(before[0] < after[0] for before, after in pairwise(series.points))
    draw = plots.lines if rising and series.name != LATENESS else plots.scatter
    return draw(series.name, series.points, x=series.x, y=series.y, windows=windows)


def _table(head: Html | None, rows: list[Html]) -> Html:
    return el("div", el("table", el("thead", head) if head else None, el("tbody", *rows)), class_="wide")
