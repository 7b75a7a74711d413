"""Journal lines for the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal as D
from itertools import count

from northstar_core.model import events as e
from northstar_core.model import journal
from northstar_core.model.account import LegState, Verdict
from northstar_core.model.order import OrderType, PlaceOrder, Side

T0 = 1_700_000_000_000_000_000
MINUTE = 60 * 10**9
VERDICT = Verdict(
    448.12, T0, MINUTE, D("448.12"), D("44812"), (LegState("SPY", D(0), D(0), D(0)),), 44812.0, 44812.0, 44812.0,
    44812.0, 100000.0, 0, 0, 0,
)  # fmt: skip
_runs = count(1)


def run_id() -> str:
    """A run id no other test has."""
    return f"run-{next(_runs)}"


class Lines:
    """Writes journal lines as a backtest does; market rows take numbers too."""

    def __init__(self) -> None:
        self.seq = 0
        self.lines: list[bytes] = []

    def put(self, event: e.Event, cause: int = 0) -> int:
        self.seq += 1
        self.lines.append(b"%d 0 %d %d %b" % (self.seq, event.ts, cause, journal.encode(event)))
        return self.seq

    def order(self, n: int, side: Side = Side.BUY, qty: str = "100", price: str = "448.13", fill: bool = True) -> str:
        """An order from its signal to its fill, two bars later."""
        self.seq += 2
        order_id, ts = f"sma-s1-{n}", T0 + n * MINUTE
        signal = self.put(e.Signal(ts, "sma", "SPY", n, "cross", 1.5, {"fast": 448.1}))
        order = PlaceOrder(
            ts, order_id, "sma", "backtest", "SPY", side, D(qty), OrderType.LIMIT, limit_price=D(price), signal=n
        )
        intent = self.put(order, signal)
        submitted = self.put(e.OrderSubmitted(ts, order, VERDICT), intent)
        accepted = self.put(e.OrderAccepted(ts, order_id, "sma", "backtest", "SPY"), submitted)
        if fill:
            self.seq += 1
            self.put(
                e.OrderFilled(
                    ts + MINUTE, order_id, "sma", "backtest", "SPY", side, D(qty), D(price), D("1.00"), f"x{n}", D(qty),
                    D(0),
                ),
                accepted,
            )
        return order_id


def day(orders: int) -> list[bytes]:
    """The lines of a day with this many filled orders, alternating sides."""
    lines = Lines()
    for n in range(1, orders + 1):
        lines.order(n, Side.BUY if n % 2 else Side.SELL)
    return lines.lines


def chained(lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each line with its hash."""
    return zip(lines, journal.chain(lines), strict=True)
