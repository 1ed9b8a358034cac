"""A node's settings: decided by the command line, the environment and files; passed on explicitly."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from schedule_zero.errors import ConfigError

Z85_LENGTH = 40


class Curve(NamedTuple):
    """Keys of an encrypted link, in Z85."""

    server_public: bytes
    secret: bytes


class HttpAccess(NamedTuple):
    """A server that is spoken to over HTTP, and the token that it wants."""

    url: str
    token: str = ""
    # Read with every request, so that a new token needs no restart.
    token_file: Path | None = None

    def read_token(self) -> str:
        """The token of the moment; what can't be read is as good as a token that isn't valid."""
        if self.token_file is None:
            return self.token
        try:
            said = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return self.token
        return said or self.token


class NodeSettings(Struct, frozen=True, kw_only=True):
    """Everything that ``run_node`` needs to know."""

    targets: list[str]
    node_id: str
    state_dir: Path
    server: str = "tcp://127.0.0.1:4242"
    # How many attempts run at once.
    slots: int = 10
    # What runs at SIGTERM may go on for so long before it is handed back.
    drain_s: float = 30.0
    result_bytes: int = 1 << 20
    max_message_bytes: int = 16 << 20
    labels: dict[str, str] = {}
    # Encrypt the link to the server; ``load_curve`` reads the keys from their files.
    curve: Curve | None = None
    # Speak HTTP to this server, instead of ZeroMQ to ``server``.
    http: HttpAccess | None = None


def load_curve(server_public_file: Path, secret_file: Path) -> Curve:
    """The server's public key and this node's secret one; raises ConfigError that names the file and what it lacks."""
    return Curve(_key(server_public_file, "the server's public key"), _key(secret_file, "this node's secret key"))


def _key(path: Path, what: str) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"{what} can't be read: {error}",
            hint="create one on the server with: schedule-zero-server node-key create",
        ) from error
    if len(key) != Z85_LENGTH:
        raise ConfigError(f"{path} must hold {what} as {Z85_LENGTH} characters of Z85; it has {len(key)}")
    return key
