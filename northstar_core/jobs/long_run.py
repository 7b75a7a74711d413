"""A notebook whose run cell lasts for hours: asked to stop in order, noticed when it hangs, saved while it runs.

It executes the cells that a backtest executes, in the same way; what is added is around them. A stop asks the session to end: the run
cell returns by itself, and the ``on-stop`` and ``report`` cells follow. A cell that does not return in its time is interrupted, then
killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from northstar_core.jobs.cells import CellRun
from northstar_core.jobs.notebook import INJECTED, ROLES
from northstar_core.jobs.output_log import OutputLog
from northstar_core.jobs.outputs import Budget, LongBudget
from northstar_core.model.errors import NotebookError

log = logging.getLogger("northstar.jobs")

#: How often the progress file is looked at, seconds.
LOOK_S = 0.5


@dataclass(frozen=True)
class LongRun:
    """What the execution of a run of hours has beyond a backtest's; times are the wall's."""

    ask_to_stop: Callable[[], str | None]  #: asks the session to end; blocks; returns what stood against it, or None
    grace_s: float = 30.0  #: how long the run cell has to return after it was asked to
    interrupt_s: float = 5.0  #: how long it has after an interrupt, before it is killed
    save_s: float = 15.0  #: how often the notebook is saved while a cell runs, if anything was printed
    silent_s: float = 150.0  #: a session that reports no progress for so long hangs; it may wait for a gateway that restarts
    facts: Mapping[str, Any] = field(default_factory=dict)  #: for the executed notebook: account, broker, …
    secrets: tuple[str, ...] = field(default=(), repr=False)  #: values that nothing kept may hold
    output_log: Path | None = None  #: where everything printed goes, bounded


class LongCellRun(CellRun):
    """One execution of a notebook that trades.

    Parameters
    ----------
    long_run
        What is wanted beyond a backtest's execution.
    **options
        As for ``CellRun``.
    """

    def __init__(self, document: Any, *, long_run: LongRun, **options: Any) -> None:
        super().__init__(document, **options)
        self.long_run = long_run
        self.stopped = False  #: the session was asked to end, and ended
        self._handled = False  # the stop has had its effect; what is left of the notebook goes on
        self._role: str | None = None
        self._silence: str | None = None
        self._reported = (0, 0.0)  # when the progress file was written, and when that was seen
        self._log = OutputLog(long_run.output_log, self.redactor) if long_run.output_log else None

    # ------------------------------------------------------------------------------------------------- which cells

    def _planned(self, tags: list[str]) -> bool:
        return any(tag in ROLES or tag == INJECTED for tag in tags)

    def _wanted(self, index: int) -> bool:
        self._role = next((t for t in self.document.cells[index].metadata.get("tags", []) if t in ROLES), None)
        return self._role != "on-stop" or self.stopped

    def _budget(self) -> Budget:
        return LongBudget(self._log.write if self._log else None)

    # ------------------------------------------------------------------------------------------------- a cell

    async def _execute(self, client: Any, index: int, progress: Any) -> None:
        saver = asyncio.ensure_future(self._save_regularly())
        try:
            await super()._execute(client, index, progress)
        finally:
            saver.cancel()
            if self._log is not None:
                self._log.flush()
        if self._role == "run" and self._asked_by_others():
            self.stopped = self._handled = True

    async def _save_regularly(self) -> None:
        saved = 0
        while True:
            await asyncio.sleep(self.long_run.save_s)
            budget = self._running
            if isinstance(budget, LongBudget) and budget.seen != saved:
                saved = budget.seen
                try:
                    self._save()
                except NotebookError as error:  # a full disk ends no session; the last save will say so again
                    log.warning("%s", error)

    def _asked_by_others(self) -> bool:
        """Whether the session ended because somebody else asked the gateway to stop it; the last it reported says so."""
        with suppress(OSError, ValueError, AttributeError):
            if self.progress_file is not None:
                return bool(json.loads(self.progress_file.read_bytes()).get("outcome") == "stopped")
        return False

    # ------------------------------------------------------------------------------------------------- its end

    @property
    def _stopping(self) -> bool:
        return super()._stopping and not self._handled

    async def _watch(self) -> None:
        """Return when the kernel has died, a stop was asked for, or the session reports no progress."""
        watching = asyncio.ensure_future(super()._watch())
        try:
            while not watching.done() and self._silence is None:
                await asyncio.wait({watching}, timeout=LOOK_S)
                self._look()
        finally:
            watching.cancel()

    def _look(self) -> None:
        """See whether the session's own loop still reports; a heartbeat of the kernel's would prove only the process."""
        if self.progress_file is None or self._role != "run":
            return
        with suppress(OSError):
            changed, now = self.progress_file.stat().st_mtime_ns, time.monotonic()
            if changed != self._reported[0]:
                self._reported = changed, now
            age = now - self._reported[1]  # the wall's clock may be set, and a machine may sleep
            if age > self.long_run.silent_s:
                self._silence = f"its session has reported no progress for {age:.0f} s{self._last_number()}: it hangs, and was ended"

    def _last_number(self) -> str:
        with suppress(OSError, ValueError, TypeError, KeyError):
            assert self.progress_file is not None
            return f" (last number handled: {int(json.loads(self.progress_file.read_bytes())['seq'])})"
        return ""

    def _cause(self) -> str:
        if self._silence is not None and self.kernel.alive:
            return self._silence
        return super()._cause()

    async def _end_cell(self, task: asyncio.Future[Any]) -> None:
        """Ask the session to end and let the run cell return; interrupt what does not. Another cell is interrupted at once."""
        if self._role == "run":
            self.stopped = await self._asked(task)
            if task.done() or not self.kernel.alive:
                self._handled = True
                self._watcher = asyncio.ensure_future(self._watch())
                return
        self.kernel.interrupt()
        await self._wait(task, self.long_run.interrupt_s)

    async def _asked(self, task: asyncio.Future[Any]) -> bool:
        """Return whether the run cell returned after the session was asked to end."""
        try:
            refusal = await asyncio.to_thread(self.long_run.ask_to_stop)
        except Exception as error:  # whatever it is, the next rung of the ladder is there
            refusal = f"{type(error).__name__}: {error}"
        if refusal is not None:
            log.warning("%s: the session could not be asked to stop: %s", self.label, refusal)
            return task.done()
        await self._wait(task, self.long_run.grace_s)
        if not task.done() and self.kernel.alive:
            log.warning(
                "%s: did not stop within %g s of being asked; it is interrupted", self.label, self.long_run.grace_s
            )
        return task.done()

    async def _wait(self, task: asyncio.Future[Any], seconds: float) -> None:
        """Wait for a cell, no longer than its kernel lives."""
        deadline = time.monotonic() + seconds
        while not task.done() and self.kernel.alive and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait({task}, timeout=min(left, 0.05))
        if not task.done() and not self.kernel.alive:
            await asyncio.wait({task}, timeout=0.1)  # what a dying kernel had sent
