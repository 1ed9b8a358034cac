"""py-spy on the real processes while a work runs: which functions the time goes to, thread by thread."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from msgspec import Struct
from rich.console import Console

from benchmarks.policies import PLAIN, POLICIES
from benchmarks.procs import Deployment, Process, deployment
from benchmarks.report import Measured
from benchmarks.run import working_folder
from benchmarks.workloads import fires, jobs, policies, schedules

_PY_SPY = Path(sys.executable).parent / "py-spy"
_WIDTH = 66
# Frames around the loop, or around a thread's body.
_OUTSIDE = re.compile(r"<module>|click/core\.py|/cli/|asyncio/runners\.py|threading\.py")
_THREAD = re.compile(r"thread \(.*?\)(?:: \"?(?P<name>[^\"]*)\"?)?$")


def _bulk(deployed: Deployment) -> None:
    jobs.bulk(deployed, Measured(), jobs=20_000)


def _singles(deployed: Deployment) -> None:
    jobs.one_by_one(deployed, Measured(), jobs=300)


def _sixteen(deployed: Deployment) -> None:
    jobs.sixteen_callers(deployed, Measured(), jobs=2_000)


def _with_policy(name: str) -> Callable[[Deployment], None]:
    def work(deployed: Deployment) -> None:
        policies.bulk(deployed, name, jobs=20_000)

    return work


def _schedules(deployed: Deployment) -> None:
    schedules.create_and_delete(deployed, Measured(), singles=2_000, many=5_000)


def _interval(deployed: Deployment) -> None:
    fires.interval(deployed, Measured(), seconds=10)


def _due(deployed: Deployment) -> None:
    fires.due_at_once(deployed, Measured(), schedules=10_000, ahead_s=2)


def _sustained(deployed: Deployment) -> None:
    fires.sustained(deployed, Measured(), schedules=10_000, interval_ms=1_000, seconds=10)


PROFILED: dict[str, Callable[[Deployment], None]] = {
    "w1": _bulk,
    "w2": _singles,
    "w2-16": _sixteen,
    "w3": _schedules,
    "w4": _interval,
    "w4-due": _due,
    "w4b": _sustained,
    **{f"w1-{name}": _with_policy(name) for name in (PLAIN, *POLICIES)},
}


class Stack(Struct, frozen=True):
    """One line of py-spy's raw format: the thread, its frames from the outside in, and how often it was seen."""

    thread: str
    frames: tuple[str, ...]
    samples: int


def parse_stacks(raw: str) -> list[Stack]:
    """Read ``a;b;c 12`` lines; a first frame ``thread (…): "name"`` becomes the thread's name."""
    stacks = []
    for line in raw.splitlines():
        path, _, count = line.rpartition(" ")
        if not path:
            continue
        frames = path.split(";")
        thread = ""
        if found := _THREAD.match(frames[0]):
            # The members of a pool (worker-1, worker-2 …) are one thread to the reader.
            thread = re.sub(r"\d+$", "N", found["name"] or "thread")
            frames = frames[1:]
        stacks.append(Stack(thread, tuple(frames), int(count)))
    return stacks


def top_functions(stacks: Sequence[Stack]) -> tuple[Counter[str], Counter[str]]:
    """Samples by function: in itself, and in itself or what it called. Line numbers are dropped."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack in stacks:
        names = [re.sub(r":\d+\)$", ")", frame) for frame in stack.frames]
        if names:
            own[names[-1]] += stack.samples
        for name in set(names):
            total[name] += stack.samples
    return own, total


def run_profile(options: argparse.Namespace, console: Console) -> None:
    """Repeat the work for ``options.seconds`` with py-spy attached, then print the top functions."""
    options.out.mkdir(parents=True, exist_ok=True)
    work = PROFILED[options.work]
    with working_folder(None) as folder, deployment(folder / "product") as (deployed, _):
        work(deployed)
        watched = {name: each for name, each in deployed.processes.items() if options.on in (name, "both")}
        recorders = {
            name: _record(each, options.out / f"{options.work}-{name}.raw", options) for name, each in watched.items()
        }
        time.sleep(0.5)
        before = {name: process.cpu_s() for name, process in watched.items()}
        begin = time.perf_counter()
        while time.perf_counter() - begin < options.seconds:
            work(deployed)
        seconds = time.perf_counter() - begin
        for name, process in watched.items():
            console.print(
                f"{name}: {(process.cpu_s() - before[name]) / seconds:.0%} of a core over {seconds:.1f} s",
                highlight=False,
            )
        for recorder in recorders.values():
            recorder.send_signal(signal.SIGINT)
            recorder.wait(30)
    for name in watched:
        path = options.out / f"{options.work}-{name}.raw"
        _print_top(console, name, parse_stacks(path.read_text()), options.top)
        console.print(f"stacks: {path} (https://www.speedscope.app opens it)", highlight=False)


def _record(process: Process, output: Path, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [str(_PY_SPY), "record", "--pid", str(process.pid), "--output", str(output), "--format", "raw"]
    command += ["--rate", str(options.rate), "--duration", "600", "--threads", "--nonblocking"]
    command += ["--gil"] if options.gil else []
    command += ["--native"] if options.native else []
    if options.native:
        command.remove("--nonblocking")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _print_top(console: Console, process: str, stacks: list[Stack], top: int) -> None:
    samples = sum(stack.samples for stack in stacks)
    for thread in sorted({stack.thread for stack in stacks}, key=lambda name: -_samples(stacks, name)):
        share = _samples(stacks, thread)
        if share < samples * 0.02:
            continue
        own, total = top_functions([stack for stack in stacks if stack.thread == thread])
        # What every sample contains (main, run_forever …) tells nothing.
        callees = [(name, count) for name, count in total.most_common() if not _OUTSIDE.search(name)]
        console.print(f"\n[bold]{process}, {thread or 'all threads'}: {share / samples:.0%} of its samples[/bold]")
        console.print(f"{'own':>6} {'in itself':<{_WIDTH}} {'total':>6} with callees", highlight=False)
        rows = zip_longest(own.most_common(top), callees[:top], fillvalue=("", 0))
        for (own_name, own_count), (name, count) in rows:
            left = f"{own_count / share:6.1%} {_short(own_name):<{_WIDTH}}" if own_name else " " * (_WIDTH + 7)
            right = f"{count / share:6.1%} {_short(name)}" if name else ""
            console.print(f"{left} {right}", highlight=False, markup=False)


def _short(name: str) -> str:
    """A function without what is the same for all of ours, cut to the column."""
    return name.replace("schedule_zero/", "").replace("<locals>.", "")[:_WIDTH]


def _samples(stacks: Sequence[Stack], thread: str) -> int:
    return sum(stack.samples for stack in stacks if stack.thread == thread)
