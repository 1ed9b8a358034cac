"""What the jobs of this process say by ``print``, on stderr and through ``logging``, into the logs of their attempts.

``sys.stdout`` and ``sys.stderr`` are replaced by streams that look at whose code is running (``CURRENT``): in a job
method, its asyncio tasks and its ``to_thread`` calls the text goes to the attempt's log, and only there; anywhere else
it goes where it went before. A handler on the root logger does the same for log records, in addition to what the
process does with them. What child processes, or C code, write to the descriptors 1 and 2 is not seen here: in a
worker process those are a matter of ``worker_voice``, elsewhere nobody can tell whose words they are.
"""

from __future__ import annotations

import codecs
import logging
import sys
import threading
from collections.abc import Iterable
from typing import Any

from schedule_zero.node.context import CURRENT
from schedule_zero.wire.log_lines import code_of

# Our own words: what the node has to say is no job's, even where a job's call led to it.
_OURS = ("schedule_zero.node.", "schedule_zero.job", "schedule_zero.wire.")
_LEVELS = (
    (logging.CRITICAL, code_of("log", "critical")),
    (logging.ERROR, code_of("log", "error")),
    (logging.WARNING, code_of("log", "warning")),
    (logging.INFO, code_of("log", "info")),
)
_DEBUG = code_of("log", "debug")


class JobStream:
    """A text stream in the place of ``through``."""

    def __init__(self, through: Any, stream: str) -> None:
        self._through = through
        self._code = code_of(stream, None)
        self.buffer = _JobBuffer(self)

    def write(self, text: str) -> int:
        job = CURRENT.get(None)
        if job is not None:
            lines = job.lines
            # The short way for all texts but the first.
            if lines.write(self._code, text) if lines is not None else job.say(self._code, text):
                return len(text)
        written: int = self._through.write(text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        job = CURRENT.get(None)
        if job is None:
            self._through.flush()
        elif job.lines is not None:
            job.lines.flush()

    def isatty(self) -> bool:
        """A job's log is no terminal: no colours, no cursor movements."""
        return CURRENT.get(None) is None and bool(self._through.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._through, name)


class _JobBuffer:
    """The bytes side of a stream: what is no UTF-8 is shown in hexadecimal, with a backslash."""

    def __init__(self, stream: JobStream) -> None:
        self._stream = stream
        # Per thread: the first bytes of a character whose rest comes with the next write.
        self._begun = threading.local()

    def write(self, data: bytes) -> int:
        if CURRENT.get(None) is None:
            return int(self._stream._through.buffer.write(data))  # noqa: SLF001 - its other half
        decoder = getattr(self._begun, "decoder", None)
        if decoder is None or self._begun.job is not CURRENT.get():
            decoder = self._begun.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
            self._begun.job = CURRENT.get()
        self._stream.write(decoder.decode(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream._through.buffer, name)  # noqa: SLF001 - as above


class JobRecords(logging.Handler):
    """Log records of jobs, into their logs."""

    def emit(self, record: logging.LogRecord) -> None:
        job = CURRENT.get(None)
        if job is None or record.name.startswith(_OURS):
            return
        try:
            text = _text_of(record)
        except Exception:  # noqa: BLE001 - a bad format string is the job's, and must not become its failure
            self.handleError(record)
            return
        code = next((code for level, code in _LEVELS if record.levelno >= level), _DEBUG)
        job.say(code, f"{text}\n")


_plain = logging.Formatter()


def _text_of(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict) and "event" in record.msg:
        # structlog's, on its way to the process's own handlers.
        said = {name: value for name, value in record.msg.items() if name not in ("timestamp", "level")}
        return render(said)
    text = f"{record.name}: {record.getMessage()}"
    if record.exc_info:
        text += "\n" + _plain.formatException(record.exc_info)
    return text


def render(said: dict[str, Any]) -> str:
    """``event`` and its fields in one line, tracebacks below it."""
    exception = said.pop("exception", None)
    text = str(said.pop("event", ""))
    for name, value in said.items():
        shown = value if isinstance(value, str) and value and value.isprintable() and " " not in value else repr(value)
        text += f" {name}={shown}"
    return text if exception is None else f"{text}\n{exception}"


_lock = threading.Lock()
_users = 0
_records = JobRecords()


def install() -> None:
    """Listen, once for all nodes of this process; undone by as many ``uninstall``."""
    global _users  # noqa: PLW0603 - sys.stdout is the process's, too
    with _lock:
        _users += 1
        if _users == 1:
            sys.stdout = JobStream(sys.stdout, "stdout")
            sys.stderr = JobStream(sys.stderr, "stderr")
            logging.getLogger().addHandler(_records)


def uninstall() -> None:
    global _users  # noqa: PLW0603 - as above
    with _lock:
        _users -= 1
        if _users == 0:
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                # Whoever put something else there meanwhile keeps it.
                if isinstance(stream, JobStream):
                    setattr(sys, name, stream._through)  # noqa: SLF001 - it ends here
            logging.getLogger().removeHandler(_records)
