"""A run's tear sheet, and the glue to its metrics: hand-computed runs, odd runs, hostile names, a million bars."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal as D
from functools import cache
from typing import Any

import msgspec
import numpy as np
import plotly.graph_objects as go
import pytest

import northstar_core as northstar
from northstar_core.data.synthetic import bench_tape, synthesize
from northstar_core.model import events as e
from northstar_core.model.errors import ParameterError, StrategyError
from northstar_core.model.execution import ActivityKind
from northstar_core.model.order import Side
from northstar_core.model.tape import BarTable, CorporateAction, Session, Source, Tape
from northstar_core.research import figures, sections
from northstar_core.research.backtest import Backtest
from northstar_core.research.curve import equity_curve
from northstar_core.research.markup import coloured, dollars, number, percent
from northstar_core.research.result import Result
from northstar_core.research.tearsheet import MOST_CHARTS, TearSheet
from northstar_core.research.thin import LENGTHS, candles, extremes
from northstar_core.sim.costs import AllOf, per_share_and_contract
from northstar_core.sim.model import SimModel
from northstar_core.sim.regulatory import RegulatoryFees
from northstar_core.sim.slippage import TickSlippage
from northstar_core.strategy.base import Params as Base
from northstar_core.strategy.base import Strategy

MINUTE, HOUR = 60_000_000_000, 3_600_000_000_000
OPEN = 1_704_205_800_000_000_000  # 2024-01-02 09:30 New York
DAY = 24 * HOUR
SECTIONS = (
    "Trades", "By symbol", "Open at the end", "Metrics", "Costs", "Orders", "Denied orders", "Assumptions",
    "Limits: research-default", "Provenance of the run",
)  # fmt: skip


class Plan(Strategy):
    """Trades what it is told at the closes it is told: {minute since the run's first bar: signed quantity}."""

    class Params(Base):
        symbol: str = "X"
        orders: dict[int, int] = {}  # noqa: RUF012 - msgspec copies it

    def on_start(self, ctx: Any) -> None:
        self.n = 0

    def on_bar(self, ctx: Any, bar: Any) -> None:
        qty = self.params.orders.get(self.n, 0)
        self.n += 1
        if qty > 0:
            ctx.buy(northstar.instrument(bar.symbol), qty)
        elif qty < 0:
            ctx.sell(northstar.instrument(bar.symbol), -qty)


class Quiet(Strategy):
    """Wants nothing and says why."""

    class Params(Base):
        symbols: tuple[str, ...] = ()

    def on_bar(self, ctx: Any, bar: Any) -> None:
        ctx.no_signal(northstar.instrument(bar.symbol), "the market is <closed> to me")


def tape(prices: list[list[float]], *, symbol: str = "X", source: str = "made by hand", **more: Any) -> Tape:
    """One session a list, one minute bar a price; each opens at the close before it."""
    closes = np.array([price for day in prices for price in day])
    start = np.array([OPEN + d * DAY + n * MINUTE for d, day in enumerate(prices) for n in range(len(day))])
    opens = np.concatenate([closes[:1], closes[:-1]])
    bars = BarTable(
        symbols=(symbol,), code=np.zeros(len(closes), dtype=np.int32), start=start, ts=start + MINUTE, open=opens,
        high=np.maximum(opens, closes), low=np.minimum(opens, closes), close=closes, volume=np.full(len(closes), 1e6),
    )  # fmt: skip
    sessions = tuple(
        Session(dt.date(2024, 1, 2 + d), OPEN + d * DAY, OPEN + d * DAY + len(day) * MINUTE)
        for d, day in enumerate(prices)
    )
    sources = (Source(name=source, layout="ohlcv", sha256="ab" * 32, rows=len(closes)),)
    return Tape(bars=bars, sessions=sessions, sources=sources, bar_ns=MINUTE, **more)


def ran(data: Tape, orders: dict[int, int], **more: Any) -> Result:
    return Backtest(Plan(symbol=data.symbols[0], orders=orders), data, cash=D(10_000), **more).run()


@cache
def crossing() -> Result:
    """A generated market of a few days, with hundreds of fills."""
    orders = {n: 10 if n % 20 == 5 else -10 for n in range(5, 1_900, 10)}
    return ran(synthesize(symbols=("ALFA",), days=5, options_on=None), orders)


def page(result: Result) -> str:
    return TearSheet(result).html(plotly_js=False)


# --- the glue between a run and its metrics ---------------------------------------------------------------------------


def test_returns_run_from_session_close_to_session_close() -> None:
    # bought 100 at the open of the second bar (100.0), then 102, 104 | 101, 106
    run = ran(tape([[100, 102, 104], [101, 106]]), {0: 100})
    assert [f.price for f in run.fill_events] == [D(100)]
    assert run.equity["equity"].tolist() == pytest.approx([10_000, 10_200, 10_400, 10_100, 10_600])
    assert run.returns.tolist() == pytest.approx([0.04, 10_600 / 10_400 - 1])
    assert [day.date() for day in run.returns.index] == [dt.date(2024, 1, 2), dt.date(2024, 1, 3)]
    assert run.metrics["total_return"] == pytest.approx(0.06)
    assert run.metrics["max_drawdown"] == pytest.approx(10_100 / 10_400 - 1)
    assert run.equity["drawdown"].min() == pytest.approx(run.metrics["max_drawdown"])
    assert run.final_equity == D(10_600) and run.pnl == D(600)


def test_drawdown_counts_from_the_opening_cash() -> None:
    run = ran(tape([[100, 99, 98, 99]]), {0: 100})
    assert run.equity["drawdown"].tolist() == pytest.approx([0, -0.01, -0.02, -0.01])
    assert run.metrics["max_drawdown"] == pytest.approx(-0.02)


def test_round_trips_and_their_metrics_by_hand() -> None:
    # +100 at 100, out at 104: +400; +100 at 101, out at 100: -100
    run = ran(tape([[100, 104, 101, 100, 100]]), {0: 100, 1: -100, 2: 100, 3: -100})
    assert [trip.pnl for trip in run.round_trips] == [D(400), D(-100)]
    assert run.metrics["win_rate"] == 0.5 and run.metrics["profit_factor"] == pytest.approx(4)
    assert run.metrics["expectancy"] == pytest.approx(150)
    assert run.traded == D(100) * (100 + 104 + 101 + 100)
    assert len(run.trades) == 2 and run.trades["pnl"].tolist() == [D(400), D(-100)]


def test_fees_are_split_into_commission_and_what_regulators_take() -> None:
    model = SimModel(costs=AllOf((per_share_and_contract(), RegulatoryFees())))
    run = ran(tape([[100, 104, 101]]), {0: 100, 1: -100}, model=model)
    # sold 100 at 104 on 2024-01-02: 10,400 × $8.00 a million = $0.0832, and 100 × $0.000166 = $0.0166; each rounded up
    assert run.fees_split == {"commission": D("2.00"), "regulatory": D("0.09") + D("0.02")}
    assert sum(run.fees_split.values()) == run.fees
    assert "$0.11" in page(run)


def test_without_regulatory_fees_in_the_assumptions_all_is_commission() -> None:
    run = ran(tape([[100, 104, 101]]), {0: 100, 1: -100}, model=SimModel(costs=per_share_and_contract()))
    assert run.fees_split == {"commission": run.fees, "regulatory": D(0)} and run.fees == D("2.00")


def test_shortfall_is_the_slippage_that_was_simulated_where_the_open_is_the_last_close() -> None:
    run = ran(tape([[100, 104, 101]]), {0: 100, 1: -100}, model=SimModel(slippage=TickSlippage(3)))
    assert run.shortfall == D("0.03") * 200


def test_a_split_leaves_equity_where_it_was_though_the_mark_is_from_before_it() -> None:
    # two for one at the second open; X first trades a minute later, Y marks the curve in between
    ts = np.array([OPEN + MINUTE, OPEN + DAY + MINUTE, OPEN + DAY + 2 * MINUTE])
    bars = BarTable(
        symbols=("X", "Y"), code=np.array([0, 1, 0], dtype=np.int32), start=ts - MINUTE, ts=ts,
        **{name: np.array([100.0, 7.0, 50.0]) for name in ("open", "high", "low", "close")}, volume=np.ones(3),
    )  # fmt: skip
    bought = e.OrderFilled(OPEN, "o", "s", "main", "X", Side.BUY, D(10), D(100), D(0), "x", D(10), D(0))
    split = e.PositionAdjusted(OPEN + DAY, "s", "main", "X", ActivityKind.SPLIT, "r", D(10), D(0), D(2))
    found = equity_curve(Tape(bars=bars), 5_000, [bought, split], int(ts[-1]))
    assert found.equity.tolist() == [5_000, 5_000, 5_000] and found.exposure.tolist() == [1_000, 1_000, 1_000]


def test_a_run_through_a_split_keeps_its_equity() -> None:
    action = CorporateAction(symbol="X", ex_date=dt.date(2024, 1, 3), ratio=D(2))
    data = tape([[100, 100], [50, 50]], actions=(action,))
    run = ran(data, {0: 10})
    assert run.equity["equity"].tolist() == pytest.approx([10_000] * 4)
    assert run.books.holdings[0].qty == D(20) and run.final_equity == D(10_000)


# --- what is on the page ----------------------------------------------------------------------------------------------


def test_the_page_has_every_section_and_the_figures_of_the_run() -> None:
    run = crossing()
    html = page(run)
    for title in ("Daily returns", *SECTIONS):
        assert f">{title}</h3>" in html, title
    for fact in (run.digest, run.limits.name, "plan", "max order value", dollars(run.fees), f"{run.rows:,} rows"):
        assert fact in html
    for source in run.tape.sources:
        assert source.sha256 in html
    for sentence in run.assumptions.values():
        assert sections.text(sentence) in html
    for definition in sections.DEFINITIONS.values():
        assert sections.text(definition) in html
    assert html.count("data-figure=") == 2
    assert html.count('<tr><td class="l">2024-') == len(run.round_trips)


def test_generated_data_are_called_synthetic_and_others_are_not() -> None:
    assert "SYNTHETIC DATA" in page(crossing())
    assert "SYNTHETIC" not in page(ran(tape([[100, 101]]), {}))
    assert "SYNTHETIC DATA" in page(ran(tape([[100, 101]], source="synthetic-2024-01-02.csv.gz"), {}))


def test_denied_orders_are_counted_by_reason() -> None:
    run = ran(tape([[100, 100, 100, 100]]), {0: 1_000, 1: 1_000})
    html = page(run)
    assert re.search(r"ORDER_VALUE_CAP</td><td>2</td>", html) and "the value of one order is capped" in html


def test_from_two_months_on_returns_are_months() -> None:
    run = ran(bench_tape(["X"], 100 * 1440), {10: 10})
    html = page(run)
    assert "Monthly returns" in html and "Daily returns" not in html and ">2020</th>" in html
    months = (1 + run.returns).groupby(run.returns.index.month).prod() - 1
    assert percent(float(months[3]), signed=True) in html


def test_what_comes_from_data_cannot_be_markup() -> None:
    evil = "<script>alert(1)</script>"
    run = ran(tape([[100, 104, 101]], source=evil), {0: 10, 1: -10})
    run.outcome, run.detail = evil, evil
    run.assumptions = {evil: evil}
    run.limits = msgspec.structs.replace(run.limits, name=evil)
    for record in run.journal.records:
        if isinstance(record.event, e.RunStarted):
            record.event.strategies[evil] = {evil: evil}
            record.event.code[evil] = evil
    html = page(run)
    assert evil not in html and "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


def test_a_symbol_that_is_markup_is_text_in_tables_and_in_figures() -> None:
    evil = "<img src=x onerror=alert(1)>"
    run = ran(tape([[100, 104, 101]], symbol=evil), {})  # it can be in the data, but nobody can trade it
    assert "<img" not in page(run) and "&lt;img" in page(run)
    assert "&lt;img" in TearSheet(run).price_figure(evil).layout.title.text


def test_a_reason_that_is_markup_is_text() -> None:
    run = Backtest(Quiet(symbols=("X",)), tape([[100, 101]])).run()
    html = page(run)
    assert "the market is &lt;closed&gt; to me" in html and "<closed>" not in html


# --- odd runs ---------------------------------------------------------------------------------------------------------


def test_a_run_without_trades_says_so_and_why() -> None:
    html = page(Backtest(Quiet(symbols=("X",)), tape([[100, 101], [102, 103]])).run())
    assert "No order was filled." in html and "the market is" in html and "Denied orders" in html
    assert html.count("data-figure=") == 2  # equity, and the prices it did not trade


def test_one_day_and_one_bar_make_a_page() -> None:
    for data in (tape([[100, 101, 102]]), tape([[100]])):
        assert "1 session" in page(ran(data, {0: 10}))


def test_a_run_that_was_stopped_says_so() -> None:
    test = Backtest(Plan(symbol="S00", orders={5: 100}), bench_tape(1, 30_000), cash=D(10_000))
    steps = test.steps()
    next(steps)
    steps.close()
    run = test.result()
    html = page(run)
    assert run.outcome == "stopped" and "STOPPED." in html and 0 < run.rows < 30_000
    assert len(run.curve.ts) == run.rows


def test_a_run_that_failed_at_its_start_has_a_page() -> None:
    class Broken(Plan):
        def on_start(self, ctx: Any) -> None:
            raise ValueError("no <b>luck</b>")

    test = Backtest(Broken(), tape([[100, 101]]))
    with pytest.raises(StrategyError):
        test.run()
    html = page(test.result())
    assert "FAILED." in html and "nothing consumed" in html and "&lt;b&gt;luck" in html
    assert html.count("data-figure=") == 0


def test_a_run_that_never_began_has_a_page() -> None:
    test = Backtest(Plan(), tape([[100, 101]]))
    run = Result(
        journal=test.journal, tape=test.tape, cash=test.cash, strategies=test.strategies, limits=test.limits,
        assumptions=test.model.assumptions(), outcome="stopped", detail="", seconds=0.0,
    )  # fmt: skip
    assert run.final_equity == run.cash and run.rows == 0 and run.equity.empty and run.trades.empty
    assert "nothing consumed" in page(run)


def test_books_of_an_unfinished_run_are_what_its_fills_add_up_to() -> None:
    test = Backtest(Plan(symbol="S00", orders={5: 10}), bench_tape(1, 30_000))
    steps = test.steps()
    next(steps)
    test.seconds = 0.0
    run = test.result()
    (fill,) = run.fill_events
    assert run.books.holdings == (e.Holding("main", "plan", "S00", D(10)),)
    assert sum(run.books.cash.values()) == run.cash - fill.qty * fill.price
    steps.close()
    assert {h.symbol: h.qty for h in test.result().books.holdings} == {"S00": D(10)}


def test_an_option_spread_is_drawn_leg_by_leg() -> None:
    class Spread(Strategy):
        """Buys the first vertical it sees, and later sells it."""

        class Params(Base):
            underlying: str = "ALFA"

        def on_start(self, ctx: Any) -> None:
            self.n, self.spread = 0, None

        def on_bar(self, ctx: Any, bar: Any) -> None:
            self.n += 1
            if self.n == 30:
                calls = [o for o in ctx.options("ALFA") if o.right is northstar.Right.CALL]
                expiry = min(o.expiry for o in calls)
                low, high = sorted((o for o in calls if o.expiry == expiry), key=lambda o: o.strike)[:2]
                self.spread = ctx.vertical(low, high)
                ctx.buy(self.spread, 2)
            elif self.n == 200:
                ctx.sell(self.spread, 2)

    run = northstar.backtest(Spread(), synthesize(symbols=("ALFA",), days=2, strikes=2), fill_at="quote")
    sheet = TearSheet(run)
    assert len({fill.symbol for fill in run.fill_events}) == 2, run.orders.T
    assert sheet.charted == sorted({fill.symbol for fill in run.fill_events})
    figure = sheet.price_figure(sheet.charted[0])
    assert (
        figure.data[0].type == "scatter"
        and "ALFA 2024-" in figure.layout.title.text
        and "call" in figure.layout.title.text
    )
    assert page(run).count("data-figure=") == 3
    assert run.final_equity == pytest.approx(D(str(run.equity["equity"].iloc[-1])))


def test_only_so_many_symbols_are_drawn_and_the_others_are_named() -> None:
    class All(Strategy):
        def on_start(self, ctx: Any) -> None:
            self.seen: set[str] = set()

        def on_bar(self, ctx: Any, bar: Any) -> None:
            if bar.symbol not in self.seen:
                self.seen.add(bar.symbol)
                ctx.buy(northstar.instrument(bar.symbol), 1)

    run = Backtest(All(), bench_tape(9, 200)).run()
    sheet = TearSheet(run)
    assert len(sheet.charted) == MOST_CHARTS
    assert "Also traded, not drawn: S06, S07, S08." in page(run)


def test_a_symbol_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"'NOPE'.*it has ALFA"):
        crossing().plot("NOPE")


# --- figures ----------------------------------------------------------------------------------------------------------


def test_gaps_between_sessions_are_left_out_one_by_one() -> None:
    breaks = crossing().plot().layout.xaxis.rangebreaks
    assert [list(gap.bounds) for gap in breaks] == [
        ["2024-01-02T16:03:00", "2024-01-03T09:27:00"],
        ["2024-01-03T16:03:00", "2024-01-04T09:27:00"],
        ["2024-01-04T16:03:00", "2024-01-05T09:27:00"],
        ["2024-01-05T16:03:00", "2024-01-08T09:27:00"],
    ]


def test_figures_offer_no_upload_and_name_no_host() -> None:
    shown = figures.plotly_json(crossing().plot("ALFA"))
    assert shown["config"]["showSendToCloud"] is False and shown["config"]["plotlyServerURL"] == ""
    assert "http" not in json.dumps(shown)


def test_every_output_in_a_notebook_is_html_or_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    TearSheet(crossing())._ipython_display_()
    kinds = [next(iter(bundle)) for bundle in shown]
    plot = "application/vnd.plotly.v1+json"
    assert kinds == ["text/html", plot, "text/html", plot, "text/html"]
    assert all("text/plain" in bundle for bundle in shown)
    json.dumps(shown)


def test_the_saved_page_forbids_every_request(tmp_path: Any) -> None:
    path = crossing().tear_sheet().save(tmp_path / "sheet.html")
    html = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in html and not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", html)
    assert path.stat().st_size < 6_000_000


def test_a_million_bars_are_a_light_page() -> None:
    orders = {n: 10 if n % 400 == 100 else -10 for n in range(100, 1_000_000, 200)}
    run = ran(bench_tape(["X"], 1_000_000), orders)
    assert len(run.fill_events) == 5_000
    sheet = TearSheet(run)
    assert len(sheet.equity_figure.data[0].x) <= figures.MOST_POINTS + 10
    prices = sheet.price_figure("X")
    assert len(prices.data[0].x) <= figures.MOST_CANDLES
    assert all(len(trace.x) <= 1_000 for trace in prices.data[1:])
    html = page(run)
    assert len(html) < 300_000
    assert "The first 150 and the last 150 of 2,500 round trips" in html


def test_twenty_days_of_minutes_of_three_symbols_are_a_light_page() -> None:
    run = Backtest(Quiet(), synthesize(options_on=None, quotes=False)).run()
    fast = {symbol: figures.price_figure(run, symbol, most=1_000) for symbol in run.tape.symbols}
    assert len(page(run)) + sum(len(json.dumps(figures.plotly_json(figure))) for figure in fast.values()) < 300_000


# --- thinning ---------------------------------------------------------------------------------------------------------


def test_thinning_keeps_ends_highs_and_lows() -> None:
    values = np.sin(np.arange(100_000) / 500)
    values[31_337], values[77_777] = 9.0, -9.0
    kept = extremes(values, most=1_000)
    assert len(kept) <= 1_010 and {0, 31_337, 77_777, 99_999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    assert extremes(np.ones(50_000), most=1_000).size <= 1_010
    assert extremes(values[:900], most=1_000).tolist() == list(range(900))


@pytest.mark.parametrize("n", (1, 900, 5_000, 60_000, 400_000))
def test_candles_lose_no_high_and_no_low(n: int) -> None:
    bars = bench_tape(["X"], n).bars
    assert bars is not None
    rows = np.arange(n)
    found = candles(bars, rows, figures.wall_ms(bars.start), 1_000)
    assert len(found.start) <= 1_000 and (found.minutes in LENGTHS or found.minutes == 0)
    assert found.high.max() == bars.high.max() and found.low.min() == bars.low.min()
    assert found.open[0] == bars.open[0] and found.close[-1] == bars.close[-1]
    assert (found.high >= found.open).all() and (found.low <= found.close).all()


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_written_as_traders_read_them() -> None:
    assert dollars(D("-1234.5"), signed=True) == "−$1,234.50" and dollars(D("0.004")) == "$0.00"
    assert percent(0.0123, signed=True) == "+1.23 %" and number(float("nan")) == "–" and number(-0.001) == "0.00"
    assert coloured(D(-3)) == '<span class="down">−$3.00</span>' and coloured(D(0)) == "$0.00"


def test_a_figure_of_returns_is_by_month_when_there_are_many() -> None:
    figure = figures.returns_figure(crossing())
    assert isinstance(figure, go.Figure) and len(figure.data[0].x) == 5
