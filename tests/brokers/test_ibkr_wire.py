"""Interactive Brokers' wire: what answers mean, how orders look, how contracts are found, which settings are taken."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.brokers.base import BrokerError, Code, Wiring
from northstar_core.brokers.ibkr.broker import IbkrBroker
from northstar_core.brokers.ibkr.contracts import Contracts, asking, described
from northstar_core.brokers.ibkr.orders import (
    Accepted,
    Question,
    Refused,
    Terms,
    Unclear,
    answer,
    body,
    cancel_answer,
    may_confirm,
    terms_of,
    unsupported,
)
from northstar_core.brokers.ibkr.session import Auth, Step, auth, may_compete, step, tickled
from northstar_core.brokers.ibkr.settings import options
from northstar_core.brokers.ibkr.wire import Unreadable, decode, encode, frame, moment, number, text
from northstar_core.model.errors import DataError, SettingsError
from northstar_core.model.order import OrderType, PlaceOrder, Side, TimeInForce
from northstar_core.model.order_ids import client_order_id
from tests.brokers.ibkr_desk import QuickClock

# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (200, [{"order_id": "987654321", "order_status": "Submitted", "encrypt_message": "1"}], Accepted),
        (200, {"order_id": "987654321", "order_status": "Inactive"}, Accepted),
        (200, [{"id": "x", "message": ["Sure?"], "isSuppressed": False, "messageIds": ["o163"]}], Question),
        (200, {"error": "Insufficient funds", "action": "order_submit_error"}, Refused),
        (200, [{"error": "Insufficient funds"}], Refused),
        (400, {"error": "Bad Request: no bridge", "statusCode": 400}, Refused),
        (401, {"error": "not authenticated"}, Refused),
        (429, {"error": "Too Many Requests"}, Refused),
        (503, {"error": "reply id 1 not found"}, Refused),
        (503, {"error": "Service Unavailable"}, Unclear),
        (500, {"error": "something else"}, Unclear),
        (408, {}, Unclear),
        (302, {}, Unclear),
        (200, {"error": "Order couldn't be submitted: Local order ID=1 is already registered."}, Unclear),
        (200, {"error": "Request timed out"}, Unclear),
        (200, [], Unclear),
        (200, {}, Unclear),
        (200, "ok", Unclear),
        (200, [{"order_id": "not a number"}], Unclear),
        (200, None, Unclear),
    ],
)
def test_an_answer_to_an_order_means_one_of_four_things(status: int, said: Any, kind: type) -> None:
    assert type(answer(status, raw(said))) is kind


@given(st.integers(200, 599), st.binary(max_size=60))
def test_no_answer_that_cannot_be_read_says_that_nothing_was_done_unless_its_status_does(status: int, said: bytes) -> None:
    meant = answer(status, said)
    assert not isinstance(meant, Refused) or 400 <= status < 500
    assert not isinstance(cancel_answer(status, said), Refused) or 400 <= status < 500


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (200, {"msg": "Request was submitted", "order_id": 1, "conid": -1, "account": None}, Accepted),
        (200, {"error": "OrderID 999 doesn't exist"}, Refused),
        (400, {"error": "OrderID 999 doesn't exist"}, Refused),
        (503, {"error": "busy"}, Unclear),
        (200, [], Unclear),
    ],
)
def test_an_answer_to_a_cancel_is_an_intent_a_refusal_or_silence(status: int, said: Any, kind: type) -> None:
    assert type(cancel_answer(status, raw(said))) is kind


def test_a_question_is_confirmed_only_if_every_one_of_its_messages_may_be() -> None:
    allowed = ("o163", "o354")
    assert may_confirm(Question("1", ("o163",), ""), allowed)
    assert may_confirm(Question("1", ("o163", "o354"), ""), allowed)
    assert not may_confirm(Question("1", ("o163", "o451"), ""), allowed)
    assert not may_confirm(Question("1", (), ""), allowed)


def test_words_lose_their_markup() -> None:
    assert text(["<h4>Confirm</h4>a &nbsp;cap", "now\n"]) == "Confirm a &nbsp;cap now"


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def order(kind: OrderType = OrderType.LIMIT, symbol: str = "SPY", tif: TimeInForce = TimeInForce.DAY) -> PlaceOrder:
    limit = Decimal("600.10") if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None
    stop = Decimal("599.5") if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None
    return PlaceOrder(0, "spy-20260601abc-1", "spy", "live-1", symbol, Side.SELL, Decimal(7), kind, limit, stop, tif)


def wire(one: PlaceOrder, *, first: bool = True, terms: Terms | None = None) -> dict[str, Any]:
    conids = {"SPY": 756733, "SPY260619C00600000": 11, "SPY260619C00610000": 12}
    made: dict[str, Any] = json.loads(encode(body(one, terms or terms_of(one), "DU1", conids, first=first)))
    return made


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (OrderType.MARKET, {"orderType": "MKT"}),
        (OrderType.LIMIT, {"orderType": "LMT", "price": 600.10}),
        (OrderType.STOP, {"orderType": "STP", "price": 599.5, "auxPrice": 599.5}),
        (OrderType.STOP_LIMIT, {"orderType": "STOP_LIMIT", "price": 600.10, "auxPrice": 599.5}),
    ],
)
def test_an_order_carries_what_its_kind_needs(kind: OrderType, fields: dict[str, Any]) -> None:
    assert wire(order(kind)) == {
        "acctId": "DU1", "conid": 756733, "cOID": client_order_id("spy-20260601abc-1"), "side": "SELL", "quantity": 7, "tif": "DAY",
        "outsideRTH": False, **fields,
    }  # fmt: skip


def test_a_modification_is_the_complete_order_under_its_new_terms() -> None:
    made = wire(order(), first=False, terms=Terms(Decimal(9), Decimal("601"), None))
    assert made == {
        "acctId": "DU1", "conid": 756733, "side": "SELL", "quantity": 9, "tif": "DAY", "outsideRTH": False, "orderType": "LMT",
        "price": 601,
    }  # fmt: skip


def test_a_combo_is_a_spread_with_signed_ratios() -> None:
    made = wire(order(symbol="1*SPY260619C00600000,-2*SPY260619C00610000"))
    assert made["conidex"] == "28812380;;;11/1,12/-2" and "conid" not in made


def test_an_order_for_the_close_is_a_type_of_its_own() -> None:
    assert wire(order(OrderType.MARKET, tif=TimeInForce.CLS))["orderType"] == "MOC"
    assert wire(order(OrderType.LIMIT, tif=TimeInForce.CLS))["orderType"] == "LOC"


def test_what_the_wire_cannot_carry_is_named() -> None:
    assert "FOK" in unsupported(order(tif=TimeInForce.FOK))
    assert "auction" in unsupported(order(OrderType.STOP, tif=TimeInForce.CLS))
    assert "combo" in unsupported(order(OrderType.STOP, symbol="1*SPY260619C00600000,-1*SPY260619C00610000"))
    assert not unsupported(order())


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_exact_however_they_are_written() -> None:
    assert decode('{"a":0.1}')["a"] == Decimal("0.1")
    assert [number(x) for x in ("1,234.50", 7, Decimal("0.5"), "", None, "-3")] == [Decimal("1234.5"), 7, Decimal("0.5"), None, None, -3]
    for bad in ("C12", "NaN", True, [], "Infinity"):
        with pytest.raises(Unreadable):
            number(bad)
    with pytest.raises(Unreadable):
        decode('{"a": NaN}')


@given(st.text(max_size=40))
def test_a_frame_is_read_or_named_unreadable(said: str) -> None:
    try:
        assert isinstance(frame(said).topic, str)
    except Unreadable:
        pass


def test_times_come_in_milliseconds_or_in_words() -> None:
    assert moment({"t": 1780320600123}, "t") == 1780320600123 * 10**6
    assert moment({"w": "20260601-13:30:00"}, "t", "w") == 1780320600 * 10**9
    assert moment({"w": "yesterday", "t": "soon"}, "t", "w") == 0


# ── contracts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(symbol: str, answers: list[Any]) -> tuple[list[str], int]:
    """Walk a question with canned answers; return the paths it took and what it found."""
    question, paths = asking(symbol), []
    said: Any = None
    try:
        for given_answer in [None, *answers, None]:
            path, _ = question.send(said if said is None and not paths else given_answer)
            paths.append(path)
            said = given_answer
    except StopIteration as done:
        return paths, done.value
    raise AssertionError("it asked on")


def listing(*contracts: tuple[int, str, bool]) -> dict[str, Any]:
    rows = [{"conid": conid, "exchange": where, "isUS": us} for conid, where, us in contracts]
    return {"SPY": [{"name": "SPDR", "assetClass": "STK", "contracts": rows}]}


def test_of_several_listings_the_american_one_is_taken() -> None:
    assert asked("SPY", [listing((1, "MEXI", False), (756733, "ARCA", True))]) == (["/trsrv/stocks"], 756733)


@pytest.mark.parametrize("said", [listing(), listing((1, "ARCA", True), (2, "NYSE", True)), {"SPY": []}, {}])
def test_none_or_several_is_an_error_that_says_what_to_set(said: Any) -> None:
    with pytest.raises(DataError, match=r"SPY.*conids\.SPY"):
        asked("SPY", [said])


SEARCH = [{"conid": "756733", "symbol": "SPY", "sections": [{"secType": "STK"}, {"secType": "OPT", "months": "JUN26;JUL26"}]}]
STRIKES = {"call": [590.0, 600.0], "put": [600.0]}
INFO = [
    {"conid": 5, "maturityDate": "20260612", "strike": 600.0, "right": "C", "tradingClass": "SPY"},
    {"conid": 6, "maturityDate": "20260619", "strike": 600.0, "right": "C", "tradingClass": "SPY"},
    {"conid": 7, "maturityDate": "20260619", "strike": 600.0, "right": "C", "tradingClass": "2SPY"},
]


def test_an_option_is_found_by_search_then_strikes_then_info() -> None:
    paths, conid = asked("SPY260619C00600000", [SEARCH, STRIKES, INFO])
    assert paths == ["/iserver/secdef/search", "/iserver/secdef/strikes", "/iserver/secdef/info"]
    assert conid == 6


@pytest.mark.parametrize("answers", [[[]], [SEARCH, {"call": [590.0]}], [SEARCH, STRIKES, []]])
def test_an_option_nobody_lists_is_an_error(answers: list[Any]) -> None:
    with pytest.raises(DataError, match="SPY260619C00600000"):
        asked("SPY260619C00600000", answers)


def test_positions_are_named_by_what_their_rows_say() -> None:
    known = Contracts({"SPY": 1})
    assert known.name({"conid": 1}) == "SPY"
    assert known.name({"conid": "2", "assetClass": "STK", "contractDesc": "BRK B"}) == "BRK.B"
    words = "SPY    JUN2026 600 C [SPY   260619C00600000 100]"
    assert known.name({"conid": 3, "assetClass": "OPT", "contractDesc": words}) == "SPY260619C00600000"
    assert known.name({"conid": 4, "assetClass": "OPT", "contractDesc": "SPY"}) is None
    option = {"conid": 4, "assetClass": "OPT", "ticker": "SPY", "expiry": "20260619", "putOrCall": "P", "strike": "600"}
    described({"secdef": [option]}, known)
    assert known.symbols[4] == "SPY260619P00600000"


# ── session ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "compete", "todo"),
    [
        (Auth(True, True, False), False, Step.READY),
        (Auth(False, True, False), False, Step.INIT),
        (Auth(False, False, False), True, Step.WAIT),
        (Auth(False, True, True), False, Step.YIELD),
        (Auth(True, True, True), False, Step.YIELD),
        (Auth(False, True, True), True, Step.INIT),
    ],
)
def test_what_a_login_needs_next(status: Auth, compete: bool, todo: Step) -> None:
    assert step(status, may_compete=compete) is todo


def test_another_login_is_thrown_out_as_the_account_says() -> None:
    may = [may_compete(policy, starting=starting) for policy in ("never", "start", "always") for starting in (True, False)]
    assert may == [False, False, True, False, True, True]


def test_a_tickle_tells_session_and_login() -> None:
    status = {"authenticated": True, "connected": True, "competing": False}
    assert tickled({"session": "ab", "collission": False, "iserver": {"authStatus": status}}) == ("ab", Auth(True, True, False))
    assert tickled({"session": "ab"}) == ("ab", None)
    assert tickled({"error": "no session"}) == ("", Auth(False, False, False, "no session"))
    for bad in ([], {"connected": True}):
        with pytest.raises(Unreadable):
            auth(bad)


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given_options", "words"),
    [
        ({}, "account_id"),
        ({"account_id": "DU1", "retries": 3}, "retries"),
        ({"account_id": "DU1/../x"}, "account number"),
        ({"account_id": "DU1", "compete": "yes"}, "never, start, always"),
        ({"account_id": "DU1", "trades_days": 8}, "1 to 7"),
        ({"account_id": "DU1", "url": "ftp://localhost"}, "https"),
        ({"account_id": "DU1", "url": "http://broker.example/v1/api"}, "not on this machine"),
        ({"account_id": "DU1", "url": "https://broker.example/v1/api", "self_signed": True}, "certificate must be checked"),
        ({"account_id": "DU1", "ws": "wss://broker.example/ws", "self_signed": True}, "certificate must be checked"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_what_is_allowed(given_options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        options(given_options, "live-1")


def test_the_stream_is_where_rest_is_and_a_d_is_play_money() -> None:
    found = options({"account_id": "U1234567"}, "live-1")
    assert (found.stream, found.play_money) == ("wss://localhost:5000/v1/api/ws", False)
    assert options({"account_id": "DU1", "url": "http://127.0.0.1:1/v1/api"}, "x").stream == "ws://127.0.0.1:1/v1/api/ws"


# ── a gateway that signs its own certificate ──────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway", "-keyout", "key.pem",
         "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    yield context


async def _login(context: ssl.SSLContext, **more: Any) -> BrokerError:
    async def status(request: web.Request) -> web.Response:
        return web.json_response({"authenticated": False, "connected": False, "competing": False, "message": "please log in"})

    app = web.Application()
    app.router.add_post("/v1/api/iserver/auth/status", status)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1/api"
    given_options = {"account_id": "DU1", "url": url, **more}
    clock = QuickClock()
    broker = IbkrBroker(Wiring(account="live-1", clock=clock, emit=lambda claim: None, order_of=lambda _: None, options=given_options))
    try:
        await broker.start()
    except BrokerError as error:
        return error
    finally:
        await broker.close()
        await runner.cleanup()
    raise AssertionError("it started")


def test_a_certificate_of_its_own_is_taken_where_the_settings_say_so_and_nowhere_else(certificate: ssl.SSLContext) -> None:
    reached = asyncio.run(_login(certificate, self_signed=True))
    assert (reached.code, "log in" in str(reached)) == (Code.NOT_READY, True)
    refused = asyncio.run(_login(certificate))
    assert refused.code is Code.UNREACHABLE and "CERTIFICATE" in str(refused).upper()
