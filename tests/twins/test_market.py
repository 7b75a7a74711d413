"""A market that plays a tape: what is heard, in which order, what is known, and by whom orders are filled."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from functools import cache

import pytest

from northstar_core.data.synthetic import synthesize
from northstar_core.model.errors import DataError
from northstar_core.model.execution import ActivityKind, ExecType, ExecutionReport
from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.order import OrderType, PlaceOrder, Side, TimeInForce
from northstar_core.model.tape import Tape
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.market import DAY_NS, MINUTE_NS, TwinMarket

SECOND = 10**9


@cache
def tape() -> Tape:
    return synthesize(symbols=("ALFA", "BETA"), days=2, strikes=1, expiries=1)


def heard_by(market: TwinMarket, symbols: set[str] | None = None) -> list[MarketEvent]:
    events: list[MarketEvent] = []
    market.listen(events.extend, symbols)
    return events


def order(n: int, qty: int, side: Side = Side.BUY, limit: str | None = None, **more: object) -> PlaceOrder:
    kind = OrderType.MARKET if limit is None else OrderType.LIMIT
    price = None if limit is None else Decimal(limit)
    return PlaceOrder(0, f"o{n}", "", "a", "ALFA", side, Decimal(qty), kind, price, **more)  # type: ignore[arg-type]


def test_it_begins_five_minutes_before_the_first_open_and_the_clock_stands_until_then() -> None:
    market = TwinMarket(tape())
    assert market.now() == market.clock.now() == tape().sessions[0].open - 5 * MINUTE_NS
    assert market.last("ALFA") is None
    assert market.bars("ALFA", MINUTE_NS, 0, 2**62) == []


def test_a_minute_is_played_second_by_second_and_adds_up_to_its_bar() -> None:
    market = TwinMarket(tape())
    events = heard_by(market, {"ALFA"})
    opens = tape().sessions[0].open
    market.step(opens + MINUTE_NS)
    bar = next(e for e in events if isinstance(e, Bar) and e.ts - e.start == MINUTE_NS)
    trades = [e for e in events if isinstance(e, Trade) and e.ts < bar.ts]
    seconds = [e for e in events if isinstance(e, Bar) and e.ts - e.start == SECOND]
    assert (bar.start, bar.ts) == (opens, opens + MINUTE_NS)
    assert sum(t.size for t in trades) == sum(s.volume for s in seconds) == bar.volume
    assert (trades[0].price, max(t.price for t in trades), trades[-1].price) == (bar.open, bar.high, bar.close)
    assert [e.ts for e in events] == sorted(e.ts for e in events)
    assert {e.symbol for e in events} == {"ALFA"}
    assert seconds == market.bars("ALFA", SECOND, opens, bar.ts)


def test_who_comes_later_or_listens_to_less_hears_the_same_events() -> None:
    market = TwinMarket(tape())
    everything = heard_by(market)
    wanted: set[str] = set()
    chosen = heard_by(market, wanted)
    half = tape().sessions[0].open + 90 * SECOND
    market.step(half)
    assert chosen == []
    wanted.add("BETA")
    market.refresh()
    market.step(half + 90 * SECOND)
    assert chosen == [e for e in everything if e.symbol == "BETA" and e.ts > half]
    assert chosen


def test_what_is_known_of_a_symbol_does_not_depend_on_who_listens() -> None:
    quiet, busy = TwinMarket(tape()), TwinMarket(tape())
    heard_by(busy)
    for seconds in (0, 1, 59, 60, 61, 3601, 86_400):
        ts = tape().sessions[0].open + seconds * SECOND
        quiet.step(ts)
        busy.step(ts)
        for symbol in tape().symbols:
            assert quiet.last(symbol) == busy.last(symbol), (symbol, seconds)


def test_steps_of_any_length_play_the_same() -> None:
    once, often = TwinMarket(tape()), TwinMarket(tape())
    first, second = heard_by(once), heard_by(often)
    opens = tape().sessions[0].open
    once.step(opens + 300 * SECOND)
    for tenth in range(3001):
        often.step(opens + tenth * SECOND // 10)
    assert first == second


def test_history_before_the_start_is_there_and_the_future_is_not() -> None:
    second = tape().sessions[1]
    market = TwinMarket(tape(), start=second.open + 150 * SECOND)
    bars = market.bars("ALFA", MINUTE_NS, 0, 2**62)
    assert len(bars) == 390 + 2
    assert market.bars("ALFA", 5 * MINUTE_NS, 0, 2**62)[-1].ts == tape().sessions[0].close
    day = market.bars("ALFA", DAY_NS, 0, 2**62)
    assert [(d.start, d.ts, d.open, d.close) for d in day] == [
        (tape().sessions[0].open, tape().sessions[0].close, bars[0].open, bars[389].close)
    ]
    assert day[0].high == max(b.high for b in bars[:390])
    assert len(market.bars("ALFA", SECOND, second.open, 2**62)) <= 150
    assert market.bars("NOPE", MINUTE_NS, 0, 2**62) == []
    assert market.last("ALFA") is not None


def test_sessions_open_before_what_happens_then_and_close_after_it() -> None:
    market = TwinMarket(tape())
    seen: list[tuple[int, str]] = []
    market.listen(lambda events: seen.append((events[0].ts, "events")))
    market.on_session(lambda ts, session, opens: seen.append((ts, "open" if opens else "close")))
    session = tape().sessions[0]
    market.at(session.close, lambda: seen.append((session.close, "timer")))
    market.step(session.close)
    assert seen[0] == (session.open, "open")
    assert seen[-3:] == [(session.close, "events"), (session.close, "close"), (session.close, "timer")]


def test_a_running_market_keeps_to_its_clock_and_ends_with_the_tape() -> None:
    async def act() -> None:
        last = tape().sessions[-1].close
        market = TwinMarket(tape(), speed=1000, start=last - 60 * SECOND)
        lead: list[int] = []
        market.listen(lambda events: lead.append(events[0].ts - market.clock.now()))
        async with asyncio.timeout(20):
            await market.run()
        assert lead and max(lead) <= 0  # nothing before its time
        assert market.played >= last

    asyncio.run(act())


def test_a_tape_without_rows_is_no_market() -> None:
    with pytest.raises(DataError):
        TwinMarket(Tape())


# ── the account ───────────────────────────────────────────────────────────────────────────────────────────────────────


def account_in(market: TwinMarket) -> tuple[TwinAccount, list[ExecutionReport]]:
    account = TwinAccount(market, "a", Decimal(100_000))
    reports: list[ExecutionReport] = []
    account.on_update(lambda update: reports.append(update) if isinstance(update, ExecutionReport) else None)
    return account, reports


def test_orders_fill_on_what_is_played_and_cash_is_the_sum_of_the_fills() -> None:
    market = TwinMarket(tape())
    account, reports = account_in(market)
    market.step(tape().sessions[0].open + 100 * SECOND)
    state = market.last("ALFA")
    assert state is not None and state.quote is not None
    account.submit(order(1, 3000))
    first = reports[1]
    assert (float(first.price), float(first.qty)) == (state.quote.ask, min(state.quote.ask_size, 3000.0))
    market.step(market.played + MINUTE_NS)
    assert sum(r.qty for r in account.executions) == account.position("ALFA") == 3000
    assert account.cash == 100_000 - sum(r.qty * r.price for r in account.executions)
    account.submit(order(2, 4000, Side.SELL))
    market.step(market.played + MINUTE_NS)
    holding = account.holdings["ALFA"]
    assert holding.qty == -1000
    last_sold = [r.price for r in account.executions if r.side is Side.SELL]
    assert min(last_sold) <= holding.avg_price <= max(last_sold)
    assert {h.symbol: h.qty for h in account.snapshot().positions} == {"ALFA": -1000}


def test_two_accounts_trade_in_one_market_and_know_nothing_of_each_other() -> None:
    market = TwinMarket(tape())
    one, other = account_in(market)[0], TwinAccount(market, "b", Decimal(5))
    market.step(tape().sessions[0].open + SECOND)
    one.submit(order(1, 10))
    market.step(market.played + MINUTE_NS)
    assert (one.position("ALFA"), other.position("ALFA"), other.cash) == (10, 0, 5)


def test_what_a_listener_asks_for_on_hearing_a_report_is_told_after_it() -> None:
    market = TwinMarket(tape())
    account = TwinAccount(market, "a", Decimal(100_000))
    heard: list[tuple[str, ExecType]] = []

    def hear(update: object) -> None:
        assert isinstance(update, ExecutionReport)
        heard.append((update.order_id, update.exec_type))
        if update.exec_type is ExecType.NEW and update.order_id == "o1":
            account.submit(order(2, 1, limit="1"))

    account.on_update(hear)
    market.step(tape().sessions[0].open + SECOND)
    account.submit(order(1, 1))
    assert heard == [("o1", ExecType.NEW), ("o1", ExecType.TRADE), ("o2", ExecType.NEW)]


def test_an_order_before_the_open_waits_for_it_and_does_not_meet_yesterdays_quote() -> None:
    market = TwinMarket(tape(), start=tape().sessions[1].open - MINUTE_NS)
    account, reports = account_in(market)
    account.submit(order(1, 10))
    assert [r.exec_type for r in reports] == [ExecType.NEW]
    market.step(tape().sessions[1].open + SECOND)
    assert [r.exec_type for r in reports] == [ExecType.NEW, ExecType.TRADE]
    assert reports[1].ts >= tape().sessions[1].open


def test_an_account_that_begins_within_a_session_trades_at_once_and_loses_day_orders_at_the_close() -> None:
    session = tape().sessions[0]
    market = TwinMarket(tape(), start=session.open + 30 * MINUTE_NS)
    account, reports = account_in(market)
    account.submit(order(1, 10, limit="1"))
    account.submit(order(2, 10, limit="1", tif=TimeInForce.GTC))
    account.cancel("o9")
    market.step(session.close)
    assert [(r.order_id, r.exec_type) for r in reports[2:]] == [
        ("o9", ExecType.CANCEL_REJECTED),
        ("o1", ExecType.EXPIRED),
    ]
    account.replace("o2", limit_price=Decimal(10_000))
    market.step(tape().sessions[1].open + MINUTE_NS)
    assert [r.exec_type for r in reports[4:]] == [ExecType.REPLACED, ExecType.TRADE]
    assert reports[-1].ts >= tape().sessions[1].open


def test_an_option_that_is_held_over_its_last_close_is_settled() -> None:
    market = TwinMarket(synthesize(symbols=("ALFA",), days=5, strikes=1, expiries=1))
    account = TwinAccount(market, "a", Decimal(1_000_000))
    option = market.chain("ALFA")[0]
    market.step(next(s for s in market.sessions if s.label == option.expiry).open + MINUTE_NS)
    account.submit(PlaceOrder(0, "o1", "", "a", option.symbol, Side.BUY, Decimal(1)))
    market.step(market.played + MINUTE_NS)
    assert account.position(option.symbol) == 1
    market.step(market.sessions[-1].close)
    assert account.position(option.symbol) == 0
    kinds = {activity.kind for activity in account.activities}
    assert kinds in ({ActivityKind.EXPIRATION}, {ActivityKind.EXERCISE, ActivityKind.DELIVERY})


def test_quotes_of_options_are_played_as_they_are() -> None:
    market = TwinMarket(tape())
    option = market.chain("ALFA")[0]
    events = heard_by(market, {option.symbol})
    market.step(tape().sessions[0].open + 3 * MINUTE_NS)
    assert [type(e) for e in events] == [Quote] * 3
    state = market.last(option.symbol)
    assert state is not None and state.quote == events[-1] and state.price == state.quote.price
