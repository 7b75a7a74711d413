"""A feed against the twin of its vendor, on real sockets: the market is stepped, and what arrives is kept and checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp

from northstar_core.data.massive.feed import MassiveFeed
from northstar_core.data.synthetic import synthesize
from northstar_core.model.market import Bar
from northstar_core.model.tape import Tape
from northstar_core.model.world import AlertRaised, BarRevised, FeedDown, FeedUp
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import MINUTE_NS, TwinMarket
from northstar_core.twins.serve import Served, serve

SECOND_NS = 10**9
DEADLINE_S = 30.0
IDLE = 15  #: turns of the loop without anything new, after which nothing more is on its way
TAPE = synthesize(symbols=["SPY", "QQQ"], days=3, options_on="SPY", expiries=1, strikes=2)
SESSION = TAPE.sessions[1]
OPTIONS = [symbol for symbol in TAPE.symbols if len(symbol) > 6]
QUICK = 1000.0  #: desk seconds in a second of the wall: waits are short, and the desk's time stands unless it is stepped


class Desk:
    """What a feed handed over."""

    def __init__(self, served: Served, *, key: str = "KEY", name: str = "massive", **options: Any) -> None:
        self.served, self.market, self.events = served, served.market, list[Any]()
        urls = {"ws": served.url("massive", "ws"), "rest": served.url("massive")}
        chosen = {"hold_s": 1e6, "stale_s": 1e6, "silence_s": 1e6, **urls, **options}
        clock = served.market.clock
        self.feed = MassiveFeed(name, clock, self.events.extend, options=chosen, key=key, jitter=lambda: 0.5)

    def of(self, kind: type, symbol: str = "") -> list[Any]:
        return [event for event in self.events if type(event) is kind and (not symbol or event.symbol == symbol)]

    def bars(self, symbol: str = "SPY", span_ns: int = MINUTE_NS) -> list[Bar]:
        return [bar for bar in self.of(Bar, symbol) if bar.ts - bar.start == span_ns]

    def stored(self, symbol: str = "SPY", span_ns: int = MINUTE_NS) -> list[Bar]:
        """What a store holds that keeps the last numbers of each bar."""
        kept: dict[int, Bar] = {}
        for event in self.events:
            bar = event.bar if type(event) is BarRevised else event
            if type(bar) is Bar and bar.symbol == symbol and bar.ts - bar.start == span_ns:
                kept[bar.start] = bar
        return [kept[start] for start in sorted(kept)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0)

    async def up(self, times: int = 1) -> None:
        await self.until(lambda: len(self.of(FeedUp)) >= times)

    async def settle(self) -> None:
        """Wait until nothing more is on its way."""
        idle, before = 0, None
        async with asyncio.timeout(DEADLINE_S):
            while idle < IDLE:
                await asyncio.sleep(0)
                stats = self.feed.stats
                now = (stats.frames, stats.requests, len(self.events), len(self.feed._tasks))
                asking = any(known.fills for known in self.feed._protocol._symbols.values())
                idle = idle + 1 if now == before and not asking else 0
                before = now

    async def play(self, minutes: float, *, step_s: float = 60.0) -> None:
        """Play so many minutes, and let what happened arrive after each step."""
        end = self.market.now() + round(minutes * MINUTE_NS)
        while self.market.now() < end:
            self.market.step(min(self.market.now() + round(step_s * SECOND_NS), end))
            await self.settle()

    def told(self) -> list[str]:
        """The links' story: up, down with the reason, alerts."""
        return [
            "up" if type(e) is FeedUp else f"down: {e.reason}" if type(e) is FeedDown else f"{e.severity}: {e.text}"
            for e in self.events if type(e) in (FeedUp, FeedDown, AlertRaised)
        ]  # fmt: skip

    def check(self, begin: int, end: int, *, symbol: str = "SPY", span_ns: int = MINUTE_NS, stored: bool = False) -> None:
        """Bars are in order, each once; and those of the span are the server's (with ``stored``: after revisions)."""
        bars = self.bars(symbol, span_ns)
        assert all(first.ts <= second.start for first, second in pairwise(bars))
        found = self.stored(symbol, span_ns) if stored else bars
        assert [b for b in found if begin <= b.start and b.ts <= end] == self.market.bars(symbol, span_ns, begin, end)


@asynccontextmanager
async def twin(
    *rules: Fault, tape: Tape = TAPE, start: int | None = None, speed: float = QUICK, **options: Any
) -> AsyncIterator[Served]:
    market = TwinMarket(tape, start=SESSION.open if start is None else start, speed=speed)
    async with serve(market, massive=0, faults={"massive": list(rules)}, options={"massive": options}, play=False) as served:
        yield served


@asynccontextmanager
async def desk(*rules: Fault, symbols: Iterable[str] = ("SPY",), want: dict[str, bool] | None = None, **more: Any) -> AsyncIterator[Desk]:
    """A desk that is up; at the end nothing of its connections is left at the server."""
    options = {name: more.pop(name) for name in ("stale_s", "hold_s", "silence_s", "quote_lot") if name in more}
    async with twin(*rules, **more) as served:
        made = Desk(served, **options)
        made.feed.want(symbols, **(want or {}))
        await made.feed.start()
        try:
            await made.up()
            yield made
        finally:
            await made.feed.close()
        await left_alone(served)


async def left_alone(served: Served) -> None:
    """Wait until the server has no connection any more."""
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(served.url("massive") + "/_twin/state") as answer:
                if (await answer.json())["connections"] == 0:
                    return
