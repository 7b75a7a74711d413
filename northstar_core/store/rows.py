"""From journal lines to what COPY takes: pure functions from bytes to bytes.

An event row's columns are all derived from its line: kind, strategy, account and order id from the payload. ``keys``
is the one definition of that derivation; an auditor may hold stored rows against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

import msgspec

from northstar_core.model.errors import JournalError

EVENT_COLUMNS = (
    "stream", "epoch", "seq", "ts", "cause", "kind", "strategy", "account", "order_id", "payload", "hash",
)
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"


class Placed(msgspec.Struct, gc=False):
    """A ``PlaceOrder`` as it stands in its JSON: numbers stay text, what is left out has the model's default."""

    order_id: str
    strategy: str
    account: str
    symbol: str
    side: str
    qty: str
    order_type: str = "MARKET"
    limit_price: str | None = None
    stop_price: str | None = None
    tif: str = "DAY"
    parent: str = ""


class Fact(msgspec.Struct, gc=False):
    """What the store reads of an event, whichever it is; numbers that only pass through stay text."""

    type: str
    strategy: str = ""
    account: str = ""
    order_id: str = ""
    order: Placed | None = None
    symbol: str = ""
    side: str = ""
    exec_id: str = ""
    kind: str = ""
    reason: str = ""
    qty: str | None = None
    price: str | None = None
    fees: str = "0"
    cum_qty: str = "0"
    leaves_qty: str = "0"
    limit_price: str | None = None
    stop_price: str | None = None
    late: bool = False


class Keys(msgspec.Struct, gc=False):
    """As ``Fact``, for events that no projection needs."""

    type: str
    strategy: str = ""
    account: str = ""
    order_id: str = ""


#: events that change an order, a fill or a position, by how their payload begins
PROJECTED = (
    "OrderSubmitted", "OrderAccepted", "OrderRejected", "OrderFilled", "OrderCanceled", "OrderReplaced", "OrderExpired",
    "OrderUnknown", "CancelSubmitted", "ReplaceSubmitted", "RequestRejected", "PositionAdjusted",
)
_PROJECTED = frozenset(f'{{"type":"{kind}'.encode() for kind in PROJECTED)

_fact = msgspec.json.Decoder(Fact).decode
_keys = msgspec.json.Decoder(Keys).decode


def keys(payload: bytes) -> tuple[str, str | None, str | None, str | None]:
    """Return an event's kind, strategy, account and order id, as its row must have them; None where it has none."""
    fact = read(payload)
    if isinstance(fact, Fact) and fact.order is not None:
        return fact.type, fact.order.strategy or None, fact.order.account or None, fact.order.order_id or None
    return fact.type, fact.strategy or None, fact.account or None, fact.order_id or None


def read(payload: bytes) -> Fact | Keys:
    """Return what the store needs of an event.

    Raises
    ------
    JournalError
        If the bytes are no event.
    """
    try:
        end = payload.index(b'"', 9)
        return _fact(payload) if payload[:end] in _PROJECTED else _keys(payload)
    except (ValueError, msgspec.MsgspecError) as error:
        raise JournalError(f"not an event: {error}: {payload[:120]!r}") from None


class Batch(NamedTuple):
    """Rows of consecutive events, ready for COPY, and the head of the chain after them."""

    first_seq: int
    last_seq: int
    events: int
    hash: bytes
    rows: bytes  #: binary COPY format, without header and trailer
    facts: list[tuple[int, int, Fact]]  #: (seq, ts, fact) of those that change a projection


#: columns, then five integers and the kind's length, each integer after its length
_FIXED = Struct(">hiiiiiqiqiq")
_LENGTH = Struct(">i").pack
_SHORT = 2**31


class RowBuilder:
    """Builds the event rows of one stream. Strategy, account and kind repeat: their encoded form is kept."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self._field: dict[str, bytes] = {"": _NULL}

    def batch(self, lines: Iterable[bytes], seq: int, hash: bytes) -> Batch:
        """Return the rows of lines that follow the event ``seq`` with this hash.

        Raises
        ------
        JournalError
            If a line is malformed or its number does not grow.
        """
        stream, fixed, field, out = self.stream, _FIXED.pack, self._field, list[bytes]()
        facts: list[tuple[int, int, Fact]] = []
        first, count = 0, 0
        put, note = out.append, facts.append
        for text in lines:
            hash = sha256(hash + text).digest()
            try:
                number, epoch, ts, cause, payload = text.split(b" ", 4)
                before, seq, at = seq, int(number), int(ts)
                fact: Fact | Keys
                if payload[: payload.index(b'"', 9)] in _PROJECTED:
                    fact = _fact(payload)
                    order = fact.order
                    if order is not None:
                        fact.strategy, fact.account, fact.order_id = order.strategy, order.account, order.order_id
                    note((seq, at, fact))
                else:
                    fact = _keys(payload)
                row = fixed(11, 4, stream, 4, int(epoch), 8, seq, 8, at, 8, int(cause))
            except (ValueError, msgspec.MsgspecError) as error:
                where = f"stream {stream} after seq {seq}"
                raise JournalError(f"{where}: not a journal line: {error}: {text[:120]!r}") from None
            if seq <= before:
                raise JournalError(f"stream {stream}: seq {seq} does not follow seq {before}")
            try:
                kind, strategy, account = field[fact.type], field[fact.strategy], field[fact.account]
            except KeyError:
                kind, strategy, account = map(self._encode, (fact.type, fact.strategy, fact.account))
            order_id = fact.order_id
            if order_id:
                key = order_id.encode()
                put(b"%b%b%b%b%b%b%b%b\0\0\0\x20%b" % (
                    row, kind, strategy, account, _LENGTH(len(key)), key, _LENGTH(len(payload)), payload, hash,
                ))
            else:
                put(b"%b%b%b%b\xff\xff\xff\xff%b%b\0\0\0\x20%b" % (
                    row, kind, strategy, account, _LENGTH(len(payload)), payload, hash,
                ))
            count += 1
            first = first or seq
        return Batch(first, seq, count, hash, b"".join(out), facts)

    def _encode(self, word: str) -> bytes:
        found = self._field.get(word)
        if found is None:
            data = word.encode()
            found = self._field[word] = _LENGTH(len(data)) + data
        return found
