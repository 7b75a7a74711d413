"""Small pieces of HTML: numbers as a trader reads them, tables, tiles. Whatever comes from data is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from decimal import Decimal
from html import escape
from typing import Any

NONE = "–"
Number = Decimal | float | int

#: Colours and lines hold on a light and on a dark page: ink is the page's own, lines are half transparent.
STYLE = """<style>
.ns{--up:#0b62a4;--down:#b4540a;--rule:rgba(128,136,146,.32);--tint:rgba(128,136,146,.1);line-height:1.4;
font-size:13px;font-variant-numeric:tabular-nums;color:inherit}
[data-jp-theme-light="false"] .ns{--up:#62b3f0;--down:#f2964c}
.ns h2.ns-h{font-size:21px;font-weight:600;margin:0 0 2px;border:0;padding:0;letter-spacing:-.01em}
.ns h3.ns-h{font-size:14px;font-weight:600;margin:22px 0 6px;padding:0 0 3px;border-bottom:1px solid var(--rule)}
.ns p{margin:2px 0 8px;max-width:none}.ns .soft{opacity:.72}.ns .up{color:var(--up)}.ns .down{color:var(--down)}
.ns .banner{border:2px solid var(--down);color:var(--down);border-radius:4px;padding:7px 12px;margin:0 0 12px;
font-size:14px}
.ns .banner b{letter-spacing:.04em}.ns .plain{border-width:0 0 0 4px;border-radius:0;color:inherit}
.ns .tiles{display:flex;flex-wrap:wrap;justify-content:space-between;gap:8px 20px;margin:14px 0 4px;
border-top:1px solid var(--rule);border-bottom:1px solid var(--rule);padding:9px 0}
.ns .tile>span{display:block;font-size:11.5px;opacity:.72}.ns .tile>b{display:block;font-size:17px;font-weight:600;
white-space:nowrap}
.ns .tile>small{display:block;font-size:11.5px;opacity:.72;white-space:nowrap}
.ns .side{display:flex;flex-wrap:wrap;gap:0 40px;align-items:flex-start}.ns .side>div{flex:1 1 380px;min-width:0}
.ns .scroll{max-height:340px;overflow:auto;border-bottom:1px solid var(--rule)}
.ns table.ns-t{border-collapse:collapse;font-size:12.5px;margin:0;width:100%;table-layout:auto;border:0}
.ns table.ns-fit{width:auto}.ns table.ns-heat{margin:0 0 14px}
.ns table.ns-t tbody tr,.ns table.ns-t thead tr{background:transparent}
.ns table.ns-t tbody tr:hover{background:var(--tint)}
.ns table.ns-t th,.ns table.ns-t td{padding:2.5px 10px 2.5px 0;text-align:right;vertical-align:top;border:0;
border-bottom:1px solid var(--rule);white-space:nowrap;max-width:none}
.ns table.ns-t thead th{font-weight:600;border-bottom:1px solid currentColor}
.ns .scroll table.ns-t thead th{position:sticky;top:0;background:var(--jp-layout-color0,#fff)}
.ns table.ns-t .l{text-align:left}.ns table.ns-t .w{text-align:left;white-space:normal;overflow-wrap:anywhere}
.ns table.ns-t .w{padding-left:6px}
.ns table.ns-heat td,.ns table.ns-heat th{padding:4px 9px!important;border-bottom:0!important}
.ns :not(pre)>code{font:11.5px ui-monospace,Menlo,Consolas,monospace;background:none;padding:0;color:inherit;
overflow-wrap:anywhere}
</style>"""


def text(value: Any) -> str:
    """Return anything as text that cannot be markup."""
    return escape(str(value))


def number(value: Number | None, digits: int = 2, unit: str = "", *, signed: bool = False) -> str:
    """Return a number with thousands separated and a true minus sign; a dash for nan and None."""
    if value is None or value != value:
        return NONE
    shown = f"{abs(value):,.{digits}f}"
    sign = "−" if value < 0 and any(digit in "123456789" for digit in shown) else "+" if signed and value > 0 else ""
    return f"{sign}{shown}{unit}"


def dollars(value: Number | None, *, signed: bool = False) -> str:
    """Return an amount of dollars to the cent."""
    shown = number(value, 2, signed=signed)
    return shown if shown == NONE else shown[: -len(shown.lstrip("+−"))] + "$" + shown.lstrip("+−")


def percent(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Return a share as a percentage."""
    return number(None if value is None else value * 100, digits, " %", signed=signed)


def price(value: Decimal) -> str:
    """Return a price with at least two and at most four decimals."""
    shown = f"{value:,.4f}"
    return shown[:-2] if shown.endswith("00") else shown


def quantity(value: Decimal) -> str:
    """Return a quantity without trailing zeros."""
    return number(value, 0 if value == value.to_integral_value() else 4)


def coloured(value: Number | None, show: Callable[..., str] = dollars) -> str:
    """Return a gain in blue or a loss in orange, signed, so that the colour says nothing that the sign does not."""
    shown = show(value, signed=True)
    kind = "" if value is None or value != value or not value else "up" if value > 0 else "down"
    return f'<span class="{kind}">{shown}</span>' if kind else shown


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", *, kind: str = "") -> str:
    """Return a table; cells are HTML already. ``align`` has a letter a column: r(ight), l(eft), w(rapped, left)."""
    align = align.ljust(20, "r")
    attributes = ["" if letter == "r" else f' class="{letter}"' for letter in align]
    top = "".join(f"<th{attribute}>{name}</th>" for attribute, name in zip(attributes, head, strict=False))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{attribute}>{cell}</td>" for attribute, cell in zip(attributes, row, strict=False))
        + "</tr>"
        for row in rows
    )
    start = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<table class="ns-t {kind}">{start}<tbody>{body}</tbody></table>'


def tile(name: str, value: str, below: str = "") -> str:
    """Return one key figure."""
    return f'<div class="tile"><span>{name}</span><b>{value}</b><small>{below or "&nbsp;"}</small></div>'


def section(title: str, *parts: str) -> str:
    """Return a titled section."""
    return f'<h3 class="ns-h">{title}</h3>{"".join(parts)}'


def beside(*parts: str) -> str:
    """Return parts side by side where the page is wide enough."""
    return '<div class="side">' + "".join(f"<div>{part}</div>" for part in parts if part) + "</div>"


def heat(value: float, largest: float) -> str:
    """Return a return as a tinted cell's content and style."""
    if value != value:
        return "<td></td>"
    colour = "43,131,198" if value >= 0 else "217,115,13"
    depth = 0.08 + 0.47 * min(abs(value) / largest, 1) if largest else 0
    return f'<td style="background:rgba({colour},{depth:.2f})">{percent(value, signed=True)}</td>'


def heat_table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[float], float]]) -> str:
    """Return rows of returns as a heat map, each with a label and its total."""
    largest = max((abs(v) for _, values, _ in rows for v in values if v == v), default=0.0)
    top = "".join(f'<th class="{"l" if n == 0 else ""}">{name}</th>' for n, name in enumerate(head))
    body = "\n".join(
        f'<tr><th class="l">{name}</th>{"".join(heat(v, largest) for v in values)}'
        f"<td><b>{coloured(total, percent)}</b></td></tr>"
        for name, values, total in rows
    )
    return f'<table class="ns-t ns-heat ns-fit"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def days(first: date, last: date) -> str:
    """Return a span of dates."""
    return f"{first:%Y-%m-%d}" if first == last else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
