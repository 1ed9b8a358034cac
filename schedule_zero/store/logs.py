"""The logs of attempts: appended in order, read by range, from the end, or by what stands in them.

Bodies are stored as their node packed them and unpacked by the reader, in its thread. Every read is bounded: a page by
lines and bytes, a search by the bytes that it looks at; both say where to go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import select

from schedule_zero.model import State
from schedule_zero.store import tables
from schedule_zero.store.statements import Bulk, bulk_insert, bulk_select
from schedule_zero.store.tx import Tx
from schedule_zero.wire.log_lines import LEVEL_CODES, NO_LEVEL, STREAM_CODES, Line, parse, split, unpack
from schedule_zero.wire.messages import LogChunk

if TYPE_CHECKING:
    from sqlalchemy import Connection

C = tables.log_chunks.c
# A page ends early when its lines take more than this, and a search after so much was looked through.
PAGE_BYTES = 4 << 20
SEARCH_BYTES = 64 << 20


class Append(Struct):
    """Chunks of one message, in order, from this node; each is taken only where the one before it ends."""

    node_id: str
    chunks: list[LogChunk]
    # What an attempt's log may have, with all that its node may add.
    limit_bytes: int

    def __len__(self) -> int:
        return len(self.chunks)


class Appended(Struct, kw_only=True):
    """How far the log of each attempt is stored: its lines, and whether it is complete."""

    upto: dict[int, tuple[int, bool]]
    # Attempts that this node was never given, or of executions that were cleared.
    unknown: list[int]
    lines: int = 0
    bytes: int = 0
    left_out: int = 0
    # Logs of which something was not taken because of ``limit_bytes``, with the bytes that they would have had.
    over: dict[int, int] = {}


class Wanted(Struct, kw_only=True):
    """Which lines: ``limit`` from ``first`` on, or the last ``tail``; of those only the ones with ``grep`` in them, of
    this ``level`` or a worse one (what was printed has none), on this ``stream``.
    """

    token: int
    first: int = 0
    limit: int = 1000
    tail: int | None = None
    grep: str | None = None
    ignore_case: bool = False
    level: str | None = None
    stream: str | None = None


class Found(Struct, kw_only=True):
    """Lines with their numbers, in order. ``following`` is where to go on, None at the end of what there is."""

    lines: list[tuple[int, Line]]
    following: int | None = None
    # What the log has by now.
    total: int = 0
    complete: bool = False


# --- writing ------------------------------------------------------------------------------------------

_INSERT = bulk_insert(
    tables.log_chunks, ("execution_id", "token", "line", "byte", "lines", "bytes", "last", "created_us", "body")
)
_CURRENT = bulk_select(tables.executions, ("id", "token"), ("id", "token", "node_id"))
_EARLIER = bulk_select(tables.attempts, ("execution_id", "token"), ("execution_id", "token", "node_id"))
_END = Bulk(
    tables.log_chunks,
    ("execution_id", "token"),
    "SELECT c.execution_id, c.token, c.line + c.lines, c.last, c.byte + c.bytes FROM (VALUES ",
    ") AS v JOIN log_chunks AS c ON c.execution_id = v.column1 AND c.token = v.column2 AND c.line = "
    "(SELECT max(m.line) FROM log_chunks AS m WHERE m.execution_id = v.column1 AND m.token = v.column2)",
)


def append(tx: Tx, args: list[Append]) -> list[Appended]:
    """Store what continues what is stored; the rest is a repetition, or comes before its time and will come again."""
    return [_append(tx, arg) for arg in args]


def _append(tx: Tx, arg: Append) -> Appended:
    keys = list(dict.fromkeys((chunk.id, chunk.token) for chunk in arg.chunks))
    given = {
        (row[0], row[1])
        for row in (*tx.lookup(_CURRENT, keys), *tx.lookup(_EARLIER, keys))
        # Nobody has what goes back to waiting; whose it was is forgotten then.
        if row[2] in (arg.node_id, None)
    }
    ends = {(row[0], row[1]): (row[2], bool(row[3]), int(row[4])) for row in tx.lookup(_END, keys)}
    done = Appended(upto={}, unknown=[key[1] for key in keys if key not in given])
    rows: list[tuple[object, ...]] = []
    for chunk in arg.chunks:
        key = (chunk.id, chunk.token)
        if key not in given:
            continue
        lines, last, size = ends.get(key, (0, False, 0))
        # What the node was told to be stored, and isn't any more, comes from nowhere.
        lines = max(lines, chunk.acked)
        if not last and chunk.line == lines:
            lines, last = lines + chunk.lines, chunk.last
            done.left_out += chunk.left_out
            # Whoever speaks HTTP doesn't know in how many bytes its lines are stored.
            byte = max(size, chunk.byte)
            if byte + chunk.bytes > arg.limit_bytes:
                # A node that does not hold to it.
                done.left_out += chunk.lines
                done.over[chunk.token] = byte + chunk.bytes
            else:
                done.lines += chunk.lines
                done.bytes += chunk.bytes
                size = byte + chunk.bytes
                rows.append((*key, chunk.line, byte, chunk.lines, chunk.bytes, int(last), tx.now_us, chunk.body))
        ends[key] = (lines, last, size)
    tx.bulk(_INSERT, rows)
    done.upto = {key[1]: ends[key][:2] for key in keys if key in given}
    return done


# --- reading ------------------------------------------------------------------------------------------


class Deliveries(Struct, kw_only=True):
    """What is needed to know of an execution to read its logs."""

    state: State
    # (number, token) of its attempts, oldest first; the last may still run. Numbers of handed-back ones come again.
    attempts: list[tuple[int, int]]

    def token_of(self, attempt: int) -> int | None:
        """Of the newest attempt with this number."""
        return next((token for number, token in reversed(self.attempts) if number == attempt), None)

    def over(self, token: int) -> bool:
        """Whether this attempt has ended."""
        return self.state is not State.RUNNING or token != self.attempts[-1][1]


def deliveries(conn: Connection, execution_id: str) -> Deliveries | None:
    """The attempts of an execution; None: there is no such execution."""
    e, a = tables.executions.c, tables.attempts.c
    row = conn.execute(select(e.state, e.attempt, e.token).where(e.id == execution_id)).first()
    if row is None:
        return None
    archived = conn.execute(select(a.attempt, a.token).where(a.execution_id == execution_id).order_by(a.token))
    # A late result of one that was lost is archived without its number.
    attempts = [(int(number), int(token)) for number, token in archived if token != row[2] or number]
    if row[2] and all(token != row[2] for _, token in attempts):
        attempts.append((int(row[1]), int(row[2])))
    return Deliveries(state=State(row[0]), attempts=sorted(attempts, key=_token_of))


def _token_of(attempt: tuple[int, int]) -> int:
    return attempt[1]


def _end_of(conn: Connection, execution_id: str, token: int) -> tuple[int, bool]:
    row = conn.execute(
        select(C.line + C.lines, C.last)
        .where(C.execution_id == execution_id, C.token == token)
        .order_by(C.line.desc())
        .limit(1)
    ).first()
    return (0, False) if row is None else (int(row[0]), bool(row[1]))


def read(conn: Connection, execution_id: str, wanted: Wanted) -> Found:
    """Some lines of one attempt's log."""
    total, complete = _end_of(conn, execution_id, wanted.token)
    found = Found(lines=[], total=total, complete=complete)
    if wanted.tail is not None:
        _read_back(conn, execution_id, wanted, found)
    else:
        _read_on(conn, execution_id, wanted, found)
    return found


def _read_on(conn: Connection, execution_id: str, wanted: Wanted, found: Found) -> None:
    matches = _Matcher(wanted)
    taken = looked = 0
    for number, raw, count in _chunks(conn, execution_id, wanted.token, wanted.first):
        looked += len(raw or b"")
        if matches.none_in(raw):
            if looked > SEARCH_BYTES:
                found.following = number + count
                return
            continue
        for at, text in enumerate(split(raw, count), number):
            if at < wanted.first or not matches(text):
                continue
            if len(found.lines) == wanted.limit or taken > PAGE_BYTES:
                found.following = at
                return
            taken += len(text)
            found.lines.append((at, parse(text)))
        if looked > SEARCH_BYTES and number + count < found.total:
            found.following = number + count
            return


def _read_back(conn: Connection, execution_id: str, wanted: Wanted, found: Found) -> None:
    """The last ``tail`` lines (that match), as many of them as a page may have."""
    matches = _Matcher(wanted)
    most = wanted.tail or 0
    backwards: list[tuple[int, Line]] = []
    taken = looked = 0
    for number, raw, count in _chunks(conn, execution_id, wanted.token, None):
        if len(backwards) >= most or taken > PAGE_BYTES or looked > SEARCH_BYTES:
            break
        looked += len(raw or b"")
        if matches.none_in(raw):
            continue
        texts = split(raw, count)
        for at in range(count - 1, -1, -1):
            if len(backwards) >= most or taken > PAGE_BYTES:
                break
            if matches(texts[at]):
                taken += len(texts[at])
                backwards.append((number + at, parse(texts[at])))
    found.lines = backwards[::-1]


def _chunks(
    conn: Connection, execution_id: str, token: int, first: int | None
) -> Iterator[tuple[int, bytes | None, int]]:
    """(first line, lines, count), from the chunk that holds line ``first`` on; None: backwards from the end."""
    here = (C.execution_id == execution_id, C.token == token, C.lines > 0)
    query = select(C.line, C.body, C.lines).where(*here)
    at = None
    if first is not None:
        start = conn.execute(
            select(C.line).where(*here, C.line <= first).order_by(C.line.desc()).limit(1)
        ).scalar_one_or_none()
        at = -1 if start is None else int(start) - 1
    while True:
        # One at a time: a page seldom needs more than a few, and a driver may fetch all of a result.
        if first is not None:
            row = conn.execute(query.where(C.line > at).order_by(C.line).limit(1)).first()
        else:
            step = query if at is None else query.where(C.line < at)
            row = conn.execute(step.order_by(C.line.desc()).limit(1)).first()
        if row is None:
            return
        at = int(row[0])
        yield at, unpack(bytes(row[1])), int(row[2])


class _Matcher:
    """Whether a line is wanted. The text is looked for in what a job said, not in the time before it."""

    def __init__(self, wanted: Wanted) -> None:
        self._codes = _codes(wanted)
        self._fold = wanted.ignore_case
        self._text = None if wanted.grep is None else (wanted.grep.casefold() if self._fold else wanted.grep)
        self._needle = None if self._text is None or self._fold else self._text.encode("utf-8", "replace")

    def none_in(self, raw: bytes | None) -> bool:
        """Whether no line of a chunk can be wanted, looked at as a whole."""
        return self._needle is not None and (raw is None or self._needle not in raw)

    def __call__(self, line: bytes) -> bool:
        if self._codes is not None and line[(at := line.find(b" ") + 1) : at + 2] not in self._codes:
            return False
        if self._text is None:
            return True
        said = line.split(b" ", 2)[-1]
        if self._needle is not None:
            return self._needle in said
        return self._text in said.decode("utf-8", "replace").casefold()


def _codes(wanted: Wanted) -> frozenset[bytes] | None:
    """The letters of the lines that have the wanted stream and level; None: all have."""
    if wanted.level is None and wanted.stream is None:
        return None
    streams = STREAM_CODES.values() if wanted.stream is None else STREAM_CODES[wanted.stream]
    levels = [*LEVEL_CODES.values()]
    levels = [*levels, NO_LEVEL] if wanted.level is None else levels[[*LEVEL_CODES].index(wanted.level) :]
    return frozenset(f"{stream}{level}".encode() for stream in streams for level in levels)


# --- where it went wrong --------------------------------------------------------------------------------

# A line of a level that says so, the head of a traceback, or words on stderr that mean it.
_ERROR = re.compile(
    rb"(?m)^\d+ (?:.[ec] |.. Traceback \(most recent call last\)|e. [^\n]*\b(?i:error|exception|fatal|panic)\b)"
)


def first_error(conn: Connection, execution_id: str, token: int) -> int | None:
    """The number of the first line that looks like an error, of as much of the log as one search looks at."""
    looked = 0
    for number, raw, _ in _chunks(conn, execution_id, token, 0):
        found = None if raw is None else _ERROR.search(raw)
        if raw is not None and found is not None:
            return number + raw.count(b"\n", 0, found.start())
        looked += len(raw or b"")
        if looked > SEARCH_BYTES:
            break
    return None
