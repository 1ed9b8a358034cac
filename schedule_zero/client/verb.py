"""Makes one flow a method of both clients: ``Client`` returns its result, ``AsyncClient`` a coroutine of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from schedule_zero.client.drivers import AsyncClient, Client
    from schedule_zero.client.flow import Flow

P = ParamSpec("P")
T = TypeVar("T")


class verb(Generic[P, T]):  # noqa: N801 - a decorator
    """``@verb`` on a generator method of ``Verbs``. What kind of method it becomes, the instance decides."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow = flow
        update_wrapper(self, flow)

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> verb[P, T]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else partial(client.perform, self._flow)

    def __call__(self, client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        """``Client.submit(client, …)``; and what makes ``help(Client.submit)`` show the signature."""
        return client.perform(self._flow, *args, **kwargs)
