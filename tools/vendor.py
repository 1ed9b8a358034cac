"""Renews the front-end files of others, in ``schedule_zero/web/static/vendor``, as ``vendor.toml`` there lists them.

Each package's tarball comes from the npm registry and has to have the integrity that is written down; the listed
files are copied as they are, the listed icons become one sprite, and what is no longer listed goes. ``--check`` asks
nobody: it hashes the files again. Nothing is half written: a new folder is made beside the old one and takes its place
when it is whole.

To add a package, add a ``[[package]]``; for another version, change ``version`` and take out ``integrity``: then the
registry is asked for it, and it is written down, as are the size and hash of each file. Comments of one's own in
``vendor.toml`` are not kept.

Exit codes: 0 all is well; 1 ``--check`` found differences; 2 an error, and nothing was changed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import sys
import tarfile
import textwrap
import tomllib
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tools.vendor_sources import Source, SourceError, chosen_source
from tools.vendor_sprite import IconError, sprite

FOLDER = Path(__file__).resolve().parents[1] / "schedule_zero" / "web" / "static" / "vendor"
MANIFEST = "vendor.toml"

HEAD = """\
# Front-end files of others, as their authors published them. `python tools/vendor.py` renews them and writes this file,
# `python tools/vendor.py --check` hashes them again; how to add or change one stands at the head of that tool.
"""

NAME = re.compile(r"[a-z][a-z0-9-]*")
NPM = re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*")
VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LICENCE = re.compile(r"(licen[cs]e|copying)\b.*", re.IGNORECASE)


class VendorError(Exception):
    """What is wrong with ``vendor.toml`` or with what came; a line for each problem."""


class File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"source": "from", "target": "to"}):
    """``source`` is a path in the tarball, ``target`` a file's name here; we find out ``sha256`` and ``bytes``."""

    source: str
    target: str
    bytes: int = 0
    sha256: str = ""


class Sprite(File, kw_only=True):
    """One file of many ``icons``: each is ``<source>/<icon>.svg`` in the tarball, and ``#i-<icon>`` in the sprite."""

    icons: list[str]


class Package(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``npm`` is its name there, ``integrity`` npm's hash of the tarball, ``licence`` an SPDX expression."""

    name: str
    npm: str
    version: str
    integrity: str = ""
    licence: str
    used_for: str
    files: list[File]
    sprite: Sprite | None = None

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.version}"

    def every_file(self) -> list[File]:
        return [*self.files, *([self.sprite] if self.sprite else [])]


class Manifest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    packages: list[Package] = msgspec.field(name="package")


# --- vendor.toml ------------------------------------------------------------------------------------


def read(folder: Path) -> list[Package]:
    """The packages that ``vendor.toml`` lists. Raises VendorError with all that is wrong with it."""
    path = folder / MANIFEST
    try:
        packages = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Manifest).packages
    except (OSError, ValueError) as error:  # not there, not UTF-8, not TOML, not of this shape
        raise VendorError(f"{path}: {error}") from error
    problems = [f"{MANIFEST}, {package.name!r}: {fault}" for package in packages for fault in faults(package)]
    problems += [f"{MANIFEST}: two packages are named {name!r}" for name in twice([one.name for one in packages])]
    if problems:
        raise VendorError("\n".join(problems))
    return packages


def faults(package: Package) -> list[str]:
    """What is wrong with an entry beyond its shape: whatever becomes a path, an argument or a line is looked at."""
    forms = {"name": (NAME, "htmx"), "npm": (NPM, "@scope/name"), "version": (VERSION, "an exact one, such as 1.6.32")}
    if package.integrity:
        forms["integrity"] = (INTEGRITY, "npm's, sha512-… in base64, or none in order to ask the registry")
    found = [
        f"{field} is {value!r}; expected {example}"
        for field, (form, example) in forms.items()
        if not form.fullmatch(value := getattr(package, field))
    ]
    texts = [("licence", package.licence), ("used_for", package.used_for)]
    texts += [("from", file.source) for file in package.every_file()]
    found += [f"{field} is {text!r}; expected one line of text" for field, text in texts if not plain(text)]
    targets = [file.target for file in package.every_file()]
    found += [
        f"to is {name!r}; expected a file's name, without folders" for name in targets if not TARGET.fullmatch(name)
    ]
    found += [f"two files are called {name!r}" for name in twice([name.lower() for name in targets])]
    if not any(LICENCE.fullmatch(file.target) for file in package.files):
        found.append("no licence among its files; expected one that is called LICENSE here")
    if package.sprite:
        icons = package.sprite.icons
        found += [f"icon {name!r}; expected a name such as arrow-right" for name in icons if not NAME.fullmatch(name)]
        found += [f"icon {name!r} is listed twice" for name in twice(icons)]
    return found


def plain(text: str) -> bool:
    return bool(text) and text.isprintable()


def twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def written(packages: list[Package]) -> str:
    """The text of ``vendor.toml``: one line for each file, so that a change of one is a change of one line."""
    parts = [HEAD]
    for package in packages:
        lines = ["[[package]]"]
        lines += [
            f"{field} = {quoted(getattr(package, field))}"
            for field in ("name", "npm", "version", "integrity", "licence", "used_for")
            if getattr(package, field)
        ]
        lines += ["files = [", *(f"  {{ {', '.join(fields(file))} }}," for file in package.files), "]"]
        if package.sprite:
            icons = textwrap.wrap(", ".join(map(quoted, package.sprite.icons)), 116, break_on_hyphens=False)
            lines += ["", "[package.sprite]", *fields(package.sprite)]
            lines += ["icons = [", *(f"  {line.removesuffix(',')}," for line in icons), "]"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def fields(file: File) -> list[str]:
    hashes = [f"bytes = {file.bytes}", f"sha256 = {quoted(file.sha256)}"] if file.sha256 else []
    return [f"from = {quoted(file.source)}", f"to = {quoted(file.target)}", *hashes]


def quoted(text: str) -> str:
    """A string of TOML: for printable text it looks as JSON's does."""
    return json.dumps(text, ensure_ascii=False)


# --- --check ----------------------------------------------------------------------------------------


def check(folder: Path) -> list[str]:
    """What is not as ``vendor.toml`` says, a line for each. Raises VendorError if that file itself is no good."""
    packages = read(folder)
    listed = {f"{package.folder}/{file.target}": file for package in packages for file in package.every_file()}
    found = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    problems = [f"{name}: not listed in {MANIFEST}" for name in sorted(found - listed.keys() - {MANIFEST})]
    for name, file in listed.items():
        if name not in found:
            problems.append(f"{name}: listed in {MANIFEST}, and not there")
        elif (folder / name).is_symlink():
            problems.append(f"{name}: a link; expected the file itself")
        elif (sha256 := digest(content := (folder / name).read_bytes())) != file.sha256:
            expected = f"{file.bytes} bytes, sha256 {file.sha256}" if file.sha256 else "no hash yet"
            problems.append(f"{name}: {len(content)} bytes, sha256 {sha256}; {MANIFEST} has {expected}")
    problems += [f"{MANIFEST}, {package.name!r}: no integrity yet" for package in packages if not package.integrity]
    if not problems and (folder / MANIFEST).read_text(encoding="utf-8") != written(packages):
        problems.append(f"{MANIFEST}: not as tools/vendor.py writes it")
    return problems


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- renewing ---------------------------------------------------------------------------------------


def renew(folder: Path, source: Source) -> list[str]:
    """Put what ``vendor.toml`` lists into ``folder``, and sizes and hashes into ``vendor.toml``; return what changed.

    Raises VendorError, SourceError or IconError, with ``folder`` as it was.
    """
    packages = read(folder)
    with TemporaryDirectory(prefix=".vendor-", dir=folder.parent) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        for package in packages:
            take(package, source, new / package.folder)
        (new / MANIFEST).write_text(written(packages), encoding="utf-8")
        changes = differences(folder, new)
        exchange(folder, new, Path(temporary, "old"))
    return changes


def take(package: Package, source: Source, into: Path) -> None:
    """Write a package's files into the new folder ``into``, and note in ``package`` what they are."""
    tarball = source.tarball(package.npm, package.version)
    expected = package.integrity or source.integrity(package.npm, package.version)
    came = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if came != expected:
        raise VendorError(
            f"{package.npm} {package.version}: expected a tarball with the integrity {expected}, got {came}; "
            f"after a change of the version, take `integrity` out of {MANIFEST}"
        )
    package.integrity = expected
    contents = unpacked(package, tarball)
    into.mkdir()
    for file in package.files:
        keep(file, contents[file.source], into)
    if package.sprite:
        notice = f"{package.npm} {package.version}, {package.licence}: see LICENSE"
        icons = {name: contents[f"{package.sprite.source}/{name}.svg"] for name in package.sprite.icons}
        keep(package.sprite, sprite(icons, notice=notice), into)


def unpacked(package: Package, tarball: bytes) -> dict[str, bytes]:
    """The files of a tarball that ``package`` wants, by their paths in it. Nothing is unpacked to the disk."""
    wanted = {file.source for file in package.files}
    if package.sprite:
        wanted |= {f"{package.sprite.source}/{name}.svg" for name in package.sprite.icons}
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
            for member in archive:
                _, _, path = member.name.partition("/")  # the first folder has any name; mostly `package`
                if path in wanted and (stream := archive.extractfile(member)) and member.isfile():
                    contents[path] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise VendorError(f"{package.npm} {package.version}: expected a gzipped tarball: {error}") from error
    if missing := sorted(wanted - contents.keys()):
        raise VendorError(f"{package.npm} {package.version}: its tarball has no {', '.join(missing)}")
    return contents


def keep(file: File, content: bytes, folder: Path) -> None:
    (folder / file.target).write_bytes(content)
    file.bytes, file.sha256 = len(content), digest(content)


def differences(old: Path, new: Path) -> list[str]:
    """The files that one folder has and the other has not, or has otherwise; a line for each."""
    before, after = (
        {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for folder in (old, new)
    )
    lines = [f"{name}: gone" for name in before.keys() - after.keys()]
    lines += [f"{name}: new" for name in after.keys() - before.keys()]
    lines += [
        f"{name}: changed"
        for name in before.keys() & after.keys()
        if before[name].read_bytes() != after[name].read_bytes()
    ]
    return sorted(lines)


def exchange(folder: Path, new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``folder``, which moves to ``old``; or leave everything where it is."""
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise


def main(arguments: list[str] | None = None) -> int:
    description, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing, ask nobody; exit code 1 if a file differs"
    )
    parser.add_argument(
        "--registry", metavar="URL", help="ask this registry; without it, the one that npm is set up with"
    )
    options = parser.parse_args(arguments)
    try:
        lines = check(FOLDER) if options.check else renew(FOLDER, chosen_source(options.registry))
    except (VendorError, SourceError, IconError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for line in lines:
        print(line, file=sys.stderr if options.check else sys.stdout)
    if not lines:
        print("every file is as listed" if options.check else "nothing changed")
    return int(options.check and bool(lines))


if __name__ == "__main__":
    sys.exit(main())
