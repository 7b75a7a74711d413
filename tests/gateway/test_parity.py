"""The same notebook in process and through socket, session protocol and a papermill kernel, in lockstep: the same bytes."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from northstar_core.data.synthetic import synthesize
from northstar_core.gateway.lockstep import LockstepHost
from northstar_core.jobs.live import run_live
from northstar_core.jobs.notebook import load_strategy
from northstar_core.model import events as e
from northstar_core.model.tape import Tape
from northstar_core.research.backtest import ACCOUNT, Backtest
from northstar_core.strategy.base import Strategy

STRATEGIES = Path(__file__).resolve().parents[2] / "strategies"


class Behind(Backtest):
    """A backtest whose one strategy sits behind a socket."""

    def __init__(self, strategy: Strategy, tape: Tape, socket: Path) -> None:
        super().__init__(strategy, tape)
        session = self._session_label()
        self.place = LockstepHost(socket, strategy, account=ACCOUNT, session=session, cash=self.cash, seq=self.journal.last)
        self.hosts: dict[str, Any] = {strategy.strategy_id: self.place}
        self._listeners = {symbol: [self.place] for symbol, hosts in self._listeners.items() if hosts}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="ns-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("name", "parameters", "options"),
    [
        ("sma_momentum", {"symbols": ["ALFA", "BETA"], "fast": 10, "slow": 30, "band": 0.0005}, None),
        ("put_vertical", {}, "first"),
    ],
)
def test_a_notebook_behind_a_socket_writes_the_bytes_it_writes_in_process(
    short_folder: Path, name: str, parameters: dict[str, Any], options: str | None
) -> None:
    notebook = STRATEGIES / f"{name}.ipynb"
    tape = synthesize(symbols=("ALFA", "BETA") if options is None else ("ALFA",), days=2, seed=9, options_on=options)
    kind = load_strategy(notebook)
    from northstar_core.jobs.notebook import Notebook
    from northstar_core.jobs.notebook import parameters as defaults

    given = {**defaults(Notebook.read(notebook)), **parameters}
    in_process = Backtest(kind(**given), tape)
    in_process.run()

    behind = Behind(kind(**given), tape, short_folder / "s")
    report: dict[str, Any] = {}
    runner = threading.Thread(
        target=lambda: report.update(
            run_live(
                notebook, parameters, account=ACCOUNT, home=short_folder, token="a token", socket=short_folder / "s",
                out=short_folder / "runs", grace_s=5.0,
            )
        )
    )  # fmt: skip
    runner.start()
    try:
        behind.place.wait(60)
        behind.run()
    finally:
        behind.place.stop()
        runner.join(60)
        behind.place.close()
    assert behind.journal.lines() == in_process.journal.lines()
    assert report["outcome"] == "completed", report
    asked = [r for r in in_process.journal.records if isinstance(r.event, e.Signal | e.NoSignal)]
    assert len(asked) > 1
    assert len(in_process.engine.state.blotter.orders) > 1
    assert Decimal(report["session"]["cash"]) == in_process.cash
