"""Orders at the Interactive Brokers twin, over HTTP as a client sends them."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from northstar_core.twins.ibkr.contracts import derived_conid
from tests.twins.ibkr_room import ACCOUNT, CALL, CLOSE, HIGHER, OPEN, SECOND, SPY, Room, in_room, ticket

ORDERS = f"iserver/account/{ACCOUNT}/orders"


def test_an_order_is_accepted_with_an_id_that_is_a_string_here_and_a_number_elsewhere() -> None:
    async def scene(room: Room) -> None:
        (answer,) = await room.order(cOID="mine-1", price=599.00)
        assert answer == {
            "order_id": answer["order_id"], "local_order_id": "mine-1", "order_status": "Submitted", "encrypt_message": "1",
        }  # fmt: skip
        assert isinstance(answer["order_id"], str)
        (row,) = await room.live()
        assert (row["orderId"], row["order_ref"], row["status"]) == (int(answer["order_id"]), "mine-1", "Submitted")
        assert (row["sizeAndFills"], row["remainingQuantity"], row["price"]) == ("0/1", 1.0, "599.00")
        assert (row["timeInForce"], row["orderDesc"]) == ("CLOSE", "Buy 1 SPY Limit 599.00, Day")
        status = await room.get(f"iserver/account/order/status/{answer['order_id']}")
        assert (status["order_id"], status["total_size"], status["cum_fill"]) == (row["orderId"], "1.0", "0.0")

    in_room(scene)


def test_orders_need_the_list_of_accounts_first() -> None:
    async def scene(room: Room) -> None:
        assert (await room.call("POST", ORDERS, {"orders": [ticket()]}))[0] == 400
        await room.get("iserver/accounts")
        assert (await room.call("POST", ORDERS, {"orders": [ticket()]}))[0] == 200
        assert (await room.call("GET", f"portfolio/{ACCOUNT}/ledger"))[0] == 400

    in_room(scene, accounts=False)


def test_the_first_list_of_live_orders_is_empty_and_says_so() -> None:
    async def scene(room: Room) -> None:
        await room.order(price=599.00)
        assert await room.get("iserver/account/orders") == {"orders": [], "snapshot": False}
        assert len((await room.get("iserver/account/orders"))["orders"]) == 1
        assert await room.get("iserver/account/orders?force=true") == {"orders": [], "snapshot": False}
        assert len((await room.get("iserver/account/orders?filters=filled"))["orders"]) == 0
        assert len((await room.get("iserver/account/orders?filters=submitted"))["orders"]) == 1

    in_room(scene)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conid": 1}, "Contract 1 is not found"),
        ({"conid": None}, "Missing order parameter conid"),
        ({"side": "HOLD"}, "Invalid order side"),
        ({"orderType": "TRAIL"}, "not supported"),
        ({"orderType": "GUESS"}, "Unknown order type"),
        ({"quantity": 0}, "Order size 0 is not valid"),
        ({"quantity": "many"}, "Invalid order parameter quantity"),
        ({"quantity": float("nan")}, "Invalid order parameter quantity"),
        ({"quantity": 1.5}, "minimum variation"),
        ({"price": None}, "Missing order parameter price"),
        ({"price": 600.001}, "minimum price variation"),
        ({"price": -5}, "Invalid price"),
        ({"tif": "SOON"}, "Invalid time in force"),
        ({"acctId": "U999"}, "Account U999 is not found"),
        ({"orderType": "STOP_LIMIT", "auxPrice": None}, "Missing order parameter price or auxPrice"),
        ({"quantity": 10_000}, "equity with loan value"),
        ({"parentId": "nobody"}, "Parent order nobody is not found"),
        ({"conid": None, "conidex": "28812380;;;1/1,2/-1"}, "Contract 1 is not found"),
        ({"conid": None, "conidex": f"5;;;{SPY}/1"}, "Invalid conidex"),
    ],
)
def test_a_ticket_that_cannot_be_right_is_refused_in_words_and_places_nothing(fields: dict[str, object], words: str) -> None:
    async def scene(room: Room) -> None:
        answer = await room.order(**fields)
        assert words in answer["error"] and answer["action"] == "order_submit_error"
        assert await room.live() == []

    in_room(scene)


def test_a_clients_own_id_is_taken_once() -> None:
    async def scene(room: Room) -> None:
        await room.order(cOID="once", price=599.00)
        again = await room.order(cOID="once", price=599.00)
        assert again["error"] == "Order couldn't be submitted: Local order ID=once is already registered."
        assert len(await room.live()) == 1

    in_room(scene)


def test_each_question_of_a_chain_is_answered_before_anything_is_placed() -> None:
    async def scene(room: Room) -> None:
        answer = await room.order(cOID="asked", price=1.00)
        for expected in ("o163", "o354", "o10153"):
            (question,) = answer
            assert question["messageIds"] == [expected] and await room.live() == []
            answer = await room.post(f"iserver/reply/{question['id']}", {"confirmed": True})
        assert answer[0]["order_status"] == "Submitted"
        assert len(await room.live()) == 1

    in_room(scene, questions=("o163", "o354", "o10153"))


def test_another_order_request_drops_the_open_question() -> None:
    async def scene(room: Room) -> None:
        (first,) = await room.order(cOID="first", price=1.00)
        (second,) = await room.order(cOID="second", price=1.00)
        status, late = await room.call("POST", f"iserver/reply/{first['id']}", {"confirmed": True})
        assert status == 503 and "not found" in late["error"]
        await room.call("DELETE", f"iserver/account/{ACCOUNT}/order/1")
        assert (await room.call("POST", f"iserver/reply/{second['id']}", {"confirmed": True}))[0] == 503
        assert await room.live() == [] and (await room.state())["questions_dropped"] == 2
        (again,) = await room.order(cOID="first", price=1.00)  # nothing was placed, so the id is still free
        declined = await room.post(f"iserver/reply/{again['id']}", {"confirmed": False})
        assert "declined" in declined["error"] and await room.live() == []

    in_room(scene)


def test_suppressed_questions_are_asked_no_more_until_they_are_reset() -> None:
    async def scene(room: Room) -> None:
        assert await room.post("iserver/questions/suppress", {"messageIds": ["o163"]}) == {"status": "submitted"}
        assert (await room.order(price=1.00))[0]["order_status"] == "Submitted"
        assert await room.post("iserver/questions/suppress/reset") == {"status": "submitted"}
        assert (await room.order(price=1.00))[0]["messageIds"] == ["o163"]
        many = {"messageIds": [f"o{n}" for n in range(52)]}
        assert (await room.call("POST", "iserver/questions/suppress", many))[0] == 400

    in_room(scene)


def test_an_order_without_a_price_to_be_seen_is_asked_about() -> None:
    async def scene(room: Room) -> None:
        assert (await room.order(orderType="MKT", price=None))[0]["messageIds"] == ["o354"]

    in_room(scene, at=-30)


def test_a_modification_repeats_the_whole_order_and_keeps_the_id() -> None:
    async def scene(room: Room) -> None:
        (answer,) = await room.order(cOID="change", price=599.00, quantity=10)
        path = f"iserver/account/{ACCOUNT}/order/{answer['order_id']}"
        status, refusal = await room.call("POST", path, {"conid": SPY, "price": 598.00})
        assert status == 400 and "repeats the whole order" in refusal["error"]
        status, refusal = await room.call("POST", path, ticket(side="SELL", price=599.00))
        assert status == 200 and "can not be modified" in refusal["error"]
        (changed,) = await room.post(path, ticket(price=598.50, quantity=7))
        assert (changed["order_id"], changed["order_status"]) == (answer["order_id"], "Submitted")
        (row,) = await room.live()
        assert (row["price"], row["totalSize"], row["order_ref"]) == ("598.50", 7.0, "change")
        assert (await room.call("POST", f"iserver/account/{ACCOUNT}/order/5", ticket()))[0] == 400

    in_room(scene)


def test_a_cancel_is_an_intent_and_an_unknown_order_is_an_error() -> None:
    async def scene(room: Room) -> None:
        (answer,) = await room.order(price=599.00)
        path = f"iserver/account/{ACCOUNT}/order/{answer['order_id']}"
        room.fault("order.cancel", "drop")
        status, taken = await room.call("DELETE", path)
        assert status == 200
        assert taken == {"msg": "Request was submitted", "order_id": int(answer["order_id"]), "conid": -1, "account": None}
        assert [row["status"] for row in await room.live()] == ["PendingCancel"]
        room.step(30)  # and it fills after all
        assert [row["status"] for row in await room.live()] == ["Filled"]
        status, error = await room.call("DELETE", path)
        assert status == 400 and "state: Filled" in error["error"]
        status, error = await room.call("DELETE", f"iserver/account/{ACCOUNT}/order/999")
        assert (status, error["error"]) == (400, "OrderID 999 doesn't exist")

    in_room(scene)


def test_everything_is_cancelled_at_once() -> None:
    async def scene(room: Room) -> None:
        for price in (598.00, 599.00):
            await room.order(price=price)
        assert (await room.call("DELETE", f"iserver/account/{ACCOUNT}/order/-1"))[0] == 200
        assert {row["status"] for row in await room.live()} == {"Cancelled"}

    in_room(scene)


def test_errors_may_come_as_successes() -> None:
    async def scene(room: Room) -> None:
        status, body = await room.call("DELETE", f"iserver/account/{ACCOUNT}/order/999")
        assert (status, body) == (200, {"error": "OrderID 999 doesn't exist"})

    in_room(scene, soft_errors=True)


def test_a_bracket_waits_for_its_entry_and_its_exits_cancel_each_other() -> None:
    async def scene(room: Room) -> None:
        orders = [
            ticket(cOID="entry", price=600.50, quantity=10),
            ticket(parentId="entry", side="SELL", price=604.00, quantity=10),
            ticket(parentId="entry", side="SELL", orderType="STP", price=None, auxPrice=590.00, quantity=10),
        ]
        answers = await room.post(ORDERS, {"orders": orders})
        assert answers[0]["order_status"] == "Filled"
        rows = {row["orderId"]: row for row in await room.live()}
        entry, target, stop = (rows[int(answer["order_id"])] for answer in answers)
        assert target["parentId"] == stop["parentId"] == entry["orderId"]
        assert (stop["price"], stop["orderType"], stop["status"]) == ("590.00", "Stop", "PreSubmitted")
        room.step(40)
        rows = {row["orderId"]: row for row in await room.live()}
        assert [rows[int(a["order_id"])]["status"] for a in answers] == ["Filled", "Filled", "Cancelled"]
        assert room.account.position("SPY") == 0

    in_room(scene)


def test_unrelated_orders_do_not_travel_together() -> None:
    async def scene(room: Room) -> None:
        answer = await room.post(ORDERS, {"orders": [ticket(price=599.00), ticket(price=598.00)]})
        assert "bracket or a group" in answer["error"]

    in_room(scene)


def test_of_a_group_one_fill_cancels_the_others() -> None:
    async def scene(room: Room) -> None:
        orders = [ticket(price=598.50, isSingleGroup=True), ticket(price=590.00, isSingleGroup=True)]
        answers = await room.post(ORDERS, {"orders": orders})
        room.step(30)
        rows = {row["orderId"]: row["status"] for row in await room.live()}
        assert [rows[int(answer["order_id"])] for answer in answers] == ["Filled", "Cancelled"]

    in_room(scene)


def test_a_combo_is_ordered_under_the_spreads_conid_and_reported_leg_by_leg() -> None:
    async def scene(room: Room) -> None:
        legs = f"28812380;;;{derived_conid(CALL)}/1,{derived_conid(HIGHER)}/-1"
        (answer,) = await room.order(conid=None, conidex=legs, price=4.50, quantity=2)
        assert answer["order_status"] == "Filled"
        (row,) = await room.live()
        assert (row["conidex"], row["conid"], row["secType"], row["avgPrice"]) == (legs, 28812380, "BAG", "4.10")
        trades = await room.get("iserver/account/trades")
        told = {trade["conid"]: (trade["side"], trade["size"], trade["price"], trade["order_id"]) for trade in trades}
        order_id = int(answer["order_id"])
        assert told == {
            derived_conid(CALL): ("B", 2.0, "10.10", order_id),
            derived_conid(HIGHER): ("S", 2.0, "6.00", order_id),
        }

    in_room(scene)


def test_what_if_says_what_an_order_would_cost_and_places_nothing() -> None:
    async def scene(room: Room) -> None:
        answer = await room.post(f"{ORDERS}/whatif", {"orders": [ticket(orderType="MKT", price=None, quantity=100)]})
        assert answer["amount"]["commission"] == "1.00 USD" and answer["error"] is None
        assert answer["equity"]["current"] == "100,000"
        status, refusal = await room.call("POST", f"{ORDERS}/whatif", {"orders": [ticket(quantity=0)]})
        assert status == 500 and "Order size 0" in refusal["error"]
        assert await room.live() == []

    in_room(scene)


def test_an_order_before_the_open_is_held_and_goes_out_then() -> None:
    async def scene(room: Room) -> None:
        (question,) = await room.order(price=600.50, cOID="early")
        (answer,) = await room.post(f"iserver/reply/{question['id']}", {"confirmed": True})
        assert answer["order_status"] == "PreSubmitted"
        room.step(0)
        assert [row["status"] for row in await room.live()] == ["Filled"]

    in_room(scene, at=-30)


def test_day_orders_end_with_the_session() -> None:
    async def scene(room: Room) -> None:
        await room.order(price=590.00)
        room.step((CLOSE - OPEN) / SECOND)
        assert [row["status"] for row in await room.live()] == ["Cancelled"]

    in_room(scene)


def test_a_lost_answer_leaves_an_order_that_its_own_id_finds() -> None:
    async def scene(room: Room) -> None:
        room.fault("orders.post", "lost_response")
        with pytest.raises(aiohttp.ClientError):
            await room.order(cOID="lost", price=599.00)
        assert [row["order_ref"] for row in await room.live()] == ["lost"]
        assert "already registered" in (await room.order(cOID="lost", price=599.00))["error"]

    in_room(scene)


@pytest.mark.parametrize(("kind", "status", "placed"), [("503", 503, 0), ("429", 429, 0), ("401", 401, 0), ("504", 504, 1)])
def test_answers_that_go_wrong(kind: str, status: int, placed: int) -> None:
    async def scene(room: Room) -> None:
        room.fault("orders.post", kind)
        got, body = await room.call("POST", ORDERS, {"orders": [ticket(price=599.00)]})
        assert got == status and body["error"]
        assert len(await room.live()) == placed

    in_room(scene)


def test_a_question_for_nothing_is_asked_when_told_to() -> None:
    async def scene(room: Room) -> None:
        room.fault("orders.post", "question")
        room.fault("orders.post", "question", after=1, text="o451,o383")
        (question,) = await room.order(price=599.00)
        assert question["messageIds"] == ["o10331"]
        (first,) = await room.order(price=599.00)
        (second,) = await room.post(f"iserver/reply/{first['id']}", {"confirmed": True})
        assert (first["messageIds"], second["messageIds"]) == (["o451"], ["o383"])
        room.fault("reply", "drop")
        with pytest.raises(aiohttp.ClientError):
            await room.post(f"iserver/reply/{second['id']}", {"confirmed": True})
        assert await room.live() == []

    in_room(scene)


def test_an_order_that_the_exchange_rejects_becomes_inactive() -> None:
    async def scene(room: Room) -> None:
        room.fault("account.submit", "reject", text="no shares to borrow")
        (answer,) = await room.order(price=599.00)
        assert answer["order_status"] == "Inactive"
        (row,) = await room.live()
        assert (row["status"], row["text"]) == ("Inactive", "no shares to borrow")

    in_room(scene)


def test_a_modification_that_comes_too_late_changes_nothing() -> None:
    async def scene(room: Room) -> None:
        (answer,) = await room.order(price=599.00, quantity=10)
        path = f"iserver/account/{ACCOUNT}/order/{answer['order_id']}"
        room.fault("order.modify", "delay", delay_s=0.05)
        (changed,) = await room.post(path, ticket(price=597.00, quantity=10))
        assert changed["order_id"] == answer["order_id"]
        room.step(30)  # it fills at its old price first
        later = asyncio.Event()  # timers of one loop go off in the order in which they are due
        asyncio.get_running_loop().call_later(0.06, later.set)
        await later.wait()
        (row,) = await room.live()
        assert (row["status"], row["price"]) == ("Filled", "599.00")
        status, error = await room.call("POST", path, ticket(price=597.00, quantity=10))
        assert status == 400 and "state: Filled" in error["error"]

    in_room(scene)


def test_a_quantity_below_what_has_filled_is_refused_and_the_order_works_on() -> None:
    async def scene(room: Room) -> None:
        (answer,) = await room.order(price=600.12, quantity=100, side="BUY")
        assert answer["order_status"] == "Submitted"
        path = f"iserver/account/{ACCOUNT}/order/{answer['order_id']}"
        refusal = await room.post(path, ticket(price=600.12, quantity=30))
        assert "has filled already" in refusal["error"]
        (row,) = await room.live()
        assert (row["sizeAndFills"], row["status"]) == ("40/100", "Submitted")
        await room.post(path, ticket(price=600.12, quantity=50))
        room.step(20)
        (row,) = await room.live()
        assert (row["sizeAndFills"], row["status"], row["avgPrice"]) == ("50/50", "Filled", "600.12")

    in_room(scene, at=10)


def test_part_of_an_order_may_fill_first() -> None:
    async def scene(room: Room) -> None:
        room.fault("account.submit", "partial", part=0.3)
        await room.order(orderType="MKT", price=None, quantity=10)
        (row,) = await room.live()
        assert row["sizeAndFills"] == "3/10"
        room.step(10)
        (row,) = await room.live()
        assert (row["sizeAndFills"], row["status"], row["avgPrice"]) == ("10/10", "Filled", "600.09")

    in_room(scene)
