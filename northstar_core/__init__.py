"""Northstar: strategies are notebooks; the same notebook is a backtest, a paper run, a shadow run and the live trader.

``import northstar_core as northstar`` gives the nouns a strategy needs and ``run``. What is heavy is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from northstar_core.client.run import backtest, configure, demo_market, run
    from northstar_core.model.errors import DataError, NorthstarError, ParameterError
    from northstar_core.model.events import OrderFilled, TimerFired
    from northstar_core.model.instrument import Combo, Equity, Option, Right, combo, instrument
    from northstar_core.model.market import Bar, Quote, Trade
    from northstar_core.model.order import OrderStatus, OrderType, Side, TimeInForce
    from northstar_core.research.plugins import plugin
    from northstar_core.research.result import Result
    from northstar_core.research.tearsheet import tear_sheet
    from northstar_core.strategy import indicators
    from northstar_core.strategy.base import Params, Range, Strategy
    from northstar_core.strategy.context import Context

__version__ = "0.1.0"

_HOMES = {
    "backtest": "client.run", "configure": "client.run", "demo_market": "client.run", "run": "client.run",
    "DataError": "model.errors", "NorthstarError": "model.errors", "ParameterError": "model.errors",
    "OrderFilled": "model.events", "TimerFired": "model.events",
    "Combo": "model.instrument", "Equity": "model.instrument", "Option": "model.instrument", "Right": "model.instrument",
    "combo": "model.instrument", "instrument": "model.instrument",
    "Bar": "model.market", "Quote": "model.market", "Trade": "model.market",
    "OrderStatus": "model.order", "OrderType": "model.order", "Side": "model.order", "TimeInForce": "model.order",
    "Result": "research.result", "plugin": "research.plugins", "tear_sheet": "research.tearsheet",
    "Params": "strategy.base", "Range": "strategy.base", "Strategy": "strategy.base", "Context": "strategy.context",
}  # fmt: skip

__all__ = [
    "Bar", "Combo", "Context", "DataError", "Equity", "NorthstarError", "Option", "OrderFilled",
    "OrderStatus", "OrderType", "ParameterError", "Params", "Quote", "Range", "Result", "Right",
    "Side", "Strategy", "TimeInForce", "TimerFired", "Trade", "backtest", "combo", "configure", "demo_market", "indicators",
    "instrument", "plugin", "run", "tear_sheet",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from the room it lives in."""
    if name == "indicators":
        return import_module("northstar_core.strategy.indicators")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"northstar_core has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"northstar_core.{home}"), name)


def __dir__() -> list[str]:
    return __all__
