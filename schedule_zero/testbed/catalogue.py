"""The scenarios there are: the classes in ``handlers/testbed``, one file each, by name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from schedule_zero.errors import BadRequest
from schedule_zero.testbed.scenario import Scenario, ScenarioParams

PACKAGE = "schedule_zero.handlers.testbed"


@cache
def scenarios() -> Mapping[str, type[Scenario]]:
    """Name → class, in the order of the names. A file without exactly one scenario of its name is a mistake of ours."""
    package = importlib.import_module(PACKAGE)
    found: dict[str, type[Scenario]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{PACKAGE}.{info.name}")
        mine = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Scenario) and value.__module__ == module.__name__
        ]
        if [one.handler_id for one in mine] != [info.name]:
            raise TypeError(f"{module.__name__}: expected one Scenario whose handler_id is {info.name!r}, got {mine}")
        found[info.name] = mine[0]
    return found


def chosen(names: Iterable[str]) -> list[type[Scenario]]:
    """Those of these names, in the catalogue's order; all, where none is named. BadRequest: there is no such one."""
    known = scenarios()
    wanted = list(names)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise BadRequest(
                f"there is no scenario {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
                hint=f"there are: {', '.join(known)}",
            )
    return [one for name, one in known.items() if not wanted or name in wanted]


def target(scenario: type[Scenario]) -> str:
    """As ``schedule-zero-handler`` takes it."""
    return f"{scenario.__module__}:{scenario.__name__}"


def params_of(scenario: type[Scenario], said: Mapping[str, Any], *, quick: bool) -> ScenarioParams:
    """Its parameters: what was said over what a quick run takes, over the defaults. BadRequest names what is wrong."""
    values = {**(scenario.quick if quick else {}), **said}
    try:
        return msgspec.convert(values, scenario.Params)
    except msgspec.ValidationError as error:
        raise BadRequest(f"scenario {scenario.handler_id}: {error}", hint=f"it takes {_fields(scenario)}") from None


def described(scenario: type[Scenario]) -> dict[str, Any]:
    """A scenario as plain data; ``quick`` of a parameter is None where a quick run takes the default."""
    quick = scenario.quick
    params = [
        {
            "name": field.name,
            "default": msgspec.to_builtins(field.default),
            "quick": msgspec.to_builtins(quick[field.name]) if field.name in quick else None,
        }
        for field in msgspec.structs.fields(scenario.Params)
    ]
    traits = {
        "also for a bare scheduler": scenario.for_bare,
        "ends and stops processes": scenario.does_harm,
        "on a fast clock": scenario.fast_clock,
        "on a fast clock as well": scenario.either_clock,
    }
    return {
        "name": scenario.handler_id,
        "asks": scenario.asks(),
        "params": params,
        "holds": dict(scenario.holds),
        "measures": dict(scenario.measures),
        "worse": {name: which for which, names in scenario.worse.items() for name in names},
        "traits": [name for name, has in traits.items() if has],
    }


def _fields(scenario: type[Scenario]) -> str:
    fields: Sequence[str] = scenario.Params.__struct_fields__
    return ", ".join(fields) or "no parameters"
