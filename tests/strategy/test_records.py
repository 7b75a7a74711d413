"""Decision records can be read back as they were written, whatever numbers an author hands over."""

from __future__ import annotations

from decimal import Decimal
from math import inf, nan

import northstar_core as northstar
from northstar_core.data.synthetic import synthesize
from northstar_core.model import events as e
from northstar_core.model.journal import decode, parse


class Careless(northstar.Strategy):
    """Records what a hurried author would: an average that is not ready, a quantity as it stands."""

    class Params(northstar.Params):
        symbols: tuple[str, ...]

    def on_bar(self, ctx: northstar.Context, bar: northstar.Bar) -> None:
        ctx.no_signal(bar.symbol, "waiting", average=nan, close=bar.close)
        ctx.signal(bar.symbol, "sized", Decimal("2.5"), worst=inf, qty=Decimal(100))  # type: ignore[arg-type]
        ctx.signal(bar.symbol, "no value", nan)


def test_numbers_that_are_not_finite_are_left_out_of_records_and_decimals_become_floats() -> None:
    tape = synthesize(symbols=["AAAA"], days=1, quotes=False, options_on=None)
    run = northstar.backtest(Careless(symbols=["AAAA"]), tape)
    read = [decode(parse(line).payload) for line in run.journal.lines()]
    assert [x for x in read if isinstance(x, e.Decision)] == run.of(e.Signal, e.NoSignal)
    waiting = next(event for event in read if isinstance(event, e.NoSignal))
    assert set(waiting.inputs) == {"close"}
    sized, empty = [event for event in read if isinstance(event, e.Signal)][:2]
    assert (sized.value, sized.inputs) == (2.5, {"qty": 100.0})
    assert (empty.value, empty.inputs) == (0.0, {})


class Spreads(northstar.Strategy):
    """Buys a combo at ten and flattens it at noon by its symbol."""

    class Params(northstar.Params):
        underlying: str

    def on_session_open(self, ctx: northstar.Context, session: e.SessionOpened) -> None:
        ctx.set_timer("in", "open+30m")
        ctx.set_timer("out", "open+150m")

    def on_timer(self, ctx: northstar.Context, timer: northstar.TimerFired) -> None:
        if timer.name == "in":
            low, high = [o for o in ctx.options(self.params.underlying) if o.right is northstar.Right.CALL][4:6]
            self.spread = ctx.vertical(long=low, short=high)
            ctx.buy(self.spread, 1)
        else:
            assert ctx.position(self.spread) == ctx.position(self.spread.symbol) == 1
            ctx.flatten(self.spread.symbol)


def test_a_combo_is_flattened_by_its_symbol_as_by_itself() -> None:
    tape = synthesize(symbols=["AAAA"], days=1, expiries=1, strikes=3)
    run = northstar.backtest(Spreads(underlying="AAAA"), tape)
    assert run.books.holdings == ()
    assert [str(fill.side) for fill in run.fill_events] == ["BUY", "SELL", "SELL", "BUY"]
