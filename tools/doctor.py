"""``make doctor``: what this machine has and lacks for ScheduleZero, one line each, with what to do about it.

Standard library only, and run by whichever Python there is: it has to work where nothing else does yet.
Exit code 1 if something is wrong that has to be put right.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import socket
import sqlite3
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OK, NOTE, BAD = "ok", "note", "BAD"
Finding = tuple[str, str, str]

MIN_PYTHON = (3, 11)
MIN_SQLITE = (3, 35, 0)
MIN_LIBZMQ = (4, 3, 5)
MIN_FREE_BYTES = 1 << 30
MIN_OPEN_FILES = 1024
# Where SQLite's locks and write-ahead log can't be relied on.
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs"}


def python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < MIN_PYTHON:
        yield BAD, "python", f"{version} at {sys.executable}: 3.11 or newer is needed (make PYTHON=/path/to/python3)"
    else:
        yield OK, "python", f"{version} at {sys.executable}"


def venv() -> Iterator[Finding]:
    if not (ROOT / ".venv" / "pyvenv.cfg").exists():
        yield NOTE, "venv", "no .venv yet; every make target makes it"
        try:
            from ensurepip import version  # noqa: F401
        except ImportError:
            package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            yield BAD, "venv", f"this Python can't make one: apt-get install -y {package}"
    elif not (ROOT / ".venv" / ".stamp").exists():
        yield NOTE, "venv", "not finished, or not made by tools/bootstrap.sh; make setup"
    else:
        yield OK, "venv", f"{ROOT / '.venv'}"
    for tool in ("git", "make", "strace", "faketime"):
        if shutil.which(tool) is None:
            yield NOTE, tool, f"not found: apt-get install -y {tool}"


def libraries() -> Iterator[Finding]:
    have = sqlite3.sqlite_version_info
    verdict = OK if have >= MIN_SQLITE else BAD
    yield (
        verdict,
        "sqlite",
        f"{sqlite3.sqlite_version}" + ("" if verdict == OK else f": {dotted(MIN_SQLITE)} is needed"),
    )
    try:
        import zmq
    except ImportError:
        yield NOTE, "libzmq", "pyzmq is not installed for this Python; make setup"
        return
    if zmq.zmq_version_info() < MIN_LIBZMQ:
        yield BAD, "libzmq", f"{zmq.zmq_version()}: {dotted(MIN_LIBZMQ)} or newer is needed"
    elif not zmq.has("curve"):
        yield BAD, "libzmq", f"{zmq.zmq_version()} without CURVE: nodes on other machines could not be let in safely"
    else:
        yield OK, "libzmq", f"{zmq.zmq_version()} with CURVE, pyzmq {zmq.__version__}"


def ports(addresses: list[tuple[str, str]], state_dir: Path) -> Iterator[Finding]:
    for what, address in addresses:
        host, _, port = address.rpartition(":")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
                yield OK, what, f"{address} is free"
            except OSError as error:
                yield NOTE, what, f"{address}: {error.strerror}{running_server(state_dir)}"


def running_server(state_dir: Path) -> str:
    """``; a server of this state directory runs, pid N`` where that is so."""
    try:
        pid = json.loads((state_dir / "server.json").read_bytes())["pid"]
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"; a server of this state directory runs, pid {pid}"


def disk(state_dir: Path) -> Iterator[Finding]:
    where = nearest_existing(state_dir)
    free = shutil.disk_usage(where).free
    yield (OK if free >= MIN_FREE_BYTES else BAD), "disk", f"{free / 1e9:.1f} GB free for {state_dir}"
    kind = file_system(where)
    if kind in NETWORK_FILE_SYSTEMS:
        yield BAD, "disk", f"{where} is on {kind}: SQLite needs a local file system (--state-dir)"
    if os.access(where, os.W_OK):
        yield (
            OK,
            "fsync",
            f"{fsync_ms(where):.2f} ms (median of 20): what an acknowledgement costs with durability: full",
        )


def fsync_ms(where: Path) -> float:
    took = []
    with tempfile.TemporaryFile(dir=where) as file:
        for _ in range(20):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - start)
    return statistics.median(took) * 1000


def file_system(path: Path) -> str:
    """The type of the file system that ``path`` is on, "" where /proc can't tell."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    fitting = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(fitting, default=(0, ""))[1]


def permissions(state_dir: Path) -> Iterator[Finding]:
    if not state_dir.exists():
        where = nearest_existing(state_dir)
        verdict = OK if os.access(where, os.W_OK) else BAD
        yield verdict, "state", f"{state_dir} will be made" + ("" if verdict == OK else f": {where} is not writable")
        return
    mode = stat.S_IMODE(state_dir.stat().st_mode)
    if mode & 0o077:
        yield BAD, "state", f"{state_dir} has mode {mode:04o}, others can get at the keys in it: chmod 700 {state_dir}"
    elif not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        yield BAD, "state", f"{state_dir} is not writable for {os.geteuid()}"
    else:
        yield OK, "state", f"{state_dir} (0700)"
    for secret in (path for pattern in ("*.token", "*.key", "*secret*") for path in state_dir.glob(pattern)):
        if (mode := stat.S_IMODE(secret.stat().st_mode)) & 0o077:
            yield BAD, "state", f"{secret} has mode {mode:04o}: chmod 600 {secret}"


def clocks() -> Iterator[Finding]:
    newest = max(
        (path.stat().st_mtime for path in (ROOT / "pyproject.toml", Path(__file__)) if path.exists()), default=0
    )
    if time.time() < newest - 86_400:
        yield BAD, "clock", f"says {time.strftime('%Y-%m-%d %H:%M')}, which is before these files were written"
    elif (synchronised := ntp()) is False:
        yield NOTE, "clock", "not synchronised: fires follow this clock (timedatectl set-ntp true)"
    else:
        yield (
            OK,
            "clock",
            "synchronised" if synchronised else "plausible (nobody here can say whether it is synchronised)",
        )


def ntp() -> bool | None:
    """Whether systemd says that the clock is synchronised; None where it can't be asked."""
    command = shutil.which("timedatectl")
    if command is None:
        return None
    answer = subprocess.run(
        [command, "show", "--property=NTPSynchronized", "--value"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return {"yes": True, "no": False}.get(answer.stdout.strip())


def limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    verdict = OK if files >= MIN_OPEN_FILES else NOTE
    yield verdict, "limits", f"{files} open files (each node and each connection takes one); {os.cpu_count()} CPUs"


def nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=ROOT / "var", metavar="DIR")
    parser.add_argument("--http", default="127.0.0.1:8888", metavar="HOST:PORT")
    parser.add_argument("--zmq", default="127.0.0.1:4242", metavar="HOST:PORT")
    args = parser.parse_args()
    state_dir = args.state_dir.absolute()
    checks: list[Callable[[], Iterator[Finding]]] = [
        python,
        venv,
        libraries,
        lambda: ports([("http", args.http), ("zmq", args.zmq)], state_dir),
        lambda: disk(state_dir),
        lambda: permissions(state_dir),
        clocks,
        limits,
    ]
    worst = 0
    for check in checks:
        for verdict, what, words in check():
            print(f"{verdict:<5} {what:<8} {words}")
            worst |= verdict == BAD
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
