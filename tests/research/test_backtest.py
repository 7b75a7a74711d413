"""Runs small enough to be worked out by hand: what fills, when and at what price; and what can never happen."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from northstar_core.model import events as e
from northstar_core.model.account import SessionRule
from northstar_core.model.errors import ParameterError, StrategyError
from northstar_core.model.execution import ActivityKind
from northstar_core.model.order import Side, TimeInForce
from northstar_core.model.tape import CorporateAction, Tape
from northstar_core.research import backtest as module
from northstar_core.research.backtest import Backtest
from northstar_core.sim.costs import PerShare
from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import Latency
from northstar_core.sim.model import SimModel
from northstar_core.strategy.context import Context
from tests.research.markets import (
    DAY,
    FIRST,
    FREE,
    MINUTE,
    QUEUE,
    D,
    Told,
    at,
    audited,
    bars,
    denials,
    fills,
    limits_for,
    market,
    of,
    quotes,
    run,
    session,
)  # fmt: skip

UP = [(100.0, 100.5), (101.0, 101.5), (102.0, 102.5), (103.0, 103.5)]
FLAT = [(100.0, 100.0)] * 6
CALL, PUT = "SPY231114C00100000", "SPY231114P00100000"


# ── fills ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_market_order_fills_at_the_open_of_the_next_bar() -> None:
    test = run(Told(at(0, lambda ctx: ctx.buy("SPY", 10))), market({"SPY": UP}))
    assert fills(test) == [("SPY", "BUY", "10", "101.0", 1)]
    (order,) = of(test, e.OrderSubmitted)
    assert order.ts == FIRST + MINUTE, "decided when the first bar had closed"
    assert order.verdict.ref == 100.5


def test_cash_is_worked_out_to_the_last_digit() -> None:
    def act(ctx: Context, event: Any) -> None:
        at_0(ctx, event)
        at_2(ctx, event)

    at_0, at_2 = at(0, lambda ctx: ctx.buy("SPY", 10)), at(2, lambda ctx: ctx.sell("SPY", 10))
    model = SimModel(costs=PerShare(D("0.0035"), minimum=D(0)), volume_share=None)
    test = run(Told(act), market({"SPY": UP}), model=model)
    fees = [fill.fees for fill in of(test, e.OrderFilled)]
    assert fees == [D("0.04"), D("0.04")], "0.035, up to the cent"
    assert test.engine.state.portfolio.accounts["main"].cash == D(100_000) - 1010 - D("0.04") + 1030 - D("0.04")


def test_an_order_of_the_sessions_last_bar_is_denied_or_waits_for_the_next_open() -> None:
    rows = bars({"SPY": [(100.0, 100.0), (101.0, 101.0), (105.0, 105.0)]}, starts=[FIRST, FIRST + MINUTE, FIRST + DAY])
    tape = market(rows, days=2, minutes=2)
    test = run(Told(at(1, lambda ctx: ctx.buy("SPY", 1))), tape)
    assert (fills(test), denials(test)) == ([], ["SESSION_CLOSED"])
    test = run(Told(at(1, lambda ctx: ctx.buy("SPY", 1))), tape, limits=QUEUE)
    assert fills(test) == [("SPY", "BUY", "1", "105.0", 1440)]


def test_daily_bars_decide_after_the_close_and_fill_at_the_next_open() -> None:
    sessions = [session(day) for day in range(3)]
    prices = {"SPY": [(100.0, 102.0), (103.0, 104.0), (105.0, 106.0)]}
    rows = bars(prices, starts=[s.open for s in sessions], length=390 * MINUTE)
    tape = market(rows, days=3, bar_ns=390 * MINUTE, daily=True)
    test = run(Told(at(0, lambda ctx: ctx.buy("SPY", 1))), tape)
    assert fills(test) == [("SPY", "BUY", "1", "103.0", 1440)]
    assert len(of(test, e.SessionOpened)) == len(of(test, e.SessionClosed)) == 3


def test_an_order_for_another_symbol_of_the_same_instant_never_fills_at_an_open_that_has_passed() -> None:
    rows = {"AAA": UP, "ZZZ": [(200.0, 200.0), (210.0, 210.0), (220.0, 220.0)]}
    for first, other in (("AAA", "ZZZ"), ("ZZZ", "AAA")):
        test = run(Told(at(1, lambda ctx, other=other: ctx.buy(other, 1), first)), market(rows))
        ((symbol, _, _, price, minute),) = fills(test)
        assert (symbol, price, minute) == (other, {"AAA": "102.0", "ZZZ": "220.0"}[other], 2)


def test_a_symbol_without_a_bar_for_a_while_fills_when_it_has_one() -> None:
    rows = {"AAA": FLAT, "ZZZ": [(50.0, 50.0), None, None, (51.0, 51.0)]}
    test = run(Told(at(1, lambda ctx: ctx.buy("ZZZ", 1), "AAA")), market(rows))
    assert fills(test) == [("ZZZ", "BUY", "1", "51.0", 3)]


def test_a_market_order_may_fill_at_the_close_that_decided_it() -> None:
    model = SimModel(fill_at=FillAt.CLOSE, volume_share=None)
    test = run(Told(at(0, lambda ctx: ctx.buy("SPY", 10))), market({"SPY": UP}), model=model)
    assert fills(test) == [("SPY", "BUY", "10", "100.5", 1)]


def test_latency_both_ways_moves_the_fill_and_the_news_of_it() -> None:
    def act(ctx: Context, event: Any) -> None:
        buy(ctx, event)
        if isinstance(event, e.OrderFilled) and event.side is Side.BUY:
            ctx.sell("SPY", 10)

    buy = at(0, lambda ctx: ctx.buy("SPY", 10))
    model = SimModel(latency=Latency(entry_ns=90 * 10**9, response_ns=30 * 10**9), volume_share=None)
    rows = [(100.0 + k, 100.0 + k) for k in range(8)]
    test = run(Told(act), market({"SPY": rows}), model=model)
    assert fills(test) == [
        ("SPY", "BUY", "10", "103.0", 3),  # arrives half a minute after the bar of minute 2 opened
        ("SPY", "SELL", "10", "106.0", 6),  # known when the bar of minute 3 has closed; there a minute and a half later
    ]


def test_quotes_fill_at_the_side_that_is_asked_for() -> None:
    tape = quotes("SPY", [(FIRST + k * 10**9, 100.0 + k, 100.1 + k) for k in range(1, 5)])
    bought: list[Any] = []

    def act(ctx: Context, event: Any) -> None:
        if type(event).__name__ == "Quote" and not bought:
            bought.append(ctx.buy("SPY", 10))

    model = SimModel(fill_at=FillAt.QUOTE)

    class Quoted(Told):
        on_quote = Told._do

    test = run(Quoted(act), Tape(quotes=tape, sessions=(session(),)), model=model)
    (fill,) = of(test, e.OrderFilled)
    assert (fill.price, fill.qty) == (D("101.1"), 10)
    assert bought[0].status == "FILLED"


# ── the order of things ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_timer_is_due_between_two_bars_and_orders_like_any_event() -> None:
    def act(ctx: Context, event: Any) -> None:
        first(ctx, event)
        if isinstance(event, e.TimerFired):
            ctx.buy("SPY", 1)

    first = at(0, lambda ctx: ctx.set_timer("soon", seconds=90))
    strategy = Told(act)
    test = run(strategy, market({"SPY": UP}))
    (timer,) = of(test, e.TimerFired)
    assert timer.ts == FIRST + MINUTE + 90 * 10**9
    seen = [type(event).__name__ for event in strategy.seen]
    assert seen[:5] == ["SessionOpened", "Bar", "Bar", "TimerFired", "Bar"]
    assert fills(test) == [("SPY", "BUY", "1", "103.0", 3)]


def test_a_timer_before_the_close_flattens_at_the_close() -> None:
    def act(ctx: Context, event: Any) -> None:
        if isinstance(event, e.SessionOpened):
            ctx.set_timer("close-1m")
        if isinstance(event, e.TimerFired):
            ctx.flatten()
        buy(ctx, event)

    buy = at(0, lambda ctx: ctx.buy("SPY", 1))
    test = run(Told(act), market({"SPY": FLAT}, minutes=6))
    assert [fill[1] for fill in fills(test)] == ["BUY", "SELL"]
    assert not test.engine.state.portfolio.accounts["main"].book.line("SPY").qty


def test_a_timer_in_the_past_fires_at_once_and_not_before_it_was_set() -> None:
    test = run(Told(at(2, lambda ctx: ctx.set_timer("late", at=FIRST))), market({"SPY": UP}))
    (timer,) = of(test, e.TimerFired)
    assert timer.ts == FIRST + 3 * MINUTE


def test_history_never_shows_the_future() -> None:
    shown: list[tuple[int, list[float]]] = []

    def act(ctx: Context, event: Any) -> None:
        if type(event).__name__ == "Bar":
            shown.append((ctx.now, [bar.close for bar in ctx.history("SPY", 3)]))
            assert all(bar.ts <= ctx.now for bar in ctx.history("SPY", 100))
            assert ctx.price("SPY") == shown[-1][1][-1]

    run(Told(act), market({"SPY": UP}))
    assert [closes for _, closes in shown] == [
        [100.5], [100.5, 101.5], [100.5, 101.5, 102.5], [101.5, 102.5, 103.5],
    ]  # fmt: skip


def test_orders_are_refused_until_a_symbol_is_warm() -> None:
    strategy = Told(lambda ctx, event: type(event).__name__ == "Bar" and ctx.buy("SPY", 1), warm_up=2, symbols=("SPY",))
    test = run(strategy, market({"SPY": FLAT}))
    first, *_ = of(test, e.PlaceOrder)
    assert first.ts == FIRST + 3 * MINUTE, "two bars must have gone before"
    (record,) = of(test, e.NoSignal)
    assert (record.reason, record.inputs) == ("warm-up", {"have": 1.0, "need": 2.0})


# ── two strategies, one account ───────────────────────────────────────────────────────────────────────────────────────


def test_two_strategies_have_books_of_their_own_that_sum_to_the_account() -> None:
    long = Told(at(0, lambda ctx: ctx.buy("SPY", 10)), label="long")
    short = Told(at(2, lambda ctx: ctx.sell("SPY", 4)), label="short")
    test = run([long, short], market({"SPY": FLAT}))
    account = test.engine.state.portfolio.accounts["main"]
    assert [account.strategies[s].line("SPY").qty for s in ("long", "short")] == [10, -4]
    assert account.book.line("SPY").qty == 6
    assert test.hosts["long"].positions["SPY"].qty == 10
    assert {type(event).__name__ for event in long.seen} >= {"Bar", "OrderFilled"}
    assert sum(isinstance(event, e.OrderFilled) for event in long.seen) == 1, "nobody sees another's fills"


def test_strategies_share_the_accounts_limits_and_not_each_others() -> None:
    limits = limits_for(max_notional=D(1_200), account={"max_gross": D(1_500)})
    a, b = (Told(at(0, lambda ctx: ctx.buy("SPY", 10)), label=name) for name in ("a", "b"))
    test = run([a, b], market({"SPY": FLAT}), limits=limits)
    assert denials(test) == ["ACCOUNT_GROSS_CAP"]
    (denied,) = of(test, e.OrderDenied)
    assert (denied.strategy, denied.passes_at) == ("b", 5)


def test_two_strategies_of_one_name_are_refused() -> None:
    with pytest.raises(ParameterError, match="different names"):
        Backtest([Told(), Told()], market({"SPY": FLAT}))


# ── what changes positions without an order ───────────────────────────────────────────────────────────────────────────


def days(price: float, n: int = 2) -> Any:
    starts = [FIRST + d * DAY + k * MINUTE for d in range(n) for k in range(4)]
    return bars({"SPY": [(price, price)] * 4 * n}, starts=starts)


def test_a_split_multiplies_shares_and_keeps_their_cost() -> None:
    action = CorporateAction(symbol="SPY", ex_date=date(2023, 11, 15), ratio=D(4))
    test = run(Told(at(0, lambda ctx: ctx.buy("SPY", 10))), market(days(100.0), days=2, actions=(action,)))
    (adjusted,) = of(test, e.PositionAdjusted)
    assert (adjusted.kind, adjusted.qty, adjusted.cash) == (ActivityKind.SPLIT, 30, 0)
    held = test.hosts["told"].positions["SPY"]
    assert (held.qty, held.avg_price, held.cost) == (40, 25, 1000)
    assert test.engine.state.portfolio.accounts["main"].position("told", "SPY").cost == 1000


def test_a_dividend_is_paid_on_what_was_held_at_the_close_and_taken_from_the_short() -> None:
    action = CorporateAction(symbol="SPY", ex_date=date(2023, 11, 15), dividend=D("0.25"))
    strategies = [
        Told(at(0, lambda ctx: ctx.buy("SPY", 10)), label="long"),
        Told(at(1, lambda ctx: ctx.sell("SPY", 4)), label="short"),
        Told(at(4, lambda ctx: ctx.buy("SPY", 99)), label="late"),
    ]
    test = run(strategies, market(days(100.0), days=2, actions=(action,)))
    assert {a.strategy: a.cash for a in of(test, e.PositionAdjusted)} == {"long": D("2.50"), "short": D("-1.00")}


@pytest.mark.parametrize(("option", "side", "settles", "kinds", "shares"), [
    (CALL, Side.BUY, 103.0, ["EXERCISE", "DELIVERY"], 100),
    (CALL, Side.SELL, 103.0, ["ASSIGNMENT", "DELIVERY"], -100),
    (PUT, Side.SELL, 97.0, ["ASSIGNMENT", "DELIVERY"], 100),
    (CALL, Side.BUY, 99.0, ["EXPIRATION"], 0),
])  # fmt: skip
def test_an_option_ends_with_its_last_session_in_shares_or_in_nothing(
    option: str, side: Side, settles: float, kinds: list[str], shares: int
) -> None:
    rows = {"SPY": [(100.0, 100.0), (100.0, 100.0), (settles, settles)], option: [(2.0, 2.0)] * 3}
    limits = limits_for(allow_uncovered=True)
    test = run(Told(at(0, lambda ctx: ctx.order(option, side, 1), option)), market(rows, minutes=5), limits=limits)
    adjusted = of(test, e.PositionAdjusted)
    assert [str(a.kind) for a in adjusted] == kinds
    book = test.engine.state.portfolio.accounts["main"].book
    assert (book.line(option).qty, book.line("SPY").qty) == (0, shares)
    cash = D(100_000) - 200 * side.sign - 100 * shares
    assert test.engine.state.portfolio.accounts["main"].cash == cash


# ── a run that does not end well ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("warm_up", [0, 3])
@pytest.mark.parametrize("error", [ZeroDivisionError("no"), ParameterError("no such thing")])
def test_a_strategys_error_carries_its_bar_and_the_run_is_ended(error: Exception, warm_up: int) -> None:
    def fail(ctx: Context) -> None:
        raise error

    strategies = Told(at(1, fail), warm_up=warm_up, symbols=("SPY",))
    test = Backtest(strategies, market({"SPY": UP}), model=FREE)
    with pytest.raises(StrategyError) as caught:
        test.run()
    assert (caught.value.event.close, caught.value.handler) == (101.5, "on_bar")
    assert caught.value.error is error
    (finished,) = of(test, e.RunFinished)
    assert finished.outcome == "failed"
    assert "no" in finished.detail
    audited(test)


def test_an_order_the_context_refuses_is_the_strategys_error() -> None:
    test = Backtest(Told(at(1, lambda ctx: ctx.buy("SPY", 1.5))), market({"SPY": UP}))
    with pytest.raises(StrategyError, match="has a fraction"):
        test.run()
    assert of(test, e.RunFinished)[0].outcome == "failed"


def test_a_float_that_meets_a_decimal_is_an_error_that_says_so() -> None:
    test = Backtest(Told(at(1, lambda ctx: ctx.position("SPY") < 0.5)), market({"SPY": UP}))
    with pytest.raises(StrategyError, match="a Decimal met a float"):
        test.run()


def test_a_run_that_is_stopped_leaves_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    small_chunks(monkeypatch, 1)
    test = Backtest(Told(at(0, lambda ctx: ctx.buy("SPY", 10))), market({"SPY": UP}), model=FREE)
    steps = test.steps()
    next(steps), next(steps)
    steps.close()
    assert of(test, e.RunFinished)[0].outcome == "stopped"
    assert len(fills(test)) == 1
    audited(test)


def small_chunks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    chunks = module.Feed.chunks
    monkeypatch.setattr(module.Feed, "chunks", lambda self: chunks(self, size))


@pytest.mark.parametrize("tif", [TimeInForce.DAY, TimeInForce.GTC])
def test_what_does_not_fill_ends_with_the_day_or_lasts(tif: TimeInForce) -> None:
    order = at(0, lambda ctx: ctx.buy("SPY", 1, limit_price="99", tif=tif))
    test = run(Told(order), market(days(100.0), days=2, minutes=4), limits=QUEUE)
    assert len(of(test, e.OrderExpired)) == (tif is TimeInForce.DAY)
    assert len(test.engine.state.blotter.working) == (tif is TimeInForce.GTC)


def test_a_strategy_sees_only_what_it_asked_for() -> None:
    rows = {"AAA": UP, "ZZZ": UP}
    one, all_of_it = Told(symbols=("ZZZ",), label="one"), Told(label="all")
    run([one, all_of_it], market(rows))
    assert {event.symbol for event in one.seen if type(event).__name__ == "Bar"} == {"ZZZ"}
    assert {event.symbol for event in all_of_it.seen if type(event).__name__ == "Bar"} == {"AAA", "ZZZ"}


def test_a_symbol_the_data_do_not_have_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="no data for symbol 'IWM'"):
        Backtest(Told(symbols=("IWM",)), market({"SPY": UP}))


def test_a_session_rule_of_always_trades_on_a_tape_without_sessions() -> None:
    limits = limits_for(session=SessionRule.ALWAYS)
    test = run(Told(at(0, lambda ctx: ctx.buy("SPY", 1))), market({"SPY": UP}, sessions=()), limits=limits)
    assert fills(test) == [("SPY", "BUY", "1", "101.0", 1)]
