"""What the end of one attempt makes of its execution. Pure: the same arguments, the same answer.

An execution may be tried ``max_attempts`` times on its own account. Attempts that were lost with their node
don't count against that (the job did nothing wrong), they have their own limit: the third makes the execution
``dead`` (C16). An attempt that was handed back counts for nothing at all. A requested cancel takes away what
would still come: the execution never waits or runs again; an attempt that came to its own end first keeps it (C21).
"""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.job_options import OnLost
from schedule_zero.model import AttemptOutcome, JobError, State
from schedule_zero.rules.options import EffectiveOptions
from schedule_zero.rules.retry import delay_s, is_wanted

# A node that gives work back without a reason of its own to be left alone would get it again at once, for ever.
REJECT_PAUSE_S = 1.0


class Ending(Struct, frozen=True, kw_only=True):
    """One attempt's outcome and the execution's next state."""

    outcome: AttemptOutcome
    state: State
    # With ``retry_scheduled``: seconds from the attempt's end to the next one.
    delay_s: float | None = None
    # False: the attempt's number is given back.
    burn: bool = True
    # Counts towards the limit of lost attempts.
    lost: bool = False

    @property
    def goes_on(self) -> bool:
        return self.state in (State.PENDING, State.RETRY_SCHEDULED)


COMPLETED = Ending(outcome=AttemptOutcome.COMPLETED, state=State.COMPLETED)
CANCELLED = Ending(outcome=AttemptOutcome.CANCELLED, state=State.CANCELLED)
HANDED_BACK = Ending(outcome=AttemptOutcome.HANDED_BACK, state=State.PENDING, burn=False)
HANDED_BACK_LATER = Ending(
    outcome=AttemptOutcome.HANDED_BACK, state=State.RETRY_SCHEDULED, delay_s=REJECT_PAUSE_S, burn=False
)
HANDED_BACK_CANCELLED = Ending(outcome=AttemptOutcome.HANDED_BACK, state=State.CANCELLED)
_FINAL = {AttemptOutcome.FAILED: State.FAILED, AttemptOutcome.TIMEOUT: State.TIMEOUT}


def after_report(
    outcome: AttemptOutcome,
    *,
    attempt: int,
    lost_count: int,
    options: EffectiveOptions,
    execution_id: str = "",
    error: JobError | None = None,
    cancel_requested: bool = False,
    retry_after_s: float | None = None,
    give_up: bool = False,
) -> Ending | None:
    """The node says how the attempt ended. ``attempt`` counts from 1 and includes the lost ones.

    ``None``: it was interrupted, and its job's policy is to wait for an operator.
    ``retry_after_s`` is the job's own wish for another attempt; it doesn't raise ``max_attempts``.
    """
    if outcome is AttemptOutcome.COMPLETED:
        return COMPLETED
    if outcome is AttemptOutcome.CANCELLED:
        return CANCELLED
    if outcome is AttemptOutcome.HANDED_BACK:
        return _after_interruption(options, cancel_requested=cancel_requested)
    if outcome is AttemptOutcome.LOST:
        raise ValueError("a node can't report its own loss")
    failures = attempt - lost_count
    if give_up or failures >= options.max_attempts or (retry_after_s is None and not is_wanted(options, error)):
        return Ending(outcome=outcome, state=_FINAL[outcome])
    if cancel_requested:
        return Ending(outcome=outcome, state=State.CANCELLED)
    # The delay starts at the attempt's end, not at its start: a slow failure is not punished twice.
    if retry_after_s is None:
        retry_after_s = delay_s(options, failures, execution_id)
    return Ending(outcome=outcome, state=State.RETRY_SCHEDULED, delay_s=retry_after_s)


def _after_interruption(options: EffectiveOptions, *, cancel_requested: bool) -> Ending | None:
    """It had begun, and its node stopped or gave up its lease (C22): nobody's fault, but not all may begin twice."""
    if cancel_requested or options.on_lost is OnLost.RERUN:
        return after_hand_back(cancel_requested=cancel_requested)
    if options.on_lost is OnLost.FAIL:
        return Ending(outcome=AttemptOutcome.HANDED_BACK, state=State.FAILED)
    return None


def after_loss(
    *, lost_count: int, options: EffectiveOptions, max_lost: int, cancel_requested: bool = False
) -> Ending | None:
    """The attempt's node is gone and the lease is over; ``None``: it stays as it is, for an operator (C10).

    ``lost_count`` is how many attempts were lost before this one.
    """
    if cancel_requested:
        state = State.CANCELLED
    elif options.on_lost is OnLost.WAIT:
        return None
    elif options.on_lost is OnLost.FAIL:
        state = State.FAILED
    elif lost_count + 1 >= max_lost:
        state = State.DEAD
    else:
        state = State.PENDING
    return Ending(outcome=AttemptOutcome.LOST, state=state, lost=True)


def after_hand_back(*, cancel_requested: bool, pause: bool = False) -> Ending:
    """The attempt was given back unstarted; with ``pause`` it is not tried again at once."""
    if cancel_requested:
        return HANDED_BACK_CANCELLED
    return HANDED_BACK_LATER if pause else HANDED_BACK
