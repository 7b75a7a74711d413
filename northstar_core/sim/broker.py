"""An exchange and its broker as one pure state machine: orders, bars, quotes and sessions in, execution reports out.

No clock, no randomness, no I/O: the same calls give the same reports. Its books (cash, positions, open orders) are
its own, so that comparing them with the engine's proves something.

What a driver does
------------------
- Before it hands over anything that happened at ``ts``: if ``ts >= next_due``, ``advance(ts)``.
- Market events only of symbols in ``working`` (a dict: falsy when nothing works), bars of one instant together.
- At an instant: bars first, then the session's close, then what strategies ask for in answer to them.
- ``submit(order, now, last)``: with what is in force by symbol (the bar that has just closed, the quote) where
  market orders fill at the close or at quotes; it may be left out otherwise.
- A bar that closes at ``ts`` reports fills at its open with the time of its open: known later than they happened.

The rules of filling are stated in ``fills`` and ``exchange``, collected in ``SimModel.assumptions``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from decimal import Decimal

from northstar_core.model.execution import BrokerSnapshot, OpenOrder
from northstar_core.model.instrument import exact, instrument
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import OrderStatus, PlaceOrder, TimeInForce
from northstar_core.model.tape import CorporateAction
from northstar_core.sim.desk import Desk, ends_by, underlying
from northstar_core.sim.exchange import AT_ONCE, CANCELED, EXPIRED, MARKET, Reports, Update
from northstar_core.sim.fills import share
from northstar_core.sim.latency import NEVER
from northstar_core.sim.lifecycle import Lifecycle
from northstar_core.sim.model import SimModel
from northstar_core.sim.order import WorkingOrder

DEFAULT = SimModel()


class SimBroker(Desk):
    """A simulated broker with one account.

    Parameters
    ----------
    account
        Name of the account.
    cash
        What it begins with.
    model
        Fill rule, volume share, costs, slippage, latency, lifecycle policy.
    actions
        Splits and dividends, applied at the open of their ex-date.
    ticks
        Symbols that fill on quotes and prints instead of bars (``tick_symbols`` of a tape that has bars of some and
        quotes of others). None: every symbol if ``model.fill_at`` is "quote", none otherwise.
    prices
        Last known price of a symbol; asked for at expiries and corporate actions only. Without it, what ``mark`` was
        told.
    closed
        The exchange is closed until the first ``on_session_open``; for data with sessions.
    """

    __slots__ = (
        "_clock",
        "_label",
        "_last_due",
        "_lifecycle",
        "_marks",
        "_reports",
        "_requests",
        "_response",
        "account",
        "next_due",
    )

    def __init__(
        self,
        account: str,
        cash: Decimal,
        model: SimModel = DEFAULT,
        actions: Sequence[CorporateAction] = (),
        *,
        ticks: Container[str] | None = None,
        prices: Callable[[str], float | None] | None = None,
        closed: bool = False,
    ) -> None:
        super().__init__(account, cash, model, ticks)
        self.account = account
        self._marks: dict[str, float] = {}
        if closed and not model.extended_hours:
            self._hi = -NEVER
        self._requests: deque[tuple[int, Callable[[int, Reports], None]]] = deque()
        self._reports: deque[tuple[int, Update]] = deque()
        self._response = model.latency.response_ns
        self._last_due = -NEVER
        self._lifecycle = Lifecycle(self.books, model.lifecycle, tuple(actions), prices or self._marks.get)
        self._clock = -NEVER  # the latest instant heard of: nothing asked for later can have come before it
        self.next_due = NEVER  #: when ``advance`` has something to do

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, order: PlaceOrder, now: int, last: Mapping[str, Bar | Quote] | None = None) -> list[Update]:
        """Send an order. Without latency the answer is in the reports: NEW or REJECTED, and fills that happen on
        arrival.

        Raises
        ------
        ProtocolError
            If the order id was used before, or the account is another's.
        """
        out: Reports = []
        now = max(now, self._clock)
        if self.model.latency.entry_ns:
            self._send(now, lambda at, reports: self._arrive(order, at, None, reports))
        else:
            self._arrive(order, now, last, out)
        return self._deliver(out, now) if self._response else out

    def cancel(self, order_id: str, now: int) -> list[Update]:
        """Ask to cancel an order: CANCELED, or CANCEL_REJECTED when there is nothing left to cancel."""
        out: Reports = []
        now = max(now, self._clock)
        if self.model.latency.entry_ns:
            self._send(now, lambda at, reports: self._cancel(order_id, at, reports))
        else:
            self._cancel(order_id, now, out)
        return self._deliver(out, now) if self._response else out

    def replace(
        self,
        order_id: str,
        qty: Decimal | None,
        limit_price: Decimal | None,
        stop_price: Decimal | None,
        now: int,
    ) -> list[Update]:
        """Ask for other terms; None keeps what is. REPLACED, or REPLACE_REJECTED and the order works on.

        ``qty`` is the whole order's, what has filled included. The changed order has its place as if it had just
        arrived.
        """
        out: Reports = []
        now = max(now, self._clock)
        if self.model.latency.entry_ns:
            self._send(now, lambda at, reports: self._replace(order_id, qty, limit_price, stop_price, at, reports))
        else:
            self._replace(order_id, qty, limit_price, stop_price, now, out)
        return self._deliver(out, now) if self._response else out

    def advance(self, ts: int) -> list[Update]:
        """Let requests arrive that are due by ``ts``, and return the reports that are back by then."""
        out: Reports = []
        self._clock = max(self._clock, ts)
        while self._requests and self._requests[0][0] <= ts:
            due, request = self._requests.popleft()
            request(due, out)
        return self._deliver(out, ts)

    def _send(self, now: int, request: Callable[[int, Reports], None]) -> None:
        due = now + self.model.latency.entry_ns
        self._requests.append((due, request))
        self.next_due = min(self.next_due, due)

    def _deliver(self, out: Reports, ts: int) -> Reports:
        """Queue reports for their way back and return those that have arrived, in the order in which they were made."""
        if self._response:
            for report in out:
                self._last_due = max(self._last_due, report.ts + self._response)
                self._reports.append((self._last_due, report))
            out = []
            while self._reports and self._reports[0][0] <= ts:
                out.append(self._reports.popleft()[1])
        first = self._requests[0][0] if self._requests else NEVER
        self.next_due = min(first, self._reports[0][0]) if self._reports else first
        return out

    # ── the market ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_bars(self, bars: Sequence[Bar]) -> list[Update]:
        """Fill on bars that close at one instant; bars of symbols without working orders are ignored."""
        out: Reports = []
        working, lo, hi = self.working, self._lo, self._hi
        self._clock = bars[0].ts
        for bar in bars:
            orders = working.get(bar.symbol)
            if orders is None or not lo <= bar.start < hi or not bar.volume > 0 or self._by_ticks(bar.symbol):
                continue
            if self._fast and len(orders) == 1:
                o = orders[0]
                if o.plain and o.active_from <= bar.start and o.size <= bar.volume * self._part:
                    self._fill(o, o.leaves, exact(bar.open), bar.start, out)
                    continue
            self._match_bar(bar, orders, out)
        if self._combos:
            self._match_combos({bar.symbol: bar for bar in bars}, bars[0].ts, out)
        return self._deliver(out, bars[0].ts) if self._response else out

    def on_quote(self, quote: Quote) -> list[Update]:
        """Fill on a quote."""
        out: Reports = []
        self._clock = quote.ts
        orders = self.working.get(quote.symbol)
        if orders is not None and self._by_ticks(quote.symbol) and self._in_hours(quote.ts):
            self._show(quote)
            self._note_closing(quote, orders)
            self._match_quote(quote, tuple(orders), quote.ts, out)
            if self._combos:
                self._match_combos({}, quote.ts, out)
        return self._deliver(out, quote.ts) if self._response else out

    def on_trade(self, trade: Trade) -> list[Update]:
        """Fill on a print; one that does not form a price fills nothing."""
        out: Reports = []
        self._clock = trade.ts
        orders = self.working.get(trade.symbol)
        if (
            orders is not None
            and trade.forms_price
            and trade.size > 0
            and self._by_ticks(trade.symbol)
            and self._in_hours(trade.ts)
        ):
            self._note_closing(trade, orders)
            self._match_trade(trade, tuple(orders), out)
        return self._deliver(out, trade.ts) if self._response else out

    def _note_closing(self, event: Quote | Trade, orders: Sequence[WorkingOrder]) -> None:
        if any(o.order.tif is TimeInForce.CLS for o in orders):
            if isinstance(event, Trade) or not isinstance(self._closing.get(event.symbol), Trade):
                self._closing[event.symbol] = event

    def mark(self, symbol: str, price: float) -> None:
        """Tell the last price of a symbol, before a session's open or close, where no ``prices`` was given."""
        self._marks[symbol] = price

    # ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_session_open(self, ts: int, label: str) -> list[Update]:
        """Open the exchange: late expiries, early assignments, dividends, splits, in that order; then orders fill."""
        out: Reports = []
        self._label, self._clock, self._opened = label, ts, ts
        if not self.model.extended_hours:
            self._lo, self._hi = ts, NEVER
        activities, stale = self._lifecycle.on_open(ts, label)
        if stale:
            self._drop_symbols(stale | {s for s in self.working if underlying(s) in stale}, ts, out)
        out += activities
        return self._deliver(out, ts)

    def on_session_close(self, ts: int, label: str) -> list[Update]:
        """Close the exchange: CLS orders fill at the last price, DAY orders expire, then options that end today.

        An order that reaches the broker at the close or later is for the next session.
        """
        out: Reports = []
        self._clock = ts
        for o in tuple(self._open.values()):
            if o.order.tif is TimeInForce.CLS and o.active_from < ts and not o.done:
                self._fill_closing(o, ts, out)
        for o in tuple(self._open.values()):
            tif = o.order.tif
            if o.done or o.active_from >= ts or tif is TimeInForce.GTC:
                continue
            if tif is TimeInForce.OPG and o.active_from > self._opened:
                continue
            how = CANCELED if tif in AT_ONCE else EXPIRED
            self._drop(o, how, ts, f"{tif}: the session has closed", out)
        if not self.model.extended_hours:
            self._hi = ts
        activities, stale = self._lifecycle.on_close(ts, label)
        stale |= {s for s in self.working if ends_by(instrument(s), label)}
        if stale:
            self._drop_symbols(stale, ts, out)
        out += activities
        return self._deliver(out, ts)

    def _fill_closing(self, o: WorkingOrder, ts: int, out: Reports) -> None:
        event = self._closing.get(o.order.symbol)
        if event is None or event.ts < o.active_from:
            return
        if isinstance(event, Bar):
            price, volume = event.close, event.volume
        elif isinstance(event, Trade):
            price, volume = event.price, event.size
        else:
            price, volume = (event.ask, event.ask_size) if o.buy else (event.bid, event.bid_size)
        if price > 0 and (o.order.order_type is MARKET or (price <= o.limit if o.buy else price >= o.limit)):
            if isinstance(event, Quote):
                room: Decimal | None = exact(volume)
            else:
                room = None if self._share is None else share(volume, self._share, o.instrument.lot)
            self._take(o, exact(price), volume, ts, room, out)

    def _drop_symbols(self, symbols: set[str], ts: int, out: Reports) -> None:
        for o in tuple(self._open.values()):
            if not o.done and any(leg.instrument.symbol in symbols for leg in o.instrument.legs):
                self._drop(o, CANCELED, ts, f"{o.order.symbol}: split or expired", out)

    # ── what it holds ─────────────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self, ts: int) -> BrokerSnapshot:
        """Return cash, positions and open orders as this broker sees them; requests on their way are not there yet."""
        orders = tuple(
            OpenOrder(order_id, OrderStatus.NEW if o.leaves == o.order.qty else OrderStatus.PARTIALLY_FILLED, o.leaves)
            for order_id, o in sorted(self._open.items())
        )
        return BrokerSnapshot(ts, self.account, self.books.cash, self.books.held(), orders)
