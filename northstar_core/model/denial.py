"""Every reason for which an order may be denied before it leaves, with its sentence and its control."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec


class DenialReason(StrEnum):
    """Codes are CATEGORY_CONDITION; the check that gives each is found by it in ``engine.checks``."""

    ORDER_ID_DUPLICATE = "ORDER_ID_DUPLICATE"
    ORDER_ID_CONFLICT = "ORDER_ID_CONFLICT"
    ORDER_FIELDS_INVALID = "ORDER_FIELDS_INVALID"
    ORDER_UNKNOWN = "ORDER_UNKNOWN"
    ORDER_NOT_WORKING = "ORDER_NOT_WORKING"
    GRANT_MISSING = "GRANT_MISSING"
    LIMIT_MISSING = "LIMIT_MISSING"
    TRADING_HALTED = "TRADING_HALTED"
    TRADING_REDUCING = "TRADING_REDUCING"
    UNIVERSE_NOT_ALLOWED = "UNIVERSE_NOT_ALLOWED"
    INSTRUMENT_EXPIRED = "INSTRUMENT_EXPIRED"
    SESSION_CLOSED = "SESSION_CLOSED"
    SYMBOL_HALTED = "SYMBOL_HALTED"
    PRICE_MISSING = "PRICE_MISSING"
    PRICE_STALE = "PRICE_STALE"
    PRICE_COLLAR = "PRICE_COLLAR"
    TICK_SIZE = "TICK_SIZE"
    LOT_SIZE = "LOT_SIZE"
    ORDER_QTY_CAP = "ORDER_QTY_CAP"
    ORDER_VALUE_CAP = "ORDER_VALUE_CAP"
    OPEN_ORDERS_CAP = "OPEN_ORDERS_CAP"
    POSITION_QTY_CAP = "POSITION_QTY_CAP"
    SHORT_NOT_ALLOWED = "SHORT_NOT_ALLOWED"
    OPTION_UNCOVERED = "OPTION_UNCOVERED"
    REDUCE_ONLY = "REDUCE_ONLY"
    STRATEGY_NOTIONAL_CAP = "STRATEGY_NOTIONAL_CAP"
    ACCOUNT_GROSS_CAP = "ACCOUNT_GROSS_CAP"
    ACCOUNT_NET_CAP = "ACCOUNT_NET_CAP"
    SYMBOL_CONCENTRATION_CAP = "SYMBOL_CONCENTRATION_CAP"
    BUYING_POWER = "BUYING_POWER"
    ORDER_RATE = "ORDER_RATE"
    SELF_MATCH = "SELF_MATCH"
    RULE_BLOCKED = "RULE_BLOCKED"  #: a plugged-in risk rule said no; its name is in the detail


SENTENCES: dict[DenialReason, str] = {
    DenialReason.ORDER_ID_DUPLICATE: "the same intent was already decided; the first decision stands",
    DenialReason.ORDER_ID_CONFLICT: "this order id was already used for an order with other content",
    DenialReason.ORDER_FIELDS_INVALID: "the order's fields do not fit together",
    DenialReason.ORDER_UNKNOWN: "there is no such order",
    DenialReason.ORDER_NOT_WORKING: "the order is no longer working",
    DenialReason.GRANT_MISSING: "the strategy holds no grant for this account",
    DenialReason.LIMIT_MISSING: "a limit that this check needs is not set",
    DenialReason.TRADING_HALTED: "trading is halted for the strategy, the account or the desk",
    DenialReason.TRADING_REDUCING: "only orders that reduce a position are allowed",
    DenialReason.UNIVERSE_NOT_ALLOWED: "the symbol is not in the strategy's universe",
    DenialReason.INSTRUMENT_EXPIRED: "the option has expired",
    DenialReason.SESSION_CLOSED: "the exchange is closed",
    DenialReason.SYMBOL_HALTED: "trading in the symbol is halted",
    DenialReason.PRICE_MISSING: "there is no price for the symbol yet",
    DenialReason.PRICE_STALE: "the latest price is too old",
    DenialReason.PRICE_COLLAR: "the order's price is too far from the market",
    DenialReason.TICK_SIZE: "the price is not a multiple of the tick",
    DenialReason.LOT_SIZE: "the quantity is not a multiple of the lot",
    DenialReason.ORDER_QTY_CAP: "the quantity of one order is capped",
    DenialReason.ORDER_VALUE_CAP: "the value of one order is capped",
    DenialReason.OPEN_ORDERS_CAP: "too many orders are working",
    DenialReason.POSITION_QTY_CAP: "the position could become larger than allowed",
    DenialReason.SHORT_NOT_ALLOWED: "the position could become short and short selling is not allowed",
    DenialReason.OPTION_UNCOVERED: "an option could be short and uncovered",
    DenialReason.REDUCE_ONLY: "a reduce-only order could open or turn a position",
    DenialReason.STRATEGY_NOTIONAL_CAP: "the strategy's worst-case notional is capped",
    DenialReason.ACCOUNT_GROSS_CAP: "the account's gross exposure is capped",
    DenialReason.ACCOUNT_NET_CAP: "the account's net exposure is capped",
    DenialReason.SYMBOL_CONCENTRATION_CAP: "the symbol's share of the account's equity is capped",
    DenialReason.BUYING_POWER: "the account's buying power does not cover the order beside what is reserved",
    DenialReason.ORDER_RATE: "too many orders in the window",
    DenialReason.SELF_MATCH: "the order could trade against an own resting order of the account",
    DenialReason.RULE_BLOCKED: "a risk rule blocked the order",
}


class Denial(msgspec.Struct, frozen=True):
    """One refusal: the code, the numbers, and the largest quantity that would have passed this check, if any would."""

    reason: DenialReason
    detail: str = ""
    passes_at: Decimal | None = None
