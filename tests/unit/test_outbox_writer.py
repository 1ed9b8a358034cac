from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schedule_zero.node import outbox as module
from schedule_zero.node.outbox import Durable, Outbox, recover
from tests.support import eventually_sync

Entry = tuple[int, bytes]


class Box:
    """An outbox with a log of what it reported."""

    def __init__(self, path: Path) -> None:
        self.durable: list[Durable[Entry]] = []
        self.batches: list[int] = []
        self.health: list[OSError | None] = []
        self.broken: list[Exception] = []
        self.outbox: Outbox[Entry] = Outbox(
            path,
            encode=lambda entry: entry,
            on_durable=self._on_durable,
            on_health=self.health.append,
            on_broken=self.broken.append,
        )
        self.recovered, self.waiting = self.outbox.open(lambda record: int(record.split(b":")[0]))

    def _on_durable(self, items: list[Durable[Entry]]) -> None:
        self.batches.append(len(items))
        self.durable.extend(items)

    def put(self, *tokens: int, size: int = 10) -> None:
        for token in tokens:
            self.outbox.put((token, b"%d:" % token + b"x" * size))

    def tokens(self) -> list[int]:
        return [item.token for item in self.durable]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], Box]]:
    boxes: list[Box] = []

    def one() -> Box:
        boxes.append(Box(tmp_path / "outbox"))
        return boxes[-1]

    yield one
    for box in boxes:
        box.outbox.close()


def on_disk(tmp_path: Path) -> list[int]:
    return [int(record.split(b":")[0]) for record in recover(tmp_path / "outbox").records]


def test_a_result_is_on_disk_before_it_is_reported_durable(make: Callable[[], Box], tmp_path: Path) -> None:
    seen: list[list[int]] = []
    box = make()
    report = box._on_durable
    box.outbox._on_durable = lambda items: (seen.append(on_disk(tmp_path)), report(items))  # type: ignore[assignment]
    box.put(1)
    eventually_sync(lambda: box.tokens() == [1])
    box.put(2)
    eventually_sync(lambda: box.tokens() == [1, 2])
    assert seen == [[1], [1, 2]]


def test_results_survive_a_process_that_ends_without_a_word(make: Callable[[], Box], tmp_path: Path) -> None:
    box = make()
    box.put(1, 2, 3)
    eventually_sync(lambda: box.tokens() == [1, 2, 3])
    # Nothing is closed: as after a SIGKILL, the next process finds what is in the file.
    again = make()
    assert [token for token, _ in again.waiting] == [1, 2, 3]
    again.put(4)
    eventually_sync(lambda: again.tokens() == [4])
    assert on_disk(tmp_path) == [1, 2, 3, 4]


def test_what_is_queued_together_is_committed_together(make: Callable[[], Box]) -> None:
    box = make()
    release = threading.Event()
    held = threading.Event()
    encode = box.outbox._encode

    def slow_first(entry: Entry) -> Entry:
        if entry[0] == 1:
            held.set()
            release.wait(10)
        return encode(entry)

    box.outbox._encode = slow_first
    box.put(1)
    held.wait(10)
    box.put(*range(2, 502))
    release.set()
    eventually_sync(lambda: len(box.durable) == 501)
    assert len(box.batches) <= 3
    assert box.tokens() == list(range(1, 502))


def test_the_file_is_emptied_when_everything_is_acknowledged(make: Callable[[], Box], tmp_path: Path) -> None:
    box = make()
    box.put(1, 2)
    eventually_sync(lambda: box.tokens() == [1, 2])
    box.outbox.ack([1])
    box.outbox.ack([2])
    eventually_sync(lambda: (tmp_path / "outbox").stat().st_size == 0)
    box.put(3)
    eventually_sync(lambda: box.tokens() == [1, 2, 3])
    assert on_disk(tmp_path) == [3]


def test_closing_leaves_only_what_the_server_does_not_have(make: Callable[[], Box], tmp_path: Path) -> None:
    box = make()
    box.put(1)
    eventually_sync(lambda: box.tokens() == [1])
    box.outbox.ack([1])
    box.outbox.close()
    box.outbox.close()
    assert (tmp_path / "outbox").stat().st_size == 0
    box = make()
    box.put(2)
    box.outbox.close()
    assert on_disk(tmp_path) == [2]


def test_a_large_file_that_is_mostly_dead_is_rewritten(
    make: Callable[[], Box], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 10_000)
    box = make()
    box.put(*range(1, 101), size=200)
    eventually_sync(lambda: len(box.durable) == 100)
    box.outbox.ack(range(1, 99))
    box.put(101)
    eventually_sync(lambda: (tmp_path / "outbox").stat().st_size < 2_000)
    box.put(102)
    eventually_sync(lambda: len(box.durable) == 102)
    assert on_disk(tmp_path) == [99, 100, 101, 102]


@contextmanager
def broken_disk(monkeypatch: pytest.MonkeyPatch, call: str, error: int, *, torn: bool = False) -> Iterator[None]:
    real_write = os.pwrite

    def fail(*args: object) -> int:
        if torn and call == "pwrite":
            fd, data, offset = args
            real_write(fd, bytes(data)[:5], offset)  # type: ignore[arg-type,call-overload]
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        patch.setattr(module, "RETRY_S", (0.01,))
        yield


@pytest.mark.parametrize(("call", "error"), [("pwrite", errno.ENOSPC), ("fdatasync", errno.EIO)])
def test_a_disk_that_refuses_keeps_results_in_memory_until_it_takes_them(
    make: Callable[[], Box], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    box = make()
    box.put(1)
    eventually_sync(lambda: box.tokens() == [1])
    with broken_disk(monkeypatch, call, error, torn=True):
        box.put(2, 3)
        eventually_sync(lambda: box.health)
        box.put(4)
        assert box.tokens() == [1]
        assert box.health[0] is not None
        assert box.health[0].errno == error
    eventually_sync(lambda: box.tokens() == [1, 2, 3, 4])
    assert box.health[1:] == [None]
    assert on_disk(tmp_path) == [1, 2, 3, 4]


def test_closing_does_not_wait_for_a_disk_that_refuses(
    make: Callable[[], Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = make()
    with broken_disk(monkeypatch, "pwrite", errno.ENOSPC):
        box.put(1)
        eventually_sync(lambda: box.health)
        box.outbox.close()
    assert box.tokens() == []


def test_the_outbox_is_private(make: Callable[[], Box], tmp_path: Path) -> None:
    make()
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o600


def test_an_error_of_the_writer_itself_is_reported_not_swallowed(make: Callable[[], Box]) -> None:
    box = make()

    def fail(entry: Entry) -> Entry:
        raise AssertionError("a defect")

    box.outbox._encode = fail
    box.put(1)
    eventually_sync(lambda: box.broken)
    assert str(box.broken[0]) == "a defect"


def test_a_file_that_can_not_be_put_into_place_is_not_kept_open(
    make: Callable[[], Box], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again with each result: files that stay open would be as many."""
    monkeypatch.setattr(module, "COMPACT_BYTES", 10_000)
    box = make()
    box.put(*range(1, 101), size=200)
    eventually_sync(lambda: len(box.durable) == 100)
    box.outbox.ack(range(1, 99))
    tries: list[Path] = []

    def fail(path: Path, _: Path) -> None:
        tries.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        for token in range(101, 106):
            box.put(token)
            eventually_sync(lambda token=token: token in box.tokens())
        eventually_sync(lambda: len(tries) >= 5)
        # The one that is written to, and at most one that is being tried.
        assert len([fd for fd in Path("/proc/self/fd").iterdir() if names(fd, tmp_path)]) <= 2
    eventually_sync(lambda: len(on_disk(tmp_path)) == 7)
    assert not box.broken


def names(fd: Path, folder: Path) -> bool:
    try:
        return fd.readlink().is_relative_to(folder)
    except FileNotFoundError:
        return False


def test_an_outbox_that_fills_the_disk_with_what_is_acknowledged_frees_itself(
    make: Callable[[], Box], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C13: the disk takes no more than the first record; it was acknowledged while the second one waited."""
    box = make()
    box.put(1, size=200)
    eventually_sync(lambda: box.tokens() == [1])
    real = os.pwrite

    def small(fd: int, data: memoryview, offset: int) -> int:
        if offset + len(data) > 300:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(module, "RETRY_S", (0.01,))
    monkeypatch.setattr(os, "pwrite", small)
    box.put(2, size=200)
    eventually_sync(lambda: box.health)
    assert box.tokens() == [1]

    box.outbox.ack([1])

    eventually_sync(lambda: box.tokens() == [1, 2])
    assert on_disk(tmp_path) == [2]
    assert box.health[-1] is None


def test_a_file_beside_the_outbox_that_could_not_be_written_whole_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            module._write_whole(tmp_path / "outbox.new", b"x" * 100)
    assert list(tmp_path.iterdir()) == []
