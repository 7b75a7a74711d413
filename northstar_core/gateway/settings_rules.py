"""What must hold between the values of a configuration: names that exist, limits that are set and can bind, money that is fenced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from importlib.metadata import entry_points

from northstar_core.gateway.references import is_reference, kind_of
from northstar_core.gateway.settings import AccountSettings, FeedSettings, JobSettings, Settings
from northstar_core.gateway.settings_links import (
    broker_options,
    near,
    plain_options,
    scaled,
    secret_reference,
    shown,
    url_of,
)
from northstar_core.model.errors import DataError, SettingsError
from northstar_core.model.instrument import instrument
from northstar_core.model.limit_sets import LimitSet

BROKERS = ("alpaca", "ibkr", "paper")  #: ours; others by entry point ``northstar.live_brokers``
FEEDS = ("massive",)  #: ours; others by entry point ``northstar.feeds``
SHORTEST_WINDOW_S = 10  #: orders are counted over no less: a slip from 60 to 1 would allow sixty times as many
BROKER_GROUP, FEED_GROUP = "northstar.live_brokers", "northstar.feeds"
KNOWN_CALENDARS = ("XNYS", "XNAS", "24/7")  #: need no look into the library, which takes a second to load
LONGEST_NAME = 24  #: of a strategy on the desk: an order id made of more is longer than brokers take
KNOWN_YEAR_NS = 1_735_689_600 * 10**9  #: 2025

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_STRATEGY = re.compile(r"[a-z0-9][a-z0-9_]{0,23}")
_MOMENT = re.compile(r"(open|close)(?:([+-])((?:\d{1,5}[hms])+))?|([01]\d|2[0-3]):[0-5]\d")

#: a larger number is a slip of the pen (5 for 5 %, milliseconds for seconds), not a limit
_LARGEST: dict[str, Decimal] = {
    "collar": Decimal("0.5"), "market_reserve": Decimal("0.5"), "max_data_age_s": Decimal(600), "max_data_age_bars": Decimal(10),
    "leverage": Decimal(10), "max_symbol_share": Decimal(10), "window_s": Decimal(86_400),
    "max_open_orders": Decimal(10_000), "max_orders": Decimal(100_000),
}  # fmt: skip
#: the first can never bind where it is above the second
_ORDERED = {
    "strategy": (
        ("max_order_value", "max_notional"),
        ("max_order_qty", "max_position_qty"),
        ("max_order_contracts", "max_position_contracts"),
    ),
    "account": (("max_net", "max_gross"),),
}


def check(settings: Settings) -> None:
    """Refuse a configuration that does not hold together.

    Raises
    ------
    SettingsError
        With the file, the key and the way out.
    """
    for problem in problems(settings):
        raise SettingsError(f"{settings.path}: {problem}")


def problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong, each in one line without the file."""
    yield from _desk(settings)
    for name, feed in settings.feeds.items():
        yield from _feed(f"feeds.{name}", name, feed)
    if not settings.accounts:
        yield 'accounts: there is none; write [accounts.paper-1] with broker = "paper"'
    for name, account in settings.accounts.items():
        yield from _account(settings, f"accounts.{name}", name, account)
    bound = {account.limits for account in settings.accounts.values()}, {grant.limits for grant in settings.grants}
    for name, limits in settings.limits.items():
        yield from _limits(f"limits.{name}", name, limits, account=name in bound[0], strategy=name in bound[1])
    yield from _grants(settings)
    yield from _schedule(settings)
    if settings.remote is not None:
        if not 0 < settings.remote.port < 65536:
            yield f"remote.port: {settings.remote.port} is no port; choose one from 1 to 65535"
        if not settings.remote.key.startswith("file:"):
            yield "remote.key: a private key is in a file of its own: write file:PATH"
    if settings.alerts.webhook:
        yield from secret_reference("alerts.webhook", settings.alerts.webhook)
    if settings.clock is not None:
        yield from scaled(settings)


def _desk(settings: Settings) -> Iterator[str]:
    if not _NAME.fullmatch(settings.desk.name):
        yield f"desk.name: {shown(settings.desk.name)} is no name: small letters, digits, - and _, up to 32"
    yield from _calendar("desk.calendar", settings.desk.calendar)


def _calendar(where: str, name: str) -> Iterator[str]:
    if name in KNOWN_CALENDARS:
        return
    from northstar_core.data.calendar import load_around

    try:
        load_around(name, KNOWN_YEAR_NS, KNOWN_YEAR_NS)
    except DataError as error:
        yield f"{where}: {error}"


def _feed(where: str, name: str, feed: FeedSettings) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"{where}: no name: small letters, digits, - and _, up to 32"
    yield from _kind(f"{where}.kind", feed.kind, FEEDS, FEED_GROUP, "feed")
    for key, url, schemes in (("ws", feed.ws, ("ws", "wss")), ("rest", feed.rest, ("http", "https"))):
        if url:
            yield from url_of(f"{where}.{key}", url, schemes)
    yield from plain_options(f"{where}.options", feed.options, "key")
    if feed.key:
        yield from secret_reference(f"{where}.key", feed.key)
    elif feed.kind in FEEDS:
        yield f"{where}.key: is missing; give a reference: file:PATH or env:NAME"


def _account(settings: Settings, where: str, name: str, account: AccountSettings) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"{where}: no name: small letters, digits, - and _, up to 32"
    yield from _kind(f"{where}.broker", account.broker, BROKERS, BROKER_GROUP, "broker")
    yield from _known(f"{where}.limits", account.limits, settings.limits, "limit set")
    if account.feed:
        yield from _known(f"{where}.feed", account.feed, settings.feeds, "feed")
    elif len(settings.feeds) > 1:
        yield f"{where}.feed: is missing; there are {', '.join(settings.feeds)}"
    yield from plain_options(f"{where}.options", account.options, "secrets")
    yield from broker_options(where, name, account)
    for key, reference in account.secrets.items():
        yield from secret_reference(f"{where}.secrets.{key}", reference)
        if account.real_money and is_reference(reference) and kind_of(reference) != "file":
            yield f"{where}.secrets.{key}: an account with real money takes its secrets from files alone: file:PATH, mode 0400"
    simulated = account.broker == "paper"
    if simulated and account.cash is None:
        yield f"{where}.cash: is missing; a paper account begins with some dollars"
    if not simulated and account.cash is not None:
        yield f"{where}.cash: belongs to paper accounts; the broker says what there is"
    if account.cash is not None and account.cash <= 0:
        yield f"{where}.cash: must be above zero"
    if simulated and (account.real_money or account.secrets):
        yield f"{where}.{'live' if account.real_money else 'secrets'}: a paper account has no broker; leave it out"
    if name.startswith("shadow-") and not simulated:
        yield f'{where}.broker: an account named shadow-… has broker = "paper"'
    if name.startswith("paper-") and account.real_money:
        yield f"{where}.live: an account named paper-… moves no real money; rename it or leave live out"
    if not 1 <= account.reconcile_s <= 86_400:
        yield f"{where}.reconcile_s: give 1 to 86400 seconds"


def _limits(where: str, name: str, limits: LimitSet, *, account: bool, strategy: bool) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"{where}: no name: small letters, digits, - and _, up to 32"
    for scope, bound, part in (("strategy", strategy, limits.strategy), ("account", account, limits.account)):
        values = {field: getattr(part, field) for field in part.__struct_fields__}
        for field, value in values.items():
            if value is None and bound:
                yield f"{where}.{scope}.{field}: is missing; without it no order would pass"
            elif field in _LARGEST and value is not None and value > _LARGEST[field]:
                yield f"{where}.{scope}.{field}: {value} is too large; up to {_LARGEST[field]}"
            elif field == "window_s" and value is not None and value < SHORTEST_WINDOW_S:
                yield f"{where}.{scope}.{field}: {value} is no window; {SHORTEST_WINDOW_S} to {_LARGEST[field]} seconds"
        for small, large in _ORDERED[scope]:
            low, high = values[small], values[large]
            if low is not None and high is not None and low > high:
                yield f"{where}.{scope}.{small}: {low} is above {large} = {high}, so it could never bind"


def _grants(settings: Settings) -> Iterator[str]:
    seen: set[tuple[str, str]] = set()
    for i, grant in enumerate(settings.grants, 1):
        where = f"grants[{i}]"
        if not _STRATEGY.fullmatch(grant.strategy) or grant.strategy == "external":
            yield f"{where}.strategy: {shown(grant.strategy)} is no strategy's name: small letters, digits and _, up to 24"
        yield from _known(f"{where}.account", grant.account, settings.accounts, "account")
        yield from _known(f"{where}.limits", grant.limits, settings.limits, "limit set")
        if (grant.strategy, grant.account) in seen:
            yield f"{where}: {grant.strategy} has a grant in {grant.account} already; write one"
        seen.add((grant.strategy, grant.account))
        yield from _symbols(where, grant.symbols)
        taken = grant.strategy in {other.strategy for other in settings.grants[: i - 1]}
        long = len(grant.strategy) + len(grant.account) + 1 - LONGEST_NAME
        account = settings.accounts.get(grant.account)
        if taken and long > 0 and account is not None and account.broker != "paper":
            # its second account is in its name on the desk, and so in every order id; see gateway.desk_names
            yield f"{where}: order ids of {grant.strategy}@{grant.account} would be too long by {long}; move it before its others"
        if grant.cash <= 0:
            yield f"{where}.cash: must be above zero"
        if grant.max_order_age_s is not None and not 1 <= grant.max_order_age_s <= 30 * 86_400:
            yield f"{where}.max_order_age_s: give 1 second to 30 days, or leave it out"
    for name, account in settings.accounts.items():
        asked = sum((grant.cash for grant in settings.grants_of(name)), Decimal(0))
        if account.cash is not None and asked > account.cash:
            yield f"accounts.{name}.cash: its strategies are given {asked} of {account.cash}; lower the grants' cash"


def _symbols(where: str, symbols: tuple[str, ...]) -> Iterator[str]:
    if not symbols:
        yield f'{where}.symbols: is empty; name symbols, or ["*"] for every one'
    if len(set(symbols)) < len(symbols):
        yield f"{where}.symbols: one is named twice"
    for symbol in symbols:
        if symbol == "*" and len(symbols) > 1:
            yield f'{where}.symbols: "*" stands alone'
        elif symbol != "*":
            try:
                instrument(symbol)
            except DataError as error:
                yield f"{where}.symbols: {error}"


def _schedule(settings: Settings) -> Iterator[str]:
    names: set[str] = set()
    for i, job in enumerate(settings.schedule, 1):
        where = f"schedule[{i}]"
        if not _NAME.fullmatch(job.name):
            yield f"{where}.name: {shown(job.name)} is no name: small letters, digits, - and _, up to 32"
        if job.name in names:
            yield f"{where}.name: there is a job {job.name} already"
        names.add(job.name)
        yield from _known(f"{where}.account", job.account, settings.accounts, "account")
        yield from _calendar(f"{where}.calendar", job.calendar)
        yield from _job(where, job)


def _job(where: str, job: JobSettings) -> Iterator[str]:
    if not job.notebook.endswith(".ipynb"):
        yield f"{where}.notebook: {shown(job.notebook)} is no notebook; give a path that ends in .ipynb"
    moments = {key: _MOMENT.fullmatch(getattr(job, key)) for key in ("start", "stop")}
    for key, found in moments.items():
        if found is None:
            yield f"{where}.{key}: {shown(getattr(job, key))} is no moment; write open or close, such as open-5m, close+10m or 09:10"
        elif abs(_offset(found)) > 86_400:
            yield f"{where}.{key}: {getattr(job, key)} is more than a day from its session"
    start, stop = moments["start"], moments["stop"]
    if start is not None and stop is not None and (start[1], stop[1]) != ("open", "close") and start[1] and stop[1]:
        if start[1] != stop[1] or _offset(start) >= _offset(stop):
            yield f"{where}.stop: {job.stop} is not after start = {job.start}"
    for key, low, high in (("late_s", 0, 86_400), ("grace_s", 1, 3600), ("restarts", 0, 100)):
        if not low <= getattr(job, key) <= high:
            yield f"{where}.{key}: give {low} to {high}"


def _offset(moment: re.Match[str]) -> int:
    units = {"s": 1, "m": 60, "h": 3600}
    seconds = sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", moment[3] or ""))
    return -seconds if moment[2] == "-" else seconds


def _kind(where: str, name: str, ours: tuple[str, ...], group: str, what: str) -> Iterator[str]:
    if name not in ours:
        have = (*ours, *sorted(entry.name for entry in entry_points(group=group)))
        if name not in have:
            yield f"{where}: {shown(name)} is no {what}; there are {', '.join(have)}{near(name, have)}"


def _known(where: str, name: str, have: Iterable[str], what: str) -> Iterator[str]:
    names = list(have)
    if name not in names:
        yield f"{where}: {shown(name)} is no {what}; there are {', '.join(names) or 'none'}{near(name, names)}"
