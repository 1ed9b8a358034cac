"""Where ``vendor.py`` gets tarballs from: npm, which knows its registry, proxy and login; or a registry, by HTTP.

Believes nothing: whoever asks compares what came with the integrity that was written down.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import quote

import httpx

PUBLIC_REGISTRY = "https://registry.npmjs.org"
TIMEOUT_S = 120.0


class SourceError(Exception):
    """A tarball, or what is known of it, could not be had; says which, from where, and why."""


class Source(Protocol):
    """Both raise SourceError. ``name`` is npm's, perhaps with its scope; ``version`` is exact."""

    def tarball(self, name: str, version: str) -> bytes: ...

    def integrity(self, name: str, version: str) -> str:
        """What the registry says the tarball's hash is: ``sha512-…`` in base64."""


def chosen_source(registry: str | None) -> Source:
    """The registry that was asked for; else npm, if it is there; else the registry of npm's variable, or npm's own."""
    if registry is None and (npm := shutil.which("npm")):
        return Npm(npm)
    return Registry(registry or os.environ.get("npm_config_registry") or PUBLIC_REGISTRY)  # noqa: SIM112 (npm spells it so)


class Npm:
    """The command ``npm``. It downloads; it runs nothing of what it downloads."""

    def __init__(self, command: str) -> None:
        self.command = command

    def tarball(self, name: str, version: str) -> bytes:
        with TemporaryDirectory() as folder:
            self.run("pack", f"{name}@{version}", "--ignore-scripts", "--pack-destination", folder)
            tarballs = list(Path(folder).glob("*.tgz"))
            if len(tarballs) != 1:
                raise SourceError(f"npm pack {name}@{version}: expected one tarball, got {len(tarballs)}")
            return tarballs[0].read_bytes()

    def integrity(self, name: str, version: str) -> str:
        return self.run("view", f"{name}@{version}", "dist.integrity").strip()

    def run(self, *arguments: str) -> str:
        said = f"npm {' '.join(arguments[:2])}"
        try:
            done = subprocess.run(
                [self.command, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceError(f"{said}: {error}") from error
        if done.returncode:
            raise SourceError(f"{said}: exit code {done.returncode}\n{done.stderr.strip()}")
        return done.stdout


class Registry:
    """A registry that speaks npm's protocol, without a login."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self.client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=True, transport=transport)

    def tarball(self, name: str, version: str) -> bytes:
        return self.get(self.about(name, version, "tarball")).content

    def integrity(self, name: str, version: str) -> str:
        return self.about(name, version, "integrity")

    def about(self, name: str, version: str, field: str) -> str:
        url = f"{self.url}/{quote(name, safe='@')}/{version}"
        try:
            value = self.get(url).json()["dist"][field]
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"GET {url}: expected JSON with dist.{field}: {error!r}") from error
        if not isinstance(value, str):
            raise SourceError(f"GET {url}: expected dist.{field} to be text, got {value!r}")
        return value

    def get(self, url: str) -> httpx.Response:
        try:
            return self.client.get(url).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(f"GET {url}: {str(error) or type(error).__name__}") from error
