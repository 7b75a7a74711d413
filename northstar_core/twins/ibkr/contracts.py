"""Contracts of the Interactive Brokers twin: conids, and the search a client walks to find an option.

A conid is derived from the symbol alone, so it is the same in every process and run: the few that everybody knows are
the real ones, the rest comes from a hash. Options are found in the order the real service insists on, within one
session: ``search`` → ``strikes`` → ``info``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Combo, Equity, Instrument, Option, combo, instrument

Row = dict[str, Any]

#: Contracts whose numbers are public knowledge.
KNOWN = {"SPY": 756733, "AAPL": 265598, "MSFT": 272093, "QQQ": 320227571, "IBM": 8314}
SPREAD_USD = 28812380  #: the conid under which a combo in US dollars is ordered
EXCHANGES = {"SPY": "ARCA", "QQQ": "NASDAQ.NMS", "AAPL": "NASDAQ.NMS", "MSFT": "NASDAQ.NMS", "IBM": "NYSE"}
_CONIDEX = re.compile(r"(\d+)(?:@[A-Z.]+)?;;;(-?\d+/-?\d+(?:,-?\d+/-?\d+)*)")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


class UnknownContractError(Exception):
    """No contract has this conid; the message is what the service answers."""


def derived_conid(symbol: str) -> int:
    """Return the conid of a symbol: from its hash, options above shares so that a reader can tell."""
    if symbol in KNOWN:
        return KNOWN[symbol]
    number = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big")
    base, room = (600_000_000, 1_500_000_000) if isinstance(instrument(symbol), Option) else (400_000_000, 200_000_000)
    return base + number % room


def month_code(day: date) -> str:
    """Return a month as the service writes it: ``JUN26``."""
    return f"{_MONTHS[day.month - 1]}{day:%y}"


class Contracts:
    """Every contract of a market, by symbol and by conid.

    Parameters
    ----------
    symbols
        Returns what is traded at this moment; asked again whenever something is not found.
    """

    def __init__(self, symbols: Callable[[], Iterable[str]]) -> None:
        self._ask = symbols
        self._conids: dict[str, int] = {}
        self._symbols: dict[int, str] = {}
        self._refresh()

    def _refresh(self) -> None:
        for symbol in sorted(self._ask()):
            self._add(symbol)
            found = instrument(symbol)
            if isinstance(found, Option):
                self._add(found.underlying)

    def _add(self, symbol: str) -> int:
        conid = self._conids.get(symbol)
        if conid is None:
            conid = derived_conid(symbol)
            while conid in self._symbols:  # two symbols with one hash: the next free number
                conid += 1
            self._conids[symbol] = conid
            self._symbols[conid] = symbol
        return conid

    def conid(self, symbol: str) -> int:
        """Return the conid of a symbol; a combo has the spread's."""
        return SPREAD_USD if "*" in symbol else self._add(symbol)

    def conidex(self, symbol: str) -> str:
        """Return conid and legs as an order row shows them."""
        found = instrument(symbol)
        if not isinstance(found, Combo):
            return str(self.conid(symbol))
        legs = ",".join(f"{self.conid(leg.instrument.symbol)}/{leg.ratio}" for leg in found.legs)
        return f"{SPREAD_USD};;;{legs}"

    def knows(self, symbol: str) -> bool:
        """Tell whether a symbol is traded here."""
        if symbol not in self._conids:
            self._refresh()
        return symbol in self._conids

    def lists(self, symbol: str) -> bool:
        """Tell whether a symbol is a stock's that is traded here."""
        return self.knows(symbol) and isinstance(instrument(symbol), Equity)

    def symbol(self, conid: int | str) -> str:
        """Return the symbol of a conid.

        Raises
        ------
        UnknownContractError
            If nothing traded here has it.
        """
        text = str(conid).partition("@")[0]
        number = int(text) if text.isdigit() else -1
        if number not in self._symbols:
            self._refresh()
        if number not in self._symbols:
            raise UnknownContractError(f"Contract {conid} is not found")
        return self._symbols[number]

    def named(self, conidex: str) -> str:
        """Return the symbol that ``conid``, ``conid@EXCHANGE`` or ``spread;;;leg/ratio,leg/ratio`` names.

        Raises
        ------
        UnknownContractError
            If a leg is not traded here or the legs make no combo.
        """
        if ";;;" not in conidex:
            return self.symbol(conidex)
        match = _CONIDEX.fullmatch(conidex)
        if match is None or int(match[1]) != SPREAD_USD:
            raise UnknownContractError(f"Invalid conidex {conidex}")
        legs = [leg.split("/") for leg in match[2].split(",")]
        try:
            return combo(*((_leg(self.symbol(conid)), int(ratio)) for conid, ratio in legs)).symbol
        except DataError as error:
            raise UnknownContractError(f"Invalid conidex {conidex}: {error}") from None

    # ── what the service shows ────────────────────────────────────────────────────────────────────────────────────────

    def options(self, underlying: str) -> Iterator[Option]:
        """Yield the options on a stock by expiry, strike and right."""
        self._refresh()
        found = (instrument(symbol) for symbol in self._conids)
        listed = [o for o in found if isinstance(o, Option) and o.underlying == underlying]
        yield from sorted(listed, key=lambda o: (o.expiry, o.strike, o.right))

    def months(self, underlying: str) -> list[str]:
        """Return the months in which options on a stock expire, the nearest first."""
        return list(dict.fromkeys(month_code(option.expiry) for option in self.options(underlying)))

    def stocks(self, symbols: Iterable[str]) -> dict[str, list[Row]]:
        """Answer ``trsrv/stocks``: each symbol with its listings; a foreign one of the same name comes first."""
        return {symbol: self._listings(symbol) if self.lists(symbol) else [] for symbol in symbols}

    def _listings(self, symbol: str) -> list[Row]:
        abroad = derived_conid(f"{symbol}/MEXI"[:12])
        name = company(symbol)
        home = {"conid": self.conid(symbol), "exchange": exchange(symbol), "isUS": True}
        other = {"conid": abroad, "exchange": "MEXI", "isUS": False}
        return [{"name": name, "chineseName": None, "assetClass": "STK", "contracts": [other, home]}]

    def search(self, symbol: str) -> list[Row]:
        """Answer ``secdef/search``: the conid is a string here, and the option section names the months."""
        months = self.months(symbol)
        sections: list[Row] = [{"secType": "STK"}]
        if months:
            sections.append({"secType": "OPT", "months": ";".join(months), "exchange": "SMART;AMEX;CBOE"})
            sections.append({"secType": "BAG"})
        where = exchange(symbol)
        return [
            {
                "conid": str(self.conid(symbol)),
                "companyHeader": f"{company(symbol)} - {where}",
                "companyName": company(symbol),
                "symbol": symbol,
                "description": where,
                "restricted": None,
                "sections": sections,
            }
        ]

    def strikes(self, underlying: str, month: str) -> dict[str, list[float]]:
        """Answer ``secdef/strikes``: the strikes of a month, calls and puts."""
        listed = [o for o in self.options(underlying) if month_code(o.expiry) == month]
        return {
            name: sorted({float(o.strike) for o in listed if o.right.value == right})
            for name, right in (("call", "C"), ("put", "P"))
        }

    def info(self, underlying: str, month: str, strike: str = "", right: str = "") -> list[Row]:
        """Answer ``secdef/info``: the contracts of a month, one for each expiry."""
        return [
            {
                "conid": self.conid(o.symbol),
                "symbol": underlying,
                "secType": "OPT",
                "exchange": "SMART",
                "listingExchange": None,
                "right": o.right.value,
                "strike": float(o.strike),
                "currency": "USD",
                "maturityDate": f"{o.expiry:%Y%m%d}",
                "multiplier": str(o.multiplier),
                "tradingClass": underlying,
                "validExchanges": "SMART,AMEX,CBOE",
                "desc1": underlying,
                "desc2": description(o),
            }
            for o in self.options(underlying)
            if month_code(o.expiry) == month
            and (not strike or o.strike == Decimal(strike))
            and (not right or o.right.value == right)
        ]

    def secdef(self, symbol: str) -> Row:
        """Answer one contract of ``trsrv/secdef``."""
        found = instrument(symbol)
        option = found if isinstance(found, Option) else None
        expiry = f"{option.expiry:%Y%m%d}" if option else None
        return {
            "conid": self.conid(symbol),
            "currency": "USD",
            "name": company(option.underlying if option else symbol),
            "assetClass": sec_type(found),
            "expiry": expiry,
            "lastTradingDay": expiry,
            "group": None,
            "putOrCall": option.right.value if option else None,
            "sector": None,
            "sectorGroup": None,
            "strike": f"{option.strike:f}" if option else "0",
            "ticker": option.underlying if option else symbol,
            "undConid": self.conid(option.underlying) if option else 0,
            "multiplier": float(option.multiplier) if option else 0.0,
            "type": "" if option else "COMMON",
            "hasOptions": not option and bool(self.months(symbol)),
            "fullName": description(found),
            "isUS": True,
            "isEventContract": False,
            "listingExchange": exchange(symbol),
            "countryCode": "US",
        }

    def info_and_rules(self, symbol: str, price: Decimal | None) -> Row:
        """Answer ``contract/{conid}/info-and-rules``: what it is, which orders it takes, and its price increment."""
        found = instrument(symbol)
        option = found if isinstance(found, Option) else None
        tick = found.tick_at(price or Decimal(1))
        return {
            "con_id": self.conid(symbol),
            "symbol": option.underlying if option else symbol,
            "local_symbol": symbol,
            "company_name": company(option.underlying if option else symbol),
            "instrument_type": sec_type(found),
            "currency": "USD",
            "exchange": "SMART",
            "valid_exchanges": "SMART,AMEX,NYSE,CBOE,ARCA,NASDAQ",
            "trading_class": option.underlying if option else symbol,
            "underlying_con_id": self.conid(option.underlying) if option else 0,
            "multiplier": str(option.multiplier) if option else None,
            "maturity_date": f"{option.expiry:%Y%m%d}" if option else None,
            "right": option.right.value if option else None,
            "strike": float(option.strike) if option else 0.0,
            "r_t_h": True,
            "smart_available": True,
            "rules": {
                "algoEligible": not option,
                "orderTypes": ["limit", "market", "stop", "stop_limit"],
                "tifTypes": ["DAY/o,a", "GTC/o,a", "IOC/MARKET,LIMIT/a", "OPG/LIMIT,MARKET/a"],
                "defaultSize": 1 if option else 100,
                "sizeIncrement": 1,
                "limitPrice": float(price) if price else None,
                "stopprice": float(price) if price else None,
                "preview": True,
                "cashCcy": "USD",
                "increment": float(tick),
                "incrementDigits": max(0, -int(tick.as_tuple().exponent)),
            },
        }


def _leg(symbol: str) -> Equity | Option:
    found = instrument(symbol)
    assert not isinstance(found, Combo)
    return found


def sec_type(found: Instrument) -> str:
    """Return the service's word for a kind of instrument."""
    return "BAG" if isinstance(found, Combo) else "OPT" if isinstance(found, Option) else "STK"


def exchange(symbol: str) -> str:
    """Return where something is listed."""
    found = instrument(symbol)
    return "" if not isinstance(found, Equity) else EXCHANGES.get(symbol, "NYSE")


def company(symbol: str) -> str:
    """Return a name for the company behind a ticker."""
    return f"{symbol} (SIMULATED)"


def description(found: Instrument) -> str:
    """Return how an instrument is written in descriptions: ``SPY``, ``SPY Jun19'26 600 CALL``."""
    if isinstance(found, Option):
        day = f"{_MONTHS[found.expiry.month - 1].capitalize()}{found.expiry:%d'%y}"
        return f"{found.underlying} {day} {found.strike.normalize():f} {found.right.name}"
    if isinstance(found, Combo):
        return "{} {}".format(ticker(found), ",".join(f"{leg.ratio}*{description(leg.instrument)}" for leg in found.legs))
    return found.symbol


def ticker(found: Instrument) -> str:
    """Return the stock's symbol that a row shows for an instrument."""
    first = found.legs[0].instrument
    return first.underlying if isinstance(first, Option) else first.symbol
