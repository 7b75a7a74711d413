"""A real gateway in this process: real Postgres, real sockets, paper accounts or Alpaca's twin, and a feed that is told what to say."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from northstar_core.brokers.base import Broker, Wiring
from northstar_core.brokers.paper import PaperBroker
from northstar_core.client.session import Connected, Session
from northstar_core.data.feed import FeedStats
from northstar_core.gateway import doorman, gateway, links
from northstar_core.gateway.clock import ScaledClock
from northstar_core.gateway.gateway import Gateway, socket_path
from northstar_core.gateway.one_trade import OneTrade
from northstar_core.gateway.settings import Settings, load_settings
from northstar_core.gateway.wiring import broker_of, feed_of
from northstar_core.model import events as e
from northstar_core.model.journal import decode
from northstar_core.model.market import Bar, Quote
from northstar_core.model.order import PlaceOrder
from northstar_core.model.wire import Login
from northstar_core.store.postgres import Database, Role
from northstar_core.store.reader import Reader
from tests.gateway.raw import DEADLINE_S, Raw

D = Decimal
SECOND = 10**9
MINUTE = 60 * SECOND
OPEN = int(datetime(2026, 6, 1, 13, 30, tzinfo=UTC).timestamp()) * SECOND
NOON = OPEN + 150 * MINUTE
CLOSE = OPEN + 390 * MINUTE
CASH = D(100_000)

LIMITS = """
[limits.wide.strategy]
max_order_qty = 100000
max_order_contracts = 100
max_order_value = 500000
collar = 0.1
market_reserve = 0.01
max_data_age_s = 600
max_data_age_bars = 10
max_position_qty = 100000
max_position_contracts = 100
max_notional = 500000
max_open_orders = 50
max_orders = 1000
window_s = 60
session = "regular"
allow_short = true
allow_uncovered = false
[limits.wide.account]
max_gross = 1000000
max_net = 1000000
max_symbol_share = 10
leverage = 4
max_orders = 1000
window_s = 60
"""


class RoomClock(ScaledClock):
    """Desk time from a given moment on, faster than the wall's; waits may be short."""

    FLOOR_S = 0.01

    def __init__(self, start: int = NOON, speed: float = 5.0) -> None:
        super().__init__(start, time.time(), speed)


class RoomFeed:
    """A feed without a wire: hands over what a test gives it."""

    def __init__(self, name: str, clock: Any, emit: Callable[[list[Any]], None]) -> None:
        self.name, self.clock, self.emit = name, clock, emit
        self.stats = FeedStats()
        self.wanted: set[str] = set()
        self.before: list[Bar] = []  #: what ``history`` has
        self.options: list[str] = []
        self.asked: list[tuple[str, int]] = []
        self._heard = 0

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to leave."""

    def want(
        self, symbols: Iterable[str], *, bars: bool = True, seconds: bool = False, quotes: bool = False, trades: bool = False
    ) -> None:
        self.wanted.update(symbols)

    async def history(self, symbol: str, n: int, span_ns: int, end: int) -> list[Bar]:
        self.asked.append((symbol, n))
        return [bar for bar in self.before if bar.symbol == symbol and bar.ts <= end][-n:] if n else []

    async def chain(self, underlying: str, on: date, days: int, low: float, high: float) -> list[str]:
        return self.options

    def last_heard(self) -> int:
        return self._heard

    def give(self, *events: Any) -> None:
        """Hand events over, as a frame brings them."""
        self._heard = self.clock.now()
        self.emit(list(events))


class Recorder(PaperBroker):
    """A paper account that notes what it is asked, and can be told not to hear."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self.calls: list[tuple[str, str]] = []

    def of(self, what: str) -> list[str]:
        """The order ids it was asked for so."""
        return [order_id for kind, order_id in self.calls if kind == what]

    async def submit(self, order: PlaceOrder) -> None:
        self.calls.append(("submit", order.order_id))
        await super().submit(order)

    async def cancel(self, order_id: str) -> None:
        self.calls.append(("cancel", order_id))
        await super().cancel(order_id)

    async def replace(self, order_id: str, qty: Decimal, limit_price: Decimal | None, stop_price: Decimal | None) -> None:
        self.calls.append(("replace", order_id))
        await super().replace(order_id, qty, limit_price, stop_price)


class Room:
    """A gateway that is up, and what there is around it."""

    def __init__(self, home: Path, settings: Settings, database: Database, clock: Any, make: dict[str, type[PaperBroker]]) -> None:
        self.home, self.settings, self.database, self.clock = home, settings, database, clock
        self.make = make
        self.gateway: Gateway
        self.feeds: dict[str, RoomFeed] = {}
        self.brokers: dict[str, Any] = {}
        self.facts: list[tuple[int, Any]] = []  #: as they are written down, from the gateway's start on
        self._changed = asyncio.Event()
        self._raws: list[Raw] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._dead: list[Gateway] = []

    # ── the gateway ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _broker(self, name: str, emit: Callable[[Any], None], made_for: Gateway) -> Broker:
        kind = self.make.get(name)
        if kind is None:
            broker: Any = broker_of(name, emit, made_for)
        else:
            cash = self.settings.accounts[name].cash
            broker = kind(Wiring(account=name, clock=self.clock, emit=emit, order_of=made_for.desk.order, options={"cash": cash}))
        self.brokers[name] = broker
        return broker

    def _feed(self, name: str, emit: Callable[[Any], None], made_for: Gateway) -> Any:
        if self.settings.feeds[name].ws:
            return feed_of(name, emit, made_for)
        before = self.feeds[name].before if name in self.feeds else []
        feed = self.feeds[name] = RoomFeed(name, self.clock, emit)
        feed.before = before
        return feed

    def new(self) -> Gateway:
        """Return a gateway of this room's, not started."""
        return Gateway(
            self.settings, self.database, self.clock, brokers=self._broker, feeds=self._feed, rules=OneTrade.of(self.settings), version="t"
        )

    async def start(self) -> Gateway:
        """Start a gateway where the last one stood."""
        self.facts.clear()
        self.gateway = gateway = self.new()
        fact = gateway._fact

        def heard(seq: int, told: Any) -> None:
            fact(seq, told)
            self._heard(seq, told)

        gateway._fact = heard  # type: ignore[method-assign]
        await gateway.start()
        return gateway

    def _heard(self, seq: int, fact: Any) -> None:
        self.facts.append((seq, fact))
        self._changed.set()

    async def stop(self) -> None:
        """Let the gateway leave in order."""
        await self.gateway.close()

    async def crash(self) -> None:
        """Let the gateway be gone as after kill -9: nothing said, nothing written, connections dead."""
        gone = self.gateway
        assert gone.server._server is not None
        gone.server._server.close()
        for connection in list(gone.server.connections):
            connection._gone = True
            connection.transport.abort()
        gone.writer.on_durable = None
        assert gone.writer._task is not None and gone.writer._connection is not None
        gone.writer._task.cancel()
        gone.writer._connection.terminate()
        if gone.writer._recent is not None:
            await gone.writer._recent.close()
        for task in [*gone._tasks, *(task for link in gone.links.values() for task in link._tasks)]:
            task.cancel()
        for link in gone.links.values():
            await link.broker.close()
        self._dead.append(gone)

    @property
    def feed(self) -> RoomFeed:
        return self.feeds["local"]

    def broker(self, name: str = "paper-1") -> Any:
        return self.brokers[name]

    # ── around it ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def token(self, strategy: str = "trend", account: str = "paper-1", hours: float = 1.0) -> str:
        token: str = self.gateway.session_token(strategy, account, hours)["token"]
        return token

    def operator(self) -> str:
        return (self.home / "gateway" / "operator.key").read_text()

    async def connect(self) -> Raw:
        """Connect and say nothing."""
        raw = Raw(*await asyncio.open_unix_connection(str(socket_path(self.home)), limit=1 << 16))
        self._raws.append(raw)
        return raw

    async def enter(self, strategy: str = "trend", account: str = "paper-1", *, started: bool = True, **more: Any) -> Raw:
        """Begin a session as a raw client."""
        raw = await self.connect()
        await raw.enter(self.token(strategy, account), strategy, **more)
        if started:
            await raw.hear()
        return raw

    async def operate(self, *, follow: bool = False) -> Raw:
        """Log in as the operator."""
        raw = await self.connect()
        raw.send(Login(token=self.operator(), follow=follow))
        return raw

    def session(self, strategy: Any, account: str = "paper-1") -> tuple[Session, asyncio.Task[Any]]:
        """Run a strategy's session as a kernel does, in this loop."""
        link = Connected(socket=str(socket_path(self.home)), token=self.token(strategy.strategy_id, account))
        session = Session(strategy, link)
        task = asyncio.create_task(session.run())
        self._tasks.append(task)
        return session, task

    def quote(self, price: float = 100.0, symbol: str = "SPY", *, size: float = 1000.0) -> Quote:
        return Quote(symbol, self.clock.now(), price - 0.01, price + 0.01, size, size)

    def bar(self, n: int, close: float = 100.0, symbol: str = "SPY") -> Bar:
        """The bar of the n-th minute of the half hour before the room's beginning."""
        start = NOON + (n - 30) * MINUTE
        return Bar(symbol, start, start + MINUTE, close, close, close, close, 1000.0)

    def price(self, price: float = 100.0, symbol: str = "SPY") -> None:
        """Let there be a price."""
        self.feed.give(self.quote(price, symbol))

    async def filled(self, raw: Raw, order: str) -> Any:
        """Wait until a session hears that an order has filled; there must be a price."""
        return (await raw.hear(e.OrderFilled, lambda fill: fill.order_id == order))[1]

    # ── what is so ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def until(self, what: Callable[[], object], why: object = "") -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < deadline, (why, self.facts[-12:])
            await self.stir()

    async def stir(self) -> None:
        """Wait for a fact, or a moment."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.005):
                await self._changed.wait()

    async def fact(self, kind: type, what: Callable[[Any], object] = lambda fact: True, count: int = 1) -> Any:
        """Wait for a fact since the gateway's start and return it; of several, the last."""
        await self.until(lambda: len(self.of(kind, what)) >= count, kind.__name__)
        return self.of(kind, what)[-1]

    def of(self, kind: type, what: Callable[[Any], object] = lambda fact: True) -> list[Any]:
        return [fact for _, fact in self.facts if type(fact) is kind and what(fact)]

    def status(self, order_id: str) -> str:
        found = self.gateway.desk.engine.state.blotter.orders.get(order_id)
        return "" if found is None else str(found.status)

    async def until_status(self, order_id: str, *wanted: str) -> None:
        await self.until(lambda: self.status(order_id) in wanted, (order_id, wanted))

    async def up(self, account: str = "paper-1") -> None:
        """Wait until an account can be used."""
        await self.until(lambda: self.gateway.links[account].up, account)

    async def log(self) -> list[tuple[int, Any]]:
        """Return the desk's log as it is stored, ticks among the events."""
        await self.gateway.writer.flush()
        async with await Reader.open(self.database) as reader:
            run = await reader.run(self.settings.desk.name)
            rows = [(row.seq, decode(row.payload)) async for row in reader.events(run.stream)]
            rows += [row async for row in reader.ticks(run.stream)]
        return sorted(rows, key=lambda row: row[0])

    async def logged(self, kind: type) -> list[Any]:
        return [event for _, event in await self.log() if type(event) is kind]

    async def database_reader(self) -> Reader:
        return await Reader.open(self.database)

    async def quiet(self) -> None:
        """Let whatever was said so far be heard: a question asked after it has been answered."""
        raw = await self.operate()
        for _ in range(3):
            assert not (await raw.request("status")).error
        raw.drop()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the store back: nothing becomes durable inside."""
        connection = await self.database.connect(Role.ADMIN)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE northstar.event IN EXCLUSIVE MODE")
                yield
        finally:
            await connection.close()

    async def close(self) -> None:
        for raw in self._raws:
            raw.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gateway.close()


_numbers = itertools.count(1)


def settings_text(name: str, accounts: str, grants: str, feed: str = "") -> str:
    """A configuration with a feed, which may have URLs, limits, these accounts and grants."""
    return f"""
[desk]
name = "{name}"
[feeds.local]
kind = "massive"
key = "env:ROOM_KEY"
{feed}
{accounts}
{grants}
{LIMITS}
"""


def paper(name: str = "paper-1", **more: Any) -> str:
    """An account's table."""
    lines = "".join(f"{key} = {value!r}\n" for key, value in more.items())
    return f"[accounts.{name}]\nbroker = 'paper'\ncash = {CASH}\nlimits = 'wide'\n{lines}"


def grant(strategy: str = "trend", account: str = "paper-1", **more: Any) -> str:
    """A grant's table."""
    told = {"one_trade": lambda value: str(value).lower()}
    lines = "".join(f"{key} = {told.get(key, repr)(value)}\n" for key, value in more.items())
    return f"[[grants]]\nstrategy = '{strategy}'\naccount = '{account}'\nsymbols = ['*']\ncash = 50000\nlimits = 'wide'\n{lines}"


@contextmanager
def patient(**seconds: float) -> Iterator[None]:
    """Let the gateway's patience be shorter than it is: its constants, wherever they are."""
    modules = (doorman, gateway, links)
    found = {name: next(module for module in modules if hasattr(module, name)) for name in seconds}
    before = {name: getattr(module, name) for name, module in found.items()}
    try:
        for name, module in found.items():
            setattr(module, name, seconds[name])
        yield
    finally:
        for name, module in found.items():
            setattr(module, name, before[name])


@asynccontextmanager
async def room(
    database: Database, *, accounts: str = "", grants: str = "", clock: Any = None, make: dict[str, type[PaperBroker]] | None = None,
    wait_for: Iterable[str] | None = None, feed: str = "", **patience: float,
) -> AsyncIterator[Room]:  # fmt: skip
    """Give a room with a gateway that is up and whose accounts are reached.

    By default one recorded paper account, ``paper-1``, with ``trend`` and ``manual`` granted.
    """
    folder = Path(tempfile.mkdtemp(prefix="ns-", dir="/tmp"))
    try:
        file = folder / "northstar.toml"
        text = settings_text(f"room-{next(_numbers)}", accounts or paper(), grants or grant() + grant("manual"), feed)
        file.write_text(text, encoding="utf-8")
        settings = load_settings(file, folder)
        recorders = {name: Recorder for name, account in settings.accounts.items() if account.broker == "paper"}
        here = Room(folder, settings, database, clock or RoomClock(), {**recorders, **(make or {})})
        with patient(**{"TICK_S": 0.05, "RESUME_S": 0.4, "LEAVE_S": 0.3, **patience}):
            await here.start()
            for name in settings.accounts if wait_for is None else wait_for:
                await here.up(name)
            try:
                yield here
            finally:
                await here.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def play(database: Database, scene: Callable[[Room], Awaitable[None]], **more: Any) -> None:
    """Play a scene in a room of its own."""

    async def run() -> None:
        async with asyncio.timeout(60), room(database, **more) as here:
            await scene(here)

    asyncio.run(run())
