"""``schedule-zero-testbed run``: its options; what they come to with the file stands in ``testbed_plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from schedule_zero.cli.arguments import Number
from schedule_zero.cli.testbed_root import FOLDER, main


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Settings of the run.")
@click.option("--nodes", type=click.IntRange(1, 100), metavar="N", help="How many nodes. [3]")
@click.option(
    "--mode",
    type=click.Choice(["realtime", "accelerated"]),
    help="accelerated: what says the same on a fast clock runs on one. [realtime]",
)
@click.option(
    "--speedup", type=Number(min=1, max=100_000), metavar="FACTOR", help="How fast the fast clock goes. [1440]"
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), metavar="N", help="The same seed, the same plan. [1]")
@click.option(
    "--subject",
    type=click.Choice(["schedulezero", "apscheduler", "both"]),
    help="What is tested; apscheduler: a bare one, with each of its stock stores. [schedulezero]",
)
@click.option("--quick", is_flag=True, default=None, help="Small parameters: a first impression in a few minutes.")
@click.option("--server", "url", metavar="URL", help="A server that runs already; nothing is done to its processes.")
@click.option(
    "--token",
    envvar="SCHEDULE_ZERO_TOKEN",
    metavar="TOKEN",
    help="With --server: an API token of the role operator or admin.",
    show_envvar=True,
)
@click.option(
    "--postgresql",
    envvar="SCHEDULE_ZERO_TESTBED_POSTGRESQL",
    metavar="URL",
    help="A database for the bare APScheduler's store, in which it gets a schema of its own.",
    show_envvar=True,
)
@click.option(
    "--findings/--no-findings",
    default=None,
    help="Whether the scripts of our findings about APScheduler run. [if no scenario is named]",
)
@click.option("--out", type=FOLDER, metavar="DIR", help="Where the report goes. [testbed-results/<moment>]")
def run(names: tuple[str, ...], **said: Any) -> int:
    """Run scenarios (all, or those that are named), and say what held.

    \\b
    Ends with 0 if everything held or was skipped, 1 if something was broken or failed or the checker found a
    broken promise, 2 if the input is wrong, 130 if it was interrupted (a report is written then, too).
    With --subject both that is about ScheduleZero; with apscheduler alone, 1 if anything of it broke, or a
    finding is confirmed.
    """
    from schedule_zero.cli.testbed_plan import planned
    from schedule_zero.cli.testbed_play import play

    return play(planned(names, said))
