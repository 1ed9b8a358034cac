"""A real store for every test: a SQLite file, and the same suite again on PostgreSQL where its binaries are."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.store import Store
from tests.support import ManualClock, eventually_sync

POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A throw-away PostgreSQL cluster on a unix socket; skips where there are no binaries or no user to run it."""
    if not (POSTGRES_BIN / "initdb").exists():
        pytest.skip(f"no PostgreSQL binaries in {POSTGRES_BIN} (Debian: apt install postgresql-15)")
    pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    # Not as root, and it dies with the test process, however that ends.
    become = ["setpriv", "--pdeathsig=INT"]
    home = Path(tempfile.mkdtemp(prefix="szpg", dir="/tmp"))
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL doesn't run as root, and there is no user 'postgres'")
        os.chown(home, user.pw_uid, user.pw_gid)
        become += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    initdb = [str(POSTGRES_BIN / "initdb"), "-D", str(home / "data"), "-U", "sz", "--auth=trust", "--no-sync"]
    subprocess.run([*become, *initdb, "--encoding=UTF8"], check=True, capture_output=True, cwd=home, timeout=60)
    settings = {"listen_addresses": "", "unix_socket_directories": home, "fsync": "off", "shared_buffers": "32MB"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [*become, str(POSTGRES_BIN / "postgres"), "-D", str(home / "data"), *options], stderr=log, cwd=home
        )
    url = f"postgresql://sz@/postgres?host={home}"
    try:
        eventually_sync(lambda: _answers(url))
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def postgres_schema(postgres_url: str) -> str:
    """The URL of an empty schema."""
    import psycopg

    schema = f"s{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {schema}")
    return f"{postgres_url}&options=-csearch_path%3D{schema}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_config(request: pytest.FixtureRequest) -> StoreConfig:
    """Where the store is; SQLite in the test's state directory, or a fresh PostgreSQL schema."""
    if request.param == "sqlite":
        return StoreConfig(durability="fast")
    return StoreConfig(url=request.getfixturevalue("postgres_schema"), durability="fast")


@pytest.fixture
async def store(store_config: StoreConfig, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    """An open store on each database in turn."""
    store = Store.open(store_config, tmp_path, clock=clock)
    yield store
    await store.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    """An open store on a SQLite file, for what is about the file or the thread."""
    store = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    yield store
    await store.close()
