"""The embedded server as its clients see it: start it or join it, and let go."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from northstar_core.model.errors import StoreError
from northstar_core.store.cluster import SOCKET_NAME, Cluster, Lock, binaries, is_locked

PATIENCE_S = 150.0  #: a first start creates a cluster; a start after a crash may have to recover
SSL_REQUEST = struct.pack(">ii", 8, 80877103)  #: the one question of the protocol that needs no user


class Server:
    """A share in an embedded Postgres server: it lives while anybody holds one.

    Any number of processes may share one server. The last to let go, or to die, ends it.

    Parameters
    ----------
    home
        Northstar's folder; the server lives in ``home/postgres``.

    Raises
    ------
    StoreError
        If the server cannot be started: no space, no permission, no binaries, another version's data.
    """

    def __init__(self, home: Path) -> None:
        self.cluster = Cluster(home.absolute() / "postgres")
        self.cluster.make_folder()
        self._share: Lock | None = None
        self.ensure()

    @property
    def socket_folder(self) -> Path:
        """Where clients connect."""
        return self.cluster.socket_folder

    def ensure(self) -> None:
        """Start the server if it does not run, for example because somebody killed it."""
        bin_folder, deadline = binaries(), time.monotonic() + PATIENCE_S
        # one at a time: whoever holds this lock knows that nobody else starts a supervisor
        start = Lock.take(self.cluster.start_lock, wait_s=PATIENCE_S)
        if start is None:
            raise StoreError(f"{self.cluster.folder}: another process has been starting it for {PATIENCE_S:.0f} s")
        try:
            if self._share is None:  # a supervisor that is stopping holds it until it has ended
                self._share = Lock.take(self.cluster.client_lock, shared=True, wait_s=PATIENCE_S)
            if self._share is None:
                raise StoreError(f"{self.cluster.folder}: the server has been stopping for {PATIENCE_S:.0f} s")
            while time.monotonic() < deadline:
                if not is_locked(self.cluster.server_lock):
                    self._spawn(bin_folder)
                    break
                if self._answers():
                    break
                time.sleep(0.01)  # its supervisor is starting it, or dying
            else:
                raise StoreError(f"{self.cluster.folder}: the server does not answer (log: {self.cluster.log})")
            self.cluster.check_socket_folder(
                self.cluster.socket_folder, {self.cluster.data.stat().st_uid, os.geteuid()}
            )
        except BaseException:
            self.close()
            raise
        finally:
            start.release()

    def _answers(self) -> bool:
        """Whether Postgres answers on the socket. A dying server may take a connection, but says nothing."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(self.socket_folder / SOCKET_NAME))
                probe.sendall(SSL_REQUEST)
                return probe.recv(1) in (b"N", b"S")
            except OSError:
                return False

    def _spawn(self, bin_folder: Path) -> None:
        """Start a supervisor in a session of its own, where no Ctrl-C reaches it, and wait for its word."""
        root = Path(__file__).resolve().parents[2]
        with self.cluster.log.open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", "northstar_core.store.supervisor", self.cluster.folder, bin_folder],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(root)},
            )
        assert supervisor.stdout is not None
        with supervisor.stdout as stdout:
            word, _, reason = stdout.readline().decode().strip().partition(" ")
        if word != "ready":
            supervisor.wait()
            raise StoreError(reason or f"the server's supervisor ended without a word (log: {self.cluster.log})")
        # it outlives us on purpose: not ours to wait for
        supervisor.returncode = 0

    def close(self) -> None:
        """Let go; if nobody else holds a share, the server stops. A second time does nothing."""
        if self._share is not None:
            self._share.release()
            self._share = None

    def wait_stopped(self, wait_s: float = 60.0) -> bool:
        """Whether the server stopped within this time after everybody let go."""
        lock = Lock.take(self.cluster.server_lock, wait_s=wait_s)
        if lock is None:
            return False
        lock.release()
        return True

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
