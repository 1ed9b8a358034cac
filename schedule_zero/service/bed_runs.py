"""Runs of the test bed, as they lie in their folder: read only, never outside of it, on threads.

A run is a folder with a ``report.json``. The folder is somebody else's to fill: what is no report is left out of the
list, and said when it is asked for.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec import Struct

from schedule_zero.errors import BadRequest, NotFound
from schedule_zero.reports import record
from schedule_zero.reports.compare import Comparison, compare
from schedule_zero.reports.record import REPORT, RunReport

PAGE = "report.html"
# The newest so many are shown; and what is larger is none of ours. (One of all scenarios has 2 MB.)
MOST_RUNS = 200
MAX_BYTES = 64 << 20


class BedRun(Struct, frozen=True, kw_only=True):
    """A run as the list shows it."""

    # Its folder.
    name: str
    report: RunReport
    changed_us: int
    has_page: bool


class BedRuns(Struct, frozen=True):
    """What lies in the folder. ``more``: how many older ones there are."""

    folder: str
    runs: list[BedRun]
    more: int = 0
    # Folders whose report can't be read, and why.
    unreadable: dict[str, str] = {}


class BedRunService:
    """Reports are read anew when their file has changed. What is drawn of them is not kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[tuple[int, int], RunReport]] = {}

    async def find(self) -> BedRuns:
        """All runs, the newest first."""
        return await asyncio.to_thread(self._find)

    async def get(self, name: str) -> BedRun:
        """One run. NotFound; BadRequest if its report can't be read."""
        return await asyncio.to_thread(self._get, name)

    async def page(self, name: str) -> bytes:
        """The page that the test bed made of the report: HTML of somebody else's making. NotFound."""
        return await asyncio.to_thread(self._page, name)

    async def compare(self, old: str, new: str) -> Comparison:
        """Two runs side by side. NotFound, BadRequest."""

        def both() -> Comparison:
            return compare(self._get(old).report, self._get(new).report)

        return await asyncio.to_thread(both)

    def _find(self) -> BedRuns:
        try:
            reports = [(path.stat().st_mtime_ns, path.parent) for path in self._folder.glob(f"*/{REPORT}")]
        except OSError as error:
            return BedRuns(str(self._folder), [], unreadable={str(self._folder): error.strerror or str(error)})
        runs, unreadable = [], {}
        for _, folder in sorted(reports, reverse=True)[:MOST_RUNS]:
            try:
                runs.append(self._get(folder.name))
            except (BadRequest, NotFound) as error:
                unreadable[folder.name] = error.message
        self._known = {path: known for path, known in self._known.items() if path.name in {run.name for run in runs}}
        return BedRuns(str(self._folder), runs, max(0, len(reports) - MOST_RUNS), unreadable)

    def _get(self, name: str) -> BedRun:
        folder = self._inside(name)
        path = folder / REPORT
        try:
            stat = path.stat()
        except OSError:
            raise NotFound(f"there is no run {name!r} in {self._folder}") from None
        version = (stat.st_mtime_ns, stat.st_size)
        known = self._known.get(folder)
        if known is None or known[0] != version:
            known = self._known[folder] = (version, self._read(path, stat.st_size))
        return BedRun(
            name=name, report=known[1], changed_us=stat.st_mtime_ns // 1000, has_page=(folder / PAGE).is_file()
        )

    def _read(self, path: Path, size: int) -> RunReport:
        if size > MAX_BYTES:
            raise BadRequest(f"{path}: expected a report of at most {MAX_BYTES} bytes, got {size}")
        report = record.read(path)
        for scenario in report.scenarios:
            # What is drawn is most of it, and stands on the report's own page.
            scenario.series, scenario.graphs = [], []
        return report

    def _page(self, name: str) -> bytes:
        path = self._inside(name) / PAGE
        try:
            if path.stat().st_size > MAX_BYTES:
                raise BadRequest(f"{path}: expected a page of at most {MAX_BYTES} bytes")
            return path.read_bytes()
        except OSError:
            raise NotFound(f"the run {name!r} has no {PAGE}", hint=f"schedule-zero-testbed report {name}") from None

    def _inside(self, name: str) -> Path:
        """The folder of a run; never one outside of ours, whatever links lie in it. NotFound."""
        root = self._folder.resolve()
        folder = (root / name).resolve() if "\0" not in name else root
        if folder.parent != root:
            raise NotFound(f"there is no run {name[:200]!r} in {self._folder}")
        for file in (REPORT, PAGE):
            if (folder / file).is_symlink():
                raise NotFound(f"{folder / file} is a link: reports are read from the folder of runs only")
        return folder


def verdict(report: RunReport) -> str:
    """What became of a run, in a word."""
    if report.interrupted:
        return "interrupted"
    return "kept" if report.ok else "broken"
