"""Finds out what an explanation stands on: the row, the version of that time, the server's lives, freezes, executions.

All of it in one snapshot, on a reader thread; a bounded number of look-ups. The words are made in ``rules.explain``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from schedule_zero.clock import Clock, to_us
from schedule_zero.config import TimingConfig
from schedule_zero.errors import InvalidCalendar, InvalidField, InvalidTrigger, NotFound
from schedule_zero.model import Execution, Fire, FireOutcome, Freeze, Schedule, ScheduleState, SkipReason
from schedule_zero.rules.explain import explain
from schedule_zero.rules.facts import Answer, Change, Explained, Facts, Ruling
from schedule_zero.rules.phrases import Wall, length
from schedule_zero.rules.policies import policies_of, skips_of
from schedule_zero.service.outages import outage_at, started_before
from schedule_zero.store import Store, fire_audit, schedule_history, server_runs
from schedule_zero.store import executions as store_executions
from schedule_zero.store import fires as store_fires
from schedule_zero.store import freezes as store_freezes
from schedule_zero.store import groups as store_groups
from schedule_zero.store import schedules as store_schedules
from schedule_zero.timing import Timer, Trigger
from schedule_zero.timing.freezes import in_force
from schedule_zero.timing.spans import has_ended
from schedule_zero.timing.trigger import LATEST_US, LATEST_WORDS
from schedule_zero.timing.walltime import resolve

if TYPE_CHECKING:
    from sqlalchemy import Connection

SECOND_US = 1_000_000
# Versions that are looked through for the one of that time.
MAX_VERSIONS = 5000
# Answers that say that no nominal time has come.
_NOTHING = frozenset({Answer.NOT_DUE, Answer.UPCOMING, Answer.ENDED, Answer.DELETED})


class Explanation(Struct):
    """A moment of a schedule, explained, with the facts."""

    schedule_id: str
    facts: Facts
    said: Explained


class ExplainService:
    """Answers "why did it not run?"."""

    def __init__(self, *, store: Store, timer: Timer, clock: Clock, timing: TimingConfig) -> None:
        self._store = store
        self._timer = timer
        self._clock = clock
        self._window_us = round(timing.catch_up_window_s * 1e6)

    async def explain(self, schedule_id: str, at: int | datetime | None = None) -> Explanation:
        """Why it ran or did not run at a moment: microseconds, or a datetime (without an offset: in its own zone).

        None: the last nominal time up to now, if there was one. A moment of whole seconds means the first nominal time
        within that second. NotFound.
        """
        now_us = self._clock.wall_us()

        def read(conn: Connection) -> Facts | None:
            facts = self._find_out(conn, schedule_id, now_us if at is None else at, now_us)
            if at is None and facts is not None and facts.before_us is not None and explain(facts).answer in _NOTHING:
                return self._find_out(conn, schedule_id, facts.before_us, now_us)
            return facts

        facts = await self._store.read(read)
        if facts is None:
            raise NotFound(f"there is no schedule {schedule_id!r}")
        return Explanation(schedule_id, facts, explain(facts))

    def _find_out(self, conn: Connection, schedule_id: str, at: int | datetime, now_us: int) -> Facts | None:
        current = store_schedules.get(conn, schedule_id)
        generations = list(fire_audit.generations(conn, schedule_id))
        newest = next(_rulings(conn, schedule_id, current), None)
        if newest is None and not generations:
            return None
        zone = None if newest is None else zone_of(newest.schedule)
        at_us, clock_note = _moment(at, zone)
        if at_us > LATEST_US:
            raise InvalidField(f"expected {LATEST_WORDS}, got {at}", parameter="at")
        facts = Facts(at_us=max(at_us, 0), now_us=now_us, zone=zone, clock_note=clock_note)
        _Search(self, conn, schedule_id, current, generations, facts).fill()
        return facts

    # --- what the search asks -----------------------------------------------------------------------------

    def trigger(self, conn: Connection, row: Schedule) -> Trigger | None:
        """The trigger of a version; None: it can't be read any more."""
        try:
            return self._timer.resolver.trigger_then(conn, row)
        except (InvalidTrigger, InvalidCalendar):
            return None

    def forbidden(self, row: Schedule, trigger: Trigger, us: int) -> str | None:
        """Why a named calendar forbids a moment."""
        try:
            exclusions = self._timer.resolver.exclusions(policies_of(row.policies), trigger)
        except InvalidCalendar as error:
            return error.message
        verdict = None if exclusions is None else exclusions.verdict(us)
        return None if verdict is None else verdict.detail

    def begins_with(self, conn: Connection, us: int) -> bool:
        """Whether the server was started then, and is about to put that on record with the fires of its start."""
        if us != self._timer.started_us:
            return False
        last, _ = server_runs.around(conn, us)
        return last is None or last.started_us != us

    def window_us(self, row: Schedule) -> int:
        window_s = policies_of(row.policies).catch_up_window_s
        return self._window_us if window_s is None else round(window_s * 1e6)


class _Search:
    """Fills in the facts of one moment."""

    def __init__(
        self,
        service: ExplainService,
        conn: Connection,
        schedule_id: str,
        current: Schedule | None,
        generations: list[int],
        facts: Facts,
    ) -> None:
        self._service = service
        self._conn = conn
        self._id = schedule_id
        self._current = current
        self._generations = generations
        self._facts = facts
        at_us = facts.at_us
        # What is meant: the moment, or the second that begins with it.
        self._upto_us = at_us + SECOND_US - 1 if at_us % SECOND_US == 0 else at_us
        self._rulings = list(self._near())

    def _near(self) -> Iterator[Ruling]:
        """The versions from the newest down to the one before that moment."""
        for count, ruling in enumerate(_rulings(self._conn, self._id, self._current)):
            yield ruling
            if (ruling.to_us is not None and ruling.to_us < self._facts.at_us) or count == MAX_VERSIONS:
                return

    def fill(self) -> None:
        facts = self._facts
        facts.fire = self._own_row()
        if facts.fire is not None:
            generation, us = facts.fire.generation, facts.fire.nominal_us
            of_it = [ruling for ruling in self._rulings if ruling.schedule.generation == generation]
            # A date that had passed when its schedule was made lies before all of them.
            facts.ruling = _covering(of_it, us) or (of_it[-1] if of_it else None)
            facts.nominal_us = us
        else:
            facts.ruling = _covering(self._rulings, facts.at_us) or _covering(self._rulings, self._upto_us)
        if facts.ruling is None:
            self._nobody()
        else:
            self._then(facts.ruling)
        moment_us = facts.at_us if facts.nominal_us is None else facts.nominal_us
        facts.outage = outage_at(self._conn, moment_us)
        if facts.nominal_us is None:
            # Whether one without an end lasts until a moment to come, nobody knows.
            known = [f for f in store_freezes.all_freezes(self._conn) if f.to_us or moment_us <= facts.now_us]
            facts.freeze = _freeze_at(known, moment_us)
        if facts.fire is not None:
            if facts.outage is not None and facts.fire.decided_us < facts.outage.to_us:
                # The last decision of a server that was killed may come a moment before its nominal time.
                facts.outage = None
            facts.just_started_us = started_before(self._conn, moment_us)
            self._decided(facts.fire)

    def _own_row(self) -> Fire | None:
        at_us = self._facts.at_us
        for generation in reversed(self._generations):
            fire = store_fires.within(self._conn, self._id, generation, at_us, self._upto_us)
            if fire is not None:
                return fire
        return None

    def _nobody(self) -> None:
        """No version is known that was in force then."""
        facts = self._facts
        before = next((r for r in self._rulings if r.to_us is not None and r.to_us < facts.at_us), None)
        later = [ruling for ruling in self._rulings if ruling.from_us >= facts.at_us]
        if before is not None and before.to_us is not None and before.deleted:
            facts.deleted = Change(us=before.to_us, who=before.ended_by)
            trigger = self._service.trigger(self._conn, before.schedule)
            self._neighbours(before, trigger, self._end_us(before, trigger))
        first = later[-1] if later else None
        if first is not None:
            facts.created = Change(us=first.from_us, who=first.schedule.updated_by)
            if first.schedule.version > 1:
                facts.known_since_us = first.from_us
        if before is None and (first is None or self._generations_before(first)):
            facts.known_since_us = facts.now_us if first is None else first.from_us

    def _generations_before(self, ruling: Ruling) -> bool:
        """Whether there were earlier schedules of this id, of which no version is known."""
        return any(generation < ruling.schedule.generation for generation in self._generations)

    # --- what the schedule was ----------------------------------------------------------------------------

    def _then(self, ruling: Ruling) -> None:
        facts, row = self._facts, ruling.schedule
        trigger = self._service.trigger(self._conn, row)
        end_us = self._end_us(ruling, trigger)
        facts.ended = facts.at_us > end_us
        self._neighbours(ruling, trigger, end_us)
        if trigger is None:
            facts.trigger_words = "it can't be read any more"
            return
        facts.trigger_words = trigger.words()
        facts.in_second = max(1, trigger.count(facts.at_us - 1, self._upto_us))
        if facts.fire is not None:
            return
        facts.nominal_us = self._nominal(ruling, trigger, end_us)
        if facts.nominal_us is None:
            return
        rows = store_fires.over(self._conn, self._id, row.generation, facts.nominal_us)
        if rows:
            facts.fire, *facts.perhaps = rows
            return
        current = self._current
        if current is not None and current.generation == row.generation:
            undecided_us = current.next_fire_us
            facts.due = undecided_us is not None and undecided_us <= facts.nominal_us
            facts.due = facts.due or self._service.begins_with(self._conn, facts.nominal_us)
        self._to_come(current)

    def _end_us(self, ruling: Ruling, trigger: Trigger | None) -> int:
        """The last moment that may be a nominal time of a version: what has finished has none after its last row."""
        row, to_us = ruling.schedule, LATEST_US if ruling.to_us is None else ruling.to_us
        quiet = row.next_fire_us is None and (
            row.state in (ScheduleState.FINISHED, ScheduleState.QUARANTINED)
            or (trigger is not None and has_ended(row, trigger))
        )
        if not quiet:
            return to_us
        decided_us = fire_audit.decided_upto(self._conn, self._id, row.generation, to_us)
        return min(to_us, max(decided_us or 0, row.last_fire_us or 0))

    def _nominal(self, ruling: Ruling, trigger: Trigger, end_us: int) -> int | None:
        """The nominal time that is meant, if it is one of this version."""
        facts, row = self._facts, ruling.schedule
        nominal_us = trigger.next_after(facts.at_us - 1)
        if nominal_us is None or nominal_us > self._upto_us:
            # What follows a run, or a start, is known as soon as it is the next.
            next_us = row.next_fire_us if ruling.to_us is None else None
            nominal_us = next_us if next_us is not None and facts.at_us <= next_us <= self._upto_us else None
        return nominal_us if nominal_us is not None and ruling.from_us < nominal_us <= end_us else None

    def _neighbours(self, ruling: Ruling, trigger: Trigger | None, end_us: int) -> None:
        facts, row = self._facts, ruling.schedule
        nominal_us = facts.nominal_us or facts.at_us
        high_us = facts.nominal_us or self._upto_us
        before, after = store_fires.beside(self._conn, self._id, row.generation, nominal_us, high_us)
        befores, afters = [before], [after]
        if trigger is not None:
            last_us, next_us = trigger.last_before(min(nominal_us, end_us + 1)), trigger.next_after(high_us)
            befores.append(last_us if last_us is not None and last_us > ruling.from_us else None)
            afters.append(next_us if next_us is not None and next_us <= end_us else None)
        current = self._current
        if current is not None and current.generation == row.generation and current.next_fire_us is not None:
            # Whatever version it belongs to: what lies before it has its rows, and what follows it has none yet.
            undecided_us = current.next_fire_us
            goes_on = self._service.trigger(self._conn, current)
            afters.append(undecided_us)
            if goes_on is not None:
                afters.append(goes_on.next_after(max(high_us, undecided_us)))
                last_us = goes_on.last_before(nominal_us)
                befores.append(last_us if last_us is not None and last_us >= undecided_us else None)
        facts.before_us = max((us for us in befores if us is not None and us < nominal_us), default=None)
        if facts.before_us is not None:
            facts.before = store_fires.within(self._conn, self._id, row.generation, facts.before_us, facts.before_us)
        facts.after_us = min((us for us in afters if us is not None and us > high_us), default=None)

    def _to_come(self, current: Schedule | None) -> None:
        """What may keep it from running; and what keeps it from being decided."""
        facts = self._facts
        nominal_us = facts.nominal_us
        facts.freeze = in_force(store_freezes.all_freezes(self._conn), facts.now_us)
        if current is None or nominal_us is None or nominal_us <= facts.now_us:
            return
        facts.to_skip = nominal_us in skips_of(current.skips)
        facts.asked_by = self._asked_by(current.generation, nominal_us)
        trigger = self._service.trigger(self._conn, current)
        if trigger is None:
            return
        facts.forbidden = self._service.forbidden(current, trigger, nominal_us)
        most = policies_of(current.policies).max_fires
        if most is not None and current.next_fire_us is not None:
            facts.runs_out = trigger.count(current.next_fire_us - 1, nominal_us - 1) >= most - current.runs

    def _asked_by(self, generation: int, nominal_us: int) -> str | None:
        """Who made the oldest version (of those that were read) in which it was to be skipped."""
        asked = [
            ruling.schedule.updated_by
            for ruling in self._rulings
            if ruling.schedule.generation == generation and nominal_us in skips_of(ruling.schedule.skips)
        ]
        return asked[-1] if asked else None

    # --- how it was decided -------------------------------------------------------------------------------

    def _decided(self, fire: Fire) -> None:
        facts, conn = self._facts, self._conn
        of_it = [ruling for ruling in self._rulings if ruling.schedule.generation == fire.generation]
        decider = _covering(of_it, fire.decided_us) or facts.ruling
        facts.decider = decider
        facts.window_us = 0 if decider is None else self._service.window_us(decider.schedule)
        nominal_us = facts.nominal_us or fire.nominal_us
        if fire.is_group:
            facts.group = store_groups.get(conn, fire.execution_id or "")
        elif fire.execution_id is not None:
            facts.execution = self._execution(fire.execution_id)
        facts.freeze = _freeze_at(store_freezes.all_freezes(conn), nominal_us)
        if fire.outcome is FireOutcome.MISSED or fire.reason in (SkipReason.COALESCED, SkipReason.OVERLAP):
            facts.latest_us = self._ran_instead(fire)
        if fire.reason is SkipReason.REQUESTED:
            facts.asked_by = self._asked_by(fire.generation, nominal_us)
        if fire.reason is SkipReason.OVERLAP and facts.latest_us is None:
            facts.in_the_way = self._in_the_way(fire)

    def _ran_instead(self, fire: Fire) -> int | None:
        """The nominal time that ran of those among which only the latest does."""
        ran = store_fires.ran_with(self._conn, fire)
        if fire.reason is SkipReason.OVERLAP:
            # A round runs nothing after what had to give way to an earlier one.
            return next((us for us, _ in ran), None)
        outcome = FireOutcome.CAUGHT_UP if fire.outcome is FireOutcome.MISSED else FireOutcome.EXECUTED
        # What a thaw made up for, it chose among those of its freeze alone.
        chosen = [freeze for freeze in store_freezes.all_freezes(self._conn) if freeze.catch_up is not None]
        return next((us for us, how in ran if how is outcome and _freeze_at(chosen, us) is None), None)

    def _in_the_way(self, fire: Fire) -> Execution | None:
        execution_id = store_fires.ran_before(self._conn, fire)
        earlier = None if execution_id is None else self._execution(execution_id)
        over_us = None if earlier is None else earlier.finished_us or earlier.stored_us
        return earlier if over_us is None or over_us >= fire.decided_us else None

    def _execution(self, execution_id: str) -> Execution | None:
        found = store_executions.get(self._conn, execution_id)
        return None if found is None else found.execution


# --- small finds --------------------------------------------------------------------------------------


def _rulings(conn: Connection, schedule_id: str, current: Schedule | None) -> Iterator[Ruling]:
    if current is not None:
        yield Ruling(schedule=current, from_us=current.updated_us)
    for version in schedule_history.walk(conn, schedule_id):
        yield Ruling.of(version)


def _covering(rulings: list[Ruling], us: int) -> Ruling | None:
    return next((r for r in rulings if r.from_us < us and (r.to_us is None or us <= r.to_us)), None)


def _freeze_at(freezes: list[Freeze], us: int) -> Freeze | None:
    return next((f for f in freezes if f.from_us <= us and (f.to_us is None or us < f.to_us)), None)


def zone_of(row: Schedule) -> str | None:
    """The zone of a schedule's trigger; of several, the first that names one. None: it counts in UTC."""
    todo: list[Any] = [msgspec.json.decode(row.trigger)]
    while todo:
        part = todo.pop(0)
        if isinstance(part, dict):
            zone = part.get("timezone")
            if isinstance(zone, str):
                return None if zone == "UTC" else zone
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return None


def _moment(at: int | datetime, zone: str | None) -> tuple[int, str | None]:
    """The moment that is meant, and what there is to say about its local time."""
    if isinstance(at, int):
        return at, None
    place = ZoneInfo(zone or "UTC")
    wall = at.replace(tzinfo=None, fold=0)
    us = to_us(at) if at.tzinfo is not None else resolve(wall, place) * SECOND_US + wall.microsecond
    first, second = wall.replace(tzinfo=place).utcoffset(), wall.replace(tzinfo=place, fold=1).utcoffset()
    if first is None or second is None or first == second or (at.tzinfo and at.utcoffset() not in (first, second)):
        return us, None
    said = f"{wall:%H:%M:%S} on {wall:%Y-%m-%d}"
    shift = length(round((second - first).total_seconds() * 1e6))
    if second > first:
        seam_us = resolve(wall, place) * SECOND_US
        return us, (
            f"There was no {said} in {place.key}: the clocks were set forward by {shift}, to "
            f"{Wall(zone).local(seam_us)}."
        )
    if at.tzinfo is not None:
        return us, None
    again = Wall(zone).say(us + round((first - second).total_seconds() * 1e6))
    return us, f"{said} came twice in {place.key}; this is about the first. The second was at {again}."
