"""The root of ``schedule-zero`` and what its commands share: the server to talk to, and the form of the output."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schedule_zero.cli.app import App, version_option
from schedule_zero.cli.arguments import Number

if TYPE_CHECKING:
    from schedule_zero.client import Client

F = TypeVar("F", bound=Callable[..., Any])

# A person at a terminal wants to know that nothing listens there, not to wait for it.
RETRY_S = 2.0


class Caller:
    """What the options shared by all commands say; ``client()`` makes the connection."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.token: str | None = None
        self.state_dir: Path | None = None
        self.timeout_s = 30.0
        self.json = False

    def client(self) -> Client:
        """A client for one ``with``; everything heavy is imported here."""
        _import_httpx()
        from schedule_zero.client import Client

        return Client(
            self.url,
            self.token,
            state_dir=self.state_dir,
            timeout_s=self.timeout_s,
            retry_s=min(RETRY_S, self.timeout_s),
        )


def _import_httpx() -> None:
    """Import httpx without rich and pygments, which it takes for a command line of its own: 200 ms."""
    import sys

    hidden = [name for name in ("rich", "pygments") if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import httpx  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        # Given before the command or after it: the nearer one wins, and what isn't given changes nothing.
        caller = ctx.ensure_object(Caller)
        if value is not None:
            setattr(caller, name, value)

    return callback


def _connection_options() -> list[click.Option]:
    folder = click.Path(path_type=Path, file_okay=False)
    return [
        click.Option(
            ["-o", "--output", "output"],
            type=click.Choice(["table", "json"]),
            expose_value=False,
            callback=lambda ctx, _, value: _set_json(ctx, value),
            help="Table for people (default), or the server's JSON.",
        ),
        click.Option(
            ["--url"],
            metavar="URL",
            expose_value=False,
            callback=_remember("url"),
            help="The server. [env: SCHEDULE_ZERO_URL; else the one of this machine]",
        ),
        click.Option(
            ["--token"],
            metavar="TOKEN",
            expose_value=False,
            callback=_remember("token"),
            help="API token. [env: SCHEDULE_ZERO_TOKEN; else admin.token in the state directory]",
        ),
        click.Option(
            ["--state-dir"],
            type=folder,
            metavar="DIR",
            expose_value=False,
            callback=_remember("state_dir"),
            help="Where a server of this machine left its address and token. [env: SCHEDULE_ZERO_STATE_DIR]",
        ),
        click.Option(
            # Not called timeout_s: a job's own --timeout is, and click keeps what was given by these names.
            ["--request-timeout", "request_timeout_s"],
            type=Number(min=0, min_open=True),
            metavar="SECONDS",
            expose_value=False,
            callback=_remember("timeout_s"),
            help="How long an answer may take. [30]",
        ),
    ]


def _set_json(ctx: click.Context, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Caller).json = value == "json"


class ApiCommand(click.Command):
    """A command that talks to the server: takes the shared options beside its own."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_connection_options())
        # click wants the character before a paragraph that is to keep its lines; docstrings here are raw ones.
        self.help = self.help and self.help.replace("\\b\n", "\b\n")


class ApiGroup(click.Group):
    """A command with subcommands that talks to the server by itself, too."""

    command_class = ApiCommand

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_connection_options())


class Root(App):
    command_class = ApiCommand
    group_class = ApiGroup

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_connection_options())


def segment(value: str) -> str:
    """An id as a part of a path. InvalidField."""
    # Only where a request follows: it loads what makes one.
    from schedule_zero.client import asking

    return asking.segment(value)


def schedule_path(schedule_id: str, what: str) -> str:
    """Of what a schedule has beside itself. InvalidField."""
    return f"/api/schedules/{segment(schedule_id)}/{what}"


def with_caller(function: F) -> F:
    """Pass the ``Caller`` as first argument."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        ctx = click.get_current_context()
        return ctx.invoke(function, ctx.ensure_object(Caller), *args, **kwargs)

    return update_wrapper(wrapper, function)  # type: ignore[return-value]


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  schedule-zero run demo.hello name=World
  schedule-zero submit demo.sleep seconds=5 --wait
  schedule-zero schedule demo.hello name=World --cron '*/5 * * * *' --id greet
  schedule-zero executions --status failed --since -1h

\b
Shell completion (or zsh_source, fish_source):
  eval "$(_SCHEDULE_ZERO_COMPLETE=bash_source schedule-zero)"
""",
)
@version_option
def main() -> None:
    """Talk to a ScheduleZero server: run jobs, schedule them, see what became of them.

    The server of this machine is found by itself; for another one set SCHEDULE_ZERO_URL and SCHEDULE_ZERO_TOKEN.
    """
