"""What becomes of the nominal times of one schedule that are due: run, caught up, skipped or missed.

Pure. Every nominal time from the first undecided one up to now gets exactly one outcome (C2), and the work is
bounded whatever lies between (C3): what lies back is counted by arithmetic, not one by one.

The time from the first undecided nominal time to now is cut into stretches, within which one reason holds. The first
of these that applies:

* an operator asked to skip it: ``skipped: requested``
* the schedule was paused: ``skipped: paused``
* a named calendar forbids it: ``skipped: holiday`` or ``blackout``
* all schedules were frozen: as whoever thawed them chose (``none``, ``latest``, ``all``), else as after an outage
* not later than the misfire grace: ``executed`` (with ``coalesce``, only the latest of several)
* later: ``latest`` and ``all`` run the newest one, or ``catch_up_max`` of them, if they lie within the window
  (``caught_up``). Beyond that maximum they are ``skipped: catch_up_limit``, all others ``missed``.

Runs of what is not run get a ledger row each for the newest ``max_rows``, and before those one row with a count for
each reason.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.model import CatchUp, FireOutcome, SkipReason

MAX_RUNS = 1000
# Stretches cut in one round: a year's outage of a schedule with a blackout each night is one round.
MAX_STRETCHES = 1000
# Nominal times looked at one by one to see whether the first of a round is to run.
MAX_AHEAD = 2000
MAX_ROUNDS = 50


class NominalTimes(Protocol):
    """What a trigger can answer (``timing.trigger.Trigger``)."""

    def next_after(self, us: int) -> int | None: ...

    def last_before(self, us: int) -> int | None: ...

    def count(self, after_us: int, upto_us: int) -> int: ...

    def reach(self, after_us: int, upto_us: int) -> int | None: ...


class Verdict(Protocol):
    """Why a calendar forbids a moment (``timing.calendars.Verdict``)."""

    @property
    def reason(self) -> SkipReason: ...

    @property
    def detail(self) -> str: ...


class Exclusions(Protocol):
    """The named calendars of a schedule (``timing.calendars.Exclusions``)."""

    def verdict(self, us: int) -> Verdict | None: ...

    def segments(self, from_us: int, to_us: int) -> Iterator[tuple[int, int, Verdict | None]]: ...


class Frozen(Struct, frozen=True, kw_only=True):
    """A time in which nothing fired, and what is to be made up for."""

    from_us: int
    to_us: int
    catch_up: CatchUp | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """How lateness is treated."""

    grace_us: int
    window_us: int
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_max: int = 100
    coalesce: bool = False
    # Rows of detail for runs of nominal times that are not run.
    max_rows: int = 100
    # Nominal times executed in one round.
    max_runs: int = MAX_RUNS


class Circumstances(Struct, frozen=True, kw_only=True):
    """What else bears on the fires of one schedule."""

    paused: bool = False
    # Paused until then.
    resume_us: int | None = None
    skips: frozenset[int] = frozenset()
    exclusions: Exclusions | None = None
    freezes: Sequence[Frozen] = ()
    # How often it may still run; it is finished then.
    runs_left: int | None = None

    @property
    def ordinary(self) -> bool:
        return not (self.paused or self.skips or self.exclusions or self.freezes or self.runs_left is not None)


ORDINARY = Circumstances()


class Decision(Struct, frozen=True, gc=False):
    """The outcome of one nominal time, or of ``count`` of them from ``nominal_us`` to ``last_nominal_us``."""

    nominal_us: int
    outcome: FireOutcome
    reason: SkipReason | None = None
    count: int = 1
    last_nominal_us: int | None = None
    detail: str | None = None

    @property
    def runs(self) -> bool:
        return self.outcome is FireOutcome.EXECUTED or self.outcome is FireOutcome.CAUGHT_UP


class Plan(Struct, frozen=True, gc=False):
    """The decisions of one round, in order of time, and where the next one begins."""

    decisions: list[Decision]
    # The latest nominal time decided.
    last_us: int
    # The first one that isn't; ``None``: the trigger has run out. Up to now if the round was full.
    next_us: int | None
    # It has run as often as it may.
    finished: bool = False


def decide(times: NominalTimes, due_us: int, now_us: int, policy: Policy, around: Circumstances = ORDINARY) -> Plan:
    """Decide the nominal times from ``due_us`` to ``now_us``.

    ``due_us`` was computed earlier and is a nominal time by definition, also if the trigger would not give it any
    more (a new tzdata). It must not lie after ``now_us``.
    """
    if due_us >= now_us - policy.grace_us and around.ordinary:
        next_us = times.next_after(due_us)
        if next_us is None or next_us > now_us:
            # By far the most frequent case: one nominal time, on time.
            return Plan([Decision(due_us, FireOutcome.EXECUTED)], due_us, next_us)
    return _Round(times, due_us, now_us, policy, around).plan()


def skip_all(
    times: NominalTimes, due_us: int, upto_us: int, reason: SkipReason, *, max_rows: int = 100
) -> list[Decision]:
    """The same reason for all nominal times from ``due_us`` to ``upto_us``: they will never be decided otherwise."""
    decisions: list[Decision] = []
    policy = Policy(grace_us=0, window_us=0, max_rows=max_rows)
    next_us: int | None = due_us
    # Each round goes as far as counting is cheap; what lies behind so many of them is beyond any sensible outage.
    for _ in range(MAX_ROUNDS):
        if next_us is None or next_us > upto_us:
            break
        plan = decide(times, next_us, upto_us, policy, Circumstances(paused=True))
        decisions += [replace(decision, reason=reason) for decision in plan.decisions]
        next_us = plan.next_us
    return decisions


# --- the general case --------------------------------------------------------------------------------

Fate = tuple[FireOutcome, SkipReason | None, str | None]
EXECUTED: Fate = (FireOutcome.EXECUTED, None, None)
CAUGHT_UP: Fate = (FireOutcome.CAUGHT_UP, None, None)
MISSED: Fate = (FireOutcome.MISSED, None, None)


def _skipped(reason: SkipReason, detail: str | None = None) -> Fate:
    return (FireOutcome.SKIPPED, reason, detail)


class _Group(Struct, eq=False):
    """Stretches of which the newest ``keep`` nominal times run, together."""

    keep: int
    run: Fate
    rest: Fate
    # Up to when there may be newer ones that run instead; ``None``: those that are picked run in any case.
    upto_us: int | None
    kept: int = 0


class _Stretch(Struct, eq=False):
    """``[from_us, to_us)``, all with one fate, or all of one group."""

    from_us: int
    to_us: int
    fate: Fate
    group: _Group | None = None


class _Times:
    """The nominal times from ``due_us`` on, of which ``due_us`` is one whatever the trigger says."""

    def __init__(self, times: NominalTimes, due_us: int) -> None:
        self._times = times
        self._due_us = due_us

    def next_after(self, us: int) -> int | None:
        return self._due_us if us < self._due_us else self._times.next_after(us)

    def last_before(self, us: int) -> int | None:
        if us <= self._due_us:
            return None
        return max(self._due_us, self._times.last_before(us) or 0)

    def count(self, stretch: _Stretch) -> int:
        last_us = stretch.to_us - 1
        if last_us < self._due_us:
            return 0
        after_us = max(stretch.from_us - 1, self._due_us)
        count = self._times.count(after_us, last_us) if last_us > after_us else 0
        return count + (stretch.from_us <= self._due_us)


class _Round:
    """One call of ``decide``."""

    def __init__(self, times: NominalTimes, due_us: int, now_us: int, policy: Policy, around: Circumstances) -> None:
        self._times = _Times(times, due_us)
        self._due_us = due_us
        self._now_us = now_us
        self._policy = policy
        self._around = around
        reach_us = times.reach(due_us, now_us)
        # Where this round ends, itself excluded.
        self._end_us = now_us + 1 if reach_us is None else min(now_us, max(reach_us, due_us)) + 1
        self._late = self._group(policy.catch_up, MISSED, now_us - policy.grace_us)
        if policy.coalesce:
            self._fresh = _Group(1, EXECUTED, _skipped(SkipReason.COALESCED), now_us + 1)
        else:
            self._fresh = _Group(policy.max_runs, EXECUTED, EXECUTED, None)
        self._frozen = [
            (freeze, self._group(freeze.catch_up, _skipped(SkipReason.FROZEN), min(freeze.to_us, now_us + 1)))
            for freeze in around.freezes
            if freeze.catch_up is not None
        ]

    def _group(self, catch_up: CatchUp, rest: Fate, upto_us: int) -> _Group:
        if catch_up is CatchUp.ALL:
            return _Group(self._policy.catch_up_max, CAUGHT_UP, _skipped(SkipReason.CATCH_UP_LIMIT), upto_us)
        return _Group(1 if catch_up is CatchUp.LATEST else 0, CAUGHT_UP, rest, upto_us)

    def plan(self) -> Plan:
        stretches = self._cut()
        runs = self._pick(stretches)
        if self._around.runs_left is not None and len(runs) >= self._around.runs_left:
            return self._last_plan(stretches, runs[: self._around.runs_left])
        return self._compose(stretches, runs)

    # --- cutting ---------------------------------------------------------------------------------------

    def _cut(self) -> list[_Stretch]:
        """The stretches from ``due_us`` to the end of this round, in order. May bring the end forward."""
        stretches: list[_Stretch] = []
        cuts = self._cuts()
        at = 0
        for from_us, to_us, verdict in self._segments():
            low_us = from_us
            while low_us < to_us:
                while at < len(cuts) and cuts[at] <= low_us:
                    at += 1
                high_us = min(to_us, cuts[at]) if at < len(cuts) else to_us
                stretches.append(self._stretch(low_us, high_us, verdict))
                low_us = high_us
            if len(stretches) >= MAX_STRETCHES:
                self._end_us = to_us
                break
        return stretches

    def _segments(self) -> Iterator[tuple[int, int, Verdict | None]]:
        exclusions = self._around.exclusions
        if exclusions is None:
            return iter([(self._due_us, self._end_us, None)])
        return exclusions.segments(self._due_us, self._end_us)

    def _cuts(self) -> list[int]:
        around, policy = self._around, self._policy
        cuts = {self._now_us - policy.grace_us, self._now_us - policy.window_us}
        if around.resume_us is not None:
            cuts.add(around.resume_us)
        for freeze in around.freezes:
            cuts.update((freeze.from_us, freeze.to_us))
        for nominal_us in around.skips:
            cuts.update((nominal_us, nominal_us + 1))
        return sorted(cuts)

    def _stretch(self, from_us: int, to_us: int, verdict: Verdict | None) -> _Stretch:
        around, policy = self._around, self._policy
        if from_us in around.skips:
            return _Stretch(from_us, to_us, _skipped(SkipReason.REQUESTED))
        if around.paused and (around.resume_us is None or from_us < around.resume_us):
            return _Stretch(from_us, to_us, _skipped(SkipReason.PAUSED))
        if verdict is not None:
            return _Stretch(from_us, to_us, _skipped(verdict.reason, verdict.detail))
        for freeze, group in self._frozen:
            if freeze.from_us <= from_us < freeze.to_us:
                return _Stretch(from_us, to_us, group.rest, group)
        if from_us >= self._now_us - policy.grace_us:
            return _Stretch(from_us, to_us, self._fresh.rest, self._fresh)
        if from_us >= self._now_us - policy.window_us:
            return _Stretch(from_us, to_us, self._late.rest, self._late)
        return _Stretch(from_us, to_us, MISSED)

    # --- picking what runs -----------------------------------------------------------------------------

    def _pick(self, stretches: list[_Stretch]) -> list[tuple[int, Fate]]:
        """What runs, in order. Brings the end forward where that can't be told, or isn't done, in this round."""
        if not self._policy.coalesce:
            self._fill(stretches)
        runs: list[tuple[int, _Group]] = []
        for stretch in reversed(stretches):
            group = stretch.group
            if group is None:
                continue
            before_us = min(stretch.to_us, self._end_us)
            while group.kept < group.keep:
                nominal_us = self._times.last_before(before_us)
                if nominal_us is None or nominal_us < stretch.from_us:
                    break
                runs.append((nominal_us, group))
                group.kept += 1
                before_us = nominal_us
        runs.reverse()
        if runs and runs[0][0] == self._due_us and self._is_replaced(runs[0][1]):
            # It can't be left to the next round: a round decides at least one.
            del runs[0]
        for nominal_us, group in runs:
            if nominal_us > self._due_us and self._may_be_replaced(group):
                # Left to the next round, which sees farther.
                self._end_us = nominal_us
                break
        return [(nominal_us, group.run) for nominal_us, group in runs if nominal_us < self._end_us]

    def _may_be_replaced(self, group: _Group) -> bool:
        """Whether newer ones, behind the end of this round, may be to run instead of what it has picked."""
        return group.upto_us is not None and self._end_us < group.upto_us

    def _is_replaced(self, group: _Group) -> bool:
        """Whether so many of a group follow ``due_us`` that it is none of those that run."""
        if not self._may_be_replaced(group):
            return False
        exclusions, newer = self._around.exclusions, 0
        nominal_us = self._times.next_after(self._due_us)
        for _ in range(MAX_AHEAD):
            if nominal_us is None or group.upto_us is None or nominal_us >= group.upto_us:
                break
            verdict = None if exclusions is None else exclusions.verdict(nominal_us)
            newer += self._stretch(nominal_us, nominal_us + 1, verdict).group is group
            if newer >= group.keep:
                return True
            nominal_us = self._times.next_after(nominal_us)
        return False

    def _fill(self, stretches: list[_Stretch]) -> None:
        """Of fresh ones, the first ``max_runs`` run; the round ends before the one after that."""
        left = self._policy.max_runs
        for stretch in stretches:
            if stretch.group is not self._fresh:
                continue
            nominal_us = self._times.next_after(stretch.from_us - 1)
            while nominal_us is not None and nominal_us < stretch.to_us:
                if not left:
                    self._end_us = min(self._end_us, nominal_us)
                    return
                left -= 1
                nominal_us = self._times.next_after(nominal_us)

    # --- writing it down ---------------------------------------------------------------------------------

    def _last_plan(self, stretches: list[_Stretch], runs: list[tuple[int, Fate]]) -> Plan:
        """It runs for the last time: what comes after that is no nominal time any more."""
        if runs:
            self._end_us = min(self._end_us, runs[-1][0] + 1)
        else:
            self._end_us = self._due_us
        plan = self._compose(stretches, runs)
        return Plan(plan.decisions, plan.last_us, None, finished=True)

    def _compose(self, stretches: list[_Stretch], runs: list[tuple[int, Fate]]) -> Plan:
        decisions = [Decision(nominal_us, fate[0], fate[1]) for nominal_us, fate in runs]
        decisions += self._rows(stretches, [nominal_us for nominal_us, _ in runs])
        decisions.sort(key=_nominal)
        last_us = self._times.last_before(self._end_us)
        return Plan(
            decisions,
            self._due_us if last_us is None else last_us,
            self._times.next_after(self._end_us - 1),
        )

    def _rows(self, stretches: list[_Stretch], runs: list[int]) -> list[Decision]:
        """The rows of what isn't run: the newest one by one, those before by reason."""
        ran = set(runs)
        rows: list[Decision] = []
        summed: dict[Fate, list[int]] = {}
        for stretch in reversed(stretches):
            before_us = min(stretch.to_us, self._end_us)
            while len(rows) < self._policy.max_rows:
                nominal_us = self._times.last_before(before_us)
                if nominal_us is None or nominal_us < stretch.from_us:
                    before_us = stretch.from_us
                    break
                before_us = nominal_us
                if nominal_us not in ran:
                    outcome, reason, detail = stretch.fate
                    rows.append(Decision(nominal_us, outcome, reason, detail=detail))
            if before_us > stretch.from_us:
                self._sum(_Stretch(stretch.from_us, before_us, stretch.fate), runs, summed)
        return rows + [
            Decision(first_us, outcome, reason, count, last_us if count > 1 else None, detail)
            for (outcome, reason, detail), (count, first_us, last_us) in summed.items()
        ]

    def _sum(self, stretch: _Stretch, runs: list[int], summed: dict[Fate, list[int]]) -> None:
        """Add what isn't run of a stretch to the sum of its fate. The stretches come from the newest to the oldest."""
        among = runs[bisect_left(runs, stretch.from_us) : bisect_left(runs, stretch.to_us)]
        count = self._times.count(stretch) - len(among)
        if count <= 0:
            return
        first_us = self._times.next_after(stretch.from_us - 1)
        last_us = self._times.last_before(stretch.to_us)
        while first_us in among:
            first_us = self._times.next_after(first_us)
        while last_us in among:
            last_us = self._times.last_before(last_us)
        assert first_us is not None
        assert last_us is not None
        total = summed.get(stretch.fate)
        if total is None:
            summed[stretch.fate] = [count, first_us, last_us]
        else:
            total[0] += count
            total[1] = first_us


def _nominal(decision: Decision) -> int:
    return decision.nominal_us
