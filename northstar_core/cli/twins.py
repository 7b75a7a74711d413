"""``northstar twins``: the simulated feed and brokers, as servers on loopback, until they are told to stop."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from northstar_core.model.errors import SettingsError

if TYPE_CHECKING:
    from northstar_core.model.tape import Session, Tape

DAYS = 1
PORT = click.IntRange(0, 65_535)


@click.command()
@click.option("--alpaca", type=PORT, help="Port of Alpaca's twin (REST and stream); 0 chooses a free one.")
@click.option("--massive", type=PORT, help="Port of Massive's twin (REST and streams).")
@click.option("--ibkr", type=PORT, help="Port of Interactive Brokers' twin (Client Portal).")
@click.option(
    "--data", multiple=True, metavar="PATH", help="Market data to play: file, folder or glob; may be given again."
)
@click.option("--synthetic", type=int, metavar="SEED", help="Play a generated market instead (the default, seed 7).")
@click.option("--symbols", metavar="A,B,…", help="Symbols of the generated market; or those to keep of the data.")
@click.option("--days", type=click.IntRange(1), help="Sessions to play; default 1 generated, all of the data.")
@click.option("--start", metavar="TIME", help="Market time to begin at (ISO); default 5 minutes before the first open.")
@click.option(
    "--history",
    type=click.IntRange(0),
    help="Sessions before the first one played, as history; default 1 generated, 0 of the data.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Market seconds in a second.",
)
@click.option("--cash", default="100000", show_default=True, help="What each account begins with, dollars.")
@click.option("--faults", type=click.Path(path_type=Path), help="What goes wrong: JSON, rules by twin or for all.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the faults' draws.")
@click.option("--rate", type=click.IntRange(1), help="Requests a minute Alpaca's twin takes; default no limit.")
def twins(
    alpaca: int | None, massive: int | None, ibkr: int | None, data: tuple[str, ...], synthetic: int | None,
    symbols: str | None, days: int | None, start: str | None, history: int | None, speed: float, cash: str,
    faults: Path | None, seed: int, rate: int | None,
) -> None:  # fmt: skip
    """Serve the twins whose ports are given; print one line of JSON when they are up.

    Keys are KEY and SECRET, Interactive Brokers' account is DU1234567. Nothing real is behind them.
    """
    from northstar_core.cli import show
    from northstar_core.twins.market import LEAD_NS, TwinMarket
    from northstar_core.twins.serve import faults_by_twin

    if alpaca is None and massive is None and ibkr is None:
        raise SettingsError("no twin to serve; give --alpaca, --massive or --ibkr a port (0 chooses one)")
    if data and synthetic is not None:
        raise SettingsError("--data and --synthetic: give one of them")
    money = show.number("--cash", cash, "an amount of dollars above zero")
    rules = faults_by_twin(show.text_of("--faults", faults), where=str(faults)) if faults is not None else {}
    begin = _time(start) if start is not None else None
    wanted = tuple(filter(None, (symbols or "").split(",")))
    if data:
        tape, first = _data(data, wanted, days, history or 0, begin)
    else:
        tape, first = _generated(
            7 if synthetic is None else synthetic, wanted, days or DAYS, 1 if history is None else history, begin
        )
    market = TwinMarket(tape, speed=speed, start=begin if begin is not None else first.open - LEAD_NS)
    ports = {"alpaca": alpaca, "massive": massive, "ibkr": ibkr}
    options = {"alpaca": {"rate": rate}} if rate is not None else {}
    asyncio.run(_serve(market, ports, faults=rules, seed=seed, cash=money, options=options))


async def _serve(market: Any, ports: dict[str, int | None], **more: Any) -> None:
    from northstar_core.model.instrument import Equity, instrument
    from northstar_core.twins.serve import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with serve(market, **{**ports, **more}) as served:
        clock = market.clock
        line = {
            "ready": True,
            **{name: served.ports.get(name) for name in ports},
            "clock": {"desk": _iso(clock.desk), "wall": clock.wall, "speed": clock.speed},
            "symbols": [symbol for symbol in market.symbols if isinstance(instrument(symbol), Equity)],
        }
        click.echo(json.dumps(line))
        await served.until(stop)


def _data(
    data: tuple[str, ...], symbols: tuple[str, ...], days: int | None, history: int, begin: int | None
) -> tuple[Tape, Session]:
    """Return market data of files and the first session to play."""
    from northstar_core.data.history import read

    tape = read(list(data), symbols=symbols or None)
    ahead = [s for n, s in enumerate(tape.sessions) if (n >= history if begin is None else s.close > begin)]
    if not ahead:
        raise SettingsError(
            f"the data have {len(tape.sessions)} sessions, none to play; choose an earlier --start or less --history"
        )
    if days is not None and days < len(ahead):
        tape = read(list(data), symbols=symbols or None, end=ahead[days - 1].label)
    return tape, ahead[0]


def _generated(seed: int, symbols: tuple[str, ...], days: int, history: int, begin: int | None) -> tuple[Tape, Session]:
    """Return a generated market and the first session to play."""
    from northstar_core.data import calendar
    from northstar_core.data.synthetic import SYMBOLS, synthesize

    day = dt.date(2024, 1, 2) if begin is None else dt.datetime.fromtimestamp(begin // 10**9, dt.UTC).date()
    if begin is not None:  # as many sessions before that day as there is to be history
        before = calendar.sessions(day - dt.timedelta(days=2 * history + 14), day - dt.timedelta(days=1))
        day = before[-history].label if history else day
    tape = synthesize(symbols=symbols or SYMBOLS, days=days + history, seed=seed, start=day)
    return tape, tape.sessions[history]


def _time(text: str) -> int:
    """Return a time as ns UTC; without a zone it is New York's."""
    from zoneinfo import ZoneInfo

    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--start {text!r}: give a time such as 2024-01-02T09:25") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo("America/New_York"))
    return round(moment.timestamp()) * 10**9


def _iso(ts: int) -> str:
    seconds, ns = divmod(ts, 10**9)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"
