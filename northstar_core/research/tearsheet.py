"""The tear sheet: one run as a page, from the figures a trader asks for first to where every number came from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from northstar_core.model.errors import NorthstarError
from northstar_core.research import figures, sections
from northstar_core.research.markup import STYLE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from northstar_core.research.result import Result

MOST_CHARTS = 6  #: symbols whose prices are drawn; the others are named
MOST_CANDLES = 3_000  #: of all charts together
_MIME = "application/vnd.plotly.v1+json"
_POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"


def tear_sheet(result: Result) -> TearSheet:
    """Return the tear sheet of a run: the last line of a report cell shows it, ``save`` writes it as one HTML file."""
    return TearSheet(result)


class TearSheet:
    """A run as a page. In a notebook it shows itself; its figures are there to be changed.

    It asks for nothing from a network, and what it holds does not grow with the length of the run: figures are thinned
    (``thin``), of many trades the first and last are listed, and how many are left out is said.
    """

    def __init__(self, result: Result) -> None:
        self.result = result

    @cached_property
    def equity_figure(self) -> go.Figure:
        """Equity, drawdown and gross exposure."""
        return figures.equity_figure(self.result)

    @cached_property
    def returns_figure(self) -> go.Figure:
        """Returns of sessions, or of months."""
        return figures.returns_figure(self.result)

    def price_figure(self, symbol: str) -> go.Figure:
        """Return a symbol's candles with the run's fills."""
        return figures.price_figure(self.result, symbol)

    @cached_property
    def charted(self) -> list[str]:
        """Symbols whose prices are drawn: those with most fills; of a run without fills the first of its data."""
        fills: dict[str, int] = {}
        for fill in self.result.fill_events:
            fills[fill.symbol] = fills.get(fill.symbol, 0) + 1
        if fills:
            most = sorted(fills, key=lambda symbol: (-fills[symbol], symbol))[:MOST_CHARTS]
            return sorted(most)
        return [symbol for symbol in self.result.tape.symbols if len(self.result.marks(symbol)[0])][:1]

    def parts(self) -> Iterator[str | go.Figure]:
        """Yield the page from top to bottom: pieces of HTML, and figures."""
        result = self.result
        yield STYLE + _block(sections.header(result), sections.key_figures(result))
        if len(result.curve.ts):
            yield self.equity_figure
        yield _block(sections.returns(result))
        most = min(figures.MOST_CANDLES, MOST_CANDLES // max(len(self.charted), 1))
        for symbol in self.charted:
            yield figures.price_figure(result, symbol, most=most)
        yield _block(
            sections.left_out(result, self.charted),
            sections.trades(result),
            sections.metrics(result),
            sections.money(result),
            sections.refusals(result),
            sections.assumptions(result),
            sections.provenance(result),
        )

    def html(self, *, plotly_js: bool = True) -> str:
        """Return the sheet as one self-contained HTML page, 5 MB of it plotly.js; its policy forbids every request.

        Without ``plotly_js`` the figures are there, but nothing draws them.
        """
        import json

        body = []
        for n, part in enumerate(self.parts()):
            if isinstance(part, str):
                body.append(part)
                continue
            drawing = json.dumps(figures.plotly_json(part), separators=(",", ":")).replace("<", "\\u003c")
            height = part.layout.height or 400
            body.append(
                f'<div id="figure-{n}" style="min-height:{height}px"></div>'
                f'<script type="application/json" data-figure="figure-{n}">{drawing}</script>'
            )
        title = sections.title(self.result)
        return "\n".join((
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<style>body{font-family:system-ui,"Segoe UI","Helvetica Neue",Arial,sans-serif;color:#1b2430;'
            "background:#fff;max-width:1080px;margin:0 auto;padding:28px 24px 60px}</style></head><body>",
            *body,
            f"<script>{_plotly_js()}</script><script>{_DRAW}</script>" if plotly_js else "",
            "</body></html>",
        ))  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write the sheet as one self-contained HTML file and return its path.

        Raises
        ------
        NorthstarError
            If it cannot be written.
        """
        path = Path(path)
        try:
            path.write_text(self.html(), encoding="utf-8")
        except OSError as error:
            raise NorthstarError(f"{path}: the tear sheet cannot be written: {error.strerror}") from None
        return path

    def _ipython_display_(self) -> None:
        """Show the page in a notebook, each figure as an output of its own, drawn by the notebook's plotly."""
        from IPython.display import display

        for part in self.parts():
            if isinstance(part, str):
                bundle: dict[str, Any] = {"text/html": part, "text/plain": repr(self)}
            else:
                bundle = {_MIME: figures.plotly_json(part), "text/plain": "a figure, drawn by plotly"}
            display(bundle, raw=True)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        """Whose sheet it is."""
        return f"<tear sheet of {self.result!r}>"


def _block(*parts: str) -> str:
    return f'<div class="ns">{"".join(parts)}</div>'


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


_DRAW = """for (const holder of document.querySelectorAll("script[data-figure]")) {
  const figure = JSON.parse(holder.textContent);
  Plotly.newPlot(holder.dataset.figure, figure.data, figure.layout, figure.config);
}"""
