"""The whole way over real wires: Massive's twin, the feed, the gateway, a session, Alpaca's twin, and back."""

from __future__ import annotations

import asyncio

import pytest

from northstar_core.audit.desk import verify_desk
from northstar_core.data.synthetic import synthesize
from northstar_core.model import events as e
from northstar_core.model.market import Bar
from northstar_core.model.world import BarsGiven, FeedDown, FeedUp
from northstar_core.research.desk_replay import DeskReplay, skipped_in
from northstar_core.store.postgres import Database
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import serve
from tests.gateway.alpaca_room import Twin
from tests.gateway.room import MINUTE, Room, RoomClock, grant, room
from tests.gateway.scripts import Talker

SPEED = 120.0


def test_a_strategy_trades_on_a_real_feed_at_a_real_broker_through_a_cut_and_is_decided_again_the_same(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        session, task = room.session(Talker(symbols=("ALFA",)), "alpaca-1")
        await room.fact(e.OrderFilled)
        await twin.disconnect("massive")
        await room.fact(FeedDown)
        await room.fact(FeedUp)
        filled = len(room.of(e.OrderFilled))
        await room.fact(e.OrderFilled, count=filled + 1)
        room.gateway.doorman.stop("trend", "alpaca-1", "enough", 5.0)
        result = await task
        assert result.outcome == "stopped"
        log = await room.log()
        warm = [bar for given in await room.logged(BarsGiven) for bar in given.bars]
        live = [bar for _, bar in log if isinstance(bar, Bar) and bar.symbol == "ALFA"]
        assert len(warm) == 2 and warm[-1].ts <= live[0].start
        assert [bar.start - live[0].start for bar in live] == [n * MINUTE for n in range(len(live))]
        assert session.strategy.bars >= len(live)  # type: ignore[attr-defined]
        again = DeskReplay(lambda began: Talker(**began.params), skipped=skipped_in(log))
        for seq, event in log:
            again.feed(seq, event)
        [told] = again.results()
        assert told.identical and told.intents > 3, told.differences[:3]
        assert await room.gateway.links["alpaca-1"].reconcile() == 0
        report = await verify_desk(room.database, room.settings.desk.name)
        assert report.exit_code == 0, report.lines()

    async def run() -> None:
        tape = synthesize(symbols=("ALFA",), days=2, seed=7, options_on=None)
        market = TwinMarket(tape, speed=SPEED, start=tape.sessions[1].open + 30 * MINUTE)
        async with asyncio.timeout(60), serve(market, alpaca=0, massive=0) as served:
            twin = Twin(served)
            clock = RoomClock(market.clock.now(), SPEED)
            urls = f"ws = '{served.url('massive', 'ws')}'\nrest = '{served.url('massive')}'\n"
            async with room(
                database, accounts=twin.table(), grants=grant(account="alpaca-1", on_lost="leave"), clock=clock, feed=urls
            ) as here:
                await scene(here, twin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOM_KEY", "KEY")
        patch.setenv("ROOM_SECRET", "SECRET")
        asyncio.run(run())
