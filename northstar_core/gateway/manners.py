"""What a strategy's message must keep to before the desk takes it in: whose it is, and numbers and words the log can hold for good."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from northstar_core.gateway.seats import Seat
from northstar_core.gateway.sessions import Refusal
from northstar_core.model import events as e
from northstar_core.model.order import CancelOrder, PlaceOrder, ReplaceOrder
from northstar_core.model.wire import Hello

LONGEST_ID = 64
LONGEST_SYMBOL = 256  #: four option legs with their ratios
LONGEST_WORDS = 2_000
LAST_NS = 2**62  #: the year 2116
LAST_N = 10**9 - 1
DIGITS = 40  #: of a number that is owed
MOST_BARS = 20_000  #: of a symbol, to warm up

_ORDERS = PlaceOrder | ReplaceOrder | CancelOrder


def check(message: Any, seat: Seat, prefix: str) -> None:
    """Refuse a message that is another's, or that no strategy's host would send.

    Raises
    ------
    Refusal
        SCOPE for what is another's, CAPABILITY for what no strategy may, ARGUMENTS for what cannot be.
    """
    if message.strategy != seat.strategy_id:
        raise Refusal("SCOPE", f"the session is {seat.strategy_id}'s, the message {message.strategy[:80]!r}'s")
    if isinstance(message, _ORDERS):
        if message.account != seat.account:
            raise Refusal("SCOPE", f"the session is of account {seat.account}, the message of {message.account[:80]!r}")
        _words("order_id", message.order_id, LONGEST_ID)
        if isinstance(message, PlaceOrder):
            if not _is_number(message.order_id.removeprefix(prefix)) or not message.order_id.startswith(prefix):
                raise Refusal("SCOPE", f"order id {message.order_id!r} is none of session {prefix}…")
            _words("symbol", message.symbol, LONGEST_SYMBOL)
            _words("parent", message.parent, LONGEST_ID)
            _within("signal", message.signal, 0, LAST_N)
            _digits("qty", message.qty)
        elif isinstance(message, ReplaceOrder):
            _digits("qty", message.qty)
        else:
            _words("reason", message.reason, LONGEST_WORDS)
        if not isinstance(message, CancelOrder):
            _digits("limit_price", message.limit_price)
            _digits("stop_price", message.stop_price)
    elif isinstance(message, e.Signal | e.NoSignal):
        _words("symbol", message.symbol, LONGEST_SYMBOL)
        _words("reason", message.reason, LONGEST_WORDS)
        _within("n", message.n, 1, LAST_N)
        _finite(message)
    elif isinstance(message, e.SetTimer):
        _words("name", message.name, LONGEST_ID)
        _within("at", message.at, 0, LAST_NS)
    else:
        raise Refusal("CAPABILITY", f"a strategy may not ask for {type(message).__name__}")
    _within("ts", message.ts, 0, LAST_NS)
    if not isinstance(message, e.SetTimer):
        _within("basis_seq", message.basis_seq, 1, seat.given)


def check_hello(hello: Hello) -> None:
    """Refuse a beginning that cannot be written down, or that asks for more than anybody needs.

    Raises
    ------
    Refusal
        ARGUMENTS.
    """
    _within("warm_up", hello.warm_up, 0, MOST_BARS)
    _within("seen", hello.seen, 0, LAST_NS)
    _words("resume", hello.resume, LONGEST_ID)
    for symbol in (*hello.symbols, *hello.options_on):
        _words("symbol", symbol, LONGEST_SYMBOL)
    for name, digest in hello.code.items():
        _words("code", name + digest, LONGEST_WORDS)
    try:
        msgspec.json.encode(hello.params)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise Refusal("ARGUMENTS", f"params: {error}") from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 9


def _words(name: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise Refusal("ARGUMENTS", f"{name} of {len(text)} characters; up to {longest}")
    if "\0" in text:
        raise Refusal("ARGUMENTS", f"{name} {text[:80]!r} has a NUL in it")


def _within(name: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise Refusal("ARGUMENTS", f"{name} = {number}: must be {low} to {high}")


def _digits(name: str, number: Decimal | None) -> None:
    """Refuse what would cost more to reckon with than to say; whether it makes sense, the risk checks tell in words."""
    if number is None or not number.is_finite():
        return
    _, digits, exponent = number.as_tuple()
    if len(digits) > DIGITS or not -DIGITS <= int(exponent) <= DIGITS:
        raise Refusal("ARGUMENTS", f"{name} has more than {DIGITS} digits")


def _finite(message: e.Signal | e.NoSignal) -> None:
    values = list(message.inputs.values())
    if isinstance(message, e.Signal):
        values.append(message.value)
    if not all(isfinite(value) for value in values):
        raise Refusal("ARGUMENTS", "a value that is not finite; the log holds none")
    for name in message.inputs:
        _words("inputs", name, LONGEST_ID)
