"""The gateway: one loop, one writer. It wires the desk to its store, its feeds, its brokers and whoever is in session."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.brokers.base import Broker
from northstar_core.data import calendar as calendars
from northstar_core.engine.risk import Rule
from northstar_core.gateway.desk import Desk
from northstar_core.gateway.doorman import Doorman
from northstar_core.gateway.guests import PersonGuest
from northstar_core.gateway.ledger import Ledger
from northstar_core.gateway.links import Link
from northstar_core.gateway.log import DeskLog
from northstar_core.gateway.lost import Stewards
from northstar_core.gateway.markets import Markets
from northstar_core.gateway.meter import Meter
from northstar_core.gateway.questions import MANUAL, Questions
from northstar_core.gateway.recovery import Recovery
from northstar_core.gateway.sessions import SessionServer
from northstar_core.gateway.settings import GrantSettings, Settings
from northstar_core.gateway.tokens import Tokens
from northstar_core.model import events as e
from northstar_core.model.account import Grant
from northstar_core.model.instrument import Combo, Instrument, Option
from northstar_core.model.journal import decode
from northstar_core.model.ports import Clock
from northstar_core.model.world import AlertRaised, GatewayStarted
from northstar_core.store.desk import DeskWriter
from northstar_core.store.postgres import Database
from northstar_core.store.reader import Reader

log = logging.getLogger("northstar.gateway")

TICK_S = 1.0  #: how often the gateway looks after what nobody calls for, wall seconds
DAYS_AHEAD = 10  #: days whose sessions are put on the agenda at a time
DAY_NS = 86_400 * 10**9


def socket_path(home: Path) -> Path:
    """Return where the gateway listens."""
    return home / "gateway" / "session.sock"


def desk_names(settings: Settings) -> dict[tuple[str, str], str]:
    """Return each grant's name on the desk: the strategy's, and with ``@account`` where it was granted before in the file.

    A name is in every order id, book and limit, so one strategy in two accounts has two.
    """
    names: dict[tuple[str, str], str] = {}
    for grant in settings.grants:
        taken = grant.strategy in names.values()
        names[grant.strategy, grant.account] = f"{grant.strategy}@{grant.account}" if taken else grant.strategy
    return names


class Gateway:
    """Everything that runs in the gateway's process.

    Parameters
    ----------
    brokers
        Makes an account's broker, given the account's name and what to call with its claims.
    feeds
        Makes a feed, given its name and what to call with its events.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        *,
        brokers: Callable[[str, Callable[[Any], None], Gateway], Broker],
        feeds: Callable[[str, Callable[[Any], None], Gateway], Any],
        rules: tuple[Rule, ...] = (),
        version: str = "",
        observe: Callable[[Gateway, str], Awaitable[Any]] | None = None,
    ) -> None:
        self.settings, self.database, self.clock, self.version = settings, database, clock, version
        self.home = settings.home
        self.names = desk_names(settings)
        self.tokens = Tokens.open(self.home)
        self.ledger = Ledger()
        self.markets = Markets(clock, settings.desk.bar_ns)
        self.meter = Meter(clock.now)
        self.links: dict[str, Link] = {}
        self.alerts: deque[AlertRaised] = deque(maxlen=1000)
        self.stopping = asyncio.Event()
        self.refusals = 0
        self._make_broker, self._make_feed, self._rules, self._observe = brokers, feeds, rules, observe
        self._fates: dict[str, list[asyncio.Future[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._scheduled, self._scheduled_until = "", 0  #: the last session on the agenda: its label, and when it closes
        self._tending = False
        self.writer: DeskWriter
        self.desk: Desk
        self.stewards: Stewards
        self.doorman: Doorman
        self.questions: Questions
        self.server: SessionServer
        self.recovery: Recovery
        self.ready = False

    # ── beginning and end ─────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Take the desk over: fence off whoever had it, stand where it stood, let everybody in.

        Raises
        ------
        StoreError
            If another gateway has the desk.
        """
        self.writer = writer = await DeskWriter.begin(
            self.database, self.settings.desk.name, on_durable=self._durable, on_failed=self._failed
        )
        head = writer.head.seq
        desk_log = DeskLog(writer.next_seq, writer.epoch)
        self.desk = desk = Desk(desk_log, writer, self.clock.now, rules=self._rules, durable=writer.next_seq - 1)
        self.recovery = Recovery(desk, self.ledger)
        await self._restore(head)
        desk.on_fact.append(self._fact)
        desk.on_sent = self.meter.sent
        self.stewards = Stewards(desk, self.ledger, self.clock, self.want_for_orders)
        self.questions = Questions(self)
        self.doorman = Doorman(self)
        self.server = SessionServer(self.doorman, socket_path(self.home))
        now = self.clock.now()
        desk.note(
            GatewayStarted(
                ts=now, epoch=writer.epoch, version=self.version, speed=self.clock.speed, settings=self.settings.sha256
            )
        )
        self._enter_limits(now)
        state = desk.engine.state
        if state.session_close and state.session_close <= now:  # it closed while nobody was there
            desk.schedule(state.session_close, e.SessionClosed(state.session_close, state.today))
        self._schedule_sessions(now)
        for timer, seq in (waiting for timers in self.recovery.timers.values() for waiting in timers):
            desk.schedule(timer.at, e.TimerFired(max(timer.at, now), timer.strategy, timer.name), seq)
        desk.settle()
        for name in self.settings.feeds:
            self.markets.feeds[name] = feed = self._make_feed(name, self._market, self)
            self._spawn(feed.start())
        for name, account in self.settings.accounts.items():
            link: Link

            def heard(claim: Any, name: str = name) -> None:
                self.links[name].heard(claim)

            broker: Any = self._make_broker(name, heard, self)
            if hasattr(broker, "restore"):
                blotter = desk.engine.state.blotter
                broker.restore(desk.engine.books(), blotter.orders.values(), blotter.exec_ids)
            if hasattr(broker, "reopen") and state.session_close > now:
                broker.reopen(e.SessionOpened(state.session_open, state.today, state.session_close))
            link = self.links[name] = Link(name, broker, desk, self.clock, reconcile_s=account.reconcile_s)
            desk.dispatchers[name] = link
            if hasattr(broker, "on_market"):
                desk.papers.append(broker.on_market)
                desk.session_listeners.append(broker.on_session)
        for link in self.links.values():  # each for itself: one that hangs holds nobody up
            await link.start()
        self.tokens.write_operator(self.home, time.time_ns())
        await self.server.start()
        self._spawn(self._clockwork())
        self._spawn(self._look_after())
        self.ready = True

    async def run(self) -> None:
        """Run until somebody asks it to stop, or until the store has failed."""
        await self.stopping.wait()

    async def close(self) -> None:
        """Leave: sessions told, brokers and feeds let go, everything durable."""
        if not hasattr(self, "writer"):
            return  # it never had the desk
        if hasattr(self, "server"):
            await self.doorman.close()
            await self.server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for feed in self.markets.feeds.values():
            with suppress(Exception):
                await feed.close()
        await asyncio.gather(*(link.close() for link in self.links.values()), return_exceptions=True)
        if self.writer.failed is None and hasattr(self, "server"):
            self.desk.declare()
            self.desk.take_snapshot()
            self.desk.settle()
        with suppress(Exception):
            await self.writer.close()

    async def _restore(self, head: int) -> None:
        """Fold the stored events, and count and digest the ticks that were consumed after the last declaration."""
        if not head and self.writer.next_seq == 1:
            return
        async with await Reader.open(self.database) as reader:
            run = await reader.run(self.settings.desk.name)
            async for batch in reader.restorable(run.stream):
                for seq, payload in batch:
                    self.recovery.apply(seq, decode(payload))
            declared, undeclared = await reader.undeclared(run.stream)
        self.desk.log.ticks = declared + len(undeclared)
        self.desk.consumed_before(declared, [tick for _, tick in undeclared])

    def _enter_limits(self, now: int) -> None:
        """Enter what the configuration allows, where it is not in force already."""
        desk, state, settings = self.desk, self.desk.engine.state, self.settings
        who = "configuration"
        for name, account in settings.accounts.items():
            scope, limits = f"account:{name}", settings.account_limits(name)
            if (caps := state.caps.get(scope)) is None or caps.limits != limits:
                desk.operate(e.SetLimits(ts=now, scope=scope, name=account.limits, who=who, account_limits=limits))
        for grant in settings.grants:
            strategy = self.names[grant.strategy, grant.account]
            scope, own = f"strategy:{strategy}", settings.strategy_limits(grant)
            if (caps := state.caps.get(scope)) is None or caps.limits != own:
                desk.operate(e.SetLimits(ts=now, scope=scope, name=grant.limits, who=who, strategy_limits=own))
            held = state.grants.get((strategy, grant.account))
            if held is None or held.symbols != grant.allowed:
                desk.operate(Grant(ts=now, strategy=strategy, account=grant.account, symbols=grant.allowed))

    # ── what comes in ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _market(self, events: Any) -> None:
        received, place, first = self.clock.now(), self.meter.pick(len(events)), self.desk.log.seq + 1
        self.markets.note(events)
        self.desk.market(events)
        if place >= 0:
            self.meter.follow(events[place], first + place, received)

    def _durable(self, seq: int) -> None:
        self.meter.durable(seq, self.writer.settled)
        if self.desk.outgoing.release(seq):
            self.server.flush()  # it has waited long enough

    def _failed(self, error: Exception) -> None:
        """The store cannot be written: nothing may be sent any more, so nothing will be."""
        log.critical("the event store failed, the gateway stops: %s", error)
        self.stopping.set()

    def _fact(self, seq: int, fact: Any) -> None:
        """Something was written down: what the gateway itself has to do about it."""
        self.ledger.apply(fact)
        if type(fact) is AlertRaised:
            self.alerts.append(fact)
            log.warning("%s: %s: %s", fact.severity, fact.about, fact.text)
            return
        order_id = getattr(fact, "order_id", "") or getattr(getattr(fact, "order", None), "order_id", "")
        if not order_id:
            return
        if (link := self.links.get(getattr(fact, "account", ""))) is not None:
            link.noticed(fact)
        if type(fact) not in (e.OrderSubmitted, e.CancelSubmitted, e.ReplaceSubmitted):
            for future in self._fates.pop(order_id, ()):
                if not future.done():
                    future.set_result(fact)
        if not self._tending:
            self._tending = True
            asyncio.get_running_loop().call_soon(self._tend)

    def _tend(self) -> None:
        self._tending = False
        self.stewards.tend()

    def fate_of(self, order_id: str) -> asyncio.Future[Any]:
        """Return what will hold the next fact about an order that is no more than that it was sent."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._fates.setdefault(order_id, []).append(future)
        return future

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def trading_day(self) -> str:
        """Return the label of the session that is on, or of the next one: YYYY-MM-DD."""
        state = self.desk.engine.state
        if state.session_close:
            return state.today
        now = self.clock.now()
        label: str = self._sessions(now)[0].label.isoformat()
        return label

    def _sessions(self, now: int) -> Any:
        today = datetime.fromtimestamp(now / 1e9, UTC).date()
        found = calendars.sessions(today - timedelta(days=1), today + timedelta(days=DAYS_AHEAD), self.settings.desk.calendar)
        return [session for session in found if session.close > now]

    def _schedule_sessions(self, now: int) -> None:
        """Put the coming sessions on the agenda, once each."""
        desk, state = self.desk, self.desk.engine.state
        if now < self._scheduled_until - DAY_NS:
            return
        for session in self._sessions(now):
            label = session.label.isoformat()
            if label <= self._scheduled:
                continue
            if not (state.session_close and state.today == label):
                desk.schedule(max(session.open, 0), e.SessionOpened(session.open, label, session.close))
            desk.schedule(session.close, e.SessionClosed(session.close, label))
            self._scheduled, self._scheduled_until = label, session.close

    async def _clockwork(self) -> None:
        """Let what is on the agenda happen when it is due."""
        while True:
            due = self.desk.next_due
            with suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await self.clock.until(due)
            try:
                self.desk.advance()
            except Exception as error:
                self._trouble("what was due", error)

    def _trouble(self, what: str, error: Exception) -> None:
        """Something failed that must not end a duty."""
        log.error(what, exc_info=error)
        if self.writer.failed is None:
            self.desk.alert("critical", "gateway", f"{what}: {type(error).__name__}: {error}"[:1000])

    async def _look_after(self) -> None:
        """Once in a while: silent sessions, old orders, coming sessions, what sessions were not given."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.doorman.look_after()
                self.stewards.tend()
                for grant in self.settings.grants:
                    if grant.max_order_age_s is not None:
                        strategy = self.names[grant.strategy, grant.account]
                        self.stewards.cancel_older(grant.account, strategy, grant.max_order_age_s)
                self._schedule_sessions(self.clock.now())
            except Exception as error:
                self._trouble("looking after the desk", error)

    # ── what sessions and questions need ──────────────────────────────────────────────────────────────────────────────

    def grant(self, strategy: str, account: str) -> GrantSettings | None:
        """Return a strategy's grant, by its own name or its name on the desk."""
        for grant in self.settings.grants:
            if grant.account == account and strategy in (grant.strategy, self.names[grant.strategy, grant.account]):
                return grant
        return None

    def session_token(self, strategy: str, account: str, hours: float) -> dict[str, Any]:
        """Issue a token for a strategy's kernel."""
        from northstar_core.gateway.sessions import Refusal

        grant = self.grant(strategy, account)
        if grant is None:
            known = ", ".join(f"{g.strategy} in {g.account}" for g in self.settings.grants) or "none"
            raise Refusal("GRANT", f"no grant for {strategy} in {account}; {self.settings.path} has {known}")
        seconds = min(hours * 3600, 24 * 3600)
        token = self.tokens.issue(
            strategy=grant.strategy, account=account, capability="trade", now=time.time_ns(), seconds=seconds
        )
        broker = self.links[account].broker
        return {
            "token": token, "socket": str(socket_path(self.home)), "strategy": self.names[grant.strategy, account],
            "account": account, "broker": broker.kind, "simulated": broker.simulated, "live": self.settings.accounts[account].real_money,
        }  # fmt: skip

    def name_by_hand(self, strategy: str, account: str) -> str:
        """Return the name on the desk under which an order by hand is placed.

        Raises
        ------
        Refusal
            If the configuration grants nothing, or the strategy is in session: its ids and positions are its own.
        """
        from northstar_core.gateway.sessions import Refusal

        grant = self.grant(strategy, account)
        if grant is None:
            raise Refusal("GRANT", f"no grant for {strategy} in {account}; {self.settings.path} gives none")
        name = self.names[grant.strategy, account]
        if self.doorman.in_session(name):
            raise Refusal("SESSION", f"{name} is in session and trades for itself; stop it first, or place as {MANUAL}")
        return name

    def next_order_id(self, strategy: str) -> str:
        """Return the next id of a series of orders by hand."""
        session = self.trading_day().replace("-", "")
        n = self.ledger.numbers[strategy, session] = self.ledger.numbers.get((strategy, session), 0) + 1
        return f"{strategy}-{session}-{n}"

    def want_for_orders(self, account: str, traded: Instrument) -> None:
        """Subscribe what an order by hand is priced by."""
        feed = self.markets.feed_of(self.settings.accounts[account].feed) if account in self.settings.accounts else None
        if feed is not None:
            legs = [leg.instrument.symbol for leg in traded.legs] if isinstance(traded, Combo) else [traded.symbol]
            under = [i.underlying for leg in traded.legs if isinstance(i := leg.instrument, Option)]
            self.markets.want(feed, [*legs, *under])

    def stop_session(self, strategy: str, account: str, reason: str, grace_s: float) -> bool:
        """Ask a strategy in session to stop."""
        return self.doorman.stop(strategy, account, reason, grace_s)

    def follow(self, guest: PersonGuest) -> None:
        """Send a guest every fact from now on."""
        if guest.follow not in self.desk.followers:
            self.desk.followers.append(guest.follow)

    def login(self) -> None:
        """Try every broker that is not reached; the links do so by themselves, so this only wakes nobody twice."""
        for link in self.links.values():
            link.hurry()

    async def preflight(self, account: str) -> Any:
        """Return GO or NO-GO with reasons."""
        if self._observe is None:
            return None
        return msgspec.to_builtins(await self._observe(self, account))

    async def read(self, question: Callable[[Reader, int], Awaitable[Any]]) -> Any:
        """Ask the store, once everything written down so far is in it."""
        await self.writer.flush()
        async with await Reader.open(self.database) as reader:
            run = await reader.run(self.settings.desk.name)
            return await question(reader, run.stream)

    def status(self) -> dict[str, Any]:
        """Return the desk at a glance."""
        state = self.desk.engine.state
        return {
            "desk": self.settings.desk.name,
            "version": self.version,
            "now": self.clock.now(),
            "speed": self.clock.speed,
            "seq": self.desk.log.seq,
            "durable": self.desk.outgoing.durable,
            "epoch": self.writer.epoch,
            "session": {"open": state.session_open, "close": state.session_close, "label": state.today},
            "states": {scope: str(found) for scope, found in state.states.items()},
            "accounts": {
                name: {
                    "broker": link.broker.kind, "simulated": link.broker.simulated, "live": self.settings.accounts[name].real_money,
                    "up": link.up, "reason": link.reason, "since": link.since, "reconciled": link.reconciled, "breaks": len(link.breaks),
                    "cash": self._cash(name),
                }
                for name, link in self.links.items()
            },
            "feeds": {
                name: {"last_heard": feed.last_heard(), "stats": msgspec.to_builtins(feed.stats, enc_hook=str)}
                for name, feed in self.markets.feeds.items()
            },
            "sessions": self.doorman.status(),
            "working": len(state.blotter.working),
            "unknown": sum(1 for order_id in state.blotter.working if self.desk.is_unknown(order_id)),
            "alerts": len(self.alerts),
            "latency": self.meter.latest(),
        }  # fmt: skip

    def _cash(self, account: str) -> str | None:
        opened = self.desk.engine.state.portfolio.accounts.get(account)
        return None if opened is None else str(opened.cash)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._trouble("a duty of the gateway ended", error)  # type: ignore[arg-type]

