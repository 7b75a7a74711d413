"""The Alpaca twin's stream: authorization, frames, what is said of an order, and what may happen to it on the way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from northstar_core.twins.faults import Fault
from tests.twins.alpaca_room import C100, C105, OPEN, Room, Stream, TradingStream, room

AUTH = {"action": "auth", "key": "KEY", "secret": "SECRET"}
AUTHENTICATE = {"action": "authenticate", "data": {"key_id": "KEY", "secret_key": "SECRET"}}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates", "something_else"]}}


@pytest.mark.parametrize("form", [AUTH, AUTHENTICATE])
def test_either_form_opens_the_stream_and_listening_replaces_what_is_on(form: dict[str, Any]) -> None:
    async def act() -> None:
        async with room() as twin, connect(twin.url.replace("http", "ws") + "/stream") as socket:
            stream = Stream(socket)
            await stream.send(form)
            assert await stream.next() == {
                "stream": "authorization",
                "data": {"status": "authorized", "action": "authenticate"},
            }
            await stream.send(LISTEN)
            assert await stream.next() == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
            await stream.send({"action": "listen", "data": {"streams": []}})
            assert (await stream.next())["data"] == {"streams": []}
            await twin.placed()
            await stream.send(LISTEN)
            assert (await stream.next())["stream"] == "listening"  # and nothing of the order before it

    asyncio.run(act())


def test_who_has_not_said_the_right_keys_hears_nothing() -> None:
    async def act() -> None:
        async with room() as twin, connect(twin.url.replace("http", "ws") + "/stream") as socket:
            stream = Stream(socket)
            await stream.send(LISTEN)
            assert (await stream.next())["data"] == {"status": "unauthorized", "action": "listen"}
            await stream.send({**AUTH, "secret": "guess"})
            assert (await stream.next())["data"] == {"status": "unauthorized", "action": "authenticate"}
            await socket.send("no JSON at all")
            await twin.placed()
            await stream.send(LISTEN)
            assert (await stream.next())["data"] == {"status": "unauthorized", "action": "listen"}

    asyncio.run(act())


@pytest.mark.parametrize(("binary", "kind"), [(True, bytes), (False, str)])
def test_frames_are_binary_as_on_paper_or_text_as_live(binary: bool, kind: type) -> None:
    async def act() -> None:
        async with room(binary=binary) as twin, twin.stream() as stream:
            await twin.placed()
            frame = await stream.socket.recv()
            assert type(frame) is kind
            assert json.loads(frame)["data"]["event"] == "pending_new"

    asyncio.run(act())


def test_messagepack_is_spoken_where_the_upgrade_asks_for_it() -> None:
    async def act() -> None:
        headers = {"Content-Type": "application/msgpack"}
        async with (
            room() as twin,
            connect(twin.url.replace("http", "ws") + "/stream", additional_headers=headers) as socket,
        ):
            for message in (AUTHENTICATE, LISTEN):
                await socket.send(msgspec.msgpack.encode(message))
                await socket.recv()
            await twin.placed()
            frame = await socket.recv()
            assert isinstance(frame, bytes)
            assert msgspec.msgpack.decode(frame)["data"]["order"]["symbol"] == "SPY"

    asyncio.run(act())


def test_an_orders_events_carry_executions_and_cumulative_fills() -> None:
    async def act() -> None:
        async with room() as twin, twin.stream() as stream:
            await twin.placed(qty="450")
            first = await stream.events("partial_fill")
            twin.play(10)
            last = (await stream.events("fill"))[-1]
            assert [event["event"] for event in first] == ["pending_new", "new", "partial_fill"]
            assert "execution_id" not in first[0]
            ids = {event["execution_id"] for event in (*first[1:], last)}
            assert len(ids) == 3
            part = first[-1]
            assert (part["price"], part["qty"], part["position_qty"]) == ("100.01", "300", "300")
            assert (last["qty"], last["position_qty"], last["order"]["filled_qty"]) == ("150", "450", "450")
            assert (part["order"]["status"], last["order"]["status"]) == ("partially_filled", "filled")
            assert last["timestamp"].endswith("-05:00")
            assert last["order"]["filled_at"].endswith("Z")

    asyncio.run(act())


@pytest.mark.parametrize(("leg_events", "events"), [(False, 1), (True, 3)])
def test_a_spreads_fill_is_one_event_of_the_parent_and_if_asked_one_of_each_leg(leg_events: bool, events: int) -> None:
    async def act() -> None:
        async with room(leg_events=leg_events) as twin, twin.stream() as stream:
            legs = [
                {"symbol": C100, "ratio_qty": "1", "side": "buy"},
                {"symbol": C105, "ratio_qty": "1", "side": "sell"},
            ]
            await twin.placed(symbol=None, side=None, order_class="mleg", type="market", qty="1", legs=legs)
            fills = [(await stream.events("fill"))[-1] for _ in range(events)]
            parent = next(event for event in fills if event["order"]["symbol"] == "")
            assert (parent["price"], parent["qty"]) == ("1.3", "1")
            assert [leg["filled_qty"] for leg in parent["order"]["legs"]] == ["1", "1"]

    asyncio.run(act())


def test_the_vendors_stream_hears_a_trade_unchanged() -> None:
    async def act() -> None:
        async with room() as twin:
            heard: asyncio.Queue[Any] = asyncio.Queue()
            loop = asyncio.get_running_loop()

            async def hear(update: Any) -> None:
                loop.call_soon_threadsafe(heard.put_nowait, update)

            stream = TradingStream("KEY", "SECRET", url_override=twin.url.replace("http", "ws") + "/stream")
            stream.subscribe_trade_updates(hear)
            running = asyncio.create_task(asyncio.to_thread(stream.run))
            try:
                async with asyncio.timeout(20):
                    while not stream._running:
                        await asyncio.sleep(0)
                    await twin.placed(client_order_id="heard")
                    updates = []
                    while not updates or updates[-1].event != "fill":
                        updates.append(await heard.get())
            finally:
                await asyncio.to_thread(stream.stop)
                await twin.placed()  # it looks for the wish to stop after each message
                await running
            assert [update.event for update in updates] == ["pending_new", "new", "fill"]
            assert (updates[-1].price, updates[-1].position_qty) == (100.01, 10.0)
            assert updates[-1].order.client_order_id == "heard"

    asyncio.run(act())


# ── what may happen on the way ────────────────────────────────────────────────────────────────────────────────────────


async def names_after(twin: Room, stream: Stream, *last: str) -> list[str]:
    await twin.placed(qty="450")
    twin.play(10)
    return await stream.names(*last)


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        (Fault(at="stream.new", do="drop"), ["pending_new", "partial_fill", "fill"]),
        (Fault(at="stream.new", do="duplicate"), ["pending_new", "new", "new", "partial_fill", "fill"]),
        (Fault(at="stream.new", do="reorder"), ["pending_new", "partial_fill", "new", "fill"]),
        (Fault(at="stream.pending_new", do="delay", delay_s=0.5), ["new", "partial_fill", "fill", "pending_new"]),
        (Fault(at="stream.partial_fill", do="reorder"), ["pending_new", "new", "fill", "partial_fill"]),
        (Fault(at="stream", do="drop", after=1, times=2), ["pending_new", "fill"]),
    ],
    ids=lambda value: value.do if isinstance(value, Fault) else "",
)
def test_events_get_lost_doubled_late_and_swapped(fault: Fault, heard: list[str]) -> None:
    async def act() -> None:
        async with room(fault) as twin, twin.stream() as stream:
            assert await names_after(twin, stream, heard[-1]) == heard

    asyncio.run(act())


def test_a_fill_is_repeated_with_the_same_execution_after_the_order_has_ended() -> None:
    async def act() -> None:
        async with room(Fault(at="stream.partial_fill", do="duplicate", delay_s=0.3)) as twin, twin.stream() as stream:
            await twin.placed(qty="450")
            twin.play(10)
            events = await stream.events("fill")
            late = (await stream.events("partial_fill"))[-1]
            assert late["execution_id"] == events[2]["execution_id"]
            assert events[-1]["order"]["status"] == "filled"

    asyncio.run(act())


def test_an_early_event_comes_before_the_answer_to_its_order() -> None:
    async def act() -> None:
        async with room(Fault(at="orders.post", do="early", delay_s=0.5)) as twin, twin.stream() as stream:
            asked = asyncio.create_task(twin.post())
            assert await stream.names("fill") == ["pending_new", "new", "fill"]
            assert not asked.done()
            status, order = await asked
            assert (status, order["status"]) == (200, "filled")

    asyncio.run(act())


def test_a_frame_that_is_no_message_comes_between() -> None:
    async def act() -> None:
        async with room(Fault(at="stream.new", do="junk")) as twin, twin.stream() as stream:
            await twin.placed()
            assert (await stream.next())["data"]["event"] == "pending_new"
            with pytest.raises(json.JSONDecodeError):
                await stream.next()
            assert (await stream.next())["data"]["event"] == "new"

    asyncio.run(act())


def test_a_mute_stream_answers_pings_and_tells_nothing_until_it_is_healed() -> None:
    async def act() -> None:
        async with room(Fault(at="stream.new", do="mute")) as twin, twin.stream() as stream:
            await twin.placed()
            assert await stream.names("pending_new") == ["pending_new"]
            await asyncio.wait_for(await stream.socket.ping(), 10)
            await twin.send("DELETE", "/_twin/faults")
            await twin.placed()
            assert await stream.names("fill") == ["pending_new", "new", "fill"]

    asyncio.run(act())


def test_a_dead_stream_does_not_even_answer_pings() -> None:
    async def act() -> None:
        async with room(Fault(at="stream.new", do="dead")) as twin, twin.stream() as stream:
            await twin.placed()
            await stream.events("pending_new")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(await stream.socket.ping(), 0.3)
            await twin.send("DELETE", "/_twin/faults")

    asyncio.run(act())


def test_a_cut_stream_can_be_opened_again_and_replays_nothing() -> None:
    async def act() -> None:
        async with room(Fault(at="stream.new", do="disconnect")) as twin:
            async with twin.stream() as stream:
                await twin.placed()
                with pytest.raises(ConnectionClosed):
                    await stream.events("fill")
            async with twin.stream() as stream:
                assert (await twin.state())["connections"] == 1
                await twin.placed(client_order_id="second")
                assert (await stream.events("fill"))[0]["order"]["client_order_id"] == "second"
                assert (await twin.send("POST", "/_twin/disconnect"))[1] == {"disconnected": 1}
                with pytest.raises(ConnectionClosed):
                    await stream.next()

    asyncio.run(act())


def test_every_connection_that_listens_hears_the_same() -> None:
    async def act() -> None:
        async with room(start=OPEN) as twin, twin.stream() as one, twin.stream() as other:
            await twin.placed()
            assert await one.events("fill") == await other.events("fill")

    asyncio.run(act())
