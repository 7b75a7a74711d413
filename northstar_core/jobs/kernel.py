"""A kernel process of our own: started early, without our secrets, unreachable for others, gone with its parent.

The connection is a set of Unix sockets in a folder that only this user can enter, encrypted with CurveZMQ on top; stock
kernels listen on TCP ports that every local user can read. The process leads its own session, so that one signal
reaches its children too, and a terminal's Ctrl-C reaches only us.

The start needs no event loop and none of the heavy imports: start a kernel first, import papermill while it boots.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from northstar_core.jobs.redaction import is_secret_name
from northstar_core.model.errors import NotebookError, SettingsError

#: What a kernel inherits; everything else stays with us, above all NORTHSTAR_DATABASE_URL and broker keys.
INHERITED = frozenset(
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TERM VIRTUAL_ENV CONDA_PREFIX LD_LIBRARY_PATH SSL_CERT_FILE"
    " SSL_CERT_DIR MPLBACKEND OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS POLARS_MAX_THREADS"
    " ARROW_DEFAULT_MEMORY_POOL NORTHSTAR_RUN_SPEC".split()
)
_PREFIX = "northstar-kernel-"
INHERITED_PREFIXES = ("LC_", "PYTHON")
#: A person's start-up file has no place in a run that must be repeatable.
NEVER = frozenset({"PYTHONSTARTUP", "PYTHONINSPECT", "NORTHSTAR_DATABASE_URL"})


def kernel_environment(extra: Mapping[str, str], inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a kernel's whole environment: the allowed part of ours, then ``extra``.

    Raises
    ------
    SettingsError
        If ``extra`` holds something that a kernel must never hold.
    """
    for name in extra:
        if name in NEVER or is_secret_name(name):
            raise SettingsError(f"{name} may not be given to a kernel, where cells could read it")
    source = os.environ if inherited is None else inherited
    environment = {
        name: value
        for name, value in source.items()
        if (name in INHERITED or name.startswith(INHERITED_PREFIXES)) and name not in NEVER and not is_secret_name(name)
    }
    # Figures travel as their JSON; the default renderer would add 4.6 MB of script to the first one.
    environment["PLOTLY_RENDERER"] = "plotly_mimetype"
    return environment | dict(extra)


class Kernel:
    """A running kernel process and how to reach it.

    The kernel dies with the thread that started it (Linux delivers the parent-death signal per thread), so start it in
    a thread that outlives the run.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], folder: Path, connection: dict[str, str | int], lock: IO[bytes]
    ) -> None:
        self.process, self.folder, self.connection, self._lock = process, folder, connection, lock

    @classmethod
    def start(cls, cwd: Path, env: Mapping[str, str]) -> Kernel:
        """Start a kernel in folder ``cwd`` with exactly the environment ``env`` (see ``kernel_environment``)."""
        import zmq

        _remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_temporary()))  # mode 0700
        lock = _lock(folder)
        try:
            connection: dict[str, str | int] = {
                "transport": "ipc",
                "ip": str(folder / "k"),
                "key": secrets.token_hex(32),
                "signature_scheme": "hmac-sha256",
                "kernel_name": "northstar",
            }
            connection |= {f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin", "hb", "control"), 1)}
            public, secret = zmq.curve_keypair()
            connection |= {"curve_publickey": public.decode(), "curve_secretkey": secret.decode()}
            file = folder / "connection.json"
            file.touch(mode=0o600)
            file.write_text(json.dumps(connection))
            with open(folder / "kernel.log", "wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "northstar_core.jobs.kernel_main", str(os.getpid()), str(file)],
                    cwd=cwd,
                    env={**env, "IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": import_path(env)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # where ipykernel says how to connect to it
                    stderr=log,
                    start_new_session=True,
                )
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()
            if isinstance(error, OSError):
                raise NotebookError(f"a kernel cannot be started in {cwd}: {error.strerror or error}") from None
            raise
        return cls(process, folder, connection, lock)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running cell."""
        if self.alive:
            self.process.send_signal(signal.SIGINT)

    def close(self, patience_s: float = 0.0) -> None:
        """End the process and all its children, and remove its folder; waits ``patience_s`` for it to end by itself."""
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # also what the kernel left behind
        except ProcessLookupError:
            pass
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cause_of_death(self) -> str:
        """Say how the process ended, with the last line it wrote to its own stderr."""
        code = self.process.poll()
        if code is None:
            return "the kernel is running"
        if code < 0:
            name = signal.Signals(-code).name
            how = f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        else:
            how = f"ended with exit code {code} (os._exit, or a library that ends the process)"
        try:
            lines = (self.folder / "kernel.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"the kernel {how}" + (f"; its last words: {lines[-1][:200]}" if lines else "")


def _temporary() -> str:
    """Return where sockets may live: a Unix socket's path may have no more than 107 bytes (103 on macOS)."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) < 70 else "/tmp"


def _lock(folder: Path) -> IO[bytes]:
    """Mark a folder as in use for as long as this process lives."""
    file = open(folder / "lock.new", "wb")  # held open until the kernel is closed
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(folder / "lock.new", folder / "lock")  # locked before a sweeper can find it
    return file


def _remove_abandoned() -> None:
    """Remove the folders of kernels whose parent was killed before it could."""
    for folder in Path(_temporary()).glob(_PREFIX + "*"):
        try:
            with open(folder / "lock", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, being made, or somebody else's


def import_path(env: Mapping[str, str]) -> str:
    """Return a PYTHONPATH that ends with where this very package was imported from, installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(part for part in (env.get("PYTHONPATH", ""), root) if part)
