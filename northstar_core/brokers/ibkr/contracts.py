"""Contract ids: from our symbols to the broker's numbers and back.

Everything at Interactive Brokers is named by a conid. Questions are generators: each yields a path with its parameters, is sent the
answer, and returns the number, so that the order of the calls (search, then strikes, then info) is written once and needs no socket.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from datetime import date
from typing import Any

from northstar_core.brokers.ibkr.wire import Unreadable, error_of, number, rows, whole
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Combo, Equity, Option, instrument, occ_symbol

Ask = tuple[str, dict[str, str]]
Asking = Generator[Ask, Any, int]

#: Roots of weekly and afternoon-settled index options, and the index they are listed under.
UNDERLYING = {"SPXW": "SPX", "NDXP": "NDX", "RUTW": "RUT", "VIXW": "VIX", "XSPW": "XSP"}
US_EXCHANGES = ("NASDAQ", "NYSE", "ARCA", "AMEX", "BATS", "PINK", "IEX")

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_OCC = re.compile(r"\[([A-Z][A-Z0-9.]*) +([0-9]{6}[CP][0-9]{8})\b")


class Contracts:
    """What is known of contracts, both ways; kept while the adapter lives."""

    def __init__(self, known: Mapping[str, int] = {}) -> None:
        self.conids: dict[str, int] = {}
        self.symbols: dict[int, str] = {}
        for symbol, conid in known.items():
            self.learn(symbol, conid)

    def learn(self, symbol: str, conid: int) -> None:
        """Keep that a symbol is a conid."""
        self.conids[symbol] = conid
        self.symbols[conid] = symbol

    def missing(self, symbol: str) -> list[str]:
        """Return the legs of an instrument whose conid is not known yet."""
        return [leg.instrument.symbol for leg in instrument(symbol).legs if leg.instrument.symbol not in self.conids]

    def of(self, symbol: str) -> dict[str, int]:
        """Return the conids of an instrument's legs, all of them known."""
        return {leg.instrument.symbol: self.conids[leg.instrument.symbol] for leg in instrument(symbol).legs}

    def name(self, row: dict[str, Any]) -> str | None:
        """Return the symbol of a position's or execution's row; None where the broker must be asked (``described``)."""
        conid = whole(row.get("conid"))
        if conid in self.symbols:
            return self.symbols[conid]
        words = str(row.get("contractDesc") or row.get("contract_description_1") or "")
        kind = str(row.get("assetClass") or row.get("sec_type") or row.get("secType") or "")
        found = None
        if occ := _OCC.search(words):
            found = occ[1] + occ[2]
        elif kind == "STK":
            found = _ours(str(row.get("ticker") or row.get("symbol") or words))
        if found is None or not conid or not _is_symbol(found):
            return None
        self.learn(found, conid)
        return found


def _ours(ticker: str) -> str:
    """A class of shares is written with a blank there and with a dot here."""
    return ticker.strip().replace(" ", ".")


def _is_symbol(symbol: str) -> bool:
    try:
        return not isinstance(instrument(symbol), Combo)
    except DataError:
        return False


def asking(symbol: str) -> Asking:
    """Ask for the conid of an equity or option.

    Raises
    ------
    DataError
        If the broker lists no such contract, or several of that name.
    """
    found = instrument(symbol)
    if isinstance(found, Option):
        return _option(found)
    assert isinstance(found, Equity)
    return _stock(found.symbol)


def _stock(symbol: str) -> Asking:
    ticker = symbol.replace(".", " ")
    answer = yield "/trsrv/stocks", {"symbols": ticker}
    if not isinstance(answer, dict):
        raise Unreadable(f"stocks named {symbol}: {str(answer)[:80]}")
    listed = {
        whole(contract.get("conid")): str(contract.get("exchange"))
        for entry in answer.get(ticker) or answer.get(symbol) or ()
        if isinstance(entry, dict) and entry.get("assetClass", "STK") == "STK"
        for contract in entry.get("contracts") or ()
        if contract.get("isUS")
    }
    if len(listed) > 1:
        listed = {conid: where for conid, where in listed.items() if where.split(".")[0] in US_EXCHANGES} or listed
    if len(listed) != 1:
        what = (
            f"{len(listed)} US contracts ({', '.join(map(str, listed))})"
            if listed
            else error_of(answer) or "no US contract"
        )
        raise DataError(
            f"symbol {symbol}: {what} at Interactive Brokers; set conids.{symbol} in the account's settings"
        )
    return next(iter(listed))


def _option(option: Option) -> Asking:
    root = UNDERLYING.get(option.underlying, option.underlying)
    month = f"{_MONTHS[option.expiry.month - 1]}{option.expiry:%y}"
    found = yield "/iserver/secdef/search", {"symbol": root.replace(".", " ")}
    conid = _underlying(found, root, month)
    if not conid:
        raise DataError(f"option {option.symbol}: no options of {root} in {month} at Interactive Brokers")
    params = {"conid": str(conid), "sectype": "OPT", "month": month}
    strikes = yield "/iserver/secdef/strikes", params
    side = "call" if option.right.value == "C" else "put"
    if not isinstance(strikes, dict) or option.strike not in [number(strike) for strike in strikes.get(side) or ()]:
        raise DataError(
            f"option {option.symbol}: no {side} of {root} at {option.strike} in {month} at Interactive Brokers"
        )
    answer = yield (
        "/iserver/secdef/info",
        {**params, "strike": f"{option.strike.normalize():f}", "right": option.right.value},
    )
    listed = {
        whole(row.get("conid"))
        for row in rows(answer)
        if str(row.get("maturityDate")) == f"{option.expiry:%Y%m%d}"
        and number(row.get("strike")) in (option.strike, None)
        and str(row.get("tradingClass") or option.underlying) == option.underlying
    }
    if len(listed) != 1:
        raise DataError(f"option {option.symbol}: {len(listed) or 'no'} such contracts at Interactive Brokers")
    return listed.pop()


def _underlying(found: Any, root: str, month: str) -> int:
    """The first underlying of this name that lists options in the month."""
    for row in rows(found):
        if str(row.get("symbol") or root).replace(" ", ".") != root:
            continue
        for section in row.get("sections") or ():
            if section.get("secType") == "OPT" and month in str(section.get("months") or "").split(";"):
                return whole(row.get("conid"))
    return 0


def described(answer: Any, contracts: Contracts) -> None:
    """Learn the symbols an answer of ``/trsrv/secdef`` describes.

    Raises
    ------
    Unreadable
        If it is no such answer.
    """
    listed = answer.get("secdef") if isinstance(answer, dict) else answer
    for row in rows(listed):
        conid, kind, ticker = whole(row.get("conid")), str(row.get("assetClass") or ""), str(row.get("ticker") or "")
        if kind == "STK" and conid and _is_symbol(_ours(ticker)):
            contracts.learn(_ours(ticker), conid)
        elif kind == "OPT" and conid:
            words = str(row.get("fullName") or row.get("name") or "")
            if occ := _OCC.search(words):
                contracts.learn(occ[1] + occ[2], conid)
                continue
            strike, day = number(row.get("strike")), str(row.get("expiry") or row.get("lastTradingDay") or "")
            right = str(row.get("putOrCall") or row.get("right") or "")[:1].upper()
            if strike and right in ("C", "P") and re.fullmatch("[0-9]{8}", day):
                expiry = date(int(day[:4]), int(day[4:6]), int(day[6:]))
                contracts.learn(occ_symbol(str(row.get("tradingClass") or ticker), expiry, right, strike), conid)
