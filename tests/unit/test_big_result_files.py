from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schedule_zero.model import AttemptOutcome
from schedule_zero.node.big_results import BigResults
from schedule_zero.node.outcome import Outcome
from tests.support import eventually_sync


def attempt(token: int) -> Any:
    """Of an attempt only these two are looked at."""
    return SimpleNamespace(token=token, outcome=Outcome(AttemptOutcome.COMPLETED, result=b"x" * 100))


def test_a_file_that_can_not_be_deleted_does_not_keep_the_next_result_from_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered: list[int] = []
    big = BigResults(tmp_path / "results", lambda kept: delivered.append(kept.token))
    big.keep(attempt(1))
    eventually_sync(lambda: delivered == [1])
    big.add("e", 1, 100)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        big.forget(1)
        big.keep(attempt(2))
        eventually_sync(lambda: delivered == [1, 2])
    big.close()
    # The next start deletes what no record speaks of.
    assert big.size_of(1) == 100
    big.recover([2])
    assert big.size_of(1) is None
