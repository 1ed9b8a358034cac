from __future__ import annotations

import stat

import pytest

from schedule_zero import state_dir
from schedule_zero.errors import ConfigError


def test_beside_a_config_file_or_in_the_checkout_it_is_var(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.yaml").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/pyproject.toml").write_text('[project]\nname = "schedule-zero"\n')
    assert state_dir.default(tmp_path / "a", {}) == tmp_path / "a/var"
    assert state_dir.default(tmp_path / "b", {}) == tmp_path / "b/var"


def test_elsewhere_it_is_the_users_xdg_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert state_dir.default(tmp_path, {}) == tmp_path / "state/schedule-zero"


def test_the_environment_says_where(tmp_path):
    assert state_dir.default(tmp_path, {"SCHEDULE_ZERO_STATE_DIR": "x"}) == tmp_path / "x"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_its_owner_alone(tmp_path):
    path = state_dir.prepare(tmp_path / "deep/var")
    assert mode(path) == 0o700
    (path / "file").touch()
    assert state_dir.prepare(path) == path


def test_an_empty_one_is_tightened_and_a_full_one_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "var"
    path.mkdir(mode=0o755)
    state_dir.prepare(path)
    assert mode(path) == 0o700
    (path / "file").touch()
    path.chmod(0o750)
    with pytest.raises(ConfigError) as raised:
        state_dir.prepare(path)
    assert raised.value.hint == f"chmod 700 {path}"
    assert mode(path) == 0o750


def test_a_file_in_its_place_is_an_error(tmp_path):
    (tmp_path / "var").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        state_dir.prepare(tmp_path / "var")


def test_a_private_file_is_replaced_whole(tmp_path):
    path = tmp_path / "secret"
    state_dir.write_private(path, b"one")
    state_dir.write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_what_the_server_left_is_found_and_rubbish_is_nothing(tmp_path):
    assert state_dir.read_admin_token(tmp_path) is None
    assert state_dir.read_server_json(tmp_path) is None
    (tmp_path / state_dir.ADMIN_TOKEN).write_text("sz_abc\n")
    (tmp_path / state_dir.SERVER_JSON).write_text('{"url": "http://127.0.0.1:1"}')
    assert state_dir.read_admin_token(tmp_path) == "sz_abc"
    assert state_dir.read_server_json(tmp_path) == {"url": "http://127.0.0.1:1"}
    (tmp_path / state_dir.SERVER_JSON).write_text("[")
    assert state_dir.read_server_json(tmp_path) is None
