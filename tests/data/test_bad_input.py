"""Every bad input is refused whole, in one line that names file, row, field and the way out."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from northstar_core.data import history
from northstar_core.model.errors import DataError

#: 2023-08-03 09:30 New York, ns UTC; a regular session.
OPEN = 1_691_069_400_000_000_000
MINUTE = 60_000_000_000
MASSIVE = "ticker,volume,open,close,high,low,window_start,transactions"
GOOD_ROWS = (
    f"SPY,100,10.0,10.5,11.0,9.5,{OPEN},3",
    f"SPY,200,10.5,10.6,10.9,10.1,{OPEN + MINUTE},5",
    f"SPY,150,10.6,10.2,10.7,10.0,{OPEN + 2 * MINUTE},4",
)
QUOTES = "ticker,window_start,bid_open,bid_high,bid_low,bid_close,bid_size,ask_open,ask_high,ask_low,ask_close,ask_size"

Csv = Callable[..., Path]


def refused(source: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        history.read(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"SPY,1,nan,10,11,9,{OPEN + 3 * MINUTE},1", "open is NaN or empty"),
        (f"SPY,1,,10,11,9,{OPEN + 3 * MINUTE},1", "open is NaN or empty"),
        (f"SPY,1,10,inf,11,9,{OPEN + 3 * MINUTE},1", "close is infinite"),
        (f"SPY,1,10,10,11,-9,{OPEN + 3 * MINUTE},1", "low -9 is negative"),
        (f"SPY,1,10,10,0,9,{OPEN + 3 * MINUTE},1", "high 0 is zero"),
        (f"SPY,1,10,10,9,11,{OPEN + 3 * MINUTE},1", "high 9 is below low 11"),
        (f"SPY,1,12,10,11,9,{OPEN + 3 * MINUTE},1", "open 12 is outside low 9 to high 11"),
        (f"SPY,1,10,8,11,9,{OPEN + 3 * MINUTE},1", "close 8 is outside low 9 to high 11"),
        (f"SPY,-1,10,10,11,9,{OPEN + 3 * MINUTE},1", "volume -1 is negative"),
        (f"SPY,nan,10,10,11,9,{OPEN + 3 * MINUTE},1", "volume is NaN or empty"),
        (f"SPY,inf,10,10,11,9,{OPEN + 3 * MINUTE},1", "volume is infinite"),
        (f"SPY,1,10,10,11,9,{OPEN},1", f"window_start {OPEN} of SPY is a duplicate of row 1"),
        (
            f"SPY,1,10,10,11,9,{OPEN - MINUTE},1",
            f"window_start {OPEN - MINUTE} of SPY is earlier than the row before it; sort the file",
        ),
        ("SPY,1,10,10,11,9,,1", "window_start is empty"),
        ("SPY,1,10,10,11,9,1691069580,1", "window_start 1691069580 is of another unit than"),
        (f",1,10,10,11,9,{OPEN + 3 * MINUTE},1", "ticker is empty"),
        (f"SPY,1,ten,10,11,9,{OPEN + 3 * MINUTE},1", "open 'ten' is not a number"),
        ("SPY,1,10,10,11,9,noon,1", "window_start 'noon' is not a whole number"),
        ("SPY,1,10,10,11,9,-5,1", "window_start -5 is of another unit than"),
        (f"SPY,1,10,10,11,9,{2**63 - 1},1", f"window_start {2**63 - 1} is not between 1930 and 2090"),
        (f'"S\nY",1,10,10,11,9,{OPEN},1', "ticker 'S\\nY' is not a symbol"),
        ("SPY,1,10,10,11,9", "has 6 fields, the header has 8"),
    ],
)
def test_an_impossible_row_refuses_the_file_by_row_and_field(csv: Csv, row: str, problem: str) -> None:
    path = csv(MASSIVE, *GOOD_ROWS, row)
    message = refused(path)
    assert message.startswith(f"{path}: row 4: {problem}")
    assert ";" in message or "where" in message


def test_the_row_number_is_the_files_own_when_only_some_symbols_are_asked_for(csv: Csv) -> None:
    path = csv(MASSIVE, f"AAA,1,10,10,11,9,{OPEN},1", *GOOD_ROWS, f"SPY,1,0,10,11,9,{OPEN + 3 * MINUTE},1")
    assert f"{path}: row 5: open 0 is zero" in refused(path, symbols=["SPY"])
    assert history.read(path, symbols=["AAA"]).rows == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"SPY,{OPEN},9,9,9,-9,5,10,10,10,10,5", "bid_close -9 is negative"),
        (f"SPY,{OPEN},9,9,9,nan,5,10,10,10,10,5", "bid_close is NaN"),
        (f"SPY,{OPEN},9,9,9,9,5,10,10,11,10,5", "ask_high 10 is below ask_low 11"),
        (f"SPY,{OPEN},9,9,9,8,5,10,10,10,10,5", "bid_close 8 is outside bid_low 9 to bid_high 9"),
        (f"SPY,{OPEN},9,9,9,9,-5,10,10,10,10,5", "bid_size -5 is negative"),
    ],
)
def test_an_impossible_quote_refuses_the_file(csv: Csv, row: str, problem: str) -> None:
    path = csv(QUOTES, row)
    assert refused(path).startswith(f"{path}: row 1: {problem}")


def test_crossed_and_one_sided_quotes_are_legal_data(csv: Csv) -> None:
    path = csv(QUOTES, f"SPY,{OPEN},11,11,11,11,5,10,10,10,10,5", f"SPY,{OPEN + MINUTE},,,,,7,10,10,10,10,5")
    quotes = history.read(path).quotes
    assert quotes is not None
    assert quotes.bid.tolist() == [11, 0]
    assert quotes.bid_size.tolist() == [5, 0]
    assert quotes.ask.tolist() == [10, 10]
    assert quotes.ts.tolist() == [OPEN + MINUTE, OPEN + 2 * MINUTE]


def test_naive_intraday_times_are_refused_with_the_way_to_name_their_zone(csv: Csv) -> None:
    path = csv(
        "timestamp,open,high,low,close,volume",
        "2023-08-03 09:30:00,10,11,9,10,5",
        "2023-08-03 09:31:00,10,11,9,10,5",
        name="SPY.csv",
    )
    message = refused(path)
    assert message.startswith(f"{path}: row 1: timestamp 2023-08-03 09:30:00 has no time zone")
    assert 'tz="America/New_York"' in message
    tape = history.read(path, tz="America/New_York")
    assert tape.bars is not None
    assert tape.bars.start.tolist() == [OPEN, OPEN + MINUTE]


def test_a_time_without_zone_among_others_with_one_is_named(csv: Csv) -> None:
    path = csv(
        "timestamp,open,high,low,close,volume",
        "2023-08-03T13:30:00Z,10,11,9,10,5",
        "2023-08-03T13:31:00,10,11,9,10,5",
        name="SPY.csv",
    )
    assert f"{path}: row 2: timestamp '2023-08-03T13:31:00' has no time zone" in refused(path)


def test_day_and_month_are_never_guessed(csv: Csv) -> None:
    path = csv("Date,Open,High,Low,Close,Volume", "03/08/2023,10,11,9,10,5", name="SPY.csv")
    assert "row 1: Date '03/08/2023' is not a time; write it as" in refused(path)


def test_a_daily_row_on_a_holiday_names_the_calendar(csv: Csv) -> None:
    path = csv("Date,Open,High,Low,Close,Volume", "2023-07-03,10,11,9,10,5", "2023-07-04,10,11,9,10,5", name="SPY.csv")
    assert "row 2: Date 2023-07-04 is not a session of XNYS" in refused(path)
    assert history.read(path, calendar="24/7").rows == 2


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ((MASSIVE.replace(",low", ""), "SPY,1,10,10,11,1,1"), "missing column low (layout massive"),
        (("timestamp,open,close", "1,2,3"), "missing columns high, low, volume"),
        (("ticker,price,size", "SPY,2,3"), "missing column timestamp (layout tick-trades"),
        (("a,b,c", "1,2,3"), "is not a supported layout (columns a, b, c)"),
        ((MASSIVE,), "has a header (ticker, volume, open, close, high, low, window_start, transactions) and no rows"),
        (("",), "is empty"),
        ((MASSIVE.replace("volume,", "volume,open,"), "SPY,1,10,10,10,11,9,1,1"), "has the column 'open' twice"),
    ],
)
def test_a_file_without_the_needed_columns_or_rows_is_refused(csv: Csv, lines: tuple[str, ...], problem: str) -> None:
    path = csv(*lines)
    assert refused(path).startswith(f"{path}: {problem}")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "SPY.csv"
    path.touch()
    assert refused(path) == f"{path}: is empty; give a file with a header and rows"


def test_truncated_gzip_is_refused_at_any_length(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join((MASSIVE, *GOOD_ROWS)).encode())
    path = tmp_path / "SPY.csv.gz"
    for length in (11, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused(path).startswith(f"{path}: the gzip data end too early (truncated)")
    path.write_bytes(whole[:30] + b"\xff\xff\xff\xff" + whole[34:])
    assert refused(path).startswith(f"{path}: the gzip data are damaged")


@pytest.mark.parametrize("content", [b"\x50\x4b\x03\x04\x00\x00workbook", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_another_format_is_refused_by_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "book.csv"
    path.write_bytes(content)
    assert refused(path) == f"{path}: is not a supported format; give csv, csv.gz, parquet, dbn or dbn.zst"


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    path.write_bytes(b"PAR1" + b"\x01" * 100)
    assert refused(path).startswith(f"{path}: the parquet data are damaged")


def test_an_unknown_symbol_is_answered_with_near_ones(csv: Csv) -> None:
    path = csv(MASSIVE, *GOOD_ROWS)
    assert refused(path, symbols=["SPX"]) == f"{path}: has no symbol SPX; did you mean SPY?"
    assert refused(path, symbols=["SPY", "QQQ"]).startswith(f"{path}: has no symbol QQQ; it holds SPY")


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.csv") == f"{tmp_path / 'none.csv'}: no such file or folder; check the path"
    assert refused(tmp_path).startswith(f"{tmp_path}: the folder holds no market data")
    assert refused(str(tmp_path / "*.csv")).startswith(f"{tmp_path / '*.csv'}: no file matches")
    assert "no files to read" in refused([])
    assert "cannot read int" in refused([3])
    assert "cannot read NoneType" in refused(None)


def test_text_in_another_encoding_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes("\n".join((MASSIVE, *GOOD_ROWS, GOOD_ROWS[0].replace("SPY", "SP\xe9"))).encode("latin-1"))
    assert refused(path) == f"{path}: row 4: is not UTF-8 text; save the file as UTF-8"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(csv: Csv) -> None:
    path = csv(MASSIVE, *GOOD_ROWS)
    path.chmod(0)
    assert refused(path).startswith(f"{path}: cannot be read (Permission denied)")


def test_nothing_is_returned_when_one_file_of_several_is_bad(csv: Csv) -> None:
    good = csv(MASSIVE, *GOOD_ROWS, name="a.csv")
    bad = csv(MASSIVE, f"QQQ,1,10,10,9,11,{OPEN},1", name="b.csv")
    assert f"{bad}: row 1: high 9 is below low 11" in refused([good, bad])


def test_two_files_that_differ_about_a_bar_are_refused_and_agreeing_ones_merge(csv: Csv) -> None:
    one = csv(MASSIVE, *GOOD_ROWS[:2], name="a.csv")
    agreeing = csv(MASSIVE, *GOOD_ROWS[1:], name="b.csv")
    assert history.read([one, agreeing]).rows == 3
    differing = csv(MASSIVE, GOOD_ROWS[1].replace("200", "201"), name="c.csv")
    assert f"{differing}: differs from {one} about SPY at 2023-08-03T13:32:00Z" in refused([one, differing])


def test_bars_of_different_lengths_are_not_mixed(csv: Csv) -> None:
    minutes = csv(MASSIVE, *GOOD_ROWS, name="a.csv")
    seconds = csv(MASSIVE, f"IBM,1,10,10,11,9,{OPEN + 1_000_000_000},1", name="b.csv")
    assert f"{seconds}: holds 1 s bars where {minutes} holds 60 s bars" in refused([minutes, seconds])


def test_dates_and_hours_that_leave_nothing_are_refused_with_the_span_of_the_data(csv: Csv) -> None:
    path = csv(MASSIVE, *GOOD_ROWS)
    message = refused(path, start="2024-01-01")
    assert "no rows from 2024-01-01 to the last row in regular hours of XNYS" in message
    assert "the data go from 2023-08-03T13:30:00Z to 2023-08-03T13:33:00Z" in message
    assert "has no time zone" in refused(path, start="2023-08-03T10:00:00")
    assert "'tomorrow' is not a date or time" in refused(path, end="tomorrow")
    assert "session 'night' is not known" in refused(path, session="night")


def test_a_bar_whose_length_cannot_be_known_is_refused(csv: Csv) -> None:
    path = csv("timestamp,open,high,low,close,volume", "2023-08-03T13:30:00Z,10,11,9,10,5", name="SPY.csv")
    assert 'say it: interval="1min"' in refused(path)
    assert history.read(path, interval="5min").bar_ns == 5 * MINUTE
    assert "interval '1 fortnight' is not known" in refused(path, interval="1 fortnight")


def test_bad_frames_are_refused_like_files() -> None:
    frame = pd.DataFrame({c: [10.0, 10.0] for c in ("open", "high", "low", "close", "volume")})
    frame.index = pd.date_range("2023-08-03 09:30", periods=2, freq="1min", tz="America/New_York")
    assert "dataframe: names no symbol" in refused(frame)
    frame.iloc[1, 0] = np.nan
    assert refused(frame, symbol="SPY").startswith("dataframe: row 2: open is NaN")
    assert "has no time zone" in refused(frame.tz_localize(None), symbol="SPY")
    assert "no rows" in refused(frame.iloc[:0], symbol="SPY")


def test_bad_corporate_actions_are_refused(csv: Csv) -> None:
    bars = csv(MASSIVE, *GOOD_ROWS)
    header = "symbol,ex_date,ratio,dividend"
    for row, problem in (
        ("SPY,soon,2,", "ex_date 'soon' is not a date"),
        ("SPY,2023-08-03,0,", "ratio 0 is not above 0"),
        ("SPY,2023-08-03,x,", "ratio 'x' is not a number"),
        ("SPY,2023-08-03,,-1", "dividend -1 is negative"),
        (",2023-08-03,2,", "symbol is empty"),
    ):
        path = csv(header, row, name="splits.csv")
        assert refused(bars, actions=path).startswith(f"{path}: row 1: {problem}")
    assert "missing column ex_date" in refused(bars, actions=csv("symbol,ratio", "SPY,2", name="splits.csv"))


def test_shuffled_rows_are_refused_or_give_the_same_tape(csv: Csv) -> None:
    rows = [
        f"{symbol},{100 + i},10,10,11,9,{OPEN + i * MINUTE},1" for symbol in ("AAA", "BBB", "CCC") for i in range(4)
    ]
    expected = history.read(csv(MASSIVE, *rows)).bars
    assert expected is not None
    chance = random.Random(5)
    refusals = same = 0
    for trial in range(120):
        shuffled = rows[:]
        if trial % 2:
            chance.shuffle(shuffled)
        else:  # interleave the symbols at random, each in its own order
            queues = [rows[i * 4 : i * 4 + 4] for i in range(3)]
            shuffled = [chance.choice([q for q in queues if q]).pop(0) for _ in rows]
        try:
            bars = history.read(csv(MASSIVE, *shuffled)).bars
        except DataError as error:
            assert "sort the file by symbol and window_start" in str(error)
            refusals += 1
        else:
            assert bars is not None
            assert bars.digest() == expected.digest()
            same += 1
    assert same >= 60
    assert refusals > 0
