"""W7: the pages, with a million executions and ten thousand schedules; and what open dashboards cost the jobs.

A page is asked for as a browser does (compressed), by one caller at a time. Its first load is the page and every file
that it names, none of them cached.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
from itertools import repeat
from typing import Any, Self

import msgspec

from benchmarks.load import Connection, LoadError, closed_loop
from benchmarks.procs import Deployment
from benchmarks.report import Measured
from benchmarks.stats import percentile
from benchmarks.workloads import jobs

PART = "HX-Request: true\r\nHX-Request-Type: partial\r\nHX-Target: section#{part}\r\n"
# What an overview asks for at each hint; and what it asks for every so many seconds.
HINTED, TIMED_S = "now", {"charts": 5.0, "more": 3.0}
BROWSER = "Accept: text/html\r\nAccept-Encoding: gzip\r\n"
_FILE = re.compile(r'(?:href|src)="(/static/[^"#]+)')
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
_MODULE = re.compile(r'(?:from|import) "\./([a-z_-]+\.js)"')
# Schedules that fire on New Year's night only.
_SCHEDULE = {
    "handler_id": "demo",
    "job_method": "noop",
    "trigger": {"type": "cron", "expression": "H H 1 1 *", "timezone": "Europe/Berlin"},
}
CHUNK = 5_000


def fill(deployed: Deployment, *, schedules: int) -> None:
    """So many schedules beside the history."""
    for first in range(0, schedules, CHUNK):
        many = [_SCHEDULE | {"id": f"page.{n:05}"} for n in range(first, min(first + CHUNK, schedules))]
        deployed.control.call("POST", "/api/schedules", {"schedules": many})


def browse(deployed: Deployment, measured: Measured, *, repeats: int) -> None:
    """p95 of the slowest page, and the bytes of the heaviest first load."""
    target = deployed.target
    slowest, heaviest = ("", 0.0), ("", 0)
    for name, path in _pages(deployed).items():
        request = target.encode("GET", path, headers=BROWSER)
        load = closed_loop(target, [repeat(request, repeats)], expect=(200,))
        if load.odd:
            raise LoadError(f"GET {path} was answered {load.odd}")
        p95 = percentile(load.latencies_s, 95)
        measured.add(f"w7_page_{name}_p95_s", p95)
        slowest = max(slowest, (name, p95), key=_second)
        heaviest = max(heaviest, (name, _first_load(deployed, path)), key=_second)
    measured.add("w7_page_p95_s", slowest[1])
    measured.add("w7_page_first_load_mb", heaviest[1] / 1e6)
    measured.note(f"W7: the slowest page is {slowest[0]}, the heaviest first load {heaviest[0]}")


def _second(pair: tuple[str, Any]) -> Any:
    return pair[1]


def _pages(deployed: Deployment) -> dict[str, str]:
    control = deployed.control
    newest = control.call("GET", "/api/executions?limit=1")["records"][0]["id"]
    failed = control.call("GET", "/api/executions?limit=1&status=failed")["records"][0]["id"]
    node = control.call("GET", "/api/nodes")["nodes"][0]["node_id"]
    return {
        "overview": "/",
        "schedules": "/schedules",
        "schedule": "/schedules/history",
        "executions": "/executions",
        "executions_failed": "/executions?q=state%3Afailed",
        "executions_rare": "/executions?q=arg.customer%3A42",
        "execution": f"/executions/{newest}",
        "execution_failed": f"/executions/{failed}",
        "nodes": "/nodes",
        "node": f"/nodes/{node}",
        "handlers": "/handlers",
        "dead_letters": "/dead-letters",
        "forecast": "/forecast",
        "audit": "/audit",
        "settings": "/settings",
        "docs": "/docs",
    }


def _first_load(deployed: Deployment, path: str) -> int:
    """Bytes on the wire of the page and of all files that it makes a browser ask for."""
    with Connection(deployed.target) as browser:
        page = browser.send(deployed.target.encode("GET", path, headers=BROWSER)).body
        total, seen = len(page), set[str]()
        wanted = set(_FILE.findall(_plain(page)))
        while wanted:
            file = wanted.pop()
            seen.add(file)
            body = browser.send(deployed.target.encode("GET", file, headers=BROWSER)).body
            total += len(body)
            if file.endswith(".js"):
                folder = file.rpartition("/")[0]
                wanted |= {f"{folder}/{name}" for name in _MODULE.findall(_plain(body))} - seen
    return total


def _plain(body: bytes) -> str:
    return (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode()


class Dashboards:
    """Open overviews: each hears the hints, and asks for its parts as the page does: at most once a second, or in turn.

    In a thread of their own. What they cost the client is not counted, only what the server spends on them.
    """

    def __init__(self, deployed: Deployment, count: int) -> None:
        self._target = deployed.target
        self.refreshes = [0] * count
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open_all(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _open_all(self) -> None:
        self._tasks = [asyncio.create_task(self._look(number)) for number in range(len(self.refreshes))]

    async def _close_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _look(self, number: int) -> None:
        target = self._target
        stream = target.encode("GET", "/live?topics=execution,node,schedule,schedules,dead_letters")
        parts = {
            name: target.encode("GET", "/?range=1h", headers=BROWSER + PART.format(part=name))
            for name in (HINTED, *TIMED_S)
        }
        hints, asks = await asyncio.open_connection(target.host, target.port)
        answers, asking = await asyncio.open_connection(target.host, target.port)
        asks.write(stream)
        loop = asyncio.get_running_loop()
        # Not all at the same moment.
        due = {name: loop.time() + every_s * (number % 10) / 10 for name, every_s in TIMED_S.items()}
        while True:
            await hints.readuntil(b"event: sz-hint")
            await hints.readuntil(b"\n\n")
            wanted = [HINTED, *(name for name, at in due.items() if at <= loop.time())]
            for name in wanted:
                if name in due:
                    due[name] = loop.time() + TIMED_S[name]
                asking.write(parts[name])
                head = await answers.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                if not head.startswith(b"HTTP/1.1 200") or found is None:
                    raise LoadError(f"a dashboard's part was answered {head[:100]!r}")
                await answers.readexactly(int(found[1]))
                self.refreshes[number] += 1
            await asyncio.sleep(1.0)


def dashboards(deployed: Deployment, measured: Measured, *, count: int, bulk: int, rounds: int) -> None:
    """How much more of the processors' time W1 takes while ``count`` overviews are open; with and without in turn."""
    body = msgspec.json.encode({"executions": [jobs.NOOP] * jobs.CHUNK})
    requests = [deployed.target.encode("POST", "/api/executions", body)] * (bulk // jobs.CHUNK)
    for _ in range(rounds):
        alone = jobs.timed_bulk(deployed, requests, bulk)
        with Dashboards(deployed, count) as opened:
            looked_at = jobs.timed_bulk(deployed, requests, bulk)
        measured.add("w7_dashboards_share", looked_at.cpu_s / alone.cpu_s - 1)
        measured.add("w7_dashboards_refreshes_per_s", sum(opened.refreshes) / looked_at.seconds)
        measured.add("w7_dashboards_time_share", looked_at.seconds / alone.seconds - 1)
