"""``northstar order``, ``positions``, ``fills``, ``bars``: the desk by hand, through the same order path, caps and audit as a strategy."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.cli.init import home_of, home_option, json_option
from northstar_core.cli.words import clock_time
from northstar_core.model.errors import SettingsError


def ask(home: Path | None, what: str, **args: Any) -> Any:
    """Return the running gateway's answer."""
    from northstar_core.client.desk import DeskClient

    with DeskClient(home_of(home)) as desk:
        return desk.request(what, **args)


def amount(option: str, text: str | None) -> str | None:
    """Return a number above zero as exact text, as the gateway takes it.

    Raises
    ------
    SettingsError
        If it is none.
    """
    if text is None:
        return None
    found = show.number(option, text, "a number")
    if found <= 0:
        raise SettingsError(f"{option} {text}: must be above zero")
    return str(found)


def plain(text: Any) -> str:
    """Return an exact number without idle zeros; a dash where there is none."""
    if text is None or text == "":
        return "-"
    value = Decimal(str(text))
    return f"{value.normalize():f}" if value else "0"


@click.group()
def order() -> None:
    """Place, change, cancel and list orders by hand."""


@order.command()
@click.argument("side", type=click.Choice(["buy", "sell"], case_sensitive=False))
@click.argument("qty")
@click.argument("symbol")
@click.option("--account", required=True, help="Account to trade in.")
@click.option("--limit", help="Limit price; without it a market order.")
@click.option("--stop", help="Stop price.")
@click.option(
    "--tif",
    type=click.Choice(["day", "gtc", "ioc", "fok", "opg", "cls"], case_sensitive=False),
    default="day",
    show_default=True,
)
@click.option("--strategy", default="manual", show_default=True, help="In whose book; it needs a grant in the account.")
@click.option("--reduce-only", is_flag=True, help="Only what brings the position nearer to zero.")
@home_option
@json_option
def place(
    side: str, qty: str, symbol: str, account: str, limit: str | None, stop: str | None, tif: str, strategy: str, reduce_only: bool,
    home: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Place an order: northstar order place buy 10 SPY --account paper-1 --limit 450.10.

    Exit status: 0 taken, 1 denied, rejected or unknown.
    """
    kind = {(False, False): "MARKET", (True, False): "LIMIT", (False, True): "STOP", (True, True): "STOP_LIMIT"}
    answer = ask(
        home, "place", account=account, symbol=symbol, side=side.upper(), qty=amount("qty", qty), strategy=strategy,
        type=kind[limit is not None, stop is not None], limit_price=amount("--limit", limit), stop_price=amount("--stop", stop),
        tif=tif.upper(), reduce_only=reduce_only,
    )  # fmt: skip
    _show_fate(answer, as_json)


@order.command()
@click.argument("order_id")
@click.option("--qty", help="New quantity of the whole order.")
@click.option("--limit", help="New limit price.")
@click.option("--stop", help="New stop price.")
@home_option
@json_option
def replace(
    order_id: str, qty: str | None, limit: str | None, stop: str | None, home: Path | None, as_json: bool
) -> None:
    """Give a working order other terms."""
    if qty is None and limit is None and stop is None:
        raise SettingsError("order replace: give --qty, --limit or --stop")
    answer = ask(
        home,
        "replace",
        order_id=order_id,
        qty=amount("--qty", qty),
        limit_price=amount("--limit", limit),
        stop_price=amount("--stop", stop),
    )
    _show_fate(answer, as_json)


@order.command()
@click.argument("order_id")
@home_option
@json_option
def cancel(order_id: str, home: Path | None, as_json: bool) -> None:
    """Cancel a working order, whoever's it is."""
    _show_fate(ask(home, "cancel", order_id=order_id), as_json)


@order.command()
@click.argument("order_id")
@click.argument("outcome", type=click.Choice(["canceled", "rejected", "expired", "working"], case_sensitive=False))
@click.option("--who", required=True, help="Who says so; it goes on the record.")
@click.option("--reason", required=True, help="How you know.")
@home_option
@json_option
def resolve(order_id: str, outcome: str, who: str, reason: str, home: Path | None, as_json: bool) -> None:
    """Say what became of an order that is UNKNOWN, once you have looked at the broker."""
    _show_fate(ask(home, "resolve", order_id=order_id, outcome=outcome.lower(), who=who, reason=reason), as_json)


@order.command("list")
@click.option("--account", default="", help="Of this account only.")
@click.option("--strategy", default="", help="Of this strategy only.")
@click.option("--all", "ended", is_flag=True, help="Those that have ended too.")
@home_option
@json_option
def list_orders(account: str, strategy: str, ended: bool, home: Path | None, as_json: bool) -> None:
    """List working orders."""
    rows = ask(home, "orders", account=account, strategy=strategy, all=ended)
    if as_json:
        show.as_json(rows)
        return
    show.listing(
        "orders" if ended else "working orders",
        ["order", "account", "side", "qty", "symbol", "type", "limit", "stop", "tif", "status", "filled", "since (UTC)"],
        [
            [
                r["order_id"], r["account"], r["side"], plain(r["qty"]), r["symbol"], r["type"], plain(r["limit_price"]),
                plain(r["stop_price"]), r["tif"], r["status"], plain(r["filled_qty"]), clock_time(r["ts"]),
            ]
            for r in rows
        ],
        right={"qty", "limit", "stop", "filled"},
    )  # fmt: skip


def _show_fate(answer: dict[str, Any], as_json: bool) -> None:
    """Print what became of an order; the exit status says whether the desk and the broker took it."""
    bad = (
        "denied" in answer
        or answer["status"] in ("DENIED", "REJECTED", "UNKNOWN")
        or "Rejected" in answer.get("event", "")
    )
    if as_json:
        show.as_json(answer)
    else:
        text = f": {answer['text']}" if answer.get("text") else ""
        reason = f" {answer['denied']}" if "denied" in answer else ""
        filled = f", filled {plain(answer['filled_qty'])} of {plain(answer['qty'])}" if answer.get("filled_qty") else ""
        click.echo(f"{answer['order_id']} {answer['status']}{reason}{filled}{text}", err=bad)
    sys.exit(1 if bad else 0)


@click.command()
@home_option
@json_option
def positions(home: Path | None, as_json: bool) -> None:
    """Show what is held, by account and strategy, at the latest prices."""
    rows = ask(home, "positions")
    if as_json:
        show.as_json(rows)
        return
    show.listing(
        "positions", ["account", "strategy", "symbol", "qty", "entry", "mark", "unrealized", "realized", "fees"],
        [
            [
                r["account"], r["strategy"], r["symbol"], plain(r["qty"]), show.money(r["avg_price"]),
                "-" if r["mark"] is None else f"{r['mark']:,.2f}", show.money(r["unrealized"]), show.money(r["realized"]),
                show.money(r["fees"]),
            ]
            for r in rows
        ],
        right={"qty", "entry", "mark", "unrealized", "realized", "fees"},
    )  # fmt: skip


@click.command()
@click.option("--account", default="", help="Of this account only.")
@click.option("--strategy", default="", help="Of this strategy only.")
@click.option("-n", "count", default=50, show_default=True, help="How many, the latest.")
@home_option
@json_option
def fills(account: str, strategy: str, count: int, home: Path | None, as_json: bool) -> None:
    """Show the latest fills, newest last."""
    rows = ask(home, "fills", account=account, strategy=strategy, n=count)
    if as_json:
        show.as_json(rows)
        return
    show.listing(
        "fills", ["time (UTC)", "account", "order", "side", "qty", "symbol", "price", "fees", "execution"],
        [
            [
                clock_time(r["ts"]), r["account"], r["order_id"], r["side"], plain(r["qty"]), r["symbol"], plain(r["price"]),
                plain(r["fees"]), r["exec_id"],
            ]
            for r in rows
        ],
        right={"qty", "price", "fees"},
    )  # fmt: skip


@click.command()
@click.argument("symbol")
@click.option("-n", "count", default=20, show_default=True, help="How many, the latest.")
@home_option
@json_option
def bars(symbol: str, count: int, home: Path | None, as_json: bool) -> None:
    """Show the latest bars of a symbol, newest last."""
    rows = ask(home, "bars", symbol=symbol, n=count)
    if as_json:
        show.as_json(rows)
        return
    prices = ("open", "high", "low", "close")
    show.listing(
        f"bars of {symbol.upper()}", ["end (UTC)", *prices, "volume"],
        [[clock_time(r["ts"]), *(f"{r[name]:,.4f}" for name in prices), f"{r['volume']:,.0f}"] for r in rows],
        right={*prices, "volume"},
    )  # fmt: skip
