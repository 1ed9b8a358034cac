"""Checks a job's parameters (size, an object, the method's schema) and options before anything is accepted."""

from __future__ import annotations

import msgspec

from schedule_zero.conditions import objection
from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch.registry import Registry
from schedule_zero.errors import InvalidField, InvalidParams, TooLarge
from schedule_zero.job_options import JobOptions
from schedule_zero.model import JobMethod


def check_params(
    registry: Registry, limits: LimitsConfig, handler_id: str, job_method: str, params: bytes
) -> JobMethod:
    """The method that takes ``params`` (an encoded JSON object).

    Raises TooLarge, UnknownHandler, UnknownMethod or InvalidParams, each with a pointer.
    """
    own = registry.rule(handler_id).limits.params_bytes
    most = limits.params_bytes if own is None else min(own, limits.params_bytes)
    if len(params) > most:
        raise TooLarge(f"at most {most} bytes of parameters, got {len(params)}", pointer="/job_params")
    document = msgspec.json.decode(params)
    if type(document) is not dict:
        raise InvalidParams("expected an object of parameters by name", pointer="/job_params")
    return registry.validate(handler_id, job_method, document)


def check_options(options: JobOptions) -> None:
    """What the shapes of a request can't check. Raises InvalidField with a pointer."""
    refused = objection(options)
    if refused is not None:
        where, why = refused
        raise InvalidField(why, pointer=f"/options{where}")
