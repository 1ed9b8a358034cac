"""``python -m tests.mutants [NAME…]``: apply each seeded bug to a scratch copy, and see whether a test notices.

The tests run unchanged first: where one fails then, a bug that makes it fail shows nothing. What was found is written
to ``var/faults/mutants.json``; with ``--table`` the page in the docs is written anew, which needs a complete run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "var" / "faults" / "mutants.json"
PAGE = ROOT / "docs" / "explanation" / "seeded-bugs.md"
# A bug may well make a test hang instead of fail.
LIMIT_S = 300
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::\S+?)(?:\[.*\])?(?: - .*)?$", re.MULTILINE)
# What pytest's exit code says.
PASSED, TESTS_FAILED = 0, 1


@dataclass(frozen=True)
class Verdict:
    name: str
    caught: bool
    # The test that noticed; or what happened instead.
    by: str
    seconds: float


def scratch_copy(folder: Path) -> Path:
    """All that git knows of, as it stands in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    copy = folder / "copy"
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return copy


def apply(mutant: Mutant, copy: Path) -> None:
    """Put the bug in."""
    path = copy / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.name}: what it changes stands {text.count(mutant.old)} times in {mutant.file}, not once"
        )
    path.write_text(text.replace(mutant.old, mutant.new))


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and output, of the copy's product and tests; it ends at the first failure."""
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-rfEs", *tests]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=copy, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            code = -1
        output.seek(0)
        return code, output.read().decode(errors="replace")


def try_out(mutant: Mutant) -> Verdict:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sz-mutant-") as folder:
        copy = scratch_copy(Path(folder))
        apply(mutant, copy)
        for test in mutant.tests:
            code, output = run_tests(copy, [test])
            seconds = time.perf_counter() - began
            if code == TESTS_FAILED:
                found = _FAILED.search(output)
                return Verdict(mutant.name, True, found[1] if found else test, seconds)
            if code == -1:
                return Verdict(mutant.name, True, f"{test} (does not end)", seconds)
            if code != PASSED:
                return Verdict(
                    mutant.name, False, f"{test} could not run (pytest says {code}): {output[-300:]}", seconds
                )
    return Verdict(mutant.name, False, "nothing", time.perf_counter() - began)


def without_bug(mutants: Sequence[Mutant]) -> None:
    """All these tests pass on the product as it is."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with tempfile.TemporaryDirectory(prefix="sz-mutant-") as folder:
        code, output = run_tests(scratch_copy(Path(folder)), tests)
    if skipped := re.findall(r"^SKIPPED .*$", output, re.MULTILINE):
        raise SystemExit("a test that is skipped notices nothing:\n" + "\n".join(skipped))
    if code != PASSED:
        raise SystemExit(f"without any bug these tests should pass, and don't (pytest says {code}):\n{output[-4000:]}")


def page(verdicts: Sequence[Verdict]) -> str:
    """The table of the docs."""
    by_name = {verdict.name: verdict for verdict in verdicts}
    lines = [
        "# Seeded bugs",
        "",
        "A test suite that can't fail shows nothing. `make mutants` puts each of these bugs into a scratch copy, one",
        "at a time, and runs the tests that have to notice; a bug that nothing notices is a failure of the suite. The",
        "bugs stand in `tests/mutants/catalogue.py`; this page is written by a complete run",
        "(`make mutants ARGS=--table`).",
        "",
        f"{sum(v.caught for v in verdicts)} of {len(verdicts)} were caught in the last run.",
        "",
        "| bug | breaks | what somebody might do by mistake | the test that noticed |",
        "| --- | --- | --- | --- |",
    ]
    for mutant in MUTANTS:
        verdict = by_name[mutant.name]
        caught = f"`{verdict.by}`" if verdict.caught else "**nothing**"
        lines.append(f"| {mutant.name} | {mutant.promises} | {mutant.what} | {caught} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--table", action="store_true", help=f"write {PAGE.relative_to(ROOT)} anew")
    parser.add_argument("--list", action="store_true", help="name them, and run nothing")
    options = parser.parse_args()
    console = Console()
    unknown = set(options.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such seeded bug: {', '.join(sorted(unknown))}; --list names them")
    mutants = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if options.list:
        for mutant in mutants:
            console.print(f"{mutant.name:34} {mutant.promises:10} {mutant.what}", highlight=False)
        return 0
    if options.table and options.names:
        parser.error("--table needs a run of all of them")
    without_bug(mutants)
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for verdict in pool.map(try_out, mutants):
            verdicts.append(verdict)
            word = "[green]caught[/green]" if verdict.caught else "[red]not caught[/red]"
            console.print(f"{word}  {verdict.name}  {verdict.by}  ({verdict.seconds:.0f} s)", highlight=False)
    REPORT.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    REPORT.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    table = Table("seeded bugs", "caught", "not caught")
    caught = sum(verdict.caught for verdict in verdicts)
    table.add_row(str(len(verdicts)), str(caught), str(len(verdicts) - caught))
    console.print(table)
    if options.table:
        PAGE.write_text(page(verdicts))
    return 0 if caught == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
