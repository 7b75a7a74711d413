"""What ran, said in the executed notebook: hashes, commit, versions, parameters, data."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from northstar_core.jobs.notebook import Notebook, code_hashes

#: Whatever can change a number or a chart.
PACKAGES = (
    "northstar-core",
    "numpy",
    "pandas",
    "pyarrow",
    "msgspec",
    "exchange-calendars",
    "databento",
    "plotly",
    "papermill",
    "nbclient",
    "jupyter-client",
    "ipykernel",
    "ipython",
)


def package_versions() -> dict[str, str]:
    """Return the installed version of each package that can change a result; those not installed are left out."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state(path: Path) -> dict[str, Any] | None:
    """Return the commit that ``path`` lies in, and what differs from it; None outside a repository or without git.

    ``dirty`` tells of any tracked file with changes, ``notebook_dirty`` of this file: changed, or not committed at all.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=path.parent,
                capture_output=True,
                text=True,
                timeout=10,
                stdin=subprocess.DEVNULL,
                # Looking must not take the index lock from a person who commits meanwhile.
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    changes, own = (
        git("status", "--porcelain", "--untracked-files=no"),
        git("status", "--porcelain", "--ignored", "--", path.name),
    )
    return {"commit": commit, "dirty": bool(changes), "notebook_dirty": bool(own)}


def data_manifest(environment: Mapping[str, str]) -> Any:
    """Return what the run specification says of its data (its ``data`` entry), or None."""
    try:
        return json.loads(Path(environment["NORTHSTAR_RUN_SPEC"]).read_bytes()).get("data")
    except (KeyError, OSError, ValueError, AttributeError):
        return None


def provenance(notebook: Notebook, parameters: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of the executed notebook's ``northstar`` metadata that is known before it runs."""
    versions = package_versions()
    return {
        "version": versions.get("northstar-core"),
        "notebook": str(notebook.path),
        "file_sha256": notebook.file_sha256,
        "code_sha256": notebook.code_sha256,
        "code_cells": code_hashes(notebook),
        "strategy_sha256": notebook.strategy_sha256 if len(notebook.tagged("strategy")) == 1 else None,
        "parameters": dict(parameters),
        "data": data_manifest(environment),
        "git": git_state(notebook.path),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
    }
