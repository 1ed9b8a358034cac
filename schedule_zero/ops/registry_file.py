"""handler_registry.yaml: what operators declare about handlers, and the readable mirror of what the store knows.

Two files of one format, so that a checkout is never dirtied:

* the *declarations* (``handler_registry`` in the settings; beside ``config.yaml``) are written by people and only
  read here, when the server starts and when it is told to (SIGHUP);
* the *mirror* in the state directory is written here. ``allowed_methods`` and ``limits`` that somebody adds to it
  are kept, and are in force when it is read again; everything else in it is the store's to say. A file edited by
  hand is known by its checksum: before it is replaced it is kept as ``handler_registry.yaml.edited``. While it is
  broken, it is not replaced at all.

The store owns the registry; nothing is read back from here except what an operator declared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
import yaml
from msgspec import Struct

from schedule_zero import state_dir, yaml_file
from schedule_zero.clock import rfc3339
from schedule_zero.config import HandlerRule
from schedule_zero.errors import ConfigError
from schedule_zero.wire.messages import Name

log = structlog.get_logger(__name__)

# The operator's keys, by which rules are made, and the mirror's, which say nothing here.
RULE_KEYS = HandlerRule.__struct_fields__
MIRROR_KEYS = ("id", "status", "methods", "nodes", "registered_at", "last_updated", "address")

_HEADER = """\
# Written by ScheduleZero: what it knows about its handlers, for people to read.
# You may add allowed_methods and limits (max_running, rate, params_bytes, timeout_s) to a handler: they are kept, and
# are in force when the server starts or gets a SIGHUP. Whatever else you change is replaced; your version stays in
# {name}.edited.
"""
_CHECKSUM = re.compile(rb"^# sha256 of what follows: ([0-9a-f]{64})\n", re.MULTILINE)

MAX_SAID = 200

Rules = dict[str, HandlerRule]


class RegistryEntry(Struct, frozen=True, kw_only=True):
    """One handler as the mirror shows it."""

    handler_id: str
    methods: list[str]
    # The nodes that serve it now.
    nodes: list[str]
    registered_us: int
    updated_us: int
    # ``Connected`` or ``Disconnected``, as in the API.
    status: str


class RegistryFile:
    """Reads both files at start; rewrites the mirror when told to. Blocking: call ``write`` in a thread, debounced."""

    def __init__(self, mirror: Path, declarations: Path | None = None) -> None:
        self._mirror = mirror
        self._declarations = declarations if declarations != mirror else None
        # What operators added to the mirror itself; written back into it each time.
        self._own: Rules = {}
        self._complained: bytes | None = None
        # What the mirror was made from, and its text.
        self._said = b""
        self._rendered = b""

    def read(self) -> Rules:
        """The rules in force, by handler id.

        Raises ConfigError that lists, with file and line, all that is wrong in either file, or is said differently
        in both. Neither file is changed.
        """
        problems: list[str] = []
        declared = self._read_one(self._declarations, problems) if self._declarations else {}
        own = self._read_one(self._mirror, problems)
        for handler_id in sorted(declared.keys() & own.keys()):
            for key in RULE_KEYS:
                here, there = (getattr(rules[handler_id], key) for rules in (own, declared))
                default = getattr(HandlerRule(), key)
                if here != there and default not in (here, there):
                    problems.append(f"{self._mirror}: {handler_id}.{key}: {self._declarations} says otherwise")
        if problems:
            head = "handler_registry.yaml is invalid" if len(problems) == 1 else "handler_registry.yaml has errors"
            raise ConfigError("\n  ".join([f"{head}:", *problems]), problems=problems)
        self._own = own
        return {name: _merged(declared.get(name), own.get(name)) for name in declared.keys() | own.keys()}

    def write(self, entries: Iterable[RegistryEntry]) -> bool:
        """Make the mirror say this; True if it now does. Never raises for what can happen to a file.

        A file that somebody edited meanwhile is kept aside, and its rules stay in it; a broken one is left alone.
        """
        try:
            found = self._mirror.read_bytes() if self._mirror.exists() else b""
            if found and not _is_ours(found) and not self._adopt(found):
                return False
            content = self._content(list(entries))
            if content != found:
                state_dir.write_private(self._mirror, content)
        except OSError as error:
            log.warning("registry_file_not_written", path=str(self._mirror), error=error.strerror)
            return False
        return True

    def _content(self, entries: list[RegistryEntry]) -> bytes:
        """The text of the mirror: written anew only when it says something else (it is asked for every second)."""
        said = msgspec.json.encode((entries, self._own))
        if said != self._said:
            self._rendered = _render(entries, self._own, self._mirror.name)
            self._said = said
        return self._rendered

    def _adopt(self, edited: bytes) -> bool:
        """Take over the rules of a file that a person edited, and keep it as it is beside the mirror."""
        problems: list[str] = []
        rules = _rules(edited, str(self._mirror), problems)
        if problems:
            if edited != self._complained:
                self._complained = edited
                log.error("registry_file_broken", problems=problems, hint="the mirror is not written until it is right")
            return False
        aside = self._mirror.with_name(f"{self._mirror.name}.edited")
        state_dir.write_private(aside, edited)
        log.warning(
            "registry_file_edited",
            path=str(self._mirror),
            kept_as=str(aside),
            hint="what it declares is in force from the next start, or SIGHUP",
        )
        self._own = rules
        return True

    def _read_one(self, path: Path, problems: list[str]) -> Rules:
        try:
            return _rules(path.read_bytes(), str(path), problems)
        except FileNotFoundError:
            return {}
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            return {}


# --- file → rules -----------------------------------------------------------------------------------


def _rules(raw: bytes, name: str, problems: list[str]) -> Rules:
    rules: Rules = {}
    try:
        root = yaml_file.parse(raw, name)
    except ConfigError as error:
        problems.append(error.message)
        return rules
    seen: set[str] = set()
    for handler_id, where, node in root.items():
        shown = yaml_file.shown(handler_id)
        if len(problems) >= yaml_file.MAX_PROBLEMS:
            problems.append(f"{where}: and so on: what follows was not looked at")
            break
        if handler_id in seen:
            problems.append(f"{where}: {shown}: stands here a second time")
        elif not _is_name(handler_id):
            problems.append(f"{where}: {shown}: expected a handler id (letters, digits and _.:@/-)")
        elif node.value is not None and not node.is_mapping:
            kind = yaml_file.kind(node.value)
            problems.append(f"{where}: {handler_id}: expected a mapping of {', '.join(RULE_KEYS)}, got {kind}")
        else:
            said = {key: value.value for key, value in _known(node, handler_id, problems)}
            if said:
                rules[handler_id] = msgspec.convert(said, HandlerRule)
        seen.add(handler_id)
    return rules


def _known(handler: yaml_file.Node, handler_id: str, problems: list[str]) -> Iterator[tuple[str, yaml_file.Node]]:
    """The operator's keys of one handler that are right; what is wrong goes to ``problems``."""
    for key, where_key, node in handler.items():
        if key in MIRROR_KEYS:
            continue
        if key not in RULE_KEYS:
            near = yaml_file.suggest(str(key), RULE_KEYS)
            problems.append(f"{where_key}: {handler_id}.{yaml_file.shown(key)}: unknown key{near}")
            if len(problems) >= yaml_file.MAX_PROBLEMS:
                return
            continue
        try:
            msgspec.convert({key: node.value}, HandlerRule)
        except msgspec.ValidationError as error:
            at, what = _place(node, where_key, str(error))
            problems.append(f"{at}: {handler_id}.{key}: {what}")
        else:
            yield key, node


def _place(node: yaml_file.Node, where: str, message: str) -> tuple[str, str]:
    """The line of the very key that msgspec complains about, and its complaint without its own notation of the path."""
    what, _, path = message.partition(" - at `$.")
    what = what.replace("Expected", "expected", 1).replace("Object contains unknown field", "unknown key")
    # It tells an unknown key in full, whatever its length.
    what = what if len(what) <= MAX_SAID else f"{what[:MAX_SAID]}…"
    names = path.rstrip("`").split(".")[1:]
    if unknown := re.search(r"unknown key `(\w+)`", what):
        names = [unknown[1]]
        what += yaml_file.suggest(unknown[1], type(HandlerRule().limits).__struct_fields__)
    for key, where_key, _ in node.items():
        if names and key == names[0]:
            return where_key, what if unknown else f"{key}: {what}"
    return where, what


def _is_name(handler_id: object) -> bool:
    try:
        msgspec.convert(handler_id, Name)
    except msgspec.ValidationError:
        return False
    return True


def _merged(declared: HandlerRule | None, own: HandlerRule | None) -> HandlerRule:
    """What either file says; ``read`` has refused contradictions."""
    if declared is None or own is None:
        return declared or own or HandlerRule()
    default = HandlerRule()
    chosen = {
        key: getattr(own, key) if getattr(declared, key) == getattr(default, key) else getattr(declared, key)
        for key in RULE_KEYS
    }
    return HandlerRule(**chosen)


# --- rules and entries → file -----------------------------------------------------------------------


def _render(entries: Iterable[RegistryEntry], own: Rules, name: str) -> bytes:
    document: dict[str, dict[str, Any]] = {}
    for entry in sorted(entries, key=lambda entry: entry.handler_id):
        document[entry.handler_id] = {
            "id": entry.handler_id,
            "status": entry.status,
            "methods": sorted(entry.methods),
            "nodes": sorted(entry.nodes),
            "registered_at": rfc3339(entry.registered_us),
            "last_updated": rfc3339(entry.updated_us),
        }
    for handler_id, rule in own.items():
        plain = msgspec.to_builtins(rule)
        said = {key: value for key, value in plain.items() if value != msgspec.to_builtins(HandlerRule())[key]}
        if "limits" in said:
            said["limits"] = {key: value for key, value in said["limits"].items() if value is not None}
        document.setdefault(handler_id, {}).update(said)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    body = yaml.dump(
        document, Dumper=dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110
    ).encode()
    checksum = hashlib.sha256(body).hexdigest()
    return _HEADER.format(name=name).encode() + f"# sha256 of what follows: {checksum}\n".encode() + body


def _is_ours(content: bytes) -> bool:
    """Whether nobody has changed it since it was written."""
    found = _CHECKSUM.search(content)
    return found is not None and hashlib.sha256(content[found.end() :]).hexdigest().encode() == found[1]
