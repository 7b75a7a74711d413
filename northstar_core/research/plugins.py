"""Plug-ins by entry point: strategies, risk rules and simulated brokers of other packages, found by name, loaded when named.

A package offers them in its own ``pyproject.toml``:

    [project.entry-points."northstar.risk_rules"]
    no_fridays = "mypackage.rules:NoFridays"        # a class with ``name`` and ``check`` (``engine.risk.Rule``)

    [project.entry-points."northstar.strategies"]
    trend = "mypackage.trend:Trend"                 # a ``Strategy`` subclass

    [project.entry-points."northstar.brokers"]
    dark_pool = "mypackage.pool:DarkPool"           # a class made and used like ``sim.broker.SimBroker``

``northstar backtest --rule no_fridays --simulator dark_pool``; in a notebook ``northstar.plugin("strategy", "trend")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib.metadata import entry_points
from typing import Any, Protocol

from northstar_core.engine.risk import Rule
from northstar_core.model.errors import SettingsError
from northstar_core.model.execution import AccountActivity, BrokerSnapshot, ExecutionReport
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import PlaceOrder

GROUPS = {"risk rule": "northstar.risk_rules", "strategy": "northstar.strategies", "broker": "northstar.brokers"}
Update = ExecutionReport | AccountActivity


class Simulator(Protocol):
    """What a backtest needs of a simulated broker; ``sim.broker`` says what each call means."""

    @property
    def working(self) -> Mapping[str, Any]:
        """Working orders by symbol; empty when nothing works."""

    @property
    def next_due(self) -> int:
        """When ``advance`` has something to do; ``sim.latency.NEVER`` if not."""

    def submit(self, order: PlaceOrder, now: int, last: Mapping[str, Bar | Quote] | None = None) -> Sequence[Update]: ...
    def cancel(self, order_id: str, now: int) -> Sequence[Update]: ...
    def replace(
        self, order_id: str, qty: Decimal | None, limit_price: Decimal | None, stop_price: Decimal | None, now: int
    ) -> Sequence[Update]: ...
    def advance(self, ts: int) -> Sequence[Update]: ...
    def on_bars(self, bars: Sequence[Bar]) -> Sequence[Update]: ...
    def on_quote(self, quote: Quote) -> Sequence[Update]: ...
    def on_trade(self, trade: Trade) -> Sequence[Update]: ...
    def on_session_open(self, ts: int, label: str) -> Sequence[Update]: ...
    def on_session_close(self, ts: int, label: str) -> Sequence[Update]: ...
    def snapshot(self, ts: int) -> BrokerSnapshot: ...


def plugin(kind: str, name: str) -> Any:
    """Return what an installed package offers under a name.

    Parameters
    ----------
    kind
        "strategy", "risk rule" or "broker".

    Raises
    ------
    SettingsError
        If there is nothing of that name, or it cannot be loaded.
    """
    if kind not in GROUPS:
        raise SettingsError(f"plug-ins of kind {kind!r}: there are {', '.join(GROUPS)}")
    found = entry_points(group=GROUPS[kind])
    for entry in found:
        if entry.name == name:
            try:
                return entry.load()
            except Exception as error:
                raise SettingsError(f"{kind} {name!r} ({entry.value}): cannot be loaded: {error}") from error
    have = ", ".join(sorted(entry.name for entry in found)) or "none"
    raise SettingsError(f"no {kind} named {name!r} is installed; there are: {have}")


def load_rules(names: Sequence[str]) -> tuple[Rule, ...]:
    """Return one instance of each named risk rule, in this order."""
    return tuple(plugin("risk rule", name)() for name in names)
