"""Plug-ins by entry point: strategies, risk rules and brokers of other packages, found by name, loaded when named.

A package offers a risk rule in its own ``pyproject.toml``:

    [project.entry-points."northstar.risk_rules"]
    no_fridays = "mypackage.rules:NoFridays"

``load_rules(["no_fridays"])`` makes one of each. ``northstar.strategies`` and ``northstar.brokers`` work the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from northstar_core.engine.risk import Rule
from northstar_core.model.errors import SettingsError

GROUPS = {"risk rule": "northstar.risk_rules", "strategy": "northstar.strategies", "broker": "northstar.brokers"}


def load(kind: str, name: str) -> Any:
    """Return what an installed package offers under a name.

    Raises
    ------
    SettingsError
        If there is nothing of that name, or it cannot be loaded.
    """
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
    return tuple(load("risk rule", name)() for name in names)
