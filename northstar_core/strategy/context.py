"""What a strategy may see and ask for. Everything it asks for is a message; nothing here reaches further."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import ROUND_DOWN, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from northstar_core.model.account import Position
from northstar_core.model.errors import ParameterError
from northstar_core.model.events import SessionOpened, SetTimer, Signal
from northstar_core.model.instrument import (
    Combo,
    Equity,
    Instrument,
    Option,
    Right,
    combo,
    exact,
    instrument,
    occ_symbol,
)
from northstar_core.model.market import Bar, MarketEvent
from northstar_core.model.order import CancelOrder, OrderType, PlaceOrder, ReplaceOrder, Side, TimeInForce
from northstar_core.strategy.records import finite

if TYPE_CHECKING:
    import pandas as pd

    from northstar_core.strategy.host import StrategyHost, Ticket

Traded = str | Instrument
Number = Decimal | int | float | str

_TIMER = re.compile(r"^(open|close)(?:([+-])(\d+)([smh]))?$")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
ZERO = Decimal(0)


class Context:
    """A strategy's eyes and hands.

    Prices may be given as Decimal, int, str, or float: a float is rounded to the instrument's tick (``Instrument.round_price``).
    Quantities are exact: Decimal, int, or a float without a fraction.
    """

    __slots__ = ("_host", "_seq", "event", "marks", "state")

    def __init__(self, host: StrategyHost, marks: dict[str, MarketEvent], seq: Callable[[], int]) -> None:
        self._host = host
        self._seq = seq
        self.marks = marks
        self.event: Any = None  #: what is being handled
        self.state: dict[str, Any] = {}  #: JSON-able; kept over restarts of the strategy

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> int:
        """The time, ns UTC: of the event being handled, or of the latest market event where a report tells of an earlier instant."""
        ts: int = max(self.event.ts, self._host.clock)
        return ts

    @property
    def time(self) -> pd.Timestamp:
        """``now`` in New York, tz-aware."""
        import pandas as pd

        return pd.Timestamp(self.now, unit="ns", tz="UTC").tz_convert("America/New_York")

    @property
    def session(self) -> SessionOpened | None:
        """The regular session that is open, or the latest one; None before the first."""
        return self._host.session

    @property
    def minutes_since_open(self) -> float:
        """Minutes since the regular session opened; negative before the first session."""
        session = self._host.session
        return (self.now - session.ts) / 60e9 if session else -1.0

    @property
    def minutes_to_close(self) -> float:
        """Minutes until the regular session closes; negative after it."""
        session = self._host.session
        return (session.close - self.now) / 60e9 if session else -1.0

    def set_timer(self, name: str, at: int | str | None = None, *, seconds: float | None = None) -> None:
        """Ask for ``on_timer`` at a time: ns UTC, ``seconds`` from now, or "open+30m", "close-5m" of the current session."""
        if seconds is not None:
            when = self.now + int(seconds * 1e9)
        elif isinstance(at, int):
            when = at
        else:
            found = _TIMER.match((at or name).replace(" ", ""))
            session = self._host.session
            if not found or session is None:
                raise ParameterError(f"timer {at or name!r}: give ns, seconds=…, or open+30m / close-5m while a session is known")
            anchor, sign, amount, unit = found.groups()
            offset = int(amount or 0) * _SECONDS[unit or "s"] * 10**9
            when = (session.ts if anchor == "open" else session.close) + (offset if sign == "+" else -offset)
        self._host.outbox.append(SetTimer(self.now, self._host.strategy_id, name, when))

    # ── instruments and data ──────────────────────────────────────────────────────────────────────────────────────────

    def equity(self, symbol: str) -> Equity:
        """Return a share."""
        found = instrument(symbol)
        if not isinstance(found, Equity):
            raise ParameterError(f"{symbol!r} is no equity")
        return found

    def option(self, underlying: str, expiry: date, strike: Number, right: Right | str) -> Option:
        """Return a listed option."""
        found = instrument(occ_symbol(underlying, expiry, right, Decimal(str(strike))))
        assert isinstance(found, Option)
        return found

    def combo(self, *legs: tuple[Equity | Option, int]) -> Combo:
        """Return up to four legs as one instrument: ``ctx.combo((long_call, 1), (short_call, -1))``."""
        return combo(*legs)

    def vertical(self, long: Option, short: Option) -> Combo:
        """Return a vertical spread: one option bought, one of the same right and expiry sold."""
        return combo((long, 1), (short, -1))

    def options(self, underlying: str) -> list[Option]:
        """Return every option of an underlying that has a price, by expiry, right and strike."""
        found = [
            i for s in self.marks if len(s) > 15 and "*" not in s and isinstance(i := instrument(s), Option) and i.underlying == underlying
        ]
        return sorted(found, key=lambda option: (option.expiry, option.right, option.strike))

    def history(self, traded: Traded, n: int) -> list[Bar]:
        """Return up to ``n`` bars that have closed before now or at now, oldest first."""
        return self._host.history(_symbol(traded), n)

    def last(self, traded: Traded) -> MarketEvent | None:
        """Return the latest bar, quote or trade of a symbol."""
        return self.marks.get(_symbol(traded))

    def price(self, traded: Traded) -> float:
        """Return the latest price (bar close, quote mid, trade); of a combo the sum over its legs; nan where there is none."""
        found = instrument(traded) if isinstance(traded, str) else traded
        total = 0.0
        for leg in found.legs:
            event = self.marks.get(leg.instrument.symbol)
            if event is None:
                return float("nan")
            total += leg.ratio * (event.close if type(event) is Bar else getattr(event, "price", 0.0))
        return total

    # ── books ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def position(self, traded: Traded) -> Decimal:
        """Return the own signed position; of a combo, how many whole units are held."""
        positions = self._host.positions
        if type(traded) is str and "*" in traded:
            traded = instrument(traded)
        if isinstance(traded, Combo):
            units = [
                (positions[s].qty if (s := leg.instrument.symbol) in positions else ZERO) / leg.ratio for leg in traded.legs
            ]
            return min(units, key=abs) if all(u > 0 for u in units) or all(u < 0 for u in units) else ZERO
        held = positions.get(_symbol(traded))
        return held.qty if held is not None else ZERO

    @property
    def positions(self) -> dict[str, Position]:
        """Every own position that is not flat, by symbol."""
        return {symbol: held for symbol, held in self._host.positions.items() if held.qty}

    def working(self, traded: Traded | None = None) -> list[Ticket]:
        """Return own orders that may still fill, oldest first."""
        symbol = _symbol(traded) if traded is not None else None
        return [t for t in self._host.working.values() if symbol is None or t.symbol == symbol]

    @property
    def bankroll(self) -> Decimal:
        """The cash the strategy was given plus every cash flow of its own since."""
        return self._host.cash

    @property
    def equity_value(self) -> float:
        """Bankroll plus own positions at their latest prices, in dollars."""
        total = float(self._host.cash)
        for symbol, held in self._host.positions.items():
            if held.qty:
                price = self.price(symbol)
                total += float(held.qty) * held.multiplier * (price if price == price else float(held.avg_price))
        return total

    # ── decisions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def signal(self, traded: Traded, reason: str, value: float = 0.0, **inputs: float) -> int:
        """Record that something is wanted of a symbol, with the values seen; orders of this event refer to it.

        Values are kept as floats; one that is not finite (an indicator that is not ready) is left out.
        """
        host = self._host
        host.n += 1
        symbol, n, event, number = _symbol(traded), host.n, self.event, float(value)
        if not isfinite(number):
            number = 0.0
        host.outbox.append(Signal(event.ts, host.strategy_id, symbol, n, reason, number, finite(inputs), self._seq()))
        host.signals[symbol] = (event, n)
        host.reasons.pop(symbol, None)
        return n

    def no_signal(self, traded: Traded, reason: str, **inputs: float) -> None:
        """Say why nothing is wanted of a symbol now. Kept when the reason changes; a replay derives it for the bars between."""
        host = self._host
        symbol = traded if type(traded) is str else _symbol(traded)
        if host.reasons.get(symbol) != reason or host.probe is not None:
            host.no_signal(self.event.ts, symbol, reason, inputs, self._seq())

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def buy(self, traded: Traded, qty: Number | None = None, **terms: Any) -> Ticket:
        """Buy; see ``order`` for the terms."""
        return self.order(traded, Side.BUY, qty, **terms)

    def sell(self, traded: Traded, qty: Number | None = None, **terms: Any) -> Ticket:
        """Sell; see ``order`` for the terms."""
        return self.order(traded, Side.SELL, qty, **terms)

    def order(
        self,
        traded: Traded,
        side: Side,
        qty: Number | None = None,
        *,
        dollars: Number | None = None,
        limit_price: Number | None = None,
        stop_price: Number | None = None,
        tif: TimeInForce = TimeInForce.DAY,
        reduce_only: bool = False,
        signal: int | None = None,
        parent: str = "",
    ) -> Ticket:
        """Ask for an order and return its ticket, which follows the order's life.

        Parameters
        ----------
        qty, dollars
            How much: units of the instrument, or as many whole units as this much money buys at the latest price.
        limit_price, stop_price
            Neither: a market order. The first: a limit. The second: a stop. Both: a stop-limit.
        tif
            How long it works.
        reduce_only
            It may only bring the position nearer to zero.
        signal
            Number of the signal it follows from; by default the one recorded for the symbol in this event.

        Returns
        -------
        A ticket; of an order that is denied it says so, with the reason.
        """
        host = self._host
        if type(traded) is str:
            symbol, what = traded, None
        else:
            symbol, what = _symbol(traded), traded
        if dollars is not None:
            unit = self.price(traded) * instrument(symbol).multiplier
            qty = (Decimal(str(dollars)) / exact(unit)).to_integral_value(ROUND_DOWN) if unit > 0 else ZERO
        amount = qty if type(qty) is Decimal else _quantity(symbol, qty)
        kind = OrderType.MARKET
        if limit_price is not None or stop_price is not None:
            found = what if what is not None and not isinstance(what, str) else instrument(symbol)
            limit_price, stop_price = _price(found, limit_price), _price(found, stop_price)
            kind = OrderType.LIMIT if stop_price is None else OrderType.STOP if limit_price is None else OrderType.STOP_LIMIT
        if signal is None:
            signal = self._signal_of(symbol)
        host.n += 1
        ts = self.event.ts
        if ts < host.clock:
            ts = host.clock
        order = PlaceOrder(
            ts, f"{host.id_prefix}{host.n}", host.strategy_id, host.account, symbol, side, amount, kind, limit_price,
            stop_price, tif, reduce_only, parent, signal, self._seq(),
        )  # fmt: skip
        return host.place(order)

    def _signal_of(self, symbol: str) -> int:
        """The number of the signal recorded for a symbol in this event; 0 if there is none."""
        seen = self._host.signals.get(symbol)
        return seen[1] if seen is not None and seen[0] is self.event else 0

    def bracket(
        self, traded: Traded, side: Side, qty: Number, *, take_profit: Number, stop_loss: Number, **terms: Any
    ) -> tuple[Ticket, Ticket, Ticket]:
        """Enter with a target and a stop: (entry, target, stop). The exits wait for the entry; one cancels the other."""
        entry = self.order(traded, side, qty, **terms)
        exits = {"tif": TimeInForce.GTC, "reduce_only": True, "parent": entry.order_id}
        target = self.order(traded, side.opposite, qty, limit_price=take_profit, **exits)
        stop = self.order(traded, side.opposite, qty, stop_price=stop_loss, **exits)
        return entry, target, stop

    def target(self, traded: Traded, qty: Number, **terms: Any) -> Ticket | None:
        """Order the difference between a wanted position and the own one with what is working counted; None if there is none."""
        wanted = _quantity(_symbol(traded), qty, signed=True)
        pending = sum((t.leaves_qty * t.side.sign for t in self.working(traded) if not t.parent), ZERO)
        change = wanted - self.position(traded) - pending
        if not change:
            return None
        return self.order(traded, Side.BUY if change > 0 else Side.SELL, abs(change), **terms)

    def target_percent(self, traded: Traded, fraction: float, **terms: Any) -> Ticket | None:
        """``target`` of this fraction of ``equity_value`` (0.5 = half, negative = short), in whole units, rounded toward zero."""
        unit = self.price(traded) * instrument(_symbol(traded)).multiplier
        if not unit > 0:
            raise ParameterError(f"target_percent of {_symbol(traded)}: there is no price yet")
        return self.target(traded, Decimal(int(fraction * self.equity_value / unit)), **terms)

    def cancel(self, order: Ticket | str) -> None:
        """Ask to cancel a working order."""
        order_id = order if isinstance(order, str) else order.order_id
        host = self._host
        host.outbox.append(CancelOrder(self.now, order_id, host.strategy_id, host.account, "", self._seq()))

    def cancel_all(self, traded: Traded | None = None) -> None:
        """Ask to cancel every own working order, of one symbol or of all."""
        for ticket in self.working(traded):
            self.cancel(ticket)

    def replace(
        self, order: Ticket | str, *, qty: Number | None = None, limit_price: Number | None = None, stop_price: Number | None = None
    ) -> None:
        """Ask to change a working order; what is not given stays."""
        host = self._host
        ticket = host.tickets[order] if isinstance(order, str) else order
        found = instrument(ticket.symbol)
        host.outbox.append(
            ReplaceOrder(
                self.now, ticket.order_id, host.strategy_id, host.account, _quantity(ticket.symbol, qty) if qty is not None else None,
                _price(found, limit_price), _price(found, stop_price), self._seq(),
            )
        )

    def flatten(self, traded: Traded | None = None, **terms: Any) -> list[Ticket]:
        """Cancel what works and close what is held, of one symbol or of all, with reduce-only market orders.

        A symbol with working orders is closed once they have ended, so that what they fill meanwhile is closed too and nothing
        stands between; without any, at once.

        Returns
        -------
        The closing orders asked for at once.
        """
        if traded is not None:
            symbols = [_symbol(traded)]
        else:
            symbols = [s for s, held in self._host.positions.items() if held.qty]
            symbols += [t.symbol for t in self._host.working.values() if t.symbol not in symbols]
        tickets = []
        for symbol in dict.fromkeys(symbols):
            if self.working(symbol):
                self.cancel_all(symbol)
                self._host.closing[symbol] = {"signal": self._signal_of(symbol), **terms}
            elif ticket := self.close(symbol, **terms):
                tickets.append(ticket)
        return tickets

    def close(self, traded: Traded, **terms: Any) -> Ticket | None:
        """Close what is held of a symbol with a reduce-only order; None where nothing is."""
        held = self.position(traded)
        if not held:
            return None
        return self.order(traded, Side.SELL if held > 0 else Side.BUY, abs(held), reduce_only=True, **terms)


def _symbol(traded: Traded) -> str:
    return traded if isinstance(traded, str) else traded.symbol


def _quantity(symbol: str, qty: Number | None, *, signed: bool = False) -> Decimal:
    """Return an exact quantity.

    Raises
    ------
    ParameterError
        If it is missing, not a number, or a float with a fraction.
    """
    try:
        amount = qty if isinstance(qty, Decimal) else Decimal(str(qty))
    except ArithmeticError:
        raise ParameterError(f"order of {symbol}: quantity {qty!r} is not a number") from None
    if isinstance(qty, float) and isfinite(qty):
        if qty != int(qty):
            raise ParameterError(f"order of {symbol}: quantity {qty!r} has a fraction; give a Decimal if that is meant")
        amount = Decimal(int(qty))
    if not amount.is_finite() or (not signed and not amount > 0):
        raise ParameterError(f"order of {symbol}: quantity {qty!r} must be above zero")
    return amount


def _price(traded: Instrument, price: Number | None) -> Decimal | None:
    """Return an exact price; a float goes to the nearest tick.

    Raises
    ------
    ParameterError
        If it is not a number.
    """
    if price is None or isinstance(price, Decimal):
        return price
    try:
        if isinstance(price, float) and isfinite(price):
            return traded.round_price(price)
        exactly = Decimal(str(price))
    except ArithmeticError:
        exactly = Decimal("nan")
    if not exactly.is_finite():
        raise ParameterError(f"order of {traded.symbol}: price {price!r} is not a number")
    return exactly
