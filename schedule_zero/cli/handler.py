"""``schedule-zero-handler``: one node, a process that runs the jobs of some handlers.

Light on purpose: no database, no scheduler in this process, and an HTTP client only for ``--transport http``.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedule_zero.cli.app import SingleApp, run_async, stop_on_signals, version_option
from schedule_zero.cli.arguments import Number
from schedule_zero.cli.memory import give_large_blocks_back

if TYPE_CHECKING:
    from schedule_zero.node.settings import Curve, HttpAccess, NodeSettings


class Label(click.types.StringParamType):
    """One label; in the environment several with commas between."""

    name = "label"
    envvar_list_splitter = ","


DEFAULT_SERVER = "tcp://127.0.0.1:4242"
NODE_ID_FILE = "node_id"


@click.command(
    cls=SingleApp,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  schedule-zero-handler schedule_zero.handlers.demo:DemoHandler
  schedule-zero-handler billing.py reports/ --node-id worker-1 --slots 20
  schedule-zero-handler billing.py --server tcp://10.0.0.5:4242 --node-key worker-1.secret --server-key server.public
  schedule-zero-handler billing.py --transport http --server https://jobs.example.org --token-file worker.token
""",
)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option(
    "--server",
    envvar="SCHEDULE_ZERO_SERVER",
    metavar="ADDRESS",
    help="The server: tcp://HOST:PORT, or its URL for --transport http. [where the server of this state directory "
    f"listens, else {DEFAULT_SERVER}]",
    show_envvar=True,
)
@click.option(
    "--transport",
    envvar="SCHEDULE_ZERO_TRANSPORT",
    type=click.Choice(["zmq", "http"]),
    help="How to reach it. [http if --server is an URL, else zmq]",
    show_envvar=True,
)
@click.option(
    "--token",
    envvar="SCHEDULE_ZERO_TOKEN",
    metavar="TOKEN",
    help="For http: an API token of the role worker. [the admin's token, for the server of this state directory]",
    show_envvar=True,
)
@click.option(
    "--token-file",
    envvar="SCHEDULE_ZERO_TOKEN_FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The same from a file, which is read again when it changes.",
    show_envvar=True,
)
@click.option(
    "--node-id",
    envvar="SCHEDULE_ZERO_NODE_ID",
    metavar="ID",
    help="This node's name. [the host's name and a suffix, kept in the state directory]",
    show_envvar=True,
)
@click.option(
    "--slots",
    envvar="SCHEDULE_ZERO_SLOTS",
    type=click.IntRange(1, 10_000),
    default=10,
    help="How many jobs run at once. [10]",
    show_envvar=True,
)
@click.option(
    "--label",
    "labels",
    envvar="SCHEDULE_ZERO_LABELS",
    type=Label(),
    metavar="NAME[=VALUE]",
    multiple=True,
    help="What jobs may ask for: gpu, zone=eu-1. May be given several times; in the environment, with commas between.",
    show_envvar=True,
)
@click.option(
    "--state-dir",
    envvar="SCHEDULE_ZERO_STATE_DIR",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where results wait until the server has them. [var/ in a project, else the user's state directory]",
    show_envvar=True,
)
@click.option(
    "--drain",
    "drain_s",
    envvar="SCHEDULE_ZERO_DRAIN_S",
    type=Number(min=0),
    default=30.0,
    metavar="SECONDS",
    help="How long running jobs may take to finish after SIGTERM. [30]",
)
@click.option(
    "--curve",
    envvar="SCHEDULE_ZERO_CURVE",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Encrypt the link. [auto: beyond this machine, or if this machine's server wants it]",
)
@click.option(
    "--node-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="This node's secret key, of schedule-zero-server node-key create. [curve/ in the state directory]",
)
@click.option(
    "--server-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The server's public key. [curve/server.public in the state directory]",
)
@click.option(
    "--log-level",
    envvar="SCHEDULE_ZERO_LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="[info]",
    show_envvar=True,
)
@click.option(
    "--log-format",
    envvar="SCHEDULE_ZERO_LOG_FORMAT",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    help="[auto: console on a terminal, else json]",
)
@click.option(
    "--log-file", envvar="SCHEDULE_ZERO_LOG_FILE", default="", metavar="FILE", help="Log into this file as well."
)
@version_option
def main(
    targets: tuple[str, ...],
    server: str | None,
    transport: str | None,
    token: str | None,
    token_file: Path | None,
    node_id: str | None,
    slots: int,
    labels: tuple[str, ...],
    state_dir: Path | None,
    drain_s: float,
    curve: str,
    node_key: Path | None,
    server_key: Path | None,
    log_level: Any,
    log_format: Any,
    log_file: str,
) -> None:
    """Run the jobs of the handlers in TARGET: module:Class, a Python file, or a folder of them.

    SIGTERM or Ctrl-C drains: running jobs may finish, the rest is handed back. A second one ends at once.
    """
    # Before anything that logs: see logs.
    from schedule_zero import logs
    from schedule_zero import state_dir as states
    from schedule_zero.config import LogConfig

    logs.configure(LogConfig(level=log_level, format=log_format, file=log_file))
    folder = states.prepare(state_dir.absolute() if state_dir else states.default(Path.cwd(), os.environ))
    running = states.read_server_json(folder) or {}
    chosen_id = node_id or _own_id(folder)
    about = {"slots": slots, "labels": _labels(labels), "drain_s": drain_s}
    if transport == "http" or (transport is None and re.match("https?://", server or "")):
        if curve == "on" or node_key or server_key:
            raise click.BadParameter("--curve, --node-key and --server-key are for ZeroMQ", param_hint="--transport")
        _start(folder, chosen_id, targets, about, http=_http_access(server, token, token_file, folder))
        return
    if token_file or (token and transport):
        raise click.BadParameter("--token and --token-file are for --transport http", param_hint="--transport")
    address = server or states.reachable(str(running.get("zmq") or DEFAULT_SERVER))
    _checked_address(address)
    beside = running.get("zmq") is not None and address == states.reachable(str(running["zmq"]))
    if curve == "off" and (node_key or server_key):
        raise click.BadParameter("--node-key and --server-key are for encrypting", param_hint="--curve off")
    # Who names keys wants them used, also through a tunnel that ends on loopback.
    wanted = node_key or server_key or _wants_curve(address, running if beside else {})
    encrypted = curve == "on" or (curve == "auto" and bool(wanted))
    keys = _keys(folder, chosen_id, node_key, server_key) if encrypted else None
    _start(folder, chosen_id, targets, about, server=address, curve=keys)


def _start(folder: Path, node_id: str, targets: tuple[str, ...], about: dict[str, Any], **reaching: Any) -> None:
    from schedule_zero.node.settings import NodeSettings

    give_large_blocks_back()
    settings = NodeSettings(targets=list(targets), node_id=node_id, state_dir=folder, **about, **reaching)
    run_async(lambda: _run(settings))


def _http_access(server: str | None, token: str | None, token_file: Path | None, folder: Path) -> HttpAccess:
    """Where to, and with which token: said, else as a client finds it."""
    from schedule_zero.client import target
    from schedule_zero.node.settings import HttpAccess
    from schedule_zero.state_dir import ADMIN_TOKEN

    if server is not None and not re.match("https?://", server):
        raise click.BadParameter(f'expected http://HOST:PORT or https://HOST, got "{server}"', param_hint="--server")
    found = target.find(server, token, environ=os.environ, cwd=Path.cwd(), states=folder)
    if token_file is None and token is None and found.token is not None:
        token_file = folder / ADMIN_TOKEN
    access = HttpAccess(url=found.url, token=token or "", token_file=token_file)
    if not access.read_token():
        raise click.UsageError(
            "no token: give --token-file or SCHEDULE_ZERO_TOKEN; make one on the server with "
            "schedule-zero-server token create NAME --role worker"
        )
    if not access.read_token().isascii():
        raise click.UsageError("the token has characters that no token has")
    return access


async def _run(settings: NodeSettings) -> None:
    import asyncio

    from schedule_zero.node.host import run_node

    stop = asyncio.Event()
    stop_on_signals(stop)
    await run_node(settings, stop=stop)
    # A job's own threads (asyncio.to_thread) would be waited for without limit from here on, while what they do was
    # handed back and may run elsewhere already (C22).
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _checked_address(address: str) -> None:
    if not re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[^:/\s]+):\d{1,5}", address):
        raise click.BadParameter(f'expected tcp://HOST:PORT, got "{address}"', param_hint="--server")


def _labels(said: tuple[str, ...]) -> dict[str, str]:
    from schedule_zero.conditions import parse_labels

    try:
        return parse_labels(said)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--label") from None


def _wants_curve(address: str, running: dict[str, Any]) -> bool:
    """What the server of this state directory says it does; else as a server does by default."""
    from schedule_zero.config import is_loopback

    said = running.get("curve")
    if said is not None:
        return bool(said)
    return not is_loopback(address.removeprefix("tcp://").rpartition(":")[0].strip("[]"))


def _own_id(folder: Path) -> str:
    """The same at each start from this state directory: the host's name, and a suffix that keeps copies apart."""
    from schedule_zero.state_dir import write_private

    path = folder / NODE_ID_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname().partition(".")[0]).strip("-.") or "node"
        node_id = f"{host}-{os.urandom(2).hex()}"
        write_private(path, f"{node_id}\n".encode())
        return node_id


def _keys(folder: Path, node_id: str, node_key: Path | None, server_key: Path | None) -> Curve:
    from schedule_zero.node.identity import file_name
    from schedule_zero.node.settings import load_curve

    curve = folder / "curve"
    own = curve / f"{file_name(node_id)}.secret"
    # Nodes beside the server share the key that it made for them at its first start.
    secret = node_key or (own if own.exists() else curve / "local-node.secret")
    return load_curve(server_key or curve / "server.public", secret)


if __name__ == "__main__":
    main()
