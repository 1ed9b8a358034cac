"""The report as one HTML page: the verdict first, then what it rests on. No script, no request to anywhere.

Every figure is the report's; every text in it is shown as text (``html.el``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from schedule_zero.reports.record import OURS, Finding, Outcome, RunReport, ScenarioReport, Verdict
from schedule_zero.testbed.answers import duration, first_line, number
from schedule_zero.testbed.html import Html, el, join
from schedule_zero.testbed.junit import junit
from schedule_zero.testbed.page_scenario import scenario_section

PAGE, JUNIT = "report.html", "junit.xml"
CSS = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_pages(report: RunReport, folder: Path, *, graphs: bool = True) -> list[Path]:
    """``report.html`` and ``junit.xml``, made of the report; where they are."""
    written = []
    for name, content in ((PAGE, page(report, graphs=graphs)), (JUNIT, junit(report))):
        path = folder / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written


def page(report: RunReport, *, graphs: bool = True) -> str:
    """The whole page. ``graphs`` False leaves the plots out."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Test bed: {verdict(report)}"),
        # Our own file; an element of this kind takes its content as it is.
        el("style", Html(CSS.read_text(encoding="utf-8"))),
    )
    body = el(
        "body",
        el("h1", f"ScheduleZero test bed, {moment(report.began)}"),
        el("p", verdict(report), class_=f"verdict {_colour(report)}"),
        el("p", _settings_sentence(report), class_="soft"),
        _overview(report.scenarios),
        _answers(report),
        _checker(report),
        _findings(report.findings),
        *(scenario_section(one, anchor(one), graphs=graphs) for one in report.scenarios),
        _machine(report),
    )
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def verdict(report: RunReport) -> str:
    """The run in a sentence."""
    played = [one for one in report.judged if one.outcome is not Outcome.SKIPPED]
    bad = [one for one in played if one.outcome is not Outcome.KEPT]
    said: list[str] = []
    if not played:
        said.append("Nothing was run")
    elif bad:
        names = ", ".join(dict.fromkeys(one.scenario for one in bad))
        said.append(f"{len(bad)} of {len(played)} scenarios did not hold: {names}")
    else:
        said.append(f"Everything held in {len(played)} of {len(played)} scenarios")
    if report.promises_ok is False:
        said.append(f"the checker found {sum(report.breaches.values())} breaches of promises")
    elif report.promises_ok:
        said.append("and the checker found no promise broken" if not bad else "the checker found no promise broken")
    if report.interrupted:
        said.append("the run was interrupted")
    sentence = ("; " if bad or report.promises_ok is False or report.interrupted else ", ").join(said) + "."
    return " ".join([sentence, *_beside(report)])


def _beside(report: RunReport) -> list[str]:
    """What is to be said of the bare APScheduler, where it is not what the run stands or falls by; and our findings."""
    said = []
    beside = [one for one in report.scenarios if one not in report.judged and one.outcome is not Outcome.SKIPPED]
    if beside:
        bad = sum(one.outcome is not Outcome.KEPT for one in beside)
        said.append(f"Of a bare APScheduler {bad} of {len(beside)} did not hold.")
    if report.findings:
        confirmed = sum(one.verdict is Verdict.CONFIRMED for one in report.findings)
        said.append(f"Of {len(report.findings)} findings about APScheduler {confirmed} are confirmed.")
    return said


def moment(began: str) -> str:
    """A moment of a report, to the minute; as it stands there, if it is none."""
    try:
        return f"{datetime.fromisoformat(began).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return began


def anchor(one: ScenarioReport) -> str:
    return f"{one.scenario}-{one.subject}"


def _colour(report: RunReport) -> str:
    if not report.ok:
        return "broken"
    return "kept" if any(one.outcome is Outcome.KEPT for one in report.scenarios) else "skipped"


def _settings_sentence(report: RunReport) -> str:
    quick = "A quick run" if report.quick else "A run"
    ours = any(one.subject == OURS for one in report.scenarios)
    where = f" on {report.nodes} nodes" if ours or not report.scenarios else ""
    return (
        f"{quick} of {duration(report.seconds)}{where}, seed {report.seed}, version"
        f" {report.product}; {report.machine.cores} cores, {number(report.machine.memory_mib)} MiB of memory."
    )


def _overview(reports: Sequence[ScenarioReport]) -> Html:
    """Scenarios × subjects."""
    if not reports:
        return el("p", "There is no scenario in this report.")
    subjects = list(dict.fromkeys(one.subject for one in reports))
    found = {(one.scenario, one.subject): one for one in reports}
    rows = []
    for name in dict.fromkeys(one.scenario for one in reports):
        asks = next(one.asks for one in reports if one.scenario == name)
        cells = [_outcome_cell(found.get((name, subject))) for subject in subjects]
        rows.append(el("tr", el("th", name, el("span", asks, class_="soft"), scope="row"), *cells))
    head = el("tr", el("th", "scenario"), *(el("th", subject) for subject in subjects))
    return join(el("h2", "Scenarios"), _table(head, rows))


def _outcome_cell(one: ScenarioReport | None) -> Html:
    if one is None:
        return el("td", "–", class_="soft")
    link = el("a", one.outcome.value, href=f"#{anchor(one)}", class_=f"outcome {one.outcome.value}")
    why = first_line(one.why)
    if not why and one.measures:
        why = f"{one.measures[0].name} {number(one.measures[0].value)}"
    return el("td", link, el("span", why, class_="soft why") if why else None)


def _answers(report: RunReport) -> Html:
    if not report.answers:
        return join()
    subjects = list(dict.fromkeys(one.subject for one in report.answers))
    parts = []
    for subject in subjects:
        items: list[Html] = []
        for one in report.answers:
            if one.subject == subject:
                source = f" ({one.from_scenario})" if one.from_scenario else ""
                items += [el("dt", one.question), el("dd", one.answer, el("span", source, class_="soft"))]
        parts += [el("h3", subject) if len(subjects) > 1 else None, el("dl", *items)]
    return join(el("h2", "Six questions"), *parts)


def _checker(report: RunReport) -> Html:
    """What was concluded from outside, from the jobs' ledger, the faults and the store."""
    if report.promises_ok is None:
        why = "the store was not the test bed's own, or the run did not come so far"
        if not any(one.subject == OURS for one in report.scenarios):
            why = "it knows ScheduleZero's store only"
        said = [el("p", f"It did not judge this run: {why}.")]
    else:
        count = sum(report.breaches.values())
        said = [el("p", "No promise was found broken." if report.promises_ok else f"{number(count)} breaches.")]
    rows = [
        el(
            "tr",
            el("th", name, scope="row"),
            el("td", number(times), class_="n"),
            el("td", _breaches_of(name, report), class_="n"),
        )
        for name, times in sorted(report.promises.items(), key=_by_number)
    ]
    if rows:
        head = el("tr", el("th", "promise"), el("th", "checked on so many", class_="n"), el("th", "broken", class_="n"))
        said.append(_table(head, rows, class_="narrow"))
        said.append(el("p", "What C1, C2, … are stands in docs/explanation/guarantees.md.", class_="soft"))
    if report.violations:
        said.append(el("div", "\n".join(report.violations), class_="evidence"))
    said += [el("p", f"Note: {note}", class_="soft") for note in report.notes]
    return join(el("h2", "The checker"), *said)


def _findings(findings: Sequence[Finding]) -> Html:
    """What scripts showed about APScheduler."""
    if not findings:
        return join()
    colours = {Verdict.CONFIRMED: "broken", Verdict.REFUTED: "kept", Verdict.FAILED: "broken"}
    rows = [
        el(
            "tr",
            el("td", one.verdict.value, class_=f"outcome {colours[one.verdict]}"),
            el("th", one.name.replace("_", " "), el("span", one.script, class_="soft why"), scope="row"),
            el("td", one.expected),
            el("td", one.seen),
        )
        for one in findings
    ]
    head = el("tr", el("th", ""), el("th", "finding, and what reproduces it"), el("th", "expected"), el("th", "seen"))
    where = "What each is about, and what an application can do, stands in docs/explanation/apscheduler-findings.md."
    return join(el("h2", "Findings about APScheduler"), el("p", where, class_="soft"), _table(head, rows))


def _breaches_of(promise: str, report: RunReport) -> str:
    return number(sum(times for name, times in report.breaches.items() if name.partition(" ")[0] == promise))


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    digits = item[0][1:]
    return (int(digits) if digits.isdecimal() and len(digits) < 10 else 0, item[0])


def _machine(report: RunReport) -> Html:
    machine = report.machine
    rows = {
        "version": report.product,
        "began": report.began,
        "lasted": duration(report.seconds),
        "mode": report.mode,
        "speedup of the fast clock": number(report.speedup),
        "seed": str(report.seed),
        "nodes": str(report.nodes),
        "quick": "yes" if report.quick else "no",
        "Python": machine.python,
        "system": machine.system,
        "cores": str(machine.cores),
        "memory": f"{number(machine.memory_mib)} MiB",
        "parameters": json.dumps({anchor(one): one.params for one in report.scenarios}, ensure_ascii=False),
    }
    body = [el("tr", el("th", name, scope="row"), el("td", value)) for name, value in rows.items()]
    return join(el("h2", "Machine and settings"), _table(None, body))


def _table(head: Html | None, rows: Sequence[Html], class_: str | None = None) -> Html:
    return el("div", el("table", el("thead", head) if head else None, el("tbody", *rows), class_=class_), class_="wide")
