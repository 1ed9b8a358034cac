"""Damaged files: a torn or flipped outbox costs at most the records it hits (C14); a database is never reset (C15).

The files are those of real processes that were killed; the code that finds them so is called in this process, for
every place, and a few starts are real ones. What SQLite can't see (its pages have no checksum: a letter in a text, a
digit in a number) nobody can: then the server starts, and what is promised is that it keeps what is there.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from schedule_zero.clock import SystemClock
from schedule_zero.config import HttpConfig, ServerConfig, StoreConfig, ZmqConfig
from schedule_zero.errors import ScheduleZeroError, StoreCorrupt
from schedule_zero.node.delivery import token_of
from schedule_zero.node.outbox import Outbox, Recovered, scan
from schedule_zero.server import serve
from schedule_zero.store import Store, sqlite
from schedule_zero.testbed import final
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.history import SERVER, FaultKind, Terms, read_evidence
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import Bed, Own
from tests.system.processes import Process, ServerProcess
from tests.tried import Tried

PART = "5 damage"
PAGE = 4096
FILE = "schedule_zero.db"
CONFIG = ServerConfig(http=HttpConfig(port=0), zmq=ZmqConfig(port=0), store=StoreConfig(durability="fast"), drain_s=5.0)
# A start that takes longer hangs.
START_S = 30.0
Begin = Callable[[str, str], Tried]
Mutation = tuple[str, Callable[[bytearray], None]]


class Wreck:
    """What a server and a node left that were killed: results that nobody had acknowledged, a log not folded in."""

    def __init__(self, folder: Path, ids: list[str], waiting: list[str]) -> None:
        self.folder = folder
        # All executions that were acknowledged, and those whose results wait in the outbox.
        self.ids = ids
        self.waiting = waiting

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to, dirs_exist_ok=True)
        return to


def outbox_of(folder: Path) -> Path:
    return folder / "nodes" / "nodes" / "n1" / "outbox"


@pytest.fixture(scope="module")
def wreck(tmp_path_factory: pytest.TempPathFactory) -> Wreck:
    folder = tmp_path_factory.mktemp("wreck")
    owned: list[Process] = []

    def own(process: Process) -> Process:
        owned.append(process)
        return process

    bed = Bed(folder, own)
    try:
        bed.start_server(env={})
        node = bed.start_node()
        rules = ("0 4 * * *", "0 * * * *", "*/5 * * * *")
        rows = [
            {"id": f"s{n}", "handler_id": "chaos", "job_method": "ok", "trigger": {"type": "cron", "expression": rule}}
            for n, rule in enumerate(rules)
        ]
        bed.client.post("/api/schedules", json={"schedules": rows}).raise_for_status()
        done = bed.submit(200, "ok", value="y" * 60) + bed.submit(5, "error")
        eventually_sync(lambda: bed.states()["completed"] + bed.states()["failed"] == len(done), within_s=30)
        waiting = bed.submit(3, "sleep", seconds=0.5)
        eventually_sync(lambda: bed.starts().keys() >= set(waiting), within_s=30)
        bed.server.kill()
        eventually_sync(lambda: len(scan(outbox_of(folder).read_bytes())[0]) == len(waiting), within_s=30)
        node.kill()
    finally:
        bed.close()
        for process in reversed(owned):
            process.kill()
    return Wreck(folder, done + waiting, waiting)


# --- the outbox: C14 ------------------------------------------------------------------------------------


def sampled(length: int, share: int = 1) -> range:
    """Every place, or so many of them that a sample has (of what takes a start each, a share of that)."""
    return range(0, length, 1 if SIZE.bytes is None else max(1, -(-length * share // SIZE.bytes)))


def opened(path: Path, data: bytes) -> Recovered:
    """What a node's start finds in an outbox with these bytes; it takes another record then."""
    path.write_bytes(data)
    durable: list[int] = []
    box: Outbox[tuple[int, bytes]] = Outbox(
        path,
        encode=lambda entry: entry,
        on_durable=lambda items: durable.extend(item.token for item in items),
        on_health=lambda _: None,
        on_broken=lambda _: durable.append(-1),
    )
    recovered, waiting = box.open(token_of)
    box.put((1, b"another"))
    box.close()
    assert durable == [1]
    assert [record for _, record in waiting] == recovered.records
    after = path.read_bytes()
    assert [after[start:stop] for start, stop in scan(after)[0]] == [*recovered.records, b"another"]
    return recovered


def test_an_outbox_cut_at_any_byte_keeps_every_whole_record(wreck: Wreck, tmp_path: Path, tried: Begin) -> None:
    mine = tried(PART, "a node's outbox cut at a byte")
    data = outbox_of(wreck.folder).read_bytes()
    spans = scan(data)[0]
    for length in sampled(len(data)):
        recovered = opened(tmp_path / "outbox", data[:length])
        whole = [(start, stop) for start, stop in spans if stop <= length]
        assert recovered.records == [data[start:stop] for start, stop in whole]
        assert (recovered.cut_bytes, recovered.damaged) == (length - (whole[-1][1] if whole else 0), 0)
        mine.faults += 1


def test_a_flipped_byte_of_an_outbox_costs_its_record_and_no_other(wreck: Wreck, tmp_path: Path, tried: Begin) -> None:
    mine = tried(PART, "a byte of a node's outbox flipped")
    data = outbox_of(wreck.folder).read_bytes()
    spans = scan(data)[0]
    last = len(spans) - 1
    for at in sampled(len(data)):
        for flip in (0xFF, 1 << at % 8):
            bad = bytearray(data)
            bad[at] ^= flip
            folder = tmp_path / f"{at}-{flip}"
            folder.mkdir()
            recovered = opened(folder / "outbox", bytes(bad))
            hit = next(number for number, (_, stop) in enumerate(spans) if at < stop)
            assert recovered.records == [data[start:stop] for n, (start, stop) in enumerate(spans) if n != hit]
            assert recovered.damaged == (hit < last)
            if recovered.quarantined is not None:
                assert recovered.quarantined.read_bytes() == bad
            mine.faults += 1


@pytest.mark.slow
def test_a_node_with_a_damaged_outbox_starts_and_what_it_lost_is_run_again(
    wreck: Wreck, tmp_path: Path, own: Own, tried: Begin
) -> None:
    """Real processes: the first of three records is flipped, the last one cut in the middle."""
    mine = tried(PART, "a node's start with a damaged outbox")
    bed = Bed(wreck.copy(tmp_path), own)
    for target in (SERVER, "node:n1"):
        bed.faults.begin(FaultKind.KILL, target)
    path = outbox_of(tmp_path)
    data = bytearray(path.read_bytes())
    bed.faults.begin(FaultKind.CORRUPT, "node:n1", "two records of the outbox")
    data[20] ^= 0x10
    path.write_bytes(data[:-9])
    mine.faults += 2
    try:
        bed.start_server(env={})
        # Its jobs are begun again as soon as its successor says what it has.
        bed.faults.works_again("node:n1")
        node = bed.start_node()
        for id_ in wreck.waiting:
            assert bed.execution(id_, wait_s=30)["status"] == "completed"
        starts = bed.starts()
        assert sorted(starts[id_] for id_ in wreck.waiting) == [1, 2, 2]
        assert "outbox_damaged" in node.output()
        assert "outbox_tail_cut" in node.output()
        assert path.with_name("outbox.damaged-1").read_bytes() == data[:-9]
        bed.judge(mine)
    finally:
        bed.close()


# --- the database: C15 ----------------------------------------------------------------------------------


def start(folder: Path) -> ScheduleZeroError | None:
    """Start a server in this process, and stop it; why it refused. Any other error is a mistake, and is raised."""

    async def once() -> None:
        stop = asyncio.Event()

        async def stopping(*_: object) -> None:
            stop.set()

        async with asyncio.timeout(START_S):
            await serve(CONFIG, folder, stop=stop, ready=stopping)

    try:
        asyncio.run(once())
    except ScheduleZeroError as error:
        return error
    return None


def open_store(folder: Path) -> ScheduleZeroError | None:
    """As a start does, and no more of it: for the places of a long file."""

    async def once() -> None:
        await Store.open(CONFIG.store, folder, clock=SystemClock()).close()

    try:
        asyncio.run(once())
    except ScheduleZeroError as error:
        return error
    return None


def found(database: Path) -> list[bytes]:
    """The executions in a file, as SQLite reads it now. (Two may have one id: a bit makes one of it out of another.)"""
    with closing(sqlite3.connect(database)) as raw:
        raw.text_factory = bytes
        return [row[0] for row in raw.execute("SELECT id FROM executions NOT INDEXED")]


def suffers(state: Path, work: Path, name: str, bad: bytes, ids: int) -> str:
    """Start on the database with these bytes in one of its files: ``refused`` or ``up``, and the file still there."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(state, work)
    (work / name).write_bytes(bad)
    before = {path.name: path.read_bytes() for path in work.glob(f"{FILE}*")}
    refused = start(work)
    if refused is None:
        assert len(found(work / FILE)) == ids, "something was removed"
        return "up"
    assert isinstance(refused, StoreCorrupt) or "schema version" in refused.message, refused.message
    assert str(work / FILE) in refused.message
    if isinstance(refused, StoreCorrupt):
        assert refused.exit_code == 65
        assert "cp BACKUP" in refused.message
    if "It was not touched" in refused.message:
        # (Looking into it makes a log, an empty one.)
        for untouched in (FILE, f"{FILE}-wal"):
            after = (work / untouched).read_bytes() if (work / untouched).exists() else b""
            assert after == before.get(untouched, b"")
    return "refused"


def in_page(at: int, chosen: random.Random) -> Iterator[Mutation]:
    """What is done to a page, worst first; of its bytes some that are chosen at random."""
    head = at + (100 if at == 0 else 0)

    def flip(place: int, bits: int) -> Callable[[bytearray], None]:
        return lambda data: data.__setitem__(place, data[place] ^ bits)

    def overwrite(what: bytes) -> Callable[[bytearray], None]:
        return lambda data: data.__setitem__(slice(at, at + PAGE), what)

    yield "zeroed", overwrite(bytes(PAGE))
    yield "noise", overwrite(chosen.randbytes(PAGE))
    yield "its kind", flip(head, 0xFF)
    yield "its count of cells", flip(head + 4, 1)
    yield "a pointer", flip(head + 9, 0x40)
    for _ in range(4):
        yield "a bit", flip(at + chosen.randrange(PAGE), 1 << chosen.randrange(8))


@pytest.fixture(scope="module")
def closed(wreck: Wreck, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory with its log folded in: one file that holds everything."""
    state = tmp_path_factory.mktemp("closed")
    shutil.copytree(wreck.folder / "state", state, dirs_exist_ok=True)
    assert start(state) is None
    assert not (state / f"{FILE}-wal").exists()
    return state


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_damaged_page_is_refused_untouched_or_costs_no_more_than_what_it_held(
    wreck: Wreck, closed: Path, tmp_path: Path, tried: Begin
) -> None:
    mine = tried(PART, "a page of the server's database damaged")
    data = (closed / FILE).read_bytes()
    chosen = random.Random(15)
    pages = sampled(len(data) // PAGE, 2)
    outcomes: dict[str, set[str]] = {}
    for number, page in enumerate(pages):
        ways = list(in_page(page * PAGE, chosen))
        # A sample does one thing to each.
        for name, mutate in ways if SIZE.bytes is None else [ways[number % len(ways)]]:
            bad = bytearray(data)
            mutate(bad)
            if bad != data:
                outcome = suffers(closed, tmp_path / "state", FILE, bytes(bad), len(wreck.ids))
                outcomes.setdefault(name, set()).add(outcome)
                mine.faults += 1
    # What leaves no page as it was is never taken for one.
    assert outcomes["its kind"] == {"refused"}
    assert outcomes["noise"] == {"refused"}


def test_a_word_in_an_index_that_is_none_of_a_state_is_refused_as_damage(
    closed: Path, tmp_path: Path, tried: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite looks for the first that runs, and reads on; what it comes by is no word that a server writes."""
    # As it is with a large file, of which no index is compared with its table at a start.
    monkeypatch.setattr(sqlite, "INDEX_CHECK_BELOW_BYTES", 0)
    mine = tried(PART, "a page of the server's database damaged")
    with closing(sqlite3.connect(closed / FILE)) as raw:
        (root,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_executions_state'").fetchone()
    data = bytearray((closed / FILE).read_bytes())
    _, middle, _ = (found.start() for found in re.finditer(rb"running", data) if found.start() // PAGE == root - 1)
    data[middle + len("ru")] ^= ord("n") ^ ord("l")
    state = tmp_path / "state"
    shutil.copytree(closed, state)
    (state / FILE).write_bytes(data)
    mine.faults += 1

    refused = start(state)

    assert isinstance(refused, StoreCorrupt)
    assert "'rulning' is not a valid State" in refused.message
    assert f"cp BACKUP '{state / FILE}'" in refused.message


def test_a_letter_of_a_stored_result_is_damage_that_only_the_checker_sees(
    wreck: Wreck, closed: Path, tmp_path: Path, tried: Begin
) -> None:
    """The server starts, as if nothing was; by what its jobs have written themselves, the result is not theirs (C7)."""
    mine = tried(PART, "a page of the server's database damaged")
    data = bytearray((closed / FILE).read_bytes())
    # A row has the result after the parameters.
    data[data.index(b'}"' + b"y" * 60) + 30] ^= 1
    state = tmp_path / "state"
    assert suffers(closed, state, FILE, bytes(data), len(wreck.ids)) == "up"
    mine.faults += 1

    def names(state: Path) -> set[str]:
        evidence = read_evidence(wreck.folder)
        evidence.terms = Terms(settled=False)
        return set(check(evidence, final.load(state)).names())

    assert names(closed) == set()
    assert names(state) == {"C7 wrong_result"}


@pytest.mark.slow
def test_a_database_that_is_cut_anywhere_is_refused_and_left_untouched(
    wreck: Wreck, closed: Path, tmp_path: Path, tried: Begin
) -> None:
    mine = tried(PART, "the server's database cut")
    data = (closed / FILE).read_bytes()
    lengths = [0, 1, 99, 100, PAGE - 1, PAGE, *(page * PAGE + page % 3 for page in sampled(len(data) // PAGE, 2))]
    for length in lengths:
        if length < len(data):
            outcome = suffers(closed, tmp_path / "state", FILE, data[:length], len(wreck.ids))
            assert outcome == "refused", f"{length} of {len(data)} bytes"
            mine.faults += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_damaged_log_leaves_a_consistent_earlier_state(wreck: Wreck, tmp_path: Path, tried: Begin) -> None:
    """SQLite reads a log up to the first frame that is not sound: what was acknowledged after it is the disk's loss."""
    mine = tried(PART, "the log of the server's database cut or flipped")
    state = wreck.folder / "state"
    name = f"{FILE}-wal"
    data = (state / name).read_bytes()
    every = set(wreck.ids)
    for number, at in enumerate(range(0, len(data), max(100, len(data) // (1_000 if SIZE.bytes is None else 20)))):
        bad = bytearray(data[:at] if number % 2 else data)
        if not number % 2:
            bad[at] ^= 1 << at % 8
        work = tmp_path / "state"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(state, work)
        (work / name).write_bytes(bad)
        refused = open_store(work)
        mine.faults += 1
        if refused is not None:
            assert isinstance(refused, StoreCorrupt)
            assert (work / name).read_bytes() == bad
            continue
        with closing(sqlite3.connect(work / FILE)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert {id_.decode() for id_ in found(work / FILE)} <= every


def test_an_index_of_the_log_that_is_garbage_is_made_anew(wreck: Wreck, tmp_path: Path, tried: Begin) -> None:
    mine = tried(PART, "the log of the server's database cut or flipped")
    for garbage in (b"", b"\xa5" * 32768, bytes(32768), b"\xff" * 100):
        assert suffers(wreck.folder / "state", tmp_path / "state", f"{FILE}-shm", garbage, len(wreck.ids)) == "up"
        mine.faults += 1


@pytest.mark.slow
def test_a_server_says_what_to_do_with_a_damaged_database_and_ends_with_65(
    wreck: Wreck, closed: Path, tmp_path: Path, own: Own, tried: Begin
) -> None:
    """Real processes: damage that SQLite sees, and damage that it doesn't."""
    mine = tried(PART, "a server's start with a damaged database")
    data = (closed / FILE).read_bytes()
    ways = {
        "a page of zeros": lambda bad: bad.__setitem__(slice(PAGE * 5, PAGE * 6), bytes(PAGE)),
        "a letter of a column's name": lambda bad: bad.__setitem__(data.index(b"idempotency_key") + 3, ord("M")),
    }
    for way, mutate in list(ways.items())[: None if SIZE.bytes is None else 1]:
        folder = tmp_path / way.replace(" ", "-")
        folder.mkdir()
        shutil.copytree(closed, folder / "state")
        bad = bytearray(data)
        mutate(bad)
        (folder / "state" / FILE).write_bytes(bad)
        server = ServerProcess(folder)
        own(server)
        assert server.popen.wait(30) == 65, way
        said = server.output()
        assert "Traceback" not in said, said
        assert f"cp BACKUP '{folder / 'state' / FILE}'" in said
        assert (folder / "state" / FILE).read_bytes() == bad
        mine.faults += 1
