"""Making a desk's brokers and feeds from its configuration. Who they are, the configuration says; nothing here asks for a mode."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from northstar_core.brokers.base import Broker, Wiring, is_loopback
from northstar_core.brokers.plugins import make_broker
from northstar_core.gateway.secrets import account_secrets, feed_key
from northstar_core.gateway.settings_rules import FEED_GROUP
from northstar_core.model.errors import SettingsError

if TYPE_CHECKING:
    from northstar_core.gateway.gateway import Gateway


def broker_of(name: str, emit: Callable[[Any], None], gateway: Gateway) -> Broker:
    """Return the broker of an account.

    Raises
    ------
    SettingsError
        If there is no such broker, its secrets cannot be read, real money would move unsaid, or simulated time would meet a broker that
        is not on this machine.
    """
    account = gateway.settings.accounts[name]
    options = dict(account.options)
    if account.cash is not None:
        options["cash"] = account.cash
    secrets = {key: secret.reveal() for key, secret in account_secrets(gateway.settings, name).items()}
    broker = make_broker(
        account.broker,
        Wiring(
            account=name, clock=gateway.clock, emit=emit, order_of=gateway.desk.order, options=options, secrets=secrets,
            reads={"executions": gateway.recovery.last_execution.get(name, 0)},
        ),
    )  # fmt: skip
    if not broker.simulated and not account.real_money:
        raise SettingsError(f"account {name}: its broker trades real money, and the configuration does not say so; write live = true")
    if gateway.clock.speed != 1 and not broker.simulated:
        raise SettingsError(f"account {name}: a clock of speed {gateway.clock.speed:g} is for simulated brokers on this machine only")
    return broker


def feed_of(name: str, emit: Callable[[Any], None], gateway: Gateway) -> Any:
    """Return a feed.

    Raises
    ------
    SettingsError
        If there is no feed of its kind, or its key cannot be read.
    """
    feed = gateway.settings.feeds[name]
    make = _feed_class(name, feed.kind)
    options = feed.wiring()
    if gateway.clock.speed != 1 and not all(is_loopback(str(options.get(url, ""))) for url in ("ws", "rest")):
        raise SettingsError(f"feed {name}: a clock of speed {gateway.clock.speed:g} is for feeds on this machine only")
    return make(name, gateway.clock, emit, options=options, key=feed_key(gateway.settings, name).reveal())


def _feed_class(name: str, kind: str) -> Any:
    """What makes feeds of a kind: ours, or another package's by entry point, made with the same arguments."""
    if kind == "massive":
        from northstar_core.data.massive.feed import MassiveFeed

        return MassiveFeed
    for entry in entry_points(group=FEED_GROUP):
        if entry.name == kind:
            return entry.load()
    raise SettingsError(f"feeds.{name}.kind = {kind!r}: there is massive, and what other packages offer as {FEED_GROUP}")
