from __future__ import annotations

import asyncio

import psutil
import pytest

from schedule_zero.reports.record import Verdict
from schedule_zero.testbed.finding_scripts import FOLDER, NAMED, SLOW, FindingScripts, scripts

SAYS = "print('expected: a'); print('seen: b');"


@pytest.fixture
def run(tmp_path):
    """Run a script; what was found."""

    def run(code, **said):
        path = tmp_path / "it_is_so.py"
        path.write_text(code)
        found = []
        asyncio.run(FindingScripts(**said).run([path], found.append))
        assert [one.script for one in found] == [str(path)]
        return found[0]

    return run


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (SAYS + "raise SystemExit(1)", Verdict.CONFIRMED),
        (SAYS, Verdict.REFUTED),
        (SAYS + "raise SystemExit(3)", Verdict.FAILED),
        ("raise ImportError", Verdict.FAILED),
        ("import os; os.kill(os.getpid(), 9)", Verdict.FAILED),
    ],
)
def test_a_finding_is_by_how_its_script_ends(run, code, verdict):
    found = run(code)
    assert (found.name, found.verdict) == ("it_is_so", verdict)
    if verdict is not Verdict.FAILED:
        assert (found.expected, found.seen) == ("a", "b")


def test_a_script_that_hangs_is_ended_with_what_it_forked(run, tmp_path):
    found = run("import os, time; os.fork(); time.sleep(60)", limit_s=1.0)
    assert (found.verdict, found.seen) == (Verdict.FAILED, "it did not end within 1 s")
    script = str(tmp_path / "it_is_so.py")
    live = [one for one in psutil.process_iter(["cmdline", "status"]) if script in (one.info["cmdline"] or ())]
    assert [one for one in live if one.info["status"] != psutil.STATUS_ZOMBIE] == []


def test_a_quick_run_has_those_that_are_named_and_leaves_out_the_slow():
    every, quick = ({path.stem for path in scripts(quick=quick)} for quick in (False, True))
    assert every == {path.stem for path in FOLDER.glob("*.py")}
    assert every >= NAMED | SLOW
    assert quick == every - (SLOW - NAMED)
