"""Contracts, positions and cash at the Interactive Brokers twin."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

from northstar_core.model.order import PlaceOrder, Side
from northstar_core.twins.ibkr.contracts import Contracts, derived_conid
from northstar_core.twins.ibkr.portfolio import Portfolio
from tests.twins.ibkr_room import ACCOUNT, CALL, HIGHER, PUT, SPY, Room, in_room


def test_conids_follow_from_symbols_alone() -> None:
    assert derived_conid("SPY") == 756733
    symbols = [f"{a}{b}" for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] + [CALL, PUT, HIGHER]
    here = Contracts(lambda: symbols)
    assert len({here.conid(symbol) for symbol in symbols}) == len(symbols)
    assert all(here.symbol(here.conid(symbol)) == symbol for symbol in symbols)
    ask = f"from northstar_core.twins.ibkr.contracts import derived_conid; print(derived_conid({CALL!r}))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derived_conid(CALL)


def test_a_stock_is_found_among_its_listings() -> None:
    async def scene(room: Room) -> None:
        found = await room.get("trsrv/stocks?symbols=SPY,NONE")
        assert found["NONE"] == []
        (stock,) = found["SPY"]
        assert [contract["conid"] for contract in stock["contracts"] if contract["isUS"]] == [SPY]
        assert len(stock["contracts"]) == 2
        (row,) = (await room.get(f"trsrv/secdef?conids={SPY}"))["secdef"]
        assert (row["ticker"], row["assetClass"], row["hasOptions"]) == ("SPY", "STK", True)
        rules = await room.get(f"iserver/contract/{SPY}/info-and-rules")
        assert (rules["con_id"], rules["rules"]["increment"]) == (SPY, 0.01)
        assert (await room.call("GET", "trsrv/secdef?conids=5"))[0] == 500

    in_room(scene)


def test_options_are_found_by_search_strikes_and_info_in_that_order() -> None:
    async def scene(room: Room) -> None:
        strikes = f"iserver/secdef/strikes?conid={SPY}&sectype=OPT&month=JUN26"
        info = f"iserver/secdef/info?conid={SPY}&sectype=OPT&month=JUN26&strike=600&right=C"
        assert await room.get(strikes) == {"call": [], "put": []}
        assert (await room.call("GET", info))[0] == 500
        (found,) = await room.get("iserver/secdef/search?symbol=SPY")
        assert found["conid"] == str(SPY)
        assert next(s["months"] for s in found["sections"] if s["secType"] == "OPT") == "JUN26"
        assert await room.get(strikes) == {"call": [600.0, 610.0], "put": [600.0]}
        (contract,) = await room.get(info)
        assert (contract["conid"], contract["maturityDate"], contract["right"]) == (derived_conid(CALL), "20260619", "C")
        (row,) = (await room.get(f"trsrv/secdef?conids={contract['conid']}"))["secdef"]
        assert (row["putOrCall"], row["strike"], row["undConid"], row["multiplier"]) == ("C", "600", SPY, 100.0)

    in_room(scene)


def test_costs_include_commissions_and_cash_is_exact() -> None:
    async def scene(room: Room) -> None:
        await room.order(orderType="MKT", price=None, quantity=100)
        await room.order(orderType="MKT", price=None, quantity=2, conid=derived_conid(PUT))
        rows = {row["conid"]: row for row in await room.get(f"portfolio/{ACCOUNT}/positions/0")}
        stock, option = rows[SPY], rows[derived_conid(PUT)]
        assert (stock["position"], stock["avgCost"]) == (100.0, 600.03)
        assert (option["avgCost"], option["avgPrice"], option["mktPrice"]) == (910.65, 9.1065, 9.05)
        ledger = await room.get(f"portfolio/{ACCOUNT}/ledger")
        cash = 100_000 - 60_002 - 1 - 1820 - 1.3
        assert ledger["USD"]["cashbalance"] == ledger["BASE"]["settledcash"] == cash
        assert ledger["USD"]["netliquidationvalue"] == cash + 60_001 + 1810
        await room.order(orderType="MKT", price=None, quantity=100, side="SELL")
        ledger = await room.get(f"portfolio/{ACCOUNT}/ledger")
        assert ledger["USD"]["realizedpnl"] == -4.0
        summary = await room.get(f"portfolio/{ACCOUNT}/summary")
        assert summary["accountcode"]["value"] == ACCOUNT
        assert summary["netliquidation"]["amount"] == ledger["USD"]["netliquidationvalue"]

    in_room(scene)


def test_paged_positions_are_old_and_fresh_ones_have_other_names() -> None:
    async def scene(room: Room) -> None:
        assert await room.get(f"portfolio/{ACCOUNT}/positions/0") == []
        await room.order(orderType="MKT", price=None, quantity=5)
        assert await room.get(f"portfolio/{ACCOUNT}/positions/0") == []
        (row,) = await room.get(f"portfolio2/{ACCOUNT}/positions")
        assert (row["conid"], row["position"], row["secType"]) == (str(SPY), 5.0, "STK")
        await room.post(f"portfolio/{ACCOUNT}/positions/invalidate")
        assert len(await room.get(f"portfolio/{ACCOUNT}/positions/0")) == 1
        assert await room.get(f"portfolio/{ACCOUNT}/positions/1") == []
        await room.order(orderType="MKT", price=None, quantity=5)
        room.step(20)
        assert (await room.get(f"portfolio/{ACCOUNT}/positions/0"))[0]["position"] == 10.0

    in_room(scene)


def test_a_hundred_positions_fill_a_page() -> None:
    async def scene(room: Room) -> None:
        contracts = Contracts(lambda: room.served.market.symbols)
        portfolio = Portfolio(room.account, contracts, lambda: room.account.cash)
        for n in range(150):
            room.account._hold(f"S{chr(65 + n // 26)}{chr(65 + n % 26)}", Decimal(1), Decimal(10))
        pages = [portfolio.page(number) for number in range(3)]
        assert [len(page) for page in pages] == [100, 50, 0]
        assert len({row["conid"] for page in pages for row in page}) == 150

    in_room(scene)


def test_a_short_position_turned_around_costs_what_the_new_one_cost() -> None:
    async def scene(room: Room) -> None:
        await room.order(orderType="MKT", price=None, quantity=10, side="SELL")
        await room.order(orderType="MKT", price=None, quantity=30)
        (row,) = await room.get(f"portfolio2/{ACCOUNT}/positions")
        # Sold 10 at 600.00, bought 30 at 600.02, a dollar each: a third of the second dollar closes.
        assert (row["position"], round(row["avgCost"], 6)) == (20.0, round(600.02 + 2 / 3 / 20, 6))
        assert round(row["realizedPnl"], 6) == round(-0.2 - 1 - 1 / 3, 6)

    in_room(scene)


def test_quotes_over_rest_need_a_first_call_that_answers_nothing() -> None:
    async def scene(room: Room) -> None:
        path = f"iserver/marketdata/snapshot?conids={SPY}&fields=31,84,86"
        (first,) = await room.get(path)
        assert "84" not in first and first["conid"] == SPY
        (second,) = await room.get(path)
        assert (second["84"], second["86"]) == ("600.00", "600.02")

    in_room(scene)


def test_the_twin_tells_its_state() -> None:
    async def scene(room: Room) -> None:
        await room.order(orderType="MKT", price=None, quantity=5)
        now = room.served.market.now()
        room.account.submit(PlaceOrder(now, "phone", "", ACCOUNT, "SPY", Side.SELL, Decimal(2)))
        state = await room.state()
        assert state["positions"] == {"SPY": "3"} and len(state["executions"]) == 2
        assert state["requests"]["orders.post"] == 1 and state["connections"] == 0
        assert Decimal(state["cash"]) == Decimal(100_000) - Decimal("3000.10") - 1 + Decimal("1200.00") - 1

    in_room(scene)
