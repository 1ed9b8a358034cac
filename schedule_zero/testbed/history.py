"""What a run leaves behind for the checker, as JSON Lines: clients' history, fault log, job ledger; and its terms.

All processes of a run are on one machine, so their monotonic clocks (``CLOCK_BOOTTIME``) can be compared: order and
overlap are judged by ``mono_ns``, and ``wall_us`` is for comparison with what the store says. Light: a node imports it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.config import ServerConfig

T = TypeVar("T")

HISTORY, FAULTS, LEDGER, TERMS = "history.jsonl", "faults.jsonl", "ledger.jsonl", "terms.json"
SERVER = "server"
EVERYWHERE = "*"


class BadEvidence(ValueError):
    """An input of the checker is not what it has to be; nothing can be concluded from it."""


class Phase(StrEnum):
    """What a client knows of a call. ``unknown``: it may have happened, may not, and may still."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Op(StrEnum):
    """What clients do. ``args`` and ``answer`` of each stand in docs/reference/evidence.md."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    OBSERVE = "observe"
    CREATE_SCHEDULE = "create_schedule"
    UPDATE_SCHEDULE = "update_schedule"
    DELETE_SCHEDULE = "delete_schedule"
    PAUSE_SCHEDULE = "pause_schedule"
    RESUME_SCHEDULE = "resume_schedule"
    DECLARE = "declare"


class HistoryLine(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One side of a call: its beginning, or what came of it. A process has one call open at most."""

    phase: Phase
    op: Op
    process: int
    wall_us: int
    mono_ns: int
    args: dict[str, Any] = {}
    answer: dict[str, Any] = {}


class Call(Struct, kw_only=True):
    """A call with what came of it. ``to_ns`` is None where nobody knows when it was over."""

    op: Op
    process: int
    args: dict[str, Any]
    phase: Phase
    answer: dict[str, Any]
    from_us: int
    from_ns: int
    to_us: int | None = None
    to_ns: int | None = None


class FaultKind(StrEnum):
    """What was done to a run."""

    # A process ended at once. It is over when its successor works.
    KILL = "kill"
    # SIGSTOP … SIGCONT.
    STOP = "stop"
    # Nothing passes, in one direction or both.
    PARTITION = "partition"
    # Loss, delay, resets, repetitions, one byte at a time.
    NETWORK = "network"
    # The wall clock of a process was set.
    CLOCK = "clock"
    # Full, or failing.
    DISK = "disk"
    # Bytes of a file were changed while its process was away.
    CORRUPT = "corrupt"
    # SIGTERM, or an operator's drain; until the process is gone, or released.
    DRAIN = "drain"
    # A second process with the same node id.
    DUPLICATE = "duplicate"
    # A peer that does not keep to the protocol.
    PEER = "peer"
    # So little of the machine was left that nothing can be said of delays.
    LOAD = "load"


class Fault(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault, by the wall clock of the machine. ``end_us`` None: it lasted to the end."""

    fault: FaultKind
    # ``server``, ``node:<id>``, or ``*``: everything.
    target: str
    begin_us: int
    end_us: int | None = None
    detail: str = ""


class Side(StrEnum):
    START = "start"
    END = "end"


class JobLine(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What a job body wrote when it was entered, and when it was left."""

    event: Side
    execution_id: str
    attempt: int
    token: int
    node_id: str
    pid: int
    wall_us: int
    mono_ns: int
    action: str = ""
    schedule_id: str | None = None
    nominal_us: int | None = None
    # At the end: ``ok``, or ``error``.
    outcome: str | None = None
    # CRC-32 of the result as JSON, or the exception's class.
    result: int | None = None
    error: str | None = None


class Run(Struct, gc=False):
    """A job body from its start to its end. ``end_ns`` None: nothing tells of one."""

    execution_id: str
    token: int
    attempt: int
    node_id: str
    pid: int
    start_us: int
    start_ns: int
    action: str
    schedule_id: str | None = None
    nominal_us: int | None = None
    end_us: int | None = None
    end_ns: int | None = None
    outcome: str | None = None
    result: int | None = None


class Terms(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a run was held to: the server's settings, and how late something may be before it counts as late."""

    # The wall clock up to which a server was there to decide; None: what the store says.
    until_us: int | None = None
    # The run waited until there was nothing more to do: whatever is open now was forgotten.
    settled: bool = True
    # Handlers, all of whose jobs write the ledger.
    ledgered: tuple[str, ...] = ("chaos",)
    heartbeat_s: float = 2.0
    lost_s: float = 10.0
    lease_s: float = 15.0
    lease_margin_s: float = 1.0
    max_lost: int = 3
    catch_up_window_s: float = 3600.0
    catch_up_rows: int = 100
    # A fire decided, a job begun on an idle node, a node's loss told, later than this is late.
    late_s: float = 5.0
    # How far clocks and log lines may be from the moment that they stand for.
    margin_s: float = 0.1


def terms_of(config: ServerConfig, **more: Any) -> Terms:
    """The terms of a run with a server of this configuration; ``more`` is what it does not say."""
    dispatch, timing = config.dispatch, config.timing
    said = {
        "heartbeat_s": dispatch.heartbeat_s,
        "lost_s": dispatch.lost_s,
        "lease_s": dispatch.lease_s,
        "lease_margin_s": dispatch.lease_margin_s,
        "max_lost": dispatch.max_lost,
        "catch_up_window_s": timing.catch_up_window_s,
        "catch_up_rows": timing.catch_up_rows,
    }
    return Terms(**{**said, **more})


class Evidence(Struct, kw_only=True):
    """The three files and the terms, read (the ledger: as it is asked for)."""

    calls: list[Call]
    faults: list[Fault]
    ledger: Iterable[JobLine]
    terms: Terms


# --- writing ----------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


def append(path: str | Path, line: Struct, *, sync: bool = True) -> None:
    """Add one line, and have it on the disk. One write in append mode: whole lines, however many processes share it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        data = _encode(line) + b"\n"
        if os.write(fd, data) != len(data):
            raise OSError(f"{path}: the disk took only a part of a line")
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


class OpenCall:
    """A call that has begun. Exactly one of ``ok``, ``fail`` and ``unknown`` ends it; none: ``unknown`` for ever."""

    def __init__(self, recorder: Recorder, op: Op, process: int) -> None:
        self._recorder = recorder
        self._op = op
        self._process = process

    def ok(self, **answer: Any) -> None:
        """It was acknowledged."""
        self._recorder.write(Phase.OK, self._op, self._process, answer=answer)

    def fail(self, why: str) -> None:
        """It was refused: it has no effect, and never will."""
        self._recorder.write(Phase.FAIL, self._op, self._process, answer={"why": why})

    def unknown(self, why: str) -> None:
        """No answer, or one that leaves it open: a lost connection, a time-out, a 500."""
        self._recorder.write(Phase.UNKNOWN, self._op, self._process, answer={"why": why})


class Recorder:
    """Writes a history. Threads may share it; each uses process numbers of its own."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._lock = Lock()

    def begin(self, op: Op, process: int = 0, /, **args: Any) -> OpenCall:
        """To be called before the request is sent."""
        self.write(Phase.INVOKE, op, process, args=args)
        return OpenCall(self, op, process)

    def write(
        self, phase: Phase, op: Op, process: int, *, args: dict[str, Any] | None = None, answer: Any = None
    ) -> None:
        with self._lock:
            append(
                self._path,
                HistoryLine(
                    phase=phase,
                    op=op,
                    process=process,
                    wall_us=self._clock.wall_us(),
                    mono_ns=mono_ns(self._clock),
                    args=args or {},
                    answer=answer or {},
                ),
                # The client outlives the run.
                sync=False,
            )


class FaultLog:
    """Writes the fault log: a line for each fault when it is over, and for the others at the end."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._open: list[Fault] = []

    def begin(self, fault: FaultKind, target: str, detail: str = "") -> Fault:
        """To be called before it is done."""
        begun = Fault(fault=fault, target=target, begin_us=self._clock.wall_us(), detail=detail)
        self._open.append(begun)
        return begun

    def end(self, fault: Fault, *, at_us: int | None = None) -> None:
        """To be called once it is undone; ``at_us``: when that was, if it was noticed later."""
        self._open.remove(fault)
        append(self._path, structs.replace(fault, end_us=self._clock.wall_us() if at_us is None else at_us))

    def works_again(self, target: str, *, at_us: int | None = None) -> None:
        """Everything that was done to it is undone: its successor is there, say."""
        for fault in [fault for fault in self._open if fault.target == target]:
            self.end(fault, at_us=at_us)

    @property
    def lasting(self) -> list[Fault]:
        """What has begun and is not over."""
        return list(self._open)

    def close(self) -> None:
        """Write what lasts to the end."""
        for fault in self._open:
            append(self._path, fault)
        self._open.clear()


def mono_ns(clock: Clock) -> int:
    """The monotonic clock as it stands in the files."""
    return round(clock.mono_s() * 1e9)


# --- reading ----------------------------------------------------------------------------------------


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """The lines of a file, in order; none if there is no such file. BadEvidence names a line that is not one.

    What is left of a line whose writer died amid it is left out: at the end, or before what the next writer added.
    (SIGKILL ends a write at a page's boundary.) So is a last line that a full disk has cut.
    """
    if not path.exists():
        return
    decode = msgspec.json.Decoder(kind).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                added = _added(line, decode)
                if added is None:
                    raise BadEvidence(f"{path}, line {number}: expected a {kind.__name__}: {error}") from None
                yield added


def _added(line: bytes, decode: Callable[[bytes], T]) -> T | None:
    """The record that stands behind a part of another one; None: there is none."""
    at = 0
    while (at := line.find(b'{"', at + 1)) > 0:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return decode(line[at:])
    return None


def paired(lines: Iterable[HistoryLine]) -> list[Call]:
    """The calls, in the order in which they began. What was never answered is ``unknown``. BadEvidence."""
    calls: list[Call] = []
    open_: dict[int, Call] = {}
    for line in lines:
        before = open_.pop(line.process, None)
        if line.phase is Phase.INVOKE:
            # (A process whose call was cut off goes on with its next one: the first stays ``unknown``.)
            call = Call(
                op=line.op,
                process=line.process,
                args=line.args,
                phase=Phase.UNKNOWN,
                answer={},
                from_us=line.wall_us,
                from_ns=line.mono_ns,
            )
            calls.append(call)
            open_[line.process] = call
        elif before is None or before.op is not line.op:
            told = "no call open" if before is None else f"{before.op.value} open"
            raise BadEvidence(
                f"the history says {line.phase.value} of {line.op.value}; process {line.process} has {told}"
            )
        else:
            before.phase, before.answer = line.phase, line.answer
            if line.phase is not Phase.UNKNOWN:
                before.to_us, before.to_ns = line.wall_us, line.mono_ns
    return calls


def read_evidence(folder: Path) -> Evidence:
    """What stands in a run's folder. BadEvidence: there is nothing, or not what there should be."""
    if not folder.is_dir():
        raise BadEvidence(f"expected a run's folder with {HISTORY}, {FAULTS}, {LEDGER}, {TERMS}: there is no {folder}")
    terms = Terms()
    path = folder / TERMS
    if path.exists():
        try:
            terms = msgspec.json.decode(path.read_bytes(), type=Terms)
        except msgspec.DecodeError as error:
            raise BadEvidence(f"{path}: expected the terms of a run: {error}") from None
    return Evidence(
        calls=paired(read_lines(folder / HISTORY, HistoryLine)),
        faults=list(read_lines(folder / FAULTS, Fault)),
        ledger=read_lines(folder / LEDGER, JobLine),
        terms=terms,
    )
