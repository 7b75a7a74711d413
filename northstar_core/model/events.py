"""Every message: what comes in, what was decided, what was written down. One tagged union, one codec.

Each event is a frozen ``msgspec.Struct`` tagged by its class name under ``type``. The same object is the wire format, the
stored format and the in-memory format. ``seq`` and ``cause`` are not in the event: they are where it stands in the log, and
belong to its journal line (``model.journal``). Events hold no references to each other that could form a cycle, so the garbage
collector need not look at them (``gc=False``): a run with a million of them pays nothing for that.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import msgspec

from northstar_core.model.account import AccountLimits, Grant, StrategyLimits, TradingState, Verdict
from northstar_core.model.denial import DenialReason
from northstar_core.model.execution import AccountActivity, ActivityKind, BrokerSnapshot, ExecutionReport
from northstar_core.model.market import Bar, Halt, Quote, Trade
from northstar_core.model.order import CancelOrder, OrderStatus, PlaceOrder, ReplaceOrder, Side
from northstar_core.model.world import GatewayStarted, World

# ── what a run is made of ─────────────────────────────────────────────────────────────────────────────────────────────


class DataManifest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where market data came from; never where they are stored."""

    name: str
    layout: str
    sha256: str
    rows: int


class RunStarted(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The first event of a run: everything that may change a decision and is not a message of its own."""

    ts: int
    strategies: dict[str, dict[str, Any]]  #: strategy id to its parameters
    code: dict[str, str]  #: name of a piece of code to its sha256
    data: tuple[DataManifest, ...] = ()
    symbols: tuple[str, ...] = ()
    assumptions: dict[str, str] = {}  #: fill time, slippage, commission, latency, day count …
    seed: int = 0


class RunFinished(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The last event of a run."""

    ts: int
    outcome: str  #: "completed", "stopped", "failed"
    detail: str = ""


class TapeRead(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """These rows of a table were consumed since the last ``TapeRead``: they are the numbers no event has."""

    ts: int
    table: str  #: "bars", "quotes", "trades", "ticks" where several are merged
    first_row: int  #: in consumption order, from 0
    rows: int
    digest: str  #: sha256 over the rows' columns (``model.tape.Table.digest``)


class AccountOpened(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An account begins with this much cash."""

    ts: int
    account: str
    broker: str
    cash: Decimal


class SessionOpened(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The exchange's regular session opened."""

    ts: int
    label: str  #: YYYY-MM-DD
    close: int  #: when it will close


class SessionClosed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The exchange's regular session closed."""

    ts: int
    label: str


class TimerFired(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A timer a strategy had set is due."""

    ts: int
    strategy: str
    name: str


class StrategyStarted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy runs from here on; ``session`` is in all of its ids."""

    ts: int
    strategy: str
    account: str
    session: str
    warm_up: int = 0  #: bars of each symbol it wants before it decides


class StrategyStopped(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy runs no more."""

    ts: int
    strategy: str
    reason: str = ""


# ── decision records ──────────────────────────────────────────────────────────────────────────────────────────────────


class Signal(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """A strategy wants something of a symbol, and these are the values it saw."""

    ts: int
    strategy: str
    symbol: str
    n: int  #: counts the strategy's messages of this session
    reason: str
    value: float = 0.0
    inputs: dict[str, float] = {}
    basis_seq: int = 0


class NoSignal(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """A strategy wants nothing of a symbol, and why; recorded when the reason changes."""

    ts: int
    strategy: str
    symbol: str
    n: int
    reason: str
    inputs: dict[str, float] = {}
    basis_seq: int = 0


class SetTimer(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy asks to be woken at ``at``."""

    ts: int
    strategy: str
    name: str
    at: int


# ── operators ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class SetTradingState(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Somebody changes what a scope may do. A scope is ``desk``, ``account:NAME`` or ``strategy:NAME``."""

    ts: int
    scope: str
    state: TradingState
    who: str
    reason: str


class SetLimits(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True, omit_defaults=True):
    """Somebody sets the limits of a strategy or an account."""

    ts: int
    scope: str
    name: str  #: of the limit set, for people
    who: str
    strategy_limits: StrategyLimits | None = None
    account_limits: AccountLimits | None = None


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class GrantChanged(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A grant is in force."""

    ts: int
    strategy: str
    account: str
    symbols: tuple[str, ...] = ()


class LimitsChanged(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True, omit_defaults=True):
    """Limits are in force."""

    ts: int
    scope: str
    name: str
    who: str
    strategy_limits: StrategyLimits | None = None
    account_limits: AccountLimits | None = None


class TradingStateChanged(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """A scope's trading state is in force."""

    ts: int
    scope: str
    state: TradingState
    who: str
    reason: str


class OrderDenied(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """An intent was refused here; it never left. For an order, a cancel or a replace."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    reason: DenialReason
    detail: str = ""
    passes_at: Decimal | None = None  #: the largest quantity that would have passed this check
    verdict: Verdict | None = None  #: the numbers, where the decision got that far


class OrderSubmitted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An intent passed every check; from here on its exposure is reserved. Also the command to the broker."""

    ts: int
    order: PlaceOrder  #: as it goes to the broker: a plugged-in rule may have changed it
    verdict: Verdict


class OrderAccepted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The broker has the order."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str


class OrderRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The broker refused the order."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    reason: str


class OrderFilled(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """Some or all of an order traded; ``symbol`` is the leg's, ``leaves_qty`` the order's."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    fees: Decimal
    exec_id: str
    cum_qty: Decimal  #: of the order, in its own unit
    leaves_qty: Decimal
    late: bool = False  #: the order had already ended: booked, and an alarm


class CancelSubmitted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A cancel goes to the broker."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str


class ReplaceSubmitted(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """A replace goes to the broker; until it is resolved the larger of both is reserved."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    qty: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    verdict: Verdict | None = None


class OrderCanceled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The order is no longer working, by our wish or the broker's."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    cum_qty: Decimal
    reason: str = ""


class OrderReplaced(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """The broker works the order with new terms."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    qty: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class OrderExpired(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The order's time in force ended."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    cum_qty: Decimal
    reason: str = ""


class RequestRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The broker refused a cancel or a replace; the order works on."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    request: str  #: "cancel" or "replace"
    reason: str


class OrderUnknown(msgspec.Struct, frozen=True, gc=False, tag=True):
    """What became of the order is not known; its exposure stays reserved until there is evidence."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    reason: str


class PositionAdjusted(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """A position or cash changed without an order: split, dividend, expiry, exercise, assignment, fee."""

    ts: int
    strategy: str
    account: str
    symbol: str
    kind: ActivityKind
    record_id: str  #: the broker's
    qty: Decimal  #: signed change
    cash: Decimal  #: signed change
    price: Decimal  #: at which the change is booked; for a split, new shares for one old
    text: str = ""


class BreakFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The books and the broker differ, or a report fits no order."""

    ts: int
    account: str
    what: str  #: "position", "cash", "order", "report"
    key: str  #: symbol, currency, order id
    ours: str
    theirs: str


class ReconcileCompleted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The books were compared with the broker's snapshot."""

    ts: int
    account: str
    breaks: int


class Holding(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A position of one strategy's book, in a snapshot."""

    account: str
    strategy: str
    symbol: str
    qty: Decimal


class Working(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A working order, in a snapshot."""

    order_id: str
    status: OrderStatus
    cum_qty: Decimal
    leaves_qty: Decimal


class Books(msgspec.Struct, frozen=True, gc=False):
    """All that the log says about cash, positions and orders; sorted, so that equal books are equal bytes.

    Positions of zero are left out. Quantities and cash are normalised (``model.journal.plain``).
    """

    cash: dict[str, Decimal]
    holdings: tuple[Holding, ...]
    orders: tuple[Working, ...]


class SnapshotTaken(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The books at this place of the log, and their sha256; a fold of the log up to here must give the same."""

    ts: int
    books: Books
    digest: str


MarketEvent = Bar | Quote | Trade | Halt
Intent = PlaceOrder | ReplaceOrder | CancelOrder | SetTimer
Decision = Signal | NoSignal
Clock = SessionOpened | SessionClosed | TimerFired
Operator = SetTradingState | SetLimits | Grant
BrokerEvent = ExecutionReport | AccountActivity | BrokerSnapshot
Lifecycle = RunStarted | RunFinished | TapeRead | AccountOpened | StrategyStarted | StrategyStopped | GatewayStarted
Input = MarketEvent | Intent | Clock | Operator | BrokerEvent | AccountOpened
OrderFact = (
    OrderDenied | OrderSubmitted | OrderAccepted | OrderRejected | OrderFilled | OrderCanceled | OrderReplaced | OrderExpired
    | OrderUnknown | CancelSubmitted | ReplaceSubmitted | RequestRejected
)
Fact = (
    OrderFact | GrantChanged | LimitsChanged | TradingStateChanged | PositionAdjusted | BreakFound | ReconcileCompleted
    | SnapshotTaken
)
Event = Input | Decision | Fact | Lifecycle | World

#: Events that follow from nothing of ours: what the world, a person or a strategy's own judgement put in.
INPUTS: tuple[type, ...] = (
    Bar, Quote, Trade, Halt, SessionOpened, SessionClosed, SetTradingState, SetLimits, Grant, AccountActivity, BrokerSnapshot,
    RunStarted, RunFinished, TapeRead, AccountOpened, StrategyStarted, StrategyStopped, GatewayStarted, *get_args(World),
)
