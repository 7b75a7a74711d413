"""The stream of the Interactive Brokers twin, frame by frame."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from northstar_core.model.order import OrderType, PlaceOrder, Side
from tests.twins.ibkr_room import ACCOUNT, SPY, Room, Stream, in_room


def test_it_greets_whoever_names_the_session_in_a_cookie_or_in_the_first_frame() -> None:
    async def scene(room: Room) -> None:
        session = (await room.post("tickle"))["session"]
        url = room.served.url("ibkr", "ws") + "/v1/api/ws"
        cookie = {"Cookie": "api=" + json.dumps({"session": session})}
        for headers, first in ((cookie, None), ({}, json.dumps({"session": session}))):
            async with connect(url, additional_headers=headers, proxy=None) as socket:
                if first is not None:
                    await socket.send(first)
                stream = Stream(socket)
                system, act, sts = [await stream.next() for _ in range(3)]
                assert system == {"topic": "system", "success": "twinuser", "isFT": False, "isPaper": True}
                assert act["topic"] == "act" and act["args"]["accounts"] == [ACCOUNT]
                assert sts["topic"] == "sts" and sts["args"]["authenticated"] is True
        async with connect(url, additional_headers={"Cookie": 'api={"session":"0123456789abcdef"}'}, proxy=None) as socket:
            stream = Stream(socket)
            assert await stream.next() == {"message": "waiting for session"}
            await socket.send("sor+{}")
            await stream.quiet()

    in_room(scene)


def test_it_beats_and_answers_a_tic_four_times() -> None:
    async def scene(room: Room) -> None:
        async with room.stream("tic") as stream:
            tics = [await stream.next() for _ in range(4)]
            assert tics[0] == tics[3] and tics[0]["topic"] == "tic" and tics[0]["alive"] is True
            assert tics[0]["id"] == (await room.post("tickle"))["session"]
            assert (await stream.next("hb"))["topic"] == "system"

    in_room(scene, heartbeat_s=0.2)


def test_an_orders_way_is_told_in_partial_rows() -> None:
    async def scene(room: Room) -> None:
        async with room.stream("sor+{}") as stream:
            (answer,) = await room.order(price=599.00, cOID="way")
            order_id = int(answer["order_id"])
            rows = await stream.rows("sor", 5)
            assert [row.get("status") for row in rows] == ["Inactive", None, "PendingSubmit", "PreSubmitted", "Submitted"]
            assert {(row["acct"], row["orderId"]) for row in rows} == {(ACCOUNT, order_id)}
            assert (rows[0]["order_ccp_status"], rows[0]["price"], rows[0]["order_ref"]) == ("Pending Submit", "599.00", "way")
            assert set(rows[1]) == {"acct", "conidex", "conid", "orderId", "isEventTrading"}
            assert set(rows[2]) - {"bgColor"} == {"acct", "orderId", "status", "fgColor"}
            assert rows[4]["order_ccp_status"] == "Submitted" and "sizeAndFills" not in rows[4]
            await room.call("DELETE", f"iserver/account/{ACCOUNT}/order/{order_id}")
            going, gone = await stream.rows("sor", 2)
            assert (going["status"], going["order_ccp_status"], going["totalSize"]) == ("PendingCancel", "Submitted", 1.0)
            assert (gone["status"], gone["order_ccp_status"]) == ("Cancelled", "Cancelled") and "totalSize" not in gone

    in_room(scene)


def test_fills_are_told_as_progress_and_the_last_one_as_filled() -> None:
    async def scene(room: Room) -> None:
        async with room.stream("sor+{}") as stream:
            await room.order(orderType="MKT", price=None, quantity=100, side="SELL")
            rows = await stream.rows("sor", 6)
            assert rows[0]["price"] == "" and rows[5]["status"] == "Filled"
            room.step(10)
            await room.order(orderType="MKT", price=None, quantity=100)
            rows = await stream.rows("sor", 6)
            assert (rows[5]["sizeAndFills"], rows[5]["remainingQuantity"], rows[5]["avgPrice"]) == ("40/100", 60.0, "600.12")
            assert "status" not in rows[5]
            room.step(20)
            (last,) = await stream.rows("sor", 1)
            assert (last["status"], last["sizeAndFills"], last["orderDesc"]) == ("Filled", "100/100", "Bought 100 SPY Market, Day")

    in_room(scene)


def test_each_execution_is_told_twice_and_only_the_second_has_its_commission() -> None:
    async def scene(room: Room) -> None:
        async with room.stream('str+{"realtimeUpdatesOnly":false,"days":1}') as stream:
            assert await stream.next() == {"topic": "str", "args": []}
            await room.order(orderType="MKT", price=None, quantity=300, cOID="two")
            first, second = await stream.rows("str", 2)
            assert "commission" not in first and second == {**first, "commission": "1.5"}
            assert (first["side"], first["size"], first["price"], first["order_ref"]) == ("B", 300.0, "600.02", "two")
            assert (first["trade_time"], first["position"]) == ("20260601-13:30:05", "300")
            assert first["execution_id"].count(".") == 3 and first["execution_id"].endswith(".01.01")
        async with room.stream("str+{}") as stream:  # told again to whoever comes later, twice again
            assert (await stream.next())["args"] == []
            assert await stream.rows("str", 2) == [first, second]
        async with room.stream('str+{"realtimeUpdatesOnly":true}') as stream:
            assert (await stream.next())["args"] == []
            await stream.quiet()
        assert (await room.get("iserver/account/trades?days=1")) == [second]

    in_room(scene)


def test_a_late_commission_is_missing_from_the_trades_until_it_comes() -> None:
    async def scene(room: Room) -> None:
        async with room.stream('str+{"realtimeUpdatesOnly":true}') as stream:
            await stream.next()
            await room.order(orderType="MKT", price=None)
            await stream.rows("str", 1)
            assert "commission" not in (await room.get("iserver/account/trades"))[0]
            (second,) = await stream.rows("str", 1)
            assert second["commission"] == "1.0"
            assert (await room.get("iserver/account/trades"))[0]["commission"] == "1.0"

    in_room(scene, commission_s=0.2)


def test_a_correction_repeats_an_execution_with_the_last_part_raised() -> None:
    async def scene(room: Room) -> None:
        room.fault("execution", "correction", delay_s=0.2)
        async with room.stream('str+{"realtimeUpdatesOnly":true}') as stream:
            await stream.next()
            await room.order(orderType="MKT", price=None, quantity=10)
            wrong, _ = await stream.rows("str", 2)
            cash = (await room.get(f"portfolio/{ACCOUNT}/ledger"))["USD"]["cashbalance"]
            assert (wrong["price"], cash) == ("600.03", 100_000 - 6000.30 - 1)
            right, _ = await stream.rows("str", 2)
            assert right["execution_id"] == wrong["execution_id"][:-2] + "02" and right["price"] == "600.02"
            assert [trade["execution_id"] for trade in await room.get("iserver/account/trades")] == [right["execution_id"]]
            assert (await room.get(f"portfolio/{ACCOUNT}/ledger"))["USD"]["cashbalance"] == 100_000 - 6000.20 - 1

    in_room(scene)


def test_a_filter_on_live_orders_turns_the_order_stream_off_until_forced() -> None:
    async def scene(room: Room) -> None:
        await room.get("iserver/account/orders?filters=submitted")
        async with room.stream("sor+{}") as stream:
            await room.order(price=599.00)
            await stream.quiet()
            await room.get("iserver/account/orders?force=true")
            await room.order(price=598.00)
            assert (await stream.rows("sor", 5))[0]["price"] == "598.00"

    in_room(scene)


def test_orders_there_are_come_first_and_none_after_unsubscribing() -> None:
    async def scene(room: Room) -> None:
        await room.order(price=599.00)
        await room.order(price=598.00)
        async with room.stream("sor+{}") as stream:
            assert [row["price"] for row in (await stream.next("sor"))["args"]] == ["598.00", "599.00"]
            await stream.socket.send("uor+{}")
            await stream.quiet()
            await room.order(price=597.00)
            await stream.quiet()

    in_room(scene)


def test_an_order_by_another_way_appears_without_a_reference() -> None:
    async def scene(room: Room) -> None:
        async with room.stream("sor+{}", 'str+{"realtimeUpdatesOnly":true}') as stream:
            await stream.next("str")
            now = room.served.market.now()
            order = PlaceOrder(now, "by-phone", "", ACCOUNT, "SPY", Side.BUY, Decimal(10))
            room.account.submit(order)
            rows = await stream.rows("sor", 4)
            assert "order_ref" not in rows[0] and rows[0]["totalSize"] == 10.0 and rows[3]["status"] == "Filled"
            first, _ = await stream.rows("str", 2)
            assert "order_ref" not in first and first["order_id"] == rows[0]["orderId"]
            limit = PlaceOrder(now, "resting", "", ACCOUNT, "SPY", Side.BUY, Decimal(3), OrderType.LIMIT, Decimal(590))
            room.account.submit(limit)
            rows = await stream.rows("sor", 5)
            assert (rows[0]["price"], rows[4]["status"]) == ("590.00", "Submitted")

    in_room(scene)


def test_a_rejection_comes_as_inactive_and_in_words() -> None:
    async def scene(room: Room) -> None:
        async with room.stream("sor+{}") as stream:
            room.fault("account.submit", "reject", text="no shares to borrow")
            await room.order(price=599.00)
            assert (await stream.rows("sor", 4))[3]["status"] == "Inactive"
            (notice,) = (await stream.next("ntf"))["args"]
            assert set(notice) == {"id", "text", "title", "url"} and "no shares to borrow" in notice["text"]

    in_room(scene)


def test_a_subscription_may_be_refused_or_met_with_silence() -> None:
    async def scene(room: Room) -> None:
        room.fault("subscribe.sor", "refuse")
        room.fault("subscribe.sor", "drop", after=1)
        async with room.stream("sor+{}") as stream:
            assert await stream.next() == {"error": "unable to subscribe", "code": 500, "topic": "sor"}
            await stream.socket.send("sor+{}")
            await stream.quiet()
            await room.order(price=599.00)
            await stream.quiet()
            for wrong in ("zzz", "sor+{bad", "smd+5+{}", "ssd+U1+{}"):
                await stream.socket.send(wrong)
                assert "error" in await stream.next()

    in_room(scene)


def test_quotes_come_whole_twice_and_then_as_what_has_changed() -> None:
    async def scene(room: Room) -> None:
        fields = json.dumps({"fields": ["31", "84", "86", "85", "88", "6509", "7289"]})
        async with room.stream(f"smd+{SPY}+{fields}") as stream:
            first, again = await stream.next(), await stream.next()
            assert first == again and (first["topic"], first["conid"]) == (f"smd+{SPY}", SPY)
            values = {key: first[key] for key in ("31", "84", "86", "85", "88")}
            assert values == {"31": "600.01", "84": "600.00", "86": "600.02", "85": "300", "88": "300"}
            assert "7289" not in first
            room.step(10)
            room.step(20)
            moved, grown = await stream.next(), await stream.next()
            assert {k: v for k, v in moved.items() if k.isdigit() and k != "6119"} == {
                "84": "600.10", "86": "600.12", "85": "40", "88": "40",
            }  # fmt: skip
            assert {k: v for k, v in grown.items() if k.isdigit() and k != "6119"} == {"85": "5,000", "88": "5,000"}
            await stream.socket.send(f"umd+{SPY}+{{}}")
            await stream.quiet()
            room.step(30)
            await stream.quiet()

    in_room(scene)


def test_a_line_that_is_not_renewed_ends_in_silence() -> None:
    async def scene(room: Room) -> None:
        async with room.stream(f'smd+{SPY}+{{"fields":["84"]}}') as stream:
            await stream.next(), await stream.next()
            room.step(10)
            assert (await stream.next())["84"] == "600.10"
            room.step(30)
            room.step(40)
            await stream.quiet()

    in_room(scene, lives_s=20)


def test_profit_summary_and_ledger_are_streamed() -> None:
    async def scene(room: Room) -> None:
        await room.order(orderType="MKT", price=None, quantity=10)
        async with room.stream("spl+{}") as stream:
            row = (await stream.next("spl"))["args"][f"{ACCOUNT}.Core"]
            assert (row["rowType"], row["nl"], row["mv"]) == (1, 100_000 - 1 - 0.10, 6000.10)
            await stream.socket.send(f'ssd+{ACCOUNT}+{{"keys":["AccountCode","NetLiquidation"]}}')
            summary = await stream.next("ssd")
            assert [row["key"] for row in summary["result"]] == ["AccountCode", "NetLiquidation"]
            await stream.socket.send(f"sld+{ACCOUNT}+{{}}")
            ledger = await stream.next("sld")
            assert {row["secondKey"]: row["cashbalance"] for row in ledger["result"]}["BASE"] == 100_000 - 6000.20 - 1
            blank = await stream.next("sld")  # nothing has changed since
            assert set(blank["result"][0]) == {"key", "timestamp"}
            await stream.socket.send(f"usd+{ACCOUNT}")
            while (frame := await stream.next()) != {"result": "unsubscribed from summary"}:
                assert "topic" in frame

    in_room(scene, heartbeat_s=0.2)


def test_frames_get_lost_doubled_and_swapped() -> None:
    async def scene(room: Room) -> None:
        room.fault("stream.sor", "drop")
        room.fault("stream.sor", "duplicate", after=2)
        room.fault("stream.sor", "reorder", after=3)
        async with room.stream("sor+{}") as stream:
            await room.order(price=599.00)
            rows = await stream.rows("sor", 5)
            assert [row.get("status") for row in rows] == [None, "PendingSubmit", "PendingSubmit", "Submitted", "PreSubmitted"]

    in_room(scene)


def test_a_deaf_connection_beats_and_says_nothing_until_it_is_healed() -> None:
    async def scene(room: Room) -> None:
        room.fault("stream.sor", "deaf")
        async with room.stream("sor+{}") as stream:
            await room.order(price=599.00)
            assert (await stream.next("hb"))["topic"] == "system"
            await stream.quiet()
            async with room.http.delete(room.served.url("ibkr") + "/_twin/faults") as answer:
                assert answer.status == 200
            await room.order(price=598.00)
            assert (await stream.rows("sor", 5))[0]["price"] == "598.00"

    in_room(scene, heartbeat_s=0.2)


@pytest.mark.parametrize("how", ["fault", "control"])
def test_a_connection_is_cut(how: str) -> None:
    async def scene(room: Room) -> None:
        async with room.stream("sor+{}") as stream:
            if how == "fault":
                room.fault("stream.sor", "disconnect", after=2)
                await room.order(price=599.00)
            else:
                async with room.http.post(room.served.url("ibkr") + "/_twin/disconnect") as answer:
                    assert (await answer.json())["disconnected"] == 1
            with pytest.raises(ConnectionClosed):
                while True:
                    await stream.next()

    in_room(scene)
