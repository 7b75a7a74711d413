"""One symbol of a feed: its bars from stream and REST in one sequence, its quotes and prints, and what waits for missing bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from northstar_core.data.bar_sequence import LATE, NEXT, REVISED, BarSequence, wrong
from northstar_core.data.feed import FeedEvent, FeedStats
from northstar_core.data.massive.conditions import Conditions
from northstar_core.data.massive.wire import (
    MINUTE_NS,
    MS_NS,
    OPTIONS,
    SECOND_NS,
    MinuteRow,
    QuoteRow,
    SecondRow,
    TradeRow,
)
from northstar_core.data.tick_guard import TickGuard
from northstar_core.model.market import Bar
from northstar_core.model.world import AlertRaised, BarRevised, FrameUnread

OVERLAP_NS = 15 * MINUTE_NS
HELD_MOST = 20_000  #: messages of a symbol that may wait for bars; of more, the oldest are let go
LONGEST_SWEEP_NS = 16 * MINUTE_NS
CALM_NS, LONGEST_CALM_NS = MINUTE_NS, 15 * MINUTE_NS

DataRow = TradeRow | QuoteRow | MinuteRow | SecondRow


class Fill(msgspec.Struct, frozen=True, gc=False):
    """A question for REST: the bars of a symbol that begin in ``[start, end)``."""

    number: int
    symbol: str
    span_ns: int
    start: int
    end: int
    reason: str  #: "connected", "hole", "silent"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the protocol is told of the desk."""

    stale_ns: int = 10 * SECOND_NS  #: older quotes are refused
    hold_ns: int = 10 * SECOND_NS  #: live messages wait no longer than this for missing bars
    sweep_ns: int = 65 * SECOND_NS  #: nothing of a symbol for so long in session: its bars are asked for
    quote_lot: float = 100.0  #: shares in one unit of a stock quote's size


class Shared(msgspec.Struct):
    """What the symbols of a feed have in common."""

    name: str
    stats: FeedStats
    rules: Rules
    conditions: Conditions
    fills: list[Fill] = []  #: to be asked
    number: int = 0  #: of fills so far


class Owed(msgspec.Struct):
    """Bars that are still to be asked for, without waiting for them: those that begin in ``[start, end)``."""

    start: int
    end: int
    ask_at: int


class SymbolFeed:
    """One symbol.

    ``fills`` are the questions whose answers its messages wait for. Volume without a bar is usual among seconds (odd lots count for volume
    alone): there a suspected hole that turns out to be none makes the next suspicion wait, for a minute, then longer each time, up to a
    quarter of an hour; the bars go on, and what may be missing is asked for then.
    """

    def __init__(self, symbol: str, cluster: str, shared: Shared) -> None:
        self.symbol, self.cluster, self._shared = symbol, cluster, shared
        option = cluster == OPTIONS
        self._guard = TickGuard(symbol, option=option, stale_ns=shared.rules.stale_ns)
        self._lot = 1.0 if option else shared.rules.quote_lot
        self.bars: dict[int, BarSequence] = {}  #: by length
        self.due: set[int] = set()  #: lengths whose bars are to be asked for once the stream tells everything
        self.fills: dict[int, Fill] = {}
        self.filled = 0  #: bars that REST alone brought
        self._held_since = 0
        self._held: list[tuple[DataRow, int]] = []  # with their arrival
        self._from_rest: list[Bar] = []
        self._sweeps: dict[int, tuple[int, int, int]] = {}  # by length: end of the last bar, when to ask, then how much later
        self._calm: dict[int, tuple[int, int]] = {}  # by length: no hole is suspected until, and how long that was
        self._owed: dict[int, Owed] = {}  # by length
        self._failing: dict[int, int] = {}  # by length: how long after the last failure it is asked again
        self._takes: dict[type, Callable[[Any, int, list[FeedEvent]], None]] = {
            QuoteRow: self._quote, TradeRow: self._trade, MinuteRow: self._minute, SecondRow: self._second,
        }  # fmt: skip

    # ── the stream ────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, row: DataRow, now: int, out: list[FeedEvent]) -> None:
        """Take a message; while bars are being filled in, or are to be, it waits."""
        if self.fills or self.due:
            if len(self._held) >= HELD_MOST:
                self._drop_held()
            self._held.append((row, now))
        else:
            self._takes[type(row)](row, now, out)

    def _drop_held(self) -> None:
        """Let the oldest half of the quotes and prints that wait go; bars stay."""
        half = len(self._held) // 2
        bars = [entry for entry in self._held[:half] if type(entry[0]) in (MinuteRow, SecondRow)]
        self._shared.stats.drop("held too many", half - len(bars))
        self._held[:half] = bars

    def _quote(self, row: QuoteRow, now: int, out: list[FeedEvent]) -> None:
        found = self._guard.quote(row.t * MS_NS, row.q, row.bp, row.ap, row.bs * self._lot, row.ask_size * self._lot, now)
        if type(found) is str:
            self._shared.stats.drop(found)
        else:
            out.append(found)  # type: ignore[arg-type]

    def _trade(self, row: TradeRow, now: int, out: list[FeedEvent]) -> None:
        forms_price, size = True, row.size
        if row.c is not None:
            conditions, rules = row.conditions, self._shared.conditions
            forms_price = rules.forms_price(conditions)
            if not rules.counts(conditions):
                if not forms_price:
                    self._shared.stats.drop("print of neither price nor volume")
                    return
                size = 0.0
        found = self._guard.trade(row.t * MS_NS, row.q, row.x, row.i, row.p, size, forms_price, now)
        if type(found) is str:
            self._shared.stats.drop(found)
        else:
            out.append(found)  # type: ignore[arg-type]

    def _minute(self, row: MinuteRow, now: int, out: list[FeedEvent]) -> None:
        self._bar(row, MINUTE_NS, now, out)

    def _second(self, row: SecondRow, now: int, out: list[FeedEvent]) -> None:
        self._bar(row, SECOND_NS, now, out)

    def _bar(self, row: MinuteRow | SecondRow, span_ns: int, now: int, out: list[FeedEvent]) -> None:
        sequence = self.bars.get(span_ns)
        if sequence is None:
            self._shared.stats.drop("not subscribed")
            return
        bar = Bar(self.symbol, row.s * MS_NS, row.e * MS_NS, row.o, row.h, row.l, row.c, row.volume)
        problem = wrong(bar, span_ns)
        if problem:
            self._shared.stats.drop("bad bar")
            out.append(FrameUnread(now, self._shared.name, msgspec.json.encode(row).decode(), f"{self.symbol}: bar {problem}"))
        elif not sequence.lacks(bar, row.day_volume):
            self._put(sequence, bar, row.day_volume, now, out)
        elif now < (calm_until := self._calm.get(span_ns, (0, 0))[0]):
            self._owe(span_ns, sequence.next, bar.start, calm_until)
            self._put(sequence, bar, row.day_volume, now, out)
        else:
            self.ask(sequence, sequence.next, bar.start, "hole", now)
            self._held.append((row, now))

    def _put(self, sequence: BarSequence, bar: Bar, day_volume: float | None, now: int, out: list[FeedEvent]) -> str:
        found = sequence.take(bar, day_volume)
        if found is NEXT:
            out.append(bar)
        elif found in (REVISED, LATE):
            self._shared.stats.revised += 1
            out.append(BarRevised(now, bar))
        else:
            self._shared.stats.drop(f"bar {found}")
        return found

    # ── bars from REST ────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, sequence: BarSequence, start: int, end: int, reason: str, now: int) -> Fill:
        """Ask for bars; but for "silent" ones, everything waits for the answer."""
        shared = self._shared
        shared.number += 1
        shared.stats.gap_fills += 1
        fill = Fill(shared.number, self.symbol, sequence.span_ns, start, end, reason)
        shared.fills.append(fill)
        if reason != "silent":
            if not self.fills:
                self._held_since = now
            self.fills[fill.number] = fill
        return fill

    def ask_due(self, now: int, out: list[FeedEvent]) -> list[Fill]:
        """Ask for the bars since the last ones, and for some before, which may have been revised."""
        asked = []
        for span_ns in sorted(self.due):
            sequence = self.bars[span_ns]
            start, end = max(sequence.since, sequence.next - OVERLAP_NS), now // span_ns * span_ns
            if start < end:
                asked.append(self.ask(sequence, start, end, "connected", now))
        self.due.clear()
        if not asked and not self.fills:
            self._release(now, out)
        return asked

    def answered(self, fill: Fill, bars: Iterable[Bar], now: int, out: list[FeedEvent]) -> None:
        """REST has answered: take its bars; with the last answer, everything that waited goes out."""
        sequence = self.bars[fill.span_ns]
        good = [bar for bar in bars if fill.start <= bar.start and bar.ts <= max(fill.end, bar.start) and not wrong(bar, fill.span_ns)]
        sequence.checked = max(sequence.checked, fill.end)
        self._failing.pop(fill.span_ns, None)
        if fill.reason == "hole" and fill.span_ns < MINUTE_NS:
            later = 0 if good else min(max(2 * self._calm.get(fill.span_ns, (0, 0))[1], CALM_NS), LONGEST_CALM_NS)
            self._calm[fill.span_ns] = now + later if later else 0, later
        if self.fills.pop(fill.number, None) is None:  # asked without waiting, or no longer waited for
            for bar in sorted(good, key=lambda bar: bar.start):
                self._rest(sequence, bar, None, now, out)
            return
        self._from_rest += good
        if not self.fills and not self.due:
            self._release(now, out)

    def give_up(self, fill: Fill, now: int, out: list[FeedEvent], reason: str) -> None:
        """There is no answer: go on without these bars, and say so."""
        sequence = self.bars[fill.span_ns]
        sequence.checked = max(sequence.checked, fill.end)
        later = self._failing[fill.span_ns] = min(2 * self._failing.get(fill.span_ns, CALM_NS // 2), LONGEST_SWEEP_NS)
        self._owe(fill.span_ns, fill.start, fill.end, now + later)
        if self.fills.pop(fill.number, None) is None:
            return
        self._shared.stats.drop("fill not answered")
        text = f"{self.symbol}: bars of {fill.span_ns // SECOND_NS} s since {_clock(fill.start)} could not be asked for: {reason}"
        out.append(AlertRaised(now, "warning", f"feed {self._shared.name}", text))
        if not self.fills and not self.due:
            self._release(now, out)

    def _owe(self, span_ns: int, start: int, end: int, ask_at: int) -> None:
        """Note bars to be asked for later."""
        known = self._owed.get(span_ns)
        if known is not None:
            start, end = min(start, known.start), max(end, known.end)
        self._owed[span_ns] = Owed(start, end, ask_at)

    def forget_fills(self) -> None:
        """The connection is gone: what was asked is asked anew with the next one."""
        self.fills.clear()

    def overdue(self, now: int) -> list[Fill]:
        """Return the questions that have been waited for long enough."""
        if not self.fills or now - self._held_since <= self._shared.rules.hold_ns:
            return []
        return list(self.fills.values())

    def sweep(self, now: int, opened: int | None) -> None:
        """Ask for bars that are owed, and in session for those of a symbol of which none has come for a while, at growing intervals."""
        for span_ns, owed in list(self._owed.items()):
            if now >= owed.ask_at:
                self.ask(self.bars[span_ns], owed.start, owed.end, "silent", now)
                del self._owed[span_ns]  # what fails is owed again
        if opened is None:
            return
        first = self._shared.rules.sweep_ns
        for span_ns, sequence in self.bars.items():
            since, ask_at, later = self._sweeps.get(span_ns, (-1, 0, 0))
            if since != sequence.next:
                since, ask_at, later = sequence.next, max(sequence.next, opened) + first, first
            if now > ask_at and not self.fills:
                later = min(2 * later, LONGEST_SWEEP_NS)
                ask_at = now + later
                self.ask(sequence, sequence.next, now // span_ns * span_ns, "silent", now)
            self._sweeps[span_ns] = since, ask_at, later

    def _rest(self, sequence: BarSequence, bar: Bar, day_volume: float | None, now: int, out: list[FeedEvent]) -> None:
        if self._put(sequence, bar, day_volume, now, out) is NEXT and day_volume is None:
            self.filled += 1
            self._shared.stats.filled += 1

    def _release(self, now: int, out: list[FeedEvent]) -> None:
        """Hand over what waited, and REST's bars among it, in order of time.

        Of a bar that both brought, REST's numbers stand above the stream's first ones; the stream's later ones are revisions.
        """
        held, self._held = self._held, []
        bars, self._from_rest = self._from_rest, []
        both = {(bar.ts - bar.start, bar.start): bar for bar in bars}
        totals: dict[tuple[int, int], float | None] = {}
        items: list[tuple[int, int, Bar | DataRow, int]] = []
        for row, arrived in held:
            if isinstance(row, (MinuteRow, SecondRow)):
                key = (row.e - row.s) * MS_NS, row.s * MS_NS
                if key in both and key not in totals:
                    totals[key] = row.day_volume
                    continue
                items.append((row.e * MS_NS, 1, row, arrived))
            else:
                items.append((row.t * MS_NS, 1, row, arrived))
        items += [(bar.ts, 0, bar, now) for bar in both.values()]
        items.sort(key=lambda item: item[:2])
        for at, (_, _, item, arrived) in enumerate(items):
            if isinstance(item, Bar):
                span = item.ts - item.start
                self._rest(self.bars[span], item, totals.get((span, item.start)), now, out)
            else:
                self._takes[type(item)](item, arrived, out)
                if self.fills:  # another hole: the rest waits on
                    for _, _, other, came in items[at + 1 :]:
                        if isinstance(other, Bar):
                            self._from_rest.append(other)
                        else:
                            self._held.append((other, came))
                    return


def _clock(ts: int) -> str:
    return f"{ts // SECOND_NS % 86_400 // 3600:02d}:{ts // SECOND_NS % 3600 // 60:02d}:{ts // SECOND_NS % 60:02d} UTC"
