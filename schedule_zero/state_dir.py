"""Where a process keeps what is its own: which directory that is, what it must look like, what lies in it.

The one place that knows the file names shared by server, nodes and clients. Imports nothing heavy: the client
command reads the token from here before it has loaded anything else.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schedule_zero.errors import ConfigError, ScheduleZeroError, Unavailable

# The admin token made at first start; one line.
ADMIN_TOKEN = "admin.token"  # noqa: S105 - the name of the file
# Where the running server listens: {"http": URL, "zmq": URL, "curve": bool, "pid", …}; removed when it stops.
SERVER_JSON = "server.json"
# What the store knows about handlers, for people to read (``ops.registry_file``).
REGISTRY = "handler_registry.yaml"

DEFAULT_URL = "http://127.0.0.1:8888"

# A disk that is full, or fails: no setting is wrong, and another try may do.
DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


def default(cwd: Path, environ: Mapping[str, str]) -> Path:
    """``SCHEDULE_ZERO_STATE_DIR``, else ``var/`` where a project is at hand, else the user's XDG state directory.

    A project is at hand where ``config.yaml`` or this project's own ``pyproject.toml`` lies in ``cwd``.
    """
    if said := environ.get("SCHEDULE_ZERO_STATE_DIR"):
        return (cwd / Path(said).expanduser()).absolute()
    if (cwd / "config.yaml").is_file() or _is_checkout(cwd):
        return (cwd / "var").absolute()
    from platformdirs import user_state_path  # 40 ms that a checkout doesn't need

    return user_state_path("schedule-zero", appauthor=False)


def _is_checkout(cwd: Path) -> bool:
    try:
        with (cwd / "pyproject.toml").open(encoding="utf-8") as file:
            return 'name = "schedule-zero"' in file.read(4096)
    except (OSError, UnicodeDecodeError):
        return False


def unusable(what: str, error: OSError) -> ScheduleZeroError:
    """What a start ends with that can't use a file. Only a wrong setting is nothing to start again for."""
    kind = Unavailable if error.errno in DISK_TROUBLE else ConfigError
    return kind(f"{what} can't be used: {error}")


def prepare(path: Path) -> Path:
    """Create the state directory with mode 0700, or check that it is ours and nobody else's.

    An empty directory is tightened; one with something in it is refused while others may look into it,
    because it might not be meant for us. Raises ConfigError with the command that repairs it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            raise ConfigError(f"state directory {path}: it belongs to another user (uid {status.st_uid})")
        if stat.S_IMODE(status.st_mode) & 0o077:
            if any(path.iterdir()):
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigError(
                    f"state directory {path}: expected mode 0700 (it keeps keys), got {mode:04o}",
                    hint=f"chmod 700 {path}",
                )
            path.chmod(0o700)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(f"state directory {path}: not writable")
    except FileExistsError:
        raise ConfigError(f"state directory {path}: it exists and is not a directory") from None
    except OSError as error:
        if error.errno in DISK_TROUBLE:
            raise unusable(f"state directory {path}", error) from error
        raise ConfigError(f"state directory {path}: {error.strerror}") from error
    return path


def write_private(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` atomically: a reader sees the old content or the new one, and after a crash likewise.

    An OSError names the file: those of a full disk don't.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, mode)
                file.write(content)
                file.flush()
                os.fsync(handle)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_server_json(state_dir: Path) -> dict[str, Any] | None:
    """Where the server of this state directory listens, or None where it says nothing (readable)."""
    try:
        document = json.loads((state_dir / SERVER_JSON).read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def read_admin_token(state_dir: Path) -> str | None:
    """The admin token kept in ``state_dir``, or None where there is none that we may read."""
    try:
        return (state_dir / ADMIN_TOKEN).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def reachable(address: str) -> str:
    """An URL on which a server listens, as one to connect to: bound to every address, it is at the loopback one."""
    for every, loopback in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:"), ("//*:", "//127.0.0.1:")):
        address = address.replace(every, loopback, 1)
    return address
