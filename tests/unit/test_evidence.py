"""What a run leaves behind: written line by line by many processes, read whole or refused with the line's number."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from schedule_zero.config import DispatchConfig, ServerConfig
from schedule_zero.testbed import check
from schedule_zero.testbed.history import (
    FAULTS,
    HISTORY,
    LEDGER,
    TERMS,
    BadEvidence,
    FaultKind,
    FaultLog,
    HistoryLine,
    JobLine,
    Op,
    Phase,
    Recorder,
    Side,
    Terms,
    append,
    paired,
    read_evidence,
    read_lines,
    terms_of,
)
from tests.support import ManualClock


def line(event: Side = Side.START, **fields) -> JobLine:
    about = {"execution_id": "x", "attempt": 1, "token": 7, "node_id": "n1", "pid": 1, "wall_us": 5, "mono_ns": 6}
    return JobLine(event=event, **{**about, **fields})


def test_a_history_is_read_as_the_calls_that_were_made(tmp_path: Path) -> None:
    clock = ManualClock()
    recorder = Recorder(tmp_path / HISTORY, clock)
    first = recorder.begin(Op.SUBMIT, 1, count=2)
    other = recorder.begin(Op.CANCEL, 2, id="x")
    clock.advance(1.5)
    other.unknown("no answer")
    first.ok(ids=["a", "b"])
    recorder.begin(Op.SUBMIT, 1, count=1).fail("429")
    recorder.begin(Op.OBSERVE, 3, id="a")

    calls = read_evidence(tmp_path).calls
    assert [(call.op, call.phase) for call in calls] == [
        (Op.SUBMIT, Phase.OK),
        (Op.CANCEL, Phase.UNKNOWN),
        (Op.SUBMIT, Phase.FAIL),
        # It was never answered.
        (Op.OBSERVE, Phase.UNKNOWN),
    ]
    assert calls[0].answer == {"ids": ["a", "b"]}
    assert calls[0].to_us is not None
    assert calls[0].to_us - calls[0].from_us == 1_500_000
    # Nobody knows when it was over.
    assert (calls[1].to_us, calls[1].to_ns) == (None, None)


def test_an_answer_without_its_call_is_refused(tmp_path: Path) -> None:
    told = {"op": Op.SUBMIT, "process": 4, "wall_us": 1, "mono_ns": 1}
    with pytest.raises(BadEvidence, match="process 4 has no call open"):
        paired([HistoryLine(phase=Phase.OK, **told)])
    with pytest.raises(BadEvidence, match="process 4 has submit open"):
        paired([HistoryLine(phase=Phase.INVOKE, **told), HistoryLine(phase=Phase.OK, **{**told, "op": Op.CANCEL})])


def test_a_fault_is_written_when_it_is_over_or_at_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    log = FaultLog(tmp_path / FAULTS, clock)
    log.begin(FaultKind.KILL, "server", "at a write")
    log.begin(FaultKind.STOP, "node:n1")
    clock.advance(2)
    log.works_again("server")
    log.close()

    killed, stopped = read_evidence(tmp_path).faults
    assert (killed.fault, killed.target, killed.detail) == (FaultKind.KILL, "server", "at a write")
    assert killed.end_us == killed.begin_us + 2_000_000
    assert (stopped.fault, stopped.end_us) == (FaultKind.STOP, None)


def test_a_line_whose_writer_died_is_left_out_and_any_other_that_is_none_is_refused_by_its_number(
    tmp_path: Path,
) -> None:
    path = tmp_path / LEDGER
    append(path, line())
    append(path, line(Side.END, outcome="ok"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert [one.event for one in read_lines(path, JobLine)] == [Side.START, Side.END]

    # The next process of its node went on in the same line.
    path.write_bytes(whole[:40] + whole[:70] + whole)
    assert [one.event for one in read_lines(path, JobLine)] == [Side.START, Side.END]

    path.write_bytes(whole[:40] + b"\n" + whole)
    with pytest.raises(BadEvidence, match=r"ledger.jsonl, line 1: expected a JobLine"):
        list(read_lines(path, JobLine))
    path.write_bytes(whole.replace(b'"node_id"', b'"node"'))
    with pytest.raises(BadEvidence, match=r"line 1: .*node"):
        list(read_lines(path, JobLine))


def test_a_line_takes_no_more_than_it_has_to_say() -> None:
    assert set(msgspec.to_builtins(line())) == {
        "event", "execution_id", "attempt", "token", "node_id", "pid", "wall_us", "mono_ns",
    }  # fmt: skip


def test_the_terms_of_a_run_are_those_of_its_server(tmp_path: Path) -> None:
    config = ServerConfig(dispatch=DispatchConfig(lease_s=2.0, max_lost=5))
    terms = terms_of(config, settled=False)
    assert (terms.lease_s, terms.max_lost, terms.heartbeat_s, terms.settled) == (2.0, 5, 2.0, False)

    (tmp_path / TERMS).write_bytes(msgspec.json.encode(terms))
    assert read_evidence(tmp_path).terms == terms
    (tmp_path / TERMS).write_text('{"lease": 3}')
    with pytest.raises(BadEvidence, match=r"terms.json: .*lease"):
        read_evidence(tmp_path)


def test_a_folder_with_nothing_in_it_says_nothing_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    evidence = read_evidence(tmp_path)
    assert (evidence.calls, evidence.faults, list(evidence.ledger), evidence.terms) == ([], [], [], Terms())
    with pytest.raises(BadEvidence, match="there is no"):
        read_evidence(tmp_path / "elsewhere")


def test_the_command_says_what_it_lacks_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(tmp_path)]) == 2
    assert "expected a database of ScheduleZero" in capsys.readouterr().err
    assert check.main([str(tmp_path / "elsewhere")]) == 2
