"""What the page of findings says of APScheduler holds for the locked version; of another, what has changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.findings.__main__ import PAGE, ROW, SCRIPTS, Found, said

TEXT = PAGE.read_text(encoding="utf-8")

# All run at the first test, in one process that imports what they need: so they stay with one worker of xdist.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("findings")]


@pytest.fixture(scope="module")
def found() -> dict[str, Found]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.findings", "--json"], capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    return {name: Found(*one) for name, one in json.loads(ran.stdout).items()}


@pytest.mark.parametrize("name", [script.stem for script in SCRIPTS])
def test_a_finding_is_what_the_page_says(name: str, found: dict[str, Found]) -> None:
    """If not: `python -m tests.findings --write`, and the words around it."""
    assert found[name] == said(TEXT)[name]


def test_the_page_has_a_row_and_a_section_for_each_script_and_no_others() -> None:
    names = [script.stem for script in SCRIPTS]
    assert sorted(row[4] for row in ROW.finditer(TEXT)) == names
    assert sorted(said(TEXT)) == names
    linked = re.findall(r"\(\.\./\.\./schedule_zero/testbed/findings/(\w+)\.py\)", TEXT)
    assert sorted(set(linked)) == names


def test_the_page_names_the_version_that_is_installed() -> None:
    assert f"APScheduler {version('apscheduler')}" in TEXT


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_short(script) -> None:
    assert len(script.read_text().splitlines()) <= 60
