"""Parameters: typed, with ranges, and refused in one line that names the parameter."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest

from northstar_core.model.errors import ParameterError
from northstar_core.strategy.base import Params, Range, Strategy

D = Decimal


class Cross(Strategy):
    """A strategy with every kind of parameter."""

    class Params(Params):
        symbol: str
        fast: Annotated[int, Range(ge=2, le=400)] = 10
        dollars: Annotated[Decimal, Range(gt=0)] = D(1_000)
        stretch: Annotated[float, Range(gt=0, lt=1)] = 0.5
        tags: tuple[str, ...] = ()
        on: bool = True

        def __post_init__(self) -> None:
            if self.fast == 13:
                raise ValueError("fast may not be unlucky")


def test_parameters_are_typed_and_have_defaults() -> None:
    params = Cross(symbol="SPY", fast=20, tags=["a", "b"]).params
    assert (params.symbol, params.fast, params.dollars, params.tags) == ("SPY", 20, D(1000), ("a", "b"))
    with pytest.raises(AttributeError):
        params.fast = 3


@pytest.mark.parametrize("dollars", ["2500.10", 2500.10, D("2500.10")])
def test_a_number_may_stand_for_a_decimal_by_its_shortest_digits(dollars: Any) -> None:
    assert Cross(symbol="SPY", dollars=dollars).params.dollars == D("2500.1")


@pytest.mark.parametrize(("given", "says"), [
    ({}, "parameter symbol is not given"),
    ({"symbol": "SPY", "fsat": 3}, "did you mean"),
    ({"symbol": "SPY", "zzz": 3}, "zzz"),
    ({"symbol": "SPY", "fast": 1}, "parameter fast = 1: must be >= 2"),
    ({"symbol": "SPY", "fast": 401}, "parameter fast = 401: must be <= 400"),
    ({"symbol": "SPY", "fast": "ten"}, "parameter fast = 'ten': expected"),
    ({"symbol": "SPY", "fast": True}, "parameter fast = True: expected"),
    ({"symbol": "SPY", "fast": 2.5}, "parameter fast = 2.5: expected"),
    ({"symbol": 3}, "parameter symbol = 3: expected"),
    ({"symbol": "SPY", "dollars": 0}, "parameter dollars = Decimal('0'): must be > 0"),
    ({"symbol": "SPY", "stretch": 1.0}, "parameter stretch = 1.0: must be < 1"),
    ({"symbol": "SPY", "stretch": float("nan")}, "parameter stretch = nan: must be"),
    ({"symbol": "SPY", "dollars": float("nan")}, "parameter dollars"),
    ({"symbol": "SPY", "dollars": "NaN"}, "parameter dollars"),
    ({"symbol": "SPY", "tags": [1]}, "parameter tags = [1]: expected"),
    ({"symbol": "SPY", "fast": 13}, "fast may not be unlucky"),
])  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused_in_one_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Cross(**given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_strategy_names_what_it_wants_by_its_parameters() -> None:
    class Two(Strategy):
        class Params(Params):
            symbols: tuple[str, ...] = ("AAA",)
            underlying: str = "SPY"

    assert (Two().symbols, Two().options_on, Two().strategy_id) == (["AAA", "SPY"], ["SPY"], "two")
    assert (Strategy().symbols, Strategy().options_on) == ([], [])
    assert Cross(symbol="QQQ").symbols == ["QQQ"]


def test_a_strategys_id_is_its_name_in_small_letters() -> None:
    class OpeningRange2(Strategy):
        """Two words and a number."""

    class Named(Strategy):
        name = "other"

    assert (OpeningRange2().strategy_id, Named().strategy_id) == ("opening_range2", "other")
