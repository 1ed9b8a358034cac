"""Which database errors mean "not now" (the operation changed nothing, try again) and which are somebody's mistake."""

from __future__ import annotations

import sqlite3

import msgspec
from sqlalchemy import exc

from schedule_zero.errors import Conflict, ScheduleZeroError, StoreUnavailable

# Primary result codes, sqlite.org/rescode.html: the disk, memory or a lock is to blame, not the statement.
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
# Of these, those that no other try mends.
_SQLITE_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# SQLSTATE classes, postgresql.org/docs/current/errcodes-appendix.html: connection, transaction rollback (serialisation,
# deadlock), resources, object state (lock_not_available), operator intervention, system error.
_POSTGRES_UNAVAILABLE = ("08", "40", "53", "55", "57", "58")


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error inside SQLAlchemy's wrapper."""
    return error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error


def sqlite_code(error: BaseException) -> int | None:
    """The primary SQLite result code, if it is an SQLite error that has one."""
    code = getattr(driver_error(error), "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def is_unavailable(error: BaseException) -> bool:
    """Whether the store could not work, as opposed to: it was asked something impossible."""
    if isinstance(error, StoreUnavailable):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    code = sqlite_code(error)
    if code is not None:
        return code in _SQLITE_UNAVAILABLE
    driver = driver_error(error)
    if isinstance(driver, sqlite3.Error):
        return False
    if hasattr(driver, "sqlstate"):
        # psycopg: a lost connection has no SQLSTATE at all.
        state = driver.sqlstate
        return state.startswith(_POSTGRES_UNAVAILABLE) if state else "OperationalError" in _names(driver)
    return False


def is_integrity(error: BaseException) -> bool:
    """Whether a unique key or another constraint refused it."""
    return "IntegrityError" in _names(driver_error(error))


def is_unreadable(error: BaseException) -> bool:
    """Whether what was read is not what can have been written, if nothing but the store was read."""
    cause = error.__cause__ if isinstance(error, StoreUnavailable) and error.__cause__ is not None else error
    if sqlite_code(cause) in _SQLITE_DAMAGED:
        return True
    if is_unavailable(error):
        # A disk that fails for a moment has damaged nothing.
        return False
    return isinstance(driver_error(error), sqlite3.Error | msgspec.MsgspecError | ValueError)


def translate(error: Exception) -> Exception:
    """What the caller of a write or read is told. A mistake in our own code stays what it is."""
    if isinstance(error, ScheduleZeroError):
        return error
    if is_unavailable(error):
        return StoreUnavailable(f"the store is not available: {driver_error(error)}")
    if is_integrity(error):
        return Conflict(f"the database refused it: {driver_error(error)}")
    return error


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
