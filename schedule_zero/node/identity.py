"""Who this node is across restarts: its folder in the state directory, its secret, and the count of its starts.

``<state-dir>/nodes/<node_id>/`` holds ``lock`` (held while the process lives), ``epoch`` (grows at each start, so that
the server can tell the successor from the predecessor) and ``state_key`` (proves to the server that both own
this folder, promise C18), beside the outbox.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from schedule_zero.errors import ConfigError, NodeLocked
from schedule_zero.state_dir import unusable

MAX_EPOCH = 1_000_000


class Identity:
    """One process's hold on its node folder. Made by ``take``; ``release`` lets go of it."""

    def __init__(self, node_id: str, folder: Path, lock_fd: int, epoch: int, state_key: str) -> None:
        self.node_id = node_id
        self.folder = folder
        self.epoch = epoch
        self.state_key = state_key
        # Random per process: the same node_id with another instance is another process.
        self.instance = secrets.token_hex(16)
        self._lock_fd = lock_fd
        # A child that a job forks would keep the lock beyond our death, and no successor could start.
        os.register_at_fork(after_in_child=self.release)

    @classmethod
    def take(cls, state_dir: Path, node_id: str) -> Identity:
        """Lock the folder and count this start; NodeLocked: another process has it.

        ConfigError, or Unavailable where the disk is full or fails: it can't be used.
        """
        folder = state_dir / "nodes" / file_name(node_id)
        try:
            for level in (state_dir, folder.parent, folder):
                level.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable("the state directory of this node", error) from error
        try:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
                raise NodeLocked(
                    f"node {node_id!r} is running already from {folder}" + (f" (process {owner})" if owner else ""),
                    hint="give this one another --node-id, or stop the other one",
                ) from None
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
            state_key = _state_key(folder / "state_key")
            epoch = _next_epoch(folder / "epoch")
        except OSError as error:
            os.close(lock_fd)
            raise unusable("the state directory of this node", error) from error
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(node_id, folder, lock_fd, epoch, state_key)

    def release(self) -> None:
        """Let another process have the folder. Safe to call twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def file_name(node_id: str) -> str:
    """``node_id`` as a name in a folder: an id may hold "/" and ":", a file name must not, nor be "." or ".."."""
    return quote(node_id, safe="@").replace(".", "%2E")


def _state_key(path: Path) -> str:
    try:
        key = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        key = secrets.token_hex(24)
        write_atomically(path, key + "\n")
    if not 16 <= len(key) <= 64 or not key.isascii() or not key.isprintable():
        raise ConfigError(f"{path} is damaged: remove it (the server will take this node for a new one)")
    return key


def _next_epoch(path: Path) -> int:
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        text = "0"
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= MAX_EPOCH:
        raise ConfigError(
            f"{path} must hold a whole number below {MAX_EPOCH}, not {text[:20]!r}: write one greater than "
            "all before, or remove the folder to start as a new node"
        )
    epoch = int(text) + 1
    write_atomically(path, f"{epoch}\n")
    return epoch


def write_atomically(path: Path, text: str) -> None:
    """Replace a small private file: after a power loss it holds the old text or the new one, never half of it."""
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode("ascii"))
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
