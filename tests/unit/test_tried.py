from __future__ import annotations

from pathlib import Path

import pytest

from tests import tried
from tests.tried import Ended, Tried


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tried, "FOLDER", tmp_path)
    return tmp_path


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, ended: bool = True, asked=tried.WHOLE) -> Path:
    path = folder / f"2026-01-0{name}.jsonl"
    monkeypatch.setenv(tried.FILE, str(path))
    tried.write(Tried(part="1", what="SIGKILL", test="t", faults=1000, jobs=2000, lost=3, failed=True))
    tried.write(Tried(part="1", what="SIGKILL", test="u", faults=1, jobs=2))
    if ended:
        tried.write(Ended(asked=list(asked), exit_code=1, passed=1, failed=1, skipped=0))
    return path


def test_a_run_that_failed_shows_what_was_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tried.page([run(folder, monkeypatch, "1T000000Z-full-1")])

    assert "| SIGKILL | 1,001 | 2,002 | 0 | 0 | 0 | 3 | 0 | 0 | FAILED |" in text
    assert "1 tests passed, 1 failed, 0 were skipped" in text


def test_a_run_that_was_killed_is_no_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = run(folder, monkeypatch, "2T000000Z-full-1", ended=False)

    with pytest.raises(ValueError, match="did not come to its end"):
        tried.page([killed])


def test_the_last_whole_run_is_one_of_everything_that_came_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="make faults"):
        tried.latest(whole=True)
    whole = run(folder, monkeypatch, "1T000000Z-full-1")
    run(folder, monkeypatch, "2T000000Z-sample-1")
    run(folder, monkeypatch, "3T000000Z-full-1", ended=False)
    last = run(folder, monkeypatch, "4T000000Z-full-1", asked=("tests/faults/test_damage.py",))

    assert tried.latest(whole=True) == whole
    assert tried.latest() == last
