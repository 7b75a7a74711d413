"""How commands word times."""

from __future__ import annotations

from datetime import UTC, datetime


def clock_time(ts: int | None) -> str:
    """Return a time, ns UTC, as a person reads it: UTC to the second; a dash where there is none."""
    return "-" if not ts else f"{datetime.fromtimestamp(ts // 10**9, UTC):%Y-%m-%d %H:%M:%S}Z"


def ago(ts: int | None, now: int) -> str:
    """Return how long before ``now`` a time was; "never" where there is none."""
    if not ts:
        return "never"
    seconds = (now - ts) / 1e9
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
