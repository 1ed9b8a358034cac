"""Documents that people write in YAML where the API takes JSON: read as YAML 1.2 has it, with the line of each value.

22:00 is no number of seconds, 2026-12-24 a text, and NO is Norway. JSON is YAML, too. Bounded as ``yaml_file`` is.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from schedule_zero import yaml_file
from schedule_zero.errors import BadRequest

# What a plain word may be beside a text: tag, form, first letters.
_PLAIN = (
    ("null", r"^(~|null|)$", ["~", "n", ""]),
    ("bool", r"^(true|false)$", list("tf")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?[0-9]+\.[0-9]+$", list("-+0123456789")),
    ("merge", r"^<<$", ["<"]),
)


class _Loader(yaml_file.Loader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as PyYAML has it


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for _tag, _pattern, _first in _PLAIN:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Constructor(yaml_file.Constructor):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        # A scalar may be tagged as a mapping (its value is a text then); that it is none is said below.
        for key, _ in node.value if isinstance(node.value, list) else ():
            if key.value in keys:
                raise yaml_file.refused(f"the key {yaml_file.shown(key.value)} stands twice", key)
            if isinstance(key, yaml.ScalarNode):
                keys.add(key.value)
        return super().construct_mapping(node, deep)


class YamlDocument:
    """``value`` in plain JSON values, and where each part of it stands."""

    def __init__(self, value: Any, node: yaml.Node | None) -> None:
        self.value = value
        self._node = node

    def line(self, pointer: str) -> int | None:
        """The line (from 1) of what an RFC 6901 pointer names, or of what holds it; None for an empty document."""
        node, line = self._node, None
        for step in [None, *pointer.split("/")[1:]]:
            if step is not None:
                node = _below(node, step.replace("~1", "/").replace("~0", "~"))
            if node is None:
                break
            line = node.start_mark.line + 1
        return line


def _below(node: yaml.Node | None, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value):
        found: yaml.Node = node.value[int(step)]
        return found
    return None


def parse(text: str) -> YamlDocument:
    """The document. BadRequest, whose ``data["line"]`` is the line where that is known."""
    try:
        node = yaml_file.compose(text, _Loader)
        value = None if node is None else _Constructor().construct_document(node)
        json.dumps(value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise BadRequest(f"not valid YAML: {said}", line=mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise BadRequest(f"not valid YAML: {error}", line=None) from None
    except TypeError as error:
        raise BadRequest(f"expected what JSON has as well: {error}", line=None) from None
    return YamlDocument(value, node)


def dump(value: Any) -> str:
    """A document as people write it; ``parse`` reads it back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Several lines stand as they are.
    style = "|" if "\n" in text.strip() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
