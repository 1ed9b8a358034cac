"""What an exception is called, and what kind of failure it is, as far as its class tells."""

from __future__ import annotations

from schedule_zero.errors import InvalidParams
from schedule_zero.model import ErrorCategory
from schedule_zero.node.context import GiveUp, Retry

# The first that fits. What is none of these may be anything.
_BY_CLASS: tuple[tuple[tuple[type[BaseException], ...], ErrorCategory], ...] = (
    ((Retry, InterruptedError, BlockingIOError), ErrorCategory.TRANSIENT),
    ((TimeoutError,), ErrorCategory.TIMEOUT),
    (
        (
            GiveUp, InvalidParams, PermissionError, TypeError, AttributeError, NameError, ImportError, SyntaxError,
            AssertionError, NotImplementedError, MemoryError,
        ),
        ErrorCategory.CRITICAL,
    ),
    # Connections, names that don't resolve, files that aren't there; most network libraries derive theirs from it.
    ((OSError,), ErrorCategory.DEPENDENCY),
)  # fmt: skip
_WORDS = frozenset(category.value for category in ErrorCategory)


def category_of(error: BaseException) -> ErrorCategory | None:
    """What the exception says itself (``error_category``), else what its class says."""
    said = getattr(error, "error_category", None)
    if isinstance(said, str) and said in _WORDS:
        return ErrorCategory(said)
    for classes, category in _BY_CLASS:
        if isinstance(error, classes):
            return category
    # A timeout of a library that has no common base with Python's own.
    return ErrorCategory.TIMEOUT if "Timeout" in type(error).__name__ else None


def error_name(kind: type[BaseException]) -> str:
    """What a class is called in errors: with its module, unless that is Python's own or this package's."""
    ours = kind.__module__ in ("builtins", "__main__") or kind.__module__.startswith("schedule_zero.")
    return kind.__qualname__ if ours else f"{kind.__module__}.{kind.__qualname__}"
