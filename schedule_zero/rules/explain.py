"""Why a schedule ran, or did not run, at a moment: one sentence, and what it stands on. Pure.

The facts were looked up before (``service.explain``); here they are only put into words. Which case it is: a row of
the ledger has the first word; without one, it is what the schedule was at that time.
"""

from __future__ import annotations

from typing import Any

from schedule_zero.model import CatchUp, Execution, Fire, FireOutcome, Freeze, Policies, ScheduleState, SkipReason
from schedule_zero.rules.facts import Answer, Explained, Facts, Outage, Ruling
from schedule_zero.rules.overlap import NEWEST_WINS
from schedule_zero.rules.phrases import Wall, by, length, quoted, times
from schedule_zero.rules.story import run_of, run_of_group

# Decided less than so long after its nominal time, a fire is not called late.
PUNCTUAL_US = 1_000_000


def explain(facts: Facts) -> Explained:
    """The explanation of a moment."""
    said = _explain(facts)
    if facts.clock_note:
        said.sentence += f" {facts.clock_note}"
    return said


def _explain(facts: Facts) -> Explained:
    fire, wall = facts.fire, Wall(facts.zone)
    if fire is not None:
        tell = {
            FireOutcome.EXECUTED: _executed,
            FireOutcome.CAUGHT_UP: _caught_up,
            FireOutcome.SKIPPED: _skipped,
            FireOutcome.MISSED: _missed,
        }[fire.outcome]
        said = tell(facts, fire, wall)
        said.reason = fire.reason
        said.sentence += _summed(facts, fire, wall)
        return said
    if facts.ruling is None:
        return _nobody(facts, wall)
    if facts.ended:
        return _ended(facts, facts.ruling, wall)
    if facts.nominal_us is None:
        return _not_due(facts, wall)
    if facts.nominal_us > facts.now_us:
        return _upcoming(facts, facts.ruling, wall)
    if facts.due:
        return _undecided(facts, wall)
    sentence = (
        f"{_due(facts, wall)}, and the ledger has no row for it. That must not be: the schedule's audit says how many "
        "there are of this kind."
    )
    return Explained(answer=Answer.UNACCOUNTED, sentence=sentence)


# --- what the ledger says -----------------------------------------------------------------------------


def _due(facts: Facts, wall: Wall) -> str:
    nominal_us = facts.at_us if facts.nominal_us is None else facts.nominal_us
    first = f", the first of {facts.in_second:,} in that second" if facts.in_second > 1 else ""
    return f"It was due at {wall.say(nominal_us)}{first}"


def _lateness_us(facts: Facts, fire: Fire) -> int:
    return fire.decided_us - (fire.nominal_us if facts.nominal_us is None else facts.nominal_us)


def _executed(facts: Facts, fire: Fire, wall: Wall) -> Explained:
    late_us, policy = _lateness_us(facts, fire), {}
    said = f"{_due(facts, wall)}, and ran"
    decider = facts.decider
    if late_us >= PUNCTUAL_US and decider is not None:
        policy = {"misfire_grace_s": decider.schedule.misfire_grace_s}
        grace = length(round(decider.schedule.misfire_grace_s * 1e6))
        said += f" {length(late_us)} late, which is within its grace of {grace}{_because(facts, fire, wall)}"
    policy |= _jitter(facts)
    return Explained(answer=Answer.EXECUTED, sentence=f"{said}. {_run(facts, fire)}",
                     policy=policy)  # fmt: skip


def _run(facts: Facts, fire: Fire) -> str:
    if fire.is_group:
        return run_of_group(facts.group, fire)
    return run_of(facts.execution, fire, facts.decider, facts.now_us)


def _jitter(facts: Facts) -> dict[str, Any]:
    policies = None if facts.decider is None else facts.decider.policies
    if policies is None or not policies.jitter_s:
        return {}
    return {"jitter_s": policies.jitter_s, "jitter": policies.jitter.value}


def _caught_up(facts: Facts, fire: Fire, wall: Wall) -> Explained:
    catch_up = None if facts.freeze is None else facts.freeze.catch_up
    if facts.freeze is not None and catch_up is not None:
        why = f"{_frozen(facts.freeze, wall)}, and what was due meanwhile was to be made up for (catch_up: {catch_up})"
        policy: dict[str, Any] = {"catch_up": catch_up.value}
    else:
        why, policy = f"{_absence(facts, fire, wall)}, and it was caught up afterwards", _catch_up(facts)
    sentence = f"{_due(facts, wall)}, and ran {length(_lateness_us(facts, fire))} late: {why}. {_run(facts, fire)}"
    return Explained(answer=Answer.CAUGHT_UP, sentence=sentence, policy=policy)


def _absence(facts: Facts, fire: Fire, wall: Wall) -> str:
    """Why nobody decided it in time."""
    if facts.outage is not None:
        return _away(facts.outage, wall)
    if facts.freeze is not None:
        return _frozen(facts.freeze, wall)
    decided = f"decided it only {length(_lateness_us(facts, fire))} after it was due"
    if facts.just_started_us is not None:
        return f"the server had just started, at {wall.say(facts.just_started_us)}, and {decided}"
    return f"the server {decided}"


def _because(facts: Facts, fire: Fire, wall: Wall) -> str:
    """What kept it from being decided at once, if that is known."""
    if facts.outage is not None:
        return f": {_away(facts.outage, wall)}"
    if facts.freeze is not None:
        return f": {_frozen(facts.freeze, wall)}"
    if facts.just_started_us is not None and _lateness_us(facts, fire) >= PUNCTUAL_US:
        return f": the server had just started, at {wall.say(facts.just_started_us)}"
    return ""


def _away(outage: Outage, wall: Wall) -> str:
    about = "about " if outage.about else ""
    return f"the server was not running from {about}{wall.say(outage.from_us)} to {wall.say(outage.to_us)}"


def _frozen(freeze: Freeze, wall: Wall, verb: str = "were") -> str:
    until = "" if freeze.to_us is None else f" to {wall.say(freeze.to_us)}"
    return f"all schedules {verb} frozen{by(freeze.by)}{quoted(freeze.note)} from {wall.say(freeze.from_us)}{until}"


def _catch_up(facts: Facts) -> dict[str, Any]:
    decider = facts.decider
    if decider is None:
        return {}
    policy: dict[str, Any] = {
        "catch_up": decider.policies.catch_up.value,
        "catch_up_window_s": facts.window_us / 1e6,
        "misfire_grace_s": decider.schedule.misfire_grace_s,
    }
    if decider.policies.catch_up is CatchUp.ALL:
        policy["catch_up_max"] = decider.policies.catch_up_max
    return policy


def _missed(facts: Facts, fire: Fire, wall: Wall) -> Explained:
    policy = _catch_up(facts)
    catch_up = policy.get("catch_up")
    late_us = _lateness_us(facts, fire)
    if catch_up == CatchUp.NONE:
        rule = "and what comes too late is not caught up (catch_up: none)"
    elif late_us > facts.window_us:
        rule = f"and that was {length(late_us)} before, longer than its catch-up window of {length(facts.window_us)}"
    else:
        latest = "" if facts.latest_us is None else f", which was that of {wall.say(facts.latest_us)}"
        rule = f"and of what comes too late only the latest is caught up (catch_up: latest){latest}"
    sentence = f"{_due(facts, wall)}, and was missed: {_absence(facts, fire, wall)}, {rule}."
    return Explained(answer=Answer.MISSED, sentence=sentence, policy=policy)


def _skipped(facts: Facts, fire: Fire, wall: Wall) -> Explained:
    why, policy = _reason(facts, fire, wall)
    return Explained(answer=Answer.SKIPPED, sentence=f"{_due(facts, wall)}, and was skipped: {why}.", policy=policy)


def _reason(facts: Facts, fire: Fire, wall: Wall) -> tuple[str, dict[str, Any]]:
    decider, detail = facts.decider, fire.detail
    policies = Policies() if decider is None else decider.policies
    match fire.reason:
        case SkipReason.PAUSED:
            return _paused(decider, wall), {}
        case SkipReason.OVERLAP:
            return f"{_overlap(facts, policies, wall)} (overlap: {policies.overlap})", {
                "overlap": policies.overlap.value
            }
        case SkipReason.BLACKOUT | SkipReason.HOLIDAY:
            policy = {"exclude": list(policies.exclude), "require": list(policies.require)}
            return f"a named calendar forbids it ({detail or fire.reason})", policy
        case SkipReason.CATCH_UP_LIMIT:
            return (
                f"{_absence(facts, fire, wall)}, and of what comes too late only the newest "
                f"{policies.catch_up_max:,} are caught up (catch_up: all)"
            ), _catch_up(facts)
        case SkipReason.COALESCED:
            latest = "" if facts.latest_us is None else f", that of {wall.say(facts.latest_us)}"
            several = "several were due when they were decided, and only the latest runs (coalesce)"
            return f"{several}{latest}{_because(facts, fire, wall)}", {"coalesce": True}
        case SkipReason.REQUESTED:
            return f"{facts.asked_by or 'somebody'} had asked to leave it out", {}
        case SkipReason.FROZEN:
            frozen = "all schedules were frozen" if facts.freeze is None else _frozen(facts.freeze, wall)
            catch_up = None if facts.freeze is None else facts.freeze.catch_up
            what = "only the latest of it" if catch_up is CatchUp.LATEST else "nothing of it"
            return f"{frozen}, and {what} was to be made up for", {"catch_up": catch_up and catch_up.value}
        case SkipReason.CHANGED:
            return f"{_changed(decider, wall)}{_because(facts, fire, wall)}", {}
        case SkipReason.QUARANTINED:
            note = "" if decider is None else quoted(decider.schedule.note)
            return f"it could not be decided, and the schedule was put into quarantine{note}", {}
        case SkipReason.DST_GAP:
            return "its local time did not exist that day, and its trigger leaves such times out (dst_gap: skip)", {}
        case SkipReason.BACKPRESSURE:
            return "too much was waiting already", {}
        case SkipReason.DUPLICATE:
            return f"execution {detail} had its unique key", {}
        case SkipReason.NO_NODE:
            return f"it was to run on every node that matches, and there was none: {detail}", {"broadcast": True}
        case _:
            return detail or "the ledger does not say why", {}


def _overlap(facts: Facts, policies: Policies, wall: Wall) -> str:
    if facts.latest_us is not None or policies.overlap in NEWEST_WINS:
        named = "" if facts.latest_us is None else f", that of {wall.say(facts.latest_us)},"
        return f"a later one that was decided at the same time{named} took its place"
    way = facts.in_the_way
    named = "" if way is None else f" ({way.id}" + _of(way, wall) + ")"
    more = ", and another one was waiting already" if policies.overlap == "buffer_one" else ""
    return f"an earlier execution{named} was not over{more}"


def _of(execution: Execution, wall: Wall) -> str:
    return "" if execution.nominal_us is None else f", that of {wall.say(execution.nominal_us)}"


def _paused(ruling: Ruling | None, wall: Wall) -> str:
    if ruling is None or ruling.schedule.state is not ScheduleState.PAUSED:
        return "the schedule was paused"
    row = ruling.schedule
    until = "" if row.resume_us is None else f" until {wall.say(row.resume_us)}"
    # What a pause without a note gets as its note says nothing more.
    note = None if row.note == f"paused by {row.updated_by}" else row.note
    return f"the schedule was paused{by(row.updated_by)}{quoted(note)} at {wall.say(ruling.from_us)}{until}"


def _changed(ruling: Ruling | None, wall: Wall) -> str:
    if ruling is None or ruling.to_us is None:
        return "the schedule was changed before it was decided"
    what = "deleted" if ruling.deleted else "changed"
    return f"the schedule was {what}{by(ruling.ended_by)} at {wall.say(ruling.to_us)}, before it was decided"


def _summed(facts: Facts, fire: Fire, wall: Wall) -> str:
    if fire.last_nominal_us is None:
        return ""
    what = f" One row of the ledger stands for {times(fire.count, 'such time')} from {wall.say(fire.nominal_us)} to "
    what += f"{wall.say(fire.last_nominal_us)}."
    if facts.perhaps:
        others = sorted({str(other.reason or other.outcome) for other in facts.perhaps})
        what += f" Others of the same time stand for {' and '.join(others)}; which one it was, they do not say."
    return what


# --- what the schedule was ----------------------------------------------------------------------------


def _nobody(facts: Facts, wall: Wall) -> Explained:
    at = wall.say(facts.at_us)
    if facts.known_since_us is not None and facts.at_us <= facts.known_since_us:
        return Explained(
            answer=Answer.UNKNOWN,
            sentence=f"What this schedule was at {at} is not known: its versions are kept since "
            f"{wall.say(facts.known_since_us)}, and the ledger has no row for that moment.",
        )
    created = "" if facts.created is None else f" created{by(facts.created.who)} at {wall.say(facts.created.us)}"
    if facts.deleted is not None:
        again = f", and was{created} again" if created else ""
        return Explained(
            answer=Answer.DELETED,
            sentence=f"There was no such schedule at {at}: it had been deleted{by(facts.deleted.who)} at "
            f"{wall.say(facts.deleted.us)}{again}.",
        )
    return Explained(
        answer=Answer.NOT_CREATED, sentence=f"There was no such schedule at {at}: it was{created or ' created later'}."
    )


def _ended(facts: Facts, ruling: Ruling, wall: Wall) -> Explained:
    row = ruling.schedule
    verb = "is" if facts.at_us > facts.now_us else "was"
    how = "has finished" if verb == "is" else "had finished"
    if row.state is ScheduleState.QUARANTINED:
        how = f"{verb} in quarantine"
    sentence = f"Nothing {verb} due at {wall.say(facts.at_us)}: the schedule {how}{quoted(row.note)}."
    if facts.before_us is not None:
        sentence += f" It was due for the last time at {wall.say(facts.before_us)}."
    return Explained(answer=Answer.ENDED, sentence=sentence + _meanwhile(facts, wall))


def _not_due(facts: Facts, wall: Wall) -> Explained:
    verb = "is" if facts.at_us > facts.now_us else "was"
    sentence = f"Nothing {verb} due at {wall.say(facts.at_us)}."
    if facts.trigger_words:
        sentence += f" The trigger: {facts.trigger_words}."
    neighbours = []
    if facts.before_us is not None:
        neighbours.append((facts.before_us, f"before that at {wall.say(facts.before_us)}{_became(facts.before)}"))
    if facts.after_us is not None:
        neighbours.append((facts.after_us, f"after that at {wall.say(facts.after_us)}"))
    said, spoken = [], None
    for us, when in neighbours:
        verb = "is" if us > facts.now_us else "was"
        said.append(when if verb == spoken else f"{verb} due {when}")
        spoken = verb
    if said:
        sentence += f" It {', and '.join(said)}."
    return Explained(answer=Answer.NOT_DUE, sentence=sentence + _meanwhile(facts, wall))


def _meanwhile(facts: Facts, wall: Wall) -> str:
    """What would have kept it from running in time, had it been due."""
    if facts.outage is not None:
        return f" At that time {_away(facts.outage, wall)}."
    if facts.freeze is None:
        return ""
    return f" At that time {_frozen(facts.freeze, wall, 'will be' if facts.at_us > facts.now_us else 'were')}."


def _became(fire: Fire | None) -> str:
    if fire is None:
        return ""
    how = {
        FireOutcome.EXECUTED: "ran",
        FireOutcome.CAUGHT_UP: "ran late",
        FireOutcome.SKIPPED: f"was skipped ({fire.reason})",
        FireOutcome.MISSED: "was missed",
    }[fire.outcome]
    return f", which {how}"


def _undecided(facts: Facts, wall: Wall) -> Explained:
    late = length(facts.now_us - (facts.nominal_us or facts.at_us))
    why = f"the server is {late} behind" if facts.freeze is None else _frozen(facts.freeze, wall)
    return Explained(answer=Answer.UNDECIDED, sentence=f"{_due(facts, wall)}, and is not decided yet: {why}.")


def _upcoming(facts: Facts, ruling: Ruling, wall: Wall) -> Explained:
    row, nominal_us = ruling.schedule, facts.nominal_us or facts.at_us
    said = f"It is due at {wall.say(nominal_us)}, in {length(nominal_us - facts.now_us)}"
    reason, but = None, ""
    if facts.to_skip:
        reason, but = SkipReason.REQUESTED, f"but {facts.asked_by or 'somebody'} has asked to leave it out"
    elif row.state is ScheduleState.PAUSED and (row.resume_us is None or nominal_us < row.resume_us):
        reason = SkipReason.PAUSED
        but = f"but it will be skipped unless the schedule is resumed: {_paused(ruling, wall)}"
    elif facts.forbidden:
        reason, but = None, f"but a named calendar forbids it ({facts.forbidden})"
    elif facts.freeze is not None and (facts.freeze.to_us is None or facts.freeze.to_us > nominal_us):
        reason, but = SkipReason.FROZEN, f"but it will not be decided before a thaw: {_frozen(facts.freeze, wall)}"
    elif facts.runs_out:
        most = ruling.policies.max_fires
        but = f"but by then the schedule has run as often as it may (max_fires: {most})"
    sentence = f"{said}, {but}." if but else f"{said}, and will run unless the schedule is changed before."
    return Explained(answer=Answer.UPCOMING, sentence=sentence, reason=reason)
