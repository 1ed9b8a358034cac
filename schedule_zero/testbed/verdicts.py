"""What the checker says: violations, each with its promise, a sentence and evidence; and what it could not judge."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Any

from msgspec import Struct

# Violations that are told one by one; all are counted.
MOST_TOLD = 1000


class Verdict(StrEnum):
    """What is wrong, in one word. The promise beside it says in which respect."""

    MISSED = "missed"
    DUPLICATE = "duplicate"
    LATE = "late"
    EARLY = "early"
    # It stands for something that nobody asked for.
    EXTRA = "extra"
    # Acknowledged, and not there.
    LOST_REQUEST = "lost_request"
    LOST_RESULT = "lost_result"
    WRONG_RESULT = "wrong_result"
    # Refused, and done nevertheless; or done by halves.
    REFUSED_DONE = "refused_done"
    OVERLAP = "overlap"
    # It ran, and there is no record of that.
    UNRECORDED = "unrecorded"
    # Rows that contradict each other.
    UNBALANCED = "unbalanced"
    UNBOUNDED = "unbounded"
    NOT_OVER = "not_over"
    # Again, after an end that was final.
    REVIVED = "revived"
    RERUN = "rerun"
    NOT_RERUN = "not_rerun"
    UNEXPLAINED_LOSS = "unexplained_loss"
    UNNOTICED = "unnoticed"
    DAMAGED = "damaged"


class Violation(Struct, frozen=True):
    """One broken promise. ``subject`` is what it was broken to: ``execution 01k…``, ``schedule nightly``."""

    promise: str
    verdict: Verdict
    subject: str
    sentence: str
    evidence: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.promise} {self.verdict.value}: {self.subject}: {self.sentence} {self.evidence}"


class Report(Struct):
    """The result of a check. ``ok`` is worth as much as ``checked`` says was looked at."""

    # Promise → how many things it was checked on.
    checked: dict[str, int] = {}
    # ``C1 duplicate`` → how often.
    counts: dict[str, int] = {}
    violations: list[Violation] = []
    # What could not be judged, and why.
    notes: list[str] = []
    # How much of what there was.
    seen: dict[str, int] = {}
    # The same three figures in all reports.
    missed: int = 0
    duplicate: int = 0
    lost: int = 0

    @property
    def ok(self) -> bool:
        return not self.counts

    def look(self, promise: str, times: int = 1) -> None:
        """So many things were checked on a promise."""
        self.checked[promise] = self.checked.get(promise, 0) + times

    def found(
        self, promise: str, verdict: Verdict, subject: str, sentence: str, *, count: int = 1, **evidence: Any
    ) -> None:
        """Something is wrong (``count`` times)."""
        key = f"{promise} {verdict.value}"
        self.counts[key] = self.counts.get(key, 0) + count
        if verdict is Verdict.MISSED:
            self.missed += count
        elif verdict is Verdict.DUPLICATE:
            self.duplicate += count
        elif verdict in (Verdict.LOST_REQUEST, Verdict.LOST_RESULT):
            self.lost += count
        if len(self.violations) < MOST_TOLD:
            self.violations.append(Violation(promise, verdict, subject, sentence, evidence))

    def note(self, text: str) -> None:
        """Something could not be judged; the same is said once."""
        if text not in self.notes:
            self.notes.append(text)

    def names(self) -> Counter[str]:
        """``C1 duplicate`` → how often; for tests."""
        return Counter(self.counts)

    def text(self, most: int = 20) -> str:
        """For people: the verdict, the figures, the first violations."""
        seen = ", ".join(f"{n:,} {what}" for what, n in self.seen.items())
        checked = ", ".join(f"{promise} {n:,}" for promise, n in sorted(self.checked.items(), key=_by_number))
        others = sum(self.counts.values()) - self.missed - self.duplicate - self.lost
        figures = f"missed {self.missed}, duplicate {self.duplicate}, lost {self.lost}, others {others}"
        lines = [
            f"{'nothing wrong' if self.ok else 'BROKEN PROMISES'}: {figures}",
            f"seen: {seen}",
            f"checked: {checked}",
        ]
        lines += [f"not judged: {note}" for note in self.notes]
        lines += [f"{count:>6} × {name}" for name, count in sorted(self.counts.items())]
        lines += [str(violation) for violation in self.violations[:most]]
        if len(self.violations) > most:
            lines.append(f"… and {sum(self.counts.values()) - most} more")
        return "\n".join(lines)


def _by_number(item: tuple[str, int]) -> int:
    return int(item[0][1:])
