"""Massive's (Polygon.io's) messages as typed records: frames of the stream, pages of REST, symbols and channels.

Nothing is decided here. The stream counts time in milliseconds, UTC; a frame is a JSON array. What cannot be read is returned beside what
can, so that one bad message costs no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from northstar_core.model.instrument import Option, instrument
from northstar_core.model.market import Bar

MS_NS = 1_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
STOCKS, OPTIONS = "stocks", "options"
RAW_KEPT = 500  #: characters of what could not be read


class StatusRow(msgspec.Struct, frozen=True, gc=False, tag_field="ev", tag="status"):
    """What the server says about the connection."""

    status: str
    message: str = ""


class TradeRow(msgspec.Struct, frozen=True, gc=False, tag_field="ev", tag="T"):
    """A print."""

    sym: str
    p: float
    t: int
    s: float = 0.0
    q: int = 0  #: grows within the symbol's day, with holes
    x: int = 0
    i: str | int = ""
    c: list[int] | int | None = None
    ds: str | None = None  #: the size where it is no whole number

    @property
    def size(self) -> float:
        """Shares or contracts."""
        return float(self.ds) if self.ds else self.s

    @property
    def conditions(self) -> Iterable[int]:
        """Sale conditions."""
        return self.c if isinstance(self.c, list) else () if self.c is None else (self.c,)


class QuoteRow(msgspec.Struct, frozen=True, gc=False, tag_field="ev", tag="Q"):
    """The best bid and ask; of stocks the sizes are in lots."""

    sym: str
    t: int
    bp: float = 0.0
    ap: float = 0.0
    bs: float = 0.0
    ask_size: float = msgspec.field(default=0.0, name="as")
    q: int = 0


class _Aggregate(msgspec.Struct, frozen=True, gc=False):
    sym: str
    o: float
    h: float
    l: float  # noqa: E741  # the wire's name
    c: float
    v: float
    s: int
    e: int
    av: float | None = None  #: the day's volume so far, this bar included
    dv: str | None = None
    dav: str | None = None

    @property
    def volume(self) -> float:
        """Shares or contracts of the bar."""
        return float(self.dv) if self.dv else self.v

    @property
    def day_volume(self) -> float | None:
        """Shares or contracts of the day so far; None where it is not told."""
        return float(self.dav) if self.dav else self.av


class SecondRow(_Aggregate, frozen=True, gc=False, tag_field="ev", tag="A"):
    """A second's bar."""


class MinuteRow(_Aggregate, frozen=True, gc=False, tag_field="ev", tag="AM"):
    """A minute's bar."""


class LimitsRow(msgspec.Struct, frozen=True, gc=False, tag_field="ev", tag="LULD"):
    """A stock's price bands."""

    symbol: str = msgspec.field(default="", name="T")
    t: int = 0


Row = StatusRow | TradeRow | QuoteRow | SecondRow | MinuteRow | LimitsRow


class Unread(msgspec.Struct, frozen=True):
    """A frame or message that could not be understood."""

    raw: str
    error: str


_FRAME = msgspec.json.Decoder(list[Row])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(Row)
_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)


def rows_of(frame: bytes) -> tuple[list[Row], list[Unread]]:
    """Return a frame's messages, and what of it could not be read."""
    try:
        return _FRAME.decode(frame), []
    except _REFUSED as problem:
        error: Exception = problem
    try:
        items = _ITEMS.decode(frame)
    except _REFUSED:
        return [], [_unread(frame, error)]
    rows: list[Row] = []
    unread: list[Unread] = []
    for item in items:
        try:
            rows.append(_ITEM.decode(item))
        except _REFUSED as problem:
            unread.append(_unread(bytes(item), problem))
    return rows, unread


def _unread(raw: bytes, error: Exception) -> Unread:
    return Unread(raw[:RAW_KEPT].decode(errors="replace"), " ".join(str(error).split())[:200])


# ── symbols, channels ─────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=65536)
def ticker_of(symbol: str) -> str:
    """Return a symbol as the vendor writes it: options begin with ``O:``.

    Raises
    ------
    DataError
        If it is no symbol.
    """
    return f"O:{symbol}" if type(instrument(symbol)) is Option else symbol


@lru_cache(maxsize=65536)
def symbol_of(ticker: str) -> str:
    """Return a symbol from the vendor's ticker."""
    return ticker[2:] if ticker.startswith("O:") else ticker


def cluster_of(ticker: str) -> str:
    """Return the cluster that has a ticker."""
    return OPTIONS if ticker.startswith("O:") else STOCKS


def authenticate(key: str) -> str:
    """Return the message that authenticates."""
    return msgspec.json.encode({"action": "auth", "params": key}).decode()


def subscribe(channels: Iterable[str], *, at_once: int = 500) -> list[str]:
    """Return the messages that subscribe channels (``AM.SPY``), so many in each."""
    names = sorted(channels)
    return [
        msgspec.json.encode({"action": "subscribe", "params": ",".join(names[n : n + at_once])}).decode()
        for n in range(0, len(names), at_once)
    ]


# ── REST ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class AggregateRow(msgspec.Struct, frozen=True, gc=False):
    """A bar of a REST page."""

    t: int
    o: float
    h: float
    l: float  # noqa: E741  # the wire's name
    c: float
    v: float = 0.0


class AggregatePage(msgspec.Struct, frozen=True):
    """A page of bars; without results where there are none."""

    results: list[AggregateRow] = []
    next_url: str | None = None


class ContractRow(msgspec.Struct, frozen=True):
    """An option contract."""

    ticker: str
    shares_per_contract: float = 100


class ContractPage(msgspec.Struct, frozen=True):
    """A page of contracts."""

    results: list[ContractRow] = []
    next_url: str | None = None


class Moves(msgspec.Struct, frozen=True):
    """What a print with a condition moves."""

    updates_high_low: bool = True
    updates_open_close: bool = True
    updates_volume: bool = True


class UpdateRules(msgspec.Struct, frozen=True):
    """What a print moves, on all exchanges taken together."""

    consolidated: Moves | None = None


class ConditionRow(msgspec.Struct, frozen=True):
    """A condition and its rules."""

    id: int
    update_rules: UpdateRules | None = None


class ConditionPage(msgspec.Struct, frozen=True):
    """A page of conditions."""

    results: list[ConditionRow] = []
    next_url: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """The error envelope."""

    status: str = ""
    error: str = ""
    message: str = ""


def problem_text(body: bytes) -> str:
    """Return what an error answer says."""
    try:
        found = msgspec.json.decode(body, type=Problem)
    except _REFUSED:
        return body[:120].decode(errors="replace")
    return found.error or found.message or found.status


def bar_of(row: Any, symbol: str, span_ns: int) -> Bar:
    """Return a REST page's bar of a length."""
    start = row.t * MS_NS
    return Bar(symbol, start, start + span_ns, row.o, row.h, row.l, row.c, row.v)
