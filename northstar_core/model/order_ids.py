"""Ids of orders as brokers see them: a pure, reversible encoding of ours, with a check, so that our orders can be told from others'."""

from __future__ import annotations

from zlib import crc32

from northstar_core.model.errors import ParameterError

LONGEST = 48  #: what every broker takes
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
PREFIX = "ns-"


def base36(number: int, width: int) -> str:
    """Return the last ``width`` digits of a number in base 36."""
    out = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        out = DIGITS[digit] + out
    return out


def client_order_id(order_id: str) -> str:
    """Return the id under which a broker gets an order: ``ns-<order id>-<check>``.

    Raises
    ------
    ParameterError
        If it would be longer than brokers take.
    """
    text = f"{PREFIX}{order_id}-{_check(order_id)}"
    if len(text) > LONGEST:
        raise ParameterError(f"order id {order_id}: longer than brokers take by {len(text) - LONGEST}; shorten the strategy's name")
    return text


def order_id_of(client_id: str) -> str | None:
    """Return our order id from a broker's client order id; None where the order is not ours."""
    if not client_id.startswith(PREFIX):
        return None
    order_id, _, check = client_id[len(PREFIX) :].rpartition("-")
    return order_id if order_id and check == _check(order_id) else None


def _check(order_id: str) -> str:
    return base36(crc32(order_id.encode()), 2)
