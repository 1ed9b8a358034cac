"""YAML files that people write, read so that every complaint can name file and line.

Safe loader only: no tag makes an object. Duplicate keys, which YAML forbids and PyYAML swallows, are kept visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from schedule_zero.errors import ConfigError

MAX_BYTES = 1 << 20


class Node:
    """One value of the file: ``value`` in plain Python, ``where`` as ``file:line``."""

    __slots__ = ("_node", "_path", "value")

    def __init__(self, path: str, node: yaml.Node | None) -> None:
        self._path = path
        self._node = node
        self.value: Any = {} if node is None else _construct(node)

    @property
    def where(self) -> str:
        return f"{self._path}:{self._node.start_mark.line + 1}" if self._node is not None else self._path

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    def items(self) -> Iterator[tuple[Any, str, Node]]:
        """Key, where the key stands, value; a key that stands twice comes twice."""
        if not isinstance(self._node, yaml.MappingNode):
            return
        for key_node, value_node in self._node.value:
            key = _construct(key_node) if isinstance(key_node, yaml.ScalarNode) else str(key_node.value)
            yield key, f"{self._path}:{key_node.start_mark.line + 1}", Node(self._path, value_node)


def _construct(node: yaml.Node) -> Any:
    return yaml.constructor.SafeConstructor().construct_document(node)


def read(path: Path, *, shown_as: str | None = None) -> Node:
    """The document in ``path``; an empty file is an empty mapping.

    Raises ConfigError with file, line and column if it can't be read, isn't YAML or isn't a mapping.
    """
    name = shown_as or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
    return parse(raw, name)


def parse(raw: bytes, name: str) -> Node:
    """``read`` of a file that is in memory already."""
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES} bytes")
    try:
        node = yaml.SafeLoader(raw).get_single_node()
        root = Node(name, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{name}{at}: not valid YAML: {said}") from None
    except yaml.reader.ReaderError as error:
        line = raw[: error.position].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not valid YAML: {error.reason}") from None
    except (ValueError, RecursionError) as error:  # an impossible date; nesting without end
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if root.value is None:
        return Node(name, None)
    if not root.is_mapping:
        raise ConfigError(f"{root.where}: expected a mapping of keys, got {kind(root.value)}")
    return root


def kind(value: object) -> str:
    """What a value is called in YAML."""
    names = {dict: "a mapping", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value)) or ("a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean "port"?``, or nothing where nothing known is near."""
    from difflib import get_close_matches  # only on the way to an error

    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
