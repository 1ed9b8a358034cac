"""The command line's job options: the same wherever a job is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from schedule_zero.cli.arguments import Duration, Durations

F = TypeVar("F", bound=Callable[..., Any])

# By the names of ``model.JobOptions`` (a test holds them together): the command line loads no model.
JOB_OPTIONS = {
    "priority": click.option("--priority", type=int, help="Greater runs first. [5]"),
    "max_attempts": click.option("--max-attempts", type=int, help="How often a failing job is tried. [1]"),
    "retry_delay_s": click.option(
        "--retry-delay", "retry_delay_s", type=Duration(), help="Pause before the next attempt. [5s]"
    ),
    "backoff": click.option(
        "--backoff",
        type=click.Choice(["fixed", "linear", "exponential", "fibonacci", "list"]),
        help="How that pause grows from attempt to attempt. [fixed; list where --retry-delays are given]",
    ),
    "retry_delays_s": click.option(
        "--retry-delays", "retry_delays_s", type=Durations(), help="The pauses one by one: 1s,10s,5m."
    ),
    "retry_max_delay_s": click.option(
        "--retry-max-delay", "retry_max_delay_s", type=Duration(), help="No longer pause than this. [1h]"
    ),
    "retry_jitter": click.option(
        "--retry-jitter/--no-retry-jitter", default=None, help="Anything up to the pause instead of it."
    ),
    "retry_on": click.option(
        "--retry-on", multiple=True, metavar="ERROR", help="Retry only after these errors or categories."
    ),
    "give_up_on": click.option("--give-up-on", multiple=True, metavar="ERROR", help="Don't retry after these."),
    "timeout_s": click.option("--timeout", "timeout_s", type=Duration(), help="How long one attempt may take."),
    "on_lost": click.option(
        "--on-lost", type=click.Choice(["rerun", "fail", "wait"]), help="What to do if its node dies with it."
    ),
    "idempotent": click.option(
        "--idempotent/--not-idempotent", default=None, help="Whether running it twice does no harm."
    ),
    "queue_timeout_s": click.option(
        "--queue-timeout", "queue_timeout_s", type=Duration(), help="Not started within this time, it never is."
    ),
    "heartbeat_timeout_s": click.option(
        "--heartbeat-timeout", "heartbeat_timeout_s", type=Duration(), help="How long it may be silent while it runs."
    ),
    "max_instances": click.option("--max-instances", type=int, help="How many of this job may run at once."),
    "concurrency_key": click.option(
        "--concurrency-key", metavar="KEY", help="Limits what runs at once with this key, such as customer:{customer}."
    ),
    "max_per_key": click.option("--max-per-key", type=int, help="How many with the same concurrency key. [1]"),
    "weight": click.option("--weight", type=int, help="How many slots of its node it takes. [1]"),
    "rate_limit": click.option("--rate-limit", metavar="N/UNIT", help="Starts in a time: 10/s, 100/m, 5/h, 1/d."),
    "rate_burst": click.option("--rate-burst", type=int, help="How many of them may start at once. [1]"),
    "rate_key": click.option("--rate-key", metavar="KEY", help="The rate is of those with this key, not of the job."),
    "unique_key": click.option("--unique-key", metavar="KEY", help="Only one of this job with this key."),
    "unique_while": click.option(
        "--unique-while", type=click.Choice(["pending", "open"]), help="… until it is started, or over. [open]"
    ),
    "unique_for_s": click.option("--unique-for", "unique_for_s", type=Duration(), help="… for this long."),
    "on_duplicate": click.option(
        "--on-duplicate",
        type=click.Choice(["reject", "return_existing", "replace"]),
        help="What becomes of a second one. [reject]",
    ),
    "require": click.option(
        "--require-node",
        multiple=True,
        metavar="COND",
        help="Only on nodes like this: gpu, os == linux, memory_gb >= 16.",
    ),
    "prefer": click.option(
        "--prefer-node", multiple=True, metavar="COND", help="On nodes like this where there are some."
    ),
    "strategy": click.option(
        "--strategy",
        type=click.Choice(["least_loaded", "round_robin", "random", "sticky_key", "pack", "weighted"]),
        help="Which of several nodes gets it. [least_loaded]",
    ),
    "sticky_key": click.option("--sticky-key", metavar="KEY", help="Those with this key go to the same node."),
    "isolation": click.option(
        "--isolation", type=click.Choice(["none", "process"]), help="Run it in a process of its own. [none]"
    ),
    "memory_mb": click.option("--memory-mb", type=int, help="How much memory its process may use."),
    "cpu_percent": click.option("--cpu-percent", type=int, help="How much of a core its process may use; 200: two."),
    "cpu_s": click.option("--cpu-time", "cpu_s", type=Duration(), help="How much CPU time its process may use."),
}


# Where a command's argument is called otherwise: `schedule --require` names a calendar.
_ARGUMENTS = {"require": "require_node", "prefer": "prefer_node"}


def job_options(command: F) -> F:
    """How the job is to be run."""
    # The decorator next to the function comes last: the help shows them in the order above.
    for option in reversed(JOB_OPTIONS.values()):
        command = option(command)
    return command


def split_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take the job options that were said out of a command's arguments."""
    said = {name: given.pop(_ARGUMENTS.get(name, name), None) for name in JOB_OPTIONS}
    # An option that may be given several times is () where it isn't given at all.
    return {name: value for name, value in said.items() if value is not None and value != ()}
