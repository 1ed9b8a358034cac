"""The examples in the pages are ones that could be typed: Python compiles, JSON parses, commands and flags exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from tests.docs.test_links import PAGES, ROOT

COMMANDS = ("schedule-zero", "schedule-zero-server", "schedule-zero-handler", "schedule-zero-testbed")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.strip().splitlines()[0][:60]}"


def blocks(*languages: str) -> Iterator[Example]:
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in languages:
                yield Example(str(page.relative_to(ROOT)), text)


def command_lines() -> Iterator[Example]:
    for block in blocks("sh", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = line.split()
            if words and Path(words[0]).name in COMMANDS:
                yield Example(block.page, line)


@pytest.mark.parametrize("example", list(blocks("python")), ids=str)
def test_python_compiles(example):
    compile(example.text, example.page, "exec")


@pytest.mark.parametrize("example", list(blocks("json")), ids=str)
def test_json_parses(example):
    json.loads(example.text.replace("…", "..."))


@pytest.mark.parametrize("example", list(command_lines()), ids=str)
def test_commands_and_flags_exist(example):
    name, *words = shlex.split(example.text, comments=True)
    (entry,) = entry_points(group="console_scripts", name=Path(name).name)
    command: click.Command = entry.load()
    options = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    while words:
        word = words.pop(0)
        if word in ("|", ">", "&&", ">>"):
            break
        if word.startswith("-") and word != "-":
            flag, equals, _ = word.partition("=")
            if flag in ("--help", "-h", "--version"):
                continue
            assert flag in options, f"{command.name} has no {flag}"
            if not equals and not getattr(options[flag], "is_flag", False):
                words.pop(0)
        elif isinstance(command, click.Group):
            assert word in command.commands, f"{command.name} has no {word}"
            command = command.commands[word]
            # What stands before a command may also stand after it.
            options |= {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
