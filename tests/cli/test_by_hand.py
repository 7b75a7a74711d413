"""Orders by hand against a market that moves: a real desk, a real feed, Massive's twin on loopback."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from northstar_core.cli.first_config import TEXT
from tests.cli.shell import Ran, finished

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., Ran]

FEED = """
[clock]
speed = {speed}
desk = "{desk}"
wall = {wall}
[feeds.massive]
kind = "massive"
key = "env:MASSIVE_KEY"
ws = "ws://127.0.0.1:{port}"
rest = "http://127.0.0.1:{port}"
"""


@pytest.fixture(scope="module")
def desk(home: Path, start: Start) -> Iterator[Path]:
    """A desk in the middle of a generated session, ten minutes in, five times as fast as the wall's clock."""
    twins = start("twins", "--massive", 0, "--symbols", "ALFA", "--start", "2024-01-03T09:40", "--speed", 5)
    try:
        assert twins.stdout is not None
        said = json.loads(twins.stdout.readline())
        text = TEXT.replace('name = "desk"', 'name = "moving"') + FEED.format(**said["clock"], port=said["massive"])
        config = home / "moving.toml"
        config.write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MASSIVE_KEY", "KEY")
            ran = finished(start("up", "--config", config, "--no-worker", "--json"))
        assert ran.code == 0, ran.err
        yield home
        ran = finished(start("down"))
        assert ran.out == "stopped: gateway\n", ran.err
        assert "KEY" not in (home / "logs" / "gateway.log").read_text()
    finally:
        twins.send_signal(signal.SIGTERM)
        twins.communicate(timeout=60)


@pytest.fixture(scope="module")
def bought(desk: Path, northstar: Command) -> dict[str, str]:
    """Ten shares, once there is a price: the first order asks for one."""
    deadline = time.monotonic() + 90
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORTHSTAR_HOME", str(desk))
        while True:
            ran = northstar("order", "place", "buy", "10", "ALFA", "--account", "paper-1", "--json")
            if ran.code == 0 or time.monotonic() > deadline:
                assert ran.code == 0, ran.out + ran.err
                found: dict[str, str] = ran.json
                return found
            assert ran.json["denied"] == "PRICE_MISSING", ran.json


def test_a_market_order_fills_and_shows_in_books_fills_and_cash(
    bought: dict[str, str], desk: Path, northstar: Command
) -> None:
    assert (bought["status"], bought["filled_qty"]) == ("FILLED", "10")
    fill = next(row for row in northstar("fills", "--json").json if row["order_id"] == bought["order_id"])
    assert fill["qty"] == "10" and isinstance(fill["price"], str)
    (held,) = northstar("positions", "--json").json
    assert (held["account"], held["strategy"], held["symbol"], held["qty"]) == ("paper-1", "manual", "ALFA", "10")
    cash = Decimal(northstar("status", "--json").json["desk"]["accounts"]["paper-1"]["cash"])
    assert cash == 100_000 - 10 * Decimal(fill["price"]) - Decimal(fill["fees"])
    for command in ("positions", "fills"):
        assert "ALFA" in northstar(command).out


def test_an_order_is_placed_changed_and_cancelled(bought: dict[str, str], desk: Path, northstar: Command) -> None:
    placed = northstar(
        "order", "place", "sell", "5", "alfa", "--account", "paper-1", "--limit", "145.5", "--tif", "gtc", "--json"
    ).json
    order_id = placed["order_id"]
    (row,) = northstar("order", "list", "--json").json
    assert (row["order_id"], row["status"], row["qty"], row["limit_price"]) == (order_id, "NEW", "5", "145.5")
    assert order_id in northstar("order", "list").out
    replaced = northstar("order", "replace", order_id, "--qty", "4", "--limit", "145.75", "--json")
    assert replaced.code == 0 and (replaced.json["qty"], replaced.json["limit_price"]) == ("4", "145.75")
    cancelled = northstar("order", "cancel", order_id)
    assert cancelled.code == 0 and cancelled.out.startswith(f"{order_id} CANCELED")
    assert northstar("order", "list").out == "no working orders\n"
    states = {row["order_id"]: row["status"] for row in northstar("order", "list", "--all", "--json").json}
    assert states[order_id] == "CANCELED" and states[bought["order_id"]] == "FILLED"


def test_an_order_beyond_its_limits_is_denied_with_the_numbers(
    bought: dict[str, str], desk: Path, northstar: Command
) -> None:
    ran = northstar("order", "place", "buy", "9000", "ALFA", "--account", "paper-1")
    assert ran.code == 1 and "DENIED" in ran.err and "25000" in ran.err.replace("_", "").replace(",", "")


def test_preflight_in_session_is_a_go(bought: dict[str, str], desk: Path, northstar: Command) -> None:
    ran = northstar("preflight", "--json")
    assert ran.code == 0 and ran.json["go"] is True and ran.json["reasons"] == []
    assert northstar("preflight").out.rstrip().endswith("GO")


def test_bars_are_those_of_the_feed(bought: dict[str, str], desk: Path, northstar: Command) -> None:
    rows = northstar("bars", "ALFA", "-n", "5", "--json").json
    assert len(rows) == 5 and all(row["ts"] - row["start"] == 60 * 10**9 for row in rows)
    assert [row["ts"] for row in rows] == sorted(row["ts"] for row in rows)
    assert "2024-01-03" in northstar("bars", "alfa").out


def test_the_schedule_counts_in_the_desks_time(desk: Path, northstar: Command) -> None:
    from northstar_core.cli.run import config_of
    from northstar_core.gateway.clock import clock_of

    settings = config_of(desk)
    assert settings.path.name == "moving.toml"  # what the running desk was started with
    now = clock_of(settings.clock).now()
    assert 1_704_292_800 * 10**9 <= now < 1_704_400_000 * 10**9
