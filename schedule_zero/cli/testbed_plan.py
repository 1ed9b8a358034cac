"""What a run of the test bed is to do: flags over file over defaults, and a folder for what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schedule_zero.clock import Clock, SystemClock, from_us
from schedule_zero.errors import BadRequest
from schedule_zero.reports.record import REPORT
from schedule_zero.testbed import config
from schedule_zero.testbed.catalogue import chosen, params_of
from schedule_zero.testbed.config import FileConfig, ScenarioSaid
from schedule_zero.testbed.pages import JUNIT, PAGE
from schedule_zero.testbed.runner import Limits, Planned
from schedule_zero.testbed.session import EVIDENCE, PLAN, Plan, subjects

RESULTS = "testbed-results"
# What a run leaves in its folder, and may find there of an earlier one: which it is one of if it has a plan.
LEFT = frozenset({PLAN, REPORT, PAGE, JUNIT, EVIDENCE})


class Planning(NamedTuple):
    plan: Plan
    folder: Path
    graphs: bool


def planned(names: Sequence[str], said: Mapping[str, Any], clock: Clock | None = None) -> Planning:
    """Everything, validated. BadRequest says what is wrong, before any process was started."""
    file = FileConfig() if said["config"] is None else config.read(said["config"])
    quick = bool(_first(said["quick"], file.quick, False))
    subject = _first(said["subject"], file.subject, "schedulezero")
    if said["token"] is not None and said["url"] is None:
        # From the environment it is for other commands.
        said = {**said, "token": None}
    if said["url"] is not None and not said["url"].startswith(("http://", "https://")):
        raise BadRequest(f"--server: expected an URL such as http://127.0.0.1:8888, got {said['url']!r}")
    limits = Limits()
    plan = Plan(
        scenarios=_scenarios(names, file, quick=quick),
        nodes=_first(said["nodes"], file.nodes, 3),
        mode=_first(said["mode"], file.mode, "realtime"),
        speedup=float(_first(said["speedup"], file.speedup, 1440.0)),
        seed=_first(said["seed"], file.seed, 1),
        quick=quick,
        subject=subject,
        limits=Limits(
            max_schedules=_first(file.max_schedules, limits.max_schedules),
            max_execution_time_s=_first(file.max_execution_time_seconds, limits.max_execution_time_s),
            memory_mib=_first(file.memory_limit_mb, limits.memory_mib),
        ),
        url=said["url"],
        token=said["token"],
        postgresql=said["postgresql"],
        findings=bool(_first(said["findings"], not names)),
    )
    subjects(plan)
    folder = said["out"] or (Path(file.output_dir) if file.output_dir else None)
    if folder is None:
        moment = from_us((clock or SystemClock()).wall_us()).strftime("%Y%m%dT%H%M%SZ")
        folder = Path(RESULTS) / moment
    return Planning(plan, prepared(folder), file.generate_graphs is not False)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _scenarios(names: Sequence[str], file: FileConfig, *, quick: bool) -> list[Planned]:
    """Those that were named; without a name, all that the file does not switch off."""
    plan = []
    for scenario in chosen(names):
        of_file = file.scenarios.get(scenario.handler_id, ScenarioSaid())
        if not names and not of_file.enabled:
            continue
        try:
            params = params_of(scenario, of_file.params, quick=quick)
        except BadRequest as error:
            where = f"{of_file.where}: " if of_file.where else ""
            raise BadRequest(f"{where}{error.message}", hint=error.hint) from None
        plan.append(Planned(scenario, params))
    if not plan:
        raise BadRequest("no scenario is left to run: all are switched off", hint="name one, or enable one in the file")
    return plan


def prepared(folder: Path) -> Path:
    """The folder, there and without an earlier run's remains. BadRequest: it can't be, or holds something else."""
    import shutil

    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
        if strange := sorted(there - LEFT if PLAN in there else there):
            raise BadRequest(
                f"{folder}: expected an empty folder, or one of an earlier run; it holds {strange[0]}",
                hint="name another folder with --out",
            )
        for name in there:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        # Whether one can write there shows before the run, not after it.
        (folder / EVIDENCE).mkdir()
        (folder / EVIDENCE).rmdir()
    except OSError as error:
        raise BadRequest(f"{folder}: expected a folder to write to: {error.strerror}") from None
    return folder
