"""Databento files, encoded here with Databento's own encoder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn as dbn
import pytest

from northstar_core.data import history
from northstar_core.data.calendar import sessions
from northstar_core.model.errors import DataError

OPEN, MINUTE, DAY = 1_691_069_400_000_000_000, 60_000_000_000, 86_400_000_000_000  # 2023-08-03 09:30 New York
UNDEFINED = 2**63 - 1


def encoded(path: Path, schema: str, records: list[Any], symbols: dict[int, str]) -> Path:
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[
                SimpleNamespace(start_date=dt.date(2023, 8, 1), end_date=dt.date(2023, 9, 1), symbol=str(number))
            ],
        )
        for number, symbol in symbols.items()
    ]
    metadata = dbn.Metadata(
        dataset="XNAS.ITCH", start=OPEN, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.from_str(schema), symbols=list(symbols.values()), mappings=mappings,
    )  # fmt: skip
    path.write_bytes(bytes(metadata) + b"".join(bytes(record) for record in records))
    return path


def ohlcv(start: int, prices: tuple[float, float, float, float], instrument: int = 1, rtype: int = 33) -> Any:
    o, h, lo, c = (round(price * 1e9) for price in prices)
    return dbn.OHLCVMsg(rtype, 2, instrument, start, o, h, lo, c, 500)


def test_minute_bars_keep_their_prices_to_the_last_digit(tmp_path: Path) -> None:
    prices = (448.04, 450.79, 447.38, 448.84)
    records = [ohlcv(OPEN, prices), ohlcv(OPEN, prices, 2), ohlcv(OPEN + MINUTE, prices)]
    path = encoded(tmp_path / "bars.dbn", "ohlcv-1m", records, {1: "SPY", 2: "SPY   230901C00430000"})
    tape = history.read(path)
    bars = tape.bars
    assert bars is not None
    assert bars.symbols == ("SPY", "SPY230901C00430000")
    assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0], bars.volume[0]) == (*prices, 500)
    assert bars.ts.tolist() == [OPEN + MINUTE, OPEN + MINUTE, OPEN + 2 * MINUTE]
    assert (tape.bar_ns, tape.sources[0].layout, tape.sources[0].rows) == (MINUTE, "dbn", 3)
    assert history.read(path, symbols=["SPY"]).rows == 2
    with pytest.raises(DataError, match="has no symbol SPX; did you mean SPY"):
        history.read(path, symbols=["SPX"])


def test_zstd_compressed_files_give_the_same_tape(tmp_path: Path) -> None:
    import zstandard

    plain = encoded(tmp_path / "bars.dbn", "ohlcv-1m", [ohlcv(OPEN, (10, 11, 9, 10))], {1: "SPY"})
    packed = tmp_path / "bars.dbn.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
    one, other = history.read(plain).bars, history.read(packed).bars
    assert one is not None
    assert other is not None
    assert one.digest() == other.digest()


def test_daily_bars_take_their_hours_from_the_calendar(tmp_path: Path) -> None:
    midnight = OPEN // DAY * DAY
    path = encoded(tmp_path / "days.dbn", "ohlcv-1d", [ohlcv(midnight, (10, 11, 9, 10), rtype=35)], {1: "SPY"})
    tape = history.read(path)
    assert tape.daily
    assert tape.bars is not None
    assert (tape.bars.start[0], tape.bars.ts[0]) == (tape.sessions[0].open, tape.sessions[0].close)
    assert tape.sessions == sessions("2023-08-03", "2023-08-03")


def test_prints_are_known_when_they_were_received(tmp_path: Path) -> None:
    record = dbn.TradeMsg(2, 1, OPEN, 10_250_000_000, 300, dbn.Action.TRADE, dbn.Side.BID, 0, OPEN + 7)
    trades = history.read(encoded(tmp_path / "t.dbn", "trades", [record], {1: "SPY"})).trades
    assert trades is not None
    assert (trades.ts[0], trades.price[0], trades.size[0], trades.forms_price[0]) == (OPEN + 7, 10.25, 300, True)


def test_top_of_book_becomes_quotes_and_an_undefined_price_a_missing_side(tmp_path: Path) -> None:
    level = dbn.BidAskPair(10_000_000_000, 10_010_000_000, 300, 500)
    empty = dbn.BidAskPair(UNDEFINED, 10_010_000_000, 0, 500)
    records = [
        dbn.MBP1Msg(2, 1, OPEN, 10_000_000_000, 300, dbn.Action.ADD, dbn.Side.BID, 0, OPEN + i, levels=book)
        for i, book in enumerate((level, empty))
    ]
    quotes = history.read(encoded(tmp_path / "q.dbn", "mbp-1", records, {1: "SPY"})).quotes
    assert quotes is not None
    assert quotes.bid.tolist() == [10, 0]
    assert quotes.ask.tolist() == [10.01, 10.01]
    assert quotes.ask_size.tolist() == [500, 500]


def test_trades_with_the_book_before_them_give_prints_and_quotes(tmp_path: Path) -> None:
    level = dbn.BidAskPair(10_000_000_000, 10_010_000_000, 300, 500)
    record = dbn.MBP1Msg(2, 1, OPEN, 10_010_000_000, 100, dbn.Action.TRADE, dbn.Side.BID, 0, OPEN + 1, levels=level)
    tape = history.read(encoded(tmp_path / "tb.dbn", "tbbo", [record], {1: "SPY"}))
    assert [len(table) for table in tape.tables] == [1, 1]
    assert len(tape.sources) == 1


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (ohlcv(OPEN + MINUTE, (10, 9, 11, 10)), "row 2: high 9 is below low 11"),
        (dbn.OHLCVMsg(33, 2, 1, OPEN + MINUTE, UNDEFINED, 1, 1, 1, 1), "row 2: open is NaN"),
        (ohlcv(OPEN, (10, 11, 9, 10)), "row 2: ts_event"),
        (ohlcv(OPEN + MINUTE, (10, 11, 9, 10), instrument=9), "row 2: instrument 9 has no symbol on 2023-08-03"),
    ],
)
def test_an_impossible_record_refuses_the_file(tmp_path: Path, record: Any, problem: str) -> None:
    path = encoded(tmp_path / "bars.dbn", "ohlcv-1m", [ohlcv(OPEN, (10, 11, 9, 10)), record], {1: "SPY"})
    with pytest.raises(DataError) as caught:
        history.read(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_truncated_file_and_another_schema_are_refused(tmp_path: Path) -> None:
    path = encoded(
        tmp_path / "bars.dbn", "ohlcv-1m", [ohlcv(OPEN + i * MINUTE, (10, 11, 9, 10)) for i in range(3)], {1: "SPY"}
    )
    whole = path.read_bytes()
    for length in (40, len(whole) - 10, len(whole) - 50):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"the DBN data (are damaged|end in the middle of a record)"):
            history.read(path)
    path = encoded(tmp_path / "status.dbn", "status", [], {1: "SPY"})
    with pytest.raises(DataError, match="DBN schema status is not supported; export one of ohlcv-1s"):
        history.read(path)


def test_conversion_to_our_parquet_keeps_the_tape(tmp_path: Path) -> None:
    path = encoded(tmp_path / "bars.dbn", "ohlcv-1m", [ohlcv(OPEN, (10, 11, 9, 10))], {1: "SPY"})
    tape = history.read(path)
    history.write_parquet(tape, tmp_path / "kept")
    back = history.read(tmp_path / "kept")
    assert tape.bars is not None
    assert back.bars is not None
    assert back.bars.digest() == tape.bars.digest()
