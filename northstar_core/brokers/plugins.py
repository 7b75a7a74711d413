"""Brokers by name: ours, imported when they are needed, and those of other packages by entry point.

A package offers a broker in its own ``pyproject.toml``:

    [project.entry-points."northstar.live_brokers"]
    tastytrade = "mypackage.tasty:TastytradeBroker"     # made with a ``Wiring``, used as ``brokers.base`` says

(``northstar.brokers`` is another thing: simulated exchanges for backtests.)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from northstar_core.brokers.base import Broker, Wiring
from northstar_core.model.errors import SettingsError

GROUP = "northstar.live_brokers"
BUILT_IN = {
    "alpaca": ("northstar_core.brokers.alpaca.broker", "AlpacaBroker"),
    "ibkr": ("northstar_core.brokers.ibkr.broker", "IbkrBroker"),
    "paper": ("northstar_core.brokers.paper", "PaperBroker"),
}
NEEDED = ("start", "close", "submit", "cancel", "replace", "find", "snapshot", "info")


def broker_kinds() -> list[str]:
    """Return the names of every broker that is installed."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def make_broker(kind: str, wiring: Wiring) -> Broker:
    """Return a broker of a kind, not yet started.

    Raises
    ------
    SettingsError
        If there is none of that name, it cannot be loaded, is no broker, or does not take its options or secrets.
    """
    made = broker_class(kind)(wiring)
    missing = [name for name in (*NEEDED, "kind", "simulated", "deduplicates") if not hasattr(made, name)]
    if missing:
        raise SettingsError(f"broker {kind!r}: has no {missing[0]}; brokers.base says what a broker needs")
    broker: Broker = made
    return broker


def broker_class(kind: str) -> type:
    """Return what makes brokers of a kind."""
    found: object
    if kind in BUILT_IN:
        module, name = BUILT_IN[kind]
        found = getattr(import_module(module), name)
    else:
        entries = [entry for entry in entry_points(group=GROUP) if entry.name == kind]
        if not entries:
            raise SettingsError(f"no broker named {kind!r} is installed; there are: {', '.join(broker_kinds())}")
        try:
            found = entries[0].load()
        except Exception as error:
            raise SettingsError(f"broker {kind!r} ({entries[0].value}): cannot be loaded: {error}") from error
    if not isinstance(found, type):
        raise SettingsError(f"broker {kind!r}: {found!r} is no class")
    return found
