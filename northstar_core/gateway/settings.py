"""The desk's configuration, ``northstar.toml``: typed, checked as a whole before anything starts, and without a secret in it.

``load_settings`` reads it; what can be wrong with one value is refused by ``tables``, what can be wrong between values by
``settings_rules``. Every refusal is one line with the file, the key and what is allowed.
"""

from __future__ import annotations

import hashlib
import tomllib
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from northstar_core.brokers.base import is_loopback
from northstar_core.gateway.tables import read
from northstar_core.model.account import AccountLimits, StrategyLimits
from northstar_core.model.errors import SettingsError
from northstar_core.model.limit_sets import LimitSet, limit_set

FILE = "northstar.toml"
LARGEST = 1_000_000  #: bytes of a configuration

OnLost = Literal["cancel", "leave", "flatten"]
SPANS = {"1s": 10**9, "1m": 60 * 10**9}  #: ns


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Desk(_Table, frozen=True, kw_only=True):
    """What holds for all accounts."""

    name: str = "desk"
    calendar: str = "XNYS"  #: exchange calendar of the sessions: a MIC, or 24/7
    bar: Literal["1s", "1m"] = "1m"  #: the bars strategies get, as the feed makes them; longer ones they make of these

    @property
    def bar_ns(self) -> int:
        """Length of a bar, ns."""
        return SPANS[self.bar]


class ClockSettings(_Table, frozen=True, kw_only=True):
    """A desk time that runs faster than the wall's; with simulated brokers on this machine only."""

    speed: float  #: desk seconds in a wall second
    desk: str  #: ISO 8601 with its offset: the desk's time …
    wall: Decimal  #: … when the wall's was this, Unix seconds

    @property
    def desk_ns(self) -> int:
        """The desk's time at the anchor, ns UTC."""
        at = datetime.fromisoformat(self.desk)
        return int(at.timestamp()) * 10**9 + at.microsecond * 1000


class FeedSettings(_Table, frozen=True, kw_only=True):
    """A market data feed."""

    kind: str  #: "massive", or a plug-in's name
    key: str = ""  #: reference to the secret: file:PATH, env:NAME, keyring:SERVICE/NAME
    ws: str = ""  #: base URL of the stream; empty for the vendor's own
    rest: str = ""  #: base URL of REST; empty for the vendor's own
    options: dict[str, Any] = {}

    @property
    def rehearsed(self) -> bool:
        """Whether its prices come from this machine: from a twin, which plays what was generated or recorded."""
        return bool(self.ws) and is_loopback(self.ws)

    def wiring(self) -> dict[str, Any]:
        """Return the options an adapter is made with, the URLs among them where given."""
        urls = {name: url for name, url in (("ws", self.ws), ("rest", self.rest)) if url}
        return {**self.options, **urls}


class AccountSettings(_Table, frozen=True, kw_only=True):
    """An account at a broker."""

    broker: str  #: "alpaca", "ibkr", "paper", or a plug-in's name
    limits: str  #: limit set whose [account] part binds it
    #: real money moves (``live = true``); without it an adapter that could move some refuses to start
    real_money: bool = msgspec.field(default=False, name="live")
    cash: Decimal | None = None  #: opening cash of a paper account, dollars
    feed: str = ""  #: the feed its prices come from; may be left out where there is one feed
    options: dict[str, Any] = {}  #: the broker's own: URLs, account number, …
    secrets: dict[str, str] = {}  #: name of a credential to its reference: file:PATH, env:NAME, keyring:SERVICE/NAME
    reconcile_s: float = 60.0  #: how often books are compared with the broker's, desk seconds
    on_session_lost: OnLost = "cancel"  #: what is done with a lost strategy's orders, where its grant does not say

    def __repr__(self) -> str:
        """Short: options may be long."""
        return f"AccountSettings(broker={self.broker!r}, live={self.real_money})"


class GrantSettings(_Table, frozen=True, kw_only=True):
    """A strategy may trade these symbols in this account, within a limit set."""

    strategy: str
    account: str
    symbols: tuple[str, ...]  #: ["*"] allows every symbol
    cash: Decimal  #: the strategy's bankroll, dollars
    limits: str  #: limit set whose [strategy] part binds it
    on_lost: OnLost | None = None  #: after loading never None: the account's, where not given
    one_trade: bool = False  #: no new entry while a position or an entry order is open
    max_order_age_s: float | None = None  #: a working order older than this is cancelled, desk seconds

    @property
    def allowed(self) -> tuple[str, ...]:
        """The symbols as ``model.account.Grant`` has them: empty for every symbol."""
        return () if self.symbols == ("*",) else self.symbols


class JobSettings(_Table, frozen=True, kw_only=True):
    """A notebook that runs every session of a calendar."""

    name: str
    notebook: str  #: path; a relative one counts from the configuration's folder
    account: str
    parameters: dict[str, Any] = {}
    calendar: str = ""  #: after loading never empty: the desk's, where not given
    start: str = "open-5m"  #: open or close and an offset in s, m or h, or a time of the exchange such as 09:10
    stop: str = "close+10m"
    restart: Literal["never", "on-failure"] = "never"
    restarts: int = 3  #: how often in one session at most
    late_s: float = 900.0  #: it may start this much late (desk seconds); after that the run is missed, which alerts
    grace_s: float = 30.0  #: wall seconds it has to end when asked to, before it is ended
    enabled: bool = True


class RemoteSettings(_Table, frozen=True, kw_only=True):
    """Sessions from other hosts, over TCP with TLS; without it there are none."""

    port: int
    certificate: str  #: path of the PEM file with the gateway's certificate chain
    key: str  #: reference to its private key: file:PATH
    host: str = "0.0.0.0"  #: address to listen on


class AlertSettings(_Table, frozen=True, kw_only=True):
    """Where alerts go beside the log: each is posted as JSON."""

    webhook: str = ""  #: reference to the URL, which is a secret: file:PATH, env:NAME
    severity: Literal["info", "warning", "critical"] = "warning"  #: the least that is sent


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration."""

    desk: Desk = Desk()
    clock: ClockSettings | None = None
    feeds: dict[str, FeedSettings] = {}
    accounts: dict[str, AccountSettings]
    limits: dict[str, LimitSet]
    grants: tuple[GrantSettings, ...] = ()
    schedule: tuple[JobSettings, ...] = ()
    alerts: AlertSettings = AlertSettings()
    remote: RemoteSettings | None = None
    path: Path
    home: Path
    sha256: str  #: of the file

    def grant(self, strategy: str, account: str) -> GrantSettings | None:
        """Return what a strategy may do in an account; None where nothing."""
        return next((g for g in self.grants if (g.strategy, g.account) == (strategy, account)), None)

    def grants_of(self, account: str) -> tuple[GrantSettings, ...]:
        """Return the grants of an account."""
        return tuple(grant for grant in self.grants if grant.account == account)

    def strategy_limits(self, grant: GrantSettings) -> StrategyLimits:
        """Return the limits that bind a strategy in an account."""
        return self.limits[grant.limits].strategy

    def account_limits(self, account: str) -> AccountLimits:
        """Return the limits that bind an account."""
        return self.limits[self.accounts[account].limits].account

    def notebook(self, job: JobSettings) -> Path:
        """Return the path of a job's notebook."""
        return (self.path.parent / Path(job.notebook).expanduser()).resolve()


class _File(_Table, frozen=True, kw_only=True):
    """The file as it stands, before limit sets are read and defaults that depend on each other are set."""

    desk: Desk = Desk()
    clock: ClockSettings | None = None
    feeds: dict[str, FeedSettings] = {}
    accounts: dict[str, AccountSettings]
    limits: dict[str, Any]
    grants: tuple[GrantSettings, ...] = ()
    schedule: tuple[JobSettings, ...] = ()
    alerts: AlertSettings = AlertSettings()
    remote: RemoteSettings | None = None


def default_config(home: Path) -> Path:
    """Return where a home's configuration is: beside the folder ``.northstar``, or in a home of another name."""
    return home.parent / FILE if home.name == ".northstar" else home / FILE


def load_settings(path: Path, home: Path) -> Settings:
    """Return the configuration in a file, checked as a whole.

    Raises
    ------
    SettingsError
        If it cannot be read, or anything in it is unknown, missing, of another type or against a rule.
    """
    from northstar_core.gateway.settings_rules import check

    path, home = path.expanduser().absolute(), home.expanduser().absolute()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no configuration; northstar init writes one") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    settings = parse_settings(raw, path, home)
    check(settings)
    return settings


def parse_settings(raw: bytes, path: Path, home: Path) -> Settings:
    """Return the configuration in these bytes, each value checked for itself.

    Raises
    ------
    SettingsError
        If something in it is unknown, missing or of another type.
    """
    if len(raw) > LARGEST:
        raise SettingsError(f"{path}: is too large: {len(raw)} bytes")
    try:
        data = tomllib.loads(raw.decode("utf-8"), parse_float=Decimal)
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is no UTF-8 text") from None
    except (tomllib.TOMLDecodeError, ArithmeticError, RecursionError, ValueError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    file: _File = read(_File, data, str(path))
    limits = {}
    for name, table in file.limits.items():
        where = f"{path}: limits.{name}"
        if not isinstance(table, dict) or "name" in table:
            raise SettingsError(f"{where}: has two tables: [limits.{name}.strategy] and [limits.{name}.account]")
        limits[name] = limit_set({**table, "name": name}, None, where=where)
    lost = {name: account.on_session_lost for name, account in file.accounts.items()}
    replace = msgspec.structs.replace
    return Settings(
        desk=file.desk, clock=file.clock, feeds=file.feeds, accounts=file.accounts, limits=limits,
        grants=tuple(replace(g, on_lost=g.on_lost or lost.get(g.account, "cancel")) for g in file.grants),
        schedule=tuple(replace(job, calendar=job.calendar or file.desk.calendar) for job in file.schedule),
        alerts=file.alerts, remote=file.remote, path=path, home=home, sha256=hashlib.sha256(raw).hexdigest(),
    )  # fmt: skip
