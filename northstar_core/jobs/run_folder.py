"""A run's folder: its name, and what is in it when the run has ended."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.jobs.engine import Executed
from northstar_core.jobs.notebook import Notebook, code_hashes
from northstar_core.model.errors import SettingsError
from northstar_core.research.spec import SUMMARY_FILE, RunSpec


def absolute(spec: RunSpec) -> RunSpec:
    """Return the spec with data paths that hold also in the kernel's folder.

    Raises
    ------
    SettingsError
        If a path leads nowhere.
    """
    paths = []
    for path in spec.data:
        full = Path(path).expanduser().absolute()
        if not full.exists() and not glob.glob(str(full), recursive=True):
            raise SettingsError(f"--data {path}: there is no such file or folder")
        paths.append(str(full))
    actions = spec.actions
    if actions is not None:
        full = Path(actions).expanduser().absolute()
        if not full.is_file():
            raise SettingsError(f"--actions {actions}: there is no such file")
        actions = str(full)
    return msgspec.structs.replace(spec, data=tuple(paths), actions=actions)


def run_name(book: Notebook, strategy: Any, parameters: Mapping[str, Any], spec: RunSpec) -> str:
    """Return a name derived from what is run: the strategy, and a digest of its code, parameters and wiring."""
    what = json.dumps([book.code_sha256, dict(parameters), msgspec.to_builtins(spec)], sort_keys=True, default=str)
    name = strategy.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", strategy.__name__).lower()
    return f"{re.sub(r'[^a-z0-9_]', '_', name.lower())[:24]}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def new_folder(parent: Path, name: str) -> Path:
    """Make the run's own folder; runs of the same thing are counted.

    Raises
    ------
    SettingsError
        If it cannot be made.
    """
    n = 1
    while True:
        folder = parent.absolute() / f"{name}-{n}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise SettingsError(f"{folder}: in the way is a file; choose another folder with --out") from None
            n += 1
        except OSError as error:
            raise SettingsError(
                f"{folder}: cannot be made: {os.strerror(error.errno or 0)}; choose another folder with --out"
            ) from None


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what the kernel left; empty where the run did not get that far."""
    try:
        found: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_bytes())
        return found
    except (OSError, ValueError):
        return {}


def report_of(
    run_id: str, book: Notebook, parameters: Mapping[str, Any], summary: dict[str, Any], executed: Executed
) -> dict[str, Any]:
    """Return the run's report; nulls where the run did not get that far."""
    sources = summary.get("data", [])
    names, digests = ([s[key] for s in sources] for key in ("source", "sha256"))
    return {
        "run_id": run_id,
        "notebook": str(book.path),
        "notebook_sha256": book.code_sha256,
        "code_cells": code_hashes(book),
        "parameters": dict(parameters),
        "outcome": executed.outcome,
        "error": executed.error,
        "strategies": summary.get("strategies"),
        "data": {
            "source": ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
            "rows": sum(s["rows"] for s in sources),
            "sha256": digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
            "start": summary.get("start"),
            "end": summary.get("end"),
            "symbols": summary.get("symbols"),
            "files": sources,
        } if summary else None,
        **{key: summary.get(key) for key in (
            "bars", "rows", "orders", "denied", "fills", "trades", "cash", "final_equity", "pnl", "fees", "metrics",
            "limits", "assumptions", "journal_sha256",
        )},
        "executed_notebook": str(executed.executed_notebook) if executed.executed_notebook.is_file() else None,
        "report_html": None,
        "timings": {},
    }  # fmt: skip
