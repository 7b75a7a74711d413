"""What of Alpaca's adapter can be set in an account's options and secrets.

Options: ``url`` (default: Alpaca's paper account), ``stream``, ``account_id`` (refused if the login shows another), ``start_s``,
``connect_s``, ``read_s``, ``mute_s``, ``requests_per_minute``, ``kept_for_cancels``, ``extended_hours``, ``replace_qty`` ("rest": a
replacement works its whole quantity anew, so what has filled is taken off; "whole": it counts what has filled), ``msgpack``.
Secrets: ``key``, ``secret``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from northstar_core.brokers.base import Wiring, is_loopback
from northstar_core.model.errors import SettingsError

PAPER_URL = "https://paper-api.alpaca.markets"
DEFAULTS: dict[str, Any] = {
    "url": PAPER_URL, "stream": "", "account_id": "", "start_s": 30.0, "connect_s": 3.0, "read_s": 10.0, "mute_s": 10.0,
    "requests_per_minute": 200, "kept_for_cancels": 0.2, "extended_hours": False, "replace_qty": "rest", "msgpack": False,
}  # fmt: skip


def options_of(wiring: Wiring) -> dict[str, Any]:
    """Return the options with their defaults.

    Raises
    ------
    SettingsError
        If an option is not known or of the wrong kind, or a secret is missing.
    """
    for name in ("key", "secret"):
        if not wiring.secrets.get(name):
            raise SettingsError(f"account {wiring.account}: Alpaca needs the secrets key and secret; {name} is missing")
    unknown = sorted(set(wiring.options) - set(DEFAULTS))
    if unknown:
        raise SettingsError(f"account {wiring.account}: Alpaca has no option {unknown[0]!r}; there are {', '.join(DEFAULTS)}")
    options = {**DEFAULTS, **wiring.options}
    for name, default in DEFAULTS.items():
        kinds = (int, float, Decimal) if isinstance(default, int | float) and not isinstance(default, bool) else (type(default),)
        if not isinstance(options[name], kinds):
            raise SettingsError(f"account {wiring.account}: option {name} = {options[name]!r}; give a value like {default!r}")
    if options["replace_qty"] not in ("rest", "whole"):
        raise SettingsError(f"account {wiring.account}: option replace_qty = {options['replace_qty']!r}; give 'rest' or 'whole'")
    for name, secure, plain in (("url", "https", "http"), ("stream", "wss", "ws")):
        url = str(options[name])
        scheme = urlsplit(url).scheme
        if (url or name == "url") and scheme != secure and not (scheme == plain and is_loopback(url)):
            raise SettingsError(f"account {wiring.account}: option {name} = {url!r}; give one that begins with {secure}://")
    return options


def stream_url(url: str) -> str:
    """Return where the stream of a base URL is."""
    parts = urlsplit(url)
    return urlunsplit(("wss" if parts.scheme == "https" else "ws", parts.netloc, parts.path.rstrip("/") + "/stream", "", ""))
