from __future__ import annotations

import errno
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner

from schedule_zero.cli import app, client, handler, server, testbed
from schedule_zero.errors import AlreadyExists, BadRequest, ConfigError, NotFound

BIN = Path(sys.executable).parent
COMMANDS = {
    "schedule-zero": client.main,
    "schedule-zero-server": server.main,
    "schedule-zero-handler": handler.main,
    "schedule-zero-testbed": testbed.main,
}
HEAVY = ("tornado", "sqlalchemy", "apscheduler", "httpx", "rich", "structlog", "zmq", "yaml", "msgspec", "asyncio")


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run one of the commands in an empty directory with only the given environment."""
    monkeypatch.chdir(tmp_path)

    def invoke(command, *args, **environ):
        return CliRunner().invoke(command, args, env={"SCHEDULE_ZERO_STATE_DIR": None, **environ}, prog_name="command")

    yield invoke
    # A node's command sets up the logging of its process, which is the test's.
    structlog.reset_defaults()


def every_command():
    def walk(command, path):
        yield path
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, (*path, name))

    return [path for name, root in COMMANDS.items() for path in walk(root, (name,))]


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help(invoke, path):
    done = invoke(COMMANDS[path[0]], *path[1:], "--help")
    assert done.exit_code == 0
    assert "Show this message and exit." in done.output


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_examples_stand_on_lines_of_their_own(invoke, path):
    lines = invoke(COMMANDS[path[0]], *path[1:], "--help").output.splitlines()
    assert not [line for line in lines if "\\b" in line or line.count("schedule-zero ") > 1]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_knows_its_version(invoke, name):
    done = invoke(COMMANDS[name], "--version")
    assert done.output == f"command {version('schedule-zero')}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_version_load_nothing_heavy(name):
    module = COMMANDS[name].callback.__module__
    code = (
        f"import sys; from importlib.metadata import entry_points\n"
        f"main = entry_points(group='console_scripts')[{name!r}].load()\n"
        f"try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == [], module


def test_a_node_carries_neither_server_nor_client():
    code = (
        "import sys; import schedule_zero.cli.handler; from schedule_zero import logs; import schedule_zero.node.host\n"
        "print(*[name for name in ('tornado', 'sqlalchemy', 'apscheduler', 'httpx', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_unknown_command_is_a_usage_error_with_a_suggestion(invoke):
    done = invoke(client.main, "node")
    assert done.exit_code == 2
    assert "Did you mean" in done.output


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NotFound("there is no schedule 'x'"), 3, "error: there is no schedule 'x'"),
        (
            AlreadyExists("taken", pointer="/id", hint="choose another"),
            4,
            "error: taken (at /id)\nhint: choose another",
        ),
        (BadRequest("expected x, got y", pointer="at"), 2, "error: expected x, got y (in 'at')"),
        (BadRequest("query parameter 'at': expected x", pointer="at"), 2, "error: query parameter 'at': expected x"),
        (ConfigError("no"), 78, "error: no"),
        (ExceptionGroup("two", [ExceptionGroup("one", [ConfigError("inside")])]), 78, "error: inside"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (OSError(errno.EADDRINUSE, "Address already in use"), 69, "error: cannot listen: Address already in use"),
        (click.UsageError("wrong"), 2, "Error: wrong"),
    ],
)
def test_errors_are_said_in_words_and_mapped_to_exit_codes(error, code, said):
    @click.command(cls=app.SingleApp)
    def command():
        raise error

    done = CliRunner().invoke(command)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


def test_an_error_of_ours_is_not_hidden():
    @click.command(cls=app.SingleApp)
    def command():
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(command).exception, ZeroDivisionError)


def test_an_unreachable_server_is_exit_code_5(invoke):
    done = invoke(client.main, "nodes", "--url", "http://127.0.0.1:9", "--request-timeout", "0.1")
    assert done.exit_code == 5
    assert "http://127.0.0.1:9: cannot connect" in done.stderr


def test_a_url_that_is_none_is_a_configuration_error(invoke):
    done = invoke(client.main, "nodes", SCHEDULE_ZERO_URL="localhost")
    assert done.exit_code == 78
    assert "expected the server's URL" in done.stderr


def test_config_show_says_what_is_in_force_and_why(invoke, tmp_path):
    (tmp_path / "config.yaml").write_text("http:\n  port: 1\nstore:\n  url: postgresql://app:hunter2@db/x\n")
    args = ("--http", "127.0.0.2:3", "config", "show", "--origin", "-o", "json")
    done = invoke(server.main, *args, SCHEDULE_ZERO_DRAIN_S="5")
    shown = json.loads(done.stdout)
    assert shown["http.port"] == {"value": 3, "source": "flag", "where": "--http"}
    assert shown["drain_s"] == {"value": 5.0, "source": "environment", "where": "SCHEDULE_ZERO_DRAIN_S"}
    assert shown["store.url"] == {"value": "postgresql://app:***@db/x", "source": "file", "where": "config.yaml:4"}
    assert shown["zmq.port"] == {"value": 4242, "source": "default", "where": "default"}


def test_a_server_that_starts_says_every_source_of_its_settings(tmp_path, monkeypatch):
    from schedule_zero import settings
    from schedule_zero.cli.server_run import settings_from

    monkeypatch.chdir(tmp_path)
    flags = {"http.port": settings.Flag("--http", 9000), "http.host": settings.Flag("--http", "127.0.0.1")}
    environ = {"SCHEDULE_ZERO_TIMING__MIN_INTERVAL_MS": "10000"}

    assert settings_from(settings.load(environ={})) == "defaults"
    assert settings_from(settings.load(environ=environ)) == "SCHEDULE_ZERO_TIMING__MIN_INTERVAL_MS"
    (tmp_path / "config.yaml").write_text("drain_s: 5\n")
    said = settings_from(settings.load(environ=environ, flags=flags))
    assert said == "config.yaml, SCHEDULE_ZERO_TIMING__MIN_INTERVAL_MS, --http"


def test_what_config_show_prints_is_a_config_file(invoke, tmp_path):
    done = invoke(server.main, "config", "show", "--origin", SCHEDULE_ZERO_LOG__LEVELS="a.b=debug")
    (tmp_path / "copy.yaml").write_text(done.stdout)
    again = invoke(server.main, "config", "show", "-c", "copy.yaml")
    assert again.exit_code == 0
    assert 'levels: {"a.b": "debug"}' in again.stdout


def test_config_check_lists_all_errors_and_ends_with_78(invoke, tmp_path):
    (tmp_path / "config.yaml").write_text("http:\n  prot: 1\n  port: x\n")
    done = invoke(server.main, "config", "check")
    assert done.exit_code == 78
    assert "config.yaml:2: http.prot: unknown setting; did you mean port?" in done.stderr
    assert 'config.yaml:3: http.port: expected a whole number, got "x"' in done.stderr


def test_config_check_reads_the_handler_registry_too(invoke, tmp_path):
    (tmp_path / "handler_registry.yaml").write_text("demo:\n  allowed_method: [hello]\n")
    done = invoke(server.main, "config", "check")
    assert done.exit_code == 78
    assert "handler_registry.yaml:2: demo.allowed_method: unknown key" in done.stderr
    (tmp_path / "handler_registry.yaml").write_text("demo:\n  allowed_methods: [hello]\n")
    done = invoke(server.main, "config", "check")
    assert (done.exit_code, done.stdout) == (0, "right: no file, defaults; handlers declared: demo\n")


def test_wrong_settings_stop_the_server_before_anything_is_touched(invoke, tmp_path):
    done = invoke(server.main, SCHEDULE_ZERO_HTTP_PORT="1")
    assert done.exit_code == 78
    assert "did you mean SCHEDULE_ZERO_HTTP__PORT?" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["nowhere", "1.2.3.4:99999", "::1:80"])
def test_a_bad_address_is_a_usage_error(invoke, value):
    done = invoke(server.main, "--http", value)
    assert done.exit_code == 2
    assert "--http" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["dead-letters", "requeue", "j:1", "--rate", "nan", "--yes"], "expected a finite number, got nan"),
        (["nodes", "--request-timeout", "inf"], "expected a finite number, got inf"),
        (["submit"], "expected either a JOB or --file"),
        (["submit", "demo.noop", "--file", "x"], "expected either a JOB or --file"),
        (["submit", "demo.noop", "--key", "k", "--count", "2"], "--key names one execution"),
        (["executions", "--wait"], "--wait needs an ID"),
        (["schedule", "demo.noop"], "expected one of --cron, --every, --at and --trigger"),
        (["schedule", "demo.noop", "--every", "1s", "--replace"], "--replace needs an --id"),
        (["schedule", "demo.noop", "--every", "soon"], "expected a duration such as 10s"),
        (["run", "demo"], "expected a job as HANDLER.METHOD"),
        (["skip", "s", "--none", "--count", "2"], "expected one of --count and --none, got both"),
        (["freeze", "--catch-up", "all"], "--catch-up needs --until"),
        (["thaw"], "expected --catch-up with one of none, latest, all, policy: there is nobody to ask"),
    ],
)
def test_misuse_is_explained_without_asking_a_server(invoke, args, said):
    done = invoke(client.main, *args)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["x.py", "--server", "127.0.0.1:4242"], "expected tcp://HOST:PORT"),
        (["x.py", "--slots", "0"], "--slots"),
        (["x.py", "--label", "3d"], "expected NAME or NAME=VALUE"),
        (["x.py", "--label", "gpu", "--label", "os=linux"], "'os' is what the node itself tells"),
        ([], "Missing argument"),
    ],
)
def test_a_handler_process_explains_misuse(invoke, args, said):
    done = invoke(handler.main, *args)
    assert done.exit_code == 2
    assert said in done.stderr


def test_completion_offers_the_commands():
    done = subprocess.run(
        [BIN / "schedule-zero"],
        env={"_SCHEDULE_ZERO_COMPLETE": "bash_complete", "COMP_WORDS": "schedule-zero exe", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "plain,executions"


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_no_two_parameters_of_a_command_share_what_was_given(path):
    command = COMMANDS[path[0]]
    for name in path[1:]:
        command = command.commands[name]
    names = [param.name for param in command.params]
    assert sorted(names) == sorted(set(names))


def test_every_command_and_option_stands_in_the_reference():
    text = (Path(__file__).resolve().parents[2] / "docs/reference/cli.md").read_text()

    def options(command):
        yield from (name for param in command.params for name in param.opts if name.startswith("--"))
        for sub in getattr(command, "commands", {}).values():
            yield sub.name
            yield from options(sub)

    assert [name for root in COMMANDS.values() for name in options(root) if name not in text] == []
