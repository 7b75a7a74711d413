"""Lets strategies and people in: checks tokens and grants, opens and resumes sessions, warms strategies up, notices who is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from northstar_core.gateway.guests import PersonGuest, StrategyGuest
from northstar_core.gateway.manners import check_hello
from northstar_core.gateway.seats import Seat
from northstar_core.gateway.sessions import Connection, Guest, Refusal
from northstar_core.gateway.settings import GrantSettings
from northstar_core.gateway.tokens import TokenRefused
from northstar_core.model import events as e
from northstar_core.model.errors import NorthstarError
from northstar_core.model.market import Bar
from northstar_core.model.wire import Hello, History, Login, Welcome
from northstar_core.model.world import (
    BarsGiven,
    FrameRefused,
    Held,
    OpenSession,
    SessionBegan,
    SessionLost,
    SessionResumed,
    StateKept,
    StopRequested,
    TicksSkipped,
    Works,
)  # fmt: skip

if TYPE_CHECKING:
    from northstar_core.gateway.gateway import Gateway

log = logging.getLogger("northstar.sessions")

SILENT_S = 10.0  #: wall seconds without a word after which a session is given up
RESUME_S = 5.0  #: wall seconds a dropped connection may take to come back
RETURN_S = 30.0  #: wall seconds a kernel may take to come back after the gateway itself was gone
LEAVE_S = 5.0  #: wall seconds strategies have when the gateway goes
OPENING_S = 30.0  #: wall seconds a session waits for its account's broker
BARS_A_FRAME = 500
REFUSALS_A_SECOND = 20  #: refusals put on the record one by one; more are counted


class Doorman:
    """The gateway's side of every session."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.guests: dict[str, StrategyGuest] = {}  #: connected, by name on the desk
        self.states: dict[str, dict[str, Any]] = dict(gateway.recovery.states)  #: what strategies kept, by name on the desk
        self._entering: set[str] = set()
        self._gone: dict[str, tuple[Seat, float, str]] = {}  #: seats whose connection is lost: since when, why
        self._away = self._left_behind()  #: seats of a gateway before this one, whose kernels have not come back yet
        self._back_by = time.monotonic() + RETURN_S
        self._stopping: dict[str, float] = {}  #: asked to stop: until when, monotonic
        self._refused: deque[float] = deque(maxlen=REFUSALS_A_SECOND)
        self._uncounted = 0

    # ── coming in ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def login(self, login: Login, connection: Connection) -> Guest:
        """Let a person's tool in."""
        try:
            claim = self.gateway.tokens.check(login.token, time.time_ns(), capability="read")
        except TokenRefused as refused:
            raise Refusal(str(refused.code), str(refused)) from None
        if claim.capability == "trade":
            raise Refusal("WRONG_SCOPE", "a kernel's token opens its strategy's session and nothing else")
        guest = PersonGuest(connection, claim.capability, request=self.gateway.questions.ask, gone=self._left_person)
        if login.follow:
            self.gateway.follow(guest)
        return guest

    async def welcome(self, hello: Hello, connection: Connection) -> Guest:
        """Let a strategy in: its own session, once."""
        gateway = self.gateway
        try:
            claim = gateway.tokens.check(hello.token, time.time_ns(), strategy=hello.strategy, capability="trade")
        except TokenRefused as refused:
            raise Refusal(str(refused.code), str(refused)) from None
        grant = gateway.grant(hello.strategy, claim.account)
        if grant is None or claim.strategy != grant.strategy:
            raise Refusal("GRANT", f"{hello.strategy} has no grant in {claim.account}; see {gateway.settings.path}")
        name = gateway.names[grant.strategy, grant.account]
        check_hello(hello)
        if name in self.guests or name in self._entering:
            raise Refusal("SESSION", f"{name} is in session already; one session a strategy and account")
        self._entering.add(name)
        try:
            if (gone := self._gone.get(name)) is not None:
                if hello.resume == gone[0].session and gone[0].resumable(hello.seen):
                    return self._resume(name, hello, connection)
                self._lose(gone[0], f"{gone[2]}; its kernel began anew")
            return await self._enter(name, grant, hello, connection)
        finally:
            self._entering.discard(name)

    async def _enter(self, name: str, grant: GrantSettings, hello: Hello, connection: Connection) -> Guest:
        gateway, desk = self.gateway, self.gateway.desk
        await self._account_open(grant.account)
        gateway.links[grant.account].prepare(hello.symbols)
        histories = await self._history(grant, hello)
        session = gateway.trading_day().replace("-", "")
        seat = Seat(name, grant.account, session, hello, gateway.settings.desk.bar_ns, gateway.server.wake)
        state, holdings, now = desk.engine.state, gateway.ledger.of(grant.account, name), gateway.clock.now()
        gateway.stewards.forget(grant.account, name)
        self._away.pop(name, None)
        n = gateway.ledger.numbers.get((name, session), 0)
        began = SessionBegan(
            ts=now, strategy=name, account=grant.account, session=session, author=grant.strategy, params=hello.params,
            code=hello.code, symbols=hello.symbols, options_on=hello.options_on, quotes=hello.quotes, trades=hello.trades,
            bar_ns=seat.bar_ns, cash=grant.cash + holdings.cash, n=n,
            held=tuple(Held(s, tuple(p.lots)) for s, p in sorted(holdings.positions.items()) if p.qty),
            works=tuple(Works(o.intent, o.qty, o.cum_qty, o.status) for o in desk.working(grant.account, name)),
            opened=OpenSession(state.session_open, state.today, state.session_close) if state.session_close else None,
            state=self.states.get(name, {}),
        )  # fmt: skip
        cause = desk.note(began)
        bars = _merged(histories)
        for bar in bars:
            seat.wants.last_bar[bar.symbol] = bar.start
        for first in range(0, len(bars), BARS_A_FRAME):
            desk.note(BarsGiven(now, name, grant.account, tuple(bars[first : first + BARS_A_FRAME])), cause)
        broker = gateway.links[grant.account].broker
        seat.begin(desk.log.seq)
        connection.send(
            Welcome(
                strategy=name, account=grant.account, session=session, broker=broker.kind, simulated=broker.simulated,
                rehearsed=self._rehearsed(grant.account), n=n, seq=desk.log.seq, now=now,
                speed=gateway.clock.speed, bar_ns=seat.bar_ns, cash=began.cash, held=began.held,
                works=began.works, opened=began.opened, state=began.state,
                calendar=gateway.settings.desk.calendar, limits=grant.limits,
            )
        )  # fmt: skip
        for first in range(0, max(len(bars), 1), BARS_A_FRAME):
            connection.send(History(tuple(bars[first : first + BARS_A_FRAME]), first + BARS_A_FRAME >= len(bars)))
        guest = self._guest(seat, connection)
        desk.seat(seat)
        started = e.StrategyStarted(now, name, grant.account, session, hello.warm_up)
        desk.tell(seat, started, desk.note(started, cause))
        desk.settle()
        return guest

    def _resume(self, name: str, hello: Hello, connection: Connection) -> Guest:
        """The kernel lived on, only its connection was lost: go on where it was."""
        gateway, desk = self.gateway, self.gateway.desk
        seat, _, _ = self._gone.pop(name)
        seat.rewind(hello.seen)
        n = gateway.ledger.numbers.get((name, seat.session), 0)
        desk.note(SessionResumed(gateway.clock.now(), name, seat.account, seat.session))
        desk.settle()
        broker = gateway.links[seat.account].broker
        connection.send(
            Welcome(
                strategy=name, account=seat.account, session=seat.session, broker=broker.kind, simulated=broker.simulated, n=n,
                seq=desk.log.seq, now=gateway.clock.now(), speed=gateway.clock.speed, bar_ns=seat.bar_ns, cash=Decimal(0), resumed=True,
                asked=seat.asked,
            )
        )  # fmt: skip
        return self._guest(seat, connection)

    def _guest(self, seat: Seat, connection: Connection) -> StrategyGuest:
        guest = StrategyGuest(seat, connection, asked=self._asked, kept=self._kept, left=self._left, gone=self._lost_connection)
        self.guests[seat.strategy_id] = guest
        return guest

    async def _account_open(self, account: str) -> None:
        """Wait until the account's broker was reached once: without its cash nothing can be judged."""
        gateway = self.gateway
        for _ in range(int(OPENING_S * 10)):
            if account in gateway.desk.engine.state.portfolio.accounts and gateway.links[account].up:
                return
            await asyncio.sleep(0.1)
        raise Refusal("BROKER", f"account {account} cannot be used: {gateway.links[account].reason}")

    def _rehearsed(self, account: str) -> bool:
        """Whether an account's prices come from a twin."""
        gateway = self.gateway
        feed = gateway.markets.feed_of(gateway.settings.accounts[account].feed)
        return feed is not None and gateway.settings.feeds[feed.name].rehearsed

    async def _history(self, grant: GrantSettings, hello: Hello) -> list[list[Bar]]:
        """Subscribe what a strategy wants and fetch the bars it wants from before."""
        gateway = self.gateway
        markets = gateway.markets
        feed = markets.feed_of(gateway.settings.accounts[grant.account].feed)
        if feed is None:
            return []
        markets.want(feed, hello.symbols, trades=hello.trades)
        wanted = [markets.history(feed, symbol, hello.warm_up) for symbol in hello.symbols] if hello.warm_up else []
        try:
            found = list(await asyncio.gather(*wanted))
            for underlying in hello.options_on:
                markets.want(feed, [underlying], trades=hello.trades)
                await markets.want_chain(feed, underlying, None)
        except (TimeoutError, OSError, NorthstarError) as error:
            raise Refusal("HISTORY", f"bars from before the session could not be had: {type(error).__name__}: {error}") from None
        return found

    def _left_behind(self) -> dict[str, Seat]:
        """Take up what a gateway before this one left undone: sessions whose kernels may come back, positions to be closed."""
        gateway = self.gateway
        away = {}
        for name, began in gateway.recovery.open.items():
            hello = Hello(
                token="", strategy=began.author, symbols=began.symbols, options_on=began.options_on, quotes=began.quotes,
                trades=began.trades,
            )  # fmt: skip
            away[name] = Seat(name, began.account, began.session, hello, began.bar_ns)
        today = gateway.trading_day().replace("-", "")
        for name, lost in gateway.recovery.lost.items():
            began = gateway.recovery.sessions[name]
            if began.session == today:
                self._carry_out(lost.policy, began.account, name, began.session, lost.reason)
        return away

    # ── in session ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self, seat: Seat, message: Any) -> None:
        self.gateway.ledger.count(message, seat.session)
        self.gateway.desk.asked(message, seat.given)

    def _kept(self, seat: Seat, state: dict[str, Any]) -> None:
        self.states[seat.strategy_id] = state
        self.gateway.desk.note(StateKept(self.gateway.clock.now(), seat.strategy_id, seat.account, state))
        self.gateway.desk.settle()

    def _left(self, seat: Seat, outcome: str, error: str) -> None:
        """A strategy's session ended by its own will; of one that failed, its policy takes care."""
        self._unseat(seat)
        gateway, now = self.gateway, self.gateway.clock.now()
        gateway.desk.note(e.StrategyStopped(now, seat.strategy_id, f"{outcome}: {error}"[:500] if error else outcome))
        if outcome == "failed":
            gateway.desk.alert("critical", seat.strategy_id, f"the strategy failed: {error}"[:1000])
            reason = f"failed: {error}"[:300]
            policy, cause = self._lost(seat, reason)
            self._carry_out(policy, seat.account, seat.strategy_id, seat.session, reason, cause)
        gateway.desk.settle()

    def _lost_connection(self, guest: StrategyGuest, reason: str) -> None:
        name = guest.seat.strategy_id
        if self.guests.get(name) is guest:
            del self.guests[name]
            self._gone[name] = (guest.seat, time.monotonic(), reason)

    def _lose(self, seat: Seat, reason: str) -> None:
        """The session is over without a word: say so, and do what its policy says."""
        self._unseat(seat)
        policy, cause = self._lost(seat, reason)
        stopped = e.StrategyStopped(self.gateway.clock.now(), seat.strategy_id, f"lost: {reason}"[:500])
        self.gateway.desk.note(stopped)  # before its policy is carried out: it hears nothing of that
        self._carry_out(policy, seat.account, seat.strategy_id, seat.session, reason, cause)
        self.gateway.desk.alert("critical", seat.strategy_id, f"session lost: {reason}")

    def _lost(self, seat: Seat, reason: str) -> tuple[str, int]:
        """Put on the record that a strategy speaks for itself no more; returns its policy, and the number of that."""
        gateway = self.gateway
        grant = gateway.grant(seat.strategy_id, seat.account)
        policy: str = (grant.on_lost if grant is not None else None) or "cancel"
        lost = SessionLost(gateway.clock.now(), seat.strategy_id, seat.account, reason[:500], policy, seat.handled)
        return policy, gateway.desk.note(lost)

    def _carry_out(self, policy: str, account: str, strategy: str, session: str, reason: str, cause: int = 0) -> None:
        if policy == "flatten":
            self.gateway.stewards.flatten(account, strategy, session, reason, cause)
        elif policy == "cancel":
            self.gateway.stewards.cancel(account, strategy, f"session lost: {reason}", cause)

    def _unseat(self, seat: Seat) -> None:
        name = seat.strategy_id
        self.guests.pop(name, None)
        self._gone.pop(name, None)
        self._stopping.pop(name, None)
        self._report_skipped(seat)
        self.gateway.desk.unseat(seat)

    def _left_person(self, guest: PersonGuest) -> None:
        if guest.follow in self.gateway.desk.followers:
            self.gateway.desk.followers.remove(guest.follow)

    def stop(self, strategy: str, account: str, reason: str, grace_s: float) -> bool:
        """Ask a strategy to stop; false if it is not in session."""
        grant = self.gateway.grant(strategy, account)
        name = strategy if grant is None else self.gateway.names[grant.strategy, account]
        guest, gone = self.guests.get(name), self._gone.get(name)
        if guest is None and gone is None:
            return False
        self._ask_to_stop(guest.seat if guest is not None else gone[0], reason, grace_s)  # type: ignore[index]
        return True

    def _ask_to_stop(self, seat: Seat, reason: str, grace_s: float) -> None:
        if seat.strategy_id in self._stopping:
            return
        desk = self.gateway.desk
        self._stopping[seat.strategy_id] = time.monotonic() + grace_s
        stop = StopRequested(self.gateway.clock.now(), seat.strategy_id, seat.account, reason, grace_s)
        desk.tell(seat, stop, desk.note(stop))
        desk.settle()

    def in_session(self, name: str) -> bool:
        """Whether a strategy speaks for itself, or may any moment: by its name on the desk."""
        return name in self.guests or name in self._gone or name in self._entering or name in self._away

    def look_after(self) -> None:
        """Give up who is silent, too far behind, gone for good or does not stop."""
        now = time.monotonic()
        for name, guest in list(self.guests.items()):
            self._report_skipped(guest.seat)
            if now - guest.connection.heard > SILENT_S:
                guest.connection.close(f"silent for {SILENT_S:.0f} s")
            elif guest.seat.lost:
                guest.connection.close(f"{len(guest.seat)} events behind")
            elif now > self._stopping.get(name, now) + 1.0:
                guest.connection.close("asked to stop, and did not")
        for name, (seat, since, reason) in list(self._gone.items()):
            if now - since > RESUME_S and name not in self._entering:
                self._lose(seat, reason)
        if now > self._back_by:
            for name in [name for name in self._away if name not in self._entering]:
                self._lose(self._away.pop(name), "its kernel did not come back after the gateway was gone")
        if self._uncounted:
            count, self._uncounted = self._uncounted, 0
            self.gateway.desk.note(FrameRefused(self.gateway.clock.now(), "", "", "FLOOD", f"{count} more refusals in this second"))
            self.gateway.desk.settle()

    def _report_skipped(self, seat: Seat) -> None:
        if seat.skipped:
            skipped, seat.skipped = tuple(seat.skipped), []
            self.gateway.desk.note(TicksSkipped(self.gateway.clock.now(), seat.strategy_id, seat.account, skipped))
            self.gateway.desk.settle()

    def refused(self, guest: Guest | None, code: str, detail: str) -> None:
        """Put a refusal on the record; in a flood the rest is counted."""
        now = time.monotonic()
        self.gateway.refusals += 1
        if len(self._refused) == REFUSALS_A_SECOND and now - self._refused[0] < 1.0:
            self._uncounted += 1
            return
        self._refused.append(now)
        seat = guest.seat if isinstance(guest, StrategyGuest) else None
        name, account = (seat.strategy_id, seat.account) if seat is not None else ("", "")
        self.gateway.desk.note(FrameRefused(self.gateway.clock.now(), name, account, code, detail[:300]))
        self.gateway.desk.settle()

    def status(self) -> list[dict[str, Any]]:
        """Who is in session."""
        now = time.monotonic()
        return [
            {
                "strategy": name, "account": guest.seat.account, "session": guest.seat.session, "waiting": len(guest.seat),
                "given": guest.seat.given, "handled": guest.seat.handled, "silent_s": round(now - guest.connection.heard, 3),
                "author": guest.seat.hello.strategy,
            }
            for name, guest in sorted(self.guests.items())
        ]  # fmt: skip

    async def close(self) -> None:
        """Tell every strategy that the gateway goes; what they have working stays as it is."""
        for guest in list(self.guests.values()):
            self._ask_to_stop(guest.seat, "the gateway is going down", LEAVE_S)
        for _ in range(int(LEAVE_S * 20)):
            if not self.guests:
                return
            await asyncio.sleep(0.05)


def _merged(histories: list[list[Bar]]) -> list[Bar]:
    """All symbols' bars in the order in which they became known."""
    return sorted((bar for history in histories for bar in history), key=lambda bar: (bar.ts, bar.symbol))
