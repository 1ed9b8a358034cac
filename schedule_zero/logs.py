"""Logging of a whole process: structlog in front, the standard library's handlers behind, one format for both.

Import this before anything else that logs: see ``_import_structlog``. A filtered call costs a method that returns
None; what is written passes one chain that adds time, level and module, and masks what looks like a secret.
Libraries (tornado, apscheduler) log through the standard library and come out in the same form.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec

from schedule_zero.clock import Clock, SystemClock, rfc3339
from schedule_zero.config import LogConfig
from schedule_zero.errors import ConfigError
from schedule_zero.masking import MASK, is_secret_name, mask_text


def _import_structlog() -> None:
    """Import structlog without rich, which its console renderer takes (and pygments with it) wherever it is installed.

    That costs each process 250 ms and 6 MB, and we render tracebacks plainly: for the moment of that import,
    rich is made to look absent.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


_import_structlog()

import structlog  # noqa: E402 - after the above, which is the point of it

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Libraries that are too talkative at our level: tornado.access has a line per request, apscheduler one per fire.
QUIET = {"tornado.access": "error", "apscheduler": "warning", "asyncio": "warning", "httpx": "warning"}

# One class of bound logger per level: in it, the methods below the level do nothing at all.
_BOUND = {level: structlog.make_filtering_bound_logger(level) for level in _LEVELS.values()}


def configure(
    config: LogConfig, *, stream: TextIO | None = None, base: Path | None = None, clock: Clock | None = None
) -> None:
    """Log as ``config`` says, from now on, for the whole process; may be called again.

    Writes to ``stream`` (default: stderr), and to ``config.file`` where there is one (relative to ``base``).
    Raises ConfigError if that file can't be opened. A module's level is fixed when it first logs.
    """
    stream = stream or sys.stderr
    as_json = config.format == "json" or (config.format == "auto" and not stream.isatty())
    added: list[Processor] = [_Stamp(clock or SystemClock()), structlog.stdlib.add_log_level]
    handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
    handlers[0].setFormatter(_formatter(added, as_json=as_json, colors=not as_json and _colourful(stream)))
    if config.file:
        handlers.append(_file_handler(config, base))
        # A file is read by machines, and by people with jq; colours and columns are for terminals.
        handlers[1].setFormatter(_formatter(added, as_json=config.format != "console", colors=False))

    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(_LEVELS[config.level])
    for name, level in (QUIET | config.levels).items():
        logging.getLogger(name).setLevel(_LEVELS[level])
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *added,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=cast("Any", _bound_logger),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _bound_logger(logger: WrappedLogger, processors: Sequence[Processor], context: dict[str, Any]) -> Any:
    """The bound logger of one module: its class is that of the level in force for the module's name."""
    level = cast("logging.Logger", logger).getEffectiveLevel()
    bound: Any = _BOUND.get(level) or structlog.make_filtering_bound_logger(level)
    return bound(logger, processors, context)


def _formatter(added: list[Processor], *, as_json: bool, colors: bool) -> logging.Formatter:
    plain = structlog.dev.plain_traceback
    render: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, pad_event_to=24)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*added, structlog.stdlib.ExtraAdder()],
        # Tracebacks become text before the mask, so that it covers them too.
        processors=[_arrange, structlog.processors.format_exc_info, mask, render],
    )


class _Stamp:
    """Adds the time, in the form that the API has as well."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"timestamp": rfc3339(self._clock.wall_us()), **event}


def _arrange(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Time, level, event and module first; ``_record`` and ``_from_structlog`` are notes of the formatter's."""
    record = event.pop("_record")
    del event["_from_structlog"]
    head = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return {**head, "logger": record.name, **event}


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Nothing secret leaves: neither by its name, nor as a password in a URL, nor as one of our tokens.

    Numbers named ``token`` are fence tokens, and stay.
    """
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = MASK if is_secret_name(key) and key != "event" else mask_text(value)
        elif isinstance(value, bytes) and is_secret_name(key):
            event[key] = MASK
    return event


def _to_json(event: EventDict, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _colourful(stream: TextIO) -> bool:
    # https://no-color.org is for every program, not a setting of ours.
    return stream.isatty() and not os.environ.get("NO_COLOR")


class _PrivateRotatingFileHandler(logging.handlers.RotatingFileHandler):
    """Rotates, and keeps to itself what jobs and errors say."""

    def _open(self) -> TextIOWrapper:
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return super()._open()


def _file_handler(config: LogConfig, base: Path | None) -> logging.Handler:
    path = (base or Path.cwd()) / config.file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _PrivateRotatingFileHandler(
            path, maxBytes=config.file_max_bytes, backupCount=config.file_backups, encoding="utf-8"
        )
    except OSError as error:
        raise ConfigError(f"log.file: cannot write {path}: {error.strerror}") from error
