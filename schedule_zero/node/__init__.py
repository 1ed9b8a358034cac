"""The node: the process that hosts handlers. Works without the server's libraries (Tornado, SQLAlchemy, APScheduler).

``handler`` and ``context`` are what a user writes against, ``methods`` and ``targets`` turn that into callables,
``runner`` runs attempts, ``outbox`` keeps their results until the server has them, ``link`` talks to the server,
``host`` puts them together.
"""

from schedule_zero.node.context import GiveUp, JobContext, Retry, current_job
from schedule_zero.node.handler import BaseHandler, job

__all__ = ["BaseHandler", "GiveUp", "JobContext", "Retry", "current_job", "job"]
