"""The embedded server starts once, is shared, dies with its last user, and hurts nobody."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from northstar_core.model.errors import StoreError
from northstar_core.store import supervisor
from northstar_core.store.cluster import Lock, binaries, is_locked, processes_in
from northstar_core.store.postgres import Database, Role, head_revision, open_database
from northstar_core.store.server import Server
from northstar_core.store.unix_user import server_user

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """
import sys
from pathlib import Path
from northstar_core.store.server import Server
server = Server(Path(sys.argv[1]))
print("up", flush=True)
sys.stdin.read()
server.close()
"""


@contextmanager
def client(home: Path, *prefix: str, code: str = CLIENT) -> Iterator[subprocess.Popen[str]]:
    """Another process that shares the server until its standard input ends."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), str(home)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        word = process.stdout.readline().strip()
        assert word == "up", process.stderr.read()
        yield process
    finally:
        process.communicate(timeout=60)


def ask(server: Server, query: str = "SELECT 42") -> object:
    async def act() -> object:
        connection = await asyncpg.connect(f"postgresql://northstar_admin@/postgres?host={server.socket_folder}")
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(act())


def postmaster(server: Server) -> int:
    return int((server.cluster.data / "postmaster.pid").read_text().split()[0])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: object, wait_s: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)  # the other process has no way to tell us


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    lock = tmp_path / "home" / "postgres" / "server.lock"
    if lock.exists():
        found = Lock.take(lock, wait_s=60)
        assert found is not None, "a server was left behind"
        found.release()


def test_the_last_client_to_leave_ends_the_server(home: Path) -> None:
    with client(home) as other:
        with Server(home) as server:
            assert ask(server) == 42
            first = postmaster(server)
        assert is_locked(server.cluster.server_lock)
        with Server(home) as again:
            assert postmaster(again) == first
        assert other.poll() is None
    assert server.wait_stopped()
    assert processes_in(server.cluster.data) == []


def test_a_killed_client_is_no_longer_counted(home: Path) -> None:
    server = Server(home)
    with client(home) as other:
        server.close()
        assert is_locked(server.cluster.server_lock)
        other.kill()
    assert server.wait_stopped()


def test_many_processes_that_start_at_once_share_one_server(home: Path) -> None:
    code = CLIENT.replace('print("up"', 'print("up", (server.cluster.data / "postmaster.pid").read_text().split()[0]')
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home)], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]  # fmt: skip
    words = [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        process.communicate(timeout=60)
    assert len(set(words)) == 1 and words[0].startswith("up ")


def test_killed_supervisor_takes_postgres_along_and_the_next_client_starts_anew(home: Path) -> None:
    with Server(home) as server:
        ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
        old = postmaster(server)
        os.kill(parent(old), signal.SIGKILL)
        wait_for(lambda: not is_locked(server.cluster.server_lock))
        with Server(home) as again:
            assert ask(again, "SELECT n FROM kept") == 7
            assert postmaster(again) != old
    assert server.wait_stopped()


def test_a_client_that_stayed_can_bring_a_killed_server_back(home: Path) -> None:
    with Server(home) as server:
        os.kill(postmaster(server), signal.SIGKILL)
        wait_for(lambda: not is_locked(server.cluster.server_lock))
        server.ensure()
        assert ask(server) == 42


def test_a_server_that_dies_as_one_joins_is_started_again(home: Path) -> None:
    async def act() -> None:
        async with open_database(home) as database:
            assert database.server is not None
            os.kill(parent(postmaster(database.server)), signal.SIGKILL)
            connection = await database.connect(Role.READER)
            assert await connection.fetchval("SELECT count(*) FROM northstar.runs") == 0
            await connection.close()

    asyncio.run(act())


def test_everything_killed_at_once_loses_no_commit(home: Path) -> None:
    with client(home) as other:
        server = Server(home)
        ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
        old = postmaster(server)
        for pid in (parent(old), *processes_in(server.cluster.data), other.pid):
            os.kill(pid, signal.SIGKILL)
        server.close()
    with Server(home) as again:
        assert ask(again, "SELECT n FROM kept") == 7


def test_a_stale_pid_file_that_names_a_living_stranger_hurts_nobody(home: Path) -> None:
    with Server(home) as server:
        paths = (server.cluster.data / "postmaster.pid", server.socket_folder / ".s.PGSQL.5432.lock")
        files = {path: path.read_text() for path in paths}
    assert server.wait_stopped()
    owner = server.cluster.data.stat()
    code = "import time; print('up', flush=True); time.sleep(600)"
    stranger = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert stranger.stdout is not None and stranger.stdout.readline() == b"up\n"
        for path, was in files.items():
            path.write_text("\n".join([str(stranger.pid), *was.split("\n")[1:]]))
            os.chown(path, owner.st_uid, owner.st_gid)
        with Server(home) as again:
            assert ask(again) == 42
            assert stranger.poll() is None
        assert again.wait_stopped()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_creation_that_was_cut_off_is_cleared_and_repeated(home: Path) -> None:
    (home / "postgres" / "data.new-1" / "base").mkdir(parents=True)
    with Server(home) as server:
        assert ask(server) == 42
    assert not (home / "postgres" / "data.new-1").exists()


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    with Server(tmp_path / ("deep" * 20) / "dir, with a comma") as server:
        assert str(server.socket_folder).startswith("/tmp/northstar-")
        assert server.socket_folder.stat().st_mode & 0o777 == 0o700
        assert ask(server) == 42
    assert server.wait_stopped()
    assert not server.socket_folder.exists()


def test_nobody_else_may_enter_data_or_socket_and_there_is_no_network(home: Path) -> None:
    with Server(home) as server:
        for folder in (server.cluster.data, server.socket_folder):
            assert folder.stat().st_mode & 0o077 == 0
            assert folder.stat().st_uid != 0
        assert ask(server, "SHOW listen_addresses") == ""
        environment = Path(f"/proc/{postmaster(server)}/environ").read_bytes()
        assert b"PYTHONPATH" not in environment and b"HOME" not in environment
    assert server.wait_stopped()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that only root may enter")
def test_root_may_keep_its_home_to_itself(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with Server(private / "home") as server:
        uid = server.cluster.data.stat().st_uid
        assert uid != 0
        with pytest.raises(KeyError):  # its files are nobody else's
            pwd.getpwuid(uid)
        status = Path(f"/proc/{postmaster(server)}/status").read_text()
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
        assert "CapEff:\t0000000000000004" in status  # may enter and read; nothing else
        assert ask(server) == 42
    assert server.wait_stopped()
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become others")
@pytest.mark.parametrize("uid", [65534, 54321], ids=["nobody", "a uid without a name"])
def test_a_plain_user_runs_its_own_server(tmp_path: Path, uid: int) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder == tmp_path or folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, uid, uid)
    # the interpreter itself may lie in root's home: the capability to read it does not help to write
    plain = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=+dac_read_search",
             "--ambient-caps=+dac_read_search")  # fmt: skip
    with client(home, *plain):
        assert (home / "postgres" / "data").stat().st_uid == uid
        with Server(home) as server:  # root joins, and the server stays who it is
            assert ask(server) == 42
    assert server.wait_stopped()


def test_a_folder_that_cannot_be_used_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*Not a directory.*NORTHSTAR_HOME") as refusal:
        Server(tmp_path / "file")
    assert "\n" not in str(refusal.value)
    (tmp_path / "home" / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "home" / "postgres" / "data" / "precious").write_text("")
    with pytest.raises(StoreError, match="is no Postgres cluster"):
        Server(tmp_path / "home")
    assert (tmp_path / "home" / "postgres" / "data" / "precious").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("options, reason", [("ro", "Read-only file system"), ("size=4m", "No space left on device")])
def test_a_full_disk_and_a_read_only_one_give_one_line(tmp_path: Path, options: str, reason: str) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with pytest.raises(StoreError, match=reason) as refusal:
            Server(folder / "home")
        assert "\n" not in str(refusal.value)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_data_of_another_version_are_left_alone(home: Path) -> None:
    with Server(home) as server:
        pass
    assert server.wait_stopped()
    (server.cluster.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(StoreError, match=r"made by Postgres 9, the installed server is \d+"):
        Server(home)


# ── the database on it ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_may_forget_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    with Server(home) as server:
        pass
    assert server.wait_stopped()
    cluster = server.cluster
    monkeypatch.setitem(supervisor.SETTINGS, setting, "off")
    user = server_user(cluster.folder, cluster.data, binaries())
    forgetful = supervisor.start(cluster, user, binaries())

    async def act() -> None:
        async with open_database(url=f"postgresql://northstar_admin@/postgres?host={cluster.socket_folder}"):
            pass

    try:
        with pytest.raises(StoreError, match=f"could lose orders it has confirmed: {setting} is off"):
            asyncio.run(act())
    finally:
        forgetful.send_signal(signal.SIGINT)
        forgetful.wait()


def test_any_other_server_works_by_dsn_with_roles_taken_on(database: Database) -> None:
    async def act() -> None:
        async with open_database(url=database.dsn(Role.ADMIN)) as other:
            assert other.server is None
            for role in (Role.GATEWAY, Role.RUN_WRITER, Role.READER):
                connection = await other.connect(role)
                assert await connection.fetchval("SELECT current_user") == role
                await connection.close()

    asyncio.run(act())


def test_a_new_database_by_dsn_is_migrated(database: Database) -> None:
    async def act() -> None:
        admin = await database.connect(Role.ADMIN)
        await admin.execute("CREATE ROLE tenant LOGIN CREATEROLE")
        await admin.execute("DROP DATABASE IF EXISTS tenant")
        await admin.execute("CREATE DATABASE tenant OWNER tenant")
        # roles belong to the server: whoever migrates a second database must be let into them
        for role in ("owner", "gateway", "run_writer", "reader"):
            await admin.execute(f"GRANT northstar_{role} TO tenant WITH ADMIN OPTION")
        await admin.close()
        assert database.server is not None
        url = f"postgresql://tenant@/tenant?host={database.server.socket_folder}"
        async with open_database(url=url) as other:
            connection = await other.connect(Role.READER)
            assert await connection.fetchval("SELECT count(*) FROM northstar.runs") == 0
            await connection.close()

    asyncio.run(act())


def test_an_unreachable_server_gives_one_line_without_the_password() -> None:
    async def act() -> None:
        async with open_database(url="postgresql://me:secret@127.0.0.1:1/none"):
            pass

    with pytest.raises(StoreError, match=r"database at 127\.0\.0\.1:1/none: .*NORTHSTAR_DATABASE_URL") as error:
        asyncio.run(act())
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_a_newer_schema_is_refused(database: Database) -> None:
    async def act() -> None:
        connection = await database.connect(Role.ADMIN)
        await connection.execute("UPDATE northstar.alembic_version SET version_num = '9999'")
        try:
            with pytest.raises(StoreError, match="has schema 9999, this version knows"):
                async with open_database(url=database.dsn(Role.ADMIN)):
                    pass
        finally:
            await connection.execute("UPDATE northstar.alembic_version SET version_num = $1", head_revision())
            await connection.close()

    asyncio.run(act())


def test_alembic_from_a_shell_finds_the_same_head(database: Database) -> None:
    alembic = Path(sys.executable).with_name("alembic")
    environment = {**os.environ, "NORTHSTAR_DATABASE_URL": database.dsn(Role.ADMIN), "PYTHONPATH": str(ROOT)}
    for command in ("upgrade head", "current"):
        answer = subprocess.run(
            [alembic, *command.split()], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [head_revision(), "(head)"]


def test_the_supervisor_needs_nothing_but_the_standard_library() -> None:
    code = "import northstar_core.store.supervisor, sys; assert not {'asyncpg', 'msgspec'} & set(sys.modules)"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True)
