"""Results on disk until the server has recorded them (promises C9 and C14).

One append-only file per node. A writer thread owns it: it takes what finished since its last write, appends all
of it with one write and one fdatasync (so a lone result waits for nobody), and only then reports it durable.
What the server acknowledged is dropped; when nothing is left the file is emptied, and when it is mostly dead
weight it is rewritten. If the disk refuses, results stay in memory, the write is repeated, and the node is told.

Record: marker (4 bytes), length, CRC-32 of length and payload (both little-endian uint32), payload. The marker
begins with a byte that UTF-8 never uses, so reading can resume after damage without meeting one inside a text.
(CRC-32 as in zlib rather than CRC-32C: it is in the standard library, and as good at this size.)
"""

from __future__ import annotations

import os
import queue
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import structlog

log = structlog.get_logger(__name__)

MARKER = b"\xf5SZ1"
_HEAD = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")
MAX_RECORD = 64 << 20
# One group commit holds at most this much.
BATCH_RECORDS = 2_000
BATCH_BYTES = 8 << 20
# Housekeeping: emptied when idle, rewritten when this large and half dead.
IDLE_S = 0.5
COMPACT_BYTES = 16 << 20
RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)

T = TypeVar("T")


class Durable(NamedTuple, Generic[T]):
    """A result that is on disk now."""

    token: int
    record: bytes
    entry: T


class Recovered(NamedTuple):
    """What was found in the file at start."""

    records: list[bytes]
    # Bytes of an unfinished last record that were cut off.
    cut_bytes: int
    # Places in the middle that could not be read; the damaged file was kept aside.
    damaged: int
    quarantined: Path | None


def frame(payload: bytes) -> bytes:
    """One record as it stands in the file."""
    length = len(payload)
    return _HEAD.pack(MARKER, length, zlib.crc32(payload, zlib.crc32(_LENGTH.pack(length)))) + payload


def scan(data: bytes) -> tuple[list[tuple[int, int]], int, int]:
    """Find the good records: their (start, end) payload offsets, the end of the last one, and the damaged places.

    After damage the search goes on at the next marker, so that one bad record costs only itself.
    """
    good: list[tuple[int, int]] = []
    position = end = damaged = 0
    intact = True
    while position + _HEAD.size <= len(data):
        marker, length, checksum = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        stop = start + length
        whole = marker == MARKER and length <= MAX_RECORD and stop <= len(data)
        if whole and zlib.crc32(data[start:stop], zlib.crc32(_LENGTH.pack(length))) == checksum:
            if not intact:
                damaged += 1
                intact = True
            good.append((start, stop))
            position = end = stop
            continue
        intact = False
        following = data.find(MARKER, position + 1)
        if following < 0:
            break
        position = following
    return good, end, damaged


def recover(path: Path) -> Recovered:
    """Read the outbox at start, and leave a file of good records only. A torn tail is cut, a bad middle set aside."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Recovered([], 0, 0, None)
    spans, end, damaged = scan(data)
    records = [data[start:stop] for start, stop in spans]
    if damaged:
        # A crash in between leaves the damaged file where it was, to be treated again.
        aside = _free_name(path)
        _write_whole(aside, data)
        _write_whole(path.with_suffix(".new"), b"".join(map(frame, records)))
        path.with_suffix(".new").rename(path)
        _sync_folder(path.parent)
        return Recovered(records, len(data) - end, damaged, aside)
    if end < len(data):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, end)
            os.fsync(fd)
        finally:
            os.close(fd)
    return Recovered(records, len(data) - end, 0, None)


class Outbox(Generic[T]):
    """The writer. ``put`` from any thread; the callbacks are called in the writer's thread.

    ``on_health`` hears when the disk refuses, and None when it takes again; ``on_broken`` that the writer ended by
    an error of its own, after which nothing is written any more.
    """

    def __init__(
        self,
        path: Path,
        *,
        encode: Callable[[T], tuple[int, bytes]],
        on_durable: Callable[[list[Durable[T]]], None],
        on_health: Callable[[OSError | None], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        self._path = path
        self._encode = encode
        self._on_durable = on_durable
        self._on_health = on_health
        self._on_broken = on_broken
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._acked: deque[Iterable[int]] = deque()
        self._live: dict[int, bytes] = {}
        self._live_bytes = 0
        self._fd = -1
        self._size = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        # For /metrics and tests.
        self.commits = 0
        self.written = 0

    def open(self, token_of: Callable[[bytes], int]) -> tuple[Recovered, list[tuple[int, bytes]]]:
        """Recover, open for appending, start the thread; return what still waits for the server.

        ``token_of`` reads a payload's token; it raises ValueError for one that it can't read.
        """
        recovered = recover(self._path)
        for record in recovered.records:
            try:
                self._live[token_of(record)] = record
            except ValueError as error:
                # Sound by its checksum: written by a version that says something else.
                log.warning("outbox_record_unreadable", reason=str(error)[:200], bytes=len(record))
        self._live_bytes = sum(map(len, self._live.values()))
        created = not self._path.exists()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        if created:
            _sync_folder(self._path.parent)
        if recovered.cut_bytes:
            log.warning("outbox_tail_cut", bytes=recovered.cut_bytes, kept=len(recovered.records))
        if recovered.damaged:
            log.error(
                "outbox_damaged",
                places=recovered.damaged,
                kept=len(recovered.records),
                damaged_file=str(recovered.quarantined),
            )
        self._launch()
        return recovered, list(self._live.items())

    def _launch(self) -> None:
        """Begin to write. A simulation, which has no threads, calls ``_turn`` by itself."""
        self._thread.start()

    def put(self, entry: T) -> None:
        """Queue one result for the next group commit."""
        self._queue.put(entry)

    def ack(self, tokens: Iterable[int]) -> None:
        """The server has these. Nobody waits for it: it is noted at the writer's next turn."""
        self._acked.append(tokens)

    def close(self) -> None:
        """Write what is queued, empty the file if nothing is left in it, and end the thread. Safe to call twice."""
        self._closing.set()
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- the writer's thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence would leave a node that limps
            self._on_broken(error)

    def _write_until_closed(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            self._turn(self._next_batch())

    def _turn(self, batch: list[T]) -> None:
        if batch:
            self._commit(batch)
        self._drop_acked()
        self._tidy(idle=not batch or self._closing.is_set())

    def _next_batch(self) -> list[T]:
        """All that is queued, up to a limit; waits for the first, but not for ever while there is tidying to do."""
        batch: list[T] = []
        try:
            first = self._queue.get(timeout=IDLE_S) if self._size else self._queue.get()
            while True:
                if first is not None:
                    batch.append(first)
                if len(batch) >= BATCH_RECORDS:
                    break
                first = self._queue.get_nowait()
        except queue.Empty:
            pass
        return batch

    def _commit(self, batch: list[T]) -> None:
        position = 0
        while position < len(batch):
            durable: list[Durable[T]] = []
            chunks: list[bytes] = []
            size = 0
            while position < len(batch) and size < BATCH_BYTES:
                entry = batch[position]
                token, payload = self._encode(entry)
                framed = frame(payload)
                chunks.append(framed)
                size += len(framed)
                durable.append(Durable(token, payload, entry))
                position += 1
            if not self._write(b"".join(chunks)):
                return  # closing, and the disk still refuses: the attempts end as lost
            for item in durable:
                self._live[item.token] = item.record
                self._live_bytes += len(item.record)
            self.commits += 1
            self.written += len(durable)
            self._on_durable(durable)

    def _write(self, data: bytes) -> bool:
        """Append durably; repeat until the disk takes it. False only when closing meanwhile."""
        failures = 0
        while True:
            try:
                _write_all(self._fd, data, self._size)
                os.fdatasync(self._fd)
            except OSError as error:
                # All of it again at the same place: after a failed sync nothing is known about its pages.
                if failures == 0:
                    log.warning("outbox_unwritable", error=str(error), bytes=len(data))
                    self._on_health(error)
                delay_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                if self._closing.wait(delay_s):
                    return False
                # It may be these very records that fill the disk.
                self._drop_acked()
                self._tidy(idle=True)
                continue
            self._size += len(data)
            if failures:
                log.info("outbox_writable", after_failures=failures)
                self._on_health(None)
            return True

    def _drop_acked(self) -> None:
        while self._acked:
            for token in self._acked.popleft():
                record = self._live.pop(token, None)
                if record is not None:
                    self._live_bytes -= len(record)

    def _tidy(self, *, idle: bool) -> None:
        """Empty or rewrite the file. A failure costs nothing but space: what is dead in it is sent twice at most."""
        try:
            if not self._live and self._size and (idle or self._size > COMPACT_BYTES):
                os.ftruncate(self._fd, 0)
                self._size = 0
            elif self._size > COMPACT_BYTES and self._size > 2 * self._live_bytes:
                self._compact()
        except OSError as error:
            log.warning("outbox_not_tidied", error=str(error), bytes=self._size)

    def _compact(self) -> None:
        data = b"".join(map(frame, self._live.values()))
        fresh = self._path.with_suffix(".new")
        _write_whole(fresh, data)
        fd = os.open(fresh, os.O_RDWR | os.O_CLOEXEC)
        try:
            fresh.rename(self._path)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd
        self._size = len(data)
        _sync_folder(self._path.parent)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def _write_whole(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, data, 0)
        os.fsync(fd)
    except OSError:
        # On a disk that is full it would take up room.
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
