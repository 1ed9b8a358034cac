from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from schedule_zero.cli import testbed_plan
from schedule_zero.cli.testbed import main
from schedule_zero.cli.testbed_progress import outcome_line
from schedule_zero.errors import BadRequest
from schedule_zero.reports import record
from schedule_zero.reports.record import Outcome
from schedule_zero.testbed.catalogue import scenarios
from tests.unit.testbed_reports import HOSTILE, figures, run, scenario

FLAGS = ("config", "nodes", "mode", "speedup", "seed", "subject", "quick", "url", "token")
FLAGS += ("postgresql", "findings", "out")


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args, **environ: CliRunner().invoke(main, [str(arg) for arg in args], env=environ)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """What a run would do, with these flags."""
    monkeypatch.chdir(tmp_path)
    return lambda *names, **said: testbed_plan.planned(names, {**dict.fromkeys(FLAGS), **said})


@pytest.fixture
def folder(tmp_path):
    """A folder with the report of a run."""

    def folder(name, report):
        path = tmp_path / name
        path.mkdir()
        record.write(report, path)
        return path

    return folder


# --- list ---------------------------------------------------------------------------------------------


def test_list_says_what_each_scenario_asks_and_takes_and_what_must_hold(invoke):
    done = invoke("list")
    assert done.exit_code == 0
    for name, one in scenarios().items():
        assert f"{name}  {one.asks()}" in done.output
        assert all(f"must hold: {text}" in done.output for text in one.holds.values())
    assert "seconds = 10.0  (quick: 1.0)" in done.output


def test_list_as_json_has_everything(invoke):
    document = json.loads(invoke("list", "temporal_resolution", "-o", "json").stdout)[0]
    assert document["name"] == "temporal_resolution"
    assert {"name": "seconds", "default": 10.0, "quick": 1.0} in document["params"]
    assert set(document) == {"name", "asks", "params", "holds", "measures", "worse", "traits"}


# --- report -------------------------------------------------------------------------------------------


def test_report_makes_the_pages_anew(invoke, folder):
    path = folder("old", run(scenario()))
    done = invoke("report", path)
    assert done.exit_code == 0
    assert "Everything held in 1 of 1 scenarios" in done.output
    assert {file.name for file in path.iterdir()} == {"report.json", "report.html", "junit.xml"}
    assert invoke("report", path / "report.json").exit_code == 0


def test_report_of_nothing_is_refused(invoke, tmp_path):
    done = invoke("report", tmp_path / "none")
    assert done.exit_code == 2
    assert "expected report.json of a run: there is no" in done.output


# --- compare ------------------------------------------------------------------------------------------


def test_compare_shows_what_became_worse_and_ends_with_1(invoke, folder):
    old = folder("old", run(scenario()))
    new = folder("new", run(scenario(figures=figures(lateness_p99_s=0.9))))
    done = invoke("compare", old, new)
    assert done.exit_code == 1
    row = next(line.split() for line in done.output.splitlines() if "lateness_p99_s" in line)
    assert row == ["churn", "schedulezero", "lateness_p99_s", "0.166", "0.9", "0.664", "worse"]
    assert "1 worse" in done.output
    assert invoke("compare", old, old).exit_code == 0
    assert invoke("compare", old, new, "--threshold", "lateness_p99_s=6").exit_code == 0
    assert invoke("compare", old, new, "--threshold", "churn.lateness_p99_s=6").exit_code == 0


def test_compare_of_scenarios_that_are_named_leaves_the_others_alone(invoke, folder):
    old = folder("old", run(scenario("churn"), scenario("failover")))
    new = folder("new", run(scenario("churn")))
    assert invoke("compare", old, new).exit_code == 1
    assert invoke("compare", old, new, "churn").exit_code == 0
    assert invoke("compare", old, new, "failover").exit_code == 1
    refused = invoke("compare", old, new, "chrun")
    assert refused.exit_code == 2
    assert "neither report has a scenario 'chrun'; did you mean churn?" in refused.output


def test_compare_tells_what_is_broken_now(invoke, folder):
    old, new = folder("old", run(scenario())), folder("new", run(scenario(outcome=Outcome.BROKEN, why=f"a{HOSTILE}")))
    done = invoke("compare", old, new)
    assert done.exit_code == 1
    assert "churn (schedulezero)  kept → broken: a<script>" in done.output
    assert "\x1b" not in done.output


def test_compare_as_json_says_whether_it_is_ok(invoke, folder):
    old, new = folder("old", run(scenario())), folder("new", run(scenario(figures=figures(lateness_p99_s=0.9))))
    assert json.loads(invoke("compare", old, old, "-o", "json").stdout)["ok"] is True
    document = json.loads(invoke("compare", old, new, "-o", "json").stdout)
    assert document["ok"] is False
    assert {"old", "new", "limit", "trend", "figure", "scenario", "subject"} == set(document["rows"][0])


@pytest.mark.parametrize("threshold", ["lateness_p99_s", "=2", "x=", "x=nan", "x=0", "x=-1", "x=inf", "no_such=2"])
def test_compare_refuses_thresholds_that_are_none(invoke, folder, threshold):
    old = folder("old", run(scenario()))
    assert invoke("compare", old, old, "--threshold", threshold).exit_code == 2


# --- run: what it is to do ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["temporal_resolutoin"], "did you mean temporal_resolution?"),
        (["--subject", "both", "--postgresql", "mysql://u@h/d"], "--postgresql: expected an URL such as postgresql://"),
        (["--subject", "apscheduler", "--server", "http://127.0.0.1:1"], "--server names a server of ours"),
        (["--subject", "cron"], "'cron' is not one of"),
        (["--nodes", "0"], "not in the range"),
        (["--speedup", "nan"], "finite number"),
        (["--server", "localhost"], "expected an URL"),
        (["--config", "none.yaml"], "No such file"),
    ],
)
def test_run_refuses_what_is_wrong_before_it_starts_anything(invoke, tmp_path, args, said):
    done = invoke("run", *args)
    assert done.exit_code == 2
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_flags_win_over_the_file_over_the_defaults(plan, tmp_path):
    (tmp_path / "bed.yaml").write_text(
        "testbed: {nodes: 5, seed: 9, quick: true, limits: {memory_limit_mb: 9}, reporting: {output_dir: there,"
        " generate_graphs: false}, scenarios: {temporal_resolution: {seconds: 4}}}"
    )
    found, folder, graphs = plan(config=tmp_path / "bed.yaml", nodes=2)
    assert (found.nodes, found.seed, found.quick, found.mode) == (2, 9, True, "realtime")
    assert (found.limits.memory_mib, found.limits.max_schedules) == (9.0, 20_000)
    assert (folder, graphs) == (tmp_path / "there", False)
    params = next(one.params for one in found.scenarios if one.scenario.handler_id == "temporal_resolution")
    assert (params.seconds, params.intervals_ms) == (4.0, (500, 100, 10, 1)), "what is not said is that of a quick run"


def test_a_scenario_that_is_named_runs_even_where_the_file_switches_it_off(plan, tmp_path):
    file = tmp_path / "bed.yaml"
    file.write_text(f"testbed: {{scenarios: {{{', '.join(f'{name}: {{enabled: false}}' for name in scenarios())}}}}}")
    with pytest.raises(BadRequest, match="no scenario is left"):
        plan(config=file)
    assert len(plan("temporal_resolution", config=file).plan.scenarios) == 1


def test_a_folder_with_something_else_in_it_is_left_alone(plan, tmp_path):
    kept = tmp_path / "precious" / "work.txt"
    kept.parent.mkdir()
    kept.write_text("x")
    with pytest.raises(BadRequest, match=r"it holds work\.txt"):
        plan(out=kept.parent)
    assert kept.read_text() == "x"
    with pytest.raises(BadRequest, match="expected a folder to write to"):
        plan(out=kept)


def test_the_folder_of_an_earlier_run_is_used_again(plan, folder):
    path = folder("old", run(scenario()))
    (path / "evidence" / "realtime").mkdir(parents=True)
    (path / "evidence" / "realtime" / "server.log").write_text("x")
    (path / "plan.json").write_text("{}")
    assert plan(out=path).folder == path
    assert list(path.iterdir()) == []


def test_a_folder_that_only_looks_like_a_run_s_is_left_alone(plan, folder):
    path = folder("mine", run(scenario()))
    with pytest.raises(BadRequest, match=r"expected an empty folder, or one of an earlier run; it holds report\.json"):
        plan(out=path)
    assert (path / "report.json").exists()


def test_a_token_of_the_environment_is_for_a_server_that_is_named(plan):
    assert plan(token="t").plan.token is None
    assert plan(token="t", url="http://127.0.0.1:8888").plan.token == "t"


# --- progress -----------------------------------------------------------------------------------------


def test_a_line_says_the_figure_that_matters_or_why_it_is_not_kept():
    def line(*args, **said):
        outcome, rest = outcome_line(scenario(*args, **said))
        return outcome.text, rest.split(None, 3)

    assert line() == ("kept   ", ["churn", "12.5", "s", "jobs_per_s 123"])
    assert line(measures=[]) == ("kept   ", ["churn", "12.5", "s", "lateness p99 0.166 s"])
    assert line("churn", Outcome.FAILED, why="hung\nTraceback") == ("failed ", ["churn", "12.5", "s", "hung"])
