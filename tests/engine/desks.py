"""A desk for the tests: an engine with accounts, limits and prices, whose every input and fact is written down."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.audit.chain import columns_of
from northstar_core.audit.report import Report
from northstar_core.audit.verify import Row, verify
from northstar_core.engine.engine import Engine
from northstar_core.engine.oms import Order
from northstar_core.engine.portfolio import Line
from northstar_core.engine.risk import Rule
from northstar_core.model import events as e
from northstar_core.model.account import AccountLimits, Grant, SessionRule, StrategyLimits, TradingState
from northstar_core.model.execution import (
    AccountActivity,
    ActivityKind,
    BrokerSnapshot,
    ExecType,
    ExecutionReport,
    HeldPosition,
    OpenOrder,
)
from northstar_core.model.journal import Journal, chain
from northstar_core.model.market import Bar, Quote
from northstar_core.model.order import CancelOrder, OrderStatus, OrderType, PlaceOrder, ReplaceOrder, Side

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT, STOP, STOP_LIMIT = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT
SECOND = 10**9
MINUTE = 60 * SECOND
OPEN = 1_699_972_200 * SECOND  # 2023-11-14 09:30 in New York
CLOSE = OPEN + 390 * MINUTE
TODAY = "2023-11-14"
CALL_100, CALL_105 = "SPY231117C00100000", "SPY231117C00105000"
PUT_95, PUT_90 = "SPY231117P00095000", "SPY231117P00090000"
VERTICAL = f"1*{CALL_100},-1*{CALL_105}"

WIDE = StrategyLimits(
    max_order_qty=D(100_000), max_order_contracts=D(1_000), max_order_value=D(10_000_000), collar=D("0.1"),
    market_reserve=D("0.01"), max_data_age_s=D(5), max_data_age_bars=D(1), max_position_qty=D(100_000),
    max_position_contracts=D(1_000), max_notional=D(10_000_000), max_open_orders=100, max_orders=10_000, window_s=D(60),
    session=SessionRule.REGULAR, allow_short=True, allow_uncovered=False,
)  # fmt: skip
WIDE_ACCOUNT = AccountLimits(
    max_gross=D(10_000_000), max_net=D(10_000_000), max_symbol_share=D(10), leverage=D(10), max_orders=10_000,
    window_s=D(60),
)  # fmt: skip


class Desk:
    """Two strategies, ``s`` and ``t``, in account ``main``; SPY and QQQ at 100; every limit wide unless given."""

    def __init__(
        self,
        *,
        limits: dict[str, Any] | None = None,
        account_limits: dict[str, Any] | None = None,
        rules: tuple[Rule, ...] = (),
        strategies: tuple[str, ...] = ("s", "t"),
        symbols: tuple[str, ...] = (),
        cash: str = "1000000",
        is_open: bool = True,
        prices: dict[str, float] | None = None,
    ) -> None:
        self.engine = Engine(rules)
        self.journal = Journal()
        self.now = OPEN + MINUTE
        self.n = 0
        self.executions = 0
        self.submits: dict[str, int] = {}
        ts = self.now
        parameters: dict[str, dict[str, Any]] = {name: {} for name in strategies}
        self.journal.append(e.RunStarted(ts=ts, strategies=parameters, code={}), ts)
        self.give(e.AccountOpened(ts=ts, account="main", broker="sim", cash=D(cash)))
        own = msgspec.structs.replace(WIDE, **(limits or {}))
        whole = msgspec.structs.replace(WIDE_ACCOUNT, **(account_limits or {}))
        self.give(e.SetLimits(ts=ts, scope="account:main", name="test", who="me", account_limits=whole))
        for name in strategies:
            self.give(e.SetLimits(ts=ts, scope=f"strategy:{name}", name="test", who="me", strategy_limits=own))
            self.give(Grant(ts=ts, strategy=name, account="main", symbols=symbols))
            self.journal.append(e.StrategyStarted(ts, name, "main", "1"), ts)
        if is_open:
            self.give(e.SessionOpened(OPEN, TODAY, CLOSE))
        default = {"SPY": 100.0, "QQQ": 100.0, CALL_100: 3.0, CALL_105: 1.0, PUT_95: 2.0, PUT_90: 1.0}
        for symbol, price in (default if prices is None else prices).items():
            self.price(symbol, price)

    # ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def give(self, event: Any, cause: int = 0) -> list[Any]:
        """Write an input and what follows from it down; return what follows."""
        if isinstance(event, PlaceOrder | ReplaceOrder | CancelOrder):
            cause = self.journal.seq
        seq = self.journal.append(event, event.ts, cause)
        facts = self.engine.handle(event)
        for fact in facts:
            at = self.journal.append(fact, fact.ts, seq)
            if isinstance(fact, e.OrderSubmitted):
                self.submits[fact.order.order_id] = at
        return facts

    def price(self, symbol: str, price: float, *, ts: int | None = None) -> None:
        """A quote without a spread; it is a consumed row, not an event."""
        self.journal.ticks += 1
        self.engine.observe(Quote(symbol, self.now if ts is None else ts, price, price, 100.0, 100.0))

    def bar(self, symbol: str, close: float, *, ts: int | None = None, length: int = MINUTE) -> None:
        """A bar that closed."""
        ts = self.now if ts is None else ts
        self.journal.ticks += 1
        self.engine.observe(Bar(symbol, ts - length, ts, close, close, close, close, 1000.0))

    def order(self, side: Side = BUY, qty: str | Decimal = "10", symbol: str = "SPY", **more: Any) -> PlaceOrder:
        """An order that was not given yet; its type follows from its prices."""
        limit, stop = more.pop("limit", None), more.pop("stop", None)
        kinds = {(False, False): MARKET, (True, False): LIMIT, (False, True): STOP, (True, True): STOP_LIMIT}
        kind = more.pop("order_type", kinds[limit is not None, stop is not None])
        strategy = more.pop("strategy", "s")
        self.n += 1
        order_id = more.pop("order_id", f"{strategy}-1-{self.n}")
        return PlaceOrder(
            more.pop("ts", self.now), order_id, strategy, more.pop("account", "main"), symbol, side, D(qty), kind,
            None if limit is None else D(limit), None if stop is None else D(stop), **more,
        )  # fmt: skip

    def place(self, side: Side = BUY, qty: str | Decimal = "10", symbol: str = "SPY", **more: Any) -> Any:
        """Give an order; return the one fact: OrderSubmitted or OrderDenied."""
        (fact,) = self.give(self.order(side, qty, symbol, **more))
        return fact

    def working(self, side: Side = BUY, qty: str | Decimal = "10", symbol: str = "SPY", **more: Any) -> str:
        """Give an order that passes and that its broker accepts; return its id."""
        fact = self.place(side, qty, symbol, **more)
        assert isinstance(fact, e.OrderSubmitted), fact
        self.report(fact.order.order_id, "NEW")
        return fact.order.order_id

    def hold(self, qty: str, symbol: str = "SPY", price: str = "100", strategy: str = "s") -> None:
        """Trade until the position has grown by this much."""
        side = SELL if qty.startswith("-") else BUY
        order_id = self.working(side, qty.removeprefix("-"), symbol, strategy=strategy)
        self.fill(order_id, qty.removeprefix("-"), price)

    def cancel(self, order_id: str, strategy: str = "s") -> Any:
        (fact,) = self.give(CancelOrder(self.now, order_id, strategy, "main"))
        return fact

    def replace(self, order_id: str, strategy: str = "s", **terms: str) -> Any:
        given = {name: D(value) for name, value in terms.items()}
        (fact,) = self.give(ReplaceOrder(self.now, order_id, strategy, "main", **given))
        return fact

    def report(self, order_id: str, exec_type: str, **more: Any) -> list[Any]:
        """Give a report of the broker about an order."""
        return self.give(
            ExecutionReport(self.now, order_id, ExecType(exec_type), **more), self.submits.get(order_id, 0)
        )

    def fill(self, order_id: str, qty: str, price: str = "100", *, exec_id: str = "", **more: Any) -> list[Any]:
        """Give a fill; with an execution id of its own unless one is given."""
        self.executions += 1
        exec_id = exec_id or f"x{self.executions}"
        if (fees := more.pop("fees", None)) is not None:
            more["fees"] = D(fees)
        return self.report(order_id, "TRADE", exec_id=exec_id, qty=D(qty), price=D(price), **more)

    def activity(self, kind: ActivityKind, record_id: str, symbol: str = "SPY", **more: Any) -> list[Any]:
        amounts = {name: D(more.pop(name)) for name in ("qty", "cash", "price") if name in more}
        return self.give(AccountActivity(self.now, "main", kind, record_id, symbol, **amounts, **more))

    def halt(self, scope: str, state: TradingState) -> None:
        self.give(e.SetTradingState(ts=self.now, scope=scope, state=state, who="me", reason="test"))

    def set_limits(self, scope: str, **limits: Any) -> None:
        name = "account_limits" if scope.startswith("account:") else "strategy_limits"
        base: Any = WIDE_ACCOUNT if scope.startswith("account:") else WIDE
        given: dict[str, Any] = {name: msgspec.structs.replace(base, **limits)}
        self.give(e.SetLimits(ts=self.now, scope=scope, name="test", who="me", **given))

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def line(self, symbol: str = "SPY", strategy: str | None = "s") -> Line:
        account = self.engine.state.portfolio.accounts["main"]
        return (account.book if strategy is None else account.strategy(strategy)).line(symbol)

    def reserved(self, symbol: str = "SPY", strategy: str | None = "s") -> tuple[Decimal, Decimal]:
        line = self.line(symbol, strategy)
        return line.buys, line.sells

    def known(self, order_id: str) -> Order:
        return self.engine.state.blotter.orders[order_id]

    def status(self, order_id: str) -> OrderStatus:
        return self.known(order_id).status

    @property
    def cash(self) -> Decimal:
        return self.engine.state.portfolio.accounts["main"].cash

    def restored(self) -> Engine:
        """An engine that was given nothing but the log."""
        twin = Engine(self.engine.rules)
        twin.restore(record.event for record in self.journal.records)
        return twin

    def assert_clean(self) -> None:
        """The auditor, who shares no code with the engine, finds nothing; and the log brings back every book."""
        report = self.audit()
        assert report.exit_code == 0, "\n".join(report.lines())
        assert state_of(self.restored()) == state_of(self.engine)

    def audit(self) -> Report:
        """What the auditor says of everything that was written down, ended as a run ends."""
        ts = self.now
        journal = Journal()
        journal.records, journal.ticks = list(self.journal.records), self.journal.ticks
        lines = self.engine.state.portfolio.accounts["main"].book.lines
        positions = tuple(HeldPosition(symbol, line.qty) for symbol, line in sorted(lines.items()) if line.qty)
        working = sorted(self.engine.state.blotter.working.items())
        orders = tuple(OpenOrder(order_id, o.status, o.leaves_qty) for order_id, o in working)
        snapshot = BrokerSnapshot(ts, "main", self.cash, positions, orders)
        seq = journal.append(snapshot, ts)
        for fact in self.engine.handle(snapshot):
            assert not isinstance(fact, e.BreakFound), fact
            journal.append(fact, ts, seq)
        journal.append(self.engine.snapshot(ts), ts, journal.seq)
        if journal.ticks:
            read = e.TapeRead(ts=ts, table="ticks", first_row=0, rows=journal.ticks, digest="0" * 64)
            journal.append(read, ts)
        journal.append(e.RunFinished(ts=ts, outcome="completed"), ts)
        return verify(rows_of(journal), head=(journal.seq, journal.head))


def rows_of(journal: Journal) -> list[Row]:
    """The rows an event store would hold of a journal."""
    lines = journal.lines()
    return [
        Row(record.seq, 0, record.ts, record.cause, *columns_of(record.event), text.split(b" ", 4)[4], link)
        for record, text, link in zip(journal.records, lines, chain(lines), strict=True)
    ]


def state_of(engine: Engine) -> dict[str, Any]:
    """Everything the books of an engine say, as plain values: what a restart must bring back."""
    state = engine.state
    accounts = {}
    for name, account in state.portfolio.accounts.items():
        books = {"": account.book, **account.strategies}
        accounts[name] = {
            "cash": account.cash,
            "lines": {
                (owner, s): (line.qty, line.buys, line.sells)
                for owner, book in books.items()
                for s, line in book.lines.items()
                if line.qty or line.buys or line.sells
            },
            "worst": {
                (owner, s): (line.worst, line.up, line.down, line.held)
                for owner, book in books.items()
                for s, line in book.exposed.items()
            },
            "options": {(o, g): held for o, book in books.items() for g, held in book.options.items() if held},
            "option_orders": {
                (o, g): {i: ratios for i, (_, ratios) in orders.items()}
                for o, book in books.items()
                for g, orders in book.option_orders.items()
                if orders
            },
            "positions": {
                key: (p.qty, p.fees, tuple(p.lots), p.realized) for key, p in account.positions.items() if p.qty
            },
        }
    return {
        "accounts": accounts,
        "orders": {
            o.order_id: (
                o.intent, o.status, o.qty, o.cum_qty, o.fees, o.limit_price, o.stop_price, o.pending, o.reserved,
                o.leg_fills,
            )
            for o in state.blotter.orders.values()
        },
        "working": list(state.blotter.working),
        "children": {k: [c.order_id for c in v] for k, v in state.blotter.children.items()},
        "exec_ids": state.blotter.exec_ids,
        "denied": state.blotter.denied,
        "grants": state.grants,
        "caps": {scope: (caps.name, caps.limits) for scope, caps in state.caps.items()},
        "states": state.states,
        "halted": state.halted,
        "session": (state.session_open, state.session_close, state.today),
        "adjusted": state.adjusted,
    }  # fmt: skip
