"""The stylesheet: within its budget, no rule that nothing uses, and no class in a page that has no rule."""

from __future__ import annotations

import re
from pathlib import Path

import schedule_zero
from schedule_zero.web.pages import render

PACKAGE = Path(schedule_zero.__file__).parent
WEB = PACKAGE / "web"
STYLESHEET = WEB / "static" / "app.css"
TEMPLATES = {path.name: path.read_text() for path in render.TEMPLATES.glob("*.html")}
MODULES = "\n".join(path.read_text() for path in (WEB / "static").glob("*.js"))
SOURCES = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))

MOST_BYTES = 25_000
# Made of a word and a number (or none) in a template: shades of the heat map, headings of a document.
COUNTED = re.compile(r"h[1-5-]|level-[1-6]")
# Of the chart library; and put together of a level and a stream where lines of logs are made.
FOREIGN = {"u-select", "chunk", "dn", "wn"}
# By these a script finds something, or they look right as they are.
HOOKS = {"first", "idle", "plot", "switch"}


def in_rules() -> set[str]:
    """Every class that a selector names."""
    text = re.sub(r"/\*.*?\*/", "", STYLESHEET.read_text(), flags=re.DOTALL)
    selectors = [head for head in re.findall(r"([^{};]+)\{", text) if not head.strip().startswith("@")]
    return {name for head in selectors for name in re.findall(r"\.([A-Za-z][\w-]*)", head)}


def in_classes(markup: str) -> set[str]:
    """Every class that a ``class="…"`` may come to: what stands there, and the words of its expressions."""
    found: set[str] = set()
    for value in re.findall(r'class="((?:[^"{]|\{\{.*?\}\}|\{%.*?%\}|\{)*)"', markup):
        found.update(re.sub(r"[\w-]*\{\{.*?\}\}|\{%.*?%\}", " ", value).split())
        for expression in re.findall(r"\{\{(.*?)\}\}", value):
            # Not what something is compared with or looked up by, nor the keys of a mapping.
            said = re.sub(
                r"""(?:==|\bin|get|\()\s*\(?(?:['"][\w-]+['"](?:,\s*)?)+|['"][\w-]+['"]\s*(?::|in\b)""", " ", expression
            )
            found.update(word for text in re.findall(r"""['"]([\w -]+)['"]""", said) for word in text.split())
    return found - {"-"}


def words_of(text: str) -> set[str]:
    """What stands alone between quotation marks: a state, a kind, a class that a macro or a script is given."""
    return {word.replace("_", "-") for said in re.findall(r"""["']([\w -]{1,40})["']""", text) for word in said.split()}


def test_the_whole_stylesheet_is_within_its_budget() -> None:
    size = len(STYLESHEET.read_bytes())

    assert size <= MOST_BYTES, f"{size} bytes: merge what is alike before anything is added"


def test_each_class_of_the_stylesheet_is_used_somewhere() -> None:
    used = in_classes(SOURCES) | words_of(SOURCES) | words_of(MODULES)
    for markup in TEMPLATES.values():
        used |= in_classes(markup) | words_of(markup)

    unused = {name for name in in_rules() - used - FOREIGN if not COUNTED.fullmatch(name)}

    assert not unused


def test_each_class_that_a_template_gives_has_a_rule() -> None:
    known = in_rules() | HOOKS
    without = {file: sorted(classes) for file, markup in TEMPLATES.items() if (classes := in_classes(markup) - known)}

    assert not without


def test_no_hook_is_kept_that_no_template_gives() -> None:
    given = set[str]().union(*(in_classes(markup) for markup in TEMPLATES.values()))

    assert not HOOKS - given
