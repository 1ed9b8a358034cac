"""Reads the server's settings once: default < file < environment < flag, and remembers where each value came from.

All errors are reported together, each with its place and what was expected. The result is frozen and is passed
on explicitly; nothing else in the server reads the environment or ``config.yaml``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from schedule_zero import state_dir, yaml_file
from schedule_zero.config import ServerConfig, is_loopback
from schedule_zero.errors import ConfigError
from schedule_zero.masking import is_secret_name, mask_text

PREFIX = "SCHEDULE_ZERO_"
DEFAULT_FILE = "config.yaml"
MAX_PATH = 1000

# Variables of ours that are no settings of the server: for clients, for handler processes (CHAOS_LEDGER: for the chaos
# handler), for this module's callers. Whoever exports them in a shell may start a server from it as well.
RESERVED = frozenset({"CONFIG", "URL", "TOKEN", "SERVER", "NODE_ID", "SLOTS", "CURVE", "CHAOS_LEDGER"})
# One name for every process, where a server would also understand LOG__LEVEL.
ALIASES = {"LOG_LEVEL": "log.level", "LOG_FORMAT": "log.format", "LOG_FILE": "log.file"}
# A Kubernetes service named schedule-zero puts these into every pod's environment, unasked.
_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)")

# Settings that are paths: a relative one in the file is relative to the file, elsewhere to the working directory.
_PATHS = ("state_dir", "handler_registry", "testbed.reports", "log.file")


class Source(StrEnum):
    """Who said it; later ones win."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Said(NamedTuple):
    """Where a setting's value comes from: ``where`` is ``config.yaml:12``, a variable or a flag."""

    source: Source
    where: str

    def __str__(self) -> str:
        return self.where if self.source is Source.DEFAULT else f"{self.source}: {self.where}"


DEFAULT = Said(Source.DEFAULT, "default")


class Flag(NamedTuple):
    """A value given on the command line, and the flag to name in a complaint."""

    name: str
    value: Any


class Settings(NamedTuple):
    """What ``load`` found out. In ``config``, paths are absolute; ``origins`` has every leaf by its dotted path."""

    config: ServerConfig
    origins: dict[str, Said]
    file: Path | None
    # Allowed, but an operator should know.
    warnings: list[str]


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str],
    flags: Mapping[str, Flag] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """The settings in force. ``file`` None: ``config.yaml`` in ``cwd`` if there is one.

    Raises one ConfigError that lists everything that is wrong; ``data["problems"]`` has it as a list.
    """
    cwd = cwd or Path.cwd()
    if file is None and (cwd / DEFAULT_FILE).is_file():
        file = cwd / DEFAULT_FILE
    elif file is not None:
        file = (cwd / file).absolute()
    reader = _Reader(cwd, file)
    if file is not None:
        reader.read_file(file)
    reader.read_environment(environ)
    for path, flag in (flags or {}).items():
        reader.take(path, flag.value, Said(Source.FLAG, flag.name))
    return reader.finish()


class _Reader:
    """Collects values and complaints from each source in turn."""

    def __init__(self, cwd: Path, file: Path | None) -> None:
        self._cwd = cwd
        self._file = file
        self._values: dict[str, Any] = {}
        self._origins: dict[str, Said] = dict.fromkeys(LEAVES, DEFAULT)
        self._problems: list[str] = []
        self._refused: set[str] = set()

    def read_file(self, file: Path) -> None:
        shown = str(file.relative_to(self._cwd)) if file.is_relative_to(self._cwd) else str(file)
        try:
            root = yaml_file.read(file, shown_as=shown)
        except ConfigError as error:
            self._problems.append(error.message)
            return
        self._read_section(root, "")

    def _read_section(self, section: yaml_file.Node, prefix: str) -> None:
        known = SECTIONS[prefix]
        seen: set[str] = set()
        for key, where, node in section.items():
            path = f"{prefix}{yaml_file.shown(key)}"
            if len(self._problems) >= yaml_file.MAX_PROBLEMS:
                self._problems.append(f"{where}: and so on: what follows was not looked at")
                return
            if key in seen:
                self._problems.append(f"{where}: {path}: stands here a second time")
            elif path in LEAVES:
                self.take(path, node.value, Said(Source.FILE, where))
            elif f"{path}." in SECTIONS:
                if node.is_mapping:
                    self._read_section(node, f"{path}.")
                elif node.value is not None:  # a section with all its lines commented out is empty, not wrong
                    kind = yaml_file.kind(node.value)
                    self._problems.append(f"{where}: {path}: expected a mapping of settings, got {kind}")
            else:
                self._problems.append(f"{where}: {path}: unknown setting{_suggest(path, known)}")
            seen.add(key)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(environ):
            if not name.startswith(PREFIX):
                continue
            rest = name[len(PREFIX) :]
            if rest in RESERVED or _from_kubernetes(rest, environ[name]):
                continue
            path = ALIASES.get(rest) or rest.lower().replace("__", ".")
            if path not in LEAVES:
                near = yaml_file.suggest(name, [variable(leaf) for leaf in LEAVES])
                self._problems.append(f"{name}: unknown setting{near}")
            elif rest in ALIASES and variable(path) in environ:
                continue  # the exact name wins over the alias
            else:
                try:
                    self.take(path, from_text(environ[name], LEAVES[path].type), Said(Source.ENVIRONMENT, name))
                except ValueError as error:
                    self._problems.append(f"{name}: {error}")

    def take(self, path: str, value: Any, said: Said) -> None:
        """Accept one value, or note what is wrong with it."""
        try:
            converted = msgspec.convert(value, LEAVES[path].type)
        except msgspec.ValidationError as error:
            expected = expectation(LEAVES[path].type, error)
            self._problems.append(f"{said.where}: {path}: expected {expected}, got {shown_value(path, value)}")
            self._refused.add(path)
            return
        if path in _PATHS and converted:
            # Flags and variables are typed where the command runs; the file may be read from anywhere.
            base = self._file.parent if said.source is Source.FILE and self._file else self._cwd
            try:
                converted = _absolute(base, converted)
            except ValueError as error:
                self._problems.append(f"{said.where}: {path}: expected a path, got {shown_value(path, value)}: {error}")
                self._refused.add(path)
                return
        self._values[path] = converted
        self._origins[path] = said

    def finish(self) -> Settings:
        config = self._build()
        for paths, message in _contradictions(config):
            # A refused value has its default here: what follows from that would be a false complaint.
            if self._refused.isdisjoint(paths):
                self._problems.append(f"{self._blame(paths).where}: {paths[0]}: {message}")
        registry = self._origins["handler_registry"]
        # Unlike Path.is_file, this one raises nothing where a folder above it is closed to us.
        exists = os.path.isfile(config.handler_registry)  # noqa: PTH113
        if config.handler_registry != self._default_registry() and not exists:
            # Wherever somebody meant it to be, they meant its limits to hold.
            self._problems.append(f"{registry.where}: handler_registry: no such file: {config.handler_registry}")
        if self._problems:
            count = len(self._problems)
            head = "the configuration is invalid" if count == 1 else f"the configuration has {count} errors"
            raise ConfigError("\n  ".join([f"{head}:", *self._problems]), problems=self._problems)
        return Settings(config, self._origins, self._file, list(_warnings(config)))

    def _blame(self, paths: tuple[str, ...]) -> Said:
        """The place to correct: where any of them was set, rather than a default."""
        return next((self._origins[path] for path in paths if self._origins[path] is not DEFAULT), DEFAULT)

    def _default_registry(self) -> str:
        return str((self._file.parent if self._file else self._cwd) / ServerConfig().handler_registry)

    def _build(self) -> ServerConfig:
        values = dict(self._values)
        values.setdefault("state_dir", str(state_dir.default(self._cwd, {})))
        if not values["state_dir"]:
            values["state_dir"] = str(state_dir.default(self._cwd, {}))
        values.setdefault("handler_registry", self._default_registry())
        values.setdefault("testbed.reports", str(self._cwd / ServerConfig().testbed.reports))
        nested: dict[str, Any] = {}
        for path, value in values.items():
            *sections, leaf = path.split(".")
            target = nested
            for section in sections:
                target = target.setdefault(section, {})
            target[leaf] = value
        return msgspec.convert(nested, ServerConfig)


# --- what settings there are ----------------------------------------------------------------------


def _fields(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _fields(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field


# Every setting by its dotted path.
LEAVES: dict[str, msgspec.structs.FieldInfo] = dict(_fields(ServerConfig))


def _sections() -> dict[str, set[str]]:
    sections: dict[str, set[str]] = {"": set()}
    for path in LEAVES:
        parts = path.split(".")
        for depth, name in enumerate(parts):
            prefix = "".join(f"{part}." for part in parts[:depth])
            sections.setdefault(prefix, set()).add(name)
    return sections


# Prefix (``""``, ``"http."``) → the names below it.
SECTIONS = _sections()


def variable(path: str) -> str:
    """The environment variable of a setting: ``http.port`` → ``SCHEDULE_ZERO_HTTP__PORT``."""
    return PREFIX + path.upper().replace(".", "__")


def _absolute(base: Path, text: str) -> str:
    """A path as it is meant where it was said; ValueError: there can be no such path."""
    if "\0" in text:
        raise ValueError("it holds a NUL")
    if len(text) > MAX_PATH:
        raise ValueError(f"it has more than {MAX_PATH} characters")
    try:
        return str((base / Path(text).expanduser()).absolute())
    except RuntimeError:
        raise ValueError("there is no such user") from None


def _suggest(path: str, siblings: set[str]) -> str:
    name = path.rpartition(".")[2]
    if near := yaml_file.suggest(name, siblings):
        return near
    # Right name, wrong section: ``port`` at the top.
    homes = [leaf for leaf in LEAVES if leaf.rpartition(".")[2] == name]
    return f"; did you mean {homes[0]}?" if homes else ""


def _from_kubernetes(rest: str, value: str) -> bool:
    if _KUBERNETES.fullmatch(rest):
        return True
    return rest.endswith("PORT") and value.startswith(("tcp://", "udp://"))


# --- text → value -----------------------------------------------------------------------------------


def from_text(text: str, kind: Any) -> Any:
    """A value from an environment variable, by the setting's type; ValueError says what was expected.

    Lists: JSON, or separated by commas. Mappings: JSON, or ``name=value`` separated by commas.
    """
    kind = _bare(kind)
    if kind is str or get_origin(kind) not in (list, dict):
        return text if kind is str else _scalar(text, kind)
    text = text.strip()
    if text.startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(f"expected JSON: {error}") from None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(kind) is list:
        return parts
    pairs = [part.partition("=") for part in parts]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f'expected name=value separated by commas, or a JSON object; got "{wrong[0]}"')
    return {name.strip(): value.strip() for name, _, value in pairs}


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def _scalar(text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text.strip(), kind, strict=False)
    except msgspec.ValidationError:
        return text  # ``take`` says what was expected


def parse_address(text: str, default_host: str = "127.0.0.1") -> tuple[str, int]:
    """``HOST:PORT``, ``:PORT``, ``PORT`` or ``[IPV6]:PORT`` → host and port; ValueError otherwise."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'expected [IPV6]:PORT for an IPv6 address, got "{text}"')
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'expected HOST:PORT with a port from 0 to 65535, got "{text}"')
    return (host or default_host) if colon else default_host, int(port)


def expectation(kind: Any, error: msgspec.ValidationError) -> str:
    """What a setting takes, in words."""
    if choices := _choices(kind):
        return "one of " + ", ".join(choices)
    if get_origin(kind) is dict and (choices := _choices(get_args(kind)[1])):
        return "a mapping of names to one of " + ", ".join(choices)
    said = str(error).partition(", got ")[0].removeprefix("Expected ")
    words = {"`str`": "a string", "`int`": "a whole number", "`float`": "a number", "`bool`": "true or false"}
    for technical, word in words.items():
        said = said.replace(technical, word)
    return said.replace("`array`", "a list").replace("`object`", "a mapping")


def _choices(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


# --- as a whole -------------------------------------------------------------------------------------


def _contradictions(config: ServerConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """Values that are fine one by one but not together: their paths, the one to change first."""
    paths: tuple[str, ...]
    times = config.dispatch
    if not times.heartbeat_s < times.suspect_s < times.lost_s:
        they = f"{times.heartbeat_s:g}, {times.suspect_s:g}, {times.lost_s:g}"
        paths = ("dispatch.suspect_s", "dispatch.lost_s", "dispatch.heartbeat_s")
        yield paths, f"expected heartbeat_s < suspect_s < lost_s, got {they}"
    if times.lease_s <= (two := 2 * times.heartbeat_s):
        # One late acknowledgement would otherwise end every lease.
        paths = ("dispatch.lease_s", "dispatch.heartbeat_s")
        yield paths, f"expected more than two heartbeats ({two:g} s), got {times.lease_s:g}"
    if config.zmq.curve == "off" and not is_loopback(config.zmq.host):
        yield (
            ("zmq.curve", "zmq.host"),
            f"off is refused beyond loopback (zmq.host is {config.zmq.host}); use auto or on",
        )
    if config.http.port and (config.http.host, config.http.port) == (config.zmq.host, config.zmq.port):
        paths = ("zmq.port", "zmq.host", "http.port", "http.host")
        yield paths, f"expected another port than http.port, got {config.zmq.port} for both"
    logs = 512 << 10 if config.limits.log_bytes or config.limits.big_result_bytes else 0
    least = max(config.limits.params_bytes, config.limits.result_bytes, logs) + 65_536
    if (got := config.zmq.max_message_bytes) < least:
        paths = ("zmq.max_message_bytes", "limits.params_bytes", "limits.result_bytes")
        why = "the larger of limits.params_bytes and limits.result_bytes, 512 KiB at least, and 64 KiB"
        yield paths, f"expected at least {least} ({why}), got {got}"
    if (got := config.http.max_body_bytes) < (least := config.limits.params_bytes):
        paths = ("http.max_body_bytes", "limits.params_bytes")
        yield paths, f"expected at least limits.params_bytes ({least}), got {got}"


def _warnings(config: ServerConfig) -> Iterator[str]:
    if not is_loopback(config.http.host):
        yield (
            f"http.host is {config.http.host}: tokens travel over plain HTTP."
            " Put a TLS proxy in front of it and bind to 127.0.0.1, or trust the network."
        )
        if not config.http.allowed_hosts:
            yield "http.allowed_hosts is empty: requests that address this machine by another name are refused."
    if config.store.durability == "fast":
        yield "store.durability is fast: what was acknowledged survives a crash of the server, but not a power loss."


# --- to show ----------------------------------------------------------------------------------------


def masked(config: ServerConfig) -> dict[str, Any]:
    """The settings as plain data, without passwords."""

    def clean(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(key, inner) for key, inner in value.items()}
        if isinstance(value, str):
            return "***" if value and is_secret_name(name) else mask_text(value)
        return value

    plain: dict[str, Any] = clean("", msgspec.to_builtins(config))
    return plain


def values(config: ServerConfig) -> dict[str, Any]:
    """Every leaf by its dotted path, masked."""
    document = masked(config)
    return {path: _pick(document, path) for path in LEAVES}


def _pick(document: dict[str, Any], path: str) -> Any:
    for part in path.split("."):
        document = document[part]
    return document


def shown_value(path: str, value: Any) -> str:
    """A refused value, short and without secrets."""
    if is_secret_name(path):
        return "***"
    text = mask_text(f'"{value}"' if isinstance(value, str) else repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"
