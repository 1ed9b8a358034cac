"""What the commands share: errors to stderr with their exit code, ``--version``, colours only where wanted.

Exit codes: 0 done · 1 it failed (a job's own failure too) · 2 usage or bad input · 3 not found · 4 conflict ·
5 the server is unreachable or wasn't done in time, a disk is full or fails · 6 not allowed · 65 damaged data ·
69 unavailable (address or database in use) · 75 try again later · 78 configuration · 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from schedule_zero.cli.terminal import Styled, say
from schedule_zero.errors import ScheduleZeroError, Unavailable
from schedule_zero.state_dir import DISK_TROUBLE

if TYPE_CHECKING:
    import asyncio

EXIT_FAILURE = 1
EXIT_UNAVAILABLE = 69
EXIT_INTERRUPTED = 130

# Where an address that can't be bound is an OSError still.
_ADDRESS_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def fail(message: str, *, hint: str | None = None, code: int = EXIT_FAILURE) -> NoReturn:
    """Say on stderr what is wrong and what to do, and end with ``code``."""
    say(Styled("error:", fg="red", bold=True), f" {message}", err=True)
    if hint:
        say(Styled("hint:", fg="cyan"), f" {hint}", err=True)
    raise SystemExit(code)


class App(click.Group):
    """A command with subcommands whose errors are for people, and whose exit codes are for scripts."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        return guarded(super().main, *args, **extra) if standalone_mode else super().main(*args, **extra)


class SingleApp(click.Command):
    """The same for a command without subcommands."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        return guarded(super().main, *args, **extra) if standalone_mode else super().main(*args, **extra)


def guarded(main: Callable[..., Any], *args: Any, **extra: Any) -> NoReturn:
    """Run a click command; end the process with the exit code of what came of it."""
    try:
        code = main(*args, standalone_mode=False, **extra)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        say("interrupted", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except ScheduleZeroError as error:
        fail(error.message + _where(error), hint=error.hint, code=error.exit_code)
    except BaseExceptionGroup as group:
        known = group.subgroup(ScheduleZeroError)
        if known is None:
            raise
        first = next(_leaves(known))
        fail(first.message, hint=first.hint, code=first.exit_code)
    except BrokenPipeError:
        # Whoever read us has enough (head, a closed pager). Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILURE) from None
    except OSError as error:
        if error.errno in _ADDRESS_ERRORS:
            fail(f"cannot listen: {error.strerror or error}", code=EXIT_UNAVAILABLE)
        if error.errno in DISK_TROUBLE:
            fail(f"the disk is full, or fails: {error}", code=Unavailable.exit_code)
        raise
    raise SystemExit(code if isinstance(code, int) else 0)


def _where(error: ScheduleZeroError) -> str:
    """A place in the body, or the name of a query parameter or header, unless the message has it."""
    if not error.pointer or repr(error.pointer) in error.message:
        return ""
    return f" (at {error.pointer})" if error.pointer.startswith("/") else f" (in {error.pointer!r})"


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[Any]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def version_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--version``; reads the package's metadata only when asked."""
    return click.version_option(package_name="schedule-zero", message="%(prog)s %(version)s")(command)


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set ``stop``; a second one ends the process at once, without any clean-up."""
    import asyncio

    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(EXIT_INTERRUPTED)
        stop.set()
        if number == signal.SIGINT:
            say("\nstopping: what runs may finish; Ctrl-C again ends at once", err=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def reload_on_signal(reload: Callable[[], object]) -> None:
    """SIGHUP calls ``reload``, where there is such a signal."""
    import asyncio

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def run_async(main: Callable[[], Any]) -> Any:
    """``asyncio.run`` on uvloop where it is installed (the extra ``speed``)."""
    import asyncio

    factory: Any = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        pass
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())
