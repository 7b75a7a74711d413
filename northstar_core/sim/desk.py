"""The desk of the simulated broker: what happens to a request when it arrives: refused, queued, or filled at once."""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal

import msgspec

from northstar_core.model.errors import DataError, ProtocolError
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.instrument import Equity, Instrument, Option, exact, instrument
from northstar_core.model.market import Bar, Quote
from northstar_core.model.order import OrderType, PlaceOrder, TimeInForce
from northstar_core.sim.exchange import AT_ONCE, CANCELED, MARKET, NEW, ZERO, Reports
from northstar_core.sim.fills import FillAt, share
from northstar_core.sim.lifecycle import last_day
from northstar_core.sim.model import SimModel
from northstar_core.sim.order import Bracket, WorkingOrder, working_order
from northstar_core.sim.ticks import TickExchange


class Desk(TickExchange):
    """An exchange with somebody who takes orders, cancels and replaces, and answers them."""

    __slots__ = ("_label",)

    def __init__(self, account: str, cash: Decimal, model: SimModel, ticks: Container[str] | None) -> None:
        super().__init__(account, cash, model, ticks)
        self._label = ""  # date of the session, "" before the first

    def _arrive(self, order: PlaceOrder, now: int, last: Mapping[str, Bar | Quote] | None, out: Reports) -> None:
        order_id = order.order_id
        if order_id in self._open or order_id in self._ended:
            raise ProtocolError(
                f"order {order_id}: this id was already sent to account {self.books.account}; ids are used once"
            )
        if order.account != self.books.account:
            raise ProtocolError(
                f"order {order_id} is for account {order.account}, this is the broker of {self.books.account}"
            )
        try:
            found = instrument(order.symbol)
        except DataError as error:
            self._refuse(order, now, str(error), out)
            return
        o = working_order(order, found, now)
        if not o.plain or not order.qty > 0 or order.qty % found.lot or type(found) is not Equity:
            refusal = self._refusal(o)
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

    def _refusal(self, o: WorkingOrder) -> str:
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
        if any(ends_by(leg.instrument, self._label, before=True) for leg in found.legs):
            return f"{order.symbol} has expired"
        if order.parent:
            filled = self._ended.get(order.parent)
            if order.parent not in self._open and not filled:
                return f"its entry {order.parent} " + ("is not known" if filled is None else "ended without a fill")
        elif order.reduce_only and not self._reducible(o):
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
        """Let an order meet what is in force when it arrives: the quote, or the bar that closes at that instant."""
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
        self,
        order_id: str,
        qty: Decimal | None,
        limit: Decimal | None,
        stop: Decimal | None,
        now: int,
        out: Reports,
    ) -> None:
        o = self._open.get(order_id)
        why = ""
        if o is None:
            why = f"order {order_id} " + ("is not known" if order_id not in self._ended else "works no more")
        else:
            order = o.order
            new = msgspec.structs.replace(
                order,
                qty=order.qty if qty is None else qty,
                limit_price=order.limit_price if limit is None else limit,
                stop_price=order.stop_price if stop is None else stop,
            )
            filled = order.qty - o.leaves
            if new.qty <= filled:
                why = f"quantity {new.qty}: {filled} has filled already; cancel the rest instead"
            else:
                changed = working_order(new, o.instrument, now)
                why = self._refusal(changed)
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


def ends_by(found: Instrument, label: str, *, before: bool = False) -> bool:
    """Tell whether an option ends with the session of this label (or, ``before``, with an earlier one)."""
    if type(found) is not Option or not label:
        return False
    last = last_day(found).isoformat()
    return last < label if before else last <= label


def underlying(symbol: str) -> str:
    found = instrument(symbol)
    return found.underlying if type(found) is Option else symbol
