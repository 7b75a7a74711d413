"""An exchange and its broker as one pure state machine: orders, bars, quotes and sessions in, execution reports out.

No clock, no randomness, no I/O: the same calls give the same reports. Its books (cash, positions, open orders) are its own,
so that comparing them with the engine's proves something.

What a driver does
------------------
- Before it hands over anything that happened at ``ts``: if ``ts >= next_due``, ``advance(ts)``.
- Market events only of symbols in ``working`` (a dict: falsy when nothing works), bars of one instant together.
- At an instant: bars first, then the session's close, then what strategies ask for in answer to them.
- ``submit(order, now, last)``: with what is in force at ``now`` by symbol (the bar that has just closed, the latest quote) where
  market orders fill at the close or at quotes; it may be left out otherwise.
- A bar that closes at ``ts`` reports fills at its open with the time of its open: the report is known later than it happened.

The rules of filling are stated in ``fills`` and ``exchange``, collected in ``SimModel.assumptions``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from decimal import Decimal

import msgspec

from northstar_core.model.errors import DataError, ProtocolError
from northstar_core.model.execution import AccountActivity, BrokerSnapshot, ExecType, ExecutionReport, OpenOrder
from northstar_core.model.instrument import Equity, Instrument, Option, exact, instrument
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import OrderStatus, OrderType, PlaceOrder, TimeInForce
from northstar_core.model.tape import CorporateAction
from northstar_core.sim.exchange import AT_ONCE, CANCELED, EXPIRED, MARKET, NEW, ZERO, Reports
from northstar_core.sim.fills import FillAt, share
from northstar_core.sim.latency import NEVER
from northstar_core.sim.lifecycle import Lifecycle, last_day
from northstar_core.sim.model import SimModel
from northstar_core.sim.order import Bracket, WorkingOrder, working_order
from northstar_core.sim.ticks import TickExchange

Update = ExecutionReport | AccountActivity


DEFAULT = SimModel()


class SimBroker(TickExchange):
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
        Symbols that fill on quotes and prints instead of bars (``tick_symbols`` of a tape that has bars of some and quotes of
        others). None: every symbol if ``model.fill_at`` is "quote", none otherwise.
    prices
        Last known price of a symbol; asked for at expiries and corporate actions only. Without it, what ``mark`` was told.
    closed
        The exchange is closed until the first ``on_session_open``; for data with sessions.
    """

    __slots__ = ("_clock", "_label", "_last_due", "_lifecycle", "_marks", "_reports", "_requests", "_response", "account", "next_due")

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
        self._reports: deque[tuple[int, ExecutionReport]] = deque()
        self._response = model.latency.response_ns
        self._last_due = -NEVER
        self._label = ""
        self._lifecycle = Lifecycle(self.books, model.lifecycle, tuple(actions), prices or self._marks.get)
        self._clock = -NEVER  # the latest instant heard of: nothing asked for later can have come before it
        self.next_due = NEVER  #: when ``advance`` has something to do

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, order: PlaceOrder, now: int, last: Mapping[str, Bar | Quote] | None = None) -> list[ExecutionReport]:
        """Send an order. Without latency the answer is in the reports: NEW or REJECTED, and fills that happen on arrival.

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

    def cancel(self, order_id: str, now: int) -> list[ExecutionReport]:
        """Ask to cancel an order: CANCELED, or CANCEL_REJECTED when there is nothing left to cancel."""
        out: Reports = []
        now = max(now, self._clock)
        if self.model.latency.entry_ns:
            self._send(now, lambda at, reports: self._cancel(order_id, at, reports))
        else:
            self._cancel(order_id, now, out)
        return self._deliver(out, now) if self._response else out

    def replace(
        self, order_id: str, qty: Decimal | None, limit_price: Decimal | None, stop_price: Decimal | None, now: int,
    ) -> list[ExecutionReport]:
        """Ask for other terms; None keeps what is. REPLACED, or REPLACE_REJECTED and the order works on.

        ``qty`` is the whole order's, what has filled included. The changed order has its place as if it had just arrived.
        """
        out: Reports = []
        now = max(now, self._clock)
        if self.model.latency.entry_ns:
            self._send(now, lambda at, reports: self._replace(order_id, qty, limit_price, stop_price, at, reports))
        else:
            self._replace(order_id, qty, limit_price, stop_price, now, out)
        return self._deliver(out, now) if self._response else out

    def advance(self, ts: int) -> list[ExecutionReport]:
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
        """Queue reports for their way back and return those that have arrived; they stay in the order in which they were made."""
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

    def on_bars(self, bars: Sequence[Bar]) -> list[ExecutionReport]:
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

    def on_quote(self, quote: Quote) -> list[ExecutionReport]:
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

    def on_trade(self, trade: Trade) -> list[ExecutionReport]:
        """Fill on a print; one that does not form a price fills nothing."""
        out: Reports = []
        self._clock = trade.ts
        orders = self.working.get(trade.symbol)
        if (
            orders is not None and trade.forms_price and trade.size > 0 and self._by_ticks(trade.symbol)
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
        """Open the exchange: late expiries, early assignments, dividends, splits, in that order; then orders may fill."""
        out: Reports = []
        self._label, self._clock, self._opened = label, ts, ts
        if not self.model.extended_hours:
            self._lo, self._hi = ts, NEVER
        activities, stale = self._lifecycle.on_open(ts, label)
        if stale:
            self._drop_symbols(stale, ts, out)
        return [*self._deliver(out, ts), *activities]

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
        stale |= {s for s in self.working if _ends_by(instrument(s), label)}
        if stale:
            self._drop_symbols(stale, ts, out)
        return [*self._deliver(out, ts), *activities]

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

    # ── what arrives ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _arrive(self, order: PlaceOrder, now: int, last: Mapping[str, Bar | Quote] | None, out: Reports) -> None:
        order_id = order.order_id
        if order_id in self._open or order_id in self._ended:
            raise ProtocolError(f"order {order_id}: this id was already sent to account {self.account}; ids are used once")
        if order.account != self.account:
            raise ProtocolError(f"order {order_id} is for account {order.account}, this is the broker of {self.account}")
        try:
            found = instrument(order.symbol)
        except DataError as error:
            self._refuse(order, now, str(error), out)
            return
        o = working_order(order, found, now)
        if not o.plain or order.qty <= 0 or type(found) is not Equity:
            refusal = self._refusal(o, now)
            if refusal:
                self._refuse(order, now, refusal, out)
                return
        self._open[order_id] = o
        if o.legs:
            self._combos.append(o)
            for leg in o.legs:
                self._enqueue(leg.instrument.symbol, o)
        else:
            self._enqueue(order.symbol, o)
        out.append(ExecutionReport(now, order_id, NEW))
        if order.parent:
            self._attach(o)
        if last is not None and self._meets:
            self._on_arrival(o, last, now, out)

    def _enqueue(self, symbol: str, o: WorkingOrder) -> None:
        queue = self.working.get(symbol)
        if queue is None:
            self.working[symbol] = [o]
            self._quotes.pop(symbol, None)  # of an earlier time
        else:
            queue.append(o)

    def _refuse(self, order: PlaceOrder, now: int, why: str, out: Reports) -> None:
        self._ended[order.order_id] = ZERO
        out.append(ExecutionReport(now, order.order_id, ExecType.REJECTED, text=why))

    def _refusal(self, o: WorkingOrder, now: int) -> str:
        """Return why the broker itself refuses an order, or nothing."""
        order, kind, found = o.order, o.order.order_type, o.instrument
        if not order.qty > 0 or order.qty % found.lot:
            return f"quantity {order.qty}: not a positive multiple of {found.lot}"
        if (order.limit_price is None) is (kind in (OrderType.LIMIT, OrderType.STOP_LIMIT)):
            return f"{kind}: a limit price belongs to limit and stop-limit orders, and to those only"
        if (order.stop_price is None) is (kind in (OrderType.STOP, OrderType.STOP_LIMIT)):
            return f"{kind}: a stop price belongs to stop and stop-limit orders, and to those only"
        if o.legs and kind not in (OrderType.MARKET, OrderType.LIMIT):
            return f"{kind}: a combo is a market or limit order"
        auction = order.tif in (TimeInForce.OPG, TimeInForce.CLS)
        if auction and (type(found) is not Equity or kind not in (MARKET, OrderType.LIMIT)):
            return f"{order.tif} {kind}: auctions take market and limit orders in shares"
        if any(_ends_by(leg.instrument, self._label, before=True) for leg in found.legs):
            return f"{order.symbol} has expired"
        if order.parent:
            filled = self._ended.get(order.parent)
            if order.parent not in self._open and not filled:
                return f"its entry {order.parent} " + ("is not known" if filled is None else "ended without a fill")
        elif order.reduce_only and not self._wanted(o, now, []):
            return "reduce-only: it would open or turn a position"
        return ""

    def _attach(self, o: WorkingOrder) -> None:
        """Make an exit wait for its entry and know its siblings."""
        parent = o.order.parent
        bracket = self._brackets.get(parent)
        if bracket is None:
            entry = self._open.get(parent)
            if entry is None:
                bracket = Bracket(parent, filled=self._ended[parent], over=True)
            else:
                bracket = entry.bracket = Bracket(parent, filled=entry.order.qty - entry.leaves)
            self._brackets[parent] = bracket
        bracket.exits.append(o)
        o.exit_of = bracket

    def _on_arrival(self, o: WorkingOrder, last: Mapping[str, Bar | Quote], now: int, out: Reports) -> None:
        """Let an order meet what is in force when it arrives: the quote, or the bar that closes at this very instant."""
        bars: dict[str, Bar] = {}
        for leg in o.instrument.legs:
            event = last.get(leg.instrument.symbol)
            if isinstance(event, Quote) and self._by_ticks(event.symbol) and self._in_hours(now):
                self._show(event)
            elif isinstance(event, Bar) and event.ts == now and not self._by_ticks(event.symbol):
                bars[event.symbol] = event
        closes = self.model.fill_at is FillAt.CLOSE and o.order.order_type is MARKET
        if o.legs:
            if (closes or not bars) and self._in_hours(now if not bars else next(iter(bars.values())).start):
                self._match_arrived_combo(o, bars, now, out)
        elif self._by_ticks(o.order.symbol):
            quote = self._quotes.get(o.order.symbol)
            if quote is not None and self._in_hours(now):
                self._match_quote(quote, (o,), now, out)
        elif closes and bars and not o.order.parent and o.order.tif not in (TimeInForce.OPG, TimeInForce.CLS):
            bar = bars[o.order.symbol]
            if bar.volume > 0 and self._in_hours(bar.start):
                room = None if self._share is None else share(bar.volume, self._share, o.instrument.lot)
                self._take(o, exact(bar.close), bar.volume, now, room, out)
                if o.order.tif in AT_ONCE:
                    self._drop(o, CANCELED, now, f"{o.order.tif}: the rest did not fill", out)

    def _match_arrived_combo(self, o: WorkingOrder, bars: dict[str, Bar], now: int, out: Reports) -> None:
        others = self._combos
        self._combos = [o]
        self._match_combos(bars, now, out, at_close=True)
        self._combos = [*others[:-1], *self._combos]

    def _cancel(self, order_id: str, now: int, out: Reports) -> None:
        o = self._open.get(order_id)
        if o is None:
            why = "is not known" if order_id not in self._ended else "works no more"
            out.append(ExecutionReport(now, order_id, ExecType.CANCEL_REJECTED, text=f"order {order_id} {why}"))
        else:
            self._drop(o, CANCELED, now, "", out)

    def _replace(
        self, order_id: str, qty: Decimal | None, limit: Decimal | None, stop: Decimal | None, now: int, out: Reports,
    ) -> None:
        o = self._open.get(order_id)
        why = ""
        if o is None:
            why = f"order {order_id} " + ("is not known" if order_id not in self._ended else "works no more")
        else:
            order = o.order
            new = msgspec.structs.replace(
                order, qty=order.qty if qty is None else qty, limit_price=order.limit_price if limit is None else limit,
                stop_price=order.stop_price if stop is None else stop,
            )
            filled = order.qty - o.leaves
            if new.qty <= filled:
                why = f"quantity {new.qty}: {filled} has filled already; cancel the rest instead"
            else:
                changed = working_order(new, o.instrument, now)
                why = self._refusal(changed, now)
        if why:
            out.append(ExecutionReport(now, order_id, ExecType.REPLACE_REJECTED, text=why))
            return
        assert o is not None
        o.order, o.leaves, o.size = new, new.qty - filled, float(new.qty - filled)
        o.limit, o.stop, o.active_from = changed.limit, changed.stop, now
        if stop is not None:
            o.triggered = False
        for symbol in {leg.instrument.symbol for leg in o.instrument.legs}:
            queue = self.working[symbol]
            queue.remove(o)
            queue.append(o)
        out.append(ExecutionReport(now, order_id, ExecType.REPLACED))

    # ── what it holds ─────────────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self, ts: int) -> BrokerSnapshot:
        """Return cash, positions and open orders as this broker sees them; requests on their way are not there yet."""
        orders = tuple(
            OpenOrder(order_id, OrderStatus.NEW if o.leaves == o.order.qty else OrderStatus.PARTIALLY_FILLED, o.leaves)
            for order_id, o in sorted(self._open.items())
        )
        return BrokerSnapshot(ts, self.account, self.books.cash, self.books.held(), orders)


def _ends_by(found: Instrument, label: str, *, before: bool = False) -> bool:
    """Tell whether an option ends with the session of this label (or, ``before``, with an earlier one)."""
    if type(found) is not Option or not label:
        return False
    last = last_day(found).isoformat()
    return last < label if before else last <= label
