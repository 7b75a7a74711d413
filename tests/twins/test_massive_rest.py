"""The vendor's own REST client against the twin, unchanged but for its address."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from itertools import islice
from typing import Any

import aiohttp
import pytest
from massive import RESTClient
from massive.exceptions import BadResponse
from urllib3.exceptions import MaxRetryError

from northstar_core.data.synthetic import synthesize
from northstar_core.model.instrument import instrument
from northstar_core.model.market import Bar
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import MINUTE_NS, TwinMarket
from northstar_core.twins.serve import serve

TAPE = synthesize(symbols=["SPY", "QQQ"], days=5, options_on="SPY", expiries=1, strikes=2)
TODAY = TAPE.sessions[2]
NOW = TODAY.open + 90 * MINUTE_NS
MS = 10**6


def asked(question: Callable[[RESTClient, TwinMarket], Any], *rules: Fault, key: str = "KEY", **options: Any) -> Any:
    """Return what the vendor's client answers to a question at 11:00 of the third session."""

    async def run() -> Any:
        market = TwinMarket(TAPE, start=NOW)
        async with serve(
            market, massive=0, faults={"massive": list(rules)}, options={"massive": options}, play=False
        ) as served:
            client = RESTClient(key, base=served.url("massive"), retries=0)
            try:
                return await asyncio.to_thread(question, client, market)
            finally:
                client.client.clear()
                client.vx.client.clear()

    return asyncio.run(run())


def minute_bars(rows: list[Any]) -> list[Bar]:
    return [
        Bar("SPY", row.timestamp * MS, row.timestamp * MS + MINUTE_NS, row.open, row.high, row.low, row.close, row.volume)
        for row in rows
    ]


@pytest.mark.parametrize("limit", [50_000, 100, 7])
def test_minutes_come_page_by_page_complete_and_only_as_far_as_they_have_happened(limit: int) -> None:
    day = TAPE.sessions[1].label

    def question(client: RESTClient, market: TwinMarket) -> None:
        rows = list(client.list_aggs("SPY", 1, "minute", day, TODAY.label, adjusted=False, limit=limit))
        assert minute_bars(rows) == market.bars("SPY", MINUTE_NS, TAPE.sessions[1].open, NOW)
        newest_first = list(client.list_aggs("SPY", 1, "minute", day, TODAY.label, adjusted=False, limit=limit, sort="desc"))
        assert newest_first == rows[::-1]

    asked(question)


def test_times_in_milliseconds_bound_a_range_on_both_sides() -> None:
    def question(client: RESTClient, market: TwinMarket) -> None:
        begin = TODAY.open // MS
        rows = client.get_aggs("SPY", 1, "minute", begin + 60_000, begin + 180_000)
        assert [row.timestamp - begin for row in rows] == [60_000, 120_000, 180_000]
        seconds = client.get_aggs("SPY", 1, "second", begin, begin + 59_999)
        assert sum(row.volume for row in seconds) == client.get_aggs("SPY", 1, "minute", begin, begin)[0].volume

    asked(question)


def test_longer_windows_are_made_of_minutes_and_days_are_new_yorks() -> None:
    def question(client: RESTClient, market: TwinMarket) -> None:
        first = TAPE.sessions[0]
        fives = client.get_aggs("SPY", 5, "minute", first.label, first.label)
        ones = client.get_aggs("SPY", 1, "minute", first.label, first.label)
        assert len(fives) == 78 and fives[0].high == max(row.high for row in ones[:5])
        days = client.get_aggs("SPY", 1, "day", first.label, TODAY.label)
        assert [row.timestamp for row in days] == [
            int(dt.datetime.combine(s.label, dt.time(5), dt.UTC).timestamp() * 1000) for s in TAPE.sessions[:3]
        ]
        assert days[0].volume == sum(row.volume for row in ones)
        assert client.get_previous_close_agg("SPY")[0].close == days[1].close
        assert {row.ticker: row.close for row in client.get_grouped_daily_aggs(first.label)}["SPY"] == days[0].close
        regular = client.get_daily_open_close_agg("SPY", first.label)
        assert (regular.open, regular.close, regular.high) == (days[0].open, days[0].close, days[0].high)

    asked(question)


def test_prints_and_quotes_are_listed_in_both_orders_page_by_page() -> None:
    def question(client: RESTClient, market: TwinMarket) -> None:
        span = {"timestamp_gte": TODAY.open, "timestamp_lt": TODAY.open + MINUTE_NS}
        trades = list(client.list_trades("SPY", **span, order="asc", limit=10))
        assert sum(t.size for t in trades) == market.bars("SPY", MINUTE_NS, TODAY.open, TODAY.open + MINUTE_NS)[0].volume
        assert [t.sip_timestamp for t in trades] == sorted(t.sip_timestamp for t in trades)
        assert list(client.list_trades("SPY", **span, limit=10)) == trades[::-1]
        quotes = list(client.list_quotes("SPY", **span, limit=1000))
        assert len(quotes) >= 60 and all(q.bid_price < q.ask_price for q in quotes)
        assert next(iter(client.list_trades("SPY", limit=1))).price == client.get_last_trade("SPY").price
        last = client.get_last_quote("SPY")
        assert (last.bid_price, last.ask_price) == (market.last("SPY").quote.bid, market.last("SPY").quote.ask)  # type: ignore[union-attr]

    asked(question)


def test_snapshots_tell_of_the_day_so_far() -> None:
    def question(client: RESTClient, market: TwinMarket) -> None:
        snapshot = client.get_snapshot_ticker("stocks", "SPY")
        minutes = market.bars("SPY", MINUTE_NS, TODAY.open, NOW)
        assert snapshot.day.volume == sum(bar.volume for bar in minutes)
        assert snapshot.min.close == minutes[-1].close and snapshot.last_quote.bid_price > 0
        assert snapshot.prev_day.close == client.get_previous_close_agg("SPY")[0].close
        assert {row.ticker for row in client.get_snapshot_all("stocks")} == {"SPY", "QQQ"}

    asked(question)


def test_contracts_are_found_by_expiry_and_strike_and_chains_have_greeks() -> None:
    def question(client: RESTClient, market: TwinMarket) -> None:
        listed = [option for option in market.chain("SPY") if option.expiry >= TODAY.label]
        found = list(client.list_options_contracts("SPY", limit=3, expiration_date_gte=TODAY.label))
        assert [row.ticker for row in found] == sorted(f"O:{option.symbol}" for option in listed)
        strike = float(listed[0].strike)
        some = list(client.list_options_contracts("SPY", strike_price_gte=strike, strike_price_lte=strike, contract_type="put"))
        assert some and all(row.strike_price == strike and row.contract_type == "put" for row in some)
        chain = list(client.list_snapshot_options_chain("SPY", params={"limit": 4}))
        assert [row.details.ticker for row in chain] == [row.ticker for row in found]
        call = next(row for row in chain if row.greeks.delta and instrument(row.details.ticker[2:]).right == "C")  # type: ignore[union-attr]
        assert 0 < call.greeks.delta < 1 and call.implied_volatility > 0 and call.last_quote.bid < call.last_quote.ask
        assert client.get_options_contract(found[0].ticker).strike_price == found[0].strike_price
        assert client.get_snapshot_option("SPY", found[0].ticker).details.ticker == found[0].ticker

    asked(question)


def test_the_market_is_open_when_its_tape_says_so_and_conditions_say_what_they_move() -> None:
    def question(client: RESTClient, market: TwinMarket) -> None:
        status = client.get_market_status()
        assert (status.market, status.early_hours, status.exchanges.nyse) == ("open", False, "open")
        assert client.get_market_holidays() == []
        conditions = {row.id: row.update_rules.consolidated for row in client.list_conditions("stocks", "trade", limit=20)}
        assert len(conditions) > 30 and not conditions[2].updates_high_low and conditions[2].updates_volume

    asked(question)


def test_errors_come_in_the_vendors_envelope() -> None:
    def wrong_key(client: RESTClient, market: TwinMarket) -> None:
        with pytest.raises(BadResponse, match="Unknown API Key"):
            client.get_last_trade("SPY")

    def wrong(client: RESTClient, market: TwinMarket) -> None:
        with pytest.raises(BadResponse, match=r'"status":"ERROR".*timespan'):
            client.get_aggs("SPY", 1, "fortnight", TODAY.label, TODAY.label)
        with pytest.raises(BadResponse, match="cannot be a time that occurs before"):
            client.get_aggs("SPY", 1, "minute", 2000, 1000)
        with pytest.raises(BadResponse, match="NOT_FOUND"):
            client.get_daily_open_close_agg("SPY", dt.date(2024, 1, 1))
        assert client.get_aggs("NOPE", 1, "minute", TODAY.label, TODAY.label) == []

    def too_many(client: RESTClient, market: TwinMarket) -> None:
        client.get_last_trade("SPY")
        with pytest.raises(MaxRetryError, match="429"):
            client.get_last_trade("SPY")

    def busy(client: RESTClient, market: TwinMarket) -> None:
        with pytest.raises(MaxRetryError, match="429"):
            client.get_aggs("SPY", 1, "minute", TODAY.label, TODAY.label)
        assert client.get_aggs("SPY", 1, "minute", TODAY.label, TODAY.label)

    asked(wrong_key, key="WRONG")
    asked(wrong)
    asked(too_many, rate_limit=1)
    asked(busy, Fault(at="aggs", do="429"))


def test_the_next_page_names_neither_this_server_nor_the_key() -> None:
    async def run() -> None:
        async with serve(TwinMarket(TAPE, start=NOW), massive=0, play=False) as served, aiohttp.ClientSession() as session:
            path = f"/v2/aggs/ticker/SPY/range/1/minute/{TODAY.label}/{TODAY.label}?limit=10&apiKey=KEY"
            async with session.get(served.url("massive") + path) as answer:
                page = await answer.json()
            assert page["next_url"].startswith("https://api.massive.com/v2/aggs/") and "KEY" not in page["next_url"]
            assert page["resultsCount"] == 10 and len(list(islice(page["results"], 20))) == 10

    asyncio.run(run())
