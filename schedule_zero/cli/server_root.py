"""The root of ``schedule-zero-server``: its options, shared with the subcommands; without one of those it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedule_zero.cli.app import App, version_option

if TYPE_CHECKING:
    from schedule_zero.settings import Settings


class Given:
    """The options that every subcommand shares, before or after its name."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.flags: dict[str, tuple[str, Any]] = {}

    def load(self) -> Settings:
        """The settings in force."""
        from schedule_zero import settings

        flags = {path: settings.Flag(name, value) for path, (name, value) in self.flags.items()}
        return settings.load(file=self.config, environ=os.environ, flags=flags)


def _config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    given = ctx.ensure_object(Given)
    if value is not None:
        given.config = value


def _flag(path: str) -> Any:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        given = ctx.ensure_object(Given)
        if value is not None:
            given.flags[path] = (param.opts[0], value)

    return callback


def _address(section: str) -> Any:
    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        given = ctx.ensure_object(Given)
        if value is None:
            return
        from schedule_zero.settings import parse_address

        try:
            host, port = parse_address(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from None
        given.flags[f"{section}.host"] = (param.opts[0], host)
        given.flags[f"{section}.port"] = (param.opts[0], port)

    return callback


def _options(*, listening: bool) -> list[click.Option]:
    file = click.Path(path_type=Path, dir_okay=False)
    shared: dict[str, Any] = {"expose_value": False}
    options = [
        click.Option(
            ["--config", "-c"],
            type=file,
            envvar="SCHEDULE_ZERO_CONFIG",
            metavar="FILE",
            callback=_config,
            help="Settings. [config.yaml, if it is there; env: SCHEDULE_ZERO_CONFIG]",
            **shared,
        ),
        click.Option(
            ["--state-dir"],
            metavar="DIR",
            callback=_flag("state_dir"),
            help="Database, keys, tokens. [var/ in a project, else $XDG_STATE_HOME/schedule-zero]",
            **shared,
        ),
    ]
    if listening:
        options += [
            click.Option(
                ["--http"],
                metavar="HOST:PORT",
                callback=_address("http"),
                help="Where the API and the UI listen. [127.0.0.1:8888]",
                **shared,
            ),
            click.Option(
                ["--zmq"],
                metavar="HOST:PORT",
                callback=_address("zmq"),
                help="Where nodes connect. [127.0.0.1:4242]",
                **shared,
            ),
            click.Option(
                ["--log-level"],
                type=click.Choice(["debug", "info", "warning", "error"]),
                callback=_flag("log.level"),
                help="[info]",
                **shared,
            ),
        ]
    return options


class ServerCommand(click.Command):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_options(listening=False))


class ServerGroup(click.Group):
    command_class = ServerCommand


class Root(App):
    command_class = ServerCommand
    group_class = ServerGroup

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_options(listening=True))


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  schedule-zero-server
  schedule-zero-server --config /etc/schedule-zero/config.yaml --state-dir /var/lib/schedule-zero
  schedule-zero-server --http 0.0.0.0:8888 --zmq 0.0.0.0:4242
  schedule-zero-server config show --origin
  schedule-zero-server token create ci --role operator

\b
Every setting is also an environment variable: http.port is SCHEDULE_ZERO_HTTP__PORT.
Order: default < file < environment < flag.
""",
)
@click.option("--demo", is_flag=True, help="Load five sample schedules once a node with the demo handler connects.")
@version_option
@click.pass_context
def main(ctx: click.Context, demo: bool) -> None:
    """Run a ScheduleZero server: decides when jobs run, and hands them to nodes.

    SIGTERM or Ctrl-C stops it in order; jobs that run go on, and the next server takes them over. A second one ends it
    at once.
    """
    if ctx.invoked_subcommand is None:
        # First what may be wrong with the settings, then the second that importing the server takes.
        loaded = ctx.ensure_object(Given).load()
        from schedule_zero.cli.server_run import run

        run(loaded, demo=demo)
