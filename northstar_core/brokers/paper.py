"""A broker without a wire: orders fill here, against the market data the gateway gets; paper accounts and shadows.

Symbols with quotes fill on quotes and prints, others on bars, of which only a symbol's shortest count. What was traded is as safe as the
desk's log: ``restore`` takes it back from there.

Options: ``cash`` (required), and ``model`` with any of the simulation's assumptions (``sim.model.SimModel``) as a table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.brokers.base import AccountInfo, Evidence, Kept, Wiring
from northstar_core.model.errors import DataError, SettingsError
from northstar_core.model.events import Books, SessionClosed, SessionOpened
from northstar_core.model.execution import BrokerSnapshot, ExecType, ExecutionReport
from northstar_core.model.instrument import exact, instrument
from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.order import PlaceOrder
from northstar_core.model.world import AlertRaised, BrokerUp
from northstar_core.sim.broker import SimBroker
from northstar_core.sim.exchange import Update
from northstar_core.sim.latency import NEVER
from northstar_core.sim.model import SimModel
from northstar_core.sim.order import Bracket, working_order

ZERO = Decimal(0)


class PaperExchange(SimBroker):
    """The simulated broker, which can go on where one before it stopped."""

    __slots__ = ()

    def works(self, order_id: str) -> bool:
        """Whether an order of this id works."""
        return order_id in self._open

    def used(self, order_id: str) -> bool:
        """Whether an order of this id was ever taken or refused."""
        return order_id in self._open or order_id in self._ended

    def reopen(self, ts: int, label: str) -> None:
        """Be in a session that opened before; nothing of its opening happens again."""
        self._label, self._clock, self._opened = label, ts, ts
        if not self.model.extended_hours:
            self._lo, self._hi = ts, NEVER

    def take_over(self, books: Books, orders: Iterable[Kept], known: Callable[[str], bool]) -> None:
        """Take over cash, positions and orders. ``known``: whether an execution or activity of this id is booked already.

        What orders of several fills have paid in fees so far is not taken over: a minimum by order may be charged once more.
        """
        own = self.books
        own.cash = books.cash.get(own.account, own.cash)
        for held in books.holdings:
            if held.account == own.account:
                own.add(held.strategy, held.symbol, held.qty)
        while known(f"{own.account}-activity-{own.activities + 1}"):
            own.activities += 1
        mine = [kept for kept in orders if kept.intent.account == own.account]
        self._ended |= {kept.intent.order_id: kept.cum_qty for kept in mine if not kept.working}
        for kept in mine:
            if kept.working:
                self._take_back(kept, known)
        self._take_brackets(mine)

    def _take_back(self, kept: Kept, known: Callable[[str], bool]) -> None:
        intent = kept.intent
        order = msgspec.structs.replace(intent, qty=kept.qty, limit_price=kept.limit_price, stop_price=kept.stop_price)
        o = working_order(order, instrument(order.symbol), intent.ts)
        o.leaves = kept.qty - kept.cum_qty
        o.size = float(o.leaves)
        while known(f"{order.order_id}-{o.executions + 1}"):
            o.executions += 1
        self._open[order.order_id] = o
        if o.legs:
            self._combos.append(o)
        for symbol in {leg.instrument.symbol for leg in o.instrument.legs} if o.legs else {order.symbol}:
            self._enqueue(symbol, o)

    def _take_brackets(self, mine: list[Kept]) -> None:
        """Let exits know their entry and siblings: how much it has filled, and how much of that they have closed."""
        for kept in mine:
            parent = kept.intent.parent
            if not parent:
                continue
            bracket = self._brackets.get(parent)
            if bracket is None:
                entry = self._open.get(parent)
                filled = self._ended.get(parent, ZERO) if entry is None else entry.order.qty - entry.leaves
                bracket = self._brackets[parent] = Bracket(parent, filled=filled, over=entry is None)
                if entry is not None:
                    entry.bracket = bracket
            bracket.exited += kept.cum_qty
            if (o := self._open.get(kept.intent.order_id)) is not None:
                bracket.exits.append(o)
                o.exit_of = bracket


class PaperBroker:
    """An account that is simulated here.

    Raises
    ------
    SettingsError
        If it is given no cash, or an option that is not known.
    """

    kind = "paper"
    simulated = True
    deduplicates = True

    def __init__(self, wiring: Wiring) -> None:
        self.account, self.clock, self._emit = wiring.account, wiring.clock, wiring.emit
        self._order_of = wiring.order_of
        cash, model = _options(wiring)
        self._quoted: set[str] = set()  # symbols that have quotes
        self._marks: dict[str, float] = {}
        self._quotes: dict[str, Bar | Quote] = {}
        self._spans: dict[str, int] = {}  # the shortest bar of a symbol, ns
        self.exchange = PaperExchange(
            self.account, cash, model, ticks=self._quoted, prices=self._marks.get, closed=not model.extended_hours
        )
        self._said: dict[str, list[Update]] = {}  # by order: what was reported, for whoever asks again
        self._up = False
        self._waking: asyncio.Task[None] | None = None
        self._due = asyncio.Event()

    def __repr__(self) -> str:
        """Its account."""
        return f"<PaperBroker {self.account}>"

    # ── coming and going ──────────────────────────────────────────────────────────────────────────────────────────────

    def restore(self, books: Books, orders: Iterable[Kept], exec_ids: Container[tuple[str, str]] = ()) -> None:
        """Take over what the desk's log says of the account, before ``start``.

        Parameters
        ----------
        books
            The engine's (``Engine.books()``).
        orders
            Every order the blotter has, those that ended too: their ids are used up, and exits count on their entry.
        exec_ids
            (account, id) of every execution and activity that is booked: ids go on after them.
        """
        self.exchange.take_over(books, orders, lambda record: (self.account, record) in exec_ids)

    def reopen(self, opened: SessionOpened) -> None:
        """Go on in a session that opened before a restart."""
        self.exchange.reopen(opened.ts, opened.label)

    async def start(self) -> None:
        """Be there; emits ``BrokerUp``."""
        if not self._up:
            self._up = True
            if self.exchange.model.latency.entry_ns or self.exchange.model.latency.response_ns:
                self._waking = asyncio.create_task(self._wake())
            self._emit(BrokerUp(self.clock.now(), self.account, "simulated here"))

    async def close(self) -> None:
        """Be gone; orders stay as they are."""
        self._up = False
        waking, self._waking = self._waking, None
        if waking is not None:
            waking.cancel()
            with suppress(asyncio.CancelledError):
                await waking

    async def _wake(self) -> None:
        """Let what is on its way through a simulated wire arrive in time."""
        while True:
            due = self.exchange.next_due
            if due >= NEVER:
                self._due.clear()
                await self._due.wait()
            else:
                await self.clock.until(due)
                self._tell(self.exchange.advance(max(due, self.clock.now())))

    # ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, order: PlaceOrder) -> None:
        """Take an order; one of an id that was used is the same one."""
        if order.order_id in self._said or self.exchange.used(order.order_id):
            self._repeat(order.order_id)
            return
        self._said[order.order_id] = []
        self._tell(self.exchange.submit(order, self.clock.now(), self._quotes))

    async def cancel(self, order_id: str) -> None:
        """Cancel an order."""
        self._tell(self.exchange.cancel(order_id, self.clock.now()))

    async def replace(self, order_id: str, qty: Decimal, limit_price: Decimal | None, stop_price: Decimal | None) -> None:
        """Change an order."""
        self._tell(self.exchange.replace(order_id, qty, limit_price, stop_price, self.clock.now()))

    async def find(self, order_id: str) -> Evidence:
        """Say again what was said of an order."""
        if order_id not in self._said and not self.exchange.used(order_id):
            return Evidence.ABSENT
        self._repeat(order_id)
        return Evidence.FOUND

    async def snapshot(self) -> BrokerSnapshot:
        """Return cash, positions and open orders."""
        return self.exchange.snapshot(self.clock.now())

    async def info(self) -> AccountInfo:
        """Return what the account is worth, at the last prices seen."""
        cash, equity = self.exchange.books.cash, ZERO
        for held in self.exchange.books.held():
            mark = self._marks.get(held.symbol)
            if mark is not None:
                equity += held.qty * exact(mark) * instrument(held.symbol).multiplier
        return AccountInfo(
            account_id=self.account, cash=cash, equity=cash + equity, buying_power=max(cash, ZERO), status="SIMULATED",
            time=self.clock.now(),
        )  # fmt: skip

    def _repeat(self, order_id: str) -> None:
        """Say again what was said of an order; of one from before a restart, that it works."""
        said = self._said.get(order_id)
        if not said and self.exchange.works(order_id):
            said = [ExecutionReport(self.clock.now(), order_id, ExecType.NEW)]
        for report in said or ():
            self._emit(report)

    # ── what the gateway tells ────────────────────────────────────────────────────────────────────────────────────────

    def on_market(self, events: Sequence[MarketEvent]) -> None:
        """Take market events as the feed brings them: orders fill on those that came after they did."""
        exchange, working = self.exchange, self.exchange.working
        bars: list[Bar] = []
        for event in events:
            symbol = event.symbol
            if isinstance(event, Quote):
                self._quoted.add(symbol)
                self._quotes[symbol] = event
                if price := event.price:
                    self._marks[symbol] = price
                if symbol in working:
                    self._pass(event.ts)
                    self._tell(exchange.on_quote(event))
            elif isinstance(event, Trade):
                if event.forms_price:
                    self._marks[symbol] = event.price
                if symbol in working:
                    self._pass(event.ts)
                    self._tell(exchange.on_trade(event))
            elif isinstance(event, Bar):
                span = event.ts - event.start
                if span <= self._spans.setdefault(symbol, span):
                    self._spans[symbol] = span
                    if symbol not in self._quoted:
                        self._marks[symbol] = event.close
                    if symbol in working:
                        bars.append(event)
        while bars:
            ts = bars[0].ts
            self._pass(ts)
            self._tell(exchange.on_bars([bar for bar in bars if bar.ts == ts]))
            bars = [bar for bar in bars if bar.ts != ts]

    def on_session(self, what: SessionOpened | SessionClosed) -> None:
        """The exchange opens or closes."""
        self._pass(what.ts)
        self._quotes.clear()  # of before: nobody trades on them now
        if isinstance(what, SessionOpened):
            self._tell(self.exchange.on_session_open(what.ts, what.label))
        else:
            try:
                self._tell(self.exchange.on_session_close(what.ts, what.label))
            except DataError as error:  # an option ends and nothing is known of its underlying
                self._emit(AlertRaised(what.ts, "critical", self.account, str(error)))

    def _pass(self, ts: int) -> None:
        if self.exchange.next_due <= ts:
            self._tell(self.exchange.advance(ts))

    def _tell(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if isinstance(update, ExecutionReport):
                self._said.setdefault(update.order_id, []).append(update)
            self._emit(update)
        if self.exchange.next_due < NEVER:
            self._due.set()


def _options(wiring: Wiring) -> tuple[Decimal, SimModel]:
    options: Mapping[str, Any] = wiring.options
    unknown = sorted(set(options) - {"cash", "model"})
    if unknown:
        raise SettingsError(f"account {wiring.account}: a paper account has no option {unknown[0]!r}; there are cash, model")
    try:
        cash = msgspec.convert(options["cash"], Decimal, strict=False)
    except (KeyError, msgspec.ValidationError) as error:
        raise SettingsError(f"account {wiring.account}: a paper account begins with cash; give an amount ({error})") from None
    if not cash.is_finite() or cash < 0:
        raise SettingsError(f"account {wiring.account}: cash = {cash}; give an amount of dollars, 0 or more")
    try:
        return cash, msgspec.convert(options.get("model", {}), SimModel, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"account {wiring.account}: option model: {error}") from None
