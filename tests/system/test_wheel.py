"""What users install: the wheel, built without the network, in a venv that has never seen this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import eventually_sync
from tests.system.processes import BIN, ROOT, Process
from tools import vendor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # One worker builds and installs once for all of these.
    pytest.mark.xdist_group("wheel"),
]

COMMANDS = ["schedule-zero-server", "schedule-zero-handler", "schedule-zero", "schedule-zero-testbed"]


def clean_environment() -> dict[str, str]:
    """No trace of this checkout's venv, and no setting of ours."""
    unwanted = ("VIRTUAL_ENV", "PYTHON", "SCHEDULE_ZERO", "UV_", "COV_", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def uv(*arguments: str, **environment: str) -> None:
    """Run uv from the cache that made this venv; ask the network only where there is no such cache."""
    command = [str(BIN / "uv"), "--quiet", *arguments]
    env = {**clean_environment(), "UV_PYTHON_DOWNLOADS": "never", **environment}
    if "UV_CACHE_DIR" in os.environ:
        env["UV_CACHE_DIR"] = os.environ["UV_CACHE_DIR"]
    if subprocess.run([*command, "--offline"], cwd=ROOT, env=env, capture_output=True).returncode:
        subprocess.run(command, cwd=ROOT, env=env, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    # The locked hatchling of this venv builds it: nothing is fetched for the build.
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def venv_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a clean venv with the wheel and the locked versions of what it needs, no more."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    uv(
        "sync", "--frozen", "--no-dev", "--no-install-project", "--python", sys.executable,
        UV_PROJECT_ENVIRONMENT=str(venv),
    )  # fmt: skip
    uv("pip", "install", "--no-deps", "--python", str(venv / "bin" / "python"), str(wheel))
    return venv / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without config.yaml, handlers or pyproject.toml, and a HOME to go with it."""
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_wheel_carries_the_package_and_its_handlers_and_nothing_beside_it(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"schedule_zero", f"{wheel.name.split('-py3')[0]}.dist-info"}
    for needed in ("py.typed", "handlers/__init__.py", "handlers/demo.py", "testbed/chaos.py", "docs/README.md"):
        assert f"schedule_zero/{needed}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_carries_the_vendored_files_unchanged_with_their_licences(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / vendor.FOLDER.relative_to(ROOT)
    assert vendor.check(folder) == []
    (licences,) = tmp_path.glob("*.dist-info/licenses")
    for package in vendor.read(folder):
        assert (licences / folder.relative_to(tmp_path) / package.folder / "LICENSE").is_file()


def test_the_documentation_comes_along_and_is_found(venv_bin: Path, elsewhere: Path):
    code = (
        "from schedule_zero.web.pages import docs_library, docs_markdown\n"
        "assert docs_library.folder().parent.name == 'schedule_zero', docs_library.folder()\n"
        "print(len(docs_library.names()), docs_markdown.page('reference/api').title)"
    )
    done = subprocess.run([str(venv_bin / "python"), "-c", code], capture_output=True, text=True, timeout=60)
    pages = len(list((ROOT / "docs").rglob("*.md")))
    assert (done.stdout, done.stderr) == (f"{pages} HTTP API\n", "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_the_commands_of_the_wheel_introduce_themselves(venv_bin: Path, elsewhere: Path, command: str, flag: str):
    done = subprocess.run([str(venv_bin / command), flag], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if flag == "--version":
        import schedule_zero

        assert schedule_zero.__version__ in done.stdout
    else:
        assert done.stdout.startswith("Usage:")
        assert command in done.stdout
    assert list(elsewhere.iterdir()) == []


def test_the_wheel_runs_a_job_on_a_node(venv_bin: Path, elsewhere: Path, own: Callable[[Process], Process]):
    state = elsewhere / "state"
    server = own(
        Process(
            [
                str(venv_bin / "schedule-zero-server"),
                "--state-dir",
                str(state),
                "--http",
                "127.0.0.1:0",
                "--zmq",
                "127.0.0.1:0",
            ],
            elsewhere / "server.log",
        )
    )

    def addresses() -> dict[str, str] | None:
        assert server.alive(), server.output()
        path = state / "server.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    at = eventually_sync(addresses, within_s=30)
    node = own(
        Process(
            [
                str(venv_bin / "schedule-zero-handler"), "schedule_zero.handlers.demo:DemoHandler",
                "--server", at["zmq"], "--node-id", "wheel", "--state-dir", str(elsewhere / "node"),
            ],
            elsewhere / "node.log",
        )
    )  # fmt: skip
    environment = {**os.environ, "SCHEDULE_ZERO_STATE_DIR": str(state), "SCHEDULE_ZERO_URL": at["http"]}

    def run() -> str | None:
        assert node.alive(), node.output()
        done = subprocess.run(
            [str(venv_bin / "schedule-zero"), "run", "demo.hello", "name=wheel"],
            capture_output=True, text=True, timeout=60, env=environment,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else None

    assert "wheel" in eventually_sync(run, within_s=30, every_s=0.2)
    assert node.terminate() == 0, node.output()
    assert server.terminate() == 0, server.output()
