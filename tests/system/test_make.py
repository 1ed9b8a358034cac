"""What ``make`` promises on a machine that has little: clear words, the right exit codes, nothing done twice.

The interpreter, apt and uv are stand-ins here, so that no test installs anything; the real thing runs in CI,
which begins with an empty folder each time.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.processes import ROOT

EX_UNAVAILABLE = 69

FAKE_PYTHON = r"""#!/bin/sh
echo "python $*" >>"$CALLS"
case "$*" in
*"version_info <"*) exit "${TOO_OLD-0}" ;;
*ensurepip*) exit "${NO_ENSUREPIP-0}" ;;
*%d.%d-venv*) echo python3.11-venv ;;
*base_prefix*) echo "/usr 3.11.2" ;;
*"-m venv"*)
    mkdir -p .venv/bin
    touch .venv/pyvenv.cfg
    cp "$0" .venv/bin/python
    printf '#!/bin/sh\necho "uv $*" >>"$CALLS"\n' >.venv/bin/uv
    chmod +x .venv/bin/uv
    ;;
esac
"""
FAKE_APT = '#!/bin/sh\necho "apt-get $*" >>"$CALLS"\n'


class Checkout:
    """A copy of what the bootstrap reads, on a machine whose programs are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.programs = folder / "bin"
        self.calls_file = folder / "calls"
        (self.folder / "tools").mkdir(parents=True)
        self.programs.mkdir()
        for name in ("pyproject.toml", "uv.lock", "tools/uv.txt", "tools/bootstrap.sh", "tools/debian.sh"):
            shutil.copy(ROOT / name, self.folder / name)
        self.program("python3", FAKE_PYTHON)
        self.program("apt-get", FAKE_APT)
        self.user(1000)

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(script)
        path.chmod(0o755)

    def user(self, uid: int) -> None:
        self.program("id", f"#!/bin/sh\necho {uid}\n")

    def bootstrap(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        return subprocess.run(
            ["sh", "tools/bootstrap.sh"],
            cwd=self.folder,
            env={
                **inherited,
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "CALLS": str(self.calls_file),
                **environment,
            },
            capture_output=True,
            text=True,
        )

    def need_from_debian(self) -> subprocess.CompletedProcess[str]:
        """Nothing but the stand-ins is to be found: this machine may have the real one."""
        self.calls_file.write_text("")
        return subprocess.run(
            ["/bin/sh", "tools/debian.sh", "strace", "faketime"],
            cwd=self.folder,
            env={"PATH": str(self.programs), "CALLS": str(self.calls_file)},
            capture_output=True,
            text=True,
        )

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_bootstrap_installs_pinned_tools_and_what_the_lock_says(checkout: Checkout):
    done = checkout.bootstrap()
    assert done.returncode == 0, done.stderr
    assert any(
        "pip install" in call and "--require-hashes" in call and "tools/uv.txt" in call for call in checkout.calls
    )
    syncs = [call for call in checkout.calls if call.startswith("uv sync")]
    assert syncs
    assert all("--frozen" in call for call in syncs)


def test_a_second_bootstrap_installs_nothing_and_asks_nobody(checkout: Checkout):
    checkout.bootstrap()
    done = checkout.bootstrap()
    assert done.returncode == 0
    assert done.stderr == ""
    # It only looks whether the interpreter of .venv still works.
    assert [call for call in checkout.calls if "version_info <" not in call] == []


@pytest.mark.parametrize("changed", ["uv.lock", "pyproject.toml", "tools/uv.txt"])
def test_a_changed_lock_is_installed_into_the_same_venv(checkout: Checkout, changed: str):
    checkout.bootstrap()
    with (checkout.folder / changed).open("a") as file:
        file.write("\n# changed\n")
    checkout.bootstrap()
    assert any(call.startswith("uv sync") for call in checkout.calls)
    assert not any("-m venv" in call for call in checkout.calls)


def test_an_interrupted_bootstrap_is_taken_up_again(checkout: Checkout):
    checkout.bootstrap()
    (checkout.folder / ".venv" / ".stamp").unlink()
    assert checkout.bootstrap().returncode == 0
    assert any(call.startswith("uv sync") for call in checkout.calls)


def test_without_a_venv_module_a_user_is_told_the_exact_apt_line(checkout: Checkout):
    done = checkout.bootstrap(NO_ENSUREPIP="1")
    assert done.returncode == EX_UNAVAILABLE
    assert "apt-get install -y python3.11-venv" in done.stderr
    assert not any(call.startswith("apt-get") for call in checkout.calls)
    assert not (checkout.folder / ".venv").exists()


def test_without_a_venv_module_root_installs_it(checkout: Checkout):
    checkout.user(0)
    # The stand-in for apt installs nothing, so in the end root, too, is told what to do.
    done = checkout.bootstrap(NO_ENSUREPIP="1")
    assert any("apt-get install -y" in call and "python3.11-venv" in call for call in checkout.calls)
    assert done.returncode == EX_UNAVAILABLE


def test_root_gets_what_tests_need_of_debian_and_hears_if_that_fails(checkout: Checkout):
    checkout.user(0)
    checkout.program("apt-get", FAKE_APT + "exit $(test -e broken && echo 1 || echo 0)\n")
    done = checkout.need_from_debian()
    assert (done.returncode, checkout.calls) == (0, ["apt-get install -y -q strace faketime"])

    (checkout.folder / "broken").touch()
    done = checkout.need_from_debian()
    assert done.returncode == EX_UNAVAILABLE
    assert "apt-get install -y strace faketime" in done.stderr


def test_nobody_else_is_given_packages_and_nobody_those_that_he_has(checkout: Checkout):
    assert checkout.need_from_debian().returncode == 0
    assert checkout.calls == []

    checkout.user(0)
    checkout.program("strace", "#!/bin/sh\n")
    assert checkout.need_from_debian().returncode == 0
    assert checkout.calls == ["apt-get install -y -q faketime"]

    checkout.program("faketime", "#!/bin/sh\n")
    assert checkout.need_from_debian().returncode == 0
    assert checkout.calls == []


def test_a_python_that_is_too_old_is_refused_with_what_to_install(checkout: Checkout):
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        checkout.program(name, FAKE_PYTHON)
    done = checkout.bootstrap(TOO_OLD="1")
    assert done.returncode == EX_UNAVAILABLE
    assert "3.11 or newer" in done.stderr
    assert checkout.bootstrap(PYTHON="/nonexistent").returncode == EX_UNAVAILABLE


def test_a_folder_called_venv_that_is_none_is_left_alone(checkout: Checkout):
    (checkout.folder / ".venv").mkdir()
    (checkout.folder / ".venv" / "thesis.tex").touch()
    done = checkout.bootstrap()
    assert done.returncode == 1
    assert (checkout.folder / ".venv" / "thesis.tex").exists()


def test_ci_runs_what_people_run():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    would_run = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    steps = [
        "tools/bootstrap.sh",
        "ruff check",
        "ruff format --check",
        "mypy",
        "lint-imports",
        "gen_docs.py --check",
        "pytest",
    ]
    assert sorted(steps, key=would_run.index) == steps


def test_help_names_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "bench", "bench-quick", "lint", "dev", "doctor", "clean"):
        assert f"make {target} " in shown


def test_the_demo_says_which_address_is_in_use(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / "demo.py", "--http", address, "--state-dir", tmp_path / "var"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == EX_UNAVAILABLE
    assert address in done.stderr
    assert "make demo ARGS=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_finds_a_state_directory_that_others_can_read(tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    command = [
        sys.executable,
        ROOT / "tools" / "doctor.py",
        "--state-dir",
        state,
        "--http",
        "127.0.0.1:0",
        "--zmq",
        "127.0.0.1:0",
    ]
    well = subprocess.run(command, capture_output=True, text=True)
    assert well.returncode == 0, well.stdout + well.stderr
    state.chmod(0o755)
    ill = subprocess.run(command, capture_output=True, text=True)
    assert ill.returncode == 1
    assert f"chmod 700 {state}" in ill.stdout
