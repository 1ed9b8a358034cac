"""The file of a run (``--config``): what stands under ``testbed:``, read and validated as a whole.

Two ways to name what is to be run: ``scenarios``, by our own names and parameters, and ``tests``, by the names of the
earlier plan, which ``EARLIER`` maps to ours. All errors are reported together, each with its place, what was expected,
what is there, and the nearest right name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from schedule_zero import yaml_file
from schedule_zero.errors import BadRequest, ConfigError
from schedule_zero.settings import expectation, shown_value
from schedule_zero.testbed.catalogue import scenarios
from schedule_zero.testbed.scenario import Scenario

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400 * 30)]
Megabytes = Annotated[float, Meta(gt=0, le=1 << 30)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Nodes = Annotated[int, Meta(ge=1, le=100)]
Speedup = Annotated[float, Meta(ge=1, le=100_000)]


class BadConfig(BadRequest):
    """The test bed's configuration is invalid."""

    code = "bad_testbed_config"


class ScenarioSaid(Struct):
    """What a file says of one scenario. ``params`` are valid one by one."""

    enabled: bool = True
    params: dict[str, Any] = {}
    # Where, for complaints.
    where: str = ""


class FileConfig(Struct):
    """A file's content. None, or not in ``scenarios``: it says nothing of that."""

    mode: Literal["realtime", "accelerated"] | None = None
    speedup: Speedup | None = None
    nodes: Nodes | None = None
    seed: Seed | None = None
    quick: bool | None = None
    subject: Literal["schedulezero", "apscheduler", "both"] | None = None
    max_schedules: Count | None = None
    max_execution_time_seconds: Seconds | None = None
    memory_limit_mb: Megabytes | None = None
    output_dir: str | None = None
    metrics_format: Literal["json"] | None = None
    generate_graphs: bool | None = None
    scenarios: dict[str, ScenarioSaid] = {}


# The sections of plain settings.
TOP = ("mode", "speedup", "nodes", "seed", "quick", "subject")
LIMITS = ("max_schedules", "max_execution_time_seconds", "memory_limit_mb")
REPORTING = ("output_dir", "metrics_format", "generate_graphs")


def _said(kind: Any) -> Any:
    """A field's type without the None that stands for nothing said."""
    return next(one for one in get_args(kind) if one is not NoneType)


KINDS = {
    field.name: _said(field.type)
    for field in msgspec.structs.fields(FileConfig)
    if field.name in (*TOP, *LIMITS, *REPORTING)
}

# --- the earlier plan's names ---------------------------------------------------------------------------


def _intervals(smallest_ms: int) -> tuple[int, ...]:
    return (*(ms for ms in (1000, 100, 10, 1) if ms > smallest_ms), smallest_ms)


class To(NamedTuple):
    """A parameter of ours that a key of the earlier plan sets. ``scenario`` empty: a setting of the whole run."""

    scenario: str
    param: str
    make: Callable[[Any], Any] = lambda value: value


class Key(NamedTuple):
    kind: Any
    to: tuple[To, ...]


class Test(NamedTuple):
    """A test of the earlier plan: what it is called with us, and its keys beside ``enabled``."""

    scenarios: tuple[str, ...]
    keys: Mapping[str, Key]


EARLIER: Mapping[str, Test] = {
    "temporal_resolution": Test(
        ("temporal_resolution",),
        {
            "min_interval_ms": Key(Count, (To("temporal_resolution", "intervals_ms", _intervals),)),
            "duration_seconds": Key(Seconds, (To("temporal_resolution", "seconds"),)),
        },
    ),
    "self_modifying": Test(
        ("adaptive_interval", "fibonacci_backoff"),
        {"max_reschedules": Key(Count, (To("adaptive_interval", "steps"), To("fibonacci_backoff", "steps")))},
    ),
    "schedule_storms": Test(
        ("creation_storm",),
        {
            "schedules_per_burst": Key(Count, (To("creation_storm", "schedules_per_burst"),)),
            "bursts": Key(Count, (To("creation_storm", "bursts"),)),
        },
    ),
    "distributed_loops": Test(
        ("feedback_loop",),
        {"nodes": Key(Nodes, (To("", "nodes"),)), "loop_depth": Key(Count, (To("feedback_loop", "depth"),))},
    ),
}


# --- reading --------------------------------------------------------------------------------------------


def read(path: Path, known: Mapping[str, type[Scenario]] | None = None) -> FileConfig:
    """What the file says; ``known`` are the scenarios that there are. BadConfig lists everything that is wrong."""
    reader = _Reader(scenarios() if known is None else known)
    try:
        root = yaml_file.read(path)
    except ConfigError as error:
        raise BadConfig(error.message) from None
    reader.section(root, "", {"testbed": reader.testbed})
    reader.raise_problems()
    return reader.found


Take = Callable[[yaml_file.Node, str, str], None]


class _Reader:
    """Collects values and complaints."""

    def __init__(self, known: Mapping[str, type[Scenario]]) -> None:
        self.found = FileConfig()
        self._known = known
        self._problems: list[str] = []
        # By our own names: these win over the earlier plan's, wherever in the file they stand.
        self._ours: dict[str, ScenarioSaid] = {}
        self._top: set[str] = set()

    def section(self, node: yaml_file.Node, path: str, keys: Mapping[str, Take]) -> None:
        """Hand each of a mapping's values to who takes it."""
        if not node.is_mapping:
            # With all its lines commented out it is empty, not wrong.
            if node.value is not None:
                self._problems.append(f"{node.where}: {path}: expected a mapping, got {yaml_file.kind(node.value)}")
            return
        seen: set[Any] = set()
        for key, where, value in node.items():
            name = yaml_file.shown(key)
            inner = f"{path}.{name}" if path else name
            if len(self._problems) >= yaml_file.MAX_PROBLEMS:
                return
            if name in seen:
                self._problems.append(f"{where}: {inner}: stands here a second time")
            elif name in keys:
                keys[name](value, inner, where)
            else:
                near = yaml_file.suggest(name, keys)
                there = ", ".join(keys) or "nothing"
                self._problems.append(f"{where}: {inner}: unknown setting{near or f'; expected one of {there}'}")
            seen.add(name)

    def testbed(self, node: yaml_file.Node, path: str, _: str) -> None:
        keys: dict[str, Take] = dict.fromkeys(TOP, self._leaf)
        keys["limits"] = self._section_of(dict.fromkeys(LIMITS, self._leaf))
        keys["reporting"] = self._section_of(dict.fromkeys(REPORTING, self._leaf))
        keys["tests"] = self._section_of(dict.fromkeys(EARLIER, self._test))
        keys["scenarios"] = self._section_of(dict.fromkeys(self._known, self._scenario))
        self.section(node, path, keys)
        for name, said in self._ours.items():
            before = self.found.scenarios.get(name, ScenarioSaid())
            self.found.scenarios[name] = ScenarioSaid(said.enabled, {**before.params, **said.params}, said.where)

    def _section_of(self, keys: Mapping[str, Take]) -> Take:
        return lambda node, path, _: self.section(node, path, keys)

    def _leaf(self, node: yaml_file.Node, path: str, where: str) -> None:
        """A setting of the whole run."""
        name = path.rpartition(".")[2]
        value = self.value(node, path, where, KINDS[name])
        if value is not msgspec.UNSET:
            setattr(self.found, name, value)
            self._top.add(name)

    def _scenario(self, node: yaml_file.Node, path: str, where: str) -> None:
        name = path.rpartition(".")[2]
        said = self._ours[name] = ScenarioSaid(where=where)
        keys: dict[str, Take] = {"enabled": lambda *at: self._enabled(said, *at)}
        for field in msgspec.structs.fields(self._known[name].Params):
            keys[field.name] = self._param(said, field)
        self.section(node, path, keys)

    def _param(self, said: ScenarioSaid, field: msgspec.structs.FieldInfo) -> Take:
        def take(node: yaml_file.Node, path: str, where: str) -> None:
            value = self.value(node, path, where, field.type)
            if value is not msgspec.UNSET:
                said.params[field.name] = value

        return take

    def _enabled(self, said: ScenarioSaid, node: yaml_file.Node, path: str, where: str) -> None:
        value = self.value(node, path, where, bool)
        if value is not msgspec.UNSET:
            said.enabled = value

    def _test(self, node: yaml_file.Node, path: str, where: str) -> None:
        """A test of the earlier plan. (Of its scenarios, those that are not here are left out.)"""
        test = EARLIER[path.rpartition(".")[2]]
        switch = ScenarioSaid()
        keys: dict[str, Take] = {"enabled": lambda *at: self._enabled(switch, *at)}
        for name, key in test.keys.items():
            keys[name] = self._earlier(key)
        for name in test.scenarios:
            if name in self._known:
                self.found.scenarios[name] = ScenarioSaid(where=where)
        self.section(node, path, keys)
        for name in test.scenarios:
            if name in self._known:
                self.found.scenarios[name].enabled = switch.enabled

    def _earlier(self, key: Key) -> Take:
        def take(node: yaml_file.Node, path: str, where: str) -> None:
            value = self.value(node, path, where, key.kind)
            if value is msgspec.UNSET:
                return
            for to in key.to:
                if to.scenario in self._known:
                    self.found.scenarios[to.scenario].params[to.param] = to.make(value)
                elif not to.scenario and to.param not in self._top:
                    setattr(self.found, to.param, to.make(value))

        return take

    def value(self, node: yaml_file.Node, path: str, where: str, kind: Any) -> Any:
        """Of that kind; UNSET: it is not, which is noted."""
        value = node.value
        try:
            converted = msgspec.convert(value, kind)
            if not _endless(converted):
                return converted
            said = "a finite number"
        except msgspec.ValidationError as error:
            said = expectation(kind, error)
        self._problems.append(f"{where}: {path}: expected {said}, got {shown_value(path, value)}")
        return msgspec.UNSET

    def raise_problems(self) -> None:
        if self._problems:
            count = len(self._problems)
            head = "the configuration is invalid" if count == 1 else f"the configuration has {count} errors"
            raise BadConfig("\n  ".join([f"{head}:", *self._problems]), problems=self._problems)


def _endless(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, list | tuple) and any(map(_endless, value))
