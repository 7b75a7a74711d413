"""A desk's days composed from the real parts: the gateway's desk and recovery, the store's writer, two accounts, a scripted broker."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.gateway.desk import Desk
from northstar_core.gateway.ledger import Ledger
from northstar_core.gateway.log import DeskLog
from northstar_core.gateway.recovery import Recovery
from northstar_core.model import events as e
from northstar_core.model import world
from northstar_core.model.account import Grant
from northstar_core.model.execution import BrokerSnapshot, ExecType, ExecutionReport, HeldPosition, OpenOrder
from northstar_core.model.journal import decode
from northstar_core.model.limit_sets import default_limits
from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade
from northstar_core.model.order import CancelOrder, OrderStatus, OrderType, PlaceOrder, ReplaceOrder, Side
from northstar_core.model.tick_digest import TABLE
from northstar_core.store.desk import DeskWriter
from northstar_core.store.postgres import Database
from northstar_core.store.reader import Reader

D = Decimal
MINUTE = 60 * 10**9
OPEN = 1_700_058_600_000_000_000  # 2023-11-15 09:30 in New York
DAY = 24 * 60 * MINUTE
CASH = D(100_000)
SYMBOLS = ("SPY", "QQQ")
SEATS = {"sma": "paper-1", "sma@live-1": "live-1", "rsi": "live-1"}


class Broker:
    """One account at its broker: accepts everything, fills what is at the market, and can be mute."""

    def __init__(self, account: str, desk: Desk) -> None:
        self.account, self.desk = account, desk
        self.cash = CASH
        self.held: dict[str, Decimal] = {}
        self.open: dict[str, PlaceOrder] = {}
        self.executions = 0
        self.mute = False

    def refusal(self, fact: Any) -> str:
        return ""

    def act(self, fact: Any) -> None:
        if isinstance(fact, e.OrderSubmitted):
            order = fact.order
            self.open[order.order_id] = order
            if self.mute:
                self.say(order, ExecType.UNKNOWN, text="no answer")
                return
            self.say(order, ExecType.NEW)
            if order.order_type is OrderType.MARKET:
                half = (order.qty / 2).to_integral_value()
                for qty in (half, order.qty - half):
                    self.trade(order, qty)
            return
        order = self.open[fact.order_id]
        if isinstance(fact, e.CancelSubmitted):
            del self.open[fact.order_id]
            self.say(order, ExecType.CANCELED)
        else:
            self.open[fact.order_id] = msgspec.structs.replace(order, qty=fact.qty, limit_price=fact.limit_price)
            self.say(order, ExecType.REPLACED)

    def say(self, order: PlaceOrder, kind: ExecType, **more: Any) -> None:
        self.desk.claim(ExecutionReport(self.desk.clock(), order.order_id, kind, **more))

    def trade(self, order: PlaceOrder, qty: Decimal) -> None:
        self.executions += 1
        price, fee = D("100.05") if order.side is Side.BUY else D("99.95"), D("0.35")
        signed = qty * order.side.sign
        self.held[order.symbol] = self.held.get(order.symbol, D(0)) + signed
        self.cash -= signed * price + fee
        more = {"symbol": order.symbol, "side": order.side, "qty": qty, "price": price, "fees": fee}
        exec_id = f"{self.account}-x{self.executions}"
        for _ in range(2):  # brokers repeat themselves
            self.say(order, ExecType.TRADE, exec_id=exec_id, **more)

    def snapshot(self) -> BrokerSnapshot:
        working = tuple(OpenOrder(o.order_id, OrderStatus.NEW, o.qty) for o in self.open.values() if o.order_type is not OrderType.MARKET)
        held = tuple(HeldPosition(symbol, qty) for symbol, qty in sorted(self.held.items()) if qty)
        return BrokerSnapshot(self.desk.clock(), self.account, self.cash, held, working)


class Day:
    """One epoch of a desk, driven step by step. ``begin`` it; ``close`` or drop it."""

    writer: DeskWriter
    desk: Desk

    def __init__(self, now: int, before: Day | None = None) -> None:
        self.now = now
        self.before = before
        self.brokers: dict[str, Broker] = {}
        self.orders: dict[str, int] = {}
        self.price = 100.0
        self.stored: list[tuple[int, MarketEvent]] = []

    async def begin(self, database: Database, name: str) -> Day:
        self.writer = await DeskWriter.begin(database, name, on_durable=lambda seq: self.desk.outgoing.release(seq))
        log = DeskLog(self.writer.next_seq, self.writer.epoch)
        self.desk = desk = Desk(log, self.writer, lambda: self.now, durable=self.writer.next_seq - 1)
        if self.writer.next_seq > 1:
            await self.restore(database, name)
        desk.note(world.GatewayStarted(ts=self.now, epoch=self.writer.epoch, version="1"))
        for account in dict.fromkeys(SEATS.values()):
            broker = self.brokers[account] = Broker(account, desk)
            if self.before is not None:
                old = self.before.brokers[account]
                broker.cash, broker.held, broker.open, broker.executions = old.cash, old.held, old.open, old.executions
            desk.dispatchers[account] = broker
            desk.note(world.BrokerUp(self.now, account, "read anew"))
        if self.before is None:
            self.open_desk()
        desk.settle()
        return self

    async def restore(self, database: Database, name: str) -> None:
        recovery, declared, last = Recovery(self.desk, Ledger()), 0, 0
        async with await Reader.open(database) as reader:
            run = await reader.run(name)
            async for row in reader.events(run.stream):
                event = decode(row.payload)
                recovery.apply(row.seq, event)
                if isinstance(event, e.TapeRead) and event.table == TABLE:
                    declared, last = event.first_row + event.rows, row.seq
            undeclared = [tick async for _, tick in reader.ticks(run.stream, last + 1)]
            assert await reader.undeclared(run.stream) == (declared, [i async for i in reader.ticks(run.stream, last + 1)])
        self.desk.log.ticks = declared + len(undeclared)
        self.desk.consumed_before(declared, undeclared)

    def open_desk(self) -> None:
        limits = default_limits(CASH)
        for account, broker in self.brokers.items():
            self.desk.open_account(account, "twin", broker.snapshot())
            self.desk.operate(
                e.SetLimits(ts=self.now, scope=f"account:{account}", name="l", who="c", account_limits=limits.account)
            )
        for strategy, account in SEATS.items():
            self.desk.operate(
                e.SetLimits(ts=self.now, scope=f"strategy:{strategy}", name="l", who="c", strategy_limits=limits.strategy)
            )
            self.desk.operate(Grant(ts=self.now, strategy=strategy, account=account, symbols=SYMBOLS))

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────────

    def session(self, opens: bool, label: str, close: int) -> None:
        event = e.SessionOpened(self.now, label, close) if opens else e.SessionClosed(self.now, label)
        self.desk.schedule(self.now, event)
        self.desk.advance()

    def start(self, session: str) -> None:
        for strategy, account in SEATS.items():
            self.desk.note(e.StrategyStarted(self.now, strategy, account, session, 5))
            self.orders[strategy] = 0
        self.session_label = session
        self.desk.settle()

    def minute(self) -> None:
        """A minute of market data: quotes and a print of each symbol, then its bar."""
        some: list[Any] = []
        start = self.now
        for n in range(6):
            self.now += MINUTE // 6
            for symbol in SYMBOLS:
                self.price += 0.01 if n % 2 else -0.01
                some.append(Quote(symbol, self.now - 1, self.price - 0.01, self.price + 0.01, 3.0, 4.0))
            some.append(Trade("SPY", self.now - 1, self.price, 100.0))
        some += [Bar(symbol, start, self.now, *[self.price] * 4, 1e4) for symbol in SYMBOLS]
        first = self.desk.log.seq + 1
        self.desk.market(some)
        self.stored += enumerate(some, first)

    def word(self, event: Any) -> None:
        """The feed says something that is no tick, between two."""
        halts = [Halt("QQQ", self.now, True, "news"), Halt("QQQ", self.now, False)]
        first = self.desk.log.seq + 1
        self.desk.market([halts[0], event, halts[1]])
        self.stored += [(first, halts[0]), (first + 2, halts[1])]

    def order(self, strategy: str, symbol: str, side: Side, qty: int, limit: str | None = None, **more: Any) -> str:
        basis = self.desk.log.seq
        self.orders[strategy] = n = self.orders[strategy] + 2
        self.desk.asked(e.Signal(self.now, strategy, symbol, n - 1, "cross", 1.5, {"fast": 100.5}, basis), basis)
        order_id = f"{strategy}-{self.session_label}-{n}"
        kind = OrderType.MARKET if limit is None else OrderType.LIMIT
        place = PlaceOrder(
            self.now, order_id, strategy, SEATS[strategy], symbol, side, D(qty), kind, None if limit is None else D(limit),
            signal=n - 1, basis_seq=basis, **more,
        )  # fmt: skip
        self.desk.asked(place, basis)
        return order_id

    def replace(self, strategy: str, order_id: str, qty: int, limit: str) -> None:
        basis = self.desk.log.seq
        self.desk.asked(ReplaceOrder(self.now, order_id, strategy, SEATS[strategy], D(qty), D(limit), basis_seq=basis), basis)

    async def sent(self) -> None:
        """Until all that follows has happened."""
        while True:
            await self.writer.flush()
            if not self.desk.outgoing:
                return

    async def reconcile(self) -> None:
        await self.sent()
        for broker in self.brokers.values():
            self.desk.reconcile(broker.snapshot())

    async def close(self) -> None:
        await self.sent()
        self.desk.declare()
        self.desk.take_snapshot()
        self.desk.settle()
        await self.writer.close()


async def two_days(database: Database, name: str) -> Sequence[Day]:
    """Two trading days of a desk: orders of three strategies in two accounts, a gateway killed on the first day, another on the second."""
    day = await Day(OPEN - 5 * MINUTE).begin(database, name)
    day.minute()
    day.now = OPEN
    day.session(True, "2023-11-15", OPEN + 390 * MINUTE)
    day.start("20231115")
    for n in range(4):
        day.minute()
        day.order("sma", "SPY", Side.BUY, 10)
        day.order("sma@live-1", "SPY", Side.BUY if n % 2 else Side.SELL, 7)
        day.order("rsi", "QQQ", Side.BUY, 9, f"{90 + n}")
        day.word(world.FeedDown(day.now, "massive", "silent"))
        await day.sent()
    day.order("rsi", "SPY", Side.BUY, 10**7)  # denied
    resting = day.order("rsi", "QQQ", Side.SELL, 11, "105")
    day.replace("rsi", "rsi-20231115-2", 12, "91.5")
    await day.sent()
    day.desk.asked(CancelOrder(day.now, resting, "rsi", "live-1", basis_seq=day.desk.log.seq), day.desk.log.seq)
    await day.reconcile()
    day.brokers["live-1"].mute = True
    lost = day.order("sma@live-1", "SPY", Side.BUY, 3)
    await day.sent()
    day.minute()
    broker = day.brokers["live-1"]
    broker.mute = False
    order = broker.open[lost]
    broker.say(order, ExecType.NEW)
    for qty in (D(1), D(2)):
        broker.trade(order, qty)
    await day.sent()
    day.minute()
    await day.writer.flush()
    await day.writer.close()  # killed: nothing declared, no snapshot

    second = Day(day.now + MINUTE, day)
    await second.begin(database, name)
    second.orders, second.session_label, second.price = day.orders, day.session_label, day.price
    second.desk.note(world.SessionLost(second.now, "sma", "paper-1", "silent", "cancel"))
    second.minute()
    second.order("sma", "SPY", Side.SELL, 25)
    await second.reconcile()
    second.now = OPEN + 390 * MINUTE
    second.session(False, "2023-11-15", 0)
    await second.close()

    third = Day(OPEN + DAY - MINUTE, second)
    await third.begin(database, name)
    third.price = second.price
    third.minute()
    third.session(True, "2023-11-16", third.now + 390 * MINUTE)
    third.start("20231116")
    for n in range(3):
        third.minute()
        third.order("sma", "SPY", Side.SELL, 5)
        third.order("rsi", "QQQ", Side.BUY, 4 + n)
    third.desk.alert("warning", "a test", "look")
    await third.reconcile()
    await third.close()
    return day, second, third
