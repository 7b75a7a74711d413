"""A session that lagged, dropped or died is decided again, from the log alone, exactly as it was; and a changed strategy shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from northstar_core.audit.desk import verify_desk
from northstar_core.gateway import seats
from northstar_core.model import events as e
from northstar_core.model.market import Quote
from northstar_core.model.order import CancelOrder, PlaceOrder
from northstar_core.model.world import SessionLost, SessionResumed, TicksSkipped
from northstar_core.research.desk_replay import DeskReplay, SessionComparison, skipped_in
from northstar_core.store.postgres import Database
from tests.gateway.room import Room, grant, play
from tests.gateway.scripts import Quoter, Talker
from tests.gateway.test_lost import cut


async def replayed(room: Room, kind: type, **changed: Any) -> list[SessionComparison]:
    """Every session of the log, decided again."""
    log = await room.log()
    replay = DeskReplay(lambda began: kind(**{**began.params, **changed}), skipped=skipped_in(log))
    for seq, event in log:
        replay.feed(seq, event)
    return replay.results()


async def in_session(room: Room, session: Any) -> None:
    await room.until(lambda: session.seat is not None and room.gateway.doorman.guests and session.strategy.started)


async def ended(room: Room, task: Any) -> None:
    await room.until(lambda: room.gateway.doorman.guests)
    room.gateway.doorman.stop("trend", "paper-1", "enough", 5.0)
    await task


def test_a_reader_that_lags_gets_the_newest_quotes_every_order_event_and_its_replay_is_identical(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "LAGS", 50)

    async def scene(room: Room) -> None:
        session, task = room.session(Quoter())
        await in_session(room, session)
        seat = room.gateway.doorman.guests["trend"].seat
        for n in range(8):
            room.feed.give(*(room.quote(100 + k * 0.01 + n, ("SPY", "QQQ")[k % 2]) for k in range(300)))  # nobody reads meanwhile
            assert len(seat) <= 60 + 12, len(seat)
            await room.until(lambda: not len(seat))
        await ended(room, task)
        skipped = [seq for told in await room.logged(TicksSkipped) for seq in told.seqs]
        given = session.strategy.seen
        quotes = [(seq, q) for seq, q in await room.log() if isinstance(q, Quote)]
        assert len(skipped) == len(set(skipped)) > 1000 and given + len(skipped) == len(quotes) == 2400
        last = {symbol: max(seq for seq, q in quotes if q.symbol == symbol) for symbol in ("SPY", "QQQ")}
        assert not set(last.values()) & set(skipped)
        [told] = await replayed(room, Quoter)
        assert told.identical, told.differences[:3]
        assert told.intents == len([m for m in await room.logged(PlaceOrder)]) > 5
        without = DeskReplay(lambda began: Quoter(**began.params))  # the proof can fail: fed what it was not given, it differs
        for seq, event in await room.log():
            without.feed(seq, event)
        assert not without.results()[0].identical

    play(database, scene)


def test_a_raw_reader_that_does_not_read_is_conflated_and_keeps_every_order_event(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "LAGS", 50)

    async def scene(room: Room) -> None:
        raw = await room.enter(quotes=True)
        room.price()
        orders = [raw.place(limit="90") for _ in range(20)]
        for order in orders:
            await room.until_status(order, "NEW")
        for n in range(100):
            room.feed.give(*(room.quote(100 + (n + k) % 7) for k in range(400)))
            raw.beat()
            await asyncio.sleep(0)
        for order in orders:
            raw.cancel(order, basis_seq=raw.welcome.seq)  # type: ignore[union-attr]
        for order in orders:
            await room.until_status(order, "CANCELED")
        room.price(123.0)
        await raw.hear(Quote, lambda quote: quote.price == 123.0)
        kinds = [type(event) for _, event in raw.given]
        assert kinds.count(e.OrderAccepted) == kinds.count(e.CancelSubmitted) == kinds.count(e.OrderCanceled) == 20
        seat = room.gateway.doorman.guests["trend"].seat
        await room.until(lambda: not seat.skipped)  # all of it is on the record
        given = {seq for seq, _ in raw.given}
        skipped = {seq for told in await room.logged(TicksSkipped) for seq in told.seqs}
        assert not given & skipped
        heard = {seq for seq, q in await room.log() if isinstance(q, Quote) and seq > min(given)}
        assert heard == (given & heard) | (skipped & heard)
        assert [seq for seq, _ in raw.given] == sorted(given)

    play(database, scene, SILENT_S=30.0)


def test_one_that_is_too_far_behind_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "LOST", 500)

    async def scene(room: Room) -> None:
        raw = await room.enter()
        for n in range(0, 40_000, 1_000):  # bars are never left out
            room.feed.give(*(room.bar(k) for k in range(n, n + 1_000)))
            await room.stir()
        lost = await room.fact(SessionLost)
        assert "events behind" in lost.reason
        raw.drop()

    play(database, scene)


def test_dropped_and_resumed_sessions_are_decided_again_the_same(database: Database) -> None:
    async def scene(room: Room) -> None:
        room.feed.before = [room.bar(1), room.bar(2)]
        session, task = room.session(Talker())
        await in_session(room, session)
        for n in range(3, 10):
            room.feed.give(room.bar(n), room.quote())
            if n % 3 == 0:
                cut(room)
                await room.until(lambda: not room.gateway.doorman.guests)
            await room.until(lambda n=n: session.strategy.bars == n and room.gateway.doorman.guests)  # type: ignore[misc]
        await ended(room, task)
        assert len(room.of(SessionResumed)) >= 2
        [told] = await replayed(room, Talker)
        assert told.identical, told.differences[:3]
        asked = [m for kind in (PlaceOrder, CancelOrder, e.SetTimer) for m in await room.logged(kind)]
        assert told.intents == len(asked) >= 15
        [other] = await replayed(room, Talker, flip=True)
        assert not other.identical and "limit_price" in other.differences[0].replayed
        report = await verify_desk(room.database, room.settings.desk.name)
        assert report.exit_code == 0, report.lines()

    play(database, scene, RESUME_S=20.0)


@pytest.mark.parametrize("how", ["lost", "gateway", "anew"])
def test_sessions_that_died_are_decided_again_as_far_as_they_got(database: Database, how: str) -> None:
    async def scene(room: Room) -> None:
        room.feed.before = [room.bar(1), room.bar(2)]
        session, task = room.session(Talker())
        await in_session(room, session)
        for n in range(3, 7):
            room.feed.give(room.bar(n), room.quote())
            await room.until(lambda n=n: session.strategy.bars == n)  # type: ignore[misc]
        await room.quiet()
        if how == "gateway":
            await room.gateway.writer.flush()
            room.feed.give(room.bar(7), room.quote())
            await room.gateway.writer.flush()
            await room.crash()
            await room.start()
        else:
            session._pipe._writer.transport.abort()  # type: ignore[union-attr]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            room.feed.give(room.bar(7), room.quote())
        if how == "lost":
            await room.fact(SessionLost)
            room.feed.give(room.bar(8), room.quote())
        else:
            if how == "anew":
                session, task = room.session(Talker())
            await in_session(room, session)
            await room.until(lambda: room.gateway.doorman.guests)
            room.feed.give(room.bar(9), room.quote())
            await room.fact(e.OrderSubmitted, lambda f: f.order.basis_seq > 60)
            await room.quiet()
            await ended(room, task)
        told = await replayed(room, Talker)
        assert all(t.identical for t in told), [t.differences[:3] for t in told]
        assert sum(t.intents for t in told) == len([m for k in (PlaceOrder, CancelOrder, e.SetTimer) for m in await room.logged(k)
                                                    if getattr(m, "basis_seq", 1)])  # fmt: skip
        report = await verify_desk(room.database, room.settings.desk.name)
        assert report.exit_code == 0, report.lines()

    play(database, scene, grants=grant(on_lost="leave"))
