from __future__ import annotations

from pathlib import Path

from schedule_zero.node.outbox import MARKER, frame, recover, scan

RECORDS = [b'{"one":1}', b"", b"three" * 20, MARKER + b" looks like a record"]
DATA = b"".join(map(frame, RECORDS))
ENDS = [len(b"".join(map(frame, RECORDS[: n + 1]))) for n in range(len(RECORDS))]


def payloads(data: bytes) -> list[bytes]:
    return [data[start:stop] for start, stop in scan(data)[0]]


def test_what_was_written_is_read_back() -> None:
    assert payloads(DATA) == RECORDS
    assert scan(DATA)[1:] == (len(DATA), 0)


def test_a_tail_cut_at_any_byte_keeps_all_whole_records() -> None:
    for length in range(len(DATA)):
        whole = sum(1 for end in ENDS if end <= length)
        good, end, damaged = scan(DATA[:length])
        assert [DATA[start:stop] for start, stop in good] == RECORDS[:whole]
        assert end == (ENDS[whole - 1] if whole else 0)
        assert damaged == 0


def test_any_flipped_byte_costs_only_the_record_it_is_in() -> None:
    for position in range(len(DATA)):
        hit = next(number for number, end in enumerate(ENDS) if position < end)
        for flip in (0xFF, 0x01, 0x80):
            broken = bytearray(DATA)
            broken[position] ^= flip
            found = payloads(bytes(broken))
            assert found == [record for number, record in enumerate(RECORDS) if number != hit], position
            assert scan(bytes(broken))[2] == (1 if hit < len(RECORDS) - 1 else 0)


def test_two_damaged_places_are_counted_as_two() -> None:
    broken = bytearray(DATA)
    broken[5] ^= 1
    broken[ENDS[1] + 14] ^= 1
    assert payloads(bytes(broken)) == [RECORDS[1], RECORDS[3]]
    assert scan(bytes(broken))[2] == 2


def test_garbage_of_any_kind_is_survived() -> None:
    for garbage in (b"\x00" * 4096, MARKER * 100, b"\xff" * 100, MARKER + b"\xff" * 8):
        assert payloads(garbage) == []
        assert payloads(garbage + DATA) == RECORDS
        assert payloads(DATA + garbage + DATA) == RECORDS * 2


def test_a_torn_tail_is_cut_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    path.write_bytes(DATA + frame(b"unfinished")[:-3])
    recovered = recover(path)
    assert recovered.records == RECORDS
    assert (recovered.cut_bytes, recovered.damaged, recovered.quarantined) == (len(frame(b"unfinished")) - 3, 0, None)
    assert path.read_bytes() == DATA


def test_a_damaged_middle_is_kept_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    broken = bytearray(DATA)
    broken[ENDS[0] + 3] ^= 0x10
    path.write_bytes(broken + b"torn")
    recovered = recover(path)
    assert recovered.records == [RECORDS[0], *RECORDS[2:]]
    assert (recovered.damaged, recovered.cut_bytes) == (1, 4)
    assert recovered.quarantined is not None
    assert recovered.quarantined.read_bytes() == broken + b"torn"
    assert recover(path) == (recovered.records, 0, 0, None)
    # A second accident doesn't overwrite the evidence of the first.
    path.write_bytes(broken)
    again = recover(path)
    assert again.quarantined is not None
    assert again.quarantined != recovered.quarantined


def test_no_file_is_an_empty_outbox(tmp_path: Path) -> None:
    assert recover(tmp_path / "outbox") == ([], 0, 0, None)
