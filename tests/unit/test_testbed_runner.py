from __future__ import annotations

import asyncio
import json

import psutil
import pytest

from schedule_zero.errors import BadRequest, Unavailable
from schedule_zero.reports import record
from schedule_zero.reports.record import Outcome
from schedule_zero.testbed.catalogue import params_of
from schedule_zero.testbed.matching import Run
from schedule_zero.testbed.runner import Limits, Planned, Watcher, own_series, run_on
from schedule_zero.testbed.session import INTERRUPTED, Plan, Session
from tests.unit import testbed_fakes as fakes
from tests.unit.testbed_fakes import FakeInstallation


def planned(*scenarios):
    return [Planned(one, params_of(one, {}, quick=False)) for one in scenarios]


@pytest.fixture
def install():
    """Installations of its own: class attributes are this test's."""

    class Fresh(FakeInstallation):
        made = []

    return Fresh


@pytest.fixture
def play(tmp_path, install):
    """Run scenarios on an installation without processes; their reports."""

    async def played(scenarios, limits, watcher):
        installation = install(tmp_path, nodes=["n1"], targets=[])
        await installation.start()
        return await run_on(installation, planned(*scenarios), seed=1, limits=limits, watcher=watcher)

    def play(*scenarios, limits=None, watcher=None):
        return asyncio.run(played(scenarios, limits or Limits(), watcher or Watcher()))

    return play


def test_what_goes_wrong_is_the_outcome_of_its_scenario_and_the_next_one_runs(play):
    found = play(fakes.Raises, fakes.JudgeRaises, fakes.NeverComes, fakes.Broken, fakes.Blind, fakes.Fine)
    assert [one.outcome for one in found] == [*[Outcome.FAILED] * 3, *[Outcome.BROKEN] * 2, Outcome.KEPT]
    raises, judge, never, broken, blind, fine = found
    assert "it raised ZeroDivisionError: by zero" in raises.why
    assert "in drive" in raises.why
    assert "KeyError: 'undeclared'" in judge.why
    assert "not within 0.05 s; the last value was 0" in never.why
    assert broken.why == "well: 1 of 1"
    assert broken.held[0].evidence == ["it is not"]
    assert blind.why == "nothing was seen of well"
    assert fine.why == ""


def test_a_scenario_that_hangs_is_ended_at_its_limit(play):
    hung, fine = play(fakes.Hangs, fakes.Fine, limits=Limits(max_execution_time_s=0.2))
    assert hung.outcome is Outcome.FAILED
    assert hung.why == "it did not end within 0.2 s (limits.max_execution_time_seconds)"
    assert 0.2 <= hung.seconds < 5
    assert fine.outcome is Outcome.KEPT


def test_a_scenario_that_leaks_is_ended_at_its_limit(play):
    limit_mib = psutil.Process().memory_info().rss / 2**20 + 60
    leaks = play(fakes.Leaks, limits=Limits(memory_mib=limit_mib, max_execution_time_s=60))[0]
    fakes.Leaks.leaked.clear()
    assert leaks.outcome is Outcome.FAILED
    assert f"limits.memory_limit_mb is {limit_mib:g}" in leaks.why
    assert leaks.figures.processes[0].memory_peak_mib > limit_mib


def test_a_scenario_with_too_many_schedules_is_ended_and_leaves_none(play, install):
    floods = play(fakes.Floods, limits=Limits(max_schedules=10))[0]
    assert floods.outcome is Outcome.FAILED
    assert "at most 10 schedules at a time (limits.max_schedules)" in floods.why
    assert install.made[0].client.there == []


def test_a_server_that_is_gone_does_not_end_the_run(play):
    lost = play(fakes.LosesServer)[0]
    assert lost.outcome is Outcome.FAILED
    assert "nobody could tidy up after it: nobody is there" in lost.why


def test_measures_come_in_the_order_in_which_they_are_declared_and_are_finite_or_none(play):
    fine = play(fakes.Fine)[0]
    assert [measure.name for measure in fine.measures] == ["matters", "other", "undeclared"]
    assert fine.measures[1].value is None
    assert len(next(series for series in fine.series if series.name == "dice").points) == 3


def test_a_report_is_read_as_it_was_written(play, tmp_path):
    report = record.RunReport(
        product="1", began="x", seconds=1, mode="realtime", speedup=1.0, seed=1, nodes=1, quick=True,
        machine=record.Machine("3", "Linux", 2, 100), scenarios=play(fakes.Fine, fakes.Broken),
    )  # fmt: skip
    path = record.write(report, tmp_path)
    assert record.read(tmp_path) == record.read(path) == report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no"),
        (b"", "expected the report of a run"),
        (b"[]", "expected the report of a run"),
        (b"\xff\xfe", "expected the report of a run"),
        (b'{"schema": 1}', "missing required field"),
        (b'{"schema": 99, "of": "tomorrow"}', "expected a report of schema 1, got 99"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(BadRequest, match=message):
        record.read(tmp_path)


def test_lateness_and_throughput_are_drawn_of_every_scenario():
    def run(start_s, nominal_s):
        return Run(
            "e", 1, 1, "n1", 1, int(start_s * 1e6), 0, "a.b", "s", None if nominal_s is None else int(nominal_s * 1e6)
        )

    late, through = own_series([run(101, 100.5), run(103, None), run(105, 105)], 100_000_000)
    assert late.points == [(1.0, 0.5), (5.0, 0.0)]
    assert sum(rate for _, rate in through.points) * 5 / 10 == pytest.approx(3)
    assert own_series([], 0) == []


# --- a whole run --------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path, install):
    def session(*scenarios, watcher=None, **said):
        plan = Plan(scenarios=planned(*scenarios), **said)
        return Session(plan, tmp_path, watcher or Watcher(), install=install)

    return session


def test_what_is_about_simulated_time_has_an_installation_of_its_own(session, install):
    report = asyncio.run(session(fakes.Fast, fakes.Fine, fakes.Broken, speedup=50.0).run())
    assert [(one.folder.name, one.speedup) for one in install.made] == [("realtime", 1.0), ("accelerated", 50.0)]
    assert [(one.scenario, one.speedup) for one in report.scenarios] == [("fast", 50.0), ("fine", 1.0), ("broken", 1.0)]
    assert install.made[0].judged["ledgered"] == ["fine", "broken"]
    assert report.promises == {"C1": 6}
    assert report.promises_ok is True
    assert not report.ok


def test_an_accelerated_run_gives_the_fast_clock_to_those_that_can(session, install):
    asyncio.run(session(fakes.Fast, fakes.Fine, fakes.Broken, mode="accelerated").run())
    assert [one.judged["ledgered"] for one in install.made] == [["broken"], ["fast", "fine"]]


def test_what_wants_settings_of_its_own_has_an_installation_of_its_own(session, install):
    report = asyncio.run(session(fakes.Fine, fakes.Particular, fakes.Broken).run())
    assert [(one.folder.name, dict(one.env)) for one in install.made] == [
        ("realtime", {}),
        ("realtime-particular", {"SCHEDULE_ZERO_DISPATCH__LOST_S": "3"}),
    ]
    assert [one.judged["ledgered"] for one in install.made] == [["fine", "broken"], ["particular"]]
    assert [one.scenario for one in report.scenarios] == ["fine", "particular", "broken"]


def test_a_run_says_from_its_beginning_what_it_does_and_not_how_to_get_in(session, tmp_path, install):
    install.refuses = Unavailable("nobody is there")
    with pytest.raises(Unavailable):
        asyncio.run(session(fakes.Fine, url=fakes.NOBODY, token="sz_secret", seed=7).run())
    text = (tmp_path / "plan.json").read_text()
    said = json.loads(text)
    assert (said["seed"], said["url"], said["scenarios"]) == (7, fakes.NOBODY, {"fine": {"size": 3}})
    assert "sz_secret" not in text


def test_the_same_seed_does_the_same(session):
    def figures(seed):
        report = asyncio.run(session(fakes.Fine, fakes.Fast, seed=seed).run())
        return [(one.scenario, one.params, one.measures) for one in report.scenarios]

    assert figures(1) == figures(1) != figures(2)


def test_what_the_checker_found_breaks_the_run(session, install):
    install.found = fakes.breach()
    report = asyncio.run(session(fakes.Fine).run())
    assert report.breaches == {"C1 missed": 1}
    assert "schedule x" in report.violations[0]
    assert not report.ok


def test_a_run_that_did_not_settle_is_not_held_to_its_end(session, install):
    asyncio.run(session(fakes.Raises).run())
    assert install.made[0].judged["settled"] is False


def test_an_installation_that_does_not_start_fails_its_scenarios(session, install):
    install.refuses = ChildProcessError("the server ended with 78")
    report = asyncio.run(session(fakes.Fine, fakes.Fast).run())
    assert [one.outcome for one in report.scenarios] == [Outcome.FAILED] * 2
    assert "the server ended with 78" in report.scenarios[0].why
    assert report.promises_ok is None


def test_at_another_s_server_no_harm_is_done_and_no_clock_is_moved(session, install):
    report = asyncio.run(session(fakes.Fine, fakes.Fast, fakes.Broken, url=fakes.NOBODY).run())
    assert [one.outcome for one in report.scenarios] == [Outcome.KEPT, Outcome.SKIPPED, Outcome.SKIPPED]
    assert install.made[0].nodes == ("testbed-n1", "testbed-n2", "testbed-n3")
    assert report.promises_ok is None
    assert report.ok


def test_schedules_that_another_s_server_has_are_not_taken_for_those_of_a_scenario(session, install):
    install.there = ["nightly", "hourly"]
    report = asyncio.run(session(fakes.Fine, url=fakes.NOBODY).run())
    assert report.scenarios[0].outcome is Outcome.SKIPPED
    assert report.scenarios[0].why == ("the server has schedules of a handler 'fine' already (2: nightly, …)")
    assert install.made[0].client_made.there == ["nightly", "hourly"]


def test_another_s_server_that_does_not_answer_ends_the_run(session, install):
    install.refuses = Unavailable("nobody is there")
    with pytest.raises(Unavailable):
        asyncio.run(session(fakes.Fine, url=fakes.NOBODY).run())


def test_an_interrupted_run_has_a_report_and_ends_its_processes(session, install):
    class Interrupts(Watcher):
        def begins(self, planned):
            if planned.scenario is fakes.Hangs:
                asyncio.get_running_loop().call_later(0.05, running.interrupt)

    running = session(fakes.Fine, fakes.Hangs, fakes.Broken, watcher=Interrupts())
    report = asyncio.run(running.run())
    assert report.interrupted
    assert not report.ok
    assert [one.outcome for one in report.scenarios] == [Outcome.KEPT, Outcome.FAILED, Outcome.SKIPPED]
    assert [one.why for one in report.scenarios] == ["", INTERRUPTED, f"{INTERRUPTED} before it began"]
    assert install.made[0].processes["node:n1"].kills
    assert not hasattr(install.made[0], "judged")
