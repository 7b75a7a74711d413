"""What a run leaves on disk while it runs: its journal, line by line, how far it is, and a summary at the end.

The kernel holds no database credential: it appends to files in its run directory, and the launcher carries them into
the store.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from northstar_core.model.errors import JournalError
from northstar_core.model.events import OrderDenied
from northstar_core.model.journal import Journal
from northstar_core.research.backtest import Progress
from northstar_core.research.result import Result
from northstar_core.research.spec import JOURNAL_FILE, PROGRESS_FILE, SUMMARY_FILE


class Evidence:
    """Appends a run's journal to ``journal.log``; a line is written whole or not at all."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder = folder
        self.journal = journal
        self._written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / JOURNAL_FILE).open("wb")
        except OSError as error:
            raise JournalError(f"{folder}: the journal cannot be written there: {error.strerror}") from None

    def keep(self, progress: Progress) -> None:
        """Append what is new, and say how far the run is."""
        self._append()
        text = json.dumps({"done": progress.rows, "total": progress.total, "unit": "rows"})
        beside = self.folder / f".{PROGRESS_FILE}"
        try:
            beside.write_text(text)
            os.replace(beside, self.folder / PROGRESS_FILE)
        except OSError as error:
            raise JournalError(f"{self.folder}: progress cannot be written: {error.strerror}") from None

    def _append(self) -> None:
        lines = self.journal.lines(self._written)
        if lines:
            try:
                self._file.write(b"\n".join(lines) + b"\n")
                self._file.flush()
            except OSError as error:
                raise JournalError(f"{self._file.name}: the journal cannot be written: {error.strerror}") from None
            self._written += len(lines)

    def close(self, result: Result, *, load_s: float) -> None:
        """Append the rest of the journal, and beside it what the run came to, finished or not."""
        self._append()
        self._file.close()
        text = json.dumps(summary(result, load_s=load_s), indent=1)
        try:
            (self.folder / SUMMARY_FILE).write_text(text)
        except OSError as error:
            raise JournalError(f"{self.folder / SUMMARY_FILE}: cannot be written: {error.strerror}") from None


def summary(result: Result, *, load_s: float = 0.0) -> dict[str, Any]:
    """Return what a run came to, with money as decimal strings and times as ISO 8601."""
    metrics = {name: None if value != value else value for name, value in result.metrics.items()}
    return {
        "strategies": [s.strategy_id for s in result.strategies],
        "outcome": result.outcome,
        "detail": result.detail,
        "bars": result.bars,
        "rows": result.rows,
        "orders": len(result.orders),
        "denied": _denied(result),
        "fills": len(result.fill_events),
        "trades": len(result.round_trips),
        "cash": str(result.cash),
        "final_equity": str(result.final_equity),
        "pnl": str(result.pnl),
        "fees": str(result.fees),
        "metrics": metrics,
        "limits": result.limits.name,
        "assumptions": result.assumptions,
        "journal_sha256": result.digest,
        "seconds": {"load": load_s, "run": result.seconds},
        "data": [
            {"source": s.name, "layout": s.layout, "sha256": s.sha256, "rows": s.rows} for s in result.tape.sources
        ],
        "symbols": list(result.tape.symbols),
        "start": _iso(result.journal.records[0].ts),
        "end": _iso(result.journal.records[-1].ts),
    }


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).isoformat()


def _denied(result: Result) -> dict[str, int]:
    """How many orders were refused, by reason."""
    return dict(
        Counter(str(record.event.reason) for record in result.journal.records if isinstance(record.event, OrderDenied))
    )
