"""A small honest log, written by hand: each event says what it should, and each can be made to say something else."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from northstar_core.audit.chain import columns_of
from northstar_core.audit.verify import Row
from northstar_core.model import events as e
from northstar_core.model.account import AccountLimits, Grant, LegState, SessionRule, StrategyLimits, Verdict
from northstar_core.model.denial import DenialReason
from northstar_core.model.events import Event
from northstar_core.model.execution import (
    AccountActivity,
    ActivityKind,
    BrokerSnapshot,
    ExecType,
    ExecutionReport,
    HeldPosition,
    OpenOrder,
)
from northstar_core.model.journal import Journal, books_digest, chain
from northstar_core.model.order import CancelOrder, OrderStatus, OrderType, PlaceOrder, ReplaceOrder, Side

D = Decimal
MINUTE = 60_000_000_000
OPEN = 1_700_000_000_000_000_000
STRATEGY, ACCOUNT, SYMBOL = "sma", "sim-1", "SPY"
WHOSE = {"strategy": STRATEGY, "account": ACCOUNT, "symbol": SYMBOL}

STRATEGY_LIMITS = StrategyLimits(
    max_order_qty=D(500),
    max_order_contracts=D(10),
    max_order_value=D(60_000),
    collar=D("0.1"),
    market_reserve=D("0.02"),
    max_data_age_s=D(5),
    max_data_age_bars=D(1),
    max_position_qty=D(300),
    max_position_contracts=D(20),
    max_notional=D(50_000),
    max_open_orders=10,
    max_orders=100,
    window_s=D(60),
    session=SessionRule.REGULAR,
    allow_short=False,
    allow_uncovered=False,
)
ACCOUNT_LIMITS = AccountLimits(
    max_gross=D(80_000), max_net=D(80_000), max_symbol_share=D("0.6"), leverage=D(1), max_orders=200, window_s=D(60)
)


class Tick:
    """A consumed row of the tape: a number without an event."""


class Entry:
    """One event of the log under a name; ``cause`` is the name of what led to it, or a number."""

    def __init__(self, event: Event | Tick, cause: str | int) -> None:
        self.event, self.cause = event, cause


class Log:
    """Named entries in order. What a test changes is changed before the numbers and the chain are made."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def add(self, name: str, event: Event | Tick, cause: str | int = 0) -> None:
        """Append an entry."""
        assert name not in self.entries, name
        self.entries[name] = Entry(event, cause)

    def ticks(self, count: int) -> None:
        """Append consumed rows."""
        for _ in range(count):
            self.add(f"tick{len(self.entries)}", Tick())

    def insert(self, after: str, name: str, event: Event | Tick, cause: str | int = 0) -> None:
        """Put an entry behind another."""
        out = {}
        for key, entry in self.entries.items():
            out[key] = entry
            if key == after:
                out[name] = Entry(event, cause)
        self.entries = out

    def remove(self, *names: str) -> None:
        """Take entries out; the numbers close up."""
        for name in names:
            del self.entries[name]

    def change(self, name: str, **fields: object) -> None:
        """Let an event say something else; ``verdict__notional`` is a field of its verdict."""
        event = self.entries[name].event
        for key, value in fields.items():
            outer, _, inner = key.partition("__")
            event = msgspec.structs.replace(
                event, **{outer: msgspec.structs.replace(getattr(event, outer), **{inner: value}) if inner else value}
            )
        self.entries[name].event = event

    def seq(self, name: str) -> int:
        """Return an entry's number."""
        return list(self.entries).index(name) + 1

    def cause(self, entry: Entry) -> int:
        """Return the number of an entry's cause; the log's first where that was taken out."""
        if isinstance(entry.cause, int):
            return entry.cause
        return self.seq(entry.cause) if entry.cause in self.entries else 1

    def journal(self) -> Journal:
        """Return the journal of these entries."""
        journal = Journal()
        for entry in self.entries.values():
            if isinstance(entry.event, Tick):
                journal.ticks += 1
            else:
                cause = self.cause(entry)
                journal.append(entry.event, entry.event.ts, cause)
        return journal

    def lines(self) -> list[bytes]:
        """Return the lines of these entries."""
        return self.journal().lines()

    def rows(self) -> list[Row]:
        """Return the rows an event store would hold."""
        journal = self.journal()
        rows = []
        for record, text, link in zip(journal.records, journal.lines(), chain(journal.lines()), strict=True):
            kind, strategy, account, order_id = columns_of(record.event)
            rows.append(
                Row(
                    record.seq,
                    0,
                    record.ts,
                    record.cause,
                    kind,
                    strategy,
                    account,
                    order_id,
                    text.split(b" ", 4)[4],
                    link,
                )
            )
        return rows

    @property
    def head(self) -> tuple[int, bytes]:
        """Number and hash of the last line."""
        journal = self.journal()
        return journal.seq, journal.head


def verdict(
    price: float, ts: int, qty: int, *, held: int = 0, buying: int = 0, sell: bool = False, cash: str, limit: str = ""
) -> Verdict:
    """What the checks would have seen for an order in one symbol."""
    up, down = held + buying + (0 if sell else qty), held - (qty if sell else 0)
    worst = max(abs(up), abs(down)) * price
    reserve = D("0.98") if sell else D("1.02")
    at = D(limit) if limit else D(repr(price)) * reserve
    prices = {SYMBOL: price}
    return Verdict(
        ref=price,
        ref_ts=ts,
        ref_span=MINUTE,
        worst_price=at,
        value=qty * at,
        legs=(LegState(SYMBOL, D(held), D(buying), D(0)),),
        notional=worst,
        gross=worst,
        net=max(abs(up), abs(down)) * price,
        symbol_exposure=worst,
        equity=float(D(cash)) + held * price,
        open_orders=0,
        recent_orders=0,
        account_orders=0,
        prices=prices,
    )


def order_event(kind: type, name: str, ts: int, **more: object) -> Event:
    """An order fact of the only strategy."""
    return kind(ts=ts, order_id=name, **WHOSE, **more)


def report(name: str, ts: int, kind: ExecType, **more: object) -> ExecutionReport:
    """A message of the broker."""
    return ExecutionReport(ts=ts, order_id=name, exec_type=kind, **more)


def fill(
    log: Log,
    label: str,
    order_id: str,
    ts: int,
    side: Side,
    qty: int,
    price: str,
    cum: int,
    leaves: int,
    **more: object,
) -> None:
    """A report of a trade and the fact that follows from it."""
    exec_id = f"x-{label}"
    log.add(
        f"{label}-report",
        report(
            order_id,
            ts,
            ExecType.TRADE,
            exec_id=exec_id,
            symbol=SYMBOL,
            side=side,
            qty=D(qty),
            price=D(price),
            fees=D("0.35"),
        ),
        1,
    )
    log.add(
        label,
        order_event(
            e.OrderFilled,
            order_id,
            ts,
            side=side,
            qty=D(qty),
            price=D(price),
            fees=D("0.35"),
            exec_id=exec_id,
            cum_qty=D(cum),
            leaves_qty=D(leaves),
            **more,
        ),
        f"{label}-report",
    )


def accepted(log: Log, order_id: str, ts: int) -> None:
    """The broker has the order."""
    log.add(f"{order_id}-new", report(order_id, ts, ExecType.NEW), f"{order_id}-submit")
    log.add(f"{order_id}-accepted", order_event(e.OrderAccepted, order_id, ts), f"{order_id}-new")


def build() -> Log:
    """A day of one strategy: fills, a cancel, a replace, refusals, a dividend, a reconciliation, a snapshot."""
    log = Log()
    log.add(
        "run",
        e.RunStarted(
            ts=OPEN,
            strategies={STRATEGY: {}},
            code={"strategy": "ab"},
            data=(e.DataManifest(name="spy.csv", layout="ohlcv", sha256="cd" * 32, rows=12),),
            symbols=(SYMBOL,),
        ),
    )
    log.add("account", e.AccountOpened(ts=OPEN, account=ACCOUNT, broker="sim", cash=D(100_000)))
    for scope, limits in (
        (f"strategy:{STRATEGY}", {"strategy_limits": STRATEGY_LIMITS}),
        (f"account:{ACCOUNT}", {"account_limits": ACCOUNT_LIMITS}),
    ):
        log.add(f"set {scope}", e.SetLimits(ts=OPEN, scope=scope, name="research", who="run", **limits))
        log.add(
            f"limits {scope}",
            e.LimitsChanged(ts=OPEN, scope=scope, name="research", who="run", **limits),
            f"set {scope}",
        )
    log.add("grant", Grant(ts=OPEN, strategy=STRATEGY, account=ACCOUNT, symbols=(SYMBOL,)))
    log.add("granted", e.GrantChanged(OPEN, STRATEGY, ACCOUNT, (SYMBOL,)), "grant")
    log.add("started", e.StrategyStarted(OPEN, STRATEGY, ACCOUNT, "s1", warm_up=2))
    log.add("open", e.SessionOpened(OPEN, "2023-11-14", OPEN + 390 * MINUTE))
    log.ticks(3)
    t = OPEN + 3 * MINUTE
    log.add("signal", e.Signal(t, STRATEGY, SYMBOL, 1, "fast above slow", 1.5, {"fast": 101.0, "slow": 99.5}), 13)
    log.add("a-intent", PlaceOrder(t, "sma-s1-1", STRATEGY, ACCOUNT, SYMBOL, Side.BUY, D(100), signal=1), "signal")
    log.add(
        "sma-s1-1-submit",
        e.OrderSubmitted(t, log.entries["a-intent"].event, verdict(100.0, t, 100, cash="100000")),
        "a-intent",
    )
    accepted(log, "sma-s1-1", t)
    log.add("again", log.entries["a-intent"].event, 13)
    log.add("again-denied", order_event(e.OrderDenied, "sma-s1-1", t, reason=DenialReason.ORDER_ID_DUPLICATE), "again")
    log.add("other", msgspec.structs.replace(log.entries["a-intent"].event, qty=D(7)), 13)
    log.add("other-denied", order_event(e.OrderDenied, "sma-s1-1", t, reason=DenialReason.ORDER_ID_CONFLICT), "other")
    log.ticks(1)
    t += MINUTE
    fill(log, "fill1", "sma-s1-1", t, Side.BUY, 40, "100.1", 40, 60)
    fill(log, "fill2", "sma-s1-1", t, Side.BUY, 60, "100.2", 100, 0)
    log.add("read1", e.TapeRead(ts=t, table="bars", first_row=0, rows=4, digest="d1"))
    log.ticks(2)
    t += 2 * MINUTE
    log.add("quiet", e.NoSignal(t, STRATEGY, SYMBOL, 2, "fast below slow", {"fast": 99.0, "slow": 99.4}), 13)
    log.add("big-intent", PlaceOrder(t, "sma-s1-2", STRATEGY, ACCOUNT, SYMBOL, Side.BUY, D(450)), "quiet")
    big = verdict(100.0, t, 450, held=100, cash="89983.30")
    log.add(
        "big-denied",
        order_event(
            e.OrderDenied,
            "sma-s1-2",
            t,
            reason=DenialReason.POSITION_QTY_CAP,
            detail="symbol=SPY worst=550 cap=300",
            passes_at=D(200),
            verdict=big,
        ),
        "big-intent",
    )
    sale = PlaceOrder(t, "sma-s1-3", STRATEGY, ACCOUNT, SYMBOL, Side.SELL, D(50), OrderType.LIMIT, D("101.25"))
    log.add("b-intent", sale, "quiet")
    sold = verdict(100.0, t, 50, held=100, sell=True, cash="89983.30", limit="101.25")
    log.add("sma-s1-3-submit", e.OrderSubmitted(t, sale, sold), "b-intent")
    accepted(log, "sma-s1-3", t)
    log.add("replace-intent", ReplaceOrder(t, "sma-s1-3", STRATEGY, ACCOUNT, D(80), D("101.5")), "quiet")
    more = verdict(100.0, t, 80, held=100, sell=True, cash="89983.30", limit="101.5")
    log.add(
        "replace",
        order_event(e.ReplaceSubmitted, "sma-s1-3", t, qty=D(80), limit_price=D("101.5"), verdict=more),
        "replace-intent",
    )
    log.add("replaced-report", report("sma-s1-3", t, ExecType.REPLACED), "replace")
    log.add(
        "replaced", order_event(e.OrderReplaced, "sma-s1-3", t, qty=D(80), limit_price=D("101.5")), "replaced-report"
    )
    log.ticks(1)
    t += MINUTE
    fill(log, "fill3", "sma-s1-3", t, Side.SELL, 30, "101.5", 30, 50)
    log.add("cancel-intent", CancelOrder(t, "sma-s1-3", STRATEGY, ACCOUNT), "quiet")
    log.add("cancel", order_event(e.CancelSubmitted, "sma-s1-3", t), "cancel-intent")
    log.add("canceled-report", report("sma-s1-3", t, ExecType.CANCELED), "cancel")
    log.add("canceled", order_event(e.OrderCanceled, "sma-s1-3", t, cum_qty=D(30)), "canceled-report")
    fill(log, "late", "sma-s1-3", t, Side.SELL, 10, "101.5", 40, 40, late=True)
    log.add(
        "dividend",
        AccountActivity(t, ACCOUNT, ActivityKind.DIVIDEND, "div-1", SYMBOL, cash=D("12.5"), strategy=STRATEGY),
        1,
    )
    log.add(
        "paid",
        e.PositionAdjusted(t, STRATEGY, ACCOUNT, SYMBOL, ActivityKind.DIVIDEND, "div-1", D(0), D("12.5"), D("0.2083")),
        "dividend",
    )
    cash = D(100_000) - 40 * D("100.1") - 60 * D("100.2") + 40 * D("101.5") - 4 * D("0.35") + D("12.5")
    log.add("open-intent", PlaceOrder(t, "sma-s1-4", STRATEGY, ACCOUNT, SYMBOL, Side.BUY, D(5)), "quiet")
    last = verdict(101.5, t, 5, held=60, cash=str(cash))
    log.add("sma-s1-4-submit", e.OrderSubmitted(t, log.entries["open-intent"].event, last), "open-intent")
    accepted(log, "sma-s1-4", t)
    log.add(
        "broker",
        BrokerSnapshot(
            t, ACCOUNT, cash, (HeldPosition(SYMBOL, D(60)),), (OpenOrder("sma-s1-4", OrderStatus.NEW, D(5)),)
        ),
    )
    log.add("reconciled", e.ReconcileCompleted(t, ACCOUNT, 0), "broker")
    books = e.Books(
        {ACCOUNT: cash},
        (e.Holding(ACCOUNT, STRATEGY, SYMBOL, D(60)),),
        (e.Working("sma-s1-4", OrderStatus.NEW, D(0), D(5)),),
    )
    log.add("snapshot", e.SnapshotTaken(t, books, books_digest(books)), "reconciled")
    log.add("close", e.SessionClosed(OPEN + 390 * MINUTE, "2023-11-14"))
    log.add("expired-report", report("sma-s1-4", t, ExecType.EXPIRED), "close")
    log.add("expired", order_event(e.OrderExpired, "sma-s1-4", t, cum_qty=D(0)), "expired-report")
    log.ticks(2)
    log.add("read2", e.TapeRead(ts=t, table="bars", first_row=4, rows=5, digest="d2"))
    log.add("stopped", e.StrategyStopped(t, STRATEGY))
    log.add("end", e.RunFinished(ts=t, outcome="completed"))
    return log


@pytest.fixture
def log() -> Log:
    """A fresh honest log."""
    return build()
