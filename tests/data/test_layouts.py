"""Every layout becomes the same normalised tape."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from northstar_core.data import history
from northstar_core.data.calendar import sessions
from northstar_core.data.conditions import forms_price
from northstar_core.model.tape import CorporateAction, Tape

OPEN, MINUTE = 1_691_069_400_000_000_000, 60_000_000_000  # 2023-08-03 09:30 New York
MASSIVE = "ticker,volume,open,close,high,low,window_start,transactions"
QUOTES = "ticker,window_start,bid_open,bid_high,bid_low,bid_close,bid_size,ask_open,ask_high,ask_low,ask_close,ask_size"

Csv = Callable[..., Path]


def massive_rows(symbol: str = "SPY", n: int = 3, start: int = OPEN) -> list[str]:
    return [f"{symbol},{100 + i},{10 + i},{10.5 + i},{11 + i},{9 + i},{start + i * MINUTE},7" for i in range(n)]


def digest(tape: Tape) -> str:
    assert tape.bars is not None
    return tape.bars.digest()


def test_flat_file_minutes_become_bars_known_at_their_close(csv: Csv) -> None:
    path = csv(MASSIVE, *massive_rows("QQQ"), *massive_rows("AAPL", 2))
    tape = history.read(path)
    bars = tape.bars
    assert bars is not None
    assert bars.symbols == ("AAPL", "QQQ")
    assert bars.code.tolist() == [0, 1, 0, 1, 1]  # by time, then symbol
    assert bars.start.tolist() == [OPEN, OPEN, OPEN + MINUTE, OPEN + MINUTE, OPEN + 2 * MINUTE]
    assert (bars.ts - bars.start == MINUTE).all()
    assert (bars.open[1], bars.high[1], bars.low[1], bars.close[1], bars.volume[1]) == (10, 11, 9, 10.5, 100)
    assert (tape.bar_ns, tape.daily, tape.rows) == (MINUTE, False, 5)
    assert tape.sessions == sessions("2023-08-03", "2023-08-03")
    (source,) = tape.sources
    assert (source.layout, source.rows, source.name, source.path) == ("massive", 5, "bars.csv", str(path))
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_gzip_changes_the_file_digest_and_not_the_tape(csv: Csv, tmp_path: Path) -> None:
    plain = csv(MASSIVE, *massive_rows())
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = history.read(plain), history.read(packed)
    assert digest(one) == digest(other)
    assert other.sources[0].sha256 == hashlib.sha256(packed.read_bytes()).hexdigest() != one.sources[0].sha256


def test_flat_file_days_open_and_close_with_the_session_half_days_too(csv: Csv) -> None:
    days = [pd.Timestamp(day, tz="America/New_York").value for day in ("2023-11-22", "2023-11-24")]
    tape = history.read(csv(MASSIVE, *(f"SPY,1,10,10,11,9,{start},1" for start in days)))
    assert tape.bars is not None
    assert tape.daily
    assert tape.sessions == sessions("2023-11-22", "2023-11-24")
    assert tape.bars.start.tolist() == [s.open for s in tape.sessions]
    assert tape.bars.ts.tolist() == [s.close for s in tape.sessions]
    assert tape.bars.ts[1] - tape.bars.start[1] == 210 * MINUTE


def test_minutes_around_both_clock_changes_fall_in_regular_hours(csv: Csv) -> None:
    days = [s for day in ("2023-03-10", "2023-03-13", "2023-11-03", "2023-11-06") for s in sessions(day, day)]
    rows = [f"SPY,1,10,10,11,9,{at},1" for s in days for at in (s.open - MINUTE, s.open, s.close - MINUTE, s.close)]
    path = csv(MASSIVE, *rows)
    bars = history.read(path).bars
    assert bars is not None
    assert bars.start.tolist() == [at for s in days for at in (s.open, s.close - MINUTE)]
    assert history.read(path, session="extended").rows == history.read(path, session="all").rows == 16


def test_option_tickers_lose_their_prefix_and_padding(csv: Csv) -> None:
    path = csv(MASSIVE, f"O:SPY230901C00430000,1,10,10,11,9,{OPEN},1")
    assert history.read(path).symbols == ("SPY230901C00430000",)
    assert history.read(path, symbols=["O:SPY230901C00430000"]).rows == 1


@pytest.mark.parametrize(
    "header",
    [
        "Date,Open,High,Low,Close,Adj Close,Volume",
        "date,o,h,l,c,adj_close,v",
        "datetime;open;high;low;close;adjclose;vol",
    ],
)
def test_daily_csv_under_common_names_takes_its_symbol_from_the_file_name(csv: Csv, header: str) -> None:
    rows = ["2023-08-02,10,11,9,10,5,100", "2023-08-03,20,22,18,20,10,200"]
    separator = ";" if ";" in header else ","
    path = csv(header, *(row.replace(",", separator) for row in rows), name="spy_daily.csv")
    tape = history.read(path)
    assert tape.symbols == ("SPY",)
    assert tape.daily
    assert tape.bars is not None
    assert tape.bars.close.tolist() == [10, 20]  # adjusted closes are ignored …
    assert tape.bar_ns == 390 * MINUTE
    adjusted = history.read(path, adjusted=True).bars
    assert adjusted is not None
    assert adjusted.close.tolist() == [5, 10]  # … unless they are asked for
    assert adjusted.high.tolist() == [5.5, 11]


@pytest.mark.parametrize(
    "times",
    [
        ("2023-08-03T13:30:00Z", "2023-08-03T13:31:00Z"),
        ("2023-08-03 09:30:00-04:00", "2023-08-03 09:31:00-04:00"),
        ("1691069400", "1691069460"),
        ("1691069400000", "1691069460000"),
        ("1691069400000000", "1691069460000000"),
        ("1691069400000000000", "1691069460000000000"),
    ],
)
def test_times_in_any_unit_or_zone_mean_the_same(csv: Csv, times: tuple[str, str]) -> None:
    path = csv("timestamp,symbol,open,high,low,close,volume", *(f"{t},SPY,10,11,9,10,5" for t in times))
    bars = history.read(path).bars
    assert bars is not None
    assert bars.start.tolist() == [OPEN, OPEN + MINUTE]


def test_date_and_time_in_two_columns_and_compact_dates_are_read(csv: Csv) -> None:
    header = "Date,Time,Open,High,Low,Close,Volume"
    path = csv(header, "2023-08-03,09:30:00,10,11,9,10,5", "2023-08-03,09:31:00,10,11,9,10,5", name="SPY.csv")
    bars = history.read(path, tz="America/New_York").bars
    assert bars is not None
    assert bars.start.tolist() == [OPEN, OPEN + MINUTE]
    path = csv("date,open,high,low,close,volume", "20230803,10,11,9,10,5", name="SPY.csv")
    assert history.read(path).sessions[0].label == dt.date(2023, 8, 3)


def test_the_last_hourly_bar_of_a_session_ends_at_the_close(csv: Csv) -> None:
    times = pd.date_range("2023-08-03 09:30", "2023-08-03 15:30", freq="1h", tz="America/New_York")
    path = csv("datetime,open,high,low,close,volume", *(f"{t.isoformat()},10,11,9,10,5" for t in times), name="SPY.csv")
    tape = history.read(path)
    assert tape.bars is not None
    assert tape.bar_ns == 60 * MINUTE
    assert tape.bars.ts[-1] == tape.sessions[0].close
    assert tape.bars.ts[-1] - tape.bars.start[-1] == 30 * MINUTE


def test_frames_files_and_parquet_of_the_same_rows_give_the_same_tape(csv: Csv, tmp_path: Path) -> None:
    times = pd.date_range("2023-08-03 09:30", periods=5, freq="1min", tz="America/New_York")
    values = {"Open": 10.25, "High": 11.5, "Low": 9.75, "Close": 10.5, "Volume": 300}
    frame = pd.DataFrame(values, index=times)
    expected = digest(history.read(frame, symbol="SPY"))
    frame.to_csv(tmp_path / "SPY.csv")
    frame.to_parquet(tmp_path / "SPY.parquet")
    named = frame.reset_index(names="timestamp").assign(symbol="SPY")
    two_levels = pd.concat({"SPY": frame}, axis=1).swaplevel(axis=1)
    two_levels.columns.names = ["Price", "Ticker"]
    for source in (
        tmp_path / "SPY.csv",
        tmp_path / "SPY.parquet",
        named,
        two_levels,
        named.sample(frac=1).sort_values("timestamp"),
    ):
        assert digest(history.read(source)) == expected
    assert history.read(frame, symbols=["SPY"]).sources[0].name == "dataframe"
    assert history.read(frame, symbol="SPY").sources == history.read(frame.copy(), symbol="SPY").sources


def test_two_tickers_side_by_side_in_a_frame_are_both_read() -> None:
    days = pd.DatetimeIndex(["2023-08-02", "2023-08-03"], name="Date")
    one = pd.DataFrame(
        {"Open": [10.0, 11], "High": [12.0, 12], "Low": [9.0, 9], "Close": [10.0, 11], "Volume": [5, 6]}, index=days
    )
    both = pd.concat({"SPY": one, "QQQ": one * 2}, axis=1, names=["Ticker", "Price"])
    bars = history.read(both).bars
    assert bars is not None
    assert bars.symbols == ("QQQ", "SPY")
    assert bars.close.tolist() == [20, 10, 22, 11]


def test_bars_quotes_and_prints_of_a_folder_merge_into_one_tape(csv: Csv, tmp_path: Path) -> None:
    csv(MASSIVE, *massive_rows(), name="2023/08/bars.csv")
    csv(QUOTES, f"SPY,{OPEN},9,9,9,9,5,10,10,10,10,6", name="2023/08/quotes.csv")
    csv("ticker,timestamp,price,size", f"SPY,{OPEN + 5},10,100", name="ticks.csv")
    csv(
        "symbol,ex_date,ratio,dividend",
        "SPY,2023-08-03,2,",
        "QQQ,2023-08-03,3,",
        "SPY,2023-08-04,5,",
        name="actions.csv",
    )
    csv("ticker,open_interest", "SPY,5", name="open_interest.csv")
    csv(MASSIVE, *massive_rows("XXX"), name=".hidden/bars.csv")
    tape = history.read(tmp_path)
    assert [len(table) for table in tape.tables] == [3, 1, 1]
    assert tape.actions == (CorporateAction(symbol="SPY", ex_date=dt.date(2023, 8, 3), ratio=Decimal(2)),)
    assert {source.layout for source in tape.sources} == {"massive", "lean-quotes", "tick-trades"}
    assert history.read(str(tmp_path / "2023" / "**" / "*.csv")).rows == 4
    assert history.read([tmp_path / "ticks.csv", tmp_path / "2023"]).rows == 5


def test_files_in_any_order_give_the_same_tape(csv: Csv) -> None:
    paths = [
        csv(MASSIVE, *massive_rows(s, 4, OPEN + day * 86_400_000_000_000), name=f"{s}{day}.csv")
        for s in "AB"
        for day in (0, 1)
    ]
    expected = digest(history.read(paths))
    chance = random.Random(3)
    for _ in range(5):
        chance.shuffle(paths)
        assert digest(history.read([*paths, paths[0]])) == expected


def test_dates_include_both_ends_and_symbols_keep_only_those_asked_for(csv: Csv) -> None:
    day = 86_400_000_000_000
    rows = [row for s in ("QQQ", "SPY") for n in range(2) for row in massive_rows(s, 2, OPEN + n * day)]
    path = csv(MASSIVE, *rows)
    assert history.read(path, start="2023-08-03", end="2023-08-03").rows == 4
    assert history.read(path, start=dt.date(2023, 8, 4)).sessions == sessions("2023-08-04", "2023-08-04")
    assert history.read(path, symbols="SPY", end="2023-08-03").symbols == ("SPY",)
    noon = dt.datetime(2023, 8, 3, 13, 31, tzinfo=dt.UTC)
    assert history.read(path, symbols="SPY", end=noon).rows == 1
    assert history.read(path, symbols="SPY", start="2023-08-03T13:31:00Z", end=OPEN + 2 * MINUTE).rows == 1


def test_one_sided_tick_quotes_stand_until_their_side_is_given_again(csv: Csv) -> None:
    header = "ticker,timestamp,bid_price,bid_size,ask_price,ask_size,exchange,condition,suspicious"
    rows = ["10,100,0,0,P,1,0", "0,0,11,200,Q,1,0", "0,0,99,1,Q,1,1", "10.5,300,0,0,P,1,0"]
    path = csv(header, *(f"IBM,{OPEN + i},{row}" for i, row in enumerate(rows)))
    quotes = history.read(path).quotes
    assert quotes is not None
    assert quotes.bid.tolist() == [10, 10, 10.5]  # the suspicious quote is left out
    assert quotes.ask.tolist() == [0, 11, 11]
    assert quotes.bid_size.tolist() == [100, 100, 300]


def test_two_sided_tick_quotes_keep_a_missing_side_missing(csv: Csv) -> None:
    header = "ticker,timestamp,bid_price,bid_size,ask_price,ask_size"
    quotes = history.read(csv(header, f"IBM,{OPEN},10,1,11,1", f"IBM,{OPEN + 1},,,11,1")).quotes
    assert quotes is not None
    assert quotes.bid.tolist() == [10, 0]


def test_sale_conditions_that_count_for_volume_only_form_no_price(csv: Csv) -> None:
    flags = {
        "1": True,
        "20000020": True,
        "40": True,
        "2000": True,
        "": True,
        "100000": False,
        "80000000": False,
        "20100200": False,
    }
    flags |= {"4000000": False, "2": False, "400000": False}
    header = "ticker,timestamp,price,size,exchange,condition_flags_hex,suspicious"
    rows = [f"IBM,{OPEN + i},10,100,P,{flag},0" for i, flag in enumerate(flags)]
    trades = history.read(csv(header, *rows, f"IBM,{OPEN + 99},10,100,P,1,1")).trades
    assert trades is not None
    assert trades.forms_price.tolist() == [*flags.values(), False]  # the last one is suspicious
    assert forms_price(np.array([0])).all()


def test_a_tape_written_as_parquet_reads_back_the_same(csv: Csv, tmp_path: Path) -> None:
    data = tmp_path / "data"
    csv(MASSIVE, *massive_rows("QQQ"), *massive_rows("SPY"), name="data/bars.csv")
    csv(
        QUOTES,
        f"SPY,{OPEN},9,9,9,9,5,10,10,10,10,6",
        f"SPY,{OPEN + MINUTE},,,,,0,10,10,10,10,6",
        name="data/quotes.csv",
    )
    csv(
        "ticker,timestamp,price,size,condition_flags_hex",
        f"SPY,{OPEN + 5},10,1,2",
        f"SPY,{OPEN + 6},10,1,1",
        name="data/ticks.csv",
    )
    csv("symbol,ex_date,ratio,dividend", "SPY,2023-08-03,,0.25", name="data/actions.csv")
    tape = history.read(data)
    written = history.write_parquet(tape, tmp_path / "kept")
    assert [path.name for path in written] == ["bars.parquet", "quotes.parquet", "trades.parquet", "actions.csv"]
    back = history.read(tmp_path / "kept")
    assert [t.digest() for t in back.tables] == [t.digest() for t in tape.tables]
    assert (back.sessions, back.actions, back.bar_ns, back.daily) == (tape.sessions, tape.actions, tape.bar_ns, False)
    assert [len(t) for t in history.read(tmp_path / "kept", symbols=["SPY"]).tables] == [3, 2, 2]
    assert not list((tmp_path / "kept").glob(".*"))


def test_daily_bars_written_as_parquet_keep_their_sessions(csv: Csv, tmp_path: Path) -> None:
    tape = history.read(
        csv("Date,Open,High,Low,Close,Volume", "2023-11-22,10,11,9,10,5", "2023-11-24,10,11,9,10,5", name="SPY.csv")
    )
    history.write_parquet(tape, tmp_path / "kept")
    back = history.read(tmp_path / "kept")
    assert digest(back) == digest(tape)
    assert (back.daily, back.bar_ns, back.sessions) == (True, tape.bar_ns, tape.sessions)
