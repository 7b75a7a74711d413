"""The kernel's own process: ``python -m northstar_core.jobs.kernel_main PARENT_PID CONNECTION_FILE``.

ipykernel with a few changes. It dies with its parent at once, even while C code holds the interpreter lock. It reads
nobody's start-up files and keeps no history. And an interrupt reaches blocking code in a cell that also awaits: stock
ipykernel cancels such a cell's task at its next ``await``, which a loop over a million bars may not have. And it
reaches a cell that only waits: ipykernel 7 queues the cancellation in a loop that nothing wakes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent goes; leave at once if it has gone already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that asked for this kernel has gone")


def in_cell(frame: FrameType | None) -> bool:
    """Whether a cell's code is on this stack, so that KeyboardInterrupt would surface in it and nowhere else."""
    while frame:
        if frame.f_code.co_name == "run_code" and frame.f_code.co_filename.endswith("interactiveshell.py"):
            return True
        frame = frame.f_back
    return False


def import_what_runs_need() -> None:
    """Import what every run imports while the launcher imports its own: two seconds that nobody waits for."""
    with suppress(Exception):  # what is wrong will be said again in the cell that needs it
        import exchange_calendars  # noqa: F401
        import pandas  # noqa: F401

        import northstar_core.client.run
        import northstar_core.data.history  # noqa: F401


def main() -> None:
    parent, connection_file = int(sys.argv[1]), sys.argv[2]
    die_with(parent)
    # ``-m`` put the notebook's folder first; its files must not shadow modules that the kernel itself needs. IPython
    # adds the folder again for the cells.
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

    from northstar_core.jobs.lean import defer_slow_imports

    defer_slow_imports()
    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp

    class NorthstarKernel(IPythonKernel):
        """Raises KeyboardInterrupt where the cell is, or cancels the cell's task if it is waiting."""

        @contextmanager
        def _cancel_on_sigint(self, future: Any) -> Iterator[None]:
            with super()._cancel_on_sigint(future):
                cancel = signal.getsignal(signal.SIGINT)

                def interrupt(number: int, frame: FrameType | None) -> None:
                    if in_cell(frame):
                        raise KeyboardInterrupt
                    if callable(cancel):
                        cancel(number, frame)
                    # It queued the cancellation in a loop that is asleep, and a signal alone does not end its sleep.
                    asyncio.get_running_loop().call_soon_threadsafe(lambda: None)

                signal.signal(signal.SIGINT, interrupt)
                yield

    if "NORTHSTAR_RUN_SPEC" in os.environ or "NORTHSTAR_SESSION" in os.environ:
        import_what_runs_need()
    IPKernelApp.launch_instance(
        argv=[f"--f={connection_file}", "--HistoryManager.enabled=False", "--IPKernelApp.log_level=ERROR"],
        kernel_class=NorthstarKernel,
    )


if __name__ == "__main__":
    main()
