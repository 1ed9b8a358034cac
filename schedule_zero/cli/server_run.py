"""Runs the server in the foreground, and says where it is."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

from schedule_zero import descriptors, logs, state_dir
from schedule_zero.cli.app import reload_on_signal, run_async, stop_on_signals
from schedule_zero.cli.memory import give_large_blocks_back
from schedule_zero.cli.samples import load_samples
from schedule_zero.cli.terminal import say
from schedule_zero.errors import StoreUnavailable
from schedule_zero.server import Addresses, Server, serve
from schedule_zero.settings import Settings, Source


def run(loaded: Settings, *, demo: bool) -> None:
    """Serve until told to stop."""
    give_large_blocks_back()
    config = loaded.config
    folder = state_dir.prepare(Path(config.state_dir))
    logs.configure(config.log, base=folder)
    for warning in loaded.warnings:
        say(f"warning: {warning}", err=True)
    descriptors.take_all()
    run_async(lambda: _serve(loaded, folder, demo=demo))


async def _serve(loaded: Settings, folder: Path, *, demo: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    samples: list[asyncio.Task[None]] = []

    async def ready(addresses: Addresses, server: Server) -> None:
        quiet_garbage_collector()
        reload_on_signal(server.reload)
        say(_banner(addresses, loaded, pages=await _pages(addresses, server), demo=demo))
        sys.stdout.flush()
        if demo:
            samples.append(asyncio.create_task(load_samples(server), name="sample schedules"))

    try:
        await serve(loaded.config, folder, stop=stop, ready=ready, origins=loaded.origins)
    finally:
        for task in samples:
            task.cancel()


def quiet_garbage_collector() -> None:
    """Stop looking through what was imported: a collection of all of it is a pause of tens of milliseconds, seen as
    lateness. Of the rest, rows and messages make no cycles, but each round of APScheduler's loop makes one (decision
    0025).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 5, 5)


async def _pages(addresses: Addresses, server: Server) -> str:
    """Where the pages are: for a person at a terminal, with a link that signs him in. A log is to hold none."""
    url = state_dir.reachable(addresses.http)
    token = state_dir.read_admin_token(Path(addresses.state_dir))
    without = f"{url}/  (to sign in: schedule-zero-server login-link)"
    if token is None or not sys.stdout.isatty():
        return without
    admin = server.service.access.authenticate(token)
    try:
        secret = await server.service.sessions.link(admin)
    except StoreUnavailable:
        # A link is put into the audit log first. A server whose disk refuses that runs all the same.
        return without
    return f"{url}/login?t={secret}\n            (signs one browser in, for ten minutes)"


def _banner(addresses: Addresses, loaded: Settings, *, pages: str, demo: bool) -> str:
    folder = Path(addresses.state_dir)
    shown = short_path(folder)
    # Where a client would look by itself, it needs no telling.
    found = folder == state_dir.default(Path.cwd(), os.environ)
    told = "" if found else f"\n  clients   export SCHEDULE_ZERO_STATE_DIR={folder.absolute()}"
    first = "Sample schedules follow when" if demo else "Next:"
    return f"""\
{loaded.config.instance_name} runs (version {version("schedule-zero")}, process {addresses.pid}).

  pages     {pages}
  API       {state_dir.reachable(addresses.http)}/api
  nodes     {addresses.zmq}
  state     {shown}
  token     {shown}/{state_dir.ADMIN_TOKEN}
  settings  {settings_from(loaded)}{told}

{first} a node connects, in another terminal:
  schedule-zero-handler schedule_zero.handlers.demo:DemoHandler
  schedule-zero run demo.hello name=World
Ctrl-C stops in order; again, at once.
"""


def settings_from(loaded: Settings) -> str:
    """Where the settings come from: the file, and what is set beside it (or over it) by variables and flags."""
    said = [short_path(loaded.file)] if loaded.file else []
    for source in (Source.ENVIRONMENT, Source.FLAG):
        said += sorted({origin.where for origin in loaded.origins.values() if origin.source is source})
    return ", ".join(said) or "defaults"


def short_path(path: Path) -> str:
    """As a person in this directory would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
