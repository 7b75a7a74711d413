"""The matching half of the simulated broker: working orders, fills on bars, brackets, and what ends an order.

A bar is worked through in three steps. At its open: market orders, limits that are marketable, stops that were gapped
through, in order of arrival. Inside: stops before limits, so that of a stop and a target in the same bar the stop
fills. At its close: market orders where they fill at the close. Orders share the volume a bar allows them, in that
order.
"""

from __future__ import annotations

from decimal import Decimal

from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport
from northstar_core.model.instrument import Equity, Option, exact
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import OrderType, Side, TimeInForce
from northstar_core.sim.books import Books
from northstar_core.sim.costs import NOTHING, Tally
from northstar_core.sim.fills import FillAt, inside, inside_after_entry, share, slipped, trades_at, whole
from northstar_core.sim.latency import NEVER
from northstar_core.sim.model import SimModel
from northstar_core.sim.order import Bracket, WorkingOrder

ZERO = Decimal(0)
NEW, TRADE, CANCELED, EXPIRED = ExecType.NEW, ExecType.TRADE, ExecType.CANCELED, ExecType.EXPIRED
BUY, SELL = Side.BUY, Side.SELL
AT_ONCE = frozenset({TimeInForce.IOC, TimeInForce.FOK})
MARKET = OrderType.MARKET
STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})

#: What a broker says: about an order, or about the account.
Update = ExecutionReport | AccountActivity
Reports = list[Update]


class Exchange:
    """Working orders of one account and how bars fill them; ``SimBroker`` is the whole."""

    __slots__ = (
        "_brackets",
        "_closing",
        "_combos",
        "_costs",
        "_ended",
        "_fast",
        "_hi",
        "_lo",
        "_meets",
        "_open",
        "_opened",
        "_part",
        "_share",
        "_slippage",
        "books",
        "model",
        "working",
    )

    def __init__(self, account: str, cash: Decimal, model: SimModel) -> None:
        self.model = model
        self.books = Books(account, cash)
        #: Symbol to its working orders by arrival; a combo is under each of its legs. Falsy when nothing works.
        self.working: dict[str, list[WorkingOrder]] = {}
        self._brackets: dict[str, Bracket] = {}  # by the entry's order id
        self._open: dict[str, WorkingOrder] = {}
        self._ended: dict[str, Decimal] = {}  # order id to what it had filled
        self._combos: list[WorkingOrder] = []
        self._closing: dict[str, Bar | Quote | Trade] = {}  # the last event of symbols with CLS orders
        self._lo, self._hi = -NEVER, NEVER  # orders fill at times in [lo, hi)
        self._opened = -NEVER  # when the session opened last
        self._costs, self._slippage, self._share = model.costs, model.slippage, model.volume_share
        self._part = float("inf") if self._share is None else float(self._share) * (1 - 1e-9)
        self._meets = model.fill_at is not FillAt.NEXT_OPEN  # whether an order can fill on arrival
        self._fast = model.fill_at is FillAt.NEXT_OPEN and model.slippage is None

    # ── bars ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _match_bar(self, bar: Bar, orders: list[WorkingOrder], out: Reports) -> None:
        lot = orders[0].instrument.lot
        room = None if self._share is None else share(bar.volume, self._share, lot)
        room = self._at_open(bar, tuple(orders), room, out)
        for stops in (True, False):
            for o in tuple(orders):
                if (o.order.order_type in STOPS) is stops:
                    room = self._inside(bar, o, room, out)
        if self.model.fill_at is FillAt.CLOSE:
            price = exact(bar.close)
            for o in tuple(orders):
                if o.order.order_type is MARKET and o.order.tif is not TimeInForce.OPG and self._live(o, bar.start):
                    room = self._take(o, price, bar.volume, bar.ts, room, out)
                    if o.order.tif in AT_ONCE:
                        self._drop(o, CANCELED, bar.ts, f"{o.order.tif}: the rest did not fill", out)

    def _live(self, o: WorkingOrder, at: int) -> bool:
        return not o.done and not o.legs and o.active_from <= at and o.order.tif is not TimeInForce.CLS

    def _at_open(
        self, bar: Bar, orders: tuple[WorkingOrder, ...], room: Decimal | None, out: Reports
    ) -> Decimal | None:
        start, at_close = bar.start, self.model.fill_at is FillAt.CLOSE
        price = exact(bar.open)
        for o in orders:
            tif = o.order.tif
            if tif is TimeInForce.CLS:
                if o.active_from <= bar.ts:
                    self._closing[bar.symbol] = bar
                continue
            if not self._live(o, start) or (o.order.parent and not o.available):
                continue
            if tif is TimeInForce.OPG:
                if o.active_from > self._opened:
                    continue  # too late for this session's opening; it waits for the next
                if trades_at(o, bar.open):
                    room = self._take(o, price, bar.volume, start, room, out)
                self._drop(o, EXPIRED, start, "OPG: not filled at the opening", out)
            elif at_close and o.order.order_type is MARKET:
                continue
            else:
                if trades_at(o, bar.open):
                    room = self._take(o, price, bar.volume, start, room, out)
                if tif in AT_ONCE:
                    self._drop(o, CANCELED, start, f"{tif}: the rest did not fill", out)
        return room

    def _inside(self, bar: Bar, o: WorkingOrder, room: Decimal | None, out: Reports) -> Decimal | None:
        if not self._live(o, bar.start) or o.order.tif is TimeInForce.OPG or (o.order.parent and not o.available):
            return room
        price = inside(o, bar, self.model.touch)
        if price is None:
            return room
        before = o.leaves
        room = self._take(
            o, exact(price), bar.volume, bar.ts, room, out, passive=o.order.order_type is not OrderType.STOP
        )
        if o.bracket is not None and o.leaves != before:
            exits = sorted(o.bracket.exits, key=lambda e: e.order.order_type not in STOPS)
            for e in exits:
                if e.done or e.legs or e.order.symbol != bar.symbol or not e.available:
                    continue
                at = inside_after_entry(e, bar, price, self.model.touch)
                if at is not None:
                    passive = e.order.order_type is not OrderType.STOP
                    room = self._take(e, exact(at), bar.volume, bar.ts, room, out, passive=passive)
        return room

    # ── fills ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _reducible(self, o: WorkingOrder) -> Decimal:
        """Return the quantity by which the order can bring its strategy's position nearer to zero."""
        most = o.leaves
        for leg in o.instrument.legs:
            held = self.books.qty(o.order.strategy, leg.instrument.symbol)
            against = max(-held if o.buy is (leg.ratio > 0) else held, ZERO)
            most = min(most, against // abs(leg.ratio) if o.legs else against)
        return most

    def _wanted(self, o: WorkingOrder, ts: int, out: Reports) -> Decimal:
        """Return how much the order may trade now; a reduce-only order with nothing left to reduce is canceled."""
        qty = o.available
        if o.order.reduce_only and qty:
            qty = min(qty, self._reducible(o))
            if not qty:
                self._drop(o, CANCELED, ts, "reduce-only: no position left to reduce", out)
        return qty

    def _take(
        self,
        o: WorkingOrder,
        price: Decimal,
        volume: float,
        ts: int,
        room: Decimal | None,
        out: Reports,
        *,
        passive: bool = False,
    ) -> Decimal | None:
        """Fill what may be filled at this price and return the volume that is left for others."""
        qty = self._wanted(o, ts, out)
        if room is not None and room < qty:
            qty = whole(room, o.instrument.lot)
        if qty <= 0 or (o.order.tif is TimeInForce.FOK and qty != o.leaves):
            return room
        if self._slippage is not None and not passive:
            price = slipped(price, o, o.instrument, o.buy, qty, volume, self._slippage)
        self._fill(o, qty, price, ts, out)
        return None if room is None else room - qty

    def _fill(self, o: WorkingOrder, qty: Decimal, price: Decimal, ts: int, out: Reports) -> None:
        """Book a fill of an order that is no combo, and report it."""
        order, instrument = o.order, o.instrument
        value = qty * price if type(instrument) is Equity else qty * price * instrument.multiplier
        o.executions = n = o.executions + 1
        books = self.books
        if self._costs is None:
            fees = ZERO
            books.cash += -value if o.buy else value
        else:
            fees = self._charge(o, instrument, o.buy, qty, price, value, ts)  # type: ignore[arg-type]
            books.cash += (-value if o.buy else value) - fees
        books.add(order.strategy, order.symbol, qty if o.buy else -qty)
        order_id = order.order_id
        out.append(ExecutionReport(ts, order_id, TRADE, f"{order_id}-{n}", order.symbol, order.side, qty, price, fees))
        self._traded(o, qty, price, ts, out)

    def _charge(
        self,
        o: WorkingOrder,
        instrument: Equity | Option,
        buy: bool,
        qty: Decimal,
        price: Decimal,
        value: Decimal,
        ts: int,
    ) -> Decimal:
        tallies = o.tallies
        if tallies is None:
            tallies = o.tallies = {}
        before = tallies.get(instrument.symbol, NOTHING)
        tallies[instrument.symbol] = Tally(before.qty + qty, before.value + abs(value))
        assert self._costs is not None
        return self._costs.fee(instrument, buy, qty, price, ts, before)

    def _traded(self, o: WorkingOrder, qty: Decimal, price: Decimal, ts: int, out: Reports) -> None:
        """Take what has traded off the order, and off its siblings where it is an exit."""
        o.leaves = leaves = o.leaves - qty
        if o.bracket is not None:
            o.bracket.filled += qty
            for e in o.bracket.exits:
                e.active_from = max(e.active_from, ts)
        own = o.exit_of
        if own is not None:
            own.exited += qty
        if not leaves:
            self._end(o, ts, out)
        else:
            o.size = float(leaves)
        if own is not None and own.over and own.exited >= own.filled:
            for e in tuple(own.exits):
                self._drop(e, CANCELED, ts, f"one cancels other: {own.parent} is closed", out)

    # ── ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _drop(self, o: WorkingOrder, how: ExecType, ts: int, why: str, out: Reports) -> None:
        """End an order that still works, and say so."""
        if not o.done:
            out.append(ExecutionReport(ts, o.order.order_id, how, text=why))
            self._end(o, ts, out)

    def _end(self, o: WorkingOrder, ts: int, out: Reports) -> None:
        """Forget a working order; the exits of an entry that never filled end with it."""
        order = o.order
        o.done = True
        del self._open[order.order_id]
        self._ended[order.order_id] = order.qty - o.leaves
        if o.legs:
            self._combos.remove(o)
            for leg in o.legs:
                self._leave(leg.instrument.symbol, o)
        else:
            self._leave(order.symbol, o)
        if o.exit_of is not None:
            o.exit_of.exits.remove(o)
        bracket = o.bracket
        if bracket is not None:
            bracket.over = True
            if bracket.exited >= bracket.filled:
                why = "has not filled" if not bracket.filled else "is closed"
                for e in tuple(bracket.exits):
                    self._drop(e, CANCELED, ts, f"its entry {order.order_id} {why}", out)

    def _leave(self, symbol: str, o: WorkingOrder) -> None:
        queue = self.working[symbol]
        if len(queue) == 1:
            del self.working[symbol]
            self._closing.pop(symbol, None)
        else:
            queue.remove(o)
