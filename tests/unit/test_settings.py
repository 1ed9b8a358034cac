from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from schedule_zero import settings
from schedule_zero.config import ServerConfig, is_loopback
from schedule_zero.errors import ConfigError
from schedule_zero.settings import Flag
from schedule_zero.testbed.job_ledger import LEDGER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(tmp_path):
    """Load with this file, environment and flags, in an otherwise empty working directory."""

    def load(text: str | None = None, environ=None, **flags):
        if text is not None:
            (tmp_path / "config.yaml").write_text(text)
        given = {path.replace("__", "."): Flag(f"--{path}", value) for path, value in flags.items()}
        return settings.load(environ=environ or {}, flags=given, cwd=tmp_path)

    return load


def problems(load, *args, **kwargs):
    with pytest.raises(ConfigError) as raised:
        load(*args, **kwargs)
    return raised.value.data["problems"]


def test_without_anything_the_defaults_hold(load):
    loaded = load()
    # Paths are absolute.
    paths = {"state_dir": "", "handler_registry": "handler_registry.yaml", "testbed": ServerConfig().testbed}
    assert msgspec.structs.replace(loaded.config, **paths) == ServerConfig()
    assert set(loaded.origins.values()) == {settings.DEFAULT}


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(load):
    text = "http:\n  host: 127.0.0.2\n  port: 1\n  max_depth: 10\n"
    environ = {"SCHEDULE_ZERO_HTTP__PORT": "2", "SCHEDULE_ZERO_HTTP__MAX_DEPTH": "20"}
    loaded = load(text, environ, http__port=3)
    http = loaded.config.http
    assert (http.host, http.port, http.max_depth, http.max_wait_s) == ("127.0.0.2", 3, 20, 300.0)
    paths = ("http.host", "http.port", "http.max_depth", "http.max_wait_s")
    assert [str(loaded.origins[path]) for path in paths] == [
        "file: config.yaml:2",
        "flag: --http__port",
        "environment: SCHEDULE_ZERO_HTTP__MAX_DEPTH",
        "default",
    ]


NINE = ",".join(["*a"] * 9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # What PyYAML raises over these is a KeyError, an IndexError, an AttributeError, an OverflowError …
        ("drain_s: !!bool x\n", "config.yaml:1:10: not valid YAML: expected a value of the type bool"),
        ("\ndrain_s: !!int ''\n", "config.yaml:2:10: not valid YAML: expected a value of the type int"),
        ("drain_s: !!timestamp foo\n", "config.yaml:1:10: not valid YAML: expected a value of the type timestamp"),
        ("drain_s: 1" + ":59" * 5000 + ".5\n", "config.yaml:1:10: not valid YAML: expected a value of the type float"),
        ("drain_s: 2001-99-99\n", "config.yaml:1:10: not valid YAML: expected a value of the type timestamp: month"),
        # … and over these nothing, but they can't be shown.
        ("drain_s: 0x" + "f" * 6000 + "\n", "config.yaml:1:10: not valid YAML: a whole number of more than 64 bits"),
        ("drain_s: 1" + ":59" * 5000 + "\n", "config.yaml:1:10: not valid YAML: a whole number of more than 64 bits"),
        # Aliases of aliases; as lists that are shown, and as keys that are merged.
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{NINE.replace('*a', f'*a{n - 1}')}]\n" for n in range(1, 12)),
            "not valid YAML: aliases make it larger by more than 10000 values",
        ),
        (
            "a0: &a0 {x: 1}\n"
            + "".join(f"a{n}: &a{n} {{<<: [{NINE.replace('*a', f'*a{n - 1}')}]}}\n" for n in range(1, 12)),
            "not valid YAML: aliases make it larger by more than 10000 values",
        ),
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 120)),
            "not valid YAML: nested deeper than 100 levels, aliases written out",
        ),
        ("drain_s: " + "[" * 100_000, "config.yaml:1:109: not valid YAML: nested deeper than 100 levels"),
        ("state_dir: ~nobody-of-that-name/x\n", 'config.yaml:1: state_dir: expected a path, got "~nobody'),
        ('state_dir: "a\\0b"\n', "config.yaml:1: state_dir: expected a path"),
        ("handler_registry: " + "x" * 5000 + "\n", "config.yaml:1: handler_registry: expected a path"),
    ],
    ids=range(14),
)
def test_what_no_file_may_hold_is_named_with_the_line_at_once(load, text, said):
    (only,) = problems(load, text)
    assert said in only
    assert len(only) < 300


def test_of_many_errors_the_first_are_told(load):
    told = problems(load, "".join(f"setting{number}: 1\n" for number in range(5000)))
    assert len(told) == 101
    assert told[-1] == "config.yaml:101: and so on: what follows was not looked at"


def test_every_error_of_every_source_is_reported_at_once_with_its_place(load):
    text = "http:\n  prot: 1\n  port: 70000\nzmq: tcp\nport: 9\nlog:\n  level: loud\n  levels: {a: b}\nhttp: {}\n"
    environ = {"SCHEDULE_ZERO_ZMQ__PORT": "many", "SCHEDULE_ZERO_HTTP_PORT": "9"}
    assert problems(load, text, environ, drain_s=-1) == [
        "config.yaml:2: http.prot: unknown setting; did you mean port?",
        "config.yaml:3: http.port: expected a whole number <= 65535, got 70000",
        "config.yaml:4: zmq: expected a mapping of settings, got a string",
        "config.yaml:5: port: unknown setting; did you mean http.port?",
        'config.yaml:7: log.level: expected one of debug, info, warning, error, got "loud"',
        "config.yaml:8: log.levels: expected a mapping of names to one of debug, info, warning, error, got {'a': 'b'}",
        "config.yaml:9: http: stands here a second time",
        "SCHEDULE_ZERO_HTTP_PORT: unknown setting; did you mean SCHEDULE_ZERO_HTTP__PORT?",
        'SCHEDULE_ZERO_ZMQ__PORT: zmq.port: expected a whole number, got "many"',
        "--drain_s: drain_s: expected a number > 0.0, got -1",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http:\n  port: [1\n", "config.yaml:3:1: not valid YAML"),
        ("\thttp: 1\n", "config.yaml:1:1: not valid YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "config.yaml:1:4: not valid YAML: could not determine"),
        ("http: 1\nx: \x01\n", "config.yaml:2: not valid YAML"),
        ("- http\n", "config.yaml:1: expected a mapping of keys, got a list"),
        ("a: &a [*a]\n", "config.yaml:1:4: not valid YAML: an alias refers to itself"),
        ("{[]: 1}\n", "not valid YAML"),
        ("x: 2001-99-99\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_right_is_named_with_the_line(load, text, said):
    (only,) = problems(load, text)
    assert said in only


def test_a_missing_or_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        settings.load(file=Path("nowhere.yaml"), environ={}, cwd=tmp_path)
    with pytest.raises(ConfigError, match="Is a directory"):
        settings.load(file=tmp_path, environ={}, cwd=tmp_path)


def test_an_empty_file_and_empty_sections_are_fine(load):
    assert load("").config.http.port == 8888
    assert load("# nothing\nhttp:\n  # port: 1\n").config.http.port == 8888


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("HTTP__ALLOWED_HOSTS", "a.example, b.example", "http.allowed_hosts", ["a.example", "b.example"]),
        ("HTTP__ALLOWED_HOSTS", '["a.example"]', "http.allowed_hosts", ["a.example"]),
        ("HTTP__ALLOWED_HOSTS", "", "http.allowed_hosts", []),
        ("LOG__LEVELS", "a.b=debug,c=error", "log.levels", {"a.b": "debug", "c": "error"}),
        ("LOG__LEVELS", '{"a.b": "debug"}', "log.levels", {"a.b": "debug"}),
        ("LOG_LEVEL", "debug", "log.level", "debug"),
        ("DRAIN_S", "2.5", "drain_s", 2.5),
        ("INSTANCE_NAME", "5", "instance_name", "5"),
    ],
)
def test_a_variable_is_read_by_the_type_of_its_setting(load, variable, text, path, value):
    assert settings.values(load(None, {f"SCHEDULE_ZERO_{variable}": text}).config)[path] == value


def test_the_exact_variable_wins_over_the_short_name(load):
    environ = {"SCHEDULE_ZERO_LOG_LEVEL": "debug", "SCHEDULE_ZERO_LOG__LEVEL": "error"}
    assert load(None, environ).config.log.level == "error"


def test_a_shell_that_exports_the_chaos_ledger_may_start_a_server(load):
    load(None, {LEDGER: "/tmp/ledger.jsonl"})


def test_variables_of_clients_nodes_and_kubernetes_are_no_settings(load):
    environ = {f"SCHEDULE_ZERO_{name}": "x" for name in settings.RESERVED} | {
        "SCHEDULE_ZERO_PORT": "tcp://10.0.0.1:8888",
        "SCHEDULE_ZERO_SERVICE_HOST": "10.0.0.1",
        "SCHEDULE_ZERO_SERVICE_PORT_HTTP": "8888",
        "SCHEDULE_ZERO_PORT_8888_TCP_ADDR": "10.0.0.1",
        "_SCHEDULE_ZERO_SERVER_COMPLETE": "bash_source",
    }
    assert set(load(None, environ).origins.values()) == {settings.DEFAULT}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zmq: {host: 0.0.0.0, curve: 'off'}\n", "zmq.curve: off is refused beyond loopback"),
        ("dispatch: {suspect_s: 20}\n", "config.yaml:1: dispatch.suspect_s: expected heartbeat_s < suspect_s < lost_s"),
        ("dispatch: {lease_s: 4}\n", "dispatch.lease_s: expected more than two heartbeats (4 s), got 4"),
        ("http: {port: 4242}\n", "config.yaml:1: zmq.port: expected another port than http.port"),
        ("limits: {result_bytes: 60000000}\n", "zmq.max_message_bytes: expected at least 60065536"),
        ("http: {max_body_bytes: 2048}\n", "http.max_body_bytes: expected at least limits.params_bytes"),
        ("handler_registry: nowhere.yaml\n", "handler_registry: no such file"),
    ],
)
def test_values_must_fit_together(load, text, said):
    (only,) = problems(load, text)
    assert said in only


def test_a_refused_value_causes_no_second_complaint(load):
    (only,) = problems(load, "dispatch: {lost_s: never, suspect_s: 100}\n")
    assert "dispatch.lost_s: expected a number" in only


def test_relative_paths_in_the_file_are_relative_to_the_file_and_elsewhere_to_the_working_directory(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/sz.yaml").write_text("state_dir: state\nlog: {file: sz.log}\n")
    loaded = settings.load(file=Path("etc/sz.yaml"), environ={}, cwd=tmp_path)
    assert loaded.config.state_dir == str(tmp_path / "etc/state")
    assert loaded.config.log.file == str(tmp_path / "etc/sz.log")
    assert loaded.config.handler_registry == str(tmp_path / "etc/handler_registry.yaml")
    environ = {"SCHEDULE_ZERO_STATE_DIR": "here"}
    assert settings.load(environ=environ, cwd=tmp_path).config.state_dir == str(tmp_path / "here")


def test_what_an_operator_should_know_is_a_warning(load):
    warnings = load("http: {host: 0.0.0.0}\nstore: {durability: fast}\n").warnings
    assert [warning.split()[0] for warning in warnings] == ["http.host", "http.allowed_hosts", "store.durability"]
    assert load("").warnings == []


def test_passwords_are_not_shown(load):
    loaded = load("store: {url: 'postgresql://app:p@ss/w:ord@db/x?sslmode=require'}\n")
    assert settings.masked(loaded.config)["store"]["url"] == "postgresql://app:***@db/x?sslmode=require"
    (only,) = problems(load, "store: {url: ['postgresql://app:hunter2@db/x']}\n")
    assert "hunter2" not in only


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        (":81", ("127.0.0.1", 81)),
        ("82", ("127.0.0.1", 82)),
        ("[::1]:83", ("::1", 83)),
        ("host.example:0", ("host.example", 0)),
    ],
)
def test_an_address_is_host_and_port(text, address):
    assert settings.parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "::1:80", "h:70000", "h:-1", "h:٣"])
def test_a_bad_address_says_what_was_expected(text):
    with pytest.raises(ValueError, match="expected"):
        settings.parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("127.evil", False),
    ],
)
def test_loopback_is_known_when_seen(host, loopback):
    assert is_loopback(host) is loopback


def test_the_file_in_the_repository_holds_every_setting_with_its_default():
    written = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert written == msgspec.to_builtins(ServerConfig())
