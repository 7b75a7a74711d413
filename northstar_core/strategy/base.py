"""The class a strategy notebook writes: its parameters with their ranges, and one handler for each kind of event.

A strategy sees the world through its ``Context`` and nothing else: no clock, no files, no broker, and no way to find out whether
it runs on history, on paper, in shadow or live.
"""

from __future__ import annotations

import difflib
import re
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_type_hints

import msgspec

from northstar_core.model.errors import ParameterError

if TYPE_CHECKING:
    from northstar_core.model.events import (
        OrderFact,
        OrderFilled,
        PositionAdjusted,
        SessionClosed,
        SessionOpened,
        TimerFired,
    )
    from northstar_core.model.market import Bar, Quote, Trade
    from northstar_core.strategy.context import Context


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """What a parameter may be: ``Annotated[int, Range(ge=2, le=400)]``, ``Annotated[Decimal, Range(gt=0)]``."""

    gt: Decimal | float | None = None
    ge: Decimal | float | None = None
    lt: Decimal | float | None = None
    le: Decimal | float | None = None

    def refusal(self, value: Any) -> str:
        """Return what is wrong with a value, or nothing."""
        for sign, bound, holds in (
            (">", self.gt, self.gt is None or value > self.gt),
            (">=", self.ge, self.ge is None or value >= self.ge),
            ("<", self.lt, self.lt is None or value < self.lt),
            ("<=", self.le, self.le is None or value <= self.le),
        ):
            if not holds:
                return f"must be {sign} {bound}"
        return ""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strategy's parameters: one typed field each, with its range in ``Annotated[int, Range(ge=2, le=400)]``.

    A field without a default has to be given. Sequences are tuples (``tuple[str, ...] = ("SPY",)``) where they have a default.
    """


P = TypeVar("P", bound=Params)


def checked_params(kind: type[P], given: dict[str, Any]) -> P:
    """Return typed parameters.

    Raises
    ------
    ParameterError
        For a name the strategy does not have, a value of the wrong type or out of range; one line naming the parameter.
    """
    fields = kind.__struct_fields__
    for name in given:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(fields) or 'none'}"
            raise ParameterError(f"unknown parameter {name!r}{hint}")
    # A number of a notebook's cell may stand for a Decimal: by its shortest digits, never by its binary value.
    decimals = {name for name, hint in get_type_hints(kind).items() if "Decimal" in repr(hint)}
    raw = {
        name: str(value) if name in decimals and isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in given.items()
    }
    try:
        params = msgspec.convert(raw, kind, builtin_types=())
    except msgspec.ValidationError as error:
        text = str(error)
        found = re.search(r"`\$\.(\w+)", text)
        name = found.group(1) if found else "?"
        missing = re.search(r"missing required field `(\w+)`", text)
        if missing:
            raise ParameterError(f"parameter {missing.group(1)} is not given") from None
        reason = text.split(" - at ")[0]
        if not found:  # what the author's own __post_init__ says, of several parameters together
            raise ParameterError(f"parameters: {reason}") from None
        raise ParameterError(f"parameter {name} = {given.get(name)!r}: {reason[0].lower() + reason[1:]}") from None
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if refusal := out_of_range(hint, getattr(params, name)):
            raise ParameterError(f"parameter {name} = {getattr(params, name)!r}: {refusal}")
    return params


def out_of_range(hint: Any, value: Any) -> str:
    """Return what a ``Range`` in an annotation has against a value, or nothing; a number that is not finite is never in range."""
    if isinstance(value, float | Decimal) and not isfinite(value):
        return "must be a finite number"
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Range) and (refusal := extra.refusal(value)):
            return refusal
    return ""


class Strategy:
    """Base of every strategy. Override the handlers you need; each is called once an event, in the order of the log.

    Parameters are given by name: ``SmaCross(symbols=["SPY"], fast=10)``.

    Raises
    ------
    ParameterError
        If a parameter is unknown, of the wrong type or out of range.
    """

    Params: ClassVar[type[Params]] = Params
    name: ClassVar[str] = ""  #: the strategy's id; by default the class name in snake_case

    def __init__(self, **params: Any) -> None:
        self.params: Any = checked_params(self.Params, params)

    @property
    def strategy_id(self) -> str:
        """The id in every order, signal and book of this strategy."""
        return self.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def symbols(self) -> list[str]:
        """What it wants data of: its parameters ``symbols``, ``symbol`` and ``underlying``; with none of them everything there is."""
        fields = self.params.__struct_fields__
        wanted = list(self.params.symbols) if "symbols" in fields else []
        return wanted + [getattr(self.params, name) for name in ("symbol", "underlying") if name in fields]

    @property
    def options_on(self) -> list[str]:
        """Underlyings whose whole option chains it wants too: its parameter ``underlying``."""
        return [self.params.underlying] if "underlying" in self.params.__struct_fields__ else []

    @property
    def warm_up(self) -> int:
        """How many bars of each symbol it must have seen before it may order; override where indicators need history."""
        return 0

    def on_start(self, ctx: Context) -> None:
        """Before the first event: make indicators, set timers."""

    def on_session_open(self, ctx: Context, session: SessionOpened) -> None:
        """The regular session opened."""

    def on_bar(self, ctx: Context, bar: Bar) -> None:
        """A bar closed."""

    def on_quote(self, ctx: Context, quote: Quote) -> None:
        """The best bid or ask changed."""

    def on_trade(self, ctx: Context, trade: Trade) -> None:
        """A trade was printed."""

    def on_fill(self, ctx: Context, fill: OrderFilled) -> None:
        """Some or all of an own order traded."""

    def on_order(self, ctx: Context, event: OrderFact) -> None:
        """An own order moved on in its life: denied, submitted, accepted, filled, canceled, replaced, rejected, expired, unknown."""

    def on_position(self, ctx: Context, event: PositionAdjusted) -> None:
        """A position changed without an order: split, dividend, expiry, exercise, assignment."""

    def on_timer(self, ctx: Context, timer: TimerFired) -> None:
        """A timer set with ``ctx.set_timer`` is due."""

    def on_session_close(self, ctx: Context, session: SessionClosed) -> None:
        """The regular session closed."""

    def on_stop(self, ctx: Context) -> None:
        """After the last event, or when a live run is stopped; best effort."""
