"""From what is stored of a schedule to what decides its fires: its trigger with everything that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedule_zero.rules.policies import policies_of
from schedule_zero.timing.parse import load_trigger

if TYPE_CHECKING:
    from schedule_zero.model import Policies, Schedule
    from schedule_zero.rules.catchup import Exclusions
    from schedule_zero.timing.trigger import Trigger


class Resolver:
    """Triggers as this server has them: a ``startup`` is the moment at which it was started."""

    def __init__(self, started_us: int) -> None:
        self._started_us = started_us

    def trigger(self, row: Schedule) -> Trigger:
        """The trigger in force. InvalidTrigger if the stored one can't be read."""
        return self.bind(load_trigger(row.trigger), policies_of(row.policies))

    def bind(self, trigger: Trigger, policies: Policies) -> Trigger:  # noqa: ARG002
        """A trigger by itself with what else it stands on."""
        return trigger.bound(self._started_us)

    def exclusions(self, policies: Policies) -> Exclusions | None:  # noqa: ARG002
        """The named calendars that bear on the fires, as they are now; ``None``: none does."""
        return None
