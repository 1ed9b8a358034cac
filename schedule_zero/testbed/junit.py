"""The report as JUnit XML, for whatever shows test results: a suite for each subject, a case for each scenario."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from schedule_zero.reports.record import Finding, Outcome, RunReport, ScenarioReport, Verdict
from schedule_zero.testbed.html import clean


def junit(report: RunReport) -> str:
    """Broken: a failure with the evidence. Failed: an error. What the checker found is a case of its own."""
    root = ET.Element("testsuites", name="schedule-zero-testbed")
    for subject in dict.fromkeys(one.subject for one in report.scenarios):
        mine = [one for one in report.scenarios if one.subject == subject]
        suite = _suite(subject, mine, report)
        for one in mine:
            _case(suite, one)
        root.append(suite)
    if report.promises_ok is not None:
        root.append(_promises(report))
    if report.findings:
        root.append(_findings(report.findings))
    ET.indent(root)
    # Of what is left, all prints: nothing that XML could not hold.
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(subject: str, mine: Sequence[ScenarioReport], report: RunReport) -> ET.Element:
    def count(outcome: Outcome) -> str:
        return str(sum(one.outcome is outcome for one in mine))

    suite = ET.Element(
        "testsuite",
        name=clean(subject),
        tests=str(len(mine)),
        failures=count(Outcome.BROKEN),
        errors=count(Outcome.FAILED),
        skipped=count(Outcome.SKIPPED),
        time=f"{sum(one.seconds for one in mine):.3f}",
        timestamp=clean(report.began),
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("product", "mode", "seed", "nodes", "quick"):
        ET.SubElement(properties, "property", name=name, value=clean(str(getattr(report, name))))
    return suite


def _case(suite: ET.Element, one: ScenarioReport) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=clean(f"testbed.{one.subject}"),
        name=clean(one.scenario),
        time=f"{one.seconds:.3f}",
    )
    why = clean(one.why)
    if one.outcome is Outcome.SKIPPED:
        ET.SubElement(case, "skipped", message=why)
    elif one.outcome is Outcome.FAILED:
        ET.SubElement(case, "error", message=why.partition("\n")[0], type=one.outcome.value).text = why
    elif one.outcome is Outcome.BROKEN:
        failure = ET.SubElement(case, "failure", message=why.partition("\n")[0], type=one.outcome.value)
        failure.text = clean("\n".join(_evidence(one)))
    measured = [f"{measure.name}: {'none' if measure.value is None else measure.value}" for measure in one.measures]
    if measured:
        ET.SubElement(case, "system-out").text = clean("\n".join(measured))


def _evidence(one: ScenarioReport) -> list[str]:
    lines: list[str] = []
    for held in one.held:
        if held.ok is None:
            lines.append(f"{held.name} ({held.means}): nothing was seen of it")
        elif not held.ok:
            lines.append(f"{held.name} ({held.means}): {held.broken} of {held.checked}")
            lines += [f"  {line}" for line in held.evidence]
    return lines


def _findings(findings: Sequence[Finding]) -> ET.Element:
    """A case each; one that is confirmed is a failure of APScheduler's."""
    suite = ET.Element(
        "testsuite",
        name="findings about apscheduler",
        tests=str(len(findings)),
        failures=str(sum(one.verdict is Verdict.CONFIRMED for one in findings)),
        errors=str(sum(one.verdict is Verdict.FAILED for one in findings)),
    )
    for one in findings:
        case = ET.SubElement(
            suite, "testcase", classname="testbed.findings", name=clean(one.name), time=f"{one.seconds:.3f}"
        )
        if one.verdict is Verdict.REFUTED:
            continue
        tag = "failure" if one.verdict is Verdict.CONFIRMED else "error"
        bad = ET.SubElement(case, tag, message=clean(one.seen), type=one.verdict.value)
        bad.text = clean(f"expected: {one.expected}\nseen: {one.seen}\nreproduced by: {one.script}")
    return suite


def _promises(report: RunReport) -> ET.Element:
    """The checker's verdict on the run as a whole."""
    breaches = sum(report.breaches.values())
    suite = ET.Element("testsuite", name="checker", tests="1", failures=str(int(not report.promises_ok)), errors="0")
    case = ET.SubElement(suite, "testcase", classname="testbed.checker", name="promises")
    if not report.promises_ok:
        failure = ET.SubElement(case, "failure", message=f"{breaches} breaches", type="broken")
        counted = [f"{times} × {name}" for name, times in sorted(report.breaches.items())]
        failure.text = clean("\n".join([*counted, *report.violations]))
    return suite
