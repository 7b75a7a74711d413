"""The benchmark is worth believing: its data are what they are said to be, and an engine that errs is caught."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench, data, peers, reference

SIZE = data.Size(symbols=3, bars=4_000)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "c"
    data.generate(folder, SIZE)
    return folder


def averages(case: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return thirty times both averages in cents at every bar from the thirtieth on."""
    sums = np.pad(np.load(case / "close.npy").cumsum(axis=1), ((0, 0), (1, 0)))
    return 3 * (sums[:, 30:] - sums[:, 20:-10]), sums[:, 30:] - sums[:, :-30]


def test_the_two_averages_are_never_equal_and_cross_on_four_percent_of_the_bars(case: Path) -> None:
    fast, slow = averages(case)
    assert (fast != slow).all()
    crosses = np.diff(fast > slow, axis=1).mean()
    assert 0.035 < crosses < 0.045


def test_bars_are_whole_and_their_minutes_are_those_of_sessions(case: Path) -> None:
    low, high = np.load(case / "low.npy"), np.load(case / "high.npy")
    for name in ("open", "close"):
        column = np.load(case / f"{name}.npy")
        assert (low <= column).all() and (column <= high).all() and (column > 0).all()
    ts = np.load(case / "ts.npy")
    assert (np.diff(ts) >= data.MINUTE_NS).all()
    minutes = (ts - data.MINUTE_NS) // data.MINUTE_NS % 1440
    assert minutes.min() == 14 * 60 + 30 and minutes.max() == 21 * 60 - 1
    weekdays = np.unique(ts // data.MINUTE_NS // 1440 + 3) % 7  # 1970-01-01 was a Thursday
    assert set(weekdays.tolist()) == {0, 1, 2, 3, 4}


def test_the_same_seed_gives_the_same_market(case: Path, tmp_path: Path) -> None:
    data.generate(tmp_path, SIZE)
    for name in ("open", "high", "low", "close", "volume", "ts"):
        assert (np.load(case / f"{name}.npy") == np.load(tmp_path / f"{name}.npy")).all()


@pytest.mark.parametrize("rule", reference.RULES)
def test_the_reference_trades_every_cross_at_its_rules_price(case: Path, rule: str) -> None:
    fast, slow = averages(case)
    opens, closes = np.load(case / "open.npy"), np.load(case / "close.npy")
    want = set()
    for symbol in range(SIZE.symbols):
        above = fast[symbol] > slow[symbol]
        bars = np.flatnonzero(np.diff(above)) + 30
        if len(bars) and not above[bars[0] - 29]:
            bars = bars[1:]  # the first cross sells what is not held
        for n, bar in enumerate(bars.tolist()):
            side = "buy" if n % 2 == 0 else "sell"
            if rule == "this_close":
                want.add(f"{symbol} {bar} {side} {closes[symbol, bar]} 100")
            elif bar + 1 < SIZE.bars:
                want.add(f"{symbol} {bar + 1} {side} {opens[symbol, bar + 1]} 100")
    got = reference.expected(case, rule, trade=True)
    assert set(got.fills) == want and len(got.fills) == len(want) > 100
    assert reference.expected(case, rule, trade=False) == (0, [])


@pytest.mark.parametrize("variant", bench.VARIANTS)
def test_northstar_does_exactly_what_the_reference_does(case: Path, variant: str) -> None:
    line = bench.run_once(peers.NORTHSTAR, Path(sys.executable), case, variant)
    assert line["rule"] == "next_open"
    assert line["fills"] == len(reference.expected(case, "next_open", trade=variant == "dense").fills)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fills.pop(7)", "fills, the reference has"),
        ("fills[7] = fills[7].replace(' 100', ' 99')", "fill 8 is"),
        ("line['orders'] += 1", "orders, the reference has"),
        ("line['bars'] -= 1", "bars, the reference has"),
        ("raise SystemExit('no such thing')", "no such thing"),
    ],
)
def test_an_engine_that_errs_fails_the_benchmark(case: Path, tmp_path: Path, change: str, said: str) -> None:
    right = reference.expected(case, "next_open", trade=True)
    answer = {"rule": "next_open", "bars": SIZE.symbols * SIZE.bars, "orders": right.orders, "seconds": 1.0}
    runner = tmp_path / "run_wrong.py"
    runner.write_text(
        f"import json, sys\nline = {json.dumps(answer)}\nfills = {right.fills!r}\n{change}\n"
        "open(sys.argv[3], 'w').write('\\n'.join(fills))\nprint(json.dumps(line))\n"
    )
    wrong = peers.Engine("wrong", str(runner))
    with pytest.raises(bench.Wrong, match=said):
        bench.run_once(wrong, Path(sys.executable), case, "dense")


def test_every_round_runs_every_engine_and_begins_with_another() -> None:
    engines = [peers.NORTHSTAR, *peers.ALL_PEERS]
    turns = list(bench.rounds(engines, 3))
    assert all(sorted(turn) == sorted(engines) for turn in turns)
    assert [turn[0] for turn in turns] == engines[:3]
