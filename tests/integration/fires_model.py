"""What the ledger has to say, reckoned without any of the product's arithmetic: nominal times as plain lists.

One ``ModelSchedule`` for each generation of an id. Times are microseconds; all of a schedule's nominal times are a
number of steps after a first one. What is decided stays in ``fates``, and is never decided again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from schedule_zero.model import CatchUp, Fire

S = 1_000_000
# The calendar that the schedules exclude. The tests' clock begins on a Tuesday, the 14th, at 22:13:20.
BLACKOUT = {
    "weekly": [{"days": ["TUE"], "from": "22:14", "to": "22:15"}],
    "monthly": [{"day": 14, "from": "22:20", "to": "22:24"}],
}
BLACKOUTS_S = [(40, 100), (400, 640)]
GRACE_S, WINDOW_S = 10, 300

Fate = tuple[str, str | None]
EXECUTED: Fate = ("executed", None)
CAUGHT_UP: Fate = ("caught_up", None)
MISSED: Fate = ("missed", None)


def skipped(reason: str) -> Fate:
    return ("skipped", reason)


@dataclass(frozen=True)
class Rhythm:
    """Nominal times: ``start_s`` and each ``every_s`` after it, up to ``end_s``. Seconds after the test's beginning."""

    every_s: int
    start_s: int
    end_s: int | None = None

    def trigger(self, begin_us: int) -> dict[str, object]:
        document: dict[str, object] = {
            "type": "interval", "seconds": self.every_s, "start": begin_us / 1e6 + self.start_s,
        }  # fmt: skip
        if self.end_s is not None:
            document["end"] = begin_us / 1e6 + self.end_s
        return document

    def times(self, begin_us: int, after_us: int, upto_us: int) -> list[int]:
        """Those in ``(after_us, upto_us]``."""
        upto_us = upto_us if self.end_s is None else min(upto_us, begin_us + self.end_s * S)
        start_us, every_us = begin_us + self.start_s * S, self.every_s * S
        if after_us >= start_us:
            start_us += ((after_us - start_us) // every_us + 1) * every_us
        return list(range(start_us, upto_us + 1, every_us))

    def next_after(self, begin_us: int, us: int) -> int | None:
        start_us = begin_us + self.start_s * S
        horizon_us = max(us, start_us) + self.every_s * S
        return next(iter(self.times(begin_us, us, horizon_us)), None)


@dataclass(frozen=True)
class Rules:
    """The policies of a schedule."""

    catch_up: CatchUp = CatchUp.LATEST
    catch_up_max: int = 3
    coalesce: bool = False
    max_fires: int | None = None
    blackout: bool = False

    def document(self) -> dict[str, object]:
        return {
            "catch_up": self.catch_up,
            "catch_up_max": self.catch_up_max,
            "catch_up_window_s": WINDOW_S,
            "coalesce": self.coalesce,
            "max_fires": self.max_fires,
            "exclude": ["works"] if self.blackout else [],
        }


@dataclass
class ModelFreeze:
    from_us: int
    to_us: int | None
    catch_up: CatchUp | None
    thawed: bool = False

    def in_force(self, now_us: int) -> bool:
        return not self.thawed and (self.to_us is None or self.to_us > now_us)


@dataclass
class ModelSchedule:
    """One generation of an id."""

    begin_us: int
    rhythm: Rhythm
    rules: Rules
    # All nominal times up to this one are decided, or none of this version's.
    done_us: int
    # When this version began.
    from_us: int
    state: str = "active"
    resume_us: int | None = None
    skips: list[int] = field(default_factory=list)
    runs: int = 0
    # Has a note, which a change that says none takes away.
    noted: bool = False
    fates: dict[int, Fate] = field(default_factory=dict)
    deleted: bool = False

    # --- what is due, and what becomes of it --------------------------------------------------------

    def due(self, now_us: int) -> list[int]:
        if self.deleted or self.state == "finished":
            return []
        return self.rhythm.times(self.begin_us, self.done_us, now_us)

    def next_us(self) -> int | None:
        if self.deleted or self.state == "finished":
            return None
        return self.rhythm.next_after(self.begin_us, self.done_us)

    def decide(self, now_us: int, freezes: list[ModelFreeze]) -> None:
        """A round at ``now_us``, in which nothing is frozen."""
        due = self.due(now_us)
        if due:
            self._record(self._fates(due, now_us, freezes))
            self.done_us = max(self.done_us, due[-1])
            self.skips = [us for us in self.skips if us > self.done_us]
            if self.rules.max_fires is not None and self.runs >= self.rules.max_fires:
                self._finish()
        self._run_out()
        self.wake(now_us)

    def wake(self, now_us: int) -> None:
        """A snooze that is over."""
        if self.state == "paused" and self.resume_us is not None and self.resume_us <= now_us:
            self.resume(now_us)

    def _fates(self, due: list[int], now_us: int, freezes: list[ModelFreeze]) -> dict[int, Fate]:
        fates: dict[int, Fate] = {}
        late: list[int] = []
        fresh: list[int] = []
        frozen: dict[int, list[int]] = {}
        for us in due:
            which = next((n for n, freeze in enumerate(freezes) if _covers(freeze, us, now_us)), None)
            if us in self.skips:
                fates[us] = skipped("requested")
            elif self._paused_at(us):
                fates[us] = skipped("paused")
            elif self.rules.blackout and self._in_blackout(us):
                fates[us] = skipped("blackout")
            elif which is not None:
                frozen.setdefault(which, []).append(us)
            elif us >= now_us - GRACE_S * S:
                fresh.append(us)
            elif us >= now_us - WINDOW_S * S:
                late.append(us)
            else:
                fates[us] = MISSED
        for which, times in frozen.items():
            catch_up = freezes[which].catch_up
            assert catch_up is not None
            fates |= self._made_up(times, catch_up, skipped("frozen"))
        fates |= self._made_up(late, self.rules.catch_up, MISSED)
        fates |= dict.fromkeys(fresh, EXECUTED)
        if self.rules.coalesce:
            fates |= {us: skipped("coalesced") for us in fresh[:-1]}
        return self._up_to_the_last(fates)

    def _made_up(self, times: list[int], catch_up: CatchUp, rest: Fate) -> dict[int, Fate]:
        keep = {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: self.rules.catch_up_max}[catch_up]
        rest = skipped("catch_up_limit") if catch_up is CatchUp.ALL else rest
        return {us: CAUGHT_UP if n >= len(times) - keep else rest for n, us in enumerate(times)}

    def _up_to_the_last(self, fates: dict[int, Fate]) -> dict[int, Fate]:
        """What lies behind its last run is no nominal time of it any more."""
        if self.rules.max_fires is None:
            return fates
        left = self.rules.max_fires - self.runs
        kept: dict[int, Fate] = {}
        for us in sorted(fates):
            kept[us] = fates[us]
            left -= _runs(fates[us])
            if left == 0:
                break
        return kept

    def _paused_at(self, us: int) -> bool:
        return self.state == "paused" and (self.resume_us is None or us < self.resume_us)

    def _in_blackout(self, us: int) -> bool:
        return any(from_s <= (us - self.begin_us) / S < to_s for from_s, to_s in BLACKOUTS_S)

    def _record(self, fates: dict[int, Fate]) -> None:
        assert self.fates.keys().isdisjoint(fates), "the model decides a time twice"
        self.fates |= fates
        self.runs += sum(map(_runs, fates.values()))

    def _run_out(self) -> None:
        if self.state != "finished" and not self.deleted and self.next_us() is None:
            self._finish()

    def _finish(self) -> None:
        self.state, self.resume_us, self.skips = "finished", None, []

    # --- what an operator does ----------------------------------------------------------------------

    def pause(self, now_us: int, resume_us: int | None) -> bool:
        """Whether it may be done."""
        if self.state == "finished":
            return False
        if (self.state, self.resume_us) != ("paused", resume_us):
            self.from_us = max(self.from_us, now_us)
        self.state, self.resume_us, self.noted = "paused", resume_us, True
        return True

    def resume(self, now_us: int) -> bool:
        if self.state == "finished":
            done_us = max(now_us, self.done_us, self.from_us)
            spent = self.rules.max_fires is not None and self.runs >= self.rules.max_fires
            if spent or self.rhythm.next_after(self.begin_us, done_us) is None:
                return False
            self.state, self.done_us, self.from_us = "active", done_us, done_us
            return True
        if self.state == "paused":
            self.from_us = max(self.from_us, now_us)
            in_it = [us for us in self.due(now_us) if self._paused_at(us)]
            self._record(dict.fromkeys(in_it, skipped("paused")))
            self.done_us = max([self.done_us, *in_it])
            self.skips = [us for us in self.skips if us > self.done_us]
            self._run_out()
            if self.state != "finished":
                self.state, self.resume_us, self.noted = "active", None, False
        return True

    def skip(self, now_us: int, count: int) -> bool:
        skips = list(self.skips) if count else []
        at_us = max(skips, default=None)
        for _ in range(count):
            at_us = self.next_us() if at_us is None else self.rhythm.next_after(self.begin_us, at_us)
            if at_us is None:
                return False
            skips.append(at_us)
        if skips != self.skips:
            self.skips, self.from_us = skips, max(self.from_us, now_us)
        return True

    def end_version(self, now_us: int) -> None:
        """It is deleted, or gets other times: what is due is not decided otherwise any more."""
        due = self.due(now_us)
        self._record({us: skipped("paused" if self._paused_at(us) else "changed") for us in due})
        self.done_us = max([self.done_us, *due])

    def change(self, now_us: int, rhythm: Rhythm, rules: Rules, *, paused: bool) -> None:
        """Each version begins when the one before ends, whatever the clock says, and behind all that is decided."""
        ended_us = max(now_us, self.from_us)
        goes_on = rhythm == self.rhythm and self.state != "finished"
        resume_us = self.resume_us if paused and self.state == "paused" else None
        if goes_on and not self.noted and (rules, paused) == (self.rules, self.state == "paused"):
            # It says the same as before: no new version.
            return
        self.noted = False
        if goes_on:
            self.from_us = ended_us
        else:
            newest_us = max(self.fates, default=0)
            self.end_version(ended_us)
            self.from_us = self.done_us = max(ended_us, newest_us)
            self.skips = []
        self.state, self.resume_us = ("paused" if paused else "active"), resume_us
        self.rhythm, self.rules = rhythm, rules
        spent = rules.max_fires is not None and self.runs >= rules.max_fires
        if spent and goes_on:
            self.end_version(ended_us)
        if spent or self.next_us() is None:
            self._finish()

    def delete(self, now_us: int) -> None:
        self.end_version(max(now_us, self.from_us))
        self.deleted = True


def _runs(fate: Fate) -> bool:
    return fate in (EXECUTED, CAUGHT_UP)


def _covers(freeze: ModelFreeze, us: int, now_us: int) -> bool:
    """A thaw that is yet to come, because the clock was set back, has been all the same."""
    if freeze.catch_up is None or us < freeze.from_us or (freeze.thawed and (freeze.to_us or 0) > now_us):
        return False
    return freeze.to_us is None or us < freeze.to_us


# --- the ledger against it -----------------------------------------------------------------------------


def compare(fates: dict[int, Fate], ledger: Iterable[Fire]) -> None:
    """The ledger of one generation holds each time once, with that fate; a row with a count stands for those between
    its two that have no row of their own.
    """
    rows = list(ledger)
    alone = {fire.nominal_us: _fate(fire) for fire in rows if fire.count == 1}
    assert len(alone) == sum(fire.count == 1 for fire in rows), "a nominal time is there twice"
    assert {us: fates.get(us) for us in alone} == alone
    summed: Counter[int] = Counter()
    for fire in rows:
        if fire.count > 1:
            last_us = fire.last_nominal_us
            assert last_us is not None
            meant = [
                us
                for us, fate in fates.items()
                if fire.nominal_us <= us <= last_us and fate == _fate(fire) and us not in alone
            ]
            assert (len(meant), min(meant), max(meant)) == (fire.count, fire.nominal_us, last_us), fire
            summed.update(meant)
    assert max(summed.values(), default=1) == 1, "two rows stand for the same times"
    assert fates.keys() == alone.keys() | summed.keys()


def _fate(fire: Fire) -> Fate:
    return (fire.outcome.value, None if fire.reason is None else fire.reason.value)
