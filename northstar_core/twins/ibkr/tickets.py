"""Order tickets of the Interactive Brokers twin: what a client sends, read and checked as the service would."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from northstar_core.model.instrument import Combo, Instrument, instrument
from northstar_core.model.order import OrderType, Side, TimeInForce
from northstar_core.twins.ibkr.contracts import Contracts, UnknownContractError

Row = dict[str, Any]

_TYPES = {
    "LMT": OrderType.LIMIT,
    "LIMIT": OrderType.LIMIT,
    "MKT": OrderType.MARKET,
    "MARKET": OrderType.MARKET,
    "STP": OrderType.STOP,
    "STOP": OrderType.STOP,
    "STOP_LIMIT": OrderType.STOP_LIMIT,
    "STP LMT": OrderType.STOP_LIMIT,
    "STOPLIMIT": OrderType.STOP_LIMIT,
    "MOC": OrderType.MARKET,
    "LOC": OrderType.LIMIT,
}
NOT_TRADED = frozenset({"TRAIL", "TRAILLMT", "MIDPRICE"})  #: real types that the simulated exchange does not match
_TIFS = {
    "DAY": TimeInForce.DAY,
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "OPG": TimeInForce.OPG,
    "FOK": TimeInForce.FOK,
}
#: What a modification has to repeat; a ticket without all of them is refused.
COMPLETE = ("side", "orderType", "quantity", "tif")


class TicketError(Exception):
    """A ticket that the service refuses; the message is its answer."""


class Ticket(msgspec.Struct, frozen=True):
    """One order as the client wants it."""

    symbol: str
    side: Side
    qty: Decimal
    order_type: OrderType
    tif: TimeInForce
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    coid: str = ""
    parent: str = ""  #: cOID (or order id) of the order it waits for
    outside_rth: bool = False
    single_group: bool = False  #: one fill of the group cancels the others
    referrer: str = ""

    @property
    def instrument(self) -> Instrument:
        """What it trades."""
        return instrument(self.symbol)


def read_ticket(raw: Row, contracts: Contracts, account: str) -> Ticket:
    """Return the order that a client describes.

    Raises
    ------
    TicketError
        With the words of the refusal: a field is missing or wrong, or the contract is not known.
    """
    if not isinstance(raw, dict):
        raise TicketError("Invalid order: not an object")
    named_account = raw.get("acctId")
    if named_account not in (None, "", account):
        raise TicketError(f"Account {named_account} is not found")
    symbol = _symbol(raw, contracts)
    side = str(raw.get("side", "")).upper()
    if side not in ("BUY", "SELL"):
        raise TicketError(f"Invalid order side {raw.get('side')!r}")
    kind = str(raw.get("orderType", "")).upper()
    if kind in NOT_TRADED:
        raise TicketError(f"Order type {kind} is not supported for this contract")
    if kind not in _TYPES:
        raise TicketError(f"Unknown order type {raw.get('orderType')!r}")
    order_type = _TYPES[kind]
    qty = _number(raw, "quantity")
    if qty is None or qty <= 0:
        size = "missing" if qty is None else f"{qty:f}"
        raise TicketError(f"Order size {size} is not valid. Please enter size greater than 0.")
    limit, stop = _prices(raw, order_type)
    ticket = Ticket(
        symbol,
        Side(side),
        qty,
        order_type,
        TimeInForce.CLS if kind in ("MOC", "LOC") else _tif(raw),
        limit,
        stop,
        str(raw.get("cOID") or ""),
        str(raw.get("parentId") or ""),
        raw.get("outsideRTH") is True,
        raw.get("isSingleGroup") is True,
        str(raw.get("referrer") or ""),
    )
    _check_increments(ticket)
    return ticket


def missing_fields(raw: Row) -> list[str]:
    """Return what a modification leaves out: the service wants the whole order again."""
    missing = [name for name in COMPLETE if raw.get(name) in (None, "")]
    if not raw.get("conid") and not raw.get("conidex"):
        missing.insert(0, "conid")
    return missing


def _symbol(raw: Row, contracts: Contracts) -> str:
    given = raw.get("conidex") or raw.get("conid")
    if not given:
        raise TicketError("Missing order parameter conid or conidex")
    try:
        return contracts.named(str(given))
    except UnknownContractError as error:
        raise TicketError(str(error)) from None


def _tif(raw: Row) -> TimeInForce:
    tif = str(raw.get("tif", "")).upper()
    if tif not in _TIFS:
        raise TicketError(f"Invalid time in force {raw.get('tif')!r}")
    return _TIFS[tif]


def _prices(raw: Row, order_type: OrderType) -> tuple[Decimal | None, Decimal | None]:
    price, aux = _number(raw, "price"), _number(raw, "auxPrice")
    if order_type is OrderType.LIMIT:
        if price is None:
            raise TicketError("Missing order parameter price")
        return price, None
    if order_type is OrderType.STOP:  # the service reads the stop from price; auxPrice is taken too
        stop = price if aux is None else aux
        if stop is None:
            raise TicketError("Missing order parameter auxPrice")
        return None, stop
    if order_type is OrderType.STOP_LIMIT:
        if price is None or aux is None:
            raise TicketError("Missing order parameter price or auxPrice")
        return price, aux
    return None, None


def _number(raw: Row, name: str) -> Decimal | None:
    value = raw.get(name)
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise TicketError(f"Invalid order parameter {name} {value!r}") from None
    if isinstance(value, bool) or not number.is_finite():
        raise TicketError(f"Invalid order parameter {name} {value!r}")
    return number


def _check_increments(ticket: Ticket) -> None:
    found = ticket.instrument
    if ticket.qty % found.lot:
        raise TicketError(f"The size, {ticket.qty:f}, does not conform to the minimum variation of {found.lot:f} for this contract.")
    for price in (ticket.limit_price, ticket.stop_price):
        if price is None:
            continue
        if price <= 0 and not isinstance(found, Combo):
            raise TicketError(f"Invalid price {price:f}")
        if price % found.tick_at(price):
            raise TicketError("The price does not conform to the minimum price variation for this contract.")
