"""The paper broker: fills on what it is shown, on quotes or bars, and after a restart it is where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from northstar_core.brokers import plugins
from northstar_core.brokers.base import Wiring
from northstar_core.brokers.paper import PaperBroker
from northstar_core.brokers.plugins import broker_class, broker_kinds, make_broker
from northstar_core.model import events as e
from northstar_core.model.errors import SettingsError
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecType, ExecutionReport
from northstar_core.model.instrument import instrument
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import OrderStatus, TimeInForce
from tests.brokers.house import ACCOUNT, CASH, PaperHouse, house
from tests.twins.ibkr_room import CLOSE, OPEN, SECOND

S = OrderStatus
MINUTE = 60 * SECOND


def play(scene: Callable[[Any], Awaitable[None]], **more: Any) -> None:
    async def run() -> None:
        async with house("paper", **more) as h:
            await scene(h)

    asyncio.run(run())


def bar(n: int, price: float, symbol: str = "QQQ", span: int = MINUTE, volume: float = 1000.0) -> Bar:
    start = OPEN + n * span
    return Bar(symbol, start, start + span, price, price + 0.5, price - 0.5, price, volume)


def quote(at: float, bid: float, ask: float, symbol: str = "SPY", size: float = 500.0) -> Quote:
    return Quote(symbol, OPEN + int(at * SECOND), bid, ask, size, size)


def test_without_quotes_an_order_fills_at_the_open_of_the_next_bar() -> None:
    async def scene(h: Any) -> None:
        h.broker.on_market([bar(0, 400.0)])
        h.clock.ts = OPEN + MINUTE
        order = await h.place("BUY", 10, symbol="QQQ")
        h.broker.on_market([bar(1, 401.0), bar(1, 50.0, "IWM")])
        assert h[order].status is S.FILLED
        [fill] = [c for c in h.of(ExecutionReport) if c.exec_type is ExecType.TRADE]
        assert (fill.price, fill.ts) == (Decimal("401.0"), OPEN + MINUTE)

    play(scene)


def test_of_bars_of_two_lengths_only_the_shortest_fill() -> None:
    async def scene(h: Any) -> None:
        h.broker.on_market([bar(0, 400.0, span=SECOND, volume=4.0), bar(0, 400.0)])
        h.clock.ts = OPEN + SECOND
        order = await h.place("BUY", 10, symbol="QQQ")
        h.broker.on_market([bar(1, 400.0, span=SECOND, volume=4.0), bar(1, 400.0)])
        assert h[order].cum_qty == 4

    play(scene)


def test_a_symbol_with_quotes_fills_on_quotes_and_prints_and_no_longer_on_bars() -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 5, "599.00")
        h.broker.on_market([bar(1, 590.0, "SPY")])
        assert h[order].status is S.NEW
        h.broker.on_market([Trade("SPY", OPEN + 10 * SECOND, 598.5, 100.0)])
        assert h[order].status is S.FILLED

    play(scene)


def test_orders_that_work_share_what_a_quote_shows() -> None:
    async def scene(h: Any) -> None:
        first = await h.place("BUY", 400)
        second = await h.place("BUY", 300)
        assert (h[first].cum_qty, h[second].cum_qty) == (300, 0)  # 300 were shown
        h.broker.on_market([quote(6, 600.0, 600.02)])
        assert (h[first].status, h[second].status) == (S.FILLED, S.FILLED)

    play(scene)


def test_yesterdays_quote_fills_nothing_at_the_open() -> None:
    async def scene(h: Any) -> None:
        h.broker.on_session(e.SessionClosed(CLOSE, "2026-06-01"))
        h.clock.ts = CLOSE + SECOND
        order = await h.place("BUY", 10)
        assert h[order].status is S.NEW
        h.broker.on_session(e.SessionOpened(CLOSE + MINUTE, "2026-06-02", CLOSE + 100 * MINUTE))
        assert h[order].status is S.NEW
        h.broker.on_market([Quote("SPY", CLOSE + 2 * MINUTE, 610.0, 610.02, 100.0, 100.0)])
        assert h[order].status is S.FILLED

    play(scene)


def test_day_orders_expire_at_the_close_and_others_work_on() -> None:
    async def scene(h: Any) -> None:
        day = await h.place("BUY", 10, "590.00")
        gtc = await h.place("BUY", 10, "590.00", tif=TimeInForce.GTC)
        h.broker.on_session(e.SessionClosed(CLOSE, "2026-06-01"))
        assert (h[day].status, h[gtc].status) == (S.EXPIRED, S.NEW)

    play(scene)


def test_an_option_that_expires_is_settled_and_the_books_agree() -> None:
    call = "SPY260619C00600000"

    async def scene(h: Any) -> None:
        await h.place("BUY", 1, symbol=call)
        h.broker.on_market([quote(8, 610.0, 610.02)])
        h.broker.on_session(e.SessionClosed(CLOSE + 18 * 86_400 * SECOND, "2026-06-19"))
        kinds = {c.kind for c in h.of(AccountActivity)}
        assert kinds == {ActivityKind.EXERCISE, ActivityKind.DELIVERY}
        await h.agrees()

    play(scene)


def test_a_second_order_of_an_id_is_the_same_order() -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10)
        await h.broker.submit(h[order].intent)
        assert h[order].cum_qty == 10 and len(h.broker.exchange.books.held()) == 1
        await h.agrees()

    play(scene)


def restarted(h: PaperHouse) -> PaperBroker:
    """Another paper broker, made as after a restart of the gateway."""
    made = h.make()
    assert isinstance(made, PaperBroker)
    blotter = h.engine.state.blotter
    made.restore(h.engine.books(), blotter.orders.values(), blotter.exec_ids)
    made.on_session(e.SessionOpened(OPEN, "2026-06-01", CLOSE))
    return made


def test_after_a_restart_books_orders_and_ids_go_on_where_they_were() -> None:
    async def scene(h: Any) -> None:
        done = await h.place("BUY", 10)
        parts = await h.place("BUY", 400, "600.20")
        assert h[parts].cum_qty == 300
        await h.replace(parts, 350, "600.30")
        before = await h.broker.snapshot()
        h.broker = restarted(h)
        assert await h.broker.snapshot() == before
        await h.broker.submit(h[done].intent)  # an id that was used stays used
        h.broker.on_market([quote(6, 600.0, 600.02, size=20.0), quote(7, 600.0, 600.02)])
        assert h[parts].status is S.FILLED and h[parts].cum_qty == 350 and h[done].cum_qty == 10
        await h.agrees()

    play(scene)


@pytest.mark.parametrize("filled", [True, False])
def test_after_a_restart_exits_still_know_their_entry_and_each_other(filled: bool) -> None:
    async def scene(h: Any) -> None:
        entry = h.order("BUY", 10, "600.50" if filled else "590.00")
        target = h.order("SELL", 10, "604.00", parent=entry.order_id, reduce_only=True, tif=TimeInForce.GTC)
        stop = h.order("SELL", 10, stop="580.00", parent=entry.order_id, reduce_only=True, tif=TimeInForce.GTC)
        for order in (entry, target, stop):
            await h.broker.submit(order)
        h.broker = restarted(h)
        h.broker.on_market([quote(6, 605.0, 605.02)])
        wanted = (S.FILLED, S.CANCELED) if filled else (S.NEW, S.NEW)
        assert (h[target.order_id].status, h[stop.order_id].status) == wanted
        await h.agrees()

    play(scene)


def test_after_a_restart_a_combo_still_fills_leg_by_leg() -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 2, "3.00", symbol="1*SPY260619C00600000,-1*SPY260619C00610000")
        h.broker = restarted(h)
        h.broker.on_market([quote(6, 6.0, 6.1, "SPY260619C00610000"), quote(6, 8.0, 8.1, "SPY260619C00600000")])
        assert h[order].status is S.FILLED and len(instrument(h[order].intent.symbol).legs) == 2
        await h.agrees()

    play(scene)


def test_a_simulated_wire_takes_its_time_and_leaves_no_task() -> None:
    async def run() -> None:
        h = PaperHouse()
        latency = {"entry_ns": 5_000_000, "response_ns": 5_000_000}
        h.broker = make_broker("paper", h.wiring(cash=CASH, model={"latency": latency, "volume_share": 1.0}))
        await h.step(5)
        await h.broker.start()
        order = await h.place("BUY", 10)
        assert h[order].status is S.PENDING_NEW
        h.clock.ts += 20_000_000
        await h.until_status(order, S.NEW)
        await h.broker.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "begins with cash"), ({"cash": "lots"}, "begins with cash"), ({"cash": -1}, "0 or more"), ({"cash": "NaN"}, "0 or more"),
        ({"cash": 1, "speed": 2}, "no option 'speed'"), ({"cash": 1, "model": {"fill_at": "never"}}, "option model"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        PaperBroker(Wiring(account=ACCOUNT, clock=PaperHouse().clock, emit=print, order_of=dict[str, Any]().get, options=options))


# ── by name ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def offered(monkeypatch: pytest.MonkeyPatch, **entries: str) -> Iterator[None]:
    """Let an installed package offer brokers."""
    found = EntryPoints(EntryPoint(name, value, plugins.GROUP) for name, value in entries.items())
    with monkeypatch.context() as patch:
        patch.setattr(plugins, "entry_points", lambda group: found.select(group=group))
        yield


def test_brokers_are_made_by_name_ours_and_those_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = PaperHouse().wiring(cash=1)
    with offered(monkeypatch, pool="northstar_core.brokers.paper:PaperBroker"):
        assert broker_kinds() == ["alpaca", "ibkr", "paper", "pool"]
        assert isinstance(make_broker("pool", wiring), PaperBroker)
    names = [broker_class(kind).__name__ for kind in ("alpaca", "ibkr", "paper")]
    assert names == ["AlpacaBroker", "IbkrBroker", "PaperBroker"]


def test_a_broker_that_is_not_there_or_is_none_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = PaperHouse().wiring(cash=1)
    entries = {"gone": "no_such_module:Broker", "number": "math:pi", "thing": "tests.brokers.test_paper:NoBroker"}
    refusals = {"nobody": "there are: alpaca", "gone": "cannot be loaded", "number": "no class", "thing": "has no start"}
    with offered(monkeypatch, **entries):
        for kind, words in refusals.items():
            with pytest.raises(SettingsError, match=words):
                make_broker(kind, wiring)


class NoBroker:
    """Takes a wiring and can do nothing."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
