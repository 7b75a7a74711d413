"""A market that plays a tape against a clock: one in a process, heard by all of its twins.

Order of things at one instant: a session's open, quotes, trades, bars (short ones first), the session's close, timers.
Only symbols that somebody listens to are played; of others ``last`` and ``bars`` know as much, when asked.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection
from functools import lru_cache
from itertools import groupby

import msgspec

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade
from northstar_core.model.tape import Session, Tape
from northstar_core.twins.clock import SECOND_NS, TwinClock
from northstar_core.twins.expand import expand
from northstar_core.twins.rows import symbols_of, tables_of

MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
LEAD_NS = 5 * MINUTE_NS  #: the market is up this long before its first open
BEAT_S, NAP_S = 0.002, 0.02  #: the shortest sleep and the longest: what is asked for meanwhile waits no longer
AT_ONCE = 500  #: instants played before others get their turn

Callback = Callable[[list[MarketEvent]], None]
SessionCallback = Callable[[int, Session, bool], None]


class MarketState(msgspec.Struct):
    """The last that was seen of one symbol; of bars the last of the tape's own length."""

    quote: Quote | None = None
    trade: Trade | None = None
    bar: Bar | None = None

    @property
    def price(self) -> float:
        """The last traded price; the middle of the quote where nothing has traded; 0.0 without either."""
        trade, bar = self.trade, self.bar
        if trade is not None and (bar is None or trade.ts >= bar.ts):
            return trade.price
        if bar is not None:
            return bar.close
        return self.quote.price if self.quote is not None else 0.0

    @property
    def ts(self) -> int:
        """When anything was last seen, ns UTC."""
        return max(event.ts for event in (self.quote, self.trade, self.bar) if event is not None)


class TwinMarket:
    """Plays a tape.

    Parameters
    ----------
    tape
        What happens. Bars before ``start`` are history.
    speed
        Market seconds in a second of the wall.
    start
        Market time to begin at, ns UTC; by default five minutes before the first session's open.
    fine
        Bars of a minute are expanded into quotes, trades and second bars consistent with them (see ``expand``).
    seed
        Of what the expansion invents.
    """

    def __init__(
        self, tape: Tape, *, speed: float = 1.0, start: int | None = None, fine: bool = True, seed: int = 0
    ) -> None:
        self._tables = tables_of(tape)
        if not self._tables:
            raise DataError("the data hold no rows to play; widen the dates or choose other symbols")
        if not speed > 0:
            raise DataError(f"speed {speed}: give market seconds in a second of the wall, above 0")
        self.tape, self.symbols, self.sessions = tape, tape.symbols, tape.sessions
        first = min(int(rows.table.ts[0]) for rows in self._tables.values())
        opens = self.sessions[0].open if self.sessions else first - max(tape.bar_ns, MINUTE_NS)
        self.start = opens - LEAD_NS if start is None else start
        self.played = self.start  #: everything up to here has happened, ns UTC
        self.clock = TwinClock(self.start, speed)
        fine = fine and "bars" in self._tables and tape.bar_ns == MINUTE_NS and not tape.daily
        self._expand = _expansion(seed) if fine else None
        self._bar_symbols = frozenset(symbols_of(self._tables["bars"].table)) if "bars" in self._tables else frozenset()
        #: symbols whose orders fill on quotes and prints; the others' on bars
        self.ticked = frozenset(
            symbol for kind in ("quotes", "trades") if kind in self._tables
            for symbol in symbols_of(self._tables[kind].table)
        ) | (self._bar_symbols if fine else frozenset())  # fmt: skip
        self._listeners: list[tuple[Callback, Collection[str] | None]] = []
        self._session_listeners: list[SessionCallback] = []
        self._playing: frozenset[str] | None = frozenset()  # None: all
        self._state: dict[str, MarketState] = {}
        self._queue: list[tuple[int, list[MarketEvent]]] = []  # instants of the block that is being played
        self._at = 0  # of the queue
        self._block_end = self.start
        self._marks = sorted(
            [(s.open, 0, s) for s in self.sessions if s.open > self.start]
            + [(s.close, 1, s) for s in self.sessions if s.close > self.start],
            key=lambda mark: mark[:2],
        )
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._timer_count = 0

    # ── who listens ───────────────────────────────────────────────────────────────────────────────────────────────────

    def listen(self, callback: Callback, symbols: Collection[str] | None = None) -> Callable[[], None]:
        """Call with the events of each instant, in order; return what stops it.

        ``symbols`` (None: all) is looked at again at every instant, so a set or dict of the listener's may change;
        call ``refresh`` after a symbol has come in. No call is made for an instant without any of them.
        """
        entry = (callback, symbols)
        self._listeners.append(entry)
        self.refresh()

        def stop() -> None:
            self._listeners[:] = [other for other in self._listeners if other is not entry]

        return stop

    def on_session(self, callback: SessionCallback) -> Callable[[], None]:
        """Call with (time, session, whether it opens) at every open and close; return what stops it."""
        self._session_listeners.append(callback)
        return lambda: self._session_listeners.remove(callback)

    def at(self, ts: int, callback: Callable[[], None]) -> None:
        """Call once, when everything up to ``ts`` has happened."""
        self._timer_count += 1
        heapq.heappush(self._timers, (ts, self._timer_count, callback))

    def refresh(self) -> None:
        """Play from here on what is listened to now."""
        wanted = self._wanted()
        if wanted is None or (self._playing is not None and not wanted <= self._playing):
            self._load(self.played, max(self._block_end, self.played))

    def _choose(self) -> frozenset[str] | None:
        """Take what is listened to now as what is played; what is new begins with what is known of it."""
        wanted, known = self._wanted(), self._playing
        if known is not None and wanted != known:
            for symbol in self.symbols if wanted is None else wanted:
                if symbol not in known:
                    self._state[symbol] = self._look_up(symbol)
        self._playing = wanted
        return wanted

    def _wanted(self) -> frozenset[str] | None:
        wanted: set[str] = set()
        for _, symbols in self._listeners:
            if symbols is None:
                return None
            wanted.update(symbols)
        return frozenset(wanted)

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────────────────

    def now(self) -> int:
        """Return the market's time, ns UTC; never before what has happened."""
        return max(self.clock.now(), self.played)

    def last(self, symbol: str) -> MarketState | None:
        """Return the last quote, trade and bar of a symbol; None if nothing of it has been seen, or it is not known."""
        if self._playing is None or symbol in self._playing:
            state = self._state.get(symbol)
        else:
            state = self._look_up(symbol)
        return None if state is None or (state.quote is None and state.trade is None and state.bar is None) else state

    def bars(self, symbol: str, span_ns: int, start: int, end: int) -> list[Bar]:
        """Return a symbol's complete bars with ``start <= bar.start`` and ``bar.ts <= end`` that have happened.

        Of the tape's own length as they are; shorter ones from the expansion (whole seconds); longer ones put together,
        from bars whose starts fall in one span of UTC, and of a day (86,400 s) from one session, from its open to its
        close. A longer bar is complete when its span is over, and has nothing of where nothing traded.
        """
        rows = self._tables.get("bars")
        end = min(end, self.played)
        if rows is None or span_ns <= 0 or symbol not in self._bar_symbols:
            return []
        own = self.tape.bar_ns or MINUTE_NS
        if span_ns >= own:
            bars = rows.of_symbol(symbol, start, end)
            if span_ns == own:
                return [bar for bar in bars if bar.start >= start]
            return self._joined(bars, span_ns, start, end)
        if self._expand is None or span_ns % SECOND_NS:
            return []
        seconds = [
            event for bar in rows.of_symbol(symbol, start, end + own + 1) for event in self._expand(bar)
            if type(event) is Bar and event.start >= start and event.ts <= end
        ]  # fmt: skip
        return seconds if span_ns == SECOND_NS else self._joined(seconds, span_ns, start, end)

    def ticks(self, symbol: str, after: int, until: int) -> list[MarketEvent]:
        """Return a symbol's quotes and prints of ``(after, until]`` that have happened, in order."""
        until = min(until, self.played)
        found: list[MarketEvent] = []
        if self._expand is not None and symbol in self._bar_symbols:
            for bar in self._tables["bars"].of_symbol(symbol, after, until + MINUTE_NS):
                found += [event for event in self._expand(bar) if type(event) is not Bar and after < event.ts <= until]
        for kind in ("quotes", "trades"):
            if kind in self._tables:
                found += self._tables[kind].of_symbol(symbol, after, until)
        found.sort(key=_place)
        return found

    def session_at(self, ts: int) -> Session | None:
        """Return the session whose regular hours ``[open, close)`` hold a time."""
        return next((s for s in self.sessions if s.open <= ts < s.close), None)

    def next_session(self, ts: int) -> Session | None:
        """Return the first session that opens after a time."""
        return next((s for s in self.sessions if s.open > ts), None)

    def chain(self, underlying: str) -> list[Option]:
        """Return the options on an underlying that the tape holds, by expiry, strike and right."""
        found = (instrument(symbol) for symbol in self.symbols)
        options = [option for option in found if type(option) is Option and option.underlying == underlying]
        return sorted(options, key=lambda option: (option.expiry, option.strike, option.right))

    def _joined(self, bars: list[Bar], span_ns: int, start: int, end: int) -> list[Bar]:
        def span(bar: Bar) -> tuple[int, int]:
            if span_ns == DAY_NS:
                session = self.session_at(bar.start)
                return (session.open, session.close) if session is not None else (0, 0)
            first = bar.start // span_ns * span_ns
            return first, first + span_ns

        out = []
        for (first, last), group in groupby(bars, key=span):
            if not last or first < start or last > end:
                continue
            parts = list(group)
            high, low = max(bar.high for bar in parts), min(bar.low for bar in parts)
            volume = sum(bar.volume for bar in parts)
            out.append(Bar(parts[0].symbol, first, last, parts[0].open, high, low, parts[-1].close, volume))
        return out

    def _look_up(self, symbol: str) -> MarketState:
        state = MarketState()
        for kind, rows in self._tables.items():
            _note(state, rows.last(symbol, self.played), kind == "bars")
        if self._expand is not None and symbol in self._bar_symbols:
            rows = self._tables["bars"]
            last = rows.last(symbol, self.played)
            for bar in (last, *rows.of_symbol(symbol, self.played, self.played + MINUTE_NS)):
                if bar is not None and bar.start <= self.played:
                    for event in self._expand(bar):
                        if event.ts <= self.played:
                            _note(state, event, False)
        return state

    # ── playing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Play until the tape ends; the clock runs on."""
        self.clock.start()
        while True:
            if self._play(self.clock.now(), AT_ONCE):
                ts = self._coming()
                if ts is None:
                    return
                await asyncio.sleep(min(max(self.clock.wall_delay(ts), BEAT_S), NAP_S))
            else:
                await asyncio.sleep(0)

    def step(self, until: int) -> None:
        """Play everything up to and including ``until``, at once; a standing clock goes along."""
        self._play(until, None)
        self.clock.set(until)

    def _play(self, until: int, most: int | None) -> bool:
        """Play instants up to ``until``, at most so many of them; tell whether all are played."""
        while most is None or most > 0:
            while self._at >= len(self._queue) and (begin := self._next_block()) is not None and begin <= until:
                # Of a minute that ends with a bar, the first instant may already have a quote.
                self._load(begin, (begin + 1) // MINUTE_NS * MINUTE_NS + MINUTE_NS - 1)
            ts = self._coming()
            if ts is None or ts > until:
                self.played = max(self.played, until)
                return True
            self._instant(ts)
            if most is not None:
                most -= 1
        return False

    def _coming(self) -> int | None:
        """Return when something happens next, or may: the next minute is looked into when it comes. None at the end."""
        times = [self._queue[self._at][0]] if self._at < len(self._queue) else []
        if not times and (begin := self._next_block()) is not None:
            times.append(begin + 1)
        if self._marks:
            times.append(self._marks[0][0])
        if self._timers:
            times.append(max(self._timers[0][0], self.played))
        return min(times, default=None)

    def _next_block(self) -> int | None:
        """Return the last instant before the next minute in which anything may happen; None after the last."""
        after = max(self._block_end, self.played)
        nexts = [ts for rows in self._tables.values() if (ts := rows.next_ts(after)) is not None]
        return max((min(nexts) - 1) // MINUTE_NS * MINUTE_NS - 1, after) if nexts else None

    def _instant(self, ts: int) -> None:
        self.played = ts
        self.clock.set(ts)
        while self._marks and self._marks[0][0] == ts and not self._marks[0][1]:
            self._mark()
        if self._at < len(self._queue) and self._queue[self._at][0] == ts:
            events = self._queue[self._at][1]
            self._at += 1
            own = self.tape.bar_ns
            for event in events:
                state = self._state.get(event.symbol)
                if state is None:
                    state = self._state[event.symbol] = MarketState()
                _note(state, event, type(event) is Bar and event.ts - event.start >= own)
            for callback, symbols in tuple(self._listeners):
                if symbols is None:
                    callback(events)
                elif symbols:
                    heard = [event for event in events if event.symbol in symbols]
                    if heard:
                        callback(heard)
        while self._marks and self._marks[0][0] == ts:
            self._mark()
        while self._timers and self._timers[0][0] <= ts:
            heapq.heappop(self._timers)[2]()

    def _mark(self) -> None:
        ts, closes, session = self._marks.pop(0)
        for callback in tuple(self._session_listeners):
            callback(ts, session, not closes)

    def _load(self, after: int, until: int) -> None:
        """Make the events of ``(after, until]`` ready, of the symbols that are listened to."""
        playing = self._choose()
        events: list[MarketEvent] = []
        if self._expand is not None:
            for bar in self._tables["bars"].between(after, until + MINUTE_NS + 1, playing):
                if bar.start <= until:
                    events += [event for event in self._expand(bar) if after < event.ts <= until]
        for rows in self._tables.values():
            events += rows.between(after, until, playing)
        events.sort(key=_place)
        self._queue = [(ts, list(group)) for ts, group in groupby(events, key=lambda event: event.ts)]
        self._at, self._block_end = 0, until


def _place(event: MarketEvent) -> tuple[int, int]:
    """Where an event comes: by time; at one instant quotes, trades, bars by length."""
    kind = type(event)
    if kind is Bar:
        return event.ts, 2 + event.ts - event.start  # type: ignore[union-attr]
    return event.ts, 0 if kind is Quote else 1


def _note(state: MarketState, event: MarketEvent | None, own: bool) -> None:
    """Keep an event as the last of its kind; of bars those of the tape's own length."""
    if isinstance(event, Quote):
        if state.quote is None or event.ts >= state.quote.ts:
            state.quote = event
    elif isinstance(event, Trade):
        if event.forms_price and (state.trade is None or event.ts >= state.trade.ts):
            state.trade = event
    elif isinstance(event, Bar) and own:
        state.bar = event
    assert not isinstance(event, Halt)


def _expansion(seed: int) -> Callable[[Bar], list[MarketEvent]]:
    """Return the expansion of a bar, which keeps its last few hundred results."""

    @lru_cache(maxsize=512)
    def expanded(bar: Bar) -> list[MarketEvent]:
        return expand(bar, seed)

    return expanded
