from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from schedule_zero.errors import ConfigError, NodeLocked, Unavailable
from schedule_zero.node.identity import Identity
from schedule_zero.node.settings import load_curve


def test_each_start_counts_one_epoch_and_keeps_the_secret(tmp_path: Path) -> None:
    first = Identity.take(tmp_path, "n1")
    first.release()
    second = Identity.take(tmp_path, "n1")
    second.release()
    assert (first.epoch, second.epoch) == (1, 2)
    assert first.state_key == second.state_key
    assert first.instance != second.instance
    assert stat.S_IMODE((first.folder / "state_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(first.folder.stat().st_mode) == 0o700


def test_two_nodes_of_one_state_directory_are_strangers(tmp_path: Path) -> None:
    one, two = Identity.take(tmp_path, "n1"), Identity.take(tmp_path, "n2")
    assert one.state_key != two.state_key
    assert one.epoch == two.epoch == 1
    one.release()
    two.release()


def test_a_second_process_with_the_same_folder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    held = Identity.take(tmp_path, "n1")
    with pytest.raises(NodeLocked, match=f"process {os.getpid()}") as caught:
        Identity.take(tmp_path, "n1")
    assert caught.value.exit_code == 4
    held.release()
    held.release()
    Identity.take(tmp_path, "n1").release()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from schedule_zero.node.identity import Identity; "
        "Identity.take(Path(sys.argv[1]), 'n1'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    identity = Identity.take(tmp_path, "n1")
    assert identity.epoch == 2
    identity.release()


def test_a_forked_child_of_a_job_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from schedule_zero.node.identity import Identity\n"
        "Identity.take(Path(sys.argv[1]), 'n1')\n"
        "if os.fork() == 0: print(os.getpid(), flush=True); sys.stdout.close(); os.close(1); time.sleep(60)\n"
        "os._exit(0)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, check=True)
    try:
        Identity.take(tmp_path, "n1").release()
    finally:
        os.kill(int(child.stdout), 9)


@pytest.mark.parametrize("node_id", ["a/b", "..:x", "x@host:1", "9." + "y" * 100])
def test_any_valid_node_id_is_one_folder(tmp_path: Path, node_id: str) -> None:
    identity = Identity.take(tmp_path, node_id)
    assert identity.folder.parent == tmp_path / "nodes"
    identity.release()


@pytest.mark.parametrize("text", ["", "x", "-1", "99999999999", "²", "9" * 5000])
def test_a_damaged_epoch_is_named_rather_than_guessed(tmp_path: Path, text: str) -> None:
    Identity.take(tmp_path, "n1").release()
    (tmp_path / "nodes" / "n1" / "epoch").write_text(text)
    with pytest.raises(ConfigError, match="epoch must hold a whole number"):
        Identity.take(tmp_path, "n1")
    (tmp_path / "nodes" / "n1" / "epoch").write_text("41")
    identity = Identity.take(tmp_path, "n1")
    assert identity.epoch == 42
    identity.release()


def test_a_state_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state directory"):
        Identity.take(tmp_path / "file", "n1")


def test_keys_are_read_from_their_files(tmp_path: Path) -> None:
    public, secret = tmp_path / "server.public", tmp_path / "n1.secret"
    public.write_text("p" * 40 + "\n")
    secret.write_text("s" * 40)
    assert load_curve(public, secret) == (b"p" * 40, b"s" * 40)
    secret.write_text("short")
    with pytest.raises(ConfigError, match="40 characters"):
        load_curve(public, secret)
    with pytest.raises(ConfigError, match="can't be read"):
        load_curve(tmp_path / "nothing", secret)


def test_a_full_disk_is_no_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """78 would be: systemd doesn't start the node again after that."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Unavailable, match="No space left on device") as caught:
            Identity.take(tmp_path, "n1")
    assert caught.value.exit_code == 5
    Identity.take(tmp_path, "n1").release()


@pytest.mark.parametrize("text", ["", "short", "x" * 65, "0123456789abcdef\x00", "0123456789äbcdef"])
def test_a_damaged_secret_is_named_rather_than_used(tmp_path: Path, text: str) -> None:
    Identity.take(tmp_path, "n1").release()
    (tmp_path / "nodes" / "n1" / "state_key").write_text(text)
    with pytest.raises(ConfigError, match="state_key is damaged"):
        Identity.take(tmp_path, "n1")
