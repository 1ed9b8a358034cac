from __future__ import annotations

import json

import pytest

from schedule_zero.client import target
from schedule_zero.errors import ConfigError


@pytest.fixture
def states(tmp_path):
    """The state directory of a running server."""
    (tmp_path / "admin.token").write_text("sz_file\n")
    (tmp_path / "server.json").write_text(json.dumps({"http": "http://0.0.0.0:9001", "zmq": "", "pid": 1}))
    return tmp_path


def find(states, url=None, token=None, **environ):
    return target.find(url, token, environ=environ, cwd=states, states=states)


def test_arguments_win_over_the_environment_over_the_state_directory(states):
    environ = {"SCHEDULE_ZERO_URL": "http://127.0.0.1:2", "SCHEDULE_ZERO_TOKEN": "env"}
    assert find(states, "http://127.0.0.1:1/", "arg", **environ) == ("http://127.0.0.1:1", "arg", True)
    assert find(states, **environ) == ("http://127.0.0.1:2", "env", True)
    assert find(states) == ("http://127.0.0.1:9001", "sz_file", True)


def test_without_anything_it_is_the_default_address_and_no_token(tmp_path):
    assert find(tmp_path) == ("http://127.0.0.1:8888", None, True)


def test_the_admin_token_of_this_machine_is_not_sent_elsewhere(states):
    assert find(states, "https://evil.example").token is None
    assert find(states, "http://localhost:1").token == "sz_file"
    assert find(states, "http://127.0.0.1.evil.example").token is None


def test_a_server_bound_elsewhere_than_loopback_still_gets_its_own_token(states):
    (states / "server.json").write_text(json.dumps({"http": "http://10.0.0.5:8888"}))
    assert find(states) == ("http://10.0.0.5:8888", "sz_file", False)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8888", "ftp://h", "http://", "http://h:x", "http://h:0", "http://u:p@h", "http://h?a=b", "http://h#f"],
)
def test_what_is_no_url_of_a_server_is_refused(states, url):
    with pytest.raises(ConfigError, match="expected the server's URL"):
        find(states, url)
