"""Connections that drop, kernels that die, gateways that restart: what is resumed, and what is done for who does not come back."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.client import session as client_session
from northstar_core.gateway import lost
from northstar_core.gateway.seats import RECENT, Seat
from northstar_core.model import events as e
from northstar_core.model.errors import StrategyError
from northstar_core.model.order import CancelOrder, PlaceOrder, Side
from northstar_core.model.wire import Hello, Welcome, item
from northstar_core.model.world import (
    AlertRaised,
    BrokerDown,
    BrokerUp,
    SessionBegan,
    SessionLost,
    SessionResumed,
    StateKept,
)
from northstar_core.store.postgres import Database
from tests.gateway.room import Recorder, Room, grant, play
from tests.gateway.scripts import Talker


async def traded(room: Room) -> tuple[Any, str]:
    """A strategy that holds 10 SPY and has an order working."""
    raw = await room.enter()
    room.price()
    await room.filled(raw, raw.place())
    order = raw.place(limit="90")
    await raw.hear(e.OrderAccepted, lambda f: f.order_id == order)
    return raw, order


# ── policies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", ["cancel", "leave", "flatten"])
def test_what_a_lost_strategy_has_is_dealt_with_by_its_policy(database: Database, policy: str) -> None:
    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        raw.drop()
        told = await room.fact(SessionLost)
        assert (told.strategy, told.account, told.policy) == ("trend", "paper-1", policy)
        await room.fact(AlertRaised, lambda a: a.severity == "critical" and a.about == "trend")
        held = room.gateway.ledger.of("paper-1", "trend").positions["SPY"]
        if policy == "leave":
            await room.quiet()
            assert (room.status(order), held.qty) == ("NEW", 10)
            return
        await room.until_status(order, "CANCELED")
        if policy == "flatten":
            await room.until(lambda: not held.qty)
            closing = room.of(e.OrderSubmitted)[-1].order
            assert (closing.side, closing.qty, closing.reduce_only) == (Side.SELL, 10, True)
            assert closing.order_id == "trend-20260601-3"
        else:
            assert held.qty == 10
        log = [event for _, event in await room.log()]
        stopped = next(n for n, event in enumerate(log) if isinstance(event, e.StrategyStopped))
        assert all(n > stopped for n, event in enumerate(log) if isinstance(event, e.CancelSubmitted))
        again = await room.enter()  # whoever comes back goes on behind what was done for him
        assert again.welcome is not None and again.welcome.n == (3 if policy == "flatten" else 2)

    play(database, scene, grants=grant(on_lost=policy))


def test_a_strategy_that_says_it_failed_is_dealt_with_at_once(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        raw.leave("failed", "ValueError: on purpose")
        await room.until_status(order, "CANCELED")
        stopped = await room.fact(e.StrategyStopped)
        assert stopped.reason == "failed: ValueError: on purpose"

    play(database, scene)


@pytest.mark.parametrize("outcome", ["completed", "stopped"])
def test_one_that_leaves_in_order_leaves_its_orders_as_they_are(database: Database, outcome: str) -> None:
    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        raw.leave(outcome)
        assert (await room.fact(e.StrategyStopped)).reason == outcome
        await room.quiet()
        assert room.status(order) == "NEW" and not room.of(SessionLost)

    play(database, scene)


def test_a_policy_waits_for_a_broker_that_is_down_and_floods_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "AGAIN_S", 0.1)

    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        link = room.gateway.links["paper-1"]
        link.heard(BrokerDown(room.clock.now(), "paper-1", "maintenance"))
        raw.drop()
        await room.fact(SessionLost)
        for _ in range(20):
            await room.quiet()
        assert room.status(order) == "NEW" and len(room.of(e.CancelSubmitted)) == 0
        link.heard(BrokerUp(room.clock.now(), "paper-1"))
        await room.until_status(order, "CANCELED")
        held = room.gateway.ledger.of("paper-1", "trend").positions["SPY"]
        await room.until(lambda: not held.qty)
        assert len(room.of(e.OrderSubmitted)) == 3

    play(database, scene, grants=grant(on_lost="flatten"))


def test_a_broker_that_rejects_every_closing_order_is_asked_a_few_times_then_a_person_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "AGAIN_S", 0.01)
    monkeypatch.setattr(lost, "AT_MOST_S", 0.02)

    class Rejecting(Recorder):
        async def submit(self, order: PlaceOrder) -> None:
            if order.reduce_only:
                from northstar_core.model.execution import ExecType, ExecutionReport

                self.calls.append(("submit", order.order_id))
                self._emit(ExecutionReport(self.clock.now(), order.order_id, ExecType.REJECTED, text="no"))
            else:
                await super().submit(order)

    async def scene(room: Room) -> None:
        raw, _ = await traded(room)
        raw.drop()
        alert = await room.fact(AlertRaised, lambda a: "not flattened" in a.text)
        assert "close by hand" in alert.text
        await room.quiet()
        assert len(room.of(e.OrderRejected)) == lost.TRIES

    play(database, scene, grants=grant(on_lost="flatten"), make={"paper-1": Rejecting})


# ── resuming ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_seat_gives_again_exactly_what_was_given_after_a_number_as_far_as_it_remembers() -> None:
    seat = Seat("trend", "a", "s", Hello(token="", strategy="trend"), 1)

    def given() -> list[int]:
        return [seq for data in iter(seat.frame, None) for seq in seqs(data)]

    def seqs(data: bytes) -> list[int]:
        from northstar_core.model.wire import HEADER, downwards

        batch: Any = downwards(data[HEADER:])
        return [seq for seq, _ in batch.events]

    def queue(first: int, last: int) -> None:
        for seq in range(first, last + 1):
            event = e.TimerFired(seq, "trend", "t")
            seat.queue(seq, event, item(seq, event))

    queue(11, 20)
    assert given() == list(range(11, 21))
    queue(21, 23)
    assert seat.resumable(15) and not seat.resumable(24)
    seat.rewind(15)
    assert given() == list(range(16, 24))
    assert not seat.resumable(14) and seat.resumable(15)  # what was before is forgotten
    queue(24, 24 + RECENT)
    assert given() == list(range(24, 25 + RECENT))
    assert not seat.resumable(23) and seat.resumable(24)


def test_a_dropped_connection_is_resumed_where_it_was(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit="90")
        await raw.hear(e.OrderAccepted)
        seen = raw.given[0][0]
        given = list(raw.given)
        raw.drop()
        await room.until(lambda: not room.gateway.doorman.guests)
        room.feed.give(room.bar(0))
        again = await room.connect()
        again.send(Hello(token=room.token(), strategy="trend", symbols=("SPY",), resume="20260601", seen=seen))
        welcome = await again.read()
        assert isinstance(welcome, Welcome) and (welcome.resumed, welcome.asked) == (True, 1)
        again.welcome = raw.welcome
        await again.hear(what=lambda event: type(event).__name__ == "Bar")
        assert again.given[: len(given) - 1] == given[1:]
        assert [type(event).__name__ for _, event in again.given[len(given) - 1 :]] == ["Bar"]
        again.cancel(order)
        await again.hear(e.OrderCanceled)
        assert len(room.of(SessionResumed)) == 1 and not room.of(SessionLost)

    play(database, scene, RESUME_S=5.0)


@pytest.mark.parametrize("wrong", [{"resume": "20260529"}, {"resume": ""}, {"seen": 10**12}, {"seen": 0}])
def test_who_cannot_be_given_what_it_missed_begins_anew(database: Database, wrong: dict[str, Any]) -> None:
    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        raw.drop()
        await room.until(lambda: not room.gateway.doorman.guests)
        seat = room.gateway.doorman._gone["trend"][0]
        seat._forgotten = 1 if "seen" in wrong else 0
        again = await room.connect()
        welcome = await again.enter(room.token(), **{"resume": "20260601", "seen": raw.given[-1][0], **wrong})
        assert not welcome.resumed and welcome.n == 2
        [held] = welcome.held
        assert held.symbol == "SPY" and [works.order.order_id for works in welcome.works] == [order]
        assert (await room.fact(SessionLost)).reason.endswith("its kernel began anew")

    play(database, scene, RESUME_S=5.0, grants=grant(on_lost="leave"))


def cut(room: Room) -> None:
    """Cut every strategy's connection."""
    for guest in list(room.gateway.doorman.guests.values()):
        guest.connection.transport.abort()


def test_a_session_whose_connection_drops_loses_nothing_and_asks_for_nothing_twice(database: Database) -> None:
    async def scene(room: Room) -> None:
        room.feed.before = [room.bar(1), room.bar(2)]
        session, task = room.session(Talker())
        await room.until(lambda: session.seat is not None and room.gateway.doorman.guests)
        for n in range(3, 12):
            room.feed.give(room.bar(n), room.quote())
            if n % 3 == 0:
                cut(room)  # before the session has heard, after it has asked, or between
                await room.until(lambda: not room.gateway.doorman.guests)
            elif n % 3 == 1:
                await room.until(lambda n=n: session.strategy.bars == n, n)  # type: ignore[attr-defined,misc]
                cut(room)
            await room.until(lambda n=n: session.strategy.bars == n and room.gateway.doorman.guests, n)  # type: ignore[attr-defined,misc]
            assert session.seat is not None
            order = session.seat.host.n
            await room.until(lambda order=order: room.gateway.ledger.numbers.get(("trend", "20260601")) == order)  # type: ignore[misc]
        assert session._gone_since == 0.0
        assert len(room.of(SessionResumed)) >= 5 and not room.of(SessionLost)
        room.gateway.doorman.stop("trend", "paper-1", "enough", 5.0)
        await task
        heard = [(r.seq, r.event) for r in session.heard.journal.records]
        log = await room.log()
        asked = [event for _, event in log if isinstance(event, PlaceOrder | CancelOrder | e.SetTimer)]
        said = [event for _, event in heard if isinstance(event, PlaceOrder | CancelOrder | e.SetTimer)]
        assert [_known(a) for a in asked] == [_known(s) for s in said]
        assert len({a.order_id for a in asked if isinstance(a, PlaceOrder)}) == 9
        fired = [f.name for _, f in log if isinstance(f, e.TimerFired)]
        assert sorted(session.strategy.timers) == sorted(fired)  # type: ignore[attr-defined]
        assert [s.state["bars"] for _, s in log if isinstance(s, StateKept)][-1] == 11

    play(database, scene, RESUME_S=20.0)


def _known(message: Any) -> Any:
    return message.name if isinstance(message, e.SetTimer) else (type(message).__name__, message.order_id, message.basis_seq)


def test_a_session_that_drops_again_much_later_has_its_whole_patience_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_session, "BACK_S", 0.6)

    async def scene(room: Room) -> None:
        _, task = room.session(Talker())
        for n in range(3):
            await room.until(lambda: room.gateway.doorman.guests)
            cut(room)
            await room.fact(SessionResumed, count=n + 1)
        assert not task.done()

    play(database, scene, RESUME_S=20.0)


def test_a_strategy_that_raises_is_reported_with_the_event(database: Database) -> None:
    async def scene(room: Room) -> None:
        room.feed.before = [room.bar(n) for n in range(2)]
        session, task = room.session(Talker(fail_at=4))
        await room.until(lambda: session.seat is not None and room.gateway.doorman.guests)
        room.feed.give(room.bar(2), room.quote())
        room.feed.give(room.bar(3))
        with pytest.raises(StrategyError, match="on purpose"):
            await task
        stopped = await room.fact(e.StrategyStopped)
        assert stopped.reason.startswith("failed:") and "on_bar" in stopped.reason and "on purpose" in stopped.reason
        assert (await room.fact(SessionLost)).policy == "cancel"
        assert session.outcome == "failed"

    play(database, scene)


def test_a_session_that_is_refused_says_why(database: Database) -> None:
    async def scene(room: Room) -> None:
        first = await room.enter()
        session, task = room.session(Talker())
        with pytest.raises(client_session.SessionError, match="SESSION: trend is in session already"):
            await task
        assert session.outcome == "failed"
        first.leave()

    play(database, scene)


# ── gateways that go ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gateway_killed_under_a_living_session_is_found_again_and_the_strategy_begins_with_what_it_holds(database: Database) -> None:
    async def scene(room: Room) -> None:
        room.feed.before = [room.bar(1), room.bar(2)]
        session, _ = room.session(Talker())
        await room.until(lambda: session.seat is not None and room.gateway.doorman.guests)
        for n in range(3, 7):
            room.feed.give(room.bar(n), room.quote())
            await room.until(lambda n=n: session.strategy.bars == n)  # type: ignore[attr-defined,misc]
        await room.fact(e.OrderFilled, count=2)
        await room.quiet()
        await room.gateway.writer.flush()
        before = room.gateway.desk.engine.books()
        n = room.gateway.ledger.numbers["trend", "20260601"]
        first = session.strategy
        await room.crash()
        await room.start()
        await room.until(lambda: room.gateway.doorman.guests)
        await room.until(lambda: session.welcome is not None and session.strategy is not first)
        welcome = session.welcome
        assert welcome is not None and not welcome.resumed
        assert welcome.n >= n and welcome.state == {"runs": 1, "bars": 6}
        assert [(h.symbol, sum(q for q, _ in h.lots)) for h in welcome.held] == [(h.symbol, h.qty) for h in before.holdings]
        assert {w.order.order_id for w in welcome.works} == {o.order_id for o in before.orders}
        room.feed.give(room.bar(7), room.quote())
        await room.fact(e.OrderSubmitted)
        await room.until(lambda: room.gateway.doorman.states["trend"].get("runs") == 2)
        assert not room.of(SessionLost)
        assert [began.n for began in await room.logged(SessionBegan)] == [0, welcome.n]

    play(database, scene)


def test_who_does_not_come_back_to_a_restarted_gateway_is_lost_and_its_policy_applied(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        await room.crash()
        raw.drop()
        await room.start()
        told = await room.fact(SessionLost)
        assert (told.strategy, told.policy) == ("trend", "flatten") and "did not come back" in told.reason
        await room.until_status(order, "CANCELED")
        room.price()
        held = room.gateway.ledger.of("paper-1", "trend").positions["SPY"]
        await room.until(lambda: not held.qty)

    play(database, scene, grants=grant(on_lost="flatten"), RETURN_S=0.5)


def test_a_policy_that_was_not_carried_out_is_taken_up_by_the_next_gateway(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw, order = await traded(room)
        room.gateway.links["paper-1"].heard(BrokerDown(room.clock.now(), "paper-1", "maintenance"))
        raw.drop()
        await room.fact(SessionLost)
        await room.stop()
        await room.start()
        await room.up()
        await room.until_status(order, "CANCELED")
        room.price()
        held = room.gateway.ledger.of("paper-1", "trend").positions["SPY"]
        await room.until(lambda: not held.qty)
        assert len(await room.logged(SessionLost)) == 1

    play(database, scene, grants=grant(on_lost="flatten"))


def test_a_gateway_that_leaves_in_order_lets_its_strategies_end(database: Database) -> None:
    async def scene(room: Room) -> None:
        session, task = room.session(Talker())
        await room.until(lambda: session.seat is not None and room.gateway.doorman.guests)
        stopping = asyncio.create_task(room.stop())
        result = await task
        await stopping
        assert (session.outcome, session.detail, session.strategy.stopped) == ("stopped", "the gateway is going down", True)  # type: ignore[attr-defined]
        assert result.outcome == "stopped"
        await room.start()
        assert (await room.logged(e.StrategyStopped))[0].reason == "stopped"
        await room.up()
        assert room.gateway.doorman._away == {}

    play(database, scene, LEAVE_S=5.0)


def test_an_order_that_was_on_its_way_when_the_gateway_died_is_unknown_until_it_is_found(database: Database) -> None:
    class Hanging(Recorder):
        async def submit(self, order: PlaceOrder) -> None:
            if order.qty == 13:
                self.calls.append(("hang", order.order_id))
                await asyncio.Event().wait()
            await super().submit(order)

    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit=Decimal(90))
        await raw.hear(e.OrderSubmitted)
        lost_one = raw.place(limit=Decimal(91), qty=13)
        await room.until(lambda: lost_one in room.broker().of("hang"))
        await room.gateway.writer.flush()
        await room.crash()
        await room.start()
        unknown = await room.fact(e.OrderUnknown)
        assert unknown.order_id == lost_one and "on its way" in unknown.reason
        await room.up()
        await room.until_status(order, "NEW")
        await room.until_status(lost_one, "NEW")
        assert room.broker().of("submit") == []

    play(database, scene, grants=grant(on_lost="leave"), make={"paper-1": Hanging})
