"""A configuration is taken as a whole or refused in one line; no slip of the pen loosens a limit."""

from __future__ import annotations

import copy
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from northstar_core.gateway.settings import Settings, default_config, load_settings
from northstar_core.model.account import SessionRule
from northstar_core.model.errors import SettingsError
from tests.gateway.configs import FULL, TEXT, load, tables, toml

TWIN = """
[clock]
speed = 60
desk = "2024-03-04T09:25:00-05:00"
wall = 1_700_000_000.25
[feeds.massive]
kind = "massive"
key = "env:MASSIVE"
ws = "ws://127.0.0.1:9001"
rest = "http://localhost:9001"
[accounts.live-1]
broker = "alpaca"
live = true
limits = "careful"
options = { url = "http://127.0.0.1:9002" }
secrets = { key = "file:k", secret = "file:s" }
"""


def refusal(folder: Path, text: str) -> str:
    """The one line a configuration is refused with, less the file's name."""
    with pytest.raises(SettingsError) as caught:
        load(folder, text)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(str(folder / "northstar.toml"))
    return line.removeprefix(f"{folder / 'northstar.toml'}: ")


def test_the_shipped_configuration_loads_as_it_is_and_with_everything_uncommented(tmp_path: Path) -> None:
    plain, full = load(tmp_path, TEXT), load(tmp_path, FULL)
    assert list(plain.accounts) == ["paper-1"] and not plain.feeds and not plain.schedule and plain.clock is None
    assert set(full.accounts) == {"paper-1", "alpaca-1", "ibkr-1"} and list(full.feeds) == ["massive"]
    assert [job.name for job in full.schedule] == ["momentum", "reversion", "breakout", "verticals"]
    assert {grant.strategy for grant in plain.grants} == {
        "sma_cross", "mean_reversion", "volatility_breakout", "put_vertical", "manual",
    }  # fmt: skip


def test_values_are_exact_and_defaults_follow_what_they_hang_on(tmp_path: Path) -> None:
    found = load(tmp_path, FULL)
    grant = found.grant("sma_cross", "paper-1")
    assert grant is not None and grant.cash == Decimal(25_000) and type(grant.cash) is Decimal
    assert found.strategy_limits(grant).collar == Decimal("0.05")
    assert found.account_limits("paper-1").max_symbol_share == Decimal("0.75")
    assert found.strategy_limits(grant).session is SessionRule.REGULAR
    manual = found.grant("manual", "paper-1")
    assert manual is not None and manual.on_lost == "cancel" and manual.symbols == ("*",) and manual.allowed == ()
    assert {job.calendar for job in found.schedule} == {"XNYS"}
    assert found.notebook(found.schedule[0]) == tmp_path / "strategies" / "sma_momentum.ipynb"
    assert found.desk.bar_ns == 60 * 10**9 and len(found.sha256) == 64


def test_a_configuration_lies_beside_its_home_or_in_it() -> None:
    assert default_config(Path("/a/.northstar")) == Path("/a/northstar.toml")
    assert default_config(Path("/var/lib/northstar")) == Path("/var/lib/northstar/northstar.toml")


def test_a_twin_day_with_a_faster_clock_loads(tmp_path: Path) -> None:
    found = load(tmp_path, TEXT + TWIN)
    assert found.clock is not None and found.clock.speed == 60
    assert found.clock.desk_ns == 1_709_562_300 * 10**9
    assert found.clock.wall == Decimal("1700000000.25")
    assert found.accounts["live-1"].real_money
    assert found.feeds["massive"].wiring() == {"ws": "ws://127.0.0.1:9001", "rest": "http://localhost:9001"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            '[desk]\nname = "desk"',
            '[desk]\nnmae = "desk"',
            "desk.nmae: no such key; allowed are name, calendar, bar; did you mean name?",
        ),
        ("[desk]", "[dsk]", "dsk: no such key; allowed are desk, clock, feeds"),
        ("reconcile_s = 60", "reconcile = 60", "accounts.paper-1.reconcile: no such key"),
        (
            "reconcile_s = 60",
            'reconcile_s = "60"',
            "accounts.paper-1.reconcile_s: give a number without quotes, not '60'",
        ),
        ("reconcile_s = 60", "reconcile_s = 0", "accounts.paper-1.reconcile_s: give 1 to 86400 seconds"),
        ("cash = 100_000", "cash = true", "accounts.paper-1.cash: give a number without quotes, not True"),
        ("cash = 100_000", "cash = inf", "accounts.paper-1.cash"),
        ("cash = 100_000", "cash = -5", "accounts.paper-1.cash: must be above zero"),
        ("cash = 100_000", "", "accounts.paper-1.cash: is missing; a paper account begins with some dollars"),
        ("cash = 100_000", "cash = 50_000", "accounts.paper-1.cash: its strategies are given 100000 of 50000"),
        (
            'broker = "paper"',
            'broker = "papr"',
            "accounts.paper-1.broker: 'papr' is no broker; there are alpaca, ibkr, paper",
        ),
        ('broker = "paper"', "", "accounts.paper-1.broker: is missing"),
        ('broker = "paper"', 'broker = "paper"\nlive = true', "accounts.paper-1.live: a paper account has no broker"),
        ('broker = "paper"', 'broker = "paper"\nlive = "yes"', "accounts.paper-1.live: give true or false, not 'yes'"),
        ("[accounts.paper-1]", "[accounts.Paper]", "accounts.Paper: no name: small letters"),
        ('limits = "careful"', 'limits = "carefull"', "is no limit set; there are careful; did you mean careful?"),
        ('calendar = "XNYS"', 'calendar = "XNSY"', "desk.calendar: calendar 'XNSY' is not known"),
        ('bar = "1m"', 'bar = "2m"', "desk.bar: '2m' is none of 1s, 1m"),
        ("collar = 0.05", "collar = 5", "limits.careful.strategy.collar: 5 is too large; up to 0.5"),
        ("collar = 0.05", 'collar = "5%"', "limits.careful: [strategy] collar = '5%': give an amount"),
        ("collar = 0.05", "", "limits.careful.strategy.collar: is missing; without it no order would pass"),
        ("leverage = 1.5", "", "limits.careful.account.leverage: is missing"),
        (
            "leverage = 1.5",
            "leverige = 1.5",
            "limits.careful: [account] leverige: no such limit; did you mean leverage?",
        ),
        (
            "max_orders = 60",
            "max_orders = 60.5",
            "limits.careful: [strategy] max_orders = 60.5: must be a whole number",
        ),
        ("allow_short = true", 'allow_short = "yes"', "allow_short = 'yes': give true or false"),
        (
            "max_order_value = 25_000",
            "max_order_value = 250_000",
            "max_order_value: 250000 is above max_notional = 50000",
        ),
        ("max_order_value = 25_000", "max_order_value = -1", "must be zero or more"),
        (
            "max_order_value = 25_000",
            "max_order_value = nan",
            "limits.careful.strategy.max_order_value: NaN is no amount",
        ),
        ("window_s = 60  ", "window_s = 0  ", "limits.careful.strategy.window_s: 0 is no window"),
        ('strategy = "put_vertical"', 'strategy = "sma_cross"', "grants[4]: sma_cross has a grant in paper-1 already"),
        (
            'strategy = "put_vertical"',
            'strategy = "Put Vertical"',
            "grants[4].strategy: 'Put Vertical' is no strategy's name",
        ),
        (
            'strategy = "put_vertical"',
            f'strategy = "{"x" * 25}"',
            "is no strategy's name: small letters, digits and _, up to 24",
        ),
        ('symbols = ["SPY"]\n', "symbols = []\n", 'grants[4].symbols: is empty; name symbols, or ["*"]'),
        ('symbols = ["SPY"]\n', "", "grants[4].symbols: is missing"),
        ('symbols = ["SPY"]\n', 'symbols = ["SPY", "*"]\n', 'grants[4].symbols: "*" stands alone'),
        ('symbols = ["SPY"]\n', 'symbols = ["SPY", "SPY"]\n', "grants[4].symbols: one is named twice"),
        ('symbols = ["SPY"]\n', 'symbols = "SPY"\n', "grants[4].symbols: is a list: write [...], not 'SPY'"),
        ('symbols = ["SPY"]\n', 'symbols = ["S Y"]\n', "grants[4].symbols: "),
        ("max_order_age_s = 300", "max_order_age_s = 0", "grants[1].max_order_age_s: give 1 second to 30 days"),
        (
            'on_lost = "leave"',
            'on_lost = "liquidate"',
            "grants[1].on_lost: 'liquidate' is none of cancel, leave, flatten",
        ),
        ('severity = "warning"', 'severity = "loud"', "alerts.severity: 'loud' is none of info, warning, critical"),
        ("[desk]", "[desk", "not valid TOML"),
    ],
)
def test_a_mistake_is_refused_with_its_key_and_the_way_out(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TEXT
    assert told in refusal(tmp_path, TEXT.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('start = "open-5m"', 'start = "opening"', "schedule[4].start: 'opening' is no moment"),
        ('start = "open-5m"', 'start = "open-30h"', "schedule[4].start: open-30h is more than a day from its session"),
        ('stop = "close+10m"', 'stop = "open-6m"', "schedule[4].stop: open-6m is not after start = open-5m"),
        ('restart = "on-failure"', 'restart = "always"', "schedule[4].restart: 'always' is none of never, on-failure"),
        ('name = "reversion"', 'name = "momentum"', "schedule[2].name: there is a job momentum already"),
        ("put_vertical.ipynb", "put_vertical.py", "is no notebook; give a path that ends in .ipynb"),
        ('key = "file:~/.config/northstar/massive.key"', 'key = "abc123abc123"', "feeds.massive.key: is no reference"),
        ('key = "file:~/.config/northstar/massive.key"', "", "feeds.massive.key: is missing"),
        ('kind = "massive"', 'kind = "polygon"', "feeds.massive.kind: 'polygon' is no feed; there are massive"),
        ('kind = "massive"', 'kind = "massive"\nws = "https://x.y"', "feeds.massive.ws: is no URL of ws or wss"),
        (
            'kind = "massive"',
            'kind = "massive"\nws = "ws://x.y"',
            "feeds.massive.ws: ws://x.y is not encrypted; use wss",
        ),
        ('kind = "massive"', 'kind = "massive"\nrest = "https://u:p@x.y"', "feeds.massive.rest: a URL with a login"),
        ("live = false", "cash = 5", "accounts.alpaca-1.cash: belongs to paper accounts"),
        ("live = false", "live = true", "accounts.alpaca-1.options.url: live = true, but this is the paper account"),
        (
            "live = false",
            'options = { url = "https://api.alpaca.markets" }',
            "accounts.alpaca-1.live: https://api.alpaca.markets trades real money",
        ),
        (
            "live = false",
            'options = { urll = "https://x.y" }',
            "accounts.alpaca-1.options.urll: no such option; alpaca takes url, stream",
        ),
        (', secret = "file:~/.config/northstar/alpaca.secret"', "", "accounts.alpaca-1.secrets.secret: is missing"),
        (
            "secrets = { key",
            "secrets = { kye",
            "accounts.alpaca-1.secrets.kye: no such secret; alpaca takes key, secret",
        ),
        ("DU1234567", "U1234567", "accounts.ibkr-1.live: U1234567 trades real money; write live = true"),
        ("DU1234567", "U123 4567", "accounts.ibkr-1.options.account_id: 'U123 4567' is no account number"),
        ("account_id", "account", "accounts.ibkr-1.options: Object contains unknown field `account`"),
        ("https://localhost:5000", "https://gateway.example", "accounts.ibkr-1.options.self_signed"),
        (
            "[accounts.alpaca-1]",
            "[accounts.shadow-2]",
            'accounts.shadow-2.broker: an account named shadow-… has broker = "paper"',
        ),
        ('account_id = "DU1234567"', 'api_key = "x"', "accounts.ibkr-1.options.api_key: a secret is no option"),
        ("file:~/.config/northstar/webhook.url", "https://hooks.example/T0/B0", "alerts.webhook: is no reference"),
    ],
)
def test_a_mistake_in_the_commented_parts_is_refused_too(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in FULL
    assert told in refusal(tmp_path, FULL.replace(old, new, 1))


def test_a_secret_written_into_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for bad in ("PKABCDEFGHIJKLMNOP12", "plain:value", "env:NOT A NAME", "keyring:one"):
        text = FULL.replace("file:~/.config/northstar/alpaca.secret", bad)
        told = refusal(tmp_path, text)
        assert told.startswith("accounts.alpaca-1.secrets.secret: is no reference") and bad not in told


@pytest.mark.parametrize("reference", ["env:ALPACA", "keyring:alpaca/key"])
def test_real_money_takes_its_secrets_from_files_alone(tmp_path: Path, reference: str) -> None:
    paper = FULL.replace("file:~/.config/northstar/alpaca.secret", reference)
    assert load(tmp_path, paper).accounts["alpaca-1"].secrets["secret"] == reference
    assert "an account with real money takes its secrets from files alone" in refusal(
        tmp_path, paper.replace("live = false", 'live = true\noptions = { url = "https://api.alpaca.markets" }', 1)
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "ws://127.0.0.1:9001",
            "wss://socket.massive.com",
            "feeds.massive.ws: wss://socket.massive.com: a clock of another speed",
        ),
        ('ws = "ws://127.0.0.1:9001"\n', "", "feeds.massive.ws: the real one: a clock of another speed"),
        (
            "http://127.0.0.1:9002",
            "https://api.alpaca.markets",
            "accounts.live-1.options.url: https://api.alpaca.markets",
        ),
        # a Client Portal gateway is on this machine too, and real: it speaks https
        (
            "http://127.0.0.1:9002",
            "https://localhost:5000/v1/api",
            "accounts.live-1.options.url: https://localhost:5000",
        ),
        (
            'options = { url = "http://127.0.0.1:9002" }\n',
            "",
            "accounts.live-1.options.url: live = true, but this is the paper account",
        ),
        ("-05:00", "", "clock.desk: has no offset"),
        ("2024-03-04T", "tomorrow ", "clock.desk: 'tomorrow 09:25:00-05:00' is no time"),
        ("speed = 60", "speed = 0", "clock.speed: 0 is not between"),
        ("speed = 60", 'speed = "60"', "clock.speed: give a number without quotes"),
    ],
)
def test_a_faster_clock_goes_with_twins_on_this_machine_only(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TWIN
    assert told in refusal(tmp_path, TEXT + TWIN.replace(old, new, 1))


def test_two_feeds_need_an_account_to_say_which(tmp_path: Path) -> None:
    second = FULL.replace("[accounts.paper-1]", '[feeds.other]\nkind = "massive"\nkey = "env:X"\n[accounts.paper-1]', 1)
    assert refusal(tmp_path, second) == "accounts.paper-1.feed: is missing; there are massive, other"
    named = re.sub(r"(\[accounts\.[a-z0-9-]+\]\n)", r'\1feed = "other"\n', second)
    assert {account.feed for account in load(tmp_path, named).accounts.values()} == {"other"}


def test_a_file_that_is_missing_large_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no configuration; northstar init writes one"):
        load_settings(tmp_path / "none.toml", tmp_path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, tmp_path)
    (tmp_path / "northstar.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no UTF-8 text"):
        load_settings(tmp_path / "northstar.toml", tmp_path)
    assert "is too large" in refusal(tmp_path, "#" * 1_000_001)


# ── mutations ───────────────────────────────────────────────────────────────────────────────────────


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key of every table."""
    out: list[tuple[Any, ...]] = []
    if isinstance(data, dict):
        for key, value in data.items():
            out += [(*path, key), *places(value, (*path, key))]
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        for i, value in enumerate(data):
            out += places(value, (*path, i))
    return out


ORIGINAL = tables(TEXT + TWIN)
PLACES = places(ORIGINAL)
ODD = st.one_of(
    st.sampled_from(["", "5%", "1e3", "yes", "regulr", "*", "50k", "NaN", "0.05 ", "file:x", "PK123", "$100", "1,000"]),
    st.booleans(), st.just([]), st.just({}), st.just(Decimal("NaN")), st.just(Decimal("-1")), st.just(-(10**30)),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The configuration with one to three slips: a key misspelt or left out, or an odd value."""
    data: dict[str, Any] = copy.deepcopy(ORIGINAL)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES))
        table: Any = data
        for part in path[:-1]:
            table = (
                table[part]
                if (isinstance(table, dict) and part in table) or (isinstance(table, list) and isinstance(part, int) and part < len(table))
                else None
            )
            if table is None:
                break
        key = path[-1]
        if not isinstance(table, dict) or key not in table:
            continue
        slip = draw(st.sampled_from(["rename", "delete", "odd", "quote", "unquote", "case"]))
        value = table[key]
        if slip == "delete":
            del table[key]
        elif slip == "odd":
            # no rule can tell a yes that was meant from one that was not: a switch is only given what is none
            table[key] = draw(ODD.filter(lambda odd: not isinstance(odd, bool)) if isinstance(value, bool) else ODD)
        elif slip == "quote":
            table[key] = str(value)
        elif slip == "unquote":
            table[key] = 1 if isinstance(value, str) and not value[:1].isdigit() else value
        elif slip == "case":
            table[key.upper()] = table.pop(key)
        else:
            at = draw(st.integers(0, len(key)))
            table[key[:at] + draw(st.sampled_from("_sx-")) + key[at:]] = table.pop(key)
    return data


def rights(found: Settings) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What every strategy may do in every account: caps of which more is looser, and permissions."""
    out = {}
    for grant in found.grants:
        strategy, account = found.strategy_limits(grant), found.account_limits(grant.account)
        out[grant.strategy, grant.account] = (strategy, account, grant.cash, grant.symbols)
    return out


def looser(was: tuple[Any, ...], now: tuple[Any, ...]) -> list[str]:
    """Which rights grew."""
    found = [f"cash {now[2]}"] if now[2] > was[2] else []
    if was[3] != ("*",) and not set(now[3]) <= set(was[3]):
        found.append(f"symbols {now[3]}")
    for before, after in zip(was[:2], now[:2], strict=True):
        for field in before.__struct_fields__:
            old, new = getattr(before, field), getattr(after, field)
            if new is None or new == old:
                continue
            less_is_looser = field in ("window_s", "market_reserve")
            if isinstance(old, SessionRule) or (new < old if less_is_looser else new > old):
                found.append(f"{field} {new}")
    return found


@pytest.fixture(scope="module", autouse=True)
def _before(tmp_path_factory: pytest.TempPathFactory) -> None:
    BEFORE.update(rights(load(tmp_path_factory.mktemp("before"), toml(ORIGINAL))))


BEFORE: dict[tuple[str, str], tuple[Any, ...]] = {}


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=mutated().filter(lambda data: data != ORIGINAL))
def test_a_slip_is_refused_in_one_line_or_loosens_nothing(tmp_path: Path, data: dict[str, Any]) -> None:
    file = tmp_path / "northstar.toml"
    file.write_text(toml(data), encoding="utf-8")
    try:
        found = load_settings(file, tmp_path)
    except SettingsError as refused:
        assert "\n" not in str(refused) and str(refused).startswith(f"{file}: ")
        return
    assert sum(account.real_money for account in found.accounts.values()) <= 1
    for key, now in rights(found).items():
        # a grant to a strategy or an account of another name gives the ones there are nothing
        assert key not in BEFORE or not looser(BEFORE[key], now), (key, looser(BEFORE[key], now))
