"""What a failure has in common with others: the group that a dead letter falls into. Pure.

Two failures are alike if they are of one job, have one error type, were raised in one function, and say the same but
for what changes from run to run: numbers, ids, what stands in quotes, paths, addresses. A signature is stable (no line
numbers: another release of the job must not make another group of it) and bounded, and never raises, whatever was said.

``handler.method:0123456789abcdef`` is the whole of it: it names its job for people, sorts by job, and is the id of the
group.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

from schedule_zero.model import Execution, JobError, State

# Of a message that is looked at; and of what is left of it after that.
MAX_RAW = 4_000
MAX_NORMAL = 400
# States in which somebody has to look at an execution. ``misfired`` is not among them: it never ran, so it has not
# failed, and ``cancelled`` is what somebody wanted.
LETTER_STATES = frozenset({State.FAILED, State.TIMEOUT, State.DEAD})

# In this order: what is found first is gone for the rest. Every repetition is over one class of characters, so that no
# message takes more than linear time.
_VARIES = (
    (re.compile(r"[a-z][a-z0-9+.-]{1,15}://[^\s'\"<>]+", re.IGNORECASE), "<url>"),
    (re.compile(r"\"[^\"\n]*\"|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)"), "<text>"),
    (re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"), "<address>"),
    (re.compile(r"(?<![\w/\\])(?:[a-z]:)?(?:[/\\][\w.@+~-]+)+[/\\]?|~/[\w./@+-]+", re.IGNORECASE), "<path>"),
    (re.compile(r"\[?(?:[0-9a-f]{1,4}:){2,7}:?[0-9a-f]{1,4}\]?(?::\d+)?", re.IGNORECASE), "<address>"),
    (re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"), "<address>"),
    (re.compile(r"0x[0-9a-f]+", re.IGNORECASE), "<hex>"),
    # Hashes and ids: long words of hexadecimal digits, or of letters and digits. (Digits alone are a number.)
    (re.compile(r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[a-z]*\d)(?=\d*[a-z])[0-9a-z]{16,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"[-+]?\d+(?:[.,:_]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE), "<n>"),
)
# However many of them: "[<n>, <n>, <n>]" is any list of numbers.
_REPEATED = re.compile(r"(<\w+>)(?:[\s,;]+\1)+")
_FRAME = re.compile(r'^  File "([^"\n]*)", line \d+, in (.*)$', re.MULTILINE)
_FOLDERS = re.compile(r".*[/\\]")
# Frames of others' code say where it surfaced, not whose mistake it is.
_NOT_THEIRS = re.compile(r"site-packages|dist-packages|[/\\]lib[/\\]python\d|^<|[/\\]schedule_zero[/\\]node[/\\]")


def signature(row: Execution, state: State, error: JobError | None) -> str | None:
    """The group of an execution that ended in ``state``; None where that is no dead letter."""
    if state not in LETTER_STATES:
        return None
    kind, said, where = (str(state), "", "") if error is None else (error.type, error.message, error.traceback)
    alike = "\0".join((row.handler_id, row.job_method, kind, raised_in(where), normal(said[:MAX_RAW])))
    digest = blake2b(alike.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{row.handler_id}.{row.job_method}:{digest}"


# A job that fails a thousand times often says the same each time.
@lru_cache(maxsize=256)
def normal(message: str) -> str:
    """A message without what changes from run to run."""
    text = message[:MAX_RAW]
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return _REPEATED.sub(r"\1", " ".join(text.split()))[:MAX_NORMAL]


@lru_cache(maxsize=64)
def raised_in(traceback: str) -> str:
    """``file.py:function`` of the last frame in the job's own code, else of the last one; "" without a traceback."""
    last = theirs = ""
    for path, function in _FRAME.findall(traceback):
        last = f"{_FOLDERS.sub('', path)}:{function}"
        if _NOT_THEIRS.search(path) is None:
            theirs = last
    return theirs or last
