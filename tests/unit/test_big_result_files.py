from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schedule_zero.model import AttemptOutcome
from schedule_zero.node import big_results
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


def test_results_that_fill_the_disk_make_room_for_the_next_once_they_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C13: the room for two files of 100 bytes, and three of them; nobody else frees anything."""
    folder = tmp_path / "results"
    room = 250
    real = os.write
    refused: list[int] = []

    def write(fd: int, data: memoryview) -> int:
        free = room - sum(file.stat().st_size for file in folder.iterdir())
        if not free:
            refused.append(fd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, bytes(data)[:free])

    monkeypatch.setattr(big_results, "RETRY_S", (0.01,))
    monkeypatch.setattr(os, "write", write)
    delivered: list[int] = []
    big = BigResults(folder, lambda kept: delivered.append(kept.token))
    try:
        for token in (1, 2, 3):
            big.keep(attempt(token))
            if token < 3:
                eventually_sync(lambda token=token: token in delivered)
                big.add(f"e{token}", token, 100)
        eventually_sync(lambda: len(refused) > 1)
        # What could not be written whole takes no room from the outbox.
        assert sum(file.stat().st_size for file in folder.iterdir() if file.suffix != ".new") == 200

        big.forget(1)

        eventually_sync(lambda: delivered == [1, 2, 3])
        assert sorted(file.name for file in folder.iterdir()) == ["2", "3"]
    finally:
        big.close()


def test_what_could_not_be_written_whole_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    big = BigResults(tmp_path / "results", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            big._write_file(tmp_path / "results" / "1", b"x" * 100)
    assert list((tmp_path / "results").iterdir()) == []
    big.close()


def test_two_first_results_at_once_have_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two of them ``close`` would wait for the wrong one."""
    delivered: list[int] = []
    made: list[threading.Thread] = []
    big = BigResults(tmp_path / "results", lambda kept: delivered.append(kept.token))
    real = threading.Thread
    second = real(target=big.keep, args=(attempt(2),))

    def thread(*args: Any, **kwargs: Any) -> threading.Thread:
        made.append(real(*args, **kwargs))
        if len(made) == 1:
            second.start()
            # Right: it waits until the first one has its thread. Wrong: it is through, with one of its own.
            second.join(0.1)
        return made[-1]

    monkeypatch.setattr(big_results.threading, "Thread", thread)
    big.keep(attempt(1))
    second.join()
    big.close()
    assert len(made) == 1
    assert sorted(delivered) == [1, 2]
