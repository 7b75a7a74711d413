"""Lists, filters, paging, hours, assets and options of the Alpaca twin."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.twins.alpaca.order import at_new_york, parse_time, zulu
from tests.twins.alpaca_room import C100, C105, CLOSE, DAY, HOUR, OPEN, P95, SECOND, ask, room


def test_orders_are_listed_by_status_time_symbol_and_side_page_by_page() -> None:
    async def act() -> None:
        async with room() as twin:
            filled = await twin.placed(qty="1")
            resting = [await twin.placed(symbol="QQQ", type="limit", limit_price=str(40 + n)) for n in range(5)]

            async def ids(**query: str) -> list[str]:
                return [order["id"] for order in (await twin.send("GET", "/v2/orders", **query))[1]]

            newest_first = [order["id"] for order in reversed(resting)]
            assert await ids() == newest_first
            assert await ids(status="closed") == [filled["id"]]
            assert await ids(status="all", direction="asc", limit="2") == [filled["id"], resting[0]["id"]]
            assert await ids(symbols="SPY,IWM") == []
            assert await ids(status="all", symbols="SPY") == [filled["id"]]
            assert await ids(side="sell") == []
            assert await ids(asset_class="us_option") == []
            assert await ids(after=resting[2]["submitted_at"]) == newest_first[:2]
            assert await ids(until=resting[1]["submitted_at"], status="all") == [resting[0]["id"], filled["id"]]
            assert await ids(after_order_id=resting[3]["id"]) == newest_first[:1]
            assert (await twin.send("GET", "/v2/orders", status="some"))[0] == 422
            assert (await twin.send("GET", "/v2/orders", after="yesterday"))[0] == 422
            listed = await twin.ask(twin.sdk.get_orders, ask.GetOrdersRequest(status="open", symbols=["QQQ"], limit=3))
            assert [str(order.id) for order in listed] == newest_first[:3]

    asyncio.run(act())


def test_activities_page_by_the_last_id_one_has_in_both_directions() -> None:
    async def act() -> None:
        async with room() as twin:
            orders = [await twin.placed(symbol="QQQ", qty=str(n)) for n in range(1, 8)]

            async def paged(direction: str) -> list[Any]:
                rows: list[Any] = []
                while True:
                    query = {"direction": direction, "page_size": "3"}
                    if rows:
                        query["page_token"] = rows[-1]["id"]
                    _, page = await twin.send("GET", "/v2/account/activities/FILL", **query)
                    rows += page
                    if len(page) < 3:
                        return rows

            rising, falling = await paged("asc"), await paged("desc")
            assert rising == falling[::-1]
            assert {row["order_id"] for row in rising} == {order["id"] for order in orders}
            _, own = await twin.send("GET", "/v2/account/activities/FILL", order_id=orders[3]["id"])
            assert [row["qty"] for row in own] == ["4"]
            assert (await twin.send("GET", "/v2/account/activities/FILL", date="2024-01-02"))[1] == falling
            assert (await twin.send("GET", "/v2/account/activities/FILL", after="2024-01-03"))[1] == []
            assert (await twin.send("GET", "/v2/account/activities", activity_types="DIV"))[1] == []

    asyncio.run(act())


def test_an_option_that_ends_worthless_is_an_activity_and_no_position() -> None:
    async def act() -> None:
        from northstar_core.model.execution import ActivityKind

        async with room() as twin:
            await twin.placed(symbol=P95, qty="1")
            act = twin.account.broker.books.act
            expired = act(twin.market.now(), ActivityKind.EXPIRATION, "", P95, qty=Decimal(-1), text="SPY at 100")
            twin.account._tell([expired])
            _, rows = await twin.send("GET", "/v2/account/activities", activity_types="OPEXP")
            assert [(row["symbol"], row["qty"], row["net_amount"], row["date"]) for row in rows] == [
                (P95, "-1", "0", "2024-01-02")
            ]
            assert (await twin.send("GET", f"/v2/positions/{P95}"))[1]["code"] == 40410000

    asyncio.run(act())


@pytest.mark.parametrize(
    ("now", "is_open", "opens", "closes"),
    [
        (OPEN - HOUR, False, "2024-01-02T09:30", "2024-01-02T16:00"),
        (OPEN, True, "2024-01-03T09:30", "2024-01-02T16:00"),
        (CLOSE, False, "2024-01-03T09:30", "2024-01-03T16:00"),
        (CLOSE + DAY + HOUR, False, "2024-01-04T09:30", "2024-01-04T16:00"),
    ],
)
def test_the_clock_knows_the_next_open_and_close(now: int, is_open: bool, opens: str, closes: str) -> None:
    async def act() -> None:
        async with room(start=now) as twin:
            clock = await twin.ask(twin.sdk.get_clock)
            assert clock.is_open is is_open
            found = (clock.next_open.isoformat(), clock.next_close.isoformat())
            assert found == (f"{opens}:00-05:00", f"{closes}:00-05:00")
            assert clock.timestamp.timestamp() == pytest.approx(now / SECOND)

    asyncio.run(act())


def test_the_calendar_and_assets_are_those_of_the_data() -> None:
    async def act() -> None:
        async with room() as twin:
            days = await twin.ask(twin.sdk.get_calendar, ask.GetCalendarRequest(start=date(2024, 1, 1)))
            assert [(day.date.isoformat(), f"{day.open:%H:%M}", f"{day.close:%H:%M}") for day in days] == [
                ("2024-01-02", "09:30", "16:00"),
                ("2024-01-03", "09:30", "16:00"),
            ]
            assets = await twin.ask(twin.sdk.get_all_assets)
            assert [asset.symbol for asset in assets] == ["QQQ", "SPY"]
            same = await twin.ask(twin.sdk.get_asset, "SPY")
            assert (await twin.ask(twin.sdk.get_asset, same.id)).symbol == "SPY"
            assert (await twin.send("GET", "/v2/assets/NOPE"))[0] == 404

    asyncio.run(act())


def test_option_contracts_are_found_by_type_strike_and_date_page_by_page() -> None:
    async def act() -> None:
        async with room() as twin:

            async def symbols(**query: Any) -> list[str]:
                request = ask.GetOptionContractsRequest(underlying_symbols=["SPY"], **query)
                answer = await twin.ask(twin.sdk.get_option_contracts, request)
                return [contract.symbol for contract in answer.option_contracts]

            assert await symbols() == [C100, C105, P95]
            assert await symbols(type="put") == [P95]
            assert await symbols(strike_price_gte="101") == [C105]
            assert await symbols(strike_price_lte="99.5") == [P95]
            assert await symbols(expiration_date_gte="2024-01-06") == []
            assert await symbols(expiration_date="2024-01-05", limit=1) == [C100]
            _, page = await twin.send("GET", "/v2/options/contracts", limit="2")
            _, rest = await twin.send("GET", "/v2/options/contracts", limit="2", page_token=page["next_page_token"])
            assert [row["symbol"] for row in rest["option_contracts"]] == [P95]
            assert rest["next_page_token"] is None
            one = await twin.ask(twin.sdk.get_option_contract, C100)
            assert (one.strike_price, one.size, one.style.value) == (100.0, "100", "american")

    asyncio.run(act())


def test_the_account_adds_up() -> None:
    async def act() -> None:
        async with room() as twin:
            await twin.placed(qty="100")
            await twin.placed(symbol="QQQ", side="sell", qty="100")
            twin.play(20)
            _, account = await twin.send("GET", "/v2/account")
            cash, long, short = (Decimal(account[n]) for n in ("cash", "long_market_value", "short_market_value"))
            assert (cash, long, short) == (100_000 - 10_001 + 4_999, 10_100, -5_000)
            assert Decimal(account["equity"]) == cash + long + short
            assert Decimal(account["initial_margin"]) == (long - short) / 2
            assert Decimal(account["buying_power"]) == 2 * (cash + long + short) - (long - short)
            rows = {row["symbol"]: row for row in (await twin.send("GET", "/v2/positions"))[1]}
            assert (rows["QQQ"]["side"], rows["QQQ"]["qty"], rows["QQQ"]["unrealized_pl"]) == ("short", "-100", "-1")
            assert rows["SPY"]["unrealized_pl"] == "99"
            twin.market.step(CLOSE)
            _, account = await twin.send("GET", "/v2/account")
            assert account["last_equity"] == account["equity"]

    asyncio.run(act())


def test_an_unknown_path_is_not_found() -> None:
    async def act() -> None:
        async with room() as twin:
            status, body = await twin.send("GET", "/v2/nothing")
            assert (status, body["code"]) == (404, 40410000)

    asyncio.run(act())


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        ("2024-01-02T14:30:00Z", OPEN),
        ("2024-01-02T09:30:00-05:00", OPEN),
        ("2024-01-02T09:30:00.123456789-05:00", OPEN + 123_456_789),
        ("2024-01-02T14:30:00.5 00:00", OPEN + SECOND // 2),
        ("2024-01-02", OPEN - 9 * HOUR - HOUR // 2),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, ts: int) -> None:
    assert parse_time(text) == ts
    assert parse_time(zulu(ts) or "") == ts
    assert parse_time(at_new_york(ts)) == ts
