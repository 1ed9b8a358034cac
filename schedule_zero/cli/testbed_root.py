"""The root of ``schedule-zero-testbed``, at which its commands enter themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from schedule_zero.cli.app import App, version_option


class TestbedCommand(click.Command):
    """A command whose docstring may have paragraphs that keep their lines."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = self.help and self.help.replace("\\b\n", "\b\n")


class Root(App):
    command_class = TestbedCommand


FOLDER = click.Path(path_type=Path)
as_json = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Table for people (default), or JSON."
)


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  schedule-zero-testbed run --quick
  schedule-zero-testbed run temporal_resolution churn --nodes 5 --out before
  schedule-zero-testbed run --quick --subject both --out side-by-side
  schedule-zero-testbed compare before after
""",
)
@version_option
def main() -> None:
    """Find out whether an installation keeps its promises under load: hostile schedules over several nodes, a verdict.

    It starts a server and nodes of its own, or nodes of its own for a server that runs already (--server).
    """
