"""The log's own form: numbered, chained lines.

One event is one line of bytes: ``seq epoch ts cause payload``, four decimal integers and the event's JSON, separated by one
space, without a newline inside. ``hash_i = sha256(hash_{i-1} + line_i)`` with ``hash_0`` = 32 zero bytes, so the chain covers
the whole row; a row's other columns are derived from its payload.

``seq`` counts events *and* consumed market rows, from 1: a number that no event has is one consumed row of the tape, in tape
order, and the next ``TapeRead`` declares it. So the place of an event among the ticks is exact, and the ticks are not copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import NamedTuple

import msgspec

from northstar_core.model.errors import JournalError
from northstar_core.model.events import Books, Event

GENESIS = bytes(32)

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Event)


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event and where it stands in the log."""

    seq: int
    ts: int
    cause: int  #: seq of what led to it; 0 = nothing of ours
    event: Event


class Line(NamedTuple):
    """One line taken apart; ``payload`` is the event's JSON, not decoded."""

    seq: int
    epoch: int
    ts: int
    cause: int
    payload: bytes


def encode(event: Event) -> bytes:
    """Return an event's canonical bytes."""
    return _encode(event)


def decode(payload: bytes) -> Event:
    """Return the event these bytes are.

    Raises
    ------
    JournalError
        If they are no event.
    """
    try:
        event: Event = _decoder.decode(payload)
        return event
    except (msgspec.MsgspecError, ValueError) as error:  # a ValueError: bytes that are no UTF-8
        raise JournalError(f"not an event: {error}: {payload[:120]!r}") from None


def line(record: Record, epoch: int = 0) -> bytes:
    """Return a record's line, without a newline."""
    return b"%d %d %d %d %b" % (record.seq, epoch, record.ts, record.cause, _encode(record.event))


def parse(text: bytes) -> Line:
    """Take a line apart.

    Raises
    ------
    JournalError
        If it is not of the form ``seq epoch ts cause payload``.
    """
    try:
        seq, epoch, ts, cause, payload = text.split(b" ", 4)
        return Line(int(seq), int(epoch), int(ts), int(cause), payload)
    except ValueError:
        raise JournalError(f"not a journal line: {text[:120]!r}") from None


def link(previous: bytes, text: bytes) -> bytes:
    """Return the hash of a line, given the hash of the line before it."""
    return sha256(previous + text).digest()


def chain(lines: Iterable[bytes], previous: bytes = GENESIS) -> Iterator[bytes]:
    """Yield the hash of each line in turn."""
    for text in lines:
        previous = link(previous, text)
        yield previous


def plain(number: Decimal) -> Decimal:
    """Return the same number in its one plain form: no exponent, no trailing zeros; zero is ``0``."""
    if not number:
        return Decimal(0)
    number = number.normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number


def books_digest(books: Books) -> str:
    """Return the sha256 of the books' canonical bytes."""
    return sha256(_encode(books)).hexdigest()


class Journal:
    """An append-only list of records that numbers them; lines and their chain are made when asked for.

    ``ticks`` is how many market rows were consumed: they take part in the numbering.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self.records: list[Record] = []
        self.ticks = 0
        self._head = GENESIS
        self._linked = 0

    @property
    def seq(self) -> int:
        """The last number given, to an event or to a tick."""
        return self.ticks + len(self.records)

    def last(self) -> int:
        """``seq``, for those who ask again and again."""
        return self.ticks + len(self.records)

    def append(self, event: Event, ts: int, cause: int = 0) -> int:
        """Write an event down and return its number."""
        records = self.records
        seq = self.ticks + len(records) + 1
        records.append(Record(seq, ts, cause, event))
        return seq

    def extend(self, events: Sequence[Event], ts: int, cause: int) -> int:
        """Write down what follows from one cause at one time, and return the number of the first."""
        records = self.records
        seq = first = self.ticks + len(records) + 1
        for event in events:
            records.append(Record(seq, ts, cause, event))
            seq += 1
        return first

    def lines(self, first: int = 0) -> list[bytes]:
        """Return the lines of the records from index ``first`` on, extending the chain over those not yet in it."""
        if first > self._linked:
            self.lines(self._linked)
        epoch = self.epoch
        out = [
            b"%d %d %d %d %b" % (record.seq, epoch, record.ts, record.cause, _encode(record.event))
            for record in self.records[first:]
        ]
        head = self._head
        for text in out[self._linked - first :]:
            head = sha256(head + text).digest()
        self._head, self._linked = head, len(self.records)
        return out

    @property
    def head(self) -> bytes:
        """The hash of the last line."""
        if self._linked < len(self.records):
            self.lines(self._linked)
        return self._head
