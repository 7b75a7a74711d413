"""Bracket exits: held here until their entry has done filling, then sent for what it filled; what one exits, the others let go.

An exit is sent once its entry is complete, or has ended with something filled, for no more than that. When an exit fills in part, its
siblings are reduced to what is left; when nothing is left they are cancelled. An entry that ends without a fill takes its exits along.
Exits that are held are known to nobody but this process: after a restart ``find`` takes each up again.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from northstar_core.brokers.ibkr.life import Life
from northstar_core.model.order import OrderType

ZERO = Decimal(0)
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


class Send(msgspec.Struct, frozen=True):
    """Send a held exit, for so much."""

    life: Life
    qty: Decimal


class Drop(msgspec.Struct, frozen=True):
    """End a held exit that was never sent."""

    life: Life
    why: str


class Reduce(msgspec.Struct, frozen=True):
    """Let a working exit be for so much in all."""

    life: Life
    qty: Decimal


class Cancel(msgspec.Struct, frozen=True):
    """Cancel a working exit."""

    life: Life


Action = Send | Drop | Reduce | Cancel


class Brackets:
    """Exits by the id of their entry.

    Parameters
    ----------
    entry
        The entry of this id, as far as it is known.
    booked
        How much of an order has been booked.
    """

    def __init__(self, entry: Callable[[str], Life | None], booked: Callable[[Life], Decimal]) -> None:
        self._entry, self._booked = entry, booked
        self._exits: dict[str, dict[str, Life]] = {}
        self.held: dict[str, Life] = {}  #: not sent yet, by id
        self._asked: dict[str, Decimal] = {}  # last reduction asked for; ZERO: a cancel

    def add(self, life: Life, *, held: bool) -> None:
        """Know an exit: held, or at the broker already."""
        self._exits.setdefault(life.order.parent, {})[life.order.order_id] = life
        if held:
            self.held[life.order.order_id] = life

    def release(self, life: Life) -> None:
        """A held exit leaves, or ends."""
        self.held.pop(life.order.order_id, None)

    def again(self, life: Life) -> None:
        """What was asked for of an exit may have come to nothing: it may be asked for again."""
        self._asked.pop(life.order.order_id, None)

    def react(self) -> list[Action]:
        """Return what is to be done now; each thing is asked for once."""
        out: list[Action] = []
        for parent, exits in list(self._exits.items()):
            entry = self._entry(parent)
            if entry is None:
                continue
            filled = self._booked(entry)
            if not (entry.end is not None or filled >= entry.terms.qty):
                continue
            left = filled - sum((self._booked(life) for life in exits.values()), ZERO)
            for life in sorted(exits.values(), key=lambda life: life.order.order_type not in STOPS):  # protection first
                action = self._about(life, filled, left)
                if action is not None:
                    out.append(action)
            if all(life.end is not None for life in exits.values()):
                del self._exits[parent]
        return out

    def _about(self, life: Life, filled: Decimal, left: Decimal) -> Action | None:
        order_id = life.order.order_id
        if order_id in self.held:
            self.held.pop(order_id)
            if left > 0:
                return Send(life, min(life.terms.qty, left))
            return Drop(life, "its position is closed" if filled else "its entry ended without a fill")
        if life.end is not None or not life.broker_id:
            return None
        if left <= 0:
            most = ZERO
        else:
            most = self._booked(life) + left
            if most >= life.terms.qty:
                return None
        if self._asked.get(order_id) == most:
            return None
        self._asked[order_id] = most
        return Reduce(life, most) if most else Cancel(life)
