"""The desk's log as the gateway writes it: numbers for events and ticks, lines for the store, nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from northstar_core.model.events import Event
from northstar_core.model.journal import encode
from northstar_core.model.market import MarketEvent


class Store(Protocol):
    """Makes lines and ticks durable in the order in which they are handed over; ``store.events.EventWriter`` is one."""

    def put(self, lines: list[bytes]) -> None:
        """Hand over journal lines."""

    def put_ticks(self, first_seq: int, ticks: Sequence[MarketEvent]) -> None:
        """Hand over market events of consecutive numbers."""


class DeskLog:
    """Numbers what happens on the desk and hands it to the store.

    Parameters
    ----------
    next_seq
        The number of the first event.
    epoch
        Of this gateway.
    """

    def __init__(self, next_seq: int, epoch: int, ticks: int = 0) -> None:
        self.seq = next_seq - 1  #: the last number given
        self.epoch = epoch
        self.ticks = ticks  #: market rows ever numbered
        self.last_event = self.seq  #: number of the last event: what must be durable before anything after it goes out
        self.lines: list[bytes] = []
        self._parcels: list[tuple[int, list[MarketEvent]] | list[bytes]] = []
        self._run: list[MarketEvent] = []  #: ticks of consecutive numbers

    def last(self) -> int:
        """``seq``, for those who ask again and again."""
        return self.seq

    def append(self, event: Event, ts: int, cause: int = 0) -> int:
        """Write an event down and return its number."""
        payload = encode(event)  # first: what cannot be written takes no number
        if self._run:
            self._end_run()
        self.seq = self.last_event = seq = self.seq + 1
        self.lines.append(b"%d %d %d %d %b" % (seq, self.epoch, ts, cause, payload))
        return seq

    def extend(self, events: Sequence[Event], ts: int, cause: int) -> int:
        """Write down what follows from one cause at one time, and return the number of the first."""
        first = self.seq + 1
        for event in events:
            self.append(event, ts, cause)
        return first

    def read(self, ticks: Sequence[MarketEvent]) -> int:
        """Number market events, at least one, and return the number of the first."""
        if self.lines:
            self._parcels.append(self.lines)
            self.lines = []
        first = self.seq + 1
        self._run.extend(ticks)
        self.ticks += len(ticks)
        self.seq += len(ticks)
        return first

    def tick(self, event: MarketEvent) -> int:
        """Number a market event."""
        return self.read((event,))

    def _end_run(self) -> None:
        run, self._run = self._run, []
        self._parcels.append((self.seq - len(run) + 1, run))

    def hand_over(self, store: Store) -> None:
        """Give the store all that it has not got."""
        if self._run:
            self._end_run()
        if self.lines:
            self._parcels.append(self.lines)
            self.lines = []
        parcels, self._parcels = self._parcels, []
        for parcel in parcels:
            if isinstance(parcel, tuple):
                store.put_ticks(*parcel)
            else:
                store.put(parcel)
