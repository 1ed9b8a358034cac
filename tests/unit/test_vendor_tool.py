from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tools.vendor_sources import Npm, Registry, SourceError, chosen_source
from tools.vendor_sprite import IconError, sprite

ICON = b"""<svg class="icon" xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" fill="none"
  stroke="currentColor"><path d="M1 2h3" /><circle cx="1" cy="2" r="3"/></svg>"""

# --- sources ----------------------------------------------------------------------------------------


def registry(answers: Mapping[str, httpx.Response]) -> Registry:
    def answer(request: httpx.Request) -> httpx.Response:
        return answers.get(str(request.url), httpx.Response(404))

    return Registry("https://r.example/npm/", httpx.MockTransport(answer))


def test_a_registry_gives_the_tarball_that_it_names():
    about = {"dist": {"integrity": "sha512-x", "tarball": "https://files.example/graph.tgz"}}
    source = registry(
        {
            "https://r.example/npm/@someone%2Fgraph/1.2.3": httpx.Response(200, json=about),
            "https://files.example/graph.tgz": httpx.Response(200, content=b"tarball"),
        }
    )
    assert source.tarball("@someone/graph", "1.2.3") == b"tarball"
    assert source.integrity("@someone/graph", "1.2.3") == "sha512-x"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(404), "404"),
        (httpx.Response(200, text="hello"), "expected JSON with dist.tarball"),
        (httpx.Response(200, json={"dist": {}}), "expected JSON with dist.tarball"),
        (httpx.Response(200, json={"dist": {"tarball": 1}}), "expected dist.tarball to be text, got 1"),
    ],
)
def test_a_registry_s_odd_answer_is_told_with_its_address(answer: httpx.Response, says: str):
    source = registry({"https://r.example/npm/graph/1.2.3": answer})
    with pytest.raises(SourceError) as caught:
        source.tarball("graph", "1.2.3")
    assert str(caught.value).startswith("GET https://r.example/npm/graph/1.2.3: ")
    assert says in str(caught.value)


def made_npm(folder: Path, script: str) -> str:
    command = folder / "npm"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    return str(command)


def test_npm_packs_the_exact_version_and_runs_no_scripts(tmp_path: Path):
    script = f'echo "$@" >> {tmp_path}/asked; [ "$1" = view ] && echo sha512-x || printf tarball > "$5/graph-1.2.3.tgz"'
    source = Npm(made_npm(tmp_path, script))
    assert source.tarball("@someone/graph", "1.2.3") == b"tarball"
    assert source.integrity("@someone/graph", "1.2.3") == "sha512-x"
    packed, viewed = (tmp_path / "asked").read_text().splitlines()
    assert packed.startswith("pack @someone/graph@1.2.3 --ignore-scripts --pack-destination ")
    assert viewed == "view @someone/graph@1.2.3 dist.integrity"


def test_what_npm_says_when_it_fails_is_passed_on(tmp_path: Path):
    source = Npm(made_npm(tmp_path, "echo no such version >&2; exit 1"))
    with pytest.raises(SourceError) as caught:
        source.tarball("graph", "1.2.3")
    assert str(caught.value) == "npm pack graph@1.2.3: exit code 1\nno such version"


def test_npm_that_brings_nothing_is_told(tmp_path: Path):
    with pytest.raises(SourceError, match="expected one tarball, got 0"):
        Npm(made_npm(tmp_path, "true")).tarball("graph", "1.2.3")


def test_npm_is_asked_where_there_is_one_unless_a_registry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("npm_config_registry", raising=False)
    assert chosen_source(None).url == "https://registry.npmjs.org"
    monkeypatch.setenv("npm_config_registry", "https://r.example/npm/")
    assert chosen_source(None).url == "https://r.example/npm"
    command = made_npm(tmp_path, "true")
    assert chosen_source(None).command == command
    assert chosen_source("https://other.example").url == "https://other.example"


# --- the sprite -------------------------------------------------------------------------------------


def test_a_sprite_keeps_how_each_icon_is_drawn():
    assert sprite({"arrow-left": ICON}, notice="someone's -- MIT").decode().splitlines() == [
        '<svg xmlns="http://www.w3.org/2000/svg">',
        "<!-- someone's - - MIT -->",
        (
            '<symbol id="i-arrow-left" viewBox="0 0 24 24" fill="none" stroke="currentColor">'
            '<path d="M1 2h3"/><circle cx="1" cy="2" r="3"/></symbol>'
        ),
        "</svg>",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"<path", b'<path id="a"', "<path> has id, which we do not know"),
        (b"<path", b'<path onclick="a()"', "<path> has onclick, which we do not know"),
        (b"<path", b"<style/><path", "got <style>"),
        (b"<path", b'<path xmlns="http://www.w3.org/1999/xhtml"', "got <{http://www.w3.org/1999/xhtml}path>"),
        (b' r="3"/>', b"><title/></circle>", "got <circle>"),
        (b"<svg", b'<svg style="color: red"', "<svg> has style, which we do not know"),
        (b"0 0 24 24", b"0 0 16 16", "expected <svg viewBox='0 0 24 24'>, got <svg viewBox='0 0 16 16'>"),
        (b"</svg>", b"", "expected SVG"),
    ],
)
def test_an_icon_with_anything_but_shapes_is_refused(old: bytes, new: bytes, says: str):
    with pytest.raises(IconError) as caught:
        sprite({"odd": ICON.replace(old, new)}, notice="")
    assert str(caught.value).startswith("icon 'odd': ")
    assert says in str(caught.value)
