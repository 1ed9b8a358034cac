"""The floor: the least that a durable scheduler of this shape must do, with nothing of ScheduleZero in it.

Two processes. The first inserts a batch of jobs into SQLite (WAL, ``synchronous=FULL``), commits, and sends it over
ROUTER/DEALER as one msgpack message; the second answers with one message of results; the first records them and
commits. What arrives while a commit runs shares the next one. No HTTP, no validation, no state table, no ledger,
no heartbeats: what the product does on top of this is its overhead.

The second process is this file, run by path, so that it imports nothing but zmq and msgpack.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import zmq

SCHEMA = """
CREATE TABLE executions (
  id TEXT PRIMARY KEY, handler_id TEXT NOT NULL, job_method TEXT NOT NULL, params TEXT NOT NULL, state TEXT NOT NULL,
  priority INTEGER NOT NULL, attempt INTEGER NOT NULL, token INTEGER NOT NULL, node_id TEXT,
  created_us INTEGER NOT NULL, dispatched_us INTEGER, started_us INTEGER, finished_us INTEGER, stored_us INTEGER,
  result TEXT
) WITHOUT ROWID
"""
INSERT = "INSERT INTO executions VALUES (?,'demo','noop','{}','running',5,1,?,'floor',?,?,NULL,NULL,NULL,NULL)"
UPDATE = (
    "UPDATE executions SET state='completed', started_us=?, finished_us=?, stored_us=?, result=?"
    " WHERE id=? AND token=? AND state='running'"
)


class Floor:
    """A bare loop with its database and its worker process. Not thread safe; ``close`` ends the worker."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(SCHEMA)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set_hwm(0)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._worker = subprocess.Popen([sys.executable, __file__, f"tcp://127.0.0.1:{port}"])
        self._peer = self._socket.recv_multipart()[0]
        self._next = 1

    @property
    def worker_pid(self) -> int:
        return self._worker.pid

    def run(self, jobs: int, *, batch: int, window: int) -> float:
        """Move ``jobs`` through in batches, at most ``window`` of them under way.

        Seconds from before the first insert to after the last commit.
        """
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        execute, executemany = self._connection.execute, self._connection.executemany
        submitted = done = 0
        begin = time.perf_counter()
        while done < jobs:
            results = list(self._arrived())
            fresh: list[list[dict[str, Any]]] = []
            room = window * batch - (submitted - done - len(results))
            while room >= batch and submitted < jobs:
                fresh.append(self._new_jobs(min(batch, jobs - submitted)))
                submitted += len(fresh[-1])
                room -= batch
            if not results and not fresh:
                poller.poll()
                continue
            now = time.time_ns() // 1000
            execute("BEGIN IMMEDIATE")
            if results:
                executemany(
                    UPDATE,
                    [
                        (item["started_us"], item["finished_us"], now, item["result"], item["id"], item["token"])
                        for item in results
                    ],
                )
            for items in fresh:
                executemany(INSERT, [(item["id"], item["token"], now, now) for item in items])
            execute("COMMIT")
            done += len(results)
            for items in fresh:
                self._socket.send_multipart([self._peer, msgpack.packb({"t": "DISPATCH", "items": items})])
        return time.perf_counter() - begin

    def one_by_one(self, jobs: int) -> list[float]:
        """Each job's seconds from before its insert to after the commit of its result, one at a time."""
        return [self.run(1, batch=1, window=1) for _ in range(jobs)]

    def close(self) -> None:
        self._socket.send_multipart([self._peer, b""])
        self._worker.wait(10)
        self._context.destroy(linger=0)
        self._connection.close()

    def _new_jobs(self, count: int) -> list[dict[str, Any]]:
        first = self._next
        self._next += count
        return [
            {"id": f"{n:026d}", "token": n, "attempt": 1, "handler_id": "demo", "job_method": "noop", "params": b"{}"}
            for n in range(first, first + count)
        ]

    def _arrived(self) -> Iterator[dict[str, Any]]:
        while True:
            try:
                _, body = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield from msgpack.unpackb(body)["items"]


@contextmanager
def floor(folder: Path) -> Iterator[Floor]:
    """A bare loop in ``folder`` for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Floor(folder)
    try:
        yield running
    finally:
        running.close()


def work(address: str) -> None:
    """The second process: answer each batch with its results, until an empty message."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set_hwm(0)
    socket.connect(address)
    socket.send(b"")
    while body := socket.recv():
        items = []
        for item in msgpack.unpackb(body)["items"]:
            started = time.time_ns() // 1000
            items.append(
                {
                    "id": item["id"],
                    "token": item["token"],
                    "outcome": "completed",
                    "result": b"null",
                    "started_us": started,
                    "finished_us": time.time_ns() // 1000,
                }
            )
        socket.send(msgpack.packb({"t": "RESULT", "items": items}))
    context.destroy(linger=0)


if __name__ == "__main__":
    work(sys.argv[1])
