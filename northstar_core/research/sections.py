"""The sections of a tear sheet, each a function from a run to a piece of HTML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from northstar_core.model import events as e
from northstar_core.model.denial import SENTENCES
from northstar_core.model.instrument import exact, instrument
from northstar_core.model.journal import plain
from northstar_core.research.figures import label, wall_ms
from northstar_core.research.markup import (
    beside,
    coloured,
    days,
    dollars,
    heat_table,
    number,
    percent,
    price,
    quantity,
    section,
    table,
    text,
    tile,
)  # fmt: skip
from northstar_core.research.metrics import DEFINITIONS
from northstar_core.research.trades import OpenLot, RoundTrip, events_as_moves, match

if TYPE_CHECKING:
    from northstar_core.research.result import Result

MOST_TRADES = 300  #: listed; of more, the first and last half of this
MOST_ROWS = 40  #: of any other table
FEW_SESSIONS = 60  #: below, annualised figures say little
ZERO = Decimal(0)

_PERCENT = {
    "total_return", "cagr", "annual_volatility", "max_drawdown", "win_rate", "exposure", "time_in_market",
}  # fmt: skip
_DOLLARS = {"expectancy", "average_win", "average_loss", "fees"}
_ANNUAL = {"cagr", "annual_volatility", "sharpe", "sortino", "calmar", "turnover"}
_NAMES = {"cagr": "CAGR", "fees_bps": "fees, bps", "max_drawdown_days": "longest drawdown, days",
          "average_hold_hours": "average hold, hours"}  # fmt: skip


# ── the top ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def title(result: Result) -> str:
    """Return the strategies' names."""
    return text(", ".join(s.strategy_id for s in result.strategies))


def header(result: Result) -> str:
    """Return what ran, over what, how it ended; synthetic data and a run that did not complete are said loudly."""
    symbols = [label(symbol) for symbol in result.tape.symbols]
    listed = ", ".join(symbols[:8]) + (f" and {len(symbols) - 8:,} more" if len(symbols) > 8 else "")
    first, last = _period(result)
    sessions = len(result.returns)
    facts = [
        text(listed) or "no symbols",
        days(first, last) if first and last else "nothing consumed",
        f"{sessions:,} session{'' if sessions == 1 else 's'}",
        f"{result.rows:,} rows",
        f"{dollars(result.cash)} opening cash",
        f"journal <code>{result.digest[:12]}</code>",
        text(result.outcome),
    ]
    out = ""
    if result.synthetic:
        out += (
            '<p class="banner" role="note"><b>SYNTHETIC DATA.</b> These prices were generated; no market made '
            "them, and what was earned on them means nothing.</p>"
        )
    if result.outcome != "completed":
        # a live session has no data beyond what it heard: one that was stopped is not cut short
        short = "The run did not reach the end of its data. " if result.rows < result.tape.rows else ""
        out += f'<p class="banner" role="alert"><b>{text(result.outcome).upper()}.</b> {short}{text(result.detail)}</p>'
    return out + f'<h2 class="ns-h">{title(result)}</h2><p class="soft">{" · ".join(facts)}</p>'


def key_figures(result: Result) -> str:
    """Return the row of figures that is read first."""
    m = result.metrics
    trips = len(result.round_trips)
    annual = "" if len(result.returns) >= FEW_SESSIONS else f"of {len(result.returns)} sessions"
    tiles = (
        tile("P&amp;L after fees", coloured(result.pnl), f"equity {dollars(result.final_equity)}"),
        tile("total return", coloured(m["total_return"], percent), f"CAGR {percent(m['cagr'])}" if not annual else ""),
        tile("Sharpe ratio", number(m["sharpe"]), annual),
        tile("max drawdown", coloured(m["max_drawdown"], percent), f"longest {number(m['max_drawdown_days'], 1)} days"),
        tile("round trips", f"{trips:,}", f"{len(result.fill_events):,} fills"),
        tile("win rate", percent(m["win_rate"], 1), f"profit factor {number(m['profit_factor'])}"),
        tile("expectancy", coloured(m["expectancy"]), "a round trip"),
        tile("exposure", percent(m["exposure"], 0), f"{percent(m['time_in_market'], 0)} of time"),
        tile("fees", dollars(result.fees), f"{number(m['fees_bps'])} bps"),
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def returns(result: Result) -> str:
    """Return a heat map of returns: of sessions, a week a row; from two months on, of months, a year a row."""
    series = result.returns
    if not len(series):
        return section("Returns", '<p class="soft">No session was finished.</p>')
    dates: list[date] = [stamp.date() for stamp in series.index]
    values = [float(value) for value in series]
    if (dates[-1] - dates[0]).days < 60:
        shown = 7 if any(day.weekday() > 4 for day in dates) else 5
        weeks: dict[Any, dict[int, float]] = {}
        for day, value in zip(dates, values, strict=True):
            weeks.setdefault(date.fromordinal(day.toordinal() - day.weekday()), {})[day.weekday()] = value
        rows = [
            (f"week of {monday:%Y-%m-%d}", [week.get(n, nan) for n in range(shown)], _compound(week.values()))
            for monday, week in weeks.items()
        ]
        return section("Daily returns", heat_table(["", *_WEEKDAYS[:shown], "week"], rows))
    years: dict[int, dict[int, list[float]]] = {}
    for day, value in zip(dates, values, strict=True):
        years.setdefault(day.year, {}).setdefault(day.month, []).append(value)
    rows = [
        (
            str(year),
            [_compound(months[n]) if n in months else nan for n in range(1, 13)],
            _compound(value for month in months.values() for value in month),
        )
        for year, months in years.items()
    ]
    return section("Monthly returns", heat_table(["", *_MONTHS, "year"], rows))


# ── trading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def left_out(result: Result, charted: Sequence[str]) -> str:
    """Return a line that names the traded symbols without a chart."""
    rest = sorted({fill.symbol for fill in result.fill_events} - set(charted))
    if not rest:
        return ""
    names = ", ".join(text(label(symbol)) for symbol in rest[:MOST_ROWS])
    more = f" and {len(rest) - MOST_ROWS:,} more" if len(rest) > MOST_ROWS else ""
    return f'<p class="soft">Also traded, not drawn: {names}{more}. <code>run.plot(symbol)</code> draws any.</p>'


def trades(result: Result) -> str:
    """Return round trips, what they came to by symbol, and what is open at the end."""
    trips = result.round_trips
    if not result.fill_events:
        return section("Trades", "<p>No order was filled.</p>", _silence(result))
    half = MOST_TRADES // 2
    listed = trips if len(trips) <= MOST_TRADES else [*trips[:half], *trips[-half:]]
    note = f"All {len(trips):,} round trips" if len(listed) == len(trips) else (
        f"The first {half} and the last {half} of {len(trips):,} round trips (<code>run.trades</code> has all)"
    )  # fmt: skip
    several = len(result.strategies) > 1
    entered = _clock([trip.entry_ts for trip in listed])
    left = _clock([trip.exit_ts for trip in listed])
    head = ["entered", "left", *(["strategy"] if several else []), "symbol", "side", "qty", "entry", "exit", "fees",
            "P&amp;L", "return", "held", "ended by"]  # fmt: skip
    rows = [
        [
            entered[n], left[n], *([text(t.strategy)] if several else []), text(label(t.symbol)), t.side.lower(),
            quantity(t.qty), price(t.entry_price), price(t.exit_price), number(t.fees), coloured(t.pnl, _plain_number),
            _trip_return(t), _duration(t.exit_ts - t.entry_ts), text(t.ended.lower()) or "order",
        ]
        for n, t in enumerate(listed)
    ]  # fmt: skip
    closed = (
        f'<p class="soft">{note}, first in first out, oldest first; New York time.</p>'
        f'<div class="scroll">{table(head, rows, "ll" + ("l" if several else "") + "llrrrrrrrl")}</div>'
        if trips
        else "<p>No round trip was closed.</p>"
    )
    return section("Trades", closed) + beside(_by_symbol(result), _open(result))


def _by_symbol(result: Result) -> str:
    trips: dict[tuple[str, str], list[RoundTrip]] = {}
    for trip in result.round_trips:
        trips.setdefault((trip.symbol, trip.side), []).append(trip)
    if not trips:
        return ""
    ranked = sorted(trips.items(), key=lambda item: -abs(sum((t.pnl for t in item[1]), ZERO)))
    rows = [
        [
            text(label(symbol)), side.lower(), f"{len(own):,}", percent(sum(t.pnl > 0 for t in own) / len(own), 1),
            number(sum((t.fees for t in own), ZERO)), coloured(sum((t.pnl for t in own), ZERO), _plain_number),
        ]
        for (symbol, side), own in ranked[:MOST_ROWS]
    ]  # fmt: skip
    more = f", the {MOST_ROWS} that moved most of {len(ranked)}" if len(ranked) > MOST_ROWS else ""
    head = ["symbol", "side", "round trips", "won", "fees", "P&amp;L"]
    return section(f"By symbol{more}", table(head, rows, "ll"))


def _open(result: Result) -> str:
    lots: dict[tuple[str, str], list[OpenLot]] = {}
    for lot in match(events_as_moves(result.fill_events, result.adjustments))[1]:
        lots.setdefault((lot.strategy, lot.symbol), []).append(lot)
    rows = []
    for (strategy, symbol), own in list(lots.items())[:MOST_ROWS]:
        times, marks = result.marks(symbol)
        mark = exact(float(marks[-1])) if len(times) else ZERO
        qty = sum((lot.qty for lot in own), ZERO)
        value = qty * mark * instrument(symbol).multiplier
        gain = sum((lot.pnl(mark) for lot in own), ZERO)
        name = text(label(symbol)) if len(result.strategies) == 1 else f"{text(strategy)} {text(label(symbol))}"
        rows.append([name, quantity(qty), price(mark), number(value), coloured(gain, _plain_number)])
    more = f", {MOST_ROWS} of {len(lots)}" if len(lots) > MOST_ROWS else ""
    found = table(["symbol", "qty", "mark", "value", "P&amp;L so far"], rows, "l") if rows else "<p>Nothing.</p>"
    return section(f"Open at the end{more}", found)


def _silence(result: Result) -> str:
    """Why nothing was traded, as far as the strategies said."""
    said = Counter((event.symbol, event.reason) for event in result.of(e.NoSignal))
    if not said:
        return ""
    rows = [[text(symbol), text(reason), f"{n:,}"] for (symbol, reason), n in said.most_common(12)]
    return '<p class="soft">What the strategy said instead (each time its reason changed):</p>' + table(
        ["symbol", "reason", "times"], rows, "lwr", kind="ns-fit"
    )


# ── figures and their meaning ─────────────────────────────────────────────────────────────────────────────────────────


def metrics(result: Result) -> str:
    """Return every metric with its definition."""
    few = len(result.returns) < FEW_SESSIONS
    rows = []
    for name, definition in DEFINITIONS.items():
        value = result.metrics[name]
        shown = (
            percent(value) if name in _PERCENT else dollars(value) if name in _DOLLARS
            else number(value, 0 if name == "trades" else 2)
        )  # fmt: skip
        doubt = "*" if few and name in _ANNUAL and value == value else ""
        rows.append([_NAMES.get(name, name.replace("_", " ")), shown + doubt, text(definition)])
    note = (
        f'<p class="soft">* annualised from {len(result.returns)} sessions: too few to say much. A dash: nothing to '
        "measure, or a ratio over nothing.</p>"
        if few
        else '<p class="soft">A dash: nothing to measure, or a ratio over nothing.</p>'
    )
    return section("Metrics", table(["metric", "value", "definition"], rows, "lrw"), note)


def money(result: Result) -> str:
    """Return costs by kind, and orders by how they ended."""
    split, traded = result.fees_split, result.traded
    bps = {name: float(paid / traded * 10_000) if traded else nan for name, paid in split.items()}
    rows = [
        ["P&amp;L before fees", coloured(result.pnl + result.fees), ""],
        *([name, dollars(paid), number(bps[name])] for name, paid in split.items()),
        ["<b>P&amp;L after fees</b>", f"<b>{coloured(result.pnl)}</b>", ""],
        ["fills against decision price", dollars(result.shortfall), _bps(result.shortfall, traded)],
        ["value traded", dollars(traded), ""],
    ]
    slippage = text(result.assumptions.get("slippage", "not stated"))
    note = (
        '<p class="soft">Against the decision price: fill less the price the order was decided on, positive is worse; '
        f"slippage and delay together, already in the P&amp;L. Slippage assumed: {slippage}.</p>"
    )
    ended = Counter(result.orders["status"]) if len(result.orders) else Counter()
    orders = [[text(str(status).lower().replace("_", " ")), f"{n:,}"] for status, n in ended.most_common()]
    return beside(
        section("Costs", table(["", "dollars", "bps of traded"], rows, "l"), note),
        section("Orders", table(["ended as", "orders"], orders, "l") if orders else "<p>No order was asked for.</p>"),
    )


def refusals(result: Result) -> str:
    """Return the orders that were denied before they left, by reason, each with its latest case."""
    denied = result.of(e.OrderDenied)
    if not denied:
        return section("Denied orders", "<p>None.</p>")
    counts = Counter(event.reason for event in denied)
    latest = {event.reason: event for event in denied}
    rows = []
    for reason, n in counts.most_common():
        case = latest[reason]
        example = f"{_clock([case.ts])[0]} {text(label(case.symbol))}: {text(case.detail)}"
        rows.append([text(reason), f"{n:,}", text(SENTENCES.get(reason, "")), example])
    return section("Denied orders", table(["reason", "times", "meaning", "latest"], rows, "lrww"))


# ── the small print ───────────────────────────────────────────────────────────────────────────────────────────────────


def assumptions(result: Result) -> str:
    """Return what the simulation assumed, and the limits in force."""
    said = table([], [[text(name), text(sentence)] for name, sentence in result.assumptions.items()], "lw")
    limits = table(
        ["scope", "limit", "value"],
        [[text(scope), text(name.replace("_", " ")), _limit(value)] for scope, name, value in result.limits.rows()],
        "ll",
    )
    return beside(section("Assumptions", said), section(f"Limits: {text(result.limits.name)}", limits))


def provenance(result: Result) -> str:
    """Return where it all came from: strategies and their parameters, code, data, journal."""
    started = next(iter(result.of(e.RunStarted)), None)
    rows = [["journal head", f"<code>{result.digest}</code>"]]
    rows.append(["journal", f"{len(result.journal.records):,} events over {result.rows:,} rows"])
    rows.append(["took", f"{result.seconds:,.2f} s"])
    for strategy, params in (started.strategies if started else {}).items():
        rows.append(
            [f"parameters of {text(strategy)}", f"<code>{text(_short(json.dumps(params, default=str)))}</code>"]
        )
    for name, sha in (started.code if started else {}).items():
        rows.append([f"code {text(name)}", f"<code>{text(sha)}</code>"])
    sources = result.tape.sources
    half = MOST_ROWS // 2
    listed = sources if len(sources) <= MOST_ROWS else (*sources[:half], *sources[-half:])
    data = [[text(s.name), text(s.layout), f"{s.rows:,}", f"<code>{text(s.sha256)}</code>"] for s in listed]
    note = (
        f'<p class="soft">The first {half} and the last {half} of {len(sources):,} sources; the journal\'s first event '
        "has all.</p>"
        if len(listed) < len(sources)
        else ""
    )
    head = ["data", "layout", "rows", "sha256"]
    return section("Provenance of the run", table([], rows, "lw"), "<p></p>", table(head, data, "wlrw"), note)


# ── small change ──────────────────────────────────────────────────────────────────────────────────────────────────────

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _period(result: Result) -> tuple[date | None, date | None]:
    ts = result.curve.ts
    if not len(ts):
        return None, None
    first, last = (wall_ms(ts[[0, -1]]).astype("datetime64[ms]")).astype("datetime64[D]").tolist()
    return first, last


def _clock(ts: Sequence[int]) -> list[str]:
    """Times to the second on the exchange's clock; without seconds where none has any."""
    if not ts:
        return []
    shown = wall_ms(np.array(ts, dtype=np.int64)).astype("datetime64[ms]")
    whole = not (shown.astype(np.int64) % 60_000).any()
    return [str(when).replace("T", " ") for when in np.datetime_as_string(shown, "m" if whole else "s")]


def _duration(ns: int) -> str:
    minutes = ns // 60_000_000_000
    if minutes < 60:
        return f"{ns / 6e10:.0f} min" if ns >= 60_000_000_000 else f"{ns / 1e9:.0f} s"
    return (
        f"{minutes // 60} h {minutes % 60:02d}"
        if minutes < 1440
        else f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"
    )


def _trip_return(trip: RoundTrip) -> str:
    paid = trip.entry_price * trip.qty * trip.multiplier
    return coloured(float(trip.pnl / paid) if paid else None, percent)


def _compound(values: Any) -> float:
    return float(np.prod([1 + value for value in values]) - 1)


def _bps(paid: Decimal, traded: Decimal) -> str:
    return number(float(paid / traded * 10_000) if traded else None)


def _plain_number(value: Any, *, signed: bool = False) -> str:
    return number(value, 2, signed=signed)


def _limit(value: str) -> str:
    try:
        return f"{plain(Decimal(value)):,f}"
    except ArithmeticError:
        return text(value)


def _short(value: str, most: int = 1_500) -> str:
    return value if len(value) <= most else f"{value[:most]} … ({len(value):,} characters)"
