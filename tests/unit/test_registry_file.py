from __future__ import annotations

import pytest
import yaml

from schedule_zero.config import HandlerLimits, HandlerRule
from schedule_zero.errors import ConfigError
from schedule_zero.ops.registry_file import RegistryEntry, RegistryFile

DEMO = RegistryEntry(
    handler_id="demo",
    methods=["hello", "add"],
    nodes=["n2", "n1"],
    registered_us=1_700_000_000_000_000,
    updated_us=1_700_000_001_500_000,
    status="Connected",
)


@pytest.fixture
def mirror(tmp_path):
    return tmp_path / "var" / "handler_registry.yaml"


@pytest.fixture
def declarations(tmp_path):
    return tmp_path / "handler_registry.yaml"


@pytest.fixture
def registry(mirror, declarations):
    mirror.parent.mkdir()
    return RegistryFile(mirror, declarations)


def test_without_files_nothing_is_declared(registry):
    assert registry.read() == {}


def test_what_an_operator_declares_is_read(registry, declarations):
    declarations.write_text(
        "billing:\n  allowed_methods: [invoice]\n  limits: {max_running: 4, timeout_s: 60}\nplain:\n"
    )
    assert registry.read() == {
        "billing": HandlerRule(allowed_methods=["invoice"], limits=HandlerLimits(max_running=4, timeout_s=60.0))
    }


def test_the_mirror_shows_what_the_store_knows(registry, mirror, declarations):
    assert registry.write([DEMO])
    assert yaml.safe_load(mirror.read_text()) == {
        "demo": {
            "id": "demo",
            "status": "Connected",
            "methods": ["add", "hello"],
            "nodes": ["n1", "n2"],
            "registered_at": "2023-11-14T22:13:20.000000Z",
            "last_updated": "2023-11-14T22:13:21.500000Z",
        }
    }
    assert not declarations.exists()


def test_the_mirror_is_read_again_without_complaint(registry):
    registry.write([DEMO])
    assert registry.read() == {}


def test_the_same_content_is_not_written_again(registry, mirror):
    registry.write([DEMO])
    before = mirror.stat().st_ino
    registry.write([DEMO])
    assert mirror.stat().st_ino == before


def test_every_error_is_named_with_file_and_line(registry, mirror, declarations):
    declarations.write_text(
        "demo:\n"
        "  allowed_method: [hello]\n"
        "  limits:\n"
        "    max_runing: 4\n"
        "other:\n"
        "  limits:\n"
        "    params_bytes: 10\n"
        "    max_running: lots\n"
        "demo: {}\n"
        "bad id: {}\n"
        "list: [1]\n"
    )
    mirror.write_text("demo:\n  allowed_methods: 7\n")
    with pytest.raises(ConfigError) as raised:
        registry.read()
    assert raised.value.data["problems"] == [
        f"{declarations}:2: demo.allowed_method: unknown key; did you mean allowed_methods?",
        f"{declarations}:4: demo.limits: unknown key `max_runing`; did you mean max_running?",
        f"{declarations}:8: other.limits: max_running: expected `int | null`, got `str`",
        f"{declarations}:9: demo: stands here a second time",
        f"{declarations}:10: bad id: expected a handler id (letters, digits and _.:@/-)",
        f"{declarations}:11: list: expected a mapping of allowed_methods, limits, got a list",
        f"{mirror}:2: demo.allowed_methods: expected `array | null`, got `int`",
    ]


@pytest.mark.parametrize("which", ["mirror", "declarations"])
def test_a_broken_file_is_a_clear_error_and_stays_as_it_is(registry, which, request):
    path = request.getfixturevalue(which)
    broken = "demo:\n  methods: [add\n  status: Connected\n"
    path.write_text(broken)
    with pytest.raises(ConfigError) as raised:
        registry.read()
    assert f"{path}:3:9: not valid YAML" in raised.value.message
    assert raised.value.exit_code == 78
    assert path.read_text() == broken


def test_what_an_operator_adds_to_the_mirror_is_in_force_from_the_next_start_and_stays_in_it(registry, mirror):
    registry.write([DEMO])
    mirror.write_text(mirror.read_text() + "  allowed_methods: [hello]\n")
    again = RegistryFile(mirror)
    assert again.read() == {"demo": HandlerRule(allowed_methods=["hello"])}
    again.write([DEMO])
    assert yaml.safe_load(mirror.read_text())["demo"]["allowed_methods"] == ["hello"]
    assert RegistryFile(mirror).read() == {"demo": HandlerRule(allowed_methods=["hello"])}


def test_a_file_edited_while_the_server_runs_is_kept_aside_with_its_rules_taken_over(registry, mirror):
    registry.read()
    registry.write([DEMO])
    edited = "# my note\nbilling:\n  limits: {max_running: 2}\n"
    mirror.write_text(edited)
    assert registry.write([DEMO])
    assert (mirror.parent / "handler_registry.yaml.edited").read_text() == edited
    assert yaml.safe_load(mirror.read_text())["billing"] == {"limits": {"max_running": 2}}
    assert yaml.safe_load(mirror.read_text())["demo"]["status"] == "Connected"


def test_a_file_that_somebody_broke_while_the_server_runs_is_not_touched_until_it_is_right(registry, mirror):
    registry.write([DEMO])
    mirror.write_text("demo: [\n")
    assert registry.write([DEMO]) is False
    assert mirror.read_text() == "demo: [\n"
    mirror.unlink()
    assert registry.write([DEMO]) is True


def test_one_field_said_differently_in_both_files_is_refused(registry, mirror, declarations):
    declarations.write_text("demo:\n  allowed_methods: [a]\n")
    mirror.write_text("demo:\n  allowed_methods: [b]\n  limits: {max_running: 1}\n")
    with pytest.raises(ConfigError, match=r"demo\.allowed_methods: .* says otherwise"):
        registry.read()
    mirror.write_text("demo:\n  limits: {max_running: 1}\n")
    assert registry.read() == {"demo": HandlerRule(allowed_methods=["a"], limits=HandlerLimits(max_running=1))}


def test_a_mirror_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    assert RegistryFile(tmp_path / "gone" / "handler_registry.yaml").write([DEMO]) is False


def test_declarations_and_mirror_may_be_one_file(tmp_path):
    path = tmp_path / "handler_registry.yaml"
    path.write_text("demo:\n  allowed_methods: [hello]\n")
    registry = RegistryFile(path, path)
    assert registry.read() == {"demo": HandlerRule(allowed_methods=["hello"])}
    registry.write([DEMO])
    assert yaml.safe_load(path.read_text())["demo"]["allowed_methods"] == ["hello"]


def test_a_key_that_nobody_knows_is_not_told_in_full_and_of_many_the_first_are(registry, declarations):
    long = "".join(f"h{number}: {{limits: {{{'x' * 900}: 1}}}}\n" for number in range(300))
    declarations.write_text(long)
    with pytest.raises(ConfigError) as raised:
        registry.read()
    problems = raised.value.data["problems"]
    assert len(problems) == 101
    assert max(map(len, problems)) < 500 + len(str(declarations))
    assert problems[-1] == f"{declarations}:101: and so on: what follows was not looked at"
