"""Reports of the test bed made by hand, for tests of what is made of them."""

from __future__ import annotations

from schedule_zero.reports.record import (
    FaultWindow,
    Figures,
    Held,
    Machine,
    Measure,
    Outcome,
    ProcessFigures,
    RunReport,
    ScenarioReport,
    Series,
)
from schedule_zero.testbed.answers import answers

HOSTILE = "<script>alert('x')</script>\"&amp; ]]> \x00\x1b[31m\u202e\ud800"


def scenario(name="churn", outcome=Outcome.KEPT, **said) -> ScenarioReport:
    defaults = {
        "subject": "schedulezero",
        "asks": "What is asked?",
        "seconds": 12.5,
        "held": [Held("each_once", "each ran once", outcome is Outcome.KEPT, 40, 0 if outcome is Outcome.KEPT else 3)],
        "measures": [Measure("jobs_per_s", "jobs per second", 123.0), Measure("nothing", "no end of it", None)],
        "figures": figures(),
        "series": [
            Series("lateness", "s", "s", [(0.0, 0.01), (1.0, 0.5), (2.0, 0.02)]),
            Series("time between runs", "run", "ms", [(float(n), 10.0 + n % 3) for n in range(50)]),
            Series("memory of server and nodes", "s of the machine", "MiB", [(0.0, 180.0), (1.0, 191.5)]),
        ],
        "faults": [FaultWindow("kill", "node:n2", 0.5, 1.5), FaultWindow("stop", "server", 1.7)],
    }
    return ScenarioReport(scenario=name, outcome=outcome, **{**defaults, **said})


def figures(**said) -> Figures:
    defaults = {
        "executions": 1234,
        "failed": 7,
        "latency_avg_s": 0.0111,
        "latency_p50_s": 0.0122,
        "latency_p99_s": 0.133,
        "latency_max_s": 1.44,
        "lateness_p50_s": 0.00155,
        "lateness_p99_s": 0.166,
        "lateness_max_s": 2.77,
        "schedules_created": 345,
        "schedules_deleted": 344,
        "executions_per_s": 98.7,
        "by_node": {"n1": 617, "n2": 616},
        "processes": [
            ProcessFigures("server", 81.5, 3.25, 44.4, 9.75),
            ProcessFigures("node:n1", 61.5, 1.25, 22.2, 1.75),
        ],
    }
    return Figures(**{**defaults, **said})


def run(*scenarios: ScenarioReport, **said) -> RunReport:
    defaults = {
        "product": "0.1.0",
        "began": "2026-11-26T19:10:34+00:00",
        "seconds": 60.5,
        "mode": "realtime",
        "speedup": 1440.0,
        "seed": 7,
        "nodes": 3,
        "quick": False,
        "machine": Machine("3.11.7", "Linux 6", 2, 24_105),
        "promises": {"C1": 450, "C10": 3},
        "promises_ok": True,
    }
    report = RunReport(scenarios=list(scenarios), **{**defaults, **said})
    report.answers = answers(report)
    return report
