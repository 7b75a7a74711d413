"""The demo's desk: four strategies over two simulated brokers and a shadow, what they may do, and what goes wrong on their day."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAY = "2024-01-05"
SEED = 7
HISTORY = 3  #: sessions before the day, which strategies warm up with
BEGIN = "06:00"  #: the twins' time, New York, when they start
START, STOP = "open-120m", "close+10m"

#: Parameters with which every strategy finds something to do on this one day; what it earns means nothing.
STRATEGIES: dict[str, dict[str, Any]] = {
    "sma_momentum": {"symbols": ["BETA"], "fast": 3, "slow": 7, "band": 0.0, "exposure": 0.5, "short": False},
    "mean_reversion": {"symbols": ["GAMA"], "period": 10, "entry": 1.0, "exit": 0.25, "exposure": 0.5},
    "volatility_breakout": {
        "symbols": ["ALFA", "GAMA"], "range_minutes": 15, "atr_period": 30, "buffer": 0.1, "last_entry": 300, "exposure": 0.3,
    },
    "put_vertical": {
        "symbols": ["ALFA"], "target": 0.08, "stop": 0.15, "min_credit": 0.05, "min_days": 1, "entry_minutes": 20, "risk": 0.05,
    },
}  # fmt: skip

#: Notebook and account; the first runs twice, and the second time it is a shadow.
JOBS = (
    ("sma_momentum", "live-alpaca"),
    ("sma_momentum", "shadow-1"),
    ("volatility_breakout", "live-alpaca"),
    ("mean_reversion", "live-ibkr"),
    ("put_vertical", "live-ibkr"),
)


@dataclass(frozen=True)
class Mishap:
    """Something that goes wrong, at a time of the desk's day."""

    at: str  #: HH:MM, New York
    what: str
    twin: str = ""  #: whose control endpoint is told; empty where a process is killed
    disconnect: bool = False
    rules: tuple[dict[str, Any], ...] = ()
    kill: str = ""  #: job whose kernel is killed


MISHAPS = (
    Mishap("07:30", "a lost order response at Alpaca", "alpaca", rules=(
        {"at": "orders.post", "do": "lost_response", "after": 1},)),
    Mishap("07:30", "duplicate fills at Alpaca", "alpaca", rules=(
        {"at": "stream.fill", "do": "duplicate", "times": 3, "delay_s": 0.3},)),
    Mishap("07:30", "late fills at Alpaca", "alpaca", rules=(
        {"at": "stream.fill", "do": "delay", "times": 2, "after": 4, "delay_s": 0.5},)),
    Mishap("07:30", "duplicate executions at Interactive Brokers", "ibkr", rules=(
        {"at": "stream.str", "do": "duplicate", "times": 3},)),
    Mishap("07:30", "late executions at Interactive Brokers", "ibkr", rules=(
        {"at": "stream.str", "do": "delay", "times": 2, "after": 4, "delay_s": 0.5},)),
    Mishap("10:20", "the feed's connection is cut", "massive", disconnect=True),
    Mishap("11:10", "the feed falls silent", "massive", rules=({"at": "stream.AM", "do": "mute", "delay_s": 4.0},)),
    Mishap("12:00", "Interactive Brokers' stream is cut", "ibkr", disconnect=True),
    Mishap("12:40", "the kernel of mean_reversion is killed", kill="mean_reversion"),
    Mishap("13:30", "Alpaca's stream is cut", "alpaca", disconnect=True),
)  # fmt: skip


def job_name(notebook: str, account: str) -> str:
    """Return a job's name."""
    return notebook if account.startswith("live") else f"{notebook}-{account.partition('-')[0]}"


def configuration(clock: dict[str, Any], ports: dict[str, int], strategies: Path, names: dict[str, str]) -> str:
    """Return the demo's ``northstar.toml``.

    Parameters
    ----------
    clock
        The twins' line: desk, wall, speed.
    ports
        Of the twins, by name.
    names
        Each notebook's strategy by its own name.
    """
    grants = "".join(
        f"""
[[grants]]
strategy = "{names[notebook]}"
account = "{account}"
symbols = ["*"]
cash = 50_000
limits = "demo"
on_lost = "cancel"
"""
        for notebook, account in JOBS
    )
    jobs = "".join(
        f"""
[[schedule]]
name = "{job_name(notebook, account)}"
notebook = "{strategies / notebook}.ipynb"
account = "{account}"
parameters = {_inline(STRATEGIES[notebook])}
start = "{START}"
stop = "{STOP}"
restart = "on-failure"
grace_s = 20
late_s = 7200
"""
        for notebook, account in JOBS
    )
    return f"""\
# The demo's desk. Both brokers and the market data are simulated, on this machine; the clock runs {clock["speed"]:g} times as fast.

[desk]
name = "desk"
calendar = "XNYS"
bar = "1m"

[clock]
speed = {float(clock["speed"])}
desk = "{clock["desk"]}"
wall = {clock["wall"]}

[feeds.massive]
kind = "massive"
ws = "ws://127.0.0.1:{ports["massive"]}"
rest = "http://127.0.0.1:{ports["massive"]}"
key = "file:secrets/massive.key"

[accounts.live-alpaca]
broker = "alpaca"
limits = "demo"
reconcile_s = 1800
[accounts.live-alpaca.options]
url = "http://127.0.0.1:{ports["alpaca"]}"
[accounts.live-alpaca.secrets]
key = "file:secrets/alpaca.key"
secret = "file:secrets/alpaca.secret"

[accounts.live-ibkr]
broker = "ibkr"
limits = "demo"
reconcile_s = 1800
[accounts.live-ibkr.options]
url = "http://127.0.0.1:{ports["ibkr"]}/v1/api"
account_id = "DU1234567"

[accounts.shadow-1]
broker = "paper"
cash = 100_000
limits = "demo"
reconcile_s = 1800
{grants}{jobs}
[limits.demo.strategy]
max_order_qty = 20_000
max_order_contracts = 100
max_order_value = 100_000
collar = 0.10
market_reserve = 0.01
max_data_age_s = 600
max_data_age_bars = 3
max_position_qty = 20_000
max_position_contracts = 100
max_notional = 150_000
max_open_orders = 40
max_orders = 400
window_s = 60
session = "regular"
allow_short = true
allow_uncovered = false

[limits.demo.account]
max_gross = 400_000
max_net = 400_000
max_symbol_share = 3
leverage = 2
max_orders = 800
window_s = 60
"""


def _inline(values: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{name} = {_value(value)}" for name, value in values.items()) + " }"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    return str(value)
