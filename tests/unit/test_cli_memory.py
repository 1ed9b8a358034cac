"""When large blocks are given back at once: where the C library can, and nobody has decided otherwise."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from schedule_zero.cli import memory


class Library:
    """A C library with ``mallopt``, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def mallopt(self, what: int, value: int) -> int:
        self.told.append((what, value))
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return library


def test_both_thresholds_are_kept_where_they_are(library: Library) -> None:
    assert memory.give_large_blocks_back()
    # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    assert sorted(library.told) == [(-3, 131_072), (-1, 131_072)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ("MALLOC_TRIM_THRESHOLD_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536"),
    ],
)
def test_what_an_operator_has_decided_stays(
    library: Library, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not memory.give_large_blocks_back()
    assert library.told == []


@pytest.mark.parametrize("missing", [OSError("no library"), None])
def test_another_c_library_is_left_alone(
    library: Library, monkeypatch: pytest.MonkeyPatch, missing: OSError | None
) -> None:
    def load(_name: Any) -> object:
        if missing is not None:
            raise missing
        return object()

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not memory.give_large_blocks_back()
