from __future__ import annotations

import base64
import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import vendor
from tools.vendor_sprite import IconError

ICON = b"""<!-- by its author -->
<svg class="icon" xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" fill="none"
  stroke="currentColor" stroke-width="2"><path d="M1 2h3" /><circle cx="1" cy="2" r="3"/></svg>"""

ENTRY = """
[[package]]
name = "graph"
npm = "@someone/graph"
version = "1.2.3"
licence = "MIT"
used_for = "graphs"
files = [{ from = "dist/graph.js", to = "graph.js" }, { from = "LICENSE", to = "LICENSE" }]

[package.sprite]
from = "icons"
to = "icons.svg"
icons = ["x", "arrow-left"]
"""

PUBLISHED = {
    "package/LICENSE": b"Do what you like.",
    "package/dist/graph.js": b"export default 1;",
    "package/dist/other.js": b"export default 2;",
    "package/icons/arrow-left.svg": ICON,
    "package/icons/x.svg": ICON,
}


def tarball(contents: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


class Published:
    """A source with one tarball, whatever one asks for; notes what was asked."""

    def __init__(self, contents: Mapping[str, bytes] = PUBLISHED):
        self.content = tarball(contents)
        self.asked: list[tuple[str, ...]] = []

    def tarball(self, name: str, version: str) -> bytes:
        self.asked.append(("tarball", name, version))
        return self.content

    def integrity(self, name: str, version: str) -> str:
        self.asked.append(("integrity", name, version))
        return integrity(self.content)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the vendored files of this checkout."""
    return Path(shutil.copytree(vendor.FOLDER, tmp_path / "vendor"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose vendor.toml lists one package that was never fetched."""
    made = tmp_path / "vendor"
    made.mkdir()
    (made / vendor.MANIFEST).write_text(ENTRY)
    return made


# --- what is in this checkout -----------------------------------------------------------------------


def test_the_vendored_files_are_those_that_are_listed_byte_for_byte():
    assert vendor.check(vendor.FOLDER) == []


def test_the_sprite_has_a_symbol_for_each_listed_icon():
    packages = [package for package in vendor.read(vendor.FOLDER) if package.sprite]
    assert packages
    for package in packages:
        drawn = (vendor.FOLDER / package.folder / package.sprite.target).read_text(encoding="utf-8")
        for icon in package.sprite.icons:
            assert drawn.count(f'<symbol id="i-{icon}" viewBox="0 0 24 24"') == 1
        assert drawn.count("<symbol") == len(package.sprite.icons)


# --- --check ----------------------------------------------------------------------------------------


def test_one_changed_byte_in_any_file_is_found(copy: Path):
    for name in sorted(state(copy).keys() - {vendor.MANIFEST}):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
        (problem,) = vendor.check(copy)
        assert problem.startswith(f"{name}: {len(content)} bytes, sha256 ")
        (copy / name).write_bytes(content)
    assert vendor.check(copy) == []


def test_a_file_that_is_not_listed_is_found(copy: Path):
    (copy / "htmx" / "more").mkdir(parents=True)
    (copy / "htmx" / "more" / "extra.js").write_text("1")
    assert vendor.check(copy) == ["htmx/more/extra.js: not listed in vendor.toml"]


def test_a_listed_file_that_is_not_there_is_found(copy: Path):
    licence = next(copy.glob("*/LICENSE"))
    licence.unlink()
    assert vendor.check(copy) == [f"{licence.relative_to(copy)}: listed in vendor.toml, and not there"]


def test_a_link_does_not_stand_for_a_file(copy: Path, tmp_path: Path):
    script = next(copy.glob("*/*.js"))
    script.rename(tmp_path / "elsewhere.js")
    script.symlink_to(tmp_path / "elsewhere.js")
    assert vendor.check(copy) == [f"{script.relative_to(copy)}: a link; expected the file itself"]


def test_what_was_never_fetched_is_told(folder: Path):
    assert vendor.check(folder) == [
        "graph-1.2.3/graph.js: listed in vendor.toml, and not there",
        "graph-1.2.3/LICENSE: listed in vendor.toml, and not there",
        "graph-1.2.3/icons.svg: listed in vendor.toml, and not there",
        "vendor.toml, 'graph': no integrity yet",
    ]


# --- vendor.toml ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"graph"\nnpm', '"../graph"\nnpm', "name is '../graph'; expected htmx"),
        ("@someone/graph", "--someone", "npm is '--someone'; expected @scope/name"),
        ('"1.2.3"', '"^1.2"', "version is '^1.2'; expected an exact one"),
        ('"1.2.3"', '"1.2.3"\nintegrity = "sha1-abc"', "integrity is 'sha1-abc'; expected npm's, sha512-"),
        ('"MIT"', '""', "licence is ''; expected one line of text"),
        ('"graphs"', r'"a\nb"', r"used_for is 'a\nb'; expected one line of text"),
        ('to = "graph.js"', 'to = "../graph.js"', "to is '../graph.js'; expected a file's name, without folders"),
        ('to = "graph.js"', 'to = "License"', "two files are called 'license'"),
        ('to = "LICENSE"', 'to = "other.js"', "no licence among its files"),
        ('["x", ', '["x", "x", ', "icon 'x' is listed twice"),
        ('["x", ', '["../x", ', "icon '../x'; expected a name such as arrow-right"),
        (ENTRY, ENTRY + ENTRY, "two packages are named 'graph'"),
        ('"1.2.3"', "1", "Expected `str`, got `int` - at `$.package[0].version`"),
        ("licence", "license", "`license` - at `$.package[0]`"),
        ("[[package]]", "[[package", "Expected ']]'"),
    ],
)
def test_a_mistake_in_the_list_is_told_with_what_was_expected(folder: Path, old: str, new: str, says: str):
    (folder / vendor.MANIFEST).write_text(ENTRY.replace(old, new, 1))
    with pytest.raises(vendor.VendorError) as caught:
        vendor.read(folder)
    assert says in str(caught.value)
    assert "vendor.toml" in str(caught.value)


def test_all_mistakes_in_the_list_are_told_at_once(folder: Path):
    (folder / vendor.MANIFEST).write_text(ENTRY.replace('"1.2.3"', '"latest"').replace('"MIT"', '""'))
    with pytest.raises(vendor.VendorError) as caught:
        vendor.read(folder)
    assert len(str(caught.value).splitlines()) == 2


# --- renewing ---------------------------------------------------------------------------------------


def test_a_new_entry_is_all_it_takes_to_add_a_package(folder: Path):
    source = Published()
    assert vendor.renew(folder, source) == [
        "graph-1.2.3/LICENSE: new",
        "graph-1.2.3/graph.js: new",
        "graph-1.2.3/icons.svg: new",
        "vendor.toml: changed",
    ]
    assert vendor.check(folder) == []
    assert (folder / "graph-1.2.3" / "graph.js").read_bytes() == b"export default 1;"
    (package,) = vendor.read(folder)
    assert package.integrity == integrity(source.content)
    assert package.files[0].bytes == 17
    assert package.files[0].sha256 == hashlib.sha256(b"export default 1;").hexdigest()
    assert source.asked == [("tarball", "@someone/graph", "1.2.3"), ("integrity", "@someone/graph", "1.2.3")]


def test_renewing_again_changes_nothing_and_believes_the_written_integrity(folder: Path):
    source = Published()
    vendor.renew(folder, source)
    before = state(folder)
    source.asked.clear()
    assert vendor.renew(folder, source) == []
    assert state(folder) == before
    assert source.asked == [("tarball", "@someone/graph", "1.2.3")]


def test_another_version_takes_the_place_of_the_earlier_one(folder: Path):
    vendor.renew(folder, Published())
    (folder / "stray.js").write_text("1")
    (folder / vendor.MANIFEST).write_text(ENTRY.replace('"1.2.3"', '"2.0.0-rc.1"'))
    vendor.renew(folder, Published({**PUBLISHED, "package/dist/graph.js": b"export default 3;"}))
    assert vendor.check(folder) == []
    assert {path.name for path in folder.iterdir()} == {"graph-2.0.0-rc.1", "vendor.toml"}
    assert (folder / "graph-2.0.0-rc.1" / "graph.js").read_bytes() == b"export default 3;"


TAMPERED = Published({**PUBLISHED, "package/dist/graph.js": b"steal();"})
INCOMPLETE = Published({name: content for name, content in PUBLISHED.items() if "x.svg" not in name})
SCRIPTED = Published({**PUBLISHED, "package/icons/x.svg": ICON.replace(b"<path", b"<script")})
NO_TARBALL = Published()
NO_TARBALL.content = gzip.compress(b"not a tarball")


@pytest.mark.parametrize(
    ("source", "pinned", "error", "says"),
    [
        (TAMPERED, True, vendor.VendorError, "@someone/graph 1.2.3: expected a tarball with the integrity sha512-"),
        (INCOMPLETE, False, vendor.VendorError, "@someone/graph 1.2.3: its tarball has no icons/x.svg"),
        (NO_TARBALL, False, vendor.VendorError, "@someone/graph 1.2.3: expected a gzipped tarball"),
        (SCRIPTED, False, IconError, "icon 'x'"),
    ],
)
def test_a_refused_tarball_leaves_everything_as_it_was(folder: Path, source, pinned: bool, error, says: str):
    vendor.renew(folder, Published())
    if not pinned:
        text = (folder / vendor.MANIFEST).read_text()
        (folder / vendor.MANIFEST).write_text(text.replace(integrity(Published().content), ""))
    before = state(folder.parent)
    with pytest.raises(error) as caught:
        vendor.renew(folder, source)
    assert str(caught.value).startswith(says)
    assert state(folder.parent) == before
    assert [path.name for path in folder.parent.iterdir()] == ["vendor"]


def test_a_failure_at_the_last_step_leaves_everything_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = state(folder)
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="No space left"):
        vendor.renew(folder, Published())
    assert state(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["vendor"]


# --- the command ------------------------------------------------------------------------------------


def test_the_exit_code_tells_differences_from_errors(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(vendor, "FOLDER", copy)
    assert vendor.main(["--check"]) == 0
    assert capsys.readouterr().out == "every file is as listed\n"
    (copy / "stray.js").write_text("1")
    assert vendor.main(["--check"]) == 1
    assert capsys.readouterr().err == "stray.js: not listed in vendor.toml\n"
    (copy / vendor.MANIFEST).write_text("[[package]]")
    assert vendor.main(["--check"]) == 2
    assert "missing required field" in capsys.readouterr().err


def test_the_command_renews_from_its_source(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(vendor, "FOLDER", folder)
    monkeypatch.setattr(vendor, "chosen_source", lambda registry: {"https://r.example": Published()}[registry])
    assert vendor.main(["--registry", "https://r.example"]) == 0
    assert "graph-1.2.3/graph.js: new" in capsys.readouterr().out
    assert vendor.main(["--registry", "https://r.example"]) == 0
    assert capsys.readouterr().out == "nothing changed\n"
