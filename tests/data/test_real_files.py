"""The real market data beside the repository, where they are present."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from northstar_core.data import history
from northstar_core.data.calendar import sessions

MINUTE = 60_000_000_000


def test_the_regular_session_of_spy_has_its_known_open_high_low_and_close(shared_data: Path) -> None:
    tape = history.read(shared_data / "equity" / "SPY_2023-08-03_minute_trades.csv")
    bars = tape.bars
    assert bars is not None
    assert len(bars) == 390
    assert (bars.open[0], bars.high.max(), bars.low.min(), bars.close[-1]) == (448.04, 450.79, 447.38, 448.84)
    assert tape.sessions == sessions("2023-08-03", "2023-08-03")
    assert (bars.start[0], bars.ts[-1]) == (tape.sessions[0].open, tape.sessions[0].close)


def test_extended_hours_keep_all_but_the_quote_window_that_begins_at_their_end(shared_data: Path) -> None:
    files = str(shared_data / "equity" / "SPY_2023-08-03_minute_*.csv")
    tape = history.read(files, session="extended")
    assert [len(table) for table in tape.tables] == [947, 960]
    assert [len(table) for table in history.read(files, session="all").tables] == [947, 961]
    assert tape.bar_ns == MINUTE


def test_minutes_without_a_trade_have_a_quote_and_no_bar(shared_data: Path) -> None:
    tape = history.read(str(shared_data / "equity" / "TWX_2014-06-06_*.csv"))
    assert [len(table) for table in tape.tables] == [387, 390]


def test_two_sessions_of_two_symbols_merge(shared_data: Path) -> None:
    tape = history.read([str(shared_data / "equity" / f"{s}_2014-06-0*_minute_trades.csv") for s in ("AAPL", "TWX")])
    assert tape.symbols == ("AAPL", "TWX")
    assert len(tape.sessions) == 2
    assert tape.bars is not None
    assert np.all(np.diff(tape.bars.ts) >= 0)


def test_second_bars_and_every_print_and_quote_of_an_hour(shared_data: Path) -> None:
    tape = history.read(str(shared_data / "equity" / "IBM_2013-10-08_*.csv"), session="all")
    assert [len(table) for table in tape.tables] == [6826, 16516, 6251]
    assert tape.bar_ns == 1_000_000_000
    assert tape.quotes is not None
    assert tape.trades is not None
    regular = tape.quotes.ts >= tape.sessions[0].open
    assert np.all((tape.quotes.bid > 0)[regular])
    assert np.all((tape.quotes.ask > 0)[regular])
    mid = (tape.quotes.bid + tape.quotes.ask)[regular] / 2
    assert 180 < mid.min() < mid.max() < 182.5  # a standing side is never taken as 0
    assert int((~tape.trades.forms_price).sum()) == 17


def test_a_chain_of_options_is_read_with_its_empty_sides_and_late_minutes(shared_data: Path) -> None:
    folder = shared_data / "options"
    tape = history.read(str(folder / "TWX_2014-06-05_*.csv"), session="all")  # the end-of-day chain is no event
    assert [len(table) for table in tape.tables] == [79, 30468]
    assert tape.quotes is not None
    assert int((tape.quotes.bid == 0).sum()) == 6553 + 11
    assert not any(symbol.startswith("O:") for symbol in tape.symbols)
    quotes = folder / "SPY_2023-08-03_minute_quotes.csv"
    assert history.read(quotes).rows == 4 * 390
    assert history.read(quotes, session="extended").rows == 1620  # these options trade until 16:15
