"""Quotes of the Interactive Brokers twin: numbered fields, prices as strings, and only what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.model.instrument import exact, instrument
from northstar_core.twins.ibkr.contracts import Contracts, description
from northstar_core.twins.ibkr.rows import price_text
from northstar_core.twins.market import TwinMarket

Row = dict[str, Any]
AVAILABLE = "RpB"  #: real time, consolidated, with book
CLOSED_PREFIX = "C"  #: before a price that is a previous close


class Watched(msgspec.Struct):
    """One market data line: what is wanted of a contract, and what was sent of it."""

    conid: int
    symbol: str
    fields: list[str]
    until: int  #: ns UTC; it ends then unless it is asked for again
    server_id: str
    sent: Row = msgspec.field(default_factory=dict)


class Quotes:
    """Reads the market as numbered fields."""

    def __init__(self, market: TwinMarket, contracts: Contracts) -> None:
        self._market, self._contracts = market, contracts

    def fields(self, symbol: str, wanted: Sequence[str]) -> Row:
        """Return the wanted fields that are known.

        31 last, 84 bid, 86 ask, 88 bid size, 85 ask size, 7059 last size, 55 symbol, 7219 description, 6509 availability.
        """
        state = self._market.last(symbol)
        known: Row = {"55": symbol, "7219": description(instrument(symbol)), "6509": AVAILABLE}
        if state is not None and state.price:
            session = self._market.session_at(self._market.now())
            stale = session is not None and state.ts < session.open
            known["31"] = (CLOSED_PREFIX if stale else "") + _price(state.price)
            if state.trade is not None:
                known["7059"] = _size(state.trade.size)
        if state is not None and state.quote is not None:
            quote = state.quote
            if quote.bid:
                known["84"], known["88"] = _price(quote.bid), _size(quote.bid_size)
            if quote.ask:
                known["86"], known["85"] = _price(quote.ask), _size(quote.ask_size)
        return {field: known[field] for field in wanted if field in known}

    def frame(self, watched: Watched) -> Row:
        """Return the first frame of a line: everything wanted that is known."""
        watched.sent = self.fields(watched.symbol, watched.fields)
        return self._framed(watched, watched.sent)

    def delta(self, watched: Watched) -> Row | None:
        """Return what has changed since the last frame; None where nothing has."""
        now = self.fields(watched.symbol, watched.fields)
        changed = {field: value for field, value in now.items() if watched.sent.get(field) != value}
        if not changed:
            return None
        watched.sent = now
        return self._framed(watched, changed)

    def snapshot(self, conid: int, symbol: str, wanted: Sequence[str]) -> Row:
        """Return a row of ``marketdata/snapshot``."""
        row = {"conid": conid, "conidEx": str(conid), "_updated": self._market.now() // 1_000_000, "server_id": "q0"}
        return {**row, **self.fields(symbol, wanted)}

    def _framed(self, watched: Watched, values: Row) -> Row:
        return {
            "server_id": watched.server_id,
            "conidEx": str(watched.conid),
            "conid": watched.conid,
            "_updated": self._market.now() // 1_000_000,
            "6119": watched.server_id,
            **values,
            "topic": f"smd+{watched.conid}",
        }


def _price(price: float) -> str:
    return price_text(exact(price))


def _size(size: float) -> str:
    number = Decimal(repr(size)).normalize()
    return f"{number:,f}"
