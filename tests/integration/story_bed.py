"""What the tests of fires share: one schedule, decided by hand, and its ledger told as a story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schedule_zero.model import FireOutcome, Policies, Schedule, SkipReason
from schedule_zero.rules.policies import stored_policies
from tests.integration.timing_bed import Bed, S, one_round

if TYPE_CHECKING:
    from schedule_zero.timing.rounds import Rounds

EVERY_TEN = {"type": "interval", "seconds": 10}
PAST = {"type": "cron", "expression": "*/10 * * * * *"}
RAN = (FireOutcome.EXECUTED, None)
CAUGHT_UP = (FireOutcome.CAUGHT_UP, None)


def skipped(reason: SkipReason) -> tuple[FireOutcome, SkipReason]:
    return (FireOutcome.SKIPPED, reason)


PAUSED, REQUESTED, FROZEN, CHANGED = (
    skipped(reason) for reason in (SkipReason.PAUSED, SkipReason.REQUESTED, SkipReason.FROZEN, SkipReason.CHANGED)
)


def row(
    bed: Bed, trigger: dict[str, Any] | None = None, *, policies: Policies | None = None, **fields: Any
) -> Schedule:
    stored = None if policies is None else stored_policies(policies)
    return bed.row("a", trigger or EVERY_TEN, policies=stored, **fields)


async def decide(bed: Bed, rounds: Rounds | None = None) -> None:
    """Decide all that is due now."""
    rounds = rounds or bed.rounds()
    await bed.freezes.load()
    while await one_round(rounds):
        pass


async def story(bed: Bed, start_us: int) -> list[tuple[float, tuple[FireOutcome, SkipReason | None]]]:
    """The ledger as (seconds after ``start_us``, what became of it); a summarising row as several."""
    told = []
    for fire in await bed.ledger("a"):
        step_us = 0 if fire.count == 1 else ((fire.last_nominal_us or 0) - fire.nominal_us) // (fire.count - 1)
        what = (fire.outcome, fire.reason)
        told += [((fire.nominal_us + n * step_us - start_us) / S, what) for n in range(fire.count)]
    return sorted(told, key=lambda one: one[0])
