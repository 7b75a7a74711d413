"""The generated market: labelled, the same for the same seed, and good enough to trade on."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from northstar_core.data import history
from northstar_core.data.calendar import sessions
from northstar_core.data.draws import Draws
from northstar_core.data.synthetic import bench_tape, synth, synthesize, write
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.tape import Tape

MINUTE = 60_000_000_000
DRAWS = [3123876850583229363, 775897771095675655, 13242341407508803736]
SYNTH_DIGEST = "0c3aaa535d3621ef"
BENCH_DIGEST = "7227bf50f05906c7"


@cache
def market() -> Tape:
    return synthesize(days=15, seed=11)


def digests(tape: Tape) -> list[str]:
    return [table.digest() for table in tape.tables]


def test_the_same_seed_gives_the_same_bits_in_another_process_and_hash_seed() -> None:
    program = (
        "from northstar_core.data.synthetic import bench_tape, synthesize\n"
        "t, b = synthesize(days=2, seed=3), bench_tape(2, 500, seed=3)\n"
        "print(*(x.digest() for x in t.tables), b.bars.digest(), t.sources[0].sha256)"
    )
    root = Path(__file__).parents[2]
    outputs = set()
    for hash_seed in ("0", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(run.stdout.strip())
    here, bench = synthesize(days=2, seed=3), bench_tape(2, 500, seed=3)
    assert bench.bars is not None
    assert outputs == {" ".join([*digests(here), bench.bars.digest(), here.sources[0].sha256])}


def test_the_generators_bits_are_those_of_its_version() -> None:
    # A change of these digests changes everyone's generated market: raise VERSION with them.
    assert Draws("key", 1).raw(3).tolist() == DRAWS
    bars = synthesize(symbols=["ALFA"], days=1, seed=1, options_on=None, quotes=False).bars
    bench = bench_tape(1, 1000, seed=1).bars
    assert bars is not None
    assert bench is not None
    assert bars.digest()[:16] == SYNTH_DIGEST
    assert bench.digest()[:16] == BENCH_DIGEST


def test_another_seed_gives_another_market() -> None:
    assert digests(synthesize(days=1, seed=1)) != digests(synthesize(days=1, seed=2))


def test_a_symbol_and_a_day_do_not_move_when_others_are_added() -> None:
    alone = synthesize(symbols=["ALFA"], days=2, options_on=None, quotes=False).bars
    among = synthesize(symbols=["ZETA", "ALFA"], days=4, options_on=None, quotes=False).bars
    assert alone is not None
    assert among is not None
    mine = among.code == among.symbols.index("ALFA")
    assert among.close[mine][: len(alone)].tolist() == alone.close.tolist()


def test_every_bar_is_sound_and_in_whole_cents() -> None:
    bars = market().bars
    assert bars is not None
    for name in ("open", "high", "low", "close"):
        prices = getattr(bars, name)
        assert np.all(prices > 0)
        assert np.array_equal(prices, np.round(prices, 2))
    assert np.all(bars.high >= np.maximum(bars.open, bars.close))
    assert np.all(bars.low <= np.minimum(bars.open, bars.close))
    assert np.all(bars.volume >= 1)


def test_sessions_are_real_half_days_too() -> None:
    tape = synthesize(symbols=["ALFA"], days=3, start="2023-11-22", options_on=None)
    assert tape.sessions == sessions("2023-11-22", "2023-11-27")
    assert tape.bars is not None
    per_day = [int(((tape.bars.ts > s.open) & (tape.bars.ts <= s.close)).sum()) for s in tape.sessions]
    assert per_day == [390, 210, 390]


def test_volume_is_u_shaped_prices_gap_overnight_and_volatility_clusters() -> None:
    tape = market()
    bars = tape.bars
    assert bars is not None
    mine = bars.code == 0
    close, opened, volume = (getattr(bars, n)[mine].reshape(-1, 390) for n in ("close", "open", "volume"))
    assert volume[:, :30].mean() > 1.5 * volume[:, 180:210].mean() < volume[:, -30:].mean() * 1.5
    assert np.abs(opened[1:, 0] / close[:-1, -1] - 1).max() > 0.004
    daily = np.diff(np.log(close), axis=1).std(axis=1)
    assert daily.max() > 1.8 * daily.min()


def test_trends_and_reversion_both_occur() -> None:
    bars = synthesize(symbols=["ALFA"], days=40, options_on=None, quotes=False).bars
    assert bars is not None
    close = bars.close.reshape(-1, 390)
    # How much of the way a session went it kept: near 1 in a trend, near 0 where it only swung around.
    efficiency = np.abs(close[:, -1] - close[:, 0]) / np.abs(np.diff(close[:, ::30], axis=1)).sum(axis=1)
    assert (efficiency > 0.7).sum() >= 5
    assert (efficiency < 0.2).sum() >= 5
    quiet = np.ptp(close[:, :90], axis=1) < 0.25 * np.ptp(close, axis=1)
    assert quiet.sum() >= 3


def test_quotes_surround_the_close_and_are_uncrossed() -> None:
    quotes, bars = market().quotes, market().bars
    assert quotes is not None
    assert bars is not None
    both = (quotes.bid > 0) & (quotes.ask > 0)
    assert np.all(quotes.ask[both] > quotes.bid[both])
    code = quotes.symbols.index("ALFA")
    mine = quotes.code == code
    close = bars.close[bars.code == 0]
    assert np.all(quotes.bid[mine] <= close)
    assert np.all(quotes.ask[mine] > close)
    assert quotes.ts[mine].tolist() == bars.ts[bars.code == 0].tolist()


def test_the_chain_has_weekly_expiries_near_the_money_quoted_until_they_expire() -> None:
    tape = market()
    quotes = tape.quotes
    assert quotes is not None
    options = {s: instrument(s) for s in quotes.symbols if len(s) > 15}
    labels = {s.label for s in sessions("2024-01-01", "2024-12-31")}
    chain = [o for o in options.values() if isinstance(o, Option)]
    assert len(chain) == len(options) >= 40
    assert {o.expiry for o in chain} <= labels
    assert all(o.expiry.weekday() in (3, 4) and o.underlying == "ALFA" for o in chain)
    last = tape.sessions[-1]
    for symbol, option in options.items():
        assert isinstance(option, Option)
        ts = quotes.ts[quotes.code == quotes.symbols.index(symbol)]
        until = next((s.close for s in tape.sessions if s.label == option.expiry), last.close)
        assert ts[-1] == until
        assert len(ts) % 30 == 0


def test_a_vertical_spread_can_be_bought_for_less_than_its_width_on_every_day() -> None:
    tape = market()
    quotes, bars = tape.quotes, tape.bars
    assert quotes is not None
    assert bars is not None
    for session in tape.sessions:
        at = session.open + 60 * MINUTE
        spot = bars.close[(bars.code == 0) & (bars.ts == at)][0]
        rows = np.flatnonzero(quotes.ts == at)
        calls: dict[dt.date, list[tuple[float, float, float]]] = {}
        for row in rows:
            option = instrument(quotes.symbols[quotes.code[row]])
            if isinstance(option, Option) and option.right == "C" and option.expiry > session.label:
                quote = (float(option.strike), float(quotes.bid[row]), float(quotes.ask[row]))
                calls.setdefault(option.expiry, []).append(quote)
        near = [sorted(q for q in c if abs(q[0] / spot - 1) < 0.05) for c in calls.values()]
        assert any(len(strikes) >= 3 for strikes in near)
        for strikes in near:
            for (low, _, ask), (high, bid, _) in itertools.pairwise(strikes):
                assert -0.2 < ask - bid < high - low + 0.5


def test_written_files_read_back_as_the_same_tape_and_say_what_they_are(tmp_path: Path) -> None:
    out = tmp_path / "market"
    written = synth(out, symbols=["ALFA", "BETA"], days=2, start="2024-01-04", seed=5)
    assert all(path.is_file() for path in written)
    expected = synthesize(symbols=["ALFA", "BETA"], days=2, start="2024-01-04", seed=5)
    back = history.read(out)
    assert digests(back) == digests(expected)
    assert (back.sessions, back.bar_ns) == (expected.sessions, expected.bar_ns)
    assert all(source.name.startswith("synthetic-") for source in back.sources)
    assert expected.sources[0].layout == "synthetic"
    assert "Generated, not observed" in (out / "SYNTHETIC.md").read_text()
    files = {path: path.read_bytes() for path in written}
    assert {
        path: path.read_bytes() for path in synth(out, symbols=["ALFA", "BETA"], days=2, start="2024-01-04", seed=5)
    } == files
    synth(out, symbols=["ALFA"], days=1)  # another market replaces it, no day of the old one stays
    assert history.read(out).symbols[0] == "ALFA"
    assert len(history.read(out).sessions) == 1


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something that was not generated; choose another folder"):
        write(synthesize(symbols=["ALFA"], days=1, options_on=None), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("options", [{"symbols": []}, {"days": 0}, {"options_on": "ZETA"}, {"start": "soon"}])
def test_a_market_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"is no market|not among the symbols|is not a date"):
        synthesize(**options)  # type: ignore[arg-type]


def test_benchmark_bars_never_stop_and_sessions_cover_exactly_them() -> None:
    tape = bench_tape(3, 3_000, seed=2)
    bars = tape.bars
    assert bars is not None
    assert bars.symbols == ("S00", "S01", "S02")
    assert len(bars) == 9_000
    assert np.all(np.diff(bars.ts[bars.code == 1]) == MINUTE)
    assert bars.code[:4].tolist() == [0, 1, 2, 0]
    assert len(tape.sessions) == 3
    assert tape.sessions[0].open == bars.start[0]
    assert tape.sessions[-1].open < bars.ts[-1] <= tape.sessions[-1].close
    assert np.array_equal(bars.close, np.round(bars.close, 2))
    assert np.abs(np.diff(bars.close[bars.code == 0])).max() < 0.101
    assert bars.low.min() > 0
    assert np.all(
        (bars.low <= bars.open) & (bars.open <= bars.high) & (bars.low <= bars.close) & (bars.close <= bars.high)
    )
    with pytest.raises(DataError, match="is no tape"):
        bench_tape(0, 10)


def test_benchmark_bars_kept_as_parquet_read_back_under_a_calendar_that_never_closes(tmp_path: Path) -> None:
    tape = bench_tape(2, 3_000)
    history.write_parquet(tape, tmp_path)
    back = history.read(tmp_path, calendar="24/7")
    assert digests(back) == digests(tape)
    assert back.sessions == tape.sessions


def test_draws_are_uniform_and_normal_enough() -> None:
    uniform, normal = Draws(1).uniform(200_000), Draws(2).normal(200_000)
    assert 0 <= uniform.min() < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert Draws(3).below(7, 10_000).max() == 6
