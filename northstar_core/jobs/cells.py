"""Execute a notebook's cells in a kernel, keep truthful evidence after each.

nbclient speaks to the kernel; what it does not do is done here: notice a dead kernel at once, stop when asked, bound
and clean outputs, save atomically, and say in the notebook itself how each cell and the whole ended.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode, from_dict
from nbformat import v4 as format4

from northstar_core.jobs.files import write_atomically
from northstar_core.jobs.kernel import Kernel
from northstar_core.jobs.notebook import INJECTED, ROLES, cell_name
from northstar_core.jobs.outputs import OUTPUTS_LIMIT, TRACEBACK_LIMIT, Budget, settle
from northstar_core.jobs.redaction import Redactor
from northstar_core.model.errors import NotebookError

Outcome = Literal["completed", "failed", "interrupted", "kernel-died"]

#: How long a cell has, after an interrupt, to leave its partial results.
GRACE_S = 0.7
#: How often a stop, a dead kernel and the progress file are looked for.
POLL_S = 0.05
START_TIMEOUT_S = 60.0

_NO_EXIT = "a cell may not end its kernel; raise an exception to fail, or let the last cell end"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"Cell In\[(\d+)\], line (\d+)")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: at a cell, and how far that cell's own work is, if it says so."""

    cell: int  #: of those to execute, from 1
    cells: int
    name: str  #: ``cell 5 [run]``
    done: int | None = None
    total: int | None = None
    unit: str = ""
    note: str = ""


class Stopped(Exception):
    """Somebody asked the run to stop."""


class _Client(NotebookClient):
    """nbclient with bounded outputs."""

    budget: Budget
    reply: dict[str, Any]  #: the content of the last execute_reply

    @property
    def asked_to_exit(self) -> bool:
        return any(payload.get("source") == "ask_exit" for payload in self.reply.get("payload", ()))

    def output(self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        content = msg["content"]
        full = len(outs) >= OUTPUTS_LIMIT
        if msg["msg_type"] == "stream":
            last = outs[-1] if outs and not self.clear_before_next_output else None
            joined = last is not None and last.output_type == "stream" and last.name == content["name"]
            text = self.budget.admit_text(content["text"], full and not joined)
            if not text:
                return None
            if last is not None and joined:
                last.text += text
                return last
            content["text"] = text
        elif msg["msg_type"] in ("display_data", "execute_result") and not self.budget.admit_rich(content["data"], full):
            return None
        return super().output(outs, msg, display_id, cell_index)

    def handle_comm_msg(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Ignore widgets: nobody watches, and each live figure would leave 5 MB of state in the notebook."""


class CellRun:
    """One headless execution of a notebook.

    Parameters
    ----------
    document
        The notebook to execute, parameters injected; changed in place, so that it ends as the executed notebook.
    label
        How messages name the notebook.
    metadata
        What is known of the run beforehand; becomes ``metadata.northstar`` of the executed notebook.
    research
        Also execute untagged cells.
    """

    def __init__(
        self,
        document: NotebookNode,
        *,
        kernel: Kernel,
        label: str,
        output: Path | None,
        metadata: Callable[[], Mapping[str, Any]],
        redactor: Redactor,
        research: bool = False,
        progress_file: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.document, self.kernel, self.label, self.output = document, kernel, label, output
        self.metadata, self.redactor, self.research = metadata, redactor, research
        self.progress_file, self.on_progress, self.stop = progress_file, on_progress, stop
        self.outcome: Outcome | Literal["running"] = "running"
        self.error: str | None = None
        self.timings: dict[str, float] = {}
        self._numbers: dict[int, str] = {}  # execution count → cell name
        self._sources = {i: redactor.text(cell.source) for i, cell in enumerate(document.cells)}
        self._facts: dict[str, Any] = {}
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._last_seen: Progress | None = None
        self._running: Budget | None = None  # of the cell that runs

    # ------------------------------------------------------------------------------------------------- the walk

    async def run(self) -> Outcome:
        """Execute the cells; always leaves a saved notebook that says how it ended."""
        plan = self._plan()
        facts = asyncio.ensure_future(asyncio.to_thread(self.metadata))
        client = _Client(self.document, iopub_timeout=60, raise_on_iopub_timeout=False, store_widget_state=False)
        client.kc = self._connect()
        self._watcher = asyncio.ensure_future(self._watch())
        try:
            await self._while_alive(self._ready(client.kc))
            self.timings["kernel_ready"] = time.perf_counter() - self._clock
            self._facts = dict(await facts)
            self._save()
            for position, index in enumerate(plan, 1):
                if self._wanted(index):
                    await self._execute(client, index, Progress(position, len(plan), self._name(index)))
                else:
                    self.document.cells[index].metadata["northstar"]["status"] = "skipped"
            self.outcome = "completed"
            await self._ask_to_leave(client.kc)
        except Stopped:
            self.outcome = "interrupted"
            self.error = self.error or f"{self.label}: stopped before its first cell"
        except DeadKernelError:
            self.outcome = "kernel-died"
            self.error = self.error or f"{self.label}: no cell was executed: {self._cause()}"
        except CellExecutionError:
            self.outcome = "failed"  # self.error tells
        finally:
            self._watcher.cancel()
            if self.outcome == "running":  # an error of ours, or of a caller's callback
                self.outcome, self.error = "failed", self.error or f"{self.label}: the run itself failed"
            if not self._facts:
                with suppress(Exception):
                    self._facts = dict(await facts)
            self.error = self.error and self.redactor.text(self.error)
            self._save()
            client.kc.stop_channels()
        return self.outcome

    def _plan(self) -> list[int]:
        """Mark every cell, clear what an earlier run left, and return the indices of those to execute."""
        plan = []
        for index, cell in enumerate(self.document.cells):
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            tags = cell.metadata.get("tags", [])
            runs = bool(cell.source.strip()) and self._planned(tags)
            cell.metadata["northstar"] = {"status": "pending" if runs else "skipped"}
            if runs:
                plan.append(index)
        return plan

    def _planned(self, tags: list[str]) -> bool:
        """Whether a cell with these tags is one to execute."""
        headless = self.research or any(tag in ROLES or tag == INJECTED for tag in tags)
        return headless and "on-stop" not in tags

    def _wanted(self, index: int) -> bool:
        """Whether a planned cell is still to be executed, as its turn comes."""
        return True

    def _budget(self) -> Budget:
        """Return a cell's allowance of outputs."""
        return Budget()

    async def _execute(self, client: _Client, index: int, progress: Progress) -> None:
        cell, name = self.document.cells[index], self._name(index)
        mark = cell.metadata["northstar"]
        mark["status"], started = "running", time.perf_counter()
        self._running = client.budget = self._budget()
        client.reply = {}
        client.on_cell_executed = lambda execute_reply, **_: client.reply.update(execute_reply["content"])
        self._report(progress)
        reporter = asyncio.ensure_future(self._report_from_file(progress))
        try:
            await self._while_alive(client.async_execute_cell(cell, index), interruptible=True)
            if client.asked_to_exit:
                self.error = f"{self.label}: {name}: called exit(): {_NO_EXIT}"
                raise CellExecutionError("", "exit", "")
            mark["status"] = "completed"
        except CellExecutionError:
            mark["status"] = "failed"
            self.error = self.error or self._failure(cell, name, client)
            raise
        except Stopped:
            mark["status"] = "interrupted"
            self.error = f"{self.label}: {name} was interrupted; what it had done is kept"
            raise
        except DeadKernelError:
            mark["status"] = "kernel-died"
            self.error = f"{self.label}: {name}: {self._cause()}"
            raise
        finally:
            reporter.cancel()
            mark["seconds"] = round(time.perf_counter() - started, 6)
            self.timings[name] = mark["seconds"]
            if cell.execution_count:
                self._numbers[cell.execution_count] = name
            cell.outputs, self._running = self._tidied(cell, client.budget), None
            if mark["status"] == "completed":
                self._save()

    async def _while_alive(self, work: Awaitable[Any], interruptible: bool = False) -> None:
        """Await ``work``, but no longer than the kernel lives and nobody asks to stop."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self._stopping and interruptible:
                await self._end_cell(task)
            elif not task.done():
                await asyncio.wait({task}, timeout=2 * POLL_S)  # what a dying kernel had sent
            if self._stopping:
                raise Stopped
            if not task.done():
                raise DeadKernelError("Kernel died")
            task.result()
        finally:
            if not task.done():
                task.cancel()
            with suppress(BaseException):
                await asyncio.wait_for(task, 0.2)

    async def _end_cell(self, task: asyncio.Future[Any]) -> None:
        """A stop was asked for: let the cell end, with what it has."""
        self.kernel.interrupt()
        await asyncio.wait({task}, timeout=GRACE_S)

    def _cause(self) -> str:
        """Say why the kernel is no more."""
        return self.kernel.cause_of_death()

    @property
    def _stopping(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    async def _watch(self) -> None:
        """Return when the kernel has died or a stop was asked for."""
        while self.kernel.alive and not self._stopping:
            await asyncio.sleep(POLL_S)

    # --------------------------------------------------------------------------------------------- the connection

    def _connect(self) -> AsyncKernelClient:
        client = AsyncKernelClient()
        client.load_connection_info(self.kernel.connection)  # type: ignore[arg-type]  # a dict of the same keys
        # No heartbeat (we watch the process) and no stdin (input() fails in the cell instead of waiting for nobody).
        client.start_channels(shell=True, iopub=True, stdin=False, hb=False, control=True)
        client.allow_stdin = False
        return client

    async def _ready(self, client: AsyncKernelClient) -> None:
        """Wait until the kernel answers and its output channel reaches us; nothing printed is lost afterwards."""
        deadline = time.monotonic() + START_TIMEOUT_S
        answered = heard = False
        while time.monotonic() < deadline:
            client.kernel_info()
            with suppress(Exception):  # queue.Empty: not there yet
                while not answered:
                    answered = (await client.get_shell_msg(timeout=0.2))["msg_type"] == "kernel_info_reply"
            with suppress(Exception):
                while not heard:
                    heard = bool(await client.get_iopub_msg(timeout=0.2))
            if answered and heard:
                return
        raise DeadKernelError("the kernel did not answer")

    async def _ask_to_leave(self, client: AsyncKernelClient) -> None:
        """Let the kernel end by itself, so that its exit handlers run."""
        client.control_channel.send(client.session.msg("shutdown_request", {"restart": False}))
        with suppress(Exception):  # queue.Empty: it will be killed
            await client.get_control_msg(timeout=1.0)  # closing the channel sooner could lose the request

    # ---------------------------------------------------------------------------------------------- what is kept

    def _failure(self, cell: NotebookNode, name: str, client: _Client) -> str:
        """Return one line: notebook, cell, line, exception; and the cell it came from, if that is another."""
        content = client.reply
        trace = _ANSI.sub("", "\n".join(content.get("traceback", ())))
        self._numbers[content.get("execution_count") or cell.execution_count or 0] = name
        places: list[str] = []
        for count, line in _FRAME.findall(trace):
            place = f"{self._numbers.get(int(count), name)}, line {line}"
            if not places or places[-1] != place:
                places.append(place)
        first = next((place for place in places if place.startswith(name)), name)
        where = first if not places or places[-1].startswith(name) else f"{first} → {places[-1]}"
        if places and places[-1].startswith(name):
            where = places[-1]
        kind = content.get("ename", "error")
        lines = str(content.get("evalue", "")).strip().splitlines()
        text = (lines[0][:400] if lines else "").removeprefix("[Errno 0] ")
        if kind == "SystemExit":
            return f"{self.label}: {where}: called sys.exit({text}): {_NO_EXIT}"
        return f"{self.label}: {where}: {kind}{': ' + text if text else ''}"

    def _tidied(self, cell: NotebookNode, budget: Budget) -> list[NotebookNode]:
        """Return a cell's outputs as they are kept: settled, bounded, without secrets."""
        outputs = [NotebookNode(output) for output in cell.outputs]
        for output in outputs:
            if output.output_type == "stream":
                output.text = settle(output.text)
            elif output.output_type == "error":
                trace = "\n".join(output.traceback)
                if len(trace) > TRACEBACK_LIMIT:
                    half = TRACEBACK_LIMIT // 2
                    output.traceback = [trace[:half], "[traceback cut]", trace[-half:]]
        for name, text in budget.closing():
            outputs.append(format4.new_output("stream", name=name, text=text))
        return [from_dict(self.redactor.tree(output)) for output in outputs]

    def _save(self) -> None:
        """Write the notebook as it stands to its place, whole or not at all."""
        ended = datetime.now(UTC)
        seconds = round(time.perf_counter() - self._clock, 6)
        for cell in self.document.cells:
            mark = cell.metadata.get("northstar", {})
            if self.outcome != "running" and mark.get("status") == "pending":
                mark["status"] = "not-run"
        facts = {"outcome": self.outcome, "error": self.error, **self._facts}
        facts |= {"started": self._started.isoformat(), "ended": ended.isoformat(), "seconds": seconds}
        metadata = self.redactor.tree({**self.document.metadata, "northstar": facts})
        metadata["northstar"]["redacted"] = self.redactor.removed
        if isinstance(metadata.get("papermill"), dict):
            metadata["papermill"] |= {"start_time": facts["started"], "end_time": facts["ended"], "duration": seconds}
            metadata["papermill"]["exception"] = None if self.outcome in ("completed", "running") else True
        self.document.metadata["northstar"] = from_dict(metadata["northstar"])
        if self.output is None:
            return
        cells = [NotebookNode({**cell, "source": self._sources[i]}) for i, cell in enumerate(self.document.cells)]
        for cell in cells:
            if self._running is not None and cell.metadata.get("northstar", {}).get("status") == "running":
                cell["outputs"] = self._tidied(cell, self._running)
        kept = NotebookNode({**self.document, "cells": cells, "metadata": metadata})
        content = format4.writes(kept).encode("utf-8", "replace") + b"\n"
        try:
            write_atomically(self.output, content)
        except OSError as error:
            raise NotebookError(f"{self.output}: cannot be written ({error.strerror}); the run stopped there") from None

    # ------------------------------------------------------------------------------------------------- progress

    def _name(self, index: int) -> str:
        """Return the cell's name as in the file the author has: papermill's own cell is not counted."""
        cells = self.document.cells
        tags = cells[index].metadata.get("tags", [])
        if INJECTED in tags:
            return f"the injected cell [{INJECTED}]"
        return cell_name(index + 1 - sum(INJECTED in c.metadata.get("tags", []) for c in cells[:index]), tags)

    def _report(self, progress: Progress) -> None:
        if self.on_progress is not None and progress != self._last_seen:
            self._last_seen = progress
            self.on_progress(progress)

    async def _report_from_file(self, progress: Progress) -> None:
        """Pass on what the kernel writes to the progress file: ``{"done": 1200, "total": 100000, "unit": "bars"}``."""
        if self.on_progress is None or self.progress_file is None:
            return
        while True:
            await asyncio.sleep(2 * POLL_S)
            try:
                said = json.loads(self.progress_file.read_bytes())
                said = {key: said[key] for key in ("done", "total", "unit", "note") if key in said}
                found = replace(progress, **said)
            except (OSError, ValueError, TypeError):
                continue  # not there yet, or just being written
            self._report(found)
