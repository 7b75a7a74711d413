"""Massive (Polygon.io) as a live feed: stream and REST of one key, put together (see ``massive.protocol`` for the rules).

One connection a cluster: stocks always, options once one is wanted. The feed is up when every connection it needs is subscribed and what
was missed has been filled in. It never gives up; a key that is refused is tried again after a minute, then less and less often, and is
a critical alert.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import msgspec
import numpy as np

from northstar_core.data import calendar as calendars
from northstar_core.data.feed import Emit, FeedEvent, FeedStats
from northstar_core.data.liveness import Backoff, Silence
from northstar_core.data.massive.link import Link
from northstar_core.data.massive.protocol import MassiveProtocol
from northstar_core.data.massive.rest import MassiveRest
from northstar_core.data.massive.symbol import Fill, Rules
from northstar_core.data.massive.wire import OPTIONS, SECOND_NS, STOCKS
from northstar_core.model.errors import DataError, SettingsError
from northstar_core.model.market import Bar
from northstar_core.model.ports import Clock

WS, REST = "wss://socket.massive.com", "https://api.massive.com"
DAY_NS = 86_400 * SECOND_NS
TICK_S = 1.0


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a feed's configuration may say."""

    ws: str = WS  #: base URL of the stream; a cluster's name is appended
    rest: str = REST  #: base URL of REST
    clusters: tuple[str, ...] = (STOCKS, OPTIONS)
    calendar: str = calendars.DEFAULT  #: the exchange whose sessions say when silence is a fault
    silence_s: float = 5.0  #: desk seconds without data in session before it connects anew, where that is not usual
    stale_s: float = 10.0  #: quotes older than this are refused
    hold_s: float = 10.0  #: live messages wait no longer than this for missing bars
    delay_s: float = 0.0  #: of a delayed plan (900): data are that much older
    quote_lot: float = 100.0  #: shares in one unit of a stock quote's size
    timeout_s: float = 10.0  #: wall seconds for a page of REST
    refresh_conditions: bool = True  #: take what conditions mean from REST at the start; what is built in holds until then


class MassiveFeed:
    """A feed.

    Parameters
    ----------
    name
        As its events name it.
    clock
        The desk's.
    emit
        Called with lists of events, in this loop; see ``data.feed``.
    options
        See ``Options``; ``ws`` and ``rest`` for another address than the vendor's.
    key
        The API key; it appears nowhere else.
    jitter
        Gives numbers in ``[0, 1)`` for waiting times.

    Raises
    ------
    SettingsError
        If an option is unknown or of the wrong kind.
    """

    def __init__(
        self, name: str, clock: Clock, emit: Emit, *, options: Mapping[str, Any], key: str,
        jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        try:
            chosen = msgspec.convert(dict(options), Options, strict=False)
        except msgspec.ValidationError as error:
            allowed = ", ".join(Options.__struct_fields__)
            raise SettingsError(f"feed {name}: {error}; options are {allowed}") from None
        self.name, self.stats = name, FeedStats()
        self._clock, self._emit, self._options, self._key = clock, emit, chosen, key
        self._floor_ns = round(clock.FLOOR_S * clock.speed * SECOND_NS)
        rules = Rules(
            stale_ns=max(round((chosen.stale_s + chosen.delay_s) * SECOND_NS), self._floor_ns),
            # a machine that is busy answers late, however fast the desk's clock runs
            hold_ns=max(round(chosen.hold_s * SECOND_NS), 10 * self._floor_ns),
            sweep_ns=max(round((65 + chosen.delay_s) * SECOND_NS), 65 * SECOND_NS + 4 * self._floor_ns),
            quote_lot=chosen.quote_lot,
        )
        self._sessions = _Sessions(chosen.calendar)
        self._protocol = MassiveProtocol(name, self.stats, self._sessions.opened, rules, chosen.clusters)
        self._backoff = Backoff(jitter)
        self._rest = MassiveRest(chosen.rest, key, clock, self.stats, self._backoff, timeout_s=chosen.timeout_s)
        self._links: dict[str, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    def __repr__(self) -> str:
        """Without the key."""
        return f"MassiveFeed({self.name!r}, {self._options.ws!r})"

    async def start(self) -> None:
        """Begin to connect; returns once the exchange's sessions are known."""
        await asyncio.to_thread(self._sessions.opened, self._clock.now())  # building a calendar takes a second
        self._running = True
        self._spawn(self._ticks())
        if self._options.refresh_conditions:
            self._spawn(self._refresh_conditions())
        self._connect()

    async def close(self) -> None:
        """Disconnect and leave nothing running."""
        self._running = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._rest.close()

    def want(
        self, symbols: Iterable[str], *, bars: bool = True, seconds: bool = False, quotes: bool = False, trades: bool = False
    ) -> None:
        """Subscribe, beside what is subscribed; at any time. Bars begin with the one in progress.

        Raises
        ------
        DataError
            If a symbol is none, or of a cluster that is not configured.
        """
        now = self._clock.now()
        self._protocol.want(symbols, now, bars=bars, seconds=seconds, quotes=quotes, trades=trades)
        if self._running:
            self._connect()
            for link in self._links.values():
                if self._protocol.clusters[link.cluster].outbox:
                    self._spawn(link.send())

    async def history(self, symbol: str, n: int, span_ns: int, end: int) -> list[Bar]:
        """Return up to ``n`` of the last complete bars before ``end``, oldest first, raw prices; of a day (86,400 s) by sessions.

        Raises
        ------
        DataError
            If the vendor does not answer, or refuses.
        """
        end = min(end, self._clock.now())
        if span_ns != DAY_NS:
            return await self._rest.last_bars(symbol, span_ns, n, end)
        days = await self._rest.last_bars(symbol, span_ns, n + 1, end + DAY_NS)
        return [bar for bar in map(self._sessions.session_bar, days) if bar is not None and bar.ts <= end][-n:]

    async def chain(self, underlying: str, on: date, days: int, low: float, high: float) -> list[str]:
        """Return the option symbols on an underlying that expire within ``days`` of ``on``, with strikes in ``[low, high]``.

        Raises
        ------
        DataError
            If the vendor does not answer, or refuses.
        """
        return await self._rest.chain(underlying, on, days, low, high)

    def last_heard(self) -> int:
        """Return the desk time of the last frame, ns UTC; 0 before the first."""
        return max((link.last_heard for link in self._links.values()), default=0)

    # ── what the links need ───────────────────────────────────────────────────────────────────────────────────────────

    def hand_over(self, events: list[FeedEvent]) -> None:
        """Give events to the desk, and ask what is to be asked."""
        if events:
            self._emit(events)
        for fill in self._protocol.take_fills():
            self._spawn(self._fill(fill))

    def _connect(self) -> None:
        for cluster, state in self._protocol.clusters.items():
            if cluster in self._links or not (state.channels or cluster == self._options.clusters[0]):
                continue
            silence = Silence(self._floor_ns, round(self._options.silence_s * SECOND_NS))
            link = self._links[cluster] = Link(
                cluster, f"{self._options.ws.rstrip('/')}/{cluster}", self._key, self._clock, self._protocol, self.stats, self,
                self._sessions.opened, self._backoff.fresh(), silence,
            )  # fmt: skip
            self._spawn(link.run())

    async def _fill(self, fill: Fill) -> None:
        try:
            bars = await self._rest.bars(fill.symbol, fill.span_ns, fill.start, fill.end)
        except DataError as error:
            self.hand_over(self._protocol.fill_failed(fill, self._clock.now(), str(error)))
            return
        self.hand_over(self._protocol.filled(fill, bars, self._clock.now()))

    async def _ticks(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            self.hand_over(self._protocol.tick(self._clock.now()))

    async def _refresh_conditions(self) -> None:
        with suppress(DataError):  # what is built in goes on to hold
            self._protocol.refresh_conditions(await self._rest.conditions())

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            loop = task.get_loop()
            loop.call_exception_handler({"message": f"feed {self.name} failed", "exception": error, "task": task})


class _Sessions:
    """When an exchange is open; it looks days up as they come."""

    def __init__(self, calendar: str) -> None:
        self._calendar = calendar
        self._from = self._to = self._opened = 0  # of what was last asked

    def opened(self, now: int) -> int | None:
        """Return when the session of a time opened; None while the exchange is closed."""
        if not self._from <= now < self._to:
            known = calendars.load_around(self._calendar, now, now)
            at = int(np.searchsorted(known.opens, now, side="right")) - 1
            if at >= 0 and now < known.closes[at]:
                self._from, self._to, self._opened = int(known.opens[at]), int(known.closes[at]), int(known.opens[at])
            else:
                self._from = int(known.closes[at]) if at >= 0 else 0
                self._to = int(known.opens[at + 1]) if at + 1 < len(known) else now + DAY_NS
                self._opened = 0
        return self._opened or None

    def session_bar(self, bar: Bar) -> Bar | None:
        """Return a day's bar with its session's times; None where there was no session."""
        known = calendars.load_around(self._calendar, bar.start, bar.start)
        day = known.local_dates(np.array([bar.start], dtype=np.int64))
        at = int(known.index_of_label(day)[0])
        if at < 0:
            return None
        return msgspec.structs.replace(bar, start=int(known.opens[at]), ts=int(known.closes[at]))
