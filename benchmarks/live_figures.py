"""Figures of the live benchmark: percentiles, the disk's wait, processor time, and how they are printed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all stays within; not a number without any."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return how many there are, and p50, p99 and p99.9 of durations in ns, in ms."""
    found = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {"n": len(found), **{name: round(percentile(found, share) / 1e6, 3) for name, share in shares.items()}}


def fsync_times(folder: Path, times: int) -> list[int]:
    """Return how long it takes to append 512 bytes to a file and to wait until they are on the disk, ns, ``times`` times."""
    path = folder / "fsync"
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            begun = time.perf_counter_ns()
            os.write(descriptor, b"x" * 512)
            os.fsync(descriptor)
            taken.append(time.perf_counter_ns() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return taken


def processor_s(pid: int) -> float:
    """Return the processor seconds that a process's threads have used; 0.0 of one that is gone."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            used += int(thread.read_text().split()[0])
    return used / 1e9


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def load() -> float:
    """Return how many processes wanted the processors, over the last minute."""
    return round(os.getloadavg()[0], 2)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, the first at the left, the others at the right."""
    widths = [max(len(row[n]) for row in rows if n < len(row)) for n in range(max(map(len, rows)))]
    return "\n".join(
        "  ".join(cell.ljust(widths[n]) if n == 0 else cell.rjust(widths[n]) for n, cell in enumerate(row)).rstrip() for row in rows
    )
