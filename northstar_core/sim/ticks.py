"""Matching on quotes and prints, and of combos: what a bar's four prices cannot tell."""

from __future__ import annotations

from collections.abc import Container, Sequence
from decimal import Decimal

from northstar_core.model.execution import ExecutionReport
from northstar_core.model.instrument import Equity, Option, exact
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import OrderType, Side, TimeInForce
from northstar_core.model.tape import Tape
from northstar_core.sim.exchange import AT_ONCE, CANCELED, EXPIRED, MARKET, STOPS, TRADE, ZERO, Exchange, Reports
from northstar_core.sim.fills import FillAt, share, slipped, through, whole
from northstar_core.sim.model import SimModel
from northstar_core.sim.order import WorkingOrder


def tick_symbols(tape: Tape, fill_at: FillAt) -> frozenset[str]:
    """Return a tape's symbols that fill on quotes and prints: those without bars, at ``QUOTE`` all with ticks."""
    ticks = frozenset(Tape(quotes=tape.quotes, trades=tape.trades).symbols)
    return ticks if fill_at is FillAt.QUOTE else ticks - frozenset(Tape(bars=tape.bars).symbols)


class TickExchange(Exchange):
    """An exchange that also fills on quotes and prints, and whole combos."""

    __slots__ = ("_quotes", "_sizes", "_ticks")

    def __init__(self, account: str, cash: Decimal, model: SimModel, ticks: Container[str] | None) -> None:
        super().__init__(account, cash, model)
        self._meets = self._meets or ticks is not None
        self._ticks = (
            ticks  # symbols that fill on quotes and prints; None = all of them if fill_at is "quote", else none
        )
        self._quotes: dict[str, Quote] = {}
        self._sizes: dict[str, list[Decimal]] = {}  # what is left of a quote: bid, ask

    def _by_ticks(self, symbol: str) -> bool:
        return self.model.fill_at is FillAt.QUOTE if self._ticks is None else symbol in self._ticks

    def _in_hours(self, ts: int) -> bool:
        return self._lo <= ts < self._hi

    # ── quotes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _show(self, quote: Quote) -> None:
        """Take a quote as the one in force; the same one again does not renew the size it shows."""
        if self._quotes.get(quote.symbol) != quote:
            self._quotes[quote.symbol] = quote
            self._sizes[quote.symbol] = [exact(quote.bid_size), exact(quote.ask_size)]

    def _match_quote(self, quote: Quote, orders: Sequence[WorkingOrder], ts: int, out: Reports) -> None:
        """Let orders take from the quote in force, in order of arrival: buys from the ask, sells from the bid."""
        sizes = self._sizes[quote.symbol]
        for o in orders:
            tif = o.order.tif
            if o.done or o.legs or o.active_from > ts or (o.order.parent and not o.available):
                continue
            if tif is TimeInForce.CLS or (tif is TimeInForce.OPG and o.active_from > self._opened):
                continue
            side = 1 if o.buy else 0
            price = quote.ask if o.buy else quote.bid
            if price > 0 and self._crosses(o, price, quote.bid if o.buy else quote.ask):
                left = self._take(o, exact(price), float(sizes[side]), ts, sizes[side], out)
                assert left is not None
                sizes[side] = left
            if tif in AT_ONCE:
                self._drop(o, CANCELED, ts, f"{tif}: the rest did not fill", out)
            elif tif is TimeInForce.OPG:
                self._drop(o, EXPIRED, ts, "OPG: not filled at the opening", out)

    @staticmethod
    def _crosses(o: WorkingOrder, price: float, other: float) -> bool:
        """Tell whether an order takes the price on its side of the quote.

        A quote triggers a stop when the other side has reached it too (a buy stop: the bid at the stop or above): one
        stray or wide ask does not.
        """
        kind = o.order.order_type
        if kind in STOPS and not o.triggered:
            if not (other > 0 and (other >= o.stop if o.buy else other <= o.stop)):
                return False
            o.triggered = True
        if kind is MARKET or kind is OrderType.STOP:
            return True
        return price <= o.limit if o.buy else price >= o.limit

    # ── prints ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _match_trade(self, trade: Trade, orders: Sequence[WorkingOrder], out: Reports) -> None:
        """Let a print trigger stops and fill limits it traded through; market orders too where there are no quotes."""
        quoted = trade.symbol in self._quotes
        room = None if self._share is None else share(trade.size, self._share, orders[0].instrument.lot)
        for o in orders:
            kind, tif = o.order.order_type, o.order.tif
            if o.done or o.legs or o.active_from > trade.ts or (o.order.parent and not o.available):
                continue
            if tif is TimeInForce.CLS or (tif is TimeInForce.OPG and o.active_from > self._opened):
                continue
            if kind in STOPS and not o.triggered:
                o.triggered = trade.price >= o.stop if o.buy else trade.price <= o.stop
                continue  # it trades on what comes after the print that triggered it
            if kind is MARKET or kind is OrderType.STOP:
                if quoted:
                    continue
                room = self._take(o, exact(trade.price), trade.size, trade.ts, room, out)
            elif through(o, trade.price, self.model.touch):
                room = self._take(o, exact(o.limit), trade.size, trade.ts, room, out, passive=True)
            if quoted:
                continue
            if tif in AT_ONCE:
                self._drop(o, CANCELED, trade.ts, f"{tif}: the rest did not fill", out)
            elif tif is TimeInForce.OPG:
                self._drop(o, EXPIRED, trade.ts, "OPG: not filled at the opening", out)

    # ── combos ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _match_combos(self, bars: dict[str, Bar], ts: int, out: Reports, *, at_close: bool = False) -> None:
        """Fill combos whose legs all have a price: bars at their common open, quotes, or bars at their close."""
        for o in tuple(self._combos):
            if o.done or (o.order.parent and not o.available):
                continue
            offers = self._offers(o, bars, ts, at_close)
            if offers is None:
                continue
            at, prices, sizes, volumes = offers
            self._take_combo(o, prices, sizes, volumes, at, out)
            if o.order.tif in AT_ONCE:
                self._drop(o, CANCELED, at, f"{o.order.tif}: the rest did not fill", out)

    def _offers(
        self,
        o: WorkingOrder,
        bars: dict[str, Bar],
        ts: int,
        at_close: bool,
    ) -> tuple[int, list[Decimal], list[Decimal | None], list[float]] | None:
        """Return when, and for each leg at what price, for how much at most and out of what volume it can trade now."""
        ticks = [self._by_ticks(leg.instrument.symbol) for leg in o.legs]
        close = at_close or any(ticks) or (self.model.fill_at is FillAt.CLOSE and o.order.order_type is MARKET)
        at = ts
        prices: list[Decimal] = []
        sizes: list[Decimal | None] = []
        volumes: list[float] = []
        for leg, by_ticks in zip(o.legs, ticks, strict=True):
            symbol = leg.instrument.symbol
            buys = o.buy is (leg.ratio > 0)
            if by_ticks:
                quote = self._quotes.get(symbol)
                price = 0.0 if quote is None else quote.ask if buys else quote.bid
                if price <= 0 or o.active_from > ts:
                    return None
                left = self._sizes[symbol][1 if buys else 0]
                prices.append(exact(price))
                sizes.append(left)
                volumes.append(float(left))
                continue
            bar = bars.get(symbol)
            if (
                bar is None
                or not bar.volume > 0
                or (not at_close and bar.start < o.active_from)
                or not self._in_hours(bar.start)
            ):
                return None
            if not close:
                if at != ts and at != bar.start:
                    return None  # bars of different lengths: their opens are no one instant
                at = bar.start
            prices.append(exact(bar.close if close else bar.open))
            sizes.append(None if self._share is None else share(bar.volume, self._share, leg.instrument.lot))
            volumes.append(bar.volume)
        return at, prices, sizes, volumes

    def _take_combo(
        self,
        o: WorkingOrder,
        prices: list[Decimal],
        sizes: list[Decimal | None],
        volumes: list[float],
        ts: int,
        out: Reports,
    ) -> None:
        """Fill as many whole combos as every leg has room for, if the net price is within the limit."""
        qty = self._wanted(o, ts, out)
        for leg, size in zip(o.legs, sizes, strict=True):
            if size is not None:
                qty = min(qty, whole(size / abs(leg.ratio), o.instrument.lot))
        if qty <= 0 or (o.order.tif is TimeInForce.FOK and qty != o.leaves):
            return
        if self._slippage is not None:
            prices = [
                slipped(p, o, leg.instrument, o.buy is (leg.ratio > 0), qty * abs(leg.ratio), volume, self._slippage)
                for p, leg, volume in zip(prices, o.legs, volumes, strict=True)
            ]
        limit = o.order.limit_price
        if limit is not None:
            net = sum((leg.ratio * p * leg.instrument.multiplier for leg, p in zip(o.legs, prices, strict=True)), ZERO)
            bound = limit * o.instrument.multiplier
            if net > bound if o.buy else net < bound:
                return
        for leg, price in zip(o.legs, prices, strict=True):
            symbol, buys, units = leg.instrument.symbol, o.buy is (leg.ratio > 0), qty * abs(leg.ratio)
            if self._by_ticks(symbol):
                self._sizes[symbol][1 if buys else 0] -= units
            self._fill_leg(o, leg.instrument, buys, units, price, ts, out)
        self._traded(o, qty, ZERO, ts, out)

    def _fill_leg(
        self,
        o: WorkingOrder,
        instrument: Equity | Option,
        buy: bool,
        qty: Decimal,
        price: Decimal,
        ts: int,
        out: Reports,
    ) -> None:
        value = qty * price * instrument.multiplier
        fees = ZERO if self._costs is None else self._charge(o, instrument, buy, qty, price, value, ts)
        self.books.cash += (-value if buy else value) - fees
        self.books.add(o.order.strategy, instrument.symbol, qty if buy else -qty)
        o.executions += 1
        exec_id = f"{o.order.order_id}-{o.executions}"
        side = Side.BUY if buy else Side.SELL
        out.append(ExecutionReport(ts, o.order.order_id, TRADE, exec_id, instrument.symbol, side, qty, price, fees))
