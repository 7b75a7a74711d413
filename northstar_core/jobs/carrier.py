"""Carries a run's journal from its run directory into the event store while the run goes on.

The kernel appends lines to ``journal.log``; a thread of ours reads what is new and hands it to the store's writer. So
the kernel needs no credential, the store works while the strategy does, and if either dies the other keeps what it has.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from northstar_core.model.errors import NorthstarError, StoreError
from northstar_core.store.events import EventWriter, NewRun
from northstar_core.store.postgres import Database, open_database

POLL_S = 0.02
ABANDON_S = 0.3
READ_BYTES = 4 << 20


class Carrier:
    """One run's way into the store.

    Parameters
    ----------
    home
        Northstar's folder; None for the default.
    run
        What the registry says of the run.
    journal
        The file the kernel appends to; need not exist yet.
    on_failure
        Called once, in the carrier's thread, when the store cannot go on: the run has to stop.
    """

    def __init__(self, home: Path | None, run: NewRun, journal: Path, on_failure: Callable[[], None]) -> None:
        self.run = run
        self.journal = journal
        self.error: NorthstarError | None = None
        self.head = b""
        self.events = 0
        self.wait_s = 0.0  #: how long the run's end had to wait for the store
        self._home = home
        self._on_failure = on_failure
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._status: tuple[str, dict[str, Any]] = ("failed", {})
        self._thread = threading.Thread(target=self._main, name="journal-carrier", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    @property
    def run_id(self) -> str:
        """The id under which the store has the run: the one asked for, or counted on from it where that was taken."""
        return self.run.run_id

    def wait_ready(self) -> None:
        """Wait until the run is registered.

        Raises
        ------
        NorthstarError
            If the store cannot be opened or has the run already.
        """
        self._ready.wait()
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        """Record that the run was stopped before it began, unless that takes long: nobody waits for it."""
        self._status = "stopped", {}
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(ABANDON_S)

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """Carry the rest, record how the run ended, and wait until all of it is durable.

        Raises
        ------
        NorthstarError
            If it could not be written; what was committed is whole.
        """
        started = time.perf_counter()
        self._status = status, summary
        self._ended.set()
        self._thread.join()
        self.wait_s = time.perf_counter() - started
        if self.error is not None:
            raise self.error

    def _main(self) -> None:
        try:
            asyncio.run(self._carry())
        except NorthstarError as error:
            self.error = error
        except Exception as error:  # a failure of ours must stop the run too, and say so
            self.error = StoreError(
                f"run {self.run.run_id}: the journal could not be carried into the store: {error!r}"
            )
        if self.error is not None:
            self._on_failure()
        self._ready.set()

    async def _carry(self) -> None:
        async with open_database(self._home) as database, await self._register(database) as writer:
            self._ready.set()
            tail, offset = b"", 0
            while True:
                ended = self._ended.is_set()  # asked before reading, so that nothing written before is missed
                data = _read(self.journal, offset)
                offset += len(data)
                *lines, tail = (tail + data).split(b"\n")
                if lines:
                    self.events += len(lines)
                    await writer.append(lines)
                elif ended:
                    break
                else:
                    writer._raise_failure()
                    await asyncio.sleep(POLL_S)
            status, summary = self._status
            self.head = (await writer.finish(status, summary)).hash

    async def _register(self, database: Database) -> EventWriter:
        """Register the run; its number counts on where another folder's run has the id."""
        while True:
            try:
                return await EventWriter.start(database, self.run)
            except StoreError as error:
                name, _, n = self.run.run_id.rpartition("-")
                if not isinstance(error.__context__, asyncpg.UniqueViolationError) or not n.isdigit():
                    raise
                self.run = msgspec.structs.replace(self.run, run_id=f"{name}-{int(n) + 1}")


def _read(path: Path, offset: int) -> bytes:
    """What is new in a file that grows; nothing while it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(READ_BYTES)
    except FileNotFoundError:
        return b""
