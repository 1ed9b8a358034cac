"""The verbs on dead letters: executions that failed for good, until somebody deals with them.

A part of ``verbs``, which says how times go in and come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from msgspec import Struct

from schedule_zero.client import dead_letter_records as records
from schedule_zero.client.asking import Asking, Json, segment
from schedule_zero.client.flow import Flow
from schedule_zero.client.verb import verb
from schedule_zero.job_options import Options
from schedule_zero.model import new_id


class _Requeued(Struct):
    ids: list[str | None]


class _Discarded(Struct):
    discarded: int


class DeadLetterVerbs(Asking):
    """Mixed into ``Verbs``."""

    @verb
    def dead_letters(
        self,
        *,
        handler_id: str | None = None,
        job_method: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[records.DeadLetterGroups]:
        """What failed alike and nobody has dealt with, by job."""
        query = {"handler_id": handler_id, "job_method": job_method, "limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", "/api/dead-letters", records.DeadLetterGroups, query=query))

    @verb
    def dead_letter_executions(
        self, group: str, *, limit: int = 100, cursor: str | None = None
    ) -> Flow[records.DeadLetterPage]:
        """The executions of one group, newest first."""
        query = {"group": group, "limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", "/api/dead-letters/executions", records.DeadLetterPage, query=query))

    @verb
    def requeue(
        self,
        execution_id: str,
        job_params: Json | None = None,
        *,
        job_params_patch: Json | None = None,
        **options: Unpack[Options],
    ) -> Flow[str]:
        """Run one dead letter again, with other parameters or options if given; the id of the new execution.

        Raises WrongState where somebody has dealt with it already.
        """
        body = _body({"ids": [execution_id]}, job_params, job_params_patch, options)
        made = yield from self.ask("POST", "/api/dead-letters/requeue", _Requeued, body=body, key=new_id())
        return made.ids[0] or ""

    @verb
    def requeue_many(
        self,
        execution_ids: Sequence[str],
        *,
        job_params_patch: Json | None = None,
        rate_per_s: float | None = None,
        **options: Unpack[Options],
    ) -> Flow[list[str | None]]:
        """Run up to 500 dead letters again, in one transaction; their new ids, None for one that was dealt with."""
        body = _body({"ids": list(execution_ids)}, None, job_params_patch, options, rate_per_s)
        made = yield from self.ask("POST", "/api/dead-letters/requeue", _Requeued, body=body, key=new_id())
        return made.ids

    @verb
    def requeue_group(
        self,
        group: str | None = None,
        *,
        handler_id: str | None = None,
        job_method: str | None = None,
        every: bool = False,
        job_params_patch: Json | None = None,
        rate_per_s: float | None = None,
        **options: Unpack[Options],
    ) -> Flow[records.RequeueRecord]:
        """Begin to run a group of dead letters again, or those of a handler or job, or ``every`` one, at a rate.

        Raises NotFound where there are none.
        """
        which = {"group": group, "handler_id": handler_id, "job_method": job_method, "all": every or None}
        body = _body(which, None, job_params_patch, options, rate_per_s)
        path = "/api/dead-letters/requeue"
        return (yield from self.ask("POST", path, records.RequeueRecord, body=body, key=new_id()))

    @verb
    def requeues(self, *, limit: int = 100, cursor: str | None = None) -> Flow[records.RequeuePage]:
        """The requeues that go or went at a rate, the newest first."""
        query = {"limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", "/api/requeues", records.RequeuePage, query=query))

    @verb
    def show_requeue(self, requeue_id: str) -> Flow[records.RequeueRecord]:
        """How far a requeue is."""
        return (yield from self.ask("GET", f"/api/requeues/{segment(requeue_id)}", records.RequeueRecord))

    @verb
    def cancel_requeue(self, requeue_id: str) -> Flow[records.RequeueRecord]:
        """Requeue no more of them; those not yet run again stay dead letters. Raises WrongState where it is over."""
        path = f"/api/requeues/{segment(requeue_id)}/cancel"
        return (yield from self.ask("POST", path, records.RequeueRecord, repeatable=False))

    @verb
    def discard_dead_letters(
        self,
        execution_ids: Sequence[str] | None = None,
        *,
        group: str | None = None,
        handler_id: str | None = None,
        job_method: str | None = None,
        every: bool = False,
    ) -> Flow[int]:
        """Put dead letters aside: these, a group, those of a handler or job, or ``every`` one; how many there were."""
        which = {"ids": execution_ids and list(execution_ids), "group": group, "handler_id": handler_id,
                 "job_method": job_method, "all": every or None}  # fmt: skip
        body = {name: value for name, value in which.items() if value is not None}
        answer = yield from self.ask("POST", "/api/dead-letters/discard", _Discarded, body=body)
        return answer.discarded


def _body(
    which: Json, params: Json | None, patch: Json | None, options: Json, rate_per_s: float | None = None
) -> dict[str, object]:
    more = {"job_params": params, "job_params_patch": patch, "options": options or None, "rate_per_s": rate_per_s}
    return {name: value for name, value in {**which, **more}.items() if value is not None}
