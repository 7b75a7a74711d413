"""What a run left: its journal, and tables, figures and metrics derived from it when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from northstar_core.model import events as e
from northstar_core.model.instrument import exact, instrument
from northstar_core.model.journal import Journal
from northstar_core.model.order import PlaceOrder
from northstar_core.model.tape import Tape
from northstar_core.research import metrics
from northstar_core.research.limits import LimitSet
from northstar_core.strategy.base import Strategy

if TYPE_CHECKING:
    import pandas as pd

ZERO = Decimal(0)


class Result:
    """A finished (or stopped) backtest.

    Tables are pandas DataFrames with tz-aware New York times; money in them is ``Decimal``. ``equity`` is marked at bar closes and
    derived from the fills and the tape, in float.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        tape: Tape,
        cash: Decimal,
        strategies: Sequence[Strategy],
        limits: LimitSet,
        assumptions: dict[str, str],
        outcome: str,
        detail: str,
        seconds: float,
    ) -> None:
        self.journal = journal
        self.tape = tape
        self.cash = cash
        self.strategies = list(strategies)
        self.limits = limits
        self.assumptions = assumptions
        self.outcome = outcome
        self.detail = detail
        self.seconds = seconds

    # ── figures of the whole ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def bars(self) -> int:
        """Bars consumed."""
        bars = self.tape.bars
        return 0 if bars is None else int(np.searchsorted(bars.ts, self.journal.records[-1].ts, side="right"))

    @property
    def rows(self) -> int:
        """Rows of the tape consumed: bars, quotes and prints."""
        return self.journal.ticks

    @property
    def digest(self) -> str:
        """The head of the journal's hash chain: equal runs have equal digests."""
        return self.journal.head.hex()

    def of(self, *kinds: type) -> list[Any]:
        """Return the events of these kinds, in order."""
        return [record.event for record in self.journal.records if type(record.event) in kinds]

    @cached_property
    def fill_events(self) -> list[e.OrderFilled]:
        """Every fill."""
        return self.of(e.OrderFilled)

    @cached_property
    def adjustments(self) -> list[e.PositionAdjusted]:
        """Every change of a position without an order."""
        return self.of(e.PositionAdjusted)

    @cached_property
    def books(self) -> e.Books:
        """The books at the end."""
        taken: list[e.SnapshotTaken] = self.of(e.SnapshotTaken)
        return taken[-1].books

    @cached_property
    def final_equity(self) -> Decimal:
        """Cash plus positions at the last price each symbol showed, exact, in dollars."""
        total = sum(self.books.cash.values(), ZERO)
        for held in self.books.holdings:
            total += held.qty * instrument(held.symbol).multiplier * exact(self._last_price(held.symbol))
        return total

    @property
    def pnl(self) -> Decimal:
        """Final equity less opening cash."""
        return self.final_equity - self.cash

    @property
    def fees(self) -> Decimal:
        """Commissions and regulatory fees paid."""
        return sum((fill.fees for fill in self.fill_events), ZERO)

    def _last_price(self, symbol: str) -> float:
        times, prices = self._marks(symbol)
        return float(prices[-1]) if len(times) else 0.0

    def _marks(self, symbol: str) -> tuple[Any, Any]:
        """Times and prices at which a symbol was marked, among the rows consumed."""
        end = self.journal.records[-1].ts
        for table, column in ((self.tape.bars, "close"), (self.tape.quotes, "mid"), (self.tape.trades, "price")):
            if table is None or symbol not in table.symbols:
                continue
            rows = np.flatnonzero((table.code == table.symbols.index(symbol)) & (table.ts <= end))
            if not len(rows):
                continue
            if column == "mid":
                bid, ask = table.bid[rows], table.ask[rows]
                prices = np.where((bid > 0) & (ask > 0), (bid + ask) / 2, np.maximum(bid, ask))
                seen = prices > 0
                return table.ts[rows][seen], prices[seen]
            return table.ts[rows], getattr(table, column)[rows]
        return np.array([], dtype=np.int64), np.array([])

    # ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def events(self) -> pd.DataFrame:
        """The whole timeline: one row an event, indexed by its number."""
        import pandas as pd

        from northstar_core.model.journal import encode

        rows = [
            (r.seq, r.ts, r.cause, type(r.event).__name__, _key(r.event, "strategy"), _key(r.event, "symbol"),
             _key(r.event, "order_id"), encode(r.event).decode())
            for r in self.journal.records
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["seq", "time", "cause", "kind", "strategy", "symbol", "order_id", "event"]).set_index("seq")
        frame["time"] = _times(frame["time"])
        return frame

    @cached_property
    def orders(self) -> pd.DataFrame:
        """Every order asked for: what, when, where it ended, and why it was denied where it was."""
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {}
        for event in self.of(PlaceOrder, e.OrderDenied, *_ENDS, e.OrderSubmitted, e.OrderFilled):
            if isinstance(event, PlaceOrder):
                rows.setdefault(event.order_id, {
                    "time": event.ts, "strategy": event.strategy, "symbol": event.symbol, "side": str(event.side), "qty": event.qty,
                    "type": str(event.order_type), "limit_price": event.limit_price, "stop_price": event.stop_price,
                    "tif": str(event.tif), "status": "ASKED", "filled_qty": ZERO, "avg_price": None, "fees": ZERO, "reason": "",
                    "_value": ZERO, "_units": ZERO,
                })  # fmt: skip
                continue
            order_id = event.order.order_id if isinstance(event, e.OrderSubmitted) else event.order_id
            row = rows.get(order_id)
            if row is None:
                continue
            if isinstance(event, e.OrderDenied):
                if row["status"] == "ASKED":
                    row["status"], row["reason"] = "DENIED", f"{event.reason} {event.detail}".strip()
            elif isinstance(event, e.OrderFilled):
                row["filled_qty"], row["fees"] = event.cum_qty, row["fees"] + event.fees
                row["_value"] += event.qty * event.price * (1 if event.side == row["side"] else -1)
                row["status"] = "FILLED" if not event.leaves_qty else "PARTIALLY_FILLED"
                if event.cum_qty:
                    row["avg_price"] = row["_value"] / event.cum_qty
            else:
                row["status"] = _ENDS.get(type(event), "SUBMITTED")
                row["reason"] = getattr(event, "reason", "")
        frame = pd.DataFrame.from_dict(rows, orient="index")
        if not rows:
            return pd.DataFrame(columns=["time", "strategy", "symbol", "side", "qty", "type", "status"])
        frame.index.name = "order_id"
        frame["time"] = _times(frame["time"])
        return frame.drop(columns=["_value", "_units"])

    @cached_property
    def fills(self) -> pd.DataFrame:
        """Every fill, leg by leg."""
        import pandas as pd

        names = ["time", "strategy", "symbol", "side", "qty", "price", "fees", "order_id", "exec_id"]
        frame = pd.DataFrame(
            [(f.ts, f.strategy, f.symbol, str(f.side), f.qty, f.price, f.fees, f.order_id, f.exec_id) for f in self.fill_events],
            columns=names,
        )
        frame["time"] = _times(frame["time"])
        return frame

    @cached_property
    def round_trips(self) -> list[metrics.RoundTrip]:
        """Entries matched with exits, first in first out."""
        return metrics.round_trips_of(self.fill_events, self.adjustments)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Every round trip: entry, exit, profit."""
        import msgspec
        import pandas as pd

        fields = metrics.RoundTrip.__struct_fields__
        frame = pd.DataFrame([msgspec.structs.astuple(trip) for trip in self.round_trips], columns=list(fields))
        for name in fields:
            if name.endswith("_ts"):
                frame[name] = _times(frame[name])
        return frame

    @cached_property
    def equity(self) -> pd.DataFrame:
        """Equity at each instant a price became known: columns ``equity``, ``cash``, ``exposure`` (gross), ``drawdown``."""
        import pandas as pd

        ts, equity, cash, exposure = self.equity_arrays()
        frame = pd.DataFrame({"equity": equity, "cash": cash, "exposure": exposure}, index=_times(pd.Series(ts)).array)
        frame.index.name = "time"
        frame["drawdown"] = frame["equity"] / frame["equity"].cummax() - 1
        return frame

    def equity_arrays(self) -> tuple[Any, Any, Any, Any]:
        """Return times (ns), equity, cash and gross exposure, each of shape (n,): marked at the latest price at each time."""
        end = self.journal.records[-1].ts
        moves: dict[str, list[tuple[int, float]]] = {}
        cash_ts, cash_move = [], []
        for record in self.journal.records:
            event = record.event
            if isinstance(event, e.OrderFilled):
                signed = event.qty * event.side.sign
                moves.setdefault(event.symbol, []).append((event.ts, float(signed)))
                cash_ts.append(event.ts)
                cash_move.append(float(-signed * event.price * instrument(event.symbol).multiplier - event.fees))
            elif isinstance(event, e.PositionAdjusted):
                if event.qty:
                    moves.setdefault(event.symbol, []).append((event.ts, float(event.qty)))
                if event.cash:
                    cash_ts.append(event.ts)
                    cash_move.append(float(event.cash))
        ts = np.unique(np.concatenate([t.ts for t in self.tape.tables]))
        ts = ts[ts <= end]
        cash = float(self.cash) + _steps(ts, cash_ts, cash_move)
        equity, exposure = cash.copy(), np.zeros(len(ts))
        for symbol, changes in moves.items():
            times, prices = self._marks(symbol)
            if not len(times):
                continue
            at = np.searchsorted(times, ts, side="right") - 1
            mark = np.where(at >= 0, prices[np.maximum(at, 0)], prices[0])
            value = _steps(ts, [t for t, _ in changes], [q for _, q in changes]) * mark * instrument(symbol).multiplier
            equity += value
            exposure += np.abs(value)
        return ts, equity, cash, exposure

    # ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric of ``research.metrics.DEFINITIONS``; nan where there is nothing to measure."""
        return metrics.summary_of(self)

    # ── looks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        """What ran, over what, and what came of it."""
        names = ", ".join(s.strategy_id for s in self.strategies)
        return (
            f"<run of {names}: {self.rows:,} rows of {', '.join(self.tape.symbols[:6])}, {len(self.fill_events):,} fills, "
            f"P&L {self.pnl:,.2f}, {self.outcome}>"
        )


_ENDS = {
    e.OrderRejected: "REJECTED", e.OrderCanceled: "CANCELED", e.OrderExpired: "EXPIRED", e.OrderUnknown: "UNKNOWN",
}  # fmt: skip


def _key(event: Any, name: str) -> str:
    """A key of an event, or of the order it carries."""
    found = getattr(event, name, None)
    if found is None and isinstance(event, e.OrderSubmitted):
        found = getattr(event.order, name)
    return found or ""


def _times(ns: Any) -> Any:
    """Nanoseconds UTC as New York times."""
    import pandas as pd

    return pd.to_datetime(pd.Series(ns, dtype="int64"), unit="ns", utc=True).dt.tz_convert("America/New_York")


def _steps(ts: Any, times: list[int], moves: list[float]) -> Any:
    """The running sum of moves, as known at each of ``ts``; a move at an instant counts at that instant."""
    if not times:
        return np.zeros(len(ts))
    order = np.argsort(np.array(times), kind="stable")
    at = np.array(times)[order]
    total = np.concatenate([[0.0], np.cumsum(np.array(moves)[order])])
    return total[np.searchsorted(at, ts, side="right")]
