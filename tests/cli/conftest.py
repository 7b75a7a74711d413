"""The command line as a person uses it, over a real store; notebooks and a small market to run."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from northstar_core.cli.main import main
from northstar_core.store.postgres import Database
from northstar_core.store.reader import Reader, RunRow
from tests.cli.shell import HEADER, PARAMETERS, RUN, STRATEGY, Ran, Recorded, finished, rows


@pytest.fixture(scope="session")
def home(database: Database) -> Path:
    """Northstar's folder, with the session's server in it."""
    assert database.server is not None
    return database.server.cluster.folder.parent


@pytest.fixture(autouse=True)
def at_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "home" in request.fixturenames:
        monkeypatch.setenv("NORTHSTAR_HOME", str(request.getfixturevalue("home")))


@pytest.fixture(scope="session")
def northstar() -> Callable[..., Ran]:
    """Run a command in this process."""

    def run(*arguments: object) -> Ran:
        out, err, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
        try:
            sys.argv = ["northstar", *map(str, arguments)]
            with redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            sys.argv = argv
        return Ran(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def start(home: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command in a process of its own."""

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "northstar_core.cli.main", *map(str, arguments)]
        environment = {**os.environ, "NORTHSTAR_HOME": str(options.pop("home", home))}
        root = Path(__file__).resolve().parents[2]
        return subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    return start


@pytest.fixture(scope="session")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a notebook with that strategy; ``trouble`` is what it does on a bar, ``cells`` are more (tag, source)."""

    def write(
        trouble: str = "", *, strategy: str = STRATEGY, run: str = RUN, drop: Sequence[str] = (),
        cells: Sequence[tuple[str, str]] = (), folder: Path | None = None,
    ) -> Path:  # fmt: skip
        if trouble:
            body = "".join(f"        {line}\n" for line in trouble.strip().splitlines())
            strategy = strategy.replace("(self, bar):\n        pass\n", f"(self, bar):\n{body}")
        report = ("report", "run.trades.tail()")
        tagged = [("parameters", PARAMETERS), ("strategy", strategy), ("run", run), report, *cells]
        document = {
            "cells": [
                {
                    "id": f"cell-{n}", "cell_type": "code", "metadata": {"tags": [tag]}, "source": source,
                    "outputs": [], "execution_count": None,
                }
                for n, (tag, source) in enumerate(tagged)
                if tag not in drop
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }  # fmt: skip
        path = (folder or tmp_path_factory.mktemp("notebooks")) / "cross.ipynb"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One session of minute bars of SPY in the flat-file layout."""
    path = tmp_path_factory.mktemp("market") / "2023-08-03.csv"
    path.write_text("\n".join([HEADER, *rows()]) + "\n")
    return path


@pytest.fixture(scope="session")
def recorded(
    start: Callable[..., subprocess.Popen[str]], notebook: Callable[..., Path], market: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Recorded:  # fmt: skip
    """One run, started as a person starts it; its notebook and its folder have spaces in their names."""
    folder = tmp_path_factory.mktemp("with space") / "my strategies"
    folder.mkdir()
    path = notebook(folder=folder)
    arguments = ["-p", "fast", "4", "-p", "qty", "50", "--cash", "50000.50", "--data", market]
    ran = finished(start("backtest", path, *arguments, "--out", folder / "out here", "--json"))
    assert ran.code == 0, ran.err
    return Recorded(ran.json["run_id"], path, ran.json, ran)


@pytest.fixture
def registered(database: Database) -> Callable[[str], RunRow]:
    """What the registry says of a run."""

    def read(run_id: str) -> RunRow:
        async def ask() -> RunRow:
            async with await Reader.open(database) as reader:
                return await reader.run(run_id)

        return asyncio.run(ask())

    return read
