"""The settings of an account at Interactive Brokers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from northstar_core.brokers.base import is_loopback
from northstar_core.brokers.ibkr.orders import CONFIRM
from northstar_core.model.errors import SettingsError

COMPETE = ("never", "start", "always")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the configuration file says of the account, with the defaults of a gateway on this machine.

    What the network takes is in the wall's seconds: ``start_s``, ``connect_s``, ``answer_s``, ``read_s``; all else in the desk's.
    """

    account_id: str  #: the broker's name of the account, as U1234567, or DU1234567 for paper
    url: str = "https://localhost:5000/v1/api"  #: REST
    ws: str = ""  #: stream; by default the same place
    self_signed: bool = False  #: the gateway's certificate is its own; loopback hosts only
    confirm: tuple[str, ...] = CONFIRM  #: ids of questions that are confirmed
    #: whether another login of the same user is thrown out: never, when we start, or whenever it happens
    compete: str = "start"
    conids: dict[str, int] = {}  #: contract ids by symbol, where a name is not enough
    symbols: tuple[str, ...] = ()  #: looked up before the account is up, so that their first orders need not wait
    trades_days: int = 7  #: how far back executions are read, 1 to 7
    paced: bool = True  #: keep to the broker's published limits
    start_s: float = 30.0  #: to be up
    connect_s: float = 3.0
    answer_s: float = 10.0  #: of a request that changes something
    read_s: float = 10.0
    tickle_s: float = 55.0
    poll_s: float = 5.0  #: how often doubts are looked into, and orders read where the stream is silent
    check_s: float = 60.0  #: how often the stream is checked against what REST says
    quiet_s: float = 25.0  #: a stream without any frame for so long is asked whether it lives
    backoff_s: float = 30.0  #: the longest pause between attempts to come back

    @property
    def stream(self) -> str:
        """Where the stream is."""
        if self.ws:
            return self.ws
        scheme, _, rest = self.url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}/ws"

    @property
    def play_money(self) -> bool:
        """Whether the account is one of play money; the broker names those with a D."""
        return self.account_id.startswith("D")


def options(raw: Mapping[str, Any], account: str) -> Options:
    """Return an account's settings.

    Raises
    ------
    SettingsError
        With the key and what is allowed.
    """
    try:
        found = msgspec.convert(dict(raw), Options)
    except msgspec.ValidationError as error:
        known = ", ".join(Options.__struct_fields__)
        raise SettingsError(f"accounts.{account}.options: {error}; options of ibkr are {known}") from None
    if not found.account_id.isalnum():
        raise SettingsError(f"accounts.{account}.options.account_id: {found.account_id!r} is no account number, as U1234567")
    if found.compete not in COMPETE:
        raise SettingsError(f"accounts.{account}.options.compete: {found.compete!r}; use {', '.join(COMPETE)}")
    if not 1 <= found.trades_days <= 7:
        raise SettingsError(f"accounts.{account}.options.trades_days: {found.trades_days}; use 1 to 7")
    for name, url, schemes in (("url", found.url, ("http", "https")), ("ws", found.stream, ("ws", "wss"))):
        scheme = url.partition("://")[0]
        if scheme not in schemes:
            raise SettingsError(f"accounts.{account}.options.{name}: {url!r} does not begin with {' or '.join(schemes)}://")
        if not is_loopback(url):
            if found.self_signed:
                raise SettingsError(
                    f"accounts.{account}.options.self_signed: {url} is not on this machine, its certificate must be checked; leave it out"
                )
            if scheme in ("http", "ws"):
                raise SettingsError(f"accounts.{account}.options.{name}: {url} is not on this machine; use {schemes[1]}://")
    return found
