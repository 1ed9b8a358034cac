"""Every error that a user can meet: one small tree, stable codes, mapped once to HTTP and once to the wire.

The docstring of a class is its default message. ``code`` never changes once released.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ScheduleZeroError(Exception):
    """Something went wrong in ScheduleZero."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, *, pointer: str | None = None, hint: str | None = None, **data: Any):
        self.message = message or (type(self).__doc__ or self.code).strip().splitlines()[0]
        # RFC 6901 JSON pointer to the offending part of the request, where there is one.
        self.pointer = pointer
        self.hint = hint
        self.data = data
        super().__init__(self.message)


# --- the request is wrong -------------------------------------------------------------------------


class BadRequest(ScheduleZeroError):
    """The request could not be understood."""

    code = "bad_request"
    http_status = 400
    exit_code = 2


class InvalidField(BadRequest):
    """A field of the request has an invalid value."""

    code = "invalid_field"


class MalformedJson(BadRequest):
    """The request body is not JSON."""

    code = "malformed_json"


class TooDeep(BadRequest):
    """The request body is nested too deeply."""

    code = "too_deep"


class InvalidParams(BadRequest):
    """The job's parameters do not fit the method's schema."""

    code = "invalid_params"


class InvalidTrigger(BadRequest):
    """The trigger is invalid."""

    code = "invalid_trigger"


class InvalidCalendar(BadRequest):
    """The named calendar is invalid."""

    code = "invalid_calendar"


class InvalidSearch(BadRequest):
    """The search is invalid."""

    code = "invalid_search"


class UnknownMethod(BadRequest):
    """The handler has no such job method."""

    code = "unknown_method"


class Unauthenticated(ScheduleZeroError):
    """A valid token is required."""

    code = "unauthenticated"
    http_status = 401
    exit_code = 6


class Forbidden(ScheduleZeroError):
    """The token does not allow this: its role, or what it is bound to."""

    code = "forbidden"
    http_status = 403
    exit_code = 6


class CrossOrigin(Forbidden):
    """A page of another site may not change anything here."""

    code = "cross_origin"


class NotOurForm(Forbidden):
    """The form is not one that this session was given: reload the page and try again."""

    code = "not_our_form"


class NotFound(ScheduleZeroError):
    """There is no such thing."""

    code = "not_found"
    http_status = 404
    exit_code = 3


class UnknownHandler(NotFound):
    """No handler of that id is known."""

    code = "unknown_handler"


class MethodNotAllowed(ScheduleZeroError):
    """What is there does not take this method."""

    code = "method_not_allowed"
    http_status = 405
    exit_code = 2


class Misdirected(ScheduleZeroError):
    """This server is not known under that name."""

    code = "misdirected"
    http_status = 421
    exit_code = 2


class Conflict(ScheduleZeroError):
    """The request conflicts with what is stored."""

    code = "conflict"
    http_status = 409
    exit_code = 4


class AlreadyExists(Conflict):
    """That id exists already."""

    code = "already_exists"


class NoMatchingNode(Conflict):
    """No connected node may run this."""

    code = "no_matching_node"


class WrongState(Conflict):
    """The state that it is in does not allow this."""

    code = "wrong_state"


class InUse(Conflict):
    """Something else uses it."""

    code = "in_use"


class Duplicate(Conflict):
    """Another execution has this unique key."""

    code = "duplicate"


class PreconditionFailed(ScheduleZeroError):
    """It was changed meanwhile: the ETag in If-Match is not the current one."""

    code = "precondition_failed"
    http_status = 412
    exit_code = 4


class TooLarge(ScheduleZeroError):
    """The request is larger than allowed."""

    code = "too_large"
    http_status = 413
    exit_code = 2


class UnsupportedMediaType(ScheduleZeroError):
    """The request body must be application/json."""

    code = "unsupported_media_type"
    http_status = 415
    exit_code = 2


class Unprocessable(ScheduleZeroError):
    """The request is well-formed but can't be carried out."""

    code = "unprocessable"
    http_status = 422
    exit_code = 2


class IdempotencyMismatch(Unprocessable):
    """This Idempotency-Key was used with a different request."""

    code = "idempotency_mismatch"


# --- the server can't, now ------------------------------------------------------------------------


class Unavailable(ScheduleZeroError):
    """The server cannot do this right now."""

    code = "unavailable"
    http_status = 503
    exit_code = 5


class StoreUnavailable(Unavailable):
    """The store could not be written: nothing was changed."""

    code = "store_unavailable"


class Draining(Unavailable):
    """The server is shutting down and takes no new work."""

    code = "draining"


class TooManyRequests(Unavailable):
    """Too many requests; try again later."""

    code = "too_many_requests"
    http_status = 429
    exit_code = 75


class BacklogFull(TooManyRequests):
    """Too much is waiting already: nothing was accepted; try again when some of it is done."""

    code = "backlog_full"


# --- what only a client can say ----------------------------------------------------------------------


class ServerUnreachable(Unavailable):
    """The server cannot be reached."""

    code = "server_unreachable"


class WaitTimeout(Unavailable):
    """It did not finish in the time given; it goes on."""

    code = "wait_timeout"
    http_status = 504


class JobFailed(ScheduleZeroError):
    """The job ended without completing. ``data`` has ``execution_id``, ``status``, ``type`` and ``traceback``."""

    code = "job_failed"


# --- start-up --------------------------------------------------------------------------------------


class ConfigError(ScheduleZeroError):
    """The configuration is invalid."""

    code = "config"
    exit_code = 78


class AddressInUse(ScheduleZeroError):
    """The address to listen on is in use, or is not this machine's."""

    code = "address_in_use"
    exit_code = 69


class StoreCorrupt(ScheduleZeroError):
    """The database is damaged; it was not touched."""

    code = "store_corrupt"
    exit_code = 65


class StoreLocked(ScheduleZeroError):
    """Another server uses this database."""

    code = "store_locked"
    exit_code = 69


class InvalidHandler(ScheduleZeroError):
    """A handler, or the target that names it, cannot be used."""

    code = "invalid_handler"
    exit_code = 2


class NodeLocked(ScheduleZeroError):
    """Another process runs as this node, from the same state directory."""

    code = "node_locked"
    exit_code = 4


# --- between server and node -----------------------------------------------------------------------


class ProtocolError(ScheduleZeroError):
    """The peer sent something that the protocol does not allow."""

    code = "protocol"
    http_status = 400


class Denied(ScheduleZeroError):
    """The server refused this node."""

    code = "denied"
    http_status = 403
    exit_code = 6


class DuplicateNode(Denied):
    """A living node of that node_id is connected already."""

    code = "duplicate_node"
    http_status = 409
    exit_code = 4


class ResultIncomplete(Conflict):
    """Not all of the result's parts have been sent: go on from ``upto``, then report it again."""

    code = "result_incomplete"


class LeaseLost(ScheduleZeroError):
    """This node no longer holds the lease on the attempt; its result was recorded as stale."""

    code = "lease_lost"
    http_status = 409
