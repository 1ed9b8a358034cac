"""What operators allow each handler (handler_registry.yaml), as the core keeps to it. It may change while jobs run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schedule_zero.config import HandlerRule
from schedule_zero.dispatch.gates import Gates
from schedule_zero.dispatch.lanes import ANY_NUMBER, Lane, Limit
from schedule_zero.dispatch.sessions import COUNTED, LiveNode
from schedule_zero.rules.limits import rate_of

_NO_RULE = HandlerRule()


class OperatorLimits:
    """The rules in force, and the counts of the handlers that have one."""

    def __init__(self, rules: Mapping[str, HandlerRule], gates: Gates) -> None:
        self._rules = rules
        self._gates = gates
        self._limits: dict[str, Limit] = {}

    def timeout_cap_s(self, handler_id: str) -> float | None:
        return self._rules.get(handler_id, _NO_RULE).limits.timeout_s

    def of(self, handler_id: str) -> Limit | None:
        """The limit of a handler, if an operator has set one."""
        limit = self._limits.get(handler_id)
        said = self._rules.get(handler_id, _NO_RULE).limits
        if limit is None and (said.max_running is not None or said.rate is not None):
            limit = self._limits[handler_id] = Limit(ANY_NUMBER)
            self._obey(handler_id, limit)
        return limit

    def _obey(self, handler_id: str, limit: Limit) -> None:
        said = self._rules.get(handler_id, _NO_RULE).limits
        limit.max_running = ANY_NUMBER if said.max_running is None else said.max_running
        limit.rate = None if said.rate is None else rate_of(said.rate, said.rate_burst or 1)
        limit.bucket = None if limit.rate is None else self._gates.bucket("handler_rate", handler_id, limit.rate)

    def change(self, rules: Mapping[str, HandlerRule], lanes: Iterable[Lane], nodes: Iterable[LiveNode]) -> None:
        """What runs goes on, and counts; what starts from now on is held to the new rules."""
        self._rules = rules
        for lane in lanes:
            lane.timeout_cap_s = self.timeout_cap_s(lane.handler_id)
            limit = self.of(lane.handler_id)
            if limit is not None and lane.limit is None:
                lane.limit = limit
                limit.lanes.append(lane)
                for node in nodes:
                    limit.running += sum(att.phase in COUNTED and att.lane is lane for att in node.attempts.values())
        for handler_id, limit in self._limits.items():
            self._obey(handler_id, limit)
            self._gates.freed[limit] = None
