"""What a configuration connects to: URLs, options, references to secrets, real money, and what simulated time may meet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from northstar_core.brokers.base import is_loopback
from northstar_core.gateway.references import is_reference
from northstar_core.gateway.settings import AccountSettings, Settings
from northstar_core.model.errors import SettingsError

_SECRET_OPTION = re.compile(
    r"(^|_)(key|secret|password|passwd|token|credential|credentials|api_?key|key_id)(_|$)", re.IGNORECASE
)


def broker_options(where: str, name: str, account: AccountSettings) -> Iterator[str]:
    """What our own adapters take, and whether they would trade the money the configuration says."""
    if account.broker == "alpaca":
        from northstar_core.brokers.alpaca.settings import DEFAULTS, PAPER_URL

        for key in account.options:
            if key not in DEFAULTS:
                yield f"{where}.options.{key}: no such option; alpaca takes {', '.join(DEFAULTS)}{near(key, DEFAULTS)}"
        yield from _secrets(where, account, ("key", "secret"))
        url = str(account.options.get("url", PAPER_URL))
        play = url.startswith(PAPER_URL)
        if account.real_money and play:
            yield f'{where}.options.url: live = true, but this is the paper account; give url = "https://api.alpaca.markets"'
        elif not account.real_money and not play and not is_loopback(url):
            yield f"{where}.live: {url} trades real money; write live = true, or leave the url out for the paper account"
    elif account.broker == "ibkr":
        from northstar_core.brokers.ibkr.settings import options

        try:
            found = options(account.options, name)
        except SettingsError as error:
            yield str(error)
            return
        yield from _secrets(where, account, ())
        play = found.account_id.startswith("D")  # so the broker names them
        if account.real_money and play:
            yield f"{where}.live: {found.account_id} is a paper account: its name begins with D; leave live out"
        elif not account.real_money and not play:
            yield f"{where}.live: {found.account_id} trades real money; write live = true, or give a paper account (DU…)"


def _secrets(where: str, account: AccountSettings, wanted: tuple[str, ...]) -> Iterator[str]:
    """Which credentials an adapter of ours takes: these, and all of them."""
    for key in account.secrets:
        if key not in wanted:
            yield f"{where}.secrets.{key}: no such secret; {account.broker} takes {', '.join(wanted) or 'none'}"
    for key in wanted:
        if key not in account.secrets:
            yield f"{where}.secrets.{key}: is missing; give a reference: file:PATH"


def scaled(settings: Settings) -> Iterator[str]:
    """Simulated time is allowed with twins on this machine only; they speak plain http, which no real service does."""
    clock = settings.clock
    assert clock is not None
    if not 0.1 <= clock.speed <= 10_000:
        yield f"clock.speed: {clock.speed:g} is not between 0.1 and 10000"
    try:
        if datetime.fromisoformat(clock.desk).tzinfo is None:
            yield "clock.desk: has no offset; write 2024-03-04T09:25:00-05:00"
    except ValueError:
        yield f"clock.desk: {shown(clock.desk)} is no time; write 2024-03-04T09:25:00-05:00"
    if clock.wall < 0:
        yield "clock.wall: must be zero or more: Unix seconds"
    far = "a clock of another speed goes with simulated brokers and feeds on this machine only"
    for name, feed in settings.feeds.items():
        for key, url in (("ws", feed.ws), ("rest", feed.rest)):
            if not url or not _is_twin(url):
                yield f"feeds.{name}.{key}: {url or 'the real one'}: {far}; use http or ws to 127.0.0.1, or remove [clock]"
    for name, account in settings.accounts.items():
        if account.broker == "paper":
            continue
        where = f"accounts.{name}.options"
        urls = dict(_urls(account.options))
        if not urls:
            yield f"{where}: the real one: {far}; give URLs with http or ws to 127.0.0.1, or remove [clock]"
        for key, url in urls.items():
            if not _is_twin(url):
                yield f"{where}.{key}: {url}: {far}; use http or ws to 127.0.0.1, or remove [clock]"


def _is_twin(url: str) -> bool:
    return is_loopback(url) and urlsplit(url).scheme in ("http", "ws")


def plain_options(where: str, options: dict[str, Any], home: str) -> Iterator[str]:
    """Yield what no option may be: a secret, or a URL that cannot be one; ``home`` is where secrets go."""
    for key in options:
        if _SECRET_OPTION.search(key):
            yield f"{where}.{key}: a secret is no option; put a reference such as file:PATH into {home}"
    for key, url in _urls(options):
        yield from url_of(f"{where}.{key}", url, ("http", "https", "ws", "wss"))


def _urls(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text that is a URL, at any depth."""
    for key, value in options.items():
        if isinstance(value, str) and "://" in value:
            yield key, value
        elif isinstance(value, dict):
            yield from ((f"{key}.{inner}", url) for inner, url in _urls(value))
        elif isinstance(value, list):
            yield from ((f"{key}.{inner}", url) for inner, url in _urls({str(i): v for i, v in enumerate(value, 1)}))


def url_of(where: str, url: str, schemes: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with a URL: none of these schemes, with a login in it, or not encrypted beyond this machine."""
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError:
        yield f"{where}: is no URL"
        return
    if found.scheme not in schemes or not found.hostname:
        yield f"{where}: is no URL of {' or '.join(schemes)}"
    elif found.username or found.password or found.query:
        yield f"{where}: a URL with a login or a query may hold a secret; give it without"
    elif found.scheme in ("http", "ws") and not is_loopback(url):
        yield f"{where}: {found.scheme}://{found.hostname} is not encrypted; use {found.scheme}s"


def secret_reference(where: str, text: str) -> Iterator[str]:
    """The text itself is not shown: it may be the secret."""
    if not is_reference(text):
        yield f"{where}: is no reference; a secret is not written here: give file:PATH, env:NAME or keyring:SERVICE/NAME"


def near(name: str, have: Iterable[str]) -> str:
    """Return a hint at the name that was probably meant; empty where none is near."""
    near = get_close_matches(name, list(have), 1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(text: str) -> str:
    """Return a text as an error may show it: short."""
    return repr(text) if len(text) <= 40 else repr(text[:37] + "…")
