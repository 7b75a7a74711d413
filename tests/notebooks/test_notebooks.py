"""The notebooks that are shipped: strategies that trade and can be read back, tutorials that run from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

import northstar_core as northstar
from northstar_core.jobs.engine import execute
from northstar_core.jobs.notebook import Notebook, load_strategy, parameters
from northstar_core.jobs.parameters import check_parameters
from northstar_core.model import events as e
from northstar_core.model.errors import ParameterError
from northstar_core.model.instrument import instrument
from northstar_core.model.order import PlaceOrder
from northstar_core.research.result import Result

ROOT = Path(__file__).parents[2]
STRATEGIES = sorted(ROOT.glob("strategies/*.ipynb"))
TUTORIALS = sorted(ROOT.glob("notebooks/*.ipynb"))
FLAT_AT_NIGHT = {"mean_reversion", "volatility_breakout"}

each_strategy = pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
each_notebook = pytest.mark.parametrize("path", STRATEGIES + TUTORIALS, ids=lambda path: path.stem)

_runs: dict[Path, Result] = {}


def underlying(symbol: str) -> str:
    return getattr(instrument(symbol), "underlying", symbol)


def fresh_run(path: Path) -> Result:
    return northstar.backtest(load_strategy(path)(**parameters(Notebook.read(path))))


def run_of(path: Path) -> Result:
    """The strategy over the demo market with its own defaults; run once for all tests."""
    if path not in _runs:
        _runs[path] = fresh_run(path)
    return _runs[path]


def test_the_shipped_notebooks_are_these() -> None:
    strategies = ["mean_reversion", "put_vertical", "sma_momentum", "volatility_breakout"]
    assert [path.stem for path in STRATEGIES] == strategies
    assert [path.stem for path in TUTORIALS] == ["01_first_strategy", "02_own_data"]


@each_notebook
def test_a_committed_notebook_has_stable_cell_ids_and_neither_outputs_nor_counts(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(document)
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(cell["metadata"].keys() <= {"tags"} for cell in document["cells"])
    assert all(not c["outputs"] and c["execution_count"] is None for c in document["cells"] if c["cell_type"] == "code")


@each_strategy
def test_a_strategy_notebook_has_the_four_cells_and_its_idea_comes_first(path: Path) -> None:
    notebook = Notebook.read(path)
    assert [cell.role for cell in notebook.cells if cell.role] == ["parameters", "strategy", "run", "report"]
    assert notebook.cells[0].kind == "markdown" and "When it loses" in notebook.cells[0].source
    assert notebook.only("run").source.startswith("run = await northstar.run(")


@each_strategy
def test_its_parameters_cell_is_accepted_and_says_the_same_as_the_defaults_of_its_class(path: Path) -> None:
    notebook, strategy = Notebook.read(path), load_strategy(path)
    given = parameters(notebook)
    check_parameters(notebook, given)
    assert strategy(**given).params == strategy(symbols=given["symbols"]).params
    assert strategy.__doc__ and strategy.on_bar.__doc__


@pytest.mark.parametrize(
    ("stem", "given"),
    [
        ("sma_momentum", {"fast": 300}),
        ("mean_reversion", {"exit": 3.0}),
        ("volatility_breakout", {"risk": 0.5}),
        ("put_vertical", {"width": "0"}),
    ],
)
def test_parameters_that_make_no_sense_are_refused_before_anything_runs(stem: str, given: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(given))):
        check_parameters(ROOT / "strategies" / f"{stem}.ipynb", given)


@each_strategy
def test_a_shipped_strategy_trades_on_the_demo_market_and_no_order_of_its_is_refused(path: Path) -> None:
    run = run_of(path)
    assert run.outcome == "completed"
    assert len(run.round_trips) >= 10
    assert run.of(e.OrderDenied, e.OrderRejected) == []
    assert {underlying(fill.symbol) for fill in run.fill_events} == set(run.strategies[0].symbols)


@each_strategy
def test_every_order_follows_from_a_signal_and_reasons_for_none_are_few_and_lasting(path: Path) -> None:
    run = run_of(path)
    signals = {signal.n for signal in run.of(e.Signal)}
    orders = run.of(PlaceOrder)
    assert all(order.signal in signals or order.parent for order in orders)
    silences = run.of(e.NoSignal)
    assert 0 < len({silence.reason for silence in silences}) <= 8
    assert len(silences) < 1000


@each_strategy
def test_it_is_flat_at_the_end_or_says_what_it_holds(path: Path) -> None:
    run = run_of(path)
    end = run.of(e.StrategyStopped)[-1].ts
    held = {underlying(holding.symbol) for holding in run.books.holdings}
    if path.stem in FLAT_AT_NIGHT:
        assert not held
        assert all(not snapshot.books.holdings for snapshot in run.of(e.SnapshotTaken))
    assert held <= {silence.symbol for silence in run.of(e.NoSignal) if silence.ts == end}


@each_strategy
def test_the_same_notebook_on_the_same_market_gives_the_same_journal(path: Path) -> None:
    assert fresh_run(path).digest == run_of(path).digest


@each_notebook
def test_a_shipped_notebook_runs_from_top_to_bottom_in_a_kernel(path: Path, tmp_path: Path) -> None:
    done = execute(path, parameters={}, run_dir=tmp_path, env={}, research=True)
    assert done.outcome == "completed", done.error
