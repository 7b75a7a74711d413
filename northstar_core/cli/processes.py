"""The desk's processes: started detached, known by a lock that dies with them, stopped by asking first.

Each has a file ``run/NAME.lock`` in the home, whose lock it inherits and holds for as long as it lives, however it ends; what the file says
(pid, since when) is believed only while the lock is held. Nothing is ever signalled that does not hold its lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from northstar_core.gateway.files import private_folder
from northstar_core.model.errors import NorthstarError

LOOK_S = 0.05
START_S = 120.0


class ProcessError(NorthstarError):
    """A process of the desk did not start, is there already, or does not end."""


class DeskProcess:
    """One of the desk's processes, by its name: "gateway", "worker"."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.lock = home / "run" / f"{name}.lock"
        self.out = home / "logs" / f"{name}.out"  #: what it prints
        self.err = home / "logs" / f"{name}.err"  #: what it says when it cannot start, or dies
        self.child: subprocess.Popen[bytes] | None = None

    def facts(self) -> dict[str, Any] | None:
        """Return what is known of the process if it lives: pid, since, config; None where it does not."""
        try:
            descriptor = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _try_lock(descriptor):
                return None
            facts: dict[str, Any] = {}
            with suppress(ValueError):  # it is being started at this moment
                facts = json.loads(os.read(descriptor, 65_536) or b"{}")
            return facts
        finally:
            os.close(descriptor)

    @property
    def pid(self) -> int:
        """The process's number while it lives; 0 where it does not, or is being started."""
        return int((self.facts() or {}).get("pid", 0))

    def start(self, module: str, config: Path, extra: tuple[str, ...] = ()) -> int:
        """Start ``python -m module --config … --home …`` in a session of its own, and return its pid.

        Raises
        ------
        ProcessError
            If one of this name lives.
        """
        from northstar_core.jobs.kernel import import_path

        for folder in (self.home, self.lock.parent, self.out.parent):
            private_folder(folder)
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _try_lock(descriptor):
                facts = self.facts() or {}
                raise ProcessError(
                    f"the {self.name} is up already, pid {facts.get('pid', 'not known yet')}; northstar down stops the desk"
                )
            os.ftruncate(descriptor, 0)
            with open(self.out, "wb", opener=_private) as out, open(self.err, "wb", opener=_private) as err:
                self.child = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, "--config", str(config), "--home", str(self.home), *extra],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, pass_fds=(descriptor,),
                    cwd=self.home, env={**os.environ, "PYTHONPATH": import_path(os.environ)},
                )  # fmt: skip
            facts = {"pid": self.child.pid, "since": time.time_ns(), "config": str(config)}
            os.pwrite(descriptor, json.dumps(facts).encode(), 0)
            return self.child.pid
        finally:
            os.close(descriptor)

    def wait_ready(self, patience_s: float = START_S) -> dict[str, Any]:
        """Return what the process says when it is ready: its first line of JSON.

        Raises
        ------
        ProcessError
            If it ends before, with its own words, or takes too long.
        """
        deadline = time.monotonic() + patience_s
        while True:
            ended = self.child.poll() is not None if self.child is not None else self.facts() is None
            for line in self.out.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict) and said.get("ready"):
                        return said
            if ended:
                raise ProcessError(self.last_words())
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"the {self.name} is not ready after {patience_s:.0f} s; see {self.err} and {self.home / 'logs'}"
                )
            time.sleep(LOOK_S)

    def last_words(self) -> str:
        """Return the last line the process said on stderr."""
        lines = [line for line in self.err.read_text(errors="replace").splitlines() if line.strip()]
        words = lines[-1].strip() if lines else "it said nothing"
        return f"the {self.name} did not start: {words.removeprefix(f'northstar {self.name}: ')}"

    def stop(self, patience_s: float, ask: Callable[[], object] | None = None) -> bool:
        """Ask the process to end (``ask``, else SIGTERM) and wait until it has; returns whether it lived.

        Raises
        ------
        ProcessError
            If it is still there after ``patience_s``.
        """
        if self.facts() is None:
            self.lock.unlink(missing_ok=True)
            return False
        asked = False
        if ask is not None:
            with suppress(NorthstarError):
                ask()
                asked = True
        if not asked:
            self._signal(signal.SIGTERM)
        if not self.wait_gone(patience_s):
            raise ProcessError(
                f"the {self.name} (pid {self.pid}) does not end in {patience_s:.0f} s; northstar down --force kills it"
            )
        self.lock.unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)
        self.wait_gone(10.0)

    def wait_gone(self, patience_s: float) -> bool:
        """Wait until the process lives no more; returns whether that is so."""
        deadline = time.monotonic() + patience_s
        while self.facts() is not None:
            if self.child is not None:
                self.child.poll()  # a zombie holds no lock, but is ours to bury
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        if self.child is not None:
            self.child.wait()
        return True

    def _signal(self, number: int) -> None:
        deadline = time.monotonic() + 5.0
        while not (pid := self.pid) and self.facts() is not None and time.monotonic() < deadline:
            time.sleep(LOOK_S)  # between its lock and its pid
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
