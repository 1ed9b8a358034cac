"""The verbs on nodes: who does the work, taken out of service and back. A part of ``verbs``."""

from __future__ import annotations

from typing import Any

from schedule_zero.client import answers
from schedule_zero.client.asking import Asking, segment
from schedule_zero.client.flow import Flow
from schedule_zero.client.records import NodeRecord
from schedule_zero.client.verb import verb


class NodeVerbs(Asking):
    """Mixed into ``Verbs``."""

    @verb
    def nodes(self) -> Flow[list[NodeRecord]]:
        """Every node, connected or not."""
        return (yield from self.ask("GET", "/api/nodes", answers.Nodes)).nodes

    @verb
    def node(self, node_id: str) -> Flow[NodeRecord]:
        """One node; ``running`` is what is left of a drain."""
        return (yield from self.ask("GET", f"/api/nodes/{segment(node_id)}", NodeRecord))

    @verb
    def cordon_node(self, node_id: str, note: str | None = None) -> Flow[NodeRecord]:
        """Give a node no new work; what it holds, running or queued there, it runs."""
        return (yield from self._operate(node_id, "cordon", {"note": note}))

    @verb
    def drain_node(self, node_id: str, note: str | None = None, *, deadline_s: float | None = None) -> Flow[NodeRecord]:
        """Give a node no new work; what it has not started goes to others, and after ``deadline_s`` so does what
        still runs (None: it may finish). The node stays drained until it is released.
        """
        return (yield from self._operate(node_id, "drain", {"note": note, "deadline_s": deadline_s}))

    @verb
    def quarantine_node(self, node_id: str, note: str | None = None) -> Flow[NodeRecord]:
        """Give a node no new work for a while, then one job at a time, until one of them completes."""
        return (yield from self._operate(node_id, "quarantine", {"note": note}))

    @verb
    def release_node(self, node_id: str, note: str | None = None) -> Flow[NodeRecord]:
        """Give a node work again: the end of a cordon, a drain or a quarantine."""
        return (yield from self._operate(node_id, "release", {"note": note}))

    @verb
    def resume_node(self, node_id: str) -> Flow[NodeRecord]:
        """The same as ``release_node``, by its earlier name."""
        return (yield from self._operate(node_id, "release", {}))

    def _operate(self, node_id: str, operation: str, body: dict[str, Any]) -> Flow[NodeRecord]:
        return (yield from self.ask("POST", f"/api/nodes/{segment(node_id)}/{operation}", NodeRecord, body=body))
