"""Named limit sets: what a run may do at most. A backtest enters one like any run, so its refusals are a live run's.

A set is a TOML text with a name and two tables; amounts are numbers, or percentages of the opening cash ("150%").

    name = "careful"

    [strategy]
    max_order_value = "25%"
    collar = 0.05

    [account]
    leverage = 1

What is not in the text is not set, and a check that needs it denies.
"""

from __future__ import annotations

import difflib
import tomllib
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from northstar_core.model.account import AccountLimits, SessionRule, StrategyLimits
from northstar_core.model.errors import SettingsError


class LimitSet(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of every strategy and of the account, under a name."""

    name: str
    strategy: StrategyLimits
    account: AccountLimits

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (scope, limit, value) of every limit, for printing."""
        return [
            (scope, field, "not set" if (value := getattr(limits, field)) is None else str(value))
            for scope, limits in (("strategy", self.strategy), ("account", self.account))
            for field in limits.__struct_fields__
        ]


def default_limits(cash: Decimal, *, daily: bool = False) -> LimitSet:
    """Return the set a backtest runs under when none is given.

    Sized to the opening cash: an order, a strategy's worst case and the account's gross may be worth twice it (the
    initial margin of Regulation T is 50 %), one symbol twice equity. Shorting is allowed, uncovered options are not.
    A price may be 5 s plus two bars old. With daily bars a decision is taken after the close, so orders queue for the
    next open.
    """
    return LimitSet(
        name="research-default" + ("-daily" if daily else ""),
        strategy=StrategyLimits(
            max_order_qty=Decimal(100_000),
            max_order_contracts=Decimal(1_000),
            max_order_value=2 * cash,
            collar=Decimal("0.10"),
            market_reserve=Decimal("0.01"),
            max_data_age_s=Decimal(5),
            max_data_age_bars=Decimal(2),
            max_position_qty=Decimal(1_000_000),
            max_position_contracts=Decimal(5_000),
            max_notional=2 * cash,
            max_open_orders=100,
            max_orders=600,
            window_s=Decimal(60),
            session=SessionRule.QUEUE if daily else SessionRule.REGULAR,
            allow_short=True,
            allow_uncovered=False,
        ),
        account=AccountLimits(
            max_gross=2 * cash,
            max_net=2 * cash,
            max_symbol_share=Decimal(2),
            leverage=Decimal(2),
            max_orders=600,
            window_s=Decimal(60),
        ),
    )


def parse_limits(text: str, cash: Decimal, *, where: str = "limits") -> LimitSet:
    """Return the limit set a TOML text describes.

    Raises
    ------
    SettingsError
        If it is no TOML, names a limit there is not, or a value that is none; names the file, the table and the field.
    """
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{where}: not valid TOML: {error}") from None
    return limit_set(data, cash, where=where)


def limit_set(data: dict[str, Any], cash: Decimal | None, *, where: str = "limits") -> LimitSet:
    """Return the limit set a table describes; without ``cash``, percentages are refused.

    Raises
    ------
    SettingsError
        If it names a limit there is not, or a value that is none.
    """
    for key in data:
        if key not in ("name", "strategy", "account"):
            raise SettingsError(f"{where}: unknown entry {key!r}; a limit set has name, [strategy] and [account]")
        if key != "name" and not isinstance(data[key], dict):
            raise SettingsError(f"{where}: {key} is a table: write [{key}], then its limits one a line")
    strategy = StrategyLimits(**_values(StrategyLimits, data.get("strategy", {}), cash, f"{where}: [strategy]"))
    account = AccountLimits(**_values(AccountLimits, data.get("account", {}), cash, f"{where}: [account]"))
    return LimitSet(name=str(data.get("name", "unnamed")), strategy=strategy, account=account)


def _values(kind: type[msgspec.Struct], table: dict[str, Any], cash: Decimal | None, where: str) -> dict[str, Any]:
    """Check each entry against the field's type."""
    types = {field.name: str(field.type) for field in msgspec.structs.fields(kind)}
    out: dict[str, Any] = {}
    for name, value in table.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, 1)
            raise SettingsError(f"{where} {name}: no such limit" + (f"; did you mean {near[0]}?" if near else ""))
        out[name] = _value(types[name], value, cash, f"{where} {name} = {value!r}")
    return out


def _value(kind: str, value: Any, cash: Decimal | None, where: str) -> Any:
    try:
        if "bool" in kind:
            if isinstance(value, bool):
                return value
            raise SettingsError(f"{where}: give true or false")
        if "SessionRule" in kind:
            return SessionRule(value)
        if isinstance(value, str) and value.endswith("%"):
            if cash is None:
                raise SettingsError(f"{where}: give an amount; a desk's limit does not move with its cash")
            number = Decimal(value[:-1]) / 100 * cash
        elif isinstance(value, bool) or (isinstance(value, str) and cash is None):
            raise SettingsError(f"{where}: give a number, without quotes")
        else:
            number = Decimal(str(value))
    except (ValueError, InvalidOperation):
        raise SettingsError(
            f"{where}: give a number, a percentage of the opening cash such as '50%', or a session rule"
        ) from None
    if not number.is_finite() or number < 0:
        raise SettingsError(f"{where}: must be zero or more")
    if "int" in kind and number != int(number):
        raise SettingsError(f"{where}: must be a whole number")
    return int(number) if "int" in kind else number
