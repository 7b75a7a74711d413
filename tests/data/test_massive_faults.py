"""Days on which everything goes wrong at random: at the end the bars are the server's, in order, each once, and nothing is left open."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from northstar_core.gateway.clock import ScaledClock
from northstar_core.model.world import BarRevised, FeedDown
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import MINUTE_NS, TwinMarket
from northstar_core.twins.serve import serve
from tests.data.massive_desk import SECOND_NS, SESSION, TAPE, Desk, left_alone, twin

#: More by NORTHSTAR_FEED_DAYS: each is a seed.
DAYS = int(os.environ.get("NORTHSTAR_FEED_DAYS", "40"))
STREAM = ("disconnect", "force_disconnect", "slow_consumer", "mute", "dead", "drop", "duplicate", "reorder", "revise", "junk")
REST = ("429", "503", "500", "504", "drop", "junk", "lost_response")


def rules(draw: random.Random) -> list[Fault]:
    """A handful of faults at random points of about ten minutes."""
    found = []
    for _ in range(draw.randint(1, 5)):
        channel, most = draw.choice((("AM", 8), ("A", 400), ("Q", 500), ("T", 500), ("*", 1400)))
        found.append(Fault(at=f"stream.{channel}", do=draw.choice(STREAM), after=draw.randrange(most), times=draw.randint(1, 3)))
    for _ in range(draw.randint(0, 4)):
        found.append(Fault(at="aggs", do=draw.choice(REST), after=draw.randrange(6)))
    if draw.random() < 0.3:
        found.append(Fault(at="stream.connect", do="refuse", after=1, times=draw.randint(1, 3)))
    return found


async def day(seed: int) -> None:
    draw = random.Random(seed)
    async with twin(*rules(draw)) as served:
        d = Desk(served, silence_s=5.0)
        d.feed.want(["SPY", "QQQ"], seconds=True, quotes=True, trades=True)
        await d.feed.start()
        try:
            for _ in range(draw.randint(8, 40)):
                d.market.step(d.market.now() + draw.randint(1, 25) * SECOND_NS)
                for _ in range(draw.randint(0, 30)):
                    await asyncio.sleep(0)
            served.faults["massive"].clear()
            d.market.step(d.market.now() + MINUTE_NS)
            end = d.market.now() // MINUTE_NS * MINUTE_NS
            # one more reconnection, which looks back a quarter of an hour, and the story must be whole
            known = len(d.of(FeedDown))
            await d.until(lambda: d.feed._protocol.up or len(d.of(FeedDown)) > known)
            for socket in [link._socket for link in d.feed._links.values()]:
                if socket is not None:
                    socket.transport.abort()
            await d.until(lambda: not d.feed._protocol.up)
            await d.until(lambda: d.feed._protocol.up)
            await d.settle()
            for symbol in ("SPY", "QQQ"):
                for span in (MINUTE_NS, SECOND_NS):
                    d.check(SESSION.open, end, symbol=symbol, span_ns=span, stored=True)
        finally:
            await d.feed.close()
        await left_alone(served)


@pytest.mark.parametrize("first", range(0, DAYS, 10))
def test_however_often_it_is_cut_muted_doubled_or_shuffled_the_bars_end_as_the_servers(first: int) -> None:
    async def run() -> None:
        for seed in range(first, min(first + 10, DAYS)):
            try:
                await day(seed)
            except BaseException as error:
                error.add_note(f"seed {seed}: {rules(random.Random(seed))}")
                raise

    asyncio.run(run())


def test_on_an_accelerated_day_a_cut_and_a_mute_connection_lose_nothing_and_healthy_ones_are_left_alone() -> None:
    async def run(*faults: Fault) -> tuple[Desk, list[str]]:
        market = TwinMarket(TAPE, start=SESSION.open, speed=400.0)
        async with serve(market, massive=0, faults={"massive": list(faults)}, play=False) as served:
            d = Desk(served, silence_s=5.0, stale_s=10.0, hold_s=10.0)
            clock = ScaledClock(market.now(), time.time(), market.clock.speed)
            d.feed = type(d.feed)(
                "massive", clock, d.events.extend, options={"ws": served.url("massive", "ws"), "rest": served.url("massive")}, key="KEY"
            )
            d.feed.want(["SPY"], seconds=True, quotes=True, trades=True)
            await d.feed.start()
            playing = asyncio.create_task(market.run())
            wanted = SESSION.open + (12 if not faults else 20) * MINUTE_NS
            try:
                await d.until(lambda: d.bars() and d.bars()[-1].ts >= wanted)
                for span in (MINUTE_NS, SECOND_NS):
                    d.check(SESSION.open + 5 * MINUTE_NS, wanted - MINUTE_NS, span_ns=span)
            finally:
                playing.cancel()
                await d.feed.close()
            await left_alone(served)
            assert not d.of(BarRevised)
            return d, d.told()

    async def both() -> None:
        _, story = await run()
        assert story == ["up"]
        d, story = await run(Fault(at="stream.AM", do="disconnect", after=5), Fault(at="stream.AM", do="mute", after=10))
        assert len(d.of(FeedDown)) == 2 and story[-1] == "up"

    asyncio.run(both())
