"""One brokerage account, matched by the simulated exchange against the market that is played.

What a broker's door does (ids, refusals, buying power, words) is each twin's own; here are the books: orders fill on
the quotes and prints as they are played, and every report goes to whoever listens.

Hours. Orders fill in regular hours; ``extended`` ones also outside them, until four hours after the close. Day orders
expire at the close, or, ``extended``, four hours later. Without sessions the market is always open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from northstar_core.model.errors import DataError
from northstar_core.model.execution import AccountActivity, ActivityKind, BrokerSnapshot, ExecType, ExecutionReport
from northstar_core.model.instrument import exact, instrument
from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.order import PlaceOrder, Side, TimeInForce
from northstar_core.model.tape import Session
from northstar_core.sim.broker import SimBroker
from northstar_core.sim.exchange import Update
from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import NEVER
from northstar_core.sim.model import SimModel
from northstar_core.twins.faults import Faults
from northstar_core.twins.market import HOUR_NS, TwinMarket

ZERO = Decimal(0)
AFTER_HOURS_NS = 4 * HOUR_NS
#: No costs, so that cash is exactly what the fills say; no more than what was shown or printed fills at a time.
MODEL = SimModel(fill_at=FillAt.QUOTE, volume_share=Decimal(1), extended_hours=True)


class Holding(msgspec.Struct):
    """A position as a brokerage keeps it."""

    symbol: str
    qty: Decimal = ZERO
    avg_price: Decimal = ZERO  #: of what is open now, by average cost


class TwinAccount:
    """An account.

    Parameters
    ----------
    market
        What it trades in.
    name
        The ``account`` of the orders it takes.
    cash
        What it begins with.
    model
        How orders fill; by default at quotes, without costs.
    faults
        Asked at ``account.submit``: "reject" refuses an order that was taken; "partial" lets an order meet only ``part``
        of its quantity at first; at ``account.fill``: "split" reports one fill as two.
    """

    def __init__(
        self, market: TwinMarket, name: str, cash: Decimal, model: SimModel | None = None, faults: Faults | None = None
    ) -> None:
        self.market, self.name, self.opening_cash = market, name, cash
        self._faults = faults or Faults()
        self._model = model or MODEL
        self._gates = self._model.extended_hours and bool(market.sessions)  # who trades when is decided here, by order
        self.broker = SimBroker(
            name, cash, self._model, market.tape.actions, ticks=market.ticked, prices=self._price,
            closed=bool(market.sessions),
        )  # fmt: skip
        self.holdings: dict[str, Holding] = {}  #: by symbol, without zeros
        self.executions: list[ExecutionReport] = []  #: every fill, in the order in which they were reported
        self.activities: list[AccountActivity] = []
        self._extended: set[str] = set()  # orders that work outside regular hours too
        self._ending: set[str] = set()  # orders that are being ended by their time: "canceled" will mean expired
        self._callbacks: list[Callable[[Update], None]] = []
        self._waiting: deque[Update] = deque()
        self._telling = False
        market.listen(self._on_market, self.broker.working)
        market.on_session(self._on_session)
        session = market.session_at(market.now())
        if session is not None:
            self._tell(self.broker.on_session_open(session.open, session.label.isoformat()))

    @property
    def cash(self) -> Decimal:
        """Settled and unsettled cash together."""
        return self.broker.books.cash

    def position(self, symbol: str) -> Decimal:
        """Return the signed quantity held."""
        holding = self.holdings.get(symbol)
        return holding.qty if holding is not None else ZERO

    def mark(self, symbol: str) -> Decimal | None:
        """Return the last price of a symbol; None where nothing of it has been seen."""
        price = self._price(symbol)
        return exact(price) if price else None

    def snapshot(self) -> BrokerSnapshot:
        """Return cash, positions and open orders."""
        return self.broker.snapshot(self.market.now())

    def on_update(self, callback: Callable[[Update], None]) -> Callable[[], None]:
        """Call with every report and account activity, in order; return what stops it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, order: PlaceOrder, *, extended: bool = False) -> list[Update]:
        """Take an order; return what came of it at once: NEW or REJECTED, and fills that happen on arrival.

        Raises
        ------
        ProtocolError
            If the order id was used before, or the account is another's.
        """
        now = self.market.now()
        fault = self._faults.hit("account.submit", "reject", "partial")
        if fault is not None and fault.do == "reject":
            return self._tell([ExecutionReport(now, order.order_id, ExecType.REJECTED, text=fault.text or "rejected")])
        at, last = now, self._in_force(order.symbol, now, extended)
        if fault is not None:
            last = {symbol: _less(quote, order, fault.part) for symbol, quote in last.items()}
        if extended:
            self._extended.add(order.order_id)
            if order.tif is TimeInForce.DAY:
                order = msgspec.structs.replace(order, tif=TimeInForce.GTC)
                self.market.at(self._extended_end(now), lambda: self._expire(order.order_id))
        reports = self.broker.submit(msgspec.structs.replace(order, strategy=""), at, last)
        self._gate(order.order_id, now)
        self.market.refresh()
        return self._tell(reports)

    def cancel(self, order_id: str) -> list[Update]:
        """Cancel an order: CANCELED, or CANCEL_REJECTED."""
        return self._tell(self.broker.cancel(order_id, self.market.now()))

    def replace(
        self, order_id: str, *, qty: Decimal | None = None, limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> list[Update]:  # fmt: skip
        """Change an order: REPLACED, or REPLACE_REJECTED. ``qty`` is the whole order's, what has filled included."""
        now = self.market.now()
        reports = self.broker.replace(order_id, qty, limit_price, stop_price, now)
        self._gate(order_id, now)
        return self._tell(reports)

    def trade(self, order_id: str, symbol: str, side: Side, qty: Decimal, price: Decimal) -> None:
        """Book and tell a fill that the broker itself took the other side of, as for parts of a share."""
        signed = qty if side is Side.BUY else -qty
        books, now = self.broker.books, self.market.now()
        books.cash -= signed * price
        books.add("", symbol, signed)
        exec_id = f"{order_id}-{len(self.executions) + 1}"
        self._tell([ExecutionReport(now, order_id, ExecType.TRADE, exec_id, symbol, side, qty, price)])

    def tell(self, order_id: str, what: ExecType) -> None:
        """Tell what became of an order that is kept elsewhere."""
        self._tell([ExecutionReport(self.market.now(), order_id, what)])

    # ── the market ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_market(self, events: list[MarketEvent]) -> None:
        broker, out = self.broker, []
        bars: list[Bar] = []
        for event in events:
            if type(event) is Quote:
                out += broker.on_quote(event)
            elif type(event) is Trade:
                out += broker.on_trade(event)
            elif type(event) is Bar and event.symbol not in self.market.ticked:
                bars.append(event)
        if bars:
            out += broker.on_bars(bars)
        if out:
            self._tell(out)

    def _on_session(self, ts: int, session: Session, opens: bool) -> None:
        label = session.label.isoformat()
        if opens:
            self._tell(self.broker.on_session_open(ts, label))
            return
        reports = self.broker.on_session_close(ts, label)
        for order in self.snapshot().orders:
            self._gate(order.order_id, ts)
        self._tell(reports)

    def _in_force(self, symbol: str, now: int, extended: bool) -> dict[str, Quote]:
        """Return the quotes an order meets on arrival: of this session, and if it may trade now."""
        session = self.market.session_at(now)
        if self.market.sessions and session is None and not extended:
            return {}
        since = session.open if session is not None else now - AFTER_HOURS_NS
        out = {}
        try:
            legs = instrument(symbol).legs
        except DataError:
            return {}
        for leg in legs:
            state = self.market.last(leg.instrument.symbol)
            if state is not None and state.quote is not None and state.quote.ts >= since:
                out[leg.instrument.symbol] = state.quote
        return out

    def _gate(self, order_id: str, now: int) -> None:
        """Keep a regular order from filling before the next open, where the market is closed now."""
        if not self._gates or order_id in self._extended or self.market.session_at(now) is not None:
            return
        following = self.market.next_session(now - 1)
        for queue in self.broker.working.values():
            for o in queue:
                if o.order.order_id == order_id:
                    o.active_from = NEVER if following is None else following.open

    def _extended_end(self, now: int) -> int:
        ends = [s.close + AFTER_HOURS_NS for s in self.market.sessions if s.close + AFTER_HOURS_NS > now]
        return ends[0] if ends else now + AFTER_HOURS_NS

    def _expire(self, order_id: str) -> None:
        self._ending.add(order_id)
        reports = self.broker.cancel(order_id, self.market.now())
        if reports and isinstance(reports[0], ExecutionReport) and reports[0].exec_type is ExecType.CANCELED:
            self._tell([msgspec.structs.replace(reports[0], exec_type=ExecType.EXPIRED), *reports[1:]])

    def _price(self, symbol: str) -> float | None:
        state = self.market.last(symbol)
        return state.price if state is not None else None

    # ── reports ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, reports: Sequence[Update]) -> list[Update]:
        """Book reports and hand them out, in order also where a listener asks for something on hearing one."""
        told = self._faulty(list(reports))
        self._waiting.extend(told)
        if not self._telling:
            self._telling = True
            try:
                while self._waiting:
                    report = self._waiting.popleft()
                    self._book(report)
                    for callback in tuple(self._callbacks):
                        callback(report)
            finally:
                self._telling = False
        return told

    def _faulty(self, reports: list[Update]) -> list[Update]:
        out: list[Update] = []
        for report in reports:
            fill = isinstance(report, ExecutionReport) and report.exec_type is ExecType.TRADE
            if fill and report.qty > 1 and self._faults.hit("account.fill", "split"):
                assert isinstance(report, ExecutionReport)
                half = report.qty // 2
                out.append(msgspec.structs.replace(report, qty=half, exec_id=f"{report.exec_id}a", fees=ZERO))
                out.append(msgspec.structs.replace(report, qty=report.qty - half, exec_id=f"{report.exec_id}b"))
            else:
                out.append(report)
        return out

    def _book(self, report: Update) -> None:
        if isinstance(report, AccountActivity):
            self.activities.append(report)
            if report.kind is ActivityKind.SPLIT and report.price and (held := self.holdings.get(report.symbol)):
                held.avg_price /= report.price
                self._hold(report.symbol, report.qty, held.avg_price)
            elif report.qty:
                self._hold(report.symbol, report.qty, report.price)
        elif report.exec_type is ExecType.TRADE:
            self.executions.append(report)
            self._hold(report.symbol, report.qty if report.side is Side.BUY else -report.qty, report.price)

    def _hold(self, symbol: str, signed: Decimal, price: Decimal) -> None:
        held = self.holdings.get(symbol) or Holding(symbol)
        after = held.qty + signed
        if held.qty * signed >= 0:
            held.avg_price = (held.qty * held.avg_price + signed * price) / after if after else ZERO
        elif held.qty * after < 0:
            held.avg_price = price  # the position has turned: what is open was opened by this fill
        held.qty = after
        if after:
            self.holdings[symbol] = held
        else:
            self.holdings.pop(symbol, None)


def _less(quote: Quote, order: PlaceOrder, part: float) -> Quote:
    """Return a quote that shows only part of what an order wants, at least one."""
    size = max(float(int(float(order.qty) * part)), 1.0)
    return msgspec.structs.replace(quote, bid_size=size, ask_size=size)
