"""What a run left: its journal, and tables, figures and metrics derived from it when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from northstar_core.model import events as e
from northstar_core.model.instrument import exact, instrument
from northstar_core.model.journal import Journal, plain
from northstar_core.model.limit_sets import LimitSet
from northstar_core.model.order import PlaceOrder
from northstar_core.model.tape import Tape
from northstar_core.research import costs, metrics
from northstar_core.research.curve import Curve, equity_curve, marks
from northstar_core.strategy.base import Strategy

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from northstar_core.research.tearsheet import TearSheet

ZERO = Decimal(0)


class Result:
    """A finished (or stopped) backtest.

    Tables are pandas DataFrames with tz-aware New York times; money in them is ``Decimal``. ``equity`` is marked at bar
    closes and derived from the fills and the tape, in float.
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
        return 0 if bars is None else int(np.searchsorted(bars.ts, self.end, side="right"))

    @property
    def rows(self) -> int:
        """Rows of the tape consumed: bars, quotes and prints."""
        return self.journal.ticks

    @property
    def start(self) -> int:
        """When the run began, ns UTC; 0 if it never did."""
        return self.journal.records[0].ts if self.journal.records else 0

    @property
    def end(self) -> int:
        """How far the run got, ns UTC; 0 if it never began."""
        return self.journal.records[-1].ts if self.journal.records else 0

    @property
    def synthetic(self) -> bool:
        """Whether any of the data were generated."""
        made = ("synthetic", "generated")
        return any(s.layout in made or s.name.startswith(made) for s in self.tape.sources)

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

    @property
    def moves(self) -> list[e.OrderFilled | e.PositionAdjusted]:
        """Whatever changed positions or cash."""
        return [*self.fill_events, *self.adjustments]

    @cached_property
    def books(self) -> e.Books:
        """The books at the end; of a run that has not ended, what its fills and adjustments add up to."""
        if self.journal.records and isinstance(self.journal.records[-1].event, e.RunFinished):
            taken: list[e.SnapshotTaken] = self.of(e.SnapshotTaken)
            return taken[-1].books
        opened: list[e.AccountOpened] = self.of(e.AccountOpened)
        account = opened[0].account if opened else "main"
        cash, held = self.cash, dict[tuple[str, str, str], Decimal]()
        for fill in self.fill_events:
            signed = fill.qty * fill.side.sign
            cash -= signed * fill.price * instrument(fill.symbol).multiplier + fill.fees
            key = (fill.account, fill.strategy, fill.symbol)
            held[key] = held.get(key, ZERO) + signed
        for change in self.adjustments:
            cash += change.cash
            key = (change.account, change.strategy, change.symbol)
            held[key] = held.get(key, ZERO) + change.qty
        holdings = tuple(e.Holding(*key, plain(qty)) for key, qty in sorted(held.items()) if qty)
        return e.Books(cash={account: plain(cash)}, holdings=holdings, orders=())

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
        times, prices = self.marks(symbol)
        return float(prices[-1]) if len(times) else 0.0

    def marks(self, symbol: str) -> tuple[Any, Any]:
        """Return the times (ns UTC) and prices at which a symbol was marked (``curve.marks``)."""
        return marks(self.tape, symbol, self.end, self.moves)

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
        names = ["seq", "time", "cause", "kind", "strategy", "symbol", "order_id", "event"]
        frame = pd.DataFrame(rows, columns=names).set_index("seq")
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
                    "time": event.ts, "strategy": event.strategy, "symbol": event.symbol, "side": str(event.side),
                    "qty": event.qty, "type": str(event.order_type), "limit_price": event.limit_price,
                    "stop_price": event.stop_price, "tif": str(event.tif), "status": "ASKED", "filled_qty": ZERO,
                    "avg_price": None, "fees": ZERO, "reason": "", "_value": ZERO,
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
        return frame.drop(columns=["_value"])

    @cached_property
    def fills(self) -> pd.DataFrame:
        """Every fill, leg by leg."""
        import pandas as pd

        names = ["time", "strategy", "symbol", "side", "qty", "price", "fees", "order_id", "exec_id"]
        rows = [
            (f.ts, f.strategy, f.symbol, str(f.side), f.qty, f.price, f.fees, f.order_id, f.exec_id)
            for f in self.fill_events
        ]
        frame = pd.DataFrame(rows, columns=names)
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
        """Equity at each instant a price became known: ``equity``, ``cash``, ``exposure`` (gross), ``drawdown``."""
        import pandas as pd

        ts, equity, cash, exposure = self.curve
        frame = pd.DataFrame({"equity": equity, "cash": cash, "exposure": exposure}, index=_times(pd.Series(ts)).array)
        frame.index.name = "time"
        frame["drawdown"] = self.curve.drawdown(float(self.cash))
        return frame

    @cached_property
    def returns(self) -> pd.Series[float]:
        """Returns of equity from session close to session close, by the session's date (``metrics.daily_returns``)."""
        import pandas as pd

        ts, equity, _, _ = self.curve
        sessions = [s for s in self.tape.sessions if len(ts) and s.close >= ts[0]]
        values = metrics.daily_returns(equity, [s.close for s in sessions], float(self.cash), ts)
        labels = [session.label for session in sessions[: len(values)]]
        if len(labels) < len(values):  # a tape without sessions is one span
            labels = [stamp.date() for stamp in _times(pd.Series(ts[-1:]))]
        return pd.Series(values, index=pd.DatetimeIndex(labels, name="session"), name="return", dtype=float)

    @cached_property
    def curve(self) -> Curve:
        """``equity`` as arrays."""
        return equity_curve(self.tape, float(self.cash), self.moves, self.end)

    def equity_arrays(self) -> tuple[Any, Any, Any, Any]:
        """Return times (ns), equity, cash and gross exposure, each of shape (n,)."""
        return self.curve

    # ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric of ``research.metrics.DEFINITIONS``; nan where there is nothing to measure."""
        return metrics.summary_of(self)

    @cached_property
    def traded(self) -> Decimal:
        """Value bought plus value sold, in dollars."""
        return sum((abs(f.qty * f.price) * instrument(f.symbol).multiplier for f in self.fill_events), ZERO)

    @cached_property
    def fees_split(self) -> dict[str, Decimal]:
        """Fees by who takes them: ``commission`` and ``regulatory`` (``costs.fees_split``)."""
        return costs.fees_split(self.fill_events, self.assumptions)

    @cached_property
    def shortfall(self) -> Decimal:
        """What fills cost against the price each order was decided on, in dollars (``costs.shortfall``)."""
        return costs.shortfall(self.fill_events, self.of(e.OrderSubmitted))

    # ── looks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def plot(self, symbol: str | None = None) -> go.Figure:
        """Return a figure: equity, drawdown and exposure; of a symbol, its candles with the run's fills on them.

        Raises
        ------
        ParameterError
            If the run's data have no such symbol.
        """
        from northstar_core.research import figures

        return figures.equity_figure(self) if symbol is None else figures.price_figure(self, symbol)

    def tear_sheet(self) -> TearSheet:
        """Return the run as a page: figures, trades, metrics, costs, assumptions, provenance."""
        from northstar_core.research.tearsheet import tear_sheet

        return tear_sheet(self)

    def __repr__(self) -> str:
        """What ran, over what, and what came of it."""
        names = ", ".join(s.strategy_id for s in self.strategies)
        return (
            f"<run of {names}: {self.rows:,} rows of {', '.join(self.tape.symbols[:6])}, "
            f"{len(self.fill_events):,} fills, P&L {self.pnl:,.2f}, {self.outcome}>"
        )


_ENDS: dict[type, str] = {
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
