"""Talks to a server over HTTP: ``Client`` for code that may block, ``AsyncClient`` for code that may not.

Reading order: ``verbs`` (what one can ask), ``flow`` (retries and errors, without I/O), ``drivers`` (the two clients).
"""

from __future__ import annotations

from schedule_zero.client.drivers import AsyncClient, Client
from schedule_zero.client.events import Event
from schedule_zero.client.records import Job, RunResult

__all__ = ["AsyncClient", "Client", "Event", "Job", "RunResult"]
