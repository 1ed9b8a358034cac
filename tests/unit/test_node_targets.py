from __future__ import annotations

from pathlib import Path

import pytest

from schedule_zero.errors import InvalidHandler
from schedule_zero.node.methods import describe
from schedule_zero.node.targets import load_targets

HANDLER = """
from schedule_zero import BaseHandler

class {name}(BaseHandler):
    handler_id = "{id}"

    def run(self):
        return "{id}"
"""


def write(folder: Path, file: str, text: str) -> str:
    path = folder / file
    path.write_text(text)
    return str(path)


def test_a_file_a_folder_and_a_class_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, "one.py", HANDLER.format(name="One", id="one"))
    write(tmp_path, "two.py", HANDLER.format(name="Two", id="two"))
    assert [h.handler_id for h in load_targets([str(tmp_path)])] == ["one", "two"]
    assert [h.handler_id for h in load_targets([str(tmp_path / "two.py")])] == ["two"]
    assert [h.handler_id for h in load_targets(["schedule_zero.handlers.demo:DemoHandler"])] == ["demo"]


def test_the_same_handler_named_twice_is_loaded_once(tmp_path: Path) -> None:
    write(tmp_path, "again.py", HANDLER.format(name="Again", id="again"))
    assert len(load_targets([str(tmp_path), str(tmp_path / "again.py")])) == 1


def test_a_folder_skips_private_files_base_classes_and_imported_classes(tmp_path: Path) -> None:
    write(tmp_path, "_private.py", "raise RuntimeError('must not be imported')")
    write(
        tmp_path,
        "base_of_test.py",
        "from schedule_zero import BaseHandler\nclass Base(BaseHandler):\n    def run(self): ...\n",
    )
    write(
        tmp_path,
        "real_of_test.py",
        "from base_of_test import Base\nclass Real(Base):\n    handler_id = 'real'\nclass _Hidden(Real): ...\n",
    )
    # The base class is imported twice, under the folder's name and by its neighbour; neither is a handler.
    with pytest.raises(InvalidHandler, match="has no handler_id"):
        [describe(handler) for handler in load_targets([str(tmp_path)])]
    (tmp_path / "base_of_test.py").rename(tmp_path / "_base_of_test.py")
    write(
        tmp_path,
        "real_of_test.py",
        "from _base_of_test import Base\nclass Real2(Base):\n    handler_id = 'real'\nclass _Hidden(Real2): ...\n",
    )
    (tmp_path / "real_of_test.py").rename(tmp_path / "real2_of_test.py")
    assert [h.handler_id for h in load_targets([str(tmp_path)])] == ["real"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_thing", "neither a file nor a folder that exists, nor module:Class"),
        ("missing.py", "no file missing.py"),
        ("no_such_module_at_all:Thing", "no module 'no_such_module_at_all'"),
        ("json:loads", "not a handler"),
        ("json:Nothing", "has no 'Nothing'"),
        (":", "neither a file"),
    ],
)
def test_a_wrong_target_says_what_was_expected_and_what_came(target: str, said: str) -> None:
    with pytest.raises(InvalidHandler, match=said) as caught:
        load_targets([target])
    assert caught.value.exit_code == 2


def test_no_target_at_all_is_an_error() -> None:
    with pytest.raises(InvalidHandler, match="no target"):
        load_targets([])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:", "SyntaxError"),
        ("import no_such_dependency_x", "no_such_dependency_x"),
        ("x = 1", "defines no handler"),
        ("from schedule_zero import BaseHandler\nclass H(BaseHandler):\n  def run(self): ...", None),
        (HANDLER.format(name="H", id="h") + "    def __init__(self, x): ...", "without arguments"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, said: str | None) -> None:
    path = write(tmp_path, "broken.py", text)
    if said is None:
        [handler] = load_targets([path])
        with pytest.raises(InvalidHandler, match="has no handler_id"):
            describe(handler)
        return
    with pytest.raises(InvalidHandler, match=said):
        load_targets([path])


def test_two_handlers_with_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.py", HANDLER.format(name="A", id="same"))
    write(tmp_path, "b.py", HANDLER.format(name="B", id="same"))
    with pytest.raises(InvalidHandler, match="'same' is used twice"):
        load_targets([str(tmp_path)])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "_only.py", "")
    with pytest.raises(InvalidHandler, match="no Python files"):
        load_targets([str(tmp_path)])


def test_the_examples_load_from_their_folder() -> None:
    folder = Path(__file__).parents[2] / "handlers"
    handlers = {handler.handler_id: handler for handler in load_targets([str(folder)])}
    assert "demo" in handlers
    demo = {method.name: method.declaration for method in describe(handlers["demo"])}
    assert list(demo) == ["hello", "add", "sleep", "fail", "flaky", "echo", "noop"]
    assert demo["flaky"].options.max_attempts == 5


def test_the_chaos_handler_has_its_vocabulary() -> None:
    [handler] = load_targets(["schedule_zero.testbed.chaos:ChaosHandler"])
    chaos = [method.name for method in describe(handler)]
    assert {"ok", "error", "sleep", "exit", "hang", "big", "log", "oom", "segfault", "spin"} <= set(chaos)
