"""``schedule-zero logs``: what a job says, afterwards or while it says it."""

from __future__ import annotations

import math
from typing import Any

import click

from schedule_zero.cli.api import Caller, main, with_caller
from schedule_zero.cli.app import EXIT_FAILURE
from schedule_zero.cli.terminal import Styled, json_text, say

_COLOURS = {"stderr": "yellow", "node": "magenta"}
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}


@main.command()
@click.argument("id")
@click.option("-f", "--follow", is_flag=True, help="Go on as it says more, until it is over.")
@click.option("--tail", type=click.IntRange(0, 5000), help="Only the last so many lines.")
@click.option("--since-line", "first", type=click.IntRange(min=0), help="From this line on; the first is 0.")
@click.option("--grep", metavar="TEXT", help="Only lines with this text in them.")
@click.option("-i", "--ignore-case", is_flag=True, help="Of --grep.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt. [the newest]")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its moment.")
@with_caller
def logs(caller: Caller, id: str, follow: bool, timestamps: bool, **wanted: Any) -> None:
    """Print the log of an execution: what its job printed and logged. With -o json: one object per line.

    \b
    Examples:
      schedule-zero logs 01k8…
      schedule-zero logs 01k8… -f              # ends with 1 unless it completed
      schedule-zero logs 01k8… --tail 20 --attempt 1
      schedule-zero logs 01k8… --grep error -i
    """
    if wanted["tail"] is not None and wanted["first"] is not None:
        raise click.UsageError("give either --tail or --since-line")
    if follow:
        _follow(caller, id, wanted, timestamps=timestamps)
    else:
        _print(caller, id, wanted, timestamps=timestamps)


def _print(caller: Caller, execution_id: str, wanted: dict[str, Any], *, timestamps: bool) -> None:
    # Loaded with the client; a command that is only asked for help needs neither.
    from msgspec import to_builtins

    with caller.client() as client:
        page = client.logs(execution_id, **wanted)
        while True:
            for line in page.lines:
                _say(caller, to_builtins(line), timestamps=timestamps)
            if page.next is None:
                return
            # Of the same attempt, whatever has begun meanwhile.
            wanted |= {"first": page.next, "attempt": page.attempt}
            page = client.logs(execution_id, **wanted)


def _follow(caller: Caller, execution_id: str, wanted: dict[str, Any], *, timestamps: bool) -> None:
    attempt = 0
    with caller.client() as client:
        for event in client.follow(execution_id, **wanted):
            data = event.data
            if event.kind == "log":
                if attempt not in (0, data["attempt"]):
                    say(f"attempt {data['attempt']}", err=True)
                attempt = data["attempt"]
                for line in data["lines"]:
                    _say(caller, {"attempt": attempt, **line}, timestamps=timestamps)
            elif event.kind == "progress":
                say(progress_words(data), err=True)
            elif event.kind == "end":
                if not data.get("complete", True):
                    say("its last lines are missing: its node was lost, or is away", err=True)
                if data.get("status") != "completed":
                    say(f"it is {data.get('status')}", err=True)
                    raise SystemExit(EXIT_FAILURE)


def _say(caller: Caller, line: dict[str, Any], *, timestamps: bool) -> None:
    if caller.json:
        say(json_text({name: value for name, value in line.items() if name != "attempt" or value}))
        return
    moment = f"{line['at']} " if timestamps and line.get("at") else ""
    colour = _LEVELS.get(line.get("level") or "") or _COLOURS.get(line.get("stream", ""))
    say(moment, Styled(line["text"], fg=colour))


def progress_words(progress: dict[str, Any]) -> str:
    """``42 %, about 3 min left: page 17``."""
    percent, left_s = progress.get("percent"), progress.get("eta_s")
    words = "" if percent is None else f"{math.floor(percent * 10) / 10:g} %"
    if left_s:
        words += f", about {span(left_s)} left"
    text = progress.get("text")
    return f"{words}: {text}" if words and text else words or str(text or "")


def span(seconds: float) -> str:
    """A time to wait, as exactly as it is worth."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
