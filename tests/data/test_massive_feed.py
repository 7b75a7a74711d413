"""The feed against its vendor's twin, over real sockets: what is handed over is what happened, in order, once, whatever goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from northstar_core.model.market import Quote, Trade
from northstar_core.model.world import AlertRaised, BarRevised, FeedDown, FeedUp, FrameUnread
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import MINUTE_NS
from tests.data.massive_desk import OPTIONS, SECOND_NS, SESSION, Desk, desk, left_alone, twin

ALL = {"seconds": True, "quotes": True, "trades": True}


def test_minutes_seconds_quotes_and_prints_are_the_servers_to_the_last_one() -> None:
    async def run() -> None:
        async with desk(want=ALL, stale_s=10.0) as d:
            begin = d.market.now()
            await d.play(5, step_s=1)
            end = begin + 5 * MINUTE_NS
            await d.play(0.1)
            d.check(begin, end)
            d.check(begin, end, span_ns=SECOND_NS)
            ticks = d.market.ticks("SPY", begin, end)
            assert [e for e in d.of(Quote) if e.ts <= end] == [e for e in ticks if type(e) is Quote]
            assert [e for e in d.of(Trade) if e.ts <= end] == [e for e in ticks if type(e) is Trade]
            assert d.told() == ["up"] and not d.of(BarRevised)
            assert not d.feed.stats.dropped.keys() - {"bar repeated"}

    asyncio.run(run())


def test_options_come_over_a_connection_of_their_own_once_one_is_wanted() -> None:
    async def run() -> None:
        async with desk() as d:
            d.feed.want([OPTIONS[0]], bars=False, quotes=True)
            await d.until(lambda: f"Q.O:{OPTIONS[0]}" not in d.feed._protocol.clusters["options"].asked)
            await d.until(lambda: d.feed._protocol.clusters["options"].up)
            await d.play(3)
            quotes = [e for e in d.market.ticks(OPTIONS[0], SESSION.open, d.market.now()) if type(e) is Quote]
            assert d.of(Quote, OPTIONS[0]) == quotes and quotes
            d.check(SESSION.open, d.market.now())

    asyncio.run(run())


@pytest.mark.parametrize("at", ["start", "middle", "end"])
def test_bars_that_the_stream_lost_are_taken_from_rest_in_their_place(at: str) -> None:
    async def run() -> None:
        rule = Fault(at="stream.AM", do="drop", times=2, after={"start": 0, "middle": 3, "end": 6}[at])
        async with desk(rule) as d:
            await d.play(8)
            await d.play(3, step_s=30)  # of what is missing at the end nothing tells but time
            d.check(SESSION.open, SESSION.open + 8 * MINUTE_NS)
            assert d.feed.stats.filled >= 2 and not d.of(BarRevised)

    asyncio.run(run())


@pytest.mark.parametrize("channel", ["AM", "A"])
@pytest.mark.parametrize("kind", ["duplicate", "reorder", "revise", "junk", "drop"])
def test_whatever_the_stream_does_to_bars_they_come_in_order_once_and_end_as_the_servers(channel: str, kind: str) -> None:
    async def run() -> None:
        rule = Fault(at=f"stream.{channel}", do=kind, times=0, every=3)
        async with desk(rule, want={"seconds": True}) as d:
            await d.play(6, step_s=20)
            await d.play(3, step_s=60)
            end = SESSION.open + 6 * MINUTE_NS
            span = MINUTE_NS if channel == "AM" else SECOND_NS
            # seconds: what a suspicion that turned out wrong made wait is asked for later, and then told as revised
            d.check(SESSION.open, end, span_ns=span, stored=kind != "drop" or channel == "A")
            if kind in ("revise", "duplicate"):
                assert d.feed.stats.dropped.get("bar repeated") or d.of(BarRevised)
            if kind == "junk":
                assert d.of(FrameUnread) and d.feed.stats.unread > 2

    asyncio.run(run())


def test_late_prints_count_for_volume_form_no_price_and_do_not_go_back_in_time() -> None:
    async def run() -> None:
        async with desk(Fault(at="stream.T", do="late", times=0, every=7), want={"trades": True}) as d:
            await d.play(3)
            prints = d.of(Trade)
            late = [e for e in prints if not e.forms_price]
            assert late and [e.ts for e in prints] == sorted(e.ts for e in prints)
            happened = [e for e in d.market.ticks("SPY", SESSION.open, d.market.now()) if type(e) is Trade]
            assert len(happened) - len(prints) <= 2  # still on their way
            assert sum(e.size for e in prints) <= sum(e.size for e in happened)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["disconnect", "force_disconnect", "slow_consumer"])
def test_after_a_lost_connection_what_was_missed_is_filled_in(kind: str) -> None:
    async def run() -> None:
        async with desk(Fault(at="stream.AM", do=kind, after=2), want=ALL) as d:
            await d.play(3)
            await d.until(lambda: d.of(FeedDown))
            d.market.step(d.market.now() + 4 * MINUTE_NS)  # nobody listens
            await d.up(2)
            await d.play(3)
            for span in (MINUTE_NS, SECOND_NS):
                d.check(SESSION.open, SESSION.open + 10 * MINUTE_NS - 4 * SECOND_NS, span_ns=span)
            assert [line.partition(":")[0] for line in d.told() if "warning" not in line] == ["up", "down", "up"]
            assert "filled in" in d.of(FeedUp)[1].detail

    asyncio.run(run())


def test_bars_of_more_than_one_page_are_filled_in_and_revisions_missed_meanwhile_are_told() -> None:
    async def run() -> None:
        rules = [Fault(at="stream.AM", do="revise", after=4), Fault(at="stream.AM", do="disconnect", after=5)]
        async with desk(*rules) as d:
            await d.play(6)
            await d.until(lambda: d.of(FeedDown))
            await d.up(2)
            await d.settle()
            await d.play(2)
            d.check(SESSION.open, d.market.now(), stored=True)
            assert [e.bar.start for e in d.of(BarRevised)] == [SESSION.open + 4 * MINUTE_NS]

    asyncio.run(run())


def test_a_mute_connection_is_given_up_after_five_seconds_and_nothing_is_lost() -> None:
    async def run() -> None:
        async with desk(Fault(at="stream.Q", do="mute", after=200), want=ALL, silence_s=5.0) as d:
            await d.play(4, step_s=1)
            await d.up(2)
            await d.play(2, step_s=1)
            d.check(SESSION.open, SESSION.open + 6 * MINUTE_NS - 4 * SECOND_NS)
            d.check(SESSION.open, SESSION.open + 6 * MINUTE_NS - 4 * SECOND_NS, span_ns=SECOND_NS)
            down = d.of(FeedDown)[0]
            assert down.reason == "stocks: nothing heard for 5 s"
            last = max(e.ts for e in d.of(Quote) if e.ts < down.ts)
            assert down.ts - last > 5 * SECOND_NS

    asyncio.run(run())


def test_a_connection_that_does_not_even_read_is_given_up_too() -> None:
    async def run() -> None:
        async with desk(Fault(at="stream.Q", do="dead", after=200), want=ALL, silence_s=5.0) as d:
            await d.play(4, step_s=1)
            await d.up(2)
            await d.play(1, step_s=1)
            d.check(SESSION.open, SESSION.open + 5 * MINUTE_NS - 4 * SECOND_NS)

    asyncio.run(run())


def test_before_the_open_and_after_the_close_silence_is_no_fault() -> None:
    async def run() -> None:
        async with desk(want=ALL, silence_s=5.0, start=SESSION.open - 60 * MINUTE_NS) as d:
            await d.play(55, step_s=300)
            assert d.told() == ["up"]
        async with desk(want=ALL, silence_s=5.0, start=SESSION.close - 3 * MINUTE_NS) as d:
            await d.play(3, step_s=1)
            await d.play(60, step_s=300)
            assert d.told() == ["up"]
            d.check(SESSION.close - 3 * MINUTE_NS, SESSION.close)

    asyncio.run(run())


def test_a_refused_key_is_a_critical_alert_and_is_not_tried_again_soon() -> None:
    async def run() -> None:
        async with twin() as served:
            d = Desk(served, key="WRONG")
            d.feed.want(["SPY"])
            waits: list[float] = []
            clock_sleep = served.market.clock.sleep

            async def sleep(desk_s: float) -> None:
                waits.append(desk_s)
                await clock_sleep(desk_s)

            served.market.clock.sleep = sleep  # type: ignore[method-assign]
            await d.feed.start()
            await d.until(lambda: len(d.of(AlertRaised)) >= 3)
            alerts = d.of(AlertRaised)
            assert {a.severity for a in alerts} == {"critical"} and "check the key" in alerts[0].text
            assert not any("WRONG" in str(e) for e in d.events) and "WRONG" not in repr(d.feed)
            assert [wait for wait in waits if wait >= 30][:2] == [60.0, 120.0]
            await d.feed.close()
            await left_alone(served)

    asyncio.run(run())


def test_a_server_that_is_away_is_tried_for_ever_with_longer_and_longer_waits() -> None:
    async def run() -> None:
        async with desk(Fault(at="stream.AM", do="disconnect"), Fault(at="stream.connect", do="refuse", after=1, times=12)) as d:
            await d.play(1)
            await d.up(2)
            assert d.feed.stats.reconnects >= 12
            await d.play(2)
            d.check(SESSION.open, d.market.now())

    asyncio.run(run())


def test_rest_that_stumbles_is_asked_again_and_one_that_stays_away_holds_nothing_up_for_ever() -> None:
    async def run() -> None:
        stumbles = [Fault(at="aggs", do=do) for do in ("429", "503", "drop", "junk", "504")]
        async with desk(Fault(at="stream.AM", do="drop", after=2), *stumbles[:3]) as d:
            await d.play(5)
            d.check(SESSION.open, d.market.now())
        away = Fault(at="aggs", do="503", times=0)
        async with desk(Fault(at="stream.AM", do="drop", after=2), away, hold_s=10.0, want={"quotes": True}) as d:
            await d.play(5, step_s=20)
            await d.until(lambda: len(d.bars()) == 4)
            assert SESSION.open + 2 * MINUTE_NS not in {bar.start for bar in d.bars()}
            assert any("could not be asked for" in line for line in d.told())
            d.served.faults["massive"].clear()
            await d.play(5, step_s=20)
            d.check(SESSION.open, d.market.now(), stored=True)  # it is told as soon as it is known

    asyncio.run(run())


def test_two_feeds_keep_apart() -> None:
    async def run() -> None:
        async with twin(Fault(at="stream.AM", do="drop", after=1)) as first, twin() as second:
            one, two = Desk(first, name="one"), Desk(second, name="two")
            one.feed.want(["SPY"])
            two.feed.want(["QQQ"])
            await asyncio.gather(one.feed.start(), two.feed.start())
            await asyncio.gather(one.up(), two.up())
            await asyncio.gather(one.play(3), two.play(5))
            one.check(SESSION.open, SESSION.open + 3 * MINUTE_NS)
            two.check(SESSION.open, SESSION.open + 5 * MINUTE_NS, symbol="QQQ")
            assert {e.symbol for e in one.events if hasattr(e, "symbol")} == {"SPY"}
            assert one.of(FeedUp)[0].feed == "one" and two.feed.stats.filled == 0
            await asyncio.gather(one.feed.close(), two.feed.close())
            await left_alone(first)
            await left_alone(second)

    asyncio.run(run())


def test_a_symbol_wanted_later_begins_with_the_bar_in_progress() -> None:
    async def run() -> None:
        async with desk() as d:
            await d.play(2.5, step_s=30)
            d.feed.want(["QQQ"], seconds=True, quotes=True)
            await d.until(lambda: not d.feed._protocol.clusters["stocks"].asked)
            await d.settle()
            await d.play(3)
            d.check(SESSION.open + 2 * MINUTE_NS, SESSION.open + 5 * MINUTE_NS, symbol="QQQ")
            assert d.bars("QQQ")[0].start == SESSION.open + 2 * MINUTE_NS
            d.check(SESSION.open, d.market.now())

    asyncio.run(run())


def test_history_gives_the_last_complete_bars_and_chain_the_listed_options() -> None:
    async def run() -> None:
        async with desk(start=SESSION.open + 30 * MINUTE_NS + 5 * SECOND_NS) as d:
            now = d.market.now()
            known = d.market.bars("SPY", MINUTE_NS, 0, now)
            assert await d.feed.history("SPY", 50, MINUTE_NS, now) == known[-50:]
            assert await d.feed.history("SPY", 5, MINUTE_NS, SESSION.open) == [b for b in known if b.ts <= SESSION.open][-5:]
            assert await d.feed.history("SPY", 10_000, MINUTE_NS, now) == known
            days = await d.feed.history("SPY", 5, 86_400 * SECOND_NS, now)
            assert [(bar.start, bar.ts) for bar in days] == [(s.open, s.close) for s in d.market.sessions[:1]]
            listed = d.market.chain("SPY")
            low = min(float(option.strike) for option in listed)
            day = SESSION.label
            assert await d.feed.chain("SPY", day, 40, 0, 1e6) == sorted(o.symbol for o in listed if o.expiry >= day)
            assert await d.feed.chain("SPY", day, 40, low, low) == sorted(
                o.symbol for o in listed if float(o.strike) == low and o.expiry >= day
            )

    asyncio.run(run())


def settings(**options: Any) -> Any:
    from northstar_core.data.massive.feed import MassiveFeed
    from northstar_core.twins.clock import TwinClock

    return MassiveFeed("massive", TwinClock(0), lambda events: None, options=options, key="KEY")


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    from northstar_core.model.errors import SettingsError

    with pytest.raises(SettingsError, match=r"feed massive: .*silense_s.*options are ws, rest, .*silence_s"):
        settings(silense_s=3)


def test_pages_are_followed_at_our_own_server_until_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with desk(start=SESSION.open + 30 * MINUTE_NS) as d:
            now = d.market.now()
            assert await d.feed.history("SPY", 100, MINUTE_NS, now) == d.market.bars("SPY", MINUTE_NS, 0, now)[-100:]
            before = d.feed.stats.requests
            link = d.feed._links["stocks"]._socket
            assert link is not None
            link.transport.abort()
            await d.until(lambda: d.of(FeedDown))
            d.market.step(now + 40 * MINUTE_NS)
            await d.up(2)
            d.check(now, now + 40 * MINUTE_NS)
            assert d.feed.stats.requests - before >= 6

    monkeypatch.setattr("northstar_core.data.massive.rest.PAGE_LIMIT", 7)
    asyncio.run(run())


def test_when_more_waits_than_may_reading_pauses_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with desk(want=ALL) as d:
            await d.play(5)
            await d.until(lambda: len(d.bars()) == 5)
            await d.settle()
            d.check(SESSION.open, SESSION.open + 5 * MINUTE_NS)
            d.check(SESSION.open, SESSION.open + 5 * MINUTE_NS - 3 * SECOND_NS, span_ns=SECOND_NS)
            assert d.feed.stats.dropped["reading paused"] and d.told() == ["up"]

    monkeypatch.setattr("northstar_core.data.massive.link.BACKLOG_BYTES", 3000)
    asyncio.run(run())


def test_two_programs_with_one_key_are_told_and_do_not_fight_at_full_speed() -> None:
    async def run() -> None:
        async with twin() as served:
            one, two = Desk(served, name="one"), Desk(served, name="two")
            await one.feed.start()
            await one.up()
            await two.feed.start()
            await one.until(lambda: one.of(FeedDown))
            alert = one.of(AlertRaised)[0]
            assert alert.severity == "critical" and "another program uses this key" in alert.text
            assert one.of(FeedDown)[0].reason == "stocks: max_connections"
            await asyncio.gather(one.feed.close(), two.feed.close())
            await left_alone(served)

    asyncio.run(run())
