"""YAML files that people write, read so that every complaint can name file and line.

Safe loader only: no tag makes an object. Duplicate keys, which YAML forbids and PyYAML swallows, are kept visible.
Whatever is in a file, it costs in proportion to its size: nesting has a limit, and so has what aliases multiply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml
import yaml.constructor
import yaml.reader

from schedule_zero.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 100
# What aliases may add, where each is counted as what it stands for (nine levels of nine aliases each are 387 million).
MAX_BY_ALIASES = 10_000
# Complaints about one file; the first are the useful ones.
MAX_PROBLEMS = 100
MAX_SHOWN = 100

# libyaml's where there is one: PyYAML's own takes twenty times as long, and far more over open brackets.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(_Loader):  # type: ignore[misc]  # which of the two it is is known when it runs
    """Reads YAML; what it makes are nodes."""


class Constructor(yaml.constructor.SafeConstructor):
    """Plain values, or an error with its place: PyYAML itself raises whatever comes over ``!!int ""``."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:
            kind = node.tag.removeprefix("tag:yaml.org,2002:")[:50]
            said = f": {error}" if isinstance(error, ValueError) else ""
            raise refused(f"expected a value of the type {kind}{said}"[:200], node) from None
        if isinstance(value, int) and value.bit_length() > 64:
            raise refused("a whole number of more than 64 bits", node)
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise refused("half of a surrogate pair is no character", node)
        return value


def refused(problem: str, node: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    """What is wrong with a value, with its place."""
    # libyaml's marks have a class of their own.
    return yaml.constructor.ConstructorError(None, None, problem, cast("Any", node.start_mark))


def compose(raw: bytes | str, loader: type[Loader] = Loader) -> yaml.Node | None:
    """The only document in ``raw``, bounded; None if there is none. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(raw, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise refused(f"nested deeper than {MAX_DEPTH} levels", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    node: yaml.Node | None = loader(raw).get_single_node()
    if node is not None:
        _measure(node, {}, 0)
    return node


def _measure(node: yaml.Node, sizes: dict[yaml.Node, tuple[int, int] | None], added: int) -> tuple[int, int, int]:
    """How many values are below ``node``, aliases written out, how deep it is, and what they added so far in all."""
    if node in sizes:
        known = sizes[node]
        if known is None:
            raise refused("an alias refers to itself", node)
        count, depth = known
        added += count
    else:
        sizes[node] = None
        count, depth = 1, 1
        for child in _children(node):
            more, below, added = _measure(child, sizes, added)
            count, depth = count + more, max(depth, below + 1)
        sizes[node] = (count, depth)
    if added > MAX_BY_ALIASES:
        raise refused(f"aliases make it larger by more than {MAX_BY_ALIASES} values", node)
    if depth > MAX_DEPTH:
        raise refused(f"nested deeper than {MAX_DEPTH} levels, aliases written out", node)
    return count, depth, added


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


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
    return Constructor().construct_document(node)


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
        root = Node(name, compose(raw))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{name}{at}: not valid YAML: {said}") from None
    except yaml.reader.ReaderError as error:
        line = raw[: error.position].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not valid YAML: {error.reason}") from None
    if root.value is None:
        return Node(name, None)
    if not root.is_mapping:
        raise ConfigError(f"{root.where}: expected a mapping of keys, got {kind(root.value)}")
    return root


def kind(value: object) -> str:
    """What a value is called in YAML."""
    names = {dict: "a mapping", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value)) or ("a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def shown(key: object) -> str:
    """A key for words about it: of any type, and of any length in the file."""
    text = str(key)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean "port"?``, or nothing where nothing known is near."""
    from difflib import get_close_matches  # only on the way to an error

    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word[:MAX_SHOWN].lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
