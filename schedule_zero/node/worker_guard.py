"""A small process beside a node: when the node is gone, however it went, it ends the process groups of its workers.

Run by its path, without the package, so that it takes a few milliseconds and megabytes. Its stdin is a pipe from the
node with lines ``+GROUP`` and ``-GROUP``; the end of that pipe is the end of the node.
A worker itself ends with its node by what it asked the kernel for; what it started would be left.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        if line.startswith(b"+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
