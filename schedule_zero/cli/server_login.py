"""``schedule-zero-server login-link``: an address that signs one browser in, once."""

from __future__ import annotations

from pathlib import Path

import click

from schedule_zero.cli.output import show_json
from schedule_zero.cli.server_root import Given, main
from schedule_zero.cli.terminal import say
from schedule_zero.errors import ServerUnreachable


@main.command("login-link")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "admin"]),
    default="admin",
    help="What the browser may do. [admin]",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="[table]")
@click.pass_context
def login_link(ctx: click.Context, role: str, output: str) -> None:
    """Print an address that signs one browser in: good once, for ten minutes. Asks the server that runs here."""
    from schedule_zero import state_dir
    from schedule_zero.cli.api import Caller

    folder = Path(ctx.ensure_object(Given).load().config.state_dir)
    running = state_dir.read_server_json(folder)
    if running is None:
        raise ServerUnreachable(f"no server runs in {folder}", hint="start it: schedule-zero-server")
    caller = Caller()
    caller.url = state_dir.reachable(str(running["http"]))
    caller.token = state_dir.read_admin_token(folder)
    with caller.client() as client:
        made = client.request("POST", "/api/login-links", body={"role": role})
    url = f"{caller.url}{made['path']}"
    if output == "json":
        show_json({"url": url, "role": role, "expires_s": made["expires_s"]})
    else:
        say(url)
