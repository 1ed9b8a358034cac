"""The one place from which everything is printed. Notes, errors and results are written by anybody: what in them a
terminal would obey (escape sequences, marks that turn the direction of writing) never reaches it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple

import click


class Styled(NamedTuple):
    """A text in a colour, on a terminal that is to show colours."""

    text: str
    fg: str | None = None
    bold: bool = False


def say(*parts: str | Styled, err: bool = False, nl: bool = True) -> None:
    """Print the parts, one after the other. Lines and tabs stay; other characters that don't print become spaces."""
    stream = sys.stderr if err else sys.stdout
    coloured = colour(stream)
    text = "".join(_shown(part, coloured=coloured) for part in parts)
    click.echo(text, err=err, nl=nl, color=coloured)


def pass_on(text: str) -> None:
    """Print the text that a job returned: as it is, unless a terminal would show it."""
    if sys.stdout.isatty():
        say(text)
    else:
        click.echo(text, color=True)


def _shown(part: str | Styled, *, coloured: bool) -> str:
    if isinstance(part, str):
        return clean(part)
    text = clean(part.text)
    return click.style(text, fg=part.fg, bold=part.bold or None) if coloured else text


def clean(text: str) -> str:
    """A text without what a terminal would obey."""
    if _prints(text):
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def json_text(document: Any, indent: int | None = None) -> str:
    """JSON of which every character prints: the others are escaped, so that nothing is lost."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    if _prints(text):
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _prints(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable()


def colour(stream: Any) -> bool:
    """https://no-color.org: colours on a terminal, unless NO_COLOR is set to something."""
    return not os.environ.get("NO_COLOR") and hasattr(stream, "isatty") and stream.isatty()
