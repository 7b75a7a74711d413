"""Lives of orders at Alpaca as lists of everything that may be heard of them: answers, stream events, list rows, activities."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from northstar_core.brokers.alpaca.wire import Event, Fill, Row, client_id, event_of, fill_of, rfc3339, row_of
from northstar_core.model.order import OrderType, PlaceOrder, Side

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
Piece = Row | Event | Fill


def order(order_id: str = "trend-20261120abc-1", qty: int = 100, **changes: Any) -> PlaceOrder:
    """Return a limit order of ours to buy."""
    given: dict[str, Any] = {
        "strategy": "trend", "account": "live-1", "symbol": "SPY", "side": Side.BUY, "order_type": OrderType.LIMIT,
        "limit_price": Decimal("450.00"),
    }  # fmt: skip
    return PlaceOrder(ts=T0, order_id=order_id, qty=Decimal(qty), **(given | changes))


class Life:
    """Plays Alpaca for one order and keeps every piece it says."""

    def __init__(self, ours: PlaceOrder) -> None:
        self.ours, self.n, self.ts = ours, 0, T0
        self.pieces: list[Piece] = []
        self.fills: list[Fill] = []
        self.rows: dict[str, dict[str, Any]] = {}
        self.id = self._open(ours.qty, 0)
        self.answer()
        self.say("pending_new")
        self.status("new")
        self.say("new")

    def _open(self, qty: Decimal, n: int, replaces: str | None = None) -> str:
        made = f"{'0123456789abcdef'[n]}{self.ours.order_id}"
        self.rows[made] = {
            "id": made, "client_order_id": client_id(self.ours.order_id, n), "symbol": self.ours.symbol, "side": "buy", "qty": str(qty),
            "type": "limit", "order_type": "limit", "order_class": "", "limit_price": "450", "stop_price": None, "filled_qty": "0",
            "filled_avg_price": None, "status": "pending_new", "replaces": replaces, "replaced_by": None, "legs": None,
            "submitted_at": rfc3339(T0 + n), "value": Decimal(0),
        }  # fmt: skip
        return made

    @property
    def row(self) -> dict[str, Any]:
        """The order in force."""
        return self.rows[self.id]

    def tick(self) -> int:
        """Let a second pass."""
        self.ts += SECOND
        return self.ts

    def status(self, word: str) -> None:
        """Move the order in force along."""
        self.row["status"] = word
        if word in ("filled", "canceled", "expired", "rejected", "replaced"):
            self.row[{"rejected": "failed"}.get(word, word) + "_at"] = rfc3339(self.tick())

    def answer(self, order_id: str | None = None) -> None:
        """Show the row, as an answer or a list does."""
        self.pieces.append(row_of(self.rows[order_id or self.id]))

    def say(self, event: str, order_id: str | None = None, **more: Any) -> None:
        """Send a stream event."""
        data = {"event": event, "timestamp": rfc3339(self.tick()), "order": self.rows[order_id or self.id], **more}
        self.pieces.append(event_of(data))

    def fill(self, qty: int, price: str) -> None:
        """Fill some of the order in force."""
        row = self.row
        total = Decimal(row["filled_qty"]) + qty
        row["value"] += qty * Decimal(price)
        row["filled_qty"], row["filled_avg_price"] = str(total), str(row["value"] / total)
        done = total == Decimal(row["qty"])
        self.status("filled" if done else "partially_filled")
        key = f"{self.id}/{total}"
        self.say("fill" if done else "partial_fill", qty=str(qty), price=price, execution_id=key)
        self.fills.append(
            fill_of(
                {
                    "id": key, "transaction_time": rfc3339(self.ts), "order_id": self.id, "symbol": row["symbol"], "side": "buy",
                    "qty": str(qty), "price": price, "cum_qty": str(total),
                }
            )
        )  # fmt: skip
        self.pieces.append(self.fills[-1])

    def replace(self, qty: int) -> None:
        """Replace the order in force by another of this quantity; the old one hands over."""
        old = self.id
        self.n += 1
        self.say("pending_replace")
        self.id = self._open(Decimal(qty), self.n, old)
        self.answer()
        self.rows[old]["replaced_by"] = self.id
        new, self.id = self.id, old
        self.status("replaced")
        self.say("replaced")
        self.id = new
        self.status("new")
        self.say("new")

    def end(self, word: str) -> None:
        """Cancel or expire the order in force."""
        if word == "canceled":
            self.status("pending_cancel")
            self.say("pending_cancel")
        self.status(word)
        self.say(word)
        self.answer()

    @property
    def open(self) -> bool:
        """Whether the order in force may still fill."""
        return self.row["status"] in ("new", "partially_filled", "pending_cancel")

    @property
    def leaves(self) -> int:
        """What may still fill."""
        return int(Decimal(self.row["qty"]) - Decimal(self.row["filled_qty"]))
