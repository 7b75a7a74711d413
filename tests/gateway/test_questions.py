"""What a person may ask and command over the socket: by the same order path, checks and record as any strategy."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.gateway import questions
from northstar_core.model import events as e
from northstar_core.model.market import Bar
from northstar_core.model.order import Side
from northstar_core.model.world import AlertRaised, StopRequested
from northstar_core.store.postgres import Database
from tests.gateway.room import Recorder, Room, grant, paper, play

HAND: dict[str, Any] = {"account": "paper-1", "symbol": "spy", "side": "buy", "qty": "10"}


def test_an_order_by_hand_goes_the_way_of_any_and_its_fate_is_told(database: Database) -> None:
    async def scene(room: Room) -> None:
        person = await room.operate()
        denied = (await person.request("place", **HAND)).value
        assert (denied["status"], denied["denied"]) == ("DENIED", "PRICE_MISSING") and "price" in denied["text"]
        assert "SPY" in room.feed.wanted
        room.price()
        told = (await person.request("place", **HAND, type="limit", limit_price="95")).value
        assert (told["event"], told["status"], told["order_id"]) == ("OrderAccepted", "NEW", "manual-20260601-2")
        assert room.broker().calls == [("submit", "manual-20260601-2")]
        [row] = (await person.request("orders")).value
        assert (row["qty"], row["limit_price"], row["strategy"]) == ("10", "95", "manual")
        changed = (await person.request("replace", order_id=told["order_id"], qty=12, limit_price=96)).value
        assert (changed["event"], changed["qty"], changed["limit_price"]) == ("OrderReplaced", "12", "96")
        gone = (await person.request("cancel", order_id=told["order_id"])).value
        assert (gone["event"], gone["status"]) == ("OrderCanceled", "CANCELED")
        again = (await person.request("cancel", order_id=told["order_id"])).value
        assert again["denied"] == "ORDER_NOT_WORKING"
        await person.request("place", **HAND)
        await room.fact(e.OrderFilled)
        [held] = (await person.request("positions")).value
        assert (held["strategy"], held["qty"], held["avg_price"], held["mark"]) == ("manual", "10", "100.01", 100.0)
        [fill] = (await person.request("fills")).value
        assert (fill["order_id"], fill["price"]) == ("manual-20260601-3", "100.010000000") or Decimal(fill["price"]) == Decimal("100.01")
        assert (await person.request("orders")).value == []

    play(database, scene)


def test_hands_trade_in_every_account_that_grants_it_and_in_no_other(database: Database) -> None:
    async def scene(room: Room) -> None:
        person = await room.operate()
        room.price()
        for account, name in (("paper-1", "manual"), ("paper-2", "manual@paper-2")):
            told = (await person.request("place", **{**HAND, "account": account}, type="limit", limit_price="95")).value
            assert told["status"] == "NEW" and told["strategy"] == name, told
        refused = await person.request("place", **{**HAND, "account": "paper-3"})
        assert refused.error.startswith("GRANT: no grant for manual in paper-3")

    play(
        database, scene, accounts=paper() + paper("paper-2") + paper("paper-3"), grants=grant("manual") + grant("manual", "paper-2")
    )


def test_nobody_trades_in_the_name_of_a_strategy_that_speaks_for_itself(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        await room.filled(raw, raw.place())
        person = await room.operate()
        refused = await person.request("place", **{**HAND, "side": "sell"}, strategy="trend")
        assert refused.error.startswith("SESSION: trend is in session")
        raw.leave()
        await room.fact(e.StrategyStopped)
        told = (await person.request("place", **{**HAND, "side": "sell"}, strategy="trend", reduce_only=True)).value
        assert told["order_id"] == "trend-20260601-2"
        held = room.gateway.ledger.of("paper-1", "trend").positions["SPY"]
        await room.until(lambda: not held.qty)

    play(database, scene)


def test_a_person_may_cancel_a_strategys_order_and_the_strategy_hears_of_it(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit="90")
        await raw.hear(e.OrderAccepted)
        person = await room.operate()
        assert (await person.request("cancel", order_id=order)).value["status"] == "CANCELED"
        await raw.hear(e.OrderCanceled)

    play(database, scene)


SENSELESS: list[tuple[str, dict[str, Any], str]] = [
    ("place", {**HAND, "qty": "ten"}, "ARGUMENTS: qty 'ten': is no number"),
    ("place", {**HAND, "qty": "NaN"}, "ARGUMENTS: qty 'NaN': is not finite"),
    ("place", {**HAND, "side": "hold"}, "ARGUMENTS: 'HOLD' is not a valid Side"),
    ("place", {**HAND, "symbol": 5}, "place: "),
    ("place", {"account": "paper-1"}, "ARGUMENTS: place: missing a required argument: 'symbol'"),
    ("place", {**HAND, "guest": 1}, "ARGUMENTS: place: "),
    ("cancel", {"order_id": "manual-x-1"}, "ARGUMENTS: no order manual-x-1"),
    ("resolve", {"order_id": "x", "outcome": "canceled", "who": "a", "reason": "b"}, "ARGUMENTS: no order x"),
    ("set_state", {"scope": "desk", "state": "asleep", "who": "a", "reason": "b"}, "ARGUMENTS: state 'asleep'"),
    ("set_state", {"scope": "moon", "state": "halted", "who": "a", "reason": "b"}, "ARGUMENTS: scope 'moon'"),
    ("set_state", {"scope": "desk", "state": "halted", "who": "", "reason": "b"}, "ARGUMENTS: set_state: give who"),
    ("token", {"strategy": "trend", "account": "paper-9"}, "GRANT: no grant for trend in paper-9"),
    ("token", {"strategy": "trend", "account": "paper-1", "hours": -1}, "token: "),
    ("reconcile", {"account": "paper-9"}, "ARGUMENTS: no account 'paper-9'"),
    ("sing", {}, "no request 'sing'"),
    ("__init__", {}, "no request '__init__'"),
]


def test_a_question_that_makes_no_sense_is_answered_in_words_and_the_connection_stays(database: Database) -> None:
    async def scene(room: Room) -> None:
        person = await room.operate()
        for what, args, error in SENSELESS:
            told = await person.request(what, **args)
            assert told.error.startswith(error), told
        assert (await person.request("status")).value["working"] == 0
        assert room.broker().calls == []

    play(database, scene)


def test_a_state_is_set_under_a_name_and_binds_at_once(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw, person = await room.enter(), await room.operate()
        room.price()
        await room.filled(raw, raw.place())
        await person.request("set_state", scope="strategy:trend", state="reducing", who="ann", reason="news")
        raw.place()
        assert (await raw.hear(e.OrderDenied))[1].reason == "TRADING_REDUCING"
        await room.filled(raw, raw.place(Side.SELL, reduce_only=True))
        await person.request("set_state", scope="strategy:trend", state="active", who="ann", reason="over")
        await room.filled(raw, raw.place())
        changes = await room.logged(e.TradingStateChanged)
        assert [(c.state, c.who, c.reason) for c in changes] == [("REDUCING", "ann", "news"), ("ACTIVE", "ann", "over")]
        assert (await person.request("status")).value["states"] == {"strategy:trend": "ACTIVE"}

    play(database, scene)


def test_only_an_unknown_order_is_resolved_by_hand_and_late_news_of_it_is_still_booked(database: Database) -> None:
    class Mute(Recorder):
        async def submit(self, order: Any) -> None:
            self.calls.append(("submit", order.order_id))
            raise OSError("reset")

        async def find(self, order_id: str) -> Any:
            from northstar_core.brokers.base import Evidence

            return Evidence.SILENT

    async def scene(room: Room) -> None:
        raw, person = await room.enter(), await room.operate()
        room.price()
        order = raw.place()
        await raw.hear(e.OrderUnknown)
        assert (await person.request("status")).value["unknown"] == 1
        for wrong in ({"outcome": "filled"}, {"outcome": "canceled", "who": ""}):
            given = {"order_id": order, "outcome": "canceled", "who": "ann", "reason": "called them", **wrong}
            assert (await person.request("resolve", **given)).error.startswith("ARGUMENTS")
        told = await person.request("resolve", order_id=order, outcome="canceled", who="ann", reason="called them")
        assert told.value["status"] == "CANCELED"
        again = await person.request("resolve", order_id=order, outcome="canceled", who="ann", reason="called them")
        assert again.error.startswith("STATE:")
        from northstar_core.model.execution import ExecType, ExecutionReport

        late = ExecutionReport(room.clock.now(), order, ExecType.TRADE, exec_id="x-1", qty=Decimal(10), price=Decimal("100.01"))
        room.gateway.links["paper-1"].heard(late)
        _, fill = await raw.hear(e.OrderFilled)
        assert fill.late and room.status(order) == "CANCELED"

    play(database, scene, make={"paper-1": Mute})


def test_who_follows_hears_every_fact_once_it_is_durable_and_in_order(database: Database) -> None:
    async def scene(room: Room) -> None:
        follower = await room.operate(follow=True)
        await follower.request("status")
        follower.forget()
        raw = await room.enter()
        room.price()
        async with room.held():
            raw.place()
            await room.until(lambda: room.of(e.OrderSubmitted))
            await room.quiet()
            assert not [event for _, event in follower.given if isinstance(event, e.OrderSubmitted)]
        await follower.hear(e.OrderFilled)
        raw.leave()
        await follower.hear(e.StrategyStopped)
        seqs = [seq for seq, _ in follower.given]
        assert seqs == sorted(set(seqs))
        log = {seq: event for seq, event in await room.log() if seqs[0] <= seq <= seqs[-1]}
        inputs = ("PlaceOrder", "ExecutionReport", "Quote", "TapeRead", "SnapshotTaken", "BrokerSnapshot")
        assert [seq for seq, event in log.items() if type(event).__name__ not in inputs] == seqs

    play(database, scene)


def test_a_strategy_is_asked_to_stop_and_one_that_does_not_is_ended(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw, person = await room.enter(), await room.operate()
        assert (await person.request("stop", strategy="carry", account="paper-1")).value is False
        assert (await person.request("stop", strategy="trend", account="paper-1", reason="enough", grace_s=0.0)).value is True
        _, asked = await raw.hear(StopRequested)
        assert (asked.reason, asked.grace_s) == ("enough", 0.0)

        async def beat() -> None:
            while True:
                raw.beat()
                await room.stir()

        beating = asyncio.create_task(beat())
        stopped = await room.fact(e.StrategyStopped)
        beating.cancel()
        assert stopped.reason == "lost: asked to stop, and did not"

    play(database, scene)


def test_bars_alerts_tokens_and_the_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_S", 0.2)

    async def scene(room: Room) -> None:
        room.feed.before = [room.bar(n) for n in range(5)]
        person = await room.operate()
        bars = (await person.request("bars", symbol="spy", n=2)).value
        assert [bar["close"] for bar in bars] == [100.0, 100.0] and set(bars[0]) == set(Bar.__struct_fields__)
        await person.request("alert", severity="warning", about="jobs", text="late")
        assert (await person.request("alerts")).value[-1]["text"] == "late"
        assert (await person.request("alert", severity="loud", about="x", text="y")).error.startswith("ARGUMENTS")
        token = (await person.request("token", strategy="trend", account="paper-1", hours=1)).value
        raw = await room.connect()
        await raw.enter(token["token"])
        assert token["strategy"] == "trend" and token["simulated"] is True and token["live"] is False
        room.price()
        async with room.held():  # no fate within the time: the order is shown as it stands
            told = (await person.request("place", **HAND)).value
            assert told["status"] == "PENDING_NEW" and "event" not in told
        assert (await person.request("reconcile", account="paper-1")).value == 0
        assert room.of(AlertRaised)
        await person.request("down")
        await room.until(room.gateway.stopping.is_set)

    play(database, scene)
