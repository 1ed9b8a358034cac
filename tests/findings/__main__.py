"""``python -m tests.findings``: run the scripts of schedule_zero/testbed/findings and print what each found.

``--write`` brings the verdicts, "Expected" and "Seen" of the page up to date; ``--json`` prints them for the test.

Each script runs in a process of its own, forked from this one, which has imported what they need: that is most of
what they cost.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from schedule_zero.testbed.finding_scripts import judged, scripts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "apscheduler-findings.md"
SCRIPTS = scripts(quick=False)
# They sleep more than they work.
AT_ONCE = 4
LIMIT_S = 30

# As the page links to them.
FOLDER = r"\.\./\.\./schedule_zero/testbed/findings"
ROW = re.compile(rf"^(\| \[.*\| )([a-z]+)( \| \[`(\w+)\.py`\]\({FOLDER}/\4\.py\) \|)$", re.MULTILINE)
LINES = re.compile(
    r"^\* Expected: (?P<expected>.*)\n"
    rf"(?P<head>\* Seen \(\[`(?P<name>\w+)\.py`\]\({FOLDER}/(?P=name)\.py\)\): )(?P<seen>.*)$",
    re.MULTILINE,
)


class Found(NamedTuple):
    verdict: str
    expected: str
    seen: str


def run_all() -> dict[str, Found]:
    """What each script printed and how it ended, by its name."""
    import apscheduler.datastores.sqlalchemy  # noqa: F401  # before the forks, see above

    waiting, running, found = list(SCRIPTS), {}, {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            script, output = waiting.pop(0), tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed when it was read
            if (pid := os.fork()) == 0:
                _become(script, output.fileno())
            running[pid] = script, output
        pid, status = os.wait()
        script, output = running.pop(pid)
        with output:
            output.seek(0)
            finding = judged(script, os.waitstatus_to_exitcode(status), output.read())
        found[script.stem] = Found(finding.verdict.value, finding.expected, finding.seen)
    return found


def _become(script: Path, output: int) -> None:
    """Be the process ``python SCRIPT``, with its stdout going to ``output``. Does not return."""
    code = 70
    try:
        signal.alarm(LIMIT_S)
        os.dup2(output, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def said(page: str) -> dict[str, Found]:
    """What the page says of each script."""
    verdicts = {row[4]: row[2] for row in ROW.finditer(page)}
    return {
        lines["name"]: Found(verdicts.get(lines["name"], "not in the table"), lines["expected"], lines["seen"])
        for lines in LINES.finditer(page)
    }


def written(page: str, found: dict[str, Found]) -> str:
    """The page with what was found now."""
    page = ROW.sub(lambda row: f"{row[1]}{found[row[4]].verdict}{row[3]}", page)
    return LINES.sub(
        lambda now: f"* Expected: {found[now['name']].expected}\n{now['head']}{found[now['name']].seen}", page
    )


def main(options: list[str]) -> None:
    found = run_all()
    if "--json" in options:
        json.dump(found, sys.stdout)
        return
    if "--write" in options:
        PAGE.write_text(written(PAGE.read_text(), found))
    for name, (verdict, _, seen) in sorted(found.items()):
        print(f"{verdict:9}  {name}: {seen}")


if __name__ == "__main__":
    main(sys.argv[1:])
