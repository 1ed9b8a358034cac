"""The log of one attempt while it runs: what its job says, from any thread, made into chunks of whole lines.

Saying something has to be cheap, for the job waits for it: a text is put beside those of the same stream and the same
millisecond, and no more. Making lines of them (``_settle``) is done for all of them at once, by the thread that sends
logs (``take``), or by the one that ends the attempt (``end``).

**States.** *open*: takes what is said. *over*: has as many bytes as it may; a line says so, and what follows is left
out, but for its end, which is kept (that is where a traceback stands). *ended*: its last lines are in; it takes
nothing any more, and what its job's threads still say goes where it would without a job.
A line without its end waits for the rest of it until the attempt ends, or until it is too long for one line.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from schedule_zero.wire.log_lines import code_of, lines_of
from schedule_zero.wire.messages import MAX_LOG_CHUNK, LogChunk

# What is said within this time has the same time.
TICK_S = 0.001
# A longer text is taken in parts.
MAX_TEXT = 256 << 10
# A longer line is cut into several.
MAX_LINE = 16 << 10
# So much of the end of a log that is too long is kept.
TAIL_CHARS = 64 << 10
# What that may take as lines.
END_BYTES = 2 << 20

_NODE = code_of("node", "warning")


class Book(Protocol):
    """Who takes what the logs have."""

    # There is no room: what is said is to be left out.
    full: bool

    def touch(self, log: AttemptLog) -> None:
        """This one has something to take."""
        ...


class AttemptLog:
    """``write`` from any thread, ``take`` and ``end`` from one at a time."""

    __slots__ = (
        "_book",
        "_byte",
        "_code",
        "_filled",
        "_left_out",
        "_limit",
        "_line",
        "_lock",
        "_missing",
        "_mono_s",
        "_partial",
        "_pieces",
        "_raw",
        "_runs",
        "_said",
        "_tail",
        "_tail_size",
        "_told_full",
        "_total",
        "_until_s",
        "_wall_us",
        "dirty",
        "ended",
        "execution_id",
        "lines",
        "token",
    )

    def __init__(
        self,
        execution_id: str,
        token: int,
        *,
        limit: int,
        mono_s: Callable[[], float],
        wall_us: Callable[[float], int],
        book: Book,
    ) -> None:
        self.execution_id = execution_id
        self.token = token
        # The book was told that there is something to take.
        self.dirty = False
        self.ended = False
        # Lines so far, whole ones.
        self.lines = 0
        self._book = book
        self._limit = limit
        self._mono_s = mono_s
        self._wall_us = wall_us
        self._lock = threading.Lock()
        # What was said since the last ``_settle``: (code, when, texts).
        self._runs: list[tuple[str, float, list[str]]] = []
        self._pieces: list[str] = []
        self._code = ""
        self._until_s = 0.0
        # Characters said; a first bound, the bytes are counted when they are known.
        self._said = 0
        self._filled = False
        # The beginning of a line, by stream.
        self._partial: dict[str, tuple[float, str]] = {}
        # Encoded lines that were not taken yet, and where they begin.
        self._raw: list[bytes] = []
        self._line = 0
        self._byte = 0
        self._total = 0
        self._left_out = 0
        # Of those, what the server was not told yet.
        self._missing = 0
        self._told_full = False
        self._tail: deque[tuple[str, float, str]] = deque()
        self._tail_size = 0

    def write(self, code: str, text: str) -> bool:
        """Take what was said. False: this log has ended."""
        if len(text) > MAX_TEXT:
            # All at once, the steps below would keep every other thread of the node waiting.
            return all(self._write(code, text[at : at + MAX_TEXT]) for at in range(0, len(text), MAX_TEXT))
        return self._write(code, text)

    def _write(self, code: str, text: str) -> bool:
        now_s = self._mono_s()
        with self._lock:
            if self.ended:
                return False
            if not self.dirty:
                self.dirty = True
                self._book.touch(self)
            if self._filled or self._book.full:
                self._leave_out(code, now_s, text, full=self._book.full)
                return True
            self._said += len(text)
            if code == self._code and now_s < self._until_s:
                self._pieces.append(text)
            else:
                if self._told_full:
                    self._settle()
                    self._say_left_out(now_s)
                self._code, self._until_s, self._pieces = code, now_s + TICK_S, [text]
                self._runs.append((code, now_s, self._pieces))
            if self._said > self._limit:
                # It is full, but how many of these lines still fit is known only of their bytes.
                self._settle()
            return True

    def flush(self) -> None:
        """There is nothing to do: what was said is on its way, and what is no whole line has to wait for its end."""

    def end(self) -> int:
        """The attempt is over: what was left unfinished becomes lines. How many lines there are in all."""
        with self._lock:
            if not self.ended:
                self._settle()
                now_s = self._mono_s()
                self._flush_partial()
                if self._left_out:
                    self._say_left_out(now_s)
                self.ended = True
            return self.lines

    def take(self) -> list[LogChunk]:
        """What there is to send, in chunks whose bodies are not packed yet; the last one after the end says so."""
        with self._lock:
            self.dirty = False
            self._settle()
            ended = self.ended
            raw, self._raw = b"".join(self._raw), []
            line, byte = self._line, self._byte
            self._line, self._byte = self.lines, byte + len(raw)
            missing, self._missing = self._missing, 0
        chunks: list[LogChunk] = []
        start = 0
        while start < len(raw):
            stop = len(raw)
            if stop - start > MAX_LOG_CHUNK:
                stop = raw.rindex(b"\n", start, start + MAX_LOG_CHUNK) + 1
            count = raw.count(b"\n", start, stop)
            chunks.append(self._chunk(line, byte, count, raw[start:stop]))
            line += count
            byte += stop - start
            start = stop
        if ended and not chunks:
            chunks.append(self._chunk(line, byte, 0, b""))
        if chunks:
            chunks[-1].last = ended
            chunks[-1].left_out = missing
        return chunks

    def _chunk(self, line: int, byte: int, lines: int, raw: bytes) -> LogChunk:
        return LogChunk(
            id=self.execution_id, token=self.token, line=line, byte=byte, lines=lines, bytes=len(raw), body=raw
        )

    # --- under the lock ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Make lines of what was said."""
        runs, self._runs = self._runs, []
        self._code = ""
        for code, at_s, pieces in runs:
            self._add(code, at_s, "".join(pieces))

    def _add(self, code: str, at_s: float, text: str) -> None:
        if self._filled:
            self._leave_out(code, at_s, text)
            return
        if "\r" in text:
            # What a progress bar writes over is a line here.
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        begun = self._partial.pop(code, None)
        if begun is not None:
            first, end, text = text.partition("\n")
            first = begun[1] + first
            if not end:
                self._wait(code, begun[0], first)
                return
            self._emit(code, begun[0], first)
        whole, end, rest = text.rpartition("\n")
        if end:
            self._emit(code, at_s, whole)
        if rest:
            self._wait(code, at_s, rest)

    def _wait(self, code: str, at_s: float, text: str) -> None:
        """``text`` has no end yet."""
        if len(text) > MAX_LINE:
            keep = len(text) % MAX_LINE or MAX_LINE
            self._emit(code, at_s, text[:-keep])
            text = text[-keep:]
        if not self._filled:
            self._partial[code] = (at_s, text)

    def _emit(self, code: str, at_s: float, text: str) -> None:
        """Whole lines, the last without its line feed."""
        if _has_long_line(text):
            text = "\n".join(_cut(text))
        encoded = lines_of(self._wall_us(at_s), code, text)
        room = self._limit - self._total
        if len(encoded) > room and not self._filled:
            fits = encoded.rfind(b"\n", 0, max(0, room)) + 1
            self._put(encoded[:fits])
            self._fill(at_s)
            count = encoded.count(b"\n", 0, fits)
            self._leave_out(code, at_s, "\n".join(text.split("\n")[count:]) + "\n")
            return
        self._put(encoded)

    def _put(self, encoded: bytes) -> None:
        if encoded:
            self._raw.append(encoded)
            self._total += len(encoded)
            self.lines += encoded.count(b"\n")

    def _say(self, at_s: float, text: str) -> None:
        """A line of the node's own; it is not held to the limit."""
        self._put(lines_of(self._wall_us(at_s), _NODE, text))

    def _flush_partial(self) -> None:
        partial, self._partial = self._partial, {}
        for code, (at_s, text) in partial.items():
            if self._filled:
                self._leave_out(code, at_s, text + "\n")
            else:
                self._emit(code, at_s, text)

    # --- what is left out ----------------------------------------------------------------------------------

    def _fill(self, at_s: float) -> None:
        """This log has as much as it may."""
        if not self._filled:
            self._filled = True
            self._say(at_s, f"… the log has reached its limit of {self._limit} bytes: only its end follows …")
            self._flush_partial()

    def _leave_out(self, code: str, at_s: float, text: str, *, full: bool = False) -> None:
        self._left_out += text.count("\n")
        if full and not self._filled:
            self._told_full = True
            self._code = ""
            return
        text = text[-TAIL_CHARS:]
        self._tail.append((code, at_s, text))
        self._tail_size += len(text)
        while self._tail_size > TAIL_CHARS and len(self._tail) > 1:
            self._tail_size -= len(self._tail.popleft()[2])

    def _say_left_out(self, at_s: float) -> None:
        """How many lines are missing here; after a full log, with its end."""
        tail, self._tail, self._tail_size = self._tail, deque(), 0
        kept = _end_of(tail, all_of_it=sum(text.count("\n") for _, _, text in tail) == self._left_out)
        count = sum(text.count("\n") for _, _, text in kept)
        missing = self._left_out - count
        self._left_out = 0
        self._told_full = False
        why = f"over {self._limit} bytes" if self._filled else "faster than they could be sent"
        self._missing += missing
        if missing:
            self._say(at_s, f"… {missing} lines left out: {why} …")
        if kept:
            self._filled, limit = False, self._limit
            self._limit = self._total + END_BYTES
            for code, then_s, text in kept:
                self._add(code, then_s, text)
            self._flush_partial()
            self._filled, self._limit = True, limit


def _has_long_line(text: str) -> bool:
    """Looked at in as few steps as there are MAX_LINE in it."""
    start = 0
    while len(text) - start > MAX_LINE:
        end = text.rfind("\n", start, start + MAX_LINE + 1)
        if end < 0:
            return True
        start = end + 1
    return False


def _cut(text: str) -> list[str]:
    """Its lines, none longer than MAX_LINE."""
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= MAX_LINE:
            lines.append(line)
        else:
            lines += [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]
    return lines


def _end_of(tail: deque[tuple[str, float, str]], *, all_of_it: bool) -> list[tuple[str, float, str]]:
    """What is kept of the end: whole lines, unless nothing is missing before them."""
    kept = list(tail)
    if all_of_it:
        return kept
    while kept:
        code, at_s, text = kept.pop(0)
        cut = text.find("\n")
        if cut >= 0:
            return [(code, at_s, text[cut + 1 :]), *kept] if cut + 1 < len(text) else kept
    return []
