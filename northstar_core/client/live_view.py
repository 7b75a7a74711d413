"""A backtest as it runs in JupyterLab: a progress bar and an equity curve that grows."""

from __future__ import annotations

import time

import numpy as np

from northstar_core.model.events import OrderFilled, PositionAdjusted
from northstar_core.model.instrument import instrument
from northstar_core.research import figures
from northstar_core.research.backtest import Backtest, Progress
from northstar_core.research.curve import equity_curve
from northstar_core.research.thin import extremes

REDRAW_S = 0.25


class LiveView:
    """Widgets of one run; redrawn a few times a second, so the run hardly notices."""

    def __init__(self, test: Backtest) -> None:
        import ipywidgets
        import plotly.graph_objects as go
        from IPython.display import display

        self.test = test
        self.bar = ipywidgets.IntProgress(min=0, max=max(test.feed.rows, 1), layout={"width": "60%"})
        self.label = ipywidgets.Label()
        line = go.Scatter(x=[], y=[], mode="lines", line={"width": 1.5, "color": figures.BLUE})
        self.figure = go.FigureWidget(line, layout=figures.layout(240))
        self.figure.update_xaxes(type="date")  # times come as numbers: milliseconds of the wall clock
        self.figure._config = {**self.figure._config, **figures.CONFIG}
        self.figure.update_xaxes(type="date", showgrid=False, color=figures.GREY)
        self.figure.update_yaxes(
            title_text="equity", tickprefix="$", tickformat=",.8~r", gridcolor=figures.GRID, color=figures.GREY
        )
        self._cash = float(test.cash)
        self._held: dict[str, float] = {}
        self._seen = 0
        self._drawn = 0.0
        self._times: list[int] = []
        self._equity: list[float] = []
        display(  # type: ignore[no-untyped-call]
            ipywidgets.VBox([ipywidgets.HBox([self.bar, self.label]), self.figure])
        )

    @classmethod
    def in_notebook(cls, test: Backtest) -> LiveView | None:
        """Return a view where there is a notebook front end to show it, else None."""
        try:
            from IPython import get_ipython

            shell = get_ipython()
            return cls(test) if shell is not None and hasattr(shell, "kernel") else None
        except ImportError:
            return None

    def show(self, progress: Progress) -> None:
        """Take note of a step; redraw when it is time."""
        self._times.append(progress.ts)
        self._equity.append(self._mark())
        now = time.monotonic()
        if now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._draw(progress)

    def _mark(self) -> float:
        """Cash plus positions at their latest prices, brought up to date with what is new in the journal."""
        records = self.test.journal.records
        for record in records[self._seen :]:
            event = record.event
            if isinstance(event, OrderFilled):
                signed = float(event.qty) * event.side.sign
                self._held[event.symbol] = self._held.get(event.symbol, 0.0) + signed
                self._cash -= signed * float(event.price) * instrument(event.symbol).multiplier + float(event.fees)
            elif isinstance(event, PositionAdjusted):
                self._held[event.symbol] = self._held.get(event.symbol, 0.0) + float(event.qty)
                self._cash += float(event.cash)
        self._seen = len(records)
        marks = self.test.engine.state.marks
        return self._cash + sum(
            held * getattr(marks.get(symbol), "price", 0.0) * instrument(symbol).multiplier
            for symbol, held in self._held.items()
            if held
        )

    def _draw(self, progress: Progress) -> None:
        self.bar.value = progress.rows
        done = f"{progress.rows:,} of {progress.total:,} rows"
        self.label.value = f"{done} · {progress.orders:,} orders · {progress.fills:,} fills"
        with self.figure.batch_update():
            times, equity = np.array(self._times, dtype=np.int64), np.array(self._equity)
            kept = extremes(equity, most=figures.MOST_POINTS)
            self.figure.data[0].x, self.figure.data[0].y = figures.wall_ms(times[kept]), equity[kept]

    def close(self) -> None:
        """Draw the end, and now every instant of the curve instead of one a step."""
        moves = [r.event for r in self.test.journal.records if isinstance(r.event, OrderFilled | PositionAdjusted)]
        whole = equity_curve(self.test.tape, float(self.test.cash), moves, self.test.now)
        self._times, self._equity = whole.ts.tolist(), whole.equity.tolist()
        self._draw(self.test.progress())
        self.bar.bar_style = "success" if self.test.outcome == "completed" else "warning"
