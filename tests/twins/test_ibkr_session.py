"""Sessions of the Interactive Brokers twin: logged in, lost, taken over, rolled over; and how fast one may ask."""

from __future__ import annotations

import pytest

from northstar_core.model.errors import SettingsError
from northstar_core.twins.faults import Faults
from northstar_core.twins.ibkr import server as ibkr
from northstar_core.twins.ibkr.session import Pace, session_of_cookie
from tests.twins.ibkr_room import ACCOUNT, Room, in_room, ticket


def test_a_tickle_tells_the_session_and_its_state() -> None:
    async def scene(room: Room) -> None:
        tickle = await room.post("tickle")
        assert len(tickle["session"]) == 32 and tickle["collission"] is False
        assert tickle["iserver"]["authStatus"]["authenticated"] is True
        status = await room.get("iserver/auth/status")
        assert (status["connected"], status["competing"], status["fail"]) == (True, False, "")
        assert await room.post("iserver/auth/status") == status

    in_room(scene)


def test_a_lost_session_says_so_and_comes_back_with_another_id() -> None:
    async def scene(room: Room) -> None:
        before = (await room.post("tickle"))["session"]
        async with room.stream("sor+{}") as stream:
            await room.steer("lose")
            assert (await stream.next("sts"))["args"]["authenticated"] is False
            status, body = await room.call("POST", f"iserver/account/{ACCOUNT}/orders", {"orders": [ticket()]})
            assert (status, body["error"]) == (400, "Bad Request: no bridge")
            back = await room.post("iserver/auth/ssodh/init", {"publish": True, "compete": True})
            assert back["authenticated"] is True and (await room.post("tickle"))["session"] != before
            status, body = await room.call("POST", f"iserver/account/{ACCOUNT}/orders", {"orders": [ticket()]})
            assert (status, body["error"]) == (400, "Please query /accounts first")

    in_room(scene)


def test_after_a_rollover_the_old_connection_beats_and_hears_nothing() -> None:
    async def scene(room: Room) -> None:
        async with room.stream("sor+{}", "str+{}") as old:
            await old.next("str")
            await room.steer("rollover")
            await room.get("iserver/accounts")
            async with room.stream("sor+{}") as new:
                await room.order(price=599.00)
                assert len(await new.rows("sor", 5)) == 5
                await old.quiet()
                assert (await old.next("hb"))["topic"] == "system"
                await old.socket.send("tic")
                assert (await old.next("tic"))["id"] != (await room.post("tickle"))["session"]

    in_room(scene, heartbeat_s=0.2)


def test_a_session_that_was_taken_over_comes_back_only_by_competing() -> None:
    async def scene(room: Room) -> None:
        await room.steer("compete")
        status = await room.get("iserver/auth/status")
        assert (status["authenticated"], status["competing"]) == (False, True)
        assert (await room.post("iserver/auth/ssodh/init", {"publish": True}))["authenticated"] is False
        assert (await room.post("iserver/auth/ssodh/init", {"publish": True, "compete": True}))["authenticated"] is True

    in_room(scene)


def test_after_logout_there_is_no_gateway_until_the_next_login() -> None:
    async def scene(room: Room) -> None:
        assert await room.post("logout") == {"status": True}
        assert (await room.call("POST", "tickle"))[0] == 401
        assert (await room.call("GET", "iserver/accounts"))[0] == 401
        await room.post("iserver/auth/ssodh/init", {"publish": True, "compete": True})
        assert (await room.post("tickle"))["iserver"]["authStatus"]["authenticated"] is True

    in_room(scene)


def test_a_session_that_is_not_kept_alive_is_lost() -> None:
    async def scene(room: Room) -> None:
        room.step(300)
        assert (await room.post("tickle"))["iserver"]["authStatus"]["authenticated"] is True
        room.step(700)
        assert (await room.post("tickle"))["iserver"]["authStatus"]["authenticated"] is False

    in_room(scene, idle_s=360)


def test_a_session_may_expire_in_the_middle_of_a_request() -> None:
    async def scene(room: Room) -> None:
        room.fault("orders.post", "expire")
        status, body = await room.call("POST", f"iserver/account/{ACCOUNT}/orders", {"orders": [ticket()]})
        assert (status, body["error"]) == (400, "Bad Request: no bridge")
        assert (await room.state())["session"]["authenticated"] is False

    in_room(scene)


def test_whoever_asks_too_fast_is_shut_out_where_limits_are_asked_for() -> None:
    async def scene(room: Room) -> None:
        await room.get("iserver/account/orders")
        assert (await room.call("GET", "iserver/account/orders"))[0] == 429
        assert (await room.call("POST", "tickle"))[0] == 429
        room.step(5 + 601)
        assert (await room.call("GET", "iserver/account/orders"))[0] == 200

    in_room(scene, limits=True)


def test_ten_requests_a_second_are_not_too_fast() -> None:
    pace = Pace(blocked_s=60)
    assert [pace.too_fast("stocks", 1.0) for _ in range(11)] == [False] * 10 + [True]
    assert pace.too_fast("stocks", 60.9)
    assert not pace.too_fast("stocks", 61.1)
    assert not pace.too_fast("trades", 70.0) and not pace.too_fast("trades", 75.0) and pace.too_fast("trades", 79.0)


@pytest.mark.parametrize(
    "header",
    [
        'api={"session":"0123456789abcdef0123456789abcdef"}',
        'x=1; api={"session": "0123456789abcdef0123456789abcdef"}; y=2',
        "api=0123456789abcdef0123456789abcdef",
        r"api={\"session\":\"0123456789abcdef0123456789abcdef\"}",
    ],
)
def test_a_session_is_read_from_every_way_of_writing_the_cookie(header: str) -> None:
    assert session_of_cookie(header) == "0123456789abcdef0123456789abcdef"
    assert session_of_cookie("other=0123456789abcdef0123") == ""


def test_an_account_that_is_not_the_users_is_refused() -> None:
    async def scene(room: Room) -> None:
        status, body = await room.call("GET", "portfolio/U7654321/ledger")
        assert status == 400 and "U7654321" in body["error"]

    in_room(scene)


@pytest.mark.parametrize("options", [{"question": ()}, {"limits": "sometimes"}])
def test_an_option_it_does_not_have_is_refused(options: dict[str, object]) -> None:
    async def scene(room: Room) -> None:
        with pytest.raises(SettingsError, match="ibkr twin"):
            ibkr.app(room.served.market, room.account, Faults(), **options)

    in_room(scene)
