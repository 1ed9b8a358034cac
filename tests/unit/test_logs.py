from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from schedule_zero import logs
from schedule_zero.config import LogConfig
from schedule_zero.errors import ConfigError
from schedule_zero.masking import is_secret_name


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in before[0]:
            handler.close()
    root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)
    for name in (*logs.QUIET, "noisy"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def configured(clock, **settings):
    stream = io.StringIO()
    logs.configure(LogConfig(**settings), stream=stream, clock=clock)

    def lines():
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return stream, lines


def test_a_line_is_an_event_with_time_level_and_module(clock):
    _, lines = configured(clock)
    structlog.get_logger("here.there").info("node_lost", node_id="n1", after_s=10.5)
    assert lines() == [
        {
            "timestamp": "2023-11-14T22:13:20.000000Z",
            "level": "info",
            "event": "node_lost",
            "logger": "here.there",
            "node_id": "n1",
            "after_s": 10.5,
        }
    ]


def test_below_its_level_nothing_is_written_and_a_module_may_have_its_own(clock):
    _, lines = configured(clock, level="warning", levels={"noisy": "debug"})
    structlog.get_logger("quiet").info("unseen")
    structlog.get_logger("noisy.inner").debug("seen")
    assert [line["event"] for line in lines()] == ["seen"]


def test_libraries_come_out_in_the_same_form(clock):
    _, lines = configured(clock)
    logging.getLogger("tornado.general").warning("odd %s", "request", extra={"peer": "1.2.3.4"})
    (line,) = lines()
    assert line == {
        "timestamp": "2023-11-14T22:13:20.000000Z",
        "level": "warning",
        "event": "odd request",
        "logger": "tornado.general",
        "peer": "1.2.3.4",
    }


def test_one_line_per_request_or_per_fire_is_not_for_our_log(clock):
    _, lines = configured(clock)
    logging.getLogger("tornado.access").info("200 GET /")
    logging.getLogger("apscheduler.scheduler").info("added job")
    assert lines() == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_leaves(clock, log_format):
    stream, _ = configured(clock, format=log_format)
    secret = "sz_" + "Ab3" * 14
    log = structlog.get_logger("s")
    log.info("login", admin_token=secret, password="hunter2", url="postgresql://app:hunter2@db/x", note=f"got {secret}")
    try:
        raise ValueError(f"bad token {secret}")
    except ValueError:
        log.exception("failed")
    logging.getLogger("tornado").error("refused %s", secret)
    assert secret not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_fence_token_is_a_number_and_stays(clock):
    _, lines = configured(clock)
    structlog.get_logger("s").info("stale", token=4294967297)
    assert lines()[0]["token"] == 4294967297


def test_a_traceback_is_one_field_of_one_line(clock):
    stream, lines = configured(clock)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        structlog.get_logger("s").exception("loop_died", loop="timer")
    assert len(stream.getvalue().splitlines()) == 1
    assert "ZeroDivisionError" in lines()[0]["exception"]


def test_anything_can_be_logged(clock):
    _, lines = configured(clock)
    structlog.get_logger("s").info("odd", thing=object, path=b"\xff")
    assert lines()[0]["event"] == "odd"


def test_a_file_is_rotated(clock, tmp_path):
    stream = io.StringIO()
    config = LogConfig(file="deep/server.log", file_max_bytes=4096, file_backups=2)
    logs.configure(config, stream=stream, base=tmp_path, clock=clock)
    log = structlog.get_logger("s")
    for number in range(200):
        log.info("filling", number=number)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["server.log", "server.log.1", "server.log.2"]
    assert json.loads((tmp_path / "deep/server.log").read_text().splitlines()[-1])["number"] == 199


def test_a_file_that_cannot_be_written_is_a_configuration_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"log\.file: cannot write .*taken/server\.log"):
        logs.configure(LogConfig(file="taken/server.log"), base=tmp_path)


def test_a_process_that_logs_does_not_carry_rich():
    code = "import sys; from schedule_zero import logs; logs.configure(logs.LogConfig()); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_log_file_is_for_its_owner_only(tmp_path: Path) -> None:
    logs.configure(LogConfig(file="run.log", format="json"), base=tmp_path)
    logging.getLogger("schedule_zero").warning("hello")

    assert (tmp_path / "run.log").stat().st_mode & 0o077 == 0


def test_the_id_of_a_token_is_not_a_secret() -> None:
    assert not is_secret_name("token_id")
    assert is_secret_name("admin_token")
