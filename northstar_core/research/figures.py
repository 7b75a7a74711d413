"""Figures of a run (plotly): equity with drawdown and exposure, prices with fills, returns.

Transparent, grey and without a theme of their own, so they stand on a light and on a dark page. Blue and orange, which
the colour-blind tell apart (Okabe and Ito, *Color Universal Design*, 2008): blue is up, bought, gained; orange is down,
sold, lost. Times are the exchange's (New York); nights and days without trading are left out.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from northstar_core.model.errors import DataError, ParameterError
from northstar_core.model.events import OrderFilled
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.journal import plain
from northstar_core.model.order import Side
from northstar_core.model.tape import Float64, Int64
from northstar_core.research.thin import DAY_MS, candles, extremes

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from northstar_core.research.result import Result

BLUE, ORANGE, GREY = "#2b83c6", "#d9730d", "#7a8490"
GRID = "rgba(128,136,146,0.22)"
NEW_YORK = "America/New_York"
#: plotly.js offers to upload a chart to its maker; a run's figures stay where they are
CONFIG = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "plotlyServerURL": ""}
MOST_POINTS = 1_500  #: of a line
MOST_CANDLES = 2_000
MARGIN_MS = 180_000.0  #: so that a day's first and last points are not cut off with the night
MOST_BREAKS = 300

_FILL = {Side.BUY: ("bought", BLUE, "triangle-up"), Side.SELL: ("sold", ORANGE, "triangle-down")}


def wall_ms(ts: Int64) -> Float64:
    """Return times as the exchange's clock shows them, in ms since 1970 of that clock: what a date axis draws."""
    import pandas as pd

    shown = pd.DatetimeIndex(np.asarray(ts, dtype="datetime64[ns]"), tz="UTC").tz_convert(NEW_YORK).tz_localize(None)
    return np.asarray(shown.as_unit("ns").asi8 / 1e6, dtype=np.float64)


def equity_figure(result: Result) -> go.Figure:
    """Return equity, drawdown and gross exposure over time, one above the other.

    At most ``MOST_POINTS`` points; highs, lows and the deepest drawdown are among them.
    """
    import plotly.graph_objects as go

    ts, equity, _, exposure = result.curve
    below = result.curve.drawdown(float(result.cash))
    used = np.divide(exposure, equity, out=np.zeros(len(equity)), where=equity > 0)
    kept = extremes(equity, below, used, most=MOST_POINTS)
    x = wall_ms(ts[kept])
    figure = go.Figure(layout=layout(440))
    one_point = "lines" if len(kept) > 1 else "markers"
    for axis, name, y, colour, shape, style in (
        ("y", "equity", equity[kept], BLUE, "$%{y:,.2f}", {}),
        ("y2", "drawdown", below[kept].astype(np.float32), ORANGE, "%{y:.2%}", _shade(ORANGE)),
        ("y3", "exposure", used[kept].astype(np.float32), GREY, "%{y:.0%} of equity", _shade(GREY)),
    ):
        line = {"color": colour, "width": 1.6 if axis == "y" else 1, "shape": "hv" if axis == "y3" else "linear"}
        figure.add_scatter(
            x=x, y=y, yaxis=axis, name=name, mode=one_point, line=line, hovertemplate=shape, showlegend=False, **style
        )
    figure.add_hline(y=float(result.cash), line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(
        **_time_axis(result), anchor="y3", hoverformat="%a %Y-%m-%d %H:%M", showspikes=True, spikemode="across",
        spikethickness=1, spikecolor=GREY, spikedash="dot",
    )  # fmt: skip
    figure.update_layout(
        hovermode="x unified",
        yaxis={**_axis("equity"), "domain": [0.46, 1], "tickformat": ",.8~r", "tickprefix": "$"},
        yaxis2={**_axis("drawdown"), "domain": [0.22, 0.42], "tickformat": ".1~%", "rangemode": "tozero", "nticks": 4},
        yaxis3={**_axis("exposure"), "domain": [0, 0.18], "tickformat": ".0%", "rangemode": "tozero", "nticks": 4},
    )
    return figure


def returns_figure(result: Result) -> go.Figure:
    """Return the returns of sessions as bars; of more than 260 sessions, those of months."""
    import plotly.graph_objects as go

    values = result.returns
    if len(values) > 260:
        values = (1 + values).resample("ME").prod() - 1
    y = values.to_numpy(dtype=float)
    figure = go.Figure(layout=layout(220))
    figure.add_bar(
        x=[f"{day:%Y-%m-%d}" for day in values.index], y=y, marker={"color": np.where(y >= 0, BLUE, ORANGE).tolist()},
        hovertemplate="%{x}: %{y:+.2%}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(type="category", nticks=12, showgrid=False, color=GREY)
    figure.update_yaxes(**_axis("return"), tickformat=".1~%")
    return figure


def price_figure(result: Result, symbol: str, *, most: int = MOST_CANDLES) -> go.Figure:
    """Return a symbol's candles, at most ``most``, with the run's fills; a line of mids or prints where it has no bars.

    Raises
    ------
    ParameterError
        If neither the run's data nor its fills have the symbol.
    """
    import plotly.graph_objects as go

    times, prices = result.marks(symbol)
    fills = [fill for fill in result.fill_events if fill.symbol == symbol]
    if not len(times) and not fills:
        have = ", ".join(result.tape.symbols[:12])
        raise ParameterError(f"no prices and no fills of {symbol!r} in this run; it has {have}")
    figure = go.Figure(layout=layout(340))
    bars, drawn = result.tape.bars, "prices booked"
    rows = np.array([], dtype=np.int64)
    if bars is not None and symbol in bars.symbols:
        rows = np.flatnonzero((bars.code == bars.symbols.index(symbol)) & (bars.ts <= result.end))
    if bars is not None and len(rows):
        found = candles(bars, rows, wall_ms(bars.start[rows]), most)
        minutes = found.minutes or (1440 if result.tape.daily else result.tape.bar_ns / 6e10)
        grid, x, drawn = found.start, wall_ms(found.start), f"{_length(minutes)} candles"
        if minutes >= 1440:  # a day stands at its midnight, not at its open
            x = np.floor(x / DAY_MS) * DAY_MS
        figure.add_candlestick(
            x=x, open=found.open.astype(np.float32), high=found.high.astype(np.float32), name="",
            low=found.low.astype(np.float32), close=found.close.astype(np.float32), showlegend=False,
            increasing={"line": {"color": BLUE, "width": 1}, "fillcolor": "rgba(0,0,0,0)"},
            decreasing={"line": {"color": ORANGE, "width": 1}, "fillcolor": ORANGE},
        )  # fmt: skip
    else:
        kept = extremes(prices, most=min(most, MOST_POINTS))
        grid, x = times[kept], wall_ms(times[kept])
        drawn = "mid or last price" if symbol in result.tape.symbols else drawn
        figure.add_scatter(
            x=x, y=prices[kept].astype(np.float32), mode="lines", name="price", showlegend=False,
            line={"color": GREY, "width": 1, "shape": "hv"}, hovertemplate="%{y:,.2f}<extra></extra>",
        )  # fmt: skip
    for side in Side:
        _add_fills(figure, [fill for fill in fills if fill.side is side], side, grid, x, most=max(most * 2 // 5, 100))
    title = f"<b>{escape(label(symbol))}</b>  {drawn}"
    for side, (name, colour, _) in _FILL.items():
        count = sum(fill.side is side for fill in fills)
        arrow = "▲" if side is Side.BUY else "▼"
        title += f'   <span style="color:{colour}">{arrow}</span> {count:,} {name}' if count else ""
    figure.update_xaxes(**_time_axis(result), rangeslider={"visible": False}, hoverformat="%a %Y-%m-%d %H:%M")
    figure.update_yaxes(**_axis(""), tickprefix="$", tickformat=",.2f")
    figure.update_layout(
        hovermode="closest", title={"text": title, "x": 0, "xref": "paper", "y": 0.97, "font": {"size": 13}},
        showlegend=False, margin={"t": 34},
    )  # fmt: skip
    return figure


def label(symbol: str) -> str:
    """Return a symbol as people read it: of an option, its underlying, expiry, strike and right."""
    try:
        traded = instrument(symbol)
    except DataError:  # data may hold what nobody can trade
        return symbol
    if not isinstance(traded, Option):
        return symbol
    return f"{traded.underlying} {traded.expiry:%Y-%m-%d} {plain(traded.strike):f} {traded.right.name.lower()}"


def plotly_json(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as the notebook stores it: columns as base64, no theme."""
    import json

    found: dict[str, Any] = json.loads(figure.to_json())
    found["config"] = CONFIG
    return found


def _add_fills(figure: go.Figure, fills: list[OrderFilled], side: Side, grid: Int64, x: Float64, *, most: int) -> None:
    """Add fills of one side as triangles, each over its candle; of more than ``most``, neighbours are one."""
    if not fills:
        return
    name, colour, shape = _FILL[side]
    ts = np.array([fill.ts for fill in fills])
    at = np.maximum(np.searchsorted(grid, ts, side="right") - 1, 0)
    qty, price = np.array([float(fill.qty) for fill in fills]), np.array([float(fill.price) for fill in fills])
    clock = wall_ms(ts).astype("datetime64[ms]")
    text = [f"{q:,g} · {when}" for q, when in zip(qty, np.datetime_as_string(clock, "s"), strict=True)]
    if len(fills) > most and len(grid):
        together = -(-len(grid) // (most // 2))  # so many neighbouring candles share a triangle
        at = at // together * together
        edges = np.concatenate([[0], np.flatnonzero(np.diff(at)) + 1])
        count, total = np.diff(np.append(edges, len(at))), np.add.reduceat(qty, edges)
        at, price, qty = at[edges], np.add.reduceat(qty * price, edges) / total, total
        text = [f"{q:,g} in {n:,} fills, average" for q, n in zip(qty, count, strict=True)]
    figure.add_scatter(
        x=x[at] if len(grid) else wall_ms(ts), y=price.astype(np.float32), text=text, mode="markers", name=name,
        marker={"symbol": shape, "size": 8, "color": colour, "line": {"color": "rgba(128,136,146,.9)", "width": 0.5}},
        hovertemplate=name + " %{text} at %{y:,.4~f}<extra></extra>",
    )  # fmt: skip


def _time_axis(result: Result) -> dict[str, Any]:
    """A date axis without the nights, weekends and holidays on which the run's data have nothing.

    Each gap is a break with two ends of its own: patterns that overlap (nights, and whole days) plotly draws wrong.
    """
    axis: dict[str, Any] = {"type": "date", "showgrid": False, "color": GREY, "linecolor": GRID, "nticks": 12}
    shown = wall_ms(result.curve.ts)
    if result.tape.daily:  # a day stands at its midnight, so whole days are taken out
        days = np.unique(np.floor((shown - 1) / DAY_MS)) * DAY_MS
        first, last = days[:-1] + DAY_MS, days[1:]
    else:
        length = result.tape.bar_ns / 1e6
        first, last = shown[:-1] + MARGIN_MS, shown[1:] - length - MARGIN_MS
    for hours in (3, 30):  # nights and weekends; of a long run weekends alone; of a very long one no gap is seen anyway
        gaps = np.flatnonzero(last - first >= hours * 3.6e6)
        if len(gaps) <= MOST_BREAKS:
            ends = zip(_iso(first[gaps]), _iso(last[gaps]), strict=True)
            return {**axis, "rangebreaks": [{"bounds": list(pair)} for pair in ends]}
    return axis


def _iso(ms: Float64) -> list[str]:
    return [str(moment) for moment in np.datetime_as_string(ms.astype("datetime64[ms]"), "s")]


def layout(height: int) -> dict[str, Any]:
    """Return the layout all figures share."""
    return {
        "template": "none", "height": height, "margin": {"l": 64, "r": 12, "t": 10, "b": 42},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"size": 12, "color": GREY},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)", "color": "rgba(128,136,146,0.6)", "activecolor": BLUE,
            "remove": ["lasso", "select"],
        },
        "hoverlabel": {"bgcolor": "#22303f", "font": {"color": "#ffffff", "size": 12}},
    }  # fmt: skip


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12}}, "gridcolor": GRID, "zerolinecolor": GRID, "color": GREY,
        "automargin": True,
    }  # fmt: skip


def _shade(colour: str) -> dict[str, Any]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return {"fill": "tozeroy", "fillcolor": f"rgba({red},{green},{blue},0.18)"}


def _length(minutes: float) -> str:
    """A candle's length in words."""
    if minutes < 1440:
        return f"{minutes:g}-minute" if minutes % 60 or minutes == 60 else f"{minutes / 60:g}-hour"
    return {1: "daily", 7: "weekly"}.get(days := int(minutes // 1440), f"{days // 7}-week")
