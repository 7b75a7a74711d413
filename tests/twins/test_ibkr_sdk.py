"""ibind, the client library in common use, unchanged, against the Interactive Brokers twin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ibind
import pytest
from ibind import IbkrClient, IbkrWsClient, OrderRequest, QuestionType, QueueSink, events, subscriptions
from ibind.support import logs

from northstar_core.twins.ibkr.contracts import derived_conid
from tests.twins.ibkr_room import ACCOUNT, CALL, SPY, Room, in_room

YES = {QuestionType.PRICE_PERCENTAGE_CONSTRAINT: True, QuestionType.MISSING_MARKET_DATA: True, QuestionType.MANDATORY_CAP_PRICE: True}


@pytest.fixture(autouse=True)
def _no_log_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_log_to_file", False)


@contextmanager
def sdk(room: Room, **options: Any) -> Iterator[IbkrClient]:
    client = IbkrClient(account_id=ACCOUNT, url=room.base, timeout=5, auto_register_shutdown=False, **options)
    try:
        yield client
    finally:
        client.close()


def with_sdk(use: Callable[[IbkrClient, Room], None], **options: Any) -> None:
    """Let the blocking client do something in a thread of its own."""

    async def scene(room: Room) -> None:
        def work() -> None:
            with sdk(room) as client:
                use(client, room)

        await asyncio.to_thread(work)

    in_room(scene, **options)


def order(**fields: Any) -> OrderRequest:
    given = {"conid": SPY, "side": "BUY", "quantity": 1, "order_type": "LMT", "price": 599.0, "acct_id": ACCOUNT, "tif": "DAY"}
    return OrderRequest(**{**given, **fields})


def test_it_checks_the_session_and_finds_contracts() -> None:
    def use(client: IbkrClient, room: Room) -> None:
        assert client.check_health() is True
        assert client.initialize_brokerage_session().data["authenticated"] is True
        assert client.receive_brokerage_accounts().data["selectedAccount"] == ACCOUNT
        assert client.portfolio_accounts().data[0]["accountId"] == ACCOUNT
        assert client.stock_conid_by_symbol("SPY").data == {"SPY": SPY}
        assert client.search_contract_by_symbol("SPY").data[0]["conid"] == str(SPY)
        assert client.search_strikes_by_conid(str(SPY), "OPT", "JUN26").data["put"] == [600.0]
        info = client.search_secdef_info_by_conid(str(SPY), "OPT", "JUN26", strike="600", right="C").data
        assert info[0]["conid"] == derived_conid(CALL)
        assert client.security_definition_by_conid([str(SPY)]).data["secdef"][0]["ticker"] == "SPY"
        assert client.info_and_rules_by_conid(str(SPY), True).data["rules"]["increment"] == 0.01
        assert client.logout().data == {"status": True}
        assert client.check_health() is False

    with_sdk(use)


def test_it_places_through_a_chain_of_questions_changes_and_cancels() -> None:
    def use(client: IbkrClient, room: Room) -> None:
        placed = client.place_order(order(coid="sdk-1"), YES).data
        assert placed["order_status"] == "Submitted"
        assert client.live_orders().data == {"orders": [], "snapshot": False}
        assert client.live_orders().data["orders"][0]["order_ref"] == "sdk-1"
        with pytest.raises(ibind.ExternalBrokerError, match="already registered"):
            client.place_order(order(coid="sdk-1"), YES)
        changed = client.modify_order(placed["order_id"], order(price=598.0, quantity=2), YES).data
        assert changed["order_id"] == placed["order_id"]
        assert client.order_status(placed["order_id"]).data["total_size"] == "2.0"
        assert client.cancel_order(placed["order_id"]).data["msg"] == "Request was submitted"
        assert client.order_status(placed["order_id"]).data["order_status"] == "Cancelled"
        assert client.live_orders(filters=["cancelled"]).data["orders"][0]["orderId"] == int(placed["order_id"])
        with pytest.raises(ibind.ExternalBrokerError, match="doesn't exist"):
            client.cancel_order("999")

    with_sdk(use, questions=("o163", "o354", "o10153"))


def test_it_sees_fills_positions_and_cash() -> None:
    def use(client: IbkrClient, room: Room) -> None:
        client.place_order(order(order_type="MKT", price=None, quantity=10), YES)
        (trade,) = client.trades(days="3").data
        assert (trade["size"], trade["price"], trade["commission"]) == (10.0, "600.02", "1.0")
        assert client.positions().data[0]["position"] == client.positions2().data[0]["position"] == 10.0
        assert client.get_ledger().data["USD"]["cashbalance"] == 100_000 - 6000.20 - 1
        assert client.portfolio_summary().data["totalcashvalue"]["amount"] == 100_000 - 6000.20 - 1
        assert client.whatif_order(order()).data["error"] is None
        assert client.account_profit_and_loss().data["upnl"][f"{ACCOUNT}.Core"]["rowType"] == 1
        assert client.suppress_messages(["o163"]).data == client.reset_suppressed_messages().data == {"status": "submitted"}

    with_sdk(use)


def test_its_repeated_post_after_a_lost_answer_places_nothing_twice() -> None:
    def use(client: IbkrClient, room: Room) -> None:
        room.fault("orders.post", "late", delay_s=1.0)
        client._timeout = 0.5
        with pytest.raises(ibind.ExternalBrokerError, match="already registered"):
            client.place_order(order(coid="again"), YES)
        client.live_orders()
        assert [row["order_ref"] for row in client.live_orders().data["orders"]] == ["again"]

    with_sdk(use)


def until(sink: QueueSink, kind: type[Any], found: Callable[[Any], bool]) -> Any:
    """Return the first event of a kind that is the one looked for."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        event = sink.get(kind, block=True, timeout=1)
        if event is not None and found(event):
            return event
    raise AssertionError(f"no such {kind.__name__} came")


def test_its_stream_subscribes_hears_and_lets_go() -> None:
    def use(client: IbkrClient, room: Room) -> None:
        sink = QueueSink()
        url = room.served.url("ibkr", "ws") + "/v1/api/ws"
        stream = IbkrWsClient(account_id=ACCOUNT, url=url, ibkr_client=client, sink=sink, cycle_interval=0.05)
        try:
            assert stream.start()
            fields = ["31", "84", "86"]
            wanted = [
                subscriptions.OrdersSubscription(),
                subscriptions.TradesSubscription(days=1),
                subscriptions.PnlSubscription(),
                subscriptions.AccountSummarySubscription(account_id=ACCOUNT),
                subscriptions.AccountLedgerSubscription(account_id=ACCOUNT),
                subscriptions.MarketDataSubscription(conid=str(SPY), fields=fields),
            ]
            assert stream.wait_all([stream.subscribe(one) for one in wanted], timeout_each=10) == []
            quote = until(sink, events.MarketData, lambda e: "bid_price" in e.data)
            assert (quote.data["bid_price"], quote.data["ask_price"]) == ("600.00", "600.02")
            client.place_order(order(order_type="MKT", price=None, quantity=10, coid="seen"), YES)
            filled = until(sink, events.Orders, lambda e: e.data["args"][0].get("status") == "Filled")
            assert filled.data["args"][0]["sizeAndFills"] == "10/10"
            settled = until(sink, events.Trades, lambda e: e.data["args"] and "commission" in e.data["args"][0])
            assert settled.data["args"][0]["order_ref"] == "seen"
            assert until(sink, events.AccountSummary, lambda e: True).account_id == ACCOUNT
            assert until(sink, events.AccountLedger, lambda e: True).account_id == ACCOUNT
            assert until(sink, events.Pnl, lambda e: f"{ACCOUNT}.Core" in e.data["args"])
            assert stream.tic()["alive"] is True
            assert stream.wait_all([stream.unsubscribe(one) for one in wanted], timeout_each=10) == []
        finally:
            stream.shutdown()

    with_sdk(use, heartbeat_s=1)
