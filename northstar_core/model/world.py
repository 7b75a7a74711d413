"""The world outside: what links, feeds and sessions did. On the record, and nothing of the books."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.model.market import Bar
from northstar_core.model.order import OrderStatus, PlaceOrder, Side


class GatewayStarted(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """A gateway took the desk's stream over; every line from here on is of its epoch."""

    ts: int
    epoch: int
    version: str
    speed: float = 1.0  #: desk seconds in a second; other than 1 only with simulated brokers
    settings: str = ""  #: sha256 of the configuration, which holds no secret


class BrokerUp(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An account's broker is reached, and its orders, executions and positions have been read anew."""

    ts: int
    account: str
    detail: str = ""


class BrokerDown(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An account's broker is out of reach."""

    ts: int
    account: str
    reason: str


class FeedUp(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A market data feed is connected, and what was missed has been filled in."""

    ts: int
    feed: str
    detail: str = ""


class FeedDown(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A market data feed is disconnected or silent."""

    ts: int
    feed: str
    reason: str


class BarRevised(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The feed sent other numbers for a bar it had sent before; strategies acted on the first and do not get it again."""

    ts: int
    bar: Bar


class QuoteRefused(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A quote that no decision may be based on: stale, crossed, absurd. Recorded when it begins, by symbol and reason."""

    ts: int
    symbol: str
    reason: str
    bid: float = 0.0
    ask: float = 0.0


class ExternalOrder(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An order at the broker that is not ours, as it stands now."""

    ts: int
    account: str
    broker_id: str
    symbol: str
    side: Side | None
    qty: Decimal
    filled_qty: Decimal
    status: str
    text: str = ""


class FrameUnread(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A frame that could not be understood, kept as it came; the stream went on."""

    ts: int
    source: str  #: account or feed
    raw: str  #: its first bytes, as text or as base64
    error: str


class FrameRefused(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client sent what it may not: malformed, oversized, repeated, beyond its capability. Nothing else was done."""

    ts: int
    strategy: str
    account: str
    code: str
    detail: str = ""


class SessionLost(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy's kernel is gone, silent or too slow; its policy was applied to its orders."""

    ts: int
    strategy: str
    account: str
    reason: str
    policy: str  #: "cancel", "leave", "flatten"
    handled: int = 0  #: the last number it had said it had handled; what came after, it may not have seen


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What a strategy holds of a symbol as its session begins."""

    symbol: str
    lots: tuple[tuple[Decimal, Decimal], ...]  #: signed quantity and entry price, oldest first


class Works(msgspec.Struct, frozen=True, array_like=True):
    """An order of the strategy that works as its session begins."""

    order: PlaceOrder
    qty: Decimal
    filled_qty: Decimal
    status: OrderStatus


class OpenSession(msgspec.Struct, frozen=True, array_like=True):
    """The exchange's session that is open."""

    ts: int
    label: str
    close: int


class SessionBegan(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """A strategy's kernel is in its session from here on, and gets what it asked for; ``begun`` again after each restart of it."""

    ts: int
    strategy: str
    account: str
    session: str
    author: str  #: the strategy's name in its notebook; ``strategy`` is its name on the desk
    params: dict[str, Any] = {}
    code: dict[str, str] = {}  #: name of a piece of code to its sha256
    symbols: tuple[str, ...] = ()
    options_on: tuple[str, ...] = ()
    quotes: bool = False
    trades: bool = False
    bar_ns: int = 0
    cash: Decimal = Decimal(0)  #: its bankroll, with what it earned and spent before
    n: int = 0  #: its ids go on from here
    held: tuple[Held, ...] = ()
    works: tuple[Works, ...] = ()
    opened: OpenSession | None = None
    state: dict[str, Any] = {}  #: what it kept in its ``ctx.state`` before


class BarsGiven(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Bars from before the session that a strategy was given to warm up, oldest first."""

    ts: int
    strategy: str
    account: str
    bars: tuple[Bar, ...]


class StateKept(msgspec.Struct, frozen=True, gc=False, tag=True):
    """What a strategy wants to find again after a restart: its ``ctx.state`` as it is now; recorded when it changes."""

    ts: int
    strategy: str
    account: str
    state: dict[str, Any]


class StopRequested(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy is asked to end its session: its ``on_stop`` runs at this place of the log."""

    ts: int
    strategy: str
    account: str
    reason: str
    grace_s: float  #: the wall's seconds it has


class SessionResumed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy's kernel is back in its session."""

    ts: int
    strategy: str
    account: str
    session: str


class TicksSkipped(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Quotes a lagging session was not given, because a newer one of the same symbol was; a replay skips them too."""

    ts: int
    strategy: str
    account: str
    seqs: tuple[int, ...]


class OrderResent(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The broker does not know the order and refuses a second of its id: the same order goes out again."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    evidence: str


class AlertRaised(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Somebody should look."""

    ts: int
    severity: str  #: "info", "warning", "critical"
    about: str
    text: str


World = (
    BrokerUp
    | BrokerDown
    | FeedUp
    | FeedDown
    | BarRevised
    | QuoteRefused
    | ExternalOrder
    | FrameUnread
    | FrameRefused
    | SessionLost
    | SessionBegan
    | BarsGiven
    | StopRequested
    | StateKept
    | SessionResumed
    | TicksSkipped
    | OrderResent
    | AlertRaised
)
