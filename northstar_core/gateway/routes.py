"""Who hears a market event: looked up once a symbol, gathered for a batch, given to each strategy in session in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from northstar_core.model.market import MarketEvent, Quote, Trade
from northstar_core.model.wire import item

Entry = tuple[int, MarketEvent, bytes]  #: number, event, the event encoded: once for all


class Audience:
    """Seats that hear the same, and what of a batch they hear."""

    __slots__ = ("entries", "seats")

    def __init__(self, seats: tuple[Any, ...]) -> None:
        self.seats = seats
        self.entries: list[Entry] = []


class Routes:
    """From events to seats.

    Parameters
    ----------
    seats
        Returns who is in session.
    """

    def __init__(self, seats: Callable[[], Iterable[Any]]) -> None:
        self._seats = seats
        self._listening: dict[str, tuple[Any, ...]] = {}  # by symbol
        self._quotes: dict[str, Audience] = {}  # by symbol: who hears one quote of it hears all
        self._trades: dict[str, Audience] = {}
        self._audiences: dict[tuple[Any, ...], Audience] = {}
        self._touched: list[Audience] = []

    def clear(self) -> None:
        """Somebody came or left."""
        for known in (self._listening, self._quotes, self._trades, self._audiences):
            known.clear()

    def take(self, seq: int, event: MarketEvent) -> None:
        """Gather a market event for those who hear it."""
        kind, symbol = type(event), event.symbol
        if kind is Quote or kind is Trade:
            known = self._quotes if kind is Quote else self._trades
            audience = known.get(symbol)
            if audience is None:
                audience = known[symbol] = self._of(event)
        else:
            audience = self._of(event)  # each bar is heard once
        if audience.seats:
            if not audience.entries:
                self._touched.append(audience)
            audience.entries.append((seq, event, item(seq, event)))

    def _of(self, event: MarketEvent) -> Audience:
        listening = self._listening.get(event.symbol)
        if listening is None:
            listening = self._listening[event.symbol] = tuple(seat for seat in self._seats() if seat.listens(event.symbol))
        seats = tuple(seat for seat in listening if seat.hears(event))
        audience = self._audiences.get(seats)
        if audience is None:
            audience = self._audiences[seats] = Audience(seats)
        return audience

    def given(self) -> Iterator[tuple[Any, list[Entry]]]:
        """Yield each seat with what was gathered for it, in the order of numbers, and begin anew."""
        touched, self._touched = self._touched, []
        parts: dict[Any, list[list[Entry]]] = {}
        for audience in touched:
            entries, audience.entries = audience.entries, []
            for seat in audience.seats:
                parts.setdefault(seat, []).append(entries)
        for seat, lists in parts.items():
            yield seat, lists[0] if len(lists) == 1 else sorted((entry for part in lists for entry in part), key=_number)


def _number(entry: Entry) -> int:
    return entry[0]
